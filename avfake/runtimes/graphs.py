"""onnxruntime as the runtime of checkpoints whose architecture avfake has ONNX graphs of.

The graphs (``tools/make_graphs.py``) hold no weights: these are filled in by their names from the checkpoint's
``model.safetensors``, so that a model which somebody has trained runs as the embedded one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from avfake.models import CheckpointConfig, CheckpointError, ModelConfig, Scores, read_config
from avfake.models.checkpoint import CONFIG, WEIGHTS, fingerprint_of, first_line, unreadable

GRAPHS = Path(__file__).parents[1] / "data" / "graphs"
EMBED, SCORE, FACTS = "embed.onnx", "score.onnx", "graphs.json"
NUMBERS = frozenset({"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
"""Kinds of numbers in a safetensors file that numpy knows."""
FEW = 8
"""Frames to embed at once: with more, what the layers pass on leaves the processor's cache (17 to 35 ms/s)."""


def architecture(config: ModelConfig) -> dict[str, Any]:
    """Return what of a configuration decides over the graph."""
    facts = asdict(config)
    del facts["name"], facts["audio"]["pretrained"]
    settings = facts["audio"]["wav2vec2"]
    facts["audio"]["wav2vec2"] = {key: settings[key] for key in sorted(settings) if "drop" not in key}
    return facts


@cache
def _known() -> tuple[tuple[Path, dict[str, Any]], ...]:
    files = sorted(GRAPHS.glob(f"*/{FACTS}"))
    return tuple((file.parent, json.loads(file.read_text(encoding="utf-8"))) for file in files)


def find(config: ModelConfig) -> Path | None:
    """Return the folder of the graphs of a model's architecture, None where avfake has none."""
    wanted = architecture(config)
    return next((folder for folder, facts in _known() if facts["architecture"] == wanted), None)


def can_fill(checkpoint: Path) -> bool:
    """Whether numpy knows the numbers of a checkpoint: it has no bfloat16, for one. Raises ``CheckpointError``."""
    with _faults_told(checkpoint), safe_open(checkpoint / WEIGHTS, "np") as weights:
        return all(weights.get_slice(name).get_dtype() in NUMBERS for name in weights.keys())  # noqa: SIM118


def load(checkpoint: Path, graphs: Path, *, threads: int) -> GraphRuntime:
    """Load the checkpoint of a folder into graphs that ``find`` gave. Raises ``CheckpointError``."""
    config = read_config(checkpoint)
    facts = json.loads((graphs / FACTS).read_text(encoding="utf-8"))
    weights = _weights(checkpoint, facts["state"])
    embed, score = (
        session((graphs / name).read_bytes(), threads, {key: weights[key] for key in facts["weights"][name]})
        for name in (EMBED, SCORE)
    )
    return GraphRuntime(config, fingerprint_of(checkpoint), embed, score)


def _weights(checkpoint: Path, state: dict[str, list[int]]) -> dict[str, NDArray[np.float32]]:
    """Read the weights, as strictly as torch would. Raises ``CheckpointError``."""
    with _faults_told(checkpoint):
        weights = load_file(checkpoint / WEIGHTS)
    if {name: list(weight.shape) for name, weight in weights.items()} != state:
        raise CheckpointError(
            f"{checkpoint / WEIGHTS} does not fit its {CONFIG}; both files must come from the same checkpoint"
        )
    return {name: np.ascontiguousarray(weight, np.float32) for name, weight in weights.items()}


@contextmanager
def _faults_told(checkpoint: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(checkpoint, error) from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{checkpoint / WEIGHTS} is damaged ({first_line(error)}); fetch the checkpoint again"
        ) from error


def session(graph: bytes, threads: int, weights: dict[str, NDArray[np.float32]] | None = None) -> InferenceSession:
    """Return what runs a graph on a CPU, its external weights filled in."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would also print it
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
        options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class GraphRuntime:
    """Runs both halves with onnxruntime."""

    def __init__(
        self, config: CheckpointConfig, fingerprint: str, embed: InferenceSession, score: InferenceSession
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self._embed = embed
        self._score = score

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Runtime.embed``."""
        parts = [
            self._embed.run(None, {"pictures": pictures[start : start + FEW]})[0]
            for start in range(0, len(pictures), FEW)
        ]
        return np.concatenate(parts)

    def score(
        self,
        frames: NDArray[np.float32],
        audio: NDArray[np.float32],
        has_lips: NDArray[np.bool_],
        has_audio: NDArray[np.bool_],
    ) -> Scores[NDArray[np.float32]]:
        """See ``Runtime.score``."""
        given = {"frames": frames, "audio": audio, "has_lips": has_lips, "has_audio": has_audio}
        return Scores(*self._score.run(None, given))
