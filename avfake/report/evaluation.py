"""An evaluation for people (a terminal) and for programs (JSON); ``avfake.report.page`` is the same as a web page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from scipy.special import logit

from avfake.evaluation import metrics
from avfake.evaluation.audit.findings import clips
from avfake.evaluation.audit.leaks import Estimate
from avfake.evaluation.corruptions import CLEAN
from avfake.evaluation.figures import GENERAL, SUMMARY, Figure
from avfake.evaluation.material import Delay
from avfake.evaluation.protocols.parts import count_persons
from avfake.evaluation.result import SCHEMA, Damaged, Domain, Evaluation, Headline, SetResult, Shortcut
from avfake.report.terminal import shown

DOMAINS = {
    "all": "all trials of the question",
    "in-domain": "made by methods, and gathered from sources, that the model has learned from",
    "cross-method": "from sources that it has learned from, made by methods that it has not",
    "cross-dataset": "from sources that it has not learned from",
    "unknown": "the model does not tell what it has learned from",
    "trimmed": "all trials, their leading silence cut off",
    "undamaged": "a draw of the clips, their first seconds, undamaged",
    "corrupted": "the same, the mean over the corruptions that touch picture or sound as the question does",
}
"""What the rows of the summary are about."""

_RATE = re.compile(r"(mean_)?(eer|tpr_at_|balanced_accuracy)|.*_called_fake$")  # metrics told in per cent
_FEW_PERSONS = 20  # with fewer, bootstrap intervals are too narrow (bootstrap.interval)
_HUGE = 1e7  # from here on a number is told by its order of magnitude
_LARGEST_EDGE = 1e300  # of a histogram, which adds and subtracts edges
_LONGEST_ID = 80
_LONGEST_REASON = 300
_POINTS = 200
_BINS = 20
_MOST_PARTS = 12
_MOST_CORPORA = 5
_MOST_FAILURES = 5
_MOST_METRICS = 4
_NAME = 13  # columns of the summary: with these, tables of several questions are aligned
_WIDTHS = (("AUC [95 %]", 20), ("EER", 7), ("TPR 5 %", 7), ("Cllr", 8), ("judged", 13))
_SHORTCUTS = (("metadata", 8), ("unseen", 6), ("silence", 7))


# What is told.


def trained_on(evaluation: Evaluation) -> str:
    """Return the names of the corpora that the detector has learned from, of many the first few."""
    names = evaluation.trained_on
    if names is None:
        return "not told"
    more = len(names) - _MOST_CORPORA
    return (", ".join(names[:_MOST_CORPORA]) or "nothing") + (f" and {more:,} more" if more > 0 else "")


def number(metric: str, value: float) -> str:
    """Return a value as people read it: error and detection rates as ``12.3 %``, NaN as a dash."""
    if math.isnan(value):
        return "-"
    if _RATE.match(metric):
        return f"{100 * value:.1f} %"
    if abs(value) >= _HUGE:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def with_interval(figure: Figure | None) -> str:
    """Return a figure with its interval, as in ``0.831 [0.790, 0.872]``; a dash where there is no value."""
    if figure is None or math.isnan(figure.value):
        return "-"
    if math.isnan(figure.low):
        return number(figure.metric, figure.value)
    low, high = (number(figure.metric, bound).removesuffix(" %") for bound in (figure.low, figure.high))
    return f"{number(figure.metric, figure.value)} [{low}, {high}]"


def find(figures: Iterable[Figure], metric: str, question: str | None = None) -> Figure | None:
    """Return the figure of a metric (and a question), None where it is not asked."""
    wanted = (figure for figure in figures if figure.metric == metric and question in (None, figure.question))
    return next(wanted, None)


def shortcut_of(result: SetResult, question: str) -> Shortcut | None:
    """Return what can be had of a question without looking or listening, None where nobody measured."""
    return next((shortcut for shortcut in result.shortcuts if shortcut.question == question), None)


def not_above(figure: Figure | None, metadata: Estimate | None) -> bool:
    """Whether metadata alone tell as much as the detector: its AUC is then no evidence that it looks or listens."""
    return figure is not None and metadata is not None and figure.value <= metadata.auc


def domains_of(result: SetResult, question: str) -> list[Domain]:
    """Return the rows of the summary of one question."""
    return [domain for domain in result.domains if domain.question == question]


@dataclass(frozen=True)
class Group:
    """The parts of one headline question by one property, the worst first; ``parts`` have the figures of each.

    ``metrics`` are those of any of them, by name with their titles; the parts are in order of the first.
    """

    headline: str
    by: str
    metrics: dict[str, str]
    parts: tuple[tuple[str, dict[str, Figure]], ...]


def groups(result: SetResult) -> list[Group]:
    """Return the parts of all headline questions, in the order of their first figures."""
    found: dict[tuple[str, str], dict[str, dict[str, Figure]]] = {}
    for figure in result.figures:
        if figure.part_of:
            parts = found.setdefault((figure.part_of, figure.by), {})
            parts.setdefault(part_name(figure), {})[figure.metric] = figure
    return [_group(headline, by, parts) for (headline, by), parts in found.items()]


def _group(headline: str, by: str, parts: Mapping[str, dict[str, Figure]]) -> Group:
    titles = {figure.metric: figure.title for part in parts.values() for figure in part.values()}
    first = "auc" if "auc" in titles else next(iter(titles))
    ordered = {metric: titles[metric] for metric in (first, *titles)}

    def badness(part: tuple[str, dict[str, Figure]]) -> tuple[float, str]:
        figure = part[1].get(first)
        known = figure is not None and not math.isnan(figure.value)
        return (-abs(figure.best - figure.value) if figure and known else math.inf), part[0]

    return Group(headline, by, ordered, tuple(sorted(parts.items(), key=badness)))


def part_name(figure: Figure) -> str:
    """Return what the part of a headline question is called beside it: ``HyperLips`` of ``visual: HyperLips``."""
    return figure.question.removeprefix(figure.part_of).removeprefix(":").strip()


def beside(result: SetResult, question: str) -> list[str]:
    """Return the figures of a headline question that its protocol asks for beyond the general ones, in words."""
    asked = [figure for figure in result.figures if figure.question == question and figure.metric not in GENERAL]
    return [f"{figure.title} {with_interval(figure)}" for figure in asked]


def further(result: SetResult) -> list[Figure]:
    """Return the figures that belong to no headline question: of localisation, sync, tandem systems."""
    headlines = {headline.question for headline in result.headlines}
    return [figure for figure in result.figures if not figure.part_of and figure.question not in headlines]


class Points(NamedTuple):
    """Operating points by rising false-positive rate, (n,) each: at ``threshold`` and above, a clip is called fake.

    ``false_positive`` of the genuine are called fake, and ``false_negative`` of the fakes are not.
    """

    false_positive: NDArray[np.float64]
    false_negative: NDArray[np.float64]
    threshold: NDArray[np.float64]


def operating_points(headline: Headline) -> Points | None:
    """Return at most 200 points of a question's ROC and DET curves, None unless both labels occur.

    Source: ``metrics.det``, less the points between equal scores, which no threshold reaches.
    """
    genuine, fake = metrics.split(headline.labels, headline.scores)
    if not len(genuine) or not len(fake):
        return None
    curve = metrics.det(-genuine, -fake)
    reached = np.append(curve.threshold[1:] != curve.threshold[:-1], True)
    rates = np.stack([curve.miss[reached], curve.false_alarm[reached]])
    if rates.shape[1] <= _POINTS:
        return Points(rates[0], rates[1], -curve.threshold[reached])
    # Rates matter by their order of magnitude: points are kept at equal steps along the curve of log-odds.
    least = 0.5 / np.array([[len(genuine)], [len(fake)]])
    steps = np.abs(np.diff(logit(np.clip(rates, least, 1 - least)))).sum(axis=0)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _POINTS)))
    return Points(rates[0, kept], rates[1, kept], -curve.threshold[reached][kept])


class Histogram(NamedTuple):
    """Clips by P(fake), or by score where scores are but an order: ``edges`` (21,) of bins, counts (20,) by label.

    Scores beyond the outer edges are in the outer bins.
    """

    edges: NDArray[np.float64]
    genuine: NDArray[np.int64]
    fake: NDArray[np.int64]


def histogram(headline: Headline) -> Histogram | None:
    """Return how a question's clips are spread over the scores, None without clips."""
    if not len(headline.labels):
        return None
    values = headline.scores if headline.p_fake is None else headline.p_fake
    low, high = _limits(values) if headline.p_fake is None else (0.0, 1.0)
    edges = np.linspace(low, high, _BINS + 1)
    inside = np.clip(values, low, high)
    genuine, fake = (np.histogram(inside[headline.labels == label], edges)[0].astype(np.int64) for label in (0, 1))
    return Histogram(edges, genuine, fake)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of a histogram that no outlier stretches: the middle 99 %, and a tenth of it more where there are any."""
    known = np.clip(values, -_LARGEST_EDGE, _LARGEST_EDGE)
    low, high = (float(bound) for bound in np.percentile(known, [0.5, 99.5]))
    margin = (high - low) / 10
    low, high = max(float(known.min()), low - margin), min(float(known.max()), high + margin)
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, 1 / _LARGEST_EDGE):  # as good as one value
        return low - max(0.5, size / 2), high + max(0.5, size / 2)
    return low, high


def calibration(headline: Headline) -> dict[str, tuple[metrics.Bin, ...]]:
    """Return the bins of reliability diagrams, balanced, ``calibrated`` and ``raw``, as far as they are known."""
    found: dict[str, tuple[metrics.Bin, ...]] = {}
    for name, values in (("raw", headline.raw), ("calibrated", headline.p_fake)):
        if values is not None:
            known = ~np.isnan(values)
            found[name] = metrics.reliability(headline.labels[known], values[known], balanced=True)
    return {name: bins for name, bins in found.items() if bins}


@dataclass(frozen=True)
class Delayed:
    """How a delay of ``frames`` was measured: over ``judged`` of ``total`` trials, the ``median`` by which the offset
    moved, and the share ``within_one`` frame of the truth."""

    frames: int
    judged: int
    total: int
    median: float
    within_one: float


def delayed(delays: Sequence[Delay]) -> list[Delayed]:
    """Return how each true delay was measured."""
    found = []
    for frames in sorted({delay.frames for delay in delays}):
        trials = [delay.moved for delay in delays if delay.frames == frames]
        moved = np.array([each for each in trials if each is not None], np.float64)
        median, near = (
            (float(np.median(moved)), float((np.abs(moved - frames) <= 1).mean())) if len(moved) else [math.nan] * 2
        )
        found.append(Delayed(frames, len(moved), len(trials), median, near))
    return found


def judged_share(figure: Figure) -> float:
    """Return the share of trials that were judged, 1 where there are none."""
    return figure.judged / figure.total if figure.total else 1.0


def coverage(figures: Iterable[Figure]) -> str:
    """Return how many trials were judged of how many, as in ``120/127``, by the first of some figures."""
    first = next(iter(figures), None)
    return "-" if first is None else f"{first.judged:,}/{first.total:,}"


def is_beaten(domain: Domain, shortcut: Shortcut | None) -> bool:
    """Whether metadata alone tell as much of the trials of this row, where they were asked."""
    return not_above(find(domain.figures, "auc"), _metadata(shortcut, domain.name)[0])


def _metadata(shortcut: Shortcut | None, domain: str) -> tuple[Estimate | None, Estimate | None]:
    """Return what metadata tell of the trials of a row, in random folds and on unseen persons."""
    if shortcut is not None and domain == "all":
        return shortcut.metadata, shortcut.unseen
    if shortcut is not None and domain == "trimmed":
        return shortcut.trimmed, shortcut.trimmed_unseen
    return None, None


def shortcut_cells(shortcut: Shortcut | None, domain: Domain) -> tuple[str, str, str]:
    """Return the AUCs of metadata alone, of these on unseen persons, and of silence alone that belong to a row.

    They are empty for rows that metadata are not asked of. Where the silence is cut off, it is not there to tell
    anything.
    """
    if domain.name not in ("all", "trimmed"):
        return "", "", ""
    silence = shortcut.silence if shortcut is not None and domain.name == "all" else None
    asked = (*_metadata(shortcut, domain.name), silence)
    told = ["-" if estimate is None else f"{estimate.auc:.3f}" for estimate in asked]
    return told[0], told[1], told[2]


@dataclass(frozen=True)
class Note:
    """What has to be said below the rows of a question.

    It ``warns`` where metadata tell as much as the detector, and where few persons stand behind its figures.
    """

    text: str
    warns: bool = False


def notes(result: SetResult, question: str) -> list[Note]:
    """Return what has to be said below the rows of one question in the summary."""
    shortcut = shortcut_of(result, question)
    asked = domains_of(result, question)
    found = []
    beaten = [domain.name for domain in asked if is_beaten(domain, shortcut)]
    if beaten:
        found.append(Note(f"not above metadata alone: {', '.join(beaten)}", warns=True))
    few = few_persons(result, question)
    if few is not None:
        auc = next((find(domain.figures, "auc") for domain in asked), None)
        known = auc is not None and not math.isnan(auc.low)
        what = "its intervals are too narrow" if known else "its figures are uncertain"
        found.append(Note(f"few persons ({few}): {what}", warns=True))
    if shortcut is None:
        found.append(Note("metadata alone: not measured"))
    else:
        if shortcut.reason:
            found.append(Note(f"metadata alone: {shortcut.reason}"))
        if shortcut.drawn is not None:
            found.append(Note(f"metadata alone: asked of a draw of {clips(shortcut.drawn)}"))
        if shortcut.strongest:
            found.append(Note(f"strongest property alone: {shortcut.strongest}, AUC {shortcut.strongest_auc:.3f}"))
    missing: dict[str, list[str]] = {}
    for domain in asked:
        for figure in domain.figures:
            if figure.metric in SUMMARY and math.isnan(figure.value) and figure.note:
                titles = missing.setdefault(f"{domain.name}: {figure.note}", [])
                titles.append(figure.title)
    return found + [Note(f"no {', '.join(titles)} of {where}") for where, titles in missing.items()]


def few_persons(result: SetResult, question: str) -> int | None:
    """Return of how many persons the genuine clips or the fakes of a headline question are, whichever are fewer.

    None where there are 20 or more of each, and where a label does not occur. A clip of nobody in particular is a
    person of its own, as it is to the bootstrap.
    """
    headline = next((each for each in result.headlines if each.question == question), None)
    if headline is None or len(set(headline.labels.tolist())) < 2:
        return None
    persons = result.table.persons()
    fewest = min(count_persons([persons[row] for row in headline.rows[headline.labels == label]]) for label in (0, 1))
    return fewest if fewest < _FEW_PERSONS else None


def under_corruptions(result: SetResult) -> list[Damaged]:
    """Return the figures under each family of corruptions, each from its own severity 0, the same clips undamaged, on.

    All clips of the draw undamaged (``CLEAN``) are no family: the summary tells of them.
    """
    return [damaged for damaged in result.damaged if damaged.family != CLEAN.family]


def damaged_questions(result: SetResult) -> list[str]:
    """Return the questions that were asked under corruptions."""
    return list(dict.fromkeys(figure.question for each in under_corruptions(result) for figure in each.figures))


def damage(result: SetResult, question: str) -> list[tuple[str, dict[int, Figure]]]:
    """Return the AUC of a question under each corruption by its title, by severity; 0 is the same clips undamaged."""
    found: dict[str, dict[int, Figure]] = {}
    for damaged in under_corruptions(result):
        figure = find(damaged.figures, "auc", question)
        if figure is not None:
            found.setdefault(damaged.title, {})[damaged.severity] = figure
    return list(found.items())


# Three sentences.


def sentences(evaluation: Evaluation) -> list[str]:
    """Return what an evaluation says in plain words: how well, whether honestly, whether its probabilities hold."""
    asked = [
        (f"{headline.question}, {result.name}", result, headline)
        for result in evaluation.sets
        for headline in result.headlines
    ]
    return [_how_well(asked, evaluation.resamples), _how_honestly(asked), _how_sure(asked, evaluation)]


_Asked = Sequence[tuple[str, SetResult, Headline]]


def _known(asked: _Asked, metric: str) -> list[tuple[str, Figure, Shortcut | None]]:
    found = (
        (name, _of_all(result, metric, headline.question), shortcut_of(result, headline.question))
        for name, result, headline in asked
    )
    return [(name, figure, short) for name, figure, short in found if figure and not math.isnan(figure.value)]


def _of_all(result: SetResult, metric: str, question: str) -> Figure | None:
    """The figure over all trials of a question; the summary has it where the protocol does not ask for it."""
    summary = (figure for domain in domains_of(result, question) if domain.name == "all" for figure in domain.figures)
    return find((*result.figures, *summary), metric, question)


def _how_well(asked: _Asked, resamples: int) -> str:
    known = sorted(_known(asked, "auc"), key=lambda each: each[1].value)
    if not known:
        return "No question could be answered: nowhere were both genuine and fake clips judged."

    def told(each: tuple[str, Figure, Shortcut | None]) -> str:
        name, figure, _ = each
        return f"{with_interval(figure)} ({name}){_against_chance(figure, resamples)}"

    weakest, best = known[0], known[-1]
    if len(known) == 1:
        return f"It tells fake from genuine with an AUC of {told(best)}."
    if number("auc", weakest[1].value) == number("auc", best[1].value):
        # An interval that is not there is the least sure.
        widest = min(known, key=lambda each: -math.inf if math.isnan(each[1].low) else each[1].low)
        return f"In each of {len(known)} questions it tells fake from genuine with an AUC of {told(widest)}."
    return f"Its best figure is an AUC of {told(best)}; its weakest is {told(weakest)}."


def _against_chance(figure: Figure, resamples: int) -> str:
    if math.isnan(figure.low):
        return ", from too few persons for an interval" if resamples else ", without an interval"
    if figure.high < 0.5:
        return ", which is below chance"
    return ", which may be chance" if figure.low <= 0.5 else ""


def _how_honestly(asked: _Asked) -> str:
    known = [(name, figure, short) for name, figure, short in _known(asked, "auc") if short and short.metadata]
    if not known:
        return "What metadata alone would tell was not measured, so nothing rules out that it uses a shortcut."
    beaten = [(name, figure, short) for name, figure, short in known if short and not_above(figure, short.metadata)]
    if not beaten:
        where = "the one question" if len(known) == 1 else f"all {len(known)} questions"
        return f"In {where} where metadata alone could be asked, it tells more than they do."

    def gap(each: tuple[str, Figure, Shortcut | None]) -> float:
        _, figure, short = each
        return figure.value - short.metadata.auc if short and short.metadata else 0.0

    name, figure, short = min(beaten, key=gap)
    assert short is not None
    assert short.metadata is not None
    return (
        f"In {len(beaten)} of {len(known)} questions metadata alone tell as much or more (most in {name}: "
        f"AUC {short.metadata.auc:.3f} against {figure.value:.3f}): there its figure is no evidence that it looks "
        "or listens."
    )


def _how_sure(asked: _Asked, evaluation: Evaluation) -> str:
    known = sorted(_known(asked, "cllr"), key=lambda each: each[1].value)
    misled = [(name, figure) for name, figure, _ in known if figure.low > 1]
    # An interval that is not there promises nothing.
    unsure = [(name, figure) for name, figure, _ in known if not figure.high < 1]
    if not known:
        calibrated = f"Its probabilities cannot be tested: {_why_untested(evaluation)}"
    elif misled:
        calibrated = f"Its probabilities mislead in {_questions(len(misled), len(known))} ({_cllr(*misled[-1])})"
    elif unsure:
        asked_of = _questions(len(unsure), len(known))
        calibrated = f"Its probabilities may be no better than none in {asked_of} ({_cllr(*unsure[-1])})"
    else:
        spread = dict.fromkeys(number("cllr", figure.value) for _, figure, _ in (known[0], known[-1]))
        calibrated = f"Its probabilities are better than none (Cllr {' to '.join(spread)}; always saying 0.5 has 1)"
    failed = sum(len(result.failed) for result in evaluation.sets)
    could_not = f", and {clips(failed)} could not be judged at all" if failed else ""
    return f"{calibrated}; {_left_out_words(asked, evaluation)}{could_not}."


def _questions(some: int, of: int) -> str:
    return "the one question" if of == 1 else f"{some} of {of} questions"


def _cllr(name: str, figure: Figure) -> str:
    return f"Cllr {with_interval(figure)}, {name}; always saying 0.5 has 1"


def _why_untested(evaluation: Evaluation) -> str:
    """Say why no question has a Cllr, of several sets each reason once."""
    reasons = []
    for result in evaluation.sets:
        judged = (row for row, clip in zip(result.table.rows, result.table.clips, strict=True) if clip.scores)
        labels = {row.fake for row in judged} - {None}
        if not labels:
            reasons.append("no labelled clip was judged")
        elif len(labels) == 1:
            reasons.append(f"only {'fakes' if labels == {1} else 'genuine clips'} were judged")
        elif result.table.scale == "rank":
            reasons.append("its scores are but an order")
        else:
            reasons.append("no question has both genuine and fake clips that were judged")
    return ", elsewhere ".join(dict.fromkeys(reasons)) or "there is no test set"


def _left_out_words(asked: _Asked, evaluation: Evaluation) -> str:
    """Say how many trials were not judged; without a question, how many clips."""
    trials = [figure for _, result, headline in asked if (figure := _of_all(result, "auc", headline.question))]
    what, total, judged = "trial", sum(figure.total for figure in trials), sum(figure.judged for figure in trials)
    if not total:
        scored = [bool(clip.scores) for result in evaluation.sets for clip in result.table.clips]
        what, total, judged = "clip", len(scored), sum(scored)
    if not total:
        return "there was nothing to judge"
    if judged == total:
        return f"every {what} was judged"
    share = 100 * (total - judged) / total
    told = f"{share:.1f} %" if share >= 0.1 else "less than 0.1 %"
    return f"{told} of the {what}s were not judged and count in no figure"


# JSON.


def document(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as the JSON document ``avfake-eval-1`` (docs/evaluation.schema.json); NaN is null."""
    found: dict[str, Any] = _plain(
        {
            "schema": SCHEMA,
            "detector": evaluation.detector,
            "fingerprint": evaluation.fingerprint,
            "trained_on": evaluation.trained_on,
            "resamples": evaluation.resamples,
            "settings": evaluation.settings,
            "summary": sentences(evaluation),
            "sets": [_set_fields(result) for result in evaluation.sets],
        }
    )
    return found


