"""What turns the logits of one aspect into P(fake), and its thresholds, fitted to logits whose label is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from avfake.evaluation.bootstrap import paired_difference
from avfake.evaluation.metrics import NAN, cllr, split, threshold_at_fpr
from avfake.models import Calibration

Fitter = Callable[[NDArray[np.int64], NDArray[np.float64]], Calibration]
"""From labels (n,) and logits (n,) to a map."""

FALSE_POSITIVE_RATES = (0.01, 0.05, 0.1)
"""What thresholds are set for."""
ENOUGH = 20
"""Clips of each label from which on an aspect is calibrated: fewer genuine ones show no rate of 5 %."""
FOLDS = 5
ENOUGH_FOR_ISOTONIC = 100
"""Clips of each label from which on an isotonic map is tried: with fewer its steps follow chance."""
ONE_ERROR = 0.68
"""Level of the interval that reaches one standard error to each side."""
LEAST_SCALE = 1e-3
RISE = 0.01
"""How much the ratio of an isotonic map rises below its first and above its last block's middle, so that it ranks."""


@dataclass(frozen=True)
class Fit:
    """The map and the thresholds of an aspect (see ``CheckpointConfig``), and why it is this map.

    ``before`` is the Cllr in bits of the logits as they were, which are the ratios of the identity; ``affine`` and
    ``isotonic`` are those of each map on people whom it was not fitted to, NaN where it was not tried.
    """

    calibration: Calibration
    thresholds: dict[float, float]
    genuine: int
    fake: int
    before: float
    affine: float
    isotonic: float
    why: str

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        figures = {"Cllr before": self.before, "Cllr affine": self.affine, "Cllr isotonic": self.isotonic}
        known = {name: round(value, 4) for name, value in figures.items() if not math.isnan(value)}
        return {"map": self.calibration.kind, "genuine": self.genuine, "fake": self.fake, **known}


def fit(labels: Sequence[int], logits: Sequence[float], groups: Sequence[Hashable | None]) -> Fit:
    """Fit P(fake) to labels (n,), 1 = fake, and logits (n,) of clips of ``groups`` (n,), and set thresholds.

    Both classes weigh the same, so P(fake) assumes even odds. Maps are judged by the Cllr on groups (people, as a rule;
    None is somebody of their own) that they were not fitted to: an affine one has to be better than none at all, else
    the identity is kept, and an isotonic one better by more than a standard error than what is kept so. Where there are
    too few groups to judge by, the map is affine. Raises ``ValueError`` unless both labels occur.
    """
    genuine, fake = split(labels, logits)
    if not len(genuine) or not len(fake):
        raise ValueError("a calibration needs genuine and fake clips")
    known, given = np.asarray(labels, np.int64), np.asarray(logits, np.float64)
    people = _numbered(groups)
    folds = _folds(known, people)
    before, affine, isotonic = cllr(known, given), NAN, NAN
    calibration, why = fit_affine(known, given), []
    if not folds:
        why.append("too few people of each label to try another map")
    else:
        ratios = _left_out(fit_affine, known, given, folds)
        affine = cllr(known, ratios)
        if affine >= before:
            calibration, ratios = Calibration(), given
            why.append("an affine map is no better than none on people left out")
        if min(len(genuine), len(fake)) < ENOUGH_FOR_ISOTONIC:
            why.append(f"fewer than {ENOUGH_FOR_ISOTONIC} clips of each label, too few for an isotonic map")
        else:
            theirs = _left_out(fit_isotonic, known, given, folds)
            isotonic = cllr(known, theirs)
            if paired_difference(cllr, known, theirs, ratios, people, level=ONE_ERROR).high < 0:
                calibration = replace(calibration, knots=fit_isotonic(known, given).knots)
                why.append("isotonic is better by more than a standard error")
            else:
                why.append("isotonic is not better by a standard error")
    return Fit(
        calibration,
        thresholds(calibration(genuine)),
        len(genuine),
        len(fake),
        before,
        affine,
        isotonic,
        "; ".join(why),
    )


