"""What the loader's work costs: ``python tools/bench_loader.py SHARDS [--batch 8] [--frames 64] [--seconds 20]``.

Prints clips per second of the loader alone, with and without forging and augmentation, by number of worker processes.
Whether training waits for it: ``tools/bench_train.py``.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from avfake import AvfakeError
from avfake.training.loader import LoaderConfig, Source, load

WARM_UP = 2
"""Batches of each worker that are not timed: processes start and shards are opened."""


def loading(shards: str, config: LoaderConfig, workers: int, seconds: float) -> float:
    """Clips per second, over at least ``seconds``."""
    batches = load([Source(shards)], config, workers=workers)
    for _ in itertools.islice(batches, WARM_UP * max(workers, 1)):
        pass
    start, clips = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        clips += len(next(batches).ids)
    return clips / (time.perf_counter() - start)


def main(
    shards: Annotated[str, typer.Argument(help="what avfake prepare made")],
    batch: Annotated[int, typer.Option(help="clips in a batch")] = 8,
    frames: Annotated[int, typer.Option(help="frames of a window")] = 64,
    seconds: Annotated[float, typer.Option(help="how long each loader is timed")] = 20.0,
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rates: dict[tuple[str, int], float] = {}
    kinds = {
        "as they are": LoaderConfig(frames, batch, augmented=False),
        "augmented": LoaderConfig(frames, batch),
        "augmented, half forged": LoaderConfig(frames, batch, forged=0.5),
    }
    for name, kind in kinds.items():
        for workers in (0, 1, 2):
            rates[name, workers] = loading(shards, kind, workers, seconds)
    table = Table(title=f"clips of {frames} frames per second, batches of {batch}", title_justify="left", box=None)
    for column in ("", "no worker", "1 worker", "2 workers"):
        table.add_column(column, justify="left" if not column else "right")
    for name in kinds:
        table.add_row(name, *(f"{rates[name, workers]:.1f}" for workers in (0, 1, 2)))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
