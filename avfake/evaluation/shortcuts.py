"""The shortcut check beside every result: what can be had of a question without looking or listening.

A detector is worth something where it does better than a classifier over the files' metadata does on the same trials
(``audit``), and where it does not lean on the leading silence that generators leave (AVH-Align, Smeu et al. 2025).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from avfake.evaluation.audit import Properties, measure_all
from avfake.evaluation.audit.leaks import PROPERTIES, Estimate, ask
from avfake.evaluation.bootstrap import interval
from avfake.evaluation.config import EvalConfig
from avfake.evaluation.figures import Question
from avfake.evaluation.metrics import auc
from avfake.evaluation.result import Shortcut
from avfake.evaluation.table import Table
from avfake.evaluation.testset import drawn
from avfake.manifest import Labels, Row
from avfake.storage import stamp, write_bytes

_FILE = "properties.json"


def shortcuts(
    table: Table, headlines: Sequence[Question], folder: Path, config: EvalConfig, told: Callable[[str, int, int], None]
) -> list[Shortcut]:
    """Return what metadata tell of each headline question; what is measured is kept in ``folder``.

    Of more than ``config.shortcuts`` clips that many are drawn, evenly from genuine and fake.
    """
    asked = np.zeros(len(table.rows), np.bool_)
    for question in headlines:
        asked |= question.genuine | question.fake
    rows = table.only(asked).rows
    chosen = drawn(rows, config.shortcuts, key=lambda row: row.id, group=lambda row: row.fake)
    found = _measured(chosen, folder, config, told)
    return [_shortcut(table, question, found, config.resamples) for question in headlines]


def _shortcut(table: Table, question: Question, found: dict[str, Properties], resamples: int) -> Shortcut:
    silence = _silence(table, question, resamples)
    trials = [
        (_relabelled(row, int(fake)), found[row.id])
        for row, genuine, fake in zip(table.rows, question.genuine, question.fake, strict=True)
        if (genuine or fake) and row.id in found
    ]
    if not trials:
        return Shortcut(question.name, silence=silence, reason="metadata were not measured")
    answers = ask([row for row, _ in trials], [measured for _, measured in trials], "visual")
    if answers.reason is not None:
        unreadable = all(measured.error is not None for _, measured in trials)
        reason = "the media cannot be read any more" if unreadable else answers.reason
        return Shortcut(question.name, silence=silence, reason=reason)
    strongest = answers.leaks[0] if answers.leaks else None
    return Shortcut(
        question.name,
        metadata=answers.metadata["random"],
        unseen=answers.metadata["identity"],
        strongest="" if strongest is None else PROPERTIES[strongest.name].title,
        strongest_auc=float("nan") if strongest is None else strongest.random.auc,
        silence=silence,
    )


def _relabelled(row: Row, label: int) -> Row:
    """A row whose label, of whatever aspect, is that of a trial."""
    return replace(row, labels=Labels(visual=label))


def _silence(table: Table, question: Question, resamples: int) -> Estimate | None:
    """Leading silence as if it were a score."""
    seconds = np.array([np.nan if clip.silence_s is None else clip.silence_s for clip in table.clips])
    used = (question.genuine | question.fake) & ~np.isnan(seconds)
    persons = [person for person, is_used in zip(table.persons(), used, strict=True) if is_used]
    found = interval(auc, question.fake[used].astype(np.int64), seconds[used], persons, resamples)
    return None if np.isnan(found.value) else Estimate(found.value, found.low, found.high, int(used.sum()))


def _measured(
    rows: Sequence[Row], folder: Path, config: EvalConfig, told: Callable[[str, int, int], None]
) -> dict[str, Properties]:
    """Measure the files of rows, or find them measured."""
    of = [[row.id, *(stamp(address) for address in (row.video, row.audio) if address is not None)] for row in rows]
    of = json.loads(json.dumps(of))
    file = folder / _FILE
    if file.is_file():
        kept = json.loads(file.read_bytes())
        if kept["of"] == of:
            return {one["id"]: Properties(**one) for one in kept["properties"]}
    what = f"{folder.name}: measuring metadata"
    found = measure_all(
        rows,
        engine=config.engine,  # type: ignore[arg-type]
        workers=config.workers,
        told=lambda done: told(what, done, len(rows)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(str(file), json.dumps({"of": of, "properties": [asdict(one) for one in found]}).encode())
    return {one.id: one for one in found}
