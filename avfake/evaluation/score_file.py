"""Reads anybody's scores, so that peers are measured by the same code: one line a clip (docs/score-files.md).

The format is found by content: Parquet, JSON Lines, or a table whose fields are parted by tab, semicolon, comma or
white space, with a header or as two columns without one (``file;score`` of AV-Deepfake1M, ``utterance score`` of
ASVspoof 2021). How lines find their clips is told in ``matching``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from avfake import AvfakeError
from avfake.evaluation.matching import match
from avfake.evaluation.material import Proposal
from avfake.evaluation.table import SCORES, ClipScore, Scale, Table
from avfake.manifest import Row
from avfake.storage import local_copy

Higher = Literal["fake", "genuine"]
"""What scores rise with in a file."""

CLIP_COLUMNS = ("id", "file", "filename", "path", "utterance")
"""Columns that may name the clip."""
SINGLE_COLUMNS = ("score", "cm-score", "cm_score", "p_fake", "prediction", "probability")
"""Columns that may hold the only score; all are compared in lower case."""

NOTHING: Proposal = (0.0, 0.0, 0.0)
"""Stands for *no proposal* in AV-Deepfake1M's file: the organisers' evaluation stops at an empty list."""

_DELIMITERS = ("\t", ";", ",", None)
"""In the order in which they are tried; None is any white space."""


class ScoreFileError(AvfakeError):
    """A file of scores or proposals cannot be read, or does not say what it has to."""


@dataclass(frozen=True)
class Scores:
    """What a file says of some rows.

    ``names``    those of ``table.SCORES`` that the file has.
    ``values``   by the id of *every* row and by name: a score that rises with fake, None where it was not judged.
    ``missing``  ids of the rows that the file has no line for; they count as not judged.
    ``unknown``  names in the file that are none of the rows'.
    ``doubt``    a name and the row's id, where names found their rows whatever the folder (``matching.Match``).
    """

    path: str
    names: tuple[str, ...]
    scale: Scale
    values: dict[str, dict[str, float | None]]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    doubt: tuple[str, str] | None

    def table(self, rows: Sequence[Row]) -> Table:
        """Return the score table of ``rows``, which must be among those that the file was read for."""
        clips = (
            ClipScore(row.id, {name: value for name, value in self.values[row.id].items() if value is not None})
            for row in rows
        )
        return Table(tuple(rows), tuple(clips), self.scale)

    def notes(self) -> list[str]:
        """Return what has to be told of lines in doubt, missing or of no clip, a sentence each."""
        return _notes(self.path, len(self.values), self.doubt, self.missing, self.unknown)


@dataclass(frozen=True)
class Proposals:
    """Where a file says that rows are fake: ``values`` by id, the most confident first; see ``Scores`` for the rest.

    Rows without an entry were not judged; an empty list says that nothing was found.
    """

    path: str
    values: dict[str, list[Proposal]]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    doubt: tuple[str, str] | None

    def notes(self) -> list[str]:
        """Return what has to be told of entries in doubt, missing or of no clip, a sentence each."""
        return _notes(self.path, len(self.values) + len(self.missing), self.doubt, self.missing, self.unknown)


def read(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    *,
    aspect: str = "fake",
    columns: Mapping[str, str] | None = None,
    higher: Higher = "fake",
    scale: Scale = "rank",
) -> Scores:
    """Read the scores of ``rows`` from a file, turned so that they rise with fake.

    ``aspect`` (one of ``table.SCORES``) is what a single score speaks of. ``columns`` names columns that are called
    otherwise: the file's name by ``id`` or one of ``table.SCORES``; scores it does not name are then not read. Where
    ``higher`` is genuine, a probability p becomes 1 - p and any other score its negative: with ``scale`` rank
    probabilities of the genuine are merely ordered, and none of them rounds to 1.

    An empty field, ``nan`` or null means *not judged*. Raises ``ScoreFileError``, naming the line, for what is no such
    file, no finite number or (``scale`` probability) not in [0, 1], for a name that stands for several rows, two
    different scores of a row, and where no name is that of a row.
    """
    if aspect not in SCORES or (columns and not set(columns) <= {"id", *SCORES}):
        raise ValueError(f"aspect and columns are of {', '.join(SCORES)}, not {aspect!r}, {columns!r}")
    path = os.fspath(path)
    names, lines = _lines(_Wanted(path, aspect, columns or {}))
    found = _matched(path, [(line.where, line.clip) for line in lines], rows)
    values: dict[str, dict[str, float | None]] = {}
    first: dict[str, str] = {}
    for row, line in zip(found.rows, lines, strict=True):
        said = {name: _score(line.where, line.fields[name], higher, scale) for name in names}
        if row is None:
            continue
        if values.setdefault(row.id, said) != said:
            raise ScoreFileError(f"{line.where}: {row.id!r} has another score in {first[row.id]}; keep one of them.")
        first.setdefault(row.id, line.where.removeprefix(f"{path}, "))
    missing = tuple(row.id for row in rows if row.id not in values)
    values |= {id_: dict.fromkeys(names) for id_ in missing}
    return Scores(path, names, scale, values, missing, found.unknown, found.doubt)


def read_proposals(path: str | os.PathLike[str], rows: Sequence[Row], *, fps: float = 1.0) -> Proposals:
    """Read ``{file: [[confidence, start, end], ...]}``, the JSON of AV-Deepfake1M and LAV-DF, for ``rows``.

    Times are divided by ``fps``: 1 for seconds, 25 for files that LAV-DF's own code wrote, which count frames. A
    proposal that is exactly ``NOTHING`` is none. Raises ``ScoreFileError`` as ``read`` does.
    """
    path = os.fspath(path)
    content = _decoded(path, _content(path))
    try:
        # Objects as tuples of pairs: a dictionary would silently keep the last of two equal names.
        entries = json.loads(content, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise ScoreFileError(
            f"{path} is not JSON ({error}); write {{file: [[confidence, start, end], ...]}}."
        ) from error
    if not isinstance(entries, tuple):
        raise ScoreFileError(f"{path} is not an object; write {{file: [[confidence, start, end], ...]}}.")
    found = _matched(path, [(f"{path}, {name!r}", name) for name, _ in entries], rows)
    values: dict[str, list[Proposal]] = {}
    for row, (name, said) in zip(found.rows, entries, strict=True):
        where = f"{path}, {name!r}"
        if not isinstance(said, list):
            raise ScoreFileError(f"{where}: a list of [confidence, start, end] was expected, not {said!r}.")
        proposals = [_proposal(where, one, fps) for one in said]
        if row is None:
            continue
        if row.id in values:
            raise ScoreFileError(f"{where}: {row.id!r} is there twice; keep one entry of each clip.")
        values[row.id] = sorted((one for one in proposals if one != NOTHING), key=lambda one: -one[0])
    missing = tuple(row.id for row in rows if row.id not in values)
    return Proposals(path, values, missing, found.unknown, found.doubt)


# From names to rows.


class _Matched(NamedTuple):
    rows: list[Row | None]
    unknown: tuple[str, ...]
    doubt: tuple[str, str] | None


def _matched(path: str, named: Sequence[tuple[str, str]], rows: Sequence[Row]) -> _Matched:
    """The row of each (where, name), None where it is no row's."""
    found: list[Row | None] = []
    matched = match([name for _, name in named], rows)
    for (where, name), numbers in zip(named, matched.rows, strict=True):
        if len(numbers) > 1:
            one, other = (rows[number].id for number in numbers[:2])
            raise ScoreFileError(f"{where}: {name!r} may be {one!r} or {other!r}; write ids of the manifest.")
        found.append(rows[numbers[0]] if numbers else None)
    if not any(found):
        example = f"{named[0][1]!r} for one is no" if named else "it is empty: no"
        known = f", such as {rows[0].id!r}" if rows else ""
        raise ScoreFileError(f"{path} scores none of the {len(rows)} clips ({example} clip); write their ids{known}.")
    unknown = tuple(name for (_, name), row in zip(named, found, strict=True) if row is None)
    return _Matched(found, unknown, matched.doubt)


