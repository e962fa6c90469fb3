"""What a run writes about itself while it trains: history.jsonl, TensorBoard and, where wanted, Weights & Biases."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfake.config import TrainConfig
from avfake.storage import StorageError, make_folder, write_bytes
from avfake.training import TrainingError

if TYPE_CHECKING:
    import wandb
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

LOG = "log"
PROJECT = "avfake"

Value = float | int | bool | str | None


class History:
    """The file ``history.jsonl``: one JSON object a line, ``{"step": 10, "kind": "train", "loss": 0.51, ...}``.

    ``keep_to`` is the step that a run goes on from, 0 for one that begins: lines of later steps, and a last line that
    was only half written when the run before was killed, are cut away.
    Raises ``TrainingError`` for a damaged file and ``StorageError`` where it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], keep_to: int) -> None:
        self.path = Path(path)
        make_folder(str(self.path.parent))
        if self.path.exists():
            kept = [text for text, line in _lines(self.path, torn=True) if 0 < keep_to >= line["step"]]
            write_bytes(str(self.path), "".join(f"{text}\n" for text in kept).encode())
        try:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  # close() is ours
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror}; check the folder.") from error

    def add(self, step: int, kind: str, **values: Value) -> None:
        """Append a line, which other programs see at once. NaN and infinity, which JSON has not, become null."""
        line = {"step": step, "kind": kind} | {name: _finite(value) for name, value in values.items()}
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror}; check the disk's space.") from error

    def read(self) -> list[dict[str, Any]]:
        """Return the lines so far."""
        return read_history(self.path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a ``history.jsonl``, each with ``step`` (int), ``kind`` (str) and values; null is None.

    Raises ``TrainingError`` naming the line that is none.
    """
    return [line for _, line in _lines(Path(path), torn=False)]


def _lines(path: Path, *, torn: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return each line as it stands and what it says; with ``torn`` a last line without an end may be damaged."""
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}; give the folder of a run.") from error
    found = []
    for number, data in enumerate([*whole, rest] if rest else whole, 1):
        try:
            text = data.decode()
            line = json.loads(text)
            if not isinstance(line, dict) or type(line.get("step")) is not int or not isinstance(line.get("kind"), str):
                raise ValueError("a step and a kind are missing")
        except ValueError as error:
            if torn and number > len(whole):
                break
            raise TrainingError(
                f"{path} is damaged in line {number} ({error}); delete that line, or the file."
            ) from error
        found.append((text, line))
    return found


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Trackers:
    """TensorBoard in OUT/log where its package is installed; W&B where its package is and its environment asks for it.

    W&B (project avfake, run of OUT's name) is asked for by ``WANDB_API_KEY`` or ``WANDB_MODE``. ``begun`` is the step
    that the run goes on from; TensorBoard drops what it was told of later ones. For the main process alone. What cannot
    be reached is told in a sentence of the log, and training goes on.
    """

    def __init__(self, out: Path, config: TrainConfig, begun: int) -> None:
        self._board = _tensorboard(out / LOG, begun)
        wanted = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_MODE"))
        self._run = _wandb(out, config) if wanted else None

    def scalars(self, step: int, prefix: str, values: Mapping[str, float]) -> None:
        """Tell values as ``prefix/name``; NaN means that there is none and is left out."""
        told = {f"{prefix}/{name}": value for name, value in values.items() if not math.isnan(value)}
        if self._board is not None:
            for tag, value in told.items():
                self._board.add_scalar(tag, value, step)
        if self._run is not None:
            self._run.log(told, step=step)

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Show a picture as ``name``."""
        if self._board is not None:
            self._board.add_figure(name, figure, step, close=False)
        if self._run is not None:
            import wandb

            self._run.log({name: wandb.Image(figure)}, step=step)

    def close(self) -> None:
        """Write what is still to be written."""
        if self._board is not None:
            self._board.close()
        if self._run is not None:
            self._run.finish()


def _tensorboard(folder: Path, begun: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info('TensorBoard is not installed, so %s is not written; get it with pip install "avfake[train]".', folder)
        return None
    # What is dropped begins with purge_step; a run that begins anew drops all that a run before left in the folder.
    return SummaryWriter(str(folder), purge_step=begun + 1 if begun else 0)


def _wandb(out: Path, config: TrainConfig) -> wandb.Run | None:
    try:
        import wandb
    except ImportError:
        log.info("W&B is asked for but not installed; get it with pip install wandb.")
        return None
    folder = out / LOG
    make_folder(str(folder))
    try:
        return wandb.init(project=PROJECT, name=out.name, config=asdict(config), dir=str(folder))
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        log.info("W&B cannot be reached (%s); set WANDB_MODE=offline to keep its run in %s.", reason, folder)
        return None
