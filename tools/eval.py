"""Measure a model on the shared corpus: ``python tools/eval.py --model mini --corpus ../shared/corpus``.

Prints one line per figure: its value and, beside it, on how many of the trials a judgement was made.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from avfake import AvfakeError
from avfake.corpora import shared
from avfake.detect import Detector
from avfake.evaluation.shared_corpus import protocols
from avfake.models import load_checkpoint, save_checkpoint


def main(
    model: Annotated[str, typer.Option(help="embedded model, checkpoint folder or hf:org/name")] = "mini",
    corpus: Annotated[Path, typer.Option(help="root of the shared corpus")] = Path("../shared/corpus"),
    split: Annotated[Literal["dev", "test"], typer.Option(help="which rows")] = "test",
    save: Annotated[bool, typer.Option("--save", help="write the figures into the checkpoint folder")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
) -> None:
    """Print the figures of the shared corpus' protocols."""
    if save and not (Path(model) / "config.yaml").is_file():
        raise typer.BadParameter("--save needs --model to be a checkpoint folder")
    rows = [row for row in shared.rows(corpus) if row.split == split]
    figures = protocols(Detector.from_pretrained(model, threads=threads), rows)
    for figure in figures:
        print(f"{figure.name:<45} {figure.value:7.3f}   judged {figure.judged} of {figure.total}")
    if save:
        checkpoint = load_checkpoint(model)
        metrics: dict[str, Any] = {
            **checkpoint.config.metrics,
            split: {figure.name: round(figure.value, 4) for figure in figures},
        }
        save_checkpoint(Path(model), checkpoint.model, replace(checkpoint.config, metrics=metrics))


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
