"""The training loop: read top to bottom.

Two stages, because a CPU can afford end-to-end gradients through the lip tower only for short snippets:

1. ``lips``  - the lip tower on snippets of a few frames: read the mouth's shape, tell real from generated.
2. ``heads`` - lip embeddings are computed once (plain and augmented) and frozen; the voice tower, the temporal
   layers, sync and fusion train on them, with absent streams masked.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from avfake.augment import Rng, augment_lips
from avfake.clips import PREPROCESSING
from avfake.config import StageConfig, TrainConfig
from avfake.models.fusion import MAX_SHIFT, AVFakeModel
from avfake.models.pretrained import CheckpointConfig, load_checkpoint, save_checkpoint, start_from_public_weights
from avfake.models.visual import EMBED_BATCH, LipTower
from avfake.training import TrainingError
from avfake.training.check import check
from avfake.training.data import Batch, Embedded, VideoSampler, VoiceSampler, held_out, read, window_batch
from avfake.training.losses import known_bce, losses
from avfake.training.validate import device_of, validate

log = logging.getLogger(__name__)
Drawn = TypeVar("Drawn")
SNIPPET = 4  # frames of a lip-stage snippet: enough for the flicker cue
VARIANTS = 1  # augmented copies of each clip's embeddings, beside the plain one
WINDOWS = (32, 48, 64, 96)  # frames; sync must be judged from short and long evidence alike
REPORT_EVERY = 100  # steps


def train(config: TrainConfig) -> Path:
    """Train a model as ``config`` says and return its checkpoint folder. Raises ``AvfakeError`` on unusable data."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    out = Path(config.out)

    samples = read(config.data.shards)
    videos = [s for s in samples if s.clip.lips is not None]
    voices = [s for s in samples if s.clip.lips is None]
    train_videos = [s for s in videos if s.row.split == "train" and not held_out(s.row)]
    val_videos = [s for s in videos if s.row.split == "dev" or held_out(s.row)]
    train_voices = [s for s in voices if s.row.split == "train"]
    val_voices = [s for s in voices if s.row.split == "dev"]
    log.info("train: %d video clips, %d voices; held out: %d and %d",
             len(train_videos), len(train_voices), len(val_videos), len(val_voices))  # fmt: skip
    check((train_videos, train_voices), (val_videos, val_voices), max(WINDOWS), config.data.shards)

    model = AVFakeModel(config.model).to(config.device)
    if config.start:
        model.load_state_dict(load_checkpoint(config.start).model.state_dict())
    else:
        for sentence in start_from_public_weights(model, config.model):
            log.info(sentence)

    def save() -> None:
        corpora = sorted({sample.row.corpus.split("/")[0] for sample in samples})
        save_checkpoint(out, model, CheckpointConfig(config.model, PREPROCESSING, corpora=corpora))

    train_lips(model, config, train_videos, rng)
    save()
    tower = model.lip_tower.for_inference()
    for sample in track(videos, description="embed"):
        sample.frames = embed(tower, sample, VARIANTS if sample in train_videos else 0, rng)
    best = train_heads(model, config, (train_videos, train_voices), (val_videos, val_voices), rng)
    model.load_state_dict(best)
    save()
    return out


