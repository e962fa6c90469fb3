"""Splits by person, for corpora whose authors give none: nobody is in two of them, and everybody gets the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from avfake.manifest import Row

TRAIN, DEV = 0.7, 0.1
"""Shares of the people; the rest is the test split."""


def split_of(name: str) -> str:
    """Return the split of a person by the SHA-256 hash of the name alone, whoever else there is.

    The shares are kept in expectation: among few people a split may be empty.
    """
    position = int.from_bytes(sha256(name.encode()).digest()) / 2**256
    return "train" if position < TRAIN else "dev" if position < TRAIN + DEV else "test"


def shuffled(names: Iterable[str]) -> list[str]:
    """Return each name once, in the order of their SHA-256 hashes: arbitrary, but the same wherever it is computed."""
    return sorted(set(names), key=lambda name: sha256(name.encode()).hexdigest())


def splits(people: Iterable[str]) -> dict[str, str]:
    """Return the split of each person: of all of them in ``shuffled`` order, first train, then dev, then test.

    The shares are exact, which matters among few people; but who is there decides on everybody's split.
    """
    order = shuffled(people)
    # Rounding spares 0.7 + 0.1 from being a hair less than 0.8, which would move a person.
    train, dev = round(TRAIN * len(order)), round((TRAIN + DEV) * len(order))
    return {name: "train" if i < train else "dev" if i < dev else "test" for i, name in enumerate(order)}


def families(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return a group for each row (n,), counted from 0: what shares a person or a recording is in the same one.

    Rows of one identity are, and fakes with their originals, be these listed or not; and whatever these share in turn.
    """
    keys: dict[str, int] = {}
    pairs = []
    for index, row in enumerate(rows):
        links = [f"id {row.id}", row.identity and f"identity {row.identity}", row.original and f"id {row.original}"]
        pairs += [(index, keys.setdefault(link, len(keys))) for link in links if link]
    nodes, links_of = np.array(pairs, np.int64).reshape(-1, 2).T
    size = len(rows) + len(keys)
    graph = coo_array((np.ones(len(nodes), np.int8), (nodes, links_of + len(rows))), shape=(size, size))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1][: len(rows)]
    return np.unique(groups, return_inverse=True)[1]
