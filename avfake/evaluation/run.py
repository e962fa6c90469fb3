"""``avfake eval``: from a configuration to what was found, going on where a killed run stopped.

>>> found = evaluate(load_config(Path("configs/eval/shared.yaml")))
>>> found.sets[0].figures[0].value
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from avfake import settings
from avfake.detect import fingerprint
from avfake.evaluation import asv_scores, score_file, submission
from avfake.evaluation.config import CorruptionsConfig, EvalConfig, SetConfig
from avfake.evaluation.corruptions import CLEAN, FAMILIES, VERSION, Condition, applies, conditions
from avfake.evaluation.figures import (
    METRICS,
    SUMMARY,
    Figure,
    Question,
    answer,
    before_calibration,
    mean_figure,
    trials,
)
from avfake.evaluation.judged import Damage, Place, Span, talks
from avfake.evaluation.leave_out import leave_one_out
from avfake.evaluation.material import ClipFrames, Delay, Material, Proposal, Swap
from avfake.evaluation.proposals import of_clips
from avfake.evaluation.protocols import EvaluationError, Protocol, find
from avfake.evaluation.protocols.localisation import partly_fake
from avfake.evaluation.result import Damaged, Domain, Evaluation, Headline, LeftOut, SetResult
from avfake.evaluation.shortcuts import shortcuts
from avfake.evaluation.store import Frames, Stage
from avfake.evaluation.table import SCORES, ClipScore, Table, label_of, probability
from avfake.evaluation.tandem import AsvRates
from avfake.evaluation.testset import drawn, places
from avfake.evaluation.work import Answers, Told, Work, score_of
from avfake.faces import backend_name
from avfake.judging import default_rate
from avfake.manifest import Row
from avfake.models import CheckpointConfig
from avfake.runtimes import describe
from avfake.storage import join, make_folder, read_bytes, sha256, stamp

log = logging.getLogger(__name__)

REPORT = "report.json"
"""Name of the document in the folder ``out``."""


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
    _check_out(config, system)
    if corruptions and system.checkpoint is None:
        raise EvaluationError(
            f"{config.scores.file} holds the scores of clips as they are: with --corruptions there must be a model; "
            "leave one of both away."
        )
    with _held(config.out):
        sets = [_set(name, one, config, system, corruptions, told) for name, one in config.sets.items()]
    return Evaluation(
        detector=system.name,
        fingerprint=system.fingerprint,
        trained_on=_trained_on(config, system),
        settings=settings.dump(replace(config, workers=0, engine="local", threads=1)),
        resamples=config.resamples,
        sets=tuple(sets),
    )


@contextmanager
def _held(out: str) -> Iterator[None]:
    """Keep other evaluations out of a folder meanwhile: they would write each other's parts."""
    make_folder(out)
    lock = FileLock(join(out, ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise EvaluationError(
            f"{out} is being evaluated into by another process: wait, or give another out."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_out(config: EvalConfig, system: _System) -> None:
    """Refuse to write over the report on another detector."""
    address = join(config.out, REPORT)
    if stamp(address) is None:
        return
    try:
        other = json.loads(read_bytes(address))
        name, found = other["detector"], other["fingerprint"]
    except (ValueError, TypeError, KeyError):
        return  # it is none of ours, or damaged
    if found != system.fingerprint:
        raise EvaluationError(
            f"{address} is the report on another detector, or another version of it ({name}); choose another out, or "
            "delete it."
        )


def _system(config: EvalConfig) -> _System:
    if config.model is not None:
        checkpoint, of = describe(config.model)
        faces = backend_name(config.faces)  # type: ignore[arg-type]  # checked with the configuration
        return _System(config.model, fingerprint(of, faces), checkpoint)
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
    asv = None if one.asv is None else asv_scores.read(Path(one.asv))
    judged = (
        _read(rows, asv, config)
        if system.checkpoint is None
        else _judge(name, found, one, asv, config, system, protocol, corruptions, told)
    )
    material = judged.material
    questions = protocol.questions(material)
    headlines = [question for question in questions if not question.part_of]
    told(f"{name}: figures", 0, 0)
    figures = [figure for question in questions for figure in answer(material.table, question, config.resamples)]
    figures += [figure for each in headlines for figure in before_calibration(material.table, each, config.resamples)]
    figures += protocol.further(material, config.resamples)
    damaged = list(_damaged(judged.damaged, protocol, config.resamples))
    return SetResult(
        name=name,
        protocol=protocol.title,
        says=protocol.says,
        cannot=protocol.cannot,
        table=material.table,
        figures=tuple(figures),
        headlines=tuple(_headline(material.table, question, system) for question in headlines),
        domains=tuple(_domains(headlines, figures, judged, damaged, config, system)),
        shortcuts=tuple(shortcuts(material.table, judged.trimmed, headlines, Path(config.out) / name, config, told)),
        damaged=tuple(damaged),
        left_out=tuple(_left_out(material.table, headlines, config)),
        delays=material.delays,
        failed=judged.failed,
    )


def _read(rows: Sequence[Row], asv: AsvRates | None, config: EvalConfig) -> _Judged:
    """Take the scores of a file."""
    given = config.scores
    assert given.file is not None
    scores = score_file.read(given.file, rows, aspect=given.aspect, higher=given.higher, scale=given.scale)  # type: ignore[arg-type]
    proposals = None if given.proposals is None else score_file.read_proposals(given.proposals, rows)
    for note in [*scores.notes(), *(proposals.notes() if proposals is not None else ())]:
        log.warning("%s", note)
    found = None if proposals is None else proposals.values
    return _Judged(Material(scores.table(rows), proposals=found, asv=asv), None, {}, ())


# ------------------------------------------------------------------------------------------------ judging


def _judge(
    name: str,
    found: Sequence[Place],
    one: SetConfig,
    asv: AsvRates | None,
    config: EvalConfig,
    system: _System,
    protocol: Protocol,
    corruptions: bool,
    told: Told,
) -> _Judged:
    folder = Path(config.out) / name
    of = {"detector": system.fingerprint, "clips": "shards" if one.shards is not None else "media"}
    work = Work(config, name, told)
    answers = work.clips(found, Stage(folder, "clips", of))
    rows = tuple(place.row for place in found)
    scores, trimmed = (tuple(score_of(answers[row.id][key]) for row in rows) for key in ("score", "trimmed"))
    table = Table(rows, scores)
    swaps: tuple[Swap, ...] = ()
    delays: tuple[Delay, ...] = ()
    failed = [(score.id, score.error) for score in scores if score.error is not None]
    if protocol.sync_trials:
        tried = work.sync(talks(_talking(found, answers)), Stage(folder, "sync", of))
        swaps = tuple(Swap(**each["swap"]) for each in tried)
        delays = tuple(Delay(**delay) for each in tried for delay in each["delays"])
        failed += [(each["swap"]["id"], each["error"]) for each in tried if each["error"] is not None]
    damaged: dict[Condition, Table] = {}
    if corruptions:
        damage = {"seconds": f"{config.corruptions.seconds:g}", "corruptions": str(VERSION)}
        damaged = work.damage(_damages(found, scores, config.corruptions), Stage(folder, "damaged", of | damage))
    parts = {row.id: answers[row.id]["part"] for row in rows if answers[row.id]["part"] is not None}
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
    return _Judged(Material(table, read, proposals, swaps, delays, asv), Table(rows, trimmed), damaged, tuple(failed))


def _hand_in(folder: Path, table: Table, proposals: Mapping[str, Sequence[Proposal]]) -> None:
    """Write the two files that the 1M-Deepfakes challenges take; what was not judged stands there as genuine."""
    scores = {clip.id: clip.scores.get("fake") for clip in table.clips}
    text, places = folder / "prediction.txt", folder / "prediction.json"
    try:
        lacking = submission.write_video_scores(text, table.rows, scores, unjudged=0.0)
        submission.write_proposals(places, table.rows, proposals, unjudged_as_nothing=True)
    except submission.SubmissionError as error:
        log.warning("there are no files to hand in: %s", error)
        return
    log.info("%s and %s are what the 1M-Deepfakes challenges take", text, places)
    if lacking:
        log.warning("%d videos were not judged and stand as genuine there: %s.unjudged", len(lacking), text)


# ------------------------------------------------------------------------------------------------ trials of sync


def _talking(found: Sequence[Place], answers: Answers) -> Iterator[tuple[Place, Span | None]]:
    for place in found:
        talking = answers[place.row.id]["talking"]
        yield place, None if talking is None else Span(*talking)


# ------------------------------------------------------------------------------------------------ damage


def _damages(found: Sequence[Place], scores: Sequence[ClipScore], config: CorruptionsConfig) -> list[Damage]:
    """A draw of the set's files, clean and under every condition that does anything to them."""
    labelled = [place.row for place in found if any(label_of(place.row, score) is not None for score in SCORES)]
    chosen = drawn(
        labelled,
        config.clips,
        key=lambda row: row.id,
        group=lambda row: (row.video is not None, row.cut(0, config.seconds).fake),
    )
    silent = {score.id for score in scores if score.reasons.get("audio") == "no_audio"}
    asked = [CLEAN, *conditions(config.families, config.severities)]
    return [
        Damage(row, condition, config.seconds)
        for condition in asked
        for row in chosen
        if applies(condition, row.video is not None, row.id not in silent)
    ]


def _damaged(tables: Mapping[Condition, Table], protocol: Protocol, resamples: int) -> Iterator[Damaged]:
    """Figures under every condition; each family comes with severity 0, the very same clips undamaged."""
    for condition, table in tables.items():
        if condition == CLEAN:
            yield from _asked(CLEAN.family, "as they are", 0, "", table, protocol, resamples)
            continue
        family = FAMILIES[condition.family]
        if condition == next(each for each in tables if each.family == condition.family):
            ids = {row.id for row in table.rows}
            same = tables[CLEAN].only(tables[CLEAN].where(lambda row, ids=ids: row.id in ids))  # type: ignore[misc]
            yield from _asked(condition.family, family.title, 0, "undamaged", same, protocol, resamples)
        setting = family.describe(condition.severity)
        yield from _asked(condition.family, family.title, condition.severity, setting, table, protocol, resamples)


def _asked(
    family: str, title: str, severity: int, setting: str, table: Table, protocol: Protocol, resamples: int
) -> Iterator[Damaged]:
    for question in protocol.questions(Material(table)):
        if not question.part_of and (question.genuine | question.fake).any():
            figures = tuple(answer(table, replace(question, metrics=SUMMARY), resamples))
            yield Damaged(family, title, severity, setting, figures)


# ------------------------------------------------------------------------------------------------ summary


def _domains(
    headlines: Sequence[Question],
    figures: Sequence[Figure],
    judged: _Judged,
    damaged: Sequence[Damaged],
    config: EvalConfig,
    system: _System,
) -> Iterator[Domain]:
    """The headline questions by domain; ``figures`` holds those that were computed of all trials already."""
    table = judged.material.table
    names = _domain_of(table.rows, config, system)
    known = {(figure.question, figure.metric): figure for figure in figures}

    def answered(question: Question) -> list[Figure]:
        of_all = [known.get((question.name, metric)) for metric in SUMMARY]
        missing = tuple(metric for metric, figure in zip(SUMMARY, of_all, strict=True) if figure is None)
        found = {f.metric: f for f in answer(table, replace(question, metrics=missing), config.resamples)}
        found |= {figure.metric: figure for figure in of_all if figure is not None}
        return [found[metric] for metric in SUMMARY if metric in found]

    for question in headlines:
        summary = replace(question, metrics=SUMMARY)
        whole = answered(question)
        yield Domain(question.name, "all", tuple(whole))
        for name in ("in-domain", "cross-method", "cross-dataset", "unknown"):
            genuine = np.array([name in given for given in names]) & question.genuine
            fake = np.array([given[0] == name for given in names]) & question.fake
            if (genuine == question.genuine).all() and (fake == question.fake).all():
                yield Domain(question.name, name, tuple(whole))
            elif genuine.any() and fake.any():
                part = replace(summary, genuine=genuine, fake=fake)
                yield Domain(question.name, name, tuple(answer(table, part, config.resamples)))
        if judged.trimmed is not None:
            yield Domain(question.name, "trimmed", tuple(answer(judged.trimmed, summary, config.resamples)))
        yield from _damaged_domains(question, damaged)


def _damaged_domains(question: Question, damaged: Sequence[Damaged]) -> Iterator[Domain]:
    """The draw of clips undamaged, and the mean over the corruptions that touch what the score looks at."""
    found: dict[str, list[Figure]] = {"undamaged": [], "corrupted": []}
    for each in damaged:
        figures = [figure for figure in each.figures if figure.question == question.name]
        if each.family == CLEAN.family:
            found["undamaged"] += figures
        elif each.severity and _touches(question.score, each.family):
            found["corrupted"] += figures
    if found["undamaged"]:
        yield Domain(question.name, "undamaged", tuple(found["undamaged"]))
    if found["corrupted"]:
        means = ((name, mean_figure(question.name, name, METRICS[name].title, found["corrupted"])) for name in SUMMARY)
        yield Domain(question.name, "corrupted", tuple(replace(mean, metric=name) for name, mean in means))


def _touches(score: str, family: str) -> bool:
    """Whether a family damages what a score looks at; verdict and sync look at both picture and sound."""
    return FAMILIES[family].kind in {"visual": ("video", "both"), "audio": ("audio", "both")}.get(
        score, ("video", "audio", "both")
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
    # Over the verdict decides the threshold of whichever answer was the more suspicious: there is no single line.
    told = system.checkpoint is not None and question.score != "fake"
    thresholds = system.checkpoint.thresholds.get(question.score, {}) if system.checkpoint is not None and told else {}
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
    if config.leave_one_out and table.scale == "rank":
        log.warning(
            "leave_one_out is passed over: it calibrates scores, and scores.scale=rank says that they only order"
        )
        return
    for question in headlines:
        for by in config.leave_one_out:
            yield from leave_one_out(table, question, by, resamples=config.resamples)  # type: ignore[arg-type]
