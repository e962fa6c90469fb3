"""One stream of a file: its decoded frames and the times they tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import av
from av.audio.frame import AudioFrame
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame

from avfake.media.opening import open_container


class Source:
    """One stream of a file behind its own demuxer."""

    def __init__(self, path: str, kind: Literal["video", "audio"], threads: int) -> None:
        """Open the file; ``stream`` is None if there is no such stream or no decoder for it."""
        self.kind = kind
        self.container = open_container(path)
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
            for frame in frames:
                if isinstance(frame, AudioFrame) and not _is_consistent(frame):
                    self.damaged += 1
                else:
                    yield frame

    def explain(self) -> str:
        """Say why the stream gives nothing."""
        if self.stream is None:
            return "is in a format without a decoder here; convert it to H.264 or AAC with a current FFmpeg"
        if self.stream.codec_context.codec_tag in ("encv", "enca"):
            return "is encrypted; use a copy without copy protection"
        return "holds nothing that can be decoded; fetch the file again or export it anew"


def _is_consistent(frame: AudioFrame) -> bool:
    """Whether a frame has as many planes as channels: damaged AAC may claim other numbers, and reading it crashes."""
    return not frame.format.is_planar or len(frame.planes) == frame.layout.nb_channels


def _is_cover(stream: Stream) -> bool:
    """Whether a video stream is a still picture that decorates an audio file."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def in_seconds(units: int, frame: VideoFrame | AudioFrame) -> float:
    """Turn units of the frame's time base into seconds; 0 where it has none."""
    base = frame.time_base
    return units * base.numerator / base.denominator if base else 0.0


def stamp_of(frame: VideoFrame | AudioFrame) -> float | None:
    """Presentation time of a decoded frame on the file's own clock, None if the file does not tell it."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None else in_seconds(stamp, frame)
