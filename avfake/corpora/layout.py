"""What corpus readers share: is the root right, what do its tables say, and which of the files are there."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError
from avfake.manifest import ASPECTS, Row, Segment
from avfake.storage import is_remote

log = logging.getLogger(__name__)


def require(root: Path, title: str, *needed: str) -> None:
    """Raise ``CorpusError`` unless ``root`` holds every path of ``needed`` (a pattern such as ``part_*`` counts)."""
    if not root.is_dir() or any(next(root.glob(pattern), None) is None for pattern in needed):
        raise not_found(root, title, *needed)


def some_of(root: Path, title: str, *wanted: str) -> list[str]:
    """Return those files of ``wanted`` that ``root`` holds, and warn of the others. Raises ``CorpusError`` if none."""
    there = [name for name in wanted if (root / name).is_file()]
    if not there:
        raise not_found(root, title, *wanted)
    if missing := [name for name in wanted if name not in there]:
        log.warning("%s: not there, and so left out: %s.", title, ", ".join(missing))
    return there


def not_found(root: Path, title: str, *needed: str) -> CorpusError:
    """Return the error that tells what was expected in ``root`` and what is there."""
    if not root.is_dir():
        return CorpusError(f"{root} is not the folder of {title}: there is no such folder; check the path.")
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    found = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    expected = ", ".join(f"ROOT/{pattern}" for pattern in needed)
    return CorpusError(f"{root} is not {title}: expected {expected}, found {found or 'nothing'}.")


def table(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", header: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each line of a table as (the words that an error names it by, its values by column).

    ``columns`` must be there, others may be; ``header`` names the columns of a file that has no header line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, fieldnames=header, delimiter=delimiter, strict=True)
            names = reader.fieldnames or ()
            if len(set(names)) < len(names):
                raise CorpusError(f"{path}: a column is there twice in {', '.join(names)}; keep one of each name.")
            if missing := [column for column in columns if column not in names]:
                raise CorpusError(f"{path} lacks the columns {', '.join(missing)}; get the whole corpus again.")
            for line in reader:
                where = f"{path}, line {reader.line_num}"
                if None in line or None in line.values():
                    raise CorpusError(f"{where}: it has not as many values as there are columns.")
                yield where, line
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read as a table: {error}.") from error


def fields(path: Path, counts: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """Yield each line of a protocol file split at white space, as (the words that an error names it by, its fields).

    Raises ``CorpusError`` for a line whose number of fields is not among ``counts``.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                values = text.split()
                where = f"{path}, line {number}"
                if values and len(values) not in counts:
                    expected = " or ".join(map(str, counts))
                    raise CorpusError(f"{where}: expected {expected} fields, found {len(values)}.")
                if values:
                    yield where, values
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read as a protocol: {error}.") from error


def document(path: Path) -> Any:
    """Return what a JSON file holds."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path} cannot be read as JSON: {error}.") from error


def one_of(where: str, name: str, value: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is allowed, else raise ``CorpusError``."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise CorpusError(f"{where}: {name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def value_of(where: str, record: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """Return the field ``name`` of a JSON object, which must be there and of type ``kind``; else ``CorpusError``."""
    if not isinstance(record, Mapping) or name not in record:
        raise CorpusError(f"{where}: the field {name!r} is missing.")
    if not isinstance(record[name], kind):
        raise CorpusError(f"{where}: the field {name!r} has the value {record[name]!r}, which is of a wrong type.")
    return record[name]


def segments(where: str, record: Any, name: str) -> tuple[Segment, ...]:
    """Return the field ``name`` of a JSON object, a list of [start, end] in seconds or null; else ``CorpusError``.

    A segment of no length (where something was cut out) is no stretch that could be called fake, and is left out.
    """
    found = []
    for pair in value_of(where, record, name, (list, type(None))) or ():
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(time) in (int, float) for time in pair)):
            raise CorpusError(f"{where}: the field {name!r} must hold [start, end] in seconds, not {pair!r}.")
        start, end = float(pair[0]), float(pair[1])
        if not 0 <= start <= end < math.inf:
            raise CorpusError(f"{where}: the field {name!r} must hold 0 <= start <= end, not {pair!r}.")
        if start < end:
            found.append((start, end))
    return tuple(found)


def files(folder: Path, suffixes: Sequence[str] | None = None, *, deep: bool = True) -> list[Path]:
    """Return the files in ``folder``, and unless ``deep`` is false in all below it, in order; none if it is not there.

    Those with one of the suffixes, in any case, or all of them. Hidden files and folders are left out. Links to folders
    are followed, but each folder is looked into once. Raises ``OSError`` for a folder that cannot be read.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for path, below, names in os.walk(folder, followlinks=True, onerror=_raise) if folder.is_dir() else ():
        real = os.path.realpath(path)
        below[:] = sorted(name for name in below if deep and real not in visited and not name.startswith("."))
        if real not in visited:
            visited.add(real)
            wanted = (name for name in names if suffixes is None or Path(name).suffix.lower() in suffixes)
            found += [Path(path, name) for name in wanted if not name.startswith(".")]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that are not hidden, in order; none if it is not there. Raises ``OSError``."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by their names without suffix. Raises ``CorpusError`` where two have the same."""
    found: dict[str, Path] = {}
    for path in paths:
        if (other := found.setdefault(path.stem, path)) != path:
            raise CorpusError(f"{path} and {other} have the same name; keep one copy of each clip below the root.")
    return found


def present(rows: Iterable[Row], title: str, *, both_classes: bool = True) -> Iterator[Row]:
    """Yield the rows whose files are there; many people hold a part of a corpus. Says how many are missing.

    Remote files are not looked for. Where the corpus has genuine and fake clips (``both_classes``), it says if one kind
    is missing altogether. Raises ``CorpusError`` when no clip is there, ``OSError`` for a path that cannot be.
    """
    total = missing = 0
    example = None
    classes: set[str] = set()
    for row in rows:
        total += 1
        if lacking := [path for path in (row.video, row.audio) if path is not None and not _there(path)]:
            missing += 1
            example = example or lacking[0]
        else:
            labels = {getattr(row.labels, aspect) for aspect in ASPECTS}
            classes |= {"fake"} if 1 in labels else {"genuine"} if 0 in labels else set()
            yield row
    if missing == total:
        what = f"none of its {total} clips is there, {example} for one" if total else "it lists no clip"
        raise CorpusError(f"{title}: {what}; check that the media were unpacked below the root.")
    if missing:
        log.warning("%s: %d of %d clips are not there (%s for one) and are left out.", title, missing, total, example)
    if both_classes and len(classes) < 2:
        found = f"all its clips with a label are {min(classes)}" if classes else "none of its clips has a label"
        log.warning("%s: %s; to train or to score, both classes are needed.", title, found)


def _there(path: str) -> bool:
    return is_remote(path) or Path(path).is_file()
