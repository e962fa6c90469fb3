"""The score table: what a detector said of each clip of a test set, beside what is known of the clip.

Scores rise with *fake*. ``avfake eval`` keeps a table as Parquet, one line a clip, so that any tool can read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from avfake.manifest import Label, Row

SCORES = ("fake", "visual", "audio", "sync")
"""What is scored: the verdict on the whole clip, and the three aspects."""

Scale = Literal["probability", "llr", "rank"]
"""What scores mean: P(fake) at even odds, a natural log-likelihood ratio, or nothing but an order."""

SURE = 1e-9
"""P(fake) is taken as this far from 0 and 1 at least: one that rounds to 1 would cost infinitely much."""


@dataclass(frozen=True)
class ClipScore:
    """What was said of one clip; dictionaries are keyed by ``SCORES`` and lack what was not judged.

    ``scores``     rise with fake; P(fake) where avfake judged.
    ``raw``        P(fake) before calibration, where avfake judged.
    ``alarms``     whether it was called fake, at the detector's own threshold.
    ``reasons``    why something was not judged (the codes of docs/detection.md).
    ``offset_ms``  of the voice at which it fits the speaking face best, positive where it comes late.
    ``face_s``     how long the longest face is in view, ``spoken_s`` how long somebody speaks meanwhile.
    ``silence_s``  before the first sound (amplitude above 0.0005), None without sound.
    ``error``      why the file could not be judged at all.
    """

    id: str
    scores: dict[str, float] = field(default_factory=dict)
    raw: dict[str, float] = field(default_factory=dict)
    alarms: dict[str, bool] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    offset_ms: int | None = None
    duration_s: float = 0.0
    face_s: float = 0.0
    spoken_s: float = 0.0
    silence_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a manifest and what was said of them, in the same order; ``scale`` says what the scores mean."""

    rows: tuple[Row, ...]
    clips: tuple[ClipScore, ...]
    scale: Scale = "probability"

    def __post_init__(self) -> None:
        if [row.id for row in self.rows] != [clip.id for clip in self.clips]:
            raise ValueError("rows and scores are not of the same clips")

    def where(self, holds: Callable[[Row], bool]) -> NDArray[np.bool_]:
        """Return which rows (n,) something holds for."""
        return np.array([holds(row) for row in self.rows], np.bool_)

    def labels(self, score: str) -> NDArray[np.float64]:
        """Return the labels (n,) that belong to a score: 1 = fake, 0 = genuine, NaN where not known."""
        return np.array([np.nan if (label := label_of(row, score)) is None else label for row in self.rows], np.float64)

    def scores(self, score: str) -> NDArray[np.float64]:
        """Return one score of each clip (n,), NaN where it was not judged."""
        return np.array([clip.scores.get(score, np.nan) for clip in self.clips], np.float64)

    def raw(self, score: str) -> NDArray[np.float64]:
        """Return one P(fake) before calibration of each clip (n,), NaN where it was not judged."""
        return np.array([clip.raw.get(score, np.nan) for clip in self.clips], np.float64)

    def alarms(self, score: str) -> NDArray[np.float64]:
        """Return whether each clip (n,) was called fake: 1, 0, or NaN where it was not judged."""
        return np.array([clip.alarms.get(score, np.nan) for clip in self.clips], np.float64)

    def persons(self) -> list[str | None]:
        """Return who each clip is of, None where not known: what a bootstrap draws as one.

        Names go by themselves: one person is in several corpora, or in several compressions of one.
        """
        return [row.identity for row in self.rows]

    def only(self, chosen: Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]) -> Table:
        """Return the table of some rows, by their numbers or by a mask (n,)."""
        numbers = np.arange(len(self.rows))[np.asarray(chosen)]
        return Table(tuple(self.rows[n] for n in numbers), tuple(self.clips[n] for n in numbers), self.scale)


def label_of(row: Row, score: str) -> Label:
    """Return the label of a row that belongs to a score: of ``fake`` that of any aspect (``Row.fake``)."""
    label: Label = row.fake if score == "fake" else getattr(row.labels, score)
    return label


def probability(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Return scores (n,) as P(fake) at even odds. Raises ``ValueError`` for scores that are but an order."""
    if scale == "rank":
        raise ValueError("scores that only order clips are no probabilities")
    return np.asarray(expit(values) if scale == "llr" else values, np.float64)


def ratio(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Return scores (n,) as natural log-likelihood ratios, finite. Raises ``ValueError`` as ``probability`` does."""
    if scale == "rank":
        raise ValueError("scores that only order clips are no likelihood ratios")
    return np.asarray(values if scale == "llr" else logit(np.clip(values, SURE, 1 - SURE)), np.float64)
