"""Changes of lip crops that leave what the mouth does, and whether it was altered.

Every function takes RGB crops uint8 (T, 96, 96, 3), treats all frames alike unless it says otherwise, and returns new
ones; those that move the picture take and return the mouth points float32 (T, 20, 2), in crop pixels, too. Randomness
comes from the generator only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

MIRROR = np.array([6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 16, 15, 14, 13, 12, 19, 18, 17])
"""Where each mouth point (48..67 of the 68-point scheme) goes when the picture is mirrored."""

DISTRACTORS = ("text", "shape", "line")
INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC,
                  "area": cv2.INTER_AREA, "lanczos": cv2.INTER_LANCZOS4}  # fmt: skip

Lips = NDArray[np.uint8]
Points = NDArray[np.float32]

_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
_NOISE_FRAMES = 8
_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"))


def mirror(lips: Lips, mouth: Points) -> tuple[Lips, Points]:
    """Swap left and right."""
    points = mouth[:, MIRROR].copy()
    points[..., 0] = lips.shape[2] - 1 - points[..., 0]
    return np.ascontiguousarray(lips[:, :, ::-1]), points


def warp(lips: Lips, mouth: Points, degrees: float, scale: float, shift: tuple[float, float]) -> tuple[Lips, Points]:
    """Turn (clockwise as seen) and enlarge about the centre, then move by ``shift`` (x, y) pixels."""
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(lips.shape[2:0:-1]) - 1) / 2
    matrix = np.column_stack([linear, centre + shift - linear @ centre])
    size = lips.shape[2], lips.shape[1]
    out = _each(lips, lambda x: cv2.warpAffine(x, matrix, size, borderMode=cv2.BORDER_REPLICATE))
    return out, (mouth @ linear.T + matrix[:, 2]).astype(np.float32)


def tone(lips: Lips, gain: float | NDArray[np.float64], lift: float, gamma: float) -> Lips:
    """Exposure or white balance, brightness and gamma: 255 * ((gain * x + lift) / 255) ** gamma, clipped.

    ``gain``: one factor or one for each of R, G, B; ``lift``: grey levels; a ``gamma`` above 1 darkens.
    """
    table = np.clip(np.arange(256)[:, None] * np.broadcast_to(gain, 3) + lift, 0, 255) / 255
    return _flat(lips, lambda x: cv2.LUT(x, np.rint(255 * table**gamma).astype(np.uint8)[:, None]))


def contrast(lips: Lips, factor: float) -> Lips:
    """Draw all values apart from (above 1) or towards (below 1) the clip's mean grey."""
    return tone(lips, factor, (1 - factor) * float(lips.mean()), 1.0)


def saturation(lips: Lips, factor: float) -> Lips:
    """Multiply the colour by ``factor``: 0 is grey, 1 changes nothing."""
    matrix = factor * np.eye(3) + (1 - factor) * _GREY
    return _flat(lips, lambda x: cv2.transform(x, matrix))


def hue(lips: Lips, degrees: float) -> Lips:
    """Turn all colours by ``degrees`` about the grey axis; luma stays."""
    angle = np.deg2rad(degrees)
    axis = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * axis + np.sin(angle) * cross
    turn += np.outer(np.ones(3), _GREY - _GREY @ turn)
    return _flat(lips, lambda x: cv2.transform(x, turn))


def resize(lips: Lips, side: int, down: str, up: str) -> Lips:
    """Bring the crops to ``side`` pixels and back; ``nearest`` as ``up`` pixelates. See ``INTERPOLATIONS``."""
    size = lips.shape[2], lips.shape[1]
    there, back = INTERPOLATIONS[down], INTERPOLATIONS[up]
    return _each(lips, lambda x: cv2.resize(cv2.resize(x, (side, side), interpolation=there), size, interpolation=back))


def blur(lips: Lips, sigma: float) -> Lips:
    """Gaussian blur of ``sigma`` pixels."""
    return _each(lips, lambda x: cv2.GaussianBlur(x, (0, 0), sigma))


def motion_blur(lips: Lips, length: float, degrees: float) -> Lips:
    """Smear along a line of ``length`` pixels through each pixel, as a moving camera does."""
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    for x, y in reach + np.linspace(-length / 2, length / 2, 8 * reach + 1)[:, None] * direction:
        column, row = int(x), int(y)
        right, below = x - column, y - row
        kernel[row : row + 2, column : column + 2] += np.outer([1 - below, below], [1 - right, right])
    kernel /= kernel.sum()
    return _each(lips, lambda x: cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REPLICATE))


