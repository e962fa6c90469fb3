"""One streaming decode pass: pictures on the 25 fps grid and 16 kHz mono audio on the same clock.

    >>> for tick in Decoder("clip.mp4"):
    ...     tick.frame, tick.audio

t = 0 is the earliest decoded presentation time stamp of the two streams, and everything is placed by time
stamps, never by counting frames. Each stream has its own demuxer, read in lock-step, so that memory does not
grow with the duration nor with how badly a file is interleaved. Pictures stay in the pixel format they were
coded in: ``Frame.sample`` converts only what it cuts out.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, BinaryIO, Generic, Literal, NamedTuple, TypeVar

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.filter import Graph
from av.format import Flags
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, AvfakeError

THUMBNAIL = (32, 18)
"""Width and height of ``Frame.thumbnail``."""

_TICK_S = 1 / FPS
_EPS_S = 1e-6
_LEAD_S = 0.1  # a picture replaces its predecessor at most this early
_GAP_S = 0.04  # audio time stamps may jitter by this much before silence is inserted or samples are dropped
_LEAP_S = 3600.0  # no genuine stream is silent for longer: a leap of the time stamps
_LEAP_TS_S = 10.0  # the same in formats whose time stamps may restart (MPEG-TS, MPEG-PS)

_Array = NDArray[np.uint8]
_Item = TypeVar("_Item")


class MediaError(AvfakeError):
    """A file that cannot be read as media: one sentence with the file, the stream and the cure."""


@dataclass(frozen=True)
class VideoInfo:
    """The video stream that is used; times in seconds on the clip clock, sizes of the upright picture."""

    codec: str
    width: int
    """Pixels, after rotation, with square pixels."""
    height: int
    fps: float
    """Average rate by the header; 0 where it is not told."""
    rotation: int
    """Degrees clockwise (0, 90, 180, 270) by which the stored picture is turned for display."""
    start_s: float
    duration_s: float | None
    pixel_format: str
    interlaced: bool


@dataclass(frozen=True)
class AudioInfo:
    """The audio stream that is used; times in seconds on the clip clock."""

    codec: str
    sample_rate: int
    channels: int
    start_s: float
    duration_s: float | None


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds; ``video`` or ``audio`` is None where there is no such stream that can be decoded."""

    path: str
    container: str
    duration_s: float | None
    """Length told by the header."""
    video: VideoInfo | None
    audio: AudioInfo | None


# -------------------------------------------------------------------------------------------- time arithmetic


def shown_from(previous_s: float, time_s: float) -> float:
    """Time from which a picture is shown instead of its predecessor: nearest in time, at most 0.1 s early.

    So rates from 5 fps up are nearest-neighbour, and over longer gaps the old picture is held.
    """
    return time_s - min((time_s - previous_s) / 2, _LEAD_S)


def tick_count(end_s: float) -> int:
    """Ticks of a clip that ends at ``end_s``: a tail of at least half a tick makes one more; never 0."""
    return max(1, math.floor(end_s * FPS + 0.5 + _EPS_S))


class StreamClock:
    """Repairs the time stamps of one stream: missing ones are counted on, leaps are closed.

    ``leaps`` holds the offsets that closed leaps so far and is shared by the streams of one file, so that
    both streams continue on one clock after a leap.
    """

    def __init__(self, leap_s: float, leaps: list[float]) -> None:
        self._leap_s = leap_s
        self._leaps = leaps
        self._offset = 0.0
        self._next: float | None = None

    def stamp(self, time_s: float | None, duration_s: float) -> float:
        """Return the repaired time in seconds of the next frame, which lasts about ``duration_s``."""
        if time_s is None:
            time = self._next or 0.0
        else:
            if self._next is not None and abs(time_s + self._offset - self._next) > self._leap_s:
                self._offset = self._closing(time_s, self._next)
            time = time_s + self._offset
        self._next = time + min(max(duration_s, 0.0), self._leap_s)
        return time

    def _closing(self, time_s: float, expected_s: float) -> float:
        for offset in reversed(self._leaps):
            if abs(time_s + offset - expected_s) <= self._leap_s:
                return offset
        self._leaps.append(expected_s - time_s)
        return self._leaps[-1]


