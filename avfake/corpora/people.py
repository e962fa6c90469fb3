"""Splits by person, for corpora whose authors give none: nobody is in two of them, and everybody gets the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

TRAIN, DEV = 0.7, 0.1
"""Shares of the people; the rest is the test split."""


def shuffled(names: Iterable[str]) -> list[str]:
    """Return each name once, in the order of their SHA-256 hashes: arbitrary, but the same wherever it is computed."""
    return sorted(set(names), key=lambda name: sha256(name.encode()).hexdigest())


def splits(people: Iterable[str]) -> dict[str, str]:
    """Return the split of each person: of all of them in ``shuffled`` order, first train, then dev, then test."""
    order = shuffled(people)
    # Rounding spares 0.7 + 0.1 from being a hair less than 0.8, which would move a person.
    train, dev = round(TRAIN * len(order)), round((TRAIN + DEV) * len(order))
    return {name: "train" if i < train else "dev" if i < dev else "test" for i, name in enumerate(order)}
