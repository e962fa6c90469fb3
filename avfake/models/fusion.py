"""Sync evidence, the fusion head, and the whole model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avfake.models.audio import VoiceFeatures, VoiceTower
from avfake.models.contract import INVALID, MAX_SHIFT, SHIFTS, ModelConfig, Scores
from avfake.models.visual import LipFeatures, LipTower


class SyncHead(nn.Module):
    """Compares lip and voice embeddings over 31 shifts and judges how far the best shift stands out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # A gate per stream lets silent or motionless frames abstain instead of voting at random.
        self.lip_gate = nn.Linear(dim, 1)
        self.voice_gate = nn.Linear(dim, 1)
        self.judge = nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 1))
        self.register_buffer("shifts", torch.arange(SHIFTS), persistent=False)
        self.shifts: Tensor

    def embed(self, lips: Tensor, voice: Tensor) -> tuple[Tensor, Tensor]:
        """Raw embeddings (B, T, E) -> unit directions times a gate in (0, 1), same shapes."""
        return self.gated_lips(lips), self.gated_voice(voice)

    def gated_lips(self, lips: Tensor) -> Tensor:
        """``embed`` of the lips alone."""
        return F.normalize(lips, dim=-1) * self.lip_gate(lips).sigmoid()

    def gated_voice(self, voice: Tensor) -> Tensor:
        """``embed`` of the voice alone."""
        return F.normalize(voice, dim=-1) * self.voice_gate(voice).sigmoid()

    @staticmethod
    def map(lips: Tensor, voice: Tensor) -> Tensor:
        """Gated embeddings (B, T, E) -> ``sync_map`` (B, T, 31) with ``INVALID`` outside the clip."""
        shifted = F.pad(voice, (0, 0, MAX_SHIFT, MAX_SHIFT)).unfold(1, SHIFTS, 1)  # (B, T, E, 31)
        valid = F.pad(torch.ones_like(voice[:, :, 0]), (MAX_SHIFT, MAX_SHIFT)).unfold(1, SHIFTS, 1)
        return torch.where(valid > 0, (lips[..., None] * shifted).sum(2), INVALID)

    @staticmethod
    def curve(sync_map: Tensor) -> Tensor:
        """Mean evidence of each shift over its valid frames: (B, T, 31) -> (B, 31), 0 where no frame is valid."""
        valid = (sync_map > INVALID / 2).to(sync_map.dtype)
        return (sync_map * valid).sum(1) / valid.sum(1).clamp(min=1.0)

    def mismatch(self, curve: Tensor, frames: Tensor) -> Tensor:
        """``curve`` (N, 31) of clips of ``frames`` (N,) frames -> log-odds (N,) that no shift fits.

        It sees how far the best shift stands above the mean, its best rival and the spread of the curve: never
        where it lies, because a constant offset is no mismatch.
        """
        peak, at = curve.max(dim=1)
        distance = (self.shifts - at[:, None]).abs()
        rival = torch.where(distance > 3, curve, -1.0).amax(dim=1)
        mean = curve.mean(dim=1)
        spread = (curve - mean[:, None]).square().mean(dim=1).sqrt()
        stands_out = (peak - mean) / (spread + 0.01)
        length = frames.log() - 4  # about 0 for two seconds
        features = [10 * peak, 10 * (peak - mean), 10 * (peak - rival), stands_out, length]
        return self.judge(torch.stack(features, dim=1)).squeeze(1)

    def forward(self, sync_map: Tensor) -> Tensor:
        """``sync_map`` (B, T, 31) -> log-odds (B,) that no shift makes lips and voice belong together."""
        return self.mismatch(self.curve(sync_map), torch.ones_like(sync_map[:, :, 0]).sum(1))


class CrossAttention(nn.Module):
    """One stream asks the other: (B, T, D), (B, S, D) -> (B, T, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_key = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Attend from ``x`` to ``other`` and add."""
        query = self.query(self.norm_query(x))
        key, value = self.key_value(self.norm_key(other)).chunk(2, dim=-1)
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.out(y)


