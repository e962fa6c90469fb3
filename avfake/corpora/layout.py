"""What corpus readers share: is the root right, what do its tables say, and which of the files are there."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError
from avfake.manifest import Row, Segment

log = logging.getLogger(__name__)
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")


def require(root: Path, title: str, *needed: str) -> None:
    """Raise ``CorpusError`` unless ``root`` holds every path of ``needed`` (a pattern such as ``part_*`` counts)."""
    if not root.is_dir():
        raise CorpusError(f"{root} is not the folder of {title}: there is no such folder; check the path.")
    if all(next(root.glob(pattern), None) is not None for pattern in needed):
        return
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    found = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    expected = ", ".join(f"ROOT/{pattern}" for pattern in needed)
    raise CorpusError(f"{root} is not {title}: expected {expected}, found {found or 'nothing'}.")


def table(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", header: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each line of a table as (the words that an error names it by, its values by column).

    ``columns`` must be there, others may be; ``header`` names the columns of a file that has no header line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, fieldnames=header, delimiter=delimiter, strict=True)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
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
        with open(path, encoding="utf-8") as file:
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
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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


def files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files below ``folder`` with one of the suffixes (in any case), in order; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def present(rows: Iterable[Row], title: str) -> Iterator[Row]:
    """Yield the rows whose files are there; many people hold a part of a corpus. Says how many are missing.

    Raises ``CorpusError`` when none is there.
    """
    total = missing = 0
    example = None
    for row in rows:
        total += 1
        if lacking := [path for path in (row.video, row.audio) if path is not None and not Path(path).is_file()]:
            missing += 1
            example = example or lacking[0]
        else:
            yield row
    if missing == total:
        what = f"none of its {total} clips is there, {example} for one" if total else "it lists no clip"
        raise CorpusError(f"{title}: {what}; check that the media were unpacked below the root.")
    if missing:
        log.warning("%s: %d of %d clips are not there (%s for one) and are left out.", title, missing, total, example)
