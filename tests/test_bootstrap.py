"""Bootstrap intervals that keep groups whole, paired differences, and DeLong's test against a script and by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap

from avfake.evaluation.bootstrap import delong, interval, paired_difference
from avfake.evaluation.localisation import ap_at_iou
from avfake.evaluation.metrics import auc, eer, sync_accuracy


def mean_score(_: Any, scores: NDArray[np.float64]) -> float:
    return float(np.mean(scores))


def two_detectors() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Correlated scores with ties."""
    random = np.random.RandomState(8)  # whose numbers stay the same in all versions of numpy
    labels = np.r_[np.zeros(80, np.int64), np.ones(120, np.int64)]
    common = random.normal(0, 1, 200)
    a = np.round(common + 1.2 * labels + random.normal(0, 0.7, 200), 1)
    b = np.round(common + 0.9 * labels + random.normal(0, 0.7, 200), 1)
    return labels, a, b


def test_same_seed_same_interval() -> None:
    labels, a, _ = two_detectors()
    first, again = (interval(eer, labels, a, resamples=100, seed=3) for _ in range(2))
    assert first == again
    assert first != interval(eer, labels, a, resamples=100, seed=4)
    assert first.value == eer(labels, a)
    assert first.low < first.value < first.high
    assert first.resamples == 100


def test_agrees_with_scipy_where_every_trial_stands_alone() -> None:
    scores = np.random.RandomState(1).exponential(1, 60)
    ours = interval(mean_score, np.zeros(60), scores, resamples=2000)
    theirs = bootstrap((scores,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1))
    assert ours[1:3] == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


def test_agrees_with_delong() -> None:
    labels, a, b = two_detectors()
    found, known = paired_difference(auc, labels, a, b, resamples=1000), delong(labels, a, b)
    assert found.value == pytest.approx(known.difference)
    assert found[1:3] == pytest.approx((known.low, known.high), abs=0.01)
    assert found.p < 0.01
    assert known.p < 0.01


def test_groups_are_drawn_whole() -> None:
    # Ten people with twelve clips each that are all alike: 120 clips know no more than ten.
    random = np.random.RandomState(2)
    people = np.repeat(np.arange(10), 12)
    scores = random.normal(0, 1, 10)[people]
    apart, whole = (interval(mean_score, np.zeros(120), scores, groups, 500) for groups in (None, people))
    assert whole.value == apart.value
    assert whole.high - whole.low > 2 * (apart.high - apart.low)
    ten = interval(mean_score, np.zeros(10), scores[::12], resamples=500)
    assert whole[1:3] == pytest.approx(ten[1:3])


def test_unknown_groups_stand_alone() -> None:
    labels, a, _ = two_detectors()
    assert interval(auc, labels, a, [None] * 200, 50) == interval(auc, labels, a, None, 50)


def test_both_labels_occur_in_every_draw() -> None:
    # Two fakes among fifty: plain draws would miss both in one of seven.
    labels = [1, 1] + [0] * 48
    assert interval(auc, labels, np.arange(50.0), resamples=300).resamples == 300
    # As do people with both labels, and some with one.
    people = [0, 1, 0, 1, *range(2, 48)]
    assert interval(auc, labels, np.arange(50.0), people, 300).resamples == 300


def test_what_one_group_alone_says_has_no_interval() -> None:
    labels, scores = [1, 1, 0, 0, 0], [0.9, 0.4, 0.1, 0.5, 0.2]
    alone = interval(auc, labels, scores, ["fake", "fake", "a", "b", "c"])
    assert alone.value == pytest.approx(5 / 6)
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    assert alone.resamples == 0
    difference = paired_difference(auc, labels, scores, scores, ["fake", "fake", "a", "b", "c"])
    assert math.isnan(difference.p)
    # Nor has a figure that is not defined.
    assert all(math.isnan(value) for value in interval(auc, [1, 1, 1], [0.1, 0.2, 0.3])[:3])


def test_draws_without_a_figure_are_left_out_and_counted() -> None:
    def often_undefined(_: Any, scores: NDArray[np.float64]) -> float:
        return float(scores.max()) if scores.max() == 9 else math.nan

    found = interval(often_undefined, [0] * 10, [float(k) for k in range(10)], resamples=400)
    assert found[:3] == (9, 9, 9)
    assert 0.55 < found.resamples / 400 < 0.75  # 1 - 0.9 ** 10 = 0.65


