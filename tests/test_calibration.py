"""Calibration: maps from logits to P(fake), how they are chosen and stored, thresholds, and what ``detect`` does then.

Clips are drawn from two normal distributions, whose log-likelihood ratio is known; what a model says of them is bent.
"""

from __future__ import annotations

import importlib.util
import json
import math
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synth import Audio, beeps, write
from tiny import TINY
from typer.testing import CliRunner

from avfake import load_detector, manifest
from avfake.cli import app
from avfake.detect import Detector, fingerprint
from avfake.evaluation import calibrators
from avfake.evaluation.bootstrap import paired_difference
from avfake.evaluation.calibration import CalibrationError, _weigh, calibrate
from avfake.evaluation.calibrators import (
    ENOUGH,
    FALSE_POSITIVE_RATES,
    RISE,
    Fit,
    fit,
    fit_affine,
    fit_isotonic,
    thresholds,
)
from avfake.evaluation.judged import Examiner, Place, Seen, Span, Talk
from avfake.evaluation.metrics import auc, cllr, ece
from avfake.judging import Aspect, Detection, Judge, SyncAspect, Track, Verdict, default_rate
from avfake.manifest import Labels, ManifestError, Row
from avfake.models import (
    AVFakeModel,
    Calibration,
    Checkpoint,
    CheckpointConfig,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from avfake.models.checkpoint import CONFIG
from avfake.runtimes.eager import TorchRuntime
from avfake.speech import SpeechFinder

Floats = NDArray[np.float64]
PEOPLE = 60

LINKS = {
    "over-confident": lambda ratio: 3 * ratio,
    "skewed": lambda ratio: ratio + 2.5,
    "kinked": lambda ratio: np.where(ratio > 0, 5 * ratio, 0.5 * ratio) + 1,
    "stretched": lambda ratio: ratio**3 / 2 - 1,
}
"""What a model says where the log-likelihood ratio is this; the first two are affine."""


class Draw(NamedTuple):
    labels: list[int]
    ratios: Floats
    logits: Floats
    people: list[str]


def draw(link: str, count: int = 600, seed: int = 0, fakes: float = 0.5) -> Draw:
    """Scores from N(-1, 1) and N(1, 1), whose log-likelihood ratio is 2 x, bent by a link."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < fakes).astype(int)
    ratios = 2 * random.normal(2 * labels - 1)
    return Draw(labels.tolist(), ratios, LINKS[link](ratios), [f"p{n % PEOPLE}" for n in range(count)])


def fitted(drawn: Draw) -> Fit:
    return fit(drawn.labels, drawn.logits.tolist(), drawn.people)


# ------------------------------------------------------------------------------------------- the map


def test_an_affine_map_is_platt_scaling() -> None:
    calibrate_ = Calibration(2.0, -1.0)
    assert calibrate_.kind == "affine"
    assert Calibration().kind == "identity"
    assert calibrate_(0.5) == 0.5
    assert calibrate_.ratio([[0.5, 1.0]]).tolist() == [[0.0, 1.0]]
    assert calibrate_([0.5, 1e4, -1e4]).tolist() == [0.5, 1.0, 0.0]  # unbounded, but without overflow


def test_an_isotonic_map_is_linear_between_knots_and_constant_outside() -> None:
    calibrate_ = Calibration(knots=[[-1.0, -2.0], [1.0, 0.0], [3.0, 1.0]])
    assert calibrate_.kind == "isotonic"
    assert calibrate_.ratio([-1e9, -1.0, 0.0, 2.0, 3.0, math.inf]).tolist() == [-2.0, -2.0, -1.0, 0.5, 1.0, 1.0]
    assert calibrate_(1.0) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": math.nan},
        {"bias": math.inf},
        {"knots": [[0.0, 1.0], [0.0, 2.0]]},
        {"knots": [[0.0, 1.0], [1.0, 0.0]]},
        {"knots": [[0.0, math.nan]]},
        {"knots": [[0.0, 1.0, 2.0]]},
    ],
)
def test_a_map_that_does_not_rise_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration(**wrong)


trials = st.lists(st.tuples(st.integers(0, 1), st.floats(-50, 50, width=32)), min_size=2, max_size=40).filter(
    lambda pairs: {label for label, _ in pairs} == {0, 1}
)


@settings(max_examples=40, deadline=None)
@given(trials, st.lists(st.floats(-500, 500), min_size=2, max_size=20))
def test_maps_rise_and_promise_no_more_than_the_clips_show(pairs: list[tuple[int, float]], asked: list[float]) -> None:
    labels, logits = np.array([label for label, _ in pairs]), np.array([logit for _, logit in pairs])
    genuine, fake = (labels == 0).sum(), (labels == 1).sum()
    isotonic = fit_isotonic(labels, logits)
    ratios = isotonic.ratio(np.sort(asked))
    assert (np.diff(ratios) >= -1e-12).all()
    assert (ratios > -np.log(fake + 2) - RISE).all()
    assert (ratios < np.log(genuine + 2) + RISE).all()
    told = fit(labels.tolist(), logits.tolist(), [None] * len(labels)).calibration
    assert told.kind in ("identity", "affine")  # so few clips are not enough for another
    assert (np.diff(told(np.sort(asked))) >= 0).all()


def test_an_isotonic_map_by_hand() -> None:
    # With a genuine and a fake clip added at each end there are six genuine and five fakes, in the blocks
    # (1 0 added) 0 0 0 | 1 0 | 1 1 (1 0 added).
    labels = np.array([0, 0, 0, 1, 0, 1, 1])
    logits = np.array([-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
    knots = fit_isotonic(labels, logits).knots
    genuine, fake = 4 + 2, 3 + 2
    odds = [(1 / fake) / (4 / genuine), (1 / fake) / (1 / genuine), (3 / fake) / (1 / genuine)]
    assert np.exp([ratio for _, ratio in knots[1:-1]]) == pytest.approx(odds)
    # Their middles: of three genuine clips; of a fake and a genuine one, weighed by class; of two fakes.
    middles = [-2.0, (0.0 / fake + 0.5 / genuine) / (1 / fake + 1 / genuine), 1.5]
    assert [logit for logit, _ in knots[1:-1]] == pytest.approx(middles)
    assert (knots[0][0], knots[-1][0]) == (-3.0 - 5.0, 2.0 + 5.0)


def test_an_isotonic_map_keeps_the_ranking() -> None:
    drawn = draw("kinked", 400)
    isotonic = fit_isotonic(np.array(drawn.labels), drawn.logits)
    unseen = draw("kinked", 4000, seed=1)
    assert len(np.unique(isotonic.ratio(unseen.logits))) == 4000
    assert auc(unseen.labels, isotonic.ratio(unseen.logits)) == pytest.approx(auc(unseen.labels, unseen.logits))


def test_one_value_for_all_says_nothing() -> None:
    labels = np.arange(60) % 3 // 2
    for calibrate_ in (fit_isotonic(labels, np.ones(60)), fit(labels.tolist(), [1.0] * 60, range(60)).calibration):
        assert calibrate_(1.0) == pytest.approx(0.5, abs=0.01)


def test_scores_that_fall_with_fake_say_nothing() -> None:
    drawn = draw("skewed")
    turned = fit(drawn.labels, (50 - drawn.logits).tolist(), drawn.people).calibration
    assert turned(50 - drawn.logits) == pytest.approx(0.5, abs=0.02)


# ------------------------------------------------------------------------------------------- choosing


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("fakes", [0.5, 0.8])
def test_calibrated_probabilities_are_better_on_unseen_clips(link: str, fakes: float) -> None:
    unseen = draw(link, 3000, seed=1)
    plain = Calibration()
    told = fitted(draw(link, fakes=fakes)).calibration
    assert cllr(unseen.labels, told.ratio(unseen.logits)) < cllr(unseen.labels, plain.ratio(unseen.logits)) - 0.03
    errors = [ece(unseen.labels, p_fake(unseen.logits), balanced=True) for p_fake in (told, plain)]
    assert errors[0] < errors[1] - 0.02
    # And nearly as good as can be, which is what the ratios themselves cost.
    assert cllr(unseen.labels, told.ratio(unseen.logits)) < cllr(unseen.labels, unseen.ratios) + 0.03


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("link", LINKS)
def test_the_map_that_fits_is_chosen(link: str, seed: int) -> None:
    found = fitted(draw(link, seed=seed))
    wanted = "affine" if link in ("over-confident", "skewed") else "isotonic"
    assert found.calibration.kind == wanted
    assert found.before > min(found.affine, found.isotonic)
    assert (found.isotonic < found.affine) or wanted == "affine"
    assert ("is better" in found.why) == (wanted == "isotonic")


@pytest.mark.parametrize("fakes", [0.5, 0.8])
def test_an_affine_map_is_found_again(fakes: float) -> None:
    told = fitted(draw("over-confident", 4000, fakes=fakes)).calibration
    assert told.kind == "affine"
    assert told.scale == pytest.approx(1 / 3, rel=0.06)
    assert told.bias == pytest.approx(0.0, abs=0.1)  # even odds, whatever the share of fakes


class Small(NamedTuple):
    labels: list[int]
    logits: Floats
    people: list[str]


def small(seed: int, people: int = 14, each: int = 4) -> Small:
    """Log-likelihood ratios as they should be, of a few people: most of what a clip says is whose it is."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people) % 2, each)
    said = 0.9 * np.repeat(random.normal(size=people), each) + math.sqrt(1 - 0.9**2) * random.normal(size=people * each)
    return Small(labels.tolist(), 2 * (2 * labels - 1 + said), [f"p{n // each}" for n in range(people * each)])


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_no_map_is_kept_where_it_is_better_on_people_left_out(scale: float) -> None:
    drawn = [small(seed) for seed in range(20)]
    found = [fit(one.labels, (scale * one.logits).tolist(), one.people) for one in drawn]
    kept = [one for one in found if one.calibration.kind == "identity"]
    for one, its in zip(found, drawn, strict=True):
        assert (one in kept) == (one.affine >= one.before)
        assert ("an affine map is no better than none on people left out" in one.why) == (one in kept)
        assert one.facts()["map"] == one.calibration.kind
        p_fake = one.calibration(scale * its.logits)
        assert one.thresholds == thresholds(p_fake[np.array(its.labels) == 0])
        if one in kept:
            assert (one.calibration.scale, one.calibration.bias) == (1.0, 0.0)
            assert p_fake.tolist() == Calibration()(scale * its.logits).tolist()
    # Scores that are calibrated already are left alone, as a rule; over-confident ones are not.
    assert len(kept) > 13 if scale == 1 else len(kept) < 4


def test_what_is_kept_on_average_costs_less_than_any_affine_map() -> None:
    unseen = small(100, people=2000)
    costs = []
    for seed in range(20):
        one = small(seed)
        told = fit(one.labels, one.logits.tolist(), one.people).calibration
        mapped = fit_affine(np.array(one.labels), one.logits)
        costs.append([cllr(unseen.labels, map_.ratio(unseen.logits)) for map_ in (told, mapped)])
    ours, affine = np.mean(costs, axis=0)
    assert ours < affine


def test_an_isotonic_map_has_to_be_better_than_what_is_kept() -> None:
    drawn = draw("kinked")
    straight = fit_affine(np.array(drawn.labels), drawn.logits).ratio(drawn.logits)  # no line is better than none now
    found = fit(drawn.labels, straight.tolist(), drawn.people)
    assert found.affine >= found.before > found.isotonic
    assert found.calibration.kind == found.facts()["map"] == "isotonic"
    assert (found.calibration.scale, found.calibration.bias) == (1.0, 0.0)  # what the "or" goes by
    assert found.why.endswith("; isotonic is better by more than a standard error")


def test_the_error_of_a_difference_is_that_of_people(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def difference(*given: Any, **options: Any) -> Any:
        asked.append(given[4])
        return paired_difference(*given, **options)

    monkeypatch.setattr(calibrators, "paired_difference", difference)
    fitted(draw("kinked"))
    assert asked == [[n % PEOPLE for n in range(600)]]


def test_few_clips_or_few_people_get_an_affine_map_and_are_told() -> None:
    few, many = draw("kinked", 150), draw("kinked", 600)
    found = fitted(few)
    assert (found.calibration.kind, math.isnan(found.isotonic)) == ("affine", True)
    assert "fewer than 100 clips" in found.why
    assert found.affine > 0
    alone = fit(many.labels, many.logits.tolist(), ["anna"] * 600)
    assert (alone.calibration.kind, math.isnan(alone.affine)) == ("affine", True)
    assert "too few people" in alone.why
    assert alone.facts().keys() == {"map", "genuine", "fake", "Cllr before"}
    # One person is all of the genuine clips, so no map can be fitted without them.
    genuine_anna = ["anna" if label == 0 else f"p{n}" for n, label in enumerate(many.labels)]
    assert "too few people" in fit(many.labels, many.logits.tolist(), genuine_anna).why


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_a_missing_label_is_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="genuine and fake"):
        fit(labels, [0.5] * len(labels), ["a"] * len(labels))


def test_nobody_is_on_both_sides_of_a_fold() -> None:
    drawn = draw("kinked", 300)
    people = calibrators._numbered([*drawn.people[:-5], *[None] * 5])
    assert len(set(people)) == PEOPLE + 5
    folds = calibrators._folds(np.array(drawn.labels), people)
    assert sorted(np.concatenate(folds).tolist()) == list(range(300))
    sides = [set(np.array(people)[fold]) for fold in folds]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_people_who_give_themselves_away_do_not_win() -> None:
    """Each person has a value of their own, wherever it lies: a map that learns them is worth nothing on others."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.integers(0, 2, 40), 20)
    logits = np.repeat(random.normal(size=40), 20) + random.normal(size=800) * 1e-3
    people = np.repeat(np.arange(40), 20)
    honest = fit(labels.tolist(), logits.tolist(), people.tolist())
    fooled = fit(labels.tolist(), logits.tolist(), [None] * 800)
    assert fooled.isotonic < fooled.affine
    assert honest.isotonic > fooled.isotonic + 0.03
    assert honest.calibration.kind != "isotonic"


def test_the_same_clips_give_the_same_map() -> None:
    assert fitted(draw("kinked")) == fitted(draw("kinked"))


# ------------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize(
    ("genuine", "rates"),
    [(0, []), (9, []), (10, [0.1]), (19, [0.1]), (20, [0.05, 0.1]), (99, [0.05, 0.1]), (100, [0.01, 0.05, 0.1])],
)
def test_rates_that_the_clips_cannot_show_are_left_out(genuine: int, rates: list[float]) -> None:
    assert list(thresholds(np.linspace(0.5, 0.9, genuine))) == rates


def test_thresholds_by_hand() -> None:
    p_fake = np.arange(1, 101) / 101 * 0.4 + 0.55
    found = thresholds(p_fake)
    # Of 101 clips, the new one among them, 1, 5 and 10 may be called fake; so 0, 4 and 9 of the hundred.
    assert [(p_fake >= found[rate]).sum() for rate in FALSE_POSITIVE_RATES] == [0, 4, 9]
    assert found[0.01] == math.nextafter(p_fake[-1], 1)
    assert thresholds(np.full(100, 0.2)) == {0.01: 0.5, 0.05: 0.5, 0.1: 0.5}
    assert all((np.ones(100) < threshold).all() for threshold in thresholds(np.ones(100)).values())


@pytest.mark.parametrize("genuine", [20, 35, 100, 400])
def test_thresholds_keep_their_rate_on_fresh_clips(genuine: int) -> None:
    random = np.random.default_rng(genuine)
    draws = 400
    reached: dict[float, list[float]] = {}
    for _ in range(draws):
        for rate, threshold in thresholds(0.5 + random.random(genuine) / 2).items():
            reached.setdefault(rate, []).append(2 * (1 - threshold))  # what exceeds it of all clips there could be
    assert reached.keys() >= {0.05, 0.1}
    for rate, rates in reached.items():
        noise = math.sqrt(rate * (1 - rate) / genuine / draws)
        assert np.mean(rates) < rate + 3 * noise
        assert np.mean(rates) > rate * (1 - 1 / (rate * genuine + 1)) - 3 * noise  # and are no higher than need be


def test_fitted_thresholds_keep_their_rate_on_fresh_clips() -> None:
    told = fitted(draw("kinked", 2000))
    unseen = draw("kinked", 20_000, seed=1, fakes=0.0)
    for rate, threshold in told.thresholds.items():
        assert (told.calibration(unseen.logits) >= threshold).mean() == pytest.approx(
            rate, abs=3 * math.sqrt(rate / 1000)
        )


# ------------------------------------------------------------------------------------------- in a checkpoint


@cache
def model() -> AVFakeModel:
    torch.manual_seed(0)
    return AVFakeModel(TINY).eval()


def tiny(**facts: Any) -> Checkpoint:
    return Checkpoint(deepcopy(model()), CheckpointConfig(TINY, preprocessing=1, **facts))


def test_a_calibration_comes_back_as_it_was(tmp_path: Path) -> None:
    told = {"visual": fitted(draw("kinked")), "audio": fitted(draw("skewed"))}
    made = tiny(
        calibration={name: one.calibration for name, one in told.items()},
        thresholds={name: one.thresholds for name, one in told.items()},
        metrics={"calibration": {name: one.facts() for name, one in told.items()}},
    )
    save_checkpoint(tmp_path, made.model, made.config)
    loaded = load_checkpoint(tmp_path).config
    assert loaded == made.config
    assert loaded.calibration["visual"].kind == "isotonic"
    assert "    0.05: " in (tmp_path / CONFIG).read_text()


def test_a_calibration_of_scale_and_bias_alone_is_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tiny().model, tiny(calibration={"audio": Calibration(2.0, 1.0)}).config)
    text = (tmp_path / CONFIG).read_text()
    assert "    knots: []\n" in text
    (tmp_path / CONFIG).write_text(text.replace("    knots: []\n", ""))
    assert load_checkpoint(tmp_path).config.calibration == {"audio": Calibration(2.0, 1.0)}


def test_a_calibration_that_makes_no_sense_gives_one_sentence(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tiny().model, tiny(calibration={"audio": Calibration(2.0, 1.0)}).config)
    file = tmp_path / CONFIG
    file.write_text(file.read_text().replace("scale: 2.0", "scale: -2.0"))
    with pytest.raises(CheckpointError, match="scale above 0") as caught:
        load_checkpoint(tmp_path)
    assert str(file) in str(caught.value)


def test_a_rate_that_is_asked_for_must_be_there() -> None:
    made = tiny(thresholds={"audio": {0.05: 0.7, 0.1: 0.5}, "visual": {0.1: 0.6}, "sync": {}})
    with pytest.raises(CheckpointError, match=r"tiny has no thresholds for a false-alarm rate of 0.05, only for 0.1:"):
        Detector(TorchRuntime(made), false_alarms=0.05)
    detector = Detector(TorchRuntime(made), false_alarms=0.1)
    assert detector.false_alarms == 0.1
    apart = tiny(thresholds={"audio": {0.05: 0.7}, "visual": {0.1: 0.6}})
    with pytest.raises(CheckpointError, match="nor for any other"):
        Detector(TorchRuntime(apart), false_alarms=0.05)
    Detector(TorchRuntime(tiny()), false_alarms=0.3)  # without thresholds even odds decide at all rates


@pytest.mark.parametrize(
    ("rates", "decides"),
    [([0.01, 0.05, 0.1], 0.05), ([0.2, 0.01, 0.1], 0.1), ([0.1], 0.1), ([0.001, 0.01], 0.01)],
)
def test_a_model_that_lacks_the_usual_rate_goes_by_another(rates: list[float], decides: float) -> None:
    assert default_rate(rates) == decides
    values = {rate: 0.9 - rate for rate in rates}
    judge = Judge(tiny(thresholds={"audio": values, "visual": {0.05: 0.7}, "sync": {}}).config)
    thresholds = [judge._threshold(aspect) for aspect in ("audio", "visual", "sync", "fake")]
    assert thresholds == [values[decides], 0.7, 0.5, 0.5]


def test_the_rate_is_part_of_the_fingerprint() -> None:
    assert fingerprint("a", "facemesh", 0.05) == fingerprint("a", "facemesh")
    assert fingerprint("a", "facemesh", 0.05) != fingerprint("a", "facemesh", 0.1)


# ------------------------------------------------------------------------------------------- from clips to detect


def made_up(name: str, visual: int, audio: int, person: str) -> Row:
    method = "made" if visual or audio else None
    return Row(name, f"{name}.mp4", None, "toy", "dev", person, method, labels=Labels(visual, audio, 0))


class Scores(NamedTuple):
    """What the detector says: logits of a clip, by aspect."""

    visual: float
    audio: float
    sync: float
    fake: float


def detection(scores: Scores) -> Detection:
    def p(logit: float) -> float:
        return 1 / (1 + math.exp(-logit))

    visual, audio = Aspect("genuine", p(scores.visual)), Aspect("genuine", p(scores.audio))
    sync = SyncAspect("genuine", p(scores.sync), state="in_sync")
    track = Track(0, 0.0, 4.0, 60.0, True, visual, audio, sync, p(scores.fake))
    return Detection("x", "tiny", 4.0, Verdict("genuine", 0.5, "low", ()), audio, (track,), ())


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Rows whose judgement is made up: aspects are over-confident, ``fake`` follows what the "or" was set to."""
    random = np.random.default_rng(0)
    rows = [made_up(f"c{n}", n % 2, n // 2 % 2, f"p{n % 30}") for n in range(240)]
    bent = {row.id: 3 * (2 * random.normal(size=4) + 2) for row in rows}

    def detect(self: Examiner, place: Place) -> Seen:
        row = place.row
        assert self.detector.config.calibration == {}
        scale = self.detector.runtime.model.fusion.aspect_scale[0].item()
        visual, audio = (bent[row.id][n] - 12 * (label == 0) for n, label in enumerate(list_of(row)))
        said = detection(Scores(visual, audio, bent[row.id][2] - 12, scale * max(visual, audio)))
        return Seen(said, Span(0, 0, 100, 100) if row.method is None else None)

    def voices(self: Examiner, talk: Talk) -> tuple[Detection, Detection]:
        assert talk.partner.row.identity != talk.place.row.identity
        said = bent[talk.place.row.id]
        return detect(self, talk.place).said, detection(Scores(0, 0, said[3], 3.0))

    monkeypatch.setattr(Examiner, "detect", detect)
    monkeypatch.setattr(Examiner, "voices", voices)
    return rows


def list_of(row: Row) -> list[int | None]:
    return [row.labels.visual, row.labels.audio]


def test_a_checkpoint_is_calibrated_in_two_passes(judged: list[Row]) -> None:
    made = tiny(metrics={"validation AUC": {"mean": 0.9}})
    told, found, notes = calibrate(made, judged)
    assert notes == []
    assert found.keys() == {"visual", "audio", "sync", "fake"}
    assert (found["visual"].genuine, found["sync"].genuine, found["fake"].fake) == (120, 60, 180 + 60)
    for name, one in found.items():
        assert told.config.calibration[name] == one.calibration
        assert told.config.thresholds[name].keys() >= {0.05, 0.1}
        assert told.config.metrics["calibration"][name] == one.facts()
        assert one.affine < one.before
    assert told.config.metrics["validation AUC"] == {"mean": 0.9}
    fusion = told.model.fusion
    scales = [found[name].calibration.scale for name in ("visual", "audio", "sync")]
    assert fusion.aspect_scale.tolist() == pytest.approx(scales)
    assert fusion.aspect_bias.tolist() == pytest.approx(
        [found[name].calibration.bias for name in ("visual", "audio", "sync")]
    )
    # ``fake`` was fitted to what the "or" says once it weighs the aspects so: three times less.
    assert found["fake"].calibration.scale > 2 * found["visual"].calibration.scale


def test_the_or_takes_an_aspect_as_it_is_where_no_map_is_better() -> None:
    drawn = (small(seed) for seed in range(20))
    fits = (fit(one.labels, one.logits.tolist(), one.people) for one in drawn)
    found = next(one for one in fits if one.calibration.kind == "identity")
    made = tiny()
    made.model.fusion.aspect_scale.fill_(3.0)  # of an earlier calibration
    made.model.fusion.aspect_bias.fill_(2.0)
    _weigh(made.model, {"visual": found})
    assert made.model.fusion.aspect_scale.tolist() == [1.0, 3.0, 3.0]
    assert made.model.fusion.aspect_bias.tolist() == [0.0, 2.0, 2.0]


def test_what_the_rows_cannot_tell_stays_as_it_was(judged: list[Row]) -> None:
    old = {"fake": Calibration(2.0, 1.0), "audio": Calibration(3.0, 1.0)}
    made = tiny(calibration=old, thresholds={"fake": {0.05: 0.6}})
    rows = [row for row in judged if row.labels.visual == 1]  # no genuine clip: neither visual, sync nor fake
    told, found, notes = calibrate(made, rows)
    assert found.keys() == {"audio"}
    assert notes == [
        f"{name} stays as it was, map and thresholds: 0 genuine and {fakes} fake clips were judged, and 20 of "
        "each are needed."
        for name, fakes in (("visual", 120), ("sync", 0), ("fake", 120))
    ]
    assert told.config.calibration["fake"] == old["fake"]
    assert told.config.calibration["audio"] != old["audio"]
    assert told.config.thresholds["fake"] == {0.05: 0.6}
    assert told.model.fusion.aspect_scale.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(
        CalibrationError, match=r"nothing to calibrate tiny by: 20 genuine .* audio 0 genuine and 60 fake"
    ):
        calibrate(made, [row for row in rows if row.labels.audio == 1])
    only = replace(made, config=replace(made.config, aspects=["visual"]))
    assert calibrate(only, judged).fitted.keys() == {"visual"}


def test_too_few_clips_of_a_label_change_nothing(judged: list[Row]) -> None:
    voices = {n: [row for row in judged if row.labels.visual == 1 and row.labels.audio == n] for n in (0, 1)}
    old = Calibration(3.0, 1.0)
    for genuine, fake in ((ENOUGH - 1, 60), (60, ENOUGH - 1)):
        made = tiny(calibration={"audio": old}, thresholds={"audio": {0.05: 0.7}})
        with pytest.raises(CalibrationError, match=f"audio {genuine} genuine and {fake} fake"):
            calibrate(made, voices[0][:genuine] + voices[1][:fake])
        assert made.config.calibration == {"audio": old}
        assert made.config.thresholds == {"audio": {0.05: 0.7}}
    assert calibrate(made, voices[0][:ENOUGH] + voices[1][:ENOUGH]).fitted["audio"].thresholds.keys() == {0.05, 0.1}


def test_thresholds_that_go_with_the_old_map_are_told(judged: list[Row]) -> None:
    made = tiny(aspects=["audio"], thresholds={"audio": {0.01: 0.9, 0.02: 0.8, 0.05: 0.7}, "visual": {0.01: 0.9}})
    voices = [row for row in judged if row.labels.visual == 1]
    told, found, notes = calibrate(made, voices)
    assert told.config.thresholds == {"audio": found["audio"].thresholds, "visual": {0.01: 0.9}}
    assert notes == [
        "audio has no threshold for a false-alarm rate of 0.01 and 0.02 any more, as that was of its old map: 60 "
        "genuine clips set those for 0.05 and 0.1."
    ]


@pytest.fixture
def voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound that is taken for speech."""
    monkeypatch.setattr(SpeechFinder, "__call__", lambda self, audio: np.ones(len(audio) // 640, np.bool_))
    write(tmp_path / "voice.m4a", audio=Audio(beeps(3.0, 48_000, [0.2, 0.6])))
    return tmp_path / "voice.m4a"


def test_detect_goes_by_what_was_calibrated_and_saved(judged: list[Row], tmp_path: Path, voice: Path) -> None:
    bare = tmp_path / "bare"
    made = tiny()
    save_checkpoint(bare, made.model, made.config)
    said = Detector.from_pretrained(str(bare)).detect(voice).voice.p_fake
    assert said is not None
    told, found, _ = calibrate(load_checkpoint(bare), judged)
    save_checkpoint(tmp_path / "told", told.model, told.config)
    p_fake = found["audio"].calibration(math.log(said / (1 - said)))
    detector = Detector.from_pretrained(str(tmp_path / "told"), false_alarms=0.1)
    heard = detector.detect(voice).voice
    assert heard.p_fake == pytest.approx(p_fake)
    assert heard.p_fake is not None
    assert heard.status == ("fake" if p_fake >= found["audio"].thresholds[0.1] else "genuine")
    # Where the threshold is that very value it is fake; a hair above, it is not.
    for shift, status in ((0.0, "fake"), (1e-6, "genuine")):
        detector.config = replace(told.config, thresholds={"audio": {0.05: 0.0, 0.1: heard.p_fake + shift}})
        assert detector.detect(voice).voice.status == status


def test_the_command_line_asks_for_a_rate(tmp_path: Path, voice: Path) -> None:
    made = tiny(thresholds={name: {0.05: 0.999, 0.1: 1e-6} for name in ("audio", "visual", "sync", "fake")})
    save_checkpoint(tmp_path / "model", made.model, made.config)
    options = ["detect", str(voice), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "o.jsonl"), "--json"]

    def status(*more: str) -> tuple[str, bool]:
        result = CliRunner().invoke(app, [*options, *more])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["voice"]["status"], "already" in result.stderr

    assert status() == ("genuine", False)
    assert status("--false-alarms", "0.05") == ("genuine", True)
    assert status("--false-alarms", "0.1") == ("fake", False)  # another detector, so it is judged again
    refused = CliRunner().invoke(app, [*options, "--false-alarms", "0.01"])
    assert refused.exit_code == 1
    assert "no thresholds for a false-alarm rate of 0.01, only for 0.05 and 0.1: ask for" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert CliRunner().invoke(app, [*options, "--false-alarms", "often"]).exit_code == 2


def test_a_model_without_thresholds_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = tiny(thresholds={"audio": {0.05: 0.6}})
    save_checkpoint(tmp_path, made.model, made.config)
    Detector.from_pretrained(str(tmp_path))
    (line,) = caplog.messages
    assert line.startswith("the model tiny has no thresholds for visual, sync, fake: ")


def test_a_model_that_goes_by_another_rate_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    usual, high = {0.05: 0.6, 0.1: 0.5}, {0.1: 0.6}
    made = tiny(thresholds={"audio": usual, "visual": usual, "sync": high, "fake": high})
    save_checkpoint(tmp_path, made.model, made.config)
    Detector.from_pretrained(str(tmp_path))
    (line,) = caplog.messages
    assert line.endswith("has not every threshold for a false-alarm rate of 5%: it goes by 10% for sync, 10% for fake")
    caplog.clear()
    load_detector(str(tmp_path), false_alarms=0.1)  # as asked, so there is nothing to tell
    assert caplog.messages == []


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate", Path(__file__).parents[1] / "tools" / "calibrate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_calibrates_a_folder_by_the_rows_of_a_split(
    judged: list[Row], tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, listed = tmp_path / "model", tmp_path / "m.jsonl"
    made = tiny()
    save_checkpoint(folder, made.model, made.config)
    manifest.write([replace(row, split="test" if row.labels.visual == 0 else "dev") for row in judged], listed)
    tool.main(folder, manifest=listed, split="dev")
    assert load_checkpoint(folder).config.calibration.keys() == {"audio"}
    told = capsys.readouterr().out
    assert "audio: affine; fewer than 100 clips" in told
    for name in ("visual", "sync", "fake"):
        assert f"{name} stays as it was, map and thresholds" in told
    with pytest.raises(ManifestError, match=r"no row of split train; .* --split \(it has dev, test\)\.") as caught:
        tool.main(folder, manifest=listed, split="train")
    assert str(caught.value).startswith(str(listed))


def test_the_tool_leaves_a_checkpoint_alone_that_it_has_too_little_for(
    judged: list[Row], tool: ModuleType, tmp_path: Path
) -> None:
    folder, listed = tmp_path / "model", tmp_path / "three.jsonl"
    made = tiny(calibration={"visual": Calibration(0.3, 1.0)}, thresholds={"visual": {0.05: 0.7}})
    save_checkpoint(folder, made.model, made.config)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    three = [next(row for row in judged if list_of(row) == labels) for labels in ([0, 0], [0, 1], [1, 0])]
    manifest.write(three, listed)
    with pytest.raises(CalibrationError, match="visual 2 genuine and 1 fake"):
        tool.main(folder, manifest=listed)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
