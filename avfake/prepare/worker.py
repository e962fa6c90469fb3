"""One shard: every row's clips are cut, or copied from where an earlier run left them."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import cv2

from avfake import FPS, AvfakeError
from avfake.clips import Clip, Follow, encode_clip, extract
from avfake.faces import Backend, FaceError, FaceRecord, load_backend, track_faces
from avfake.manifest import Row
from avfake.media import Decoder, MediaError
from avfake.prepare.plan import Job, PrepareError, digest
from avfake.samples import opened
from avfake.shards import INDEX_SCHEMA, PREPARED, Entry, ShardError, ShardWriter, dumps, read_index
from avfake.storage import StorageError, join, read_bytes, remove, sha256, stamp, whole_file, write_bytes

log = logging.getLogger(__name__)


@dataclass
class Summary:
    """What shards hold.

    ``duration_s`` is the length of the rows' media, ``kept_s`` that of their clips, ``lost_s`` the part of the clips in
    which the face was not measured; ``faces_of_original`` counts the rows whose faces are their original's.
    """

    rows: int = 0
    clips: int = 0
    failed: int = 0
    bytes: int = 0
    duration_s: float = 0.0
    kept_s: float = 0.0
    lost_s: float = 0.0
    faces_of_original: int = 0

    def add(self, other: Summary) -> None:
        """Count another's, too."""
        for name, value in asdict(other).items():
            setattr(self, name, round(getattr(self, name) + value, 3))


class Done(NamedTuple):
    """One shard of the plan, made or found. ``made`` counts the rows worked on this time, ``made_s`` their media."""

    name: str
    summary: Summary
    failures: list[dict[str, Any]]
    made: int = 0
    made_s: float = 0.0


Record = dict[str, Any]
"""What a shard's index says of one row: ``id, row, files, failure, passing, faces, duration_s, kept_s, lost_s, clips``.

``files`` holds (address, size in bytes, time of change, SHA-256) of each file, the last three null where it cannot be
read; ``passing`` says that the failure may have gone by next time; ``clips`` are entries (see ``shards.Entry``).
"""


