"""Time arithmetic: repaired time stamps, which item is shown at an instant, samples on one line.

Nothing here knows of files or of libav.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from avfake import FPS

TICK_S = 1 / FPS
_EPS_S = 1e-6
_LEAD_S = 0.1  # a picture replaces its predecessor at most this early
_WRAP_TS_S = 2**33 / 90_000  # after which the time stamps of MPEG-TS and MPEG-PS begin anew

_Item = TypeVar("_Item")


def shown_from(previous_s: float, time_s: float) -> float:
    """Time from which a picture is shown instead of its predecessor: nearest in time, at most 0.1 s early.

    So rates from 5 fps up are nearest-neighbour, and over longer gaps the old picture is held.
    """
    return time_s - min((time_s - previous_s) / 2, _LEAD_S)


class StreamClock:
    """Repairs the time stamps of one stream: missing ones are counted on, leaps are closed.

    ``leaps`` holds the offsets that closed leaps so far and is shared by the streams of one file, so that
    both streams continue on one clock after a leap. ``near_s`` is where another stream begins, for formats whose
    stamps wrap around: one stream may begin just before the wrap, the other after it.
    """

    def __init__(self, leap_s: float, leaps: list[float], near_s: float | None = None) -> None:
        self._leap_s = leap_s
        self._leaps = leaps
        self._near = near_s
        self._offset = 0.0
        self._next: float | None = None

    def stamp(self, time_s: float | None, duration_s: float) -> float:
        """Return the repaired time in seconds of the next frame, which lasts about ``duration_s``."""
        if time_s is None:
            time = self._next or 0.0
        else:
            if self._next is None:
                if self._near is not None:
                    self._offset = -_WRAP_TS_S * round((time_s - self._near) / _WRAP_TS_S)
            elif abs(time_s + self._offset - self._next) > self._leap_s:
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
        if self._current is None and self._pending and self._pending[0][0] - TICK_S / 2 <= time_s + _EPS_S:
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
