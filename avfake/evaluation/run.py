"""``avfake eval``: from a configuration to what was found, going on where a killed run stopped.

>>> found = evaluate(load_config(Path("configs/eval/shared.yaml")))
>>> found.sets[0].figures[0].value
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avfake import settings
from avfake.detect import fingerprint
from avfake.engines import Died, run
from avfake.evaluation import asv_scores, score_file, submission
from avfake.evaluation.config import CorruptionsConfig, EvalConfig, SetConfig
from avfake.evaluation.corruptions import CLEAN, FAMILIES, Condition, applies, conditions
from avfake.evaluation.figures import METRICS, Question, answer, before_calibration, mean_figure, trials
from avfake.evaluation.judged import Answer, Damage, MakeExaminer, Place, Span, SyncAnswer, Talk, talks
from avfake.evaluation.leave_out import leave_one_out
from avfake.evaluation.material import ClipFrames, Delay, Material, Proposal, Swap
from avfake.evaluation.proposals import of_clips
from avfake.evaluation.protocols import EvaluationError, Protocol, find
from avfake.evaluation.protocols.localisation import partly_fake
from avfake.evaluation.result import Damaged, Domain, Evaluation, Headline, LeftOut, SetResult
from avfake.evaluation.shortcuts import shortcuts
from avfake.evaluation.store import CLIP_SCHEMA, SYNC_SCHEMA, Frames, Stage, clip_record, sync_record
from avfake.evaluation.table import ClipScore, Table, probability
from avfake.evaluation.testset import drawn, places
from avfake.faces import backend_name
from avfake.judging import default_rate
from avfake.manifest import Row
from avfake.models import CheckpointConfig, load_checkpoint
from avfake.storage import sha256, stamp

log = logging.getLogger(__name__)

SUMMARY = ("auc", "eer", "tpr_at_5%", "cllr")
"""What is told of a headline question in each domain."""

_PART_S = 60.0
_PART_CLIPS = 500

Told = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and of how much."""


class _System(NamedTuple):
    """What is evaluated: a checkpoint, or a score file where ``checkpoint`` is None."""

    name: str
    fingerprint: str
    checkpoint: CheckpointConfig | None


def evaluate(config: EvalConfig, *, corruptions: bool = False, told: Told = lambda what, done, of: None) -> Evaluation:
    """Evaluate; what has been judged into ``config.out`` before is not judged again.

    The same scores give the same result. Raises ``AvfakeError`` where a set cannot be read, a model or a score file
    does not fit, or the folder holds scores of another detector.
    """
    system = _system(config)
    if corruptions and system.checkpoint is None:
        raise EvaluationError(
            f"{config.scores.file} holds the scores of clips as they are: with --corruptions there must be a model; "
            "leave one of both away."
        )
    sets = [_set(name, one, config, system, corruptions, told) for name, one in config.sets.items()]
    return Evaluation(
        detector=system.name,
        fingerprint=system.fingerprint,
        trained_on=_trained_on(config, system),
        settings=settings.dump(replace(config, workers=0, engine="local", threads=1)),
        resamples=config.resamples,
        sets=tuple(sets),
    )


def _system(config: EvalConfig) -> _System:
    if config.model is not None:
        checkpoint = load_checkpoint(config.model)
        faces = backend_name(config.faces)  # type: ignore[arg-type]  # checked with the configuration
        return _System(config.model, fingerprint(checkpoint.fingerprint, faces), checkpoint.config)
    assert config.scores.file is not None
    return _System(config.scores.file, sha256(config.scores.file), None)


def _trained_on(config: EvalConfig, system: _System) -> tuple[str, ...] | None:
    told = config.corpora or (system.checkpoint.corpora if system.checkpoint is not None else [])
    return tuple(told) or None


# ------------------------------------------------------------------------------------------------ one set


