"""What a training run says of itself: its history, its trackers, its bar and its pictures."""

import json
import logging
import math
import sys
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from rich.console import Console
from rich.text import Text

from avfake.config import TrainConfig
from avfake.report.training import Progress, calibration_plot, curves, example_windows, write_curves
from avfake.training import TrainingError
from avfake.training.batch import Batch
from avfake.training.logs import History, Trackers, read_history

NAN = math.nan

# ---------------------------------------------------------------------------------------------------- history


def test_history_of_a_run_that_begins_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run" / "history.jsonl"
    history = History(path, 0)
    for step in (10, 20, 30):
        history.add(step, "train", loss=1 / step)
    history.add(20, "validation", mean=0.7, best=True)
    assert path.read_text().count("\n") == 4  # each line is there before the file is closed
    history.close()

    history = History(path, 20)
    history.add(30, "train", loss=3.0)
    history.close()
    assert [(line["step"], line["kind"]) for line in history.read()] == [
        (10, "train"), (20, "train"), (20, "validation"), (30, "train")]  # fmt: skip
    assert history.read()[-2:] == [
        {"step": 20, "kind": "validation", "mean": 0.7, "best": True},
        {"step": 30, "kind": "train", "loss": 3.0},
    ]
    assert [each.name for each in path.parent.iterdir()] == ["history.jsonl"]

    History(path, 0).close()
    assert path.read_bytes() == b""


def test_a_line_torn_anywhere_is_cut_away(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    first = b'{"step": 10, "kind": "train", "loss": 0.5}\n'
    last = '{"step": 20, "kind": "train", "name": "ä", "loss": 12.5}'.encode()
    for length in range(len(last) + 1):
        path.write_bytes(first + last[:length])
        history = History(path, 20)
        history.add(30, "train")
        history.close()
        whole = [20] if length == len(last) else []
        assert [line["step"] for line in history.read()] == [10, *whole, 30]


@pytest.mark.parametrize(
    "damaged", [b"{", b"\x00\x00", b"\xff", b"[]", b"{}", b'{"step": "1", "kind": "train"}', b'{"step": 1}', b""]
)
def test_damaged_lines_are_named(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1, "kind": "train"}\n' + damaged + b"\n" + b'{"step": 2, "kind": "train"}\n')
    for read in (read_history, lambda path: History(path, 5)):
        with pytest.raises(TrainingError, match=r"history\.jsonl is damaged in line 2 "):
            read(path)
    assert path.read_bytes().count(b"\n") == 3  # and nothing is lost of it


def test_a_torn_line_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1, "kind": "train"}\n{"step"')
    with pytest.raises(TrainingError, match="damaged in line 2"):
        read_history(path)
    with pytest.raises(TrainingError, match=r"none\.jsonl cannot be read"):
        read_history(tmp_path / "none.jsonl")


NAMES = st.text().filter(lambda name: name not in ("step", "kind", "self"))
VALUES = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | st.floats() | st.text())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["train", "validation"]), VALUES), max_size=5))
def test_what_is_added_is_read(added: list[tuple[int, str, dict[str, Any]]]) -> None:
    with TemporaryDirectory() as folder:
        history = History(Path(folder, "history.jsonl"), 0)
        for step, kind, values in added:
            history.add(step, kind, **values)
        history.close()
        expected = [
            {"step": step, "kind": kind}
            | {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
            for step, kind, values in added
        ]
        assert history.read() == expected
        for line in history.path.read_text().splitlines():
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# --------------------------------------------------------------------------------------------------- trackers


@pytest.fixture(autouse=True)
def _no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def _figure() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    return figure


def test_without_tensorboard_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with caplog.at_level(logging.INFO, "avfake"):
        trackers = Trackers(tmp_path, TrainConfig(), 0)
    assert [record.message for record in caplog.records] == [
        f'TensorBoard is not installed, so {tmp_path / "log"} is not written; get it with pip install "avfake[train]".'
    ]
    trackers.scalars(1, "train", {"loss": 0.5})
    trackers.figure(1, "windows", _figure())
    trackers.close()
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_holds_each_step_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for begun, steps in ((0, (1, 2, 3)), (0, (1, 2, 3, 4)), (2, (3, 4, 5))):
        trackers = Trackers(tmp_path, TrainConfig(), begun)
        for step in steps:
            trackers.scalars(step, "train", {"loss": step + begun / 10, "sync": NAN if step == 1 else 1.0})
        trackers.figure(steps[0], "windows", _figure())
        trackers.close()
    events = accumulator.EventAccumulator(str(tmp_path / "log")).Reload()
    told = [(event.step, pytest.approx(event.value)) for event in events.Scalars("train/loss")]
    assert told == [(1, 1.0), (2, 2.0), (3, 3.2), (4, 4.2), (5, 5.2)]
    assert [event.step for event in events.Scalars("train/sync")] == [2, 3, 4, 5]
    assert [event.step for event in events.Images("windows")] == [1, 3]


class _WandbError(Exception):
    pass


class _Run:
    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = False

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_wandb_is_told_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = _Run(), []
    init = lambda **settings: asked.append(settings) or run  # noqa: E731
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=_WandbError, Image=type))
    Trackers(tmp_path, TrainConfig(), 0).close()
    assert asked == []

    monkeypatch.setenv("WANDB_MODE", "offline")
    trackers = Trackers(tmp_path / "mini", TrainConfig(steps=7), 0)
    trackers.scalars(3, "train", {"loss": 0.5, "sync": NAN})
    trackers.figure(3, "windows", _figure())
    trackers.close()
    (settings,) = asked
    assert (settings["project"], settings["name"]) == ("avfake", "mini")
    assert settings["config"]["steps"] == 7
    assert settings["config"]["optim"]["rate"] == TrainConfig().optim.rate
    assert run.logged == [(3, {"train/loss": 0.5}), (3, {"windows": Figure})]
    assert run.finished


