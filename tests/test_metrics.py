"""Metrics against hand-computed cases, official scripts, scikit-learn, ties and degenerate inputs.

The figures named "official" were computed by the organisers' scripts, on the scores that ``asvspoof`` makes again.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve
from sklearn.metrics import log_loss as sklearn_log_loss

from avfake.evaluation.metrics import (
    act_dcf,
    auc,
    average_precision,
    balanced_accuracy,
    cllr,
    det,
    ece,
    eer,
    frame_auc,
    log_loss,
    log_weighted_precision,
    mean_offset_error,
    min_dcf,
    offset_errors,
    pool_frames,
    recall_at_fpr,
    reliability,
    sync_accuracy,
    sync_confidence,
    threshold_at_fpr,
    tpr_at_fpr,
)

OF_BOTH: list[Callable[..., float]] = [
    auc,
    average_precision,
    eer,
    min_dcf,
    act_dcf,
    cllr,
    balanced_accuracy,
    functools.partial(recall_at_fpr, fpr=0.5),
    functools.partial(tpr_at_fpr, fpr=0.5),
    functools.partial(log_weighted_precision, recall=0.5),
    functools.partial(log_loss, balanced=True),
    functools.partial(ece, balanced=True),
]


def asvspoof(tied: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.RandomState(5)  # whose numbers stay the same in all versions of numpy
    labels = np.r_[np.zeros(300, np.int64), np.ones(700, np.int64)]
    scores = np.r_[random.normal(-1.5, 1.0, 300), random.normal(1.0, 1.2, 700)]
    return labels, np.round(scores, 1) if tied else scores


few = settings(max_examples=40, deadline=None)
trials = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda labels: 0 < sum(labels) < len(labels)),
        st.lists(st.integers(-8, 8).map(lambda k: k / 4), min_size=n, max_size=n),
    )
)


def shifted(scores: list[float]) -> NDArray[np.float64]:
    """Another detector that ranks the same."""
    return np.exp(np.array(scores)) - 3


@pytest.mark.parametrize("metric", OF_BOTH)
def test_one_class_alone_has_no_figure(metric: Callable[..., float]) -> None:
    for labels in ([1, 1], [0, 0], []):
        assert math.isnan(metric(labels, [0.2, 0.9][: len(labels)]))


@pytest.mark.parametrize("metric", [*OF_BOTH, log_loss, ece])
def test_wrong_input_is_refused(metric: Callable[..., float]) -> None:
    for labels, scores, said in (
        ([0, None, 1], [0.1, 0.2, 0.3], "not None"),
        ([0, 2, 1], [0.1, 0.2, 0.3], "not 2"),
        ([0, 1], [0.1, math.nan], "NaN"),
        ([0, 1], [0.1, 0.2, 0.3], "2 labels do not fit 3 scores"),
    ):
        with pytest.raises(ValueError, match=said):
            metric(labels, scores)


# Official scripts. EER, minDCF, actDCF, Cllr: asvspoof-challenge/asvspoof5 evaluation-package/calculate_modules.py
# (commit 7868045), with the signs of the scores turned.


@pytest.mark.parametrize(
    ("tied", "official"),
    [
        (False, (0.11309523809523808, 0.2807142857142857, 0.3830952380952381, 0.5034244650743964)),
        (True, (0.1169047619047619, 0.28866666666666657, 0.3830952380952381, 0.503125538669001)),
    ],
)
def test_asvspoof5_evaluation_package(tied: bool, official: tuple[float, ...]) -> None:
    labels, scores = asvspoof(tied)
    ours = [metric(labels, scores) for metric in (eer, min_dcf, act_dcf, cllr)]
    assert ours == pytest.approx(official, abs=1e-12)


# Table of arXiv 1910.08854: TamperNet, XceptionNet on faces, on whole frames: precision, recall, log(wP).
@pytest.mark.parametrize(
    ("precision", "recall", "published"), [(0.833, 0.033, -3.044), (0.930, 0.084, -2.140), (0.784, 0.268, -3.352)]
)
def test_log_weighted_precision_of_the_dfdc_preview_paper(precision: float, recall: float, published: float) -> None:
    true, fakes = round(1000 * recall), 1000
    false = true * (1 / precision - 1)
    genuine = 10000
    labels = np.r_[np.ones(100 * fakes), np.zeros(genuine)]
    called = np.r_[np.arange(100 * fakes) < 100 * true, np.arange(genuine) < round(100 * false)]
    assert log_weighted_precision(labels, called, recall) == pytest.approx(published, abs=0.01)


# By hand


def test_det_curve_by_hand() -> None:
    miss, false_alarm, threshold = det([0.3, 0.6], [0.1, 0.4])
    assert miss.tolist() == [0, 0, 0.5, 0.5, 1]
    assert false_alarm.tolist() == [1, 0.5, 0.5, 0, 0]
    assert threshold.tolist() == [pytest.approx(0.099), 0.1, 0.3, 0.4, 0.6]
    with pytest.raises(ValueError, match="bona fide and spoof"):
        det([], [1.0])


def test_ties_count_against_the_detector_in_eer_alone() -> None:
    labels, same = [0, 0, 1, 1], [0.5] * 4
    assert eer(labels, same) == 1  # the official script's answer, where a coin has 0.5
    assert auc(labels, same) == 0.5
    assert min_dcf(labels, same) == 1
    assert average_precision(labels, same) == 0.5
    assert recall_at_fpr(labels, same, 0.5) == 0


def test_detection_costs_by_hand() -> None:
    # One of four bona fide above all spoofs but one, pi 0.05: rejecting it costs 0.95 / 4 / 0.5 = 0.475; passing the
    # three spoofs below it 0.75.
    labels, scores = [0, 0, 0, 0, 1, 1, 1, 1], [-4.0, -3, -2, 2, 1, 1, 1, 3]
    assert min_dcf(labels, scores) == pytest.approx(0.475)
    # At ln 1.9 = 0.64 the same bona fide is missed and no spoof passes.
    assert act_dcf(labels, scores) == pytest.approx(0.475)
    assert act_dcf(labels, np.array(scores) - 0.5) == pytest.approx(0.475 + 0.75)  # the spoofs at 0.5 pass
    assert act_dcf([0, 1], [9.0, -9.0]) == pytest.approx(2.9)
    assert act_dcf([0, 1], [math.log(1.9), math.log(1.9)]) == 1  # the threshold itself passes as bona fide


def test_cllr_does_not_overflow() -> None:
    assert cllr([0, 1], [800.0, -800.0]) == pytest.approx(800 / math.log(2))


def test_tpr_needs_enough_genuine_clips() -> None:
    genuine, fakes = np.arange(1000) / 1000, [0.9975, 0.9985, 2, 3]
    labels = np.r_[np.zeros(1000), np.ones(4)]
    assert tpr_at_fpr(labels, [*genuine, *fakes], 0.001) == 0.75  # one of 1000 may exceed 0.998
    assert tpr_at_fpr(labels, [*genuine, *fakes], 0.01) == 1
    assert math.isnan(tpr_at_fpr(labels[1:], [*genuine[1:], *fakes], 0.001))
    assert recall_at_fpr(labels[1:], [*genuine[1:], *fakes], 0.001) == 0.5  # none may exceed 0.999
    assert (np.arange(100) > threshold_at_fpr(np.arange(100), 0.29)).sum() == 29  # 0.29 * 100 is 28.999999999999996
    # The ten genuine clips at 0.9 stand or fall together: as fakes they would be 2 % of 500.
    tied = np.r_[np.zeros(490), np.full(10, 0.9), 0.9, 0.95]
    assert tpr_at_fpr(np.r_[np.zeros(500), 1, 1], tied, 0.01) == 0.5


def test_balanced_accuracy_by_hand() -> None:
    assert balanced_accuracy([0, 0, 0, 1], [0.1, 0.2, 0.5, 0.5]) == pytest.approx((2 / 3 + 1) / 2)
    assert balanced_accuracy([0, 0, 0, 1], [0.1, 0.2, 0.5, 0.5], threshold=0.6) == 0.5


def test_log_loss_by_hand() -> None:
    assert log_loss([1, 0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert log_loss([0], [1.0]) == pytest.approx(-math.log(1e-15), rel=1e-3)  # 1 - (1 - 1e-15) is not quite 1e-15
    assert log_loss([1], [0.0]) == pytest.approx(-math.log(1e-15))
    assert log_loss([1, 1, 1, 0], [0.5, 0.5, 0.5, 0.75]) == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert log_loss([1, 1, 1, 0], [0.5, 0.5, 0.5, 0.75], balanced=True) == pytest.approx(1.5 * math.log(2))
    assert math.isnan(log_loss([], []))
    with pytest.raises(ValueError, match="between 0 and 1"):
        log_loss([1, 0], [1.2, 0.1])


def test_weighted_precision_by_hand() -> None:
    labels, scores = [1, 1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.2, 0.75, 0.1, 0.2]
    assert log_weighted_precision(labels, scores, 0.5) == 0  # two fakes before the first genuine clip
    assert log_weighted_precision(labels, scores, 0.51) == pytest.approx(math.log(3 / 103))
    assert log_weighted_precision(labels, scores, 1.0) == pytest.approx(math.log(4 / 204))  # the tie at 0.2 goes whole


def test_reliability_by_hand() -> None:
    labels, p = [0, 0, 1, 1, 1, 0], [0.1, 0.1, 0.1, 0.8, 0.9, 1.0]
    low, high = reliability(labels, p, bins=2)
    assert low == (0.1, 0.1, pytest.approx(0.1), pytest.approx(1 / 3), 0.5, 3)
    assert high == (0.8, 1.0, pytest.approx(0.9), pytest.approx(2 / 3), 0.5, 3)
    assert ece(labels, p, bins=2) == pytest.approx((1 / 3 - 0.1) / 2 + (0.9 - 2 / 3) / 2)
    assert reliability([], []) == ()
    assert math.isnan(ece([], []))


def test_balanced_ece_measures_at_even_odds() -> None:
    # Nine fakes to one genuine: P(fake) = 0.5 is right at even odds, and 0.4 too low for this corpus.
    labels, p = [1] * 9 + [0], [0.5] * 10
    assert ece(labels, p, balanced=True) == pytest.approx(0)
    assert ece(labels, p) == pytest.approx(0.4)


def test_equal_mass_bins_hold_equally_many() -> None:
    p = np.random.RandomState(1).beta(0.2, 0.2, 200)
    assert [one.clips for one in reliability(p > 0.5, p)] == [20] * 10


def test_calibrated_probabilities_have_the_lower_ece() -> None:
    random = np.random.RandomState(2)
    p = random.uniform(0, 1, 4000)
    labels = (random.uniform(0, 1, 4000) < p).astype(int)
    assert ece(labels, p) < 0.03 < ece(labels, p**3)
    assert ece(labels, (p > 0.5).astype(float)) == pytest.approx(0.25, abs=0.03)


# Properties


@few
@given(trials)
def test_agrees_with_scikit_learn(trial: tuple[list[int], list[float]]) -> None:
    labels, scores = trial
    p = 1 / (1 + np.exp(-np.array(scores)))
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p), abs=1e-12)
    expected = balanced_accuracy_score(labels, p >= 0.5)
    assert balanced_accuracy(labels, p) == pytest.approx(expected, abs=1e-12)


@few
@given(trials, st.sampled_from([0.1, 0.25, 0.5]))
def test_recall_is_the_best_point_of_the_roc_curve_within_the_rate(
    trial: tuple[list[int], list[float]], fpr: float
) -> None:
    labels, scores = trial
    fprs, tprs, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert recall_at_fpr(labels, scores, fpr) == pytest.approx(tprs[fprs <= fpr + 1e-9].max(), abs=1e-12)


@few
@given(trials)
def test_ranking_metrics_see_the_order_alone(trial: tuple[list[int], list[float]]) -> None:
    labels, scores = trial
    recall = functools.partial(recall_at_fpr, fpr=0.3)
    precision = functools.partial(log_weighted_precision, recall=0.7)
    for metric in (auc, average_precision, eer, min_dcf, recall, precision):
        assert metric(labels, shifted(scores)) == pytest.approx(metric(labels, scores), abs=1e-12)


@few
@given(trials)
def test_turning_labels_and_scores_round_changes_nothing(trial: tuple[list[int], list[float]]) -> None:
    labels, scores = np.array(trial[0]), np.array(trial[1])
    assert auc(1 - labels, -scores) == pytest.approx(auc(labels, scores), abs=1e-12)
    assert auc(labels, -scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)
    assert cllr(1 - labels, -scores) == pytest.approx(cllr(labels, scores), abs=1e-12)
    p = 1 / (1 + np.exp(-scores))
    for balanced in (False, True):
        assert log_loss(1 - labels, 1 - p, balanced) == pytest.approx(log_loss(labels, p, balanced), abs=1e-9)


@few
@given(trials)
def test_eer_without_ties_turns_round(trial: tuple[list[int], list[float]]) -> None:
    labels = np.array(trial[0])
    scores = np.array(trial[1]) + 1e-3 * np.arange(len(labels))
    fewest = min(labels.sum(), len(labels) - labels.sum())
    assert eer(1 - labels, -scores) == pytest.approx(eer(labels, scores), abs=1 / fewest)


@few
@given(trials)
def test_bounds(trial: tuple[list[int], list[float]]) -> None:
    labels, scores = trial
    p = 1 / (1 + np.exp(-np.array(scores)))
    for metric in (auc, average_precision, eer, min_dcf):
        assert 0 <= metric(labels, scores) <= 1
    assert min_dcf(labels, scores) - 1e-12 <= act_dcf(labels, scores) <= 2.9 + 1e-12
    assert 0 <= ece(labels, p, 4) <= 1
    assert log_weighted_precision(labels, scores, 0.5) <= 0 <= cllr(labels, scores)


@few
@given(trials)
def test_no_minimum_lies_between_ties(trial: tuple[list[int], list[float]]) -> None:
    labels, scores = np.array(trial[0]), np.array(trial[1])
    thresholds = np.append(np.unique(scores), np.inf)  # fake from the threshold on
    costs = [0.95 * (scores[labels == 0] >= t).mean() + 0.5 * (scores[labels == 1] < t).mean() for t in thresholds]
    assert min_dcf(labels, scores) == pytest.approx(min(costs) / 0.5, abs=1e-12)


@few
@given(trials, st.randoms(use_true_random=False), st.integers(1, 12), st.booleans())
def test_reliability_does_not_depend_on_the_order(
    trial: tuple[list[int], list[float]], random: object, bins: int, balanced: bool
) -> None:
    labels, p = np.array(trial[0]), (np.array(trial[1]) + 2) / 4
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    here, there = (reliability(labels[o], p[o], bins, balanced) for o in (np.arange(len(labels)), order))
    assert [one.clips for one in here] == [one.clips for one in there]
    assert np.array(here) == pytest.approx(np.array(there))
    assert sum(one.weight for one in here) == pytest.approx(1)
    assert sum(one.clips for one in here) == len(labels)
    assert len(here) <= bins


# Frames


def test_frames_are_pooled_where_judged_and_known() -> None:
    labels = [[0.0, 0.0, 1.0], [math.nan, 1.0], [0.0]]
    scores = [[0.1, 0.7, 0.6], [0.9, 0.8], [math.nan]]
    frames = pool_frames(labels, scores)
    assert frames.labels.tolist() == [0, 0, 1, 1]
    assert frames.scores.tolist() == [0.1, 0.7, 0.6, 0.8]
    assert frames.clip.tolist() == [0, 0, 0, 1]
    assert frames.total == 5
    assert frame_auc(labels, scores) == pytest.approx(0.75)
    assert math.isnan(frame_auc([], []))
    with pytest.raises(ValueError, match="do not fit"):
        pool_frames([[0, 1]], [[0.1]])


# Sync


def sync_map(frames: int, shift: int, noise: float = 0.0) -> NDArray[np.float64]:
    """Evidence that peaks where the voice is ``shift`` frames late, -1000 outside the clip."""
    k = np.arange(-15, 16)
    evidence = np.tile(0.8 * np.exp(-((k - shift) ** 2) / 8), (frames, 1))
    evidence += np.random.RandomState(3).normal(0, noise, evidence.shape) if noise else 0
    at = np.arange(frames)[:, None] + k
    return np.where((at >= 0) & (at < frames), evidence, -1000.0)


def test_offset_is_found_from_maps() -> None:
    for shift in (0, 4, -7):
        errors = offset_errors(sync_map(60, shift), shift, 5)
        assert len(errors) == 56
        # At the ends of the clip the true shift leaves it, and is no candidate.
        assert (errors[abs(shift) : 56 - abs(shift)] == 0).all()
    assert offset_errors(sync_map(60, 0), 2, 5).tolist() == [-2] * 56
    assert mean_offset_error([2], [sync_map(60, 0)], 5) == 2
    assert sync_accuracy([2, 1], [sync_map(60, 0), sync_map(32, 0)], 5) == pytest.approx(28 / 84)
    with pytest.raises(ValueError, match="shift of 16"):
        offset_errors(sync_map(60, 0), 16, 5)


def test_longer_context_finds_more() -> None:
    noisy = sync_map(200, 0, noise=0.6)
    found = [sync_accuracy([0], [noisy], context) for context in (1, 5, 15)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_a_flat_map_finds_nothing() -> None:
    flat = np.where(sync_map(60, 0) < -2, np.nan, 0.3)
    assert sync_accuracy([0], [flat], 5) == 0
    assert mean_offset_error([0], [flat[20:40]], 5) > 10


def test_no_window_no_figure() -> None:
    assert offset_errors(sync_map(4, 0), 0, 5).size == 0
    assert math.isnan(sync_accuracy([0], [sync_map(4, 0)], 5))
    assert math.isnan(mean_offset_error([], [], 5))
    assert offset_errors(np.full((9, 31), np.nan), 0, 5).size == 0


def test_sync_confidence_by_hand() -> None:
    curve = np.r_[np.full(15, 0.1), 0.7, np.full(15, 0.1)]
    assert sync_confidence(curve) == (pytest.approx(0.3), pytest.approx(0.6))
    assert sync_confidence(np.full(31, 0.2)) == (pytest.approx(0.8), 0)
    assert sync_confidence([-1000.0, math.nan, 0.4, 0.2, 0.1]) == (pytest.approx(0.6), pytest.approx(0.2))
    assert all(math.isnan(value) for value in sync_confidence([-1000.0, 0.5]))


@few
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=31), st.floats(-0.5, 0.5))
def test_sync_confidence_ignores_a_constant(curve: list[float], constant: float) -> None:
    assume(all(abs(value + constant) <= 1 for value in curve))
    distance, confidence = sync_confidence(curve)
    moved = sync_confidence(np.array(curve) + constant)
    assert moved == (pytest.approx(distance - constant), pytest.approx(confidence))
    assert 0 <= distance <= 2
    assert 0 <= confidence <= 2
