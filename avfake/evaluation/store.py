"""Where an evaluation keeps its scores: journals that later runs go on from, and Parquet for everybody to read.

The folder of a test set holds

* ``clips.parquet``, ``trimmed.parquet``   a line a clip: its row and what was said of it, as it is and with its leading
                                           silence cut off;
* ``frames/part-NUMBER.parquet``           a line a frame, the frames of a clip together;
* ``sync.parquet``                         trials of genuine talking faces with other voices (protocols of sync);
* ``damaged.parquet``                      a line a clip and corruption;
* ``NAME.journal``                         all answers that were ever given, a line of JSON each, with what they were
                                           made of: size and time of change of files, entries of shards.

Every file says which detector it is of. A killed run has lost no more than its last minute; a run on fewer rows loses
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from avfake.storage import make_folder, remove_parts, whole_file

_KEY = b"avfake"
Record = dict[str, Any]


class StoreError(AvfakeError):
    """Scores on disk are of something else, or damaged."""


@dataclass(frozen=True)
class Stage:
    """One kind of answers in a folder: ``NAME.journal`` keeps all that were ever given, ``NAME.parquet`` shows those
    that were asked for last; ``of`` says what judged, and how."""

    folder: Path
    name: str
    of: Mapping[str, str]

    @property
    def journal(self) -> Path:
        """Where the answers are."""
        return self.folder / f"{self.name}.journal"

    def known(self, made_of: Mapping[str, Any]) -> dict[str, Record]:
        """Return the answers by key, of those keys whose answers were made of the same, and that hold no error.

        Raises ``StoreError`` where they are of another detector.
        """
        wanted = {key: json.loads(json.dumps(value)) for key, value in made_of.items()}
        found: dict[str, Record] = {}
        for record in self._records():
            key = record["key"]
            if key in wanted and record["made_of"] == wanted[key] and record["answer"]["error"] is None:
                found[key] = record["answer"]
        return found

    def _records(self) -> Iterator[Record]:
        if not self.journal.is_file():
            return
        with open(self.journal, "rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break  # half a line of a killed run
                try:
                    record = json.loads(line)
                    if number:
                        record["key"], record["made_of"], record["answer"]["error"]
                except (ValueError, TypeError, KeyError) as error:
                    cure = "delete it, and its clips are judged again"
                    raise StoreError(f"{self.journal}, line {number + 1}: it is damaged; {cure}.") from error
                if number == 0:
                    _check(self.journal, record, self.of)
                else:
                    yield record

    def writer(self) -> Journal:
        """Open the journal to go on with it."""
        return Journal(self.journal, self.of)

    def show(self, name: str, records: Sequence[Record], schema: pa.Schema) -> None:
        """Write answers, in their order, as ``name.parquet``."""
        lines = [{key: _text(v) if isinstance(v, str) else v for key, v in record.items()} for record in records]
        columns = pa.Table.from_pylist(lines, schema=schema.with_metadata({_KEY: json.dumps(dict(self.of)).encode()}))
        with whole_file(str(self.folder / f"{name}.parquet")) as file:
            pq.write_table(columns, file)


class Journal:
    """Answers, a line each, on disk as soon as they are given; to be closed."""

    def __init__(self, path: Path, of: Mapping[str, str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                with open(path, "rb+") as file:
                    file.seek(0, os.SEEK_END)
                    end = file.tell()
                    while end:  # half a line of a killed run
                        start = max(0, end - 65536)
                        file.seek(start)
                        newline = file.read(end - start).rfind(b"\n")
                        if newline >= 0:
                            end = start + newline + 1
                            break
                        end = start
                    file.truncate(end)
            self._file = open(path, "ab")  # noqa: SIM115  # close() is ours
            if not self._file.tell():
                self._line(dict(of))
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}; check the folder and its space.") from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: str, made_of: Any, answer: Record) -> None:
        """Write one answer, which holds ``error`` (None for none), and what it was made of (JSON)."""
        self._line({"key": key, "made_of": made_of, "answer": answer})

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
    ]
)
"""Columns of ``clips.parquet``, ``trimmed.parquet`` and ``damaged.parquet``."""


def clip_record(row: Row, score: ClipScore, condition: str | None = None) -> Record:
    """Return the line of Parquet that holds a row and what was said of it."""
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
    }


SYNC_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("partner", pa.string()),
        *((name, pa.float64()) for name in ("seconds", "own", "foreign")),
        ("error", pa.string()),
    ]
)
"""Columns of ``sync.parquet``: P(fake) of sync with the ``own`` voice and with the ``partner``'s."""


def sync_record(answer: Record) -> Record:
    """Return the line of Parquet that holds the trials of one talking face (``judged.SyncAnswer`` as JSON)."""
    return {**answer["swap"], "error": answer["error"]}


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
        make_folder(str(self.folder))
        remove_parts(str(self.folder))

    def write(self, number: int, clips: Iterable[ClipFrames]) -> None:
        """Write part ``number``."""
        schema = FRAME_SCHEMA.with_metadata({_KEY: json.dumps(dict(self._of)).encode()})
        with whole_file(str(self._part(number))) as file:
            pq.write_table(pa.Table.from_batches(map(_columns, clips), FRAME_SCHEMA).cast(schema), file)

    def next_number(self) -> int:
        """Return the number of the next part."""
        return max((int(part.stem.split("-")[1]) for part in self.folder.glob("part-*.parquet")), default=0) + 1

    def prune(self, parts: Mapping[str, int]) -> None:
        """Drop what clips were judged before: the frames of those given that are in another part."""
        current = {_text(id_): number for id_, number in parts.items()}
        for file in sorted(self.folder.glob("part-*.parquet")):
            table = _read(file, self._of)
            number = int(file.stem.split("-")[1])
            keep = [current.get(id_, number) == number for id_ in table["id"].to_pylist()]
            if not all(keep):
                with whole_file(str(file)) as rewritten:
                    pq.write_table(table.filter(pa.array(keep)), rewritten)

    def read(self, parts: Mapping[str, int]) -> Iterator[ClipFrames]:
        """Yield the frames of the clips whose part is given by id, part by part."""
        ids = {_text(id_): id_ for id_ in parts}
        for number in sorted(set(parts.values())):
            part = self._part(number)
            if not part.is_file():
                raise StoreError(f"{part} is missing; delete {self.folder.parent} and evaluate again.")
            for clip in _clips(_read(part, self._of)):
                if clip.id in ids and parts[ids[clip.id]] == number:
                    yield replace(clip, id=ids[clip.id])

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"


def _text(name: str) -> str:
    """A name as Parquet takes it: file names that are no UTF-8 have their odd bytes escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _columns(clip: ClipFrames) -> pa.RecordBatch:
    length = len(clip.visual)
    if clip.evidence is None:
        sync = pa.nulls(length, FRAME_SCHEMA.field("sync").type)
    else:
        sync = pa.FixedSizeListArray.from_arrays(pa.array(clip.evidence.reshape(-1), pa.float16()), SHIFTS)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([_text(clip.id)] * length, pa.string()),
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
        alone = path.name in ("sync.journal", "damaged.journal")  # the rest of the folder does not depend on these
        raise StoreError(
            f"{path} holds scores that were made otherwise ({', '.join(differ) or 'other settings'}); choose another "
            f"out, or delete {path if alone else os.path.dirname(path)}."
        )
