"""Is one detector better than another? Figures of several score tables on the same trials, and their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avfake import AvfakeError
from avfake.evaluation.bootstrap import DeLong, Difference, Interval, Metric, delong, interval, paired_difference
from avfake.evaluation.metrics import auc, cllr, eer, tpr_at_fpr
from avfake.evaluation.table import Table, ratio

MetricName = Literal["auc", "eer", "tpr5", "cllr"]
FALSE_ALARMS = 0.05
"""Rate of false alarms that ``tpr5`` is measured at."""
METRICS: dict[MetricName, Metric] = {
    "auc": auc, "eer": eer, "tpr5": partial(tpr_at_fpr, fpr=FALSE_ALARMS), "cllr": cllr
}  # fmt: skip
LESS_IS_BETTER = ("eer", "cllr")


class CompareError(AvfakeError):
    """There is nothing that the tables could be compared on."""


@dataclass(frozen=True)
class Measured:
    """One table: how many of the clips whose label is known it judges, and its figure on the trials of all."""

    name: str
    judged: int
    figure: Interval


@dataclass(frozen=True)
class Pair:
    """The figure of ``a`` less that of ``b``; ``p_holm`` is corrected for the number of pairs.

    ``delong`` takes every clip as independent and exists for AUC alone, ``delong_p_holm`` with it.
    """

    a: str
    b: str
    difference: Difference
    p_holm: float
    delong: DeLong | None
    delong_p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """Several tables on the same trials.

    ``known``    clips whose label is known; ``genuine`` + ``fake`` of them were judged by all and are the trials.
    ``persons``  how many they are of; ``alone`` trials are of nobody known, and drawn one by one.
    """

    score: str
    metric: MetricName
    known: int
    genuine: int
    fake: int
    persons: int
    alone: int
    measured: tuple[Measured, ...]
    pairs: tuple[Pair, ...]


def compare(
    tables: Mapping[str, Table], score: str, metric: MetricName = "auc", resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Compare tables of the same rows by name, on the clips whose label is known and that all of them judged.

    ``score`` is one of ``table.SCORES``. Intervals and differences come from a bootstrap that draws whole persons, the
    same ones for both tables of a pair. ``cllr`` needs tables whose scale is not rank. Raises ``CompareError`` where
    a table has no such scale, or no trial of either label is left; ``ValueError`` for tables of other rows.
    """
    first = next(iter(tables.values()))
    if any(table.rows != first.rows for table in tables.values()):
        raise ValueError("the tables are not of the same rows")
    labels = first.labels(score)
    scores = {name: _scores(name, table, score, metric) for name, table in tables.items()}
    known = ~np.isnan(labels)
    trials = known & np.all([~np.isnan(given) for given in scores.values()], axis=0)
    truth = labels[trials].astype(np.int64)
    genuine, fake = int((truth == 0).sum()), int((truth == 1).sum())
    if not genuine or not fake:
        judged = ", ".join(f"{name} {int((known & ~np.isnan(given)).sum())}" for name, given in scores.items())
        raise CompareError(
            f"Of {int(known.sum())} clips with a known {score} label all files judge {genuine} genuine and {fake} fake "
            f"({judged}); both kinds are needed."
        )
    persons = [person for person, taken in zip(first.persons(), trials, strict=True) if taken]
    function = METRICS[metric]
    common = {name: given[trials] for name, given in scores.items()}
    measured = tuple(
        Measured(
            name,
            int((known & ~np.isnan(scores[name])).sum()),
            interval(function, truth, given, persons, resamples, seed=seed),
        )
        for name, given in common.items()
    )
    names = list(combinations(common, 2))
    differences = [
        paired_difference(function, truth, common[a], common[b], persons, resamples, seed=seed) for a, b in names
    ]
    delongs = [delong(truth, common[a], common[b]) for a, b in names] if metric == "auc" else []
    corrected = holm([difference.p for difference in differences])
    delongs_corrected = holm([one.p for one in delongs])
    pairs = tuple(
        Pair(
            a, b, differences[n], corrected[n],
            delongs[n] if delongs else None, delongs_corrected[n] if delongs else None,
        )
        for n, (a, b) in enumerate(names)
    )  # fmt: skip
    return Comparison(
        score, metric, int(known.sum()), genuine, fake, len(set(persons) - {None}), persons.count(None), measured, pairs
    )


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): calling those below 0.05 real errs in 5 % of tables.

    The k-th smallest of m times (m - k + 1), at least the one before it, at most 1. NaN stays, and counts in m.
    """
    order = sorted(range(len(p)), key=lambda n: (math.isnan(p[n]), p[n]))
    corrected = [math.nan] * len(p)
    highest = 0.0
    for rank, n in enumerate(order):
        if not math.isnan(p[n]):
            highest = corrected[n] = max(highest, min(1.0, (len(p) - rank) * p[n]))
    return corrected


def _scores(name: str, table: Table, score: str, metric: MetricName) -> NDArray[np.float64]:
    given = table.scores(score)
    if metric != "cllr":
        return given
    if table.scale == "rank":
        raise CompareError(f"{name}: cllr needs probabilities or log-likelihood ratios; say which they are.")
    return ratio(given, table.scale)
