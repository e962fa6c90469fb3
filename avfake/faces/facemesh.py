"""The backend for CPUs: MediaPipe's BlazeFace (short range) and FaceMesh on the LiteRT interpreter.

Both models get their input straight from ``Frame.sample``, so no frame is ever converted to RGB as a whole.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from avfake.faces import store
from avfake.faces.base import FloatArray, Region, apply, level_box, square

if TYPE_CHECKING:
    from avfake.media import Frame

# MediaPipe's own settings for these two models.
_DETECTOR_SIZE = 128
_MESH_SIZE = 192
_MIN_SCORE = 0.5
_SAME_FACE = 0.3
_ENLARGE = 1.5

# The mesh reaches further up than the 68 points, by this part of their height (median over talking faces).
_FOREHEAD = 0.22

# BlazeFace misses faces that are small in the square it sees, so pictures are also looked at in square tiles.
_LONG = 1.2  # sides of a picture that the whole view serves well enough
_TILE_OVERLAP = 0.2
_FINE_TILES = 2.2  # of the finer grid, along the shorter side
_MIN_SHORT = 40  # a picture whose shorter side has fewer pixels cannot hold a face that is large enough to judge
_MIN_TILE = 1 / 16  # of the longer side, so that the longest strip of a picture takes 60 tiles at most

# The mesh vertices that lie where the 68 iBUG points are annotated, in iBUG order.
# fmt: off
_MESH_68 = np.array([
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,  # jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,                                      # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,                                                # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,                          # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,                                # outer lips
    78, 81, 13, 311, 308, 402, 14, 178,                                                 # inner lips
])
# fmt: on


class BlazeFace:
    """Face detector: squares around faces, rolled so that the eyes lie level."""

    def __init__(self, *, threads: int = 1) -> None:
        self._net = _Net(store.fetch("face_detection"), threads)
        self._anchors = _anchors()

    def detect(self, frame: Frame) -> list[tuple[Region, float]]:
        """Return every face found, best score first, as (region, score in [0, 1]).

        The whole picture and the square tiles along its longer side are looked at; where they show nothing, a finer
        grid finds faces down to about 1/12 of the picture's height.
        """
        short, long = sorted((frame.width, frame.height))
        coarse = [_whole(frame)]
        if short < _MIN_SHORT:
            return self._search(frame, coarse)
        if long > _LONG * short:
            coarse += _tiles(frame, short)
        return self._search(frame, coarse) or self._search(frame, _tiles(frame, short / _FINE_TILES))

    def _search(self, frame: Frame, tiles: list[Region]) -> list[tuple[Region, float]]:
        found = [self._in_tile(frame, tile) for tile in tiles]
        boxes, scores = np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])
        return [(_box_region(box), score) for box, score in _merge(boxes, scores)]

    def _in_tile(self, frame: Frame, tile: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n, 4, 2) picture points (centre, size, right eye, left eye) and (n,) scores."""
        matrix = tile.matrix(_DETECTOR_SIZE)
        view = frame.sample(matrix, (_DETECTOR_SIZE, _DETECTOR_SIZE))
        regressors, logits = self._net(view.astype(np.float32) / 127.5 - 1.0, ("regressors", "classificators"))
        chosen = np.flatnonzero(logits[0, :, 0] > math.log(_MIN_SCORE / (1 - _MIN_SCORE)))
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits[0, chosen, 0].astype(np.float64), -100.0, 100.0)))
        points = regressors[0, chosen, :8].astype(np.float64).reshape(-1, 4, 2)
        points[:, [0, 2, 3]] += self._anchors[chosen, None] - 0.5  # from pixel edges to pixel centres
        points[:, [0, 2, 3]] = apply(matrix, points[:, [0, 2, 3]])
        points[:, 1] *= tile.size / _DETECTOR_SIZE
        return points, scores


