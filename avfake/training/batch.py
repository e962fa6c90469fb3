"""A batch: what the loader yields, what frozen towers have said of it, what the losses see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from avfake import SAMPLES_PER_FRAME
from avfake.models.audio import VoiceEmbedding


@dataclass(frozen=True)
class Batch:
    """B windows of T frames. A missing stream is zeros, its labels NaN.

    ``lips`` uint8 (B, T, 96, 96, 3); ``audio`` float32 (B, 640 T); ``has_lips``, ``has_audio`` bool (B,); ``mouth``
    float32 (B, T, 20, 2) in crop pixels; ``face_ok`` bool (B, T); ``labels`` float32 (B, 3) and ``frame_labels``
    (B, T, 3), the last axis being visual, audio, sync: 0, 1, or NaN where not known; ``shift`` int64 (B,): frames by
    which the voice was made later: lips at t belong to the voice at t + shift; ``files`` int64 (B,): the same number
    for windows that come from one recording, a forged one and its source among them; ``ids`` of the rows.

    Where a tower is frozen ``frames`` (B, T, width) or ``voice`` is what its costly half says, and ``lips`` or
    ``audio`` is None. ``taught`` (B, T, D) is what a teacher says of the voice.
    """

    lips: Tensor | None
    audio: Tensor | None
    has_lips: Tensor
    has_audio: Tensor
    mouth: Tensor
    face_ok: Tensor
    labels: Tensor
    frame_labels: Tensor
    shift: Tensor
    files: Tensor
    ids: Sequence[str]
    frames: Tensor | None = None
    voice: VoiceEmbedding | None = None
    taught: Tensor | None = None

    @property
    def length(self) -> int:
        """T."""
        return self.face_ok.shape[1]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with every tensor on ``device``."""
        changed: dict[str, Any] = {
            f.name: _moved(getattr(self, f.name), device) for f in fields(self) if f.name != "ids"
        }
        return replace(self, **changed)

    def cut(self, start: int, length: int) -> Batch:
        """Return ``length`` frames from ``start`` on; a window of which nothing fake is left is genuine."""
        part = slice(start, start + length)
        frame_labels = self.frame_labels[:, part]
        left_genuine = (self.labels == 1) & (frame_labels == 0).all(1)
        sound = slice(start * SAMPLES_PER_FRAME, (start + length) * SAMPLES_PER_FRAME)
        return replace(
            self,
            lips=None if self.lips is None else self.lips[:, part],
            audio=None if self.audio is None else self.audio[:, sound],
            mouth=self.mouth[:, part],
            face_ok=self.face_ok[:, part],
            labels=torch.where(left_genuine, 0.0, self.labels),
            frame_labels=frame_labels,
            frames=None if self.frames is None else self.frames[:, part],
            voice=None
            if self.voice is None
            else VoiceEmbedding(self.voice.local[:, part], self.voice.layers[:, :, part]),
            taught=None if self.taught is None else self.taught[:, part],
        )


def _moved(value: Tensor | VoiceEmbedding | None, device: torch.device) -> Tensor | VoiceEmbedding | None:
    if isinstance(value, VoiceEmbedding):
        return VoiceEmbedding(*(part.to(device, non_blocking=True) for part in value))
    return None if value is None else value.to(device, non_blocking=True)
