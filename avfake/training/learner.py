"""The learner: a model, what of it learns and how fast, and one step."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from timm.layers.norm_act import convert_sync_batchnorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from avfake.config import TrainConfig
from avfake.models import AVFakeModel, CheckpointConfig, load_checkpoint
from avfake.models.pretrained import start_from_public_weights
from avfake.training import TrainingError
from avfake.training.batch import Batch
from avfake.training.cache import FrozenTowers
from avfake.training.objective import Losses, Objective
from avfake.training.optim import freeze, parameter_groups, schedule
from avfake.training.teacher import Teacher

log = logging.getLogger(__name__)
SETTLED = 1 / 3
"""Share of the steps after which sync is trusted to find a clip's own constant offset."""


class Taken(NamedTuple):
    """A step: mean losses by task and ``loss``, their sum; gradient norm before clipping; seconds, of them waited."""

    losses: dict[str, float]
    norm: float
    rate: float
    seconds: float
    waited: float


def begin(config: TrainConfig) -> Accelerator:
    """Return what knows of devices, precision and processes. Raises ``TrainingError`` where they cannot be had."""
    torch.set_num_threads(config.threads)
    try:
        return Accelerator(
            cpu=config.device == "cpu",
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            gradient_accumulation_steps=config.optim.accumulate,
            # A batch without lips, or without voices, may leave a tower without gradients.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:  # accelerate keeps both for as long as a process lives
        reason = next(iter(str(error).splitlines()), "ValueError")
        raise TrainingError(
            f"device={config.device} precision={config.precision} cannot be had here ({reason}); where something else "
            "was trained before, start a new Python process."
        ) from error


class Learner:
    """Everything that a step changes. Raises ``AvfakeError`` where weights or names of the configuration do not fit.

    ``started`` is the configuration of the checkpoint that it begins with, ``towers`` what frozen towers say.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        torch.manual_seed(config.seed)
        self.model = AVFakeModel(config.model)
        self.started = self._start()
        self._still = freeze(self.model, config.freeze, config.norms_only)
        teacher = Teacher.load(config.teacher).to(accelerator.device) if config.teacher else None
        objective: Any = Objective(self.model, teacher.width if teacher is not None else 0)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            objective = convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]
        groups = parameter_groups(objective, config.optim)
        optimiser: Any = torch.optim.AdamW(groups, lr=config.optim.rate)
        self.rates = schedule(optimiser, config.optim, config.steps)
        self.objective, self.optimiser = accelerator.prepare(objective, optimiser)
        self.average: AveragedModel | None = None
        if config.optim.ema:
            mean = get_ema_multi_avg_fn(config.optim.ema)
            self.average = AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True)
        accelerator.register_for_checkpointing(self.rates, *([self.average] if self.average is not None else []))
        if config.compile:
            self.model.lip_tower.stages.compile()
            self.model.voice_tower.wav2vec2.encoder.compile()
        self.towers = FrozenTowers(self.model, teacher)

    def _start(self) -> CheckpointConfig | None:
        if self.config.start:
            started = load_checkpoint(self.config.start)
            try:
                self.model.load_state_dict(started.model.state_dict())
            except RuntimeError as error:
                raise TrainingError(
                    f"start={self.config.start} is a model of another shape than this configuration's: give it the "
                    "model of its config.yaml, or another start."
                ) from error
            return started.config
        with self.accelerator.main_process_first():  # which may download them
            for sentence in start_from_public_weights(self.model, self.config.model):
                if self.accelerator.is_main_process:
                    log.info(sentence)
        return None

    @property
    def aspects(self) -> list[str]:
        """What the model is, or was, taught to judge."""
        weights = self.config.weights
        taught = {
            "visual": weights.visual,
            "audio": weights.audio,
            "sync": weights.sync or weights.mismatch,
            "fake": weights.fake,
        }
        before = self.started.aspects if self.started is not None else []
        return [name for name, weight in taught.items() if weight or name in before]

    @property
    def judged(self) -> AVFakeModel:
        """The weights to validate and keep, in evaluation mode: those of the moving average, if there is one."""
        model: Any = self.model if self.average is None else self.average.module
        return model.eval()

    def step(self, batches: Iterator[Batch], number: int) -> Taken:
        """Take the step of that number, counted from 0, on the next of ``batches``.

        What is random in it follows from the seed, the number and the process. Raises ``TrainingError`` naming the
        batch where the loss or its gradients are not finite.
        """
        config, accelerator = self.config, self.accelerator
        begun, waited, norm = time.perf_counter(), 0.0, 0.0
        values: dict[str, float] = defaultdict(float)
        self.model.train()
        for module in self._still:
            module.eval()
        for part in range(config.optim.accumulate):
            waiting = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - waiting
            seed = _seed(config.seed, number, part)
            torch.manual_seed(_seed(seed, accelerator.process_index))  # dropout
            with accelerator.accumulate(self.objective):
                with accelerator.autocast(), torch.no_grad():
                    batch = self.towers(_cut(batch, config, seed).to(accelerator.device))
                losses = self.objective(batch, seed, number >= SETTLED * config.steps)
                total = _total(losses, config)
                accelerator.backward(total)
                if accelerator.sync_gradients:
                    norm = float(accelerator.clip_grad_norm_(self.objective.parameters(), config.optim.clip))
                self._require_finite(total + norm, losses, batch, number)
                self.optimiser.step()
                self.optimiser.zero_grad()
            for name, value in losses._asdict().items():
                if getattr(config.weights, name):
                    values[name] += value.item() / config.optim.accumulate
            values["loss"] += total.item() / config.optim.accumulate
        rate = max(self.rates.get_last_lr())
        self.rates.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return Taken(dict(values), norm, float(rate), time.perf_counter() - begun, waited)

    def _require_finite(self, total: torch.Tensor, losses: Losses, batch: Batch, number: int) -> None:
        """Raise ``TrainingError`` naming the batch; the loss is the same in every process, so all of them stop."""
        if torch.isfinite(total):
            return
        ids = gather_object(list(batch.ids)) if self.accelerator.num_processes > 1 else batch.ids
        bad = [name for name, value in losses._asdict().items() if not torch.isfinite(value)]
        raise TrainingError(
            f"The loss of step {number + 1} is not finite ({', '.join(bad) or 'its gradients'}): look at the clips of "
            f"its batch ({', '.join(ids)}), or train with a lower optim.rate; what was saved before is untouched."
        )


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _cut(batch: Batch, config: TrainConfig, seed: int) -> Batch:
    """Cut a batch to a random length, the same in every process."""
    shortest, frames = config.data.shortest, config.data.frames
    if not shortest:
        return batch
    rng = np.random.default_rng(seed)
    length = int(rng.integers(shortest, frames + 1))
    return batch.cut(int(rng.integers(frames - length + 1)), length)


def _total(losses: Losses, config: TrainConfig) -> torch.Tensor:
    parts = losses._asdict().items()
    return torch.stack([getattr(config.weights, name) * value for name, value in parts]).sum()
