from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from synth import Audio, Video, beeps, gradient, steady, write

import avfake.manifest
from avfake import FPS, SAMPLES_PER_FRAME
from avfake.clips import extract
from avfake.engines import Died, EngineError, run
from avfake.faces import FaceError, FaceRecord, load_backend
from avfake.manifest import Labels, Row, Segments
from avfake.media import Decoder
from avfake.prepare import PrepareError, Summary, prepare
from avfake.prepare.plan import SOUNDS_PER_VIDEO, VIDEOS_PER_SHARD, Settings, plan
from avfake.samples import Sample
from avfake.shards import ShardError, ShardFolder
from avfake.storage import StorageError, listing, local_copy, read_bytes, stamp, whole_file, write_bytes

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "avfake" / "data" / "demo.mp4"
SETTINGS = Settings("facemesh", False)


def sound(path: Path, seconds: float = 1.0, at: float = 0.2) -> str:
    return str(write(path, audio=Audio(beeps(seconds, 16_000, [at]), rate=16_000, codec="flac")))


def row(name: str, video: str | None = None, audio: str | None = None, **facts: Any) -> Row:
    return Row(name, video, audio, facts.pop("corpus", "toy"), facts.pop("split", "train"), **facts)


@pytest.fixture
def sounds(tmp_path: Path) -> str:
    """A manifest of seven sounds, of which one is missing and one is no media."""
    (tmp_path / "broken.flac").write_text("not media\n")
    rows = [
        row(f"s{n}", audio=sound(tmp_path / f"{n}.flac", at=n / 10), split=split, labels=Labels(audio=n % 2))
        for n, split in enumerate(["train", "train", "dev", "test", "train"])
    ]
    rows += [row("broken", audio=str(tmp_path / "broken.flac")), row("missing", audio=str(tmp_path / "missing.flac"))]
    avfake.manifest.write(rows, tmp_path / "m.jsonl")
    return str(tmp_path / "m.jsonl")


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a talking face: as it is, at half the size, and alone without sound."""
    try:
        load_backend("facemesh")
    except FaceError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("talking")
    ticks = list(Decoder(DEMO))[25:75]
    pictures = [tick.frame.sample(np.eye(2, 3), (tick.frame.width, tick.frame.height)) for tick in ticks if tick.frame]
    voice = np.concatenate([tick.audio for tick in ticks if tick.audio is not None])

    def video(step: int) -> Video:
        return Video(steady(25, 2.0), lambda time: np.ascontiguousarray(pictures[round(time * 25)][::step, ::step]))

    write(folder / "whole.mp4", video(1), Audio(voice, rate=16_000))
    write(folder / "half.mp4", video(2), Audio(voice, rate=16_000))
    write(folder / "silent.mp4", video(1))
    return folder


def contents(folder: str | Path) -> dict[str, str]:
    """The hash of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


# ------------------------------------------------------------------------------------------- shards


def test_shards_hold_the_clips_of_every_row(sounds: str, tmp_path: Path) -> None:
    out = str(tmp_path / "shards")
    summary = prepare(sounds, out)
    assert (summary.rows, summary.clips, summary.failed) == (7, 5, 2)
    assert summary.duration_s == summary.kept_s == pytest.approx(5.0)
    folder = ShardFolder(out)
    assert [shard.split for shard in folder.shards] == ["dev", "test", "train"]
    samples = {sample.row.id: sample for sample in folder.samples("train", "dev", "test")}
    assert sorted(samples) == ["s0", "s1", "s2", "s3", "s4"]
    for name, sample in samples.items():
        (clip,) = extract(Decoder(str(sample.row.audio)), None)
        assert sample.clip.audio is not None
        np.testing.assert_array_equal(sample.clip.audio, clip.audio)
        assert sample.row.labels == Labels(audio=int(name[1]) % 2)
    assert {sample.row.id for sample in folder.samples("dev")} == {"s2"}
    failures = [json.loads(line) for line in (tmp_path / "shards" / "failures.jsonl").read_text().splitlines()]
    assert {failure["id"] for failure in failures} == {"broken", "missing"}
    for failure in failures:
        assert failure["files"][0] in failure["reason"]