class Timeline(Generic[_Item]):
    """Which of a stream's items is shown at an instant. Pulls no further ahead than it must.

    ``items`` yields (time_s, duration_s, item); items that do not come later than the one before are dropped.
    """

    def __init__(self, items: Iterator[tuple[float, float, _Item]]) -> None:
        self._items = items
        self._pending: deque[tuple[float, _Item]] = deque()
        self._current: tuple[float, _Item] | None = None
        self._last = -math.inf
        self.end_s = -math.inf
        """Where the last item stops being shown; known once the items are used up."""
        self._ended = False

    def reaches(self, time_s: float) -> bool:
        """Whether the stream goes on until ``time_s``; reads on until it knows."""
        while not self._ended and self._last < time_s:
            self._pull()
        return self.end_s >= time_s - _EPS_S if self._ended else True

    def at(self, time_s: float) -> tuple[float, _Item] | None:
        """Return (own time, item) shown at ``time_s``, None before the first and after the last one.

        To be asked for rising times.
        """
        while not self._ended and self._last <= time_s:
            self._pull()
        if self._current is None and self._pending and self._pending[0][0] - _TICK_S / 2 <= time_s + _EPS_S:
            self._current = self._pending.popleft()
        if self._current is None:
            return None
        while self._pending and shown_from(self._current[0], self._pending[0][0]) <= time_s + _EPS_S:
            self._current = self._pending.popleft()
        if self._ended and not self._pending and time_s >= self.end_s - _EPS_S:
            return None
        return self._current

    def _pull(self) -> None:
        for time, duration, item in self._items:
            if time > self._last:
                self._last = time
                self.end_s = time + duration
                self._pending.append((time, item))
                return
        self._ended = True


class SampleLine:
    """16 kHz samples on one line: pieces are appended at absolute positions, read in order from 0."""

    def __init__(self) -> None:
        self._pieces: deque[NDArray[np.float32]] = deque()
        self.end = 0
        """Position after the last sample appended."""

    def append(self, samples: NDArray[np.float32], at: int) -> None:
        """Append ``samples``, the first of which belongs to position ``at``.

        Silence fills a gap before them; those whose position is taken, or negative, are dropped.
        """
        if at > self.end:
            # A broadcast zero takes no memory, however long the silence.
            self._put(np.broadcast_to(np.float32(0), at - self.end))
        self._put(samples[self.end - at :])

    def _put(self, samples: NDArray[np.float32]) -> None:
        if len(samples):
            self._pieces.append(samples)
            self.end += len(samples)

    def take(self, count: int) -> NDArray[np.float32]:
        """Return the next ``count`` samples, with zeros past the end."""
        taken = np.zeros(count, np.float32)
        have = 0
        while have < count and self._pieces:
            piece = self._pieces.popleft()
            part = piece[: count - have]
            taken[have : have + len(part)] = part
            have += len(part)
            if len(part) < len(piece):
                self._pieces.appendleft(piece[len(part) :])
        return taken


# ------------------------------------------------------------------------------------------------ one picture


@dataclass(frozen=True)
class _Geometry:
    """How the upright picture with square pixels lies on the stored one."""

    width: int
    height: int
    rotation: int
    to_stored: NDArray[np.float64]  # (2, 3): upright pixel -> stored pixel


class _Planes(NamedTuple):
    """8-bit planes of a picture: luma and chroma, or one interleaved RGB plane."""

    luma: _Array
    chroma: tuple[_Array, ...]  # (h', w') each, or one of (h', w', 2)
    is_rgb: bool
    full_range: bool
    colorspace: int
    cosited: bool  # chroma samples sit on the left luma sample (MPEG), not between two (JPEG)


_Turn = tuple[int, int, int, int]  # the display matrix (a, b, c, d): x' = a x + c y, y' = b x + d y
_UPRIGHT: _Turn = (1, 0, 0, 1)


@lru_cache(maxsize=32)
def _geometry(width: int, height: int, turn: _Turn, aspect: float) -> _Geometry:
    a, b, c, d = turn
    # Square pixels by stretching the coarser axis, so that no detail is lost.
    square_w, square_h = width * max(aspect, 1.0), height * max(1 / aspect, 1.0)
    upright_w, upright_h = (square_h, square_w) if b else (square_w, square_h)
    shown_w, shown_h = max(1, round(upright_w)), max(1, round(upright_h))
    linear = np.array([[a * width, b * width], [c * height, d * height]]) / [shown_w, shown_h]
    # Centre goes to centre; the centre of a picture is at (size - 1) / 2.
    shift = np.array([width - 1, height - 1]) / 2 - linear @ (np.array([shown_w - 1, shown_h - 1]) / 2)
    rotation = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[a, b]
    return _Geometry(shown_w, shown_h, rotation, np.column_stack([linear, shift]))


