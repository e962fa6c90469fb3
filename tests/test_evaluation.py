"""Metrics against hand-computed cases, ties and degenerate inputs."""

import math

import numpy as np
import pytest

from avfake.evaluation.metrics import auc, cllr, eer, mean_auc, recall_at_fpr, threshold_at_fpr


def test_perfect_and_inverted_scores() -> None:
    labels = [0, 0, 1, 1]
    assert eer(labels, [0.1, 0.2, 0.8, 0.9]) == 0
    assert eer(labels, [0.9, 0.8, 0.2, 0.1]) == 1
    assert auc(labels, [0.1, 0.2, 0.8, 0.9]) == 1


def test_eer_by_hand() -> None:
    # Bona fide 0.1 0.2 0.3 0.7, spoof 0.4 0.6 0.8 0.9: at a threshold between 0.6 and 0.7 (or 0.4 and 0.6) one of
    # four bona fide and one or two of four spoofs are wrong; closest are 1/4 and 1/4.
    assert eer([0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.4, 0.6, 0.8, 0.9]) == pytest.approx(0.25)
    # Few trials, no threshold with equal rates: the official script takes the first of the closest pairs (the
    # threshold that rejects one of two bona fide and accepts the spoof) and returns the mean of its rates.
    assert eer([0, 0, 1], [0.2, 0.6, 0.5]) == pytest.approx((0.5 + 1.0) / 2)


def test_one_class_alone_has_no_figure() -> None:
    assert math.isnan(eer([1, 1], [0.1, 0.2]))
    assert math.isnan(auc([0, 0], [0.1, 0.2]))
    assert mean_auc([([0, 0], [1, 2]), ([0, 1], [1, 2])]) == 1
    assert math.isnan(mean_auc([([0, 0], [1, 2])]))


def test_cllr_of_no_information_is_one_bit() -> None:
    assert cllr([0, 1], [0.0, 0.0]) == pytest.approx(1.0)
    assert cllr([0, 1], [-20.0, 20.0]) == pytest.approx(0.0, abs=1e-6)
    assert cllr([0, 1], [math.log(3), math.log(3)]) == pytest.approx((math.log2(4 / 3) + math.log2(4)) / 2)


def test_threshold_keeps_its_false_positive_rate() -> None:
    genuine = np.arange(100) / 100
    threshold = threshold_at_fpr(genuine, 0.05)
    assert (genuine > threshold).mean() == 0.05
    assert recall_at_fpr([*np.zeros(100), 1, 1], [*genuine, 0.945, 0.93], 0.05) == 0.5
    assert threshold_at_fpr([0.3], 0.05) == 0.3
