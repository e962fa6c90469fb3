"""Shards: prepared clips in WebDataset tars, ``KEY.mkv`` + ``KEY.json`` a clip, with an index beside each.

A folder of shards holds

* ``SPLIT-NUMBER-DIGEST.tar``   the clips of about fifty videos or five hundred sounds;
* the same name ``.json``       its index: where each clip begins, what its row says, what came of every row. A shard
                                without an index is not whole and does not count;
* ``failures.jsonl``            the rows without a clip, with the reason;
* ``prepared.json``             the list of the shards and a summary, written when all of them are there.

Any WebDataset reader can stream the tars; the index lets a clip be read without what lies before it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, NamedTuple

from avfake import AvfakeError
from avfake.clips import PREPROCESSING, decode_clip
from avfake.manifest import Row, parse
from avfake.samples import Sample
from avfake.storage import StorageError, join, read_bytes

INDEX_SCHEMA = "avfake-shard-1"
INDEX_FIELDS = {"manifest", "settings", "bytes", "rows"}
FOLDER_SCHEMA = "avfake-shards-1"
PREPARED = "prepared.json"
FAILURES = "failures.jsonl"


class ShardError(AvfakeError):
    """Shards are missing, unfinished, damaged, or of another preprocessing version."""


@dataclass(frozen=True)
class Entry:
    """One clip of a shard: ``offset`` and ``size`` of its ``.mkv`` in the tar (bytes), its frames and streams, its row.

    The row's segments are in seconds of the clip.
    """

    key: str
    offset: int
    size: int
    frames: int
    has_lips: bool
    has_audio: bool
    row: Row

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Entry:
        """Return the entry that ``to_dict`` made, from JSON."""
        return cls(**{**value, "row": parse(value["row"])})


class ShardWriter:
    """Writes clips into an open file as a tar that is the same to the byte for the same clips."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115  # close() is ours

    def add(self, entry: Entry, data: bytes) -> Entry:
        """Append the bytes of one clip file; return its entry with where they lie."""
        offset = self._append(f"{entry.key}.mkv", data)
        facts = {"preprocessing": PREPROCESSING, "frames": entry.frames, "row": asdict(entry.row)}
        self._append(f"{entry.key}.json", dumps(facts))
        return replace(entry, offset=offset, size=len(data))

    def close(self) -> None:
        """End the tar."""
        self._tar.close()

    def _append(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return offset


class ShardInfo(NamedTuple):
    """One shard in the list of a folder."""

    name: str
    split: str
    clips: int
    bytes: int


class ShardFolder:
    """A folder, or an address, that ``avfake prepare`` has finished. Raises ``ShardError``, ``StorageError``."""

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            document = json.loads(read_bytes(join(address, PREPARED)))
        except StorageError as error:
            raise ShardError(
                f"{address} holds no prepared shards ({PREPARED} cannot be read); make them, or finish them, with "
                f"avfake prepare MANIFEST -o {address}"
            ) from error
        except ValueError as error:
            raise ShardError(f"{address}: {PREPARED} is damaged ({error}); run avfake prepare again.") from error
        if not isinstance(document, dict) or document.get("schema") != FOLDER_SCHEMA:
            raise ShardError(f"{address}: {PREPARED} is not of this version of avfake; run avfake prepare again.")
        version = document["preprocessing"]
        if version != PREPROCESSING:
            raise ShardError(
                f"{address} was prepared by preprocessing version {version}, this avfake makes version "
                f"{PREPROCESSING}; prepare it again into another folder."
            )
        self.shards = [ShardInfo(**shard) for shard in document["shards"]]
        self.summary: dict[str, Any] = document["summary"]

    def sample(self, name: str, entry: Entry) -> Sample:
        """Read one clip of a shard."""
        data = read_bytes(join(self.address, f"{name}.tar"), entry.offset, entry.offset + entry.size)
        return Sample(entry.row, decode_clip(data, f"{name}.tar/{entry.key}"))

    def samples(self, *splits: str) -> Iterator[Sample]:
        """Yield every clip of the splits, in order."""
        for shard in self.shards:
            if shard.split in splits:
                for entry in read_entries(self.address, shard.name):
                    yield self.sample(shard.name, entry)


def dumps(value: Any, indent: int | None = None) -> bytes:
    """Return a value as JSON in UTF-8; of a file name that is no UTF-8 the odd bytes become escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace")


def read_index(folder: str, name: str) -> dict[str, Any]:
    """Return what the index of a shard says (``prepare.Record`` a row). Raises ``ShardError``, ``StorageError``."""
    where = join(folder, f"{name}.json")
    try:
        index = json.loads(read_bytes(where))
    except ValueError as error:
        raise ShardError(f"{where} is damaged ({error}); delete it and run avfake prepare again.") from error
    if not isinstance(index, dict) or index.get("schema") != INDEX_SCHEMA or not index.keys() >= INDEX_FIELDS:
        raise ShardError(f"{where} is no index of a shard; delete it and run avfake prepare again.")
    return index


def read_entries(folder: str, name: str) -> list[Entry]:
    """Return what a shard holds, in order, from its index. Raises ``ShardError``, ``StorageError``."""
    return [Entry.from_dict(clip) for row in read_index(folder, name)["rows"] for clip in row["clips"]]