class _Judged(NamedTuple):
    material: Material
    trimmed: Table | None
    damaged: dict[Condition, Table]
    failed: tuple[tuple[str, str], ...]


def _set(name: str, one: SetConfig, config: EvalConfig, system: _System, corruptions: bool, told: Told) -> SetResult:
    found = places(name, one)
    rows = [place.row for place in found]
    protocol = find(one.protocol, rows)
    judged = (
        _read(rows, one, config)
        if system.checkpoint is None
        else _judge(name, found, one, config, system, protocol, corruptions, told)
    )
    material = judged.material
    questions = protocol.questions(material)
    headlines = [question for question in questions if not question.part_of]
    told(f"{name}: figures", 0, 0)
    figures = [figure for question in questions for figure in answer(material.table, question, config.resamples)]
    figures += [figure for each in headlines for figure in before_calibration(material.table, each, config.resamples)]
    figures += protocol.further(material, config.resamples)
    damaged = [
        each
        for condition, table in judged.damaged.items()
        for each in _damaged(condition, table, protocol, config.resamples)
    ]
    return SetResult(
        name=name,
        protocol=protocol.title,
        says=protocol.says,
        cannot=protocol.cannot,
        table=material.table,
        figures=tuple(figures),
        headlines=tuple(_headline(material.table, question, system) for question in headlines),
        domains=tuple(_domains(headlines, judged, protocol, damaged, config, system)),
        shortcuts=tuple(shortcuts(material.table, headlines, Path(config.out) / name, config, told)),
        damaged=tuple(damaged),
        left_out=tuple(_left_out(material.table, headlines, config)),
        delays=material.delays,
        failed=judged.failed,
    )


def _read(rows: Sequence[Row], one: SetConfig, config: EvalConfig) -> _Judged:
    """Take the scores of a file."""
    given = config.scores
    assert given.file is not None
    scores = score_file.read(given.file, rows, aspect=given.aspect, higher=given.higher, scale=given.scale)  # type: ignore[arg-type]
    proposals = None if given.proposals is None else score_file.read_proposals(given.proposals, rows)
    for note in [*scores.notes(), *(proposals.notes() if proposals is not None else ())]:
        log.warning("%s", note)
    found = None if proposals is None else proposals.values
    return _Judged(Material(scores.table(rows), proposals=found, asv=_asv(one)), None, {}, ())


def _asv(one: SetConfig) -> Any:
    return None if one.asv is None else asv_scores.read(Path(one.asv))


# ------------------------------------------------------------------------------------------------ judging


def _judge(
    name: str,
    found: Sequence[Place],
    one: SetConfig,
    config: EvalConfig,
    system: _System,
    protocol: Protocol,
    corruptions: bool,
    told: Told,
) -> _Judged:
    folder = Path(config.out) / name
    of = {"detector": system.fingerprint, "clips": "shards" if one.shards is not None else "media"}
    work = _Work(config, told, name)
    records = work.clips(found, Stage(folder, "clips", of))
    rows = tuple(place.row for place in found)
    scores = [_score(records[row.id]["score"]) for row in rows]
    table = Table(rows, tuple(scores))
    trimmed = Table(rows, tuple(_score(records[row.id]["trimmed"]) for row in rows))
    swaps: tuple[Swap, ...] = ()
    delays: tuple[Delay, ...] = ()
    failed = [(score.id, score.error) for score in scores if score.error is not None]
    if protocol.sync_trials:
        answers = work.sync(talks(_talking(found, records)), Stage(folder, "sync", of))
        swaps = tuple(Swap(**each["swap"]) for each in answers)
        delays = tuple(Delay(**delay) for each in answers for delay in each["delays"])
        failed += [(each["swap"]["id"], each["error"]) for each in answers if each["error"] is not None]
    damaged: dict[Condition, Table] = {}
    if corruptions:
        stage = Stage(folder, "damaged", of | {"seconds": f"{config.corruptions.seconds:g}"})
        damaged = work.damage(_damages(found, scores, config.corruptions), stage)
    parts = {row.id: records[row.id]["part"] for row in rows if records[row.id]["part"] is not None}
    frames = Frames(folder, of)

    def read() -> Iterator[ClipFrames]:
        return frames.read(parts)

    proposals = None
    handed_in = protocol.name == submission.CORPUS
    if handed_in or partly_fake(rows):
        assert system.checkpoint is not None
        proposals = of_clips(read(), system.checkpoint.calibration)
        if handed_in:
            _hand_in(folder, table, proposals)
    return _Judged(Material(table, read, proposals, swaps, delays, _asv(one)), trimmed, damaged, tuple(failed))