def _notes(
    path: str, total: int, doubt: tuple[str, str] | None, missing: Sequence[str], unknown: Sequence[str]
) -> list[str]:
    notes = []
    if doubt:
        name, ours = doubt
        notes.append(
            f"{path} found its clips by file name alone, whatever the folder ({name!r} as {ours!r} for one): "
            "check that they are the same clips."
        )
    if missing:
        notes.append(f"{path} says nothing of {len(missing)} of {total} clips ({missing[0]} for one): not judged.")
    if unknown:
        notes.append(f"{path} speaks of {len(unknown)} clips that are not asked for ({unknown[0]} for one): left out.")
    return notes


# From fields to numbers.


def _score(where: str, value: Any, higher: Higher, scale: Scale) -> float | None:
    score = _number(where, value)
    if score is None:
        return None
    if scale == "probability":
        if not 0 <= score <= 1:
            raise ScoreFileError(f"{where}: {value!r} is no probability; give the scale as rank or llr.")
        return 1 - score if higher == "genuine" else score
    return -score if higher == "genuine" else score


def _number(where: str, value: Any) -> float | None:
    if value is None or (isinstance(value, str) and value.strip() == ""):
        return None
    cure = "write a number such as 0.93, or nothing where the clip was not judged"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ScoreFileError(f"{where}: {value!r} is no score; {cure}.")
    try:
        if isinstance(value, str) and "_" in value:  # float takes 1_000, as Python's own source does
            raise ValueError(value)
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise ScoreFileError(f"{where}: {value!r} is no score; {cure}.") from error
    if math.isinf(number):
        raise ScoreFileError(f"{where}: a score must be finite; {cure}.")
    return None if math.isnan(number) else number


