"""Forging: labelled pseudo-fakes made from genuine clips on the fly.

Every forger takes a ``Sample`` and gives a new one with exact labels and segments; the one given stays as it is. The
same random generator gives the same fake. What a forger cannot do to a clip it says by ``NotForgeable``. See
docs/forge.md for what each makes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from avfake.forge.common import MIN_FRAMES, NotForgeable, Rng
from avfake.forge.mouth import mouth_blend, mouth_flicker, mouth_frozen, mouth_late, mouth_looped
from avfake.forge.timing import (
    IN_SYNC,
    other_voice,
    other_words,
    same_person,
    same_recording,
    shift,
    splice,
)
from avfake.forge.voice import VOICES, resynthesise
from avfake.forge.voice import available as available_voices
from avfake.samples import Sample

__all__ = [
    "FORGERS",
    "NotForgeable",
    "available",
    "forge",
    "mouth_blend",
    "mouth_flicker",
    "mouth_frozen",
    "mouth_late",
    "mouth_looped",
    "other_voice",
    "other_words",
    "resynthesise",
    "same_person",
    "same_recording",
    "shift",
    "splice",
]

Forger = Callable[[Sample, Sequence[Sample], Rng], Sample]

_OWN_OFFSET = 3  # frames by which lips and voice of genuine clips may be apart; kept clear of the limit of sync
_FARTHEST = 75
_TRIES = 4


def _shift(sample: Sample, donors: Sequence[Sample], rng: Rng) -> Sample:
    return _shifted(sample, 1, IN_SYNC - _OWN_OFFSET, rng)


def _far_shift(sample: Sample, donors: Sequence[Sample], rng: Rng) -> Sample:
    return _shifted(sample, IN_SYNC + _OWN_OFFSET + 1, _FARTHEST, rng)


def _shifted(sample: Sample, nearest: int, farthest: int, rng: Rng) -> Sample:
    """Shift the voice to a total of ``nearest`` to ``farthest`` frames from where it was recorded."""
    reach = sample.clip.frames - MIN_FRAMES
    totals = [
        total
        for size in range(nearest, farthest + 1)
        for total in (-size, size)
        if 0 < abs(total - sample.shift) <= reach
    ]
    for total in rng.permutation(totals).tolist()[:_TRIES]:
        try:
            return shift(sample, int(total) - sample.shift)
        except NotForgeable:
            continue
    raise NotForgeable(f"{sample.row.id}: it cannot be shifted by {nearest} frames or more.")


def _donated(
    forger: Callable[[Sample, Sample, Rng], Sample], sample: Sample, donors: Sequence[Sample], rng: Rng
) -> Sample:
    """Forge with the first donor, in random order, that will do."""
    for index in rng.permutation(len(donors)):
        try:
            return forger(sample, donors[index], rng)
        except NotForgeable:
            continue
    raise NotForgeable(f"{sample.row.id}: none of the {len(donors)} donors will do.")


def _alone(forger: Callable[[Sample, Rng], Sample], sample: Sample, donors: Sequence[Sample], rng: Rng) -> Sample:
    return forger(sample, rng)


def _voiced(voice: str, part: bool, sample: Sample, donors: Sequence[Sample], rng: Rng) -> Sample:
    return resynthesise(sample, voice, rng, part=part)


_FAMILIES: dict[str, dict[str, Forger]] = {
    "timing": {
        "shift": _shift,
        "far_shift": _far_shift,
        **{forger.__name__: partial(_donated, forger) for forger in (other_voice, other_words, splice)},
    },
    "voice": {f"{voice}{'_part' * part}": partial(_voiced, voice, part) for part in (False, True) for voice in VOICES},
    "mouth": {
        forger.__name__: partial(_alone, forger)
        for forger in (mouth_blend, mouth_late, mouth_frozen, mouth_looped, mouth_flicker)
    },
}

FORGERS: dict[str, Forger] = {name: forger for family in _FAMILIES.values() for name, forger in family.items()}
"""Every forger by the name that the method of its fakes carries after ``forge:``."""


def available() -> tuple[str, ...]:
    """Return the names of the ``FORGERS`` that can run here: those with WORLD need the package pyworld."""
    missing = set(VOICES) - set(available_voices())
    return tuple(name for name in FORGERS if name.removesuffix("_part") not in missing)


def forge(sample: Sample, donors: Sequence[Sample], rng: Rng, names: Collection[str] | None = None) -> Sample:
    """Return a fake of ``sample`` by a random forger that applies.

    First a family is drawn (timing, voice, mouth), each as likely, then one of its forgers; what does not apply is
    passed over. ``donors`` are clips whose voices may be used; ``names`` are the forgers to choose from, by default
    all that are ``available()``. ``shift`` alone makes no fake: it labels nothing 1.
    Raises ``NotForgeable`` where none applies and ``KeyError`` for an unknown name.
    """
    wanted = {name: FORGERS[name] for name in (available() if names is None else names)}
    for family in rng.permutation(sorted(_FAMILIES)):
        candidates = [name for name in _FAMILIES[family] if name in wanted]
        for name in rng.permutation(candidates):
            try:
                return wanted[name](sample, donors, rng)
            except NotForgeable:
                continue
    raise NotForgeable(f"{sample.row.id}: none of the forgers applies to it.")
