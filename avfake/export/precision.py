"""Smaller ONNX graphs: half-precision floats, or weights of eight bits."""

from __future__ import annotations

import ast
import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from avfake.export.metadata import Precision

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

HALVES = (
    *("lip_tower.stem", "lip_tower.stages", "lip_tower.place", "lip_tower.project"),
    *("lip_tower.sync", "lip_tower.context", "voice_tower.wav2vec2", "voice_tower.sync", "voice_tower.context"),
)
"""What of both towers becomes float16. Mouth points do not: their motion is magnified. What follows is small."""
NOT_HALVES = ("log_mel",)  # the power of a spectrum exceeds what float16 can hold
_SCOPES = "pkg.torch.onnx.name_scopes"


def reduced(graph: ModelProto, precision: Precision) -> ModelProto:
    """Return a graph as torch exported it in another precision; inputs and outputs keep their types.

    float16: the modules in ``HALVES`` (onnxruntime's converter). int8: weights of matrix products, one scale a column,
    quantised once, and what they are multiplied by, quantised anew each time (onnxruntime's dynamic quantisation).
    Convolutions stay as they are.
    """
    if precision == "float16":
        return _halved(graph)
    return _quantised(graph) if precision == "int8" else graph


def _halved(graph: ModelProto) -> ModelProto:
    from onnx import TensorProto
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    whole = [node.name for node in graph.graph.node if not _is_half(node)]
    halved = convert_float_to_float16(graph, keep_io_types=True, node_block_list=whole)
    halved.graph.ClearField("value_info")
    # Between nodes that stay whole the converter casts to float16 and back, which would cost quiet voices their
    # precision, and it writes a cast down once for each use: such pairs go, and what stands twice.
    casts: dict[str, NodeProto] = {}
    others = []
    for node in halved.graph.node:
        if node.op_type == "Cast":
            casts.setdefault(node.output[0], node)
        else:
            others.append(node)
    for cast in casts.values():
        before = casts.get(cast.input[0])
        if before is not None and (_type(before), _type(cast)) == (TensorProto.FLOAT16, TensorProto.FLOAT):
            cast.input[0] = before.input[0]
    nodes = copy.deepcopy([*casts.values(), *others])
    halved.graph.ClearField("node")
    halved.graph.node.extend(nodes)
    tidy = OnnxModel(halved)
    tidy.prune_graph()
    tidy.topological_sort()
    return tidy.model


def _quantised(graph: ModelProto) -> ModelProto:
    from onnx import load
    from onnxruntime.quantization import quantize_dynamic

    graph.graph.ClearField("value_info")  # the quantiser transposes weights without saying so there
    with tempfile.TemporaryDirectory(prefix="avfake-") as folder:
        quantised = Path(folder) / "quantised.onnx"
        quantize_dynamic(graph, quantised, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
        return load(quantised)


def _type(cast: NodeProto) -> int:
    return next(attribute.i for attribute in cast.attribute if attribute.name == "to")


def _is_half(node: NodeProto) -> bool:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    modules = [f"{scope}." for scope in ast.literal_eval(scopes)]
    inside = any(f"{name}." in module for name in HALVES for module in modules)
    return inside and not any(f"{name}." in module for name in NOT_HALVES for module in modules)