def _proposal(where: str, value: Any, fps: float) -> Proposal:
    if not (isinstance(value, list) and len(value) == 3):
        raise ScoreFileError(f"{where}: [confidence, start, end] was expected, not {value!r}.")
    numbers = [_number(where, each) for each in value]
    confidence, start, end = (math.nan if each is None else each for each in numbers)
    if not start <= end or math.isnan(confidence):
        raise ScoreFileError(f"{where}: [confidence, start, end] with start <= end was expected, not {value!r}.")
    return confidence, start / fps, end / fps


# From files to fields.


class _Line(NamedTuple):
    """One clip: ``where`` an error says it is, its name, and the scores as they are in the file."""

    where: str
    clip: str
    fields: dict[str, Any]


_Lines = tuple[tuple[str, ...], list[_Line]]
"""Names of the scores, and the lines."""


@dataclass(frozen=True)
class _Wanted:
    """Which columns of a file to read; see ``read``."""

    path: str
    aspect: str
    columns: Mapping[str, str]

    def is_known(self, column: str) -> bool:
        """Whether something in a first line is the name of a column."""
        known = (*CLIP_COLUMNS, *SCORES, *SINGLE_COLUMNS, *(name.lower() for name in self.columns.values()))
        return column.strip().lower() in known

    def chosen(self, there: Sequence[str]) -> dict[str, int]:
        """Return the numbers of the columns that hold ``id`` and the scores."""
        names = [name.strip().lower() for name in there]
        listed = ", ".join(there)
        if twice := [name for name in names if names.count(name) > 1]:
            raise ScoreFileError(f"{self.path} has the column {twice[0]!r} twice; keep one of each name.")
        if lacking := [column for column in self.columns.values() if column.lower() not in names]:
            raise ScoreFileError(f"{self.path} has no column {lacking[0]!r}; it has {listed}.")
        found = {ours: names.index(theirs.lower()) for ours, theirs in self.columns.items()}
        if "id" not in found:
            clip = [names.index(name) for name in CLIP_COLUMNS if name in names]
            if not clip:
                raise ScoreFileError(f"{self.path} names no clips: of {listed} call one column id or file.")
            found["id"] = clip[0]
        if found.keys() == {"id"}:
            found |= {name: names.index(name) for name in SCORES if name in names}
        if found.keys() == {"id"}:
            single = [names.index(name) for name in SINGLE_COLUMNS if name in names]
            if len(single) != 1:
                what = "several columns that may be the score" if single else "no scores"
                raise ScoreFileError(f"{self.path} has {what}: of {listed} call one {', '.join(SCORES)} or score.")
            found[self.aspect] = single[0]
        return found


def _lines(wanted: _Wanted) -> _Lines:
    content = _content(wanted.path)
    if content.startswith(b"PAR1"):
        return _parquet(wanted, content)
    text = _decoded(wanted.path, content)
    return _json_lines(wanted, text) if text.lstrip().startswith("{") else _table(wanted, text)


def _content(path: str) -> bytes:
    try:
        with local_copy(path) as copy:
            return Path(copy).read_bytes()
    except OSError as error:
        raise ScoreFileError(f"{path} cannot be read: {error.strerror}; check the path.") from error


