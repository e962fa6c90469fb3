"""How costs are taken: CPU and wall time of a pass, the most memory of a process, on what machine."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from avfake import AvfakeError

THREADS = (1, 2)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BenchError(AvfakeError):
    """A file that cannot be measured."""


class Cost(NamedTuple):
    """Milliseconds per second of video: CPU time of all threads together, and time on the clock."""

    cpu_ms: float
    wall_ms: float


def timed(run: Callable[[], object], seconds: float) -> Cost:
    """Return what a run over so many seconds of video costs."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Cost(1000 * (time.process_time() - cpu) / seconds, 1000 * (time.perf_counter() - wall) / seconds)


def least(costs: list[Cost]) -> Cost:
    """Return the least CPU and the least wall time of several runs: other work on the machine only adds to them."""
    return Cost(*map(min, zip(*costs, strict=True)))


def in_fresh_process(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a module-level function in a new interpreter: thread pools keep their size, and peaks are per process.

    Raises ``BrokenProcessPool`` where that process ends before it answers.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def peak_bytes() -> int:
    """Return the most memory this process has held (resident set).

    On Linux a process begins with the peak of the one that started it, which should therefore be the smaller one.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine() -> str:
    """Say in a line what figures depend on: processor, cores, versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime"))
    return f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def threads_label(threads: int) -> str:
    """Return "1 thread", "2 threads"."""
    return f"{threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
