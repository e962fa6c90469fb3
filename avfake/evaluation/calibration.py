"""Calibration of a trained checkpoint: logits to P(fake), and thresholds for stated false-positive rates."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rich.progress import track
from scipy.special import logit

from avfake import AvfakeError
from avfake.detect import Detector
from avfake.evaluation.calibrators import ENOUGH, Fit, fit
from avfake.evaluation.judged import Examiner, Place, Seen, Talk, aspects, longest_speaker, talks
from avfake.judging import Detection
from avfake.manifest import ASPECTS, Row
from avfake.models import AVFakeModel, Checkpoint
from avfake.runtimes.eager import TorchRuntime
from avfake.training.loader import person_of


class CalibrationError(AvfakeError):
    """There is nothing to calibrate by."""


class Trial(NamedTuple):
    """P(fake) of a clip before calibration (the plain sigmoid of a logit); None: the label, or what was not judged."""

    label: int | None
    p: float | None
    person: Hashable


class Calibrated(NamedTuple):
    """The checkpoint, what was fitted, and a sentence on each aspect that stays as it was or has lost a threshold."""

    checkpoint: Checkpoint
    fitted: dict[str, Fit]
    notes: list[str]


def calibrate(checkpoint: Checkpoint, rows: Sequence[Row], *, threads: int = 1) -> Calibrated:
    """Fit a calibration and thresholds to each aspect, on rows that training has not seen.

    In two passes, as the fusion head's "or" is of the calibrated aspects: it is set to their affine maps (to none where
    none is better), and ``fake`` is fitted to what it says then. Sync learns from genuine faces with their own voice
    and with another person's, and ``fake`` learns from the latter, too: a dub is a fake. An aspect of which fewer
    than ``ENOUGH`` clips of each label were judged, or that was never taught, stays as it was, map and thresholds; so
    does the "or" where that is ``fake``. Thresholds belong to a map, so a new one takes all the old ones away. The
    model is changed in place. Raises ``CalibrationError`` where nothing can be fitted, ``AvfakeError`` where a file of
    the rows cannot be read.
    """
    config = checkpoint.config
    bare = replace(checkpoint, config=replace(config, calibration={}, thresholds={}))
    examiner = Examiner(Detector(TorchRuntime(bare, threads=threads), threads=threads))
    judged = _judged(examiner, rows)
    faces = talks((place, seen.talking) for place, seen in judged)
    pairs = _paired(examiner, faces)
    trials = {
        aspect: [_trial(place.row, getattr(place.row.labels, aspect), seen.said, aspect) for place, seen in judged]
        for aspect in ("visual", "audio")
    }
    trials["sync"] = [
        *(_trial(place.row, 1, seen.said, "sync") for place, seen in judged if place.row.labels.sync == 1),
        *(_trial(row, label, said, "sync") for row, *both in pairs for label, said in enumerate(both)),
    ]
    trials["fake"] = list(_fused(judged, pairs))
    counts = {name: _counts(trials[name]) for name in (*ASPECTS, "fake") if name in config.aspects}
    enough = [name for name, both in counts.items() if min(both) >= ENOUGH]
    fitted = {name: _fit(trials[name]) for name in enough if name != "fake"}
    if "fake" in enough:
        _weigh(checkpoint.model, fitted)
        again = _judged(examiner, [row for row in rows if row.video])
        fitted["fake"] = _fit(_fused(again, _paired(examiner, faces)))
    if not fitted:
        listed = ", ".join(f"{name} {genuine} genuine and {fake} fake" for name, (genuine, fake) in counts.items())
        raise CalibrationError(
            f"There is nothing to calibrate {config.model.name} by: {ENOUGH} genuine and {ENOUGH} fake clips of an "
            f"aspect are needed, and of those given {listed} were judged; give it more of both labels."
        )
    notes = [
        f"{name} stays as it was, map and thresholds: {genuine} genuine and {fake} fake clips were judged, and "
        f"{ENOUGH} of each are needed."
        for name, (genuine, fake) in counts.items()
        if name not in fitted
    ]
    notes += [note for name, one in fitted.items() if (note := _lost(name, config.thresholds.get(name, {}), one))]
    kept = config.metrics.get("calibration", {})
    changed = replace(
        config,
        calibration={**config.calibration, **{name: one.calibration for name, one in fitted.items()}},
        thresholds={**config.thresholds, **{name: one.thresholds for name, one in fitted.items()}},
        metrics={**config.metrics, "calibration": {**kept, **{name: one.facts() for name, one in fitted.items()}}},
    )
    return Calibrated(Checkpoint(checkpoint.model, changed), fitted, notes)


def _lost(name: str, before: Iterable[float], fitted: Fit) -> str | None:
    """What is to be said of thresholds that went with the old map."""
    lost = sorted(set(before) - fitted.thresholds.keys())
    if not lost:
        return None
    old, new = (" and ".join(f"{rate:g}" for rate in rates) for rates in (lost, sorted(fitted.thresholds)))
    return (
        f"{name} has no threshold for a false-alarm rate of {old} any more, as that was of its old map: "
        f"{fitted.genuine} genuine clips set those for {new}."
    )


def _weigh(model: AVFakeModel, fitted: dict[str, Fit]) -> None:
    """Let the fusion head's "or" weigh the aspects by their new calibrations."""
    fusion = model.fusion
    for place, name in enumerate(ASPECTS):
        if name in fitted:
            calibration = fitted[name].calibration
            fusion.aspect_scale[place], fusion.aspect_bias[place] = calibration.scale, calibration.bias


def _judged(examiner: Examiner, rows: Sequence[Row]) -> list[tuple[Place, Seen]]:
    places = [Place(row) for row in rows]
    return [(place, examiner.detect(place)) for place in track(places, description="judging", transient=True)]


def _paired(examiner: Examiner, faces: Sequence[Talk]) -> list[tuple[Row, Detection, Detection]]:
    """Talking faces with their own voice and with another person's."""
    trials = track(faces, description="voices of others", transient=True)
    return [(talk.place.row, *examiner.voices(talk)) for talk in trials]


def _fused(judged: Iterable[tuple[Place, Seen]], pairs: Iterable[tuple[Row, Detection, Detection]]) -> Iterator[Trial]:
    """Speakers as they are, and genuine ones with another person's voice, which are fakes.

    Of their tracks, not of the verdict: the map of ``fake`` turns what the fusion head says of a speaker into P(fake).
    The verdict weighs several faces, and a voice off screen, by maps of their own.
    """
    found = [(place.row, int(place.row.method is not None), seen.said) for place, seen in judged]
    found += [(row, 1, foreign) for row, _, foreign in pairs]
    for row, label, said in found:
        speaker = longest_speaker(said)
        yield Trial(label, None if speaker is None else speaker.p_fake, person_of(row))


def _trial(row: Row, label: int | None, said: Detection, aspect: str) -> Trial:
    return Trial(label, aspects(said)[aspect].p_fake, person_of(row))


def _known(trials: Iterable[Trial]) -> list[tuple[int, float, Hashable]]:
    return [(label, p, person) for label, p, person in trials if label is not None and p is not None]


def _counts(trials: Iterable[Trial]) -> tuple[int, int]:
    """How many genuine and fake clips were judged."""
    labels = [label for label, *_ in _known(trials)]
    return labels.count(0), labels.count(1)


def _fit(trials: Iterable[Trial]) -> Fit:
    labels, scores, people = zip(*_known(trials), strict=True)
    # A sigmoid that rounds to 1 would be an infinite logit.
    return fit(labels, logit(np.clip(scores, 1e-15, 1 - 1e-15)).tolist(), people)
