"""Models that leave home: TorchScript and ONNX files that run where avfake is not installed (docs/export.md).

    >>> from avfake.export import export
    >>> from avfake.models import load_checkpoint
    >>> export(load_checkpoint("mini"), "mini.onnx", format="onnx")

``forms`` says what is exported, ``torchscript`` and ``onnx`` write it, ``parity`` proves it, and ``avfake.exported``
reads it.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avfake.export import onnx, torchscript
from avfake.export.forms import Form, Part, form, portable
from avfake.export.metadata import Precision, describe, dumps
from avfake.export.parity import measure
from avfake.exported import ExportError, missing, sealed
from avfake.models import Checkpoint
from avfake.storage import whole_file

__all__ = ["ABSURD", "TOLERANCE", "ExportError", "Format", "Part", "Precision", "Written", "export"]

Format = Literal["torchscript", "onnx"]
TOLERANCE = 1e-4
"""Most that an output of a float32 export may differ from the model's own."""
ABSURD = {"float16": 0.5, "int8": 5.0}
"""Most that an output of another precision may differ: ten and four times what mini does."""


@dataclass(frozen=True)
class Written:
    """A file that was exported; ``differences`` are the largest of each output (see ``parity.measure``)."""

    path: Path
    metadata: dict[str, Any]
    differences: dict[str, float]


def export(
    checkpoint: Checkpoint,
    path: str | Path,
    *,
    format: Format,
    part: Part = "model",
    precision: Precision = "float32",
) -> Written:
    """Write a model, or a part of one, as one file that needs neither avfake nor the libraries that it is built from.

    The file appears whole or not at all, and only where what it says is what the model says: within ``TOLERANCE`` for
    float32; other precisions, which only ONNX has, keep their differences in the metadata and are held to ``ABSURD``.
    It runs on the CPU. Raises ``ExportError`` where outputs differ, a package is missing or there is no such
    combination, and ``StorageError`` where nothing can be written.
    """
    if format == "torchscript" and precision != "float32":
        raise ExportError(f"{path} cannot be TorchScript in {precision}: only ONNX files have other precisions.")
    # The file is opened before the work, so that a path that cannot be written is told at once.
    with _quiet(), whole_file(str(path)) as file:
        exported = form(part, portable(checkpoint.model), checkpoint.config)
        if format == "torchscript":
            program = torchscript.program(exported)
            metadata = describe(checkpoint, part, precision, exported.methods)
        else:
            program = _graph(path, exported, precision)
            forward = {"forward": exported.methods["forward"]}
            metadata = describe(checkpoint, part, precision, forward, opset=onnx.OPSET)
        del exported
        assemble = torchscript.assemble if format == "torchscript" else sealed
        differences = measure(assemble(program, dumps(metadata)), path, part, checkpoint)
        _judge(path, checkpoint, precision, differences)
        metadata["parity"] = differences
        text = dumps(metadata)
        file.write(assemble(program, text))
    return Written(Path(path), json.loads(text), differences)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what torch, transformers and onnxruntime say to each other's authors about an export.

    As torch's warning that a trace goes just one way at each branch: whether it is the right way is for parity to find.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _graph(path: str | Path, exported: Form, precision: Precision) -> bytes:
    try:
        import onnxruntime  # noqa: F401  (proves the file)
        import onnxscript  # noqa: F401  (torch's exporter needs it)

        return onnx.program(exported, precision)
    except ImportError as error:
        raise missing(path, error) from error


def _judge(path: str | Path, checkpoint: Checkpoint, precision: Precision, differences: dict[str, float]) -> None:
    """Raises ``ExportError`` where an export is not the model."""
    most = ABSURD.get(precision, TOLERANCE)
    if wrong := {name: value for name, value in differences.items() if not value <= most}:
        named = ", ".join(f"{name} by {value:.1e}" for name, value in wrong.items())
        raise ExportError(
            f"{path} is not written: the exported {checkpoint.config.model.name} differs from the model in {named}, "
            f"more than {most:g}; use the checkpoint as it is and report this."
        )