def _turn_of(picture: VideoFrame) -> _Turn:
    """Return the display matrix of a picture, rounded to quarter turns and mirrorings.

    Not to be asked for every picture: PyAV then keeps it alive until the garbage collector runs.
    """
    side_data: Any = picture.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return _UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].astype(float)
    if max(abs(a), abs(d)) >= max(abs(b), abs(c)):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0


@lru_cache(maxsize=16)
def _yuv_to_rgb(colorspace: int, full_range: bool, height: int) -> NDArray[np.float32]:
    """Return the (3, 4) matrix from 8-bit (Y, U, V, 1) to RGB; ``colorspace`` is libav's AVColorSpace."""
    weights = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
    weights |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
    red, blue = weights.get(colorspace, weights[1 if height >= 720 else 6])
    green = 1 - red - blue
    black, luma, chroma = (0, 1.0, 1.0) if full_range else (16, 255 / 219, 255 / 224)
    linear = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * (1 - blue) * blue / green * chroma, -2 * (1 - red) * red / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    return np.column_stack([linear, -linear @ [black, 128, 128]]).astype(np.float32)


def _plane(picture: VideoFrame, index: int, channels: int = 1) -> _Array:
    """View of one 8-bit plane: (h, w), or (h, w, channels) where samples are interleaved."""
    plane: Any = picture.planes[index]
    rows: _Array = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width * channels]
    return rows if channels == 1 else rows.reshape(plane.height, plane.width, channels)


_PLANAR_YUV = re.compile(r"yuv[aj]?4\d\dp")


def _planes(picture: VideoFrame) -> _Planes:
    """8-bit planes of a picture: views where the format has them, else of a converted copy."""
    name = picture.format.name
    full_range = picture.color_range == 2 or name.startswith("yuvj")
    if _PLANAR_YUV.fullmatch(name):
        chroma: tuple[_Array, ...] = (_plane(picture, 1), _plane(picture, 2))
        return _Planes(_plane(picture, 0), chroma, False, full_range, picture.colorspace, not name.startswith("yuvj"))
    if name == "nv12":
        chroma = (_plane(picture, 1, 2),)
        return _Planes(_plane(picture, 0), chroma, False, full_range, picture.colorspace, True)
    if name in ("gray", "gray8"):
        return _Planes(_plane(picture, 0), (), False, picture.color_range != 1, picture.colorspace, True)
    if name == "rgb24":
        return _Planes(_plane(picture, 0, 3), (), True, True, picture.colorspace, True)
    return _planes(_as_8_bit(picture, full_range))


def _as_8_bit(picture: VideoFrame, full_range: bool) -> VideoFrame:
    """Convert a picture once to the nearest format that ``_planes`` has views of.

    On one thread: several spoil each other's first pixels where a width is no multiple of the vector size.
    """
    layout = picture.format
    if layout.is_rgb or layout.has_palette or layout.is_bit_stream:
        return picture.reformat(format="rgb24", threads=1)
    if len(layout.components) < 3:
        return picture.reformat(format="gray", threads=1)
    wide, high = layout.chroma_width(64) == 64, layout.chroma_height(64) == 64
    target = "yuv444p" if wide else "yuv422p" if high else "yuv420p"
    levels = 2 if full_range else 1
    return picture.reformat(format=target, src_color_range=levels, dst_color_range=levels, threads=1)