def _hand_in(folder: Path, table: Table, proposals: Mapping[str, Sequence[Proposal]]) -> None:
    """Write the two files that the 1M-Deepfakes challenges take; what was not judged stands there as genuine."""
    scores = {clip.id: clip.scores.get("fake") for clip in table.clips}
    text, places = folder / "prediction.txt", folder / "prediction.json"
    lacking = submission.write_video_scores(text, table.rows, scores, unjudged=0.0)
    submission.write_proposals(places, table.rows, proposals, unjudged_as_nothing=True)
    log.info("%s and %s are what the 1M-Deepfakes challenges take", text, places)
    if lacking:
        log.warning("%d videos were not judged and stand as genuine there: %s.unjudged", len(lacking), text)


class _Work:
    """Has workers judge what no earlier run has, and keeps what they say."""

    def __init__(self, config: EvalConfig, told: Told, name: str) -> None:
        self.config = config
        self._told = told
        self._name = name

    def clips(self, found: Sequence[Place], stage: Stage) -> dict[str, Any]:
        """Return the answer to every row, by id."""
        sizes = {place.row.id: _size(place) for place in found}
        known = {
            key: record
            for key, record in stage.known().items()
            if record["score"]["error"] is None and record["size"] == sizes.get(key)
        }
        waiting = [place for place in found if place.row.id not in known]
        frames = Frames(stage.folder, stage.of)
        if waiting:
            number, held, begun = frames.next_number(), list[Answer](), time.monotonic()
            journal = stage.writer()
            try:
                for done, (place, result) in enumerate(self._run(waiting, "judging clips"), 1):
                    held.append(_failed(place.row, result) if isinstance(result, Died) else result)
                    if done == len(waiting) or len(held) >= _PART_CLIPS or time.monotonic() - begun > _PART_S:
                        if any(each.frames for each in held):
                            frames.write(number, (clip for each in held for clip in each.frames))
                        for each in held:
                            record = _record(each, number, sizes[each.score.id])
                            known[each.score.id] = record
                            journal.add(each.score.id, record)
                        number, held, begun = number + 1, [], time.monotonic()
            finally:
                journal.close()
        if waiting or not stage.file.is_file():
            rows = [place.row for place in found]
            for name in ("trimmed", "clips"):
                of_rows = [(row, known[row.id]) for row in rows]
                key = "score" if name == "clips" else name
                lines = [clip_record(row, _score(record[key]), row.id, record) for row, record in of_rows]
                replace(stage, name=name).finish(lines, CLIP_SCHEMA)
        return known

    def sync(self, talks: Sequence[Talk], stage: Stage) -> list[dict[str, Any]]:
        """Return the answer to every trial of a talking face, in order."""
        keys = {_key(talk): talk for talk in talks}
        known = {key: record for key, record in stage.known().items() if record["error"] is None}
        waiting = [talk for key, talk in keys.items() if key not in known]
        journal = stage.writer()
        for talk, result in self._run(waiting, "voices of others"):
            if isinstance(result, Died):
                result = SyncAnswer(Swap(talk.place.row.id, talk.partner.row.id, 0.0, None, None), (), result.reason)
            known[_key(talk)] = asdict(result)
            journal.add(_key(talk), known[_key(talk)])
        journal.close()
        stage.finish([sync_record(key, known[key]) for key in keys], SYNC_SCHEMA)
        return [known[key] for key in keys]

    def damage(self, damages: Sequence[Damage], stage: Stage) -> dict[Condition, Table]:
        """Return what was said of the damaged clips, by condition."""
        known = {key: record for key, record in stage.known().items() if record["error"] is None}
        waiting = [damage for damage in damages if _damage_key(damage) not in known]
        journal = stage.writer()
        for damage, result in self._run(waiting, "judging damaged clips"):
            if isinstance(result, Died):
                result = ClipScore(damage.row.id, error=result.reason)
            known[_damage_key(damage)] = asdict(result)
            journal.add(_damage_key(damage), known[_damage_key(damage)])
        journal.close()
        of_rows = [(each, known[_damage_key(each)]) for each in damages]
        stage.finish(
            [
                clip_record(each.row, _score(record), _damage_key(each), record, condition=str(each.condition))
                for each, record in of_rows
            ],
            CLIP_SCHEMA,
        )
        tables: dict[Condition, Table] = {}
        for condition in dict.fromkeys(each.condition for each in damages):
            chosen = [(each.row, _score(record)) for each, record in of_rows if each.condition == condition]
            tables[condition] = Table(tuple(row for row, _ in chosen), tuple(score for _, score in chosen))
        return tables

    def _run(self, items: Sequence[Any], what: str) -> Iterator[tuple[Any, Any]]:
        config = self.config
        if not items:
            return
        assert config.model is not None
        make = MakeExaminer(config.model, config.device, config.faces, config.threads)  # type: ignore[arg-type]
        self._told(f"{self._name}: {what}", 0, len(items))
        results = run(make, items, engine=config.engine, workers=config.workers, gpu=config.device != "cpu")  # type: ignore[arg-type]
        for done, (item, result) in enumerate(results, 1):
            self._told(f"{self._name}: {what}", done, len(items))
            yield item, result


