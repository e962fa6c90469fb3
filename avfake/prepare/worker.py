"""One shard: every row's clips are cut, or copied from where an earlier run left them."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import cv2

from avfake import FPS, AvfakeError
from avfake.clips import Clip, Follow, encode_clip, extract
from avfake.faces import Backend, FaceError, FaceRecord, load_backend, track_faces
from avfake.manifest import Row
from avfake.media import Decoder, MediaError
from avfake.prepare.plan import Job, PrepareError, digest
from avfake.shards import INDEX_SCHEMA, Entry, ShardError, ShardWriter, read_index, write_index
from avfake.storage import StorageError, join, local_copy, read_bytes, sha256, stamp, whole_file, write_bytes

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
    """One shard of the plan, made or found. ``made`` counts the rows that were worked on this time."""

    name: str
    summary: Summary
    failures: list[dict[str, Any]]
    made: int


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
        if job.trial:
            for row in job.rows:
                self._make(job, row)
            return Done(job.name, Summary(), [], len(job.rows))
        found = self._found(job)
        tar = join(job.out, f"{job.name}.tar")
        if all(name == job.name for name, _ in found.values()) and len(found) == len(job.rows):
            records = [found[row.id][1] for row in job.rows]
            size = stamp(tar)
            assert size is not None
            return _done(job.name, records, size[0], 0)
        records = []
        with whole_file(tar) as file:
            shard = ShardWriter(file)
            for row in job.rows:
                if row.id in found:
                    name, record = found[row.id]
                    entries = [Entry.from_dict(clip) for clip in record["clips"]]
                    source = join(job.out, f"{name}.tar")
                    copies = [(e, read_bytes(source, e.offset, e.offset + e.size)) for e in entries]
                    clips = [shard.add(replace(entry, size=len(data)), data) for entry, data in copies]
                else:
                    record, made = self._make(job, row)
                    clips = [shard.add(entry, data) for entry, data in made]
                records.append(record | {"clips": [clip.to_dict() for clip in clips]})
            shard.close()
            size_bytes = file.tell()
        index = {
            "schema": INDEX_SCHEMA,
            "manifest": job.manifest,
            "settings": asdict(job.settings),
            "bytes": size_bytes,
            "rows": records,
        }
        write_bytes(join(job.out, f"{job.name}.json"), write_index(index))
        return _done(job.name, records, size_bytes, len(job.rows) - len(found))

    def _found(self, job: Job) -> dict[str, tuple[str, Record]]:
        """By row id, the shard that holds what would be made again, and its record."""
        found: dict[str, tuple[str, Record]] = {}
        for name in sorted({job.name, *job.elsewhere.values()}):
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
        for address, *known in record["files"]:
            now = stamp(address)
            if list(now or (None, None)) != known[:2] and (now is None or sha256(address) != known[2]):
                return False
        return True

    # ----------------------------------------------------------------------------------------------- one row

    def _make(self, job: Job, row: Row) -> tuple[Record, list[tuple[Entry, bytes]]]:
        """Return what came of a row, and its clips."""
        record: Record = {"id": row.id, "row": asdict(row), "files": [], "failure": None, "passing": False}
        record |= {"faces": None, "duration_s": 0.0, "kept_s": 0.0, "lost_s": 0.0}
        clips: list[Clip] = []
        if row.id in job.deadly:  # not to be touched
            reason = f"{row.video or row.audio}: no worker survives it ({job.deadly[row.id]})."
            return record | {"failure": reason, "passing": True}, []
        try:
            record["files"] = [_file(address) for address in _addresses(job, row)]
            clips = self._extract(job, row, record)
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
            (_entry(f"{made_of}-{number:03d}", row, clip), encode_clip(clip)) for number, clip in enumerate(clips)
        ]

    def _extract(self, job: Job, row: Row, record: Record) -> list[Clip]:
        """Return the clips of the main face, or of the sound where the row has no video; fill in the record."""
        with _opened(row) as decoder:
            if row.video is None:
                clips = list(extract(decoder, None))
            elif decoder.info.video is None:
                raise PrepareError(
                    f"{row.video}: it has no picture, though the manifest says so; correct the manifest."
                )
            else:
                follow, record["faces"] = self._follow(job, row, decoder)
                clips = _main_face(extract(decoder, self._faces(job), follow=follow))
                if not clips:
                    raise PrepareError(f"{row.video}: no face was found in it; check the file, or leave it out.")
            record["duration_s"] = round(decoder.decoded_s, 3)
        for clip in clips:
            clip.source["path"] = row.video or row.audio  # not that of a local copy
        record["kept_s"] = round(sum(clip.duration_s for clip in clips), 3)
        record["lost_s"] = round(sum(int((~c.face_ok).sum()) for c in clips if c.lips is not None) / FPS, 3)
        return clips

    def _faces(self, job: Job) -> Backend:
        if self._backend is None:
            self._backend = load_backend(job.settings.faces)
        return self._backend

    def _follow(self, job: Job, row: Row, decoder: Decoder) -> tuple[Follow, Literal["own", "original"]]:
        """Choose whose faces a file is given."""
        if not job.settings.faces_of_original:
            return track_faces, "own"
        if (original := _original(job, row)) is not None:
            record = self._record_of(job, original)
            if record is not None and record.fits(decoder.info):
                return record.replay, "original"
            return track_faces, "own"
        record = FaceRecord(decoder.info)
        self._followed = row.id, record
        return record.follow, "own"

    def _record_of(self, job: Job, original: Row) -> FaceRecord | None:
        """Return the faces of an original, None where it cannot be read."""
        if self._followed[0] != original.id:
            self._followed = original.id, None
            with suppress(MediaError, StorageError), _opened(original) as decoder:
                record = FaceRecord(decoder.info)
                for _ in record.follow(decoder, self._faces(job)):
                    pass
                self._followed = original.id, record
        return self._followed[1]


def _done(name: str, records: Sequence[Record], size: int, made: int) -> Done:
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
    return Done(name, summary, failures, made)


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
    own = [address for address in (row.video, row.audio) if address is not None]
    return own if original is None else [*own, str(original.video)]


def _file(address: str) -> tuple[str, int | None, str | None, str | None]:
    found = stamp(address)
    return (address, None, None, None) if found is None else (address, *found, sha256(address))


@contextmanager
def _opened(row: Row) -> Iterator[Decoder]:
    """Open the media of a row; errors name its files, not local copies of them."""
    with ExitStack() as stack:
        addresses = [address for address in (row.video, row.audio) if address is not None]
        paths = [stack.enter_context(local_copy(address)) for address in addresses]
        try:
            decoder = Decoder(paths[0], sound=paths[1] if len(paths) == 2 else None)
            stack.callback(decoder.close)
            yield decoder
        except MediaError as error:
            text = str(error)
            for path, address in zip(paths, addresses, strict=True):
                text = text.replace(path, address)
            raise MediaError(text) from error


def _main_face(clips: Iterable[Clip]) -> list[Clip]:
    """Return the clips of the face that is measured for longest: whom the labels of a row speak of."""
    tracks: dict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.track is not None:
            tracks[clip.track].append(clip)
    return max(tracks.values(), key=lambda parts: sum(int(clip.face_ok.sum()) for clip in parts), default=[])


def _entry(key: str, row: Row, clip: Clip) -> Entry:
    """Return the entry of a clip that is not yet in a shard; what a missing stream would be labelled is not known."""
    cut = row.cut(clip.start_s, clip.start_s + clip.duration_s)
    labels, segments = cut.labels, cut.segments
    if clip.audio is None:
        labels, segments = replace(labels, audio=None, sync=None), replace(segments, audio=(), sync=())
    if clip.lips is None:
        labels, segments = replace(labels, visual=None, sync=None), replace(segments, visual=(), sync=())
    cut = replace(cut, labels=labels, segments=segments)
    return Entry(key, 0, 0, clip.frames, clip.lips is not None, clip.audio is not None, cut)