def _warp(plane: _Array, matrix: NDArray[np.float64], size: tuple[int, int]) -> _Array:
    """Sample ``plane`` at ``matrix`` @ output pixel: bilinear, averaged where it shrinks, edges repeated."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    # Shrinking: first average whole blocks of the part that is needed, on the picture's own block grid so that
    # blocks do not move with the part.
    block_x, block_y = (max(1, int(pixels)) for pixels in np.hypot(linear[:, 0], linear[:, 1]))
    if block_x > 1 or block_y > 1:
        corners = np.array([[-1, -1], [size[0], -1], [-1, size[1]], [size[0], size[1]]]) @ linear.T + shift
        x0, x1 = _block_span(corners[:, 0], block_x, plane.shape[1])
        y0, y1 = _block_span(corners[:, 1], block_y, plane.shape[0])
        block = np.array([block_x, block_y])
        small = ((x1 - x0) // block_x, (y1 - y0) // block_y)
        plane = _average(plane[y0:y1, x0:x1], small)
        linear = linear / block[:, None]
        shift = (shift - [x0, y0] + 0.5) / block - 0.5
    # The rest, a factor below 2: sample twice as finely as asked for and average on the output grid.
    finer_x, finer_y = (1 if pixels < 1.25 else 2 for pixels in np.hypot(linear[0], linear[1]))
    finer = np.array([finer_x, finer_y])
    shift = shift + linear @ (0.5 / finer - 0.5)
    warped = cv2.warpAffine(
        plane,
        np.column_stack([linear / finer, shift]),
        (size[0] * finer_x, size[1] * finer_y),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if finer_x > 1 or finer_y > 1:
        return _average(np.asarray(warped, np.uint8), size)
    return np.asarray(warped, np.uint8)


def _average(plane: _Array, size: tuple[int, int]) -> _Array:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)


def _block_span(coordinates: NDArray[np.float64], block: int, length: int) -> tuple[int, int]:
    """First and past-last pixel, whole blocks inside the picture, that cover ``coordinates``; never empty."""
    blocks = max(1, length // block)
    first = min(max(math.floor(coordinates.min() / block), 0), blocks - 1)
    last = min(max(math.ceil(coordinates.max() / block) + 1, first + 1), blocks)
    return first * block, min(last * block, length)


class Frame:
    """One picture in the pixel format it was coded in; only what is sampled is converted.

    ``time_s`` is its own presentation time on the clip clock, ``width`` and ``height`` are those of the
    upright picture with square pixels.
    """

    __slots__ = ("__weakref__", "_cached", "_geometry", "_picture", "height", "time_s", "width")

    def __init__(self, picture: VideoFrame, time_s: float, turn: _Turn = _UPRIGHT, aspect: float = 1.0) -> None:
        """``turn`` tells how to turn the stored picture for display, ``aspect`` a pixel's width / height."""
        self._picture = picture
        self._geometry = _geometry(picture.width, picture.height, turn, aspect)
        self._cached: _Planes | None = None
        self.time_s = time_s
        self.width = self._geometry.width
        self.height = self._geometry.height

    def sample(self, matrix: NDArray[np.floating[Any]], size: tuple[int, int]) -> _Array:
        """Cut a piece out of the upright picture.

        ``matrix`` (2, 3) maps output pixels to upright picture pixels, both (x, y) with integers at pixel
        centres; ``size`` is (width, height). Returns RGB uint8 (height, width, 3): anti-aliased where it
        shrinks, edge pixels repeated outside of the picture.
        """
        planes = self._planes()
        to_stored = self._geometry.to_stored
        stored = to_stored[:, :2] @ np.asarray(matrix, np.float64)
        stored[:, 2] += to_stored[:, 2]
        luma = _warp(planes.luma, stored, size)
        if planes.is_rgb:
            return luma
        height = planes.luma.shape[0]
        if not planes.chroma:
            neutral = np.full_like(luma, 128)
            parts = [luma, neutral, neutral]
        else:
            scale = [
                2.0 ** -round(math.log2(whole / part))
                for whole, part in zip(planes.luma.shape[1::-1], planes.chroma[0].shape[1::-1], strict=True)
            ]
            halves = np.array([[scale[0]], [scale[1]]])
            on_chroma = stored * halves
            # Chroma samples lie between luma samples, except MPEG's horizontally.
            on_chroma[:, 2:] += halves / 2 - 0.5
            if planes.cosited:
                on_chroma[0, 2] += 0.5 - scale[0] / 2
            parts = [luma, *(_warp(plane, on_chroma, size) for plane in planes.chroma)]
        to_rgb = _yuv_to_rgb(planes.colorspace, planes.full_range, height)
        return np.asarray(cv2.transform(cv2.merge(parts), to_rgb), np.uint8)

    def thumbnail(self) -> _Array:
        """Return the brightness of the picture as it is stored, uint8 (18, 32): a cheap key for cuts."""
        luma = self._planes().luma
        step_y, step_x = max(1, luma.shape[0] // 72), max(1, luma.shape[1] // 128)
        part = np.ascontiguousarray(luma[::step_y, ::step_x])
        if part.ndim == 3:
            part = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), np.uint8)
        return _average(part, THUMBNAIL)

    def _planes(self) -> _Planes:
        if self._cached is None:
            self._cached = _planes(self._picture)
        return self._cached


