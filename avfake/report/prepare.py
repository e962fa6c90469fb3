"""Preparation in a terminal: a bar while it runs, a summary when it is done."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from avfake.prepare import Done, Summary
from avfake.report.terminal import shown
from avfake.shards import FAILURES
from avfake.storage import join


class Progress:
    """Counts what is done and, on a terminal, shows it with throughput and time to go."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bars = Bars(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bars.add_task("", total=None)
        self._started = time.perf_counter()
        self.made = 0
        """Rows that were worked on."""
        self._made_s = 0.0

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._started

    @property
    def speed(self) -> str:
        """Throughput of what was made this time."""
        rows, media = self.made / self.seconds, self._made_s / self.seconds
        return f"{60 * rows:.0f} clips/min, {media:.1f} x real time"

    def begin(self, rows: int, shards: int) -> None:
        """Set what there is to do."""
        self._bars.update(self._task, total=rows)

    def add(self, done: Done) -> None:
        """Count a shard."""
        self.made += done.made
        self._made_s += done.made_s
        self._bars.update(self._task, advance=done.summary.rows, description=self.speed)


def print_summary(summary: Summary, told: Progress, out: str, console: Console) -> None:
    """Print what the shards hold and how fast they were made."""
    held = f"{summary.clips} clips, {summary.kept_s / 3600:.2f} h, {summary.bytes / 1e6:.0f} MB"
    console.print(Text(f"{shown(out)}: {held}"), soft_wrap=True)
    outside = summary.duration_s - summary.kept_s
    console.print(
        f"from {summary.rows} rows with {summary.duration_s / 3600:.2f} h of media; {outside / 3600:.2f} h lie outside "
        f"of the main face, in {summary.lost_s / 3600:.3f} h of the clips the face was lost",
        soft_wrap=True,
    )
    if summary.faces_of_original:
        console.print(f"{summary.faces_of_original} rows have the faces of their originals")
    if summary.failed:
        where = shown(join(out, FAILURES))
        console.print(Text(f"{summary.failed} rows gave no clip; {where} says why"), soft_wrap=True)
    if told.made:
        console.print(f"made {told.made} rows in {told.seconds:.0f} s: {told.speed}")
    else:
        console.print("everything was there already")
