"""The reference backend, for GPUs: 2DFAN4 of the package face-alignment (extra ``[fan]``).

Faces are found by BlazeFace here too: the package's own detector costs seconds a frame on a CPU. The network then
sees one upright square per face, sampled from the frame at source resolution.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from avfake.faces import store
from avfake.faces.base import FaceError, FloatArray, Region, apply, level_box, square
from avfake.faces.facemesh import BlazeFace

if TYPE_CHECKING:
    from avfake.media import Frame

_SHA256 = "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa"
_URL = f"https://www.adrianbulat.com/downloads/python-fan/{store.FAN_WEIGHTS}"

# FAN looks at a square of 200/195 of the width plus the height of the box around the 68 points, with its centre
# 0.12 of that height above the box's.
_CONTEXT = 200 / 195
_RAISE = 0.12
# The package rounds points to whole pixels of the picture it is given. FAN works on 256 x 256; twice that keeps the
# rounding below its own precision.
_VIEW = 512
# The box that makes the package look at exactly the whole view.
_SIDE = _VIEW / _CONTEXT / 2
_BOX = [
    (_VIEW - _SIDE) / 2,
    (_VIEW - _SIDE) / 2 + _RAISE * _SIDE,
    (_VIEW + _SIDE) / 2,
    (_VIEW + _SIDE) / 2 + _RAISE * _SIDE,
]
# FAN's square is this much larger than BlazeFace's region (median over talking faces).
_FROM_BLAZEFACE = 1.28
# Mean height of the 68 heat map peaks, 0..1, that is as likely a face as not.
_EVEN_PEAK = 0.3


class Fan:
    """The ``face_alignment`` backend: BlazeFace for boxes, 2DFAN4 for points."""

    name: str = "face_alignment"

    def __init__(self, *, threads: int = 1) -> None:
        """Load 2DFAN4 onto the CUDA device, else the CPU; CPU
        threads are ``threads`` (torch has one setting for the whole process).

        Raises ``FaceError`` where the package or its weights are missing.
        """
        if find_spec("face_alignment") is None:
            raise FaceError(
                "The face backend face_alignment is not installed: run pip install 'avfake[fan]', or use the "
                "backend facemesh (--faces facemesh)."
            )
        _provide_weights()
        torch.set_num_threads(threads)
        from face_alignment import FaceAlignment, LandmarksType

        # The detector "folder" is the one that loads no weights of its own; boxes are always handed over.
        self._fan = FaceAlignment(
            LandmarksType.TWO_D,
            device="cuda" if torch.cuda.is_available() else "cpu",
            flip_input=False,
            face_detector="folder",
            compile=False,
        )
        self._detector = BlazeFace(threads=threads)

    def detect(self, frame: Frame) -> list[tuple[Region, float]]:
        """Return every face found, best score first, as (region, score in [0, 1])."""
        found = self._detector.detect(frame)
        return [(region._replace(size=region.size * _FROM_BLAZEFACE), score) for region, score in found]

    def landmarks(self, frame: Frame, region: Region) -> tuple[FloatArray, float]:
        """Return float32 (68, 2) points in upright picture pixels and how sure it is of a face, in [0, 1]."""
        matrix = region.matrix(_VIEW)
        view = frame.sample(matrix, (_VIEW, _VIEW))
        points, peaks, _ = self._fan.get_landmarks_from_image(view, detected_faces=[_BOX], return_landmark_score=True)
        score = float(np.clip(np.mean(peaks[0]) / (2 * _EVEN_PEAK), 0.0, 1.0))
        return apply(matrix, points[0]).astype(np.float32), score

    def region(self, points: FloatArray) -> Region:
        """Return where to look for this face in the next frame, given its (68, 2) points."""
        angle, low, high = level_box(points)
        width, height = (high - low).tolist()
        centre = (low + high) / 2 - [0.0, _RAISE * height]
        return square(centre, _CONTEXT * (width + height), angle)


def _provide_weights() -> None:
    """Fetch the weights if they are not there; the package itself would do so without a time-out or a check."""
    path = store.fan_weights()
    if path.is_file():
        return
    try:
        store.download(_URL, path, _SHA256)
    except (OSError, ValueError) as error:
        raise FaceError(
            f"The face backend face_alignment lacks its weights {path.name} (96 MB), and {_URL} failed ({error}): "
            f"put the file into {path.parent}, or use the backend facemesh (--faces facemesh)."
        ) from error
