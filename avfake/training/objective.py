"""What is minimised: a loss for each task, to which a row contributes only what its labels know.

With several processes every one gathers the features of all, gradients included, and takes the losses over the batches
of all as if they were one: class balance, negatives and gradients are those of a single process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
import torch.nn.functional as F
from torch import Tensor, nn

from avfake.faces import CROP
from avfake.models import MAX_SHIFT, SHIFTS, AVFakeModel
from avfake.models.audio import VoiceEmbedding
from avfake.models.contract import MOUTH_POINTS
from avfake.models.visual import LipTower
from avfake.training.batch import Batch

SHARPNESS = 30.0
"""Scale of mean sync evidence (in [-1, 1]) in the contrastive softmax."""
OWN_OFFSET = 3
"""Frames by which lips and voice of genuine clips may be apart (up to 120 ms is common)."""
SWAPPED = 0.5  # share of windows whose voice is swapped with another's for the fusion head
ONE_STREAM = 0.15  # share of windows that lose their lips, and the same share their voice, for the fusion head
MOUTH_SCALE = 20.0  # brings the error of mouth points (crop side 1) to the knee of the smooth L1 loss


LEARNT = "lip_sync", "voice_sync", "lip_context", "voice_context", "mouth", "taught"
"""Fields of ``Seen`` through which gradients flow."""


class Losses(NamedTuple):
    """Mean loss of each task over the batches of all processes, scalars; 0 where nothing is known of it."""

    geometry: Tensor
    visual: Tensor
    audio: Tensor
    sync: Tensor
    mismatch: Tensor
    fake: Tensor
    distil: Tensor


@dataclass(frozen=True)
class Seen:
    """What the towers make of a batch (N rows of T frames), and what is known of it.

    ``lip_sync``, ``voice_sync`` (N, T, E) gated; ``lip_context``, ``voice_context`` (N, T, D); ``mouth`` (N, T, 40)
    as the tower reads it, ``mouth_true`` likewise, in [-0.5, 0.5]; ``taught``, ``taught_true`` (N, T, W), W = 0
    without a teacher; the rest as in ``Batch``, bools as uint8. Rows without a stream hold zeros.
    """

    lip_sync: Tensor
    voice_sync: Tensor
    lip_context: Tensor
    voice_context: Tensor
    mouth: Tensor
    mouth_true: Tensor
    taught: Tensor
    taught_true: Tensor
    has_lips: Tensor
    has_audio: Tensor
    face_ok: Tensor
    labels: Tensor
    frame_labels: Tensor
    shift: Tensor
    files: Tensor


class Objective(nn.Module):
    """The model and its losses as one module, so that gradients of everything are averaged over processes.

    ``taught`` is the width of the teacher's features that the voice tower learns to foretell, 0 for none.
    """

    def __init__(self, model: AVFakeModel, taught: int = 0) -> None:
        super().__init__()
        self.model = model
        tower = model.voice_tower
        width = tower.wav2vec2.config.hidden_size * tower.steps
        self.foretell = nn.Linear(width, taught) if taught else None

    def forward(self, batch: Batch, seed: int, settled: bool = False) -> Losses:
        """All losses of a batch, which lies where the model does.

        ``seed`` decides what the fusion head is shown and is the same in every process; ``settled`` says that sync
        has learned enough to find the own constant offset of a clip.
        """
        seen = self._towers(batch)
        with torch.autocast(seen.labels.device.type, enabled=False):  # evidence is summed; that wants float32
            return self._losses(gathered(seen), torch.Generator().manual_seed(seed), settled)

    def _losses(self, seen: Seen, generator: torch.Generator, settled: bool) -> Losses:
        model = self.model
        visual_frames = model.visual_logit(seen.lip_context).squeeze(-1)
        audio_frames = model.audio_logit(seen.voice_context).squeeze(-1)
        curves = pair_curves(seen.lip_sync, seen.voice_sync)
        return Losses(
            geometry=mouth_error(seen),
            visual=aspect_bce(visual_frames, seen.frame_labels[..., 0], seen.labels[:, 0], seen.face_ok),
            audio=aspect_bce(audio_frames, seen.frame_labels[..., 1], seen.labels[:, 1], seen.has_audio[:, None]),
            sync=sync_contrast(curves, seen, settled=settled),
            mismatch=self._mismatch(curves, seen),
            fake=self._fake(seen, visual_frames, audio_frames, generator),
            distil=_cosine_error(seen),
        )

    def _towers(self, batch: Batch) -> Seen:
        """Run the towers over the rows that have their stream; nothing is spent on zeros."""
        blank = batch.frame_labels.new_zeros((*batch.face_ok.shape, 0))
        lip_sync, lip_context, mouth = self._lips(batch)
        voice_sync, voice_context, taught = self._voice(batch)
        return Seen(
            lip_sync=lip_sync,
            voice_sync=voice_sync,
            lip_context=lip_context,
            voice_context=voice_context,
            mouth=mouth,
            mouth_true=(batch.mouth.float() / CROP - 0.5).flatten(2),
            taught=taught,
            taught_true=blank if batch.taught is None else batch.taught.float(),
            has_lips=batch.has_lips.byte(),
            has_audio=batch.has_audio.byte(),
            face_ok=batch.face_ok.byte(),
            labels=batch.labels,
            frame_labels=batch.frame_labels,
            shift=batch.shift,
            files=batch.files,
        )

    def _lips(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        model, tower = self.model, self.model.lip_tower
        rows, at = batch.face_ok.shape, _rows(batch.has_lips)
        widths = model.sync_head.lip_gate.in_features, model.visual_logit.in_features, 2 * MOUTH_POINTS
        if not len(at):
            sync, context, mouth = (batch.labels.new_zeros((*rows, width)) for width in widths)
            return sync, context, mouth
        if batch.frames is not None:
            frames = batch.frames[at].float()
        else:
            assert batch.lips is not None
            frames = embed(tower, batch.lips[at])
        features = tower(frames)
        sync = model.sync_head.gated_lips(features.sync)
        mouth = tower.mouth(frames).flatten(2)
        return _spread(sync, at, rows[0]), _spread(features.context, at, rows[0]), _spread(mouth, at, rows[0])

    def _voice(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        model, tower = self.model, self.model.voice_tower
        rows, at = batch.face_ok.shape, _rows(batch.has_audio)
        taught = 0 if self.foretell is None else self.foretell.out_features
        widths = model.sync_head.voice_gate.in_features, model.audio_logit.in_features, taught
        if not len(at):
            sync, context, foretold = (batch.labels.new_zeros((*rows, width)) for width in widths)
            return sync, context, foretold
        if batch.voice is not None:
            voice = VoiceEmbedding(*(part[at].float() for part in batch.voice))
        else:
            assert batch.audio is not None
            voice = tower.embed(batch.audio[at])
        features = tower(voice)
        foretold = voice.local[..., :0] if self.foretell is None else self.foretell(tower.mixed(voice.layers))
        sync = model.sync_head.gated_voice(features.sync)
        return _spread(sync, at, rows[0]), _spread(features.context, at, rows[0]), _spread(foretold, at, rows[0])

    def _mismatch(self, curves: Tensor, seen: Seen) -> Tensor:
        """Own voices of rows in sync against own voices of rows that are not, and the voices of other recordings."""
        own = seen.labels[:, 2]
        known = ~own.isnan() & _both(seen)
        foreign = _foreign(seen)
        judged = torch.cat([curves.diagonal().T[known], curves[foreign]])
        labels = torch.cat([own[known], own.new_ones(int(foreign.sum()))])
        lengths = torch.full_like(labels, seen.face_ok.shape[1])
        return known_bce(self.model.sync_head.mismatch(judged, lengths), labels) if len(judged) else curves.sum() * 0

    def _fake(self, seen: Seen, visual_frames: Tensor, audio_frames: Tensor, generator: torch.Generator) -> Tensor:
        """Fusion learns on the aspects as they are: some lips get another recording's voice, some lose a stream."""
        model, device = self.model, seen.labels.device
        rows = len(seen.labels)
        both = _both(seen)
        order = torch.arange(rows, device=device)
        partner = order.clone()
        partner[both] = order[both].roll(1)
        swap = torch.rand(rows, generator=generator).to(device) < SWAPPED
        swap &= both & _foreign(seen)[order, partner]
        partner = torch.where(swap, partner, order)
        lost = torch.rand(rows, generator=generator).to(device)
        has_lips = seen.has_lips.bool() & ~(both & (lost < ONE_STREAM))
        has_voice = seen.has_audio.bool() & ~(both & (lost > 1 - ONE_STREAM))
        sync_map = model.sync_head.map(seen.lip_sync, seen.voice_sync[partner]).detach()
        aspects = [visual_frames.mean(1), audio_frames.mean(1)[partner], model.sync_head(sync_map)]
        present = torch.stack([has_lips, has_voice, has_lips & has_voice], dim=1)
        fake = model.fusion(
            seen.lip_context.detach(),
            seen.voice_context[partner].detach(),
            sync_map,
            torch.stack(aspects, dim=1).detach(),
            present,
        )
        sync = torch.where(swap, 1.0, seen.labels[:, 2])
        truths = torch.stack([seen.labels[:, 0], seen.labels[partner, 1], sync], dim=1)
        # Fake if any present aspect is; genuine only if all present ones are known to be.
        shown = torch.where(present, truths, 0.0)
        return known_bce(fake, torch.where((shown == 1).any(1), 1.0, shown.sum(1)))


