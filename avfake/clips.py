"""Clips: aligned lip crops and audio, cut from any video and kept as playable Matroska files.

``extract`` turns a decoded file into clips of at most a few seconds, so that memory does not grow with
duration; ``write_clip`` and ``read_clip`` keep one clip as one ``.mkv`` (JPEG pictures, FLAC sound, and an
attached JSON document with everything that is neither).
"""

from __future__ import annotations

import heapq
import io
import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, AvfakeError
from avfake.faces import CROP, Backend, TrackedFace, lip_crop, track_faces
from avfake.media import Decoder, MediaInfo, Tick
from avfake.storage import write_bytes

PREPROCESSING = 1
"""Version of everything between a file and its clips; raised whenever crops or audio change."""

DEMO_CLIP = Path(__file__).parent / "data" / "demo_clip.mkv"
"""A prepared clip that comes with avfake: 2.4 s of one face and its voice, out of ``data/demo.mp4``."""

MOUTH_POINTS = 20

_ATTACHMENT = "avfake-clip.json"
# With 4:4:4 sampling this keeps even noisy crops above 40 dB PSNR; 95 would drop them to 36 dB.
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


class ClipError(AvfakeError):
    """A clip file cannot be read."""


@dataclass(eq=False)
class Clip:
    """``T`` frames at 25 fps of one face with its sound, or of sound alone, or of lips alone.

    ``lips``     uint8 (T, 96, 96, 3) RGB, or None.
    ``audio``    float32 (640 * T,) in [-1, 1], 16 kHz mono, or None; not both None.
    ``mouth``    float32 (T, 20, 2): the mouth points in crop pixels (x, y), or None; only with ``lips``.
    ``face_ok``  bool (T,): whether the face was measured; where not, the crop before is repeated.
    ``start_s``  where the clip begins on the clock of its file, in seconds.
    ``track``    number of the face track within its file, or None.
    ``source``   JSON-able facts about where it comes from.

    Raises ``ValueError`` where shapes or types disagree.
    """

    lips: NDArray[np.uint8] | None
    audio: NDArray[np.float32] | None
    mouth: NDArray[np.float32] | None
    face_ok: NDArray[np.bool_]
    start_s: float = 0.0
    track: int | None = None
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.face_ok.ndim != 1 or self.face_ok.size == 0:
            raise ValueError(f"face_ok must be (T,) with T > 0, not {self.face_ok.shape}")
        if self.lips is None and self.audio is None:
            raise ValueError("a clip needs lips or audio")
        if self.lips is None and self.mouth is not None:
            raise ValueError("mouth needs lips")
        _check("face_ok", self.face_ok, (self.frames,), np.bool_)
        _check("lips", self.lips, (self.frames, CROP, CROP, 3), np.uint8)
        _check("audio", self.audio, (self.frames * SAMPLES_PER_FRAME,), np.float32)
        _check("mouth", self.mouth, (self.frames, MOUTH_POINTS, 2), np.float32)

    @property
    def frames(self) -> int:
        """Number of frames, T."""
        return len(self.face_ok)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / FPS


