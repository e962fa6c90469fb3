"""Thumbnails of clips as small JPEG pictures: three frames of a video, the spectrogram of sound alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import av
import cv2
import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray

from avfake import FPS, AvfakeError
from avfake.manifest import Row
from avfake.media import Decoder, Frame, MediaError
from avfake.media.geometry import turn_of
from avfake.media.opening import check_readable
from avfake.media.source import Source, stamp_of
from avfake.models.audio import LogMel
from avfake.storage import local_copy

HEIGHT = 90
"""Of a thumbnail, in pixels."""

_AT = (0.2, 0.5, 0.8)  # of the duration
_WIDEST = 160  # pixels of one frame: a panorama would be nothing but wide
_SOUND_S = 8.0  # of sound shown
_SOUND_WIDTH = 320
_QUALITY = 60
_RANGE = 10.0  # of natural log-mel power below the loudest that is not black: 43 dB


def thumbnail(row: Row) -> str:
    """Return the thumbnail of a clip as a ``data:`` URI. Raises ``AvfakeError`` where there is nothing to show."""
    address = row.video or row.audio or ""
    with local_copy(address) as path:
        try:
            check_readable(path)
            picture = _frames(path) if row.video is not None else _spectrogram(path)
        except MediaError as error:
            # Of a remote file the copy's path, which is another one each time, must not be told.
            raise AvfakeError(str(error).replace(path, address)) from error
    return _uri(picture)


def _frames(path: str) -> NDArray[np.uint8]:
    """Frames (90, W, 3) RGB at 20, 50 and 80 % of a video, side by side."""
    tiles = list(_tiles(path))
    gap = np.full((HEIGHT, 2, 3), 255, np.uint8)
    return np.hstack([part for tile in tiles for part in (gap, tile)][1:])


def _tiles(path: str) -> Iterator[NDArray[np.uint8]]:
    source = Source(path, "video", threads=1)
    with source.container as container:
        if source.stream is None:
            raise MediaError(f"{path}: its video stream {source.explain()}.")
        start_s = (container.start_time or 0) / 1e6
        length_s = source.declared_s or (container.duration or 0) / 1e6
        aspect = source.stream.sample_aspect_ratio
        for share in _AT:
            at_s = start_s + share * length_s
            try:
                container.seek(round(at_s * 1e6))
            except av.FFmpegError as error:
                raise MediaError(f"{path}: one cannot seek in it ({error.strerror}); convert it to MP4.") from error
            shown = None
            for shown in source.frames():
                stamp = stamp_of(shown)
                if stamp is None or stamp >= at_s:
                    break
            if shown is None:
                raise MediaError(f"{path}: its video stream {source.explain()}.")
            square = float(aspect) if aspect and 0.1 < aspect < 10 else 1.0
            yield _scaled(Frame(shown, at_s, turn_of(shown), square))


def _scaled(frame: Frame) -> NDArray[np.uint8]:
    """The frame at 90 pixels' height (90, w, 3), less its sides where it is very wide."""
    scale = frame.height / HEIGHT
    width = min(max(1, round(frame.width / scale)), _WIDEST)
    left = (frame.width - width * scale) / 2
    matrix = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, scale / 2 - 0.5]])
    return frame.sample(matrix, (width, HEIGHT))


def _spectrogram(path: str) -> NDArray[np.uint8]:
    """Log-mel spectrogram (90, 320, 3) RGB of at most the first 8 s of a file's sound."""
    blocks: list[NDArray[np.float32]] = []
    decoder = Decoder(path)
    for tick in decoder:
        if tick.audio is not None:
            blocks.append(tick.audio)
        if len(blocks) >= _SOUND_S * FPS:
            break
    decoder.close()
    if not blocks:
        raise MediaError(f"{path}: it holds no sound.")
    with torch.no_grad():
        power = LogMel()(torch.from_numpy(np.concatenate(blocks)[None]))[0].numpy()[::-1]
    loudest = float(power.max())
    level = ((power - loudest + _RANGE) / _RANGE).clip(0, 1)
    coloured = (colormaps["magma"](level)[..., :3] * 255).round().astype(np.uint8)
    return np.asarray(cv2.resize(coloured, (_SOUND_WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _uri(picture: NDArray[np.uint8]) -> str:
    done, coded = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(coded.tobytes()).decode()}"