def train_lips(model: AVFakeModel, config: TrainConfig, samples: Sequence[Embedded], rng: Rng) -> None:
    """Stage 1. The early stages keep their ImageNet filters: cheaper, and they have nothing to learn here."""
    tower = model.lip_tower
    frozen = [tower.stem, *tower.stages[:2]]
    for module in frozen:
        module.requires_grad_(False)
    device = device_of(model)
    parameters = [p for p in [*tower.parameters(), *model.visual_logit.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.lips.rate, weight_decay=0.02)
    sampler, weights = VideoSampler(samples), config.weights

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        return snippets(sampler.draw(config.lips.batch, SNIPPET, rng), rng)

    for step, drawn in enumerate(ahead(draw, config.lips.steps)):
        lips, mouth, visual = (tensor.to(device) for tensor in drawn)
        set_rate(optimiser, config.lips, step)
        model.train()
        for module in frozen:
            module.eval()
        frames = tower.embed(lips)
        geometry = F.smooth_l1_loss(20 * tower.mouth(frames), 20 * mouth, beta=1.0)
        artefact = known_bce(model.visual_logit(tower(frames).context).squeeze(-1), visual)
        update(optimiser, weights.geometry * geometry + weights.visual * artefact, parameters, "lips")
        if (step + 1) % REPORT_EVERY == 0:
            log.info("lips %d: geometry %.4f visual %.3f", step + 1, geometry.item(), artefact.item())
    for module in frozen:
        module.requires_grad_(True)


def snippets(samples: Sequence[Embedded], rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented snippets: lips (B, 4, 3, 96, 96) in [0, 1], mouth (B, 4, 20, 2) with crop side 1, labels (B,)."""
    lips, mouths, labels = [], [], []
    for sample in samples:
        clip = sample.clip
        assert clip.lips is not None
        assert clip.mouth is not None
        start = int(rng.integers(clip.frames - SNIPPET + 1))
        picture, mouth = augment_lips(clip.lips[start : start + SNIPPET], clip.mouth[start : start + SNIPPET], rng)
        lips.append(torch.from_numpy(picture))
        mouths.append(torch.from_numpy(mouth / picture.shape[1] - 0.5))
        label = sample.row.labels.visual
        labels.append(math.nan if label is None else float(label))
    return as_input(torch.stack(lips)), torch.stack(mouths), torch.tensor(labels)


def as_input(lips: Tensor) -> Tensor:
    """uint8 (..., 96, 96, 3) -> float (..., 3, 96, 96) in [0, 1]."""
    return lips.movedim(-1, -3).float() / 255


@torch.no_grad()
def embed(tower: LipTower, sample: Embedded, variants: int, rng: Rng) -> Tensor:
    """Frame embeddings of a clip, plain and ``variants`` times augmented: half (1 + variants, T, width), on the CPU."""
    clip, device = sample.clip, device_of(tower)
    assert clip.lips is not None
    assert clip.mouth is not None
    pictures = [clip.lips, *(augment_lips(clip.lips, clip.mouth, rng)[0] for _ in range(variants))]
    chunks = [torch.from_numpy(lips).to(device).split(EMBED_BATCH) for lips in pictures]
    parts = [torch.cat([tower.embed(as_input(chunk)[None])[0] for chunk in lips]) for lips in chunks]
    return torch.stack(parts).half().cpu()


def train_heads(
    model: AVFakeModel,
    config: TrainConfig,
    train_set: tuple[Sequence[Embedded], Sequence[Embedded]],
    val_set: tuple[Sequence[Embedded], Sequence[Embedded]],
    rng: Rng,
) -> dict[str, Tensor]:
    """Stage 2; returns the weights that did best on the held-out people and sources."""
    device = device_of(model)
    model.lip_tower.requires_grad_(False)
    for module in (model.lip_tower.look, model.lip_tower.sync, model.lip_tower.context):
        module.requires_grad_(True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.heads.rate, weight_decay=0.05)
    videos, voices = VideoSampler(train_set[0]), VoiceSampler(train_set[1])
    generator = torch.Generator().manual_seed(config.seed)
    best, best_value = model.state_dict(), -math.inf

    def draw() -> Batch:
        frames = int(rng.choice(WINDOWS))
        count = config.heads.batch
        return window_batch(videos.draw(count, frames, rng), voices.draw(count, rng), frames, rng)

    for step, batch in enumerate(ahead(draw, config.heads.steps)):
        set_rate(optimiser, config.heads, step)
        model.train()
        parts = losses(model, batch.to(device), generator)
        total = sum(getattr(config.weights, name) * value for name, value in parts._asdict().items())
        update(optimiser, total, parameters, "heads")
        if (step + 1) % REPORT_EVERY == 0:
            log.info("heads %d: %s", step + 1, " ".join(f"{k} {v.item():.3f}" for k, v in parts._asdict().items()))
        if (step + 1) % (5 * REPORT_EVERY) == 0 or step + 1 == config.heads.steps:
            model.eval()
            settle_offsets(model, train_set[0])
            figures = validate(model, *val_set)
            log.info("held out %d: %s", step + 1, " ".join(f"{k} {v:.3f}" for k, v in figures.items()))
            if (value := sum(figures.values())) > best_value:
                best_value, best = value, {k: v.clone() for k, v in model.state_dict().items()}
    return best


@torch.no_grad()
def settle_offsets(model: AVFakeModel, samples: Sequence[Embedded]) -> None:
    """Estimate each synchronised clip's own constant offset, so that its true shift is known from now on."""
    device = device_of(model)
    for sample in samples:
        if sample.row.labels.sync == 0 and sample.clip.audio is not None:
            assert sample.frames is not None
            lips = model.lip_tower(sample.frames[:1].to(device).float())
            voice = model.voice_tower(torch.from_numpy(sample.clip.audio)[None].to(device))
            curve = model.sync_head.curve(model.sync_head.map(*model.sync_head.embed(lips.sync, voice.sync)))[0]
            near = curve[MAX_SHIFT - 4 : MAX_SHIFT + 5]
            sample.offset = int(near.argmax()) - 4


def ahead(draw: Callable[[], Drawn], count: int) -> Iterator[Drawn]:
    """Yield ``count`` batches, each drawn in a thread while the one before is trained on; the order stays the same."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = deque(pool.submit(draw) for _ in range(min(4, count)))
        for number in range(count):
            batch = waiting.popleft().result()
            if number + 4 < count:
                waiting.append(pool.submit(draw))
            yield batch


def set_rate(optimiser: torch.optim.Optimizer, stage: StageConfig, step: int) -> None:
    """Warm up over 5 % of the steps, then follow a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1.0, 0.05 * stage.steps))
    for group in optimiser.param_groups:
        group["lr"] = stage.rate * warm * 0.5 * (1 + math.cos(math.pi * step / stage.steps))


def update(optimiser: torch.optim.Optimizer, loss: Tensor, parameters: Sequence[Tensor], stage: str) -> None:
    """One step of gradient descent with the gradient norm clipped at 2; ``TrainingError`` if the loss is not finite."""
    if not torch.isfinite(loss):
        raise TrainingError(f"The loss of the stage {stage} is no longer finite: train with a lower {stage}.rate.")
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    optimiser.step()
