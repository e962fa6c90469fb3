"""Where an evaluation keeps its scores: a journal while it judges, Parquet when it is done.

The folder of a test set holds

* ``clips.parquet``, ``trimmed.parquet``   a line a clip: its row and what was said of it, as it is and with its leading
                                           silence cut off;
* ``frames/part-NUMBER.parquet``           a line a frame, the frames of a clip together;
* ``sync.parquet``                         trials of genuine talking faces with other voices (protocols of sync);
* ``damaged.parquet``                      a line a clip and corruption;
* ``NAME.journal``                         of a stage that is not complete: answers as they come, a line of JSON each.

Every file says which detector it is of. A killed run has lost no more than its last minute.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from avfake import AvfakeError
from avfake.evaluation.material import ClipFrames
from avfake.evaluation.table import SCORES, ClipScore, label_of
from avfake.manifest import Row
from avfake.models import SHIFTS
from avfake.storage import whole_file

_KEY = b"avfake"
Record = dict[str, Any]


class StoreError(AvfakeError):
    """Scores on disk are of something else, or damaged."""


@dataclass(frozen=True)
class Stage:
    """One kind of answers in a folder: ``NAME.journal``, then ``NAME.parquet``; ``of`` says what judged, and how."""

    folder: Path
    name: str
    of: Mapping[str, str]

    @property
    def file(self) -> Path:
        """Where the answers are when all are there."""
        return self.folder / f"{self.name}.parquet"

    @property
    def journal(self) -> Path:
        """Where they are until then."""
        return self.folder / f"{self.name}.journal"

    def known(self) -> dict[str, Record]:
        """Return the answers that are there, by key. Raises ``StoreError`` where they are of another detector."""
        found: dict[str, Record] = {}
        if self.file.is_file():
            table = _read(self.file, self.of)
            found = {
                record["key"]: json.loads(record["answer"]) for record in table.select(["key", "answer"]).to_pylist()
            }
        if self.journal.is_file():
            found |= self._journal()
        return found

    def _journal(self) -> dict[str, Record]:
        found: dict[str, Record] = {}
        with open(self.journal, "rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break  # half a line of a killed run
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise StoreError(
                        f"{self.journal} is damaged ({error}); delete it, and its clips are judged again."
                    ) from error
                if number == 0:
                    _check(self.journal, record, self.of)
                else:
                    found[record["key"]] = record["answer"]
        return found

    def writer(self) -> Journal:
        """Open the journal to go on with it."""
        return Journal(self.journal, self.of)

    def finish(self, records: Sequence[Record], schema: pa.Schema) -> None:
        """Write all answers, in their order, as Parquet, and drop the journal."""
        columns = pa.Table.from_pylist(records, schema=schema.with_metadata({_KEY: json.dumps(dict(self.of)).encode()}))
        with whole_file(str(self.file)) as file:
            pq.write_table(columns, file)
        self.journal.unlink(missing_ok=True)


class Journal:
    """Answers, a line each, on disk as soon as they are given."""

    def __init__(self, path: Path, of: Mapping[str, str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                with open(path, "rb+") as file:
                    whole = file.read().rfind(b"\n") + 1
                    file.truncate(whole)  # half a line of a killed run
            self._file = open(path, "ab")  # noqa: SIM115  # close() is ours
            if not self._file.tell():
                self._line(dict(of))
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}; check the folder and its space.") from error

    def add(self, key: str, answer: Record) -> None:
        """Write one answer."""
        self._line({"key": key, "answer": answer})

    def close(self) -> None:
        """End writing."""
        self._file.close()

    def _line(self, value: Record) -> None:
        try:
            self._file.write(json.dumps(value).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(f"{self._file.name} cannot be written: {error.strerror}; free some space.") from error


# ------------------------------------------------------------------------------------------------ clips

_SECONDS = ("duration_s", "face_s", "spoken_s", "silence_s")
_TEXTS = ("corpus", "split", "identity", "method", "language", "original", "video", "audio_file")
CLIP_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        *((name, pa.float64()) for name in SCORES),
        *((f"label_{name}", pa.int8()) for name in SCORES),
        *((f"raw_{name}", pa.float64()) for name in SCORES),
        *((f"alarm_{name}", pa.bool_()) for name in SCORES),
        *((f"reason_{name}", pa.string()) for name in SCORES),
        ("offset_ms", pa.int32()),
        *((name, pa.float64()) for name in _SECONDS),
        ("error", pa.string()),
        ("condition", pa.string()),
        *((name, pa.string()) for name in _TEXTS),
        ("key", pa.string()),
        ("answer", pa.string()),
    ]
)
"""Columns of ``clips.parquet``; ``key`` and ``answer`` (JSON) are what a later run goes on from."""


def clip_record(row: Row, score: ClipScore, key: str, answer: Record, condition: str | None = None) -> Record:
    """Return the line of Parquet that holds a row and what was said of it; ``answer`` is what a later run reads."""
    return {
        "id": row.id,
        **{name: score.scores.get(name) for name in SCORES},
        **{f"label_{name}": label_of(row, name) for name in SCORES},
        **{f"raw_{name}": score.raw.get(name) for name in SCORES},
        **{f"alarm_{name}": score.alarms.get(name) for name in SCORES},
        **{f"reason_{name}": score.reasons.get(name) for name in SCORES},
        **{
            name: getattr(score, name)
            for name in ("offset_ms", "duration_s", "face_s", "spoken_s", "silence_s", "error")
        },
        "condition": condition,
        **{name: getattr(row, name) for name in _TEXTS[:7]},
        "audio_file": row.audio,
        "key": key,
        "answer": json.dumps(answer),
    }


SYNC_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("partner", pa.string()),
        *((name, pa.float64()) for name in ("seconds", "own", "foreign")),
        ("error", pa.string()),
        ("key", pa.string()),
        ("answer", pa.string()),
    ]
)
"""Columns of ``sync.parquet``: P(fake) of sync with the ``own`` voice and with the ``partner``'s."""


