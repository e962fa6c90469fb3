"""How the upright picture with square pixels lies on the stored one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Turn = tuple[int, int, int, int]  # the display matrix (a, b, c, d): x' = a x + c y, y' = b x + d y
UPRIGHT: Turn = (1, 0, 0, 1)


@dataclass(frozen=True)
class Geometry:
    """How the upright picture with square pixels lies on the stored one."""

    width: int
    height: int
    rotation: int
    to_stored: NDArray[np.float64]  # (2, 3): upright pixel -> stored pixel


@lru_cache(maxsize=32)
def geometry_of(width: int, height: int, turn: Turn, aspect: float) -> Geometry:
    """Return how a picture of this stored size is shown; ``aspect`` is a pixel's width / height."""
    a, b, c, d = turn
    # Square pixels by stretching the coarser axis, so that no detail is lost.
    square_w, square_h = width * max(aspect, 1.0), height * max(1 / aspect, 1.0)
    upright_w, upright_h = (square_h, square_w) if b else (square_w, square_h)
    shown_w, shown_h = max(1, round(upright_w)), max(1, round(upright_h))
    linear = np.array([[a * width, b * width], [c * height, d * height]]) / [shown_w, shown_h]
    # Centre goes to centre; the centre of a picture is at (size - 1) / 2.
    shift = np.array([width - 1, height - 1]) / 2 - linear @ (np.array([shown_w - 1, shown_h - 1]) / 2)
    rotation = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[a, b]
    return Geometry(shown_w, shown_h, rotation, np.column_stack([linear, shift]))


def turn_of(picture: VideoFrame) -> Turn:
    """Return the display matrix of a picture, rounded to quarter turns and mirrorings.

    Not to be asked for every picture: PyAV then keeps it alive until the garbage collector runs.
    """
    side_data: Any = picture.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].astype(float)
    if max(abs(a), abs(d)) >= max(abs(b), abs(c)):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0