def fit_affine(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> Calibration:
    """Platt scaling: logistic regression with classes of equal weight, a little regularised as scikit-learn does.

    Logits that fall with *fake* are as good as none: their map is all but flat, never turned round.
    """
    fitted = LogisticRegression(class_weight="balanced").fit(logits[:, None], labels)
    scale, bias = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if scale < LEAST_SCALE:
        middle = (logits[labels == 0].mean() + logits[labels == 1].mean()) / 2
        return Calibration(LEAST_SCALE, -LEAST_SCALE * float(middle))
    return Calibration(scale, bias)


def fit_isotonic(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> Calibration:
    """Pool adjacent violators; each block of equal P(fake) is a knot at its mean logit.

    One genuine and one fake clip are added below all others, and one of each above (Laplace's rule of succession, as
    ``opt_loglr`` of FoCal and BOSARIS; Bruemmer & du Preez 2006). So ratios lie between -ln(fakes + 2) and
    ln(genuine + 2), give or take ``RISE``: no more is said than so many clips can show. Lines between the blocks'
    middles in the place of steps rank what a block would tie, and are closer to the truth (centred isotonic
    regression, Oron & Flournoy 2017). From the outer middles on the map goes on rising, by ``RISE``, until as far
    beyond the outermost clips as these lie apart: else all that is more extreme than a block's middle would be tied.
    """
    levels, where = np.unique(logits, return_inverse=True)
    counts = np.ones((2, len(levels) + 2))  # of genuine and fake clips; the outer two levels are the added ones
    for label in (0, 1):
        counts[label, 1:-1] = np.bincount(where[labels == label], minlength=len(levels))
    genuine, fake = counts / counts.sum(axis=1, keepdims=True)
    p_fake = isotonic_regression(fake / (genuine + fake), sample_weight=genuine + fake)[1:-1]
    mass = (genuine + fake)[1:-1]
    knots = []
    for p in np.unique(p_fake):
        block = p_fake == p
        middle = np.average(levels[block], weights=mass[block]).clip(levels[block].min(), levels[block].max())
        knots.append([float(middle), float(logit(p))])
    reach = float(levels[-1] - levels[0]) or 1.0
    first = [float(levels[0]) - reach, knots[0][1] - RISE]
    last = [float(levels[-1]) + reach, knots[-1][1] + RISE]
    return replace(fit_affine(labels, logits), knots=[first, *knots, last])


def thresholds(genuine: ArrayLike) -> dict[float, float]:
    """Return, by false-positive rate, the P(fake) from which to call a clip fake, from P(fake) (n,) of genuine clips.

    At rate r at most a share r of further clips of the same kind is called fake, on average over such sets of n: the
    threshold lies just above the ceil((n + 1) (1 - r))-th lowest (split conformal prediction; Angelopoulos & Bates
    2021), which is higher than where a share r of these very clips exceed it. Rates that need more than n clips (1 / r)
    are left out. Never below 0.5, where genuine is the likelier answer at even odds: that only lowers the rate.
    """
    values = np.asarray(genuine, np.float64)
    count, found = len(values), {}
    for rate in FALSE_POSITIVE_RATES:
        if count * rate >= 1 - 1e-9:
            above = math.floor((count + 1) * rate + 1e-9) - 1
            found[rate] = max(0.5, math.nextafter(threshold_at_fpr(values, above / count), math.inf))
    return found


def _numbered(groups: Sequence[Hashable | None]) -> list[int]:
    """Groups as numbers; None is a new one each time."""
    numbers: dict[Hashable, int] = {}
    keys = (("alone", n) if group is None else ("group", group) for n, group in enumerate(groups))
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _folds(labels: NDArray[np.int64], groups: Sequence[int]) -> list[NDArray[np.int64]]:
    """Trials to leave out together, whole groups each; none where no fitting would be left with both labels."""
    people = [len(set(np.asarray(groups)[labels == label])) for label in (0, 1)]
    count = min(FOLDS, *people)
    if count < 2:
        return []
    folds = [left_out for _, left_out in StratifiedGroupKFold(count).split(labels, labels, groups)]
    fitted_to = [np.delete(labels, left_out) for left_out in folds]
    return folds if all(set(known) == {0, 1} for known in fitted_to) else []


def _left_out(
    fitted: Fitter, labels: NDArray[np.int64], logits: NDArray[np.float64], folds: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Log-likelihood ratio of each trial by the map that its fold had no part in."""
    ratios = np.empty_like(logits)
    for fold in folds:
        ratios[fold] = fitted(np.delete(labels, fold), np.delete(logits, fold)).ratio(logits[fold])
    return ratios
