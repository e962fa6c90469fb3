"""Addresses: plain paths, and whatever fsspec knows, as in ``s3://bucket/clips/a.mp4`` or ``memory://shards``."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

import fsspec

from avfake import AvfakeError

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"),
    *(".ts", ".vob", ".webm", ".wmv"),
)
AUDIO_SUFFIXES = (".aac", ".aiff", ".amr", ".flac", ".m4a", ".mka", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma")
MEDIA_SUFFIXES = VIDEO_SUFFIXES + AUDIO_SUFFIXES
"""What is taken for media in a folder; a file that is named is judged whatever its name."""


class StorageError(AvfakeError):
    """Something cannot be read from or written to where it is said to be."""


def is_remote(address: str) -> bool:
    """Whether an address is fsspec's, not a plain path."""
    return "://" in address


def join(folder: str, name: str) -> str:
    """Return the address of ``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def absolute(address: str) -> str:
    """Return an address that holds in any working directory."""
    return address if is_remote(address) else os.path.abspath(address)


@contextmanager
def local_copy(address: str) -> Iterator[str]:
    """Yield the path of a file on this machine: the address itself, or a copy of it that is deleted afterwards.

    Raises ``StorageError`` when a remote file cannot be fetched; a plain path is not looked at.
    """
    if not is_remote(address):
        yield address
        return
    with _told(tempfile.gettempdir(), "written"):
        descriptor, copy = tempfile.mkstemp(prefix="avfake-", suffix=Path(address.split("?")[0]).suffix[:16])
        os.close(descriptor)
    try:
        with _told(address, "read"):
            system, path = fsspec.core.url_to_fs(address)
            system.get_file(path, copy)
        yield copy
    finally:
        with suppress(FileNotFoundError):
            os.unlink(copy)


def stamp(address: str) -> tuple[int, str] | None:
    """Return the size of a file in bytes and when it last changed ("" where that is not told); None for no file.

    Raises ``StorageError``.
    """
    if not is_remote(address):
        try:
            found = os.stat(address)
        except (OSError, ValueError):
            return None
        return (found.st_size, str(found.st_mtime_ns)) if S_ISREG(found.st_mode) else None
    with _told(address, "read"):
        system, path = fsspec.core.url_to_fs(address)
        try:
            info = system.info(path)
        except FileNotFoundError:
            return None
        changed = next(
            (info[name] for name in ("ETag", "etag", "mtime", "LastModified", "created") if name in info), ""
        )
        return int(info.get("size") or 0), str(changed)


def sha256(address: str) -> str:
    """Return the SHA-256 of a file's content in hexadecimal. Raises ``StorageError``."""
    with local_copy(address) as path, _told(address, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(folder: str, suffix: str) -> list[str]:
    """Return the names of the files in a folder that end so, in order; empty where there is no such folder."""
    if not is_remote(folder):
        with _told(folder, "read"):
            return sorted(n for n in os.listdir(folder) if n.endswith(suffix)) if os.path.isdir(folder) else []
    with _told(folder, "read"):
        system, path = fsspec.core.url_to_fs(folder)
        system.invalidate_cache()
        try:
            found = system.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(Path(name).name for name in found if name.endswith(suffix))


def read_bytes(address: str, start: int | None = None, end: int | None = None) -> bytes:
    """Return a file, or its bytes from ``start`` to ``end``. Raises ``StorageError``."""
    with _told(address, "read"):
        if not is_remote(address):
            with open(address, "rb") as file:
                file.seek(start or 0)
                return file.read() if end is None else file.read(end - (start or 0))
        system, path = fsspec.core.url_to_fs(address)
        data: bytes = system.cat_file(path, start=start, end=end)
        return data


def make_folder(folder: str) -> None:
    """Create a folder of this machine; stores need none, and would make a bucket of it. Raises ``StorageError``."""
    if not is_remote(folder):
        with _told(folder, "written"):
            os.makedirs(folder, exist_ok=True)


@contextmanager
def whole_file(address: str) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears whole, when the block ends without an error, or not at all.

    A killed process leaves at most a hidden ``.part`` file beside it (see ``remove_parts``). Raises ``StorageError``.
    """
    if is_remote(address):
        # Stores show an object when its upload is complete.
        try:
            with tempfile.NamedTemporaryFile(prefix="avfake-") as upload:
                yield upload
                upload.flush()
                with _told(address, "written"):
                    system, path = fsspec.core.url_to_fs(address)
                    system.put_file(upload.name, path)
        except OSError as error:
            where, reason = tempfile.gettempdir(), error.strerror or error
            raise StorageError(f"{where} cannot be written: {reason}; free some space or set TMPDIR.") from error
        return
    target = Path(address)
    if target.exists() and not target.is_file():  # a device or a pipe would be replaced by the file
        kind = "a folder" if target.is_dir() else "no regular file"
        raise StorageError(f"{address} cannot be written: it is {kind}; give the name of a file.")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{address} cannot be written: {reason}; check the folder and its space.") from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_bytes(address: str, data: bytes) -> None:
    """Write a file, whole or not at all. Raises ``StorageError``."""
    with whole_file(address) as file:
        file.write(data)


def remove(address: str) -> None:
    """Delete a file if it is there. Raises ``StorageError``."""
    with _told(address, "deleted"), suppress(FileNotFoundError):
        if not is_remote(address):
            os.unlink(address)
            return
        system, path = fsspec.core.url_to_fs(address)
        system.rm_file(path)


def remove_parts(folder: str) -> None:
    """Delete what killed processes left in a folder of this machine."""
    if not is_remote(folder):
        for name in listing(folder, ".part"):
            if name.startswith("."):
                remove(join(folder, name))


def expand(addresses: Iterable[str]) -> list[str]:
    """Return every file once: those named, those below a folder, and those that a remote pattern (``*``) matches.

    Raises ``StorageError`` for storage that cannot be listed.
    """
    found: dict[str, None] = {}
    for address in addresses:
        if is_remote(address):
            matches = _find_remote(address)
        elif os.path.isdir(address):
            matches = sorted(str(path) for path in Path(address).rglob("*") if _is_media(path.name) and path.is_file())
        else:
            matches = [address]
        found |= dict.fromkeys(matches or [address])  # an empty folder becomes an error of its own when it is opened
    return list(found)


def _find_remote(address: str) -> list[str]:
    try:
        system, path = fsspec.core.url_to_fs(address)
        if "*" in path:
            matches = system.glob(path)
        elif system.isdir(path):
            matches = [name for name in system.find(path) if _is_media(name)]
        else:
            return [address]
        return sorted(system.unstrip_protocol(name) for name in matches)
    except Exception as error:  # each store has exceptions of its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StorageError(f"{address}: it cannot be listed ({reason}); check the address and your access.") from error


def _is_media(name: str) -> bool:
    return Path(name).suffix.lower() in MEDIA_SUFFIXES and not Path(name).name.startswith(".")


@contextmanager
def _told(address: str, verb: str) -> Iterator[None]:
    """Turn whatever a storage driver raises into one sentence."""
    try:
        yield
    except AvfakeError:
        raise
    except ImportError as error:
        raise StorageError(f"{address}: {error}; install that package, then run this again.") from error
    except FileNotFoundError as error:
        raise StorageError(f"{address}: there is no such file or folder; check the address.") from error
    except Exception as error:  # each store has exceptions of its own
        reason: Any = getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())
        raise StorageError(f"{address}: it cannot be {verb} ({reason}); check the address and your access.") from error
