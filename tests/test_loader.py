from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avfake import SAMPLES_PER_FRAME
from avfake.clips import MOUTH_POINTS, PREPROCESSING, Clip, ClipError, encode_clip
from avfake.forge import FORGERS, forge
from avfake.forge.voice import VOICES
from avfake.manifest import Labels, Row, Segments
from avfake.samples import Sample
from avfake.shards import FOLDER_SCHEMA, INDEX_SCHEMA, Entry, ShardError, ShardWriter, dumps
from avfake.storage import StorageError, join, make_folder, whole_file, write_bytes
from avfake.training import loader
from avfake.training.batch import Batch
from avfake.training.loader import LoaderConfig, LoaderError, Source, file_number, held_out, load

FRAMES = 30
PLAIN = LoaderConfig(frames=FRAMES, batch=8, augmented=False)


def clip(name: str, frames: int, lips: bool, audio: bool) -> Clip:
    """A clip whose frame t has the colour of its name, and whose sound is a tone of its own pitch."""
    seed = sum(map(ord, name))
    time = np.arange(frames * SAMPLES_PER_FRAME) / 16_000
    picture = np.full((frames, 96, 96, 3), 40 + seed % 160, np.uint8)
    picture += np.arange(frames, dtype=np.uint8)[:, None, None, None] % 8
    return Clip(
        lips=picture if lips else None,
        audio=(0.3 * np.sin(2 * np.pi * (100 + seed % 900) * time)).astype(np.float32) if audio else None,
        mouth=np.tile(np.linspace(30, 60, 40).reshape(20, 2), (frames, 1, 1)).astype(np.float32) if lips else None,
        face_ok=np.ones(frames, bool) if lips else np.zeros(frames, bool),
        source={"path": name},
    )


def numbered(first: int, frames: int, lips: bool = True, audio: bool = True) -> Clip:
    """A clip from frame ``first`` of its file on, whose pictures, points and sound each name the frame they are of."""
    numbers = np.arange(first, first + frames)
    return Clip(
        lips=np.broadcast_to(2 * numbers.astype(np.uint8)[:, None, None, None], (frames, 96, 96, 3)).copy()
        if lips
        else None,
        audio=(numbers / 1024).astype(np.float32).repeat(SAMPLES_PER_FRAME) if audio else None,
        mouth=np.broadcast_to(numbers.astype(np.float32)[:, None, None] / 2, (frames, 20, 2)).copy() if lips else None,
        face_ok=numbers % 7 != 0 if lips else np.zeros(frames, bool),
        start_s=first / 25,
    )


