"""What protocols work on: the score table of a test set and what else the detector has said of its clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation.table import Table
from avfake.evaluation.tandem import AsvRates


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """What was said of each frame of one face track of a clip, or of its sound where no face is in view.

    ``start``     number of the first frame on the clock of the file (40 ms each); ``track`` None for sound alone.
    ``visual``, ``audio``  uncalibrated log-odds of fake (T,); they mean nothing where there are no lips, or no voice,
                           and are NaN where the model was not taught the aspect.
    ``face_ok``, ``speech``  bool (T,): where there are lips to judge, and a voice.
    ``evidence``  sync evidence (T, 31) of each shift, NaN where it leaves the clip; None where it was not kept,
                           as of a model that was not taught sync.
    """

    id: str
    track: int | None
    start: int
    visual: NDArray[np.float32]
    audio: NDArray[np.float32]
    face_ok: NDArray[np.bool_]
    speech: NDArray[np.bool_]
    evidence: NDArray[np.float16] | None


def runs_by_clip(frames: Iterable[ClipFrames]) -> Iterator[tuple[str, list[ClipFrames]]]:
    """Yield the id and the runs of each clip, sound alone before tracks, then by time; a clip's must follow each other.

    Clips come as they were judged, which depends on the number of workers: whoever computes brings them into the order
    of the table's rows, since sums and draws of a bootstrap follow it.
    """
    for name, runs in groupby(frames, attrgetter("id")):
        yield name, sorted(runs, key=lambda run: (-1 if run.track is None else run.track, run.start))


@dataclass(frozen=True)
class Swap:
    """A genuine talking face judged with its own voice and with that of another person; P(fake) of ``sync``.

    ``seconds`` is how long the face is in view. None where it was not judged.
    """

    id: str
    partner: str
    seconds: float
    own: float | None
    foreign: float | None


@dataclass(frozen=True)
class Delay:
    """A genuine talking face whose voice was delayed by ``frames``: by how many the estimated offset ``moved``.

    ``moved`` is None where sync was not judged.
    """

    id: str
    frames: int
    moved: int | None


Proposal = tuple[float, float, float]
"""A stretch that is said to be fake: confidence in [0, 1], start and end in seconds."""


@dataclass(frozen=True, eq=False)
class Material:
    """A test set as a detector has judged it.

    ``frames``     yields the frames of every clip, by clip, in any order; None where there are none (a score file).
    ``proposals``  by row id: those of somebody's file, or made from ``frames`` where rows have segments; None: neither.
    ``swaps``, ``delays``  trials of sync, where the protocol asks for them.
    ``asv``        errors of the speaker verifier, where its scores were given.
    """

    table: Table
    frames: Callable[[], Iterator[ClipFrames]] | None = None
    proposals: Mapping[str, Sequence[Proposal]] | None = None
    swaps: tuple[Swap, ...] = ()
    delays: tuple[Delay, ...] = ()
    asv: AsvRates | None = field(default=None)
