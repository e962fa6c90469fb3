"""The configuration of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

import timm
from transformers import Wav2Vec2Config

from avfake import settings
from avfake.models import MAX_SHIFT, ModelConfig
from avfake.settings import ABOVE_0, NOT_NEGATIVE, SHARE, TEXT, Limit, Schema, at_least, one_of


@dataclass(frozen=True)
class SourceConfig:
    """A folder or address that ``avfake prepare`` has filled; of weight w comes the share w / (sum of weights)."""

    shards: str
    weight: float = 1.0


@dataclass(frozen=True)
class CacheConfig:
    """What frozen towers say of ``windows`` windows is kept in ``folder`` and trained on again and again; 0: nothing.

    The windows are drawn, forged and augmented as they would be without a cache.
    """

    windows: int = 0
    folder: str = "runs/cache"


@dataclass(frozen=True)
class DataConfig:
    """What a step is trained on.

    ``sources`` by names of your choice; ``batch`` windows of ``frames`` frames (40 ms each) a process and step, each
    batch cut to a length drawn from ``shortest`` to ``frames`` (0: always ``frames``). Of genuine windows the share
    ``forged`` goes through a forger; the share ``paired`` of windows comes with its counterpart, a fake with its
    source. Lips and voice are cut up to ``jitter`` frames apart, so that position betrays nothing. ``workers``
    processes decode, forge and augment; 0: none but the one that trains. Of the methods and corpora in ``leave_out``
    nothing is trained on or validated on, to be met in the evaluation for the first time.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    frames: int = 64
    shortest: int = 0
    batch: int = 16
    forged: float = 0.3
    paired: float = 0.5
    jitter: int = 11
    augmented: bool = True
    workers: int = 1
    leave_out: list[str] = field(default_factory=list)
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass(frozen=True)
class ValidationConfig:
    """What the best weights are chosen by: the split ``dev``, and one person in ``held_out`` of ``train`` (0: nobody).

    Held-out persons are never trained on. Every ``every`` steps the middle ``frames`` frames of at most ``clips`` clips
    are judged. ``metric`` is ``mean`` or one of visual, audio, sync, fake: an AUC, higher is better. Training stops
    after ``patience`` validations without a better value (0: never).
    """

    held_out: int = 6
    every: int = 200
    clips: int = 1000
    frames: int = 100
    metric: str = "mean"
    patience: int = 0


@dataclass(frozen=True)
class LossWeights:
    """Weight of each task in the sum that is minimised; 0 switches it off. See docs/training.md for the formulas."""

    geometry: float = 0.0
    visual: float = 1.0
    audio: float = 1.0
    sync: float = 1.0
    mismatch: float = 0.5
    fake: float = 0.5
    distil: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW: ``rate`` rises over the share ``warm_up`` of the steps, then follows a cosine to zero.

    A backbone layer that lies n layers below the top learns at ``rate * layer_decay ** (n + 1)``, everything that is no
    backbone at ``rate``. Gradients of ``accumulate`` batches make one step; their norm is clipped at ``clip``. ``ema``
    is the decay of the moving average of the weights that is validated and kept (0: the weights themselves).
    """

    rate: float = 6e-4
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    warm_up: float = 0.05
    clip: float = 2.0
    accumulate: int = 1
    ema: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """A training run of ``steps`` steps.

    ``start`` is a checkpoint to go on from; without it training starts from public weights. ``freeze`` names parts of
    the model that do not learn, ``norms_only`` parts of which only the normalisation layers do (prefixes of parameter
    names, as in ``lip_tower.stages.0`` or ``voice_tower.wav2vec2``). ``teacher`` is a speech model of the hub, or a
    folder, that ``weights.distil`` learns from. ``device`` is auto or cpu; ``precision`` float32 or bf16. The state of
    the run is saved every ``save_every`` steps, to go on from after a crash.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = 1000
    start: str | None = None
    teacher: str | None = None
    freeze: list[str] = field(default_factory=list)
    norms_only: list[str] = field(default_factory=list)
    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    threads: int = 1
    seed: int = 0
    save_every: int = 200
    out: str = "runs/mini"