def read_numbers(batch: Batch, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The frames that the pictures and the sound of a window are of."""
    seen = np.rint(batch.lips[n, :, 48, 48, 0].numpy() / 2).astype(np.int64)
    heard = np.rint(batch.audio[n].numpy().reshape(-1, SAMPLES_PER_FRAME).mean(axis=1) * 1024).astype(np.int64)
    return seen, heard


def row(name: str, label: int | None = 0, **facts: Any) -> Row:
    method = "made" if label == 1 else None
    labels = facts.pop("labels", Labels(visual=label, audio=label, sync=0))
    facts = {"corpus": "toy", "split": "train", "identity": name, "method": method, **facts}
    return Row(name, f"{name}.mp4", None, labels=labels, **facts)


def shards(
    folder: str,
    groups: list[list[Row]],
    *,
    frames: int = 60,
    lips: bool = True,
    audio: bool = True,
    split: str = "train",
    maker: Callable[[str, int, bool, bool], Clip | list[Clip]] = clip,
) -> Source:
    """A folder of prepared shards, one a group."""
    infos = []
    make_folder(folder)
    for number, rows in enumerate(groups):
        name = f"{split}-{number:06d}-x"
        entries = []
        with whole_file(join(folder, f"{name}.tar")) as file:
            writer = ShardWriter(file)
            for one in rows:
                made = maker(one.id, frames, lips, audio)
                for part, piece in enumerate(made if isinstance(made, list) else [made]):
                    facts = piece.frames, piece.lips is not None, piece.audio is not None
                    entry = Entry(f"{one.id}-{part:03d}", 0, 0, *facts, one)
                    entries.append(writer.add(entry, encode_clip(piece)))
            writer.close()
        records = [{"id": entry.row.id, "clips": [entry.to_dict()]} for entry in entries]
        index = {"schema": INDEX_SCHEMA, "manifest": "m", "settings": {}, "bytes": 0, "rows": records}
        write_bytes(join(folder, f"{name}.json"), dumps(index))
        infos.append({"name": name, "split": split, "clips": len(entries), "bytes": 0})
    document = {"schema": FOLDER_SCHEMA, "preprocessing": PREPROCESSING, "summary": {}, "shards": infos}
    write_bytes(join(folder, "prepared.json"), dumps(document))
    return Source(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Six shards of four people: one genuine clip of each, and one fake of two of them."""
    folder = tmp_path_factory.mktemp("corpus")
    groups = []
    for number in range(6):
        people = [f"p{number}{n}" for n in range(4)]
        groups.append([row(name) for name in people] + [row(f"{name}f", 1, identity=name) for name in people[:2]])
    return shards(str(folder), groups)


def take(count: int, *sources: Source, config: LoaderConfig = PLAIN, **options: Any) -> list[Batch]:
    return list(itertools.islice(load(sources, config, **options), count))


def digest(batch: Batch) -> str:
    values = [getattr(batch, field.name) for field in fields(batch)]
    parts = [value.numpy().tobytes() for value in values if isinstance(value, torch.Tensor)]
    return hashlib.sha256(b"".join(parts) + " ".join(batch.ids).encode()).hexdigest()


def test_a_batch_is_what_it_says(corpus: Source) -> None:
    (batch,) = take(1, corpus)
    assert batch.lips.shape == (8, FRAMES, 96, 96, 3)
    assert batch.lips.dtype == torch.uint8
    assert batch.audio.shape == (8, FRAMES * SAMPLES_PER_FRAME)
    assert batch.mouth.shape == (8, FRAMES, MOUTH_POINTS, 2)
    assert batch.has_lips.all()
    assert batch.has_audio.all()
    assert batch.face_ok.all()
    for n, name in enumerate(batch.ids):
        fake = float(name.endswith("f"))
        assert batch.labels[n].tolist() == [fake, fake, 0]
        assert (batch.frame_labels[n] == torch.tensor([fake, fake, 0])).all()
        whole = clip(name, 60, True, True)
        assert whole.audio is not None
        assert whole.lips is not None
        assert whole.mouth is not None
        starts = [s for s in range(31) if _near(batch.audio[n].numpy(), whole.audio[s * 640 : (s + FRAMES) * 640])]
        first = batch.lips[n, :, 48, 48, 0].numpy().astype(int)
        assert torch.allclose(batch.mouth[n], torch.from_numpy(whole.mouth[:FRAMES]), atol=0.006)
        # Picture and sound are cut at the same place.
        assert any(np.abs(first - whole.lips[s : s + FRAMES, 48, 48, 0]).max() <= 2 for s in starts)


def _near(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool(np.abs(a - b).max() < 1e-3)


def test_the_same_seed_gives_the_same_batches_and_another_other_ones(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=4, forged=0.5, seed=3)
    first = [digest(batch) for batch in take(4, corpus, config=config)]
    assert [digest(batch) for batch in take(4, corpus, config=config)] == first
    other = LoaderConfig(frames=FRAMES, batch=4, forged=0.5, seed=4)
    plain = LoaderConfig(frames=FRAMES, batch=4, forged=0.5, augmented=False, seed=3)
    assert not {digest(batch) for batch in take(4, corpus, config=plain)} & set(first)
    assert not {digest(batch) for batch in take(4, corpus, config=other)} & set(first)


def test_workers_work_and_a_stopped_run_goes_on_where_it_was(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=3, forged=0.5, seed=1, jitter=11, paired=0.7, held_out=5)
    whole = [digest(batch) for batch in take(16, corpus, config=config)]
    for start in (1, 13):
        rest = take(16 - start, corpus, config=config, start=start)
        assert [digest(batch) for batch in rest] == whole[start:]
    several = [digest(batch) for batch in take(7, corpus, config=config, workers=2)]
    assert len(set(several)) == 7
    rest = [
        digest(next(loader._Stream([corpus], config, 0, 1, start=5)._batches(worker, 2)))  # what each worker does
        for worker in range(2)
    ]
    assert rest == several[5:]


def test_ranks_have_clips_of_their_own(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=6, augmented=False)
    seen = [set(take(1, corpus, config=config, rank=rank, world=2)[0].ids) for rank in range(2)]
    assert not seen[0] & seen[1]


def test_where_ranks_share_shards_each_has_every_class(tmp_path: Path) -> None:
    # prepare puts each fake behind its original, so that they alternate.
    one = shards(str(tmp_path), [[row(f"r{n}", n % 2, identity=f"p{n // 2}") for n in range(20)]])
    for rank in range(4):
        labels = torch.cat([batch.labels[:, 0] for batch in take(4, one, rank=rank, world=4)])
        assert 0.2 < labels.mean() < 0.8
    few = shards(str(tmp_path), [[row("only")]])
    assert take(1, few, rank=7, world=8)[0].ids == ["only"] * 8


def test_every_clip_has_its_turn(corpus: Source) -> None:
    seen = {name for batch in take(30, corpus) for name in batch.ids}
    assert len(seen) == 36


def test_classes_and_sources_are_balanced(tmp_path: Path) -> None:
    many = [row(f"r{n}", 0, identity=f"i{n % 7}") for n in range(28)]
    video = shards(str(tmp_path / "v"), [[*many, row("fake", 1)]])
    voices = [row(f"s{n}", n % 2, labels=Labels(audio=n % 2)) for n in range(6)]
    sound = shards(str(tmp_path / "a"), [voices], frames=12, lips=False)
    config = LoaderConfig(frames=FRAMES, batch=60, augmented=False)
    (batch,) = take(1, video, config=config)
    assert 18 < sum(name == "fake" for name in batch.ids) < 42
    mixed = take(4, Source(video.folder, 1.0), Source(sound.folder, 3.0), config=config)
    share = np.mean([(~batch.has_lips).float().mean().item() for batch in mixed])
    assert 0.65 < share < 0.85
    counts = Counter(name for batch in mixed for name in batch.ids if name.startswith("s"))
    assert min(counts[f"s{n}"] for n in range(6)) > 10


def test_missing_streams_are_masked_and_short_voices_repeated(tmp_path: Path) -> None:
    labels = Labels(visual=None, audio=1, sync=None)
    voice = shards(str(tmp_path / "a"), [[row("voice", 1, labels=labels)]], frames=12, lips=False)
    silent = shards(str(tmp_path / "v"), [[row("silent", labels=Labels(visual=0))]], audio=False)
    config = LoaderConfig(frames=FRAMES, batch=16, seed=5)
    (batch,) = take(1, voice, silent, config=config)
    for n, name in enumerate(batch.ids):
        sound = name == "voice"
        assert (bool(batch.has_audio[n]), bool(batch.has_lips[n])) == (sound, not sound)
        assert batch.labels[n].isnan().tolist() == ([True, False, True] if sound else [False, True, True])
        assert batch.lips[n].any() == (not sound)
        assert batch.audio[n].any() == sound
        assert batch.face_ok[n].any() == (not sound)
    (plain,) = take(1, voice, config=PLAIN)
    assert _near(plain.audio[0, : 12 * 640].numpy(), plain.audio[0, 12 * 640 : 24 * 640].numpy())


def test_segments_become_frame_labels(tmp_path: Path) -> None:
    one = row("part", 1, labels=Labels(visual=1, audio=0, sync=0), segments=Segments(visual=((0.4, 1.2),)))
    source = shards(str(tmp_path), [[one]])
    for batch in take(2, source):
        for n in range(8):
            colours = batch.lips[n, :, 48, 48, 0].numpy().astype(int)
            whole = clip("part", 60, True, True).lips
            assert whole is not None
            starts = [s for s in range(31) if np.abs(colours - whole[s : s + FRAMES, 48, 48, 0]).max() <= 1]
            labels = batch.frame_labels[n, :, 0].numpy()
            expected = np.zeros(60, np.float32)
            expected[10:30] = 1
            assert any((labels == expected[s : s + FRAMES]).all() for s in starts)
            assert batch.labels[n, 0] == labels.max()


def test_every_forger_of_time_and_mouth_reaches_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in FORGERS if name.removesuffix("_part") not in VOICES]
    monkeypatch.setattr(loader, "forge", partial(forge, names=names))
    made = shards(str(tmp_path), [[row(f"p{n}", identity=f"p{n // 2}") for n in range(8)]], frames=150, maker=talking)
    config = LoaderConfig(frames=FRAMES, batch=100, forged=1.0, augmented=False, seed=1)
    batches = take(1, made, config=config)
    counts = Counter(name.partition("/forge:")[2] for batch in batches for name in batch.ids)
    assert counts.keys() >= {*names}
    for batch in batches:
        for n, name in enumerate(batch.ids):
            if name.endswith(("/forge:shift", "/forge:far_shift")):
                assert batch.shift[n] != 0
                assert batch.labels[n, 2] == float(abs(int(batch.shift[n])) > 15)


def talking(name: str, frames: int, lips: bool, audio: bool) -> Clip:
    """A clip with a mouth that moves and a sound that changes, so that every forger has something to do."""
    rng = np.random.default_rng(sum(map(ord, name)))
    time = np.arange(frames * SAMPLES_PER_FRAME) / 16_000
    loudness = np.interp(time, np.arange(0, 7, 0.12), rng.uniform(0.05, 0.3, 59))
    pitch = np.cumsum(np.interp(time, np.arange(0, 7, 0.5), rng.uniform(90, 220, 14))) / 16_000
    voice = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 12)) * loudness / 2
    points = np.tile(np.stack([30 + 36 * np.linspace(0, 1, 20), np.full(20, 52.0)], axis=-1), (frames, 1, 1))
    opening = np.abs(np.interp(np.arange(frames), np.arange(0, frames + 5, 5), rng.uniform(0, 12, frames // 5 + 1)))
    points[..., 1] += opening[:, None] * np.sin(np.linspace(0, 2 * np.pi, 20))
    pictures = rng.integers(90, 130, (1, 96, 96, 3), np.uint8).repeat(frames, axis=0)
    for picture, mouth in zip(pictures, points, strict=True):
        cv2.fillConvexPoly(picture, np.round(mouth).astype(np.int32), (60, 20, 30))
    return Clip(
        pictures, voice.astype(np.float32), points.astype(np.float32), np.ones(frames, bool), source={"path": name}
    )


def test_partly_fake_clips_are_shown_where_they_are_fake(tmp_path: Path) -> None:
    one = row("part", 1, labels=Labels(0, 1, None), segments=Segments(audio=((7.0, 7.4),)))
    source = shards(str(tmp_path), [[one]], frames=250)
    labels = torch.cat([batch.labels[:, 1] for batch in take(12, source)])
    assert 0.35 < labels.mean() < 0.75


def test_clips_that_say_nothing_are_not_drawn(tmp_path: Path) -> None:
    source = shards(str(tmp_path), [[row("known"), row("unknown", labels=Labels())]])
    assert {name for batch in take(2, source) for name in batch.ids} == {"known"}


def test_an_error_of_a_worker_is_one_sentence(tmp_path: Path) -> None:
    source = shards(str(tmp_path), [[row("a")]])
    (tmp_path / "train-000000-x.tar").write_bytes(b"x" * 2048)
    for workers in (0, 1):
        with pytest.raises(ClipError) as error:
            take(1, source, workers=workers)
        assert "\n" not in str(error.value)
        assert "train-000000-x.tar" in str(error.value)
    (tmp_path / "train-000000-x.tar").unlink()
    with pytest.raises(StorageError, match=r"train-000000-x\.tar: it cannot be read"):
        take(1, source)


def test_genuine_clips_are_forged(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=16, forged=1.0, augmented=False, seed=2)
    (batch,) = take(1, corpus, config=config)
    genuine = [n for n, name in enumerate(batch.ids) if not name.endswith("f")]
    assert genuine
    changed = [n for n in genuine if (batch.labels[n] == 1).any() or batch.shift[n] != 0]
    assert len(changed) >= len(genuine) - 3  # some forgeries lie outside of the window
    fakes = [n for n in range(16) if n not in genuine]
    assert (batch.labels[fakes] == torch.tensor([1.0, 1.0, 0.0])).all()


def test_remote_shards_are_fetched_and_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    groups = [[row(f"g{g}{n}", n % 2) for n in range(4)] for g in range(6)]
    near = shards(str(tmp_path / "near"), groups)
    far = shards("memory://far", groups)
    assert [digest(b) for b in take(6, near)] == [digest(b) for b in take(6, far)]
    batches = load([far], PLAIN)
    next(batches)
    assert 0 < len(list(tmp_path.glob("avfake-*"))) <= loader.OPEN_SHARDS + 1
    batches.close()  # type: ignore[attr-defined]
    del batches
    assert not list(tmp_path.glob("avfake-*"))
    fsspec.filesystem("memory").store.clear()


def test_what_cannot_be_loaded_is_said(corpus: Source, tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="no clip of the split train is 500 frames long"):
        take(1, corpus, config=LoaderConfig(frames=500))
    with pytest.raises(LoaderError, match="holds no clips of the split dev"):
        take(1, Source(corpus.folder, split="dev"))
    with pytest.raises(LoaderError, match="must be a source"):
        take(1)
    for weight in (0.0, float("nan")):
        with pytest.raises(LoaderError, match="weight above 0"):
            take(1, Source(corpus.folder, weight))
    for wrong in (LoaderConfig(frames=0), LoaderConfig(batch=0), LoaderConfig(seed=-1), LoaderConfig(forged=7)):
        with pytest.raises(LoaderError, match="cannot be"):
            take(1, corpus, config=wrong)
    nan = float("nan")
    for wrong in (
        LoaderConfig(jitter=16),
        LoaderConfig(jitter=-1),
        LoaderConfig(paired=1.5),
        LoaderConfig(paired=nan),
        LoaderConfig(held_out=-1),
    ):
        with pytest.raises(LoaderError, match="cannot be"):
            take(1, corpus, config=wrong)
    with pytest.raises(LoaderError, match="hold out fewer people"):
        take(1, corpus, config=replace(PLAIN, held_out=1))
    with pytest.raises(ShardError, match="holds no prepared shards"):
        take(1, Source(str(tmp_path)))
    write_bytes(str(tmp_path / "prepared.json"), b'{"schema": "avfake-shards-1", "preprocessing": 0}')
    with pytest.raises(ShardError, match="preprocessing version 0"):
        take(1, Source(str(tmp_path)))
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(ShardError, match="damaged"):
        take(1, Source(str(tmp_path)))


# ------------------------------------------------------------------------------------------------------- jitter


def test_jitter_moves_the_voice_and_its_labels_go_with_it(tmp_path: Path) -> None:
    segments = Segments(visual=((0.4, 1.2),), audio=((1.0, 2.0),))
    one = row("part", 1, labels=Labels(visual=1, audio=1, sync=0), segments=segments)
    source = shards(str(tmp_path), [[one]], frames=100, maker=lambda *facts: numbered(0, 100))
    shifts = Counter[int]()
    for batch in take(8, source, config=replace(PLAIN, batch=16, jitter=11)):
        assert (batch.labels[:, 2] == 0).all()
        assert (batch.frame_labels[..., 2] == 0).all()
        for n in range(16):
            seen, heard = read_numbers(batch, n)
            shift = int(batch.shift[n])
            shifts[shift] += 1
            for t in range(FRAMES):  # lips at t belong to the voice at t + shift
                assert not 0 <= t + shift < FRAMES or heard[t + shift] == seen[t]
            assert np.abs(batch.mouth[n, :, 0, 0].numpy() - seen / 2).max() < 0.01
            assert (batch.face_ok[n].numpy() == (seen % 7 != 0)).all()
            fake = np.stack([(seen >= 10) & (seen < 30), (heard >= 25) & (heard < 50)], axis=-1)
            assert (batch.frame_labels[n, :, :2].numpy() == fake).all()
            assert (batch.labels[n, :2].numpy() == fake.max(axis=0)).all()
    assert len(shifts) > 18
    assert set(shifts) <= set(range(-11, 12))
    assert max(shifts.values()) < 25


def test_jitter_is_as_far_as_the_clip_allows_whatever_the_labels(tmp_path: Path) -> None:
    labels = {
        "none": Labels(0, 0, None),
        "apart": Labels(0, 0, 1),
        "partly": Labels(0, 0, 1),
        "tight": Labels(0, 0, 0),
        "exact": Labels(0, 0, 0),
    }
    segments = {"partly": Segments(sync=((1.6, 2.4),))}
    rows = [row(name, 0, labels=known, segments=segments.get(name, Segments())) for name, known in labels.items()]
    frames = {"tight": FRAMES + 2, "exact": FRAMES}
    source = shards(str(tmp_path), [rows], maker=lambda name, *facts: numbered(0, frames.get(name, 100)))
    shifts: dict[tuple[str, float], set[int]] = {}
    for batch in take(10, source, config=replace(PLAIN, batch=20, jitter=15)):
        for n, name in enumerate(batch.ids):
            seen, heard = read_numbers(batch, n)
            if name == "partly":
                assert (batch.frame_labels[n, :, 2].numpy() == ((seen >= 40) & (seen < 60))).all()
            assert heard[0] - seen[0] == -batch.shift[n]
            shifts.setdefault((name, batch.labels[n, 2].nan_to_num(-1).item()), set()).add(int(batch.shift[n]))
    # An offset must not tell a fake: what is not in sync is moved as what is.
    assert all(len(shifts[key]) > 3 for key in (("none", -1), ("apart", 1), ("partly", 1), ("partly", 0)))
    assert shifts["tight", 0] == {-2, -1, 0, 1, 2}
    assert shifts["exact", 0] == {0}


def test_a_voice_that_was_made_later_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "forge", partial(forge, names=["shift"]))
    source = shards(str(tmp_path), [[row("a")]], frames=150, maker=talking)
    plain = replace(PLAIN, batch=16, forged=1.0)
    (batch,) = take(1, source, config=replace(plain, jitter=15))
    assert all(name.endswith("/forge:shift") for name in batch.ids)
    assert (batch.shift != 0).all()
    assert (batch.shift.abs() <= 12).all()  # as far as the forger goes


# -------------------------------------------------------------------------------------------------------- pairs


def trimmed(sample: Sample, donors: Sequence[Sample], rng: np.random.Generator) -> Sample:
    """A forger that changes nothing but cuts 5 frames away before and 3 after."""
    cut = sample.cut(5, sample.clip.frames - 3)
    labels = replace(sample.row.labels, visual=1)
    return replace(
        cut, row=replace(cut.row, id=f"{sample.row.id}/forge:trimmed", original=sample.row.id, labels=labels)
    )


def test_both_halves_of_a_forged_pair_are_changed_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "forge", trimmed)
    source = shards(str(tmp_path), [[row(f"p{n}") for n in range(4)]], frames=150, maker=talking)
    config = LoaderConfig(frames=FRAMES, batch=8, forged=1.0, paired=1.0, jitter=11)
    batches = take(3, source, config=config)
    assert len(torch.cat([batch.files for batch in batches]).unique()) > 1
    for batch in batches:
        for n in range(0, 8, 2):
            assert batch.ids[n] == f"{batch.ids[n + 1]}/forge:trimmed"
            assert batch.labels[n : n + 2, 0].tolist() == [1, 0]
            assert batch.files[n] == batch.files[n + 1]
            for part in (batch.lips, batch.audio, batch.mouth, batch.face_ok, batch.shift):
                assert torch.equal(part[n], part[n + 1])
    apart = take(1, source, config=replace(config, paired=0.0))[0]
    assert all(name.endswith("/forge:trimmed") for name in apart.ids)


def test_the_genuine_half_begins_where_the_forged_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["shift", "far_shift", "mouth_late", "other_words"]
    monkeypatch.setattr(loader, "forge", partial(forge, names=names))

    def maker(name: str, *facts: Any) -> Clip:
        return replace(talking(name, 150, True, True), lips=numbered(0, 150).lips)

    source = shards(str(tmp_path), [[row("a")]], maker=maker)
    made = Counter[str]()
    for batch in take(6, source, config=replace(PLAIN, forged=1.0, paired=1.0)):
        for n in range(0, 8, 2):
            forged, genuine = read_numbers(batch, n)[0], read_numbers(batch, n + 1)[0]
            name = batch.ids[n].partition("/forge:")[2]
            made[name] += 1
            shown = np.abs(forged - genuine)
            assert shown.max() <= (8 if name == "mouth_late" else 0)  # that shows the mouth of other frames
            assert batch.shift[n + 1] == 0
    assert made.keys() == {*names}


def test_a_fake_is_paired_with_the_same_time_of_its_original(tmp_path: Path) -> None:
    clips = {
        "g": [numbered(0, 60), numbered(60, 60)],
        "f": [numbered(10, 45), numbered(60, 52)],  # its faces are found later, and it ends earlier
        "h": [numbered(0, 60)],
        "short": [numbered(0, 29)],
    }
    rows = [row("g"), row("f", 1, original="g"), row("h"), row("elsewhere", 1, original="g", corpus="other")]
    rows += [row("short"), row("lonely", 1, original="short")]
    source = shards(str(tmp_path), [rows], maker=lambda name, *facts: clips.get(name, [numbered(0, 60)]))
    ids = Counter[tuple[str, str]]()
    for batch in take(12, source, config=replace(PLAIN, batch=9, paired=1.0, jitter=8)):
        for n in range(0, 8, 2):
            couple = batch.ids[n], batch.ids[n + 1]
            ids[couple] += 1
            if set(couple) == {"g", "f"}:
                assert (batch.lips[n] == batch.lips[n + 1]).all()
                assert (batch.audio[n] == batch.audio[n + 1]).all()
                assert (batch.shift[n] == batch.shift[n + 1]).all()
                assert batch.files[n] == batch.files[n + 1]
    assert ids["g", "f"] > 3
    assert ids["f", "g"] > 3
    assert not [couple for couple in ids if couple in {("g", "g"), ("f", "f")}]
    alone = {couple for couple in ids if couple[0] in ("h", "elsewhere", "lonely")}
    assert len(alone) > 6  # with anybody


def test_the_share_of_pairs(corpus: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "forge", trimmed)
    couples = [
        batch.ids[n : n + 2]
        for batch in take(6, corpus, config=replace(PLAIN, batch=50, forged=1.0, paired=0.5))
        for n in range(0, 50, 2)
    ]
    pairs = [first == f"{second}/forge:trimmed" for first, second in couples]
    assert 0.15 < np.mean(pairs) < 0.35  # half of the couples begin with a genuine clip


def test_paired_voices_are_as_long_as_the_shorter(tmp_path: Path) -> None:
    lengths = {"g": 25, "f": 18}
    rows = [row("g", labels=Labels(audio=0)), row("f", 1, labels=Labels(audio=1), original="g")]
    source = shards(str(tmp_path), [rows], maker=lambda name, *facts: numbered(0, lengths[name], lips=False))
    (batch,) = take(1, source, config=replace(PLAIN, paired=1.0))
    for n in range(0, 8, 2):
        assert {batch.ids[n], batch.ids[n + 1]} == {"g", "f"}
        for half in (n, n + 1):
            heard = read_numbers(batch, half)[1]
            assert (heard[18:] == heard[:12]).all()
            assert (np.diff(heard[:18]) == 1).all()


def test_couples_come_from_one_source(tmp_path: Path) -> None:
    one = shards(str(tmp_path / "1"), [[row("a"), row("b")]])
    two = shards(str(tmp_path / "2"), [[row("c"), row("d")]])
    couples = [
        {*batch.ids[n : n + 2]} for batch in take(4, one, two, config=replace(PLAIN, batch=7)) for n in (0, 2, 4)
    ]
    assert all(couple <= {"a", "b"} or couple <= {"c", "d"} for couple in couples)
    assert len({frozenset(couple & {"a", "b"}) for couple in couples}) > 1


# ----------------------------------------------------------------------------------------------- files, people


def test_what_comes_from_one_recording_has_one_number(corpus: Source) -> None:
    genuine = row("g")
    assert file_number(genuine) == 2868103322855768163  # the same in every process, and for ever
    assert file_number(row("f", 1, original="g")) == file_number(genuine)
    assert file_number(row("g", corpus="other")) != file_number(genuine)
    (batch,) = take(1, corpus, config=replace(PLAIN, batch=32, forged=1.0))
    assert batch.files.dtype == torch.int64
    assert any("/forge:" in name for name in batch.ids)
    assert batch.files.tolist() == [file_number(row(name.partition("/forge:")[0])) for name in batch.ids]


def test_people_who_are_held_out_are_neither_drawn_nor_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = set()

    def listening(sample: Sample, donors: Sequence[Sample], rng: np.random.Generator) -> Sample:
        heard.update(donor.row.id for donor in donors)
        return sample

    monkeypatch.setattr(loader, "forge", listening)
    rows = [row(f"r{n}", identity=f"i{n // 2}") for n in range(20)]
    out = {one.id for one in rows if held_out(one, 3)}
    assert 3 < len(out) < 12
    trained = next(one.identity for one in rows if one.id not in out)
    rows += [row(f"of-{one.id}", 1, original=one.id, identity=trained) for one in rows[:20]]
    source = shards(str(tmp_path), [rows], frames=FRAMES, lips=False)
    config = replace(PLAIN, batch=16, held_out=3, forged=1.0)
    drawn = {name for batch in take(20, source, config=config) for name in batch.ids}
    assert heard <= drawn
    assert drawn == {one.id for one in rows} - out - {f"of-{name}" for name in out}


def test_who_is_held_out() -> None:
    rows = [row(f"r{n}", identity=None) for n in range(600)]
    share = np.mean([held_out(one, 6) for one in rows])
    assert 0.12 < share < 0.21
    assert not any(held_out(one, 0) for one in rows)
    assert all(held_out(one, 1) for one in rows)
    assert not any(held_out(replace(one, split="dev"), 1) for one in rows)
    for one in rows:
        assert held_out(row("f", 1, identity=None, original=one.id), 6) == held_out(one, 6)
        assert held_out(row("x", identity=one.id, corpus="other"), 6) == held_out(one, 6)
    assert not held_out(row("\udc80"), 10**9)  # a name that is no UTF-8
