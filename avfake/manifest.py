"""Manifests: what is known about each clip of a corpus, one JSON document a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from avfake import FPS, AvfakeError
from avfake.storage import local_copy, whole_file

SPLITS = ("train", "dev", "test")
ASPECTS = ("visual", "audio", "sync")
Label = int | None
Segment = tuple[float, float]


class ManifestError(AvfakeError):
    """A manifest cannot be read, or holds what a manifest may not."""


@dataclass(frozen=True)
class Labels:
    """One label an aspect: 1 = fake, 0 = genuine, None = not known or the stream is absent."""

    visual: Label = None
    audio: Label = None
    sync: Label = None


@dataclass(frozen=True)
class Segments:
    """Where an aspect is fake: (start, end) in seconds of its file; empty where label 1 holds throughout."""

    visual: tuple[Segment, ...] = ()
    audio: tuple[Segment, ...] = ()
    sync: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Row:
    """One clip of a corpus.

    ``id``        unique within its manifest.
    ``video``     path of the file with the picture, None for sound alone.
    ``audio``     path of the file with the sound, None when the sound, if there is any, is that of ``video``.
    ``corpus``    where it comes from; what scores are averaged over.
    ``split``     train, dev or test.
    ``identity``  the person seen or heard, None where not known.
    ``method``    what made the fake, None for a genuine clip.
    ``language``  ISO 639 code, None where not known.
    ``original``  ``id`` of the genuine clip that this fake was made from, None where not known.
    """

    id: str
    video: str | None
    audio: str | None
    corpus: str
    split: str
    identity: str | None = None
    method: str | None = None
    language: str | None = None
    original: str | None = None
    labels: Labels = field(default_factory=Labels)
    segments: Segments = field(default_factory=Segments)

    @property
    def fake(self) -> Label:
        """Whether the clip is fake in any aspect.

        1 where an aspect is known to be fake, and 0 for a row without a ``method`` of which an aspect is known to be
        genuine: that no method is named says that the clip is genuine, so its other aspects need not be known. Else
        None: of a clip that a method has changed, what is not known may be what is fake.
        """
        labels = [getattr(self.labels, aspect) for aspect in ASPECTS]
        if 1 in labels:
            return 1
        return 0 if 0 in labels and self.method is None else None

    def cut(self, start_s: float, end_s: float) -> Row:
        """Return the row of the stretch from ``start_s`` to ``end_s``, its segments in seconds from ``start_s``.

        An aspect that is fake in segments only is genuine (0) where less than half a frame of them is left.
        """
        labels: dict[str, Label] = {}
        segments: dict[str, tuple[Segment, ...]] = {}
        for aspect in ASPECTS:
            label, whole = getattr(self.labels, aspect), getattr(self.segments, aspect)
            clipped = ((max(a, start_s) - start_s, min(b, end_s) - start_s) for a, b in whole)
            left = tuple((a, b) for a, b in clipped if b - a >= 0.5 / FPS - 1e-9)
            labels[aspect] = 0 if label == 1 and whole and not left else label
            segments[aspect] = left
        return replace(self, labels=Labels(**labels), segments=Segments(**segments))


def read(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Yield the rows of a manifest in order; empty lines are skipped.

    Raises ``ManifestError``, naming the line and the field, for anything that is not exactly a row.
    """
    first_lines: dict[str, int] = {}
    try:
        with local_copy(os.fspath(path)) as copy, open(copy, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    row = parse(json.loads(line))
                except (ValueError, RecursionError) as error:  # JSON's own error is a ValueError, too
                    raise ManifestError(f"{where}: {error}.") from error
                if row.id in first_lines:
                    raise ManifestError(f"{where}: id {row.id!r} is already that of line {first_lines[row.id]}.")
                first_lines[row.id] = number
                yield row
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}; check the path.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a manifest, which is UTF-8 text with a JSON row a line.") from error


def write(rows: Iterable[Row], path: str | os.PathLike[str]) -> int:
    """Write rows as JSON Lines, whole or not at all, and return how many there were.

    Raises ``ManifestError`` when a row could not be read back, ``StorageError`` when the file cannot be written.
    """
    ids: set[str] = set()
    with whole_file(os.fspath(path)) as file:
        for row in rows:
            try:
                line = json.dumps(asdict(row), ensure_ascii=False)
                parse(json.loads(line))
            except ValueError as error:
                raise ManifestError(f"{path}: row {row.id!r} is wrong: {error}.") from error
            if row.id in ids:
                raise ManifestError(f"{path}: id {row.id!r} appears twice.")
            ids.add(row.id)
            file.write(f"{line}\n".encode("utf-8", "backslashreplace"))  # names that are no UTF-8
    return len(ids)


def parse(value: Any) -> Row:
    """Return the row that a JSON object is. Raises ``ValueError`` that names the field and what it may be."""
    names = [item.name for item in fields(Row)]
    _keys("the row", value, names)
    if value["split"] not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {value['split']!r}")
    for name in ("id", "corpus"):
        if not isinstance(value[name], str) or not value[name]:
            raise ValueError(f"{name} must be a text that is not empty, not {value[name]!r}")
    for name in ("video", "audio", "identity", "method", "language", "original"):
        if value[name] is not None and (not isinstance(value[name], str) or not value[name]):
            raise ValueError(f"{name} must be null or a text that is not empty, not {value[name]!r}")
    if value["video"] is None and value["audio"] is None:
        raise ValueError("video and audio must not both be null")
    return Row(**value | {"labels": _labels(value["labels"]), "segments": _segments(value["segments"])})


# Parts of a row: every function below raises ValueError as ``parse`` does.


def _labels(value: Any) -> Labels:
    _keys("labels", value, list(ASPECTS))
    for name, label in value.items():
        # True and 1.0 equal 1, but are not what a manifest holds.
        if label is not None and (type(label) is not int or label not in (0, 1)):
            raise ValueError(f"labels.{name} must be 0 (genuine), 1 (fake) or null, not {label!r}")
    return Labels(**value)


def _segments(value: Any) -> Segments:
    if isinstance(value, dict):
        value = {"sync": []} | value  # other people's manifests tell of visual and audio segments alone
    _keys("segments", value, list(ASPECTS))
    return Segments(**{name: tuple(_pairs(f"segments.{name}", pairs)) for name, pairs in value.items()})


def _pairs(name: str, value: Any) -> Iterator[Segment]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list of [start, end], not {value!r}")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(s) in (int, float) for s in pair)):
            raise ValueError(f"{name} must hold [start, end] in seconds, not {pair!r}")
        start, end = float(pair[0]), float(pair[1])
        if not 0 <= start < end < math.inf:
            raise ValueError(f"{name} must hold [start, end] with 0 <= start < end, not {pair!r}")
        yield start, end


def _keys(name: str, value: Any, expected: list[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object with the fields {', '.join(expected)}")
    if missing := [key for key in expected if key not in value]:
        raise ValueError(f"{name} lacks {', '.join(missing)}; its fields are {', '.join(expected)}")
    if unknown := [key for key in value if key not in expected]:
        raise ValueError(f"{name} has no field {', '.join(unknown)}; its fields are {', '.join(expected)}")
