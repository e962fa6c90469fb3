"""What each task minimises; a row contributes only to what its labels know."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from avfake.models.fusion import MAX_SHIFT, SHIFTS, AVFakeModel
from avfake.training.data import Batch

SHARPNESS = 30.0
"""Scale of mean sync evidence (in [-1, 1]) in the contrastive softmax."""


class Losses(NamedTuple):
    """Mean loss of each task, scalars."""

    visual: Tensor
    audio: Tensor
    sync: Tensor
    mismatch: Tensor
    fake: Tensor


def known_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy over the rows whose label is not NaN, both classes weighing the same.

    ``logits`` (N,) or (N, T), ``labels`` (N,) in {0, 1, NaN}; 0 where nothing is known.
    """
    losses = []
    for label in (0.0, 1.0):
        rows = logits[labels == label]
        if rows.numel():
            losses.append(F.binary_cross_entropy_with_logits(rows, torch.full_like(rows, label)))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def pair_curves(lips: Tensor, voice: Tensor) -> Tensor:
    """Mean evidence of every lips with every voice: gated embeddings (V, T, E) -> (V, V, 31), [lips, voice, shift]."""
    frames = lips.shape[1]
    padded = F.pad(voice, (0, 0, MAX_SHIFT, MAX_SHIFT))
    sums = [torch.einsum("ite,jte->ij", lips, padded[:, k : k + frames]) for k in range(SHIFTS)]
    valid = frames - (torch.arange(SHIFTS, device=lips.device) - MAX_SHIFT).abs()
    return torch.stack(sums, dim=-1) / valid.clamp(min=1)


def sync_contrast(curves: Tensor, batch: Batch) -> Tensor:
    """InfoNCE over 31 shifts of the own voice and of every other file's voice (many in-clip negatives: ModEFormer).

    The positives are the shifts within ``slack`` of the known one (multiple-instance form: their evidence is
    summed), because genuine clips carry small offsets of their own.
    """
    k = torch.arange(SHIFTS, device=curves.device) - MAX_SHIFT
    positive = (k - batch.shift[:, None]).abs() <= batch.slack[:, None]
    own = torch.eye(len(curves), dtype=torch.bool, device=curves.device)
    same_file = batch.clip[:, None] == batch.clip[None]
    logits = SHARPNESS * curves.masked_fill((same_file & ~own)[..., None], -torch.inf)
    everything = logits.flatten(1).logsumexp(dim=1)
    mine = (SHARPNESS * curves.diagonal().T).masked_fill(~positive, -torch.inf).logsumexp(dim=1)
    return (everything - mine)[batch.synced].mean() if batch.synced.any() else curves.sum() * 0


def losses(model: AVFakeModel, batch: Batch, generator: torch.Generator) -> Losses:
    """All task losses of one batch, which lies where the model does; ``generator`` is the CPU's."""
    (videos, frames), device = batch.frames.shape[:2], batch.frames.device
    lips, voice = model.lip_tower(batch.frames), model.voice_tower(batch.audio)
    visual_frames = model.visual_logit(lips.context).squeeze(-1)
    audio_frames = model.audio_logit(voice.context).squeeze(-1)

    lip_sync, voice_sync = model.sync_head.embed(lips.sync, voice.sync[:videos])
    curves = pair_curves(lip_sync, voice_sync)
    other_file = batch.clip[:, None] != batch.clip[None]
    judged = torch.cat([curves.diagonal().T[batch.synced], curves[other_file]])
    mismatched = (torch.arange(len(judged), device=device) >= batch.synced.sum()).float()
    mismatch = known_bce(model.sync_head.mismatch(judged, torch.full_like(mismatched, frames)), mismatched)

    # Fusion learns on the aspects as they are: half of the lips get another file's voice, some lose a stream.
    order = torch.arange(videos, device=device)
    swap = torch.rand(videos, generator=generator).to(device) < 0.5
    partner = torch.where(swap, order.roll(1), order)
    swap = batch.clip[partner] != batch.clip
    drop = torch.rand(videos, generator=generator).to(device)
    has_lips, has_voice = drop > 0.15, drop < 0.85
    sync_map = model.sync_head.map(lip_sync, voice_sync[partner]).detach()
    audio_clip = audio_frames.mean(1)[partner]
    aspects = torch.stack([visual_frames.mean(1), audio_clip, model.sync_head(sync_map)], dim=1).detach()
    present = torch.stack([has_lips, has_voice, has_lips & has_voice], dim=1)
    fake = model.fusion(lips.context.detach(), voice.context[partner].detach(), sync_map, aspects, present)
    truths = torch.stack([batch.visual[:videos], batch.voice_fake[partner], swap.float()], dim=1)
    # Fake if any present aspect is; genuine only if all present ones are known to be.
    seen = torch.where(present, truths, 0.0)
    label = torch.where((seen == 1).any(1), 1.0, seen.sum(1))
    return Losses(
        visual=known_bce(visual_frames, batch.visual[:videos]),
        audio=known_bce(audio_frames, batch.voice_fake),
        sync=sync_contrast(curves, batch),
        mismatch=mismatch,
        fake=known_bce(fake, label),
    )