def _size(place: Place) -> int:
    """Bytes of a row's files, by which a change of them is noticed."""
    if place.folder:
        return sum(entry.size for _, entry in place.entries)
    stamps = [stamp(address) for address in (place.row.video, place.row.audio) if address is not None]
    return sum(found[0] for found in stamps if found is not None)


def _record(each: Answer, part: int, size: int) -> dict[str, Any]:
    return {
        "score": asdict(each.score),
        "trimmed": asdict(each.trimmed),
        "part": part if each.frames else None,
        "talking": each.talking,
        "size": size,
    }


def _failed(row: Row, died: Died) -> Answer:
    failed = ClipScore(row.id, error=f"{row.video or row.audio}: {died.reason}.")
    return Answer(failed, failed)


def _score(record: Mapping[str, Any]) -> ClipScore:
    return ClipScore(**record)


# ------------------------------------------------------------------------------------------------ trials of sync


def _talking(found: Sequence[Place], records: Mapping[str, Any]) -> Iterator[tuple[Place, Span | None]]:
    for place in found:
        talking = records[place.row.id]["talking"]
        yield place, None if talking is None else Span(*talking)


def _key(talk: Talk) -> str:
    return f"{talk.place.row.id}\t{talk.partner.row.id}"


# ------------------------------------------------------------------------------------------------ damage


def _damages(found: Sequence[Place], scores: Sequence[ClipScore], config: CorruptionsConfig) -> list[Damage]:
    """A draw of the set's files, clean and under every condition that does anything to them."""
    chosen = drawn(
        [place.row for place in found],
        config.clips,
        key=lambda row: row.id,
        group=lambda row: (row.video is not None, row.fake),
    )
    silent = {score.id for score in scores if score.reasons.get("audio") == "no_audio"}
    asked = [CLEAN, *conditions(config.families, config.severities)]
    return [
        Damage(row, condition, config.seconds)
        for condition in asked
        for row in chosen
        if applies(condition, row.video is not None, row.id not in silent)
    ]


