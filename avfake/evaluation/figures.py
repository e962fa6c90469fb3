"""Figures: a metric over the trials that one question is about, with its interval and its coverage.

A *question* takes one score and says which clips are its genuine and which its fake trials; protocols are lists of
questions. What was not judged is left out of a figure and counted beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation import metrics
from avfake.evaluation.bootstrap import Metric, interval
from avfake.evaluation.table import Table, probability, ratio

Input = Literal["score", "probability", "ratio"]


class Definition(NamedTuple):
    """How a metric is told and what it takes: any score that orders clips, P(fake), or log-likelihood ratios."""

    title: str
    takes: Input
    compute: Metric
    best: float
    """The value of a perfect detector."""


METRICS: dict[str, Definition] = {
    "auc": Definition("AUC", "score", metrics.auc, 1.0),
    "ap": Definition("AP", "score", metrics.average_precision, 1.0),
    "eer": Definition("EER", "score", metrics.eer, 0.0),
    "tpr_at_0.1%": Definition("TPR at 0.1 % FPR", "score", partial(metrics.tpr_at_fpr, fpr=0.001), 1.0),
    "tpr_at_1%": Definition("TPR at 1 % FPR", "score", partial(metrics.tpr_at_fpr, fpr=0.01), 1.0),
    "tpr_at_5%": Definition("TPR at 5 % FPR", "score", partial(metrics.tpr_at_fpr, fpr=0.05), 1.0),
    "min_dcf": Definition("minDCF", "score", metrics.min_dcf, 0.0),
    "act_dcf": Definition("actDCF", "ratio", metrics.act_dcf, 0.0),
    "cllr": Definition("Cllr", "ratio", metrics.cllr, 0.0),
    "log_loss": Definition("log loss", "probability", metrics.log_loss, 0.0),
    "log_loss_balanced": Definition("log loss, balanced", "probability", partial(metrics.log_loss, balanced=True), 0.0),
    "ece": Definition("ECE, balanced", "probability", partial(metrics.ece, balanced=True), 0.0),
    "balanced_accuracy": Definition("balanced accuracy", "probability", metrics.balanced_accuracy, 1.0),
    "log_wp_at_0.1": Definition(
        "log wP at recall 0.1", "score", partial(metrics.log_weighted_precision, recall=0.1), 0.0
    ),
    "log_wp_at_0.5": Definition(
        "log wP at recall 0.5", "score", partial(metrics.log_weighted_precision, recall=0.5), 0.0
    ),
    "log_wp_at_0.9": Definition(
        "log wP at recall 0.9", "score", partial(metrics.log_weighted_precision, recall=0.9), 0.0
    ),
}
"""Metrics of clip scores by name; those of localisation, sync and tandem systems are protocols' own."""

RANKING = ("auc", "ap", "eer", "tpr_at_0.1%", "tpr_at_1%", "tpr_at_5%")
CALIBRATION = ("cllr", "act_dcf", "log_loss", "log_loss_balanced", "ece", "balanced_accuracy")
GENERAL = RANKING + CALIBRATION
"""What a headline question is asked; the parts of it are asked ``PART``."""
PART = ("auc", "eer")
SUMMARY = ("auc", "eer", "tpr_at_5%", "cllr")
"""What is told of a headline question in each domain."""


@dataclass(frozen=True)
class Figure:
    """One number.

    ``question`` and ``metric`` (a name of ``METRICS``, or a protocol's own) identify it within a test set; ``title`` is
    what people call the metric. ``low`` and ``high``: 95 % bootstrap interval, NaN where there is none. ``value`` is
    NaN where the trials do not define it, and ``note`` then says why. ``judged`` of ``total`` trials went into it,
    ``genuine`` and ``fake`` of these (0 both where trials are no clips). ``part_of`` and ``by`` are the question's.
    """

    question: str
    metric: str
    title: str
    value: float
    low: float
    high: float
    judged: int
    total: int
    genuine: int
    fake: int
    best: float = 1.0
    note: str = ""
    part_of: str = ""
    by: str = ""


@dataclass(frozen=True, eq=False)
class Question:
    """Which trials one score is asked about.

    ``name``      unique within a test set, as in ``visual: HyperLips``.
    ``score``     one of ``SCORES``.
    ``genuine``, ``fake``  which rows of the table (n,) are its trials; a row is at most one of the two.
    ``part_of``   the headline question that this one is a part of, "" for a headline.
    ``by``        what it is a part by: method, source, category, compression, language, duration, ...
    ``metrics``   what is asked.
    """

    name: str
    score: str
    genuine: NDArray[np.bool_]
    fake: NDArray[np.bool_]
    part_of: str = ""
    by: str = ""
    metrics: tuple[str, ...] = GENERAL


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of a question that were judged: numbers of their rows, labels and scores, (n,) each; ``total`` all."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    total: int