def _set_fields(result: SetResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "protocol": result.protocol,
        "says": result.says,
        "cannot": result.cannot,
        "clips": len(result.table.rows),
        "scale": result.table.scale,
        "figures": [asdict(figure) for figure in result.figures],
        "headlines": [_headline_fields(headline) for headline in result.headlines],
        "domains": [asdict(domain) for domain in result.domains],
        "shortcuts": [asdict(shortcut) for shortcut in result.shortcuts],
        "damaged": [asdict(damaged) for damaged in result.damaged],
        "left_out": [asdict(left_out) for left_out in result.left_out],
        "delays": [asdict(each) for each in delayed(result.delays)],
        "failed": [{"id": id_, "reason": reason} for id_, reason in result.failed],
    }


def _headline_fields(headline: Headline) -> dict[str, Any]:
    points, spread = operating_points(headline), histogram(headline)
    return {
        "question": headline.question,
        "score": headline.score,
        "genuine": (headline.labels == 0).sum(),
        "fake": (headline.labels == 1).sum(),
        "threshold": headline.threshold,
        "curve": None if points is None else points._asdict(),
        "histogram": None if spread is None else spread._asdict(),
        "reliability": {name: [one._asdict() for one in bins] for name, bins in calibration(headline).items()},
    }


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does: arrays and tuples into lists, NaN and infinity into null."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# Terminal.


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation, made for 100 columns: the summary of each test set, then its parts, then what failed."""
    console.print(Text.assemble((shown(evaluation.detector), "bold"), (f"  {shown(evaluation.fingerprint)}", "dim")))
    trained = trained_on(evaluation)
    console.print(_indented(f"Trained on: {shown(trained)}"))
    for sentence in sentences(evaluation):
        console.print(_indented(shown(sentence), "- "))
    for result in evaluation.sets:
        console.print()
        _print_set(result, console)


def _print_set(result: SetResult, console: Console) -> None:
    facts = f"  protocol {shown(result.protocol)}, {clips(len(result.table.rows))}"
    console.print(Text.assemble((shown(result.name), "bold"), (facts, "dim")))
    if result.headlines:
        console.print(_indented(_summary(header=True)))
    for headline in result.headlines:
        _print_headline(result, headline.question, console)
    rest = further(result)
    if rest:
        _print_further(rest, console)
    for group in groups(result):
        _print_group(group, console)
    for question in damaged_questions(result):
        _print_damaged(result, question, console)
    if result.left_out:
        _print_left_out(result, console)
    for id_, reason in result.failed[:_MOST_FAILURES]:
        told = f"not judged: {_short(shown(id_), _LONGEST_ID)}: {_short(shown(reason), _LONGEST_REASON)}"
        console.print(_indented(Text(told, "red")))
    if len(result.failed) > _MOST_FAILURES:
        console.print(_indented(Text(f"and {len(result.failed) - _MOST_FAILURES:,} more (see the page)", "red")))


def _summary(header: bool) -> Table:
    """A table with the columns of the summary: with the same widths each time, several of them are aligned."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_header=header)
    table.add_column("", width=_NAME, overflow="ellipsis", no_wrap=True)
    for heading, width in (*_WIDTHS, *_SHORTCUTS):
        table.add_column(heading, width=width, no_wrap=True, justify="right")
    return table


