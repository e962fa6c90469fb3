"""What runs a model for detection: torch, or on a CPU onnxruntime, which is faster there and starts without torch."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from avfake.models import CheckpointConfig, Scores, embedded_models, find_checkpoint, fingerprint, read_config


class Runtime(Protocol):
    """A model in its two halves, so that each frame is embedded once although windows overlap."""

    @property
    def config(self) -> CheckpointConfig:
        """What the model says of itself."""

    @property
    def fingerprint(self) -> str:
        """Of the files that the model came from."""

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Lip crops (N, 96, 96, 3) -> frame embeddings (N, width)."""

    def score(
        self,
        frames: NDArray[np.float32],
        audio: NDArray[np.float32],
        has_lips: NDArray[np.bool_],
        has_audio: NDArray[np.bool_],
    ) -> Scores[NDArray[np.float32]]:
        """Frame embeddings (B, T, width), audio (B, 640 T) in [-1, 1] and which of both a clip has -> ``Scores``."""


def load_runtime(name: str, *, device: str = "cpu", threads: int = 1) -> Runtime:
    """Load an exported file, an embedded model, a checkpoint folder or ``hf:org/name`` with what runs it fastest.

    On a CPU that is onnxruntime for every architecture that avfake has graphs of, else torch. Exported files run on a
    CPU. Raises ``CheckpointError`` and ``ExportError``.
    """
    if is_exported(name):
        from avfake.exported import ExportError, load_exported

        if not device.startswith("cpu"):
            raise ExportError(f"{name} runs on a CPU: use --device cpu, or the checkpoint that it was exported from.")
        return load_exported(name, threads=threads)
    from avfake.runtimes import graphs

    folder = find_checkpoint(name)
    found = graphs.find(read_config(folder).model)
    if device == "cpu" and found is not None and graphs.can_fill(folder):
        return graphs.load(folder, found, threads=threads)
    from avfake.models import load_checkpoint
    from avfake.runtimes.eager import TorchRuntime

    return TorchRuntime(load_checkpoint(folder), device=device, threads=threads)


def describe(name: str) -> tuple[CheckpointConfig, str]:
    """Return configuration and fingerprint of what ``load_runtime`` would load. Raises as that does."""
    if is_exported(name):
        from avfake.exported import describe_exported

        return describe_exported(name)
    return read_config(find_checkpoint(name)), fingerprint(name)


def is_exported(name: str) -> bool:
    """Whether a model's name is that of a file, which is then one that was exported, and of nothing else."""
    if name in embedded_models() or name.startswith("hf:") or os.path.isdir(name):
        return False
    return name.endswith((".ts", ".onnx")) or os.path.isfile(name)
