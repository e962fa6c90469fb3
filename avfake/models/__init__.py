"""The model: a lip tower, a voice tower, a fusion head, and how they are loaded and saved.

What needs torch, timm and transformers, which take seconds to import, is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avfake.models.checkpoint import (
    Calibration,
    CheckpointConfig,
    CheckpointError,
    embedded_models,
    find_checkpoint,
    fingerprint,
    read_config,
)
from avfake.models.contract import INVALID, MAX_SHIFT, SHIFTS, ModelConfig, Scores

if TYPE_CHECKING:
    from avfake.models.fusion import AVFakeModel
    from avfake.models.pretrained import Checkpoint, load_checkpoint, save_checkpoint

_HEAVY = {
    "AVFakeModel": "avfake.models.fusion",
    "Checkpoint": "avfake.models.pretrained",
    "load_checkpoint": "avfake.models.pretrained",
    "save_checkpoint": "avfake.models.pretrained",
}

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
    "find_checkpoint",
    "fingerprint",
    "load_checkpoint",
    "read_config",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HEAVY[name]), name)
