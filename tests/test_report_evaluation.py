from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
import synth
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from avfake import AvfakeError
from avfake.evaluation.audit.leaks import Estimate
from avfake.evaluation.figures import Figure, Question, answer, trials
from avfake.evaluation.material import Delay
from avfake.evaluation.metrics import Bin
from avfake.evaluation.result import Damaged, Domain, Evaluation, Headline, LeftOut, SetResult, Shortcut
from avfake.evaluation.table import ClipScore, Table
from avfake.manifest import Labels, Row
from avfake.report.evaluation import (
    delayed,
    document,
    further,
    groups,
    histogram,
    number,
    operating_points,
    part_name,
    print_evaluation,
    sentences,
    with_interval,
)
from avfake.report.page import link, write_page
from avfake.report.thumbnails import thumbnail

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA = json.loads((DOCS / "evaluation.schema.json").read_text(encoding="utf-8"))
SUMMARY = ("auc", "eer", "tpr_at_5%", "cllr")
NAN = float("nan")
HOSTILE = '<script>alert("1")</script>'


def row(id_: str, fake: int, **fields: Any) -> Row:
    given: dict[str, Any] = {
        "video": f"clips/{id_}.mp4",
        "audio": None,
        "corpus": "corpus-a",
        "split": "test",
        "identity": f"person of {id_}",
        "method": "HyperLips" if fake else None,
        "labels": Labels(visual=fake),
    }
    return Row(id_, **(given | fields))


def table(count: int = 44, scale: Any = "probability", rows: list[Row] | None = None) -> Table:
    random = np.random.default_rng(3)
    rows = rows or [row(f"clip-{n:02}", n % 2, corpus=f"corpus-{'ab'[n // 2 % 2]}") for n in range(count)]
    clips = []
    for one in rows:
        p = float(random.beta(4, 2) if one.labels.visual else random.beta(2, 4))
        clips.append(ClipScore(one.id, {"visual": p}, {"visual": p**2}, {"visual": p > 0.7}, {"audio": "no_speech"}))
    clips[0] = ClipScore(rows[0].id, reasons={"visual": "no_face"})
    return Table(tuple(rows), tuple(clips), scale)


def questions(of: Table) -> list[Question]:
    labels = of.labels("visual")
    whole = Question("visual", "visual", labels == 0, labels == 1)
    made = of.where(lambda row: row.method is not None)
    parts = []
    for method in sorted({row.method for row in of.rows if row.method}):
        fake = of.where(lambda row, method=method: row.method == method)
        parts.append(Question(f"visual: {method}", "visual", ~made, fake, "visual", "method", ("auc", "eer")))
    return [whole, *parts]


def result(of: Table | None = None, resamples: int = 20, **fields: Any) -> SetResult:
    of = of or table()
    asked = questions(of)
    figures = [figure for question in asked for figure in answer(of, question, resamples)]
    found = trials(of, asked[0])
    rank = of.scale == "rank"
    summary = tuple(answer(of, replace(asked[0], metrics=SUMMARY), resamples))
    given: dict[str, Any] = {
        "name": "a-set",
        "protocol": "General",
        "says": "something",
        "cannot": "something else",
        "table": of,
        "figures": (*figures, Figure("tandem", "min_tdcf", "min t-DCF", 0.3, NAN, NAN, 9, 10, 0, 0, best=0.0)),
        "headlines": (
            Headline(
                "visual",
                "visual",
                found.rows,
                found.labels,
                found.scores,
                None if rank else found.scores,
                None if rank else of.raw("visual")[found.rows],
                None if rank else 0.7,
            ),
        ),
        "domains": tuple(Domain("visual", name, summary) for name in ("all", "cross-dataset", "trimmed")),
        "shortcuts": (
            Shortcut("visual", Estimate(0.99, 0.9, 1.0, 39), Estimate(0.7, 0.6, 0.8, 39),
                     Estimate(0.985, 0.9, 1.0, 38), Estimate(0.65, 0.6, 0.7, 38), "frame rate", 0.81,
                     Estimate(0.4, 0.3, 0.5, 39)),
        ),
    }  # fmt: skip
    return SetResult(**(given | fields))


