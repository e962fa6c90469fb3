"""How fast training is, and who waits for whom: ``python tools/bench_train.py CONFIG [key=value ...]``.

All in one run, for the shards and the model of a configuration: the step as ``avfake train`` takes it (fed by the
loader, by its number of worker processes; on batches that are there already; from the feature cache, if the
configuration has one), the loader alone, and what the arithmetic of a step comes to beside a large matrix product on
the same device. On a GPU both float32 and bf16 are measured; with ``--compile`` each is compiled, too.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from avfake import AvfakeError
from avfake.bench import in_fresh_process
from avfake.config import CacheConfig, TrainConfig, load_config
from avfake.training.batch import Batch
from avfake.training.cache import CHUNK
from avfake.training.check import check
from avfake.training.learner import Learner, begin
from avfake.training.loader import Source
from avfake.training.loop import batches

ROUND = 6
"""Steps taken over and over, so that windows are cut to the same lengths wherever a pace is measured."""
PREFETCHED = 2  # batches that each worker keeps ready; they are used up before the clock starts
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices that are multiplied
PRODUCTS = 10  # the fastest counts

Size = Sequence[int]


class Pace(NamedTuple):
    """Steps and windows a second, and the share of the time in which a step waited for its batch."""

    steps: float
    windows: float
    waiting: float


class Feeding(NamedTuple):
    """The step and the loader alone (windows a second) by number of workers; the step from the cache.

    ``filling`` is the seconds that the cache takes to fill for each window; None without a cache, as ``cached`` is.
    """

    fed: dict[int, Pace]
    loader: dict[int, float]
    filling: float | None
    cached: Pace | None


class Effort(NamedTuple):
    """The step on batches that are there; FLOP/s of a large matrix product; most bytes of GPU memory (0: no GPU)."""

    pace: Pace
    product: float
    peak_bytes: int


class Bench:
    """Training as ``config`` says, taken step by step."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.accelerator = begin(config)
        self.learner = Learner(config, self.accelerator)
        self.device: torch.device = self.accelerator.device

    def batches(self, told: Callable[[int, int], None] = lambda done, total: None, **data: Any) -> Iterator[Batch]:
        """Return batches as training gets them, but for what ``data`` says; without a cache unless it gives one."""
        config = replace(self.config, data=replace(self.config.data, **{"cache": CacheConfig(), **data}))
        return batches(config, sources(config), self.learner.towers, self.accelerator, told, 0)

    def ready(self) -> Iterator[Batch]:
        """Yield a round of batches over and over from memory."""
        count = ROUND * self.config.optim.accumulate
        return itertools.cycle(list(itertools.islice(self.batches(workers=0), count)))

    def pace(self, stream: Iterator[Batch], seconds: float, warm_up: int) -> Pace:
        """Measure whole rounds of steps for at least ``seconds``, after ``warm_up`` steps."""
        for number in range(warm_up):
            self.learner.step(stream, number % ROUND)
        self._finish()
        begun, steps, waited, taken = time.perf_counter(), 0, 0.0, 0.0
        while taken < seconds:
            waited += sum(self.learner.step(stream, number).waited for number in range(ROUND))
            self._finish()
            steps, taken = steps + ROUND, time.perf_counter() - begun
        windows = steps * self.config.optim.accumulate * self.config.data.batch
        return Pace(steps / taken, windows / taken, waited / taken)

    def loading(self, workers: int, seconds: float) -> float:
        """Windows a second of the loader alone, over at least ``seconds``."""
        stream = self.batches(workers=workers)
        for _ in range(1 + PREFETCHED * workers):
            next(stream)
        begun, windows, taken = time.perf_counter(), 0, 0.0
        while taken < seconds:
            windows += len(next(stream).ids)
            taken = time.perf_counter() - begun
        return windows / taken

    def cached(self, seconds: float) -> tuple[float, Pace]:
        """Seconds for each window to fill a cache of two files, timed over the second, and the step from it."""
        size = CHUNK * self.config.data.batch
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            stream = self.batches(lambda *_: times.append(time.perf_counter()), cache=CacheConfig(2 * size, folder))
            return (times[1] - times[0]) / size, self.pace(stream, seconds, ROUND)

    def product(self) -> float:
        """FLOP/s of a product of two large matrices in the precision of the configuration."""
        side = SIDE.get(self.device.type, SIDE["cpu"])
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        a, b = torch.randn(2, side, side, dtype=dtype, device=self.device)
        times = []
        for _ in range(1 + PRODUCTS):
            self._finish()
            begun = time.perf_counter()
            torch.mm(a, b)
            self._finish()
            times.append(time.perf_counter() - begun)
        return float(2 * side**3 / min(times[1:]))

    def _finish(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def sources(config: TrainConfig) -> list[Source]:
    """Return what a configuration trains on."""
    return [Source(source.shards, source.weight) for source in config.data.sources.values()]


# ------------------------------------------------------------------------------- each in a process of its own


def feeding(config: TrainConfig, workers: Sequence[int], seconds: float) -> Feeding:
    """Measure how the step is fed, and what the loader could do."""
    bench = Bench(config)
    fed: dict[int, Pace] = {}
    alone: dict[int, float] = {}
    for count in workers:
        warm_up = max(1 + PREFETCHED * count, 0 if fed else ROUND)
        fed[count] = bench.pace(bench.batches(workers=count), seconds, warm_up)
        alone[count] = bench.loading(count, seconds)
    filling, cached = bench.cached(seconds) if config.data.cache.windows else (None, None)
    return Feeding(fed, alone, filling, cached)


def effort(config: TrainConfig, seconds: float) -> Effort:
    """Measure the step where it waits for nothing."""
    bench = Bench(config)
    pace = bench.pace(bench.ready(), seconds, ROUND)
    peak = torch.cuda.max_memory_allocated(bench.device) if bench.device.type == "cuda" else 0
    return Effort(pace, bench.product(), peak)


def step_flops(config: TrainConfig) -> float:
    """Count the FLOPs of a step: matrix products, convolutions and, on a GPU, attention, forward and backward."""
    bench = Bench(replace(config, compile=False))
    stream = bench.ready()
    mapping = {torch.ops.aten.convolution_backward: _conv_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        for number in range(ROUND):
            bench.learner.step(stream, number)
    return counter.get_total_flops() / ROUND


def _conv_backward(grad: Size, x: Size, weight: Size, *rest: Any, out_shape: Any, **named: Any) -> int:
    """FLOPs of a convolution's backward pass: each gradient asked for costs as much as the forward pass.

    torch 2.11's own count takes every convolution for a dense one: it is too high by the number of groups.
    """
    _, _, _, _, transposed, _, _, asked = rest
    places = x if transposed else grad
    return int(2 * grad[0] * prod(places[2:]) * prod(weight) * sum(asked[:2]))


# ---------------------------------------------------------------------------------------------------- the report


def paces(fed: Feeding, ready: Pace) -> Table:
    """Who waits for whom."""
    table = Table(box=None)
    for column in ("", "steps/s", "windows/s", "waiting for data"):
        table.add_column(column, justify="right" if column else "left")
    rows = {f"step, {_workers(count)}": pace for count, pace in fed.fed.items()}
    rows["step, batches there already"] = ready
    if fed.cached is not None:
        rows["step, from the cache"] = fed.cached
    for name, pace in rows.items():
        table.add_row(name, _short(pace.steps), _short(pace.windows), f"{pace.waiting:.1%}")
    for count, windows in fed.loader.items():
        table.add_row(f"loader alone, {_workers(count)}", "", _short(windows), "")
    return table


def efforts(found: dict[str, Effort], flops: float) -> Table:
    """What the arithmetic comes to, on batches that are there already."""
    table = Table(box=None)
    for column in ("", "steps/s", "windows/s", "TFLOP/s", "matrix product", "share", "peak GPU memory"):
        table.add_column(column, justify="right" if column else "left")
    for name, (pace, product, peak) in found.items():
        done = flops * pace.steps
        numbers = [_short(number) for number in (pace.steps, pace.windows, done / 1e12, product / 1e12)]
        table.add_row(name, *numbers, f"{done / product:.1%}", f"{peak / 1e9:.1f} GB" if peak else "-")
    return table


def _workers(count: int) -> str:
    return "no worker" if not count else f"{count} worker{'s' * (count > 1)}"


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("pairs", nargs="*", metavar="key=value")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each pace is measured, at least")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of worker processes")
    parser.add_argument("--compile", action="store_true", help="measure compiled towers, too")
    given = parser.parse_intermixed_args(arguments)
    config = load_config(given.config, given.pairs)
    check(config, sources(config))
    gpu = config.device != "cpu" and torch.cuda.is_available()
    precisions = ["float32", "bf16"] if gpu else [config.precision]
    compiled = [False, True] if given.compile else [config.compile]
    kinds = [replace(config, precision=p, compile=c) for p, c in itertools.product(precisions, compiled)]

    console = Console(highlight=False, soft_wrap=True)
    with console.status("measuring, which takes minutes"):
        flops = in_fresh_process(step_flops, config)
        fed = in_fresh_process(feeding, config, given.workers, given.seconds)
        found = [in_fresh_process(effort, kind, given.seconds) for kind in kinds]
    ready = found[kinds.index(config)].pace
    data, windows = config.data, config.data.batch * config.optim.accumulate
    device = torch.cuda.get_device_name() if gpu else f"CPU, {config.threads} thread{'s' * (config.threads > 1)}"
    length = f"{data.shortest} to {data.frames}" if data.shortest else f"{data.frames}"
    console.print(f"{given.config.stem} on {device}, {_name(config)}: steps of {windows} windows of {length} frames\n")
    console.print(paces(fed, ready))
    console.print()
    console.print(efforts({_name(kind): one for kind, one in zip(kinds, found, strict=True)}, flops))
    console.print(f"\na step is {_short(flops / 1e12)} TFLOP, {_short(flops / windows / 1e9)} GFLOP a window")
    if fed.filling is not None:
        console.print(f"filling the cache ({_workers(data.workers)}): {_short(fed.filling)} s a window")
    most = max(fed.loader)
    each = fed.loader[most] / max(most, 1)
    console.print(
        f"a loader process makes {_short(each)} windows/s (measured with {_workers(most)}): so that the loader is not "
        f"the bottleneck of {_short(ready.windows)} windows/s, {_short(ready.windows / each)} CPU cores must load"
    )


def _name(config: TrainConfig) -> str:
    return config.precision + ", compiled" * config.compile


if __name__ == "__main__":
    try:
        main()
    except AvfakeError as error:
        sys.exit(str(error))
