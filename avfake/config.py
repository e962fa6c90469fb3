"""Typed configuration: YAML file + ``key=value`` pairs -> dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from avfake import AvfakeError
from avfake.models.fusion import ModelConfig


class ConfigError(AvfakeError):
    """A configuration file or ``key=value`` pair that does not fit."""


@dataclass(frozen=True)
class DataConfig:
    """Folder of what ``avfake prepare`` made."""

    shards: str = "runs/shards"


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: ``steps`` of ``batch`` windows, AdamW with cosine decay from ``rate``."""

    steps: int
    batch: int
    rate: float


@dataclass(frozen=True)
class LossWeights:
    """Weight of each task in the sum that is minimised."""

    geometry: float = 1.0
    visual: float = 1.0
    audio: float = 1.0
    sync: float = 1.0
    mismatch: float = 0.5
    fake: float = 0.5


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    ``lips`` trains the lip tower on short snippets, ``heads`` everything else on its embeddings. ``start`` is a
    checkpoint to go on from, with ``lips.steps=0`` to keep its lip tower; without it training starts from public
    weights.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lips: StageConfig = field(default_factory=lambda: StageConfig(steps=1200, batch=24, rate=6e-4))
    heads: StageConfig = field(default_factory=lambda: StageConfig(steps=2500, batch=24, rate=6e-4))
    weights: LossWeights = field(default_factory=LossWeights)
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    start: str | None = None
    out: str = "runs/mini"


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read ``path`` and merge ``key=value`` overrides; raises ``ConfigError`` naming the key that does not fit."""
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(TrainConfig), OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides))
        )
        config = OmegaConf.to_object(merged)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; the configurations that come with avfake are in configs/") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a YAML file") from error
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}, or a key=value pair, is not valid YAML ({reason}); correct it") from error
    except TypeError as error:
        raise ConfigError(f"{path} holds a list, not keys and values; see the examples in configs/") from error
    except OmegaConfBaseException as error:
        key = f" at {error.full_key!r}" if error.full_key else ""
        raise ConfigError(f"{path} does not fit{key}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, TrainConfig)
    return config
