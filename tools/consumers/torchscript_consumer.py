"""Judge a raw clip with an exported TorchScript model; it needs torch and nothing else.

    python torchscript_consumer.py mini.ts raw/face0-0.00s/lips.rgb raw/face0-0.00s/audio.f32

A .ts file is a program that torch runs: take it from people you trust. docs/consumers.md says what the figures mean.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

ASPECTS = ("fake", "visual", "audio", "sync")
WINDOW, HOP, SAMPLES = 100, 50, 640  # windows of 4 s every 2 s at 25 fps; sound of a frame at 16 kHz


@torch.inference_mode()
def main(model_path: str, lips_path: str, audio_path: str) -> None:
    """Print P(fake) of every window, and what the model's thresholds call it."""
    extra: dict[str, Any] = {"avfake.json": ""}
    model = torch.jit.load(model_path, map_location="cpu", _extra_files=extra)
    about = json.loads(extra["avfake.json"] or "{}")
    if (about.get("schema"), about.get("part")) != ("avfake-export-1", "model"):
        raise ValueError("the model is no whole one that avfake exported by the schema avfake-export-1")
    lips = torch.frombuffer(bytearray(Path(lips_path).read_bytes()), dtype=torch.uint8).view(-1, 96, 96, 3)
    audio = torch.frombuffer(bytearray(Path(audio_path).read_bytes()), dtype=torch.float32).view(1, -1)
    if audio.shape[1] != SAMPLES * len(lips) or not (audio.abs() <= 1).all():
        raise ValueError(f"{len(lips)} pictures need {SAMPLES * len(lips)} float32 samples between -1 and 1")
    thresholds = {}  # for 5 % false alarms or the next rate above, else for the highest; 0.5 where there is none
    for aspect in ASPECTS:
        given = sorted((float(rate), p) for rate, p in about["thresholds"].get(aspect, {}).items()) or [(1.0, 0.5)]
        thresholds[aspect] = next((p for rate, p in given if rate >= 0.05), given[-1][1])
    frames = torch.cat([model.embed(some) for some in lips.split(16)])[None]  # once, although windows overlap
    yes = torch.tensor([True])  # there are lips, there is sound
    for start in [*range(0, len(lips) - WINDOW, HOP), max(0, len(lips) - WINDOW)]:
        end = min(start + WINDOW, len(lips))
        logits = model.score(frames[:, start:end], audio[:, start * SAMPLES : end * SAMPLES], yes, yes)[:4]
        said = f"{start / 25:6.2f} - {end / 25:6.2f} s"
        for aspect, p in zip(ASPECTS, model.p_fake(*logits, yes, yes)[0].tolist(), strict=True):
            label = "not judged" if p != p else "fake" if p >= thresholds[aspect] else "genuine"  # NaN: not taught
            said += f"  {aspect} {p:.4f} {label}"
        print(said)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python torchscript_consumer.py MODEL.ts lips.rgb audio.f32")
    try:
        main(*sys.argv[1:])
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        sys.exit(f"{', '.join(sys.argv[1:])}: {(str(error) or 'damaged').splitlines()[0]}")
