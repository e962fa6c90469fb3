from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from avfake.evaluation import leave_out
from avfake.evaluation.calibrators import fit_affine, thresholds
from avfake.evaluation.figures import Figure
from avfake.evaluation.leave_out import By, leave_one_out
from avfake.evaluation.metrics import auc, cllr
from avfake.evaluation.protocols.parts import headline
from avfake.evaluation.table import ClipScore, Scale, Table
from avfake.manifest import Labels, Row


def row(name: str, *, method: str | None = None, corpus: str = "one", identity: str | None = None) -> Row:
    return Row(
        name, f"{name}.mp4", None, corpus, "test", identity, method, labels=Labels(visual=int(method is not None))
    )


def table(rows: Sequence[Row], logits: Sequence[float], scale: Scale = "llr") -> Table:
    clips = (ClipScore(one.id, {"fake": value}) for one, value in zip(rows, logits, strict=True))
    return Table(tuple(rows), tuple(clips), scale)


def mixed(seed: int = 0, genuine: int = 60, each: int = 20) -> Table:
    """Genuine clips and fakes of easy and hard methods, two clips a person, all scores different."""
    random = np.random.default_rng(seed)
    corpora = [("one", "two")[(n % 4 // 2) ^ (n % 20 == 0)] for n in range(genuine)]  # three people are in both
    rows = [row(f"g{n}", identity=f"p{n // 2}", corpus=corpora[n]) for n in range(genuine)]
    scores = list(random.normal(-2, 1, genuine))
    for method, middle in (("easy", 3.0), ("hard", -2.0), ("plain", 3.0), ("rare", 3.0)):
        count = 2 if method == "rare" else each
        rows += [
            row(f"{method}{n}", method=method, identity=f"p{n // 2 + 4}", corpus=("one", "two")[n % 4 // 2])
            for n in range(count)
        ]
        scores += list(random.normal(middle, 1, count))
    return table(rows, scores)


def left_out(given: Table, by: By, resamples: int = 0) -> dict[str, dict[str, Figure]]:
    return {
        one.group: {figure.metric: figure for figure in one.figures}
        for one in leave_one_out(given, headline(given, "fake"), by, resamples)
    }


def test_methods_of_three_fakes_and_more_are_left_out_in_turn() -> None:
    found = left_out(mixed(), "method", 50)
    assert set(found) == {"easy", "hard", "plain"}  # two clips of "rare" say nothing
    easy, hard = found["easy"], found["hard"]
    assert easy["auc"].value > 0.99
    assert abs(hard["auc"].value - 0.5) < 0.15
    assert easy["fakes_called_fake"].value > 0.9
    assert hard["fakes_called_fake"].value < 0.3
    assert easy["cllr"].value < 0.5 < hard["cllr"].value
    for figures in found.values():
        assert list(figures) == ["auc", "cllr", "ece", "genuine_called_fake", "fakes_called_fake"]
        assert (figures["auc"].genuine, figures["auc"].fake, figures["auc"].total) == (60, 20, 80)
        assert (figures["cllr"].judged, figures["genuine_called_fake"].judged) == (80, 60)
        assert figures["genuine_called_fake"].value < 0.15
        assert figures["cllr"].low < figures["cllr"].value < figures["cllr"].high
        assert {figure.question for figure in figures.values()} == {"fake"}


class Spy:
    """A calibration that notes what it was fitted to, and what it was used on."""

    def __init__(self, labels: NDArray[np.int64], logits: NDArray[np.float64]) -> None:
        self.fitted, self.used, self.inner = set(logits.tolist()), set[float](), fit_affine(labels, logits)

    def ratio(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        self.used |= set(logits.tolist())
        return self.inner.ratio(logits)

    def __call__(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.inner(logits)


@pytest.mark.parametrize("by", ["method", "source"])
def test_nobody_and_nothing_left_out_is_fitted_to(by: By, monkeypatch: pytest.MonkeyPatch) -> None:
    given = mixed()
    who = dict(zip(given.scores("fake").tolist(), given.rows, strict=True))
    spies: list[Spy] = []
    monkeypatch.setattr(leave_out, "fit_affine", lambda *fit: spies.append(Spy(*fit)) or spies[-1])
    groups = list(left_out(given, by))
    assert len(spies) == (15 if by == "method" else 2)
    for number, spy in enumerate(spies):
        group = groups[number * len(groups) // len(spies)]
        fitted, used = ([who[score] for score in scores] for scores in (spy.fitted, spy.used))
        assert not {one.identity for one in fitted} & {one.identity for one in used}
        if by == "method":
            assert group not in {one.method for one in fitted}
            assert {one.method for one in used} <= {None, group}
        else:
            assert group not in {one.corpus for one in fitted}
            assert {one.corpus for one in used} == {group}
    if by == "method":
        for group, five in zip(groups, (spies[:5], spies[5:10], spies[10:]), strict=True):
            used = [score for spy in five for score in spy.used]
            assert len(used) == len(set(used)) == 80
            assert sum(who[score].method == group for score in used) == 20


def test_a_fake_whose_original_was_fitted_to_is_not_measured_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(f"g{n}") for n in range(30)]
    for method in ("x", "y"):
        rows += [replace(row(f"{method}{n}", method=method), original=f"g{n}") for n in range(30)]
    given = table(rows, np.random.default_rng(0).normal(0, 1, 90).tolist())
    who = dict(zip(given.scores("fake").tolist(), given.rows, strict=True))
    spies: list[Spy] = []
    monkeypatch.setattr(leave_out, "fit_affine", lambda *fit: spies.append(Spy(*fit)) or spies[-1])
    left_out(given, "method")
    for spy in spies:
        fitted, used = ({who[score].id[1:] for score in scores} for scores in (spy.fitted, spy.used))
        assert used
        assert not fitted & used


def test_a_source_is_measured_by_the_fit_to_the_others() -> None:
    random = np.random.default_rng(1)
    rows = [row(f"{c}{n}", method="m" if n % 2 else None, corpus=c) for c in ("a", "b") for n in range(60)]
    logits = random.normal(0, 1, 120) + np.array([3.0 * (n % 2) for n in range(120)])
    found = left_out(table(rows, logits.tolist()), "source")
    labels = np.array([n % 2 for n in range(60)])
    calibration = fit_affine(labels, logits[60:])
    threshold = thresholds(calibration(logits[60:][labels == 0]))[0.05]
    here = calibration(logits[:60])
    assert found["a"]["auc"].value == auc(labels, logits[:60])
    assert found["a"]["cllr"].value == cllr(labels, calibration.ratio(logits[:60]))
    assert found["a"]["fakes_called_fake"].value == (here[labels == 1] >= threshold).mean()
    assert found["a"]["genuine_called_fake"].value == (here[labels == 0] >= threshold).mean()


def test_a_shifted_source_shows_in_calibration_but_not_in_auc() -> None:
    rows, logits = [], []
    for corpus, offset in (("a", 0.0), ("b", 0.0), ("c", 8.0)):
        for n in range(40):
            rows.append(row(f"{corpus}{n}", method="m" if n % 2 else None, corpus=corpus))
            logits.append(offset + (2.0 if n % 2 else -2.0) + 0.01 * n)
    found = left_out(table(rows, logits), "source")
    assert found["c"]["auc"].value == 1
    assert found["c"]["genuine_called_fake"].value == 1
    assert found["c"]["cllr"].value > 1


@pytest.mark.parametrize("by", ["method", "source"])
def test_a_single_group_cannot_be_left_out(by: By) -> None:
    rows = [row(f"{n}", method="m" if n % 2 else None) for n in range(40)]
    assert left_out(table(rows, [0.1 * n for n in range(40)]), by) == {}


def test_no_clips_no_groups() -> None:
    assert left_out(table([], []), "source") == {}


def test_too_few_people_or_genuine_clips_are_told() -> None:
    one_person = [row(f"{n}", method=(None, "a", "b")[n % 3], identity="Ann") for n in range(60)]
    found = left_out(table(one_person, [float(n) for n in range(60)]), "method")["a"]
    assert not math.isnan(found["auc"].value)  # it needs no fit
    for metric in ("cllr", "ece", "genuine_called_fake", "fakes_called_fake"):
        assert math.isnan(found[metric].value)
        assert "to fit to" in found[metric].note
        assert (found[metric].judged, found["auc"].judged) == (0, 40)
    few = [row(f"{n}", method=(None, "a", "b")[n % 3]) for n in range(30)]
    found = left_out(table(few, [float(n) for n in range(30)]), "method")["a"]
    assert not math.isnan(found["cllr"].value)
    assert math.isnan(found["genuine_called_fake"].value)
    assert "fewer than 20 genuine clips" in found["genuine_called_fake"].note


def test_what_was_not_judged_is_left_out_and_counted() -> None:
    given = mixed()
    silent = [replace(said, scores={}) if n in (0, 60) else said for n, said in enumerate(given.clips)]
    found = left_out(replace(given, clips=tuple(silent)), "method")["easy"]
    assert (found["auc"].judged, found["auc"].total) == (78, 80)
    assert (found["genuine_called_fake"].judged, found["genuine_called_fake"].total) == (59, 60)
    assert (found["fakes_called_fake"].judged, found["fakes_called_fake"].total) == (19, 20)


def values(given: Table) -> NDArray[np.float64]:
    return np.array([figure.value for figures in left_out(given, "method").values() for figure in figures.values()])


def test_scores_before_calibration_are_taken_where_known() -> None:
    given = mixed()
    saturated = [ClipScore(said.id, {"fake": 0.5}, {"fake": float(expit(said.scores["fake"]))}) for said in given.clips]
    assert values(Table(given.rows, tuple(saturated))) == pytest.approx(values(given), abs=1e-4)


def test_scores_that_only_order_clips_may_be_of_any_size() -> None:
    given = mixed()
    scores = given.scores("fake")
    small, large = (values(table(given.rows, (a * scores + b).tolist(), "rank")) for a, b in ((1e-4, 0.3), (1e4, -7.0)))
    assert small == pytest.approx(large, abs=1e-6)
    assert not np.isnan(small).any()
