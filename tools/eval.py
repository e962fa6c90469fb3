"""Measure a model on the shared corpus: ``python tools/eval.py --model mini --corpus ../shared/corpus``.

Prints one line per figure: its value and, beside it, on how many of the trials a judgement was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avfake.corpora import shared
from avfake.detect import Detector
from avfake.evaluation.shared_corpus import protocols


def main(
    model: Annotated[str, typer.Option(help="embedded model, checkpoint folder or hf:org/name")] = "mini",
    corpus: Annotated[Path, typer.Option(help="root of the shared corpus")] = Path("../shared/corpus"),
    split: Annotated[str, typer.Option(help="dev or test")] = "test",
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
) -> None:
    """Print the figures of the shared corpus' protocols."""
    rows = [row for row in shared.rows(corpus) if row.split == split]
    for figure in protocols(Detector.from_pretrained(model, threads=threads), rows):
        print(f"{figure.name:<45} {figure.value:7.3f}   judged {figure.judged} of {figure.total}")


if __name__ == "__main__":
    typer.run(main)