class Tick(NamedTuple):
    """The instant ``index / 25`` s."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which a tick has no use for
    frame: Frame | None
    """None where the video stream has no picture: no video, not begun, ended."""
    audio: NDArray[np.float32] | None
    """Samples (640,) in [-1, 1] of [index / 25, (index + 1) / 25).

    Zeros before the stream begins and after it ends, None only if the file has no audio stream.
    """


# -------------------------------------------------------------------------------------------- reading streams


class _Source:
    """One stream of a file behind its own demuxer."""

    def __init__(self, path: str, kind: Literal["video", "audio"], threads: int) -> None:
        """Open the file; ``stream`` is None if there is no such stream or no decoder for it."""
        self.kind = kind
        self.container = _open(path)
        self.stream: Any = None
        self.damaged = 0
        streams = [s for s in self.container.streams if s.type == kind and not _is_cover(s)]
        decodable = [s for s in streams if s.codec_context is not None]
        if decodable:
            best = self.container.streams.best(kind)
            self.stream = best if best in decodable else decodable[0]
            for other in self.container.streams:
                if other is not self.stream:
                    other.discard = Discard.all
            self.stream.codec_context.thread_count = threads
            if threads > 1:
                self.stream.codec_context.thread_type = "AUTO"
        self.exists = bool(streams)
        """Whether the file holds such a stream, decodable or not."""

    @property
    def declared_s(self) -> float | None:
        """Duration of the stream by the header."""
        if self.stream is None or not self.stream.duration or not self.stream.time_base:
            return None
        return float(self.stream.duration * self.stream.time_base)

    def frames(self) -> Iterator[Any]:
        """Decoded frames in presentation order; damaged packets are counted and skipped."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:
                # PyAV trips at the end of a file where other streams came up late; ours is flushed by then.
                return
            except av.FFmpegError:
                # The demuxer cannot go on, but the decoder still holds pictures; an empty packet flushes it.
                self.damaged += 1
                packet = av.Packet()
                packet.stream, packet.time_base = self.stream, self.stream.time_base
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            yield from frames

    def explain(self) -> str:
        """Say why the stream gives nothing."""
        if self.stream is None:
            return "is in a format without a decoder here; convert it to H.264 or AAC with a current FFmpeg"
        if self.stream.codec_context.codec_tag in ("encv", "enca"):
            return "is encrypted; use a copy without copy protection"
        return "holds nothing that can be decoded; fetch the file again or export it anew"


def _is_cover(stream: Stream) -> bool:
    """Whether a video stream is a still picture that decorates an audio file."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _in_seconds(units: int, frame: VideoFrame | AudioFrame) -> float:
    base = frame.time_base
    return units * base.numerator / base.denominator if base else 0.0


def _stamp_of(frame: VideoFrame | AudioFrame) -> float | None:
    """Presentation time of a decoded frame on the file's own clock, None if the file does not tell it."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None else _in_seconds(stamp, frame)


def _deinterlacer(first: VideoFrame) -> Graph:
    """Return a filter that changes interlaced pictures only and keeps the number and times of all."""
    graph = _graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=first.time_base)
    filtering = graph.add("yadif", mode="send_frame", deint="interlaced")
    graph.link_nodes(source, filtering, graph.add("buffersink")).configure()
    return graph


def _resampler(rate: int) -> Graph:
    """Return a filter from 32-bit float mono of ``rate`` to that of 16 kHz."""
    graph = _graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate))
    graph.link_nodes(source, graph.add("aresample", str(SAMPLE_RATE)), graph.add("abuffersink")).configure()
    return graph


def _graph() -> Graph:
    graph = Graph()
    graph.threads = 1  # else each graph keeps a thread for each core
    return graph


def _filtered(graph: Graph, frame: VideoFrame | AudioFrame | None) -> Iterator[Any]:
    """Yield what is ready after ``frame``; None flushes."""
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


