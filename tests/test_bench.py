"""What ``avfake bench`` prints: its structure, not its timings."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synth
from numpy.typing import NDArray
from tiny import still

from avfake import FPS, SAMPLES_PER_FRAME
from avfake.bench import BenchError, bench, in_fresh_process, runtimes, stages
from avfake.bench.measuring import Cost, least
from avfake.bench.runtimes import Kind, Result, Sample, Subject, conclusions, difference
from avfake.clips import DEMO_CLIP, PREPROCESSING, read_clip
from avfake.faces import FaceError, load_backend
from avfake.models import AVFakeModel, CheckpointConfig, CheckpointError, Scores, save_checkpoint

STAGES = ("floor", "decode", "faces", "crop", "speech", "embed", "score", "whole")
FIGURES = 6  # CPU, wall, ready, peak, files and apart, on one number of threads


def in_this_process(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.fixture
def faces() -> None:
    """Where the face backend cannot be had, nothing with a face can be measured."""
    try:
        load_backend("auto")
    except FaceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of the tiny model with random weights."""
    folder = tmp_path_factory.mktemp("model")
    config = still()
    save_checkpoint(folder, AVFakeModel(config), CheckpointConfig(config, preprocessing=PREPROCESSING))
    return str(folder)


@pytest.fixture(scope="module")
def script(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as TorchScript."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "EXPORTS", runtimes.EXPORTS[:1])
        (exported,) = runtimes.export_all(model, tmp_path_factory.mktemp("exported"))
    assert (exported.subject.name, exported.failure) == ("TorchScript", None)
    return Path(exported.subject.model)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    picture = synth.gradient((320, 240))
    video = synth.Video(synth.steady(25, 1.0), lambda _: picture)
    return synth.write(tmp_path / "clip.mp4", video, synth.Audio(synth.beeps(1.0, 48_000, [0.3])))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything once, on a second of the clip, in this process."""
    for module in (stages, runtimes):
        monkeypatch.setattr(module, "THREADS", (1,))
        monkeypatch.setattr(module, "in_fresh_process", in_this_process)
    monkeypatch.setattr(stages, "ROUNDS", 1)
    monkeypatch.setattr(runtimes, "TURNS", 1)
    monkeypatch.setattr(runtimes, "PASSES", 1)
    monkeypatch.setattr(runtimes, "CLIP_FRAMES", FPS)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile, which takes long, finds no compiler."""
    load = runtimes.load

    def loaded(subject: Subject, *args: Any) -> Any:
        if subject.kind == "compiled":
            raise BenchError("torch.compile fails (no [C++] compiler)")
        return load(subject, *args)

    monkeypatch.setattr(runtimes, "load", loaded)


def printed_stages(text: str) -> dict[str, list[float]]:
    """The numbers of each row of the table of stages."""
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in text.splitlines()]
    return {row[0]: [float(cell) for cell in row[1:]] for row in cells if row[0] in STAGES and len(row) > 1}


def printed_runtimes(text: str) -> dict[str, list[str]]:
    """The cells of each row of the table of runtimes that has figures."""
    rows = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {row[0]: row[1:] for row in cells if len(row) > FIGURES and row[1][0].isdigit()}


def said(value: float) -> list[Scores[NDArray[np.float32]]]:
    """The scores of one window."""
    return [Scores(*(np.full(shape, value, np.float32) for shape in ((1,),) * 4 + ((1, 3),) * 2 + ((1, 3, 31),)))]


def result(name: str, wall_ms: float, value: float = 0.0, kind: Kind = "default") -> Result:
    """A runtime that takes so long on one thread, half of it on two, and says one value."""
    samples = {n: [Sample(1.0, 1, Cost(wall_ms, wall_ms / n), said(value))] for n in (1, 2)}
    return Result(Subject(name, "m", kind, ()), samples)


