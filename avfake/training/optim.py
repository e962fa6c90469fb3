"""What learns, and how fast: freezing, layer-wise rates, the schedule."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from avfake.config import OptimConfig
from avfake.models.fusion import AVFakeModel
from avfake.training import TrainingError

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def freeze(model: AVFakeModel, frozen: Sequence[str], norms_only: Sequence[str]) -> list[nn.Module]:
    """Switch off learning for the parts named by prefixes; return the modules that must stay in evaluation mode.

    Of the parts in ``norms_only`` the normalisation layers go on learning. Raises ``TrainingError`` for an unknown
    name.
    """
    still = []
    for name in frozen:
        part = _part(model, name)
        part.requires_grad_(False)
        if isinstance(part, nn.Module):
            still.append(part.eval())
    for name in norms_only:
        part = _part(model, name)
        part.requires_grad_(False)
        for module in part.modules() if isinstance(part, nn.Module) else ():
            if isinstance(module, NORMS):
                module.requires_grad_(True)
    return still


def _part(model: nn.Module, name: str) -> nn.Module | nn.Parameter:
    parts = {**dict(model.named_modules()), **dict(model.named_parameters())}
    parts.pop("")
    if name not in parts:
        close = difflib.get_close_matches(name, parts, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; its parts are {', '.join(dict(model.named_children()))}"
        raise TrainingError(f"freeze or norms_only names {name!r}, which the model does not have{hint}")
    return parts[name]


def parameter_groups(module: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Group what learns in ``module`` (a model, or an objective around it) by rate and weight decay.

    Backbones learn slower from top to bottom (as BEiT and wav2vec 2.0 are tuned); norms and biases do not decay.
    """
    depths = _depths(module)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            depth = next((depth for part, depth in depths if re.search(part, name)), 0)
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups[config.rate * config.layer_decay**depth, decay].append(parameter)
    if not groups:
        raise TrainingError("Everything is frozen, so there is nothing to learn: shorten freeze.")
    return [{"lr": rate, "weight_decay": decay, "params": params} for (rate, decay), params in groups.items()]


def _depths(module: nn.Module) -> list[tuple[str, int]]:
    """Patterns of parameter names with the depth of what they match: 1 at the top of a backbone."""
    return [*_backbone(module, "lip_tower.stages", "lip_tower.stem"),
            *_backbone(module, "voice_tower.wav2vec2.encoder.layers", "voice_tower.wav2vec2")]  # fmt: skip


def _backbone(module: nn.Module, layers: str, below: str) -> Iterator[tuple[str, int]]:
    names = {name for name, _ in module.named_modules()}
    prefix = "model." if f"model.{layers}" in names else ""
    count = len(list(module.get_submodule(prefix + layers).children()))
    for index in range(count):
        yield rf"(^|\.){re.escape(layers)}\.{index}\.", count - index
    yield rf"(^|\.){re.escape(below)}\.", count + 1


def schedule(optimiser: torch.optim.Optimizer, config: OptimConfig, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up, then cosine to zero at ``steps``."""
    return get_cosine_schedule_with_warmup(optimiser, round(config.warm_up * steps), steps)
