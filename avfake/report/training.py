"""Training for people: a bar or a log while it runs, and pictures of its batches, its curves and its logits."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import cycle
from types import TracebackType
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column
from scipy.special import expit
from sklearn.calibration import calibration_curve

from avfake import FPS
from avfake.faces import CROP
from avfake.manifest import ASPECTS
from avfake.models.audio import LogMel
from avfake.report.terminal import shown
from avfake.storage import whole_file
from avfake.training.batch import Batch
from avfake.training.logs import read_history

log = logging.getLogger("avfake.training")

_RECENT = 20  # calls of Progress.step that what is shown is a mean of
_LINES = 100  # lines of a log, at most, for the steps of a run without a terminal
_CROPS = 8  # lip crops shown of a window
_LONGEST_ID = 60
_FEWEST = 10  # clips a point of a reliability diagram stands for
# Okabe and Ito, "Color Universal Design" (2008): told apart by the colour-blind too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
_GENUINE, _FAKE, _UNKNOWN = "#0072B2", "#D55E00", "#DDDDDD"
_KINDS = ((_GENUINE, "genuine"), (_FAKE, "fake"), (_UNKNOWN, "not known"))
_NO_TASKS = ("step", "kind", "rate", "norm", "seconds", "waited")
_NO_AUCS = ("step", "kind", "best")

# A terminal, or a log.


class Progress:
    """Tells how far a run of ``total`` steps is that goes on from step ``begun``.

    A bar on a terminal. Elsewhere the log ``avfake.training`` gets a line every hundredth of the steps, so that the
    output of a job in the background can be read. Every validation is a line of that log in both cases. A console that
    is quiet, as of all processes but one, silences the log too.
    """

    def __init__(self, console: Console, total: int, begun: int = 0) -> None:
        # The text may wrap; otherwise a narrow terminal would lose the numbers.
        text = TextColumn("{task.description}", table_column=Column())
        columns = (BarColumn(16), MofNCompleteColumn(), TimeRemainingColumn(), text)
        # What another process prints must not vanish in the output that a bar captures.
        drawn = console.is_terminal and not console.quiet
        self._bars = Bars(*columns, console=console, disable=not drawn, transient=True)
        self._lines = not drawn and not console.quiet
        self._validations = not console.quiet
        self._steps = self._bars.add_task("", total=total, completed=begun)
        self._filled = self._bars.add_task("features", visible=False)
        self._total, self._step = total, begun
        self._told = self._told_filled = 0
        self._recent: deque[tuple[int, float, float]] = deque(maxlen=_RECENT)
        self._losses: deque[float] = deque(maxlen=_RECENT)
        self._validation = ""

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, step: int, losses: Mapping[str, float], seconds: float, waited: float) -> None:
        """Count up to ``step``, which took ``seconds`` since the call before, ``waited`` of them for data.

        ``losses`` are those of the tasks, NaN where a batch says nothing of one, and their weighted sum, ``loss``.
        """
        self._recent.append((step - self._step, seconds, waited))
        self._losses.append(losses["loss"])
        self._step = step
        self._bars.update(self._steps, completed=step, description=self._description())
        hundredth = step * _LINES // self._total
        if self._lines and (hundredth > self._told or step == self._total):
            self._told = hundredth
            tasks = "".join(
                f" {name} {value:.3f}" for name, value in losses.items() if name != "loss" and not math.isnan(value)
            )
            log.info("step %d of %d: %s; this step:%s", step, self._total, self._description(), tasks or " no task")

    def validation(self, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Tell the AUCs of a validation, NaN where there is none, and whether it is the best one so far."""
        mark = " (best)" if best else ""
        aspects = {name: value for name, value in figures.items() if name in ASPECTS}
        self._validation = f"{_in_a_row(aspects)}{mark}"
        if self._validations:
            log.info("step %d of %d: validation AUC %s%s", step, self._total, _in_a_row(figures) or "not known", mark)

    def filling(self, done: int, total: int) -> None:
        """Tell how many of ``total`` windows the cache of features holds."""
        self._bars.update(self._filled, completed=done, total=total, visible=done < total)
        tenth = 10 * done // total
        if self._lines and tenth > self._told_filled:
            self._told_filled = tenth
            log.info("features of %d of %d windows", done, total)

    def _description(self) -> str:
        steps, seconds, waited = (sum(column) for column in zip(*self._recent, strict=True))
        speed = f"{steps / seconds:.1f} steps/s, {100 * waited / seconds:.0f} % waiting" if seconds else ""
        loss = f"loss {sum(self._losses) / len(self._losses):.3f}"
        return " | ".join(part for part in (loss, self._validation, speed) if part)


