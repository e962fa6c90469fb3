"""Which rows go into which shard: decided by the manifest and the settings alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from avfake import AvfakeError
from avfake.clips import PREPROCESSING
from avfake.faces import BackendName
from avfake.manifest import Row

VIDEOS_PER_SHARD = 50  # some 80 MB for clips of ten seconds: one read of a disk, one object of a store
SHARD_NAME = re.compile(r"(train|dev|test)-\d{6}-[0-9a-f]{16}")
SOUNDS_PER_VIDEO = 10  # a clip of sound alone is a tenth of one with lips


class PrepareError(AvfakeError):
    """A manifest cannot be prepared into a folder."""


@dataclass(frozen=True)
class Settings:
    """What decides over the content of clips beside their files."""

    faces: BackendName
    faces_of_original: bool
    preprocessing: int = PREPROCESSING


@dataclass(frozen=True)
class Job:
    """One shard to make.

    ``originals``  rows of other shards whose faces are to be laid over rows of this one.
    ``elsewhere``  by row id, the shards of older plans that may hold the row's clips already.
    ``deadly``     by row id, why no worker survives it.
    ``trial``      only try the rows, to find out which are deadly.
    """

    out: str
    name: str
    manifest: str
    settings: Settings
    rows: tuple[Row, ...]
    originals: dict[str, Row] = field(default_factory=dict)
    elsewhere: dict[str, tuple[str, ...]] = field(default_factory=dict)
    deadly: dict[str, str] = field(default_factory=dict)
    trial: bool = False


def plan(rows: Sequence[Row], out: str, manifest: str, settings: Settings) -> list[Job]:
    """Deal the rows into shards: by split, fakes behind their originals, otherwise in an order that mixes all."""
    by_id = {row.id: row for row in rows}
    families: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        families[row.split, row.original or row.id].append(row)
    groups: dict[str, list[list[Row]]] = defaultdict(list)
    room = 0
    for split, root in sorted(families, key=lambda key: (key[0], digest(key[1]))):
        for row in sorted(families[split, root], key=lambda row: (row.id != root, row.id)):
            cost = SOUNDS_PER_VIDEO if row.video else 1
            if split not in groups or room < cost:
                groups[split].append([])
                room = VIDEOS_PER_SHARD * SOUNDS_PER_VIDEO
            groups[split][-1].append(row)
            room -= cost
    jobs = []
    for split, shards in groups.items():
        for number, members in enumerate(shards):
            made_of = digest(json.dumps([asdict(settings), [asdict(row) for row in members]], sort_keys=True))
            wanted = {row.original for row in members if settings.faces_of_original and row.original}
            absent = wanted - {row.id for row in members}
            originals = {name: by_id[name] for name in sorted(absent) if name in by_id}
            jobs.append(Job(out, f"{split}-{number:06d}-{made_of}", manifest, settings, tuple(members), originals))
    return jobs


def digest(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