class Worker:
    """Makes shards, one after the other, in one process."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)  # the workers are the threads
        self._backend: Backend | None = None
        self._followed: tuple[str, FaceRecord | None] = "", None
        """Id of the row whose faces were followed last, and these faces."""

    def __call__(self, job: Job) -> Done:
        """Make a shard, or find it made. Raises ``AvfakeError`` where that cannot go on."""
        found = self._found(job)
        if job.trial:
            for row in job.rows:
                if row.id not in found:
                    self._make(job, row)
            return Done(job.name, Summary(), [])
        tar = join(job.out, f"{job.name}.tar")
        if all(name == job.name for name, _ in found.values()) and len(found) == len(job.rows):
            records = [found[row.id][1] for row in job.rows]
            size = stamp(tar)
            assert size is not None
            return _done(job.name, records, size[0])
        records, made, made_s = [], 0, 0.0
        with whole_file(tar) as file:
            shard = ShardWriter(file)
            for row in job.rows:
                if row.id in found:
                    name, record = found[row.id]
                    source = join(job.out, f"{name}.tar")
                    entries = [Entry.from_dict(clip) for clip in record["clips"]]
                    clips = [(e, read_bytes(source, e.offset, e.offset + e.size)) for e in entries]
                else:
                    record, clips = self._make(job, row)
                    made, made_s = made + 1, made_s + record["duration_s"]
                added = [shard.add(entry, data).to_dict() for entry, data in clips]
                records.append(record | {"clips": added})
            shard.close()
            size_bytes = file.tell()
            # Who is killed between here and the new index leaves a tar that counts for nothing, never a wrong index.
            remove(join(job.out, PREPARED))
            remove(join(job.out, f"{job.name}.json"))
        index = {
            "schema": INDEX_SCHEMA,
            "manifest": job.manifest,
            "settings": asdict(job.settings),
            "bytes": size_bytes,
            "rows": records,
        }
        write_bytes(join(job.out, f"{job.name}.json"), dumps(index, indent=1) + b"\n")
        return _done(job.name, records, size_bytes, made, made_s)

    def _found(self, job: Job) -> dict[str, tuple[str, Record]]:
        """By row id, the shard that holds what would be made again, and its record."""
        found: dict[str, tuple[str, Record]] = {}
        for name in sorted({job.name}.union(*job.elsewhere.values())):
            size = stamp(join(job.out, f"{name}.tar"))
            if size is None or stamp(join(job.out, f"{name}.json")) is None:
                continue
            try:
                index = read_index(job.out, name)
            except ShardError as error:
                log.warning("%s", error)
                continue
            if index["bytes"] != size[0] or index["settings"] != asdict(job.settings):
                continue
            records = {record["id"]: record for record in index["rows"]}
            for row in job.rows:
                if row.id in records and row.id not in job.deadly and self._holds(job, row, records[row.id]):
                    found[row.id] = name, records[row.id]
        return found

    def _holds(self, job: Job, row: Row, record: Record) -> bool:
        """Whether a record says what would come out again."""
        if record["passing"] or record["row"] != json.loads(json.dumps(asdict(row))):
            return False
        addresses = _addresses(job, row)
        if [file[0] for file in record["files"]] != addresses:
            return False
        for address, size, changed, content in record["files"]:
            now = stamp(address)
            if now is None and content is not None:
                log.warning("%s is not there now; the clips that were made of it are kept.", address)
            elif ((now or (None, None)) != (size, changed) or changed == "") and (
                now is None or sha256(address) != content
            ):
                return False
        return True

    # ----------------------------------------------------------------------------------------------- one row

    def _make(self, job: Job, row: Row) -> tuple[Record, list[tuple[Entry, bytes]]]:
        """Return what came of a row, and its clips."""
        record: Record = {"id": row.id, "row": asdict(row), "files": [], "failure": None, "passing": False}
        record |= {"faces": None, "duration_s": 0.0, "kept_s": 0.0, "lost_s": 0.0}
        pieces: list[_Piece] = []
        if row.id in job.deadly:  # not to be touched
            reason = f"{row.video or row.audio}: no worker survives it ({job.deadly[row.id]})."
            return record | {"failure": reason, "passing": True}, []
        try:
            record["files"] = [_file(address) for address in _addresses(job, row)]
            pieces = self._extract(job, row, record)
        except FaceError:  # no row would fare better
            raise
        except AvfakeError as error:
            record |= {"failure": str(error), "passing": isinstance(error, StorageError)}
        except Exception as error:  # days of other rows may hang on this run
            log.exception("%s: an error inside avfake", row.id)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            record |= {"failure": f"{row.video or row.audio}: avfake itself failed ({reason}).", "passing": True}
        made_of = digest(json.dumps([row.id, [file[3] for file in record["files"]], asdict(job.settings)]))
        return record, [
            (_entry(f"{made_of}-{number:03d}", row, piece), piece.data) for number, piece in enumerate(pieces)
        ]

    def _extract(self, job: Job, row: Row, record: Record) -> list[_Piece]:
        """Return the clips of the main face, or of the sound where the row has no video; fill in the record."""
        path = row.video or row.audio  # not that of a local copy
        with opened(row) as decoder:
            if row.video is None:
                pieces = [_piece(clip, path) for clip in extract(decoder, None)]
            elif decoder.info.video is None:
                raise PrepareError(f"{row.video}: it has no picture, though the manifest says so; correct that.")
            else:
                own = FaceRecord(decoder.info)
                follow, record["faces"] = self._follow(job, row, decoder, own)
                clips = extract(decoder, self._faces(job), follow=follow)
                pieces = _main_face(_piece(clip, path) for clip in clips if clip.lips is not None)
                if follow == own.follow:
                    self._followed = row.id, own
                if not pieces:
                    raise PrepareError(f"{row.video}: no face was found in it; check the file, or leave it out.")
            record["duration_s"] = round(decoder.decoded_s, 3)
        record["kept_s"] = round(sum(piece.frames for piece in pieces) / FPS, 3)
        record["lost_s"] = round(sum(piece.frames - piece.measured for piece in pieces if piece.has_lips) / FPS, 3)
        return pieces

    def _faces(self, job: Job) -> Backend:
        if self._backend is None:
            self._backend = load_backend(job.settings.faces)
        return self._backend

    def _follow(
        self, job: Job, row: Row, decoder: Decoder, own: FaceRecord
    ) -> tuple[Follow, Literal["own", "original"]]:
        """Choose whose faces a file is given; those of an original are kept in ``own`` for its fakes."""
        if not job.settings.faces_of_original:
            return track_faces, "own"
        original = _original(job, row)
        if original is None:
            return own.follow, "own"
        record = self._record_of(job, original)
        if record is not None and record.fits(decoder.info):
            return record.replay, "original"
        return track_faces, "own"

    def _record_of(self, job: Job, original: Row) -> FaceRecord | None:
        """Return the faces of an original, None where it cannot be read."""
        if self._followed[0] != original.id:
            self._followed = original.id, None
            with suppress(MediaError, StorageError), opened(original) as decoder:
                record = FaceRecord(decoder.info)
                for _ in record.follow(decoder, self._faces(job)):
                    pass
                self._followed = original.id, record
        return self._followed[1]


def _done(name: str, records: Sequence[Record], size: int, made: int = 0, made_s: float = 0.0) -> Done:
    summary = Summary(rows=len(records), bytes=size)
    for record in records:
        summary.clips += len(record["clips"])
        summary.failed += record["failure"] is not None
        summary.faces_of_original += record["faces"] == "original"
        summary.add(Summary(duration_s=record["duration_s"], kept_s=record["kept_s"], lost_s=record["lost_s"]))
    failures = [
        {"id": record["id"], "files": [file[0] for file in record["files"]], "reason": record["failure"]}
        for record in records
        if record["failure"] is not None
    ]
    return Done(name, summary, failures, made, made_s)


def _original(job: Job, row: Row) -> Row | None:
    """Return the row of a fake's original, where its faces are to be used and it is a video of this manifest."""
    if not job.settings.faces_of_original or row.original is None or row.video is None:
        return None
    known = {other.id: other for other in job.rows} | job.originals
    original = known.get(row.original)
    return original if original is not None and original.video is not None else None


