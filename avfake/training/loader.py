"""The loader: shards in, batches out, the same ones for the same seed.

Every consumer (a worker process of a rank) walks through shards of its own in a random order, a few open at a time;
where there are fewer shards than consumers, each walks through all. What is drawn from the open ones is balanced:
faces and voices alone, then genuine and fake, then methods (of genuine clips: corpora), then people, then clips, each
level with even odds. A shard is left when as many clips have been drawn as it holds. Nothing is decoded that is not
used, and a remote shard is fetched whole, once, ahead of its turn.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
from avfake.manifest import ASPECTS, Label, Row
from avfake.samples import Sample
from avfake.shards import Entry, ShardFolder, ShardInfo, read_entries
from avfake.storage import StorageError, join, local_copy

OPEN_SHARDS = 4
"""Shards that a consumer draws from at once, of each source: some two hundred videos."""
SPARE = 16  # frames read beyond a window, for what augmenting takes away
FORGED_SPARE = 40  # and for what forging does: a voice moved far away costs as many frames
DONORS = 4  # voices offered to a forger, one of them the same person's
FORGE_TRIES = 4  # forgeries that may come out shorter than a window
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
    """``batch`` windows of ``frames`` frames; of the genuine ones the share ``forged`` goes through a forger.

    Clips with lips that are shorter than a window are not drawn; shorter voices are repeated. Of clips that are fake in
    places half the windows are laid over such a place.
    """

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
    ``start=n``. With workers, a script that calls this needs the guard ``if __name__ == "__main__":``.
    Raises ``LoaderError``, ``ShardError``, ``StorageError``, ``ClipError``.
    """
    stream = _Stream(sources, config, rank, world, start)
    loader: DataLoader[Batch | AvfakeError] = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        # Threads do not survive a fork; spawned workers of torch 2.11 abort when they are ended.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_begin_worker if workers else None,
    )
    for batch in loader:
        if isinstance(batch, AvfakeError):  # raised by a worker, it would come wrapped in its traceback
            raise batch
        yield batch


