"""Cutting a warped piece out of one plane, anti-aliased."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
"""8-bit samples: (h, w), or (h, w, channels) where they are interleaved."""


def warp(plane: Plane, matrix: NDArray[np.float64], size: tuple[int, int]) -> Plane:
    """Sample ``plane`` at ``matrix`` @ output pixel: bilinear, averaged where it shrinks, edges repeated."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    # Shrinking: first average whole blocks of the part that is needed, on the picture's own block grid so that
    # blocks do not move with the part.
    block_y, block_x = (
        min(max(1, int(pixels)), length)
        for pixels, length in zip(np.hypot(linear[::-1, 0], linear[::-1, 1]), plane.shape[:2], strict=True)
    )
    if block_x > 1 or block_y > 1:
        corners = np.array([[-1, -1], [size[0], -1], [-1, size[1]], [size[0], size[1]]]) @ linear.T + shift
        x0, x1 = _block_span(corners[:, 0], block_x, plane.shape[1])
        y0, y1 = _block_span(corners[:, 1], block_y, plane.shape[0])
        block = np.array([block_x, block_y])
        small = ((x1 - x0) // block_x, (y1 - y0) // block_y)
        plane = average(plane[y0:y1, x0:x1], small)
        linear = linear / block[:, None]
        shift = (shift - [x0, y0] + 0.5) / block - 0.5
    # The rest, a factor below 2: sample twice as finely as asked for and average on the output grid.
    finer_x, finer_y = (1 if pixels < 1.25 else 2 for pixels in np.hypot(linear[0], linear[1]))
    finer = np.array([finer_x, finer_y])
    shift = shift + linear @ (0.5 / finer - 0.5)
    warped = cv2.warpAffine(
        plane,
        np.column_stack([linear / finer, shift]),
        (size[0] * finer_x, size[1] * finer_y),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if finer_x > 1 or finer_y > 1:
        return average(np.asarray(warped, np.uint8), size)
    return np.asarray(warped, np.uint8)


def average(plane: Plane, size: tuple[int, int]) -> Plane:
    """Shrink ``plane`` to ``size`` (width, height) by averaging areas."""
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)


def _block_span(coordinates: NDArray[np.float64], block: int, length: int) -> tuple[int, int]:
    """First and past-last pixel, whole blocks inside the picture, that cover ``coordinates``; never empty.

    ``block`` is at most ``length``.
    """
    blocks = length // block
    first = min(max(math.floor(coordinates.min() / block), 0), blocks - 1)
    last = min(max(math.ceil(coordinates.max() / block) + 1, first + 1), blocks)
    return first * block, last * block