def _addresses(job: Job, row: Row) -> list[str]:
    """Return the files that decide over a row's clips."""
    original = _original(job, row)
    rows = [row] if original is None else [row, original]
    return [address for one in rows for address in (one.video, one.audio) if address is not None]


def _file(address: str) -> tuple[str, int | None, str | None, str | None]:
    found = stamp(address)
    return (address, None, None, None) if found is None else (address, *found, sha256(address))


class _Piece(NamedTuple):
    """One clip, encoded, and what is told of it; whole clips of a long video would fill the memory."""

    data: bytes
    start_s: float
    frames: int
    measured: int
    """Frames in which the face was measured."""
    track: int | None
    has_lips: bool
    has_audio: bool


def _piece(clip: Clip, path: str | None) -> _Piece:
    clip.source["path"] = path
    measured = int(clip.face_ok.sum())
    lips, audio = clip.lips is not None, clip.audio is not None
    return _Piece(encode_clip(clip), clip.start_s, clip.frames, measured, clip.track, lips, audio)


def _main_face(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Return the clips of the face that is measured for longest: whom the labels of a row speak of."""
    tracks: dict[int | None, list[_Piece]] = defaultdict(list)
    for piece in pieces:
        tracks[piece.track].append(piece)
    return max(tracks.values(), key=lambda parts: sum(piece.measured for piece in parts), default=[])


def _entry(key: str, row: Row, piece: _Piece) -> Entry:
    """Return the entry of a clip that is not yet in a shard; what a missing stream would be labelled is not known."""
    cut = row.cut(piece.start_s, piece.start_s + piece.frames / FPS)
    labels, segments = cut.labels, cut.segments
    if not piece.has_audio:
        labels, segments = replace(labels, audio=None, sync=None), replace(segments, audio=(), sync=())
    if not piece.has_lips:
        labels, segments = replace(labels, visual=None, sync=None), replace(segments, visual=(), sync=())
    cut = replace(cut, labels=labels, segments=segments)
    return Entry(key, 0, 0, piece.frames, piece.has_lips, piece.has_audio, cut)
