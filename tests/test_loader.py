from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avfake import SAMPLES_PER_FRAME
from avfake.clips import MOUTH_POINTS, PREPROCESSING, Clip, encode_clip
from avfake.manifest import Labels, Row, Segments
from avfake.shards import FOLDER_SCHEMA, INDEX_SCHEMA, Entry, ShardError, ShardWriter, write_index
from avfake.storage import join, make_folder, whole_file, write_bytes
from avfake.training import loader
from avfake.training.loader import Batch, LoaderConfig, LoaderError, Source, load

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


def row(name: str, label: int | None = 0, **facts: Any) -> Row:
    method = "made" if label == 1 else None
    labels = facts.pop("labels", Labels(visual=label, audio=label, sync=0))
    facts = {"corpus": "toy", "split": "train", "identity": name, "method": method, **facts}
    return Row(name, f"{name}.mp4", None, labels=labels, **facts)


def shards(folder: str, groups: list[list[Row]], *, frames: int = 60, lips: bool = True, audio: bool = True) -> Source:
    """A folder of prepared shards, one a group."""
    infos = []
    make_folder(folder)
    for number, rows in enumerate(groups):
        name = f"train-{number:06d}-x"
        entries = []
        with whole_file(join(folder, f"{name}.tar")) as file:
            writer = ShardWriter(file)
            for one in rows:
                entry = Entry(f"{one.id}-000", 0, 0, frames, lips, audio, one)
                entries.append(writer.add(entry, encode_clip(clip(one.id, frames, lips, audio))))
            writer.close()
        records = [{"id": entry.row.id, "clips": [entry.to_dict()]} for entry in entries]
        write_bytes(join(folder, f"{name}.json"), write_index({"schema": INDEX_SCHEMA, "rows": records}))
        infos.append({"name": name, "split": "train", "clips": len(rows), "bytes": 0})
    document = {"schema": FOLDER_SCHEMA, "preprocessing": PREPROCESSING, "summary": {}, "shards": infos}
    write_bytes(join(folder, "prepared.json"), write_index(document))
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
    parts = [tensor.numpy().tobytes() for tensor in batch if isinstance(tensor, torch.Tensor)]
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
        starts = [s for s in range(31) if _near(batch.audio[n].numpy(), whole.audio[s * 640 : (s + FRAMES) * 640])]
        first = batch.lips[n, :, 48, 48, 0].numpy().astype(int)
        # Picture and sound are cut at the same place.
        assert any(np.abs(first - whole.lips[s : s + FRAMES, 48, 48, 0]).max() <= 2 for s in starts)


def _near(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool(np.abs(a - b).max() < 1e-3)


def test_the_same_seed_gives_the_same_batches_and_another_other_ones(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=4, forged=0.5, seed=3)
    first = [digest(batch) for batch in take(4, corpus, config=config)]
    assert [digest(batch) for batch in take(4, corpus, config=config)] == first
    other = LoaderConfig(frames=FRAMES, batch=4, forged=0.5, seed=4)
    assert not {digest(batch) for batch in take(4, corpus, config=other)} & set(first)


def test_workers_work_and_a_stopped_run_goes_on_where_it_was(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=6, augmented=False, seed=1)
    whole = [digest(batch) for batch in take(30, corpus, config=config)]
    for start in (1, 17, 29):
        rest = take(30 - start, corpus, config=config, start=start)
        assert [digest(batch) for batch in rest] == whole[start:]
    several = [digest(batch) for batch in take(9, corpus, config=config, workers=2)]
    assert len(set(several)) == 9
    assert [digest(batch) for batch in take(4, corpus, config=config, workers=2, start=5)] == several[5:]


def test_ranks_have_clips_of_their_own(corpus: Source) -> None:
    seen = [{name for batch in take(12, corpus, rank=rank, world=2) for name in batch.ids} for rank in range(2)]
    assert len(seen[0]) > 12
    crowd = [{name for batch in take(12, corpus, rank=rank, world=12) for name in batch.ids} for rank in range(12)]
    # Of six shards each is shared by two of the twelve, who never see the same clip.
    assert sum(map(len, crowd)) == len(set.union(*crowd)) == 36


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


def test_genuine_clips_are_forged(corpus: Source) -> None:
    config = LoaderConfig(frames=FRAMES, batch=16, forged=1.0, augmented=False, seed=2)
    (batch,) = take(1, corpus, config=config)
    genuine = [n for n, name in enumerate(batch.ids) if not name.endswith("f")]
    assert genuine
    changed = [n for n in genuine if (batch.labels[n] == 1).any() or batch.shift[n] != 0]
    assert len(changed) >= len(genuine) - 2  # some forgeries lie outside of the window
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
    with pytest.raises(LoaderError, match="no clip is 500 frames long"):
        take(1, corpus, config=LoaderConfig(frames=500))
    with pytest.raises(LoaderError, match="holds no clips of the split dev"):
        take(1, Source(corpus.folder, split="dev"))
    with pytest.raises(LoaderError, match="must be a source"):
        take(1)
    with pytest.raises(LoaderError, match="weight above 0"):
        take(1, Source(corpus.folder, 0.0))
    with pytest.raises(ShardError, match="holds no prepared shards"):
        take(1, Source(str(tmp_path)))
    write_bytes(str(tmp_path / "prepared.json"), b'{"schema": "avfake-shards-1", "preprocessing": 0}')
    with pytest.raises(ShardError, match="preprocessing version 0"):
        take(1, Source(str(tmp_path)))
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(ShardError, match="damaged"):
        take(1, Source(str(tmp_path)))