def _check(name: str, array: NDArray[Any] | None, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array is not None and (array.shape != shape or array.dtype != dtype):
        raise ValueError(f"{name} must be {dtype.__name__} {shape}, not {array.dtype} {array.shape}")


# ------------------------------------------------------------------------------------------- extraction


Follow = Callable[[Iterable[Tick], Backend], Iterator[tuple[Tick, list[TrackedFace]]]]


def extract(
    decoder: Decoder, backend: Backend | None, *, max_s: float = 10.0, follow: Follow | None = None
) -> Iterator[Clip]:
    """Yield the clips of a file by the time of their end, while it is decoded.

    Every face track is cut into clips of ``max_s`` seconds; a tail shorter than half of that is joined to the
    clip before, so that a clip is shorter than 1.5 ``max_s``. The stretches in which no face is tracked give
    clips of sound alone (``lips`` and ``track`` None), however short, so that the clips cover all of the
    sound; a file without sound gives none of those. A track begins at its first measured face; later frames
    without a measured one repeat the crop before.

    ``backend`` None means that faces are not looked for; a file without video needs none. ``follow`` takes the place of
    ``track_faces`` (see ``faces.FaceRecord``).
    Raises ``MediaError`` when decoding fails and ``ValueError`` when ``max_s`` is shorter than a frame.
    """
    chunk_ticks = int(max_s * FPS + 1e-6)
    if chunk_ticks < 1:
        raise ValueError(f"max_s must be at least {1 / FPS} s, not {max_s}")
    facts = _facts(decoder.info, backend)
    runs: dict[int | None, _Run] = {}
    finished: list[tuple[int, int, Clip]] = []  # a heap by end tick; no two clips share end and track

    def finish(run: _Run, chunk: _Chunk) -> None:
        track = -1 if run.track is None else run.track
        heapq.heappush(finished, (chunk.end, track, chunk.clip(run.track, facts)))

    for tick, faces in _with_faces(decoder, backend, follow):
        # A run, once begun, lives on through frames in which its face is not measured.
        present: dict[int | None, TrackedFace | None] = {
            face.track: face for face in faces if face.track in runs or (face.ok and tick.frame is not None)
        }
        if not present and tick.audio is not None:
            present[None] = None
        for track in [track for track in runs if track not in present]:
            run = runs.pop(track)
            for chunk in run.close():
                finish(run, chunk)
        for track, face in present.items():
            run = runs.setdefault(track, _Run(track, chunk_ticks))
            for chunk in run.add(tick, face):
                finish(run, chunk)
        # Whatever a run still holds back ends before its open chunk does, so later clips wait for it.
        wait = min((run.held.end for run in runs.values() if run.held is not None), default=tick.index + 1)
        while finished and finished[0][0] <= wait:
            yield heapq.heappop(finished)[2]
    for run in runs.values():
        for chunk in run.close():
            finish(run, chunk)
    while finished:
        yield heapq.heappop(finished)[2]


def quantise_audio(audio: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return float samples in [-1, 1] on the 16-bit grid, k / 32768: what a clip file gives back, exactly.

    Extraction does this too, so that detection from a file and from a prepared clip hear the same samples.
    """
    return _to_int16(audio).astype(np.float32) / np.float32(32768)


def _to_int16(audio: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    samples: NDArray[np.int16] = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
    return samples


def _with_faces(
    decoder: Decoder, backend: Backend | None, follow: Follow | None
) -> Iterator[tuple[Tick, list[TrackedFace]]]:
    if backend is not None and decoder.info.video is not None:
        yield from (track_faces if follow is None else follow)(decoder, backend)
    else:
        for tick in decoder:
            yield tick, []


def _facts(info: MediaInfo, backend: Backend | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": info.path, "container": info.container, "preprocessing": PREPROCESSING}
    if info.video is not None:
        facts |= {
            "video_codec": info.video.codec,
            "fps": info.video.fps,
            "width": info.video.width,
            "height": info.video.height,
            "rotation": info.video.rotation,
            "backend": None if backend is None else backend.name,
        }
    if info.audio is not None:
        facts |= {
            "audio_codec": info.audio.codec,
            "sample_rate": info.audio.sample_rate,
            "channels": info.audio.channels,
        }
    return facts


@dataclass
class _Chunk:
    """Consecutive ticks, not yet stacked into arrays."""

    start: int
    lips: list[NDArray[np.uint8]] = field(default_factory=list)
    mouth: list[NDArray[np.float32]] = field(default_factory=list)
    audio: list[NDArray[np.float32]] = field(default_factory=list)
    face_ok: list[bool] = field(default_factory=list)
    face_px: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.face_ok)

    @property
    def end(self) -> int:
        return self.start + len(self)

    def extend(self, other: _Chunk) -> None:
        self.lips += other.lips
        self.mouth += other.mouth
        self.audio += other.audio
        self.face_ok += other.face_ok
        self.face_px += other.face_px

    def clip(self, track: int | None, facts: dict[str, Any]) -> Clip:
        source = dict(facts)
        if self.lips:
            source["face_px"] = round(statistics.median(self.face_px), 2) if self.face_px else None
        return Clip(
            lips=np.stack(self.lips) if self.lips else None,
            audio=quantise_audio(np.concatenate(self.audio)) if self.audio else None,
            mouth=np.stack(self.mouth) if self.mouth else None,
            face_ok=np.array(self.face_ok, dtype=bool),
            start_s=self.start / FPS,
            track=track,
            source=source,
        )


class _Run:
    """The unbroken ticks of one track, or of no track, cut into chunks.

    ``held`` is the last full chunk, held back until it is sure that no short tail has to be joined to it.
    """

    def __init__(self, track: int | None, chunk_ticks: int) -> None:
        self.track = track
        self.held: _Chunk | None = None
        self._chunk_ticks = chunk_ticks
        self._open: _Chunk | None = None
        self._crop: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None

    def add(self, tick: Tick, face: TrackedFace | None) -> Iterator[_Chunk]:
        """Append one tick; yield the chunk, if any, that this settles."""
        if self._open is None:
            self._open = _Chunk(tick.index)
        elif len(self._open) == self._chunk_ticks:
            self.held, self._open = self._open, _Chunk(tick.index)
        self._append(self._open, tick, face)
        if self.held is not None and 2 * len(self._open) >= self._chunk_ticks:
            settled, self.held = self.held, None
            yield settled

    def close(self) -> Iterator[_Chunk]:
        """Yield what is left."""
        if self._open is None:
            return
        if self.held is not None:
            self.held.extend(self._open)
            yield self.held
        else:
            yield self._open

    def _append(self, chunk: _Chunk, tick: Tick, face: TrackedFace | None) -> None:
        measured = False
        if face is not None and face.ok and tick.frame is not None:
            measured = True
            self._crop = lip_crop(tick.frame, face)
            chunk.face_px.append(face.size_px)
        if self._crop is not None:
            chunk.lips.append(self._crop[0])
            chunk.mouth.append(self._crop[1])
        if tick.audio is not None:
            chunk.audio.append(tick.audio)
        chunk.face_ok.append(measured)


# ---------------------------------------------------------------------------------------------- files


def write_clip(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write a clip as one Matroska file, whole or not at all.

    Lips are kept as JPEG (quality 98, 4:4:4, above 40 dB PSNR), audio exactly if it is on the 16-bit grid
    (see ``quantise_audio``), mouth points within 0.005 px. The same clip gives the same bytes.
    Raises ``StorageError`` when the file cannot be written.
    """
    write_bytes(os.fspath(path), encode_clip(clip))


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Read a clip written by ``write_clip``.

    Raises ``ClipError`` when the file is missing, damaged, not a clip, or of another preprocessing version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ClipError(f"{path} cannot be read: {error.strerror}; check the path.") from error
    return decode_clip(data, str(path))


def encode_clip(clip: Clip) -> bytes:
    """Return the bytes of a clip file; see ``write_clip``."""
    header = {
        "preprocessing": PREPROCESSING,
        "start_s": clip.start_s,
        "track": clip.track,
        "source": clip.source,
        "face_ok": clip.face_ok.astype(int).tolist(),
        "mouth": None if clip.mouth is None else np.round(clip.mouth.astype(float), 2).tolist(),
    }
    file = io.BytesIO()
    # bitexact leaves out the random identifiers that would make every file differ.
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        container.add_attachment(_ATTACHMENT, "application/json", json.dumps(header, allow_nan=False).encode())
        if clip.lips is not None:
            video = container.add_mux_stream("mjpeg", rate=FPS, width=CROP, height=CROP)
        if clip.audio is not None:
            audio = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
            samples = _to_int16(clip.audio).reshape(clip.frames, 1, SAMPLES_PER_FRAME)
        for index in range(clip.frames):
            if clip.lips is not None:
                packet = av.Packet(_jpeg(clip.lips[index]))
                packet.stream = video
                packet.time_base = Fraction(1, FPS)
                packet.pts = packet.dts = index
                packet.duration = 1
                packet.is_keyframe = True
                container.mux(packet)
            if clip.audio is not None:
                frame = av.AudioFrame.from_ndarray(samples[index], format="s16", layout="mono")
                frame.sample_rate = SAMPLE_RATE
                frame.pts = index * SAMPLES_PER_FRAME
                container.mux(audio.encode(frame))
        if clip.audio is not None:
            container.mux(audio.encode(None))
    return file.getvalue()


def decode_clip(data: bytes, name: str = "clip", *, start: int = 0, end: int | None = None, lips: bool = True) -> Clip:
    """Return the clip in the bytes of a clip file, which errors call ``name``; see ``read_clip``.

    With ``start`` and ``end``, frames ``start`` to ``end`` (exclusive) alone, for which no other is decompressed;
    without ``lips`` the sound alone. Raises ``ClipError`` where there is none.
    """
    try:
        with av.open(io.BytesIO(data), "r") as container:
            attached = [stream.data for stream in container.streams.attachments if stream.name == _ATTACHMENT]
            if not attached:
                raise ClipError(
                    f"{name} is not a clip made by avfake (it holds no {_ATTACHMENT}); "
                    "delete the folder of prepared clips and let it be made again."
                )
            header = json.loads(attached[0])
            if header["preprocessing"] != PREPROCESSING:
                raise ClipError(
                    f"{name} was made by preprocessing version {header['preprocessing']}, "
                    f"and this avfake reads version {PREPROCESSING}; "
                    "delete the folder of prepared clips and let it be made again."
                )
            pictures, audio = _decode_streams(container, slice(start, end), lips)
        return Clip(
            lips=pictures,
            audio=audio,
            mouth=None
            if header["mouth"] is None or not lips
            else np.array(header["mouth"][start:end], dtype=np.float32),
            face_ok=np.array(header["face_ok"][start:end], dtype=bool),
            start_s=header["start_s"] + start / FPS,
            track=header["track"],
            source=header["source"],
        )
    except (av.FFmpegError, cv2.error, ValueError, KeyError, TypeError) as error:
        raise ClipError(f"{name} is not a whole clip ({error}); delete it and let it be made again.") from error


def _decode_streams(
    container: av.container.InputContainer, frames: slice, with_lips: bool
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    pictures: list[bytes] = []
    samples: list[NDArray[np.int16]] = []
    for packet in container.demux(*container.streams.video, *container.streams.audio):
        if packet.stream.type == "audio":
            decoded = [frame for frame in packet.decode() if isinstance(frame, av.AudioFrame)]
            samples += [frame.to_ndarray()[0] for frame in decoded]
        elif packet.size and with_lips:
            pictures.append(bytes(packet))
    lips = np.stack([_rgb(picture) for picture in pictures[frames]]) if pictures else None
    if not samples:
        return lips, None
    end = None if frames.stop is None else frames.stop * SAMPLES_PER_FRAME
    sound = np.concatenate(samples)[frames.start * SAMPLES_PER_FRAME : end]
    return lips, sound.astype(np.float32) / np.float32(32768)


def _jpeg(crop: NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), _JPEG)
    if not encoded:
        raise RuntimeError("OpenCV was built without JPEG")
    return bytes(data)


def _rgb(jpeg: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a picture does not decode")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