def test_other_readers_of_webdataset_read_them(sounds: str, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    prepare(sounds, str(tmp_path / "shards"))
    (shard,) = (tmp_path / "shards").glob("train-*.tar")
    found = list(webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False))
    assert len(found) == 3
    for one in found:
        document = json.loads(one["json"])
        assert document["row"]["corpus"] == "toy"
        (tmp_path / "clip.mkv").write_bytes(one["mkv"])
        with av.open(str(tmp_path / "clip.mkv")) as container:
            assert container.streams.audio[0].codec_context.sample_rate == 16_000


def test_the_clip_of_a_shard_is_that_of_detection(talking: Path, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"labels": Labels(0, 0, 0), "segments": Segments()}
    rows = [
        row("whole", video=str(talking / "whole.mp4"), **facts),
        row("silent", video=str(talking / "silent.mp4"), **facts),
        row("joined", video=str(talking / "silent.mp4"), audio=sound(tmp_path / "s.flac", 2.0, 1.0), **facts),
        row("sound", video=sound(tmp_path / "t.flac"), **facts),
        row("faceless", video=str(faceless(tmp_path)), **facts),
    ]
    avfake.manifest.write(rows, tmp_path / "m.jsonl")
    summary = prepare(str(tmp_path / "m.jsonl"), str(tmp_path / "shards"))
    samples = {sample.row.id: sample for sample in ShardFolder(str(tmp_path / "shards")).samples("train")}
    clips = extract(Decoder(talking / "whole.mp4"), load_backend("facemesh"))
    (clip,) = (clip for clip in clips if clip.lips is not None)
    whole = samples["whole"].clip
    assert whole.lips is not None
    assert clip.lips is not None
    assert np.abs(whole.lips.astype(int) - clip.lips).mean() < 1.5  # JPEG
    np.testing.assert_array_equal(whole.audio, clip.audio)
    np.testing.assert_allclose(whole.mouth, clip.mouth, atol=0.006)
    assert samples["silent"].row.labels == Labels(visual=0)
    assert samples["silent"].clip.audio is None
    joined = samples["joined"]
    assert joined.row.labels == Labels(0, 0, 0)
    assert joined.clip.audio is not None
    assert np.abs(joined.clip.audio).argmax() / 16_000 == pytest.approx(1.025, abs=0.03)
    reasons = {line["id"]: line["reason"] for line in failures(tmp_path / "shards")}
    assert "no picture" in reasons["sound"]
    assert "no face was found" in reasons["faceless"]
    assert (summary.rows, summary.failed, summary.lost_s) == (5, 2, 0.0)


def faceless(folder: Path) -> Path:
    return write(folder / "faceless.mp4", Video(steady(25, 0.6), lambda time: gradient((96, 64))))


def failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


def test_a_fake_may_have_the_faces_of_its_original(talking: Path, tmp_path: Path) -> None:
    wide = Video(steady(25, 2.0), lambda time: gradient((96, 64)))
    write(tmp_path / "wide.mp4", wide)
    rows = [
        row("real", video=str(talking / "whole.mp4"), labels=Labels(visual=0)),
        row("half", video=str(talking / "half.mp4"), labels=Labels(visual=1), original="real"),
        row("orphan", video=str(talking / "half.mp4"), labels=Labels(visual=1), original="nobody"),
        row("wide", video=str(tmp_path / "wide.mp4"), labels=Labels(visual=1), original="real"),
        row("elsewhere", video=str(talking / "half.mp4"), split="dev", original="real"),
    ]
    avfake.manifest.write(rows, tmp_path / "m.jsonl")
    summary = prepare(str(tmp_path / "m.jsonl"), str(tmp_path / "own"))
    assert summary.faces_of_original == 0
    summary = prepare(str(tmp_path / "m.jsonl"), str(tmp_path / "lent"), faces_of_original=True)
    assert summary.faces_of_original == 2
    own, lent = (
        {s.row.id: s.clip for s in ShardFolder(str(tmp_path / name)).samples("train", "dev")}
        for name in ("own", "lent")
    )
    assert own.keys() == lent.keys() == {"real", "half", "orphan", "elsewhere"}
    for name in ("real", "orphan"):
        np.testing.assert_array_equal(own[name].lips, lent[name].lips)
    # The crops of the half-size picture lie where those of the whole one do, closer than its own search puts them.
    real, half = lent["real"].mouth, lent["half"].mouth
    np.testing.assert_allclose(half, real, atol=0.05)
    np.testing.assert_array_equal(lent["half"].lips, lent["elsewhere"].lips)
    assert np.abs(own["half"].mouth - own["real"].mouth).max() > 0.05
    assert np.abs(lent["half"].lips.astype(int) - lent["real"].lips).mean() < 12


