"""What is exported: the whole model and its parts as modules of their own, with the names, shapes and meanings of all
that goes in and comes out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from avfake import SAMPLES_PER_FRAME
from avfake.exported import OUTPUTS
from avfake.models import SHIFTS, AVFakeModel, Calibration, CheckpointConfig, ModelConfig, Scores
from avfake.models.checkpoint import ASPECTS
from avfake.models.contract import CROP_SIZE, MOUTH_POINTS

Part = Literal["model", "lip-encoder", "audio-encoder", "sync-head"]
WINDOW = 100
"""Frames that ``stream`` judges at most: 4 s, the window of ``detect``."""

Size: TypeAlias = int | str
"""A number, or a name for what is free: B clips, T frames, N pictures, C frames of a chunk, W frames kept; "640T" is
640 times T."""


@dataclass(frozen=True)
class Port:
    """An input or output of a program."""

    name: str
    shape: tuple[Size, ...]
    meaning: str
    dtype: str = "float32"


class Method(NamedTuple):
    """What a program can be asked, and what it answers."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Form:
    """A module as it is exported; its method ``forward`` and others take and give what ``methods`` says."""

    module: nn.Module
    methods: dict[str, Method]


def portable(model: AVFakeModel) -> AVFakeModel:
    """Return a copy on the CPU with the faster form of the lip tower, which gives the same numbers."""
    copied = plain(model)
    copied.lip_tower = copied.lip_tower.for_inference()
    return copied


def plain(model: AVFakeModel) -> AVFakeModel:
    """Return a copy on the CPU that is otherwise as it was: what an export is held against."""
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)


def form(part: Part, model: AVFakeModel, config: CheckpointConfig) -> Form:
    """Return what is exported of a model."""
    sizes = config.model
    frames = Port("frames", ("B", "T", sizes.visual.width), "embedding of each frame")
    if part == "model":
        return Form(Whole(model, config).eval(), _whole(sizes))
    if part == "lip-encoder":
        features = (frames, *_features(sizes, "lips"), _mouth())
        return Form(LipEncoder(model).eval(), {"forward": Method((_lips(),), features)})
    if part == "audio-encoder":
        return Form(AudioEncoder(model).eval(), {"forward": Method((_audio(),), _features(sizes, "voice"))})
    inputs = tuple(
        Port(f"{stream}_sync", ("B", "T", sizes.sync_dim), f"sync of the {encoder}")
        for stream, encoder in (("lips", "lip-encoder"), ("voice", "audio-encoder"))
    )
    outputs = (_sync_map(), Port("sync_logit", ("B",), "log-odds that no shift makes lips and voice belong together"))
    return Form(SyncHead(model).eval(), {"forward": Method(inputs, outputs)})


class Whole(nn.Module):
    """The model with all methods of a TorchScript file; the shapes are in ``form``."""

    def __init__(self, model: AVFakeModel, config: CheckpointConfig) -> None:
        super().__init__()
        self.model = model
        self.calibrated = nn.ModuleList(Calibrated(config.calibration.get(name, Calibration())) for name in ASPECTS)
        self.taught = [name in config.aspects for name in ASPECTS]

    def forward(self, lips: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor) -> Scores[Tensor]:
        """``AVFakeModel.forward``."""
        return self.model(lips, audio, has_lips, has_audio)

    def embed(self, pictures: Tensor) -> Tensor:
        """Lip crops uint8 (N, 96, 96, 3) -> (N, width)."""
        return self.model.lip_tower.embed_few(pictures)

    def score(self, frames: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor) -> Scores[Tensor]:
        """``AVFakeModel.score``."""
        return self.model.score(frames, audio, has_lips, has_audio)

    def stream(
        self, lips: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor, frames: Tensor, sound: Tensor
    ) -> tuple[Tensor, ...]:
        """Score the window that ends with this chunk; returns its scores and the state for the next chunk."""
        embedded = self.embed(lips.flatten(0, 1)).unflatten(0, lips.shape[:2])
        frames = torch.cat([frames, embedded], dim=1)[:, -WINDOW:]
        sound = torch.cat([sound, audio], dim=1)[:, -WINDOW * SAMPLES_PER_FRAME :]
        return *self.score(frames, sound, has_lips, has_audio), frames, sound

    def p_fake(
        self, fake: Tensor, visual: Tensor, audio: Tensor, sync: Tensor, has_lips: Tensor, has_audio: Tensor
    ) -> Tensor:
        """Logits (B,) -> calibrated P(fake) (B, 4), NaN where nothing can be said."""
        needs = (has_lips | has_audio, has_lips, has_audio, has_lips & has_audio)
        columns = [
            torch.where(need if taught else torch.zeros_like(need), calibrated(logit), torch.nan)
            for logit, need, taught, calibrated in zip(
                (fake, visual, audio, sync), needs, self.taught, self.calibrated, strict=True
            )
        ]
        return torch.stack(columns, dim=1)


