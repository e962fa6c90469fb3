"""The faces of one file, kept to be laid over others that show the same picture, as a face swap and its original do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from avfake.faces.base import Backend
from avfake.faces.tracking import TrackedFace, track_faces

if TYPE_CHECKING:
    from avfake.media import MediaInfo, Tick

SAME_SHAPE = 0.01
"""Difference of two aspect ratios at which pictures are still the same, scaled."""
SAME_LENGTH_S = 0.2


class FaceRecord:
    """``follow`` one file as ``track_faces`` does, then ``replay`` its faces over files that it ``fits``."""

    def __init__(self, info: MediaInfo) -> None:
        self.info = info
        self.faces: list[list[TrackedFace]] = []
        """The faces of every tick."""

    def follow(self, ticks: Iterable[Tick], backend: Backend) -> Iterator[tuple[Tick, list[TrackedFace]]]:
        """Yield what ``track_faces`` does, and remember the faces."""
        for tick, faces in track_faces(ticks, backend):
            self.faces.append(faces)
            yield tick, faces

    def fits(self, info: MediaInfo) -> bool:
        """Whether a file has the same shape of picture and the same length, so that its faces can be these."""
        ours, theirs = self.info.video, info.video
        if ours is None or theirs is None or self.info.duration_s is None or info.duration_s is None:
            return False
        if not any(face.ok for faces in self.faces for face in faces):
            return False
        shapes = ours.width / ours.height, theirs.width / theirs.height
        return (
            abs(shapes[0] / shapes[1] - 1) <= SAME_SHAPE
            and abs(ours.start_s - theirs.start_s) <= SAME_LENGTH_S
            and abs(self.info.duration_s - info.duration_s) <= SAME_LENGTH_S
        )

    def replay(self, ticks: Iterable[Tick], backend: Backend) -> Iterator[tuple[Tick, list[TrackedFace]]]:
        """Yield each tick with the remembered faces, scaled to its picture; ``backend`` is not asked."""
        assert self.info.video is not None
        for tick in ticks:
            faces = self.faces[tick.index] if tick.index < len(self.faces) else []
            if tick.frame is None:
                faces = [replace(face, ok=False) for face in faces]
            elif faces:
                scale = np.array([tick.frame.width / self.info.video.width, tick.frame.height / self.info.video.height])
                faces = [_scaled(face, scale) for face in faces]
            yield tick, faces


def _scaled(face: TrackedFace, scale: np.ndarray) -> TrackedFace:
    # Pixels are counted by their centres, so the corner of the picture lies at -0.5.
    matrix = face.matrix * scale[:, None]
    matrix[:, 2] += 0.5 * scale - 0.5
    points = ((face.points + 0.5) * scale - 0.5).astype(np.float32)
    return replace(face, points=points, matrix=matrix, size_px=face.size_px * float(scale.mean()))
