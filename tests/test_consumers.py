"""Programs without avfake: they run where nothing else is, say what the model says, and refuse in one sentence."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import synth
import torch
from numpy.typing import NDArray
from tiny import TINY, talking
from torch import Tensor

from avfake import AvfakeError
from avfake.clips import PREPROCESSING, Clip, extract, read_clip, write_clip
from avfake.detect import window_spans
from avfake.export import export
from avfake.faces import load_backend
from avfake.media import Decoder
from avfake.models import AVFakeModel, Calibration, Checkpoint, CheckpointConfig, load_checkpoint

CONSUMERS = Path(__file__).parents[1] / "tools" / "consumers"
DEMO = Path(__file__).parents[1] / "avfake" / "data" / "demo.mp4"
ASPECTS = ("fake", "visual", "audio", "sync")
KNOTS = [[-3.0, -2.0], [-0.5, -1.0], [0.5, 2.5], [3.0, 3.0]]
CONFIG = CheckpointConfig(
    TINY,
    preprocessing=PREPROCESSING,
    calibration={"fake": Calibration(2.0, -1.0), "audio": Calibration(knots=KNOTS), "sync": Calibration(1.0, -1.5)},
    thresholds={
        "fake": {0.02: 0.9, 0.05: 0.25, 0.1: 0.2},
        "audio": {0.2: 0.1, 0.1: 0.99},
        "sync": {0.01: 0.7, 0.02: 0.6},
    },
    aspects=["audio", "sync", "fake"],
)
THRESHOLDS = {"fake": 0.25, "visual": 0.5, "audio": 0.99, "sync": 0.6}
"""What decides: the rate of 5 %, even odds where there is none, the next rate above, the highest there is."""

# Runs programs in which nothing can be imported but the standard library and what is named.
ONLY = """
import runpy, sys
allowed, programs = sys.argv[1].split(","), sys.argv[2].split(",")
sys.argv[:3] = programs[:1]
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, *allowed}:
            raise ModuleNotFoundError(f"{name} is not to be imported", name=name)
sys.meta_path.insert(0, Only())
for program in programs:
    runpy.run_path(program, run_name="__main__")
"""
TORCH, ONNX = "torch,torchgen,typing_extensions", "onnxruntime,numpy"  # with torch's own parts

PROGRAMS = {"torchscript_consumer": "script", "torchscript_stream": "script", "onnx_consumer": "graph"}
"""And the fixtures that they judge with."""

Lines = list[tuple[float, float, list[tuple[float, str]]]]
"""Of each window start and end in seconds, and P(fake) and label of each aspect."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(AVFakeModel(TINY).eval(), CONFIG, fingerprint="f" * 64)


@pytest.fixture(scope="module")
def script(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "tiny.ts"
    export(checkpoint, path, format="torchscript")
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph in the form of an export that answers as ``by_hand``: to export a real one takes long."""
    onnx = pytest.importorskip("onnx")
    parser = pytest.importorskip("onnx.parser")
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 18]>
        hand (float[B,T,3,96,96] lips, float[B,S] audio, bool[B] has_lips, bool[B] has_audio)
          => (float[B] fake_logit, float[B] visual_logit, float[B] audio_logit, float[B] sync_logit) {
            axes = Constant <value = int64[4] {1, 2, 3, 4}> ()
            last = Constant <value = int64[1] {1}> ()
            mean = ReduceMean <keepdims = 0> (lips, axes)
            zero = Constant <value = int64 {0}> ()
            red = Gather <axis = 2> (lips, zero)
            tone = Constant <value = int64[3] {1, 2, 3}> ()
            reddish = ReduceMean <keepdims = 0> (red, tone)
            fake_logit = Sub (reddish, mean)
            visual_logit = Identity (mean)
            audio_logit = ReduceMax <keepdims = 0> (audio, last)
            sync_logit = ReduceMin <keepdims = 0> (audio, last)
        }""")
    about = {"schema": "avfake-export-1", "part": "model", "name": "hand", **asdict(CONFIG)}
    model.metadata_props.append(onnx.StringStringEntryProto(key="avfake.json", value=json.dumps(about)))
    path = tmp_path_factory.mktemp("graph") / "hand.onnx"
    onnx.save(model, path)
    return path