def _in_a_row(figures: Mapping[str, float]) -> str:
    known = {name: value for name, value in figures.items() if not math.isnan(value)}
    return " ".join(f"{name} {f'{value:.2f}'.removeprefix('0')}" for name, value in known.items())


# What a batch looks like.


def example_windows(batch: Batch, count: int = 8) -> Figure:
    """Draw the first ``count`` windows of a batch, one below the other.

    Of each: eight of its lip crops with the mouth points, the log-mel spectrogram that a model hears and the labels of
    its frames, all on one time axis; above them who it is and what is known of it.
    """
    count = min(count, len(batch.ids))
    figure = _figure((10.5, 0.4 + 3.0 * count), dpi=90)
    figure.set_layout_engine("constrained", h_pad=0.02, hspace=0)
    for row, part in enumerate(figure.subfigures(count, 1, squeeze=False)[:, 0]):
        # Eight crops side by side are as wide as the axes: 1.25 inches make them square.
        lips, sound, strips = part.subplots(3, 1, height_ratios=(1.25, 0.75, 0.4), sharex=True)
        _draw_lips(lips, batch, row)
        _draw_sound(sound, batch, row)
        _draw_labels(strips, batch, row)
        lips.set_title(_window_title(batch, row), fontsize=9, loc="left", family="monospace")
    patches = [
        Patch(color=colour, label=f"{label} ({letter})") for (colour, label), letter in zip(_KINDS, "gF?", strict=True)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _window_title(batch: Batch, row: int) -> str:
    id_ = shown(batch.ids[row])
    if len(id_) > _LONGEST_ID:
        id_ = "…" + id_[1 - _LONGEST_ID :]
    letters = {0.0: "g", 1.0: "F"}
    labels = (letters.get(value, "?") for value in batch.labels[row].tolist())
    told = "  ".join(f"{aspect} {letter}" for aspect, letter in zip(ASPECTS, labels, strict=True))
    shift = int(batch.shift[row])
    return f"{id_}\n{told}" + (f"  voice {abs(shift)} frames {'later' if shift > 0 else 'earlier'}" if shift else "")


def _draw_lips(axes: Axes, batch: Batch, row: int) -> None:
    seconds = batch.length / FPS
    axes.set_yticks([])
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    if batch.lips is None or not batch.has_lips[row]:
        axes.set_xlim(0, seconds)
        _say(axes, "no picture" if not batch.has_lips[row] else "of the picture the batch has features alone")
        return
    crops = min(_CROPS, batch.length)
    width = seconds / crops
    for place in range(crops):
        frame = int((place + 0.5) * batch.length / crops)
        left = place * width
        picture = batch.lips[row, frame].cpu().numpy()
        axes.imshow(picture, extent=(left, left + width, CROP, 0), aspect="auto", interpolation="bilinear")
        if batch.face_ok[row, frame]:
            x, y = batch.mouth[row, frame].cpu().numpy().T
            axes.plot(left + x * width / CROP, y, ".", color="#F0E442", markersize=2.5, clip_on=True)
        else:
            axes.text(left + width / 2, CROP - 4, "face lost", color="white", backgroundcolor="#000000AA", fontsize=7,
                      horizontalalignment="center", verticalalignment="bottom")  # fmt: skip
    axes.set_xlim(0, seconds)
    axes.set_ylim(CROP, 0)


def _draw_sound(axes: Axes, batch: Batch, row: int) -> None:
    axes.set_yticks([])
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    if batch.audio is None or not batch.has_audio[row]:
        _say(axes, "no sound" if not batch.has_audio[row] else "of the sound the batch has features alone")
        return
    with torch.no_grad():
        mel = LogMel()(batch.audio[row : row + 1].cpu())[0].numpy()
    axes.imshow(mel, extent=(0, batch.length / FPS, 0, len(mel)), origin="lower", aspect="auto", cmap="magma")
    axes.set_ylabel("mel", fontsize=8)


def _draw_labels(axes: Axes, batch: Batch, row: int) -> None:
    labels = batch.frame_labels[row].T.cpu().numpy()
    colours = np.where(np.isnan(labels), 2, labels)
    extent = (0, batch.length / FPS, len(ASPECTS) - 0.5, -0.5)
    colour_map = ListedColormap([_GENUINE, _FAKE, _UNKNOWN])
    axes.imshow(colours, extent=extent, aspect="auto", interpolation="nearest", cmap=colour_map, vmin=0, vmax=2)
    axes.hlines([0.5, 1.5], 0, batch.length / FPS, color="white", linewidth=1.5)
    axes.set_yticks(range(len(ASPECTS)), ASPECTS, fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))