class FaceMesh:
    """The ``facemesh`` backend: BlazeFace for boxes, FaceMesh for points."""

    name: str = "facemesh"

    def __init__(self, *, threads: int = 1) -> None:
        self._detector = BlazeFace(threads=threads)
        self._net = _Net(store.fetch("face_landmark"), threads)

    def detect(self, frame: Frame) -> list[tuple[Region, float]]:
        """Return every face found, best score first, as (region, score in [0, 1])."""
        return self._detector.detect(frame)

    def landmarks(self, frame: Frame, region: Region) -> tuple[FloatArray, float]:
        """Return float32 (68, 2) points in upright picture pixels and how sure it is of a face, in [0, 1]."""
        matrix = region.matrix(_MESH_SIZE)
        view = frame.sample(matrix, (_MESH_SIZE, _MESH_SIZE))
        mesh, flag = self._net(view.astype(np.float32) / 255.0, ("conv2d_21", "conv2d_31"))
        points = mesh.reshape(-1, 3)[_MESH_68, :2] - 0.5  # from pixel edges to pixel centres
        score = 1.0 / (1.0 + math.exp(-float(np.clip(flag.item(), -100.0, 100.0))))
        return apply(matrix, points).astype(np.float32), score

    def region(self, points: FloatArray) -> Region:
        """Return where to look for this face in the next frame, given its (68, 2) points."""
        return mesh_region(points)


def mesh_region(points: FloatArray) -> Region:
    """Return the square that FaceMesh was trained to see around a face with these (68, 2) points."""
    angle, low, high = level_box(points)
    low[1] -= _FOREHEAD * (high[1] - low[1])
    return square((low + high) / 2, _ENLARGE * float((high - low).max()), angle)


class _Net:
    """One TFLite model with a single image input."""

    def __init__(self, path: Path, threads: int) -> None:
        with _no_chatter():
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = {o["name"]: o["index"] for o in self._interpreter.get_output_details()}

    def __call__(self, image: FloatArray, outputs: tuple[str, str]) -> tuple[FloatArray, FloatArray]:
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        first, second = (self._interpreter.get_tensor(self._outputs[name]) for name in outputs)
        return first, second


@contextmanager
def _no_chatter() -> Iterator[None]:
    """Keep LiteRT's own log lines off stderr while a model loads; no setting of its own does. Errors are exceptions."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _anchors() -> NDArray[np.float64]:
    """Return the (896, 2) anchor centres in pixels: 2 on each cell of 16 x 16, then 6 on each cell of 8 x 8."""
    grids = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) * (_DETECTOR_SIZE / cells)
        grids.append(np.repeat(centres, each, axis=0))
    return np.concatenate(grids)


def _whole(frame: Frame) -> Region:
    return Region((frame.width - 1) / 2, (frame.height - 1) / 2, max(frame.width, frame.height), 0.0)


def _tiles(frame: Frame, side: float) -> list[Region]:
    """Return overlapping squares of this side, or of a larger one if they were too many, that cover the picture."""
    side = max(side, _MIN_TILE * max(frame.width, frame.height))

    def centres(length: int) -> list[float]:
        count = 1 + math.ceil(max(0.0, length - side) / (side * (1 - _TILE_OVERLAP)))
        if count == 1:
            return [(length - 1) / 2]
        return [float(c) for c in np.linspace((side - 1) / 2, length - (side + 1) / 2, count)]

    return [Region(x, y, side, 0.0) for y in centres(frame.height) for x in centres(frame.width)]


def _merge(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], float]]:
    """Weighted non-maximum suppression of (n, 4, 2) boxes: overlapping ones are averaged by score, not dropped."""
    low, high = boxes[:, 0] - boxes[:, 1] / 2, boxes[:, 0] + boxes[:, 1] / 2
    area = boxes[:, 1].prod(1)
    order = np.argsort(-scores, kind="stable")
    merged = []
    while order.size:
        best = order[0]
        sides = np.minimum(high[best], high[order]) - np.maximum(low[best], low[order])
        common = sides.clip(0).prod(1)
        same = common > _SAME_FACE * (area[best] + area[order] - common)
        same[0] = True
        group = order[same]
        merged.append((np.average(boxes[group], axis=0, weights=scores[group]), float(scores[best])))
        order = order[~same]
    return merged


def _box_region(box: NDArray[np.float64]) -> Region:
    (x, y), (width, height), right_eye, left_eye = box
    dx, dy = left_eye - right_eye
    return Region(float(x), float(y), _ENLARGE * float(max(width, height)), math.atan2(dy, dx))