@pytest.mark.usefixtures("faces", "quick")
def test_all_stages_are_printed(clip: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    stages.print_stages(clip, model)
    out = capsys.readouterr().out
    rows = printed_stages(out)
    assert tuple(rows) == STAGES
    assert all(len(row) == 2 for row in rows.values())
    assert all(rows[stage][0] > 0 for stage in ("floor", "decode", "whole"))
    assert "whole / floor" in out
    assert "real-time factor" in out
    assert "peak memory" in out


@pytest.mark.usefixtures("quick", "uncompiled")
def test_all_runtimes_are_printed(
    model: str, script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = [Result(Subject("TorchScript", str(script), "default", (script,)))]
    monkeypatch.setattr(runtimes, "export_all", lambda *_: exported)
    bench(None, model=model)
    out = capsys.readouterr().out
    rows = printed_runtimes(out)
    assert list(rows) == ["eager torch (default)", "TorchScript"]  # there are no graphs of this architecture
    assert all(len(row) == FIGURES for row in rows.values())
    assert rows["eager torch (default)"][-1] == "–"
    assert float(rows["TorchScript"][-1]) < runtimes.TOLERANCE
    assert all(float(cell) > 0 for row in rows.values() for cell in row[:2])
    flat = " ".join(out.split())
    assert "torch.compile: not measured: torch.compile fails (no [C++] compiler)" in flat
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())  # it would end this process
    assert "1 s of the clip that comes with avfake" in flat
    assert "fastest on 1 thread: " in flat
    assert "onnxruntime 1." in flat


@pytest.mark.usefixtures("quick", "uncompiled")
def test_a_missing_package_is_named(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtimes, "EXPORTS", (("ONNX float32", "onnx", "float32"),))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    bench(None, model=model)
    out = " ".join(capsys.readouterr().out.split())
    assert "ONNX float32: not measured: needs the package onnxscript: pip install 'avfake[export]'" in out


@pytest.mark.usefixtures("quick")
def test_an_exported_file_is_measured_beside_the_default_model(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(None, model=str(script))
    rows = printed_runtimes(capsys.readouterr().out)
    assert list(rows) == ["0.ts", "mini, by default"]
    assert all(row[-1] == "–" for row in rows.values())  # there is no eager torch to compare with


def test_what_detect_takes_of_mini_has_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtimes, "in_fresh_process", lambda function, *args: [])
    rows = runtimes._subjects("mini", tmp_path)
    assert [(row.subject.name, row.subject.kind) for row in rows] == [
        ("onnxruntime (default)", "default"),
        ("eager torch", "eager"),
        ("torch.compile", "compiled"),
    ]
    default, eager = (sum(file.stat().st_size for file in row.subject.files) for row in rows[:2])
    assert default > eager > 1e6


def test_a_model_that_is_not_there_is_no_row() -> None:
    with pytest.raises(CheckpointError, match="no model named 'absent'"):
        bench(None, model="absent")


def test_the_clip_that_comes_with_avfake_is_repeated() -> None:
    (clip,) = runtimes.prepare(None)
    once = read_clip(DEMO_CLIP)
    assert clip.lips is not None
    assert clip.audio is not None
    assert clip.frames == 20 * FPS
    for start in (0, once.frames):
        np.testing.assert_array_equal(clip.lips[start : start + once.frames], once.lips)
        samples = slice(start * SAMPLES_PER_FRAME, (start + once.frames) * SAMPLES_PER_FRAME)
        np.testing.assert_array_equal(clip.audio[samples], once.audio)


@pytest.mark.usefixtures("faces", "quick")
def test_runtimes_need_a_face(clip: Path, model: str) -> None:
    with pytest.raises(BenchError, match=r"clip\.mp4: no face"):
        runtimes.print_runtimes(clip, model)


def test_sound_alone_cannot_be_measured(tmp_path: Path) -> None:
    path = synth.write(tmp_path / "voice.wav", audio=synth.Audio(np.zeros(16_000, np.float32), codec="pcm_s16le"))
    with pytest.raises(BenchError, match=r"voice\.wav.*no video"):
        bench(path, model=None)


def test_neither_clip_nor_model_is_wrong() -> None:
    with pytest.raises(ValueError, match="a clip, a model"):
        bench(None, model=None)


def test_the_least_of_each_counts() -> None:
    assert least([Cost(1.0, 5.0), Cost(2.0, 3.0)]) == Cost(1.0, 3.0)


def test_the_difference_is_the_worst_of_all_scores() -> None:
    eager, other = result("eager torch", 9.0, kind="eager"), result("other", 5.0)
    assert difference(eager, [eager, other]) is None
    assert difference(other, [eager, other]) == 0.0
    other.samples[2][0].scores[0].sync_map[0, 1, 7] = -0.25
    assert difference(other, [eager, other]) == 0.25
    other.samples[1][0].scores[0].fake[0] = np.nan
    assert np.isnan(difference(other, [eager, other]))
    assert difference(other, [other]) is None


def test_the_fastest_with_the_models_scores_is_told() -> None:
    eager, whole, eight = (
        result("eager torch", 9.0, kind="eager"),
        result("whole", 5.0, 1e-6),
        result("eight", 4.0, 0.5),
    )
    failed = Result(Subject("failed", "m", "compiled", ()), failure="no compiler")
    assert conclusions([eager, whole, eight, failed]) == [
        "fastest on 1 thread: eight, 4.0 ms on the clock, but its scores differ from eager torch by 5e-01: "
        "not below 1e-04",
        "next on 1 thread: whole, 5.0 ms on the clock, scores within 1e-06 of eager torch: below 1e-04",
        "fastest on 2 threads: eight, 2.0 ms on the clock, but its scores differ from eager torch by 5e-01: "
        "not below 1e-04",
        "next on 2 threads: whole, 2.5 ms on the clock, scores within 1e-06 of eager torch: below 1e-04",
    ]


@pytest.mark.parametrize(
    ("kind", "limit_s", "reason"),
    [("compiled", 0, "not ready after 0 s"), ("compiled", 60, "ended from outside"), ("default", 0, "from outside")],
)
def test_a_process_that_ends_is_told_of(
    kind: Kind, limit_s: int, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ended(*_: Any) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(runtimes, "in_fresh_process", ended)
    monkeypatch.setattr(runtimes, "COMPILE_LIMIT_S", limit_s)
    row = Result(Subject("x", "m", kind, ()))
    runtimes._run_once_more(row, [], 1, tmp_path)
    assert row.failure is not None
    assert reason in row.failure


def test_a_process_that_dies_raises() -> None:
    with pytest.raises(BrokenProcessPool):
        in_fresh_process(os._exit, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("faces")
def test_each_thread_count_has_its_own_process(clip: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    stages.print_stages(clip, model)
    rows = printed_stages(capsys.readouterr().out)
    assert tuple(rows) == STAGES
    assert all(len(row) == 2 * len(stages.THREADS) for row in rows.values())


@pytest.mark.slow
def test_every_runtime_runs_in_processes_of_its_own(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtimes, "TURNS", 1)
    bench(None, model=model)
    out = capsys.readouterr().out
    rows = printed_runtimes(out)
    named = ["eager torch (default)", "torch.compile", *(name for name, *_ in runtimes.EXPORTS)]
    assert [name for name in named if name in rows or f"{name}: not measured: " in out] == named
    assert set(rows) >= {"eager torch (default)", "TorchScript", "ONNX float32"}
    assert all(len(row) == FIGURES + 2 for row in rows.values())
    assert all(float(rows[name][-1]) < runtimes.TOLERANCE for name in ("TorchScript", "ONNX float32"))