def test_wandb_without_a_network_or_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**settings: object) -> None:
        raise _WandbError("timed\nout")

    monkeypatch.setenv("WANDB_API_KEY", "k")
    for package in (SimpleNamespace(init=init, Error=_WandbError), None):
        monkeypatch.setitem(sys.modules, "wandb", package)
        with caplog.at_level(logging.INFO, "avfake"):
            trackers = Trackers(tmp_path, TrainConfig(), 0)
        trackers.scalars(1, "train", {"loss": 0.5})
        trackers.close()
    lost, missing = (record.message for record in caplog.records if "W&B" in record.message)
    assert "(timed out); set WANDB_MODE=offline" in lost
    assert "pip install wandb" in missing


# --------------------------------------------------------------------------------------------------- progress


def _train(console: Console, total: int, begun: int = 0) -> None:
    with Progress(console, total, begun) as told:
        told.filling(16, 64)
        told.filling(64, 64)
        for step in range(begun + 1, total + 1):
            told.step(step, {"visual": 0.25, "distil": NAN, "loss": 0.5}, 2.0, 0.5)
            if step == begun + 2:
                told.validation(step, {"visual": 0.714, "audio": NAN, "sync": 1.0, "mean": 0.8}, True)


def test_a_log_in_place_of_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    text = StringIO()
    with caplog.at_level(logging.INFO, "avfake"):
        _train(Console(file=text), 400, begun=390)
    assert {record.name for record in caplog.records} == {"avfake.training"}
    assert text.getvalue().strip() == ""
    assert [record.message for record in caplog.records] == [
        "features of 16 of 64 windows",
        "features of 64 of 64 windows",
        "step 391 of 400: loss 0.500 | 0.5 steps/s, 25 % waiting; this step: visual 0.250",
        "step 392 of 400: loss 0.500 | 0.5 steps/s, 25 % waiting; this step: visual 0.250",
        "step 392 of 400: validation AUC visual .71 sync 1.00 mean .80 (best)",
        *(
            f"step {step} of 400: loss 0.500 | visual .71 sync 1.00 (best) | 0.5 steps/s, 25 % waiting; "
            "this step: visual 0.250"
            for step in (396, 400)
        ),
    ]


def test_a_long_log_has_a_hundred_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "avfake"), Progress(Console(file=StringIO()), 5050) as told:
        for step in range(1, 5051):
            told.step(step, {"loss": 0.5}, 1.0, 0.0)
    assert len(caplog.records) == 100
    assert caplog.records[-1].message.startswith("step 5050 of 5050")


def test_a_bar_on_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    text = StringIO()
    with caplog.at_level(logging.INFO, "avfake"):
        _train(Console(file=text, force_terminal=True, width=120), 4)
    shown = Text.from_ansi(text.getvalue()).plain
    assert " 4/4 0:00:00 loss 0.500 | visual .71 sync 1.00 (best) | 0.5 steps/s, 25 % waiting" in shown
    assert "features" not in shown.rsplit("4/4", 1)[1]
    assert [record.message for record in caplog.records] == [
        "step 2 of 4: validation AUC visual .71 sync 1.00 mean .80 (best)"
    ]


