"""The shortcut check beside every result: what can be had of a question without looking or listening.

A detector is worth something where it does better than a classifier over the files' metadata does (``audit``), and
where it does not lean on the leading silence that generators leave (AVH-Align, Smeu et al. 2025). The classifier is
asked of the trials that the detector judged, or of a draw of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from avfake import FPS
from avfake.evaluation.audit import Properties, measure_all
from avfake.evaluation.audit.leaks import PROPERTIES, Answers, Estimate, ask
from avfake.evaluation.bootstrap import interval
from avfake.evaluation.config import EvalConfig
from avfake.evaluation.figures import Question, trials
from avfake.evaluation.metrics import auc
from avfake.evaluation.result import Shortcut
from avfake.evaluation.table import Table
from avfake.evaluation.testset import drawn
from avfake.manifest import Labels, Row
from avfake.storage import stamp, write_bytes

_FILE = "properties.json"


def shortcuts(
    table: Table,
    trimmed: Table | None,
    headlines: Sequence[Question],
    folder: Path,
    config: EvalConfig,
    told: Callable[[str, int, int], None],
) -> list[Shortcut]:
    """Return what metadata tell of each headline question; what is measured is kept in ``folder``.

    ``trimmed`` has the scores of the same rows without their leading silence, None where nobody judged them so. Of more
    than ``config.shortcuts`` judged clips that many are drawn, evenly from genuine and fake.
    """
    judged = np.zeros(len(table.rows), np.bool_)
    for question in headlines:
        for scored in (table, trimmed):
            if scored is not None:
                judged[trials(scored, question).rows] = True
    rows = table.only(judged).rows
    chosen = drawn(rows, config.shortcuts, key=lambda row: row.id, group=lambda row: row.fake)
    found = _measured(chosen, folder, config, told)
    return [_shortcut(table, trimmed, question, found, config.resamples) for question in headlines]


_Clips = Sequence[tuple[Row, Properties]]


def _shortcut(
    table: Table, trimmed: Table | None, question: Question, found: Mapping[str, Properties], resamples: int
) -> Shortcut:
    silence = _silence(table, question, resamples)
    clips = _clips(table, question, found)
    if not clips:
        return Shortcut(question.name, silence=silence, reason="metadata were not measured")
    count = len(clips) if len(clips) < len(trials(table, question).rows) else None
    answers = _ask(clips)
    if answers.reason is not None:
        unreadable = all(measured.error is not None for _, measured in clips)
        reason = "the media cannot be read any more" if unreadable else answers.reason
        return Shortcut(question.name, silence=silence, drawn=count, reason=reason)
    without = None if trimmed is None else _without_silence(clips, answers, _clips(trimmed, question, found))
    strongest = answers.leaks[0] if answers.leaks else None
    return Shortcut(
        question.name,
        metadata=answers.metadata["random"],
        unseen=answers.metadata["identity"],
        # Too few clips may be left where silence is cut off: then there is no answer.
        trimmed=None if without is None else without.metadata.get("random"),
        trimmed_unseen=None if without is None else without.metadata.get("identity"),
        strongest="" if strongest is None else PROPERTIES[strongest.name].title,
        strongest_auc=float("nan") if strongest is None else strongest.random.auc,
        silence=silence,
        drawn=count,
    )


def _clips(table: Table, question: Question, found: Mapping[str, Properties]) -> _Clips:
    """The judged trials whose metadata were measured, labelled as the question does."""
    judged = trials(table, question)
    of_rows = [(table.rows[number], int(label)) for number, label in zip(judged.rows, judged.labels, strict=True)]
    return [(replace(row, labels=Labels(visual=label)), found[row.id]) for row, label in of_rows if row.id in found]


def _ask(clips: _Clips) -> Answers:
    return ask([row for row, _ in clips], [measured for _, measured in clips], "visual")


def _without_silence(clips: _Clips, answers: Answers, trimmed: _Clips) -> Answers:
    """What metadata tell of the clips that were judged trimmed; ``answers`` are of those judged as they are."""
    is_same = [row.id for row, _ in clips] == [row.id for row, _ in trimmed]
    names = ("leading_silence_s", "start_gap_s")  # sound that begins after the picture is silent until then
    if is_same and not any(measured.numbers.get(name, 0) > 0 for _, measured in clips for name in names):
        return answers  # all would lose the same frame
    return _ask([(row, without_leading_silence(measured)) for row, measured in trimmed])


def without_leading_silence(found: Properties) -> Properties:
    """Return properties as they would be of a clip that lost its leading silence, int(25 s) + 1 frames.

    Picture, sound and file are shorter by what is cut, and the mean level is that of the sound behind the silence; a
    sound that began after the picture (``start_gap_s``) begins with it. Without sound nothing is cut (``judged``).
    """
    if "leading_silence_s" not in found.numbers:
        return found
    numbers = dict(found.numbers)
    gap = numbers.get("start_gap_s", 0.0)
    begins = {"audio_s": max(gap, 0.0), "video_s": max(-gap, 0.0)}
    silence_s = numbers.pop("leading_silence_s")
    cut = (int((begins["audio_s"] + silence_s) * FPS) + 1) / FPS
    for name, begin in begins.items():
        if name in numbers:
            numbers[name] = max(0.0, numbers[name] - max(0.0, cut - begin))
    if gap:
        numbers["start_gap_s"] = min(0.0, cut - begins["video_s"])
    if "video_s" in numbers:
        numbers["audio_minus_video_s"] = numbers["audio_s"] - numbers["video_s"]
    before, numbers["duration_s"] = (
        max(each["audio_s"], each.get("video_s", 0.0)) for each in (found.numbers, numbers)
    )
    numbers["file_kb"] *= numbers["duration_s"] / before
    numbers["trailing_silence_s"] = min(numbers["trailing_silence_s"], numbers["audio_s"])
    if silence_s < found.numbers["audio_s"]:
        numbers["rms_dbfs"] -= 10 * math.log10(1 - silence_s / found.numbers["audio_s"])
    return replace(found, numbers={name: round(value, 6) for name, value in numbers.items()})


def _silence(table: Table, question: Question, resamples: int) -> Estimate | None:
    """Leading silence of the judged trials as if it were a score."""
    judged = trials(table, question)
    seconds = np.array([table.clips[number].silence_s for number in judged.rows], np.float64)  # None becomes NaN
    known = ~np.isnan(seconds)
    persons = table.only(judged.rows[known]).persons()
    found = interval(auc, judged.labels[known], seconds[known], persons, resamples)
    return None if np.isnan(found.value) else Estimate(found.value, found.low, found.high, int(known.sum()))


def _measured(
    rows: Sequence[Row], folder: Path, config: EvalConfig, told: Callable[[str, int, int], None]
) -> dict[str, Properties]:
    """Measure the files of rows, or find them measured."""
    of = [[row.id, *(stamp(address) for address in (row.video, row.audio) if address is not None)] for row in rows]
    of = json.loads(json.dumps(of))
    file = folder / _FILE
    known = _kept(file, of)
    if known is not None:
        return known
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


def _kept(file: Path, of: list[list[str]]) -> dict[str, Properties] | None:
    """What was measured of these files before; None where it was of others, or what was kept is damaged."""
    if not file.is_file():
        return None
    try:
        kept = json.loads(file.read_bytes())
        found = {one["id"]: Properties(**one) for one in kept["properties"]}
        is_whole = kept["of"] == of and list(found) == [id_ for id_, *_ in of]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    return found if is_whole else None
