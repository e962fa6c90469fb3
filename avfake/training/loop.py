"""The training loop: read top to bottom.

Everything random in a step follows from the seed, the number of the step and the process, so a run that was killed goes
on from its last state as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console

from avfake.clips import PREPROCESSING
from avfake.config import TrainConfig
from avfake.models import AVFakeModel
from avfake.report.training import Progress, calibration_plot, example_windows, write_curves
from avfake.shards import ShardFolder
from avfake.training import TrainingError
from avfake.training.batch import Batch
from avfake.training.cache import FrozenTowers, WindowCache
from avfake.training.check import check, loader_config
from avfake.training.folder import HISTORY, Standing, claimed, go_on, keep, save_state, tell_held_out
from avfake.training.heldout import heldout_windows
from avfake.training.learner import Learner, begin
from avfake.training.loader import Source, load
from avfake.training.logs import History, Trackers
from avfake.training.validate import Trials, judge

log = logging.getLogger(__name__)
VALIDATION_BATCH = 8  # windows; they are longer than those trained on


def train(config: TrainConfig) -> Path:
    """Train as ``config`` says, from the beginning or from where a killed run of the same config stood.

    Returns the run's folder, which is the checkpoint of the weights that did best on what is held out.
    Raises ``AvfakeError`` where config, shards or weights do not allow it.
    """
    accelerator = begin(config)
    sources = [Source(source.shards, source.weight) for source in config.data.sources.values()]
    taught = check(config, sources)
    with ExitStack() as stack:
        out = stack.enter_context(claimed(config, accelerator))
        learner = Learner(config, accelerator)
        standing = Standing(accelerator.num_processes)
        accelerator.register_for_checkpointing(standing)
        go_on(out, standing, accelerator)

        main = accelerator.is_main_process
        told = stack.enter_context(Progress(Console(stderr=True, quiet=not main), config.steps, standing.step))
        stream = batches(
            config, sources, learner.towers, accelerator, told.filling, standing.step * config.optim.accumulate
        )
        held = _HeldOut(config, sources, learner.towers, accelerator)
        history = History(out / HISTORY, standing.step) if main else None
        trackers = Trackers(out, config, standing.step) if main else None
        if history is not None and trackers is not None:
            stack.callback(history.close)
            stack.callback(trackers.close)
            if not standing.step:
                trackers.figure(0, "windows", example_windows(next(load(sources, loader_config(config)))))

        def validate() -> None:
            """Judge what is held out, and keep the weights if they are the best so far."""
            trials = held.judge(learner.judged)
            figures = trials.figures(learner.aspects)
            if main and not standing.figures:
                tell_held_out(learner, trials)
            best = _value(figures, config) > standing.best
            if best:
                standing.best, standing.best_step, standing.figures = _value(figures, config), standing.step, figures
                if main:
                    keep(out, learner, taught, trials)
            told.validation(standing.step, figures, best)
            if history is not None and trackers is not None:
                history.add(standing.step, "validation", **figures, best=best)
                trackers.scalars(standing.step, "validation", figures)
                trackers.figure(standing.step, "calibration", calibration_plot(trials.logits()))
                write_curves(out / HISTORY, out / "curves.png")

        if config.start and not standing.step:
            validate()  # what the run begins with is to be beaten
        while standing.step < config.steps and not _stopped(config, standing):
            taken = learner.step(stream, standing.step)
            standing.step += 1
            told.step(standing.step, taken.losses, taken.seconds, taken.waited)
            if history is not None and trackers is not None:
                scalars = {**taken.losses, "rate": taken.rate, "norm": taken.norm}
                history.add(standing.step, "train", **scalars, seconds=taken.seconds, waited=taken.waited)
                trackers.scalars(standing.step, "train", scalars)
            if standing.step % config.validation.every == 0 or standing.step == config.steps:
                validate()
            over = standing.step == config.steps or _stopped(config, standing)
            if standing.step % config.save_every == 0 or over:
                save_state(out, standing, accelerator)
    accelerator.end_training()
    if main:
        shown = " ".join(f"{name} {value:.3f}" for name, value in standing.figures.items())
        log.info("best at step %d: %s", standing.best_step, shown)
    return out


def _stopped(config: TrainConfig, standing: Standing) -> bool:
    """Whether so many validations have brought nothing better that training stops early."""
    patience = config.validation.patience * config.validation.every
    return 0 < patience <= standing.step - standing.best_step


def _value(figures: dict[str, float], config: TrainConfig) -> float:
    metric = config.validation.metric
    if metric not in figures:
        raise TrainingError(
            f"validation.metric={metric} cannot be measured on what is held out, where only "
            f"{', '.join(figures) or 'nothing'} can: choose another, or hold out more."
        )
    return figures[metric]


def batches(
    config: TrainConfig,
    sources: Sequence[Source],
    towers: FrozenTowers,
    accelerator: Accelerator,
    told: Callable[[int, int], None],
    start: int,
) -> Iterator[Batch]:
    """Yield batches without end from number ``start`` on, from the loader or from the cache, which is filled first.

    ``told(done, total)`` hears how many windows are in the cache.
    """
    data, loader = config.data, loader_config(config)
    rank, world = accelerator.process_index, accelerator.num_processes

    def drawn(start: int) -> Iterator[Batch]:
        return load(sources, loader, workers=data.workers, rank=rank, world=world, start=start)

    if not data.cache.windows:
        return drawn(start)
    if not (towers.lips or towers.voice or towers.teacher):
        raise TrainingError("data.cache.windows is above 0, but no tower is frozen: freeze one, or set it to 0.")
    shards = [[list(shard) for shard in ShardFolder(source.folder).shards] for source in sources]
    weights = [source.weight for source in sources]
    facts = [PREPROCESSING, asdict(loader), shards, weights, data.workers, config.precision, towers.digest()]
    key = sha256(json.dumps(facts).encode()).hexdigest()[:16]
    cache = WindowCache(Path(data.cache.folder) / f"{key}-{rank}-{world}", -(-data.cache.windows // world), data.batch)
    with accelerator.autocast():
        cache.fill(drawn, towers, accelerator.device, told)
    return cache.batches(config.seed, start)


class _HeldOut:
    """What is held out, read again for every validation, or kept where the lip tower has been run already."""

    def __init__(
        self, config: TrainConfig, sources: list[Source], towers: FrozenTowers, accelerator: Accelerator
    ) -> None:
        self._config, self._sources, self._towers, self._accelerator = config, sources, towers, accelerator
        self._kept: list[tuple[Batch, Any]] | None = None

    def judge(self, model: AVFakeModel) -> Trials:
        """Judge everything; each process its share."""
        accelerator = self._accelerator
        with accelerator.autocast(), torch.no_grad():
            mine = judge(model, self._batches())
        parts = gather_object([mine]) if accelerator.num_processes > 1 else [mine]
        trials = Trials()
        for part in parts:
            trials.add(part)
        return trials

    def _batches(self) -> Iterator[tuple[Batch, Any]]:
        device = self._accelerator.device
        kept = self._kept or []
        if self._kept is None:
            for batch, rows in self._read():
                embedded = self._towers.embedded(batch.to(device))
                if self._towers.lips:
                    kept.append((embedded.to(torch.device("cpu")), rows))
                yield embedded, rows
            self._kept = kept if self._towers.lips else None
        else:
            for batch, rows in kept:
                yield batch.to(device), rows

    def _read(self) -> Iterator[tuple[Batch, Any]]:
        validation, accelerator = self._config.validation, self._accelerator
        return heldout_windows(
            self._sources,
            validation.held_out,
            validation.clips,
            validation.frames,
            VALIDATION_BATCH,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            leave_out=self._config.data.leave_out,
        )
