"""Write the ONNX graphs by which detection runs checkpoints on a CPU, without torch.

    python tools/make_graphs.py [mini base large]

Names are those of configurations in configs/, whose architectures get graphs; large takes a minute and 2.4 GB. A graph
holds operations and constants; every weight is named as in ``model.safetensors`` and filled in from there, so that one
pair of graphs serves all checkpoints of an architecture. Run it again when the model's code has changed (tests hold the
graphs against the model) and commit what it writes. Needs the extra ``export``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from onnxscript import ir, optimizer
from torch import Tensor, nn

from avfake import SAMPLES_PER_FRAME
from avfake.config import load_config
from avfake.models import AVFakeModel, ModelConfig, Scores
from avfake.models.checkpoint import WEIGHTS
from avfake.models.contract import CROP_SIZE
from avfake.runtimes.graphs import EMBED, FACTS, GRAPHS, SCORE, architecture

CONFIGS = Path(__file__).parents[1] / "configs"
OPSET = 18
CLIPS, FRAMES = 2, 20
"""Sizes of the example: torch.export takes a size of 1 for a constant, and one tensor twice for one input."""
PREFIX = "model."


class _Calls(nn.Module):
    """A model that answers with one of its methods."""

    def __init__(self, model: AVFakeModel, method: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, *given: Tensor) -> Any:
        return self.method(*given)


def main() -> None:
    """Write the graphs of the architectures that are named, of all three where none is."""
    for name in sys.argv[1:] or ("mini", "base", "large"):
        make(load_config(CONFIGS / f"{name}.yaml", ["data.sources.any.shards=none"]).model)


def make(config: ModelConfig) -> None:
    """Write the graphs of one architecture."""
    folder = GRAPHS / config.name
    folder.mkdir(parents=True, exist_ok=True)
    model = AVFakeModel(config).eval().requires_grad_(False)
    pictures = torch.zeros(FRAMES, CROP_SIZE, CROP_SIZE, 3, dtype=torch.uint8)
    embed = _write(folder / EMBED, model, model.lip_tower.embed_few, {"pictures": (pictures, {0: "n"})}, ["embedded"])
    given = {
        "frames": (torch.zeros(CLIPS, FRAMES, config.visual.width), {0: "batch", 1: "frames"}),
        "audio": (torch.zeros(CLIPS, FRAMES * SAMPLES_PER_FRAME), {0: "batch", 1: "samples"}),
        "has_lips": (torch.ones(CLIPS, dtype=torch.bool), {0: "batch"}),
        "has_audio": (torch.ones(CLIPS, dtype=torch.bool), {0: "batch"}),
    }
    score = _write(folder / SCORE, model, model.score, given, [f"{name}_scores" for name in Scores._fields])
    facts = {
        "architecture": architecture(config),
        "weights": {EMBED: embed, SCORE: score},
        "state": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _write(
    path: Path,
    model: AVFakeModel,
    method: Callable[..., Any],
    given: dict[str, tuple[Tensor, dict[int, str]]],
    outputs: list[str],
) -> list[str]:
    """Write a graph; returns the names of the weights that it wants."""
    program = torch.onnx.export(
        _Calls(model, method),
        tuple(example for example, _ in given.values()),
        dynamo=True,
        optimize=False,  # it would bake weights into constants; onnxruntime does all of it when it loads the graph
        opset_version=OPSET,
        input_names=list(given),
        output_names=outputs,
        dynamic_shapes=(tuple(axes for _, axes in given.values()),),
        verbose=False,
    )
    assert program is not None
    state = {f"{PREFIX}{name}": tensor for name, tensor in model.state_dict().items()}

    def without_weights(node: ir.Node) -> bool | None:
        named = any(value is not None and value.name in state for value in node.inputs)
        return False if named and node.op_type != "Shape" else None

    optimizer.fold_constants(program.model, onnx_shape_inference=True, should_fold=without_weights)
    optimizer.remove_unused_nodes(program.model)
    for weight in program.model.graph.initializers.values():
        if weight.name in state:
            assert weight.shape == state[weight.name].shape, weight.name
            weight.const_value = ir.ExternalTensor(
                WEIGHTS, None, None, ir.DataType.FLOAT, shape=ir.Shape(state[weight.name].shape), name=weight.name
            )
    graph = program.model_proto
    renamed = {}
    for tensor in graph.graph.initializer:
        if tensor.name in state:
            name = tensor.name.removeprefix(PREFIX)
            renamed[tensor.name] = name
            tensor.name = name
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.ClearField("metadata_props")  # where each line stood on the machine that wrote the graph
        node.ClearField("doc_string")
    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    path.write_bytes(graph.SerializeToString())
    print(f"{path.parent.name}/{path.name}: {path.stat().st_size / 1e3:.0f} kB, {len(renamed)} weights")
    return list(renamed.values())


if __name__ == "__main__":
    main()
