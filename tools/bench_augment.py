"""What augmentation costs: ``python tools/bench_augment.py CLIP``, for instance avfake/data/demo.mp4.

Prints the milliseconds that each transformation and each random chain take for the first 4 s of the clip, as processor
time on one thread: the mean of 20 runs, of 200 for the chains.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from time import process_time

import cv2
import numpy as np
from numpy.typing import NDArray

from avfake import AvfakeError
from avfake.augment import augment, augment_lips, augment_voice, picture, timing, voice
from avfake.augment.codecs import AUDIO_CODECS, compress_lips, compress_voice, telephone
from avfake.clips import extract
from avfake.faces import load_backend
from avfake.manifest import Labels, Row
from avfake.media import Decoder
from avfake.samples import Sample

FRAMES = 100  # 4 s


def cases(sample: Sample) -> dict[str, Callable[[np.random.Generator], object]]:
    """Return each transformation as a function of a generator, at a strength in the middle of what training draws."""
    lips, mouth, audio = sample.clip.lips, sample.clip.mouth, sample.clip.audio
    assert lips is not None
    assert mouth is not None
    assert audio is not None
    pictures: dict[str, Callable[[np.random.Generator], object]] = {
        "mirror": lambda rng: picture.mirror(lips, mouth),
        "warp": lambda rng: picture.warp(lips, mouth, 5, 1.05, (2, 1)),
        "tone": lambda rng: picture.tone(lips, 0.8, 10, 1.2),
        "contrast": lambda rng: picture.contrast(lips, 0.7),
        "saturation": lambda rng: picture.saturation(lips, 0.5),
        "hue": lambda rng: picture.hue(lips, 10),
        "resize": lambda rng: picture.resize(lips, 64, "area", "cubic"),
        "blur": lambda rng: picture.blur(lips, 1),
        "motion_blur": lambda rng: picture.motion_blur(lips, 5, 30),
        "add_noise": lambda rng: picture.add_noise(lips, 5, rng),
        "blocks": lambda rng: picture.blocks(lips, 8, 8, rng),
        "jpeg": lambda rng: picture.jpeg(lips, 60),
        "compress_lips h264, CRF 26": lambda rng: compress_lips(lips, "h264", 26, (3, 5)),
        "compress_lips mpeg4, quantiser 8": lambda rng: compress_lips(lips, "mpeg4", 8, (3, 5)),
        "compress_lips vp9, CRF 40": lambda rng: compress_lips(lips, "vp9", 40, (3, 5)),
    }
    for kind in picture.DISTRACTORS:
        pictures[f"distract {kind}"] = partial(picture.distract, lips, kind, True)
    voices: dict[str, Callable[[np.random.Generator], object]] = {
        "equalise": lambda rng: voice.equalise(audio, rng.uniform(-8, 8, len(voice.EQUALISER_HZ))),
        "band_limit": lambda rng: voice.band_limit(audio, 100, 5000, 12),
        "reverberate": lambda rng: voice.reverberate(audio, 0.2, 0.3, rng),
        "add_noise (voice)": lambda rng: voice.add_noise(audio, 20, 0.5, rng),
        "gain": lambda rng: voice.gain(audio, -6),
        "distort": lambda rng: voice.distort(audio, 20, rng),
        "crackle": lambda rng: voice.crackle(audio, 0.02, 1, rng),
        "drop_out": lambda rng: voice.drop_out(audio, 3, 0.02, rng),
        "telephone": lambda rng: telephone(audio),
    }
    for codec in AUDIO_CODECS:
        voices[f"compress_voice {codec}, 32 kbit/s"] = partial(_compressed, audio, codec)
    return pictures | voices | {
        "trim_silence": lambda rng: timing.trim_silence(sample),
        "change_speed": lambda rng: timing.change_speed(sample, 1.1),
        "change_frame_rate": lambda rng: timing.change_frame_rate(sample, 15),
        "augment_lips": lambda rng: augment_lips(lips, mouth, rng),
        "augment_voice": lambda rng: augment_voice(audio, rng),
        "augment": lambda rng: augment(sample, rng),
    }  # fmt: skip


def _compressed(audio: NDArray[np.float32], codec: str, rng: np.random.Generator) -> object:
    return compress_voice(audio, codec, 32_000)


def milliseconds(case: Callable[[np.random.Generator], object], runs: int) -> float:
    """Processor time of one call: the mean over ``runs`` seeds, after one call to warm up."""
    case(np.random.default_rng(0))
    start = process_time()
    for seed in range(runs):
        case(np.random.default_rng(seed))
    return 1000 * (process_time() - start) / runs


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", help="a video with a face and a voice, 4 s or longer")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        clips = [clip for clip in extract(Decoder(args.clip), load_backend("facemesh")) if clip.lips is not None]
    except AvfakeError as error:
        sys.exit(str(error))
    row = Row("bench", args.clip, None, "bench", "train", labels=Labels(0, 0, 0))
    fitting = [clip for clip in clips if clip.frames >= FRAMES and clip.audio is not None]
    if not fitting:
        sys.exit(f"{args.clip} has no face with sound for 4 s: take another clip.")
    for name, case in cases(Sample(row, fitting[0]).cut(0, FRAMES)).items():
        print(f"{name:36} {milliseconds(case, 200 if name.startswith('augment') else 20):7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
