"""The folder of a run: whose it is, the states to go on from, the checkpoint."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from accelerate import Accelerator
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from avfake import settings
from avfake.clips import PREPROCESSING
from avfake.config import TrainConfig, load_config
from avfake.evaluation.calibrators import ENOUGH, fit
from avfake.models import CheckpointConfig, save_checkpoint
from avfake.storage import make_folder, whole_file
from avfake.training import TrainingError
from avfake.training.check import Taught
from avfake.training.learner import Learner
from avfake.training.validate import Trials

log = logging.getLogger(__name__)
HISTORY = "history.jsonl"
LOOSE = {"out", "save_every", "threads"}
"""Keys that change nothing about what is learnt."""


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


@contextmanager
def claimed(config: TrainConfig, accelerator: Accelerator) -> Iterator[Path]:
    """Hold the folder for this run. Raises ``TrainingError`` if another is at work there, or has been."""
    out = Path(config.out)
    file, lock = out / "train.yaml", FileLock(out / ".lock", timeout=0)
    if accelerator.is_main_process:
        make_folder(str(out))
        try:
            lock.acquire()
        except Timeout as error:
            raise TrainingError(f"{out} is being trained in by another process: wait, or give another out.") from error
        if not _begun(out):
            with whole_file(str(file)) as stream:
                stream.write(settings.dump(config).encode())
    try:
        accelerator.wait_for_everyone()
        if other := [key for key in settings.differences(load_config(file), config) if key not in LOOSE]:
            raise TrainingError(
                f"{out} holds a run with another configuration (of {', '.join(other)}): give this one another out, or "
                f"delete {out} to begin anew."
            )
        yield out
    finally:
        lock.release()


def _begun(out: Path) -> bool:
    history = out / HISTORY
    return history.exists() and history.stat().st_size > 0


def _states(out: Path) -> list[tuple[int, Path]]:
    """Return the saved states, oldest first."""
    found = [(int(path.name.removeprefix("step-")), path) for path in (out / "state").glob("step-*[0-9]")]
    return sorted(found)


def go_on(out: Path, standing: Standing, accelerator: Accelerator) -> None:
    """Load the last state, if there is one. Raises ``TrainingError`` where it is damaged."""
    if not (states := _states(out)):
        return
    step, folder = states[-1]
    processes = standing.processes
    try:
        accelerator.load_state(str(folder))
    except (
        OSError, RuntimeError, ValueError, KeyError, IndexError, EOFError, UnpicklingError, SafetensorError
    ) as error:  # fmt: skip
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"{folder} cannot be gone on from ({reason}): delete it, and the run goes on from an earlier state or from "
            "the beginning."
        ) from error
    if standing.processes != processes:
        log.warning(
            "%s was trained by %d processes and goes on with %d, which see other batches",
            out, standing.processes, processes,
        )  # fmt: skip
        standing.processes = processes
    if accelerator.is_main_process:
        log.info("%s goes on from step %d", out, step)


def save_state(out: Path, standing: Standing, accelerator: Accelerator) -> None:
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


def keep(out: Path, learner: Learner, taught: Taught, trials: Trials) -> None:
    """Save a checkpoint, calibrated on what it was chosen by; what that is too little for stays as it was."""
    config, before = learner.config, learner.started
    calibration = dict(before.calibration) if before is not None else {}
    thresholds = dict(before.thresholds) if before is not None else {}
    told = dict(before.metrics.get("calibration", {})) if before is not None else {}
    for name in learner.aspects:
        labels, logits = trials.logits().get(name, ([], []))
        if min(labels.count(0), labels.count(1)) >= ENOUGH:
            fitted = fit(labels, logits, trials.people(name))
            calibration[name], thresholds[name], told[name] = fitted.calibration, fitted.thresholds, fitted.facts()
    figures = {name: round(value, 4) for name, value in trials.figures(learner.aspects).items()}
    facts = CheckpointConfig(
        config.model,
        PREPROCESSING,
        calibration=calibration,
        thresholds=thresholds,
        aspects=learner.aspects,
        corpora=sorted({*taught.corpora, *(before.corpora if before is not None else [])}),
        methods=sorted({*taught.methods, *(before.methods if before is not None else [])}),
        metrics={"validation AUC": figures, "calibration": told},
    )
    save_checkpoint(out, learner.judged, facts)


def tell_held_out(learner: Learner, trials: Trials) -> None:
    """Say how much there is to choose and to calibrate by."""
    counts = {name: trials.logits().get(name, ([], []))[0] for name in learner.aspects}
    shown = [f"{name} {labels.count(0)} genuine and {labels.count(1)} fake" for name, labels in counts.items()]
    log.info("held out: %s", ", ".join(shown))
    for name, labels in counts.items():
        if min(labels.count(0), labels.count(1)) < ENOUGH:
            kept = learner.started is not None and name in learner.started.calibration
            what = f"the calibration of {learner.config.start} is kept" if kept else "its P(fake) is not calibrated"
            log.warning("%s: fewer than %d clips of each class are held out, so %s", name, ENOUGH, what)
