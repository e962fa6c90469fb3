"""Calibrate a trained checkpoint in place, on clips that its training has not seen.

``python tools/calibrate.py runs/mini --corpus ../shared/corpus`` or ``... runs/mini --manifest mine.jsonl --split dev``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from avfake import AvfakeError
from avfake.corpora import shared
from avfake.evaluation.calibration import calibrate
from avfake.evaluation.calibrators import FALSE_POSITIVE_RATES, Fit
from avfake.manifest import ManifestError, Row, read
from avfake.models import load_checkpoint, save_checkpoint
from avfake.training.heldout import held_out

HELD_OUT = 6  # as in configs/mini.yaml


def main(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder", exists=True, file_okay=False)],
    corpus: Annotated[Path, typer.Option(help="root of the shared corpus")] = Path("../shared/corpus"),
    manifest: Annotated[Path | None, typer.Option(help="a manifest, in the place of the shared corpus")] = None,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="which rows of the manifest")] = "dev",
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
) -> None:
    """Fit P(fake) and thresholds to the rows of a split, and save them in the checkpoint.

    Of the shared corpus these are the held-out people of train and the voices of dev, never its split test.
    """
    rows = _of_shared(corpus) if manifest is None else _of_split(manifest, split)
    calibrated, fitted, notes = calibrate(load_checkpoint(checkpoint.resolve()), rows, threads=threads)
    save_checkpoint(checkpoint, calibrated.model, calibrated.config)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(_table(fitted))
    for name, one in fitted.items():
        console.print(f"{name}: {one.calibration.kind}; {one.why}")
    for note in notes:
        console.print(note)


def _of_split(manifest: Path, split: str) -> list[Row]:
    rows = list(read(manifest))
    if chosen := [row for row in rows if row.split == split]:
        return chosen
    there = ", ".join(sorted({row.split for row in rows})) or "no rows at all"
    raise ManifestError(f"{manifest} has no row of split {split}; name another with --split (it has {there}).")


def _of_shared(corpus: Path) -> list[Row]:
    return [
        row
        for row in shared.rows(corpus)
        if row.split == "dev" or (row.split == "train" and row.video and held_out(row, HELD_OUT))
    ]


def _table(fitted: dict[str, Fit]) -> Table:
    table = Table("aspect", "map", title="Cllr on people left out (bits, 1 says nothing), and thresholds")
    rates = [f"P(fake) at {rate:.0%}" for rate in FALSE_POSITIVE_RATES]
    for name in ("genuine", "fake", "before", "affine", "isotonic", *rates):
        table.add_column(name, justify="right")
    for name, one in fitted.items():
        costs = ["-" if cost != cost else f"{cost:.3f}" for cost in (one.before, one.affine, one.isotonic)]
        found = [f"{one.thresholds[rate]:.3f}" if rate in one.thresholds else "-" for rate in FALSE_POSITIVE_RATES]
        table.add_row(name, one.calibration.kind, str(one.genuine), str(one.fake), *costs, *found)
    return table


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