def full() -> SetResult:
    auc = Figure("visual", "auc", "AUC", 0.8, 0.7, 0.9, 30, 40, 15, 15)
    return result(
        damaged=(
            Damaged("clean", "as they are", 0, "", (replace(auc, value=0.123),)),
            *(Damaged("jpeg", "JPEG", s, f"quality {s}", (replace(auc, value=0.8 - s / 20),)) for s in range(6)),
            Damaged("noise", "noise", 0, "undamaged", (replace(auc, value=0.777),)),
            Damaged("noise", "noise", 1, "σ 3", (replace(auc, value=NAN, low=NAN, high=NAN, note="no fakes"),)),
        ),
        left_out=(LeftOut("visual", "source", "corpus-b", (auc, replace(auc, metric="cllr", title="Cllr"))),),
        delays=(Delay("clip-02", 4, 5), Delay("clip-04", 4, 9), Delay("clip-04", -4, None)),
        failed=tuple((f"clip-{n}", "it is empty; fetch it again.") for n in range(7)),
    )


def evaluation(*sets: SetResult, **fields: Any) -> Evaluation:
    given = {
        "detector": "mini",
        "fingerprint": "3f2a",
        "trained_on": ("lrs3",),
        "settings": "a: <b>\n",
        "resamples": 20,
    }
    return Evaluation(**(given | fields), sets=sets)


def hostile() -> SetResult:
    rows = [
        row(HOSTILE, 0, video="javascript:alert(1)//.mp4"),
        row("b\u202e\x1b[31m", 1, video="javascript://x/%0aalert(1)", method='"><img src=x onerror=alert(1)>'),
        row("żółw 漢字", 0, video="clips/a b#c?.mp4", corpus="<b>&amp;"),
        row("d", 1, video="no\udcffutf8;rm -rf.mp4", method="$x^{2$"),
        row("e", 0, video="/absolute/<i>.mp4"),
        row("f", 1, video="https://example.org/f.mp4"),
        row("g", 0, video="s3://bucket/g.mp4"),
        row("h", 1, video=None, audio="gone.wav"),
    ]
    return result(table(rows=[row("first", 0), *rows]), name=HOSTILE, says=HOSTILE, failed=((HOSTILE, HOSTILE),))


def empty() -> SetResult:
    nothing = Table((), ())
    none = np.zeros(0, np.int64)
    return result(
        figures=(Figure("visual", "auc", "AUC", NAN, NAN, NAN, 0, 0, 0, 0, note="neither genuine nor fake trials"),),
        table=nothing,
        headlines=(Headline("visual", "visual", none, none, np.zeros(0)),),
        domains=(Domain("visual", "all", ()),),
        shortcuts=(Shortcut("visual", reason="metadata were not measured"),),
    )


EVALUATIONS = {
    "full": lambda: evaluation(full(), result(name="another")),
    "order": lambda: evaluation(result(table(scale="rank")), trained_on=None),
    "one label": lambda: evaluation(result(table(rows=[row(f"g{n}", 0) for n in range(5)]))),
    "hostile": lambda: evaluation(hostile(), detector=HOSTILE, fingerprint=HOSTILE, settings=HOSTILE),
    "empty": lambda: evaluation(empty(), trained_on=()),
    "no sets": lambda: evaluation(),
}


# Figures as text.


def test_numbers_are_told_as_people_read_them() -> None:
    assert number("auc", 0.83149) == "0.831"
    assert number("eer", 0.1234) == number("mean_eer", 0.1234) == "12.3 %"
    assert number("delay_error", 1234.5) == "1,234"
    assert number("auc", NAN) == "-"
    figure = Figure("q", "eer", "EER", 0.1, 0.05, 0.2, 1, 1, 1, 0)
    assert with_interval(figure) == "10.0 % [5.0, 20.0]"
    assert with_interval(replace(figure, low=NAN, high=NAN)) == "10.0 %"
    assert with_interval(None) == "-"


def test_a_part_is_called_what_it_is_beside_its_headline() -> None:
    figure = Figure("visual: HyperLips", "auc", "AUC", 0.8, NAN, NAN, 9, 9, 4, 5, part_of="visual", by="method")
    assert part_name(figure) == "HyperLips"
    assert part_name(replace(figure, question="RVRA against FVFA", part_of="fake")) == "RVRA against FVFA"
    found = result(figures=(figure, Figure("tandem", "min_tdcf", "min t-DCF", 0.3, NAN, NAN, 9, 10, 0, 0)))
    assert [(group.headline, group.by) for group in groups(found)] == [("visual", "method")]
    assert [each.question for each in further(found)] == ["tandem"]


