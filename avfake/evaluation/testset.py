"""What a test set consists of: rows with labels, and where their clips are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from avfake import AvfakeError, corpora, manifest
from avfake.evaluation.config import SetConfig
from avfake.evaluation.judged import Place
from avfake.manifest import Row
from avfake.shards import Entry, ShardFolder, read_index

Item = TypeVar("Item")


class EmptySetError(AvfakeError):
    """There is nothing to evaluate on."""


def places(name: str, config: SetConfig) -> list[Place]:
    """Return the rows of a test set and where their clips are. Raises ``AvfakeError``."""
    if config.split == "auto":
        config = replace(config, split="all" if config.media is not None else "test")
    found = [place for place in _all(config) if _wanted(place.row, config)]
    if not found:
        asked = "".join(
            f", {what} {', '.join(names)}"
            for what, names in (("methods", config.methods), ("sources", config.sources))
            if names
        )
        where = config.manifest or config.shards or config.media
        raise EmptySetError(
            f"{where}: it has no row of split {config.split}{asked}, so sets.{name} has nothing to evaluate on; give "
            f"sets.{name}.split=all, or another manifest."
        )
    return found


def _all(config: SetConfig) -> Iterator[Place]:
    if config.shards is not None:
        for shard in ShardFolder(config.shards).shards:
            for record in read_index(config.shards, shard.name)["rows"]:
                entries = tuple((shard.name, Entry.from_dict(clip)) for clip in record["clips"])
                yield Place(manifest.parse(record["row"]), config.shards, entries, record["failure"])
    elif config.manifest is not None:
        yield from map(Place, manifest.read(config.manifest))
    else:
        assert config.media is not None
        yield from map(Place, corpora.read("folder", Path(config.media).absolute()))


def _wanted(row: Row, config: SetConfig) -> bool:
    return (
        config.split in ("all", row.split)
        and (not config.methods or row.method is None or row.method in config.methods)
        and (not config.sources or row.corpus in config.sources)
    )


def drawn(
    items: Sequence[Item], count: int, key: Callable[[Item], str], group: Callable[[Item], Hashable]
) -> list[Item]:
    """Return ``count`` items, evenly from their groups, in their own order; the same for the same keys."""
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: hashlib.sha256(key(item).encode("utf-8", "backslashreplace")).digest()):
        groups[group(item)].append(item)
    in_turn = [item for layer in zip_longest(*groups.values()) for item in layer if item is not None]
    chosen = {key(item) for item in in_turn[:count]}
    return [item for item in items if key(item) in chosen]