class _VideoReader:
    """Pictures of a stream by the instant at which they are shown."""

    def __init__(self, source: _Source, clock: StreamClock) -> None:
        self.source = source
        self._clock = clock
        rate = source.stream.average_rate
        self._interval = 1 / float(rate) if rate else _TICK_S
        self._interlaced = False
        self._timed = self._stamped()
        self._aspect = 1.0
        self._shown: Frame | None = None
        self.first: tuple[float, float, VideoFrame] | None = next(self._timed, None)
        self._turn = _turn_of(self.first[2]) if self.first is not None else _UPRIGHT
        # Some formats tell the shape of their pixels in the coded pictures only.
        aspect = source.stream.sample_aspect_ratio
        if aspect and 0.1 < aspect < 10:
            self._aspect = float(aspect)

    def begin(self, origin_s: float) -> VideoInfo:
        """Fix the stream time that is t = 0."""
        assert self.first is not None
        time, _, picture = self.first
        geometry = _geometry(picture.width, picture.height, self._turn, self._aspect)
        self._timeline = Timeline(self._from(origin_s))
        self.info = VideoInfo(
            codec=self.source.stream.codec_context.name,
            width=geometry.width,
            height=geometry.height,
            fps=float(self.source.stream.average_rate or 0),
            rotation=geometry.rotation,
            start_s=time - origin_s,
            duration_s=self.source.declared_s,
            pixel_format=picture.format.name,
            interlaced=self._interlaced,
        )
        return self.info

    def reaches(self, time_s: float) -> bool:
        return self._timeline.reaches(time_s)

    def at(self, time_s: float) -> Frame | None:
        shown = self._timeline.at(time_s)
        if shown is None:
            return None
        time, picture = shown
        if self._shown is None or self._shown.time_s != time:
            self._shown = Frame(picture, time, self._turn, self._aspect)
        return self._shown

    @property
    def end_s(self) -> float:
        return self._timeline.end_s

    def _from(self, origin_s: float) -> Iterator[tuple[float, float, VideoFrame]]:
        first, self.first = self.first, None
        if first is not None:
            yield first[0] - origin_s, *first[1:]
        for time, duration, picture in self._timed:
            yield time - origin_s, duration, picture

    def _stamped(self) -> Iterator[tuple[float, float, VideoFrame]]:
        for picture in self._progressive():
            duration = _in_seconds(picture.duration or 0, picture) or self._interval
            yield self._clock.stamp(_stamp_of(picture), duration), duration, picture

    def _progressive(self) -> Iterator[VideoFrame]:
        graph: Graph | None = None
        layout: tuple[int, int, str] | None = None
        for picture in self.source.frames():
            before, layout = layout, (picture.width, picture.height, picture.format.name)
            if graph is not None and layout != before:
                yield from _filtered(graph, None)
                graph = None
            if graph is None and picture.interlaced_frame:
                graph, self._interlaced = _deinterlacer(picture), True
            if graph is None:
                yield picture
            else:
                yield from _filtered(graph, picture)
        if graph is not None:
            yield from _filtered(graph, None)


class _AudioReader:
    """Samples of a stream at 16 kHz mono by their time stamps."""

    def __init__(self, source: _Source, clock: StreamClock) -> None:
        self.source = source
        self._clock = clock
        self._frames = source.frames()
        self._line = SampleLine()
        self._ended = False
        self._resampler: Graph | None = None
        self._rate = 0
        self._cursor = 0  # position of the next sample out of the resampler
        self._expected_s = 0.0  # where the frame before ended
        self._damaged = 0
        self.first: AudioFrame | None = next(self._frames, None)
        self.first_s = self._stamp(self.first) if self.first is not None else 0.0

    def begin(self, origin_s: float) -> AudioInfo:
        """Fix the stream time that is t = 0."""
        assert self.first is not None
        self._origin_s = origin_s
        self.info = AudioInfo(
            codec=self.source.stream.codec_context.name,
            sample_rate=self.first.sample_rate,
            channels=self.first.layout.nb_channels,
            start_s=self.first_s - origin_s,
            duration_s=self.source.declared_s,
        )
        return self.info

    def reaches(self, time_s: float) -> bool:
        needed = round(time_s * SAMPLE_RATE)
        while not self._ended and self._line.end < needed:
            self._pull()
        return self._line.end >= needed

    def take(self, index: int) -> NDArray[np.float32]:
        """Samples of tick ``index``; to be asked for 0, 1, 2, ..."""
        self.reaches((index + 1) / FPS)
        return self._line.take(SAMPLES_PER_FRAME)

    @property
    def end_s(self) -> float:
        return self._line.end / SAMPLE_RATE

    def _stamp(self, frame: AudioFrame) -> float:
        return self._clock.stamp(_stamp_of(frame), frame.samples / frame.sample_rate)

    def _pull(self) -> None:
        if self.first is not None:
            frame, time, self.first = self.first, self.first_s, None
        else:
            following = next(self._frames, None)
            if following is None:
                self._finish_piece()
                self._ended = True
                return
            frame, time = following, self._stamp(following)
        time -= self._origin_s
        # A lost packet leaves a true gap, which may be shorter than the jitter that is tolerated otherwise.
        tolerance = _GAP_S if self.source.damaged == self._damaged else _GAP_S / 10
        self._damaged = self.source.damaged
        begins = self._resampler is None or abs(time - self._expected_s) > tolerance
        if begins or self._rate != frame.sample_rate:
            self._finish_piece()
            self._resampler = _resampler(frame.sample_rate)
            self._rate = frame.sample_rate
        if begins:
            self._cursor = round(time * SAMPLE_RATE)
            self._expected_s = time
        self._expected_s += frame.samples / frame.sample_rate
        self._resample(_to_mono(frame))

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self._resampler is not None
        for piece in _filtered(self._resampler, frame):
            samples = np.clip(piece.to_ndarray()[0], -1, 1).astype(np.float32, copy=False)
            self._line.append(samples, self._cursor)
            self._cursor += len(samples)

    def _finish_piece(self) -> None:
        if self._resampler is not None:
            self._resample(None)