def test_the_worst_part_comes_first_and_what_is_not_known_last() -> None:
    values = {"visual: b": 0.7, "visual: a": 0.9, "visual: c": NAN, "visual: d": 0.4}
    figures = [
        Figure(name, "auc", "AUC", value, NAN, NAN, 9, 9, 4, 5, part_of="visual") for name, value in values.items()
    ]
    (group,) = groups(result(figures=tuple(figures)))
    assert [name for name, _ in group.parts] == ["d", "b", "a", "c"]
    low = [Figure(name, "eer", "EER", value, NAN, NAN, 9, 9, 4, 5, 0.0, "", "visual") for name, value in values.items()]
    (group,) = groups(result(figures=tuple(low)))
    assert [name for name, _ in group.parts] == ["a", "b", "d", "c"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 400)), min_size=2, max_size=900))
def test_each_operating_point_is_what_its_threshold_gives(pairs: list[tuple[int, int]]) -> None:
    labels, scores = np.array([label for label, _ in pairs]), np.array([score for _, score in pairs], np.float64)
    points = operating_points(Headline("q", "visual", np.arange(len(labels)), labels, scores))
    if len(set(labels.tolist())) < 2:
        assert points is None
        return
    assert points is not None
    assert len(points.threshold) <= 200
    assert (points.false_positive[0], points.false_negative[0]) == (0, 1)
    assert (points.false_positive[-1], points.false_negative[-1]) == (1, 0)
    for false_positive, false_negative, threshold in zip(*points, strict=True):
        assert false_positive == pytest.approx((scores[labels == 0] >= threshold).mean())
        assert false_negative == pytest.approx((scores[labels == 1] < threshold).mean())
    if len(set(scores.tolist())) < 200:
        assert len(points.threshold) == len(set(scores.tolist())) + 1


def test_delays_are_counted_by_how_long_they_are() -> None:
    early, late = delayed(full().delays)
    assert (early.frames, early.judged, early.total) == (-4, 0, 1)
    assert math.isnan(early.median)
    assert (late.frames, late.judged, late.total, late.median, late.within_one) == (4, 2, 2, 7.0, 0.5)


# Three sentences.


def with_figures(
    auc: float,
    low: float,
    cllr: float,
    metadata: Estimate | None = None,
    high: float = 0.99,
    spread: tuple[float, float] = (0.01, 0.01),
) -> SetResult:
    """``spread``: by how much the interval of Cllr reaches below and above it."""
    return result(
        figures=(
            Figure("visual", "auc", "AUC", auc, low, high, 30, 40, 15, 15),
            Figure("visual", "cllr", "Cllr", cllr, cllr - spread[0], cllr + spread[1], 30, 40, 15, 15),
        ),
        shortcuts=(Shortcut("visual", metadata),),
    )


def test_the_sentences_say_what_the_figures_say() -> None:
    metadata = Estimate(0.8, 0.7, 0.9, 40)
    good, honest, sure = sentences(evaluation(with_figures(0.9, 0.85, 0.4, metadata)))
    assert good == "It tells fake from genuine with an AUC of 0.900 [0.850, 0.990] (visual, a-set)."
    assert honest == "In the one question where metadata alone could be asked, it tells more than they do."
    assert "better than none (Cllr 0.400;" in sure
    assert "25.0 % of the trials were not judged" in sure
    poor, leaning, misled = sentences(evaluation(with_figures(0.55, 0.45, 1.3, metadata)))
    assert "may be chance" in poor
    assert "AUC 0.800 against 0.550" in leaning
    assert misled.startswith("Its probabilities mislead in the one question (Cllr 1.300 [1.290, 1.310], visual, a-set;")
    weak = replace(with_figures(0.3, 0.2, 1.5, high=0.4), name="other")
    both = sentences(evaluation(with_figures(0.9, 0.85, 0.4), weak))
    assert both[0].startswith("Its best figure is an AUC of 0.900 [0.850, 0.990] (visual, a-set); ")
    assert "its weakest is 0.300 [0.200, 0.400] (visual, other), which is below chance." in both[0]
    assert "mislead in 1 of 2 questions (Cllr 1.500" in both[2]
    assert "was not measured" in both[1]
    assert "No question could be answered" in sentences(EVALUATIONS["empty"]())[0]


