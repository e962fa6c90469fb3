"""What each stage of detection costs on a file, beside the floor, which is decoding alone.

The pipeline is run up to each stage and what the run without it took is taken off; the model's halves are run on clips
extracted before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
from rich.console import Console
from rich.table import Table

from avfake import FPS
from avfake.bench.measuring import THREADS, BenchError, Cost, in_fresh_process, least, peak_bytes, threads_label, timed
from avfake.clips import Clip, extract
from avfake.detect import Detector
from avfake.faces import track_faces
from avfake.media import Decoder, probe

ROUNDS = 3
"""Times everything is run; the first time also warms up, and the least of each counts."""


@dataclass(frozen=True)
class Measurement:
    """Costs of a clip on ``threads`` threads, by stage, and the most memory that judging it took, in bytes."""

    threads: int
    costs: dict[str, Cost]
    peak_bytes: int


def print_stages(path: Path, model: str) -> None:
    """Print the table of stages. Raises ``AvfakeError`` where the clip or the model cannot be read."""
    if probe(path).video is None:
        raise BenchError(f"{path}: it has no video stream, beside which costs are measured; give a clip with a face.")
    runs = [in_fresh_process(measure, path, model, threads) for threads in THREADS]
    console = Console(highlight=False)
    console.print(_table(runs))
    one = runs[0].costs
    whole, floor = one["whole"], one["floor"]
    console.print(f"whole / floor, CPU time on one thread: {whole.cpu_ms / floor.cpu_ms:.2f}")
    console.print(
        f"real-time factor on one core: {whole.cpu_ms / 1000:.3f} by CPU time, {whole.wall_ms / 1000:.3f} on the clock"
    )
    console.print(f"peak memory: {runs[0].peak_bytes / 1e6:.0f} MB")


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
        "embed": lambda: _exhaust(detector.embed(clip) for clip in clips),
        "examined": lambda: _exhaust(detector.examine(clip) for clip in clips),
        "whole": lambda: _exhaust([detector.detect(path)]),
    }
    taken: dict[str, list[Cost]] = {name: [] for name in passes}
    for _ in range(ROUNDS):
        for name, run in passes.items():
            taken[name].append(timed(run, seconds))
    cost = {name: least(costs) for name, costs in taken.items()}
    costs = {
        "floor": cost["floor"],
        "decode": cost["decoded"],
        "faces": _less(cost["tracked"], cost["decoded"]),
        "crop": _less(cost["extracted"], cost["tracked"]),
        "speech": cost["speech"],
        "embed": cost["embed"],
        "score": _less(cost["examined"], cost["speech"], cost["embed"]),
        "whole": cost["whole"],
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


def _speech(detector: Detector, clips: list[Clip]) -> None:
    for clip in clips:
        if clip.audio is not None:
            detector.speech(clip.audio)


def _exhaust(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def _less(cost: Cost, *others: Cost) -> Cost:
    return Cost(cost.cpu_ms - sum(o.cpu_ms for o in others), cost.wall_ms - sum(o.wall_ms for o in others))


def _table(runs: list[Measurement]) -> Table:
    table = Table(
        title="milliseconds per second of video",
        caption="floor: decoding alone, no colours\nembed: the model on lip crops\nscore: all that follows it",
    )
    table.add_column("stage")
    for run in runs:
        table.add_column(f"{threads_label(run.threads)}\nCPU", justify="right")
        table.add_column("\nwall", justify="right")
    for stage in runs[0].costs:
        cells = [f"{value:.1f}" for run in runs for value in run.costs[stage]]
        table.add_row(stage, *cells, end_section=stage in ("floor", "score"))
    return table
