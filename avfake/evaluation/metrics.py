"""Metrics of detection, calibration and sync, each with its definition and source.

Everywhere: labels (n,) are 1 = fake, 0 = genuine (anything else raises ``ValueError``); scores (n,) float rise with
*fake* and hold no NaN (``ValueError``: what was not judged is the caller's to leave out and to count). A metric that
the trials do not define is NaN. ASVspoof calls the genuine "bona fide" or "target", the fakes "spoof", and its scores
rise with bona fide: a *miss* is a genuine clip called fake, a *false alarm* a fake that passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

NAN = float("nan")

P_SPOOF = 0.05
"""Prior of a spoof that ASVspoof assumes since 2019; C_MISS and C_FA are the costs of its detectors' two errors."""
C_MISS = 1.0
C_FA = 10.0

KAGGLE_CLIP = 1e-15
"""Kaggle moves probabilities this far away from 0 and 1 before it takes their logarithm."""

WP_ALPHA = 100.0
"""How much commoner genuine clips are in real traffic than in the DFDC test set (its paper's alpha)."""

OUTSIDE = -2.0
"""Sync evidence lies in [-1, 1]; a model writes less than this (or NaN) where a shift leaves the clip."""


# Ranking


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve in [0, 1]: P(a fake scores above a genuine clip), a tie counting one half.

    Source: Mann & Whitney's U over the number of pairs, which is what scikit-learn's ``roc_auc_score`` integrates, but
    50 times as fast on a few hundred clips: a bootstrap asks a thousand times. NaN unless both labels occur.
    """
    genuine, fake = split(labels, scores)
    if not len(genuine) or not len(fake):
        return NAN
    ranks = rankdata(np.concatenate([fake, genuine]))[: len(fake)]
    return float((ranks.sum() - len(fake) * (len(fake) + 1) / 2) / (len(fake) * len(genuine)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision in [0, 1]: the mean over the fakes of the precision at each one's score, ties taken together.

    Source: scikit-learn ``average_precision_score`` (no interpolation). Chance is the share of fakes, so values of
    test sets with different shares cannot be compared. NaN unless both labels occur.
    """
    genuine, fake = split(labels, scores)
    return float(average_precision_score(_labels(labels), scores)) if len(genuine) and len(fake) else NAN


