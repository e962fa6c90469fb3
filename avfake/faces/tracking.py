"""Faces through time: detect now and then, follow landmarks in between, hand out steady crops a little later.

One pass, flat memory: a tick waits in a delay line of ``_DELAY`` ticks (0.64 s), because a gap can only be
bridged and a position only be smoothed without lag once what follows is known.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from avfake.faces.base import Backend, FloatArray, Region
from avfake.faces.crop import crop_matrix, stable_points

if TYPE_CHECKING:
    from avfake.media import Frame, Tick

_Real = TypeVar("_Real", np.float32, np.float64)

DETECT_EVERY = 12
"""Ticks between looks for new faces: a face that walks in is missed for half a second at most."""
RETRY_EVERY = 4
"""Ticks between looks while a face is lost."""
MEASURE_EVERY = 2
"""Ticks between landmark measurements: in 80 ms a talking head moves nearly in a straight line."""
MAX_GAP = 10
"""Ticks (0.4 s) for which a face may go unseen and still be the same track, as behind a passing hand."""
MIN_SCORE = 0.5
"""Landmark score below which there is no face in the region."""
MIN_EYES_PX = 10.0
"""Inter-ocular distance below which a mouth is a few pixels wide: nothing there can be judged."""
MAX_FACES = 6
"""Faces tracked at once, largest first: more is a crowd, not people who talk."""
SAME_FACE = 0.3
"""Overlap (IoU) at which a detection belongs to a track, and that a face keeps between two measurements."""
SAME_TRACK = 0.5
"""Overlap (IoU) at which two tracks have slipped onto one face."""
SETTLE = 3
"""Passes at most from a detection to the region that the landmarks want."""
SETTLED = 0.85
"""Overlap (IoU) of two passes at which that region is found."""
CUT_CHANGE = 0.25
"""Change of a thumbnail (0 = same, 1 = unrelated; see ``_structure``) that may be a cut: the largest of 10,000 within
shots of talking heads was 0.23, while 97 % of pairs of different ones differ more."""
CUT_CONTRAST = 4.0
"""How many times the usual change a cut exceeds: in a fast pan every frame changes much."""
CUT_LASTS = 3
"""Ticks for which the change must stay: after a flash or a damaged frame comes what was before."""

# Weights of the positions at -4..4 ticks: shorter than any turn of the head that the crop should follow, long
# enough to average the noise of some four measurements.
_HANN = np.hanning(11)[1:-1]
_REACH = len(_HANN) // 2
_DELAY = MAX_GAP + MEASURE_EVERY + _REACH


@dataclass
class TrackedFace:
    """One face at one tick.

    ``track``    number of the face track within the file, counted from 0; a cut begins new tracks.
    ``points``   float32 (68, 2), iBUG order, upright picture pixels: measured or interpolated, not smoothed.
    ``matrix``   float64 (2, 3), from lip crop pixels to upright picture pixels, smoothed in time.
    ``ok``       whether the points were measured or lie between two measurements, not merely held over.
    ``size_px``  distance between the eyes in picture pixels.
    """

    track: int
    points: FloatArray
    matrix: NDArray[np.float64]
    ok: bool
    size_px: float


def track_faces(ticks: Iterable[Tick], backend: Backend) -> Iterator[tuple[Tick, list[TrackedFace]]]:
    """Yield every tick in order, up to 0.8 s late, with the faces seen in its frame, largest first.

    A tick without a frame has no faces and ends all tracks. A frame shown again keeps its faces unchanged.
    """
    tracker = _Tracker(backend)
    waiting: deque[_Look] = deque()
    for look in _looks(ticks):
        tracker.see(look)
        waiting.append(look)
        if len(waiting) > _DELAY:
            yield tracker.tell(waiting.popleft())
    while waiting:
        yield tracker.tell(waiting.popleft())


@dataclass
class _Look:
    """A tick and its place in the shot."""

    tick: Tick
    thumbnail: NDArray[np.float64] | None
    repeat: bool  # shows the same frame as the tick before
    cut: bool = False  # first of a shot
    last: bool = False  # last of a shot


def _looks(ticks: Iterable[Tick]) -> Iterator[_Look]:
    """Yield the ticks a few late, with repeated frames and the ends of shots marked."""
    cuts = _Cuts()
    end: Iterable[_Look | None] = repeat(None, CUT_LASTS + 1)
    window: deque[_Look | None] = deque([None], maxlen=CUT_LASTS + 2)
    for item in chain(_with_thumbnails(ticks), end):
        window.append(item)
        if len(window) < CUT_LASTS + 2:
            continue
        look, following = window[0], window[1]
        if following is not None:
            following.cut = cuts.between(look, following, [w for w in list(window)[2:] if w is not None])
        if look is not None:
            look.last = following is None or following.cut
            yield look


def _with_thumbnails(ticks: Iterable[Tick]) -> Iterator[_Look]:
    previous: _Look | None = None
    for tick in ticks:
        if previous is not None and tick.frame is previous.tick.frame:
            look = _Look(tick, previous.thumbnail, repeat=True)
        else:
            look = _Look(tick, None if tick.frame is None else _structure(tick.frame.thumbnail()), repeat=False)
        yield look
        previous = look


def _structure(thumbnail: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the thumbnail without its brightness and contrast, which flashes, fades and exposure change.

    Half the mean squared difference of two such is 1 minus their correlation; the floor keeps the noise of an
    empty picture from counting as structure.
    """
    values = thumbnail.astype(np.float64)
    values -= values.mean()
    return np.asarray(values / max(float(values.std()), 4.0))


