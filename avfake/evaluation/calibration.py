"""Calibration of a trained checkpoint: logits to P(fake), and thresholds for a stated false-positive rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from avfake.detect import Detector
from avfake.evaluation.metrics import threshold_at_fpr
from avfake.evaluation.shared_corpus import judge_rows, swapped, sync_score, visual_score
from avfake.manifest import Row
from avfake.models.pretrained import Calibration, CheckpointConfig, Threshold

FALSE_POSITIVE_RATE = 0.05


def calibrate(detector: Detector, rows: Sequence[Row]) -> CheckpointConfig:
    """Fit Platt scaling and thresholds per aspect on rows that training has not seen.

    Both classes weigh the same, so P(fake) assumes even odds. ``fake`` also learns from genuine clips with another
    person's voice: a dub is a fake. Each aspect needs both labels among the rows.
    """
    detector.config = replace(detector.config, calibration={}, thresholds={})  # scores are now plain sigmoids
    judged = judge_rows(detector, rows)
    pairs = swapped(detector, [j for j in judged if j.row.video])
    trials: dict[str, list[tuple[int | None, float | None]]] = {
        "visual": [(j.row.labels.visual, visual_score(j.detection)) for j in judged if j.row.video],
        "audio": [(j.row.labels.audio, j.detection.voice.p_fake) for j in judged if not j.row.video],
        "sync": [
            *((0, sync_score(own)) for _, own, _ in pairs),
            *((1, sync_score(other)) for _, _, other in pairs),
        ],
        "fake": [
            *((int(j.row.method is not None), j.detection.verdict.p_fake) for j in judged if j.row.video),
            *((1, other.verdict.p_fake) for _, _, other in pairs),
        ],
    }
    calibration, thresholds = {}, {}
    for aspect, pairs_of_aspect in trials.items():
        known = [(label, p) for label, p in pairs_of_aspect if label is not None and p is not None]
        labels, scores = np.array([label for label, _ in known]), np.array([p for _, p in known])
        logits = np.log(scores / (1 - scores))
        fit = LogisticRegression(class_weight="balanced").fit(logits[:, None], labels)
        calibration[aspect] = Calibration(scale=max(float(fit.coef_[0, 0]), 1e-3), bias=float(fit.intercept_[0]))
        probabilities = np.array([calibration[aspect](float(logit)) for logit in logits])
        thresholds[aspect] = Threshold(
            value=max(0.5, math.nextafter(threshold_at_fpr(probabilities[labels == 0], FALSE_POSITIVE_RATE), 1.0)),
            false_positive_rate=FALSE_POSITIVE_RATE,
        )
    return replace(detector.config, calibration=calibration, thresholds=thresholds)
