"""What a clip costs: time of each stage beside the floor, which is decoding alone, on one and on two threads.

Stages are measured from outside. The pipeline is run up to each stage and what the run without it took is taken off;
the parts of the model are run on clips extracted before. So nothing in the pipeline knows that it is measured.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import av
import torch
from rich.console import Console
from rich.table import Table

from avfake import FPS, SAMPLES_PER_FRAME, AvfakeError
from avfake.clips import Clip, extract
from avfake.detect import Detector, window_spans
from avfake.faces import track_faces
from avfake.media import Decoder, probe

THREADS = (1, 2)
ROUNDS = 3
"""Times everything is run; the first time also warms up, and the least of each counts."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BenchError(AvfakeError):
    """A file that cannot be measured."""


class Cost(NamedTuple):
    """Milliseconds per second of video: CPU time of all threads together, and time on the clock."""

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True)
class Measurement:
    """Costs of a clip on ``threads`` threads, by stage, and the most memory that judging it took, in bytes."""

    threads: int
    costs: dict[str, Cost]
    peak_bytes: int


def bench(path: Path, *, model: str = "mini") -> None:
    """Print what each stage costs on a clip of 10 to 60 s with a face.

    Raises ``AvfakeError`` where the clip or the model cannot be read and where the clip has no video.
    """
    if probe(path).video is None:
        raise BenchError(f"{path}: it has no video stream, beside which costs are measured; give a clip with a face.")
    runs = [in_fresh_process(measure, path, model, threads) for threads in THREADS]
    console = Console()
    console.print(_table(runs))
    one = runs[0].costs
    whole, floor = one["whole"], one["floor"]
    console.print(f"whole / floor, CPU time on one thread: {whole.cpu_ms / floor.cpu_ms:.2f}")
    console.print(
        f"real-time factor on one core: {whole.cpu_ms / 1000:.3f} by CPU time, {whole.wall_ms / 1000:.3f} on the clock"
    )
    console.print(f"peak memory: {runs[0].peak_bytes / 1e6:.0f} MB")


def in_fresh_process(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a module-level function in a new interpreter: thread pools keep their size, and peaks are per process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def peak_bytes() -> int:
    """Return the most memory this process has held (resident set).

    On Linux a process begins with the peak of the one that started it, which should therefore be the smaller one.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(path: Path, model: str, threads: int) -> Measurement:
    """Run all stages on a clip, in this process. Raises ``AvfakeError`` where the clip or model cannot be read."""
    detector = Detector.from_pretrained(model, threads=threads)
    detector.detect(path)
    peak = peak_bytes()  # before anything is kept for measuring
    clips = list(extract(Decoder(path, threads=threads), detector.backend))
    seconds = sum(1 for _ in Decoder(path, threads=threads)) / FPS

    passes: dict[str, Callable[[], None]] = {
        "floor": lambda: _decode_only(path, threads),
        "decoded": lambda: _exhaust(Decoder(path, threads=threads)),
        "tracked": lambda: _exhaust(track_faces(Decoder(path, threads=threads), detector.backend)),
        "extracted": lambda: _exhaust(extract(Decoder(path, threads=threads), detector.backend)),
        "speech": lambda: _speech(detector, clips),
        "visual": lambda: _visual(detector, clips),
        "audio": lambda: _audio(detector, clips),
        "examined": lambda: _exhaust(detector.examine(clip) for clip in clips),
        "whole": lambda: _exhaust([detector.detect(path)]),
    }
    taken: dict[str, list[Cost]] = {name: [] for name in passes}
    for _ in range(ROUNDS):
        for name, run in passes.items():
            taken[name].append(_timed(run, seconds))
    least = {name: Cost(*map(min, zip(*costs, strict=True))) for name, costs in taken.items()}
    costs = {
        "floor": least["floor"],
        "decode": least["decoded"],
        "faces": _less(least["tracked"], least["decoded"]),
        "crop": _less(least["extracted"], least["tracked"]),
        "speech": least["speech"],
        "visual": least["visual"],
        "audio": least["audio"],
        "fusion": _less(least["examined"], least["speech"], least["visual"], least["audio"]),
        "whole": least["whole"],
    }
    return Measurement(threads, costs, peak)


def _decode_only(path: Path, threads: int) -> None:
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        if threads > 1:
            stream.codec_context.thread_type = "AUTO"
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):  # a damaged packet
                packet.decode()


@torch.inference_mode()
def _speech(detector: Detector, clips: list[Clip]) -> None:
    for clip in clips:
        if clip.audio is not None:
            detector.speech(clip.audio)


@torch.inference_mode()
def _visual(detector: Detector, clips: list[Clip]) -> None:
    for clip in clips:
        embedded = detector.embed(clip)
        for start, end in window_spans(clip.frames):
            detector.model.lip_tower(embedded[None, start:end])


@torch.inference_mode()
def _audio(detector: Detector, clips: list[Clip]) -> None:
    for clip in clips:
        if clip.audio is not None:
            sound = torch.from_numpy(clip.audio)
            tower = detector.model.voice_tower
            for start, end in window_spans(clip.frames):
                tower(tower.embed(sound[None, start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]))


def _exhaust(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def _timed(run: Callable[[], None], seconds: float) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Cost(1000 * (time.process_time() - cpu) / seconds, 1000 * (time.perf_counter() - wall) / seconds)


def _less(cost: Cost, *others: Cost) -> Cost:
    return Cost(cost.cpu_ms - sum(o.cpu_ms for o in others), cost.wall_ms - sum(o.wall_ms for o in others))


def _table(runs: list[Measurement]) -> Table:
    table = Table(title="milliseconds per second of video", caption="floor: decoding alone, no colour conversion")
    table.add_column("stage")
    for run in runs:
        threads = f"{run.threads} thread{'s' * (run.threads > 1)}"
        table.add_column(f"{threads}\nCPU", justify="right")
        table.add_column("\nwall", justify="right")
    for stage in runs[0].costs:
        cells = [f"{value:.1f}" for run in runs for value in run.costs[stage]]
        table.add_row(stage, *cells, end_section=stage in ("floor", "fusion"))
    return table