def test_videos_and_sync_maps_are_trials_too() -> None:
    segments = [[[0.0, 1.0]], [], [[0.0, 1.0]], [], [[1.0, 2.0], [3.0, 4.0]]]
    proposals = [[[0.9, 0.0, 1.0]], [[0.4, 0.0, 1.0]], [], [], [[0.8, 1.0, 2.0]]]
    found = interval(lambda s, p: ap_at_iou(s, p, 0.5), segments, proposals, resamples=200)
    assert found.value == 0.5
    assert 0 <= found.low < 0.5 < found.high <= 1
    right, wrong = (np.tile(np.eye(31)[15 + at], (20, 1)) for at in (0, 9))
    maps = [right, right, wrong, right, wrong, right]
    share = interval(lambda shifts, given: sync_accuracy(shifts, given, 5), [0] * 6, maps, resamples=200)
    assert share.value == pytest.approx(4 / 6)
    assert share.low < 4 / 6 < share.high


def test_wider_level_wider_interval() -> None:
    labels, a, _ = two_detectors()
    narrow, wide = (interval(auc, labels, a, resamples=200, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        scores = np.random.RandomState(seed).normal(0, 1, 40)
        found = interval(mean_score, np.zeros(40), scores, resamples=200, seed=seed)
        covered += found.low <= 0 <= found.high
    assert 50 <= covered <= 60


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="2 labels, 2 scores and 1 groups"):
        interval(auc, [0, 1], [0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="2 scores do not fit 1"):
        paired_difference(auc, [0, 1], [0.1, 0.2], [0.1])


def test_p_is_never_below_what_the_draws_can_show() -> None:
    labels = [0] * 20 + [1] * 20
    found = paired_difference(auc, labels, np.arange(40.0), -np.arange(40.0), resamples=99)
    assert found == (1, 1, 1, pytest.approx(2 / 100), 99)


def test_no_difference_is_not_significant() -> None:
    labels, a, _ = two_detectors()
    same = paired_difference(auc, labels, a, a, resamples=99)
    assert same == (0, 0, 0, 1, 99)
    known = delong(labels, a, np.exp(a))
    assert (known.difference, known.z, known.p) == (0, 0, 1)


# yandexdataschool/roc_comparison compare_auc_delong_xu.py (commit 8f60117) on the same scores.
def test_delong_of_a_public_script() -> None:
    found = delong(*two_detectors())
    assert found.auc_a == pytest.approx(0.74484375, abs=1e-8)
    assert found.auc_b == pytest.approx(0.65494792, abs=1e-8)
    assert found.z == pytest.approx(3.09016355, abs=1e-8)
    assert found.p == pytest.approx(0.00200046, abs=1e-8)


def test_delong_agrees_with_a_permutation_test() -> None:
    labels, a, b = two_detectors()
    a, b = a[::2], b[::2]  # fewer trials, so that p is not tiny
    known = delong(labels[::2], a, b)
    random = np.random.RandomState(0)
    ranks = [np.argsort(np.argsort(scores, kind="stable")) for scores in (a, b)]
    drawn = []
    for _ in range(1500):
        swap = random.randint(0, 2, len(a)).astype(bool)
        drawn.append(
            auc(labels[::2], np.where(swap, ranks[1], ranks[0])) - auc(labels[::2], np.where(swap, ranks[0], ranks[1]))
        )
    assert known.p == pytest.approx(np.mean(np.abs(drawn) >= abs(known.difference)), abs=0.05)


def test_delong_without_enough_trials_or_error() -> None:
    assert all(math.isnan(value) for value in delong([0, 1, 1], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]))
    opposite = delong([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert opposite.difference == 1
    assert math.isnan(opposite.z)
    assert math.isnan(opposite.p)


small = st.integers(4, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda x: 2 <= sum(x) <= len(x) - 2),
        *(st.lists(st.integers(0, 6).map(float), min_size=n, max_size=n) for _ in range(2)),
    )
)


@settings(max_examples=40, deadline=None)
@given(small)
def test_delong_by_its_definition(trial: tuple[list[int], list[float], list[float]]) -> None:
    labels, a, b = (np.array(part) for part in trial)
    found = delong(labels, a, b)
    wins = [
        (s[labels == 1][:, None] > s[labels == 0]) + 0.5 * (s[labels == 1][:, None] == s[labels == 0]) for s in (a, b)
    ]
    apart = wins[0] - wins[1]
    variance = apart.mean(1).var(ddof=1) / apart.shape[0] + apart.mean(0).var(ddof=1) / apart.shape[1]
    assert (found.auc_a, found.auc_b) == (pytest.approx(auc(labels, a)), pytest.approx(auc(labels, b)))
    assert found.difference == pytest.approx(apart.mean(), abs=1e-12)
    assert found.high - found.difference == pytest.approx(1.959963985 * math.sqrt(variance), abs=1e-8)
    swapped = delong(labels, b, a)
    assert swapped.difference == pytest.approx(-found.difference, abs=1e-12)
    assert swapped.p == pytest.approx(found.p, nan_ok=True)
