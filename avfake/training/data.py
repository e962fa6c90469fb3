"""Training samples: clips of manifest rows, prepared once, held in memory, drawn in balanced batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from avfake import SAMPLES_PER_FRAME, samples
from avfake.augment import Rng, augment_voice
from avfake.clips import Clip
from avfake.manifest import Row
from avfake.shards import ShardFolder

Item = TypeVar("Item")
MIN_FRAMES = 20  # shorter clips teach nothing about time
MAX_JITTER = 11  # frames by which lips and voice windows are drawn apart, so that position betrays nothing
HELD_OUT = 6  # one identity of so many is kept from training, to choose and calibrate on


@dataclass(eq=False)
class Embedded(samples.Sample):
    """A sample with what training finds out about it.

    ``frames`` (V, T, width) holds cached embeddings of V augmentations; ``offset`` is the clip's own constant offset in
    frames (voice later than lips is positive), once estimated.
    """

    frames: Tensor | None = None
    offset: int | None = None


def read(shards: str) -> list[Embedded]:
    """Read the prepared clips of the train and dev splits that are long enough. Raises ``ShardError``."""
    folder = ShardFolder(shards)
    total = sum(shard.clips for shard in folder.shards if shard.split != "test")
    read = track(folder.samples("train", "dev"), description="clips", total=total, transient=True)
    return [Embedded(sample.row, sample.clip) for sample in read if sample.clip.frames >= MIN_FRAMES]


def held_out(row: Row) -> bool:
    """Whether a training row's person is kept for choosing and calibrating (fixed by a hash of the name)."""
    return crc32((row.identity or row.id).encode()) % HELD_OUT == 0


class VideoSampler:
    """Draws video samples: visual label, then method or source, then person, then clip, each uniformly."""

    def __init__(self, samples: Sequence[Embedded]) -> None:
        self.samples = samples
        self.trees: dict[int, Tree] = {}

    def draw(self, count: int, frames: int, rng: Rng) -> list[Embedded]:
        """Return ``count`` samples of at least ``frames`` frames; there must be one."""
        if frames not in self.trees:
            self.trees[frames] = _tree([sample for sample in self.samples if sample.clip.frames >= frames])
        chosen: list[Embedded] = []
        for _ in range(count):
            people = _pick(list(_pick(list(self.trees[frames].values()), rng).values()), rng)
            chosen.append(_pick(_pick(list(people.values()), rng), rng))
        return chosen


Tree = dict[str, dict[str, dict[str, list[Embedded]]]]  # visual label -> method or source -> person -> clips


def _tree(samples: Sequence[Embedded]) -> Tree:
    tree: Tree = {}
    for sample in samples:
        row = sample.row
        people = tree.setdefault(str(row.labels.visual), {}).setdefault(row.method or row.corpus, {})
        people.setdefault(row.identity or row.id, []).append(sample)
    return tree


class VoiceSampler:
    """Draws voices, bona fide and spoofed from one source where it has both.

    Two voices from one source share microphone and codec, so the difference that is left is the spoof.
    """

    def __init__(self, samples: Sequence[Embedded]) -> None:
        self.sources: dict[str, dict[int | None, list[Embedded]]] = {}
        for sample in samples:
            labels = self.sources.setdefault(sample.row.corpus, {})
            labels.setdefault(sample.row.labels.audio, []).append(sample)
        self.paired = [labels for labels in self.sources.values() if {0, 1} <= labels.keys()]

    def draw(self, count: int, rng: Rng) -> list[Embedded]:
        """Return ``count`` samples."""
        chosen: list[Embedded] = []
        while len(chosen) < count:
            labels = _pick(self.paired if rng.random() < 0.7 else list(self.sources.values()), rng)
            chosen += [_pick(samples, rng) for samples in labels.values()]
        return chosen[:count]


def _pick(items: Sequence[Item], rng: Rng) -> Item:
    return items[int(rng.integers(len(items)))]


class Batch(NamedTuple):
    """Windows of T frames: video rows first (V of them), then rows of voice alone; N rows in all.

    ``frames`` (V, T, width) lip embeddings, ``audio`` (N, 640 T); ``visual``, ``voice_fake`` (N,) labels, NaN where
    unknown; ``synced`` (V,) bool: the row is known to be in sync, with the lips at t belonging to the voice at
    t + ``shift`` (V,), give or take ``slack`` (V,) frames; ``clip`` (V,) an integer for each file.
    """

    frames: Tensor
    audio: Tensor
    visual: Tensor
    voice_fake: Tensor
    synced: Tensor
    shift: Tensor
    slack: Tensor
    clip: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch with every tensor on ``device``."""
        return Batch(*(tensor.to(device) for tensor in self))


def window_batch(videos: Sequence[Embedded], voices: Sequence[Embedded], frames: int, rng: Rng) -> Batch:
    """Cut one random window of ``frames`` frames from every sample; shorter voices are looped."""
    embedded, audio, shift, slack = [], [], [], []
    for sample in videos:
        assert sample.frames is not None
        spare = sample.clip.frames - frames
        jitter = int(rng.integers(-min(spare, MAX_JITTER), min(spare, MAX_JITTER) + 1))
        start = int(rng.integers(max(0, -jitter), spare - max(0, jitter) + 1))
        variant = sample.frames[int(rng.integers(len(sample.frames)))]
        embedded.append(variant[start : start + frames].float())
        audio.append(_sound(sample.clip, start + jitter, frames, rng))
        shift.append((sample.offset or 0) - jitter)
        slack.append(3 if sample.offset is None else 1)
    for sample in voices:
        start = int(rng.integers(max(1, sample.clip.frames - frames + 1)))
        audio.append(_sound(sample.clip, start, frames, rng))
    labels = [sample.row.labels for sample in (*videos, *voices)]
    files = {sample.row.id: number for number, sample in enumerate(videos)}
    return Batch(
        frames=torch.stack(embedded),
        audio=torch.from_numpy(np.stack(audio)),
        visual=_labels([label.visual for label in labels]),
        voice_fake=_labels([label.audio for label in labels]),
        synced=torch.tensor([sample.row.labels.sync == 0 for sample in videos]),
        shift=torch.tensor(shift),
        slack=torch.tensor(slack),
        clip=torch.tensor([files[sample.row.id] for sample in videos]),
    )


def _labels(values: Sequence[int | None]) -> Tensor:
    return torch.tensor([np.nan if value is None else float(value) for value in values])


def _sound(clip: Clip, start: int, frames: int, rng: Rng) -> NDArray[np.float32]:
    if clip.audio is None:
        return np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    cut = clip.audio[start * SAMPLES_PER_FRAME : (start + frames) * SAMPLES_PER_FRAME]
    return augment_voice(np.resize(cut, frames * SAMPLES_PER_FRAME), rng)
