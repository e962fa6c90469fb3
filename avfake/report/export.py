"""How an exported file is told of."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.text import Text

from avfake.export import Written
from avfake.report.terminal import shown


def print_written(written: Written, console: Console) -> None:
    """Say what was written, how far it is from the model, and what to do with it."""
    about, name = written.metadata, max(written.differences, key=written.differences.__getitem__)
    size = written.path.stat().st_size / 1e6
    console.print(
        Text(f"{shown(str(written.path))}  {size:.1f} MB  {about['name']}, {about['part']}, {about['precision']}")
    )
    console.print(Text(f"It differs from the model by at most {written.differences[name]:.1e} ({name})."))
    if about["part"] == "model":
        console.print(Text("Judge a clip with it, or see docs/consumers.md:"))
        console.print(Text(f"  avfake detect --model {shlex.quote(str(written.path))} clip.mp4"), soft_wrap=True)
