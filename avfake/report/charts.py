"""Charts of an evaluation as SVG to put into a page: the same input gives the same text, and names no address."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.stats import norm

from avfake.evaluation.figures import Figure
from avfake.evaluation.material import Delay
from avfake.evaluation.metrics import Bin
from avfake.report.evaluation import Histogram, Points, judged_share

# Okabe and Ito, "Color Universal Design" (2008): told apart by the colour-blind too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
_GENUINE, _FAKE = COLOURS[:2]
# Colours that no chart shows: they become the page's own, which depend on light and dark.
_INK, _MUTED, _LINE = "#010203", "#040506", "#070809"
_OF_THE_PAGE = {
    _INK: "currentColor",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(COLOURS)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "avfake",
    "text.parse_math": False,
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
}
_SIZE = (3.3, 2.7)
_MARGINS = (0.55, 0.45, 0.12, 0.2)  # inches to the left, below, to the right and above
_RATES = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)  # ticks of probit axes
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g}")


def roc(points: Points, auc: str) -> Markup:
    """Draw the ROC curve."""
    with _chart(f"ROC curve, AUC {auc}") as (axes, found):
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=":")
        axes.plot(points.false_positive, 1 - points.false_negative, color=_GENUINE, linewidth=1.6)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="genuine called fake, %", ylabel="fakes found, %")
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_formatter(_PERCENT)
    return found[0]


def det(points: Points, eer: str) -> Markup:
    """Draw the DET curve on probit axes (Martin et al. 1997), where normally distributed scores give a line."""
    with _chart(f"DET curve, EER {eer}") as (axes, found):
        least, most = norm.ppf(_RATES[0] / 2), norm.ppf(0.995)
        axes.plot([least, most], [least, most], color=_MUTED, linewidth=0.8, linestyle=":")
        rates = (points.false_positive, points.false_negative)
        # Rates of 0 and 1 lie at infinity: the curve is drawn to the frame.
        x, y = (norm.ppf(rate).clip(least, most) for rate in rates)
        axes.plot(x, y, color=_GENUINE, linewidth=1.6)
        axes.set(xlim=(least, most), ylim=(least, most))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(norm.ppf(_RATES).tolist()))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * norm.cdf(value):.3g}"))
        axes.set_xlabel("genuine called fake, %")
        axes.set_ylabel("fakes missed, %")
        axes.tick_params(labelsize=7.5)
    return found[0]


def histogram(spread: Histogram, threshold: float | None, scores: str) -> Markup:
    """Draw how the clips of each label are spread over the scores, and the threshold of the detector."""
    with _chart("Histogram of the scores of genuine clips and of fakes") as (axes, found):
        for counts, colour, label in ((spread.genuine, _GENUINE, "genuine"), (spread.fake, _FAKE, "fake")):
            share = counts / max(1, counts.sum())
            axes.stairs(share, spread.edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(share, spread.edges, color=colour, linewidth=1.3, label=label)
        if threshold is not None:
            axes.axvline(threshold, color=_INK, linewidth=1, linestyle="--", label=f"threshold {threshold:.2f}")
        axes.set(xlabel=scores, ylabel="share of the label's clips, %")
        axes.yaxis.set_major_formatter(_PERCENT)
        _legend_above(axes)
    return found[0]


def reliability(bins: Mapping[str, Sequence[Bin]]) -> Markup:
    """Draw reliability diagrams, before and after calibration where both are known."""
    with _chart("Reliability diagram") as (axes, found):
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=":")
        for name, mark, colour, label in (
            ("raw", "s--", _FAKE, "before calibration"),
            ("calibrated", "o-", _GENUINE, "as told"),
        ):
            if name in bins:
                x, y = [one.p_fake for one in bins[name]], [one.fake for one in bins[name]]
                axes.plot(x, y, mark, color=colour, linewidth=1.3, markersize=3.5, label=label)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="P(fake) told", ylabel="share of fakes, balanced")
        _legend_above(axes)
    return found[0]


def damage(title: str, questions: Mapping[str, Mapping[int, Figure]], colours: Mapping[str, str]) -> Markup:
    """Draw the AUC (line, with intervals) and the share judged (dotted) by severity, one colour a question."""
    with _chart(f"AUC by severity: {title}", (2.7, 2.1)) as (axes, found):
        axes.axhline(0.5, color=_MUTED, linewidth=0.8, linestyle=":")
        for place, (question, by_severity) in enumerate(questions.items()):
            severities = sorted(by_severity)
            figures = [by_severity[severity] for severity in severities]
            at = np.array(severities) + 0.06 * (place - (len(questions) - 1) / 2)
            values = np.array([figure.value for figure in figures])
            axes.plot(at, [judged_share(f) for f in figures], ":", color=colours[question], linewidth=1.1)
            axes.vlines(at, [f.low for f in figures], [f.high for f in figures], color=colours[question], linewidth=0.9)
            axes.plot(at, values, "o-", color=colours[question], linewidth=1.5, markersize=3)
        lows = [f.low if not np.isnan(f.low) else f.value for each in questions.values() for f in each.values()]
        shares = [judged_share(f) for each in questions.values() for f in each.values()]
        known = [value for value in (*lows, *shares, 0.45) if not np.isnan(value)]
        axes.set_ylim(max(-0.03, min(known) - 0.03), 1.03)
        axes.set_xlim(-0.3, 5.3)
        axes.set_xticks(range(6))
        axes.set_xlabel("severity")
    return found[0]


def delays(trials: Sequence[Delay], fps: int) -> Markup:
    """Draw measured against true delays: the area of a dot is the number of trials."""
    with _chart("Measured against true delays") as (axes, found):
        counts = Counter((trial.frames, trial.moved) for trial in trials if trial.moved is not None)
        true = [frames for frames, _ in counts]
        moved = [measured for _, measured in counts]
        ends = [min([*true, *moved], default=-1), max([*true, *moved], default=1)]
        axes.plot(ends, ends, color=_MUTED, linewidth=0.8, linestyle=":")
        most = max(counts.values(), default=1)
        axes.scatter(true, moved, s=[60 * count / most for count in counts.values()], color=_GENUINE, alpha=0.7,
                     linewidths=0)  # fmt: skip
        frame = f"frames of {1000 // fps} ms"
        axes.set(xlabel=f"voice delayed by, {frame}", ylabel=f"offset moved by, {frame}")
    return found[0]


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize=7.5, handlelength=1.2,
                columnspacing=1.0, borderpad=0.1)  # fmt: skip


@contextmanager
def _chart(alt: str, size: tuple[float, float] = _SIZE) -> Iterator[tuple[Axes, list[Markup]]]:
    """Yield axes to draw on and a list that holds the SVG afterwards."""
    found: list[Markup] = []
    with mpl.rc_context(_STYLE):
        drawing = Drawing(figsize=size)
        FigureCanvasSVG(drawing)
        left, low, right, high = _MARGINS
        width, height = size
        yield (
            drawing.add_axes((left / width, low / height, 1 - (left + right) / width, 1 - (low + high) / height)),
            found,
        )
        file = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawing.savefig(file, format="svg", metadata=nothing)
    found.append(_inline(file.getvalue().decode(), alt))


def _inline(svg: str, alt: str) -> Markup:
    """Make a page's part of an SVG file: no header, no style or names that would leak into the page, its colours."""
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", body)
    body = re.sub(r"font-family: [^;]*; ", "", body)
    for colour, named in _OF_THE_PAGE.items():
        body = body.replace(colour, named)
    body = re.sub(r"\s*\n\s*", "\n", body)
    # Other charts have parts of these names, too.
    prefix = hashlib.sha256(body.encode()).hexdigest()[:8]
    body = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(alt)}">{body.strip()}')
