"""One picture of a clip."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from avfake.media.geometry import UPRIGHT, Turn, geometry_of
from avfake.media.pixels import Planes, planes_of, yuv_to_rgb
from avfake.media.warp import average, warp

_THUMBNAIL = (32, 18)  # width and height


class Frame:
    """One picture in the pixel format it was coded in; only what is sampled is converted.

    ``time_s`` is its own presentation time on the clip clock, ``width`` and ``height`` are those of the
    upright picture with square pixels.
    """

    __slots__ = ("__weakref__", "_cached", "_geometry", "_picture", "height", "time_s", "width")

    def __init__(self, picture: VideoFrame, time_s: float, turn: Turn = UPRIGHT, aspect: float = 1.0) -> None:
        """``turn`` tells how to turn the stored picture for display, ``aspect`` a pixel's width / height."""
        self._picture = picture
        self._geometry = geometry_of(picture.width, picture.height, turn, aspect)
        self._cached: Planes | None = None
        self.time_s = time_s
        self.width = self._geometry.width
        self.height = self._geometry.height

    def sample(self, matrix: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Cut a piece out of the upright picture.

        ``matrix`` (2, 3) maps output pixels to upright picture pixels, both (x, y) with integers at pixel
        centres; ``size`` is (width, height). Returns RGB uint8 (height, width, 3): anti-aliased where it
        shrinks, edge pixels repeated outside of the picture.
        """
        planes = self._planes()
        to_stored = self._geometry.to_stored
        stored = to_stored[:, :2] @ np.asarray(matrix, np.float64)
        stored[:, 2] += to_stored[:, 2]
        luma = warp(planes.luma, stored, size)
        if planes.is_rgb:
            return luma
        if planes.chroma:
            on_chroma = _on_chroma(stored, planes)
            parts = [luma, *(warp(plane, on_chroma, size) for plane in planes.chroma)]
        else:
            neutral = np.full_like(luma, 128)
            parts = [luma, neutral, neutral]
        to_rgb = yuv_to_rgb(planes.colorspace, planes.full_range, planes.luma.shape[0])
        return np.asarray(cv2.transform(cv2.merge(parts), to_rgb), np.uint8)

    def thumbnail(self) -> NDArray[np.uint8]:
        """Return the brightness of the picture as it is stored, uint8 (18, 32): a cheap key for cuts."""
        luma = self._planes().luma
        step_y, step_x = max(1, luma.shape[0] // 72), max(1, luma.shape[1] // 128)
        part = np.ascontiguousarray(luma[::step_y, ::step_x])
        if part.ndim == 3:
            part = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), np.uint8)
        return average(part, _THUMBNAIL)

    def _planes(self) -> Planes:
        if self._cached is None:
            self._cached = planes_of(self._picture)
        return self._cached


def _on_chroma(to_luma: NDArray[np.float64], planes: Planes) -> NDArray[np.float64]:
    """Turn a matrix onto luma samples into the one onto chroma samples."""
    scale = [
        2.0 ** -round(math.log2(whole / part))
        for whole, part in zip(planes.luma.shape[1::-1], planes.chroma[0].shape[1::-1], strict=True)
    ]
    halves = np.array([[scale[0]], [scale[1]]])
    on_chroma = to_luma * halves
    # Chroma samples lie between luma samples, except MPEG's horizontally.
    on_chroma[:, 2:] += halves / 2 - 0.5
    if planes.cosited:
        on_chroma[0, 2] += 0.5 - scale[0] / 2
    return on_chroma