_ELSEWHERE = {  # what other trainers call it, where spelling would not lead there
    "lr": "optim.rate",
    "learning_rate": "optim.rate",
    "epochs": "steps",
    "batch_size": "data.batch",
    "num_workers": "data.workers",
    "checkpoint": "start",
    "output_dir": "out",
}


_LIMITS = {
    "model.dim": at_least(1),
    "model.sync_dim": at_least(1),
    "model.heads": at_least(1),
    "model.visual.backbone": Limit(
        lambda name: "efficientnet" in name and timm.is_model(name), "an EfficientNet of timm, as in tf_efficientnet_b4"
    ),
    "model.visual.stages": Limit(lambda value: 1 <= value <= 7, "from 1 to 7"),
    "model.visual.width": at_least(1),
    "model.audio.frontend": one_of("logmel", "wav2vec2"),
    "data.sources.NAME.shards": TEXT,
    "data.sources.NAME.weight": ABOVE_0,
    "data.frames": at_least(1),
    "data.shortest": at_least(0),
    "data.batch": at_least(1),
    "data.forged": SHARE,
    "data.paired": SHARE,
    "data.jitter": Limit(lambda value: 0 <= value <= MAX_SHIFT, f"from 0 to {MAX_SHIFT}, as far as the model looks"),
    "data.workers": at_least(0),
    "data.cache.windows": at_least(0),
    "data.cache.folder": TEXT,
    "validation.held_out": Limit(lambda value: value == 0 or value >= 2, "0 (nobody) or at least 2 (one person in 2)"),
    "validation.every": at_least(1),
    "validation.clips": at_least(1),
    "validation.frames": at_least(1),
    "validation.metric": one_of("mean", "visual", "audio", "sync", "fake"),
    "validation.patience": at_least(0),
    **{f"weights.{field.name}": NOT_NEGATIVE for field in fields(LossWeights)},
    "optim.rate": ABOVE_0,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.layer_decay": Limit(lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "optim.warm_up": SHARE,
    "optim.clip": ABOVE_0,
    "optim.accumulate": at_least(1),
    "optim.ema": Limit(lambda value: 0 <= value < 1, "from 0 to below 1"),
    "steps": at_least(1),
    "start": TEXT,
    "teacher": TEXT,
    "device": one_of("auto", "cpu"),
    "precision": one_of("float32", "bf16"),
    "threads": at_least(1),
    "seed": at_least(0),
    "save_every": at_least(1),
    "out": TEXT,
}


def _nothing(config: TrainConfig) -> str | None:
    if config.data.sources:
        return None
    return "data.sources is empty; say what to train on with data.sources.main.shards=FOLDER (see avfake prepare)"


def _fault(config: TrainConfig) -> str | None:
    """Say what does not go together."""
    data, weights = config.data, config.weights
    if data.shortest > data.frames:
        return f"data.shortest is {data.shortest}, but must be at most data.frames, {data.frames}"
    if data.cache.windows and data.batch % 2:
        return f"data.batch is {data.batch}, but must be even where data.cache.windows is above 0: couples are kept"
    if config.model.dim % config.model.heads:
        return f"model.heads is {config.model.heads}, but must divide model.dim, {config.model.dim}"
    if not any(getattr(weights, field.name) for field in fields(weights)):
        return "all weights are 0, so there is nothing to learn; give one, as in weights.sync=1"
    if weights.distil and config.teacher is None:
        return "weights.distil is above 0, but there is no teacher; give teacher=MODEL, or weights.distil=0"
    if config.teacher is not None and not weights.distil:
        return "there is a teacher, but weights.distil is 0; give weights.distil=1, or teacher=null"
    known = {field.name for field in fields(Wav2Vec2Config)}
    for key in config.model.audio.wav2vec2:  # transformers takes any name, and does nothing with it
        if key not in known:
            close = get_close_matches(key, known, 1)
            cure = f"did you mean {close[0]}?" if close else "see its documentation"
            return f"model.audio.wav2vec2.{key} is no setting of transformers' Wav2Vec2Config; {cure}"
    return None


_SCHEMA = Schema(TrainConfig, _LIMITS, _fault, _ELSEWHERE, _nothing)


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration file and ``key=value`` pairs (see ``settings.load``). Raises ``ConfigError``."""
    return settings.load(path, overrides, _SCHEMA)
