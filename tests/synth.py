"""Small synthetic media for tests: flashes, chirps and any time stamps one likes, written with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

BEEP_S = 0.05
"""Length of ``chirp``."""


def chirp(rate: int) -> NDArray[np.float32]:
    """A sweep from 300 to 3000 Hz, which a correlation finds to the sample."""
    t = np.arange(round(BEEP_S * rate)) / rate
    phase = 2 * np.pi * (300 * t + (3000 - 300) / (2 * BEEP_S) * t**2)
    return (0.5 * np.sin(phase) * np.hanning(len(t))).astype(np.float32)


def beeps(duration_s: float, rate: int, at: Sequence[float]) -> NDArray[np.float32]:
    """Silence (n,) with a chirp at each of the times ``at``."""
    samples = np.zeros(round(duration_s * rate), np.float32)
    for time in at:
        begin = round(time * rate)
        samples[begin : begin + round(BEEP_S * rate)] = chirp(rate)
    return samples


def find_beep(samples: NDArray[np.float32], rate: int = 16_000) -> float:
    """Time at which the (first, loudest) chirp begins."""
    match = np.correlate(samples, chirp(rate), mode="valid")
    peaks = np.flatnonzero(match > 0.9 * match.max())
    near = peaks[peaks < peaks[0] + rate // 100]
    return float(near[np.argmax(match[near])] / rate)


def flash(at: float, duration_s: float = 0.2, size: tuple[int, int] = (64, 48)) -> Callable[[float], Any]:
    """A drawing that is dark, and white for ``duration_s`` from ``at`` on."""

    def draw(time: float) -> NDArray[np.uint8]:
        level = 235 if at - 1e-6 <= time < at + duration_s - 1e-6 else 20
        return np.full((size[1], size[0], 3), level, np.uint8)

    return draw


def gradient(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A smooth coloured picture (h, w, 3) without any symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    red = 40 + 170 * x
    green = 200 - 150 * y * (0.4 + 0.6 * x)
    blue = 128 + 80 * np.sin(2.5 * x + 3 * y)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


@dataclass
class Video:
    """A video stream: one picture ``draw(time)`` RGB (h, w, 3) at each of the ``times``."""

    times: Sequence[float]
    draw: Callable[[float], NDArray[np.uint8]]
    codec: str = "libx264"
    rate: Fraction = Fraction(25)
    pix_fmt: str = "yuv420p"
    time_base: Fraction | None = Fraction(1, 90_000)
    """None: one unit per picture of ``rate``, for codecs and containers of constant rate."""
    aspect: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Audio:
    """An audio stream: mono ``samples`` (n,) at ``rate`` that begin at ``start_s``, the same in all channels."""

    samples: NDArray[np.float32]
    rate: int = 48_000
    layout: str = "mono"
    codec: str = "aac"
    start_s: float = 0.0
    gains: Sequence[float] | None = None
    """One for each channel."""


def steady(rate: Fraction | float, duration_s: float, start_s: float = 0.0) -> list[float]:
    """Times of a constant-rate video."""
    return [start_s + float(index / Fraction(rate)) for index in range(round(duration_s * rate))]


def write(
    path: Path,
    video: Video | None = None,
    audio: Audio | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a file whose container follows from the ending of ``path``; returns ``path``."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        streams: list[tuple[Any, list[Any]]] = []
        if video is not None:
            streams.append(_video_stream(container, video))
        if audio is not None:
            streams.append(_audio_stream(container, audio))
        packets = [packet for stream, frames in streams for f in (*frames, None) for packet in stream.encode(f)]
        for packet in packets:
            container.mux(packet)
    return path


def _video_stream(container: Any, video: Video) -> tuple[Any, list[VideoFrame]]:
    first = video.draw(video.times[0])
    stream = container.add_stream(video.codec, rate=video.rate, options=video.options)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = video.pix_fmt
    if video.aspect is not None:
        stream.codec_context.sample_aspect_ratio = video.aspect
    base = video.time_base or 1 / video.rate
    stream.codec_context.time_base = base
    frames = []
    for time in video.times:
        frame = VideoFrame.from_ndarray(video.draw(time), format="rgb24").reformat(format=video.pix_fmt, threads=1)
        frame.pts, frame.time_base = round(time / base), base
        frames.append(frame)
    return stream, frames


def _audio_stream(container: Any, audio: Audio) -> tuple[Any, list[AudioFrame]]:
    stream = container.add_stream(audio.codec, rate=audio.rate, layout=audio.layout)
    channels = stream.codec_context.layout.nb_channels
    gains = np.asarray(audio.gains if audio.gains is not None else [1.0] * channels, np.float32)
    base = Fraction(1, audio.rate)
    frames = []
    for begin in range(0, len(audio.samples), 1000):
        block = np.outer(gains, audio.samples[begin : begin + 1000]).astype(np.float32)
        frame = AudioFrame.from_ndarray(block, format="fltp", layout=audio.layout)
        frame.sample_rate = audio.rate
        frame.pts, frame.time_base = round(audio.start_s * audio.rate) + begin, base
        frames.append(frame)
    return stream, frames


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Give the video track of an MP4 file the display matrix (a, b, c, d): x' = a x + c y, y' = b x + d y."""
    content = bytearray(path.read_bytes())
    position = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (value * 65536 for value in matrix)
    for offset, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        content[position + offset : position + offset + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    return path


def add_cover(path: Path, picture: bytes) -> Path:
    """Put a JPEG cover in front of an MP3 file (ID3v2.3 APIC)."""
    body = b"\0image/jpeg\0\x03\0" + picture
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + frame + path.read_bytes())
    return path