def test_a_quiet_console_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    for terminal in (True, False):
        text = StringIO()
        with caplog.at_level(logging.INFO, "avfake"):
            _train(Console(file=text, force_terminal=terminal, quiet=True), 4)
        assert text.getvalue() == ""
    assert caplog.records == []


# --------------------------------------------------------------------------------------------------- pictures


def _texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def _png(figure: Figure) -> tuple[int, int]:
    file = BytesIO()
    figure.savefig(file, format="png")
    with Image.open(file) as picture:
        assert picture.convert("L").getextrema() != (255, 255)
        return picture.size


def _batch(frames: int = 16) -> Batch:
    """Four windows: whole, voice alone, lips alone, and one of the second half of which nothing is known."""
    rng = np.random.default_rng(0)
    has_lips, has_audio = torch.tensor([True, False, True, True]), torch.tensor([True, True, False, True])
    face_ok = has_lips[:, None].repeat(1, frames)
    face_ok[3, : frames // 2] = False
    labels = torch.tensor([[0, 0, 0], [NAN, 1, NAN], [1, NAN, NAN], [0, 1, 0]])
    frame_labels = labels[:, None].repeat(1, frames, 1)
    frame_labels[3, frames // 2 :, 1] = NAN
    return Batch(
        lips=torch.from_numpy(rng.integers(0, 255, (4, frames, 96, 96, 3), np.uint8)),
        audio=torch.from_numpy(rng.normal(size=(4, 640 * frames)).astype(np.float32)),
        has_lips=has_lips,
        has_audio=has_audio,
        mouth=torch.full((4, frames, 20, 2), 48.0),
        face_ok=face_ok,
        labels=labels,
        frame_labels=frame_labels,
        shift=torch.tensor([0, 0, 0, -7]),
        files=torch.arange(4),
        ids=["one", "two", "x" * 100 + "/three", "fo[ur\x1b"],
    )


def _panels(figure: Figure) -> list[tuple[Axes, ...]]:
    axes = figure.axes
    return [tuple(axes[at : at + 3]) for at in range(0, len(axes), 3)]


def test_example_windows() -> None:
    figure = example_windows(_batch())
    panels = _panels(figure)
    titles = [lips.get_title(loc="left") for lips, _, _ in panels]
    assert titles[0] == "one\nvisual g  audio g  sync g"
    assert titles[1] == "two\nvisual ?  audio F  sync ?"
    assert titles[2] == "…" + "x" * 53 + "/three\nvisual F  audio ?  sync ?"
    assert titles[3].endswith("\nvisual g  audio F  sync g  voice 7 frames earlier")
    assert "\x1b" not in titles[3]
    assert [_texts(lips) for lips, _, _ in panels] == [[], ["no picture"], [], ["face lost"] * 4]
    assert [_texts(sound) for _, sound, _ in panels] == [[], [], ["no sound"], []]
    assert [len(lips.images) for lips, _, _ in panels] == [8, 0, 8, 8]
    assert [len(lips.lines) for lips, _, _ in panels] == [8, 0, 8, 4]  # mouths, where there is a face
    for each in panels:
        assert {axes.get_xlim() for axes in each} == {(0, 0.64)}
    _png(figure)


def test_crops_lie_at_their_times() -> None:
    batch = _batch(frames=24)
    assert batch.lips is not None
    batch.lips[0] = torch.arange(24, dtype=torch.uint8)[:, None, None, None]
    crops: Sequence[AxesImage] = _panels(example_windows(batch, 1))[0][0].images
    for crop in crops:
        left, right, _, _ = crop.get_extent()
        frame = int(np.asarray(crop.get_array()).max())
        assert (left + right) / 2 == pytest.approx((frame + 0.5) / 25)


def test_labels_are_strips() -> None:
    strips = _panels(example_windows(_batch()))[3][2]
    (image,) = strips.images
    drawn = np.asarray(image.get_array())
    assert drawn.tolist() == [[0] * 16, [1] * 8 + [2] * 8, [0] * 16]
    colours = image.to_rgba(drawn)[1, [0, -1]]
    assert colours[0][0] > colours[0][2]  # a fake is red
    assert len(set(colours[1][:3])) == 1  # what is not known is grey


def test_windows_of_which_features_are_left() -> None:
    batch = _batch()
    frozen = Batch(**(vars(batch) | {"lips": None, "audio": None, "frames": torch.zeros(4, 16, 8)}))
    panels = _panels(example_windows(frozen, 3))
    assert len(panels) == 3
    assert [_texts(lips)[0] for lips, _, _ in panels] == [
        "of the picture the batch has features alone",
        "no picture",
        "of the picture the batch has features alone",
    ]
    assert _texts(panels[0][1]) == ["of the sound the batch has features alone"]
    _png(example_windows(_batch(frames=4), 1))  # fewer frames than crops


def test_calibration_plot() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    figure = calibration_plot(
        {
            "visual": (labels, logits),
            "audio": (np.zeros(30), logits[:30]),
            "sync": ([0, 1, NAN], [0.0, 1.0, 5.0]),
            "fake": ([1, 0], [NAN, NAN]),
        }
    )
    upper, lower = figure.axes[:4], figure.axes[4:]
    fakes = int(labels.sum())
    assert [axes.get_title() for axes in upper] == [
        f"visual\n{4000 - fakes:,} genuine, {fakes:,} fake",
        "audio\n30 genuine, 0 fake",
        "sync\n1 genuine, 1 fake",
        "fake\n0 genuine, 0 fake",
    ]
    assert [_texts(axes)[0] for axes in upper] == [
        "a point: about 400 clips",
        "all are genuine:\nnothing to compare",
        "2 clips are too few\nto compare",
        "no clips",
    ]
    said, shares = upper[0].lines[1].get_data()
    assert len(said) == 10
    tenth = np.sort(1 / (1 + np.exp(-logits)))[:400]
    assert said[0] == pytest.approx(tenth.mean(), abs=1e-3)
    assert np.abs(np.asarray(said) - shares).max() < 0.08  # these logits are calibrated
    assert sum(bar.get_height() for bar in lower[0].patches) == 4000
    _png(figure)
    _png(calibration_plot({}))


def test_saturated_logits_still_make_a_plot() -> None:
    figure = calibration_plot({"visual": ([0, 1] * 50, [-1000.0, 1000.0] * 50)})
    said, shares = figure.axes[0].lines[1].get_data()
    assert list(zip(said, shares, strict=True)) == [(0, 0), (1, 1)]
    for bars, place, colour in zip(figure.axes[1].containers, (0, -1), ("#0072b2", "#d55e00"), strict=True):
        assert bars[place].get_height() == sum(bar.get_height() for bar in bars) == 50
        assert to_hex(bars[place].get_facecolor()) == colour
    _png(figure)


def _history(steps: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        losses = {"visual": 1 / step, "distil": None, "sync": 0.5 if step % 2 else None, "loss": 2 / step}
        lines.append({"step": step, "kind": "train", **losses, "rate": 1e-3, "norm": 1.0, "seconds": 1, "waited": 0})
        if step % 10 == 0:
            figures = {"visual": 0.8, "audio": None, "mean": 0.7}
            lines.append({"step": step, "kind": "validation", **figures, "best": step in (10, 30)})
    return lines


def _legend(axes: Axes) -> dict[str, Any]:
    legend = axes.get_legend()
    assert legend is not None
    return {text.get_text(): line.get_color() for text, line in zip(legend.texts, legend.get_lines(), strict=True)}


def test_curves(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in _history(50)))
    losses, aucs, rate = curves(read_history(path)).axes
    assert list(_legend(losses)) == ["visual", "sync", "weighted sum"]  # distil is never told
    assert list(_legend(aucs)) == ["visual", "mean"]
    assert _legend(losses)["visual"] == _legend(aucs)["visual"]
    assert _texts(losses) == ["best: step 30"]
    assert [line.get_xdata()[0] for line in (losses.lines[-1], rate.lines[-1])] == [30, 30]
    raw, smooth = (np.asarray(line.get_ydata()) for line in losses.lines[:2])
    assert raw.tolist() == [1 / step for step in range(1, 51)]
    assert smooth[25] == pytest.approx(raw[24:27].mean())
    assert smooth[0] == pytest.approx(raw[:2].mean())
    assert losses.get_yscale() == "log"

    write_curves(path, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 900)


def test_curves_of_little() -> None:
    losses, aucs, _ = curves(_history(1)).axes
    assert list(_legend(losses)) == ["visual", "sync", "weighted sum"]
    assert losses.lines[1].get_marker() == "o"  # a line of one point would not be seen
    assert _texts(aucs) == ["no validation yet"]
    losses, aucs, _ = curves([]).axes
    assert (_texts(losses), _texts(aucs)) == (["no step yet"], ["no validation yet"])
    worst = {"step": 5, "kind": "validation", "mean": None, "best": False}
    zero = {"step": 1, "kind": "train", "visual": 0.0, "loss": 0.0, "rate": 0.0}
    assert curves([zero]).axes[0].get_yscale() == "linear"
    for history in ([], _history(1), [zero], [worst], [zero, worst]):
        _png(curves(history))