def sync_record(key: str, answer: Record) -> Record:
    """Return the line of Parquet that holds the trials of one talking face (``judged.SyncAnswer`` as JSON)."""
    return {**answer["swap"], "error": answer["error"], "key": key, "answer": json.dumps(answer)}


# ------------------------------------------------------------------------------------------------ frames

FRAME_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("track", pa.int32()),
        ("frame", pa.int32()),
        ("visual", pa.float32()),
        ("audio", pa.float32()),
        ("face_ok", pa.bool_()),
        ("speech", pa.bool_()),
        ("sync", pa.list_(pa.float16(), SHIFTS)),
    ]
)
"""Columns of ``frames``: ``track`` is null for sound alone, ``frame`` counts 40 ms from the file's beginning,
``visual`` and ``audio`` are uncalibrated log-odds of fake, ``sync`` the evidence of shifts -15 to 15, null where it was
not kept."""


class Frames:
    """The frames of a test set, in parts that are written when they are full."""

    def __init__(self, folder: Path, of: Mapping[str, str]) -> None:
        self.folder = folder / "frames"
        self._of = of
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".*.part"):
            left.unlink()

    def write(self, number: int, clips: Iterable[ClipFrames]) -> None:
        """Write part ``number``."""
        schema = FRAME_SCHEMA.with_metadata({_KEY: json.dumps(dict(self._of)).encode()})
        with whole_file(str(self._part(number))) as file:
            pq.write_table(pa.Table.from_batches(map(_columns, clips), FRAME_SCHEMA).cast(schema), file)

    def next_number(self) -> int:
        """Return the number of the next part."""
        return max((int(part.stem.split("-")[1]) for part in self.folder.glob("part-*.parquet")), default=0) + 1

    def read(self, parts: Mapping[str, int]) -> Iterator[ClipFrames]:
        """Yield the frames of the clips whose part is given by id, part by part."""
        for number in sorted(set(parts.values())):
            part = self._part(number)
            if not part.is_file():
                raise StoreError(f"{part} is missing; delete {self.folder.parent} and evaluate again.")
            for clip in _clips(_read(part, self._of)):
                if parts.get(clip.id) == number:
                    yield clip

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"


def _columns(clip: ClipFrames) -> pa.RecordBatch:
    length = len(clip.visual)
    if clip.evidence is None:
        sync = pa.nulls(length, FRAME_SCHEMA.field("sync").type)
    else:
        sync = pa.FixedSizeListArray.from_arrays(pa.array(clip.evidence.reshape(-1), pa.float16()), SHIFTS)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([clip.id] * length, pa.string()),
            pa.array([clip.track] * length, pa.int32()),
            pa.array(np.arange(clip.start, clip.start + length, dtype=np.int32)),
            pa.array(clip.visual),
            pa.array(clip.audio),
            pa.array(clip.face_ok),
            pa.array(clip.speech),
            sync,
        ],
        schema=FRAME_SCHEMA,
    )


def _clips(table: pa.Table) -> Iterator[ClipFrames]:
    """The runs of frames of one clip and track that follow one another."""
    ids = table["id"].to_numpy(zero_copy_only=False)
    track = table["track"].fill_null(-1).to_numpy()
    frame = table["frame"].to_numpy()
    breaks = np.flatnonzero((ids[1:] != ids[:-1]) | (track[1:] != track[:-1]) | (np.diff(frame) != 1)) + 1
    edges = [0, *breaks.tolist(), len(ids)]
    for start, end in pairwise(edges):
        if start == end:
            continue
        part = table.slice(start, end - start)
        sync = part["sync"].combine_chunks()
        evidence = None
        if sync.null_count == 0:
            evidence = sync.flatten().to_numpy(zero_copy_only=False).astype(np.float16).reshape(-1, SHIFTS)
        yield ClipFrames(
            str(ids[start]),
            None if track[start] < 0 else int(track[start]),
            int(frame[start]),
            part["visual"].to_numpy(),
            part["audio"].to_numpy(),
            part["face_ok"].to_numpy(),
            part["speech"].to_numpy(),
            evidence,
        )


# ------------------------------------------------------------------------------------------------ reading


def _read(path: Path, of: Mapping[str, str]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} cannot be read ({reason}); delete {path.parent} and evaluate again.") from error
    metadata = table.schema.metadata or {}
    _check(path, json.loads(metadata.get(_KEY, b"{}")), of)
    return table


def _check(path: Path, found: Any, of: Mapping[str, str]) -> None:
    if found != dict(of):
        differ = [name for name in of if not isinstance(found, dict) or found.get(name) != of[name]]
        raise StoreError(
            f"{path} holds scores that were made otherwise ({', '.join(differ) or 'other settings'}); choose another "
            f"out, or delete {os.path.dirname(path)}."
        )