@pytest.mark.parametrize(
    ("auc", "low", "high", "said"),
    [
        (0.375, 0.0, 1.0, "AUC of 0.375 [0.000, 1.000] (visual, a-set), which may be chance."),
        (0.667, NAN, NAN, "AUC of 0.667 (visual, a-set), from too few persons for an interval."),
        (0.4, 0.3, 0.49, "AUC of 0.400 [0.300, 0.490] (visual, a-set), which is below chance."),
        (0.6, 0.51, 0.7, "AUC of 0.600 [0.510, 0.700] (visual, a-set)."),
    ],
)
def test_chance_is_told_by_the_interval(auc: float, low: float, high: float, said: str) -> None:
    made = with_figures(auc, low, 0.5, high=high)
    assert sentences(evaluation(made))[0].endswith(said)
    if math.isnan(low):
        assert "without an interval" in sentences(evaluation(made, resamples=0))[0]


@pytest.mark.parametrize(
    ("cllr", "spread", "said"),
    [
        (1.3, (0.1, 0.1), "mislead in the one question (Cllr 1.300 [1.200, 1.400]"),
        (1.3, (0.5, 0.5), "may be no better than none in the one question (Cllr 1.300 [0.800, 1.800]"),
        (0.9, (0.5, 0.5), "may be no better than none in the one question (Cllr 0.900 [0.400, 1.400]"),
        (1.3, (NAN, NAN), "may be no better than none in the one question (Cllr 1.300, visual"),
        (0.4, (NAN, NAN), "may be no better than none in the one question (Cllr 0.400, visual"),
        (0.4, (0.1, 0.1), "are better than none (Cllr 0.400;"),
        (1.2e305, (1e300, 1e300), "mislead in the one question (Cllr 1.2e+305 [1.2e+305, 1.2e+305]"),
    ],
)
def test_probabilities_mislead_where_the_interval_says_so(cllr: float, spread: tuple[float, float], said: str) -> None:
    assert said in sentences(evaluation(with_figures(0.9, 0.8, cllr, spread=spread)))[2]


def test_equal_figures_are_told_once_with_the_least_sure_interval() -> None:
    sets = [replace(with_figures(1.0, low, 0.5, high=1.0), name=f"set {low}") for low in (0.9, 0.4, 0.8)]
    said = sentences(evaluation(*sets))[0]
    assert said == (
        "In each of 3 questions it tells fake from genuine with an AUC of 1.000 [0.400, 1.000] (visual, set 0.4), "
        "which may be chance."
    )


def one_label(label: int, judged: bool = True, scale: Any = "probability") -> SetResult:
    of = table(rows=[row(f"g{n}", label) for n in range(5)], scale=scale)
    clips = tuple(ClipScore(clip.id, {"visual": 0.5} if judged else {}) for clip in of.clips)
    return result(replace(of, clips=clips), figures=(), headlines=(), domains=(), shortcuts=())


def test_why_probabilities_cannot_be_tested() -> None:
    def sure(*sets: SetResult) -> str:
        return sentences(evaluation(*sets))[2]

    cannot = "Its probabilities cannot be tested: "
    assert sure(one_label(1)) == f"{cannot}only fakes were judged; every clip was judged."
    assert sure(one_label(0), one_label(0)) == f"{cannot}only genuine clips were judged; every clip was judged."
    order = result(table(scale="rank"))
    assert (
        sure(order)
        == f"{cannot}its scores are but an order; 2.3 % of the trials were not judged and count in no figure."
    )
    assert f"{cannot}its scores are but an order, elsewhere only fakes were judged; " in sure(order, one_label(1))
    nothing = "no labelled clip was judged; 100.0 % of the clips were not judged and count in no figure."
    assert sure(one_label(1, judged=False)) == cannot + nothing
    assert sure() == f"{cannot}there is no test set; there was nothing to judge."


def test_few_persons_are_told_once_a_headline(tmp_path: Path) -> None:
    words = "its intervals are too narrow"
    few = table(rows=[row(f"c{n:02}", n % 2, identity=f"p{n % 2 and n % 5}" if n % 2 else None) for n in range(60)])
    made = evaluation(result(few))
    for text in (" ".join(printed(made).split()), page(made, tmp_path)[1].text):
        assert text.count(f"few persons (5): {words}") == 1
    enough = evaluation(result())
    assert words not in printed(enough)
    assert words not in page(enough, tmp_path)[1].text
    assert "few persons" not in printed(evaluation(one_label(1)))
    without = printed(evaluation(result(few, resamples=0)))
    assert words not in without
    assert "few persons (5)" in without


