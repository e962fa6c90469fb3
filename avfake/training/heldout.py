"""What validation is made of: clips of the split dev and of people that are kept out of training, always the same ones.

``held_out`` tells which people; the loader leaves them out by the same function.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby, zip_longest
from typing import NamedTuple

from avfake import FPS
from avfake.clips import decode_clip
from avfake.manifest import Row
from avfake.samples import Sample
from avfake.shards import Entry, ShardFolder, read_entries
from avfake.storage import join, read_bytes
from avfake.training.batch import Batch
from avfake.training.loader import (
    LoaderError,
    Source,
    Window,
    collate,
    file_number,
    held_out,
    labels_of,
    left_out,
    person_of,
)

__all__ = ["held_out", "heldout_windows"]

STEP = 20
"""Clips with lips that are shorter than a window are cut to a multiple of this many frames."""


def heldout_windows(
    sources: Sequence[Source],
    held_out: int,
    clips: int,
    frames: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    leave_out: Sequence[str] = (),
) -> Iterator[tuple[Batch, list[Row]]]:
    """Yield batches of at most ``batch`` windows, as they were recorded, each with the rows of its windows.

    They are the middle ``frames`` frames of clips of the split dev of every source and of the people of split train of
    whom ``held_out(row, n)`` is true. Clips whose labels are all unknown are passed over. Where there are more than
    ``clips``, as many are chosen, in turn from faces and voices alone, from genuine and fake windows, from corpora and
    from people, so that of each of these as many are there as of the others, or all. The choice and its order depend on
    the shards, ``held_out``, ``clips`` and ``frames`` alone. Nothing is of the methods and corpora in
    ``leave_out``.

    A batch has one length T: ``frames``, or, for clips with lips that are shorter, the multiple of 20 frames below
    theirs; those that have not even 20 are left out. Shorter voices are repeated. Batches are dealt to the ranks in
    turn, so one rank may have one more than another. ``shift`` is 0, and rows are cut to their windows. One batch at a
    time is in memory.

    Raises ``LoaderError``, ``ShardError``, ``StorageError``, ``ClipError``.
    """
    if min(clips, frames, batch) < 1 or held_out < 0 or not 0 <= rank < world:
        raise LoaderError(
            f"Validation with clips={clips}, frames={frames}, batch={batch}, held_out={held_out}, rank {rank} of "
            f"{world} cannot be: the first three are at least 1, held_out at least 0, and rank is below world."
        )
    folders = tuple(dict.fromkeys(source.folder for source in sources))
    batches = chain.from_iterable(
        (group[n : n + batch] for n in range(0, len(group), batch))
        for group in (
            list(group) for _, group in groupby(_chosen(folders, held_out, clips, frames, tuple(leave_out)), _length)
        )
    )
    for number, places in enumerate(batches):
        if number % world == rank:
            windows = [place.read() for place in places]
            yield collate(windows, _length(places[0])), [window.sample.row for window in windows]


class _Place(NamedTuple):
    """A window of a clip: frames ``start`` to ``end`` of ``entry``, which stands for ``length`` frames of a batch."""

    folder: str
    shard: str
    entry: Entry
    start: int
    end: int
    length: int

    @property
    def row(self) -> Row:
        """What is known of the window."""
        return self.entry.row.cut(self.start / FPS, self.end / FPS)

    def read(self) -> Window:
        """Decode the window."""
        address, entry = join(self.folder, f"{self.shard}.tar"), self.entry
        data = read_bytes(address, entry.offset, entry.offset + entry.size)
        clip = decode_clip(data, f"{address}/{entry.key}", start=self.start, end=self.end)
        return Window(Sample(self.row, clip), file_number(entry.row))


def _length(place: _Place) -> int:
    return place.length


Groups = dict[tuple[bool, bool, str], list[_Place]]
"""(has lips, fake, corpus) -> windows."""


# Validation comes again and again, and to read the indexes of a large corpus takes minutes.
@lru_cache(maxsize=1)
def _chosen(
    folders: tuple[str, ...], n: int, clips: int, frames: int, leave_out: tuple[str, ...]
) -> tuple[_Place, ...]:
    groups: Groups = defaultdict(list)
    for place in _places(folders, n, frames, leave_out):
        row = place.row
        group = groups[place.entry.has_lips, 1 in labels_of(row), row.corpus]
        group.append(place)
        if len(group) >= 4 * clips:  # of one group no more than all that are wanted can be chosen
            group[:] = _by_people(group)[:clips]
    if not groups:
        raise LoaderError(
            f"{' and '.join(folders)}: there is nothing to validate on, neither a clip of the split dev nor one of "
            "split train that is held out; prepare a manifest with a dev split, or hold out one person in fewer."
        )
    corpora: dict[tuple[bool, bool], list[list[_Place]]] = defaultdict(list)
    for (has_lips, fake, _), group in sorted(groups.items()):
        corpora[has_lips, fake].append(_by_people(group))
    kinds: dict[bool, list[list[_Place]]] = defaultdict(list)
    for (has_lips, _), lists in corpora.items():
        kinds[has_lips].append(_in_turn(lists))
    chosen = _in_turn(_in_turn(lists) for lists in kinds.values())[:clips]
    # Shards are read from their beginnings to their ends, once for each length and kind.
    order = {folder: number for number, folder in enumerate(folders)}
    return tuple(sorted(chosen, key=lambda p: (p.length, p.entry.has_lips, order[p.folder], p.shard, p.entry.offset)))


def _places(folders: tuple[str, ...], n: int, frames: int, leave_out: tuple[str, ...] = ()) -> Iterator[_Place]:
    """Yield the window of every clip that may be validated on."""
    for folder in folders:
        for shard in ShardFolder(folder).shards:
            if shard.split != "dev" and (shard.split != "train" or n == 0):
                continue
            for entry in read_entries(folder, shard.name):
                length = frames
                if entry.has_lips and entry.frames < frames:
                    length = entry.frames // STEP * STEP
                if length == 0 or set(labels_of(entry.row)) == {None} or left_out(entry.row, leave_out):
                    continue
                if shard.split == "dev" or held_out(entry.row, n):
                    size = min(length, entry.frames)
                    start = (entry.frames - size) // 2
                    yield _Place(folder, shard.name, entry, start, start + size, length)


def _by_people(places: Iterable[_Place]) -> list[_Place]:
    """Return the windows of one corpus in an order that takes people in turn, each from a place of its own."""
    people: dict[tuple[str, str], list[_Place]] = defaultdict(list)
    for place in sorted(places, key=lambda place: _lot(place.entry.row.corpus, place.entry.key)):
        people[person_of(place.entry.row)].append(place)
    return _in_turn(people[person] for person in sorted(people, key=lambda person: _lot(*person)))


def _in_turn(lists: Iterable[list[_Place]]) -> list[_Place]:
    """Return the first of each list, the second of each, and so on; any beginning of it has even shares."""
    return [place for layer in zip_longest(*lists) for place in layer if place is not None]


def _lot(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "backslashreplace"), digest_size=8).digest()