def embed(tower: LipTower, lips: Tensor) -> Tensor:
    """Embed uint8 crops (B, T, 96, 96, 3) -> (B, T, width)."""
    return tower.embed(lips.movedim(-1, -3).float() / 255)


def _rows(there: Tensor) -> Tensor:
    """Return the rows that have a stream.

    Processes wait for each other in a tower's gradients, and in batch norms: where this one has no such row but another
    has, it is the first, whose zeros are masked in every loss.
    """
    at = there.nonzero().squeeze(1)
    if dist.is_initialized() and dist.get_world_size() > 1:
        anywhere = there.any().int()
        dist.all_reduce(anywhere, dist.ReduceOp.MAX)
        if anywhere and not len(at):
            return at.new_zeros(1)
    return at


def _spread(values: Tensor, at: Tensor, rows: int) -> Tensor:
    """Put rows (M, ...) at their places among ``rows`` rows of zeros. Loss arithmetic is float32 under bf16, too."""
    return values.new_zeros((rows, *values.shape[1:]), dtype=torch.float32).index_copy(0, at, values.float())


def gathered(seen: Seen) -> Seen:
    """The same of all processes, one after another; gradients flow back to where a tensor came from."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return seen
    # One exchange for all that has gradients, so that processes cannot differ in the order of several.
    learnt = torch.cat([getattr(seen, name) for name in LEARNT], dim=-1)
    if not learnt.requires_grad:
        learnt.requires_grad_()
    everything = torch.cat(dist_nn.all_gather(learnt))
    parts = everything.split([getattr(seen, name).shape[-1] for name in LEARNT], dim=-1)
    known = {name: _exchanged(value) for name, value in vars(seen).items() if name not in LEARNT}
    return Seen(**dict(zip(LEARNT, parts, strict=True)), **known)


def _exchanged(value: Tensor) -> Tensor:
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def _both(seen: Seen) -> Tensor:
    return seen.has_lips.bool() & seen.has_audio.bool()


def _foreign(seen: Seen) -> Tensor:
    """Which lips (rows) and voices (columns) are of different recordings, (N, N) bool.

    A voice that was put under lips comes from some other recording, perhaps one in the batch: it is nobody's negative.
    """
    other = seen.files[:, None] != seen.files[None]
    return other & seen.has_lips.bool()[:, None] & (seen.has_audio.bool() & (seen.labels[:, 2] != 1))[None]


def known_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy over the entries whose label is not NaN, both classes weighing the same.

    ``logits`` and ``labels`` of one shape, labels in {0, 1, NaN}; 0 where nothing is known.
    """
    losses = []
    for label in (0.0, 1.0):
        chosen = logits[labels == label]
        if chosen.numel():
            losses.append(F.binary_cross_entropy_with_logits(chosen, torch.full_like(chosen, label)))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def aspect_bce(frame_logits: Tensor, frame_labels: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Mean of the frame loss and, where a window is one thing throughout, of the clip loss.

    ``frame_logits``, ``frame_labels`` (N, T); ``labels`` (N,); ``valid`` (N, T) or (N, 1): frames that show anything.
    The clip logit is the mean of its frames, as in the model. A window that is fake in places is taught by its frames
    alone, for its mean has no label.
    """
    valid = valid.bool().expand_as(frame_labels)
    known = torch.where(valid, frame_labels, torch.nan)
    throughout = ((frame_labels == labels[:, None]) | ~valid).all(1) & valid.any(1)
    clips = known_bce(frame_logits.mean(1), torch.where(throughout, labels, torch.nan))
    return 0.5 * (known_bce(frame_logits, known) + clips)


def mouth_error(seen: Seen) -> Tensor:
    """Smooth L1 distance of the mouth points that the lip tower reads from those that were measured."""
    measured = seen.face_ok.bool() & seen.has_lips.bool()[:, None]
    if not measured.any():
        return seen.mouth.sum() * 0
    return F.smooth_l1_loss(MOUTH_SCALE * seen.mouth[measured], MOUTH_SCALE * seen.mouth_true[measured])


def pair_curves(lips: Tensor, voice: Tensor) -> Tensor:
    """Mean evidence of every lips with every voice: gated embeddings (N, T, E) -> (N, N, 31), [lips, voice, shift]."""
    frames = lips.shape[1]
    padded = F.pad(voice, (0, 0, MAX_SHIFT, MAX_SHIFT))
    sums = [torch.einsum("ite,jte->ij", lips, padded[:, k : k + frames]) for k in range(SHIFTS)]
    valid = frames - (torch.arange(SHIFTS, device=lips.device) - MAX_SHIFT).abs()
    return torch.stack(sums, dim=-1) / valid.clamp(min=1)


def sync_contrast(curves: Tensor, seen: Seen, *, settled: bool) -> Tensor:
    """InfoNCE over 31 shifts of the own voice and of every other recording's (many in-clip negatives: ModEFormer).

    The positives are the shifts within ``OWN_OFFSET`` of the known one (multiple-instance form, MIL-NCE: their
    evidence is summed), because genuine clips carry small offsets of their own; once ``settled``, those within one
    frame of the best of them.
    """
    synced = (seen.labels[:, 2] == 0) & _both(seen) & (seen.shift.abs() <= MAX_SHIFT)
    if not synced.any():
        return curves.sum() * 0
    k = torch.arange(SHIFTS, device=curves.device) - MAX_SHIFT
    own = curves.diagonal().T
    positive = (k - seen.shift[:, None]).abs() <= OWN_OFFSET
    if settled:
        best = torch.where(positive, own.detach(), -torch.inf).argmax(1) - MAX_SHIFT
        positive &= (k - best[:, None]).abs() <= 1
    rival = _foreign(seen) | torch.eye(len(curves), dtype=torch.bool, device=curves.device)
    everything = (SHARPNESS * curves).masked_fill(~rival[..., None], -torch.inf).flatten(1).logsumexp(dim=1)
    mine = (SHARPNESS * own).masked_fill(~positive, -torch.inf).logsumexp(dim=1)
    return (everything - mine)[synced].mean()


def _cosine_error(seen: Seen) -> Tensor:
    """One minus the cosine between what the voice tower foretells of its teacher's features and those."""
    if not seen.taught.shape[-1]:
        return seen.voice_context.sum() * 0
    heard = seen.has_audio.bool()
    if not heard.any():
        return seen.taught.sum() * 0
    return 1 - F.cosine_similarity(seen.taught[heard], seen.taught_true[heard], dim=-1).mean()
