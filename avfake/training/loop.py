"""The training loop: read top to bottom.

Everything random in a step follows from the seed, the number of the step and the process, so a run that was killed goes
on from its last state as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from rich.console import Console
from safetensors import SafetensorError
from timm.layers.norm_act import convert_sync_batchnorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from avfake.clips import PREPROCESSING
from avfake.config import TrainConfig, differences, dump_config, load_config
from avfake.evaluation.platt import fit
from avfake.models import AVFakeModel, load_checkpoint, save_checkpoint
from avfake.models.pretrained import CheckpointConfig, start_from_public_weights
from avfake.report.training import Progress, calibration_plot, example_windows, write_curves
from avfake.shards import ShardFolder
from avfake.storage import whole_file
from avfake.training import TrainingError
from avfake.training.batch import Batch
from avfake.training.cache import FrozenTowers, WindowCache
from avfake.training.check import check, loader_config
from avfake.training.heldout import heldout_windows
from avfake.training.loader import Source, load
from avfake.training.logs import History, Trackers
from avfake.training.objective import Losses, Objective
from avfake.training.optim import freeze, parameter_groups, schedule
from avfake.training.teacher import Teacher
from avfake.training.validate import Trials, judge

log = logging.getLogger(__name__)
SETTLED = 1 / 3
"""Share of the steps after which sync is trusted to find a clip's own constant offset."""
VALIDATION_BATCH = 8  # windows; they are longer than those trained on