def test_faces_are_lent_only_where_there_are_some_and_they_fit(talking: Path) -> None:
    decoder = Decoder(talking / "whole.mp4")
    record = FaceRecord(decoder.info)
    assert not record.fits(decoder.info)
    for _ in record.follow(decoder, load_backend("facemesh")):
        pass
    assert record.fits(decoder.info)
    assert not record.fits(replace(decoder.info, duration_s=None))
    assert not record.fits(replace(decoder.info, duration_s=1.0))


# ------------------------------------------------------------------------------------------- going on


def test_a_second_run_finds_everything(sounds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "shards"
    first = prepare(sounds, str(out))
    before = contents(out)
    (out / ".train-000000-x.tar.77.part").write_text("what a killed run left")
    monkeypatch.setattr("avfake.prepare.worker.extract", lambda *_, **__: pytest.fail("prepared again"))
    made: list[int] = []
    assert prepare(sounds, str(out), progress=lambda done: made.append(done.made)) == first
    assert made == [0, 0, 0]
    assert contents(out) == before


def test_only_what_changed_is_made_again(sounds: str, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    prepare(sounds, str(out))
    made: list[int] = []

    def again() -> int:
        made.clear()
        prepare(sounds, str(out), progress=lambda done: made.append(done.made))
        return sum(made)

    stat = os.stat(tmp_path / "0.flac")
    os.utime(tmp_path / "0.flac", ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert again() == 0  # another time, the same content
    sound(tmp_path / "1.flac", at=0.7)
    sound(tmp_path / "missing.flac")
    assert again() == 2
    assert not any(line["id"] == "missing" for line in failures(out))
    rows = list(avfake.manifest.read(sounds))
    changed = [replace(rows[0], labels=Labels(audio=1)), *rows[1:], row("new", audio=sound(tmp_path / "new.flac"))]
    avfake.manifest.write(changed, sounds)
    assert again() == 2
    samples = {sample.row.id: sample for sample in ShardFolder(str(out)).samples("train")}
    assert samples["s0"].row.labels.audio == 1
    assert sorted(samples) == ["missing", "new", "s0", "s1", "s4"]
    fresh = tmp_path / "fresh"
    prepare(sounds, str(fresh))
    assert contents(fresh) == contents(out)  # and nothing of the older plan is left
    for index in out.glob("*-*.json"):
        index.write_text("{" if index.name.startswith("train") else '{"schema": "avfake-shard-1"}')
    assert again() == 8
    assert contents(fresh) == contents(out)


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avfake.prepare.plan.VIDEOS_PER_SHARD", 1)
    count = 4 * SOUNDS_PER_VIDEO
    rows = [row(f"s{n}", audio=sound(tmp_path / f"{n}.flac", 0.4), labels=Labels(audio=n % 2)) for n in range(count)]
    manifest = str(tmp_path / "m.jsonl")
    avfake.manifest.write(rows, manifest)
    prepare(manifest, str(tmp_path / "whole"))
    assert len(list((tmp_path / "whole").glob("*.tar"))) == 4
    code = (
        "import sys, avfake.prepare.plan as p, avfake.prepare.worker as w, time\n"
        "p.VIDEOS_PER_SHARD = 1\n"
        "make = w.Worker._make\n"
        "w.Worker._make = lambda *args: (time.sleep(0.01), make(*args))[1]\n"
        "from avfake.prepare import prepare\n"
        "prepare(sys.argv[1], sys.argv[2])\n"
    )
    out = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for shards in (0, 1, 3):
        process = subprocess.Popen([sys.executable, "-c", code, manifest, str(out)], env=environment)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            parts, whole = list(out.glob(".*.part")), list(out.glob("*.json"))
            if parts and len(whole) >= shards:
                break
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "prepared.json").exists()
        with pytest.raises(ShardError, match="finish them, with avfake prepare"):
            ShardFolder(str(out))
    made: list[int] = []
    prepare(manifest, str(out), progress=lambda done: made.append(done.made))
    assert sum(made) < count
    assert contents(out) == contents(tmp_path / "whole")


def test_killed_between_a_tar_and_its_index(sounds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "shards"
    prepare(sounds, str(out))
    sound(tmp_path / "1.flac", at=0.7)  # the tar keeps its size, for tars are padded

    def killed(address: str, data: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("avfake.prepare.worker.write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(sounds, str(out))
    with pytest.raises(ShardError):
        ShardFolder(str(out))
    # The manifest changes before it goes on: the tar without an index is nobody's, and is cleared away.
    rows = [one for one in avfake.manifest.read(sounds) if one.id != "s0"]
    avfake.manifest.write(rows, sounds)
    prepare(sounds, str(out))
    prepare(sounds, str(tmp_path / "fresh"))
    assert contents(out) == contents(tmp_path / "fresh")
    assert len(list(ShardFolder(str(out)).samples("train", "dev", "test"))) == 4


def test_media_that_are_away_for_a_while_lose_nothing(
    sounds: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "shards"
    prepare(sounds, str(out))
    before = contents(out)
    (tmp_path / "1.flac").rename(tmp_path / "away.flac")
    with caplog.at_level(logging.WARNING):
        prepare(sounds, str(out))
    assert contents(out) == before
    assert "1.flac is not there now; the clips that were made of it are kept" in caplog.text
    (tmp_path / "1.flac").mkdir()
    prepare(sounds, str(out))
    assert contents(out) == before


def test_relative_paths_hold_in_every_directory(sounds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(one, audio=Path(str(one.audio)).name) for one in avfake.manifest.read(sounds)]
    avfake.manifest.write(rows, sounds)
    monkeypatch.chdir(tmp_path)
    prepare("m.jsonl", "shards")
    (tmp_path / "elsewhere").mkdir()
    sample = next(ShardFolder(str(tmp_path / "shards")).samples("dev"))
    assert sample.row.audio == str(tmp_path / "2.flac")


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_every_engine_makes_the_same_bytes(engine: Any, sounds: str, talking: Path, tmp_path: Path) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    rows = list(avfake.manifest.read(sounds))
    avfake.manifest.write([*rows, row("talking", video=str(talking / "whole.mp4"))], sounds)
    alone = prepare(sounds, str(tmp_path / "alone"))
    assert prepare(sounds, str(tmp_path / "many"), engine=engine, workers=2) == alone
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")


def test_addresses_of_a_store(sounds: str, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    rows = []
    for old in avfake.manifest.read(sounds):
        if Path(str(old.audio)).exists():
            store.pipe_file(f"/corpus/{old.id}.flac", Path(str(old.audio)).read_bytes())
        rows.append(replace(old, audio=f"memory://corpus/{old.id}.flac"))
    avfake.manifest.write(rows, "memory://corpus/m.jsonl")
    summary = prepare("memory://corpus/m.jsonl", "memory://shards")
    assert summary == replace(prepare(sounds, str(tmp_path / "local")), bytes=summary.bytes)
    near, far = (
        {sample.row.id: sample.clip for sample in ShardFolder(folder).samples("train", "dev", "test")}
        for folder in (str(tmp_path / "local"), "memory://shards")
    )
    assert near.keys() == far.keys()
    for name in near:
        np.testing.assert_array_equal(near[name].audio, far[name].audio)
        assert far[name].source["path"] == f"memory://corpus/{name}.flac"
    failed = [json.loads(line) for line in store.cat_file("/shards/failures.jsonl").splitlines()]
    assert sorted(failure["id"] for failure in failed) == ["broken", "missing"]
    assert all(f"memory://corpus/{failure['id']}.flac" in failure["reason"] for failure in failed)
    before = store.cat(store.find("/shards"))
    made: list[int] = []
    prepare("memory://corpus/m.jsonl", "memory://shards", progress=lambda done: made.append(done.made))
    assert sum(made) == 1  # whether a store answers may change: the missing file is asked for again
    assert store.cat(store.find("/shards")) == before


def test_what_cannot_go_on_is_said(sounds: str, tmp_path: Path) -> None:
    prepare(sounds, str(tmp_path / "shards"))
    other = tmp_path / "other.jsonl"
    avfake.manifest.write([row("x", audio="x.flac")], other)
    with pytest.raises(PrepareError, match=r"holds the shards of .*m\.jsonl, not of .*other\.jsonl"):
        prepare(str(other), str(tmp_path / "shards"))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(PrepareError, match="holds no rows"):
        prepare(str(tmp_path / "empty.jsonl"), str(tmp_path / "none"))
    (tmp_path / "shards" / "package.json").write_text("{}")  # what is not ours is nobody's business
    prepare(sounds, str(tmp_path / "shards"))
    assert (tmp_path / "shards" / "package.json").exists()
    with pytest.raises(StorageError, match="cannot be written"):
        prepare(sounds, "/dev/null/shards")


# ------------------------------------------------------------------------------------------- the plan

names = st.integers(0, 400).map(lambda n: f"r{n}")
plain = st.builds(
    row,
    names,
    video=st.sampled_from([None, "v.mp4"]),
    audio=st.just("a.wav"),
    split=st.sampled_from(["train", "dev", "test"]),
    original=st.none() | names,
)


@given(st.lists(plain, unique_by=lambda one: one.id, max_size=300))
def test_the_plan_holds_every_row_once_and_does_not_depend_on_their_order(rows: list[Row]) -> None:
    jobs = plan(rows, "out", "m.jsonl", SETTINGS)
    planned = [one for job in jobs for one in job.rows]
    assert sorted(planned, key=lambda one: one.id) == sorted(rows, key=lambda one: one.id)
    assert plan(rows[::-1], "out", "m.jsonl", SETTINGS) == jobs
    assert len({job.name for job in jobs}) == len(jobs)
    for job in jobs:
        assert {one.split for one in job.rows} == {job.name.split("-")[0]}
        cost = sum(SOUNDS_PER_VIDEO if one.video else 1 for one in job.rows)
        assert 0 < cost <= VIDEOS_PER_SHARD * SOUNDS_PER_VIDEO


# ------------------------------------------------------------------------------------------- rows and samples

times = st.floats(0, 20).map(lambda time: round(time, 3))
pieces = st.lists(st.tuples(times, st.floats(0.1, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=3)


@given(pieces.map(tuple), st.integers(0, 300), st.integers(1, 200))
@example(((3.3, 8.3),), 36, 172)  # 8.3 s is the middle of a frame, and 8.3 - 1.44 a little more than 6.86
def test_a_segment_that_is_cut_stays_where_it_belongs(
    segments: tuple[tuple[float, float], ...], start: int, length: int
) -> None:
    whole = row("a", audio="a.wav", labels=Labels(visual=1, audio=1), segments=Segments(audio=segments))
    cut = whole.cut(start / FPS, (start + length) / FPS)
    assert cut.labels.visual == 1
    for a, b in cut.segments.audio:
        assert 0 <= a < b <= length / FPS + 1e-9
    frames = np.arange(500)
    clip = _clip(500)
    labels = Sample(whole, clip).frame_labels("audio")
    micro = [(round(a * 1e6), round(b * 1e6)) for a, b in segments]
    expected = [any(a <= round((t + 0.5) / FPS * 1e6) < b for a, b in micro) if segments else True for t in frames]
    np.testing.assert_array_equal(labels, np.array(expected, np.float32))
    piece = Sample(whole, clip).cut(start, start + length)
    np.testing.assert_array_equal(piece.frame_labels("audio"), labels[start : start + length])
    assert piece.clip.start_s == start / FPS
    assert piece.row.labels.audio == (1 if not segments or piece.row.segments.audio else 0)
    with pytest.raises(ValueError, match="do not lie in a clip"):
        piece.cut(0, length + 1)


def _clip(frames: int) -> Any:
    from avfake.clips import Clip

    return Clip(None, np.zeros(frames * SAMPLES_PER_FRAME, np.float32), None, np.zeros(frames, bool))


# ------------------------------------------------------------------------------------------- engines


class Square:
    """Makes squares; dies on 13, raises on 14, and dies once, the first time it sees it, on a path."""

    def __call__(self) -> Callable[[Any], Any]:
        return self.square

    def square(self, item: Any) -> Any:
        if item == 13:
            os._exit(3)
        if item == 14:
            raise StorageError("fourteen: it is not liked; give another number.")
        if isinstance(item, str):
            try:
                os.close(os.open(item, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return "second time"
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_worker_that_dies_costs_its_item_alone(engine: Any, tmp_path: Path) -> None:
    if engine == "ray":
        ray = pytest.importorskip("ray")
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its workers cannot import this module
    once = str(tmp_path / "once")
    results = dict(run(Square(), [1, 13, 2, once, 3], engine=engine, workers=2))
    died = results.pop(13)
    assert isinstance(died, Died)
    assert "ended" in died.reason
    assert results == {1: 1, 2: 4, 3: 9, once: "second time"}
    with pytest.raises(StorageError, match="fourteen"):
        list(run(Square(), [1, 14], engine=engine, workers=2))
    assert list(run(Square(), [], engine=engine, workers=2)) == []


def test_engines_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'avfake\[ray\]'"):
        list(run(Square(), [1], engine="ray"))
    assert list(run(Square(), [3])) == [(3, 9)]


def test_a_row_that_kills_its_worker_becomes_a_failure(
    sounds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker processes import this module's package afresh, so what kills them must come from outside: a preload.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def trap(event, args):\n"
        "    if event == 'open' and str(args[0]).endswith('/1.flac') and os.environ.get('DEADLY') == '1':\n"
        "        import multiprocessing\n"
        "        if multiprocessing.parent_process() is not None and 'avfake.media' in sys.modules: os._exit(9)\n"
        "sys.addaudithook(trap)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("DEADLY", "1")
    out = tmp_path / "shards"
    summary = prepare(sounds, str(out), workers=2)
    assert summary.failed == 3
    (failure,) = (line for line in failures(out) if line["id"] == "s1")
    assert "no worker survives it" in failure["reason"]
    monkeypatch.setenv("DEADLY", "0")
    assert prepare(sounds, str(out), workers=2).failed == 2


# ------------------------------------------------------------------------------------------- storage


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_file_appears_whole_or_not_at_all(kind: str, tmp_path: Path) -> None:
    folder = str(tmp_path) if kind == "local" else "memory://whole"
    address = f"{folder}/a.bin"
    write_bytes(address, b"old")
    with pytest.raises(RuntimeError), whole_file(address) as file:  # noqa: PT012  # the file is what is tested
        file.write(b"new")
        raise RuntimeError
    assert read_bytes(address) == b"old"
    assert listing(folder, "") == ["a.bin"]
    with whole_file(address) as file:
        file.write(b"new one")
    assert read_bytes(address, 4, 7) == b"one"
    found = stamp(address)
    assert found is not None
    assert found[0] == 7
    assert stamp(f"{folder}/b.bin") is None
    with local_copy(address) as path:
        assert Path(path).read_bytes() == b"new one"
    assert Path(path).exists() == (kind == "local")
    with pytest.raises(StorageError, match=r"b\.bin"):
        read_bytes(f"{folder}/b.bin")


def test_a_store_that_is_not_known_is_said() -> None:
    with pytest.raises(StorageError, match="nonsense"):
        read_bytes("nonsense://bucket/a")


# ------------------------------------------------------------------------------------------- the command line


def test_the_command_line_from_folder_to_shards(sounds: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from typer.testing import CliRunner

    from avfake.cli import app

    def run(*args: str) -> Any:
        return CliRunner().invoke(app, list(args), env={"COLUMNS": "200"})

    for name in ("real", "fake"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        sound(tmp_path / "mine" / name / f"{name}.flac")
    manifest, out = str(tmp_path / "mine.jsonl"), str(tmp_path / "shards")
    listed = run("manifest", "folder", str(tmp_path / "mine"), "-o", manifest)
    assert listed.exit_code == 0, listed.stderr
    assert "2 clips" in listed.stdout
    caplog.set_level(logging.WARNING)
    first = run("prepare", manifest, "-o", out, "--workers", "0")
    assert first.exit_code == 0, first.stderr
    assert "2 clips, 0.00 h" in first.stdout
    assert "x real time" in first.stdout
    again = run("prepare", manifest, "-o", out, "--workers", "0")
    assert "everything was there already" in again.stdout
    sound(tmp_path / "mine" / "real" / "real.flac", at=0.5)
    part = run("prepare", manifest, "-o", out, "--workers", "0")
    assert "made 1 rows" in part.stdout
    failed = run("prepare", sounds, "-o", str(tmp_path / "more"), "--workers", "0")
    assert failed.exit_code == 0
    assert "2 rows gave no clip" in failed.stdout
    wrong = run("prepare", sounds, "-o", out, "--workers", "0")
    assert wrong.exit_code == 1
    assert wrong.stderr.count("\n") == 1
    unknown = run("manifest", "nothing", str(tmp_path), "-o", manifest)
    assert unknown.exit_code == 1
    assert "ff++" in unknown.stderr


def test_summaries_add_up() -> None:
    total = Summary()
    for _ in range(10):
        total.add(Summary(rows=1, duration_s=0.1))
    assert total == Summary(rows=10, duration_s=1.0)


@pytest.fixture(autouse=True)
def _clean_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
