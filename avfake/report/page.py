"""An evaluation as one web page that needs nothing else: no script, no style and no picture from anywhere."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from avfake import FPS, AvfakeError
from avfake.evaluation.audit.findings import shown_estimate
from avfake.evaluation.figures import SUMMARY, Figure
from avfake.evaluation.result import Evaluation, Headline, SetResult, Shortcut
from avfake.evaluation.table import ClipScore
from avfake.manifest import Row
from avfake.report import charts
from avfake.report.evaluation import (
    DOMAINS,
    Group,
    beside,
    calibration,
    coverage,
    damage,
    damaged_questions,
    domains_of,
    find,
    further,
    groups,
    histogram,
    is_beaten,
    notes,
    number,
    operating_points,
    sentences,
    shortcut_cells,
    shortcut_of,
    trained_on,
    under_corruptions,
    with_interval,
)
from avfake.report.terminal import reason, shown
from avfake.report.thumbnails import thumbnail
from avfake.storage import is_remote, write_bytes

_WORST = 6
_BARS = 12
"""Bars of a group that are seen at once; the others are folded away."""
_OPENED_BY_BROWSERS = ("http://", "https://")

_TITLES = {"fake": "the verdict", "visual": "the picture", "audio": "the voice", "sync": "sync"}


def write_page(evaluation: Evaluation, address: str) -> None:
    """Write the page of an evaluation; media that is at hand gets thumbnails. Raises ``StorageError``."""
    pictures: dict[str, Thumbnail] = {}
    environment = Environment(
        loader=PackageLoader("avfake", "data/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    text = environment.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        trained_on=trained_on,
        sentences=sentences(evaluation),
        domains=DOMAINS,
        colours=charts.COLOURS,
        sets=[_set(result, address, pictures, place) for place, result in enumerate(evaluation.sets)],
        bars=_BARS,
    )
    # What no text may hold, as in names that are no UTF-8, was made a question mark where it is shown.
    write_bytes(address, text.encode("utf-8", "replace"))


@dataclass(frozen=True)
class Thumbnail:
    """``uri`` of the picture, "" where there is none; ``reason`` why."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Worst:
    """One of the clips that a detector is most wrong about."""

    row: Row
    clip: ClipScore
    score: str
    called: str
    thumbnail: Thumbnail
    facts: str
    path: str
    link: str
    command: str


@dataclass(frozen=True)
class Bar:
    """A bar from ``left`` and its interval, both in per cent of the width; widths are 0 where there is nothing."""

    left: float
    width: float
    low: float
    spread: float


def _set(result: SetResult, page: str, pictures: dict[str, Thumbnail], place: int) -> dict[str, Any]:
    questions = damaged_questions(result)
    colours = {question: charts.COLOURS[n % len(charts.COLOURS)] for n, question in enumerate(questions)}
    return {
        "result": result,
        "anchor": f"set-{place}",
        "summary": [_summary(result, headline.question) for headline in result.headlines],
        "headlines": [_headline(result, headline, page, pictures) for headline in result.headlines],
        "further": [_cells(figure) for figure in further(result)],
        "damage_legend": [(question, Markup(f"var(--c{n % 8})")) for n, question in enumerate(questions)],
        "damage": list(_damage_charts(result, questions, colours)),
        "damage_rows": [
            _damage_row(each.title, each.severity, each.setting, each.figures) for each in under_corruptions(result)
        ],
        "left_out": _left_out(result),
        "delays": charts.delays(result.delays, FPS) if result.delays else "",
        "delays_unjudged": sum(delay.moved is None for delay in result.delays),
    }


