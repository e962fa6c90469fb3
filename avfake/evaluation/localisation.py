"""Temporal localisation of fakes: AP@IoU and AR@N as LAV-DF and AV-Deepfake1M define them.

Everywhere: ``segments`` holds the fake segments (start, end) in seconds of each video, none for a genuine one, and
``proposals`` what a detector says of it: (confidence, start, end) in any order. Both have one entry a video. **A fake
video without proposals counts as missed**; a genuine one without proposals is right. ``ValueError`` where the lists do
not fit each other, a segment is empty, a proposal ends before it starts, or something is NaN.

Where this differs from the official scripts (ControlNet/LAV-DF metrics.py, ControlNet/AV-Deepfake1M src/loc_1d.rs, both
the same in AP), and why:

- Their precision-recall curve ends at the first proposal, not at recall 0, so the best-ranked hit earns nothing: one
  segment found perfectly has AP 0. Here it counts; ours is higher by 1 / (number of segments) where the top proposal of
  all is a hit, and equal otherwise.
- AV-Deepfake1M leaves a video without proposals out of AR, so that silence raises it (its released package, 0.0.4,
  stops at one); LAV-DF's stops where a fake video has fewer than N. Here such segments count as missed.
- They take each video's proposals as sorted already. Here they are sorted by confidence, equal ones as listed.
- Equal confidences of several videos count in the order of the videos there, all at once here.
- They compute in float32; an IoU that equals a threshold but for rounding may fall on the other side.
- AR without any segment is 0 in AV-Deepfake1M; here, as AP, NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation.metrics import NAN

Segments = Sequence[Sequence[float]]
Proposals = Sequence[Sequence[float]]

AR_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


class Benchmark(NamedTuple):
    """The IoU thresholds of AP and the numbers of proposals of AR that a benchmark reports."""

    ious: tuple[float, ...]
    numbers: tuple[int, ...]


LAV_DF = Benchmark((0.5, 0.75, 0.95), (100, 50, 20, 10))
AV_DEEPFAKE1M = Benchmark((0.5, 0.75, 0.9, 0.95), (50, 30, 20, 10, 5))


def ap_at_iou(segments: Sequence[Segments], proposals: Sequence[Proposals], iou: float) -> float:
    """Average precision in [0, 1] of the proposals of all videos, a hit being an IoU *above* ``iou``.

    In each video every segment in turn takes the most confident proposal with that IoU that no segment has yet; the
    rest are false. Then all proposals are ranked together; AP is the area under precision (the highest at this recall
    or beyond) over recall = hits / all segments. Source: see the module. 0 without proposals, NaN without segments.
    This is the definition; ``protocols.localisation`` has the same for bootstraps, where clips are ranked but once.
    """
    confidences, hits, total = [np.zeros(0)], [np.zeros(0, np.bool_)], 0
    for fake, said in checked(segments, proposals):
        confidences.append(said[:, 0])
        hits.append(matched(ious(said, fake) > iou))
        total += len(fake)
    confidence, hit = np.concatenate(confidences), np.concatenate(hits)
    if not total or not len(confidence):
        return 0.0 if total else NAN
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.diff(confidence[order]) != 0, True)  # of each confidence
    found = np.cumsum(hit[order])[last]
    precision = found / (np.flatnonzero(last) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(found, prepend=0) @ highest / total)


def ar_at_n(segments: Sequence[Segments], proposals: Sequence[Proposals], number: int) -> float:
    """Average recall in [0, 1] with each video's ``number`` most confident proposals.

    The share of all videos' segments that some proposal meets with an IoU above a threshold, averaged over thresholds
    0.5, 0.55 to 0.95; one proposal may meet several segments. Source: see the module. NaN without segments.
    This is the definition; ``protocols.localisation`` has the same for bootstraps, where clips are matched but once.
    """
    best = [ious(said[:number], fake).max(axis=0, initial=0.0) for fake, said in checked(segments, proposals)]
    reached = np.concatenate(best) if best else np.zeros(0)
    return float(np.mean([(reached > iou).mean() for iou in AR_IOUS])) if len(reached) else NAN


def localise(segments: Sequence[Segments], proposals: Sequence[Proposals], benchmark: Benchmark) -> dict[str, float]:
    """Return all figures of a benchmark, ``AP@0.5`` to ``AR@10``."""
    figures = {f"AP@{iou:g}": ap_at_iou(segments, proposals, iou) for iou in benchmark.ious}
    return figures | {f"AR@{number}": ar_at_n(segments, proposals, number) for number in benchmark.numbers}


def challenge_score(figures: Mapping[str, float]) -> float:
    """Return the score in [0, 1] of the 1M-Deepfakes challenges: the mean of the mean AP and of the mean AR.

    ``figures`` are those of ``AV_DEEPFAKE1M``. Source: deepfakes1m.github.io/2025/details (1/8 sum AP + 1/10 sum AR).
    """
    means = (np.mean([value for name, value in figures.items() if name.startswith(kind)]) for kind in ("AP", "AR"))
    return float(sum(means) / 2)


def checked(
    segments: Sequence[Segments], proposals: Sequence[Proposals]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Segments (S, 2) and proposals (P, 3) of each video, the most confident first."""
    if len(segments) != len(proposals):
        raise ValueError(f"segments of {len(segments)} videos do not fit proposals of {len(proposals)}")
    videos = []
    for number, (fake, said) in enumerate(zip(segments, proposals, strict=True)):
        known = np.asarray(fake, np.float64).reshape(len(fake), 2)
        given = np.asarray(said, np.float64).reshape(len(said), 3)
        if not (known[:, 0] < known[:, 1]).all():
            raise ValueError(f"a segment of video {number} does not end after it starts")
        if not (given[:, 1] <= given[:, 2]).all() or np.isnan(given[:, 0]).any():
            raise ValueError(f"a proposal of video {number} ends before it starts, or holds NaN")
        videos.append((known, given[np.argsort(-given[:, 0], kind="stable")]))
    return videos


def ious(proposals: NDArray[np.float64], segments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (P, S)."""
    starts, ends = proposals[:, 1, None], proposals[:, 2, None]
    shared = np.minimum(ends, segments[:, 1]) - np.maximum(starts, segments[:, 0])
    covered = np.maximum(ends, segments[:, 1]) - np.minimum(starts, segments[:, 0])
    return np.maximum(shared, 0) / covered


def matched(fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which proposals are hits: each segment in turn takes the first that fits and is free."""
    taken = np.zeros(len(fits), np.bool_)
    for fit in fits.T:
        free = np.flatnonzero(fit & ~taken)
        taken[free[:1]] = True
    return taken