def add_noise(lips: Lips, sigma: float, rng: Generator) -> Lips:
    """Add normal noise of ``sigma`` grey levels, independent in every pixel and channel and from frame to frame.

    As drawing it takes long, the frames are given stretches, at random, of a strip of eight frames of noise: of two
    of them each may show a part of the other's, elsewhere.
    """
    size = lips[0].size
    strip = rng.standard_normal((min(len(lips), _NOISE_FRAMES) + 1) * size, dtype=np.float32)
    # Rounded by itself: a sum with whole numbers comes out the same.
    whole = np.rint(strip * np.float32(sigma)).astype(np.int16)
    begins = rng.integers(0, len(whole) - size + 1, len(lips))
    out = np.empty_like(lips)
    for picture, frame, begin in zip(out, lips, begins, strict=True):
        noise = whole[begin : begin + size].reshape(frame.shape)
        picture[:] = cv2.add(frame, noise, dtype=cv2.CV_8U)  # clips to 0 to 255
    return out


def blocks(lips: Lips, count: int, side: int, rng: Generator) -> Lips:
    """Cover ``count`` squares of ``side`` pixels, the same in all frames, with a colour each (lost macroblocks)."""
    out = lips.copy()
    for _ in range(count):
        x, y = rng.integers(0, lips.shape[2] - side + 1), rng.integers(0, lips.shape[1] - side + 1)
        out[:, y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return out


def jpeg(lips: Lips, quality: int) -> Lips:
    """Compress each frame by itself as JPEG (``quality`` 1 to 100), as webcams (MJPEG) and stills are."""

    def through(x: Lips) -> Any:
        coded = cv2.imencode(".jpg", cv2.cvtColor(x, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.cvtColor(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)

    return _each(lips, through)


def distract(lips: Lips, kind: str, drifts: bool, rng: Generator) -> Lips:
    """Lay a ``text``, a ``shape`` or a ``line`` over the face, fixed or drifting through the picture.

    After the distractors of the DeepFake Detection Challenge, Dolhansky et al. 2020 (arXiv 2006.07397). Colour, size
    and way are drawn; what drifts to an edge turns back there, so that it stays in view.

    Raises ``ValueError`` for another ``kind``.
    """
    if kind not in DISTRACTORS:
        raise ValueError(f"kind must be one of {', '.join(DISTRACTORS)}, not {kind!r}")
    size = np.array(lips.shape[2:0:-1])
    start = rng.uniform(0, size)
    way = rng.uniform(-1.5, 1.5, 2) if drifts else np.zeros(2)  # pixels a frame
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    text = "".join(rng.choice(_LETTERS, rng.integers(3, 9)))
    font, scale, thickness = int(rng.integers(8)), rng.uniform(0.3, 0.8), int(rng.integers(1, 4))
    corners = rng.uniform(5, 14) * _circle(rng.uniform(0, 2 * np.pi), int(rng.choice([3, 4, 32])))
    half = rng.uniform(8, 35) * _circle(rng.uniform(0, 2 * np.pi), 1)[0]
    (written, tall), _ = cv2.getTextSize(text, font, scale, min(thickness, 2))
    out = lips.copy()
    for t, picture in enumerate(out):
        place = size - np.abs((start + way * t) % (2 * size) - size)
        if kind == "text":
            left = int(place[0] - written / 2), int(place[1] + tall / 2)
            cv2.putText(picture, text, left, font, scale, colour, min(thickness, 2), cv2.LINE_AA)
        elif kind == "shape":
            cv2.fillPoly(picture, [np.rint(corners + place).astype(np.int32)], colour, cv2.LINE_AA)
        else:
            ends = np.rint([place - half, place + half]).astype(int).tolist()
            cv2.line(picture, ends[0], ends[1], colour, thickness, cv2.LINE_AA)
    return out


def _circle(angle: float, count: int) -> NDArray[np.float64]:
    """Return ``count`` points (count, 2), spread evenly over the unit circle from ``angle`` on."""
    angles = angle + 2 * np.pi * np.arange(count) / count
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _each(lips: Lips, change: Callable[[Lips], Any]) -> Lips:
    out = np.empty_like(lips)
    for t, picture in enumerate(lips):
        out[t] = change(picture)
    return out


def _flat(lips: Lips, change: Callable[[Lips], Any]) -> Lips:
    """Change every pixel by itself: all frames as one tall picture, in one call."""
    out: Lips = change(np.ascontiguousarray(lips).reshape(-1, lips.shape[2], 3)).reshape(lips.shape)
    return out
