"""The loader: shards in, batches out, the same ones for the same seed.

Every consumer (a worker process of a rank) has shards of its own and walks through them in a random order, a few open
at a time. What is drawn from the open ones is balanced: faces and voices alone, then genuine and fake, then methods
(of genuine clips: corpora), then people, then clips, each level with even odds. A shard is left when as many clips
have been drawn as it holds. Nothing is decoded that is not used, and a remote shard is fetched whole, once, ahead of
its turn.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avfake import FPS, SAMPLES_PER_FRAME, AvfakeError
from avfake.augment import augment
from avfake.clips import MOUTH_POINTS, decode_clip
from avfake.faces import CROP
from avfake.forge import NotForgeable, forge
from avfake.manifest import ASPECTS
from avfake.samples import Sample
from avfake.shards import Entry, ShardFolder
from avfake.storage import join, local_copy

OPEN_SHARDS = 4
"""Shards that a consumer draws from at once, of each source: some two hundred videos."""
SPARE = 16  # frames read beyond a window, for what forging and augmenting take away
DONORS = 4  # voices offered to a forger
REDRAWS = 20  # draws after which a batch gives up on clips that augmentation makes too short


class LoaderError(AvfakeError):
    """Shards hold nothing that a batch can be made of."""


@dataclass(frozen=True)
class Source:
    """A folder of shards; of ``weight`` w comes the share w / (sum of weights) of all clips."""

    folder: str
    weight: float = 1.0
    split: str = "train"


@dataclass(frozen=True)
class LoaderConfig:
    """``batch`` windows of ``frames`` frames; of the genuine ones the share ``forged`` is made fake."""

    frames: int = 64
    batch: int = 16
    forged: float = 0.0
    augmented: bool = True
    seed: int = 0


class Batch(NamedTuple):
    """B windows of T frames. A missing stream is zeros, its labels NaN.

    ``lips`` uint8 (B, T, 96, 96, 3); ``audio`` float32 (B, 640 T); ``has_lips``, ``has_audio`` bool (B,); ``mouth``
    float32 (B, T, 20, 2) in crop pixels; ``face_ok`` bool (B, T); ``labels`` float32 (B, 3) and ``frame_labels``
    (B, T, 3), the last axis being visual, audio, sync: 0, 1, or NaN where not known; ``shift`` int64 (B,): frames by
    which the voice was made later; ``ids`` of the rows.
    """

    lips: Tensor
    audio: Tensor
    has_lips: Tensor
    has_audio: Tensor
    mouth: Tensor
    face_ok: Tensor
    labels: Tensor
    frame_labels: Tensor
    shift: Tensor
    ids: list[str]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with every tensor on ``device``."""
        parts = zip(self._fields, self, strict=True)
        moved: dict[str, Any] = {name: part.to(device) for name, part in parts if isinstance(part, Tensor)}
        return self._replace(**moved)


def load(
    sources: Sequence[Source],
    config: LoaderConfig,
    *,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
) -> Iterator[Batch]:
    """Yield batches without end, from batch ``start`` on.

    ``workers`` processes decode, forge and augment; 0 does it here. Each of the ``world`` ranks gets other clips. The
    batches depend on sources, config, workers and world alone, so a run that stopped after n batches goes on with
    ``start=n``. Raises ``LoaderError``, ``ShardError``, ``StorageError``.
    """
    stream = _Stream(sources, config, rank, world, start)
    loader: DataLoader[Batch] = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        # Threads do not survive a fork; spawned workers of torch 2.11 abort when they are ended.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_begin_worker if workers else None,
    )
    yield from loader


