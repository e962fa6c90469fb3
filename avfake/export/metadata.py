"""What an exported file says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, __version__
from avfake.export.forms import Method, Part, Port
from avfake.exported import SCHEMA
from avfake.models import Checkpoint

Precision = Literal["float32", "float16", "int8"]


def describe(
    checkpoint: Checkpoint, part: Part, precision: Precision, methods: Mapping[str, Method], **more: Any
) -> dict[str, Any]:
    """Return the metadata of a file: ``inputs`` and ``outputs`` are those of ``forward``, ``calls`` has the others'.

    ``corpora`` and ``methods`` are what the model has learned from, as in a checkpoint.
    """
    config = asdict(checkpoint.config)
    del config["metrics"]
    return {
        "schema": SCHEMA,
        "avfake": __version__,
        "name": checkpoint.config.model.name,
        "part": part,
        "precision": precision,
        "fingerprint": checkpoint.fingerprint,
        **_method(methods["forward"]),
        "calls": {name: _method(method) for name, method in methods.items() if name != "forward"},
        "fps": FPS,
        "sample_rate": SAMPLE_RATE,
        "samples_per_frame": SAMPLES_PER_FRAME,
        **config,
        "torch": torch.__version__,
        **more,
    }


def dumps(metadata: Mapping[str, Any]) -> str:
    """Return metadata as it stands in a file."""
    return json.dumps(metadata, allow_nan=False)


def _method(method: Method) -> dict[str, list[dict[str, Any]]]:
    return {"inputs": _ports(method.inputs), "outputs": _ports(method.outputs)}


def _ports(ports: Sequence[Port]) -> list[dict[str, Any]]:
    return [asdict(port) for port in ports]
