"""What a checkpoint says of its model, without torch: configuration, calibration, thresholds, where its files are."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from scipy.special import expit
from yaml import YAMLError  # type: ignore[import-untyped]

from avfake import AvfakeError
from avfake.models.contract import ModelConfig

EMBEDDED = Path(__file__).parents[1] / "data" / "models"
WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
PART_BYTES = 1 << 22  # of a file that are in memory at once to digest it


ASPECTS = ("fake", "visual", "audio", "sync")
"""What a model may be taught to judge."""


class CheckpointError(AvfakeError):
    """A checkpoint that is missing, damaged or does not fit this version."""


@dataclass(frozen=True)
class Calibration:
    """Rising map of a logit to the log-likelihood ratio of *fake*, whose sigmoid is P(fake) at even odds.

    Affine, ``scale * logit + bias`` with ``scale`` > 0 (Platt scaling), or, where there are ``knots``, isotonic: knots
    [logit, ratio] with rising logits and ratios, linear between them and constant outside, so that P(fake) never
    reaches 0 or 1. ``scale`` and ``bias`` are then the best affine map, or 1 and 0 where none is better: what the
    fusion head's "or" goes by. Raises ``ValueError`` for a map that would not rise.
    """

    scale: float = 1.0
    bias: float = 0.0
    knots: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and math.isfinite(self.bias)):
            raise ValueError(f"a calibration needs a scale above 0 and a finite bias, not {self.scale} and {self.bias}")
        if any(len(knot) != 2 for knot in self.knots):
            raise ValueError("each knot of a calibration is a logit and a ratio")
        knots = np.array(self.knots, np.float64).reshape(-1, 2)
        steps = np.diff(knots, axis=0)
        if not (np.isfinite(knots).all() and (steps[:, 0] > 0).all() and (steps[:, 1] >= 0).all()):
            raise ValueError("the knots of a calibration are finite, with rising logits and ratios that do not fall")

    @property
    def kind(self) -> Literal["identity", "affine", "isotonic"]:
        """Which map it is; the identity leaves logits as they are."""
        if self.knots:
            return "isotonic"
        return "identity" if (self.scale, self.bias) == (1, 0) else "affine"

    def ratio(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Natural log-likelihood ratio of *fake* for each logit, same shape."""
        values = np.asarray(logits, np.float64)
        if not self.knots:
            return self.scale * values + self.bias
        return np.asarray(np.interp(values, *np.transpose(self.knots)))

    def __call__(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Calibrated P(fake) for each logit, same shape."""
        return np.asarray(expit(self.ratio(logits)))


@dataclass(frozen=True)
class CheckpointConfig:
    """``config.yaml``: all that rebuilds the model and says what it is.

    ``calibration`` and ``thresholds`` are keyed by aspect: fake, visual, audio, sync. A threshold is the P(fake) from
    which an aspect is called fake, keyed by the false-positive rate it was set for on held-out clips. ``preprocessing``
    is the version of crops and audio the model was trained on (``clips.PREPROCESSING``). ``aspects`` are those that it
    was taught: of the others nothing is said. ``corpora`` and ``methods`` are what it has learned from (forged fakes
    have no method). Raises ``ValueError`` for an unknown aspect and for a threshold that is none.
    """

    model: ModelConfig
    preprocessing: int
    calibration: dict[str, Calibration] = field(default_factory=dict)
    thresholds: dict[str, dict[float, float]] = field(default_factory=dict)
    aspects: list[str] = field(default_factory=lambda: ["visual", "audio", "sync", "fake"])
    corpora: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := {*self.aspects, *self.calibration, *self.thresholds} - set(ASPECTS):
            raise ValueError(f"there is no aspect {min(unknown)!r}")
        for rates in self.thresholds.values():
            if not all(0 < rate < 1 and math.isfinite(at) for rate, at in rates.items()):
                raise ValueError("a threshold is a number, for a false-positive rate between 0 and 1")


def read_config(folder: Path) -> CheckpointConfig:
    """Read the configuration of a checkpoint: typed YAML, nothing in it is executed. Raises ``CheckpointError``."""
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
        if "${" in text:  # would be replaced, by a variable of the environment for one
            raise ValueError("it holds ${")
        raw = OmegaConf.create(text)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CheckpointConfig), raw))
    except OSError as error:
        raise unreadable(folder, error) from error
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, OverflowError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{folder / CONFIG} cannot be read ({reason}); fetch the checkpoint again") from error
    assert isinstance(config, CheckpointConfig)
    return config


def unreadable(folder: Path, error: OSError) -> CheckpointError:
    """Return the error that a file of a checkpoint is missing or cannot be read."""
    file = Path(error.filename or folder / WEIGHTS)
    if isinstance(error, FileNotFoundError):
        return CheckpointError(
            f"{folder} is not a checkpoint: {file.name} is missing; give a folder that holds {WEIGHTS} and {CONFIG}"
        )
    return CheckpointError(
        f"{file} cannot be read ({first_line(error.strerror or error)}); it must be a file that you may read"
    )


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(p.parent.name for p in EMBEDDED.glob(f"*/{CONFIG}"))


def fingerprint(name: str | Path) -> str:
    """Return what ``load_checkpoint(name).fingerprint`` would be, without loading. Raises ``CheckpointError``."""
    folder = find_checkpoint(str(name))
    try:
        return fingerprint_of(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} is not a checkpoint that can be read ({error.strerror})") from error


def fingerprint_of(folder: Path) -> str:
    """Return a digest of both files of a checkpoint."""
    digest = hashlib.sha256((folder / CONFIG).read_bytes())
    with open(folder / WEIGHTS, "rb") as file:
        while part := file.read(PART_BYTES):
            digest.update(part)
    return digest.hexdigest()


def find_checkpoint(name: str) -> Path:
    """Return the folder of an embedded model, of a path or of ``hf:org/name``. Raises ``CheckpointError``."""
    if name in embedded_models():
        return EMBEDDED / name
    if name.startswith("hf:"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

        try:
            return Path(snapshot_download(name[3:], allow_patterns=[WEIGHTS, CONFIG]))
        except (
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            OSError,
            ValueError,
        ) as error:
            raise CheckpointError(
                f"{name} could not be fetched from the hub ({first_line(error)}); check the name and the network, or "
                "give a folder"
            ) from error
    if name.strip() and os.path.isdir(name):
        return Path(name)
    known = ", ".join(["a checkpoint folder", "hf:org/name", *embedded_models()])
    raise CheckpointError(f"there is no model named {name!r}: use one of {known}")


def first_line(reason: object) -> str:
    """Return what an error says, or its kind where it says nothing."""
    return next(iter(str(reason).splitlines()), type(reason).__name__)
