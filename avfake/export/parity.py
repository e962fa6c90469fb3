"""The proof of an export: what it says held against what the model itself says, of noise and of a real clip."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avfake import SAMPLES_PER_FRAME
from avfake.clips import DEMO_CLIP, read_clip
from avfake.export.forms import WINDOW, Part, form, plain
from avfake.exported import METHODS, load_bytes, runtime_of
from avfake.models import AVFakeModel, Calibration, Checkpoint, CheckpointConfig
from avfake.models.checkpoint import ASPECTS
from avfake.models.contract import CROP_SIZE

BOTH, NO_LIPS, NO_AUDIO = (True, True), (False, True), (True, False)
NOISE = (
    (1, [BOTH]),
    (5, [NO_LIPS]),
    (5, [NO_AUDIO]),
    (17, [NO_LIPS, BOTH]),
    (12, [BOTH, NO_LIPS, NO_AUDIO]),
    (WINDOW + 10, [BOTH]),
)
"""Frames, and which streams each clip of a batch has."""
FAINT = 30
"""Frames of the real clip with a faint voice."""
REAL = ((60, [BOTH]), (25, [NO_AUDIO, BOTH, NO_LIPS]), (20, [NO_LIPS]))

EMBEDDINGS = ("frames", "sync", "context")
"""Outputs of no fixed scale: their differences are divided by their largest value where that is above 1."""

Answer: TypeAlias = Callable[..., Sequence[Tensor]]
Found: TypeAlias = Iterator[tuple[str, Sequence[Tensor], Sequence[Tensor]]]
"""Name of a method, what the model says, what the export says."""


class Batch(NamedTuple):
    """Clips: ``pictures`` uint8 (B, T, 96, 96, 3), ``audio`` (B, 640 T), ``has_lips`` and ``has_audio`` (B,)."""

    pictures: Tensor
    audio: Tensor
    has_lips: Tensor
    has_audio: Tensor

    @property
    def lips(self) -> Tensor:
        """As the model takes them: (B, T, 3, 96, 96) in [0, 1]."""
        return self.pictures.movedim(-1, -3).float() / 255

    @property
    def masks(self) -> tuple[Tensor, Tensor]:
        """Which streams there are."""
        return self.has_lips, self.has_audio


def batches() -> Iterator[Batch]:
    """Yield noise, where absent streams hold noise too, and cuts of a real clip, where they hold zeros."""
    for frames, patterns in NOISE:
        generator = torch.Generator().manual_seed(frames)
        shape = (len(patterns), frames, CROP_SIZE, CROP_SIZE, 3)
        pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        audio = 0.1 * torch.randn(len(patterns), frames * SAMPLES_PER_FRAME, generator=generator)
        yield Batch(pictures, audio, *torch.tensor(patterns).T)
    clip = read_clip(DEMO_CLIP)
    assert clip.lips is not None
    assert clip.audio is not None
    for frames, patterns in REAL:
        starts = range(0, 5 * len(patterns), 5)
        has_lips, has_audio = torch.tensor(patterns).T
        pictures = torch.from_numpy(np.stack([clip.lips[start : start + frames] for start in starts]))
        samples = [slice(start * SAMPLES_PER_FRAME, (start + frames) * SAMPLES_PER_FRAME) for start in starts]
        audio = torch.from_numpy(np.stack([clip.audio[span] for span in samples]))
        pictures[~has_lips], audio[~has_audio] = 0, 0
        yield Batch(pictures, audio, has_lips, has_audio)
    # A faint voice on an offset: where rounding of the mean would be heard.
    faint = torch.from_numpy(0.01 * clip.audio[None, : FAINT * SAMPLES_PER_FRAME] + np.float32(0.1))
    yield Batch(torch.from_numpy(clip.lips[None, :FAINT]), faint, *torch.ones(2, 1, dtype=torch.bool))


@torch.inference_mode()
def measure(data: bytes, path: str | Path, part: Part, checkpoint: Checkpoint) -> dict[str, float]:
    """Return the largest difference of each output of a file from what the model says; NaN: no number.

    Differences are absolute, and of ``EMBEDDINGS`` relative.

    Keys are the names of outputs, with that of their method before them where it is not ``forward``, as in
    "score.fake_logit". ``data`` are the bytes of the file.
    """
    model = plain(checkpoint.model)
    answers = _answers(data, path, part)
    methods = form(part, model, checkpoint.config).methods
    worst: dict[str, float] = {}
    for batch in batches():
        for method, expected, given in _compared(part, model, checkpoint.config, answers, batch):
            prefix = "" if method == "forward" else f"{method}."
            for port, theirs, ours in zip(methods[method].outputs, expected, given, strict=True):
                key = prefix + port.name
                # keeps NaN, which max() may lose
                worst[key] = float(np.maximum(worst.get(key, 0.0), _apart(port.name, theirs, ours)))
    return worst


def _apart(name: str, expected: Tensor, given: Tensor) -> float:
    if expected.shape != given.shape:
        return float("nan")
    apart = (expected - given).abs()
    if name == "p_fake":
        apart = torch.where(expected.isnan() & given.isnan(), 0.0, apart)
    scale = max(1.0, float(expected.abs().max())) if name in EMBEDDINGS else 1.0
    return float(apart.max()) / scale


def _answers(data: bytes, path: str | Path, part: Part) -> dict[str, Answer]:
    """What can be asked of a file: as strangers run it, and the halves of ONNX as ``load_exported`` parts them."""
    if runtime_of(data) == "torchscript":
        module = torch.jit.load(io.BytesIO(data)).eval()
        methods = METHODS if part == "model" else ("forward",)
        return {name: _listed(getattr(module, name)) for name in methods}
    from avfake.runtimes.graphs import session

    graph = session(data, torch.get_num_threads())
    names = [port.name for port in graph.get_inputs()]
    answers: dict[str, Answer] = {
        "forward": lambda *given: _tensors(
            graph.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
        )
    }
    if part == "model":
        exported = load_bytes(data, path, torch.get_num_threads())
        answers["embed"] = lambda pictures: _tensors([exported.embed(pictures.numpy())])
        answers["score"] = lambda *given: _tensors(exported.score(*(tensor.numpy() for tensor in given)))
    return answers


def _listed(method: Callable[..., Tensor | Sequence[Tensor]]) -> Answer:
    def answer(*given: Tensor) -> Sequence[Tensor]:
        answered = method(*given)
        return [answered] if isinstance(answered, Tensor) else answered

    return answer


def _tensors(arrays: Iterable[NDArray[np.float32]]) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def _compared(
    part: Part, model: AVFakeModel, config: CheckpointConfig, answers: dict[str, Answer], batch: Batch
) -> Found:
    if part == "model":
        yield from _whole(model, config, answers, batch)
        return
    frames = model.lip_tower.embed(batch.lips)
    lips, voice = model.lip_tower(frames), model.voice_tower(model.voice_tower.embed(batch.audio))
    forward = answers["forward"]
    if part == "lip-encoder":
        yield "forward", (frames, *lips, model.lip_tower.mouth(frames)), forward(batch.lips)
    elif part == "audio-encoder":
        yield "forward", voice, forward(batch.audio)
    else:
        sync_map = model.sync_head.map(*model.sync_head.embed(lips.sync, voice.sync))
        yield "forward", (sync_map, model.sync_head(sync_map)), forward(lips.sync, voice.sync)


def _whole(model: AVFakeModel, config: CheckpointConfig, answers: dict[str, Answer], batch: Batch) -> Found:
    frames = model.lip_tower.embed(batch.lips)
    scores = model.score(frames, batch.audio, *batch.masks)
    yield "forward", scores, answers["forward"](batch.lips, batch.audio, *batch.masks)
    yield "embed", [frames.flatten(0, 1)], answers["embed"](batch.pictures.flatten(0, 1))
    yield "score", scores, answers["score"](frames, batch.audio, *batch.masks)
    if "p_fake" in answers:
        yield "p_fake", [_p_fake(config, scores[:4], batch)], answers["p_fake"](*scores[:4], *batch.masks)
    if "stream" in answers:
        yield from _streamed(model, answers["stream"], frames, batch)


def _p_fake(config: CheckpointConfig, logits: Sequence[Tensor], batch: Batch) -> Tensor:
    """P(fake) by the calibration of the checkpoint itself, row by row."""
    rows = []
    for row, (lips, voice) in enumerate(zip(*(mask.tolist() for mask in batch.masks), strict=True)):
        said = zip(ASPECTS, logits, (lips or voice, lips, voice, lips and voice), strict=True)
        rows.append(
            [
                float(config.calibration.get(aspect, Calibration())(logit[row]))
                if there and aspect in config.aspects
                else np.nan
                for aspect, logit, there in said
            ]
        )
    return torch.tensor(rows)


def _streamed(model: AVFakeModel, stream: Answer, frames: Tensor, batch: Batch) -> Found:
    """A clip in three chunks, each held against what the model says of the window that ends there."""
    length = frames.shape[1]
    kept, sound = frames[:, :0], batch.audio[:, :0]
    size = -(-length // 3)
    for start in range(0, length, size):
        end = min(start + size, length)
        first = max(0, end - WINDOW)
        now = slice(start * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME)
        said = stream(batch.pictures[:, start:end], batch.audio[:, now], *batch.masks, kept, sound)
        kept, sound = said[-2:]
        window = frames[:, first:end], batch.audio[:, first * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
        yield "stream", (*model.score(*window, *batch.masks), *window), said
