"""What each runtime of a model costs beside eager torch, and how far its scores are from eager torch's.

Every figure comes from a process that runs one runtime on one number of threads. Each runtime gets several such
processes, in turns with the others, so that other work on the machine meets all of them alike.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avfake import FPS, SAMPLES_PER_FRAME, AvfakeError
from avfake.bench.measuring import (
    THREADS,
    BenchError,
    Cost,
    in_fresh_process,
    least,
    machine,
    peak_bytes,
    threads_label,
    timed,
)
from avfake.clips import DEMO_CLIP, Clip, extract, read_clip
from avfake.detect import window_spans
from avfake.faces import load_backend
from avfake.media import Decoder
from avfake.models import Scores, find_checkpoint, read_config
from avfake.models.checkpoint import CONFIG, WEIGHTS
from avfake.runtimes import Runtime, describe, graphs, is_exported, load_runtime

if TYPE_CHECKING:
    from avfake.export import Format, Precision

TURNS = 2
"""Processes that each runtime gets for each number of threads."""
PASSES = 3
"""Times each process goes over the clip, after its first window; the least of all processes counts."""
COMPILE_LIMIT_S = 300
"""torch.compile is given up where it is not ready by then."""
TOLERANCE = 1e-4
"""Scores that differ by less are the model's own."""
CLIP_FRAMES = 20 * FPS
"""To which the clip that comes with avfake, 2.4 s of one face and its voice, is repeated."""
WIDTH = 100
"""Columns of the table where the output is no terminal."""
EAGER = "eager torch"
EXPORTS: tuple[tuple[str, Format, Precision], ...] = (
    ("TorchScript", "torchscript", "float32"),
    ("ONNX float32", "onnx", "float32"),
    ("ONNX float16", "onnx", "float16"),
    ("ONNX int8", "onnx", "int8"),
)
ENDINGS: dict[Format, str] = {"torchscript": "ts", "onnx": "onnx"}

Kind = Literal["default", "eager", "compiled"]
Said = list[Scores[NDArray[np.float32]]]
"""Scores of each window."""


@dataclass(frozen=True)
class Subject:
    """What is measured: a model, how it is loaded, and the files it is loaded from."""

    name: str
    model: str
    kind: Kind
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Sample:
    """What one process found: seconds until ready, most memory in bytes, least cost, scores."""

    ready_s: float
    peak_bytes: int
    cost: Cost
    scores: Said


@dataclass
class Result:
    """What all processes of a subject found, by threads, or why it cannot be measured."""

    subject: Subject
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    failure: str | None = None

    def cost(self, threads: int) -> Cost:
        """The least of all processes."""
        return least([sample.cost for sample in self.samples[threads]])


def print_runtimes(path: Path | None, model: str) -> None:
    """Print the table of runtimes of a model, on the faces of a clip or on the clip that comes with avfake.

    A checkpoint is run as ``detect`` takes it, by eager torch, compiled, and exported in every form; an exported file
    as it is, beside the default model. Raises ``AvfakeError`` where the clip or the model cannot be read, and where no
    face is found.
    """
    console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    with tempfile.TemporaryDirectory(prefix="avfake-") as folder, progress.status("preparing the clip ...") as status:
        clips = in_fresh_process(prepare, path)
        status.update("exporting the model ...")
        results = _subjects(model, Path(folder))
        for turn in range(TURNS):
            for threads in THREADS:
                for result in results:
                    if result.failure is None:
                        name = escape(result.subject.name)
                        status.update(f"{name} on {threads_label(threads)}, turn {turn + 1} of {TURNS} ...")
                        _run_once_more(result, clips, threads, Path(folder))
        seconds = sum(clip.frames for clip in clips) / FPS
        console.print(_table(results, f"{seconds:.0f} s of {path.name if path else 'the clip that comes with avfake'}"))
    for line in (machine(), *conclusions(results)):
        console.print(line, markup=False, soft_wrap=True)


