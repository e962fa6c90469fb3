"""ONNX: a graph for onnxruntime, through torch.export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from avfake.export.forms import Form, FrameEncoder, Method, Port, Scorer, Whole, example
from avfake.export.metadata import Precision
from avfake.export.precision import reduced

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
SIZES = {"B": 2, "T": 20}  # two clips: torch.export takes a size of 1 for a constant
_FREE = {"B": "batch", "T": "frames", "640T": "samples"}


def program(form: Form, precision: Precision) -> bytes:
    """Return the serialised graph of a form's ``forward``; that of a whole model passes its tensor ``frames``."""
    from onnx import checker, compose

    if isinstance(form.module, Whole):
        # Each half is exported by itself, so that either can be cut out of the file: neither asks for a size that only
        # the other's inputs have.
        score = form.methods["score"]
        lips, frames = form.methods["forward"].inputs[0], score.inputs[0]
        first = _graph(FrameEncoder(form.module.model), Method((lips,), (frames,)), precision)
        second = _graph(Scorer(form.module.model), score, precision)
        first = compose.add_prefix(first, "embed.", rename_inputs=False, rename_outputs=False)
        graph = compose.merge_models(first, second, io_map=[("frames", "frames")])
        graph.graph.value_info.extend(first.graph.output)  # tells the type of ``frames``, which is no output any more
        opsets = {entry.domain: entry for entry in graph.opset_import}  # the merge names each twice
        graph.ClearField("opset_import")
        graph.opset_import.extend(opsets.values())
    else:
        graph = _graph(form.module, form.methods["forward"], precision)
    graph.graph.name = "avfake"
    graph.doc_string = ""
    checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def _graph(module: nn.Module, method: Method, precision: Precision) -> ModelProto:
    with torch.no_grad():
        exported = torch.onnx.export(
            module.eval(),
            example(method.inputs, **SIZES),
            dynamo=True,
            opset_version=OPSET,
            input_names=[port.name for port in method.inputs],
            output_names=[port.name for port in method.outputs],
            dynamic_shapes=_dynamic(method.inputs),
            verbose=False,
        )
    assert exported is not None
    graph = reduced(exported.model_proto, precision)
    for described in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        described.ClearField("metadata_props")  # where each line of code stood on the machine that exported it
        described.ClearField("doc_string")
    return graph


def _dynamic(ports: Sequence[Port]) -> tuple[dict[int, str], ...]:
    # Names stand for Dim.AUTO: that there are 640 samples a frame is for torch.export to find.
    return tuple({axis: _FREE[size] for axis, size in enumerate(port.shape) if isinstance(size, str)} for port in ports)