@lru_cache(maxsize=32)
def _downmix(channels: tuple[str, ...]) -> NDArray[np.float32]:
    """Weights (channels,) that sum to 1: centre 0 dB, left and right -3 dB, surround -6 dB, no LFE."""
    known = {"FC": 1.0, "FL": 0.7071, "FR": 0.7071, "LFE": 0.0, "LFE2": 0.0}
    weights = np.array([known.get(name, 0.5) for name in channels], np.float32)
    if not weights.any():
        weights[:] = 1
    return np.asarray(weights / weights.sum(), np.float32)


def _to_mono(frame: AudioFrame) -> AudioFrame:
    """Mix a frame of any sample format down to finite 32-bit float mono of the same rate.

    Done before resampling: it is cheaper there, and a NaN inside of the resampler would spoil its neighbours.
    """
    samples: NDArray[Any] = frame.to_ndarray()
    channels = frame.layout.channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(channels)).T
    scaled: NDArray[np.floating[Any]]
    if samples.dtype == np.uint8:
        scaled = (samples - np.float32(128)) / 128
    elif samples.dtype.kind == "i":
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    else:
        scaled = np.where(np.isfinite(samples), samples, 0).clip(-1, 1)
    mono = _downmix(tuple(channel.name for channel in channels)) @ scaled.astype(np.float32, copy=False)
    mixed = AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
    mixed.sample_rate = frame.sample_rate
    return mixed


# --------------------------------------------------------------------------------------------- the whole file


