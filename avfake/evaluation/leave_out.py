"""Leave one out: how far calibration and threshold hold for a method, or a source, that they were not fitted to.

The detector itself is not trained anew: what it has learned stays. An affine map from its scores to P(fake) and the
threshold for 5 % false alarms are fitted to all other groups (``calibrators``), and the group that was left out is
measured with these. Whoever meets an unknown method gets these figures, and not those of the whole test set.

``method``: genuine clips and the fakes of all other methods are fitted to. Trials are dealt into five folds, whoever
shares a person or a recording into the same one (``people.families``), and each fold's genuine clips and fakes of the
method are measured by what was fitted to the other folds. So all genuine clips count, but none is measured by a fit
that has seen its person, and no fake by one that has seen its person or its method.

``source``: all other corpora are fitted to, less the clips of whoever is in the one that was left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedGroupKFold

from avfake.corpora.people import families
from avfake.evaluation.calibrators import fit_affine, thresholds
from avfake.evaluation.figures import Figure, Question, figure, trials
from avfake.evaluation.protocols.parts import MIN_TRIALS, Groups, groups, share_called_fake
from avfake.evaluation.result import LeftOut
from avfake.evaluation.table import SURE, Table, ratio

By = Literal["method", "source"]

FOLDS = 5
RATE = 0.05
"""False-positive rate of the threshold; fewer than 20 genuine clips cannot set it (``calibrators.thresholds``)."""

_NO_FIT = "what is left lacks genuine clips or fakes of other people to fit to"
_NO_THRESHOLD = "what is left has fewer than 20 genuine clips, too few to set a threshold"


class _Judged(NamedTuple):
    """Trials that were judged (n,): rows, labels, logits, group (the method of a fake, or the source), and family."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float64]
    group: Groups
    family: NDArray[np.int64]


class _Said(NamedTuple):
    """What a fit to others says of each trial (n,), NaN where there was none: its ratio and whether it is an alarm."""

    ratio: NDArray[np.float64]
    alarm: NDArray[np.float64]


def leave_one_out(table: Table, question: Question, by: By, resamples: int = 0) -> list[LeftOut]:
    """Return the figures of each method or source of a question when left out, none where there is but one.

    Groups of at least ``MIN_TRIALS`` trials (of a method: fakes) are left out in turn. Figures: AUC (of the scores, as
    a rising map does not change it), Cllr, ECE, and the shares of genuine and of fake trials called fake. Scores are
    taken as they are before calibration, where known; those that only order clips are scaled to deviation 1 first.
    """
    group = groups(table, (lambda row: row.method) if by == "method" else (lambda row: row.corpus))
    counted = question.fake if by == "method" else question.genuine | question.fake
    names = sorted({name for name in group[counted] if name is not None})
    if len(names) < 2:
        return []
    found = trials(table, question)
    judged = _Judged(
        found.rows,
        found.labels,
        _logits(table, question.score, found.rows),
        group[found.rows],
        families([table.rows[row] for row in found.rows]) if len(found.rows) else np.zeros(0, np.int64),
    )
    folds = list(_folds(judged)) if by == "method" else []
    left_out = []
    for name in names:
        inside = counted & (group == name)
        if inside.sum() >= MIN_TRIALS:
            asked = inside | question.genuine if by == "method" else inside
            said = _by_folds(judged, folds, name) if by == "method" else _by_source(judged, name)
            tested = np.flatnonzero(asked[judged.rows])
            left_out.append(
                LeftOut(question.name, by, name, _figures(table, question, asked, judged, said, tested, resamples))
            )
    return left_out


def _logits(table: Table, score: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    raw = table.raw(score)[rows]
    if not np.isnan(raw).any():
        return np.asarray(logit(raw.clip(SURE, 1 - SURE)), np.float64)
    values = table.scores(score)[rows]
    if table.scale != "rank":
        return ratio(values, table.scale)
    return (values - values.mean()) / (values.std() or 1.0)


def _folds(judged: _Judged) -> Iterator[NDArray[np.bool_]]:
    """Yield the trials (n,) of each fold; nothing where there are too few people to part them."""
    known = [len(set(judged.family[judged.labels == label])) for label in (0, 1)]
    count = min(FOLDS, *known)
    if count >= 2:
        for _, inside in StratifiedGroupKFold(count).split(judged.labels, judged.labels, judged.family):
            yield np.isin(np.arange(len(judged.labels)), inside)


def _by_folds(judged: _Judged, folds: list[NDArray[np.bool_]], method: str) -> _Said:
    said = _Said(np.full(len(judged.labels), np.nan), np.full(len(judged.labels), np.nan))
    fake = judged.labels == 1
    left_out = fake & (judged.group == method)
    for fold in folds:
        _say(said, judged, learn=~fold & ~left_out, test=fold & (left_out | ~fake))
    return said


def _by_source(judged: _Judged, source: str) -> _Said:
    said = _Said(np.full(len(judged.labels), np.nan), np.full(len(judged.labels), np.nan))
    inside = judged.group == source
    _say(said, judged, learn=~inside & ~np.isin(judged.family, judged.family[inside]), test=inside)
    return said


def _say(said: _Said, judged: _Judged, *, learn: NDArray[np.bool_], test: NDArray[np.bool_]) -> None:
    labels = judged.labels[learn]
    if len(set(labels.tolist())) == 2:
        calibration = fit_affine(labels, judged.logits[learn])
        said.ratio[test] = calibration.ratio(judged.logits[test])
        threshold = thresholds(calibration(judged.logits[learn & (judged.labels == 0)])).get(RATE)
        if threshold is not None:
            said.alarm[test] = calibration(judged.logits[test]) >= threshold


def _figures(
    table: Table,
    question: Question,
    asked: NDArray[np.bool_],
    judged: _Judged,
    said: _Said,
    tested: NDArray[np.int64],
    resamples: int,
) -> tuple[Figure, ...]:
    persons = table.persons()
    fitted = tested[~np.isnan(said.ratio[tested])]
    called = tested[~np.isnan(said.alarm[tested])]

    def of(metric: str, values: NDArray[np.float64], among: NDArray[np.int64]) -> Figure:
        found = figure(
            question.name,
            metric,
            judged.labels[among],
            values[among],
            [persons[row] for row in judged.rows[among]],
            total=int(asked.sum()),
            resamples=resamples,
        )
        return found if len(among) or not len(tested) else replace(found, note=_NO_FIT)

    def share(label: int) -> Figure:
        among = called[judged.labels[called] == label]
        return share_called_fake(
            question.name,
            label,
            said.alarm[among],
            [persons[row] for row in judged.rows[among]],
            total=int((asked & (question.fake if label else question.genuine)).sum()),
            resamples=resamples,
            note="" if len(called) or not len(tested) else _NO_THRESHOLD if len(fitted) else _NO_FIT,
        )

    return (
        of("auc", judged.logits, tested),
        of("cllr", said.ratio, fitted),
        of("ece", np.asarray(expit(said.ratio), np.float64), fitted),
        share(0),
        share(1),
    )
