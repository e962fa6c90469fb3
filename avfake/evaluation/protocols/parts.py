"""What protocols are made of: headline questions, their parts, and what is told beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from avfake.evaluation.figures import (
    GENERAL,
    METRICS,
    PART,
    Figure,
    Question,
    answer,
    any_figure,
    mean_figure,
    trials,
)
from avfake.evaluation.material import Material
from avfake.evaluation.table import Table
from avfake.manifest import Row

MIN_TRIALS = 3
"""Fakes, and genuine clips, that a part must have to be asked about."""

EER_FIRST = ("eer", *(metric for metric in GENERAL if metric != "eer"))
"""What a headline about speech is asked, as its field reports it."""

Groups = NDArray[np.object_]
"""The group of each row (n,), None where it is in none."""


def all_of(rows: Sequence[Row], *corpora: str) -> bool:
    """Return whether there are rows, all of these corpora or of parts of them (``NAME/PART``)."""
    return bool(rows) and all(row.corpus.split("/")[0] in corpora for row in rows)


def told(table: Table, *scores: str) -> tuple[str, ...]:
    """Return those scores that the detector speaks of, be it to say why it did not judge; ``fake`` where of none.

    Somebody's score file often holds but one score.
    """
    spoken = {name for clip in table.clips for name in (*clip.scores, *clip.reasons)}
    return tuple(score for score in scores if score in spoken) or ("fake",)


def groups(table: Table, of: Callable[[Row], str | None]) -> Groups:
    """Return the group of each row (n,)."""
    found = np.empty(len(table.rows), object)
    found[:] = [of(row) for row in table.rows]
    return found


def headline(
    table: Table,
    score: str,
    *,
    name: str = "",
    among: NDArray[np.bool_] | None = None,
    metrics: tuple[str, ...] = GENERAL,
) -> Question:
    """Return the question of all genuine against all fake rows (``among`` some of them), by the labels of the score."""
    labels = table.labels(score)
    chosen = np.ones(len(labels), np.bool_) if among is None else among
    return Question(name or score, score, chosen & (labels == 0), chosen & (labels == 1), metrics=metrics)


def by_fakes(
    whole: Question,
    of: Groups,
    by: str,
    *,
    metrics: tuple[str, ...] = PART,
    name: str = "{score}: {group}",
    least: int = MIN_TRIALS,
    against: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] | None = None,
) -> list[Question]:
    """Return the fakes of each group against all genuine trials, or those that ``against`` chooses for these fakes."""

    def genuine(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return whole.genuine if against is None else against(whole.fake & inside)

    return _parts(whole, of, by, metrics, name, least, genuine)


def by_clips(
    whole: Question,
    of: Groups,
    by: str,
    *,
    metrics: tuple[str, ...] = PART,
    name: str = "{score}: {by} {group}",
    least: int = MIN_TRIALS,
) -> list[Question]:
    """Return the genuine and fake trials of each group that has enough of both."""
    return _parts(whole, of, by, metrics, name, least, lambda inside: whole.genuine & inside)


def _parts(
    whole: Question,
    of: Groups,
    by: str,
    metrics: tuple[str, ...],
    name: str,
    least: int,
    genuine: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
) -> list[Question]:
    """Return a question for each group with enough trials; ``genuine`` says which are set against those inside it."""
    found = []
    for group in _names(of[whole.fake]):
        inside = of == group
        fake, other = whole.fake & inside, genuine(inside)
        if min(fake.sum(), other.sum()) >= least:
            title = name.format(score=whole.score, by=by, group=group)
            found.append(Question(title, whole.score, other, fake, whole.name, by, metrics))
    return found


def _names(values: Groups) -> list[str]:
    return sorted({value for value in values if value is not None})


def mean_over(table: Table, questions: Sequence[Question], metric: str, *, of: str, what: str) -> Figure:
    """Return the plain mean of a metric over questions that define it, as a figure of the question ``of``."""
    each = [figure for question in questions for figure in answer(table, replace(question, metrics=(metric,)), 0)]
    defined = sum(not math.isnan(figure.value) for figure in each)
    return mean_figure(of, metric, f"mean {METRICS[metric].title} over {defined} {what}", each)


def of_trials(
    table: Table,
    question: Question,
    metric: str,
    title: str,
    compute: Callable[[NDArray[np.int64], NDArray[np.float64]], float],
    resamples: int,
    *,
    best: float,
    note: str = "",
) -> Figure:
    """Return a protocol's own metric of the labels and scores of a question; ``note`` where it is not defined."""
    found = trials(table, question)
    persons = table.persons()
    figure = any_figure(
        question.name,
        metric,
        title,
        compute,
        found.labels.tolist(),
        found.scores.tolist(),
        [persons[row] for row in found.rows],
        total=found.total,
        resamples=resamples,
        best=best,
    )
    fake = int(found.labels.sum())
    note = (note or "both labels are needed") if math.isnan(figure.value) else ""
    return replace(figure, genuine=len(found.labels) - fake, fake=fake, note=note)


def called_fake(material: Material, questions: Sequence[Question], resamples: int) -> list[Figure]:
    """Return the shares of the genuine and of the fake trials of each question called fake, each with its interval.

    The threshold is the detector's own, the interval that of ``share_called_fake``. Nothing is returned of a score for
    which the detector draws no line.
    """
    table = material.table
    persons = table.persons()
    found = []
    for question in questions:
        alarms = table.alarms(question.score)
        if np.isnan(alarms).all():
            continue
        for label, chosen in ((0, question.genuine), (1, question.fake)):
            judged = np.flatnonzero(chosen & ~np.isnan(alarms))
            who = [persons[row] for row in judged]
            total = int(chosen.sum())
            found.append(share_called_fake(question.name, label, alarms[judged], who, total=total, resamples=resamples))
    return found


def share_called_fake(
    question: str,
    label: int,
    alarms: NDArray[np.float64],
    persons: Sequence[str | None],
    *,
    total: int,
    resamples: int,
    note: str = "",
) -> Figure:
    """Return the share of alarms (n,), 1 or 0 each, of the judged trials of a label; ``note`` where there are none.

    Where all or none are alarms every bootstrap draw is the same, which would promise certainty: the interval is then
    the exact one (Clopper & Pearson 1934) of as many trials as there are persons. ``resamples`` of 0: no interval.
    """
    name, kind = ("fakes", "fake") if label else ("genuine", "genuine")
    figure = any_figure(
        question,
        f"{name}_called_fake",
        f"{name} called fake",
        lambda labels, called: float(np.mean(called)) if len(called) else math.nan,
        [label] * len(alarms),
        alarms.tolist(),
        persons,
        total=total,
        resamples=resamples,
        best=float(label),
    )
    genuine, fake = (0, len(alarms)) if label else (len(alarms), 0)
    if resamples and figure.value in (0, 1):
        count = count_persons(persons)
        exact = binomtest(count if figure.value else 0, count).proportion_ci(0.95, method="exact")
        figure = replace(figure, low=float(exact.low), high=float(exact.high))
    why_not = "" if len(alarms) else note or f"no {kind} trials were judged"
    return replace(figure, genuine=genuine, fake=fake, note=why_not)


def count_persons(persons: Sequence[str | None]) -> int:
    """Return how many persons trials are of; None is a person of its own each time, as in the bootstrap."""
    return len({person for person in persons if person is not None}) + sum(person is None for person in persons)