def prepare(path: Path | None) -> list[Clip]:
    """Return the face tracks of a file, as ``detect`` has them, or the clip that comes with avfake, repeated."""
    if path is None:
        clip = read_clip(DEMO_CLIP)
        assert clip.lips is not None
        assert clip.audio is not None
        lips = np.resize(clip.lips, (CLIP_FRAMES, *clip.lips.shape[1:]))  # repeats what is there
        audio = np.resize(clip.audio, CLIP_FRAMES * SAMPLES_PER_FRAME)
        return [Clip(lips, audio, None, np.ones(CLIP_FRAMES, np.bool_))]
    clips = [clip for clip in extract(Decoder(path), load_backend("auto")) if clip.lips is not None]
    if not clips:
        raise BenchError(f"{path}: no face is found in it, on which a model could be measured; give a clip with one.")
    return clips


def export_all(model: str, folder: Path) -> list[Result]:
    """Export a checkpoint in every form into a folder; says of each what is to be measured, or why it cannot be.

    Raises ``CheckpointError`` where the model cannot be loaded.
    """
    from avfake.export import export
    from avfake.models import load_checkpoint

    checkpoint = load_checkpoint(model)
    results = []
    for number, (name, format, precision) in enumerate(EXPORTS):
        path = folder / f"{number}.{ENDINGS[format]}"
        result = Result(Subject(name, str(path), "default", (path,)))
        try:
            export(checkpoint, path, format=format, precision=precision)
        except AvfakeError as error:
            result.failure = _without(str(path), error)
        results.append(result)
    return results


def measure(subject: Subject, clips: Sequence[Clip], threads: int, folder: Path, started: float) -> Sample:
    """Run a subject in this process, which was started at that ``time.time()``. Raises ``AvfakeError``.

    ``folder`` keeps what torch.compile has made for the next process.
    """
    limit = threading.Timer(COMPILE_LIMIT_S, os._exit, [1])  # nothing else stops a compiler deep in its work
    limit.daemon = True
    if subject.kind == "compiled":
        limit.start()
    try:
        runtime = load(subject, threads, folder)
        judge(runtime, clips[:1], first_only=True)
    finally:
        limit.cancel()
    ready = time.time() - started
    seconds = sum(clip.frames for clip in clips) / FPS
    cost = least([timed(lambda: judge(runtime, clips), seconds) for _ in range(PASSES)])
    return Sample(ready, peak_bytes(), cost, judge(runtime, clips))


def load(subject: Subject, threads: int, folder: Path) -> Runtime:
    """Load a subject. Raises ``AvfakeError``."""
    if subject.kind == "default":
        return load_runtime(subject.model, threads=threads)
    from avfake.models import load_checkpoint

    checkpoint = load_checkpoint(subject.model)
    if subject.kind == "eager":
        from avfake.runtimes.eager import TorchRuntime

        return TorchRuntime(checkpoint, threads=threads)
    from avfake.bench.compiled import CompiledRuntime

    return CompiledRuntime(checkpoint, folder, threads=threads)