# How far logits are from probabilities.


def calibration_plot(aspects: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw, by name of an aspect, how sigmoid(logit) compares with the share of fakes before any calibration.

    ``aspects`` are the labels (n,) 0 or 1, and the logits (n,), of clips; those with NaN in either are left out. Above
    is a reliability diagram with as many clips behind each point, below how often each value occurs.
    """
    figure = _figure((4.0 * max(1, len(aspects)), 5.6), dpi=100)
    figure.suptitle("What the model says against how often it is fake, before calibration", fontsize=11)
    grid = figure.subplots(2, max(1, len(aspects)), squeeze=False, height_ratios=(3, 1), sharex=True)
    for (name, (labels, logits)), (upper, lower) in zip(aspects.items(), grid.T, strict=False):
        known = ~(np.isnan(np.asarray(labels, np.float64)) | np.isnan(np.asarray(logits, np.float64)))
        fake = np.asarray(labels, np.float64)[known] == 1
        _draw_reliability(upper, lower, fake, expit(np.asarray(logits, np.float64)[known]))
        upper.set_title(f"{name}\n{np.sum(~fake):,} genuine, {np.sum(fake):,} fake", fontsize=10)
    if not aspects:
        _say(grid[0, 0], "no clips")
    patches = [Patch(color=colour, label=label) for colour, label in _KINDS[:2]]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _draw_reliability(upper: Axes, lower: Axes, fake: NDArray[np.bool_], said: NDArray[np.float64]) -> None:
    points = min(10, len(said) // _FEWEST)
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    upper.set_xlim(-0.03, 1.03)
    upper.set_ylim(-0.03, 1.03)
    if len(said) < 1:
        _say(upper, "no clips")
    elif fake.all() or not fake.any():
        _say(upper, "all are fake:\nnothing to compare" if fake.all() else "all are genuine:\nnothing to compare")
    elif points < 1:
        _say(upper, f"{len(said)} clips are too few\nto compare")
    else:
        shares, means = calibration_curve(fake, said, n_bins=points, strategy="quantile")
        upper.plot(means, shares, "o-", color=_COLOURS[0], markersize=5)
        upper.text(0.03, 0.97, f"a point: about {len(said) / points:.0f} clips", transform=upper.transAxes, fontsize=8,
                   verticalalignment="top")  # fmt: skip
    bins = [n / 20 for n in range(21)]
    lower.hist([said[~fake], said[fake]], bins=bins, stacked=True, color=[_GENUINE, _FAKE])
    upper.set_ylabel("share of fakes", fontsize=8)
    lower.set_ylabel("clips", fontsize=8)
    lower.set_xlabel("sigmoid(logit)", fontsize=8)
    for axes in (upper, lower):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)


# How a run went.


def write_curves(history_path: str | os.PathLike[str], picture_path: str | os.PathLike[str]) -> None:
    """Draw the curves of a ``history.jsonl`` into a PNG file. Raises ``TrainingError``, ``StorageError``."""
    figure = curves(read_history(history_path))
    with whole_file(os.fspath(picture_path)) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the lines of a history (see ``avfake.training.logs``): losses, validation AUCs, learning rate, by step."""
    steps = [line for line in history if line["kind"] == "train"]
    validations = [line for line in history if line["kind"] == "validation"]
    figure = _figure((12, 9), dpi=100)
    losses, aucs, rate = figure.subplots(3, 1, sharex=True, height_ratios=(4, 3, 1.2))
    _draw_losses(losses, steps)
    _draw_aucs(aucs, validations)
    _draw_rate(rate, steps)
    for step in [line["step"] for line in validations if line["best"]][-1:]:
        for axes in (losses, aucs, rate):
            axes.axvline(step, color="#555555", linewidth=1, linestyle=":")
        losses.text(step, 1.01, f"best: step {step:,}", transform=losses.get_xaxis_transform(), fontsize=9,
                    horizontalalignment="center")  # fmt: skip
    rate.set_xlabel("step")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    for axes in (losses, aucs, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#EEEEEE")
        axes.set_axisbelow(True)
    return figure


def _draw_losses(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    axes.set_ylabel("training loss")
    if not steps:
        _say(axes, "no step yet")
        return
    for name, colour in _coloured(steps, _NO_TASKS, "loss"):
        at, values = _series(steps, name)
        label = "weighted sum" if name == "loss" else name
        axes.plot(at, values, color=colour, linewidth=0.6, alpha=0.3)
        axes.plot(at, _smoothed(values), _mark(at), color=colour, linewidth=1.8, label=label)
    if all(values.min() > 0 for name in _names(steps, _NO_TASKS) if len(values := _series(steps, name)[1])):
        # Tasks differ by orders of magnitude, and a cosine distance falls by as much.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)


def _draw_aucs(axes: Axes, validations: Sequence[Mapping[str, Any]]) -> None:
    axes.set_ylabel("validation AUC")
    if not validations:
        _say(axes, "no validation yet")
        return
    axes.axhline(0.5, color="#999999", linewidth=1)
    for name, colour in _coloured(validations, _NO_AUCS, "mean"):
        at, values = _series(validations, name)
        axes.plot(at, values, "o-", color=colour, linewidth=2.4 if name == "mean" else 1.4, markersize=4, label=name)
    axes.set_ylim(top=1.01)
    _legend(axes)


def _draw_rate(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    axes.set_ylabel("learning rate")
    at, values = _series(steps, "rate")
    axes.plot(at, values, _mark(at), color="#222222")
    axes.set_ylim(bottom=0)


def _names(lines: Sequence[Mapping[str, Any]], without: Sequence[str]) -> list[str]:
    """Return what lines tell of, in their order, leaving out what is never told (a task that is switched off)."""
    names = dict.fromkeys(name for line in lines for name, value in line.items() if value is not None)
    return [name for name in names if name not in without]


def _coloured(lines: Sequence[Mapping[str, Any]], without: Sequence[str], whole: str) -> list[tuple[str, str]]:
    """Return names and their colours: an aspect has the same one in every panel, ``whole`` comes last, in black."""
    names = _names(lines, (*without, whole))
    order = [*dict.fromkeys([*ASPECTS, "fake", *names])]
    named = [(name, colour) for name, colour in zip(order, cycle(_COLOURS)) if name in names]
    return [*named, (whole, "#222222")]


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the steps (n,) at which something is known, and its values (n,)."""
    known = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return np.array([step for step, _ in known], np.int64), np.array([value for _, value in known], np.float64)


def _mark(at: NDArray[np.int64]) -> str:
    """Return how to draw a line: a single value is a dot."""
    return "o-" if len(at) == 1 else "-"


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean over a twentieth of the values (n,), shorter at the ends."""
    kernel = np.ones(2 * (len(values) // 40) + 1)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _figure(size: tuple[float, float], dpi: int) -> Figure:
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, color="#555555", backgroundcolor="white",
              horizontalalignment="center", verticalalignment="center")  # fmt: skip
