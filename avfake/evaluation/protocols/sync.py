"""Figures of sync trials: own against foreign voices, and delayed voices."""

from __future__ import annotations

import math

import numpy as np

from avfake.evaluation.figures import Figure, any_figure, figure
from avfake.evaluation.material import Material

LENGTHS = (("2-4 s", 2.0, 4.0), (">= 4 s", 4.0, math.inf))
"""Seconds that the face is in view: the lower end belongs to a bin, the upper one does not."""


def persons_by_id(material: Material) -> dict[str, str]:
    """Return who each clip is of by its id, the clip itself where that is not known: its trials belong together."""
    table = material.table
    return {row.id: person or row.id for row, person in zip(table.rows, table.persons(), strict=True)}


def swap_figures(material: Material, resamples: int) -> list[Figure]:
    """AUC of own (genuine) against foreign voices (fake) of the same talking faces, for short and for long ones."""
    persons = persons_by_id(material)
    found = []
    for name, low, high in LENGTHS:
        chosen = [swap for swap in material.swaps if low <= swap.seconds < high]
        trials = [
            (label, score, persons[swap.id])
            for swap in chosen
            for label, score in ((0, swap.own), (1, swap.foreign))
            if score is not None
        ]
        found.append(
            figure(
                f"sync-swap: {name}",
                "auc",
                np.array([label for label, _, _ in trials], np.int64),
                np.array([score for _, score, _ in trials], np.float64),
                [person for _, _, person in trials],
                total=2 * len(chosen),
                resamples=resamples,
            )
        )
    return found


def delay_figure(material: Material, resamples: int) -> Figure:
    """Share of delayed voices whose estimated offset moved by the delay, within a frame."""
    persons = persons_by_id(material)
    trials = [(delay.frames, delay.moved, persons[delay.id]) for delay in material.delays if delay.moved is not None]
    return any_figure(
        "sync-shift",
        "within_a_frame",
        "delay found within a frame",
        lambda true, moved: float(np.mean(np.abs(moved - true) <= 1)) if len(true) else math.nan,
        [frames for frames, _, _ in trials],
        [moved for _, moved, _ in trials],
        [person for _, _, person in trials],
        total=len(material.delays),
        resamples=resamples,
        note="" if trials else "no delayed voice was judged",
    )
