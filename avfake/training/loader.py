"""The loader: shards in, batches out, the same ones for the same seed.

Every consumer (a worker process of a rank) walks through shards of its own in a random order, a few open at a time;
where there are fewer shards than consumers, each walks through all. What is drawn from the open ones is balanced:
faces and voices alone, then genuine and fake, then methods (of genuine clips: corpora), then people, then clips, each
level with even odds. A shard is left when as many clips have been drawn as it holds. Nothing is decoded that is not
used, and a remote shard is fetched whole, once, ahead of its turn.

The slots of a batch are filled in couples, each from one source. A couple may be a pair: a fake and what it was made
from, the same stretch of time changed alike by augmentation, so that the difference that is left is the fake.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from threading import Lock, Thread
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avfake import FPS, SAMPLES_PER_FRAME, AvfakeError
from avfake.augment import augment
from avfake.clips import MOUTH_POINTS, decode_clip
from avfake.faces import CROP
from avfake.forge import NotForgeable, forge
from avfake.forge.timing import IN_SYNC
from avfake.manifest import ASPECTS, Label, Row
from avfake.samples import Sample
from avfake.shards import Entry, ShardFolder, ShardInfo, read_entries
from avfake.storage import StorageError, join, local_copy
from avfake.training.batch import Batch

OPEN_SHARDS = 4
"""Shards that a consumer draws from at once, of each source: some two hundred videos."""
SPARE = 16  # frames read beyond a window, for what augmenting takes away
FORGED_SPARE = 40  # and for what forging does: a voice moved far away costs as many frames
DONORS = 4  # voices offered to a forger, one of them the same person's
FORGE_TRIES = 4  # forgeries that may come out shorter than a window
REDRAWS = 20  # draws after which a batch gives up on clips that augmentation makes too short


class LoaderError(AvfakeError):
    """Shards hold nothing that a batch can be made of, or what is asked for cannot be."""


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

    ``faces``     draws clips with lips alone.
    ``jitter``    lips and voice of a window that has both and whose voice was not made later are cut up to this many
                  frames apart, 0 to 15, as far as the clip allows. A voice that is cut j frames
                  later in the clip lies j frames earlier in the window: the batch says ``shift`` -j. Visual and sync
                  labels, points and ``face_ok`` follow the lips, audio labels the voice.
    ``paired``    share of the couples (slots 2i and 2i + 1) that are the same stretch of time of a fake and its source:
                  of a forged clip the one that was forged, of a fake its ``original``, of a genuine clip one of the
                  fakes made from it. Both halves are augmented, cut and jittered from one random state. Where the open
                  shards hold no counterpart, the second is drawn alone. An odd batch leaves its last slot alone.
    ``held_out``  n leaves out the people of whom ``held_out(row, n)`` is true, and the fakes made from their clips; 0
                  leaves out nobody.
    ``leave_out`` methods and corpora of which no clip is drawn.
    """

    frames: int = 64
    batch: int = 16
    forged: float = 0.0
    augmented: bool = True
    seed: int = 0
    jitter: int = 0
    paired: float = 0.0
    held_out: int = 0
    faces: bool = False
    leave_out: tuple[str, ...] = ()