class _Cuts:
    """Tells cuts from motion and flashes: the change is large, larger than usual in this shot, and it stays."""

    def __init__(self) -> None:
        self._before: NDArray[np.float64] | None = None
        self._usual = 0.0

    def between(self, look: _Look | None, following: _Look, later: list[_Look]) -> bool:
        if following.repeat:
            return False
        thumbnail = following.thumbnail
        if look is None or look.thumbnail is None or thumbnail is None or self._before is None:
            cut = True
        else:
            change = _change(self._before, thumbnail)
            limit = max(CUT_CHANGE, CUT_CONTRAST * self._usual)
            if change > limit:
                stays = all(w.thumbnail is None or _change(self._before, w.thumbnail) > limit for w in later)
                if not stays:
                    return False  # a flash: what comes is compared with what was before it
                cut = True
            else:
                self._usual += 0.1 * (change - self._usual)
                cut = False
        if cut:
            self._usual = 0.0
        self._before = thumbnail
        return cut


def _change(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(((a - b) ** 2).mean()) / 2


@dataclass(eq=False)
class _Track:
    number: int
    region: Region
    seen: int  # tick at which it was last measured
    hold: int = MEASURE_EVERY  # ticks for which the last measurement stands
    times: list[int] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    stable: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, time: int, points: FloatArray, region: Region) -> None:
        """Take in a measurement; what is too old to be asked for again is forgotten."""
        self.times.append(time)
        self.points.append(points)
        self.stable.append(stable_points(points))
        self.region = region
        for history in (self.times, self.points, self.stable):
            del history[: -(_DELAY + _REACH + MAX_GAP)]

    def at(self, time: int) -> TrackedFace | None:
        """Return the face at this tick, or None where the track has not begun or has ended."""
        first, last = self.times[0], self.times[-1]
        if time < first or time >= last + self.hold:
            return None
        points = self._between(self.points, time).astype(np.float32)
        # The window shrinks evenly at both ends of the track: a one-sided one would lag behind the face.
        reach = max(0, min(_REACH, time - first, last - time))
        weights = _HANN[_REACH - reach : _REACH + reach + 1]
        around = [self._between(self.stable, time + step) for step in range(-reach, reach + 1)]
        stable = np.tensordot(weights / weights.sum(), np.stack(around), axes=1)
        size = math.dist(stable[0], stable[1])
        return TrackedFace(self.number, points, crop_matrix(stable), time <= last, size)

    def _between(self, values: Sequence[NDArray[_Real]], time: int) -> NDArray[_Real]:
        """Interpolate measured values at a tick; the last one stands after it."""
        after = bisect_left(self.times, time)
        if after == len(self.times):
            return values[-1]
        if self.times[after] == time:
            return values[after]
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        return values[after - 1] + share * (values[after] - values[after - 1])