def by_hand(lips: Tensor, audio: Tensor, has_lips: Tensor, has_audio: Tensor) -> SimpleNamespace:
    """The logits of ``graph``."""
    mean = lips.mean()
    return SimpleNamespace(fake=lips[:, :, 0].mean() - mean, visual=mean, audio=audio.max(), sync=audio.min())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared clip of 5.2 s, two windows."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    write_clip(talking(3, 130), path)
    return path


@pytest.fixture(scope="module")
def raw(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``raw_clip.py`` makes of the prepared clip."""
    output = tmp_path_factory.mktemp("raw") / "made"
    tool("raw_clip").main(clip, output)
    (folder,) = output.iterdir()
    return folder


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CONSUMERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> tuple[Path, Path]:
    return folder / "lips.rgb", folder / "audio.f32"


def alone(needs: str, names: str, *arguments: Path) -> str:
    """What programs print where nothing can be imported but what they need."""
    programs = ",".join(str(CONSUMERS / f"{name}.py") for name in names.split(","))
    return run(sys.executable, "-c", ONLY, needs, programs, *arguments)


def parsed(text: str) -> Lines:
    lines = []
    for line in text.splitlines():
        start, end, *cells = re.split(r" - | s  |  (?=[a-z])", line)
        judged = [cell.split(maxsplit=2) for cell in cells]
        assert [aspect for aspect, *_ in judged] == list(ASPECTS)
        lines.append((float(start), float(end), [(float(p), label) for _, p, label in judged]))
    return lines


def told(model: Callable[..., Any], clip: Clip, spans: list[tuple[int, int]]) -> Lines:
    """What a model itself says of a clip's windows."""
    assert clip.lips is not None
    assert clip.audio is not None
    lines = []
    for start, end in spans:
        lips = torch.from_numpy(clip.lips[None, start:end]).movedim(-1, 2).float() / 255
        sound = torch.from_numpy(clip.audio[None, start * 640 : end * 640])
        with torch.inference_mode():
            scores = model(lips, sound, torch.tensor([True]), torch.tensor([True]))
        cells = []
        for aspect in ASPECTS:
            logit = getattr(scores, aspect).item()
            known = aspect in CONFIG.aspects
            p = float(CONFIG.calibration.get(aspect, Calibration())(logit)) if known else float("nan")
            cells.append((p, "not judged" if not known else "fake" if p >= THRESHOLDS[aspect] else "genuine"))
        lines.append((start / 25, end / 25, cells))
    return lines


def same(lines: Lines, expected: Lines) -> bool:
    assert len(lines) == len(expected)
    for (*span, cells), (*other, others) in zip(lines, expected, strict=True):
        assert span == other
        assert [label for _, label in cells] == [label for _, label in others]
        np.testing.assert_allclose([p for p, _ in cells], [p for p, _ in others], atol=1e-3)
    return True


# ------------------------------------------------------------------------------------------- raw files


def test_raw_files_are_the_prepared_clip(clip: Path, raw: Path) -> None:
    prepared = read_clip(clip)
    assert raw.name == "face0-0.00s"
    lips: NDArray[np.uint8] = np.fromfile(raw / "lips.rgb", np.uint8)
    np.testing.assert_array_equal(lips.reshape(-1, 96, 96, 3), prepared.lips)
    np.testing.assert_array_equal(np.fromfile(raw / "audio.f32", "<f4"), prepared.audio)


def test_raw_files_of_a_video_are_what_detection_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool("raw_clip").main(DEMO, tmp_path / "raw")
    (expected,) = extract(Decoder(DEMO), load_backend("facemesh"))
    (folder,) = (tmp_path / "raw").iterdir()
    assert expected.lips is not None
    assert expected.audio is not None
    assert (folder / "lips.rgb").read_bytes() == expected.lips.tobytes()
    assert (folder / "audio.f32").read_bytes() == expected.audio.tobytes()
    assert str(folder) in capsys.readouterr().out


def test_raw_files_are_refused_in_one_sentence(tmp_path: Path, clip: Path, raw: Path) -> None:
    main, output = tool("raw_clip").main, tmp_path / "raw"
    times = synth.steady(25, 0.4)
    video = synth.Video(times, lambda _: synth.gradient((64, 48)))
    sound = synth.Audio(synth.beeps(0.4, 48_000, [0.1]))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, reason in (
        (tmp_path / "missing.mp4", "missing.mp4"),
        (text, "text.mp4"),
        (synth.write(tmp_path / "mute.mp4", video), "no sound"),
        (synth.write(tmp_path / "voice.mp4", None, sound), "no picture"),
        (synth.write(tmp_path / "empty.mp4", video, sound), "no face"),
    ):
        with pytest.raises(AvfakeError, match=reason) as refused:
            main(path, output)
        assert "\n" not in str(refused.value)
        assert not output.exists()
    with pytest.raises(AvfakeError, match="new folder"):
        main(clip, raw)


# ------------------------------------------------------------------------------------------- what they say


def test_torchscript_says_what_the_model_says(checkpoint: Checkpoint, script: Path, clip: Path, raw: Path) -> None:
    """Window by window, then live, of the last 4 s; in one process, for torch takes seconds to import."""
    prepared = read_clip(clip)
    spans, live = window_spans(prepared.frames), [(max(0, end - 100), end) for end in range(10, 131, 10)]
    assert len(spans) == 2
    expected = told(checkpoint.model, prepared, spans + live)
    labels = {label for *_, cells in expected for _, label in cells}
    assert labels == {"genuine", "fake", "not judged"}  # else the labels could not be wrong
    assert same(parsed(alone(TORCH, "torchscript_consumer,torchscript_stream", script, *files(raw))), expected)


def test_onnx_says_what_the_graph_says(graph: Path, clip: Path, raw: Path) -> None:
    prepared = read_clip(clip)
    printed = alone(ONNX, "onnx_consumer", graph, *files(raw))
    assert same(parsed(printed), told(by_hand, prepared, window_spans(prepared.frames)))


@pytest.mark.slow
def test_an_exported_graph_says_what_the_model_says(
    checkpoint: Checkpoint, clip: Path, raw: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    export(checkpoint, tmp_path / "tiny.onnx", format="onnx")
    prepared = read_clip(clip)
    printed = run(sys.executable, CONSUMERS / "onnx_consumer.py", tmp_path / "tiny.onnx", *files(raw))
    assert same(parsed(printed), told(checkpoint.model, prepared, window_spans(prepared.frames)))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a program in this process, returns what it prints."""

    def program(name: str, *arguments: Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(CONSUMERS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return program


@pytest.fixture(scope="module")
def short(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of 17 frames, less than a window."""
    folder = tmp_path_factory.mktemp("short")
    for path, size in zip(files(raw), (17 * 96 * 96 * 3, 17 * 640 * 4), strict=True):
        (folder / path.name).write_bytes(path.read_bytes()[:size])
    return folder


def test_a_clip_shorter_than_a_window_is_one_window(
    checkpoint: Checkpoint, script: Path, graph: Path, clip: Path, short: Path, say: Callable[..., str]
) -> None:
    prepared = read_clip(clip)
    for name, path, model in (("torchscript_consumer", script, checkpoint.model), ("onnx_consumer", graph, by_hand)):
        assert same(parsed(say(name, path, *files(short))), told(model, prepared, [(0, 17)]))


def with_metadata(model: Path, path: Path, **changed: Any) -> Path:
    """A copy of an export of which the metadata say something else."""
    if model.suffix == ".ts":
        extra: dict[str, Any] = {"avfake.json": ""}
        program = torch.jit.load(str(model), _extra_files=extra)
        about = json.dumps({**json.loads(extra["avfake.json"]), **changed})
        torch.jit.save(program, str(path), _extra_files={"avfake.json": about})
    else:
        onnx = pytest.importorskip("onnx")
        program = onnx.load(model)
        (entry,) = program.metadata_props
        entry.value = json.dumps({**json.loads(entry.value), **changed})
        onnx.save(program, path)
    return path


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_threshold_that_decides(
    name: str, request: pytest.FixtureRequest, short: Path, tmp_path: Path, say: Callable[..., str]
) -> None:
    """The rate of 5 %, the next rate above, the highest there is, even odds where there is none."""
    model: Path = request.getfixturevalue(PROGRAMS[name])

    def labels(thresholds: dict[str, dict[str, float]]) -> dict[str, str]:
        path = with_metadata(model, tmp_path / f"changed{model.suffix}", thresholds=thresholds)
        (*_, cells) = parsed(say(name, path, *files(short)))[-1]
        return {aspect: label for aspect, (_, label) in zip(ASPECTS, cells, strict=True)}

    (*_, cells) = parsed(say(name, model, *files(short)))[-1]
    p = {aspect: p for aspect, (p, _) in zip(ASPECTS, cells, strict=True)}
    even = {aspect: "fake" if p[aspect] >= 0.5 else "genuine" for aspect in CONFIG.aspects}
    assert set(even.values()) == {"fake", "genuine"}
    assert labels({}) == {**even, "visual": "not judged"}
    for label, sign in (("fake", 1), ("genuine", -1)):
        right, wrong = ({aspect: p[aspect] - side * 0.01 for aspect in ASPECTS} for side in (sign, -sign))
        given = {
            "fake": {"0.1": wrong["fake"], "0.02": wrong["fake"], "0.05": right["fake"]},
            "audio": {"0.2": wrong["audio"], "0.1": right["audio"]},
            "sync": {"0.01": wrong["sync"], "0.02": right["sync"]},
        }
        assert labels(given) == {"fake": label, "visual": "not judged", "audio": label, "sync": label}


# ------------------------------------------------------------------------------------------- what they refuse


def amiss(folder: Path, raw: Path, model: Path) -> list[tuple[Path, Path, Path, str]]:
    """Model, lips and audio of which one is amiss, and a pattern of the reason that is given."""
    lips, audio = files(raw)
    missing, junk, cut, empty = folder / "none", folder / "junk", folder / "cut", folder / "empty"
    junk.write_bytes(b"no model at all")
    cut.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    empty.write_bytes(b"")
    odd, uneven, short, loud = folder / "odd.rgb", folder / "uneven.f32", folder / "short.f32", folder / "loud.f32"
    odd.write_bytes(lips.read_bytes()[:-1])
    uneven.write_bytes(audio.read_bytes()[:-1])
    short.write_bytes(audio.read_bytes()[:-2560])
    loud.write_bytes((np.fromfile(audio, "<f4") * 32768).astype("<f4").tobytes())
    unreadable, no_pictures = "zip archive|Protobuf", "invalid for input|reshape|whole pictures"
    needed = "130 pictures need 83200 float32 samples between -1 and 1"
    return [
        (missing, lips, audio, "exist|No such file"),
        (junk, lips, audio, unreadable),
        (cut, lips, audio, unreadable),
        (foreign(folder / f"foreign{model.suffix}"), lips, audio, "no whole one that avfake exported"),
        (with_metadata(model, folder / f"head{model.suffix}", part="sync-head"), lips, audio, "no whole one"),
        (with_metadata(model, folder / f"next{model.suffix}", schema="avfake-export-2"), lips, audio, "no whole one"),
        (model, missing, audio, "No such file|no file"),
        (model, lips, missing, "No such file|no file"),
        (model, folder, audio, "Is a directory|no file"),
        (model, odd, audio, no_pictures),
        (model, empty, audio, f"buffer length|0 pictures|{no_pictures}"),
        (model, lips, uneven, f"must be a multiple|{needed}"),
        (model, lips, short, needed),
        (model, lips, loud, needed),
    ]


def foreign(path: Path) -> Path:
    """A sound file that avfake did not export."""
    if path.suffix == ".ts":
        torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), str(path))
    else:
        parser = pytest.importorskip("onnx.parser")
        text = """<ir_version: 10, opset_import: ["": 18]> other (float[N] x) => (float[N] y) { y = Identity (x) }"""
        path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_refuses_in_one_line(
    name: str, request: pytest.FixtureRequest, raw: Path, tmp_path: Path, say: Callable[..., str]
) -> None:
    for *arguments, reason in amiss(tmp_path, raw, request.getfixturevalue(PROGRAMS[name])):
        with pytest.raises(SystemExit) as refused:
            say(name, *arguments)
        said = refused.value.code  # which Python prints where it is no number, and leaves with 1
        assert isinstance(said, str)
        assert said.splitlines() == [said]
        named = ", ".join(map(str, arguments)) + ": "
        assert said.startswith(named)
        assert re.search(reason, said.removeprefix(named))
    with pytest.raises(SystemExit, match=f"usage: python {name}.py"):
        say(name)


