"""t-DCF and a-DCF against the official scripts, hand-computed cases and degenerate inputs.

The figures named "official" were computed by the organisers' scripts, on the scores made again here: t-DCF by
asvspoof-challenge/2021 eval-package/eval_metrics.py (commit 7926f45), a-DCF by PyPI a_dcf 0.0.4.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avfake.evaluation.tandem import AsvRates, a_dcf, asv_rates, min_tdcf_2019, min_tdcf_2021

scores = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=15)
rates = st.floats(0.01, 0.4)


def detector(tied: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.RandomState(5)  # whose numbers stay the same in all versions of numpy
    labels = np.r_[np.zeros(300, np.int64), np.ones(700, np.int64)]
    values = np.r_[random.normal(-1.5, 1.0, 300), random.normal(1.0, 1.2, 700)]
    return labels, np.round(values, 1) if tied else values


def verifier(tied: bool) -> list[NDArray[np.float64]]:
    random = np.random.RandomState(6)
    kinds = random.normal(3, 1, 200), random.normal(-1, 1, 250), random.normal(1.5, 1.5, 300)
    return [np.round(values, 1) if tied else values for values in kinds]


@pytest.mark.parametrize(
    ("tied", "asv", "official_2019", "official_2021", "official_a_dcf"),
    [
        (False, (0.03, 0.032, 0.6433333333333333), 0.3216381643227239, 0.381714382862513, 0.4914814814814815),
        (True, (0.015, 0.036, 0.6566666666666666), 0.3245016424945613, 0.35873447928925445, 0.4951851851851852),
    ],
)
def test_official_scripts(
    tied: bool, asv: tuple[float, ...], official_2019: float, official_2021: float, official_a_dcf: float
) -> None:
    labels, values = detector(tied)
    found = asv_rates(*verifier(tied))
    assert found == pytest.approx(asv, abs=1e-12)
    assert min_tdcf_2019(labels, values, found) == pytest.approx(official_2019, abs=1e-12)
    assert min_tdcf_2021(labels, values, found) == pytest.approx(official_2021, abs=1e-12)
    assert a_dcf(*verifier(tied)) == pytest.approx(official_a_dcf, abs=1e-12)


def test_tdcf_by_hand() -> None:
    asv = AsvRates(miss=0.0, false_alarm=0.0, spoof_false_alarm=0.5)
    # C1 = 0.9405, C2 = 0.25: passing the one spoof of two costs 0.125, rejecting one bona fide of two 0.47.
    labels, values = [0, 0, 1, 1], [0.1, 0.5, 0.3, 0.9]
    assert min_tdcf_2019(labels, values, asv) == pytest.approx(0.5)
    assert min_tdcf_2021(labels, values, asv) == pytest.approx(0.5)  # a verifier without own errors: the same
    worse = AsvRates(miss=0.1, false_alarm=0.1, spoof_false_alarm=0.5)
    own = 0.9405 * 0.1 + 0.0095 * 10 * 0.1
    assert min_tdcf_2021([0, 1], [0.0, 1.0], worse) == pytest.approx(own / (own + 0.25))
    assert min_tdcf_2019([0, 1], [0.0, 1.0], worse) == 0


def test_asv_threshold_is_a_score_and_accepts_it() -> None:
    # The rates come closest where target 2 is rejected and non-target 3 passes; with >= at that score it is accepted.
    assert asv_rates([2.0, 4.0], [1.0, 3.0], [2.0, 1.9]) == (0.0, 0.5, 0.5)


def test_adcf_by_hand() -> None:
    assert a_dcf([3.0, 4.0], [1.0], [2.0]) == 0
    assert a_dcf([1.0], [1.0], [1.0]) == 1  # rejecting all, the cheaper of the two
    assert a_dcf([1.0, 3.0], [2.0], [0.0]) == pytest.approx(min(0.9 / 2, 0.5) / 0.9)


def test_undefined_is_nan() -> None:
    asv = AsvRates(0.1, 0.1, 0.5)
    assert all(math.isnan(rate) for rate in asv_rates([1.0], [0.0], []))
    for metric in (min_tdcf_2019, min_tdcf_2021):
        assert math.isnan(metric([1, 1], [0.1, 0.2], asv))
        assert math.isnan(metric([], [], asv))
        assert math.isnan(metric([0, 1], [0.1, 0.2], asv_rates([], [0.0], [1.0])))
        assert math.isnan(metric([0, 1], [0.1, 0.2], AsvRates(0.1, 0.1, 0.0)))  # no spoof passes the verifier
        assert math.isnan(metric([0, 1], [0.1, 0.2], AsvRates(1.0, 1.0, 0.5)))  # no target does
    assert math.isnan(a_dcf([1.0], [], [0.0]))
    for spoiled in ([math.nan], [0.0], [1.0]), ([1.0], [0.0], [math.nan]):
        with pytest.raises(ValueError, match="NaN"):
            a_dcf(*spoiled)
        with pytest.raises(ValueError, match="NaN"):
            asv_rates(*spoiled)


@settings(max_examples=40, deadline=None)
@given(scores, scores, rates, rates, st.floats(0.1, 1))
def test_tdcf_bounds_and_monotone_maps(
    genuine: list[float], fakes: list[float], miss: float, false_alarm: float, passing: float
) -> None:
    asv = AsvRates(miss, false_alarm, passing)
    labels, values = np.r_[np.zeros(len(genuine)), np.ones(len(fakes))], np.r_[genuine, fakes]
    least = 0.9405 * miss + 0.095 * false_alarm
    least /= least + min(0.9405 - least, 0.5 * passing)
    assert -1e-12 <= min_tdcf_2019(labels, values, asv) <= 1 + 1e-12
    assert least - 1e-12 <= min_tdcf_2021(labels, values, asv) <= 1 + 1e-12
    for metric in (min_tdcf_2019, min_tdcf_2021):
        assert metric(labels, np.exp(values) - 9, asv) == pytest.approx(metric(labels, values, asv), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(scores, scores, scores)
def test_adcf_bounds_and_monotone_maps(target: list[float], nontarget: list[float], spoof: list[float]) -> None:
    value = a_dcf(target, nontarget, spoof)
    assert 0 <= value <= 1
    assert a_dcf(*(np.exp(part) for part in (target, nontarget, spoof))) == pytest.approx(value, abs=1e-12)
    thresholds = [*target, *nontarget, *spoof, 99.0]
    by_hand = min(
        0.9 * np.mean(np.array(target) < t) + 0.5 * np.mean(np.array(nontarget) >= t) + np.mean(np.array(spoof) >= t)
        for t in thresholds
    )
    assert value == pytest.approx(by_hand / 0.9, abs=1e-12)
