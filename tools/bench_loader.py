"""Who waits for whom: ``python tools/bench_loader.py SHARDS [--config configs/mini.yaml] [--batch 8] [--frames 64]``.

Prints clips per second of the loader, with and without forging and augmentation, by number of worker processes, and
beside it the time of one end-to-end training step of the model on this machine (forward, losses of all heads,
backward, AdamW) in clips per second. Everything is measured in one run.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table

from avfake import AvfakeError
from avfake.config import load_config
from avfake.models import AVFakeModel
from avfake.models.fusion import ModelConfig
from avfake.training.batch import Batch
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


def step(model: AVFakeModel, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
    """One end-to-end step on every head that has a label."""
    assert batch.lips is not None
    assert batch.audio is not None
    scores = model(batch.lips.movedim(-1, -3).float() / 255, batch.audio, batch.has_lips, batch.has_audio)
    logits = torch.stack([scores.visual, scores.audio, scores.sync], dim=1)
    known = ~batch.labels.isnan()
    loss = F.binary_cross_entropy_with_logits(logits[known], batch.labels[known])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def training(shards: str, config: LoaderConfig, model_config: ModelConfig, device: str, steps: int) -> float:
    """Clips per second of training steps on batches that are there already."""
    batches = list(itertools.islice(load([Source(shards)], config), 2))
    batches = [batch.to(torch.device(device)) for batch in batches]
    model = AVFakeModel(model_config).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    step(model, optimiser, batches[0])
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for number in range(steps):
        step(model, optimiser, batches[number % 2])
    if device != "cpu":
        torch.cuda.synchronize()
    return steps * config.batch / (time.perf_counter() - start)


def main(
    shards: Annotated[str, typer.Argument(help="what avfake prepare made")],
    config: Annotated[Path, typer.Option(help="model")] = Path("configs/mini.yaml"),
    batch: Annotated[int, typer.Option(help="clips in a batch")] = 8,
    frames: Annotated[int, typer.Option(help="frames of a window")] = 64,
    seconds: Annotated[float, typer.Option(help="how long each loader is timed")] = 20.0,
    steps: Annotated[int, typer.Option(help="training steps to time")] = 3,
    device: Annotated[str, typer.Option(help="where the model trains")] = "cpu",
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
    torch.set_num_threads(1 if device != "cpu" else 2)
    trained = training(shards, kinds["as they are"], load_config(config).model, device, steps)
    table = Table(title=f"clips of {frames} frames per second, batches of {batch}", title_justify="left", box=None)
    for column in ("", "no worker", "1 worker", "2 workers"):
        table.add_column(column, justify="left" if not column else "right")
    for name in kinds:
        table.add_row(name, *(f"{rates[name, workers]:.1f}" for workers in (0, 1, 2)))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"one training step of {config.stem} on {device}: {batch / trained:.2f} s, {trained:.1f} clips per second"
    )
    slowest = rates["augmented, half forged", 2]
    share = max(0.0, 1 - slowest / trained)
    console.print(f"with 2 workers, augmented and half forged, training would wait for data {share:.0%} of the time")


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
