"""Which clips of a manifest the names in somebody's file stand for.

A file names its clips in one way throughout, so the strictest way by which any name is a clip's counts for all of them:
a file that names ids is never searched for names that are merely alike.

1. The row's id.
2. The path of its video or audio, letter by letter.
3. The end of that path or of the id (``test/a.mp4`` for ``/data/test/a.mp4``), or a longer path that ends with the
   whole id, with or without the name of the corpus that ids begin with.
4. The name of the file alone, whatever its folder; then another clip of that name may be meant, which is told.

In 3 and 4 a media file's ending may be missing or another one (sound is often taken out of a video first), but a name
with the very ending goes before one without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from avfake.corpora import NAMES
from avfake.manifest import Row
from avfake.storage import MEDIA_SUFFIXES

_Candidates = Callable[[str], set[int]]
_Index = dict[tuple[str, ...], set[tuple[int, str]]]
"""Parts of an address, the last one without its ending, to the numbers of rows and the last part as it is."""


class Match(NamedTuple):
    """What the names of a file stand for.

    ``rows``    for each name the numbers of the rows it can stand for: none, one, or several that it does not part.
    ``doubt``   the first name that found its row by file name alone though it has a folder (so not the row's), and the
                row's id; None where there is no such name.
    """

    rows: list[tuple[int, ...]]
    doubt: tuple[str, str] | None


def match(names: Sequence[str], rows: Sequence[Row]) -> Match:
    """Return which of ``rows`` the names of one file stand for."""
    for way in (_ids, _paths, _ends, _file_names):
        candidates = way(rows)
        found = [tuple(sorted(candidates(name))) for name in names]
        if any(found):
            return Match(found, _doubt(names, found, rows) if way is _file_names else None)
    return Match([()] * len(names), None)


def _doubt(names: Sequence[str], found: Sequence[tuple[int, ...]], rows: Sequence[Row]) -> tuple[str, str] | None:
    for name, numbers in zip(names, found, strict=True):
        if numbers and len(_parts(name)) > 1:
            return name, rows[numbers[0]].id
    return None


def _ids(rows: Sequence[Row]) -> _Candidates:
    numbers = {row.id: {number} for number, row in enumerate(rows)}
    return lambda name: numbers.get(name, set())


def _paths(rows: Sequence[Row]) -> _Candidates:
    numbers: dict[str, set[int]] = defaultdict(set)
    for number, row in enumerate(rows):
        for path in (row.video, row.audio):
            if path is not None:
                numbers[path].add(number)
    return lambda name: numbers.get(name, set())


def _ends(rows: Sequence[Row]) -> _Candidates:
    addresses = [(number, parts) for number, row in enumerate(rows) for parts in _addresses(row)]
    whole: _Index = defaultdict(set)
    for number, parts in addresses:
        whole[_key(parts)].add((number, parts[-1]))
    ends: dict[int, _Index] = {}  # by number of parts; a file's names have few different ones

    def ending(length: int) -> _Index:
        if length not in ends:
            ends[length] = defaultdict(set)
            for number, parts in addresses:
                if len(parts) > length:
                    ends[length][_key(parts[-length:])].add((number, parts[-1]))
        return ends[length]

    def candidates(name: str) -> set[int]:
        parts = _parts(name)
        if not parts:
            return set()
        found = set(ending(len(parts)).get(_key(parts), ()))
        for start in range(len(parts)):
            found |= whole.get(_key(parts[start:]), set())
        return _exact_first(found, parts[-1])

    return candidates


def _file_names(rows: Sequence[Row]) -> _Candidates:
    names: _Index = defaultdict(set)
    for number, row in enumerate(rows):
        for parts in _addresses(row):
            names[_key(parts[-1:])].add((number, parts[-1]))

    def candidates(name: str) -> set[int]:
        parts = _parts(name)
        return _exact_first(names.get(_key(parts[-1:]), set()), parts[-1]) if parts else set()

    return candidates


def _addresses(row: Row) -> list[tuple[str, ...]]:
    """Parts of all that a row is called by; its id also without the name of a corpus that it begins with."""
    ids = _parts(row.id)
    bare = ids[1:] if ids and ids[0] in (row.corpus, *NAMES) else ()
    called = [ids, bare, _parts(row.video or ""), _parts(row.audio or "")]
    return [parts for parts in called if parts]


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _key(parts: tuple[str, ...]) -> tuple[str, ...]:
    last = PurePosixPath(parts[-1])
    return (*parts[:-1], last.stem if last.suffix.lower() in MEDIA_SUFFIXES else parts[-1])


def _exact_first(found: set[tuple[int, str]], name: str) -> set[int]:
    return {number for number, last in found if last == name} or {number for number, _ in found}
