"""Genuine talking faces (LRS2, LRS3, VoxCeleb2): is their sync found, how exactly, and from how little?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation.figures import Figure, Question, any_figure
from avfake.evaluation.material import ClipFrames, Material, runs_by_clip
from avfake.evaluation.metrics import SyncLike, offset_errors, sync_confidence
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.parts import all_of, called_fake, headline, told
from avfake.evaluation.protocols.sync import delay_figure, persons_by_id, swap_figures
from avfake.evaluation.table import SCORES

CONTEXTS = (5, 7, 9, 11, 13, 15, 25)
"""Frames of 40 ms that the evidence is averaged over: those of VocaLiST's table, and one second."""
IN_SYNC = 0
"""The true shift: LRS2 and LRS3 were put in sync by their makers, with SyncNet; of VoxCeleb2 they do not say so."""

_NOT_KEPT = "no evidence of sync for each frame was given"


def _further(material: Material, resamples: int) -> list[Figure]:
    return [
        *_frame_figures(material, resamples),
        _constant_offset(material, resamples),
        *swap_figures(material, resamples),
        delay_figure(material, resamples),
        *called_fake(material, [headline(material.table, name) for name in told(material.table, *SCORES)], resamples),
    ]


def _frame_figures(material: Material, resamples: int) -> list[Figure]:
    """What the evidence of each frame says; of a clip just its sums are kept."""
    persons = persons_by_id(material)
    said = {
        clip: ([_counted(maps, context) for context in CONTEXTS], _likeness(maps))
        for clip, maps in _longest_faces(material)
    }
    clips = [row.id for row in material.table.rows if row.id in said]  # workers finish in any order
    counts = np.array([said[clip][0] for clip in clips], np.int64).reshape(-1, len(CONTEXTS), 3)
    likeness = [said[clip][1] for clip in clips]
    windows, right, error = np.moveaxis(counts, -1, 0)
    found = []
    for number, context in enumerate(CONTEXTS):
        long = windows[:, number] > 0
        among = [persons[clip] for clip, enough in zip(clips, long, strict=True) if enough]
        note = "" if among else "no face is in view for so long" if clips else _NOT_KEPT
        question = f"sync offset: {context} frames"
        for metric, title, sums, best in (
            ("sync_accuracy", "offset within a frame", right, 1.0),
            ("mean_offset_error", "mean offset error, frames", error, 0.0),
        ):
            pooled = _Pooled(sums[long, number], windows[long, number])
            found.append(
                any_figure(
                    question,
                    metric,
                    title,
                    pooled,
                    [0] * len(among),
                    range(len(among)),
                    among,
                    total=len(material.table.rows),
                    resamples=resamples,
                    best=best,
                    note=note,
                )
            )
    for number, (metric, title, best) in enumerate(
        (("sync_distance", "distance (LSE-D-like)", 0.0), ("sync_confidence", "confidence (LSE-C-like)", 2.0))
    ):
        known = [(pair[number], persons[clip]) for clip, pair in zip(clips, likeness, strict=True)]
        known = [(value, person) for value, person in known if not math.isnan(value)]
        found.append(
            any_figure(
                "sync evidence",
                metric,
                title,
                lambda labels, values: float(np.mean(values)) if len(values) else math.nan,
                [0] * len(known),
                [value for value, _ in known],
                [person for _, person in known],
                total=len(material.table.rows),
                resamples=resamples,
                best=best,
                note="" if known else _NOT_KEPT,
            )
        )
    return found


class _Pooled:
    """A share of all windows of the clips that are drawn, by their numbers."""

    def __init__(self, sums: NDArray[np.int64], windows: NDArray[np.int64]) -> None:
        self.sums, self.windows = sums, windows

    def __call__(self, labels: NDArray[np.int64], drawn: NDArray[np.int64]) -> float:
        return float(self.sums[drawn].sum() / self.windows[drawn].sum()) if len(drawn) else math.nan


def _longest_faces(material: Material) -> Iterator[tuple[str, list[NDArray[np.float16]]]]:
    """Yield each clip that has a face with the sync maps (T, 31) of its longest face, one for each unbroken stretch."""
    for clip, stretches in runs_by_clip(material.frames() if material.frames else ()):
        tracks: dict[int, list[ClipFrames]] = {}
        for frames in stretches:
            if frames.track is not None and frames.evidence is not None:
                tracks.setdefault(frames.track, []).append(frames)
        longest = max(tracks.values(), key=lambda parts: sum(len(part.face_ok) for part in parts), default=[])
        if longest:
            yield clip, [part.evidence for part in longest if part.evidence is not None]


def _counted(maps: Sequence[NDArray[np.float16]], context: int) -> tuple[int, int, int]:
    """Windows, how many of them are right, and the sum of errors."""
    errors = np.abs(np.concatenate([offset_errors(sync_map, IN_SYNC, context) for sync_map in maps]))
    return len(errors), int((errors <= 1).sum()), int(errors.sum())


def _likeness(maps: Sequence[NDArray[np.float16]]) -> SyncLike:
    evidence = np.concatenate(maps).astype(np.float64)
    known = ~np.isnan(evidence)
    sums = np.where(known, evidence, 0.0).sum(axis=0)
    curve = np.divide(sums, known.sum(axis=0), out=np.full(len(sums), math.nan), where=known.any(axis=0))
    return sync_confidence(curve)


def _constant_offset(material: Material, resamples: int) -> Figure:
    """Share of clips whose offset, from all that is spoken in it, is within a frame (40 ms) of sync.

    Clips in which sync is called mismatched count, too: left out, the worst would raise the figure.
    """
    persons = persons_by_id(material)
    known = [(clip.offset_ms, persons[clip.id]) for clip in material.table.clips if clip.offset_ms is not None]
    return any_figure(
        "sync offset: whole clip",
        "sync_accuracy",
        "offset within a frame",
        lambda labels, offsets: float(np.mean(np.abs(offsets) <= 40)) if len(offsets) else math.nan,
        [0] * len(known),
        [offset for offset, _ in known],
        [person for _, person in known],
        total=len(material.table.rows),
        resamples=resamples,
        note="" if known else "the offset of no clip was measured",
    )


def _questions(material: Material) -> list[Question]:
    return []  # all is genuine: there is nothing to tell apart but the trials of sync


PROTOCOLS = (
    Protocol(
        name="talking",
        title="Sync on genuine talking faces",
        says="In how many windows of 5 to 25 frames the offset is found within a frame, as SyncNet and VocaLiST report "
        "it for LRS2 (every window counts, a shift that leaves the clip is no candidate); whether own and foreign "
        "voices are told apart; whether a delay is measured; and how many genuine clips are called fake.",
        cannot="How exactly a clip was put in sync, if at all (the makers of VoxCeleb2 do not say so): a constant "
        "offset of two frames, common in broadcast, counts as an error in every window, but not in the trials with "
        "delayed voices, which are relative. Nothing of fakes. Distance and confidence are on this model's own scale, "
        "not SyncNet's: only runs of one model compare.",
        fits=lambda rows: all_of(rows, "lrs2", "lrs3", "voxceleb2"),
        questions=_questions,
        further=_further,
        sync_trials=True,
    ),
)