class Standing:
    """Where a run stands, beside weights and optimiser: saved and loaded with them."""

    def __init__(self, processes: int) -> None:
        self.step = 0
        self.best = -np.inf
        self.best_step = 0
        self.figures: dict[str, float] = {}
        self.processes = processes

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was saved."""
        vars(self).update(state)


def train(config: TrainConfig) -> Path:
    """Train as ``config`` says, from the beginning or from where a killed run of the same config stood.

    Returns the run's folder, which is the checkpoint of the weights that did best on what is held out.
    Raises ``AvfakeError`` where config, shards or weights do not allow it.
    """
    torch.set_num_threads(config.threads)
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        gradient_accumulation_steps=config.optim.accumulate,
        # A batch without lips, or without voices, leaves a tower without gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    out = Path(config.out)
    sources = [Source(source.shards, source.weight) for source in config.data.sources.values()]
    corpora = check(config, sources)
    _claim(out, config, accelerator)

    # ------------------------------------------------------------------------------------- what learns, and how
    torch.manual_seed(config.seed)
    model = _begin(config, accelerator)
    still = freeze(model, config.freeze, config.norms_only)
    teacher = Teacher.load(config.teacher).to(accelerator.device) if config.teacher else None
    objective: Any = Objective(model, teacher.width if teacher is not None else 0)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        objective = convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]
    optimiser: Any = torch.optim.AdamW(parameter_groups(objective, config.optim), lr=config.optim.rate)
    rates = schedule(optimiser, config.optim, config.steps)
    objective, optimiser = accelerator.prepare(objective, optimiser)
    average = _average(model, config.optim.ema)
    standing = Standing(accelerator.num_processes)
    accelerator.register_for_checkpointing(rates, standing, *([average] if average is not None else []))
    if config.compile:
        model.lip_tower.stages.compile()
        model.voice_tower.wav2vec2.encoder.compile()
    _go_on(out, standing, accelerator)
    towers = FrozenTowers(model, teacher)

    with ExitStack() as stack:
        main = accelerator.is_main_process
        told = stack.enter_context(Progress(Console(stderr=True, quiet=not main), config.steps, standing.step))
        history = History(out / "history.jsonl", standing.step) if main else None
        trackers = Trackers(out, config, standing.step) if main else None
        if history is not None and trackers is not None:
            stack.callback(history.close)
            stack.callback(trackers.close)
            if not standing.step:
                examples = next(load(sources, loader_config(config)))
                trackers.figure(standing.step, "windows", example_windows(examples))
        batches = _batches(config, sources, towers, accelerator, told, standing.step * config.optim.accumulate)
        held = _HeldOut(config, sources, towers, accelerator)

        # --------------------------------------------------------------------------------------------- the steps
        while standing.step < config.steps and not _stopped(config, standing):
            step, begun, waited, norm = standing.step, time.perf_counter(), 0.0, 0.0
            values: dict[str, float] = defaultdict(float)
            model.train()
            for module in still:
                module.eval()
            for part in range(config.optim.accumulate):
                waiting = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - waiting
                seed = _seed(config.seed, step, part)
                torch.manual_seed(_seed(seed, accelerator.process_index))  # dropout
                with accelerator.accumulate(objective):
                    with accelerator.autocast(), torch.no_grad():
                        batch = towers(_cut(batch, config, seed).to(accelerator.device))
                    losses = objective(batch, seed, step >= SETTLED * config.steps)
                    total = _total(losses, config)
                    accelerator.backward(total)
                    if accelerator.sync_gradients:
                        norm = float(accelerator.clip_grad_norm_(objective.parameters(), config.optim.clip))
                    _require_finite(total + norm, losses, batch, step, accelerator)
                    optimiser.step()
                    optimiser.zero_grad()
                for name, value in (*losses._asdict().items(), ("loss", total)):
                    values[name] += value.item() / config.optim.accumulate
            rates.step()
            if average is not None:
                average.update_parameters(model)
            standing.step += 1

            shown = {name: value for name, value in values.items() if getattr(config.weights, name, 1.0)}
            seconds = time.perf_counter() - begun
            told.step(standing.step, shown, seconds, waited)
            if history is not None and trackers is not None:
                scalars = {**shown, "rate": float(rates.get_last_lr()[0]), "norm": norm}
                history.add(standing.step, "train", **scalars, seconds=seconds, waited=waited)
                trackers.scalars(standing.step, "train", scalars)

            if standing.step % config.validation.every == 0 or standing.step == config.steps:
                judged: Any = average.module if average is not None else model
                trials = held.judge(judged.eval())
                figures = trials.figures()
                value = _value(figures, config)
                best = value > standing.best
                if best:
                    standing.best, standing.best_step, standing.figures = value, standing.step, figures
                    if main:
                        _save_checkpoint(out, judged, config, corpora, trials)
                told.validation(standing.step, figures, best)
                if history is not None and trackers is not None:
                    history.add(standing.step, "validation", **figures, best=best)
                    trackers.scalars(standing.step, "validation", figures)
                    trackers.figure(standing.step, "calibration", calibration_plot(trials.logits()))
                    write_curves(out / "history.jsonl", out / "curves.png")
            if standing.step % config.save_every == 0 or standing.step == config.steps:
                _save_state(out, standing, accelerator)
    accelerator.end_training()
    log.info("best at step %d: %s", standing.best_step, _shown(standing.figures))
    return out


# ------------------------------------------------------------------------------------------------ model and state


def _begin(config: TrainConfig, accelerator: Accelerator) -> AVFakeModel:
    model = AVFakeModel(config.model)
    if config.start:
        started = load_checkpoint(config.start)
        try:
            model.load_state_dict(started.model.state_dict())
        except RuntimeError as error:
            raise TrainingError(
                f"start={config.start} is a model of another shape than this configuration's."
            ) from error
    else:
        with accelerator.main_process_first():  # which may download them
            for sentence in start_from_public_weights(model, config.model):
                if accelerator.is_main_process:
                    log.info(sentence)
    return model


def _average(model: AVFakeModel, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _claim(out: Path, config: TrainConfig, accelerator: Accelerator) -> None:
    """Write down the configuration, or see that the run that is there has the same."""
    file = out / "train.yaml"
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            with whole_file(str(file)) as stream:
                stream.write(dump_config(config).encode())
    accelerator.wait_for_everyone()
    if other := differences(load_config(file), config):
        raise TrainingError(
            f"{out} holds a run with another configuration (of {', '.join(other)}): give this one another out, or "
            f"delete {out} to begin anew."
        )


def _states(out: Path) -> list[tuple[int, Path]]:
    """Return the saved states, oldest first."""
    found = [(int(path.name.removeprefix("step-")), path) for path in (out / "state").glob("step-*[0-9]")]
    return sorted(found)


def _go_on(out: Path, standing: Standing, accelerator: Accelerator) -> None:
    """Load the last state, if there is one."""
    if not (states := _states(out)):
        return
    step, folder = states[-1]
    processes = standing.processes
    try:
        accelerator.load_state(str(folder))
    except (OSError, RuntimeError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        raise TrainingError(
            f"{folder} cannot be gone on from ({str(error).splitlines()[0]}): delete it, and the run goes on from an "
            "earlier state or from the beginning."
        ) from error
    if standing.processes != processes:
        log.warning(
            "%s was trained by %d processes and goes on with %d, which see other batches",
            out,
            standing.processes,
            processes,
        )
        standing.processes = processes
    if accelerator.is_main_process:
        log.info("%s goes on from step %d", out, step)


def _save_state(out: Path, standing: Standing, accelerator: Accelerator) -> None:
    """Save what is needed to go on; the folder appears whole, then older ones go."""
    folder = out / "state" / f"step-{standing.step:07d}"
    partial = folder.with_suffix(".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        for _, older in _states(out)[:-1]:
            shutil.rmtree(older)


def _save_checkpoint(out: Path, model: AVFakeModel, config: TrainConfig, corpora: list[str], trials: Trials) -> None:
    """Save a checkpoint, calibrated on what it was chosen by."""
    fitted = {name: fit(labels, logits) for name, (labels, logits) in trials.logits().items() if len(set(labels)) == 2}
    facts = CheckpointConfig(
        config.model,
        PREPROCESSING,
        calibration={name: calibration for name, (calibration, _) in fitted.items()},
        thresholds={name: threshold for name, (_, threshold) in fitted.items()},
        corpora=corpora,
        metrics={"validation AUC": {name: round(value, 4) for name, value in trials.figures().items()}},
    )
    save_checkpoint(out, model, facts)


# -------------------------------------------------------------------------------------------------------- the data


def _batches(
    config: TrainConfig,
    sources: list[Source],
    towers: FrozenTowers,
    accelerator: Accelerator,
    told: Progress,
    start: int,
) -> Iterator[Batch]:
    """Yield batches without end from number ``start`` on, from the loader or from the cache."""
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
        cache.fill(drawn, towers, accelerator.device, told.filling)
    return cache.batches(config.seed, start)


def _cut(batch: Batch, config: TrainConfig, seed: int) -> Batch:
    """Cut a batch to a random length, the same in every process."""
    shortest, frames = config.data.shortest, config.data.frames
    if not shortest:
        return batch
    rng = np.random.default_rng(seed)
    length = int(rng.integers(shortest, frames + 1))
    return batch.cut(int(rng.integers(frames - length + 1)), length)


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
        )


# ---------------------------------------------------------------------------------------------------------- a step


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _total(losses: Losses, config: TrainConfig) -> torch.Tensor:
    parts = losses._asdict().items()
    return torch.stack([getattr(config.weights, name) * value for name, value in parts]).sum()


def _require_finite(total: torch.Tensor, losses: Losses, batch: Batch, step: int, accelerator: Accelerator) -> None:
    """Raise ``TrainingError`` naming the batch; the loss is the same in every process, so all of them stop."""
    if torch.isfinite(total):
        return
    ids = gather_object(list(batch.ids)) if accelerator.num_processes > 1 else batch.ids
    bad = [name for name, value in losses._asdict().items() if not torch.isfinite(value)]
    raise TrainingError(
        f"The loss of step {step + 1} is not finite ({', '.join(bad) or 'its gradients'}): look at the clips of its "
        f"batch ({', '.join(ids)}), or train with a lower optim.rate; what was saved before is untouched."
    )


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


def _shown(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in figures.items())