def _print_headline(result: SetResult, question: str, console: Console) -> None:
    shortcut = shortcut_of(result, question)
    table = _summary(header=False)
    for domain in domains_of(result, question):
        auc, *others = (find(domain.figures, metric) for metric in SUMMARY)
        style = "yellow" if is_beaten(domain, shortcut) else ""
        table.add_row(
            shown(domain.name),
            Text(with_interval(auc), style),
            *("-" if figure is None else number(figure.metric, figure.value) for figure in others),
            coverage(domain.figures),
            *(Text(cell, style or "dim") for cell in shortcut_cells(shortcut, domain)),
        )
    console.print(_indented(Text(shown(question), "bold")))
    console.print(_indented(table))
    if told := beside(result, question):
        console.print(_indented(shown("; ".join(told)), "  "))
    for note in notes(result, question):
        console.print(_indented(Text(shown(note.text), "yellow" if note.warns else "dim"), "  "))


def _print_group(group: Group, console: Console) -> None:
    chosen = list(group.metrics.items())[:_MOST_METRICS]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text(f"{shown(group.headline)} by {group.by}, worst first"), min_width=40, overflow="fold")
    for place, (metric, title) in enumerate(chosen):
        heading = f"{title} [95 %]" if place == 0 else title
        table.add_column(Text(heading), no_wrap=True, justify="right", min_width=7 if metric == "eer" else 0)
    table.add_column("judged", no_wrap=True, justify="right")
    for name, figures in group.parts[:_MOST_PARTS]:
        table.add_row(
            Text(_short(shown(name), _LONGEST_ID)),
            *_part_cells(figures, list(dict(chosen))),
            coverage(figures.values()),
        )
    console.print()
    console.print(_indented(table))
    if len(group.parts) > _MOST_PARTS:
        console.print(_indented(Text(f"and {len(group.parts) - _MOST_PARTS:,} more (see the page)", "dim")))