# Histograms.


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(allow_nan=False)), min_size=1, max_size=40))
def test_every_score_is_in_a_bin_however_large(pairs: list[tuple[int, float]]) -> None:
    labels, scores = np.array([label for label, _ in pairs]), np.array([score for _, score in pairs], np.float64)
    spread = histogram(Headline("q", "visual", np.arange(len(labels)), labels, scores))
    assert spread is not None
    assert len(spread.edges) == 21
    assert np.isfinite(spread.edges).all()
    assert (np.diff(spread.edges) > 0).all()
    assert (spread.genuine.sum(), spread.fake.sum()) == ((labels == 0).sum(), (labels == 1).sum())


def test_an_outlier_does_not_stretch_the_histogram() -> None:
    scores = np.append(np.linspace(-1, 1, 999), 1e6)
    labels = np.arange(1000) % 2
    spread = histogram(Headline("q", "visual", np.arange(1000), labels, scores))
    assert spread is not None
    assert -1 <= spread.edges[0] < -0.9
    assert 0.9 < spread.edges[-1] < 1.3


def test_huge_scores_and_figures_are_told_by_their_size(tmp_path: Path) -> None:
    of = table(scale="rank")
    signs = [1 if one.labels.visual else -1 for one in of.rows]
    clips = [ClipScore(one.id, {"visual": sign * 1e308}) for one, sign in zip(of.rows, signs, strict=True)]
    made = result(replace(of, clips=tuple(clips)))
    cllr = Figure("visual", "cllr", "Cllr", 1.23e305, NAN, NAN, 30, 40, 15, 15)
    (domain, *_) = made.domains
    domain = replace(domain, figures=(*domain.figures, cllr))
    (shortcut,) = made.shortcuts
    found = evaluation(replace(made, domains=(domain,), shortcuts=(replace(shortcut, unseen=None),)))
    text = printed(found)
    assert re.search(r"^  all .* 1\.2e\+305 +44/44", text, re.MULTILINE)
    assert all(len(line) <= 100 for line in text.splitlines())
    _, reader = page(found, tmp_path)
    assert "score 1.0e+308" in reader.text
    assert "00000000" not in reader.text
    jsonschema.validate(document(found), SCHEMA)


# JSON.


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_document_is_as_its_schema_says(name: str) -> None:
    found = document(EVALUATIONS[name]())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert json.dumps(document(EVALUATIONS[name]()), allow_nan=False) == text


def test_the_document_keeps_every_digit_and_tells_where_a_figure_belongs() -> None:
    made = full()
    (found,) = document(evaluation(made))["sets"]
    assert [each["value"] for each in found["figures"]] == [
        f.value if f.value == f.value else None for f in made.figures
    ]
    places = {(each["question"], each["part_of"], each["by"]) for each in found["figures"]}
    assert places == {("visual", "", ""), ("visual: HyperLips", "visual", "method"), ("tandem", "", "")}
    (headline,) = found["headlines"]
    assert sum(headline["histogram"]["genuine"]) == headline["genuine"] == 21
    assert sum(one["weight"] for one in headline["reliability"]["raw"]) == pytest.approx(1)
    assert set(headline["reliability"]["raw"][0]) == set(Bin._fields)
    assert found["damaged"][-1]["figures"][0]["value"] is None


def test_the_schema_notices_what_is_wrong() -> None:
    found = document(evaluation(full()))
    found["sets"][0]["figures"][0]["value"] = "0.8"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


# Terminal.


def printed(given: Evaluation, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    print_evaluation(given, console)
    return console.export_text()


def test_the_summary_has_a_line_for_each_domain_beside_what_metadata_tell() -> None:
    text = printed(evaluation(full()))
    line = r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] +\d+\.\d % +\d+\.\d % +\d\.\d{3} +43/44"
    assert re.search(rf"^  all +{line} +0\.990 +0\.700 +0\.400$", text, re.MULTILINE)
    assert re.search(rf"^  trimmed +{line} +0\.985 +0\.650 +-$", text, re.MULTILINE)
    assert re.search(rf"^  cross-dataset +{line} *$", text, re.MULTILINE)
    assert "not above metadata alone: all, trimmed" in text
    assert "strongest property alone: frame rate, AUC 0.810" in text
    assert re.search(r"JPEG +0\.800 0\.750 0\.700 0\.650 0\.600 0\.550 +75 %", text)
    assert re.search(r"noise +0\.777 +- +- +- +- +- +75 %", text)  # from its own clips on
    assert "0.123" not in text
    assert "as they are" not in text
    assert "and 2 more (see the page)" in text
    assert re.search(r"visual: source corpus-b +0\.800 0\.800 +30/40", text)


