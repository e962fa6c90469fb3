"""Calibrate a trained checkpoint in place: ``python tools/calibrate.py runs/mini --corpus ../shared/corpus``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from avfake import AvfakeError
from avfake.corpora import shared
from avfake.detect import Detector
from avfake.evaluation.calibration import calibrate
from avfake.models import save_checkpoint
from avfake.training.heldout import held_out

HELD_OUT = 6  # as in configs/mini.yaml


def main(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")],
    corpus: Annotated[Path, typer.Option(help="root of the shared corpus")] = Path("../shared/corpus"),
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
) -> None:
    """Fit on the held-out people of the train split and the voices of dev; the test split is never looked at."""
    rows = [
        r for r in shared.rows(corpus) if r.split == "dev" or (r.split == "train" and r.video and held_out(r, HELD_OUT))
    ]
    detector = Detector.from_pretrained(str(checkpoint), threads=threads)
    config = calibrate(detector, rows)
    save_checkpoint(checkpoint, detector.model, config)
    for aspect, calibration in config.calibration.items():
        print(f"{aspect}: scale {calibration.scale:.3f} bias {calibration.bias:+.3f}", config.thresholds[aspect])


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
