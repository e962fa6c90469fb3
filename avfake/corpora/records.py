"""Your own data in a table: a CSV file with a header line, or JSON Lines with the same names. ROOT is the file.

* ``video``, ``audio``: paths, relative to the folder of the table, or remote addresses (``s3://...``), which are not
  looked for; one of them at least. ``audio`` beside ``video`` is a sound track in a file of its own.
* ``fake``: 1 or 0, what is known of the whole clip.
* ``visual_fake``, ``audio_fake``, ``sync_fake``: 1 or 0, what is known of one aspect; empty where not known.
* ``visual_segments``, ``audio_segments``, ``sync_segments``: where an aspect whose label is 1 is fake, in seconds:
  ``0.5:1.25 3:4`` in CSV, ``[[0.5, 1.25], [3, 4]]`` in JSON; empty: throughout.
* ``split``: train, dev or test; empty: ours, see below.
* ``id``: empty: ``TABLE/PATH``, the name of the table and the path. ``corpus``: empty: the name of the table.
* ``identity``, ``method``, ``language``, ``original``: as in a manifest; empty where not known. ``original`` may also
  be the path of a line without ``id``.

Every column may be missing. In JSON Lines null is empty, too, and a line with the field ``labels`` is read as a whole
row of a manifest (its paths, too, are relative to the folder of the table).

``fake`` 0 means that everything is genuine. ``fake`` 1 tells not *what* is fake: a voice alone is then audio 1, and a
video is what the variant says, unless one of ``visual_fake``, ``audio_fake`` and ``sync_fake`` says it: see
``plain_labels``. A fake without ``method`` has the method ``unknown``.

Our own split (``people.split_of``) keeps families (``people.families``) whole: all clips of an identity, fakes and
their originals, and whatever these share in turn. Where some lines of a family have a split, it holds for the others;
if they have two, that is an error. Where all lines have one, they are believed, with a warning if a family is torn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import log, one_of, present, segments, table
from avfake.corpora.people import families, split_of
from avfake.manifest import ASPECTS, SPLITS, Label, Labels, Row, Segment, Segments, parse
from avfake.storage import is_remote

VARIANTS = ("visual", "audio", "both")
"""What is fake in a video of which only that it is fake is known."""

_TITLE = "the table"
_OURS = "ours"
_TEXTS = ("id", "video", "audio", "corpus", "split", "identity", "method", "language", "original")
_LABELS = ("fake", *(f"{aspect}_fake" for aspect in ASPECTS))
_SEGMENTS = tuple(f"{aspect}_segments" for aspect in ASPECTS)


def plain_labels(fake: bool, is_video: bool, variant: str | None) -> Labels:
    """Return the labels of a file of which is only known whether it is genuine or fake.

    Genuine means genuine in all aspects. A fake voice is audio 1. What a fake video means is a matter of the variant:

    =========  ======  =====  ====  ================================================================
    variant    visual  audio  sync  because
    =========  ======  =====  ====  ================================================================
    None       1       None   None  the face was altered, as in most data sets; the voice is not known
    visual     1       0      None  the face was altered, the voice is genuine
    audio      0       1      None  the voice was synthesised or cloned, the picture is genuine
    both       1       1      None  both were
    =========  ======  =====  ====  ================================================================
    """
    if not is_video:
        return Labels(audio=int(fake))
    if not fake:
        return Labels(visual=0, audio=0, sync=0)
    return {
        None: Labels(visual=1),
        "visual": Labels(visual=1, audio=0),
        "audio": Labels(visual=0, audio=1),
        "both": Labels(visual=1, audio=1),
    }[variant]


def tell_assumption(fakes: int, name: str) -> None:
    """Warn that ``fakes`` videos of the corpus ``name`` were labelled by the assumption of ``plain_labels`` alone."""
    if fakes:
        log.warning(
            "%d videos are said to be fake, but not in what: taken as altered faces with voices not known; "
            "read %s:visual, %s:audio or %s:both if you know better.",
            *(fakes, name, name, name),
        )


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    if not root.is_file():
        found = "a folder" if root.is_dir() else "nothing"
        raise CorpusError(f"{root} is not a table: expected ROOT to be a .csv or .jsonl file, found {found}.")
    return present(_read(root, variant), _TITLE)


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    if root.suffix.lower() not in (".csv", ".jsonl"):
        raise CorpusError(f"{root} is not a table: expected ROOT to be a .csv or .jsonl file.")
    lines = table(root, ()) if root.suffix.lower() == ".csv" else _json_lines(root)
    rows: list[Row] = []
    ids: dict[str, str] = {}
    assumed = 0
    for where, line in lines:
        if isinstance(line.get("labels"), dict):
            row = _whole_row(root, where, line)
        else:
            row, bare = _row(root, where, line, variant)
            assumed += bare and variant is None
        if row.id in ids:
            raise CorpusError(f"{where}: the id {row.id!r} is already that of {ids[row.id]}; give each line its own.")
        ids[row.id] = where
        rows.append(row)
    tell_assumption(assumed, "table")
    rows = [replace(row, original=_original(root, row.original, ids)) for row in rows]
    family_of = families(rows)
    members: dict[int, list[Row]] = {}
    for family, row in zip(family_of, rows, strict=True):
        members.setdefault(int(family), []).append(row)
    splits = {family: _split(root, of_family) for family, of_family in members.items()}
    torn = [of_family[0].id for of_family in members.values() if len({row.split for row in of_family} - {_OURS}) > 1]
    if torn:
        log.warning("%s has people or originals (%s for one) in two splits; see avfake audit.", root, torn[0])
    for family, row in zip(family_of, rows, strict=True):
        yield replace(row, split=splits[int(family)]) if row.split == _OURS else row


def _split(root: Path, family: Sequence[Row]) -> str:
    """Return the split of those of a family whose line tells none."""
    told = {row.split: row.id for row in family if row.split != _OURS}
    untold = [row.id for row in family if row.split == _OURS]
    if len(told) > 1 and untold:
        theirs = " and ".join(f"{name!r} is {split}" for split, name in told.items())
        raise CorpusError(
            f"{root}: {theirs}, but {untold[0]!r}, which has no split, shares people or originals with both; give it "
            f"one or mend theirs."
        )
    if told:
        return next(iter(told))
    # What a family is called must not change when more fakes of it come: its people, or the clips they were made from.
    people = {row.identity for row in family if row.identity}
    made = {row.id for row in family if row.original}
    first = {row.original or row.id for row in family} - made
    return split_of(min(people or first or made).removeprefix(f"{root.stem}/"))


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise CorpusError(f"{where} cannot be read as JSON: {error}.") from error
                if not isinstance(line, dict):
                    raise CorpusError(f"{where}: it must be an object with fields, not {line!r}.")
                yield where, line
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read as JSON Lines: {error}.") from error


def _whole_row(root: Path, where: str, line: dict[str, Any]) -> Row:
    try:
        row = parse(line)
    except ValueError as error:
        raise CorpusError(f"{where}: {error}.") from error
    return replace(row, video=_path(root, row.video), audio=_path(root, row.audio))


def _path(root: Path, value: str | None) -> str | None:
    return value if value is None or is_remote(value) else str(root.parent / value)


def _id(root: Path, path: str) -> str:
    """Return the id of a line that has none."""
    return path if is_remote(path) else f"{root.stem}/{os.path.normpath(path)}"


def _original(root: Path, told: str | None, ids: Mapping[str, str]) -> str | None:
    return _id(root, told) if told and told not in ids and _id(root, told) in ids else told


def _row(root: Path, where: str, line: Mapping[str, Any], variant: str | None) -> tuple[Row, bool]:
    """Return a line's row, and whether only ``variant`` told what is fake in it."""
    if unknown := [name for name in line if name not in (*_TEXTS, *_LABELS, *_SEGMENTS)]:
        known = (*_TEXTS, *_LABELS, *_SEGMENTS)
        cure = f"the columns are {', '.join(known)}"
        if unknown[0].strip() in known:
            cure = "write no space beside the commas"
        elif any(mark in unknown[0] for mark in ";\t"):
            cure = "part the columns by commas"
        raise CorpusError(f"{where}: there is no column {unknown[0]!r}; {cure}.")
    text = {name: _text(where, line, name) for name in _TEXTS}
    file = text["video"] or text["audio"]
    if file is None:
        raise CorpusError(f"{where}: both video and audio are empty; name one file at least.")
    labels, bare = _labels(where, line, text["video"] is not None, variant)
    fake = 1 in (labels.visual, labels.audio, labels.sync)
    if text["method"] and labels == plain_labels(False, text["video"] is not None, None):
        raise CorpusError(f"{where}: it has a method, but its labels say that it is genuine.")
    split = one_of(where, "split", text["split"], SPLITS) if text["split"] else _OURS
    row = Row(
        id=text["id"] or _id(root, file),
        video=_path(root, text["video"]),
        audio=_path(root, text["audio"]),
        corpus=text["corpus"] or root.stem,
        split=split,
        identity=text["identity"],
        method=text["method"] or ("unknown" if fake else None),
        language=text["language"],
        original=text["original"],
        labels=labels,
        segments=Segments(**{aspect: _segments(where, line, aspect, labels) for aspect in ASPECTS}),
    )
    return row, bare


