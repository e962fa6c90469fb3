"""Draw what every forger makes of a genuine clip: a contact sheet of lips and voices, before and after.

    python tools/forge_sheet.py CLIP -o sheet.png [--donor CLIP]

The face that is seen longest is forged, in its first clip. Voices come from the rest of the file and from ``--donor``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.transforms import MelSpectrogram

from avfake import FPS, SAMPLE_RATE, AvfakeError
from avfake.clips import extract
from avfake.faces import load_backend
from avfake.forge import FORGERS, NotForgeable, available
from avfake.forge.common import level
from avfake.manifest import ASPECTS, Labels, Row
from avfake.media import Decoder
from avfake.samples import Sample

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

SHOWN = 12
COLOURS = {"visual": "tab:red", "audio": "tab:blue", "sync": "tab:orange"}


def main() -> None:
    """Read the arguments, forge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", help="a genuine video of a talking face with its own voice")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--donor", help="any file with the genuine voice of another person")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        clips = samples(arguments.clip, "face")
        donors = [*clips, *(samples(arguments.donor, "donor") if arguments.donor else ())]
    except AvfakeError as error:
        sys.exit(str(error))
    faces = [sample for sample in clips if sample.clip.lips is not None]
    if not faces:
        sys.exit(f"{arguments.clip}: there is no face in it; take a video of a talking face.")
    draw(max(faces, key=lambda sample: sample.clip.frames), donors, arguments.seed, arguments.output)


def samples(path: str, identity: str) -> list[Sample]:
    """Return the clips of a file as genuine samples."""
    name = Path(path).name
    found = []
    for clip in extract(Decoder(path), load_backend("facemesh"), max_s=6.0):
        heard, seen = clip.audio is not None, clip.lips is not None
        labels = Labels(0 if seen else None, 0 if heard else None, 0 if seen and heard else None)
        found.append(Sample(Row(name, path, None, "sheet", "test", identity=identity, labels=labels), clip))
    return found


def draw(sample: Sample, donors: list[Sample], seed: int, output: Path) -> None:
    """Forge the sample in every way that can run here; draw one row each, the source first."""
    rows = []
    for name in available():
        start = time.perf_counter()
        try:
            forged = FORGERS[name](sample, donors, np.random.default_rng(seed))
        except NotForgeable as reason:
            print(f"{name:20} not made: {reason}")
            continue
        took = 1000 * (time.perf_counter() - start)
        labels = forged.row.labels
        told = f"visual {labels.visual}, audio {labels.audio}, sync {labels.sync}, shift {forged.shift}"
        print(f"{name:20} {took:5.0f} ms  {told}  {loudness(sample)} -> {loudness(forged)}")
        rows.append((f"{name}: {told}", forged))
    figure, axes = plt.subplots(len(rows), 3, figsize=(24, 2.7 * len(rows)), width_ratios=[3, 1, 1], squeeze=False)
    for (title, forged), (lips, before, after) in zip(rows, axes, strict=True):
        lips.imshow(strips(sample, forged))
        lips.set_title(f"{title} (above: source)", fontsize=10, loc="left")
        lips.axis("off")
        for axis, shown in ((before, sample), (after, forged)):
            spectrogram(axis, shown)
    figure.tight_layout()
    figure.savefig(output, dpi=80)


def loudness(sample: Sample) -> str:
    """Return the level of a voice as text."""
    audio = sample.clip.audio
    return "no sound" if audio is None else f"{20 * np.log10(max(level(audio), 1e-6)):.1f} dBFS"


def strips(sample: Sample, forged: Sample) -> NDArray[np.uint8]:
    """Return frames of the source over the same frames of the fake; a bar above marks what is fake in each frame.

    A fake in segments is shown from end to end, any other in consecutive frames, where flicker is to be seen.
    """
    lips, original = forged.clip.lips, sample.clip.lips
    assert lips is not None
    assert original is not None
    segments = forged.row.segments
    ahead = round((forged.clip.start_s - sample.clip.start_s) * FPS)
    count = len(lips)
    if segments.visual or segments.audio or segments.sync:
        frames = np.linspace(0, count - 1, SHOWN).astype(int)
    else:
        frames = np.arange(count // 2, min(count // 2 + SHOWN, count))
    bars = np.full((12, len(frames), 96, 3), 255, np.uint8)
    for line, aspect in enumerate(ASPECTS):
        fake = forged.frame_labels(aspect)[frames] == 1
        colour = np.round(255 * np.array(matplotlib.colors.to_rgb(COLOURS[aspect])))
        bars[4 * line : 4 * line + 3, fake, 2:-2] = colour
    pictures = [np.concatenate(list(stream), axis=1) for stream in (original[frames + ahead], lips[frames])]
    return np.concatenate([bars.reshape(12, -1, 3), *pictures])


def spectrogram(axis: Any, sample: Sample) -> None:
    """Draw the 80 mel bands of a voice in dB and its segments."""
    if sample.clip.audio is None:
        axis.axis("off")
        return
    power = MelSpectrogram(SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=80)(torch.from_numpy(sample.clip.audio))
    extent = (0.0, sample.clip.frames / FPS, 0.0, 80.0)
    axis.imshow(10 * np.log10(power.numpy() + 1e-7), origin="lower", aspect="auto", vmin=-60, vmax=30, extent=extent)
    for place, aspect in enumerate(("audio", "sync")):
        for start, end in getattr(sample.row.segments, aspect):
            axis.plot([start, end], [78 - 3 * place] * 2, color=COLOURS[aspect], linewidth=4)


if __name__ == "__main__":
    main()
