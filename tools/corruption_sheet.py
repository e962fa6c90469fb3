"""Draw one clip under every corruption and severity: a contact sheet of whole pictures, mouths and voices.

    python tools/corruption_sheet.py CLIP -o sheet.png [--families noise aac] [--seconds 2]

A picture is shown whole, from the middle of what is read, beside the mouth that the face finder cuts out of the same
instant: no mouth, no face found. A voice is shown as its 80 mel bands.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import textwrap
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.transforms import MelSpectrogram

from avfake import FPS, SAMPLE_RATE, AvfakeError
from avfake.clips import extract
from avfake.evaluation.corruptions import CLEAN, FAMILIES, SEVERITIES, Condition, conditions, corrupt
from avfake.faces import load_backend
from avfake.media import Decoder

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

SIDE = 288  # pixels of the mouth's square and of a whole picture's height on the sheet


class Seen(NamedTuple):
    """What is shown of a clip: one RGB picture (h, w, 3), its mouth (96, 96, 3) and the sound (n,)."""

    picture: NDArray[np.uint8] | None
    mouth: NDArray[np.uint8] | None
    covered: float
    """Share of the instants at which the face seen longest was found."""
    audio: NDArray[np.float32] | None


def main() -> None:
    """Read the arguments, corrupt, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", help="a video, a sound file, or a video with its sound")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--families", nargs="*", default=[], help="all where none is named")
    parser.add_argument("--seconds", type=float, default=2.0, help="how much of the clip is read")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        shown = {CLEAN: seen(CLEAN, arguments)}
        for condition in conditions(arguments.families):
            shown[condition] = seen(condition, arguments)
    except (AvfakeError, ValueError) as error:
        sys.exit(str(error))
    draw(shown, arguments.output)


def seen(condition: Condition, arguments: argparse.Namespace) -> Seen:
    """Return what is shown of the clip under a condition."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        corrupt(condition, arguments.clip, None, path, seconds=arguments.seconds, seed=arguments.seed)
        ticks = list(islice(Decoder(path), max(1, round(arguments.seconds * FPS))))
        clips = list(extract(Decoder(path), load_backend("facemesh")))
    audio = None if ticks[0].audio is None else np.concatenate([tick.audio for tick in ticks if tick.audio is not None])
    frame = ticks[len(ticks) // 2].frame
    picture = None if frame is None else frame.sample(np.eye(2, 3), (frame.width, frame.height))
    faces = [clip for clip in clips if clip.lips is not None]
    if not faces:
        return Seen(picture, None, 0.0, audio)
    longest = max(faces, key=lambda clip: clip.face_ok.sum())
    place = len(ticks) // 2 - round(longest.start_s * FPS)
    lips = longest.lips if 0 <= place < longest.frames and longest.face_ok[place] else None
    return Seen(picture, None if lips is None else lips[place], float(longest.face_ok.sum()) / len(ticks), audio)


def draw(shown: dict[Condition, Seen], output: Path) -> None:
    """Draw a row for each family and stream, the undamaged clip first; print how far each is from it."""
    clean = shown[CLEAN]
    families = dict.fromkeys(condition.family for condition in shown if condition != CLEAN)
    rows = [
        (family, stream)
        for family in families
        for stream, present in (("video", clean.picture is not None), ("audio", clean.audio is not None))
        if present and FAMILIES[family].kind in (stream, "both")
    ]
    if not rows:
        sys.exit("none of these families changes what is in this clip; name others, or give another clip.")
    figure, axes = plt.subplots(len(rows), 6, figsize=(30, 3.2 * len(rows)), squeeze=False)
    for (family, stream), cells in zip(rows, axes, strict=True):
        for axis, severity in zip(cells, (0, *SEVERITIES), strict=True):
            condition = Condition(family, severity) if severity else CLEAN
            damaged = shown[condition]
            far = ratio(clean, damaged, stream)
            told = FAMILIES[family].describe(severity) if severity else FAMILIES[family].title
            face = f", face {damaged.covered:.0%}" if stream == "video" else ""
            axis.set_title(f"{textwrap.fill(f'{condition}: {told}', 56)}\n{far}{face}", fontsize=9, loc="left")
            print(f"{condition!s:18} {stream:6} {far:12} {face[2:]:10} {told}")
            (pictures if stream == "video" else spectrogram)(axis, damaged)
    figure.tight_layout()
    figure.savefig(output, dpi=70)


def ratio(clean: Seen, damaged: Seen, stream: str) -> str:
    """Return the PSNR of the picture, or the SNR of the sound, as text."""
    if stream == "video":
        if clean.picture is None or damaged.picture is None:
            return "no picture"
        height, width = clean.picture.shape[:2]
        error = np.square(cv2.resize(damaged.picture, (width, height)).astype(float) - clean.picture).mean()
        return f"PSNR {10 * np.log10(255**2 / error):.1f} dB" if error else "unchanged"
    if clean.audio is None or damaged.audio is None:
        return "no sound"
    count = min(len(clean.audio), len(damaged.audio))
    error = np.square(damaged.audio[:count] - clean.audio[:count]).sum()
    return f"SNR {10 * np.log10(np.square(clean.audio).sum() / error):.1f} dB" if error else "unchanged"


def pictures(axis: Any, shown: Seen) -> None:
    """Draw a whole picture, as large as its pixels would be unscaled or smaller, and the mouth beside it."""
    axis.axis("off")
    cells = []
    if shown.picture is not None:
        height, width = shown.picture.shape[:2]
        cells.append(cv2.resize(shown.picture, (round(width * SIDE / height), SIDE), interpolation=cv2.INTER_AREA))
    if shown.mouth is None:
        cells.append(np.zeros((SIDE, SIDE, 3), np.uint8))
    else:
        cells.append(cv2.resize(shown.mouth, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))
    axis.imshow(np.concatenate(cells, axis=1))


def spectrogram(axis: Any, shown: Seen) -> None:
    """Draw the 80 mel bands of a voice in dB."""
    if shown.audio is None:
        axis.axis("off")
        return
    power = MelSpectrogram(SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=80)(torch.from_numpy(shown.audio))
    extent = (0.0, len(shown.audio) / SAMPLE_RATE, 0.0, 80.0)
    axis.imshow(10 * np.log10(power.numpy() + 1e-7), origin="lower", aspect="auto", vmin=-60, vmax=30, extent=extent)


if __name__ == "__main__":
    main()
