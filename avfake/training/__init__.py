"""Training: data, augmentation, losses and the loop."""

from __future__ import annotations

from avfake import AvfakeError


class TrainingError(AvfakeError):
    """A model cannot be trained on this corpus, or with these settings."""
