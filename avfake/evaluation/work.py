"""Having workers judge what no earlier run has judged, and keeping what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from avfake.engines import Died, run
from avfake.evaluation.config import EvalConfig
from avfake.evaluation.corruptions import Condition
from avfake.evaluation.judged import Answer, Damage, MakeExaminer, Place, Talk, failed
from avfake.evaluation.store import CLIP_SCHEMA, SYNC_SCHEMA, Frames, Stage, clip_record, sync_record
from avfake.evaluation.table import ClipScore, Table
from avfake.storage import stamp

PART_S = 60.0
PART_CLIPS = 500
"""A part of the frames is written when it holds so many clips, or after so many seconds."""

Told = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and of how much."""

Answers = dict[str, dict[str, Any]]


class Work:
    """Judges the clips of one test set, called ``name``."""

    def __init__(self, config: EvalConfig, name: str, told: Told) -> None:
        self._config = config
        self._told = told
        self._name = name

    def clips(self, found: Sequence[Place], stage: Stage) -> Answers:
        """Return the answer to every row by id: ``judged.Answer`` as JSON, its frames being in ``part``."""
        made_of = {place.row.id: _made_of(place) for place in found}
        known = stage.known(made_of)
        waiting = [place for place in found if place.row.id not in known]
        frames = Frames(stage.folder, stage.of)
        number, held, begun = frames.next_number(), list[Answer](), time.monotonic()
        with stage.writer() as journal:
            for done, (_, answer) in enumerate(self._run(waiting, "judging clips"), 1):
                held.append(answer)
                if done == len(waiting) or len(held) >= PART_CLIPS or time.monotonic() - begun > PART_S:
                    if any(each.frames for each in held):
                        frames.write(number, (clip for each in held for clip in each.frames))
                    for each in held:
                        id_ = each.score.id
                        known[id_] = _record(each, number)
                        journal.add(id_, made_of[id_], known[id_])
                    number, held, begun = number + 1, [], time.monotonic()
        if waiting:
            frames.prune({id_: answer["part"] for id_, answer in known.items() if answer["part"] is not None})
        for name, key in (("trimmed", "trimmed"), ("clips", "score")):
            lines = [clip_record(place.row, score_of(known[place.row.id][key])) for place in found]
            stage.show(name, lines, CLIP_SCHEMA)
        return known

    def sync(self, talks: Sequence[Talk], stage: Stage) -> list[dict[str, Any]]:
        """Return the answer to every trial of a talking face, in order: ``judged.SyncAnswer`` as JSON."""
        items = {f"{talk.place.row.id}\t{talk.partner.row.id}": talk for talk in talks}
        made_of = {
            key: [_made_of(talk.place), talk.span, _made_of(talk.partner), talk.partner_span]
            for key, talk in items.items()
        }
        answers = self._answers(items, made_of, stage, "voices of others")
        stage.show("sync", [sync_record(answers[key]) for key in items], SYNC_SCHEMA)
        return [answers[key] for key in items]

    def damage(self, damages: Sequence[Damage], stage: Stage) -> dict[Condition, Table]:
        """Return what was said of the damaged clips, by condition; labels are those of the stretch that was judged."""
        items = {f"{damage.condition}\t{damage.row.id}": damage for damage in damages}
        made_of = {key: _made_of(Place(damage.row)) for key, damage in items.items()}
        answers = self._answers(items, made_of, stage, "judging damaged clips")
        judged = [
            (each.condition, each.row.cut(0, each.seconds), score_of(answers[key])) for key, each in items.items()
        ]
        lines = [clip_record(row, score, condition=str(condition)) for condition, row, score in judged]
        stage.show("damaged", lines, CLIP_SCHEMA)
        tables: dict[Condition, Table] = {}
        for condition in dict.fromkeys(condition for condition, _, _ in judged):
            chosen = [(row, score) for of, row, score in judged if of == condition]
            tables[condition] = Table(tuple(row for row, _ in chosen), tuple(score for _, score in chosen))
        return tables

    def _answers(self, items: Mapping[str, Any], made_of: Mapping[str, Any], stage: Stage, what: str) -> Answers:
        known = stage.known(made_of)
        waiting = {id(item): key for key, item in items.items() if key not in known}
        with stage.writer() as journal:
            for item, answer in self._run([items[key] for key in waiting.values()], what):
                key = waiting[id(item)]
                known[key] = asdict(answer)
                journal.add(key, made_of[key], known[key])
        return known

    def _run(self, items: Sequence[Any], what: str) -> Iterator[tuple[Any, Any]]:
        config = self._config
        if not items:
            return
        assert config.model is not None
        make = MakeExaminer(config.model, config.device, config.faces, config.threads)  # type: ignore[arg-type]
        self._told(f"{self._name}: {what}", 0, len(items))
        results = run(make, items, engine=config.engine, workers=config.workers, gpu=config.device != "cpu")  # type: ignore[arg-type]
        for done, (item, result) in enumerate(results, 1):
            self._told(f"{self._name}: {what}", done, len(items))
            yield item, failed(item, f"{_file(item)}: {result.reason}.") if isinstance(result, Died) else result


def score_of(record: Mapping[str, Any]) -> ClipScore:
    """Return the score that was kept as JSON."""
    return ClipScore(**record)


def _record(each: Answer, part: int) -> dict[str, Any]:
    return {
        "score": asdict(each.score),
        "trimmed": asdict(each.trimmed),
        "talking": each.talking,
        "part": part if each.frames else None,
        "error": each.score.error,
    }


def _made_of(place: Place) -> list[Any]:
    """What tells a row's media from other media: the entries of its clips, or size and time of change of its files."""
    if place.folder:
        return [entry.key for _, entry in place.entries] if place.failure is None else [place.failure]
    return [stamp(address) for address in (place.row.video, place.row.audio) if address is not None]


def _file(item: Place | Talk | Damage) -> str | None:
    row = item.place.row if isinstance(item, Talk) else item.row
    return row.video or row.audio