def _decoded(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScoreFileError(f"{path} is neither Parquet nor UTF-8 text; save it as one of them.") from error


def _selected(wanted: _Wanted, chosen: Mapping[str, int], lines: Iterable[tuple[str, Sequence[Any]]]) -> _Lines:
    """From (place, values) of each line to the clip and its scores."""
    names = tuple(name for name in SCORES if name in chosen)
    found = []
    for place, values in lines:
        where, clip = f"{wanted.path}, {place}", values[chosen["id"]]
        if isinstance(clip, bool) or not isinstance(clip, str | int) or clip == "":
            raise ScoreFileError(f"{where}: {clip!r} is no name of a clip; write its id.")
        found.append(_Line(where, str(clip), {name: values[chosen[name]] for name in names}))
    return names, found


def _parquet(wanted: _Wanted, content: bytes) -> _Lines:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ScoreFileError(f'{wanted.path} is Parquet, which needs pyarrow: pip install "avfake[eval]".') from error
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        there = list(file.schema_arrow.names)
        chosen = wanted.chosen(there)
        kept = list(dict.fromkeys(there[number] for number in chosen.values()))  # a file may have many more
        columns = file.read(columns=kept).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise ScoreFileError(f"{wanted.path} cannot be read as Parquet: {error}; write it again.") from error
    rows = zip(*(columns[name] for name in kept), strict=True)
    places = {name: kept.index(there[number]) for name, number in chosen.items()}
    return _selected(wanted, places, ((f"row {number}", values) for number, values in enumerate(rows, 1)))


def _json_lines(wanted: _Wanted, text: str) -> _Lines:
    objects: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{wanted.path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ScoreFileError(f"{where}: this is not JSON ({error}); write one object a line.") from error
        if not isinstance(value, dict):
            raise ScoreFileError(f"{where}: this is no JSON object; write one object a line.")
        objects.append((f"line {number}", value))
    there = list(dict.fromkeys(key for _, value in objects for key in value))
    lines = ((place, [value.get(key) for key in there]) for place, value in objects)
    return _selected(wanted, wanted.chosen(there), lines)


def _table(wanted: _Wanted, text: str) -> _Lines:
    delimiter, header, has_header = _layout(wanted, text)
    chosen = wanted.chosen(header)
    lines = []
    try:
        for number, values in islice(_records(text, delimiter), int(has_header), None):
            if len(values) != len(header):
                raise ScoreFileError(
                    f"{wanted.path}, line {number}: {len(header)} fields were expected, not {len(values)}; "
                    "put names with separators in quotes, or part fields by tabs."
                )
            lines.append((f"line {number}", values))
    except csv.Error as error:
        raise ScoreFileError(f"{wanted.path} cannot be read as a table: {error}; write it again.") from error
    return _selected(wanted, chosen, lines)


def _layout(wanted: _Wanted, text: str) -> tuple[str | None, list[str], bool]:
    """Delimiter, columns, and whether the first line names them."""
    for delimiter in _DELIMITERS:
        try:
            _, first = next(_records(text, delimiter), (0, []))
        except csv.Error:
            continue
        if len(first) == 2 and _may_be_score(first[1]):
            return delimiter, ["file", "score"], False
        if len(first) > 1 and any(map(wanted.is_known, first)):
            return delimiter, first, True
    start = text.strip().split("\n", 1)[0][:60]
    what = f"begins with {start!r}, neither a header nor a name and a score" if start else "is empty"
    raise ScoreFileError(f"{wanted.path} {what}; write a table with the columns file and score.")


def _records(text: str, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not empty."""
    if delimiter is None:
        yield from ((number, line.split()) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        return
    reader = csv.reader(io.StringIO(_trimmed(text, delimiter), newline=""), delimiter=delimiter, strict=True)
    yield from ((reader.line_num, fields) for fields in reader if any(field.strip() for field in fields))


def _trimmed(text: str, delimiter: str) -> str:
    """Take away the blanks around fields, which ``csv`` would take for a part of them; quoted ones keep theirs."""
    blank = " " if delimiter == "\t" else "[ \t]"
    if not re.search(blank, text):  # as a rule; much faster than what follows
        return text
    end = rf"{delimiter}|\r\n|\r|\n"
    quoted = rf'(?<![^\s"{delimiter}])("[^"]*")'  # only where a field begins, or goes on after a doubled quote
    pattern = rf"{quoted}|(?<!{blank}){blank}+({end}|\Z){blank}*|({end}|\A){blank}+"
    return re.sub(pattern, lambda found: found[found.lastindex or 0], text)


def _may_be_score(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
