"""What a file holds, told by its header and its first frames; the error of files that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from avfake import AvfakeError


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