class Decoder:
    """One pass over a file, instant by instant: iterate to get a ``Tick`` for each 1/25 s.

    ``threads`` bounds the threads of the video decoder. Raises ``MediaError`` if the file cannot be read.
    It is closed when the iteration ends or is given up, or by ``close``.
    """

    info: MediaInfo
    warnings: list[str]
    """One sentence for each fault of the file that did not stop it; complete after iterating."""

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        self._path = os.fspath(path)
        self._sources: list[_Source] = []
        self.warnings = []
        try:
            self._begin(threads)
        except BaseException:
            self.close()
            raise

    def _begin(self, threads: int) -> None:
        _check_readable(self._path)
        sources = {kind: self._source(kind, threads) for kind in ("video", "audio")}
        container = sources["video"].container
        leap_s = _LEAP_TS_S if Flags.ts_discont in Flags(container.format.flags) else _LEAP_S
        leaps: list[float] = []
        self._video: _VideoReader | None = None
        self._audio: _AudioReader | None = None
        starts = {}
        if sources["video"].stream is not None:
            video = _VideoReader(sources["video"], StreamClock(leap_s, leaps))
            if video.first is not None:
                self._video, starts["video"] = video, video.first[0]
        if sources["audio"].stream is not None:
            audio = _AudioReader(sources["audio"], StreamClock(leap_s, leaps))
            if audio.first is not None:
                self._audio, starts["audio"] = audio, audio.first_s
        silent = [f"its {kind} stream {s.explain()}" for kind, s in sources.items() if kind not in starts and s.exists]
        if not starts:
            reason = silent[0] if silent else "it holds neither a video nor an audio stream; give a media file"
            raise MediaError(f"{self._path}: {reason}.")
        self.warnings += [f"{reason}." for reason in silent]
        origin = min(starts.values())
        if max(starts.values()) - origin > _LEAP_S:
            self.warnings.append("its streams start more than an hour apart; both are taken to start together.")
        else:
            starts = dict.fromkeys(starts, origin)
        self.info = MediaInfo(
            path=self._path,
            container=container.format.name,
            duration_s=container.duration / 1e6 if container.duration else None,
            video=self._video.begin(starts["video"]) if self._video else None,
            audio=self._audio.begin(starts["audio"]) if self._audio else None,
        )

    def __iter__(self) -> Iterator[Tick]:
        """Yield the ticks in order: ``tick_count`` of the end of the longer stream. Can be used once."""
        if not self._sources:
            raise RuntimeError("a Decoder can be iterated once")
        try:
            index = 0
            while index == 0 or self._reaches((index + 0.5) / FPS):
                yield Tick(
                    index,
                    self._video.at(index / FPS) if self._video else None,
                    self._audio.take(index) if self._audio else None,
                )
                index += 1
            self._conclude()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file."""
        while self._sources:
            self._sources.pop().container.close()

    def _source(self, kind: Literal["video", "audio"], threads: int) -> _Source:
        source = _Source(self._path, kind, threads)
        self._sources.append(source)
        return source

    def _reaches(self, time_s: float) -> bool:
        return any(reader.reaches(time_s) for reader in (self._video, self._audio) if reader)

    def _conclude(self) -> None:
        """Say what was wrong on the way."""
        readers = [reader for reader in (self._video, self._audio) if reader]
        for reader in readers:
            source, info = reader.source, reader.info
            if source.damaged:
                self.warnings.append(f"{source.damaged} damaged packets of the {source.kind} stream were skipped.")
            if info.duration_s is not None:
                self._compare(f"the {source.kind} stream", info.start_s + info.duration_s, reader.end_s)
        if self.info.duration_s is not None and all(reader.info.duration_s is None for reader in readers):
            self._compare("the file", self.info.duration_s, max(reader.end_s for reader in readers))

    def _compare(self, what: str, declared_s: float, end_s: float) -> None:
        if declared_s - end_s > max(1.0, 0.05 * declared_s):
            self.warnings.append(
                f"ends early: {what} stops at {end_s:.1f} s of {declared_s:.1f} s; if that is not meant, "
                "fetch the complete file."
            )


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Say what a file holds, from its header and the first frame of each stream. Raises ``MediaError``."""
    decoder = Decoder(path)
    decoder.close()
    return decoder.info


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise MediaError(f"{path}: the file is empty; record or fetch it again.")
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file; check the path.") from None
    except IsADirectoryError:
        raise MediaError(f"{path}: this is a directory; give a media file in it.") from None
    except PermissionError:
        raise MediaError(f"{path}: there is no permission to read it; change its mode or owner.") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: it cannot be read ({error}); check the path and the disk.") from None


def _open(path: str) -> InputContainer:
    try:
        # "file:" keeps names with a colon from being taken for an URL; playlists may not reach the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(f"{path}: {_why_unreadable(path, error)}.") from None
    if container.format.name == "tty":
        container.close()
        raise MediaError(f"{path}: {_TEXT}.")
    return container


_TEXT = "its content is text, not media, whatever its name says; give the media file itself"


def _why_unreadable(path: str, error: av.FFmpegError) -> str:
    with open(path, "rb") as file:
        head = file.read(4096)
        boxes = _boxes(file, os.path.getsize(path))
    if boxes and boxes[0] in (b"ftyp", b"mdat", b"free", b"wide", b"skip") and b"moov" not in boxes:
        return "its index (moov) is missing; the recording or download was cut short: fetch the complete file"
    try:
        text = head[: head.rfind(b"\n") + 1 or None].decode()
    except UnicodeDecodeError:
        text = "\0"
    if not any(ord(letter) < 32 and not letter.isspace() for letter in text):
        return _TEXT
    reason = error.strerror or type(error).__name__
    return f"FFmpeg does not know it as media, or its start is damaged ({reason}); fetch it again or convert it"


def _boxes(file: BinaryIO, size: int) -> list[bytes]:
    """Types of the top-level boxes of an MP4 or MOV file; of anything else, something meaningless."""
    types: list[bytes] = []
    position = 0
    while position + 8 <= size and len(types) < 1000:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        types.append(header[4:8])
        if length < 8:
            break
        position += length
    return types
