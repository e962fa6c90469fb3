"""The lip tower: EfficientNet on every lip crop, then short temporal convolutions."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, NamedTuple

import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avfake.models.contract import CROP_SIZE, MOUTH_POINTS, VisualConfig
from avfake.models.layers import TemporalConv

LOOK = 8
"""Numbers a frame that tell sync what mouth points do not: teeth, tongue, pressed lips."""
MOTION_SCALE = 30.0
"""Brings the motion of mouth points (crop side = 1) to about unit variance."""
EMBED_BATCH = 16
"""Frames to embed at once on a CPU: maps stay below the 32 MB from which glibc returns every block to the kernel."""

EMBED_BATCH_GPU = 512


class LipFeatures(NamedTuple):
    """Per-frame outputs of the lip tower: ``sync`` (B, T, E), ``context`` (B, T, D)."""

    sync: Tensor
    context: Tensor


class LipTower(nn.Module):
    """Lip crops to sync embeddings and artefact features.

    ``embed`` is the costly half and looks at single frames, so its output can be cached; ``forward`` adds time:
    frame-to-frame differences make flicker visible (the cue of temporally unstable generators).
    """

    def __init__(self, config: VisualConfig, dim: int, sync_dim: int) -> None:
        super().__init__()
        net: Any = timm.create_model(config.backbone, pretrained=False)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = net.blocks[: config.stages]
        self.register_buffer("mean", torch.tensor(net.pretrained_cfg["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(net.pretrained_cfg["std"]).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        with torch.no_grad():
            self.eval()
            channels, height, width = self._maps(torch.zeros(1, 3, CROP_SIZE, CROP_SIZE)).shape[1:]
            self.train()
        squeeze = 16  # channels that keep their place in the picture, for lip shape
        self.place = nn.Conv2d(channels, squeeze, 1)
        self.project = nn.Sequential(
            nn.Linear(channels + squeeze * height * width, config.width), nn.LayerNorm(config.width)
        )
        self.geometry = nn.Linear(config.width, 2 * MOUTH_POINTS)
        self.look = nn.Linear(config.width, LOOK)
        self.sync = nn.Sequential(
            nn.Dropout(0.1),
            nn.Linear(2 * MOUTH_POINTS + LOOK, sync_dim),
            TemporalConv(sync_dim, kernel=5),
            TemporalConv(sync_dim, kernel=5),
            TemporalConv(sync_dim, kernel=5),
        )
        self.context = nn.Sequential(
            nn.Linear(2 * config.width, dim), TemporalConv(dim, kernel=5), TemporalConv(dim, kernel=5)
        )

    def load_backbone(self, net: Any) -> None:
        """Copy the stem and the kept stages of a timm EfficientNet of the same architecture."""
        self.stem.load_state_dict(nn.Sequential(net.conv_stem, net.bn1).state_dict())
        self.stages.load_state_dict(net.blocks[: len(self.stages)].state_dict())

    def for_inference(self) -> LipTower:
        """Return a copy that gives the same numbers about three times as fast on a CPU, but cannot be trained.

        Batch norms are folded into the convolutions before them and pictures are laid out channels last.
        """
        tower = copy.deepcopy(self).eval()
        for parent in list(tower.modules()):
            for (at, conv), (after, norm) in pairwise(list(parent.named_children())):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                    setattr(parent, at, fuse_conv_bn_eval(conv, norm))
                    setattr(parent, after, norm.act)
        return tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _maps(self, pictures: Tensor) -> Tensor:
        normal: Tensor = (pictures - self.mean) / self.std
        return self.stages(self.stem(normal))

    def embed(self, lips: Tensor) -> Tensor:
        """Embed every frame alone: lips (B, T, 3, 96, 96) in [0, 1] -> (B, T, width)."""
        maps = self._maps(lips.flatten(0, 1))
        features = torch.cat([maps.mean(dim=(2, 3)), self.place(maps).flatten(1)], dim=1)
        return self.project(features).unflatten(0, lips.shape[:2])

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """Embed uint8 crops (N, 96, 96, 3), a few at a time -> (N, width)."""
        few = EMBED_BATCH if pictures.device.type == "cpu" else EMBED_BATCH_GPU
        return torch.cat([self.embed_few(part) for part in pictures.split(few)])

    def embed_few(self, pictures: Tensor) -> Tensor:
        """Embed uint8 crops (N, 96, 96, 3) all at once -> (N, width)."""
        return self.embed(pictures.movedim(-1, -3)[None].float() / 255)[0]

    def mouth(self, frames: Tensor) -> Tensor:
        """Mouth points read from frame embeddings: (B, T, width) -> (B, T, 20, 2), crop side = 1, centre = 0."""
        return self.geometry(frames).unflatten(-1, (MOUTH_POINTS, 2))

    def forward(self, frames: Tensor) -> LipFeatures:
        """Frame embeddings (B, T, width) -> ``LipFeatures``."""
        # Sync sees how the mouth moves, never whose it is: a face would be matched with its owner's timbre.
        motion = torch.cat([MOTION_SCALE * self.geometry(frames), self.look(frames)], dim=-1)
        motion = motion - motion.mean(dim=1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        return LipFeatures(self.sync(motion), self.context(torch.cat([frames, frames - before], dim=-1)))