def _part_cells(figures: Mapping[str, Figure], chosen: Sequence[str]) -> Iterator[Text]:
    for place, metric in enumerate(chosen):
        figure = figures.get(metric)
        if figure is None or math.isnan(figure.value):
            # Why there is no value is said once a line.
            yield Text(f"- ({figure.note})" if figure and figure.note and place == 0 else "-", "dim")
        else:
            yield Text(with_interval(figure) if place == 0 else number(metric, figure.value))


def _print_further(figures: Sequence[Figure], console: Console) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("further figures", overflow="fold")
    table.add_column("", overflow="fold")
    table.add_column("[95 %]", no_wrap=True, justify="right", header_style="dim")
    table.add_column("judged", no_wrap=True, justify="right")
    table.add_column("", overflow="fold", style="dim")
    before = ""
    for figure in figures:
        question = "" if figure.question == before else shown(figure.question)
        before = figure.question
        table.add_row(Text(question), Text(figure.title), with_interval(figure), coverage([figure]), Text(figure.note))
    console.print()
    console.print(_indented(table))


def _print_damaged(result: SetResult, question: str, console: Console) -> None:
    told = damage(result, question)
    severities = sorted({severity for _, by_severity in told for severity in by_severity})
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text(f"{shown(question)}: AUC by severity"), min_width=40, overflow="fold")
    for severity in severities:
        table.add_column(str(severity), no_wrap=True, justify="right", min_width=5)
    table.add_column("least judged", no_wrap=True, justify="right")
    for title, by_severity in told:
        cells = ["-" if (each := by_severity.get(s)) is None else number("auc", each.value) for s in severities]
        table.add_row(Text(shown(title)), *cells, f"{100 * min(map(judged_share, by_severity.values())):.0f} %")
    console.print()
    console.print(_indented(table))