class FusionHead(nn.Module):
    """Both streams and the sync evidence to one log-odds of *fake*.

    The base is a soft "or" of the three aspects (a clip is fake when any of them is); what cross-attention sees
    beyond that is added. An absent stream is replaced by a learned token and leaves the "or".
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.no_lips = nn.Parameter(torch.zeros(dim))
        self.no_voice = nn.Parameter(torch.zeros(dim))
        self.evidence = nn.Linear(SHIFTS, dim)
        self.lips_ask = CrossAttention(dim, heads)
        self.voice_asks = CrossAttention(dim, heads)
        self.pool = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, dim), nn.GELU(), nn.Dropout(0.2))
        self.correction = nn.Linear(dim, 1)
        # Calibration sets these, so that the "or" weighs each aspect by what it is worth on unseen people.
        self.register_buffer("aspect_scale", torch.ones(3))
        self.register_buffer("aspect_bias", torch.zeros(3))
        self.aspect_scale: Tensor
        self.aspect_bias: Tensor
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, lips: Tensor, voice: Tensor, sync_map: Tensor, aspects: Tensor, present: Tensor) -> Tensor:
        """Judge the clip.

        ``lips, voice`` (B, T, D) context features; ``aspects`` (B, 3) logits of visual, audio and sync with
        ``present`` (B, 3) saying which of them mean anything. Returns (B,).
        """
        has_lips, has_voice, both = (present[:, i, None, None] for i in range(3))
        evidence = self.evidence(torch.where((sync_map > INVALID / 2) & both, sync_map, 0.0))
        lips = torch.where(has_lips, lips, self.no_lips) + torch.where(both, evidence, 0.0)
        voice = torch.where(has_voice, voice, self.no_voice)
        seen = torch.cat([self.lips_ask(lips, voice).mean(1), self.voice_asks(voice, lips).mean(1)], dim=-1)
        aspects = self.aspect_scale * aspects + self.aspect_bias
        any_fake = torch.logsumexp(torch.where(present, aspects, -20.0), dim=1)
        return any_fake + self.correction(self.pool(seen)).squeeze(1)


class AVFakeModel(nn.Module):
    """Two towers and a fusion head; the contract of ``forward`` is what training, detection and export share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.lip_tower = LipTower(config.visual, config.dim, config.sync_dim)
        self.voice_tower = VoiceTower(config.audio, config.dim, config.sync_dim)
        self.visual_logit = nn.Linear(config.dim, 1)
        self.audio_logit = nn.Linear(config.dim, 1)
        self.sync_head = SyncHead(config.sync_dim)
        self.fusion = FusionHead(config.dim, config.heads)

    def forward(self, lips: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor) -> Scores[Tensor]:
        """Score a batch of clips.

        ``lips`` float (B, T, 3, 96, 96) in [0, 1], ``audio`` float (B, 640 T) in [-1, 1], ``has_lips`` and
        ``has_audio`` bool (B,): False marks a stream as absent, whatever its tensor holds.
        """
        return self.score(self.lip_tower.embed(lips), audio, has_lips, has_audio)

    def score(self, frames: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor) -> Scores[Tensor]:
        """``forward`` from frame embeddings (B, T, width), as ``LipTower.embed`` gives them."""
        return self.judge(self.lip_tower(frames), self.voice_tower(self.voice_tower.embed(audio)), has_lips, has_audio)

    def judge(self, lips: LipFeatures, voice: VoiceFeatures, has_lips: Tensor, has_audio: Tensor) -> Scores[Tensor]:
        """``forward`` from what the towers give."""
        sync_map = self.sync_head.map(*self.sync_head.embed(lips.sync, voice.sync))
        visual_frames = self.visual_logit(lips.context).squeeze(-1)
        audio_frames = self.audio_logit(voice.context).squeeze(-1)
        visual, audio_clip, sync = visual_frames.mean(1), audio_frames.mean(1), self.sync_head(sync_map)
        present = torch.stack([has_lips, has_audio, has_lips & has_audio], dim=1)
        fake = self.fusion(
            lips.context, voice.context, sync_map, torch.stack([visual, audio_clip, sync], dim=1), present
        )
        return Scores(fake, visual, audio_clip, sync, visual_frames, audio_frames, sync_map)
