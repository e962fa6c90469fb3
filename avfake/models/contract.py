"""What models are given and give back, and what they are built from: all that is known of them without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

Array = TypeVar("Array")

MOUTH_POINTS = 20
"""Mouth points of the 68-point scheme: what the geometry head learns to read from the crop."""
CROP_SIZE = 96
"""Side of a lip crop in pixels."""
MAX_SHIFT = 15
"""Voice is compared with lips over -15..15 frames (+-600 ms)."""
SHIFTS = 2 * MAX_SHIFT + 1
INVALID = -1000.0
"""Value of ``sync_map`` where the shift points outside the clip (VocaLiST's convention, not zero padding)."""


@dataclass(frozen=True)
class VisualConfig:
    """Shape of the lip tower.

    ``backbone`` is a timm EfficientNet (lite, v1 or v2); ``stages`` how many of its stages are kept (fewer keep
    more spatial detail, which lip shape needs, and cost less); ``width`` the size of the frame embedding.
    """

    backbone: str = "tf_efficientnet_lite0"
    stages: int = 5
    width: int = 192


@dataclass(frozen=True)
class AudioConfig:
    """Shape of the voice tower.

    ``frontend`` "logmel" replaces Wav2Vec2's waveform convolutions (which need far more speech than a small
    model is given); "wav2vec2" keeps them, as public checkpoints do. ``wav2vec2`` are fields of
    ``transformers.Wav2Vec2Config``; ``pretrained`` is the hub name training may start from.
    """

    frontend: str = "logmel"
    wav2vec2: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build the model. ``dim`` is the fusion width, ``sync_dim`` the sync embedding's."""

    name: str = "mini"
    dim: int = 128
    sync_dim: int = 128
    heads: int = 4
    visual: VisualConfig = field(default_factory=VisualConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)


class Scores(NamedTuple, Generic[Array]):
    """What a model says, as tensors or as arrays; logits are uncalibrated log-odds of *fake*.

    ``fake, visual, audio, sync`` (B,) for the clip; ``visual_frames, audio_frames`` (B, T); ``sync_map``
    (B, T, 31): evidence in [-1, 1] that lips at t belong to the voice at t + k, k = -15..15 frames, ``INVALID``
    where t + k lies outside the clip. A score of an absent stream is meaningless: the caller knows its masks.
    """

    fake: Array
    visual: Array
    audio: Array
    sync: Array
    visual_frames: Array
    audio_frames: Array
    sync_map: Array