def judge(runtime: Runtime, clips: Sequence[Clip], *, first_only: bool = False) -> Said:
    """Do the model's work of ``detect``: embed every frame once, score every window, or the first one alone."""
    said = []
    for clip in clips:
        assert clip.lips is not None
        spans = window_spans(clip.frames)[: 1 if first_only else None]
        embedded = runtime.embed(clip.lips[: spans[-1][1]])
        has_lips, has_audio = np.array([True]), np.array([clip.audio is not None])
        audio = clip.audio if clip.audio is not None else np.zeros(clip.frames * SAMPLES_PER_FRAME, np.float32)
        for start, end in spans:
            sound = audio[None, start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
            said.append(runtime.score(embedded[None, start:end], sound, has_lips, has_audio))
    return said


def difference(result: Result, results: Sequence[Result]) -> float | None:
    """Return the largest absolute difference of any score from eager torch's; None for eager torch and without it."""
    eager = next((other for other in results if other.subject.kind == "eager" and other.samples), None)
    if eager is None or eager is result:
        return None
    expected = eager.samples[THREADS[0]][0].scores
    apart = [
        np.abs(theirs - ours).max()
        for samples in result.samples.values()
        for sample in samples
        for pair in zip(expected, sample.scores, strict=True)
        for theirs, ours in zip(*pair, strict=True)
    ]
    return float(np.max(apart))  # NaN stays NaN


def conclusions(results: Sequence[Result]) -> list[str]:
    """Say what is fastest on each number of threads, down to the first whose scores are the model's own."""
    measured = [result for result in results if result.failure is None]
    lines = []
    for threads in THREADS:
        place = f"fastest on {threads_label(threads)}"
        for result in sorted(measured, key=lambda result: result.cost(threads).wall_ms):
            line = f"{place}: {result.subject.name}, {result.cost(threads).wall_ms:.1f} ms on the clock"
            apart = difference(result, measured)
            if apart is None or apart < TOLERANCE:
                same = "" if apart is None else f", scores within {apart:.0e} of {EAGER}: below {TOLERANCE:.0e}"
                lines.append(line + same)
                break
            lines.append(f"{line}, but its scores differ from {EAGER} by {apart:.0e}: not below {TOLERANCE:.0e}")
            place = f"next on {threads_label(threads)}"
    return lines


def _subjects(model: str, folder: Path) -> list[Result]:
    """Return what is to be measured of a model. Raises ``AvfakeError``."""
    describe(model)  # a model that cannot be read is the user's to mend, not a row that says so
    if is_exported(model):
        mine = Subject(Path(model).name, model, "default", (Path(model),))
        return [Result(mine), Result(_default("mini", "mini, by default"))]
    default = _default(model, "onnxruntime (default)")
    checkpoint = default.files[:2]
    has_graphs = default.files != checkpoint
    eager = Subject(EAGER if has_graphs else f"{EAGER} (default)", model, "eager", checkpoint)
    compiled = Subject("torch.compile", model, "compiled", checkpoint)
    exported = in_fresh_process(export_all, model, folder)
    return [*([Result(default)] if has_graphs else []), Result(eager), Result(compiled), *exported]


def _default(model: str, name: str) -> Subject:
    folder = find_checkpoint(model)
    found = graphs.find(read_config(folder).model)
    files = [] if found is None else [found / file for file in (graphs.EMBED, graphs.SCORE, graphs.FACTS)]
    return Subject(name, model, "default", (folder / WEIGHTS, folder / CONFIG, *files))


def _run_once_more(result: Result, clips: list[Clip], threads: int, folder: Path) -> None:
    subject, started = result.subject, time.time()
    try:
        sample = in_fresh_process(measure, subject, clips, threads, folder, started)
        result.samples.setdefault(threads, []).append(sample)
    except AvfakeError as error:
        result.failure = _without(subject.model, error)
    except BrokenProcessPool:
        late = subject.kind == "compiled" and time.time() - started >= COMPILE_LIMIT_S
        result.failure = (
            f"not ready after {COMPILE_LIMIT_S} s, when it was given up"
            if late
            else "its process was ended from outside, most likely for want of memory"
        )


def _without(path: str, error: AvfakeError) -> str:
    """Return what an error says, without a path that the reader has not given."""
    return str(error).removeprefix(path).strip()


def _table(results: Sequence[Result], measured_on: str) -> Table:
    table = Table(
        title=f"the model's work on {escape(measured_on)}, milliseconds per second of it",
        caption=f"ready: from the start of the first process to the scores of the first window\n"
        "peak: the most memory of a process; both on 1 thread\n"
        f"apart: the largest difference of any score from {EAGER}'s",
        box=box.SIMPLE,
    )
    table.add_column("runtime", max_width=36)
    for threads in THREADS:
        table.add_column(f"{threads_label(threads)}\nCPU", justify="right", no_wrap=True)
        table.add_column("\nwall", justify="right", no_wrap=True)
    for heading in ("ready\ns", "peak\nMB", "files\nMB", "apart\n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        if result.failure is not None:
            table.add_row(escape(f"{result.subject.name}: not measured: {result.failure}"))
            continue
        first = result.samples[THREADS[0]]
        apart = difference(result, results)
        table.add_row(
            escape(result.subject.name),
            *(f"{value:.1f}" for threads in THREADS for value in result.cost(threads)),
            f"{first[0].ready_s:.1f}",
            f"{max(sample.peak_bytes for sample in first) / 1e6:.0f}",
            f"{sum(file.stat().st_size for file in result.subject.files) / 1e6:.1f}",
            "–" if apart is None else f"{apart:.0e}",
        )
    return table
