"""One pass over a whole file: both streams on one clock, and what was wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from av.format import Flags
from numpy.typing import NDArray

from avfake import FPS
from avfake.media.clock import StreamClock
from avfake.media.info import MediaError, MediaInfo
from avfake.media.opening import check_readable
from avfake.media.picture import Frame
from avfake.media.sound import AudioReader
from avfake.media.source import Source
from avfake.media.video import VideoReader

_LEAP_S = 3600.0  # no genuine stream is silent for longer: a leap of the time stamps
_LEAP_TS_S = 10.0  # the same in formats whose time stamps may restart (MPEG-TS, MPEG-PS)


class Tick(NamedTuple):
    """The instant ``index / 25`` s."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which a tick has no use for
    frame: Frame | None
    """None where the video stream has no picture: no video, not begun, ended."""
    audio: NDArray[np.float32] | None
    """Samples (640,) in [-1, 1] of [index / 25, (index + 1) / 25).

    Zeros before the stream begins and after it ends, None only if the file has no audio stream.
    """


class Decoder:
    """One pass over a file, instant by instant: iterate to get a ``Tick`` for each 1/25 s.

    ``sound`` is another file that the sound is taken from; both then begin at t = 0. ``threads`` bounds the threads of
    the video decoder. Raises ``MediaError`` if the file cannot be read.
    It is closed when the iteration ends or is given up, or by ``close``.
    """

    info: MediaInfo
    warnings: list[str]
    """One sentence for each fault of the file that did not stop it; complete after iterating."""
    decoded_s: float
    """Seconds decoded so far: the length of what the file really holds, once iterated."""

    def __init__(
        self, path: str | os.PathLike[str], *, sound: str | os.PathLike[str] | None = None, threads: int = 1
    ) -> None:
        self._path = os.fspath(path)
        self._sound = None if sound is None else os.fspath(sound)
        self._sources: list[Source] = []
        self.warnings = []
        self.decoded_s = 0.0
        try:
            self._begin(threads)
        except BaseException:
            self.close()
            raise

    def _begin(self, threads: int) -> None:
        for path in (self._path, self._sound):
            if path is not None:
                check_readable(path)
        sources = self._source(self._path, "video", threads), self._source(self._sound or self._path, "audio", threads)
        starts = self._first_times(*sources)
        silent = [
            f"its {source.kind} stream {source.explain()}"
            for source in sources
            if source.exists and source.kind not in starts
        ]
        if not starts:
            reason = silent[0] if silent else "it holds neither a video nor an audio stream; give a media file"
            raise MediaError(f"{self._path}: {reason}.")
        self.warnings += [f"{reason}." for reason in silent]
        origin = min(starts.values())
        if self._sound is None:  # else each file has a clock of its own
            if max(starts.values()) - origin > _LEAP_S:
                self.warnings.append("its streams start more than an hour apart; both are taken to start together.")
            else:
                starts = dict.fromkeys(starts, origin)
        container = sources[0].container
        self.info = MediaInfo(
            path=self._path,
            container=container.format.name,
            duration_s=container.duration / 1e6 if container.duration else None,
            video=self._video.begin(starts["video"]) if self._video else None,
            audio=self._audio.begin(starts["audio"]) if self._audio else None,
        )

    def _first_times(self, video: Source, audio: Source) -> dict[str, float]:
        """Make the readers of the streams that give something; return when each begins on the file's own clock."""
        restarts = Flags.ts_discont in Flags(video.container.format.flags)
        leap_s = _LEAP_TS_S if restarts else _LEAP_S
        leaps: list[float] = []
        starts: dict[str, float] = {}
        self._video: VideoReader | None = None
        self._audio: AudioReader | None = None
        if video.stream is not None:
            pictures = VideoReader(video, StreamClock(leap_s, leaps))
            if pictures.first is not None:
                self._video, starts["video"] = pictures, pictures.first[0]
        if audio.stream is not None:
            near_s = starts.get("video") if restarts else None
            sound = AudioReader(audio, StreamClock(leap_s, leaps, near_s))
            if sound.first is not None:
                self._audio, starts["audio"] = sound, sound.first_s
        return starts

    def __iter__(self) -> Iterator[Tick]:
        """Yield the ticks in order to the end of the longer stream. Can be used once.

        A tail of at least half a tick makes one more; there is always one.
        """
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
                self.decoded_s = index / FPS
            self._conclude()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file."""
        while self._sources:
            self._sources.pop().container.close()

    def _source(self, path: str, kind: Literal["video", "audio"], threads: int) -> Source:
        source = Source(path, kind, threads)
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
                packets = "packet was" if source.damaged == 1 else "packets were"
                self.warnings.append(
                    f"{source.damaged} damaged {packets} skipped in the {source.kind} stream; fetch the file again."
                )
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
