"""What every face backend shares: the error, the region it looks at, and the interface."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from avfake import AvfakeError

if TYPE_CHECKING:
    from avfake.media import Frame

FloatArray = NDArray[np.float32]


class FaceError(AvfakeError):
    """A face backend or its model files cannot be had; the sentence says what to do."""


class Region(NamedTuple):
    """A rotated square around a face, in upright picture pixels; ``angle`` in radians, clockwise."""

    x: float
    y: float
    size: float
    angle: float

    def matrix(self, n: int) -> NDArray[np.float64]:
        """Return the float64 (2, 3) map from pixels of an n x n view of this square to picture pixels."""
        scale = self.size / n
        cos, sin = scale * math.cos(self.angle), scale * math.sin(self.angle)
        middle = (n - 1) / 2
        return np.array(
            [
                [cos, -sin, self.x - middle * (cos - sin)],
                [sin, cos, self.y - middle * (sin + cos)],
            ]
        )

    def overlap(self, other: Region) -> float:
        """Return the intersection over union, 0..1, of the two squares with their rotation left out."""
        half, other_half = self.size / 2, other.size / 2
        width = min(self.x + half, other.x + other_half) - max(self.x - half, other.x - other_half)
        height = min(self.y + half, other.y + other_half) - max(self.y - half, other.y - other_half)
        if width <= 0 or height <= 0:
            return 0.0
        return width * height / (self.size**2 + other.size**2 - width * height)


class Backend(Protocol):
    """Finds faces in a frame and the 68 iBUG points of one face."""

    name: str

    def detect(self, frame: Frame) -> list[tuple[Region, float]]:
        """Return every face found, best score first, as (region, score in [0, 1])."""

    def landmarks(self, frame: Frame, region: Region) -> tuple[FloatArray, float]:
        """Return float32 (68, 2) points in upright picture pixels and how sure it is of a face, in [0, 1]."""

    def region(self, points: FloatArray) -> Region:
        """Return where to look for this face in the next frame, given its (68, 2) points."""


def apply(matrix: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the float64 (..., 2) images of (..., 2) points under an affine (2, 3) map."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float64)


def level_box(points: FloatArray) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the roll of a face (radians, from its eyes) and the box around its (68, 2) points turned level.

    The box is given by its low and high corner (x, y) in the axes of the face; ``square`` leads back.
    """
    dx, dy = points[42:48].mean(0) - points[36:42].mean(0)
    angle = math.atan2(float(dy), float(dx))
    cos, sin = math.cos(angle), math.sin(angle)
    level = points @ np.array([[cos, -sin], [sin, cos]])
    return angle, level.min(0), level.max(0)


def square(centre: NDArray[np.float64], size: float, angle: float) -> Region:
    """Return the region around a centre (x, y) that is given in axes turned by ``angle``."""
    x, y = float(centre[0]), float(centre[1])
    cos, sin = math.cos(angle), math.sin(angle)
    return Region(x * cos - y * sin, x * sin + y * cos, size, angle)