def mean_auc(groups: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Mean AUC over the groups (labels, scores) that have both labels; NaN where none has."""
    values = [auc(labels, scores) for labels, scores in groups]
    return float(np.nanmean(values)) if not np.all(np.isnan(values)) else NAN


class Det(NamedTuple):
    """Operating points of ASVspoof's DET curve, from accepting all to rejecting all, (n + 1,) each.

    ``miss`` and ``false_alarm`` are rates in [0, 1]; at ``threshold`` (of scores that rise with bona fide) the trial
    with that very score is the last one rejected.
    """

    miss: NDArray[np.float64]
    false_alarm: NDArray[np.float64]
    threshold: NDArray[np.float64]


def det(bonafide: ArrayLike, spoof: ArrayLike) -> Det:
    """Return the DET curve of scores that rise with *bona fide*; ``ValueError`` where one side is empty or holds NaN.

    Source: ``compute_det_curve`` of ASVspoof (tDCF_python_v2; asvspoof5 evaluation-package/calculate_modules.py).
    Equal scores are rejected one by one, the bona fide first: between them the curve passes points that no threshold
    reaches. They cost more than their neighbours, so no minimum of a cost is found there; the EER can be (see there).
    """
    target, other = scored(bonafide), scored(spoof)
    if not len(target) or not len(other):
        raise ValueError("a DET curve needs bona fide and spoof scores")
    values = np.concatenate([target, other])
    order = np.argsort(values, kind="stable")
    rejected = np.cumsum(order < len(target))
    passed = len(other) - (np.arange(1, len(values) + 1) - rejected)
    miss = np.concatenate([[0.0], rejected / len(target)])
    false_alarm = np.concatenate([[1.0], passed / len(other)])
    return Det(miss, false_alarm, np.concatenate([[values.min() - 0.001], values[order]]))


def eer(labels: ArrayLike, scores: ArrayLike) -> float:
    """Equal error rate in [0, 1] as ASVspoof computes it: the mean of both error rates where they come closest.

    Source: ``compute_eer`` of ASVspoof (asvspoof5 evaluation-package/calculate_modules.py; the same since 2019).
    Without ties it is as good as the crossing of the ROC curve (off by at most one trial). Ties are taken to the
    detector's disadvantage (see ``det``): a detector that gives every clip the same score has EER 1, not 0.5, and
    scores rounded to few digits lose. NaN unless both labels occur.
    """
    genuine, fake = split(labels, scores)
    if not len(genuine) or not len(fake):
        return NAN
    miss, false_alarm, _ = det(-genuine, -fake)
    nearest = np.argmin(np.abs(miss - false_alarm))
    return float((miss[nearest] + false_alarm[nearest]) / 2)


# Decisions


def recall_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """Share of fakes above the lowest threshold that at most ``fpr`` of the genuine exceed; NaN without both labels.

    A threshold never parts equal scores, so with ties the rate reached is below ``fpr``, never above. With fewer than
    1 / ``fpr`` genuine clips none of them may exceed it: a value that hangs on the single highest genuine score.
    ``tpr_at_fpr`` is NaN there.
    """
    genuine, fake = split(labels, scores)
    if not len(genuine) or not len(fake):
        return NAN
    return float((fake > threshold_at_fpr(genuine, fpr)).mean())


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """True-positive rate in [0, 1] at a false-positive rate of ``fpr``: ``recall_at_fpr`` where the trials can tell.

    NaN with fewer than 1 / ``fpr`` genuine clips (1000 for 0.1 %): they cannot show so low a rate.
    """
    genuine, _ = split(labels, scores)
    return recall_at_fpr(labels, scores, fpr) if _allowed(len(genuine), fpr) else NAN


def threshold_at_fpr(genuine: ArrayLike, fpr: float) -> float:
    """Return the lowest genuine score that at most ``fpr`` of the genuine scores exceed."""
    ordered = np.sort(np.asarray(genuine, np.float64))
    return float(ordered[len(ordered) - 1 - _allowed(len(ordered), fpr)])


def _allowed(genuine: int, fpr: float) -> int:
    return math.floor(fpr * genuine + 1e-9)  # 0.29 of 100 is 29, in floats a little less


def balanced_accuracy(labels: ArrayLike, p_fake: ArrayLike, threshold: float = 0.5) -> float:
    """Mean in [0, 1] of the shares of fakes and of genuine clips that are called right; fake from ``threshold`` on.

    As scikit-learn ``balanced_accuracy_score``. Chance is 0.5. NaN unless both labels occur.
    """
    genuine, fake = split(labels, p_fake)
    if not len(genuine) or not len(fake):
        return NAN
    return float(((fake >= threshold).mean() + (genuine < threshold).mean()) / 2)


def min_dcf(labels: ArrayLike, scores: ArrayLike) -> float:
    """Minimum detection cost in [0, 1], the primary metric of ASVspoof 5 track 1.

    The least over all thresholds of C_miss (1 - pi) P_miss + C_fa pi P_fa, divided by that of the better of accepting
    all and rejecting all; C_miss = 1, C_fa = 10, pi = 0.05. Source: ASVspoof 5 evaluation plan, ``compute_mindcf`` in
    asvspoof5 evaluation-package. Ties do no harm, 1 says nothing, NaN unless both labels occur.
    """
    genuine, fake = split(labels, scores)
    if not len(genuine) or not len(fake):
        return NAN
    miss, false_alarm, _ = det(-genuine, -fake)
    return float(np.min(_dcf(miss, false_alarm)))


def act_dcf(labels: ArrayLike, log_likelihood_ratios: ArrayLike) -> float:
    """Detection cost in [0, 2.9] at the threshold that is best for true likelihood ratios (ASVspoof 5 track 1).

    The cost is that of ``min_dcf``; a clip is called fake where ln p(x | fake) / p(x | genuine) exceeds
    ln C_miss (1 - pi) / (C_fa pi) = ln 1.9. Source: ``compute_actDCF`` in asvspoof5 evaluation-package, whose ratios
    have the other sign. What it exceeds ``min_dcf`` by is the cost of bad calibration. NaN unless both labels occur.
    """
    genuine, fake = split(labels, log_likelihood_ratios)
    if not len(genuine) or not len(fake):
        return NAN
    threshold = math.log(C_MISS * (1 - P_SPOOF) / (C_FA * P_SPOOF))
    return float(_dcf((genuine > threshold).mean(), (fake <= threshold).mean()))


def _dcf(miss: NDArray[np.float64], false_alarm: NDArray[np.float64]) -> NDArray[np.float64]:
    accepting, rejecting = C_FA * P_SPOOF, C_MISS * (1 - P_SPOOF)
    return (rejecting * miss + accepting * false_alarm) / min(accepting, rejecting)


def log_weighted_precision(labels: ArrayLike, scores: ArrayLike, recall: float) -> float:
    """Natural logarithm (<= 0) of TP / (TP + 100 FP), at the highest threshold that finds ``recall`` of the fakes.

    Precision as it would be where genuine clips are 100 times commoner; 0 means no false alarm. Source: the DFDC
    preview paper (arXiv 1910.08854; alpha = 100, recall 0.1, 0.5 and 0.9), which has no public script. Equal scores are
    called together, so the recall reached can be higher. NaN unless both labels occur.
    """
    genuine, fake = split(labels, scores)
    if not len(genuine) or not len(fake):
        return NAN
    needed = max(1, math.ceil(recall * len(fake) - 1e-9))
    threshold = np.sort(fake)[len(fake) - needed]
    true, false = (fake >= threshold).sum(), (genuine >= threshold).sum()
    return float(-np.log1p(WP_ALPHA * false / true))


# Probabilities


def cllr(labels: ArrayLike, log_likelihood_ratios: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits (Bruemmer 2006; asvspoof5 ``calculate_CLLR``), from 0 up.

    0 is perfect, 1 says nothing, more misleads, NaN unless both labels occur. The ratios are natural
    logarithms of p(x | fake) / p(x | genuine). Both classes weigh the same. The official script overflows to infinity
    beyond ratios of 709; this does not.
    """
    genuine, fake = split(labels, log_likelihood_ratios)
    if not len(genuine) or not len(fake):
        return NAN
    return float((np.logaddexp(0, -fake).mean() + np.logaddexp(0, genuine).mean()) / (2 * np.log(2)))


def log_loss(labels: ArrayLike, p_fake: ArrayLike, balanced: bool = False) -> float:
    """Log loss of the DFDC challenge in nats, from 0 to 34.5; 0.693 (ln 2) is what P(fake) = 0.5 costs.

    The mean of -ln of the probability given to the true label, clipped to [1e-15, 1 - 1e-15] as Kaggle does;
    ``balanced`` takes the mean of the two classes' means (selimsef's validation, train_classifier.py). Source: DFDC
    paper (arXiv 2006.07397), Kaggle's definition. NaN without trials, ``balanced`` also unless both labels occur;
    ``ValueError`` outside [0, 1].
    """
    genuine, fake = (p.clip(KAGGLE_CLIP, 1 - KAGGLE_CLIP) for p in split(labels, _probabilities(p_fake)))
    losses = -np.log1p(-genuine), -np.log(fake)
    if balanced:
        return float((losses[0].mean() + losses[1].mean()) / 2) if len(genuine) and len(fake) else NAN
    return float(np.concatenate(losses).mean()) if len(genuine) or len(fake) else NAN


class Bin(NamedTuple):
    """Clips with P(fake) from ``low`` to ``high``: their mean P(fake), the share that is fake, and how many they are.

    ``weight`` is their part of all trials, which sums to 1 over the bins.
    """

    low: float
    high: float
    p_fake: float
    fake: float
    weight: float
    clips: int


def reliability(labels: ArrayLike, p_fake: ArrayLike, bins: int = 10, balanced: bool = False) -> tuple[Bin, ...]:
    """Return at most ``bins`` bins of equal mass by rising P(fake), empty without trials.

    Equal mass, not equal width: a detector's probabilities crowd at 0 and 1, so of bins of equal width the middle ones
    hold a handful of clips and their error is chance (Nixon et al. 2019; Roelofs et al. 2022 find less bias). Equal
    probabilities stay in one bin, so that the order of the clips does not matter. ``balanced`` weighs both classes the
    same, for a P(fake) that assumes even odds as avfake's does, and is empty unless both labels occur.
    """
    known, p = _labels(labels), _probabilities(p_fake)
    genuine, fake = split(known, p)
    if not len(p) or (balanced and not (len(genuine) and len(fake))):
        return ()
    # In whole numbers, which sum to the same in any order.
    weights = np.where(known == 1, len(genuine), len(fake)) if balanced else np.ones(len(p), np.int64)
    _, level = np.unique(p, return_inverse=True)
    mass = np.zeros(level.max() + 1, np.int64)
    np.add.at(mass, level, weights)
    # A level belongs to the bin that the middle of its mass falls into.
    chosen = (bins * (2 * np.cumsum(mass) - mass) // (2 * mass.sum()))[level]
    found = []
    for index in np.unique(chosen):
        inside = chosen == index
        weight = float(weights[inside].sum() / weights.sum())
        mean_p, share = (float(np.average(values[inside], weights=weights[inside])) for values in (p, known))
        found.append(Bin(float(p[inside].min()), float(p[inside].max()), mean_p, share, weight, int(inside.sum())))
    return tuple(found)


def ece(labels: ArrayLike, p_fake: ArrayLike, bins: int = 10, balanced: bool = False) -> float:
    """Expected calibration error in [0, 1]: mean over the bins of ``reliability`` of |mean P(fake) - share of fakes|.

    Source: Naeini et al. 2015, Guo et al. 2017, with bins of equal mass. Each bin's error is above 0 by chance alone
    (about 0.4 / sqrt(clips in a bin)): compare only over the same clips. NaN without trials, ``balanced`` also unless
    both labels occur.
    """
    found = reliability(labels, p_fake, bins, balanced)
    return sum(one.weight * abs(one.p_fake - one.fake) for one in found) if found else NAN


# Frames


class Frames(NamedTuple):
    """Frames that were judged and whose label is known, of many clips: label, score, and which clip, (n,) each.

    ``total`` counts the frames whose label is known, judged or not. ``clip`` is what to group by in a bootstrap.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    clip: NDArray[np.int64]
    total: int


def pool_frames(labels: Sequence[ArrayLike], scores: Sequence[ArrayLike]) -> Frames:
    """Pool each clip's frame labels (T,), NaN where not known, and frame scores (T,), NaN where not judged.

    ``ValueError`` where the lengths differ.
    """
    known = [np.asarray(each, np.float64) for each in labels]
    given = [np.asarray(each, np.float64) for each in scores]
    lengths = [len(each) for each in known]
    if lengths != [len(each) for each in given]:
        raise ValueError("the frames of labels and scores do not fit each other")
    clip = np.repeat(np.arange(len(known)), lengths)
    label, score = (np.concatenate([np.zeros(0), *each]) for each in (known, given))
    judged = ~np.isnan(label) & ~np.isnan(score)
    return Frames(_labels(label[judged]), score[judged], clip[judged], int((~np.isnan(label)).sum()))


def frame_auc(labels: Sequence[ArrayLike], scores: Sequence[ArrayLike]) -> float:
    """AUC over all frames of all clips pooled (``pool_frames``): a long clip weighs more, and all share one threshold.

    Source: the frame-level AUC of localisation papers (e.g. LAV-DF); no official script. NaN unless both labels occur.
    This is the definition; ``protocols.localisation`` has the same for bootstraps, where frames are ranked but once.
    """
    frames = pool_frames(labels, scores)
    return auc(frames.labels, frames.scores)


# Sync


class SyncLike(NamedTuple):
    """LSE-D-like ``distance`` in [0, 2], less is better, and LSE-C-like ``confidence`` in [0, 2], more is better."""

    distance: float
    confidence: float


def sync_confidence(curve: ArrayLike) -> SyncLike:
    """Return how close lips and voice come at the best shift, and how far that stands out, from a sync curve (31,).

    ``curve`` is the mean evidence in [-1, 1] of each shift; what is below ``OUTSIDE`` or NaN is left out. With distance
    = 1 - evidence: the least distance, and the median distance less the least. These are SyncNet's LSE-D and LSE-C
    (SyncNetInstance.py; Prajwal et al. 2020) in form only: the evidence is this model's, SyncNet's is the Euclidean
    distance of its own embeddings (about 6 to 15), so the figures must not be compared with published ones. NaN where
    fewer than two shifts are known.
    """
    evidence = _inside(np.asarray(curve, np.float64))
    known = evidence[~np.isnan(evidence)]
    if len(known) < 2:
        return SyncLike(NAN, NAN)
    return SyncLike(float(1 - known.max()), float(known.max() - np.median(known)))


def offset_errors(sync_map: ArrayLike, shift: int, context: int) -> NDArray[np.int64]:
    """Return the error in frames of the estimated offset, for each window of ``context`` frames of a clip.

    ``sync_map`` (T, 2 M + 1): evidence that the lips at t belong to the voice at t + k, k = -M..M, below ``OUTSIDE`` or
    NaN where t + k lies outside the clip. ``shift`` is the true k. Source: VocaLiST test_lrs2.py, SyncNet: evidence is
    averaged over the window, a shift that leaves the clip anywhere in it is no candidate (VocaLiST gives it -1000;
    SyncNet compares with zeros, which a poor match can lose to), and the best shift is the estimate. Of equally good
    shifts the one farthest from the truth counts. (T - context + 1,), less the windows without a candidate, and empty
    where the clip is shorter; ``ValueError`` where ``shift`` is out of reach.
    """
    evidence = _inside(np.asarray(sync_map, np.float64))
    reach = evidence.shape[1] // 2
    if abs(shift) > reach:
        raise ValueError(f"a shift of {shift} frames cannot be found among -{reach} to {reach}")
    if len(evidence) < context:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(evidence, context, axis=0).mean(axis=-1)
    windows = windows[~np.isnan(windows).all(axis=1)]
    error = np.arange(-reach, reach + 1) - shift
    best = windows == np.nanmax(windows, axis=1, keepdims=True)
    farthest = np.where(best, np.abs(error), -1).argmax(axis=1)
    return np.asarray(error[farthest], np.int64)


def sync_accuracy(shifts: Sequence[int], sync_maps: Sequence[ArrayLike], context: int) -> float:
    """Share in [0, 1] of all clips' windows of ``context`` frames whose offset is found within one frame.

    Source: SyncNet (Chung & Zisserman 2016), VocaLiST, which report contexts of 5 to 15 frames (0.2 to 0.6 s); see
    ``offset_errors``. Chance is about 3 / 31. NaN where no clip is long enough.
    """
    errors = _all_errors(shifts, sync_maps, context)
    return float((np.abs(errors) <= 1).mean()) if len(errors) else NAN


def mean_offset_error(shifts: Sequence[int], sync_maps: Sequence[ArrayLike], context: int) -> float:
    """Mean absolute error in frames (40 ms) of the offset over all clips' windows of ``context`` frames.

    See ``offset_errors``. From 0 to 30. NaN where no clip is long enough.
    """
    errors = _all_errors(shifts, sync_maps, context)
    return float(np.abs(errors).mean()) if len(errors) else NAN


def _all_errors(shifts: Sequence[int], sync_maps: Sequence[ArrayLike], context: int) -> NDArray[np.int64]:
    each = [offset_errors(sync_map, shift, context) for shift, sync_map in zip(shifts, sync_maps, strict=True)]
    return np.concatenate(each) if each else np.zeros(0, np.int64)


def _inside(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(evidence < OUTSIDE, np.nan, evidence)


# Input


def _labels(labels: ArrayLike) -> NDArray[np.int64]:
    known = np.asarray(labels)
    right = (known == 0) | (known == 1)
    if not np.all(right):
        raise ValueError(f"labels are 0 (genuine) or 1 (fake), not {known[~right][0]}")
    return known.astype(np.int64)


def scored(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores as float64; ``ValueError`` where one is NaN."""
    values = np.asarray(scores, np.float64)
    if np.isnan(values).any():
        raise ValueError("a score is NaN: leave out what was not judged")
    return values


def split(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores of the genuine and of the fakes; ``ValueError`` where labels, scores or lengths are wrong."""
    fake, values = _labels(labels) == 1, scored(scores)
    if fake.shape != values.shape:
        raise ValueError(f"{fake.size} labels do not fit {values.size} scores")
    return values[~fake], values[fake]


def _probabilities(p_fake: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p_fake, np.float64)
    if (values < 0).any() or (values > 1).any():
        raise ValueError("P(fake) lies between 0 and 1: these are other scores")
    return values
