"""Platt scaling of one aspect, and its threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from avfake.evaluation.metrics import threshold_at_fpr
from avfake.models.pretrained import Calibration, Threshold

FALSE_POSITIVE_RATE = 0.05


def fit(labels: Sequence[int], logits: Sequence[float]) -> tuple[Calibration, Threshold]:
    """Fit P(fake) = sigmoid(scale * logit + bias), and the threshold that 5 % of the genuine exceed.

    Both classes weigh the same, so P(fake) assumes even odds. Raises ``ValueError`` unless both labels occur.
    """
    known = np.array(labels)
    fitted = LogisticRegression(class_weight="balanced").fit(np.array(logits)[:, None], known)
    calibration = Calibration(scale=max(float(fitted.coef_[0, 0]), 1e-3), bias=float(fitted.intercept_[0]))
    genuine = [calibration(float(logit)) for logit in np.array(logits)[known == 0]]
    # Above the genuine score itself, and never below even odds: "fake" must at least be the likelier answer.
    value = max(0.5, math.nextafter(threshold_at_fpr(genuine, FALSE_POSITIVE_RATE), 1.0))
    return calibration, Threshold(value, FALSE_POSITIVE_RATE)
