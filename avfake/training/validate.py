"""Figures on held-out people and sources, from embeddings: what training chooses by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from avfake import SAMPLES_PER_FRAME
from avfake.models.fusion import AVFakeModel
from avfake.training.data import Embedded

MIN_SYNC_FRAMES = 50  # below two seconds sync is a guess


def device_of(model: nn.Module) -> torch.device:
    """Where a model lies, and its inputs must."""
    return next(model.parameters()).device


def in_sync(videos: Sequence[Embedded]) -> list[Embedded]:
    """Return the clips that are known to be in sync and long enough to hear it."""
    return [
        sample
        for sample in videos
        if sample.row.labels.sync == 0 and sample.clip.audio is not None and sample.clip.frames >= MIN_SYNC_FRAMES
    ]


@torch.no_grad()
def validate(model: AVFakeModel, videos: Sequence[Embedded], voices: Sequence[Embedded]) -> dict[str, float]:
    """AUC of each aspect on whole clips, higher is better.

    ``visual``: real against generated mouths; ``sync``: own voice against the next person's; ``audio``: mean over
    the sources that have both labels.
    """
    visual: list[tuple[int | None, float]] = []
    sync: list[tuple[int, float]] = []
    genuine, device = in_sync(videos), device_of(model)
    for sample in videos:
        assert sample.frames is not None
        lips = sample.frames[:1].to(device).float()
        visual.append((sample.row.labels.visual, model.visual_logit(model.lip_tower(lips).context).mean().item()))
        if sample in genuine:
            following = [s for s in genuine[genuine.index(sample) :] + genuine if s.row.identity != sample.row.identity]
            sync.append((0, _sync(model, lips, sample)))
            sync.append((1, _sync(model, lips, following[0])))
    scores: dict[str, list[tuple[int | None, float]]] = defaultdict(list)
    for sample in voices:
        audio = torch.from_numpy(sample.clip.audio)[None].to(device)
        logit = model.audio_logit(model.voice_tower(audio).context).mean().item()
        scores[sample.row.corpus].append((sample.row.labels.audio, logit))
    per_source = [_auc(pairs) for pairs in scores.values() if len({label for label, _ in pairs}) == 2]
    return {"visual": _auc(visual), "sync": _auc(sync), "audio": float(np.mean(per_source))}


def _sync(model: AVFakeModel, frames: Tensor, voice: Embedded) -> float:
    assert voice.clip.audio is not None
    audio = np.resize(voice.clip.audio, frames.shape[1] * SAMPLES_PER_FRAME)
    present = torch.ones(1, dtype=torch.bool, device=frames.device)
    return model.score(frames, torch.from_numpy(audio)[None].to(frames.device), present, present).sync.item()


def _auc(pairs: Sequence[tuple[int | None, float]]) -> float:
    labels, scores = zip(*[pair for pair in pairs if pair[0] is not None], strict=True)
    return float(roc_auc_score(labels, scores))
