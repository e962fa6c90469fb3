"""What a corpus holds twice, across its splits or with two labels, and how its classes are spread."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from avfake.evaluation.audit.leaks import ANY, label_of
from avfake.evaluation.audit.measure import Properties
from avfake.manifest import ASPECTS, SPLITS, Row

EXAMPLES = 5
"""How many cases of a kind are named."""


@dataclass(frozen=True)
class Shared:
    """What two splits have in common.

    ``splits``    the two; ``count`` identities (or originals) that occur in both, ``clips`` those of them in either.
    ``examples``  up to five of them.
    """

    splits: tuple[str, str]
    count: int
    clips: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Duplicates:
    """Clips that are equal.

    ``groups``        sets of equal clips; ``clips`` all clips in them.
    ``across_splits`` sets whose clips are in more than one split.
    ``contradicting`` sets whose clips have different labels.
    ``examples``      ids of up to five sets, those that contradict first, then those across splits.
    """

    groups: int
    clips: int
    across_splits: int
    contradicting: int
    examples: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Count:
    """Clips by label."""

    genuine: int
    fake: int
    unknown: int


@dataclass(frozen=True)
class Balance:
    """How the clips of a manifest are spread, whether they could be read or not.

    ``labels``      by aspect (and ``any``), then by split.
    ``methods``     number of clips by method, then by split; genuine clips have none.
    ``identities``  how many there are, ``anonymous`` the clips that name none.
    ``corpora``     how many there are.
    """

    labels: dict[str, dict[str, Count]]
    methods: dict[str, dict[str, int]]
    identities: int
    anonymous: int
    corpora: int


def shared_identities(rows: Sequence[Row]) -> list[Shared]:
    """Return, for each two splits that share some, the identities that occur in both."""
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.identity is not None:
            splits[row.identity][row.split] += 1
    return _shared(splits)


def shared_originals(rows: Sequence[Row]) -> list[Shared]:
    """Return, for each two splits, the originals whose own row or whose fakes occur in both."""
    split_of = {row.id: row.split for row in rows}
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.original is not None:
            splits[row.original][row.split] += 1
    for original, counts in splits.items():
        if original in split_of:
            counts[split_of[original]] += 1
    return _shared(splits)


def duplicate_files(rows: Sequence[Row], properties: Sequence[Properties]) -> Duplicates:
    """Return the clips whose files are equal byte by byte; different labels of any aspect contradict each other."""
    keys = [found.content or None for found in properties]
    return _duplicates(rows, keys, lambda row: [label for aspect in ASPECTS if (label := _label(row, aspect))])


def duplicate_sounds(rows: Sequence[Row], properties: Sequence[Properties]) -> Duplicates:
    """Return the clips of unequal files with equal decoded sound; different ``audio`` labels contradict each other."""
    files: dict[str, set[str]] = defaultdict(set)
    for found in properties:
        if found.sound is not None:
            files[found.sound].add(found.content)
    keys = [found.sound if found.sound is not None and len(files[found.sound]) > 1 else None for found in properties]
    return _duplicates(rows, keys, lambda row: [label for label in [_label(row, "audio")] if label])


def balance(rows: Sequence[Row]) -> Balance:
    """Count the clips of a manifest."""
    labels = {
        aspect: {split: _count(aspect, (row for row in rows if row.split == split)) for split in SPLITS}
        for aspect in (*ASPECTS, ANY)
    }
    methods: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.method is not None:
            methods[row.method][row.split] += 1
    return Balance(
        labels=labels,
        methods={name: dict(counts) for name, counts in sorted(methods.items())},
        identities=len({row.identity for row in rows} - {None}),
        anonymous=sum(row.identity is None for row in rows),
        corpora=len({row.corpus for row in rows}),
    )


def _count(aspect: str, rows: Iterable[Row]) -> Count:
    labels = Counter(label_of(row, aspect) for row in rows)
    return Count(genuine=labels[0], fake=labels[1], unknown=labels[None])


def _label(row: Row, aspect: str) -> tuple[str, int] | None:
    label = label_of(row, aspect)
    return None if label is None else (aspect, label)


def _shared(splits: dict[str, Counter[str]]) -> list[Shared]:
    found = []
    for first, second in combinations(SPLITS, 2):
        names = sorted(name for name, counts in splits.items() if counts[first] and counts[second])
        if names:
            clips = sum(splits[name][first] + splits[name][second] for name in names)
            found.append(Shared((first, second), len(names), clips, tuple(names[:EXAMPLES])))
    return found


def _duplicates(
    rows: Sequence[Row], keys: Sequence[Hashable | None], facts: Callable[[Row], list[tuple[str, int]]]
) -> Duplicates:
    """Group rows by key; a group contradicts itself when two of its rows tell different labels of one aspect."""
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        if key is not None:
            groups[key].append(row)
    equal = [group for group in groups.values() if len(group) > 1]

    def contradicts(group: list[Row]) -> bool:
        told = {fact for row in group for fact in facts(row)}
        return len({aspect for aspect, _ in told}) < len(told)

    def crosses(group: list[Row]) -> bool:
        return len({row.split for row in group}) > 1

    worst = sorted(equal, key=lambda group: (not contradicts(group), not crosses(group)))
    return Duplicates(
        groups=len(equal),
        clips=sum(len(group) for group in equal),
        across_splits=sum(crosses(group) for group in equal),
        contradicting=sum(contradicts(group) for group in equal),
        examples=tuple(tuple(row.id for row in group[:EXAMPLES]) for group in worst[:EXAMPLES]),
    )
