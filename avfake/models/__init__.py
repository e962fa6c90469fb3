"""The model: a lip tower, a voice tower, a fusion head, and how they are loaded and saved."""

from avfake.models.fusion import INVALID, MAX_SHIFT, SHIFTS, AVFakeModel, ModelConfig, Scores
from avfake.models.pretrained import (
    Calibration,
    Checkpoint,
    CheckpointConfig,
    CheckpointError,
    embedded_models,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
)

__all__ = [
    "INVALID",
    "MAX_SHIFT",
    "SHIFTS",
    "AVFakeModel",
    "Calibration",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointError",
    "ModelConfig",
    "Scores",
    "embedded_models",
    "fingerprint",
    "load_checkpoint",
    "save_checkpoint",
]
