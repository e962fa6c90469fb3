"""The samples of a file's audio stream: 16 kHz mono."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from avfake.media.clock import SampleLine, StreamClock
from avfake.media.filters import filtered, resampler
from avfake.media.info import AudioInfo
from avfake.media.source import Source, stamp_of

SILENCE = 0.0005
"""Samples up to this are silent: AVH-Align's ``compute_starting_silence`` (deepfake_feature_extraction.py)."""

_GAP_S = 0.04  # audio time stamps may jitter by this much before silence is inserted or samples are dropped


class AudioReader:
    """Samples of a stream at 16 kHz mono by their time stamps."""

    def __init__(self, source: Source, clock: StreamClock) -> None:
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
        """Whether the stream goes on until ``time_s``; reads on until it knows."""
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
        """Where the stream ends; known once it is used up."""
        return self._line.end / SAMPLE_RATE

    def _stamp(self, frame: AudioFrame) -> float:
        return self._clock.stamp(stamp_of(frame), frame.samples / frame.sample_rate)

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
            self._resampler = resampler(frame.sample_rate)
            self._rate = frame.sample_rate
        if begins:
            self._cursor = round(time * SAMPLE_RATE)
            self._expected_s = time
        self._expected_s += frame.samples / frame.sample_rate
        self._resample(_to_mono(frame))

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self._resampler is not None
        for piece in filtered(self._resampler, frame):
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
