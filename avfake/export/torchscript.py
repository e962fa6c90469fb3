"""TorchScript: one file with every method of a form over the same weights, which needs nothing but torch."""

from __future__ import annotations

import io
import zipfile

import torch

from avfake.export.forms import Form, example
from avfake.exported import METADATA

SIZES = {"B": 2, "T": 20, "N": 3, "C": 5, "W": 20}
"""Of the examples that are traced: any will do (parity is proved on others)."""


def program(form: Form) -> bytes:
    """Trace a form."""
    examples = {name: example(method.inputs, **SIZES) for name, method in form.methods.items()}
    traced = torch.jit.trace_module(form.module, examples, check_trace=False, strict=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files={METADATA: ""})
    return buffer.getvalue()


def assemble(program: bytes, metadata: str) -> bytes:
    """Return the file: a program with its metadata, without what tells where it was made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(program)) as saved, zipfile.ZipFile(buffer, "w") as kept:
        for name in saved.namelist():
            if name.endswith(".debug_pkl"):  # where each line of code stood on the machine that exported it
                continue
            data = metadata if name.endswith(f"/extra/{METADATA}") else saved.read(name)
            kept.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()