def _begin_worker(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


class _Stream(IterableDataset[Batch]):
    def __init__(self, sources: Sequence[Source], config: LoaderConfig, rank: int, world: int, start: int) -> None:
        if not sources or min(source.weight for source in sources) <= 0:
            raise LoaderError("There must be a source to load from, and each must have a weight above 0.")
        self.sources = sources
        self.config = config
        self.rank, self.world, self.start = rank, world, start

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        # Batches come from the workers in turn, and the first that is wanted from the first of them.
        worker = (worker + self.start) % workers
        skipped = len(range(worker, self.start, workers))
        consumer, consumers = self.rank * workers + worker, self.world * workers
        config = self.config
        with ExitStack() as stack:
            pools = [
                stack.enter_context(_Pool(source, config, [config.seed, number], consumer, consumers))
                for number, source in enumerate(self.sources)
            ]
            weights = np.array([source.weight for source in self.sources])
            number = 0
            while True:
                rng = np.random.default_rng([config.seed, consumer, number])
                chosen = rng.choice(len(pools), size=config.batch, p=weights / weights.sum())
                if number < skipped:
                    for index in chosen:
                        pools[index].count()
                else:
                    yield _collate([pools[index].draw(rng) for index in chosen], config.frames)
                number += 1


# -------------------------------------------------------------------------------------------------- one source

Tree = dict[Any, Any]
"""Kind of clip -> fake -> method or corpus -> person -> [(shard, entry), ...]."""


class _OpenShard:
    """A shard as far as a consumer may draw from it; its tar is fetched when it is first wanted, or ahead of that."""

    def __init__(self, folder: ShardFolder, name: str, part: slice, frames: int) -> None:
        self.name = name
        self.entries = [e for e in folder.entries(name)[part] if not e.has_lips or e.frames >= frames]
        self._address = join(folder.address, f"{name}.tar")
        self._stack = ExitStack()
        self._file: BinaryIO | None = None
        self._fetching = Lock()

    def fetch(self) -> BinaryIO:
        """Return the open tar."""
        with self._fetching:
            if self._file is None:
                self._file = open(self._stack.enter_context(local_copy(self._address)), "rb")  # noqa: SIM115
                self._stack.callback(self._file.close)
            return self._file

    def read(self, entry: Entry, frames: int, rng: Generator) -> Sample:
        """Return a random window of a clip, or all of a shorter one."""
        length = min(frames, entry.frames)
        start = int(rng.integers(entry.frames - length + 1))
        data = os.pread(self.fetch().fileno(), entry.size, entry.offset)
        clip = decode_clip(data, f"{self._address}/{entry.key}", start=start, end=start + length)
        return Sample(entry.row.cut(start / FPS, (start + length) / FPS), clip)

    def close(self) -> None:
        """Close the tar, and delete it if it is a copy."""
        self._stack.close()


class _Pool:
    """One source as one consumer sees it: a few open shards, and draws from them."""

    def __init__(self, source: Source, config: LoaderConfig, seed: list[int], consumer: int, consumers: int) -> None:
        self._config = config
        self._folder = ShardFolder(source.folder)
        self._names = sorted(shard.name for shard in self._folder.shards if shard.split == source.split and shard.clips)
        if not self._names:
            raise LoaderError(f"{source.folder} holds no clips of the split {source.split}.")
        self._seed, self._consumer, self._consumers = seed, consumer, consumers
        self._walked = self._walk()
        self._next = self._step()
        self._open: deque[_OpenShard] = deque()
        self._drawn = 0
        self._tree: Tree = {}
        self._ahead = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._ahead.shutdown()
        for shard in (self._next, *self._open):
            shard.close()

    def count(self) -> bool:
        """Move on as a draw does, without drawing; say whether other shards are open now."""
        turned = not self._open or self._drawn >= len(self._open[0].entries)
        if turned:
            self._turn()
        self._drawn += 1
        return turned

    def draw(self, rng: Generator) -> Sample:
        """Return one window, forged and augmented."""
        if self.count():
            self._ahead.submit(self._next.fetch)
        frames = self._config.frames
        for _ in range(REDRAWS):
            sample = self._change(self._read(rng), rng)
            if sample.clip.lips is None or sample.clip.frames >= frames:
                start = int(rng.integers(max(0, sample.clip.frames - frames) + 1))
                return sample.cut(start, min(start + frames, sample.clip.frames))
        raise LoaderError(f"{self._folder.address}: its clips become shorter than {frames} frames; ask for fewer.")

    def _read(self, rng: Generator) -> Sample:
        node: Any = self._tree
        while isinstance(node, dict):
            node = node[sorted(node)[rng.integers(len(node))]]
        shard, entry = node[rng.integers(len(node))]
        return shard.read(entry, self._config.frames + SPARE, rng)

    def _change(self, sample: Sample, rng: Generator) -> Sample:
        genuine = 1 not in (getattr(sample.row.labels, aspect) for aspect in ASPECTS)
        if genuine and rng.random() < self._config.forged:
            donors = [self._read(rng) for _ in range(DONORS)]
            # What no forger can alter, as a silent clip that is too short, stays genuine.
            with suppress(NotForgeable):
                sample = forge(sample, [donor for donor in donors if donor.clip.audio is not None], rng)
        return augment(sample, rng) if self._config.augmented else sample

    # -------------------------------------------------------------------------------------------- open shards

    def _walk(self) -> Iterator[tuple[str, slice]]:
        """Yield, without end, the shards of this consumer, and which of their clips are its own."""
        count = len(self._names)
        if count < self._consumers:  # several share a shard: each keeps to every so-many-th clip of it
            mine = self._consumer % count
            sharers = len(range(mine, self._consumers, count))
            while True:
                yield self._names[mine], slice(self._consumer // count, None, sharers)
        epoch = 0
        while True:
            order = np.random.default_rng([*self._seed, epoch]).permutation(count)
            for index in order[self._consumer :: self._consumers]:
                yield self._names[index], slice(None)
            epoch += 1

    def _step(self) -> _OpenShard:
        """Return the next shard with anything to draw."""
        for _ in range(len(self._names)):
            name, part = next(self._walked)
            shard = _OpenShard(self._folder, name, part, self._config.frames)
            if shard.entries:
                return shard
        raise LoaderError(
            f"{self._folder.address}: no clip is {self._config.frames} frames long; ask for fewer frames or workers."
        )

    def _turn(self) -> None:
        """Leave the oldest shard and open the next; at the beginning, open as many as are to be open."""
        if self._open:
            self._open.popleft().close()
        wanted = min(OPEN_SHARDS, max(1, len(self._names) // self._consumers))
        while len(self._open) < wanted:
            self._open.append(self._next)
            self._next = self._step()
        self._drawn = 0
        self._tree = _tree(self._open)


def _tree(shards: Sequence[_OpenShard]) -> Tree:
    tree: Tree = {}
    for shard in shards:
        for entry in shard.entries:
            row = entry.row
            fake = 1 in (getattr(row.labels, aspect) for aspect in ASPECTS)
            node = tree
            for key in (entry.has_lips, fake, (fake and row.method) or row.corpus):
                node = node.setdefault(key, {})
            node.setdefault(row.identity or row.id, []).append((shard, entry))
    return tree


# ------------------------------------------------------------------------------------------------------ a batch


def _collate(samples: Sequence[Sample], frames: int) -> Batch:
    count = len(samples)
    lips = np.zeros((count, frames, CROP, CROP, 3), np.uint8)
    mouth = np.zeros((count, frames, MOUTH_POINTS, 2), np.float32)
    audio = np.zeros((count, frames * SAMPLES_PER_FRAME), np.float32)
    face_ok = np.zeros((count, frames), np.bool_)
    labels = np.full((count, len(ASPECTS)), np.nan, np.float32)
    frame_labels = np.full((count, frames, len(ASPECTS)), np.nan, np.float32)
    for n, sample in enumerate(samples):
        clip = sample.clip
        if clip.lips is not None:
            lips[n], face_ok[n] = clip.lips, clip.face_ok
            if clip.mouth is not None:
                mouth[n] = clip.mouth
        if clip.audio is not None:
            audio[n] = np.resize(clip.audio, audio.shape[1])  # a short voice is repeated
        for k, aspect in enumerate(ASPECTS):
            each = np.resize(sample.frame_labels(aspect), frames)
            frame_labels[n, :, k] = each
            # The clip is fake where enough of it is; what its row says was cut along with it.
            label = getattr(sample.row.labels, aspect)
            labels[n, k] = np.nan if label is None else label
    return Batch(
        lips=torch.from_numpy(lips),
        audio=torch.from_numpy(audio),
        has_lips=torch.tensor([sample.clip.lips is not None for sample in samples]),
        has_audio=torch.tensor([sample.clip.audio is not None for sample in samples]),
        mouth=torch.from_numpy(mouth),
        face_ok=torch.from_numpy(face_ok),
        labels=torch.from_numpy(labels),
        frame_labels=torch.from_numpy(frame_labels),
        shift=torch.tensor([sample.shift for sample in samples]),
        ids=[sample.row.id for sample in samples],
    )
