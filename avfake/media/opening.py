"""Opening a file, and why it cannot be."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

import av
from av.container import InputContainer

from avfake.media.info import MediaError

_TEXT = "its content is text, not media, whatever its name says; give the media file itself"


def check_readable(path: str) -> None:
    """Raise ``MediaError`` if there is no file to read."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise MediaError(f"{path}: this is a pipe or device, not a file; save it to a file first.")
        with open(path, "rb") as file:
            if not file.read(1):
                raise MediaError(f"{path}: the file is empty; record or fetch it again.")
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file; check the path.") from None
    except IsADirectoryError:
        raise MediaError(f"{path}: this is a directory; give a media file in it.") from None
    except PermissionError:
        raise MediaError(f"{path}: there is no permission to read it; change its mode or owner.") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: it cannot be read ({error}); check the path and the disk.") from None


def open_container(path: str) -> InputContainer:
    """Open a file as media. Raises ``MediaError``."""
    try:
        # "file:" keeps names with a colon from being taken for an URL; playlists may not reach the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(f"{path}: {_why_unreadable(path, error)}.") from None
    if container.format.name == "tty":
        container.close()
        raise MediaError(f"{path}: {_TEXT}.")
    return container


def _why_unreadable(path: str, error: av.FFmpegError) -> str:
    with open(path, "rb") as file:
        head = file.read(4096)
        boxes = _boxes(file, os.path.getsize(path))
    if boxes and boxes[0] in (b"ftyp", b"mdat", b"free", b"wide", b"skip") and b"moov" not in boxes:
        return "its index (moov) is missing; the recording or download was cut short: fetch the complete file"
    try:
        text = head[: head.rfind(b"\n") + 1 or None].decode()
    except UnicodeDecodeError:
        text = "\0"
    if not any(ord(letter) < 32 and not letter.isspace() for letter in text):
        return _TEXT
    reason = error.strerror or type(error).__name__
    return f"FFmpeg does not know it as media, or its start is damaged ({reason}); fetch it again or convert it"


def _boxes(file: BinaryIO, size: int) -> list[bytes]:
    """Types of the top-level boxes of an MP4 or MOV file; of anything else, something meaningless."""
    types: list[bytes] = []
    position = 0
    while position + 8 <= size and len(types) < 1000:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        types.append(header[4:8])
        if length < 8:
            break
        position += length
    return types
