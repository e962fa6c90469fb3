"""Progress of work in stages: a bar on a terminal, a line a stage elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import Progress, TaskID


class Stages:
    """Called with what is being done, how much of it is done and of how much (0: not known)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(console=console, disable=not console.is_terminal, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Stages:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show it."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=of or None)
            if not self._console.is_terminal:
                self._console.print(what + (f" ({of:,})" if of else ""), style="dim")
        self._bars.update(self._tasks[what], completed=done)
        if of and done >= of:
            self._bars.remove_task(self._tasks[what])
