"""A manifest in a terminal: how many clips of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avfake.manifest import ASPECTS, SPLITS, Row
from avfake.report.terminal import shown

_LABELS = {0: "genuine", 1: "fake", None: "not known"}


def print_counts(rows: Iterable[Row], console: Console) -> None:
    """Print the number of rows a corpus and split, and the labels of each aspect."""
    counts: Counter[tuple[str, str]] = Counter()
    labels: Counter[tuple[str, str, str, int | None]] = Counter()
    for row in rows:
        counts[row.corpus, row.split] += 1
        for aspect in ASPECTS:
            labels[row.corpus, row.split, aspect, getattr(row.labels, aspect)] += 1
    many = len({corpus for corpus, _ in counts}) > MANY
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("corpus", "split", "clips", *ASPECTS):
        table.add_column(title, justify="right" if title == "clips" else "left")
    groups: dict[tuple[str, str], list[str]] = {}
    for corpus, split in sorted(counts, key=lambda key: (key[0], SPLITS.index(key[1]))):
        groups.setdefault(("all" if many else corpus, split), []).append(corpus)
    for (name, split), members in sorted(groups.items(), key=lambda item: (item[0][0], SPLITS.index(item[0][1]))):
        cells = []
        for aspect in ASPECTS:
            found = {k: sum(labels[corpus, split, aspect, k] for corpus in members) for k in _LABELS}
            cells.append(", ".join(f"{n} {_LABELS[k]}" for k, n in found.items() if n))
        table.add_row(Text(shown(name)), split, str(sum(counts[corpus, split] for corpus in members)), *cells)
    console.print(table)
    total = counts.total()
    sources = f" of {len({corpus for corpus, _ in counts})} sources" if many else ""
    console.print(f"{total} clip{'' if total == 1 else 's'}{sources}")


MANY = 12
"""Corpora beyond which a table a corpus is no longer read."""