class Window(NamedTuple):
    """What fills one slot of a batch, and the number of the recording that it comes from (``file_number``)."""

    sample: Sample
    file: int


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
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that wanted the batches has ended, however: torch looks at the fork server instead."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Stream(IterableDataset[Batch | AvfakeError]):
    def __init__(self, sources: Sequence[Source], config: LoaderConfig, rank: int, world: int, start: int) -> None:
        if not sources or not all(0 < source.weight < np.inf for source in sources):
            raise LoaderError("There must be a source to load from, and each must have a weight above 0.")
        if min(config.frames, config.batch) < 1 or min(config.seed, config.held_out) < 0:
            raise LoaderError(f"{config} cannot be: frames and batch are at least 1, seed and held_out at least 0.")
        if not (0 <= config.forged <= 1 and 0 <= config.paired <= 1 and 0 <= config.jitter <= IN_SYNC):
            raise LoaderError(
                f"{config} cannot be: forged and paired are shares from 0 to 1, and jitter is 0 to {IN_SYNC} frames."
            )
        self.supplies = [_supply(source, config) for source in sources]
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
                stack.enter_context(_Pool(supply, config, number, consumer, consumers))
                for number, supply in enumerate(self.supplies)
            ]
            weights = np.array([source.weight for source in self.sources])
            couples = [2] * (config.batch // 2) + [1] * (config.batch % 2)
            number = 0
            while True:
                rng = np.random.default_rng([config.seed, consumer, number])
                chosen = rng.choice(len(pools), size=len(couples), p=weights / weights.sum())
                drawn = [(pools[index], size) for index, size in zip(chosen, couples, strict=True)]
                if number < skipped:
                    for pool, size in drawn:
                        pool.count(size)
                else:
                    yield collate([window for pool, size in drawn for window in pool.draw(rng, size)], config.frames)
                number += 1


class _Supply(NamedTuple):
    """The shards of a folder that anything can be drawn from, ``clips`` counting that alone, and who is ``out``."""

    folder: str
    shards: list[ShardInfo]
    out: frozenset[tuple[str, str]]


def _supply(source: Source, config: LoaderConfig) -> _Supply:
    folder = ShardFolder(source.folder)
    named = sorted(shard for shard in folder.shards if shard.split == source.split and shard.clips)
    if not named:
        raise LoaderError(f"{source.folder} holds no clips of the split {source.split}.")
    out = rows_out(source, config)
    counted = [shard._replace(clips=len(drawable(source.folder, shard.name, config, out))) for shard in named]
    if shards := [shard for shard in counted if shard.clips]:
        return _Supply(source.folder, shards, out)
    what, held = "face" if config.faces else "clip", config.held_out > 0
    raise LoaderError(
        f"{source.folder}: no {what} of the split {source.split} is {config.frames} frames long"
        f"{' and of nobody held out' * held}; ask for fewer frames{' or hold out fewer people' * held}."
    )


def rows_out(source: Source, config: LoaderConfig) -> frozenset[tuple[str, str]]:
    """Return the rows of people who are held out, by corpus and id; the fakes of these are out, in whatever shard."""
    if not config.held_out:
        return frozenset()
    shards = [shard for shard in ShardFolder(source.folder).shards if shard.split == source.split]
    rows = (entry.row for shard in shards for entry in read_entries(source.folder, shard.name))
    return frozenset(_key(row) for row in rows if held_out(row, config.held_out))


def drawable(folder: str, name: str, config: LoaderConfig, out: Collection[tuple[str, str]]) -> list[Entry]:
    """Return the clips of a shard whose labels say anything, of which windows can be made, and of nobody ``out``."""
    return [
        entry
        for entry in read_entries(folder, name)
        if (entry.frames >= config.frames if entry.has_lips else not config.faces)
        and set(labels_of(entry.row)) != {None}
        and _key(entry.row) not in out
        and (entry.row.corpus, entry.row.original) not in out
        and not left_out(entry.row, config.leave_out)
    ]


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
        self._began: dict[str, float] = {}

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

    def began(self, entry: Entry) -> float:
        """Return where in its file a clip begins, in seconds."""
        if entry.key not in self._began:
            self._began[entry.key] = self.read(entry, 0, 1, lips=False).clip.start_s
        return self._began[entry.key]

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

    def __init__(self, supply: _Supply, config: LoaderConfig, number: int, consumer: int, consumers: int) -> None:
        self._folder, self._infos, self._out = supply
        self._config = config
        self._seed = [config.seed, number]
        self._consumer, self._consumers = consumer, consumers
        self._walked = self._walk()
        self._next = next(self._walked)
        self._names: deque[ShardInfo] = deque()
        self._drawn = 0
        self._shards: dict[str, _OpenShard] = {}
        self._tree: Tree = {}
        self._people: dict[tuple[str, str], list[Place]] = {}
        self._genuine: dict[tuple[str, str], list[Place]] = {}
        self._fakes: dict[tuple[str, str], dict[str, list[Place]]] = {}
        self._turned = False
        self._ahead = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._ahead.shutdown()
        for shard in self._shards.values():
            shard.close()

    def count(self, size: int) -> None:
        """Move on as a draw of ``size`` windows does, without drawing."""
        for _ in range(size):
            if not self._names or self._drawn >= self._names[0].clips:
                self._turn()
            self._drawn += 1

    def draw(self, rng: Generator, size: int) -> list[Window]:
        """Return a couple of windows, or one, forged and augmented."""
        self.count(size)
        if self._turned:
            self._open()
        windows = self._windows(rng, paired=size == 2 and rng.random() < self._config.paired)
        if len(windows) < size:
            windows += self._windows(rng, paired=False)
        return windows

    def _windows(self, rng: Generator, paired: bool) -> list[Window]:
        """Draw one window; of a pair that there is, both."""
        frames = self._config.frames
        for _ in range(REDRAWS):
            place = _pick(self._tree, rng)
            stretches = self._stretches(place, rng, paired)
            # Both halves of a pair start from the same two states, one for each step, so that what augmenting consumes
            # does not move the cut.
            changing, cutting = rng.integers(2**63, size=2)
            if self._config.augmented:
                stretches = [augment(stretch, np.random.default_rng(changing)) for stretch in stretches]
            if all(stretch.clip.lips is None or stretch.clip.frames >= frames for stretch in stretches):
                file = file_number(place[1].row)
                return [
                    Window(_cut(stretch, frames, self._config.jitter, np.random.default_rng(cutting)), file)
                    for stretch in stretches
                ]
        raise LoaderError(f"{self._folder}: its clips become shorter than {frames} frames; ask for fewer.")

    def _stretches(self, place: Place, rng: Generator, paired: bool) -> list[Sample]:
        """Read a stretch somewhat longer than a window, and forge it; of a pair that there is, both halves."""
        shard, entry = place
        forging = 1 not in labels_of(entry.row) and rng.random() < self._config.forged
        longest = self._config.frames + SPARE + self._config.jitter + (FORGED_SPARE if forging else 0)
        sample = shard.read(entry, _start(entry, longest, rng), min(longest, entry.frames))
        if forging and (forged := self._forged(sample, longest, rng)) is not sample:
            # Forgers cut what they change; where the lips begin, the genuine half does.
            start = round((forged.clip.start_s - sample.clip.start_s) * FPS)
            return [forged, sample.cut(start, start + forged.clip.frames)] if paired else [forged]
        return self._natural_pair(sample, entry, rng) if paired else [sample]

    def _natural_pair(self, sample: Sample, entry: Entry, rng: Generator) -> list[Sample]:
        """Return a stretch of a clip and the same of its original, or of a fake made from it; alone if there is none.

        Of the counterpart's clips that with the same number comes first: it is the same stretch of the file in most.
        """
        corpus, name, original = entry.row.corpus, entry.row.id, entry.row.original
        if 1 in labels_of(entry.row):
            clips = self._genuine.get((corpus, original), []) if original else []
        else:
            fakes = self._fakes.get((corpus, name), {})
            clips = fakes[sorted(fakes)[rng.integers(len(fakes))]] if fakes else []
        for shard, other in sorted(clips, key=lambda place: abs(_number(place[1]) - _number(entry))):
            if other.has_lips == entry.has_lips and (pair := _together(sample, shard, other, self._config.frames)):
                return pair
        return [sample]

    def _forged(self, sample: Sample, longest: int, rng: Generator) -> Sample:
        # A voice from elsewhere than a face's, a studio's say, would give itself away under a face.
        tree = self._tree[sample.clip.lips is not None]
        places = [_pick(tree, rng) for _ in range(DONORS - 1)]
        same = self._people[person_of(sample.row)]
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
        places = [
            (self._shards[name], entry)
            for name in wanted
            for entry in drawable(self._folder, name, self._config, self._out)
        ]
        self._tree, self._people = _tree(places), defaultdict(list)
        self._genuine, self._fakes = defaultdict(list), defaultdict(lambda: defaultdict(list))
        for shard, entry in places:
            row = entry.row
            self._people[person_of(row)].append((shard, entry))
            if 1 not in labels_of(row):
                self._genuine[_key(row)].append((shard, entry))
            elif row.original:
                self._fakes[row.corpus, row.original][row.id].append((shard, entry))
        self._ahead.submit(self._shards[self._next.name].fetch)
        self._turned = False


# ------------------------------------------------------------------------------------------------------- rows


def held_out(row: Row, n: int) -> bool:
    """Tell whether a row of split train is kept for validation: one person in ``n`` is, of 0 nobody.

    A person has the same fate in all corpora. Where it is not known who it is, an original and its fakes have.
    """
    who = row.identity or row.original or row.id
    return n > 0 and row.split == "train" and crc32(who.encode("utf-8", "backslashreplace")) % n == 0


def left_out(row: Row, names: Collection[str]) -> bool:
    """Tell whether a row's method or corpus is one of ``names``."""
    return row.method in names or row.corpus in names


def file_number(row: Row) -> int:
    """Return 63 bits that stand for the recording that a row of a shard comes from: its original or, if none, itself.

    Ids hold within a corpus, so the number does, too: that of two releases of one recording differs.
    """
    text = f"{row.corpus}\0{row.original or row.id}".encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def labels_of(row: Row) -> tuple[Label, Label, Label]:
    """Return the labels of a row in the order of ``ASPECTS``."""
    return row.labels.visual, row.labels.audio, row.labels.sync


def person_of(row: Row) -> tuple[str, str]:
    """Return who a clip is of: names hold within a corpus, and where there is none each row is somebody else."""
    return row.corpus, row.identity or row.id


def _key(row: Row) -> tuple[str, str]:
    return row.corpus, row.id


def _number(entry: Entry) -> int:
    """Return which of the clips of its row, by time, a clip is, as ``prepare`` names it."""
    return int(entry.key.rpartition("-")[2])


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
        fake = 1 in labels_of(row)
        node = tree
        for key in (entry.has_lips, fake, (fake and row.method) or row.corpus):
            node = node.setdefault(key, {})
        node.setdefault(person_of(row), []).append((shard, entry))
    return tree


# ---------------------------------------------------------------------------------------------- windows, batches


def _together(sample: Sample, shard: _OpenShard, entry: Entry, frames: int) -> list[Sample] | None:
    """Return the time that a stretch shares with a clip of another row, of both; None if less than a window.

    Voices alone need not be aligned, as sentences spoken anew are not: of these it is the same place if there is one.
    """
    begin, length = round((sample.clip.start_s - shard.began(entry)) * FPS), sample.clip.frames
    if sample.clip.lips is None:
        length = min(length, entry.frames)
        begin = int(np.clip(begin, 0, entry.frames - length))
        return [sample.cut(0, length), shard.read(entry, begin, length)]
    first, last = max(begin, 0), min(begin + length, entry.frames)
    if last - first < frames:
        return None
    return [sample.cut(first - begin, last - begin), shard.read(entry, first, last - first)]


def _cut(sample: Sample, frames: int, jitter: int, rng: Generator) -> Sample:
    """Cut a random window, its voice up to ``jitter`` frames beside its lips; see ``LoaderConfig``."""
    clip = sample.clip
    length = min(frames, clip.frames)
    room = clip.frames - length
    reach = min(jitter, room) if clip.lips is not None and clip.audio is not None else 0
    apart = int(rng.integers(-reach, reach + 1))
    start = int(rng.integers(max(0, -apart), room - max(0, apart) + 1))
    seen = sample.cut(start, start + length)
    if apart == 0 or sample.shift != 0:
        return seen
    heard = sample.cut(start + apart, start + apart + length)
    row = replace(
        seen.row,
        labels=replace(seen.row.labels, audio=heard.row.labels.audio),
        segments=replace(seen.row.segments, audio=heard.row.segments.audio),
    )
    return Sample(row, replace(seen.clip, audio=heard.clip.audio), shift=-apart)


def collate(windows: Sequence[Window], frames: int) -> Batch:
    """Return windows as a batch of ``frames`` frames; those with lips have as many, shorter voices are repeated."""
    samples = [window.sample for window in windows]
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
        files=torch.tensor([window.file for window in windows]),
        ids=[sample.row.id for sample in samples],
    )