class Calibrated(nn.Module):
    """``avfake.models.Calibration`` in torch: logits (B,) -> P(fake) (B,)."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.scale, self.bias = calibration.scale, calibration.bias
        knots = calibration.knots
        self.isotonic = bool(knots)
        if len(knots) == 1:  # the same ratio everywhere
            knots = [*knots, [knots[0][0] + 1, knots[0][1]]]
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float64))
        self.knots: Tensor

    def forward(self, logit: Tensor) -> Tensor:
        """Logits (B,) -> P(fake) (B,)."""
        value = logit.double()
        if not self.isotonic:
            return torch.sigmoid(self.scale * value + self.bias).float()
        logits, ratios = self.knots.T.contiguous()
        right = torch.searchsorted(logits, value).clamp(1, len(logits) - 1)
        share = (value - logits[right - 1]) / (logits[right] - logits[right - 1])
        ratio = ratios[right - 1] + share.clamp(0, 1) * (ratios[right] - ratios[right - 1])
        return torch.sigmoid(ratio).float()


class FrameEncoder(nn.Module):
    """The first half of the model, in ONNX: lips (B, T, 3, 96, 96) -> frames (B, T, width)."""

    def __init__(self, model: AVFakeModel) -> None:
        super().__init__()
        self.lip_tower = model.lip_tower

    def forward(self, lips: Tensor) -> Tensor:
        """``LipTower.embed``."""
        return self.lip_tower.embed(lips)


class Scorer(nn.Module):
    """The second half of the model, in ONNX."""

    def __init__(self, model: AVFakeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor) -> Scores[Tensor]:
        """``AVFakeModel.score``."""
        return self.model.score(frames, audio, has_lips, has_audio)


class LipEncoder(nn.Module):
    """The lip tower."""

    def __init__(self, model: AVFakeModel) -> None:
        super().__init__()
        self.lip_tower = model.lip_tower

    def forward(self, lips: Tensor) -> tuple[Tensor, ...]:
        """Return frames, sync, context, mouth."""
        frames = self.lip_tower.embed(lips)
        return frames, *self.lip_tower(frames), self.lip_tower.mouth(frames)


class AudioEncoder(nn.Module):
    """The voice tower."""

    def __init__(self, model: AVFakeModel) -> None:
        super().__init__()
        self.voice_tower = model.voice_tower

    def forward(self, audio: Tensor) -> tuple[Tensor, ...]:
        """Return sync, context."""
        return tuple(self.voice_tower(self.voice_tower.embed(audio)))


class SyncHead(nn.Module):
    """The comparison of lips and voice."""

    def __init__(self, model: AVFakeModel) -> None:
        super().__init__()
        self.sync_head = model.sync_head

    def forward(self, lips_sync: Tensor, voice_sync: Tensor) -> tuple[Tensor, ...]:
        """Return the sync map and its logit."""
        sync_map = self.sync_head.map(*self.sync_head.embed(lips_sync, voice_sync))
        return sync_map, self.sync_head(sync_map)


def _whole(sizes: ModelConfig) -> dict[str, Method]:
    frames = Port("frames", ("B", "T", sizes.visual.width), "what embed gave for lips")
    masks = (
        Port("has_lips", ("B",), "False: there are no lips, whatever the tensor holds", "bool"),
        Port("has_audio", ("B",), "False: there is no sound, whatever the tensor holds", "bool"),
    )
    logits = [
        Port(name, ("B",), meaning)
        for name, meaning in zip(
            OUTPUTS,
            ("log-odds of a fake", "of altered lips", "of a synthetic voice", "of lips that do not speak this voice"),
            strict=False,
        )
    ]
    per_frame = [Port(name, ("B", "T"), f"{name.split('_')[0]}_logit of each frame") for name in OUTPUTS[4:6]]
    scores = (*logits, *per_frame, _sync_map())
    window = tuple(Port(p.name, tuple("W" if n == "T" else n for n in p.shape), p.meaning) for p in scores)
    state = (
        Port("frames", ("B", "W", sizes.visual.width), f"state: at most {WINDOW} frames; begins with W = 0"),
        Port("sound", ("B", "640W"), "state: the sound of those frames"),
    )
    chunk = (
        Port("lips", ("B", "C", CROP_SIZE, CROP_SIZE, 3), "lip crops, RGB", "uint8"),
        Port("audio", ("B", "640C"), "16 kHz mono in [-1, 1]"),
    )
    return {
        "forward": Method((_lips(), _audio(), *masks), scores),
        "embed": Method(
            (Port("pictures", ("N", CROP_SIZE, CROP_SIZE, 3), "lip crops, RGB", "uint8"),),
            (Port("frames", ("N", sizes.visual.width), "embedding of each picture"),),
        ),
        "score": Method((frames, _audio(), *masks), scores),
        "stream": Method((*chunk, *masks, *state), (*window, *state)),
        "p_fake": Method(
            (*(Port(name, ("B",), f"{name}_logit") for name in ASPECTS), *masks),
            (Port("p_fake", ("B", 4), f"calibrated P(fake) of {', '.join(ASPECTS)}; NaN: nothing can be said"),),
        ),
    }


def _lips() -> Port:
    return Port("lips", ("B", "T", 3, CROP_SIZE, CROP_SIZE), "lip crops, RGB in [0, 1]")


def _audio() -> Port:
    return Port("audio", ("B", "640T"), "16 kHz mono in [-1, 1]")


def _mouth() -> Port:
    return Port("mouth", ("B", "T", MOUTH_POINTS, 2), "mouth points (x, y): side of the crop = 1, centre = 0")


def _sync_map() -> Port:
    return Port("sync_map", ("B", "T", SHIFTS), "lips at t with the voice at t - 15 .. t + 15; -1000: outside the clip")


def _features(sizes: ModelConfig, stream: str) -> tuple[Port, Port]:
    return (
        Port("sync", ("B", "T", sizes.sync_dim), f"what the sync head takes as {stream}_sync"),
        Port("context", ("B", "T", sizes.dim), "what tells genuine from fake"),
    )


def example(inputs: Sequence[Port], **sizes: int) -> tuple[Tensor, ...]:
    """Return random inputs, the same each time, where the names of free sizes have the numbers given."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for port in inputs:
        shape = [size if isinstance(size, int) else _number(size, sizes) for size in port.shape]
        if port.dtype == "bool":
            made.append(torch.ones(shape, dtype=torch.bool))
        elif port.dtype == "uint8":
            made.append(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
        else:
            made.append(torch.rand(shape, generator=generator))
    return tuple(made)


def _number(size: str, sizes: dict[str, int]) -> int:
    times, name = size[:-1], size[-1]
    return int(times or 1) * sizes[name]