def _damage_key(damage: Damage) -> str:
    return f"{damage.condition}\t{damage.row.id}"


def _damaged(condition: Condition, table: Table, protocol: Protocol, resamples: int) -> Iterator[Damaged]:
    family = None if condition == CLEAN else FAMILIES[condition.family]
    for question in protocol.questions(Material(table)):
        if not question.part_of:
            yield Damaged(
                family=condition.family,
                title="as they are" if family is None else family.title,
                severity=condition.severity,
                setting="" if family is None else family.describe(condition.severity),
                figures=tuple(answer(table, replace(question, metrics=SUMMARY), resamples)),
            )


# ------------------------------------------------------------------------------------------------ summary


def _domains(
    headlines: Sequence[Question],
    judged: _Judged,
    protocol: Protocol,
    damaged: Sequence[Damaged],
    config: EvalConfig,
    system: _System,
) -> Iterator[Domain]:
    table = judged.material.table
    names = _domain_of(table.rows, config, system)
    for question in headlines:
        summary = replace(question, metrics=SUMMARY)
        yield Domain(question.name, "all", tuple(answer(table, summary, config.resamples)))
        for name in ("in-domain", "cross-method", "cross-dataset", "unknown"):
            genuine = np.array([name in given for given in names]) & question.genuine
            fake = np.array([given[0] == name for given in names]) & question.fake
            if genuine.any() and fake.any():
                part = replace(summary, genuine=genuine, fake=fake)
                yield Domain(question.name, name, tuple(answer(table, part, config.resamples)))
        if judged.trimmed is not None:
            yield Domain(question.name, "trimmed", tuple(answer(judged.trimmed, summary, config.resamples)))
        figures = [f for each in damaged if each.severity for f in each.figures if f.question == question.name]
        if figures:
            mean = [mean_figure(question.name, name, METRICS[name].title, figures) for name in SUMMARY]
            yield Domain(
                question.name, "corrupted", tuple(replace(f, metric=n) for f, n in zip(mean, SUMMARY, strict=True))
            )


def _domain_of(rows: Sequence[Row], config: EvalConfig, system: _System) -> list[tuple[str, ...]]:
    """Return the domain of each fake, first, and the domains that a genuine clip serves."""
    corpora = set(_trained_on(config, system) or ())
    methods = set(config.methods or (system.checkpoint.methods if system.checkpoint is not None else ()))
    found: list[tuple[str, ...]] = []
    for row in rows:
        if not corpora:
            found.append(("unknown",))
        elif row.corpus not in corpora:
            found.append(("cross-dataset",))
        elif row.method is None:
            found.append(("in-domain", "cross-method"))
        else:
            found.append(("in-domain" if row.method in methods or not methods else "cross-method",))
    return found


def _headline(table: Table, question: Question, system: _System) -> Headline:
    found = trials(table, question)
    raw = table.raw(question.score)[found.rows]
    thresholds = {} if system.checkpoint is None else system.checkpoint.thresholds.get(question.score, {})
    return Headline(
        question.name,
        question.score,
        found.rows,
        found.labels,
        found.scores,
        None if table.scale == "rank" else probability(found.scores, table.scale),
        None if np.isnan(raw).any() else raw,
        thresholds[default_rate(thresholds)] if thresholds else None,
    )


def _left_out(table: Table, headlines: Sequence[Question], config: EvalConfig) -> Iterable[LeftOut]:
    if table.scale == "rank" and config.leave_one_out:
        raise EvaluationError("leave_one_out calibrates scores, so scores.scale=rank will not do; give what they are.")
    for question in headlines:
        for by in config.leave_one_out:
            yield from leave_one_out(table, question, by, resamples=config.resamples)  # type: ignore[arg-type]
