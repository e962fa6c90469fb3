"""Make a teacher of a Whisper in CTranslate2's format: ``python tools/whisper_teacher.py MODEL_BIN... -o FOLDER``.

faster-whisper models come so, on the hub and in wheels; parts of a divided ``model.bin`` are given in order. The folder
is in the format of transformers and holds the encoder alone, which is all that a teacher needs.
"""

from __future__ import annotations

import argparse
import io
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import WhisperConfig

from avfake import AvfakeError

FLOATS: dict[int, np.dtype[np.generic]] = {0: np.dtype("<f4"), 4: np.dtype("<f2")}  # ctranslate2::DataType
NAMES = [  # theirs, ours; in this order
    (r"/", "."),
    (r"layer_(\d+)", r"layers.\1"),
    (r"self_attention\.layer_norm", "self_attn_layer_norm"),
    (r"self_attention\.linear_1", "self_attn.out_proj"),
    (r"ffn\.layer_norm", "final_layer_norm"),
    (r"ffn\.linear_0", "fc1"),
    (r"ffn\.linear_1", "fc2"),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
    (r"position_encodings\.encodings", "embed_positions.weight"),
]


def variables(data: bytes) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield what a ``model.bin`` holds (ModelSpec.save in CTranslate2). Raises ``struct.error``, ``ValueError``."""
    file = io.BytesIO(data)

    def number(kind: str) -> int:
        return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])

    def text() -> str:
        return file.read(number("H"))[:-1].decode()

    number("I")  # version of the format
    if text() != "WhisperSpec":
        raise ValueError("it is no Whisper")
    number("I")  # revision of WhisperSpec
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        content = file.read(size)
        if name.startswith("encoder/") and shape:  # what has no shape is a setting
            if kind not in FLOATS:
                raise ValueError("its weights are quantised")
            yield name, np.frombuffer(content, FLOATS[kind]).reshape(shape)


def encoder(data: bytes) -> dict[str, torch.Tensor]:
    """Return the encoder's weights under the names of transformers."""
    weights: dict[str, torch.Tensor] = {}
    for name, value in variables(data):
        for theirs, ours in NAMES:
            name = re.sub(theirs, ours, name)
        tensor = torch.from_numpy(value.copy())
        if "self_attention.linear_0" in name:  # queries, keys and values in one; Whisper's keys have no bias
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                if part != "k" or not name.endswith("bias"):
                    weights[name.replace("self_attention.linear_0", f"self_attn.{part}_proj")] = third.contiguous()
        else:
            weights[name] = tensor
    return weights


def configuration(weights: dict[str, torch.Tensor]) -> WhisperConfig:
    """Return the shape of the encoder; a head of any Whisper is 64 wide."""
    width, mels, _ = weights["encoder.conv1.weight"].shape
    return WhisperConfig(
        d_model=width,
        num_mel_bins=mels,
        encoder_layers=sum(name.endswith("fc1.bias") for name in weights),
        encoder_attention_heads=width // 64,
        encoder_ffn_dim=len(weights["encoder.layers.0.fc1.bias"]),
        max_source_positions=len(weights["encoder.embed_positions.weight"]),
        decoder_layers=0,
        decoder_attention_heads=width // 64,
        architectures=["WhisperModel"],
    )


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="+", type=Path, metavar="MODEL_BIN", help="model.bin, or its parts in order")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    options = parser.parse_args()
    try:
        weights = encoder(b"".join(part.read_bytes() for part in options.parts))
        config = configuration(weights)
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise AvfakeError(
            f"{options.parts[0]} cannot be read as a Whisper of CTranslate2 ({error}); give a whole model.bin in "
            "float16 or float32"
        ) from error
    config.save_pretrained(options.out)
    save_file(weights, options.out / "model.safetensors", metadata={"format": "pt"})
    print(f"{options.out}: {config.encoder_layers} layers, {config.d_model} wide")


if __name__ == "__main__":
    try:
        main()
    except AvfakeError as error:
        sys.exit(str(error))
