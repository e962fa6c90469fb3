"""The list of results of ``avfake detect --out``: one line of JSON a file, written as each is done.

A list that exists is gone on with. A line counts for as long as its file has the same content and the same detector
judges; a newer line about a file takes the place of the older one when the list is closed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from typing import Any, TextIO

from avfake import AvfakeError
from avfake.storage import StorageError, is_remote, local_copy, sha256, stamp, whole_file

UPLOAD_EVERY_S = 30.0
"""A store has no lines to append to: the whole list is put there this often, and at the end."""

Entry = dict[str, Any]


class ResultsError(AvfakeError):
    """A list of results cannot be what it is asked to be."""


class ResultList:
    """A list of results that is open for writing; plain path, device, pipe, or fsspec address."""

    def __init__(self, address: str, inputs: list[str]) -> None:
        """Open the list and change nothing. Raises ``ResultsError`` if it cannot be written or holds something else."""
        self._address = address
        self._uploaded_s = time.monotonic()
        try:
            self._path = _spool(address) if is_remote(address) else address
            _check(self._path, address, inputs)
            self._file: TextIO = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  # close() is ours
        except (OSError, RuntimeError, StorageError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ResultsError(f"{address} cannot be written ({reason}); name a file you can write") from None
        self._regular = os.path.isfile(self._path)
        self._older: dict[str, Entry] = {}
        self._torn = False
        if self._regular:
            self._older = {entry["file"]: entry for entry in self._entries()}
            with open(self._path, "rb") as file:
                text = file.read()
            self._torn = bool(text) and not text.endswith(b"\n")

    def older(self, address: str, detector: str) -> Entry | None:
        """Return the detection of a file that would come out again, None where there is none."""
        entry = self._older.get(address)
        if entry is None or entry.get("sha256") is None or entry.get("detector") != detector:
            return None
        with suppress(OSError, StorageError):
            if sha256(address) == entry["sha256"]:
                return entry
        return None

    def add(self, entry: Entry) -> None:
        """Write one line at once, so that a run which is killed has lost nothing. Raises ``ResultsError``."""
        try:
            # A killed run may have left half a line.
            self._file.write("\n" * self._torn + json.dumps(entry, allow_nan=False) + "\n")
            self._file.flush()
            self._torn = False
        except OSError as error:
            with suppress(OSError):  # closing writes once more
                self._file.close()
            raise ResultsError(
                f"{self._address}: it cannot be written ({error.strerror}); free some space or name another file"
            ) from None
        if is_remote(self._address) and time.monotonic() - self._uploaded_s > UPLOAD_EVERY_S:
            self._upload()

    def close(self) -> None:
        """Close the list, with one line a file. Raises ``StorageError``."""
        with suppress(OSError):
            self._file.close()
        if self._regular:
            with open(self._path, "rb") as lines:
                count = sum(1 for _ in lines)
            last = {entry["file"]: entry for entry in self._entries()}
            if len(last) < count:
                with whole_file(os.path.realpath(self._path)) as file:
                    for entry in last.values():
                        file.write(f"{json.dumps(entry)}\n".encode())
        if is_remote(self._address):
            self._upload()
            os.unlink(self._path)

    def _entries(self) -> list[Entry]:
        with open(self._path, encoding="utf-8") as file:
            lines = [_entry(line) for line in file]
        return [entry for entry in lines if entry is not None]

    def _upload(self) -> None:
        with whole_file(self._address) as target, open(self._path, "rb") as spool:
            shutil.copyfileobj(spool, target)
        self._uploaded_s = time.monotonic()


def _spool(address: str) -> str:
    """Return a file of this machine that holds what the remote list does."""
    descriptor, path = tempfile.mkstemp(prefix="avfake-", suffix=".jsonl")
    os.close(descriptor)
    if stamp(address) is not None:
        with local_copy(address) as copy:
            shutil.copyfile(copy, path)
    return path


def _check(path: str, address: str, inputs: list[str]) -> None:
    """Refuse what is surely not a list of results: an input, or a file that holds something else."""
    if any(os.path.realpath(address) == os.path.realpath(one) for one in inputs):
        raise ResultsError(f"{address} is one of the files to judge; name another file")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            begin = file.readline()
        if begin and _entry(begin) is None:
            raise ResultsError(f"{address} holds something that is no list of results; name another file")


def _entry(line: str | bytes) -> Entry | None:
    """Return the result that a line holds, None where it holds none: a killed run may end in half a line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    known = isinstance(entry, dict) and str(entry.get("schema")).startswith(("avfake-detection-", "avfake-error-"))
    return entry if known and isinstance(entry.get("file"), str) else None
