"""The list of results of ``avfake detect --out``: one line of JSON a file, written as each is done.

A list that exists is gone on with. Files are named by their absolute path. A line counts for as long as its file has
the same content and the same detector judges; a newer line about a file takes the place of the older one when the list
is closed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from typing import Any, BinaryIO

from avfake import AvfakeError
from avfake.storage import StorageError, absolute, is_remote, local_copy, sha256, stamp, whole_file

log = logging.getLogger(__name__)
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
        self._upload_at_s = time.monotonic() + UPLOAD_EVERY_S
        try:
            self._path = _spool(address) if is_remote(address) else address
            _check(self._path, address, inputs)
            self._file: BinaryIO = open(self._path, "ab")  # noqa: SIM115  # close() is ours
        except (OSError, RuntimeError, StorageError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ResultsError(f"{address} cannot be written ({reason}); name a file you can write") from None
        self._older: dict[str, tuple[str | None, str | None, int]] = {}
        """By absolute address: SHA-256, detector, and where the line begins."""
        self._superseded = self._torn = False
        if os.path.isfile(self._path):
            self._lock()
            self._read()

    def older(self, address: str, detector: str) -> Entry | None:
        """Return the detection of a file that would come out again, None where there is none."""
        content, known, start = self._older.get(absolute(address), (None, None, 0))
        if content is None or known != detector:
            return None
        with suppress(StorageError):
            if sha256(address) == content:
                with open(self._path, "rb") as file:
                    file.seek(start)
                    return {**json.loads(file.readline()), "file": address}
        return None

    def add(self, entry: Entry) -> None:
        """Write one line at once, so that a run which is killed has lost nothing. Raises ``ResultsError``."""
        path = absolute(entry["file"])  # the same file in whatever directory the next run works
        line = json.dumps({**entry, "file": path}, allow_nan=False).encode() + b"\n"
        try:
            self._file.write(b"\n" * self._torn + line)  # a killed run may have left half a line
            self._file.flush()
        except OSError as error:
            with suppress(OSError):  # closing writes once more
                self._file.close()
            raise ResultsError(
                f"{self._address}: it cannot be written ({error.strerror}); free some space or name another file"
            ) from None
        self._torn = False
        self._superseded |= path in self._older
        if is_remote(self._address) and time.monotonic() > self._upload_at_s:
            begin = time.monotonic()
            try:
                self._upload()
            except StorageError as error:  # the next one may go through
                log.warning("%s", error)
            self._upload_at_s = time.monotonic() + max(UPLOAD_EVERY_S, 20 * (time.monotonic() - begin))

    def close(self) -> None:
        """Close the list, with one line a file. Raises ``StorageError``, naming where a remote list is kept."""
        with suppress(OSError):
            self._file.close()
        if self._superseded:
            self._compact()
        if is_remote(self._address):
            try:
                self._upload()
            except StorageError as error:
                raise StorageError(f"{str(error).rstrip('.')}; the whole list is kept in {self._path}.") from error
            os.unlink(self._path)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ResultsError(f"{self._address} is being written by another run; wait for it") from None

    def _read(self) -> None:
        position = 0
        with open(self._path, "rb") as file:
            for line in file:
                known, entry = _parsed(line)
                if entry is not None:
                    path = absolute(entry["file"])
                    self._superseded |= path in self._older
                    self._older[path] = entry.get("sha256"), entry.get("detector"), position
                self._torn = not line.endswith(b"\n")
                self._superseded |= not known  # half a line, of a killed run
                position += len(line)

    def _compact(self) -> None:
        """Leave the last line about each file, and every line that is somebody else's."""
        last: dict[str, int] = {}
        foreign: set[int] = set()
        with open(self._path, "rb") as file:
            for number, line in enumerate(file):
                known, entry = _parsed(line)
                if entry is not None:
                    last[absolute(entry["file"])] = number
                elif known:
                    foreign.add(number)
        keep = foreign.union(last.values())
        with open(self._path, "rb") as file, whole_file(os.path.realpath(self._path)) as target:
            for number, line in enumerate(file):
                if number in keep:
                    target.write(line)

    def _upload(self) -> None:
        with whole_file(self._address) as target, open(self._path, "rb") as spool:
            shutil.copyfileobj(spool, target)


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
        if begin and _parsed(begin)[1] is None:
            raise ResultsError(f"{address} holds something that is no list of results; name another file")


def _parsed(line: bytes) -> tuple[bool, Entry | None]:
    """Return whether a line is JSON, which half a line is not, and the result that it holds, if it holds one."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False, None
    known = isinstance(entry, dict) and str(entry.get("schema")).startswith(("avfake-detection-", "avfake-error-"))
    return True, entry if known and isinstance(entry.get("file"), str) else None
