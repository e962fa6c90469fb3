"""Faces: who is where in a clip, and the canonical crop of their lips.

Two backends behind one interface: ``facemesh`` (MediaPipe's models on LiteRT, made for CPUs, the default) and
``face_alignment`` (2DFAN4 on torch, for GPUs).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from avfake.faces.base import Backend, FaceError, Region
from avfake.faces.crop import CROP, lip_crop
from avfake.faces.record import FaceRecord
from avfake.faces.store import fan_weights
from avfake.faces.tracking import TrackedFace, track_faces

__all__ = [
    "CROP",
    "Backend",
    "BackendName",
    "FaceError",
    "FaceRecord",
    "Region",
    "TrackedFace",
    "backend_name",
    "lip_crop",
    "load_backend",
    "track_faces",
]

BackendName = Literal["auto", "facemesh", "face_alignment"]


def backend_name(name: BackendName) -> BackendName:
    """Return what ``auto`` stands for on this machine, or the name itself.

    ``auto`` takes ``face_alignment`` where a CUDA device, the package and its weights are all there, else ``facemesh``.
    """
    if name == "auto":
        return "face_alignment" if _fan_is_ready() else "facemesh"
    return name


def load_backend(name: BackendName = "auto", *, threads: int = 1) -> Backend:
    """Return a face backend (see ``backend_name``); ``threads`` bounds the CPU threads of its LiteRT models.

    Raises ``FaceError`` where package, weights or model files are missing.
    """
    name = backend_name(name)
    if name == "facemesh":
        from avfake.faces.facemesh import FaceMesh

        return FaceMesh(threads=threads)
    if name == "face_alignment":
        from avfake.faces.fan import Fan

        return Fan(threads=threads)
    raise FaceError(f"There is no face backend named {name!r}: use auto, facemesh or face_alignment.")


def _fan_is_ready() -> bool:
    if find_spec("face_alignment") is None or not fan_weights().is_file():
        return False
    import torch  # takes seconds

    return torch.cuda.is_available()
