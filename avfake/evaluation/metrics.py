"""Metrics, each with its definition and source. Scores rise with *fake*; labels are 1 = fake, 0 = genuine."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve; NaN unless both labels occur."""
    labels = np.asarray(labels)
    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else float("nan")


def eer(labels: ArrayLike, scores: ArrayLike) -> float:
    """Equal error rate as ASVspoof 5 computes it (evaluation-package, ``compute_eer``); NaN unless both labels occur.

    The threshold is where false rejection and false acceptance come closest; the value is the mean of the two there.
    The official script takes bona fide as target with scores that rise with bona fide, hence the sign.
    """
    target, other = _split(labels, -np.asarray(scores, np.float64))
    if not len(target) or not len(other):
        return float("nan")
    values = np.concatenate([target, other])
    is_target = np.concatenate([np.ones(len(target)), np.zeros(len(other))])[np.argsort(values, kind="mergesort")]
    accepted = np.cumsum(is_target)
    rejected_others = np.arange(1, len(values) + 1) - accepted
    frr = np.concatenate([[0.0], accepted / len(target)])
    far = np.concatenate([[1.0], (len(other) - rejected_others) / len(other)])
    nearest = np.argmin(np.abs(frr - far))
    return float((frr[nearest] + far[nearest]) / 2)


def cllr(labels: ArrayLike, log_likelihood_ratios: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits (Bruemmer 2006; asvspoof5 ``calculate_CLLR``).

    0 is perfect, 1 says nothing, more misleads, NaN unless both labels occur. The ratios are natural
    logarithms of p(x | fake) / p(x | genuine).
    """
    genuine, fake = _split(labels, np.asarray(log_likelihood_ratios, np.float64))
    if not len(genuine) or not len(fake):
        return float("nan")
    return float((np.logaddexp(0, -fake).mean() + np.logaddexp(0, genuine).mean()) / (2 * np.log(2)))


def recall_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """Share of fakes above the lowest threshold that at most ``fpr`` of the genuine exceed; NaN without both labels."""
    genuine, fake = _split(labels, np.asarray(scores, np.float64))
    if not len(genuine) or not len(fake):
        return float("nan")
    return float((fake > threshold_at_fpr(genuine, fpr)).mean())


def threshold_at_fpr(genuine: ArrayLike, fpr: float) -> float:
    """Return the lowest genuine score that at most ``fpr`` of the genuine scores exceed."""
    ordered = np.sort(np.asarray(genuine, np.float64))
    return float(ordered[len(ordered) - 1 - int(fpr * len(ordered))])


def _split(labels: ArrayLike, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fake = np.asarray(labels).astype(bool)
    return scores[~fake], scores[fake]


def mean_auc(groups: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Mean AUC over the groups (labels, scores) that have both labels."""
    values = [auc(labels, scores) for labels, scores in groups]
    return float(np.nanmean(values)) if not np.all(np.isnan(values)) else float("nan")
