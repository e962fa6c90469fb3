"""The canonical lip crop: one similarity transform from four stable points of a face to a 96 x 96 picture.

Roll and size come from a least-squares fit of both eyes, the nose and the mouth; the position comes from the
mouth alone, which therefore sits on the same pixel in every crop of every backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from avfake.faces.base import FloatArray, apply

if TYPE_CHECKING:
    from avfake.media import Frame

CROP = 96
"""Side of a lip crop in pixels."""

TEMPLATE = np.array([[21.0, -6.0], [75.0, -6.0], [48.0, 29.0], [48.0, 52.0]])
"""Right eye, left eye, nose and mouth of an average frontal face, (x, y) in crop pixels."""


class _Located(Protocol):
    @property
    def points(self) -> FloatArray: ...

    @property
    def matrix(self) -> NDArray[np.float64]: ...


def stable_points(points: FloatArray) -> NDArray[np.float64]:
    """Return float64 (4, 2): right eye, left eye, nose (tip, base), mouth (corners) of (68, 2) points."""
    groups = (slice(36, 42), slice(42, 48), [30, 33], [48, 54])
    return np.stack([points[group].mean(axis=0, dtype=np.float64) for group in groups])


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the float64 (2, 2) rotation and scale that maps (n, 2) ``source`` to ``target`` in least squares.

    Both are taken about their means. A source without extent gives a matrix of zeros.
    """
    p, q = source - source.mean(0), target - target.mean(0)
    extent = max(float((p * p).sum()), np.finfo(np.float64).tiny)
    cos = float((p * q).sum()) / extent
    sin = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / extent
    return np.array([[cos, -sin], [sin, cos]])


def crop_matrix(stable: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the float64 (2, 3) map from crop pixels to picture pixels for (4, 2) stable points of a face."""
    # Fitted from the template to the picture: the template always has extent, so the map is always finite.
    linear = similarity(TEMPLATE, stable)
    return np.column_stack([linear, stable[3] - linear @ TEMPLATE[3]])


def lip_crop(frame: Frame, face: _Located) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return the lips of a tracked face, cut from the frame at its own resolution.

    uint8 (96, 96, 3) RGB, and float32 (20, 2): iBUG points 48..67 in crop pixels.
    """
    crop = frame.sample(face.matrix, (CROP, CROP))
    mouth = apply(np.asarray(cv2.invertAffineTransform(face.matrix), np.float64), face.points[48:68])
    return crop, mouth.astype(np.float32)
