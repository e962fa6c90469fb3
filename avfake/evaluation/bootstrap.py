"""How sure a figure is: bootstrap intervals and differences of any metric, and DeLong's test of two AUCs.

The bootstrap draws whole groups with replacement, since clips of one person (or frames of one clip) are alike and
drawing them one by one would promise too much (``scipy.stats.bootstrap`` cannot keep groups whole). It is stratified:
groups with genuine trials alone, with fakes alone and with both are drawn apart, as many of each as there are, so that
both labels occur in every draw. Intervals are percentiles; the same seed gives the same interval.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from avfake.evaluation.metrics import NAN, split

Metric = Callable[[Any, Any], float]
"""A metric of (labels, scores), one entry a trial."""

Groups = Sequence[Hashable | None] | NDArray[Any] | None
"""Who each trial is of; a trial of None is a group of its own."""


class Interval(NamedTuple):
    """A figure and its interval; ``resamples`` is how many draws had a figure (were not NaN)."""

    value: float
    low: float
    high: float
    resamples: int


class Difference(NamedTuple):
    """Metric of one detector less that of another, its interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float
    resamples: int


class DeLong(NamedTuple):
    """Two AUCs on the same trials, their difference with its interval, and the test of no difference."""

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    z: float
    p: float


def interval(
    metric: Metric,
    labels: Sequence[Any] | NDArray[Any],
    scores: Sequence[Any] | NDArray[Any],
    groups: Groups = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a metric with its percentile bootstrap interval (Efron & Tibshirani 1993), in the metric's unit.

    ``labels`` and ``scores`` have one entry a trial, of any kind that ``metric`` takes: 0 / 1 and a score, a video's
    fake segments and its proposals, a clip's shift and its sync map. For the strata a trial is genuine where its label
    is 0 or an empty list. ``low`` and ``high`` are NaN where the metric is, and where a label rests on groups
    that are alone in their stratum: a draw would always hold them. Percentile intervals of few groups (below about 20)
    are too narrow. ``ValueError`` where the lengths differ.
    """
    known, given = _rows(labels), _rows(scores)
    value = metric(known, given)
    draws = (metric(known[drawn], given[drawn]) for drawn in _draws(known, given, groups, resamples, seed))
    defined = _defined(value, draws)
    return Interval(value, *_percentiles(defined, level), len(defined))


def paired_difference(
    metric: Metric,
    labels: Sequence[Any] | NDArray[Any],
    a: Sequence[Any] | NDArray[Any],
    b: Sequence[Any] | NDArray[Any],
    groups: Groups = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return ``metric`` of ``a`` less that of ``b``, two detectors' scores of the same trials, drawn together.

    As ``interval``. ``p`` is twice the smaller share of draws on either side of 0, 0 itself counting on both, with one
    draw added to each side (Davison & Hinkley 1997): never below 2 / (resamples + 1), never above 1.
    """
    known, ours, theirs = _rows(labels), _rows(a), _rows(b)
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} scores do not fit {len(theirs)}")
    value = metric(known, ours) - metric(known, theirs)
    draws = (
        metric(known[drawn], ours[drawn]) - metric(known[drawn], theirs[drawn])
        for drawn in _draws(known, ours, groups, resamples, seed)
    )
    defined = _defined(value, draws)
    tail = min((defined <= 0).sum(), (defined >= 0).sum())
    p = min(1.0, 2 * (1 + float(tail)) / (1 + len(defined))) if len(defined) else NAN
    return Difference(value, *_percentiles(defined, level), p, len(defined))


def delong(labels: ArrayLike, a: ArrayLike, b: ArrayLike, level: float = 0.95) -> DeLong:
    """Compare the AUCs of two detectors on the same trials (DeLong et al. 1988, by mid-ranks as Sun & Xu 2014).

    ``z`` is the difference over its standard error, ``p`` two-sided from the normal distribution; 0 and 1 where the
    detectors rank alike. It takes trials as independent: with several clips a person use ``paired_difference`` with
    groups. NaN with fewer than two trials of a label, ``z`` and ``p`` also where the error is 0 and the AUCs differ.
    """
    placements = [_placements(*split(labels, scores)) for scores in (a, b)]
    (genuine_a, fake_a), (genuine_b, fake_b) = placements
    if min(len(genuine_a), len(fake_a)) < 2:
        return DeLong(NAN, NAN, NAN, NAN, NAN, NAN, NAN)
    auc_a, auc_b = float(fake_a.mean()), float(fake_b.mean())
    apart = [(genuine_a - genuine_b), (fake_a - fake_b)]
    difference = float(apart[1].mean())
    error = math.sqrt(sum(part.var(ddof=1) / len(part) for part in apart))
    margin = float(norm.ppf((1 + level) / 2)) * error
    undefined = NAN if abs(difference) > 1e-12 else 0.0
    z = difference / error if error > 1e-12 else undefined  # less is rounding
    p = float(2 * norm.sf(abs(z)))
    return DeLong(auc_a, auc_b, difference, difference - margin, difference + margin, z, p)


def _placements(
    genuine: NDArray[np.float64], fake: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of fakes above each genuine trial, and of genuine below each fake, ties one half."""
    ranks = rankdata(np.concatenate([genuine, fake]))
    above = len(fake) - (ranks[: len(genuine)] - rankdata(genuine))
    below = ranks[len(genuine) :] - rankdata(fake)
    return above / max(len(fake), 1), below / max(len(genuine), 1)


def _rows(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Entries as an array that can be drawn from; lists and arrays stay whole entries."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    if any(np.ndim(value) or isinstance(value, Sequence) for value in values):
        rows = np.empty(len(values), object)
        for number, value in enumerate(values):
            rows[number] = value
        return rows
    return np.asarray(values)


def _is_fake(label: Any) -> bool:
    return len(label) > 0 if isinstance(label, Sequence | np.ndarray) else bool(label)


def _draws(
    labels: NDArray[Any], scores: NDArray[Any], groups: Groups, resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Indices of the trials of each draw; none where a label's groups are all alone in their strata."""
    known = [None] * len(labels) if groups is None else list(groups)
    if not len(labels) == len(scores) == len(known):
        raise ValueError(f"{len(labels)} labels, {len(scores)} scores and {len(known)} groups do not fit")
    if not resamples:
        return
    members: dict[Hashable, list[int]] = defaultdict(list)
    for trial, group in enumerate(known):
        members[("alone", trial) if group is None else ("group", group)].append(trial)
    fake = np.array([_is_fake(label) for label in labels], np.bool_)
    strata: dict[tuple[bool, ...], list[NDArray[np.int64]]] = defaultdict(list)
    for trials in members.values():
        strata[tuple(np.unique(fake[trials]).tolist())].append(np.array(trials))
    varied = {label for kinds, among in strata.items() if len(among) > 1 for label in kinds}
    if varied != set(fake.tolist()):
        return
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = [among[n] for among in strata.values() for n in random.integers(len(among), size=len(among))]
        yield np.concatenate(drawn)


def _defined(value: float, draws: Iterator[float]) -> NDArray[np.float64]:
    if math.isnan(value):
        return np.zeros(0)
    values = np.fromiter(draws, np.float64)
    return values[~np.isnan(values)]


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    if not len(values):
        return NAN, NAN
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
