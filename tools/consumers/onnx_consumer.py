"""Judge a raw clip with an exported ONNX model; it needs onnxruntime and numpy and nothing else.

    python onnx_consumer.py mini.onnx raw/face0-0.00s/lips.rgb raw/face0-0.00s/audio.f32

docs/consumers.md says what the figures mean.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

FAULTS = ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NotImplemented, ort.NoSuchFile
ASPECTS = ("fake", "visual", "audio", "sync")
WINDOW, HOP, SAMPLES = 100, 50, 640  # windows of 4 s every 2 s at 25 fps; sound of a frame at 16 kHz


def judged(about: dict[str, Any], aspect: str, logit: float) -> str:
    """Return calibrated P(fake) and what it is called, by the threshold for 5 % false alarms or the next rate above."""
    scale = about["calibration"].get(aspect, {"scale": 1.0, "bias": 0.0, "knots": []})
    odds = np.interp(logit, *np.transpose(scale["knots"])) if scale["knots"] else scale["scale"] * logit + scale["bias"]
    p = np.exp(-np.logaddexp(0, -odds)) if aspect in about["aspects"] else np.nan  # NaN: not taught
    given = sorted((float(rate), at) for rate, at in about["thresholds"].get(aspect, {}).items()) or [(1.0, 0.5)]
    threshold = next((at for rate, at in given if rate >= 0.05), given[-1][1])  # else the highest rate's; 0.5 without
    return f"{aspect} {p:.4f} {'not judged' if p != p else 'fake' if p >= threshold else 'genuine'}"


def main(model_path: str, lips_path: str, audio_path: str) -> None:
    """Print P(fake) of every window, and what the model's thresholds call it."""
    model = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    about = json.loads(model.get_modelmeta().custom_metadata_map.get("avfake.json", "{}"))
    if (about.get("schema"), about.get("part")) != ("avfake-export-1", "model"):
        raise ValueError("the model is no whole one that avfake exported by the schema avfake-export-1")
    lips = np.frombuffer(Path(lips_path).read_bytes(), np.uint8).reshape(1, -1, 96, 96, 3).transpose(0, 1, 4, 2, 3)
    audio = np.frombuffer(Path(audio_path).read_bytes(), "<f4").reshape(1, -1)
    count = lips.shape[1]
    if not count or audio.shape[1] != SAMPLES * count or not (abs(audio) <= 1).all():
        raise ValueError(f"{count} pictures need {SAMPLES * count} float32 samples between -1 and 1")
    names, yes = [f"{aspect}_logit" for aspect in ASPECTS], np.array([True])  # there are lips, there is sound
    for start in [*range(0, count - WINDOW, HOP), max(0, count - WINDOW)]:
        end = min(start + WINDOW, count)
        pictures, sound = lips[:, start:end].astype(np.float32) / 255, audio[:, start * SAMPLES : end * SAMPLES]
        logits = model.run(names, {"lips": pictures, "audio": sound, "has_lips": yes, "has_audio": yes})
        said = [judged(about, aspect, logit) for aspect, (logit,) in zip(ASPECTS, logits, strict=True)]
        print(f"{start / 25:6.2f} - {end / 25:6.2f} s  {'  '.join(said)}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python onnx_consumer.py MODEL.onnx lips.rgb audio.f32")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, TypeError, AttributeError, KeyError, *FAULTS) as error:
        sys.exit(f"{', '.join(sys.argv[1:])}: {str(error).splitlines()[0]}")
