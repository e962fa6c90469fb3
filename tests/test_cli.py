from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec
import jsonschema
import numpy as np
import pytest
import torch
from rich.console import Console
from synth import Audio, Video, beeps, gradient, steady, write
from tiny import TINY
from typer.testing import CliRunner

from avfake import __version__
from avfake.cli import BATCH_SCHEMA, ERROR_SCHEMA, _shown, app
from avfake.config import TrainConfig
from avfake.demo import delay_voice
from avfake.detect import Detector
from avfake.faces import FaceError
from avfake.judging import Detection
from avfake.media import Decoder
from avfake.models import AVFakeModel, Calibration, CheckpointConfig, save_checkpoint
from avfake.runtimes import load_runtime
from avfake.training import TrainingError

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs" / "detection.schema.json").read_text(encoding="utf-8"))

runner = CliRunner()


@pytest.fixture(scope="session")
def loaded() -> Detector:
    return Detector.from_pretrained("mini", threads=1)


@pytest.fixture
def detector(loaded: Detector, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """The detector that every command gets, loaded once and with the face models at hand."""
    try:
        assert loaded.backend
    except FaceError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(Detector, "from_pretrained", lambda *_, **__: loaded)
    return loaded


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small files: good ones, odd ones, broken ones."""
    folder = tmp_path_factory.mktemp("media")
    picture = gradient((96, 64))
    video = Video(steady(25, 1.0), lambda time: picture)
    sound = Audio(beeps(1.0, 48_000, [0.2, 0.6]))
    write(folder / "faceless.mp4", video, sound)
    write(folder / "silent.mp4", video)
    write(folder / "quiet.mp4", video, Audio(np.zeros(48_000, np.float32)))
    write(folder / "sound.m4a", audio=sound)
    whole = (folder / "faceless.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("This is not a film.\n")
    (folder / "empty.mp4").touch()
    (folder / "hollow").mkdir()
    return folder


def run(*args: str | Path | int) -> Any:
    return runner.invoke(app, [str(arg) for arg in args])


def valid(entry: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator(SCHEMA).validate(entry)
    return entry


# ------------------------------------------------------------------------------------------- judging


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("faceless.mp4", ["no_face", "no_speech"]),
        ("silent.mp4", ["no_audio", "no_face"]),
        ("quiet.mp4", ["no_face", "no_speech"]),
        ("sound.m4a", ["no_face", "no_speech"]),
    ],
)
@pytest.mark.usefixtures("detector")
def test_what_cannot_be_judged_is_said_and_is_no_failure(media: Path, name: str, reasons: list[str]) -> None:
    result = run("detect", media / name, "--json")
    assert result.exit_code == 0, result.stderr
    entry = valid(json.loads(result.stdout))
    assert entry["verdict"] == {"label": "not_judged", "p_fake": None, "sure": None, "because": reasons}
    assert entry["file"] == str(media / name)
    report = run("detect", media / name)
    assert report.exit_code == 0
    assert "NOT JUDGED: " in report.stdout


@pytest.mark.usefixtures("detector")
def test_the_demo_clip_is_judged_like_any_other(tmp_path: Path) -> None:
    clip = ROOT / "avfake" / "data" / "demo.mp4"
    result = run("detect", clip, "--out", tmp_path / "o.jsonl")
    assert result.exit_code == 0, result.stderr
    assert "Face 0" in result.stdout
    assert "evidence, not proof" in result.stdout
    entry = valid(json.loads((tmp_path / "o.jsonl").read_text()))
    assert entry["verdict"]["label"] == "fake"
    assert len(entry["tracks"]) == 1
    assert entry["speech"]


@pytest.mark.parametrize("name", ["text.mp4", "truncated.mp4", "empty.mp4", "missing.mp4", "hollow"])
@pytest.mark.usefixtures("detector")
def test_a_bad_file_fails_in_one_sentence_that_names_it(media: Path, name: str) -> None:
    result = run("detect", media / name)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"avfake: {media / name}: ")
    document = json.loads(run("detect", media / name, "--json").stdout)
    assert document == {"schema": ERROR_SCHEMA, "file": str(media / name), "error": result.stderr.strip()[8:]}


@pytest.mark.usefixtures("detector")
def test_a_bad_file_does_not_stop_the_others(media: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text('{"schema": "avfake-error-1", "file": "older.mp4"}\n')
    result = run("detect", media / "text.mp4", media / "sound.m4a", "--json", "--out", out)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["schema"] == BATCH_SCHEMA
    assert valid(document["detections"][0])["file"] == str(media / "sound.m4a")
    assert [error["file"] for error in document["errors"]] == [str(media / "text.mp4")]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[1:] == [*document["errors"], *document["detections"]]


def test_a_fault_of_our_own_is_shown_in_full_and_does_not_stop_the_others(
    detector: Detector, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = detector.detect

    def faulty(path: str, **options: Any) -> Detection:
        if Path(path).name == "silent.mp4":
            raise IndexError("a bug")
        return judge(path, **options)

    monkeypatch.setattr(detector, "detect", faulty)
    result = run("detect", media / "silent.mp4", media / "sound.m4a", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert len(document["detections"]) == 1
    assert "avfake itself failed (IndexError: a bug)" in document["errors"][0]["error"]
    assert "Traceback" in result.stderr


def test_a_stopped_run_keeps_its_lines(
    detector: Detector, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = detector.detect

    def stopped(path: str, **options: Any) -> Detection:
        if Path(path).name == "silent.mp4":
            raise KeyboardInterrupt
        return judge(path, **options)

    monkeypatch.setattr(detector, "detect", stopped)
    out = tmp_path / "o.jsonl"
    result = run("detect", media / "sound.m4a", media / "silent.mp4", "--json", "--out", out)
    assert result.exit_code == 130
    assert (result.stdout, result.stderr) == ("", "")
    assert valid(json.loads(out.read_text()))["file"] == str(media / "sound.m4a")


def test_long_input_has_a_progress_bar_on_a_terminal(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for long_s, has_bar in ((0.5, True), (60.0, False)):
        monkeypatch.setattr("avfake.cli.LONG_S", long_s)
        screen = io.StringIO()
        with _shown(
            Console(file=screen, force_terminal=True, width=80), str(media / "silent.mp4"), "long 1/2.mp4"
        ) as told:
            told(0.5)
        assert ("50%" in screen.getvalue()) is has_bar
        assert "long 1/2.mp4" in screen.getvalue()
    quiet = io.StringIO()
    with _shown(Console(file=quiet), str(media / "silent.mp4"), "long 1/2.mp4") as told:
        told(0.5)
    assert quiet.getvalue() == ""


@pytest.mark.usefixtures("detector")
def test_a_folder_is_searched_and_a_list_is_gone_on_with(
    detector: Detector, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "o.jsonl"
    (archive / "deep").mkdir(parents=True)
    (archive / "notes.txt").write_text("no media")
    shutil.copy(media / "sound.m4a", archive / "deep" / "a.m4a")
    shutil.copy(media / "silent.mp4", archive / "b.mp4")
    names = [str(archive / "b.mp4"), str(archive / "deep" / "a.m4a")]
    judged: list[str] = []
    judge = detector.detect

    def counted(path: str, **options: Any) -> Detection:
        judged.append(path)
        return judge(path, **options)

    monkeypatch.setattr(detector, "detect", counted)
    first = run("detect", archive, "--json", "--out", out)
    assert judged == names
    lines = out.read_text().splitlines(keepends=True)
    # A killed run: the second line is torn.
    out.write_text(lines[0] + lines[1][:40])
    again = run("detect", archive, "--json", "--out", out)
    assert judged == [*names, names[1]]
    assert again.stdout == first.stdout
    assert again.stderr == f"avfake: 1 of 2 files were in {out} already\n"
    assert out.read_text() == "".join(lines)
    # Another content, another model: both are judged again, and each file keeps one line.
    shutil.copy(media / "quiet.mp4", archive / "b.mp4")
    assert run("detect", archive, "--out", out).exit_code == 0
    assert judged[3:] == names[:1]
    monkeypatch.setattr(detector, "fingerprint", "0" * 32)
    assert run("detect", archive, "--out", out).exit_code == 0
    assert judged[4:] == names
    assert [json.loads(line)["file"] for line in out.read_text().splitlines()] == names
    assert run("detect", tmp_path / "archive" / "deep" / "..", "--out", out).exit_code == 0


@pytest.mark.usefixtures("detector")
def test_a_list_loses_nothing(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "o.jsonl"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(media / ("sound.m4a" if name == "one" else "quiet.mp4"), tmp_path / name / "x.mp4")
        monkeypatch.chdir(tmp_path / name)
        assert run("detect", "x.mp4", "--out", out).exit_code == 0
    out.chmod(0o640)
    older = '{"schema": "avfake-error-1", "file": "/gone/older.mp4"}\n{"schema": "somebody-else-1"}\n'
    out.write_text(out.read_text() + older + older[:20])
    with out.open("ab") as file:
        file.write(b"\xff\xfe half a line")
    assert run("detect", tmp_path / "two" / "x.mp4", "--out", out).stderr.count("already") == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line.get("file") for line in lines] == [
        str(tmp_path / "one" / "x.mp4"),
        str(tmp_path / "two" / "x.mp4"),
        "/gone/older.mp4",
        None,
    ]
    assert out.stat().st_mode & 0o777 == 0o640
    with out.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = run("detect", media / "sound.m4a", "--out", out)
    assert second.exit_code == 2
    assert "is being written by another" in " ".join(second.stderr.replace("│", " ").split())


def test_a_store_that_fails_keeps_the_list_here(
    detector: Detector, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("the store is full")

    monkeypatch.setattr(type(store), "put_file", full)
    result = run("detect", media / "sound.m4a", "--json", "--out", "memory://results/full.jsonl")
    assert result.exit_code == 1
    assert valid(json.loads(result.stdout))
    kept = re.search(r"the whole list is kept in (\S+)\.$", result.stderr.strip())
    assert kept is not None
    assert valid(json.loads(Path(kept[1]).read_text()))
    Path(kept[1]).unlink()


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_workers_give_the_same_answers(media: Path, tmp_path: Path, engine: str, detector: Detector) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    names = [str(media / name) for name in ("sound.m4a", "faceless.mp4", "text.mp4")]
    alone = run("detect", *names, "--json")
    out = tmp_path / "o.jsonl"
    many = run("detect", *names, "--json", "--out", out, "--engine", engine, "--workers", 2)
    assert many.exit_code == alone.exit_code == 1
    assert many.stdout == alone.stdout
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(entry["file"] for entry in entries) == sorted(names)
    out.write_text("".join(json.dumps(entry) + "\n" for entry in entries if "sha256" in entry))
    again = run("detect", *names, "--json", "--out", out)
    assert again.stdout == alone.stdout
    assert "2 of 3 files were in" in again.stderr


def test_results_at_an_address(media: Path, detector: Detector) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/archive/a.m4a", (media / "sound.m4a").read_bytes())
    store.pipe_file("/archive/text.mp4", b"This is not a film.")
    first = run("detect", "memory://archive", "--json", "--out", "memory://results/o.jsonl")
    assert first.exit_code == 1
    document = json.loads(first.stdout)
    assert valid(document["detections"][0])["file"] == "memory:///archive/a.m4a"
    assert document["errors"][0]["error"].startswith("memory:///archive/text.mp4: ")
    lines = store.cat_file("/results/o.jsonl").decode().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["memory:///archive/a.m4a", "memory:///archive/text.mp4"]
    again = run("detect", "memory://archive", "--json", "--out", "memory://results/o.jsonl")
    assert "1 of 2 files were in memory://results/o.jsonl already" in again.stderr
    assert run("detect", "nonsense://x/a.mp4").exit_code == 1


# ------------------------------------------------------------------------------------------- wrong usage


@pytest.mark.usefixtures("detector")
def test_out_never_overwrites_what_is_not_a_list(media: Path, tmp_path: Path) -> None:
    sound = media / "sound.m4a"
    before = sound.read_bytes()
    foreign = tmp_path / "package.json"
    foreign.write_text('{"name": "foreign"}\n')
    for out in (sound, media / "text.mp4", foreign, tmp_path, tmp_path / "no" / "folder.jsonl"):
        result = run("detect", sound, "--out", out)
        assert result.exit_code == 2, out
        assert "--out" in result.stderr
    assert sound.read_bytes() == before
    assert (media / "text.mp4").read_text() == "This is not a film.\n"


def test_out_that_cannot_be_used_is_said_before_the_model_loads(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "link.m4a").symlink_to(media / "sound.m4a")
    outs = [tmp_path / "loop.jsonl", tmp_path / ("n" * 300), tmp_path / "no" / "folder.jsonl", tmp_path / "link.m4a"]
    for out in outs:
        result = run("detect", media / "sound.m4a", "--out", out)
        assert result.exit_code == 2, out
        assert "--out" in result.stderr


def test_a_model_that_does_not_load_leaves_the_older_list(media: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text('{"schema": "avfake-error-1", "file": "older.mp4"}\n')
    result = run("detect", media / "sound.m4a", "--model", "", "--out", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("avfake: there is no model named ''")
    assert out.read_text() == '{"schema": "avfake-error-1", "file": "older.mp4"}\n'


@pytest.mark.usefixtures("detector")
def test_a_full_disk_is_said_in_one_sentence(media: Path) -> None:
    result = run("detect", media / "sound.m4a", "--out", "/dev/full")
    assert result.exit_code == 1
    assert result.stderr.startswith("avfake: /dev/full: it cannot be written (No space left")
    assert result.stderr.count("\n") == 1


def test_names_with_control_characters_are_shown_cleaned(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a\nb\x1b[31m.mp4"
    missing = run("detect", path)
    assert missing.stderr.startswith(f"avfake: {tmp_path}/a?b?[31m.mp4: ")
    assert missing.stderr.count("\n") == 1

    def faulty(*_: Any, **__: Any) -> Detection:
        raise IndexError("two\nlines")

    monkeypatch.setattr(detector, "detect", faulty)
    error = json.loads(run("detect", tmp_path / "b.mp4", "--json").stdout)["error"]
    assert "(IndexError: two lines)" in error


def test_wrong_usage(media: Path) -> None:
    assert run("detect").exit_code == 2
    assert run("detect", "a.mp4", "--faces", "none").exit_code == 2
    assert run("detect", "a.mp4", "--threads", "0").exit_code == 2
    nowhere = run("detect", media / "sound.m4a", "--device", "nowhere")
    assert nowhere.exit_code == 2
    assert "nowhere cannot be used here" in nowhere.stderr


def test_an_unknown_model_is_named(media: Path) -> None:
    result = run("detect", media / "sound.m4a", "--model", "maxi")
    assert result.exit_code == 1
    assert result.stderr.startswith("avfake: ")
    assert "maxi" in result.stderr


# ------------------------------------------------------------------------------------------- the rest


def test_version_and_models() -> None:
    assert run("--version").stdout == f"avfake {__version__}\n"
    result = run("models")
    assert result.exit_code == 0
    assert result.stdout.startswith("mini  ")
    assert "trained on" in result.stdout


def test_the_demo_runs(detector: Detector) -> None:
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    assert "1. As it is" in result.stdout
    assert "2. Its voice delayed by 320 ms" in result.stdout
    assert "What this shows" in result.stdout
    words = " ".join(result.stdout.split())
    assert re.search(r"The difference is \+(280|320|360) ms; \+320 ms was put in: found\.", words), words


def test_the_voice_of_the_demo_is_delayed_exactly(tmp_path: Path) -> None:
    clip = ROOT / "avfake" / "data" / "demo.mp4"
    late = delay_voice(clip, tmp_path / "late.mp4", 320)

    def sound(path: Path) -> np.ndarray:
        return np.concatenate([tick.audio for tick in Decoder(path) if tick.audio is not None])

    first, second = (np.fft.rfft(sound(path), 1 << 18) for path in (clip, late))
    shift = int(np.fft.irfft(second * first.conj()).argmax())
    assert shift / 16 == pytest.approx(320, abs=1)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """What the training loop, which is not run, was asked to do."""
    asked: list[TrainConfig] = []
    loop = ModuleType("avfake.training.loop")

    def stand_in(config: TrainConfig) -> Path:
        asked.append(config)
        if config.steps == 13:
            raise TrainingError("shards/x hold nothing to learn from; add clips")
        return Path(config.out)

    vars(loop)["train"] = stand_in
    monkeypatch.setitem(sys.modules, loop.__name__, loop)
    return asked


def test_train_says_where_the_checkpoint_is(trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    shards, recipe = "data.sources.main.shards=shards/x", ROOT / "configs" / "recipes" / "finetune.yaml"
    result = run("train", recipe, shards, "steps=5", "out=runs/my model")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (trained[0].steps, trained[0].data.sources["main"].shards) == (5, "shards/x")
    assert result.stdout == (
        "The checkpoint is in runs/my model. Judge a clip with it:\n  avfake detect --model 'runs/my model' clip.mp4\n"
    )
    monkeypatch.setenv("RANK", "1")
    other = run("train", recipe)
    assert (other.exit_code, other.stdout, other.stderr, len(trained)) == (0, "", "", 2)
    failed = run("train", recipe, "steps=13")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr == "avfake: shards/x hold nothing to learn from; add clips\n"


def test_train_refuses_what_does_not_fit(trained: list[TrainConfig], tmp_path: Path) -> None:
    mini = ROOT / "configs" / "mini.yaml"
    for args, said in (
        (
            [mini, "data.shards=x"],
            "data.shards=x: there is no key 'data.shards'; did you mean data.sources.NAME.shards?",
        ),
        ([mini, "steps"], "'steps' is no key=value pair; write it as in optim.rate=3e-4"),
        ([mini], f"{mini}: data.sources is empty; say what to train on with data.sources.main.shards=FOLDER "),
        ([tmp_path / "no.yaml"], f"{tmp_path}/no.yaml does not exist; "),
    ):
        result = run("train", *args)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith(f"avfake: {said}")
    assert run("train").exit_code == 2
    assert trained == []


def test_train_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "avfake.training.loop", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    result = run("train", ROOT / "configs" / "recipes" / "finetune.yaml")
    assert result.exit_code == 1
    assert result.stderr == 'avfake: training needs accelerate; get it with pip install "avfake[train]"\n'


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with calibration and thresholds."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    torch.manual_seed(0)
    aspects = ("fake", "visual", "audio", "sync")
    config = CheckpointConfig(
        TINY,
        preprocessing=1,
        calibration={aspect: Calibration(2.0, -0.5) for aspect in aspects},
        thresholds={aspect: {0.05: 0.4} for aspect in aspects},
    )
    save_checkpoint(folder, AVFakeModel(TINY).eval(), config)
    return folder


def test_an_exported_file_judges_as_its_checkpoint_does(checkpoint: Path, tmp_path: Path, detector: Detector) -> None:
    file = tmp_path / "tiny.ts"
    result = run("export", "--model", checkpoint, "--format", "torchscript", "-o", file)
    assert result.exit_code == 0, result.stderr
    assert f"avfake detect --model {file} clip.mp4" in result.stdout.replace("\n", "")
    assert "differs from the model by at most" in result.stdout
    said = []
    for model in (checkpoint, file):
        made = Detector(load_runtime(str(model)))
        made._backend = detector.backend
        said.append(made.detect(ROOT / "avfake" / "data" / "demo.mp4").to_dict())
        assert said[-1].pop("detector") == made.fingerprint
    plain, exported = said
    assert plain["verdict"]["p_fake"] is not None
    assert _rounded(exported) == _rounded(plain)
    assert made.fingerprint != Detector(load_runtime(str(checkpoint))).fingerprint


def _rounded(value: Any) -> Any:
    """A document with its numbers to three digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "torchscript", "--precision", "int8"], "only ONNX files have other precisions"),
        (["--format", "torchscript", "-o", "nowhere/tiny.ts"], "nowhere/tiny.ts cannot be written"),
        (["--format", "torchscript", "--model", "nobody"], "there is no model named 'nobody'"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", "--model", checkpoint, "-o", "tiny.ts", *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_no_model(media: Path, tmp_path: Path) -> None:
    for name in ("text.mp4", "faceless.mp4", "empty.mp4"):
        result = run("detect", media / "quiet.mp4", "--model", media / name)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"avfake: {media / name} ")
        assert result.stderr.count("\n") == 1
    result = run("detect", media / "quiet.mp4", "--model", tmp_path / "none.onnx")
    assert result.exit_code == 1
    assert f"{tmp_path / 'none.onnx'}: there is no such file" in result.stderr


def test_bench_wants_something_to_measure() -> None:
    assert run("bench").exit_code == 2


def test_a_real_process_prints_one_document_and_starts_light(media: Path, detector: Detector) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def process(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)

    light = process("import sys, avfake.cli; print([m for m in ('torch', 'av', 'cv2', 'rich') if m in sys.modules])")
    assert light.stdout.strip() == "[]", light.stderr
    start = "from avfake.cli import main; main()"
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", start, "models"]
        lost = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (lost.returncode, lost.stderr.count("\n")) == (1, 1)
    assert lost.stderr.startswith("avfake: the results cannot be written (No space left")
    closed = process(f"import os, sys; os.close(1); sys.stdout = None; {start}", "models")
    assert (closed.returncode, closed.stderr.count("\n")) == (1, 1)
    environment |= {"PYTHONIOENCODING": "latin-1"}
    real = process(
        start, "detect", media / "faceless.mp4", media / "нет.mp4", media / "text.mp4", "--json", "--threads", "1"
    )
    assert real.returncode == 1
    document = json.loads(real.stdout)
    assert (len(document["detections"]), len(document["errors"])) == (1, 2)
    assert "Traceback" not in real.stderr
    assert f"avfake: {media / 'text.mp4'}: " in real.stderr