def test_a_detector_that_beats_metadata_is_not_marked() -> None:
    text = printed(evaluation(result(shortcuts=(Shortcut("visual", Estimate(0.6, 0.5, 0.7, 39)),))))
    assert "not above" not in text
    assert "0.600" in text
    assert "a draw of" not in text


def test_trimmed_clips_are_held_against_what_metadata_tell_without_silence(tmp_path: Path) -> None:
    strong, weak = Estimate(0.99, 0.9, 1.0, 39), Estimate(0.55, 0.4, 0.7, 39)
    leaning = evaluation(result(shortcuts=(Shortcut("visual", strong, trimmed=weak),)))
    assert re.search(r"not above metadata alone: all$", printed(leaning), re.MULTILINE)
    text, reader = page(leaning, tmp_path)
    assert text.count('<span class="tag">not above metadata alone: all</span>') == 1
    assert "metadata without leading silence 0.55 [0.40, 0.70]" in reader.text
    other = evaluation(result(shortcuts=(Shortcut("visual", weak, trimmed=strong),)))
    assert re.search(r"not above metadata alone: trimmed$", printed(other), re.MULTILINE)
    unasked = printed(evaluation(result(shortcuts=(Shortcut("visual", strong),))))
    assert re.search(r"not above metadata alone: all$", unasked, re.MULTILINE)
    assert re.search(r"^  trimmed .* +- +- +-$", unasked, re.MULTILINE)


def test_a_draw_is_called_a_draw(tmp_path: Path) -> None:
    made = evaluation(result(shortcuts=(Shortcut("visual", Estimate(0.6, 0.5, 0.7, 2000), drawn=2000),)))
    assert "metadata alone: asked of a draw of 2,000 clips" in printed(made)
    assert "metadata alone: asked of a draw of 2,000 clips" in page(made, tmp_path)[1].text
    assert document(made)["sets"][0]["shortcuts"][0]["drawn"] == 2000
    jsonschema.validate(document(made), SCHEMA)


def test_damaged_clips_stand_beside_the_same_ones_undamaged(tmp_path: Path) -> None:
    auc = Figure("visual", "auc", "AUC", 0.51, NAN, NAN, 300, 400, 150, 150)
    low = Figure("visual", "tpr_at_5%", "TPR at 5 % FPR", NAN, NAN, NAN, 0, 400, 0, 0,
                 note="12 genuine trials are too few for so low a rate")  # fmt: skip
    rows = tuple(Domain("visual", name, (auc, low)) for name in ("all", "undamaged", "corrupted"))
    made = evaluation(result(domains=rows))
    text, (_, reader) = printed(made), page(made, tmp_path)
    for name in ("undamaged", "corrupted"):
        assert re.search(rf"^  {name} +0\.510 +- +- +- +300/400 *$", text, re.MULTILINE)  # metadata are not asked
        note = f"no TPR at 5 % FPR of {name}: 12 genuine trials are too few for so low a rate"
        assert note in " ".join(text.split())
        assert note in reader.text
    assert "not above metadata alone: all" in text
    assert "undamaged," not in text.split("not above metadata alone")[1].splitlines()[0]
    jsonschema.validate(document(made), SCHEMA)


def test_a_dash_comes_with_its_reason() -> None:
    text = printed(EVALUATIONS["one label"]())
    assert "no AUC, EER, TPR at 5 % FPR, Cllr of all: no fake trials were judged" in text
    assert "nan" not in text.lower()