def _print_left_out(result: SetResult, console: Console) -> None:
    titles = {figure.metric: figure.title for each in result.left_out for figure in each.figures}
    chosen = dict(list(titles.items())[:_MOST_METRICS])
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("leave one out: fitted on all others", min_width=40, overflow="fold")
    for title in chosen.values():
        table.add_column(Text(title), no_wrap=True, justify="right")
    table.add_column("judged", no_wrap=True, justify="right")
    for each in result.left_out[:_MOST_PARTS]:
        found = {figure.metric: figure for figure in each.figures}
        cells = ["-" if (f := found.get(metric)) is None else number(metric, f.value) for metric in chosen]
        name = _short(shown(f"{each.question}: {each.by} {each.group}"), _LONGEST_ID)
        table.add_row(Text(name), *cells, coverage(each.figures))
    console.print()
    console.print(_indented(table))
    if len(result.left_out) > _MOST_PARTS:
        console.print(_indented(Text(f"and {len(result.left_out) - _MOST_PARTS:,} more (see the page)", "dim")))


def _short(text: str, longest: int) -> str:
    """Text without its middle where it is too long: names differ at their ends."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half + 1 :]}"


def _indented(content: str | Text | Table, bullet: str = "") -> Padding:
    """Content two columns in, wrapped after its bullet."""
    if isinstance(content, Table):
        return Padding(content, (0, 0, 0, 2), expand=False)
    line = Table.grid()
    if bullet:
        line.add_column(no_wrap=True)
    line.add_column()
    line.add_row(*([bullet] if bullet else []), content)
    return Padding(line, (0, 0, 0, 2), expand=False)
