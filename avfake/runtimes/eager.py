"""torch as the runtime: any checkpoint on any device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from avfake.models import AVFakeModel, Checkpoint, Scores


class TorchRuntime:
    """Runs a checkpoint's model, eagerly, on ``device``; sets torch to ``threads`` CPU threads."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu", threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.config = checkpoint.config
        self.fingerprint = checkpoint.fingerprint
        self.device = torch.device(device)
        self.model: AVFakeModel = checkpoint.model.to(self.device)
        self._lip_tower = self.model.lip_tower.for_inference()
        # Freeing one block of just under 32 MB makes glibc keep that much for reuse; else every layer of the lip
        # tower faults its memory in anew, a sixth of all CPU time.
        torch.empty(31 << 20, dtype=torch.uint8)

    @torch.inference_mode()
    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Runtime.embed``."""
        frames: NDArray[np.float32] = self._lip_tower.embed_pictures(self._tensor(pictures)).cpu().numpy()
        return frames

    @torch.inference_mode()
    def score(
        self,
        frames: NDArray[np.float32],
        audio: NDArray[np.float32],
        has_lips: NDArray[np.bool_],
        has_audio: NDArray[np.bool_],
    ) -> Scores[NDArray[np.float32]]:
        """See ``Runtime.score``."""
        scores = self.model.score(*map(self._tensor, (frames, audio, has_lips, has_audio)))
        return Scores(*(score.cpu().numpy() for score in scores))

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)