def test_a_refusal_leaves_with_1_and_prints_nothing_else(tmp_path: Path, raw: Path) -> None:
    """onnxruntime's native code would print as well."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "junk.onnx").write_bytes(b"no model at all")
    command = [sys.executable, CONSUMERS / "onnx_consumer.py", tmp_path / "junk.onnx", *files(raw)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(str(tmp_path))
    assert refused.stderr.count("\n") == 1
    assert not refused.stdout


# ------------------------------------------------------------------------------------------- other machines


@pytest.mark.slow
def test_cpp_says_and_refuses_the_same(
    checkpoint: Checkpoint, script: Path, clip: Path, raw: Path, tmp_path: Path
) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no C++ compiler or no cmake")
    build = tmp_path / "build"
    run("cmake", "-S", CONSUMERS / "cpp", "-B", build, f"-DPython3_EXECUTABLE={sys.executable}")
    run("cmake", "--build", build)
    prepared = read_clip(clip)
    printed = run(build / "consumer", script, *files(raw))
    assert same(parsed(printed), told(checkpoint.model, prepared, window_spans(prepared.frames)))
    assert printed == run(sys.executable, CONSUMERS / "torchscript_consumer.py", script, *files(raw))
    for *arguments, reason in amiss(tmp_path, raw, script):
        refused = subprocess.run([build / "consumer", *arguments], capture_output=True, text=True, check=False)
        named = ", ".join(map(str, arguments)) + ": "
        assert refused.returncode == 1
        assert refused.stderr.startswith(named)
        assert re.search(reason, refused.stderr.removeprefix(named))
        assert refused.stderr.count("\n") == 1
        assert not refused.stdout


@pytest.mark.slow
def test_onnx_runs_where_neither_torch_nor_avfake_is(tmp_path: Path, raw: Path) -> None:
    pytest.importorskip("onnxscript")
    model = tmp_path / "mini.onnx"
    export(load_checkpoint("mini"), model, format="onnx")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    index = [python, "-m", "pip", "install", "--quiet", "--retries", "1", "onnxruntime", "numpy"]
    installed = subprocess.run(index, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip reaches no index: {installed.stderr.strip().splitlines()[-1]}")
    for absent in ("torch", "avfake", "onnx", "transformers"):
        found = subprocess.run(
            [python, "-c", f"import {absent}"], cwd=tmp_path, capture_output=True, check=False, env={}
        )
        assert b"ModuleNotFoundError" in found.stderr
    program = shutil.copy(CONSUMERS / "onnx_consumer.py", tmp_path)
    done = subprocess.run(
        [python, program, model, *files(raw)], cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    here = run(sys.executable, CONSUMERS / "onnx_consumer.py", model, *files(raw))
    assert same(parsed(done.stdout), parsed(here))