def test_of_many_parts_the_worst_are_shown() -> None:
    figures = [
        Figure(f"visual: m{n:02}", "auc", "AUC", 0.5 + n / 100, NAN, NAN, 9, 9, 4, 5, part_of="visual")
        for n in range(30)
    ]
    text = printed(evaluation(result(figures=tuple(figures))))
    assert "m11" in text
    assert "m12" not in text
    assert "and 18 more (see the page)" in text


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("width", [100, 120])
def test_no_line_is_too_wide_and_no_name_can_command_the_terminal(name: str, width: int) -> None:
    text = printed(EVALUATIONS[name](), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    assert "\u202e" not in text


# Page.


class Reader(HTMLParser):
    """Collects what an HTML page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if self.open[-1:] == ["style"] else data


def page(given: Evaluation, folder: Path) -> tuple[str, Reader]:
    write_page(given, str(folder / "page.html"))
    text = (folder / "page.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return text, reader


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_page_fetches_nothing_runs_nothing_and_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    text, reader = page(EVALUATIONS[name](), tmp_path)
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "image")
        assert not [key for key in attributes if key.startswith("on")]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert (attributes.get("xlink:href") or "#").startswith("#")
        if tag == "a":
            assert re.match(r"#set-\d+$|file:///|https://example\.org/|[\w./%-]+$", attributes["href"] or "")
    assert "url(http" not in text
    assert "@import" not in text
    assert "xmlns" not in text
    assert not re.search(r"\b(?:nan|inf|None)\b", reader.text)
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    used = re.findall(r'(?:url\(|href=")#([\w-]+)', text)
    assert set(used) <= set(ids)
    assert page(EVALUATIONS[name](), tmp_path)[0] == text


def test_a_page_tells_what_the_document_tells(tmp_path: Path) -> None:
    made = evaluation(full())
    text, reader = page(made, tmp_path)
    for sentence in sentences(made):
        assert sentence in reader.text
    for figure in made.sets[0].figures:
        assert with_interval(figure) in reader.text
    assert "not above metadata alone: all, trimmed" in reader.text
    assert text.count("<svg") == 4 + 2 + 1
    assert all(attributes["aria-label"] for tag, attributes in reader.tags if tag == "svg")
    assert "1 of 3 trials were not judged" in reader.text
    assert "as they are" not in reader.text
    assert "0.123" not in reader.text
    assert "0.777 [0.700, 0.900]" in reader.text
    assert "7 of 44 clips could not be judged" in reader.text


def test_the_clips_it_is_most_wrong_about_are_shown(tmp_path: Path) -> None:
    made = full()
    scores, labels = made.table.scores("visual"), made.table.labels("visual")
    _, reader = page(evaluation(made), tmp_path)
    judged = [(s, n) for n, s in enumerate(scores) if not math.isnan(s)]
    genuine = sorted((-score, n) for score, n in judged if labels[n] == 0)
    fakes = sorted((score, n) for score, n in judged if labels[n] == 1)
    wanted = [made.table.rows[n].id for _, n in [*genuine[:6], *fakes[:6]]]
    linked = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert [Path(address or "").stem for address in linked] == wanted
    assert f"P(fake) {-genuine[0][0]:.3f}, called fake" in reader.text
    assert "the voice not judged (nobody speaks)" in reader.text
    assert reader.text.count("there is no such file") == 12


def test_an_offset_is_told_where_the_voice_was_not_called_out_of_sync(tmp_path: Path) -> None:
    of = table(4)
    clips = [
        replace(clip, scores={"visual": 0.5, "sync": 0.5}, offset_ms=40 * (n + 1), alarms=alarms)
        for n, (clip, alarms) in enumerate(
            zip(of.clips, ({"sync": False}, {"sync": True}, {}, {"sync": False, "visual": True}), strict=True)
        )
    ]
    clips[3] = replace(clips[3], offset_ms=-160)
    _, reader = page(evaluation(result(Table(of.rows, tuple(clips)))), tmp_path)
    assert re.findall(r"voice \d+ ms (?:late|early)", reader.text) == ["voice 40 ms late", "voice 160 ms early"]


def test_where_no_single_threshold_decides_no_line_is_drawn(tmp_path: Path) -> None:
    made = result()
    assert "threshold 0.70" in page(evaluation(made), tmp_path)[0]
    (visual,) = made.headlines
    verdict = replace(made, headlines=(replace(visual, score="fake", threshold=None),))
    text, reader = page(evaluation(verdict), tmp_path)
    assert "threshold 0" not in text
    assert text.count("<svg") == 4
    assert "Of the verdict: " in reader.text
    (headline,) = document(evaluation(verdict))["sets"][0]["headlines"]
    assert headline["threshold"] is None
    jsonschema.validate(document(evaluation(verdict)), SCHEMA)


def test_very_long_names_are_shortened_and_clamped(tmp_path: Path) -> None:
    name = "x" * 3000 + ".end"
    rows = [row(name, 0, video=f"{name}.mp4"), *(row(f"c{n}", n % 2, method=name if n % 2 else None) for n in range(9))]
    made = evaluation(result(table(rows=rows), failed=((name, f"{name} is empty."),)))
    text = printed(made)
    assert "xxx…xxx" in text
    assert max(len(found) for found in re.findall(r"x+", text)) <= 300
    assert text.count("x") < 1500
    html, reader = page(made, tmp_path)
    assert name in reader.text
    (rule,) = re.findall(r"\.card p,[^{]*\{([^}]*)\}", html)
    assert "max-height" in rule
    assert "overflow-y: auto" in rule


def test_users_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    text, reader = page(EVALUATIONS["hostile"](), tmp_path)
    assert "<script" not in text
    assert "<i>" not in text
    assert HOSTILE in reader.text
    assert '"><img src=x onerror=alert(1)>' in reader.text
    assert "żółw 漢字" in reader.text
    assert "avfake detect 'no?utf8;rm -rf.mp4'" in reader.text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_links_are_what_a_browser_can_follow() -> None:
    assert link("clips/a b#c?.mp4", "out/page.html") == "../clips/a%20b%23c%3F.mp4"
    assert link("javascript:alert(1)", "page.html") == "javascript%3Aalert%281%29"
    assert link("javascript://x/%0aalert(1)", "page.html") == ""
    assert link("s3://bucket/a.mp4", "page.html") == ""
    assert link("https://example.org/a.mp4", "page.html") == "https://example.org/a.mp4"
    assert link("/clips/ö.mp4", "page.html") == "file:///clips/%C3%B6.mp4"
    assert link("no\udcff.mp4", "page.html") == "no%FF.mp4"


# Thumbnails.


def decoded(uri: str) -> Any:
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")), np.uint8), 1)


def test_a_video_shows_three_of_its_frames(tmp_path: Path) -> None:
    levels = (30, 120, 220)
    clip = synth.Video(synth.steady(25, 3.0), lambda time: np.full((96, 128, 3), levels[min(int(time), 2)], np.uint8))
    path = str(synth.write(tmp_path / "clip.mp4", clip))
    picture = decoded(thumbnail(row("clip", 0, video=path)))
    assert picture.shape == (90, 3 * 120 + 4, 3)
    means = [picture[:, place : place + 110].mean() for place in (5, 127, 249)]
    assert means == pytest.approx(levels, abs=6)
    assert len(thumbnail(row("clip", 0, video=path))) < 20_000


def test_a_wide_video_loses_its_sides_and_a_turned_one_stands_upright(tmp_path: Path) -> None:
    wide = synth.Video(synth.steady(25, 0.4), lambda time: synth.gradient((256, 64)))
    path = synth.write(tmp_path / "wide.mp4", wide)
    assert decoded(thumbnail(row("clip", 0, video=str(path)))).shape == (90, 3 * 160 + 4, 3)
    tall = synth.turn(synth.write(tmp_path / "tall.mp4", synth.Video(synth.steady(25, 0.4), wide.draw)), (0, 1, -1, 0))
    assert decoded(thumbnail(row("clip", 0, video=str(tall)))).shape == (90, 3 * 22 + 4, 3)


def test_sound_alone_shows_its_spectrogram(tmp_path: Path) -> None:
    beeps = synth.beeps(2.0, 48_000, [1.5])
    path = str(synth.write(tmp_path / "sound.wav", audio=synth.Audio(beeps, codec="pcm_s16le")))
    picture = decoded(thumbnail(row("clip", 0, video=None, audio=path)))
    assert picture.shape == (90, 320, 3)
    assert picture[:, 240:248].mean() > 5 + 5 * picture[:, :200].mean()


def test_what_cannot_be_shown_is_named(tmp_path: Path) -> None:
    with pytest.raises(AvfakeError, match="there is no such file"):
        thumbnail(row("clip", 0, video=str(tmp_path / "gone.mp4")))
    (tmp_path / "text.mp4").write_text("no film\n" * 99)
    with pytest.raises(AvfakeError, match="text, not media"):
        thumbnail(row("clip", 0, video=str(tmp_path / "text.mp4")))
    sound = str(synth.write(tmp_path / "sound.wav", audio=synth.Audio(np.zeros(4800, np.float32), codec="pcm_s16le")))
    with pytest.raises(AvfakeError, match="video"):
        thumbnail(row("clip", 0, video=sound))
