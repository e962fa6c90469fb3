"""Calibration of a trained checkpoint: logits to P(fake), and thresholds for a stated false-positive rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from avfake.detect import Detector
from avfake.evaluation.platt import fit
from avfake.evaluation.shared_corpus import judge_rows, speaker_score, swapped, sync_score, visual_score
from avfake.manifest import Row
from avfake.models.pretrained import Calibration, CheckpointConfig, Threshold

Trials = list[tuple[int | None, float | None]]
"""Label and P(fake) before calibration (the plain sigmoid of a logit), each None where not known or not judged."""


def calibrate(detector: Detector, rows: Sequence[Row]) -> CheckpointConfig:
    """Fit Platt scaling and thresholds per aspect on rows that training has not seen.

    Both classes weigh the same, so P(fake) assumes even odds. The fusion head's "or" is set to the calibrated
    aspects first; ``fake`` is fitted on what it says then, and also learns from genuine clips with another person's
    voice: a dub is a fake. Changes ``detector``. Raises ``ValueError`` where an aspect lacks one of its labels.
    """
    detector.config = replace(detector.config, calibration={}, thresholds={})
    fusion = detector.model.fusion
    fusion.aspect_scale.fill_(1.0)
    fusion.aspect_bias.zero_()
    videos, voices = [row for row in rows if row.video], [row for row in rows if not row.video]
    judged = judge_rows(detector, videos)
    pairs = swapped(detector, judged)
    fitted = {
        "visual": _fit([(j.row.labels.visual, visual_score(j.detection)) for j in judged]),
        "audio": _fit([(j.row.labels.audio, j.detection.voice.p_fake) for j in judge_rows(detector, voices)]),
        "sync": _fit([trial for _, *both in pairs for trial in enumerate(map(sync_score, both))]),
    }
    aspects = [fitted[name][0] for name in ("visual", "audio", "sync")]
    fusion.aspect_scale.copy_(torch.tensor([aspect.scale for aspect in aspects]))
    fusion.aspect_bias.copy_(torch.tensor([aspect.bias for aspect in aspects]))

    judged = judge_rows(detector, videos)
    fakes: Trials = [(int(j.row.method is not None), speaker_score(j.detection)) for j in judged]
    fakes += [(1, speaker_score(foreign)) for _, _, foreign in swapped(detector, judged)]
    fitted["fake"] = _fit(fakes)
    return replace(
        detector.config,
        calibration={name: calibration for name, (calibration, _) in fitted.items()},
        thresholds={name: threshold for name, (_, threshold) in fitted.items()},
    )


def _fit(trials: Trials) -> tuple[Calibration, Threshold]:
    known = [(label, p) for label, p in trials if label is not None and p is not None]
    scores = np.array([p for _, p in known]).clip(1e-9, 1 - 1e-9)
    return fit([label for label, _ in known], list(np.log(scores / (1 - scores))))