def _text(where: str, line: Mapping[str, Any], name: str) -> str | None:
    value = line.get(name)
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{where}: {name} must be a text, not {value!r}.")
    return value or None


def _labels(where: str, line: Mapping[str, Any], is_video: bool, variant: str | None) -> tuple[Labels, bool]:
    fake, *aspects = (_label(where, line, name) for name in _LABELS)
    told = Labels(*aspects)
    if not is_video and (told.visual, told.sync) != (None, None):
        raise CorpusError(f"{where}: visual_fake and sync_fake are of a video, but there is sound alone.")
    if fake is None:
        return told, False
    if aspects == [None] * len(ASPECTS):
        return plain_labels(fake == 1, is_video, variant), fake == 1 and is_video
    if (1 in aspects) != (fake == 1):
        raise CorpusError(f"{where}: fake is {fake}, but visual_fake, audio_fake and sync_fake say otherwise.")
    return (plain_labels(False, is_video, None) if fake == 0 else told), False


def _label(where: str, line: Mapping[str, Any], name: str) -> Label:
    value = line.get(name)
    if value in (None, ""):
        return None
    if isinstance(value, bool) or value not in (0, 1, "0", "1"):
        raise CorpusError(f"{where}: {name} must be 1 (fake), 0 (genuine) or empty, not {value!r}.")
    return int(value)


def _segments(where: str, line: Mapping[str, Any], aspect: str, labels: Labels) -> tuple[Segment, ...]:
    name = f"{aspect}_segments"
    value = line.get(name)
    if value in (None, "", []):
        return ()
    if getattr(labels, aspect) != 1:
        raise CorpusError(f"{where}: {name} tell where something is fake, but {aspect}_fake is not 1.")
    if isinstance(value, str):
        value = [_pair(where, name, word) for word in value.split()]
    found = segments(where, {name: value}, name)
    if len(found) < len(value):
        raise CorpusError(f"{where}: {name} hold a segment that ends where it starts.")
    return found


def _pair(where: str, name: str, word: str) -> list[float]:
    try:
        return [float(time) for time in word.split(":")]
    except ValueError as error:
        raise CorpusError(f"{where}: {name} must be written 0.5:1.25 3:4, in seconds, not {word!r}.") from error


READER = Reader("the table", _rows, VARIANTS, ids_as_is=True)
