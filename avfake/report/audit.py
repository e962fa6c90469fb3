"""An audit for people (a terminal, a picture) and for programs (JSON)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from avfake.evaluation.audit import Audit
from avfake.evaluation.audit.findings import clips, question, shown_estimate, shown_rule
from avfake.evaluation.audit.leaks import LEAK, PROPERTIES, Answers, Estimate, Leak, Protocol, verdict
from avfake.evaluation.audit.overlap import Balance
from avfake.manifest import SPLITS
from avfake.report.terminal import shown
from avfake.storage import whole_file

SCHEMA = "avfake-audit-1"

_MOST_BARS = 20
_MOST_UNREADABLE = 5
_MOST_METHODS = 6
_KINDS = {"error": "red", "leak": "yellow", "note": "dim"}
_COLOURS = {"leaks": "#c0392b", "maybe": "#d9a13b", "no": "#9aa5ad"}
_STYLES = {"leaks": "bold red", "maybe": "yellow", "no": "dim"}
_MARKS: dict[Protocol, tuple[str, str]] = {
    "identity": ("o", "unseen persons"),
    "corpus": ("s", "unseen corpora"),
    "test": ("d", "split train to test"),
}
_MATERIALS = {"all": "all clips", "video": "clips with a picture", "sound": "sound alone"}
_ASPECTS = {"visual": "picture fake?", "audio": "voice fake?", "sync": "out of sync?", "any": "anything fake?"}


def document(audit: Audit) -> dict[str, Any]:
    """Return the audit as the JSON document ``avfake-audit-1`` (docs/audit.md)."""
    found = asdict(audit)
    return {
        "schema": SCHEMA,
        "clips": audit.clips,
        "unreadable": [{"id": id_, "reason": reason} for id_, reason in audit.unreadable],
        "findings": found["findings"],
        "leak_level": LEAK,
        "questions": [
            {**asdict(answers), "leaks": [_leak_fields(leak) for leak in answers.leaks]} for answers in audit.answers
        ],
        "overlap": {"identities": found["identities"], "originals": found["originals"]},
        "duplicates": {"files": found["files"], "sounds": found["sounds"]},
        "balance": found["balance"],
    }


def _leak_fields(leak: Leak) -> dict[str, Any]:
    about = PROPERTIES[leak.name]
    return {**asdict(leak), "title": about.title, "unit": about.unit, "verdict": leak.verdict}


# Terminal.


def print_audit(audit: Audit, console: Console) -> None:
    """Print an audit, made for 100 columns: the findings, then a table for each question, then the balance."""
    readable = audit.clips - len(audit.unreadable)
    console.print(Text(f"{clips(audit.clips)}, {readable:,} of them readable", "bold"))
    for finding in audit.findings:
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(finding.kind, _KINDS[finding.kind]), Text(shown(finding.text)))
        console.print(Padding(line, (0, 0, 0, 2), expand=False))
    for answers in audit.answers:
        if answers.reason is None:
            _print_answers(answers, console)
    console.print()
    _print_balance(audit.balance, console)
    for id_, reason in audit.unreadable[:_MOST_UNREADABLE]:
        console.print(Text(f"not read: {shown(id_)}: {shown(reason)}", "red"))
    if len(audit.unreadable) > _MOST_UNREADABLE:
        console.print(Text(f"and {len(audit.unreadable) - _MOST_UNREADABLE:,} more (see --json)", "red"))


def _print_answers(answers: Answers, console: Console) -> None:
    words = question(answers)
    counts = f"  {answers.genuine:,} genuine, {answers.fake:,} fake, {answers.unknown:,} not known"
    console.print()
    console.print(Text.assemble((words[0].upper() + words[1:], "bold"), (counts, "dim")))
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("property", min_width=21)
    table.add_column("AUC [95 %]", no_wrap=True)
    for heading in ("person", "corpus", "test"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("where it tells most", overflow="fold")
    random = answers.metadata["random"]
    assert random is not None
    table.add_row(Text("all metadata", "bold"), *_figures(answers.metadata), "")
    for leak in answers.leaks:
        if leak.verdict != "no":
            title = Text(PROPERTIES[leak.name].title, _STYLES[leak.verdict])
            table.add_row(title, *_figures(leak.estimates), Text(shown(_where(leak, answers))))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    for kind, names in _quiet(answers):
        console.print(Padding(Text(f"{kind}: {', '.join(names)}", "dim"), (0, 0, 0, 2), expand=False))


def _figures(estimates: dict[Protocol, Estimate | None]) -> Iterator[Text]:
    random = estimates["random"]
    assert random is not None
    yield Text(shown_estimate(random), _STYLES[verdict(random)])
    for protocol in _MARKS:
        estimate = estimates[protocol]
        yield Text("-" if estimate is None else f"{estimate.auc:.2f}")


def _where(leak: Leak, answers: Answers) -> str:
    if leak.rule is None:
        return ""
    where, share = shown_rule(leak, answers)
    return f"{where}: {share}"


def _quiet(answers: Answers) -> Iterator[tuple[str, list[str]]]:
    same = [PROPERTIES[leak.name].title for leak in answers.leaks if leak.constant]
    rest = [PROPERTIES[leak.name].title for leak in answers.leaks if leak.verdict == "no" and not leak.constant]
    if rest:
        yield "no leak", rest
    if same:
        yield "the same in all clips", same


def _print_balance(balance: Balance, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column()
    for aspect in balance.labels:
        table.add_column(aspect, justify="right", no_wrap=True)
    for split in SPLITS:
        counts = [splits[split] for splits in balance.labels.values()]
        table.add_row(split, *(f"{count.genuine:,} / {count.fake:,} / {count.unknown:,}" for count in counts))
    console.print(Text("Genuine / fake / not known", "bold"))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    sizes = sorted(((sum(splits.values()), name) for name, splits in balance.methods.items()), reverse=True)
    if sizes:
        told = ", ".join(f"{shown(name)} {count:,}" for count, name in sizes[:_MOST_METHODS])
        more = f" and {len(sizes) - _MOST_METHODS:,} more" if len(sizes) > _MOST_METHODS else ""
        console.print(Text(f"Methods ({len(sizes):,}): {told}{more}"))
    anonymous = f", {clips(balance.anonymous)} without one" if balance.anonymous else ""
    console.print(Text(f"Identities: {balance.identities:,}{anonymous}. Corpora: {balance.corpora:,}."))


# Picture.


def draw(audit: Audit, path: str | os.PathLike[str]) -> None:
    """Draw the AUC of each property, one panel a question, into a PNG file. Raises ``StorageError``."""
    asked = [answers for answers in audit.answers if answers.reason is None]
    columns = max(1, min(3, len(asked)))
    rows = max(1, -(-len(asked) // columns))
    bars = max((len(_bars(answers)) for answers in asked), default=1)
    figure = Figure(figsize=(5.4 * columns, rows * (1.5 + 0.24 * bars)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, answers in zip(panels, asked, strict=False):
        _draw_answers(panel, answers)
        panel.set_xlim(min([0.3, *(_least(_bars(each)) - 0.02 for each in asked)]), 1.01)
    for panel in panels[len(asked) :]:
        panel.set_axis_off()
    if asked:
        figure.suptitle("What tells fake from genuine without looking or listening", fontsize=13)
        figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    else:
        figure.suptitle("No question could be asked: too few clips of a class")
    with whole_file(os.fspath(path)) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _bars(answers: Answers) -> list[tuple[str, dict[Protocol, Estimate | None]]]:
    told = [leak for leak in answers.leaks if not leak.constant][:_MOST_BARS]
    return [("ALL METADATA", answers.metadata), *((PROPERTIES[leak.name].title, leak.estimates) for leak in told)]


def _draw_answers(panel: Axes, answers: Answers) -> None:
    bars = _bars(answers)
    for place, (_, estimates) in enumerate(bars):
        random = estimates["random"]
        assert random is not None
        colour = _COLOURS[verdict(random)]
        panel.barh(place, random.auc - 0.5, left=0.5, height=0.62, color=colour, alpha=0.85)
        panel.plot([random.low, random.high], [place, place], color="#333333", linewidth=1.1)
        for protocol, (mark, _) in _MARKS.items():
            estimate = estimates[protocol]
            if estimate is not None:
                panel.plot(
                    estimate.auc, place, mark, markersize=4.5, markerfacecolor="white", markeredgecolor="#222222"
                )
    panel.axvline(0.5, color="black", linewidth=1)
    panel.axvline(LEAK, color="black", linewidth=0.8, linestyle=":")
    panel.set_yticks(range(len(bars)), [title for title, _ in bars], fontsize=8)
    panel.set_ylim(len(bars) - 0.4, -0.6)
    panel.set_xlabel("AUC", fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    counts = f"{answers.genuine:,} genuine, {answers.fake:,} fake"
    panel.set_title(f"{_ASPECTS[answers.aspect]} ({_MATERIALS[answers.material]})\n{counts}", fontsize=10)


def _least(bars: Sequence[tuple[str, dict[Protocol, Estimate | None]]]) -> float:
    drawn = [estimates[protocol] for _, estimates in bars for protocol in ("random", *_MARKS)]
    return min(estimate.auc for estimate in drawn if estimate is not None)


def _legend() -> list[Line2D]:
    bars = [
        Line2D([], [], linewidth=6, color=_COLOURS[word], label=text)
        for word, text in (
            ("leaks", f"leaks: surely above {LEAK}"),
            ("maybe", f"maybe: the interval holds {LEAK}"),
            ("no", "no leak"),
        )
    ]
    marks = [
        Line2D([], [], linestyle="", marker=mark, markerfacecolor="white", markeredgecolor="#222222", label=text)
        for mark, text in _MARKS.values()
    ]
    return [handle for pair in zip(bars, marks, strict=True) for handle in pair]