class _Tracker:
    """The live tracks, and those that ended but are still to be told."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._live: list[_Track] = []
        self._ended: list[_Track] = []
        self._count = 0
        self._shown = 0  # first tick of the frame that is shown
        self._measured = -MEASURE_EVERY  # tick of the last measurement
        self._detected = -DETECT_EVERY
        self._told: list[TrackedFace] = []

    def see(self, look: _Look) -> None:
        """Take in the next tick."""
        now, frame = look.tick.index, look.tick.frame
        if look.cut:
            for track in self._live:
                track.hold = 1
            self._end(self._live)
        if not look.repeat:
            self._shown = now
        if frame is None:
            return
        lost = any(track.seen < self._measured for track in self._live)
        detect = not look.repeat and (look.cut or now - self._detected >= (RETRY_EVERY if lost else DETECT_EVERY))
        fresh = self._measured >= self._shown
        if not fresh and (detect or look.last or now - self._measured >= MEASURE_EVERY):
            self._measured = now
            for track in self._live:
                self._measure(frame, track, track.region)
            newly_lost = not lost and any(track.seen < now for track in self._live)
            if detect or (newly_lost and not look.repeat and now - self._detected >= RETRY_EVERY):
                self._detect(frame)
        elif fresh:
            for track in self._live:  # the frame stands still, and so does what was seen in it
                if track.seen >= self._shown:
                    track.seen = now
            self._measured = now
        self._end([t for t in self._live if now - t.seen > MAX_GAP or self._is_double(t)])

    def tell(self, look: _Look) -> tuple[Tick, list[TrackedFace]]:
        """Return a tick with its faces; ticks are asked for in order."""
        if not look.repeat:
            now = look.tick.index
            faces = [track.at(now) for track in (*self._live, *self._ended)]
            self._told = sorted((face for face in faces if face is not None), key=lambda face: -face.size_px)
            self._ended = [track for track in self._ended if track.times[-1] + track.hold > now]
        return look.tick, self._told

    def _measure(self, frame: Frame, track: _Track, region: Region) -> bool:
        """Look for the face of a track in a region; False if it is not there."""
        points, score = self._backend.landmarks(frame, region)
        right_eye, left_eye, _, _ = stable_points(points)
        if score < MIN_SCORE or math.dist(right_eye, left_eye) < MIN_EYES_PX:
            return False
        found = self._backend.region(points)
        if found.overlap(region) < SAME_FACE:
            return False
        track.add(self._shown, points, found)
        track.seen = self._measured
        return True

    def _detect(self, frame: Frame) -> None:
        """Find lost faces again and begin tracks for new ones."""
        self._detected = self._measured
        found = [region for region, _ in self._backend.detect(frame)]
        pairs = [
            (track.region.overlap(region), i, j) for i, track in enumerate(self._live) for j, region in enumerate(found)
        ]
        matched: dict[int, int] = {}
        for overlap, i, j in sorted(pairs, reverse=True):
            if overlap >= SAME_FACE and i not in matched.values() and j not in matched:
                matched[j] = i
        for j, i in matched.items():
            track = self._live[i]
            if track.seen < self._measured:
                self._measure(frame, track, self._settled(frame, found[j]))
        unmatched = [region for j, region in enumerate(found) if j not in matched]
        for region in sorted(unmatched, key=lambda r: -r.size):
            if len(self._live) == MAX_FACES:
                break
            track = _Track(self._count, region, self._measured)
            if self._measure(frame, track, self._settled(frame, region)) and not self._is_double(track):
                self._live.append(track)
                self._count += 1

    def _settled(self, frame: Frame, region: Region) -> Region:
        """Return the region that the landmarks ask for, which a detector meets only roughly.

        What is no face does not keep its score when it is looked at again.
        """
        for _ in range(SETTLE):
            points, _ = self._backend.landmarks(frame, region)
            before, region = region, self._backend.region(points)
            if region.overlap(before) > SETTLED:
                break
        return region

    def _is_double(self, track: _Track) -> bool:
        """Whether an older track follows the same face."""
        older = (other for other in self._live if other.number < track.number)
        return any(other.region.overlap(track.region) > SAME_TRACK for other in older)

    def _end(self, tracks: list[_Track]) -> None:
        self._ended += tracks
        self._live = [track for track in self._live if track not in tracks]