def _summary(result: SetResult, question: str) -> dict[str, Any]:
    shortcut = shortcut_of(result, question)
    rows = []
    for domain in domains_of(result, question):
        auc, *others = (find(domain.figures, metric) for metric in SUMMARY)
        rows.append(
            {
                "name": domain.name,
                "auc": with_interval(auc),
                "bar": None if auc is None else bar(auc),
                "others": ["-" if figure is None else number(figure.metric, figure.value) for figure in others],
                "coverage": coverage(domain.figures),
                "shortcuts": shortcut_cells(shortcut, domain),
                "beaten": is_beaten(domain, shortcut),
            }
        )
    return {"question": question, "rows": rows, "notes": notes(result, question)}


def _headline(result: SetResult, headline: Headline, page: str, pictures: dict[str, Thumbnail]) -> dict[str, Any]:
    asked = [figure for figure in result.figures if figure.question == headline.question]
    return {
        "question": headline.question,
        "about": _TITLES.get(headline.score, headline.score),
        "genuine": int((headline.labels == 0).sum()),
        "fake": int((headline.labels == 1).sum()),
        "charts": list(_charts(headline, asked)),
        "beside": beside(result, headline.question),
        "figures": [_cells(figure) for figure in asked],
        "shortcuts": _shortcuts(shortcut_of(result, headline.question)),
        "groups": [_group(group) for group in groups(result) if group.headline == headline.question],
        "worst": [
            ("False alarms", "genuine clips that look most fake", _worst(result, headline, 0, page, pictures)),
            ("Misses", "fakes that look most genuine", _worst(result, headline, 1, page, pictures)),
        ],
    }


def _shortcuts(shortcut: Shortcut | None) -> list[str]:
    if shortcut is None:
        return []
    told = (
        ("metadata alone", shortcut.metadata),
        ("metadata alone, on unseen persons,", shortcut.unseen),
        ("metadata without leading silence", shortcut.trimmed),
        ("leading silence alone", shortcut.silence),
    )
    return [f"{name} {shown_estimate(estimate)}" for name, estimate in told if estimate is not None]


def _charts(headline: Headline, asked: Sequence[Figure]) -> Iterator[tuple[str, Markup]]:
    points, spread, bins = operating_points(headline), histogram(headline), calibration(headline)
    if points is not None:
        yield "ROC", charts.roc(points, with_interval(find(asked, "auc")))
        yield "DET", charts.det(points, with_interval(find(asked, "eer")))
    if spread is not None:
        scores = "score" if headline.p_fake is None else "P(fake)"
        yield "Scores", charts.histogram(spread, headline.threshold, scores)
    if bins:
        yield "Reliability", charts.reliability(bins)


def _cells(figure: Figure) -> dict[str, str]:
    return {
        "question": figure.question,
        "title": figure.title,
        "value": with_interval(figure),
        "coverage": coverage([figure]),
        "labels": f"{figure.genuine:,} / {figure.fake:,}" if figure.genuine or figure.fake else "",
        "note": figure.note,
    }


def bar(figure: Figure) -> Bar | None:
    """Return the bar of a figure in [0, 1], an AUC from chance on; None where there is no value."""
    if math.isnan(figure.value) or not 0 <= figure.value <= 1:
        return None
    start = 0.5 if figure.metric == "auc" else 0.0
    low, high = (0.0, 0.0) if math.isnan(figure.low) else (max(0.0, figure.low), min(1.0, figure.high))
    left, right = sorted((start, figure.value))
    return Bar(100 * left, 100 * (right - left), 100 * low, 100 * (high - low))


def _group(group: Group) -> dict[str, Any]:
    first = next(iter(group.metrics))
    rows = []
    for name, figures in group.parts:
        told = [figures.get(metric) for metric in group.metrics]
        main = told[0]
        rows.append(
            {
                "name": name,
                "bar": None if main is None else bar(main),
                "values": ["-" if figure is None else with_interval(figure) for figure in told],
                "coverage": coverage(figures.values()),
                "labels": next(f"{figure.genuine:,} / {figure.fake:,}" for figure in figures.values()),
                "note": "" if main is None else main.note,
            }
        )
    return {"by": group.by, "titles": list(group.metrics.values()), "chance": first == "auc", "rows": rows}


