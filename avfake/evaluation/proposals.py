"""From frame scores to proposals: which stretches of a clip look fake, and how much each of them stands out.

Candidates are the runs of frames above each of several levels between the least and the most suspicious frame of the
clip (the watershed of TAG: Zhao et al., ICCV 2017, with a running median in place of its grouping). A candidate's
confidence is how fake it looks inside times how genuine what is beside it does (a contrast of inside and outside, as
that of AutoLoc: Shou et al., ECCV 2018). Soft-NMS (Bodla et al., ICCV 2017) thins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import expit

from avfake import FPS
from avfake.evaluation.material import ClipFrames, Proposal, runs_by_clip
from avfake.judging import runs
from avfake.models import Calibration

MAX_PROPOSALS = 100
"""The most proposals of a clip: more are asked by no benchmark."""

MEDIAN = 5  # frames of the running median; it takes single outliers away and leaves edges in place
LEVELS = 20
HOLE = FPS  # frames without lips or voice, up to which what is before and after is taken to go on
MIN_LENGTH = 3  # frames; no spoken word is shorter
UNSEEN = 0.5  # P(fake) of what is beside the whole clip
SIGMA = 0.5  # of soft-NMS, the value of its paper

_Spans = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Curves:
    """What was said of each frame of a clip on the clock of its file, from its first frame on.

    ``visual``, ``audio``  uncalibrated log-odds of fake (T,), NaN where nothing was judged: no lips, or no voice.
    """

    visual: NDArray[np.float64]
    audio: NDArray[np.float64]


def by_clip(frames: Iterable[ClipFrames]) -> Iterator[tuple[str, Curves]]:
    """Yield the id and the curves of each clip; frames of one clip must follow each other.

    Of several faces in view at once the most suspicious counts, as a clip is fake where one of them is. Of a voice
    that was judged beside each of them, the mean counts, as in ``judging.Judge``.
    """
    for name, parts in runs_by_clip(frames):
        yield name, _curves(parts)


def of_clips(frames: Iterable[ClipFrames], calibration: Mapping[str, Calibration]) -> dict[str, list[Proposal]]:
    """Return the proposals of each clip of which a frame was judged, by id; see ``by_clip`` and ``propose``."""
    found = ((name, propose(curves, calibration)) for name, curves in by_clip(frames))
    return {name: proposals for name, proposals in found if proposals}


def _curves(parts: list[ClipFrames]) -> Curves:
    length = max(part.start + len(part.speech) for part in parts)
    visual, total, count = np.full(length, np.nan), np.zeros(length), np.zeros(length)
    for part in parts:
        span = slice(part.start, part.start + len(part.speech))
        visual[span] = np.fmax(visual[span], np.where(part.face_ok, part.visual, np.nan))
        heard = part.speech & ~np.isnan(part.audio)
        total[span] += np.where(heard, part.audio, 0.0)
        count[span] += heard
    return Curves(visual, np.where(count > 0, total / np.maximum(count, 1), np.nan))


def propose(curves: Curves, calibration: Mapping[str, Calibration]) -> list[Proposal]:
    """Return the stretches that look fake, the most confident first: at most ``MAX_PROPOSALS``.

    There are none where no frame was judged. ``calibration`` is that of the checkpoint by aspect; an aspect that it
    lacks keeps its log-odds. Proposals are made from the picture, from the voice, and from whichever of the two looks
    more fake. Times are in seconds of the file and on frames: a proposal begins with its first frame and ends where its
    last one does. What holds all judged frames is proposed as the whole clip. The confidence, in [0, 1], ranks the
    proposals of all clips; it is no probability.
    """
    visual, audio = (
        _smoothed(values, calibration.get(aspect, Calibration()))
        for aspect, values in (("visual", curves.visual), ("audio", curves.audio))
    )
    found = [_candidates(curve) for curve in (visual, audio, np.fmax(visual, audio)) if not np.isnan(curve).all()]
    if not found:
        return []
    spans, confidence = (np.concatenate(each) for each in zip(*found, strict=True))
    return [
        (float(score), float(start / FPS), float(end / FPS))
        for score, start, end in _thinned(*_best(spans, confidence))
    ]


def _smoothed(logits: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated log-odds of each frame after a running median; NaN stays NaN."""
    around = sliding_window_view(np.pad(logits, MEDIAN // 2, constant_values=np.nan), MEDIAN)
    judged = ~np.isnan(logits)
    curve = np.full(len(logits), np.nan)
    curve[judged] = calibration.ratio(np.nanmedian(around[judged], axis=1))
    return curve


def _candidates(curve: NDArray[np.float64]) -> tuple[_Spans, NDArray[np.float64]]:
    """Spans (n, 2) in frames, start and end (exclusive), and the confidence (n,) of each, from log-odds (T,)."""
    judged = np.flatnonzero(~np.isnan(curve))
    first, last = judged[0], judged[-1] + 1
    inner, known = curve[first:last], curve[judged]
    filled = np.interp(np.arange(first, last), judged, known)
    for start, end in runs(np.isnan(inner)):
        if end - start > HOLE:
            filled[start:end] = -np.inf  # nothing is there to be called fake
    levels = np.linspace(known.min(), known.max(), LEVELS + 1)[1:]
    spans = np.array([span for level in levels for span in runs(filled >= level)])
    length = spans[:, 1] - spans[:, 0]
    spans = np.unique(spans[(length >= MIN_LENGTH) & (length < len(filled))], axis=0)
    whole = float(expit(known).mean()) * (1 - UNSEEN)
    return np.concatenate([spans + first, [[0, len(curve)]]]), np.append(_contrast(expit(filled), spans), whole)


def _contrast(curve: NDArray[np.float64], spans: _Spans) -> NDArray[np.float64]:
    """Mean P(fake) inside times mean P(genuine) beside it: before and after as much as it is long, or all there is."""
    summed = np.concatenate([[0.0], np.cumsum(curve)])
    start, end = spans.T
    before, after = np.maximum(2 * start - end, 0), np.minimum(2 * end - start, len(curve))
    inside = (summed[end] - summed[start]) / (end - start)
    outside = (summed[start] - summed[before] + summed[after] - summed[end]) / (start - before + after - end)
    return np.asarray(inside * (1 - outside), np.float64)


def _best(spans: _Spans, confidence: NDArray[np.float64]) -> tuple[_Spans, NDArray[np.float64]]:
    """Each span once, with the highest confidence that it was given, in order of time."""
    once, which = np.unique(spans, axis=0, return_inverse=True)
    highest = np.zeros(len(once))
    np.maximum.at(highest, which.ravel(), confidence)
    return once, highest


def _thinned(spans: _Spans, confidence: NDArray[np.float64]) -> Iterator[tuple[float, int, int]]:
    """Yield confidence, start and end by soft-NMS: each one that is taken lowers the rest, the more they overlap it."""
    start, end = spans.T
    left = confidence.copy()
    for _ in range(min(len(left), MAX_PROPOSALS)):
        top = int(left.argmax())
        yield left[top], start[top], end[top]
        shared = np.maximum(np.minimum(end, end[top]) - np.maximum(start, start[top]), 0)
        iou = shared / (end - start + end[top] - start[top] - shared)
        left *= np.exp(-(iou**2) / SIGMA)
        left[top] = -1.0