def _begin_worker(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


class _Stream(IterableDataset[Batch | AvfakeError]):
    def __init__(self, sources: Sequence[Source], config: LoaderConfig, rank: int, world: int, start: int) -> None:
        if not sources or not all(0 < source.weight < np.inf for source in sources):
            raise LoaderError("There must be a source to load from, and each must have a weight above 0.")
        if config.frames < 1 or config.batch < 1 or config.seed < 0 or not 0 <= config.forged <= 1:
            raise LoaderError(f"{config} cannot be: frames and batch are at least 1, seed 0, and forged is a share.")
        self.shards = [_shards(source) for source in sources]
        self.sources = sources
        self.config = config
        self.rank, self.world, self.start = rank, world, start

    def __iter__(self) -> Iterator[Batch | AvfakeError]:
        info = get_worker_info()
        if info is None:
            yield from self._batches(0, 1)
            return
        try:
            yield from self._batches(info.id, info.num_workers)
        except AvfakeError as error:
            yield error

    def _batches(self, worker: int, workers: int) -> Iterator[Batch]:
        # Batches come from the workers in turn, and the first that is wanted from the first of them.
        worker = (worker + self.start) % workers
        skipped = len(range(worker, self.start, workers))
        consumer, consumers = self.rank * workers + worker, self.world * workers
        config = self.config
        with ExitStack() as stack:
            pools = [
                stack.enter_context(_Pool(source.folder, shards, config, number, consumer, consumers))
                for number, (source, shards) in enumerate(zip(self.sources, self.shards, strict=True))
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


def _shards(source: Source) -> list[ShardInfo]:
    folder = ShardFolder(source.folder)
    shards = sorted(shard for shard in folder.shards if shard.split == source.split and shard.clips)
    if not shards:
        raise LoaderError(f"{source.folder} holds no clips of the split {source.split}.")
    return shards


# -------------------------------------------------------------------------------------------------- one source

Tree = dict[Any, Any]
"""Kind of clip -> fake -> method or corpus -> person -> [(shard, entry), ...]."""


class _OpenShard:
    """A shard that may be drawn from; its tar is fetched when it is first wanted, or ahead of that."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder, self._name = folder, name
        self._address = join(folder, f"{name}.tar")
        self._stack = ExitStack()
        self._file: BinaryIO | None = None
        self._fetching = Lock()

    def entries(self, frames: int) -> list[Entry]:
        """Return the clips that a window of ``frames`` can be made of and whose labels say anything."""
        return [
            entry
            for entry in read_entries(self._folder, self._name)
            if (not entry.has_lips or entry.frames >= frames) and set(_labels(entry.row)) != {None}
        ]

    def fetch(self) -> BinaryIO:
        """Return the open tar. Raises ``StorageError``."""
        with self._fetching:
            if self._file is None:
                path = self._stack.enter_context(local_copy(self._address))
                try:
                    self._file = open(path, "rb")  # noqa: SIM115  # close() is ours
                except OSError as error:
                    raise StorageError(
                        f"{self._address}: it cannot be read ({error.strerror}); prepare it again."
                    ) from error
                self._stack.callback(self._file.close)
            return self._file

    def read(self, entry: Entry, start: int, length: int, *, lips: bool = True) -> Sample:
        """Read a stretch of a clip, with or without its pictures."""
        data = os.pread(self.fetch().fileno(), entry.size, entry.offset)
        clip = decode_clip(data, f"{self._address}/{entry.key}", start=start, end=start + length, lips=lips)
        return Sample(entry.row.cut(start / FPS, (start + length) / FPS), clip)

    def close(self) -> None:
        """Close the tar, and delete it if it is a copy."""
        with self._fetching:
            self._stack.close()


Place = tuple[_OpenShard, Entry]


class _Donors(Sequence[Sample]):
    """Voices for a forger, decoded when it looks at them."""

    def __init__(self, places: Sequence[Place], frames: int, rng: Generator) -> None:
        self._places = [(shard, entry, _start(entry, frames, rng)) for shard, entry in places]
        self._frames = frames

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        shard, entry, start = self._places[index]
        return shard.read(entry, start, min(self._frames, entry.frames), lips=False)


class _Pool:
    """One source as one consumer sees it: a few open shards, and draws from them."""

    def __init__(
        self, folder: str, shards: list[ShardInfo], config: LoaderConfig, number: int, consumer: int, consumers: int
    ) -> None:
        self._folder = folder
        self._infos = shards
        self._config = config
        self._seed = [config.seed, number]
        self._consumer, self._consumers = consumer, consumers
        self._walked = self._walk()
        self._next = next(self._walked)
        self._names: deque[ShardInfo] = deque()
        self._drawn = 0
        self._shards: dict[str, _OpenShard] = {}
        self._tree: Tree = {}
        self._people: dict[tuple[str, str | None], list[Place]] = {}
        self._turned = False
        self._ahead = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._ahead.shutdown()
        for shard in self._shards.values():
            shard.close()

    def count(self) -> None:
        """Move on as a draw does, without drawing."""
        if not self._names or self._drawn >= self._names[0].clips:
            self._turn()
        self._drawn += 1

    def draw(self, rng: Generator) -> Sample:
        """Return one window, forged and augmented."""
        self.count()
        if self._turned:
            self._open()
        frames = self._config.frames
        for _ in range(REDRAWS):
            sample = self._changed(rng)
            if sample.clip.lips is None or sample.clip.frames >= frames:
                start = int(rng.integers(max(0, sample.clip.frames - frames) + 1))
                return sample.cut(start, min(start + frames, sample.clip.frames))
        raise LoaderError(f"{self._folder}: its clips become shorter than {frames} frames; ask for fewer.")

    def _changed(self, rng: Generator) -> Sample:
        shard, entry = _pick(self._tree, rng)
        forging = 1 not in _labels(entry.row) and rng.random() < self._config.forged
        longest = self._config.frames + SPARE + (FORGED_SPARE if forging else 0)
        sample = shard.read(entry, _start(entry, longest, rng), min(longest, entry.frames))
        if forging:
            sample = self._forged(sample, longest, rng)
        return augment(sample, rng) if self._config.augmented else sample

    def _forged(self, sample: Sample, longest: int, rng: Generator) -> Sample:
        # A voice from elsewhere than a face's, a studio's say, would give itself away under a face.
        tree = self._tree[sample.clip.lips is not None]
        places = [_pick(tree, rng) for _ in range(DONORS - 1)]
        same = self._people[_person(sample.row)]
        places.append(same[rng.integers(len(same))])
        heard = [(shard, entry) for shard, entry in places if entry.has_audio and entry.frames >= self._config.frames]
        donors = _Donors(heard, longest, rng)
        for _ in range(FORGE_TRIES):
            try:
                forged = forge(sample, donors, rng)
            except NotForgeable:  # as a silent clip whose mouth keeps still; it stays genuine
                break
            if forged.clip.lips is None or forged.clip.frames >= self._config.frames:
                return forged
        return sample

    # -------------------------------------------------------------------------------------------- open shards

    def _walk(self) -> Iterator[ShardInfo]:
        """Yield the shards of this consumer without end, in another order each time."""
        count = len(self._infos)
        for epoch in itertools.count():
            if count < self._consumers:  # there are not enough for each to have its own
                order = np.random.default_rng([*self._seed, epoch, self._consumer]).permutation(count)
            else:
                everybody = np.random.default_rng([*self._seed, epoch]).permutation(count)
                order = everybody[self._consumer :: self._consumers]
            for index in order:
                yield self._infos[index]

    def _turn(self) -> None:
        """Leave the oldest shard and go on to the next; at the beginning, to as many as are to be open."""
        if self._names:
            self._names.popleft()
        count = len(self._infos)
        own = count if count < self._consumers else count // self._consumers
        while len(self._names) < min(OPEN_SHARDS, own):
            self._names.append(self._next)
            self._next = next(self._walked)
        self._drawn = 0
        self._turned = True

    def _open(self) -> None:
        """Close the shards that were left, open those that were come to, and see what they hold."""
        wanted = [*dict.fromkeys(info.name for info in self._names)]
        for name in self._shards.keys() - {*wanted, self._next.name}:
            self._shards.pop(name).close()
        for name in (*wanted, self._next.name):
            self._shards.setdefault(name, _OpenShard(self._folder, name))
        frames = self._config.frames
        places = [(self._shards[name], entry) for name in wanted for entry in self._shards[name].entries(frames)]
        if not places:
            raise LoaderError(f"{self._folder}: no clip is {frames} frames long; ask for fewer frames.")
        self._tree, self._people = _tree(places), defaultdict(list)
        for shard, entry in places:
            self._people[_person(entry.row)].append((shard, entry))
        self._ahead.submit(self._shards[self._next.name].fetch)
        self._turned = False


def _labels(row: Row) -> tuple[Label, Label, Label]:
    return row.labels.visual, row.labels.audio, row.labels.sync


def _person(row: Row) -> tuple[str, str]:
    """Return who a clip is of: names hold within a corpus, and where there is none each row is somebody else."""
    return row.corpus, row.identity or row.id


def _start(entry: Entry, frames: int, rng: Generator) -> int:
    """Return where a random window begins; of a clip that is fake in places, every other one over such a place."""
    last = max(0, entry.frames - frames)
    segments = entry.row.segments
    places = (*segments.visual, *segments.audio, *segments.sync)
    if not places or rng.random() < 0.5:
        return int(rng.integers(last + 1))
    begin, end = places[rng.integers(len(places))]
    middle = int((begin + end) / 2 * FPS)
    return int(np.clip(middle - rng.integers(min(frames, entry.frames)), 0, last))


def _pick(tree: Tree, rng: Generator) -> Place:
    node: Any = tree
    while isinstance(node, dict):
        node = node[sorted(node)[rng.integers(len(node))]]
    place: Place = node[rng.integers(len(node))]
    return place


def _tree(places: Sequence[Place]) -> Tree:
    tree: Tree = {}
    for shard, entry in places:
        row = entry.row
        fake = 1 in _labels(row)
        node = tree
        for key in (entry.has_lips, fake, (fake and row.method) or row.corpus):
            node = node.setdefault(key, {})
        node.setdefault(_person(row), []).append((shard, entry))
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