def trials(table: Table, question: Question) -> Trials:
    """Return what a table holds of a question. Raises ``ValueError`` where a row is genuine and fake."""
    if (question.genuine & question.fake).any():
        raise ValueError(f"{question.name}: a clip cannot be a genuine and a fake trial")
    asked = np.flatnonzero(question.genuine | question.fake)
    scores = table.scores(question.score)
    judged = asked[~np.isnan(scores[asked])]
    return Trials(judged, question.fake[judged].astype(np.int64), scores[judged], len(asked))


def answer(table: Table, question: Question, resamples: int) -> list[Figure]:
    """Return the figures of a question, with intervals from ``resamples`` draws of persons (0: none).

    Metrics that need probabilities are left out where scores are but an order.
    """
    found = trials(table, question)
    given: dict[Input, NDArray[np.float64]] = {"score": found.scores}
    if table.scale != "rank":
        given |= {"probability": probability(found.scores, table.scale), "ratio": ratio(found.scores, table.scale)}
    persons = table.persons()
    figures = (
        figure(
            question.name,
            metric,
            found.labels,
            given[METRICS[metric].takes],
            [persons[row] for row in found.rows],
            total=found.total,
            resamples=resamples,
        )
        for metric in question.metrics
        if METRICS[metric].takes in given
    )
    return [replace(each, part_of=question.part_of, by=question.by) for each in figures]


def before_calibration(table: Table, question: Question, resamples: int) -> list[Figure]:
    """Return Cllr and ECE of P(fake) before calibration over the judged trials; nothing where it is not told."""
    found = trials(table, question)
    raw = table.raw(question.score)[found.rows]
    if not len(raw) or np.isnan(raw).any():
        return []
    persons = table.persons()
    given = (("cllr", ratio(raw, "probability")), ("ece", raw))
    told = (
        figure(
            question.name,
            metric,
            found.labels,
            values,
            [persons[row] for row in found.rows],
            total=found.total,
            resamples=resamples,
        )
        for metric, values in given
    )
    return [replace(each, metric=f"raw_{each.metric}", title=f"{each.title} before calibration") for each in told]


def figure(
    question: str,
    metric: str,
    labels: NDArray[np.int64],
    values: NDArray[np.float64],
    persons: Sequence[str | None],
    *,
    total: int,
    resamples: int,
) -> Figure:
    """Return one metric of ``METRICS`` over judged trials; see ``Figure``."""
    definition = METRICS[metric]
    fake = int((labels == 1).sum())
    found = interval(definition.compute, labels, values, persons, resamples)
    return Figure(
        question,
        metric,
        definition.title,
        found.value,
        found.low,
        found.high,
        judged=len(labels),
        total=total,
        genuine=len(labels) - fake,
        fake=fake,
        best=definition.best,
        note=_why_not(metric, fake, len(labels) - fake) if math.isnan(found.value) else "",
    )


def mean_figure(question: str, metric: str, title: str, parts: Sequence[Figure]) -> Figure:
    """Return the plain mean of one metric over parts that define it, without an interval; NaN where none does."""
    asked = [part for part in parts if part.metric == metric]
    known = [part for part in asked if not math.isnan(part.value)]
    notes = sorted({part.note for part in asked if part.note})
    return Figure(
        question,
        f"mean_{metric}",
        title,
        float(np.mean([part.value for part in known])) if known else metrics.NAN,
        metrics.NAN,
        metrics.NAN,
        judged=sum(part.judged for part in known),
        total=sum(part.total for part in known),
        genuine=sum(part.genuine for part in known),
        fake=sum(part.fake for part in known),
        best=METRICS[metric].best,
        note="" if known else "; ".join(notes) or "there are no parts",
    )


def any_figure(
    question: str,
    metric: str,
    title: str,
    compute: Callable[[Any, Any], float],
    labels: Sequence[Any],
    values: Sequence[Any],
    persons: Sequence[str | None],
    *,
    total: int,
    resamples: int,
    best: float = 1.0,
    note: str = "",
) -> Figure:
    """Return a protocol's own metric of (labels, values), one entry a trial of whatever kind; ``interval`` draws."""
    found = interval(compute, list(labels), list(values), persons, resamples)
    return Figure(
        question, metric, title, found.value, found.low, found.high, len(values), total, 0, 0, best=best, note=note
    )


def _why_not(metric: str, fake: int, genuine: int) -> str:
    if not fake or not genuine:
        missing = "neither genuine nor fake" if not fake and not genuine else "no fake" if not fake else "no genuine"
        return f"{missing} trials were judged"
    if metric.startswith("tpr_at_"):
        return f"{genuine} genuine trials are too few for so low a rate"
    return "not defined for these trials"
