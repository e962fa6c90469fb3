"""Pixel formats: the 8-bit planes of a decoded picture, and the matrix that makes them RGB."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from avfake.media.warp import Plane


class Planes(NamedTuple):
    """8-bit planes of a picture: luma and chroma, or one interleaved RGB plane."""

    luma: Plane
    chroma: tuple[Plane, ...]  # (h', w') each, or one of (h', w', 2)
    is_rgb: bool
    full_range: bool
    colorspace: int
    cosited: bool  # chroma samples sit on the left luma sample (MPEG), not between two (JPEG)


_PLANAR_YUV = re.compile(r"yuv[aj]?4\d\dp")


def planes_of(picture: VideoFrame) -> Planes:
    """8-bit planes of a picture: views where the format has them, else of a converted copy."""
    name = picture.format.name
    full_range = picture.color_range == 2 or name.startswith("yuvj")
    if _PLANAR_YUV.fullmatch(name):
        chroma: tuple[Plane, ...] = (_plane(picture, 1), _plane(picture, 2))
        return Planes(_plane(picture, 0), chroma, False, full_range, picture.colorspace, not name.startswith("yuvj"))
    if name == "nv12":
        chroma = (_plane(picture, 1, 2),)
        return Planes(_plane(picture, 0), chroma, False, full_range, picture.colorspace, True)
    if name == "gray":
        return Planes(_plane(picture, 0), (), False, picture.color_range != 1, picture.colorspace, True)
    if name == "rgb24":
        return Planes(_plane(picture, 0, 3), (), True, True, picture.colorspace, True)
    return planes_of(_as_8_bit(picture, full_range))


def _as_8_bit(picture: VideoFrame, full_range: bool) -> VideoFrame:
    """Convert a picture once to the nearest format that ``planes_of`` has views of.

    On one thread: several spoil each other's first pixels where a width is no multiple of the vector size.
    """
    layout = picture.format
    if layout.is_rgb or layout.has_palette or layout.is_bit_stream:
        return picture.reformat(format="rgb24", threads=1)
    if len(layout.components) < 3:
        return picture.reformat(format="gray", threads=1)
    wide, high = layout.chroma_width(64) == 64, layout.chroma_height(64) == 64
    target = "yuv444p" if wide else "yuv422p" if high else "yuv420p"
    levels = 2 if full_range else 1
    return picture.reformat(format=target, src_color_range=levels, dst_color_range=levels, threads=1)


def _plane(picture: VideoFrame, index: int, channels: int = 1) -> Plane:
    """View of one 8-bit plane: (h, w), or (h, w, channels) where samples are interleaved."""
    plane: Any = picture.planes[index]
    rows: Plane = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width * channels]
    return rows if channels == 1 else rows.reshape(plane.height, plane.width, channels)


@lru_cache(maxsize=16)
def yuv_to_rgb(colorspace: int, full_range: bool, height: int) -> NDArray[np.float32]:
    """Return the (3, 4) matrix from 8-bit (Y, U, V, 1) to RGB; ``colorspace`` is libav's AVColorSpace."""
    weights = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
    weights |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
    red, blue = weights.get(colorspace, weights[1 if height >= 720 else 6])
    green = 1 - red - blue
    black, luma, chroma = (0, 1.0, 1.0) if full_range else (16, 255 / 219, 255 / 224)
    linear = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * (1 - blue) * blue / green * chroma, -2 * (1 - red) * red / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    return np.column_stack([linear, -linear @ [black, 128, 128]]).astype(np.float32)