def _damage_charts(
    result: SetResult, questions: Sequence[str], colours: Mapping[str, str]
) -> Iterator[tuple[str, Markup]]:
    by_title: dict[str, dict[str, Mapping[int, Figure]]] = {}
    for question in questions:
        for title, by_severity in damage(result, question):
            by_title.setdefault(title, {})[question] = by_severity
    for title, asked in by_title.items():
        yield title, charts.damage(title, asked, colours)


def _damage_row(title: str, severity: int, setting: str, figures: Sequence[Figure]) -> dict[str, Any]:
    auc, eer = find(figures, "auc"), find(figures, "eer")
    return {
        "question": figures[0].question if figures else "",
        "title": title,
        "severity": severity,
        "setting": setting,
        "values": [with_interval(auc), with_interval(eer)],
        "coverage": coverage(figures),
    }


def _left_out(result: SetResult) -> dict[str, Any]:
    titles = {figure.metric: figure.title for each in result.left_out for figure in each.figures}
    rows = []
    for each in result.left_out:
        found = {figure.metric: figure for figure in each.figures}
        values = [with_interval(found.get(metric)) for metric in titles]
        rows.append({"left": each, "values": values, "coverage": coverage(each.figures)})
    return {"titles": list(titles.values()), "rows": rows}


# Worst cases.


def _worst(result: SetResult, headline: Headline, label: int, page: str, pictures: dict[str, Thumbnail]) -> list[Worst]:
    """The clips of one label that a question's scores are most wrong about, the worst first."""
    sign = 1 if label == 1 else -1
    of_label = [
        (sign * float(score), result.table.rows[number_].id, int(number_), place)
        for place, (number_, known, score) in enumerate(
            zip(headline.rows, headline.labels, headline.scores, strict=True)
        )
        if known == label
    ]
    found = []
    for _, _, number_, place in sorted(of_label)[:_WORST]:
        row, clip = result.table.rows[number_], result.table.clips[number_]
        path = row.video or row.audio or ""
        key = f"{row.video}\0{row.audio}"
        if key not in pictures:
            pictures[key] = _thumbnail(row)
        found.append(
            Worst(
                row,
                clip,
                _score(headline, place),
                {True: "called fake", False: "called genuine"}.get(clip.alarms.get(headline.score), ""),  # type: ignore[arg-type]
                pictures[key],
                _facts(clip, headline.score),
                path,
                link(path, page),
                f"avfake detect {shlex.quote(path)}",
            )
        )
    return found


def _thumbnail(row: Row) -> Thumbnail:
    try:
        return Thumbnail(thumbnail(row), "")
    except AvfakeError as error:
        return Thumbnail("", str(error))


def _score(headline: Headline, place: int) -> str:
    if headline.p_fake is None:
        return f"score {number('', headline.scores[place])}"
    return f"P(fake) {headline.p_fake[place]:.3f}"


def _facts(clip: ClipScore, asked: str) -> str:
    """What else was said of a clip; by how far a voice is off means something where it belongs to the lips."""
    told = [f"{_TITLES[name]} {number('', score)}" for name, score in clip.scores.items() if name != asked]
    told += [f"{_TITLES[name]} not judged ({reason(code)})" for name, code in clip.reasons.items()]
    if clip.offset_ms and clip.alarms.get("sync") is False:
        told.append(f"voice {abs(clip.offset_ms)} ms {'late' if clip.offset_ms > 0 else 'early'}")
    return ", ".join(told)


def link(path: str, page: str) -> str:
    """Return what a link from the page to a file is, "" where a browser could not follow it.

    A relative path stays relative (to the page), an absolute one becomes ``file://``.
    """
    if is_remote(path):
        return path if path.startswith(_OPENED_BY_BROWSERS) else ""
    if os.path.isabs(path) or is_remote(page):
        return Path(os.path.abspath(path)).as_uri()
    return quote(os.fsencode(os.path.relpath(path, os.path.dirname(page) or ".")))
