"""Properties of the files of a clip that have nothing to do with whether it is fake: what an audit compares."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.filter import Graph
from numpy.typing import NDArray
from scipy.signal import welch

from avfake import FPS, SAMPLE_RATE
from avfake.engines import Died, EngineName, run
from avfake.faces import Backend, load_backend
from avfake.manifest import Row
from avfake.media import Frame, MediaError, MediaInfo, probe
from avfake.media.clock import StreamClock
from avfake.media.filters import filtered
from avfake.media.geometry import turn_of
from avfake.media.sound import SILENCE, AudioReader
from avfake.media.source import Source, stamp_of
from avfake.storage import StorageError, local_copy

FACE_FRAMES = 3
"""Pictures of a clip in which the face is looked for."""

_QUIETEST_DBFS = -120.0  # told for digital silence
_UNMEASURED_LUFS = -69.9  # ebur128 says -70 where nothing passes its absolute gate
_BAND_DB = 60.0
_ROLL_OFF = 0.99
_WINDOW_S = 0.04
_FEWEST_SAMPLES = 8  # of a window, however low a (damaged) sample rate is
_BLOCK_S = 10  # of sound that is transformed at once
_LEAP_S = 3600.0
_HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Property:
    """What a property is called for people.

    ``unit`` may be empty, ``digits`` are those after the point; properties of one ``family`` say much the same.
    """

    title: str
    unit: str = ""
    digits: int = 0
    family: str = ""


NUMBERS = {
    "leading_silence_s": Property("leading silence", "s", 2),
    "trailing_silence_s": Property("trailing silence", "s", 2),
    "duration_s": Property("duration", "s", 2, family="length"),
    "video_s": Property("picture length", "s", 2, family="length"),
    "audio_s": Property("sound length", "s", 2, family="length"),
    "audio_minus_video_s": Property("length difference", "s", 3),
    "start_gap_s": Property("start gap", "s", 3),
    "rms_dbfs": Property("loudness (RMS)", "dBFS", 1, family="loudness"),
    "loudness_lufs": Property("loudness (LUFS)", "LUFS", 1, family="loudness"),
    "rolloff_hz": Property("99 % roll-off", "Hz", family="band"),
    "bandwidth_hz": Property("bandwidth", "Hz", family="band"),
    "sample_rate_hz": Property("sample rate", "Hz", family="band"),
    "channels": Property("channels"),
    "audio_kbps": Property("audio bit rate", "kbit/s", 1),
    "video_kbps": Property("video bit rate", "kbit/s"),
    "fps": Property("frame rate", "fps", 2),
    "short_side_px": Property("short side", "px", family="size"),
    "area_px": Property("picture area", "px", family="size"),
    "aspect_ratio": Property("aspect ratio", "", 2),
    "face_px": Property("eye distance", "px", 1, family="face"),
    "face_share": Property("relative eye distance", "", 3, family="face"),
    "file_kb": Property("file size", "kB", 1, family="length"),
}
"""Properties that are numbers, by the name they have in ``Properties.numbers``."""

WORDS = {
    "streams": Property("streams"),
    "video_codec": Property("video codec", family="format"),
    "audio_codec": Property("audio codec", family="format"),
    "container": Property("container", family="format"),
    "pixel_format": Property("pixel format", family="format"),
    "encoder": Property("encoder tag", family="format"),
}
"""Properties that are words, by the name they have in ``Properties.words``."""


@dataclass(frozen=True)
class Properties:
    """What was measured of one row.

    ``id``       of the row.
    ``error``    why its files could not be read, in one sentence; None when they could. Then the rest is empty.
    ``name``     file name without folder and ending.
    ``numbers``  by the names of ``NUMBERS``; absent where there is nothing to measure (no sound, no face found).
    ``words``    by the names of ``WORDS``, likewise.
    ``content``  SHA-256 of the bytes of its file or files.
    ``sound``    SHA-256 of its decoded sound, 16-bit at 16 kHz; None without sound or where all of it is silent.
    """

    id: str
    error: str | None = None
    name: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    content: str = ""
    sound: str | None = None


def measure(row: Row) -> Properties:
    """Measure the files of one row. A file that cannot be read is told in ``error``, never raised.

    Sound is decoded whole, of the picture ``FACE_FRAMES`` frames are. Raises ``FaceError`` where FaceMesh is missing.
    """
    name = Path(row.video or row.audio or "").stem
    try:
        with local_copy(row.video or "") as video, local_copy(row.audio or "") as audio:
            return _measured(row.id, name, video or None, audio or None)
    except (MediaError, StorageError) as error:
        return Properties(row.id, error=str(error), name=name)
    except (av.FFmpegError, OSError) as error:  # damaged so that it opens but trips a filter, or a failing disk
        reason = f"{row.video or row.audio}: it cannot be measured ({error}); fetch it again or convert it."
        return Properties(row.id, error=reason, name=name)


def measure_all(
    rows: Sequence[Row],
    *,
    engine: EngineName = "local",
    workers: int = 0,
    told: Callable[[int], None] = lambda done: None,
) -> list[Properties]:
    """Measure all rows and return the results in their order; ``told`` hears how many are done.

    ``engine`` and ``workers`` are those of ``avfake.engines.run``.
    """
    found: dict[str, Properties] = {}
    for row, result in run(_worker, rows, engine=engine, workers=workers):
        found[row.id] = Properties(row.id, error=result.reason) if isinstance(result, Died) else result
        told(len(found))
    return [found[row.id] for row in rows]


def _worker() -> Callable[[Row], Properties]:
    return measure


@lru_cache(maxsize=1)
def _faces() -> Backend:
    return load_backend("facemesh")


def _measured(id_: str, name: str, video: str | None, audio: str | None) -> Properties:
    paths = [path for path in (video, audio) if path is not None]
    infos = {path: probe(path) for path in paths}
    if video is not None and infos[video].video is None:
        raise MediaError(f"{video}: the manifest says video, but it holds no picture; correct the row.")
    if audio is not None and infos[audio].audio is None:
        raise MediaError(f"{audio}: the manifest says audio, but it holds no sound; correct the row.")
    voice = audio or video
    assert voice is not None
    numbers: dict[str, float] = {"file_kb": sum(Path(path).stat().st_size for path in paths) / 1000}
    words = {"container": " + ".join(infos[path].container for path in paths)}
    sound: str | None = None
    if video is not None:
        _measure_video(video, infos[video], numbers, words)
    if infos[voice].audio is not None:
        sound = _measure_audio(voice, infos[voice], numbers, words)
    if "video_s" in numbers and "audio_s" in numbers:
        numbers["audio_minus_video_s"] = numbers["audio_s"] - numbers["video_s"]
    if video is not None and voice == video and (info := infos[video]).video and info.audio:
        numbers["start_gap_s"] = info.audio.start_s - info.video.start_s
    numbers["duration_s"] = max(numbers.get("video_s", 0.0), numbers.get("audio_s", 0.0))
    words["streams"] = " and ".join(kind for kind in ("video", "audio") if f"{kind}_codec" in words)
    words["encoder"] = " + ".join(_encoder(path) for path in paths)
    return Properties(
        id=id_,
        name=name,
        # A damaged file can tell of a rate or a length without bounds: that is no measurement.
        numbers={key: float(round(value, 6)) for key, value in numbers.items() if math.isfinite(value)},
        words=words,
        content=_content(paths),
        sound=sound,
    )


def _content(paths: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            for block in iter(partial(file.read, _HASH_BLOCK), b""):
                digest.update(block)
    return digest.hexdigest()


def _encoder(path: str) -> str:
    """Return what the file says it was written by; the tags of containers are where tool chains show."""
    with closing(av.open(f"file:{path}", metadata_errors="replace")) as container:
        tags = [container.metadata, *(stream.metadata for stream in container.streams)]
        # libav tells the tags of most formats in lower case, those of Matroska in upper case.
        found = [value for each in tags for key, value in each.items() if key.lower() == "encoder"]
    return ", ".join(dict.fromkeys(found)) or "none"


# Packets: what a stream weighs and how long it is, without decoding it.


@dataclass
class _Packets:
    size: int = 0
    start_s: float = math.inf
    end_s: float = -math.inf
    keys_s: list[float] = field(default_factory=list)

    @property
    def length_s(self) -> float:
        return max(0.0, self.end_s - self.start_s)

    def kbps(self, seconds: float) -> float:
        return self.size * 8 / 1000 / seconds


def _packets(path: str, kind: Literal["video", "audio"]) -> _Packets:
    found = _Packets()
    source = Source(path, kind, threads=1)
    with closing(source.container):
        packets = source.container.demux(source.stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, IndexError):  # damaged from here on, or what PyAV trips over at some ends
                return found
            if packet is None:
                return found
            found.size += packet.size
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                continue
            time = float(stamp * packet.time_base)
            found.start_s = min(found.start_s, time)
            found.end_s = max(found.end_s, time + float((packet.duration or 0) * packet.time_base))
            if packet.is_keyframe:
                found.keys_s.append(time)


# Video.


def _measure_video(path: str, info: MediaInfo, numbers: dict[str, float], words: dict[str, str]) -> None:
    assert info.video is not None
    packets = _packets(path, "video")
    words["video_codec"] = info.video.codec
    words["pixel_format"] = info.video.pixel_format
    width, height = info.video.width, info.video.height
    numbers["short_side_px"], numbers["area_px"] = min(width, height), width * height
    numbers["aspect_ratio"] = width / height
    if info.video.fps:
        numbers["fps"] = info.video.fps
    if packets.length_s:
        numbers["video_s"] = packets.length_s
        numbers["video_kbps"] = packets.kbps(packets.length_s)
    eyes = [found for frame in _few_frames(path, packets) if (found := _between_eyes(frame, _faces())) is not None]
    if eyes:
        numbers["face_px"] = float(np.median(eyes))
        numbers["face_share"] = numbers["face_px"] / min(width, height)


def _few_frames(path: str, packets: _Packets) -> Iterator[Frame]:
    """Yield evenly spaced pictures; only from the key frame before each of them on is anything decoded."""
    if not packets.length_s:
        return
    source = Source(path, "video", threads=1)
    with closing(source.container):
        aspect = source.stream.sample_aspect_ratio
        frames: Iterator[Any] = iter(())
        reached = -math.inf
        for target in packets.start_s + packets.length_s * (np.arange(FACE_FRAMES) + 0.5) / FACE_FRAMES:
            key = max((time for time in packets.keys_s if time <= target), default=None)
            if reached == -math.inf or (key is not None and key > reached):
                if key is not None:
                    with suppress(av.FFmpegError):  # some containers cannot seek: read on from where we are
                        source.container.seek(round(key / source.stream.time_base), stream=source.stream)
                frames = source.frames()
            picture = None
            for picture in frames:
                reached = stamp_of(picture) or 0.0
                if reached >= target:
                    break
            if picture is None:
                return
            yield Frame(picture, reached, turn_of(picture), float(aspect) if aspect and 0.1 < aspect < 10 else 1.0)


def _between_eyes(frame: Frame, faces: Backend) -> float | None:
    """Return the distance between the eyes of the largest face in pixels, None where there is no face."""
    found = faces.detect(frame)
    if not found:
        return None
    points, _ = faces.landmarks(frame, max((region for region, _ in found), key=lambda region: region.size))
    return float(np.linalg.norm(points[42:48].mean(0) - points[36:42].mean(0)))


# Audio.


def _measure_audio(path: str, info: MediaInfo, numbers: dict[str, float], words: dict[str, str]) -> str | None:
    """Add what the sound tells; return the hash of its samples."""
    assert info.audio is not None
    words["audio_codec"] = info.audio.codec
    numbers["sample_rate_hz"], numbers["channels"] = info.audio.sample_rate, info.audio.channels
    samples = _Samples()
    for block in at_16_khz(path):
        samples.add(block)
    if samples.count:
        seconds = samples.count / SAMPLE_RATE
        numbers["audio_s"] = seconds
        numbers["audio_kbps"] = _packets(path, "audio").kbps(seconds)
        numbers["leading_silence_s"] = samples.first / SAMPLE_RATE
        numbers["trailing_silence_s"] = (samples.count - samples.end) / SAMPLE_RATE
        power = samples.energy / samples.count
        numbers["rms_dbfs"] = max(_QUIETEST_DBFS, 10 * math.log10(power)) if power else _QUIETEST_DBFS
        if samples.lufs > _UNMEASURED_LUFS:
            numbers["loudness_lufs"] = samples.lufs
    frequencies, spectrum = _spectrum(path)
    if spectrum.any():
        energy = np.cumsum(spectrum)
        numbers["rolloff_hz"] = frequencies[np.searchsorted(energy, _ROLL_OFF * energy[-1])]
        numbers["bandwidth_hz"] = frequencies[np.flatnonzero(spectrum > spectrum.max() * 10 ** (-_BAND_DB / 10))[-1]]
    return samples.digest


class _Samples:
    """What 16 kHz sound tells while it passes: its memory does not grow with the duration."""

    def __init__(self) -> None:
        self.count = 0
        self.energy = 0.0
        self.lufs = -70.0
        self._first: int | None = None
        self.end = 0
        """Position after the last sample that is not silent."""
        self._hash = hashlib.sha256()
        self._meter = Graph()
        self._meter.threads = 1
        source = self._meter.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono")
        meter = self._meter.add("ebur128", "metadata=1:framelog=quiet")
        self._meter.link_nodes(source, meter, self._meter.add("abuffersink")).configure()

    @property
    def first(self) -> int:
        """Position of the first sample that is not silent; the end where all are."""
        return self.count if self._first is None else self._first

    @property
    def digest(self) -> str | None:
        return None if self._first is None else self._hash.hexdigest()

    def add(self, block: NDArray[np.float32]) -> None:
        loud = np.flatnonzero(np.abs(block) > SILENCE)
        if len(loud):
            if self._first is None:
                self._first = self.count + int(loud[0])
            self.end = self.count + int(loud[-1]) + 1
        self.energy += float(np.square(block, dtype=np.float64).sum())
        self._hash.update(np.round(block * 32767).astype("<i2").tobytes())
        frame = AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self.count
        self.count += len(block)
        for metered in filtered(self._meter, frame):
            self.lufs = float(metered.metadata["lavfi.r128.I"])


def leading_silence(path: str) -> float | None:
    """Return the seconds of a file's sound before the first that is not silent, all of it where none is.

    None without sound. As ``leading_silence_s`` of ``measure``, but decoding no more than it must.
    """
    count = 0
    for block in at_16_khz(path):
        loud = np.flatnonzero(np.abs(block) > SILENCE)
        if len(loud):
            return (count + int(loud[0])) / SAMPLE_RATE
        count += len(block)
    return count / SAMPLE_RATE if count else None


def at_16_khz(path: str) -> Iterator[NDArray[np.float32]]:
    """Yield the 16 kHz mono samples of the stream from its own first one on."""
    source = Source(path, "audio", threads=1)
    with closing(source.container):
        reader = AudioReader(source, StreamClock(_LEAP_S, []))
        if reader.first is None:
            return
        reader.begin(reader.first_s)
        index = 0
        while reader.reaches((index + 1) / FPS):
            yield reader.take(index)
            index += 1
        rest = round((reader.end_s - index / FPS) * SAMPLE_RATE)
        if rest:
            yield reader.take(index)[:rest]


def _spectrum(path: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (frequencies in Hz, mean power) of the mono sound at its own sample rate."""
    total, weight = np.zeros(1), 0
    frequencies = np.zeros(1)
    for rate, block in _blocks(path):
        window = max(_FEWEST_SAMPLES, 2 ** round(math.log2(_WINDOW_S * rate)))
        if len(block) < window:
            if weight:  # a rest that adds nothing
                continue
            block = np.pad(block, (0, window - len(block)))
        frequencies, power = welch(block, rate, nperseg=window, detrend=False)
        total = total + power * len(block)
        weight += len(block)
    return frequencies, np.asarray(total / max(weight, 1))


def _blocks(path: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (sample rate, finite mono samples) in blocks; what comes after a change of the rate is left out.

    In 64 bits, since damaged samples can be so large that their power is infinite in 32.
    """
    source = Source(path, "audio", threads=1)
    with closing(source.container):
        mono = AudioResampler(format="fltp", layout="mono")
        rate, pieces, length = 0, list[NDArray[np.float64]](), 0
        kept: tuple[Any, ...] | None = None
        for frame in source.frames():
            layout = (frame.sample_rate, frame.format.name, frame.layout.name)
            kept = kept or layout
            if layout != kept:
                break
            rate = frame.sample_rate
            for piece in mono.resample(frame):
                samples = piece.to_ndarray()[0].astype(np.float64)
                pieces.append(np.where(np.isfinite(samples), samples, 0))
                length += piece.samples
            if length >= _BLOCK_S * rate:
                yield rate, np.concatenate(pieces)
                pieces, length = [], 0
        if length:
            yield rate, np.concatenate(pieces)
