"""What a corpus must hold before training starts, told before hours are spent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from avfake.training import TrainingError
from avfake.training.data import Embedded
from avfake.training.validate import in_sync

Samples = tuple[Sequence[Embedded], Sequence[Embedded]]
"""Clips with a face, and voices alone."""


def check(train: Samples, held: Samples, frames: int, shards: str) -> None:
    """Raise ``TrainingError`` unless one can train on ``train`` in windows of ``frames`` and choose on ``held``."""
    long = [sample for sample in train[0] if sample.clip.frames >= frames]
    needs = {
        f"genuine and fake training videos of {frames} frames or more": _both_faces(long),
        "genuine and fake training voices from one source": _both_voices(train[1]),
        "genuine and fake videos of people that are held out": _both_faces(held[0]),
        "synchronised videos of two people that are held out": len({s.row.identity for s in in_sync(held[0])}) > 1,
        "genuine and fake voices from one source in its dev split": _both_voices(held[1]),
    }
    if lacking := [need for need, met in needs.items() if not met]:
        raise TrainingError(f"The corpus in {shards} cannot be trained on: add {', '.join(lacking)}.")


def _both_faces(samples: Sequence[Embedded]) -> bool:
    return {sample.row.labels.visual for sample in samples} >= {0, 1}


def _both_voices(samples: Sequence[Embedded]) -> bool:
    labels: dict[str, set[int | None]] = defaultdict(set)
    for sample in samples:
        labels[sample.row.corpus].add(sample.row.labels.audio)
    return any(found >= {0, 1} for found in labels.values())
