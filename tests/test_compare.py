"""Detectors compared on the same clips: who is better, by how much, and is it chance?"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from scipy.stats import binomtest

from avfake.evaluation.bootstrap import delong, interval, paired_difference
from avfake.evaluation.compare import CompareError, compare, holm
from avfake.evaluation.metrics import auc, cllr, eer, tpr_at_fpr
from avfake.evaluation.score_file import ScoreFileError
from avfake.evaluation.table import ClipScore, Scale, Table
from avfake.manifest import Labels, ManifestError, Row, write

TOOL = Path(__file__).parents[1] / "tools" / "compare.py"


def people(number: int, clips: int = 4) -> list[Row]:
    """Genuine and fake clips of each person in turn, and two whose label is not known."""
    rows = [
        Row(
            f"p{person}-{clip}", f"/data/{person}-{clip}.mp4", None, "toy", "test", identity=f"p{person}",
            method="m" if clip % 2 else None, labels=Labels(visual=clip % 2, audio=0, sync=0),
        )
        for person in range(number)
        for clip in range(clips)
    ]  # fmt: skip
    unknown = [Row(f"u{n}", f"/data/u{n}.mp4", None, "toy", "test", method="m") for n in range(2)]
    return [*rows, *unknown]


def labelled(rows: list[Row]) -> NDArray[np.int64]:
    return np.array([row.fake for row in rows if row.fake is not None])


def said(rows: list[Row], strength: float, seed: int, scale: Scale = "rank", lacking: tuple[str, ...] = ()) -> Table:
    """Scores that rise with fake by ``strength`` standard deviations."""
    random = np.random.RandomState(seed)
    values = random.normal(0, 1, len(rows)) + [strength * (row.fake or 0) for row in rows]
    clips = (
        ClipScore(row.id, {} if row.id in lacking else {"fake": float(value)})
        for row, value in zip(rows, values, strict=True)
    )
    return Table(tuple(rows), tuple(clips), scale)


def test_figures_are_those_of_metrics_and_bootstrap() -> None:
    rows = people(25)
    a, b = said(rows, 2.0, 1), said(rows, 1.0, 2)
    found = compare({"a": a, "b": b}, "fake", resamples=100)
    labels, persons = labelled(rows), a.persons()[:100]
    scores = [table.scores("fake")[:100] for table in (a, b)]
    assert [one.figure for one in found.measured] == [
        interval(auc, labels, given, persons, resamples=100) for given in scores
    ]
    (pair,) = found.pairs
    assert (pair.a, pair.b) == ("a", "b")
    assert pair.difference == paired_difference(auc, labels, *scores, persons, resamples=100)
    assert pair.delong == delong(labels, *scores)
    assert pair.p_holm == pair.difference.p
    assert pair.difference.value == found.measured[0].figure.value - found.measured[1].figure.value > 0
    assert (found.known, found.genuine, found.fake, found.persons, found.alone) == (100, 50, 50, 25, 0)


@pytest.mark.parametrize(
    ("metric", "function"),
    [("eer", eer), ("tpr5", lambda known, given: tpr_at_fpr(known, given, 0.05)), ("cllr", cllr)],
)
def test_every_metric(metric: Any, function: Callable[..., float]) -> None:
    rows = people(25)
    table = said(rows, 2.0, 1, scale="llr")
    found = compare({"a": table, "b": said(rows, 1.0, 2, scale="llr")}, "fake", metric, resamples=100)
    assert found.measured[0].figure.value == function(labelled(rows), table.scores("fake")[:100])
    assert found.pairs[0].delong is None
    assert found.pairs[0].delong_p_holm is None


def test_cllr_of_probabilities_is_that_of_their_odds_and_ranks_have_none() -> None:
    rows = people(10)
    table = said(rows, 2.0, 1, scale="llr")
    odds = (ClipScore(clip.id, {"fake": 1 / (1 + math.exp(-clip.scores["fake"]))}) for clip in table.clips)
    tables = {"llr": table, "p": Table(table.rows, tuple(odds), "probability")}
    llr, p = compare(tables, "fake", "cllr", resamples=100).measured
    assert p.figure.value == pytest.approx(llr.figure.value)
    with pytest.raises(CompareError, match="order: cllr needs probabilities"):
        compare({"order": said(rows, 2.0, 1)}, "fake", "cllr")


def test_only_clips_that_all_judge_count() -> None:
    rows = people(20)
    a, b = said(rows, 2.0, 1, lacking=("p0-0", "p0-1", "u0")), said(rows, 2.0, 2, lacking=("p0-0", "p3-1"))
    found = compare({"a": a, "b": b}, "fake", resamples=100)
    assert [one.judged for one in found.measured] == [78, 78]
    assert (found.known, found.genuine, found.fake) == (80, 39, 38)
    kept = [row for row in rows if row.id not in ("p0-0", "p0-1", "p3-1")]
    alone = Table(tuple(kept), tuple(clip for clip in a.clips if clip.id in {row.id for row in kept}))
    assert compare({"a": alone}, "fake", resamples=100).measured[0].figure == found.measured[0].figure


def test_clips_of_nobody_known_are_counted() -> None:
    rows = [Row(row.id, row.video, None, "toy", "test", method=row.method, labels=row.labels) for row in people(5)]
    found = compare({"a": said(rows, 1.0, 1)}, "fake", resamples=100)
    assert (found.persons, found.alone, found.pairs) == (0, 20, ())


def test_the_same_detector_twice_is_no_difference() -> None:
    table = said(people(20), 1.0, 1)
    (pair,) = compare({"a": table, "b": table}, "fake", resamples=100).pairs
    assert pair.difference[:4] == (0, 0, 0, 1)
    assert pair.delong is not None
    assert pair.delong.p == 1


def test_clips_of_a_person_are_no_independent_witnesses() -> None:
    # 8 persons with 20 clips each, and detectors that like or dislike persons: DeLong believes in 160 witnesses.
    rows = people(8, clips=20)
    called = bootstrapped = 0
    for seed in range(40):
        random = np.random.RandomState(seed)
        tables = {}
        for name in "ab":
            liking = {f"p{n}": random.normal(0, 2) for n in range(8)}
            clips = (
                ClipScore(row.id, {"fake": random.normal() + (row.fake or 0) * (1 + liking.get(row.identity or "", 0))})
                for row in rows
            )
            tables[name] = Table(tuple(rows), tuple(clips))
        (pair,) = compare(tables, "fake", resamples=100).pairs
        assert pair.delong is not None
        called += pair.delong.p < 0.05
        bootstrapped += pair.difference.p < 0.05
    assert binomtest(called, 40, 0.05, "greater").pvalue < 1e-6
    assert bootstrapped < called / 2


def test_nothing_to_compare_is_told() -> None:
    rows = people(3)
    genuine = tuple(row.id for row in rows if row.fake == 0)
    with pytest.raises(CompareError, match=r"Of 12 clips .* 0 genuine and 6 fake \(a 6, b 12\); both kinds"):
        compare({"a": said(rows, 1.0, 1, lacking=genuine), "b": said(rows, 1.0, 2)}, "fake")
    with pytest.raises(
        CompareError, match="Of 12 clips with a known visual label all files judge 0 genuine and 0 fake"
    ):
        compare({"a": said(rows, 1.0, 1)}, "visual")
    with pytest.raises(ValueError, match="not of the same rows"):
        compare({"a": said(rows, 1.0, 1), "b": said(rows[:-1], 1.0, 2)}, "fake")


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as R's p.adjust
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    corrected = holm([math.nan, 0.02])
    assert corrected[1] == 0.04
    assert math.isnan(corrected[0])
    assert holm([]) == []


# The tool.


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/a.csv", ("a", "runs/a.csv", "fake", "rank")),
        ("ours=a.parquet:probability", ("ours", "a.parquet", "fake", "probability")),
        ("b.txt:genuine:llr", ("b", "b.txt", "genuine", "llr")),
        ("b.txt:llr:genuine", ("b", "b.txt", "genuine", "llr")),
        ("runs/x=1/a.csv", ("a", "runs/x=1/a.csv", "fake", "rank")),
        ("x=runs/x=1/a.csv", ("x", "runs/x=1/a.csv", "fake", "rank")),
        ("peer=s3://store/a:b.csv", ("peer", "s3://store/a:b.csv", "fake", "rank")),
        ("genuine", ("genuine", "genuine", "fake", "rank")),
    ],
)
def test_a_file_on_the_command_line(tool: ModuleType, text: str, expected: tuple[str, ...]) -> None:
    file = tool.parse(text)
    assert (file.name, file.path, file.higher, file.scale) == expected


def written(folder: Path) -> list[str]:
    """A manifest and three score files, the third rising with genuine."""
    rows = people(12)
    write(rows, folder / "m.jsonl")
    for number, (name, sign) in enumerate((("good", 1), ("fair", 1), ("turned", -1))):
        table = said(rows, 2.5 - number, number)
        lines = [f"{clip.id},{sign * clip.scores['fake']}" for clip in table.clips[number:]]
        (folder / f"{name}.csv").write_text("\n".join(["id,score", *lines]))
    return [str(folder / "m.jsonl"), *(str(folder / f"{name}.csv") for name in ("good", "fair"))]


def test_the_tool(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, *files = written(tmp_path)
    files.append(f"peer={tmp_path / 'turned.csv'}:genuine")
    tool.main(manifest, files, resamples=100)
    shown = capsys.readouterr()
    assert "fair.csv says nothing of 1 of 50 clips (p0-0 for one): not judged." in shown.err
    assert "23 genuine and 23 fake clips of 12 persons, judged by all files, of 48" in shown.out
    assert "good - peer" in shown.out
    assert "fewer than 20 persons" in shown.out
    assert "worse than chance" not in shown.out
    tool.main(manifest, [str(tmp_path / "turned.csv")], resamples=100)
    assert "turned is worse than chance" in capsys.readouterr().out
    tool.main(manifest, files, resamples=100, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "avfake-compare-1"
    good, fair, peer = document["files"]
    assert good["judged"] == 48
    assert fair["judged"] == 47
    assert good["value"] > peer["value"] > 0.5
    assert f"{good['value']:.3f}" in shown.out
    pairs = [(pair["a"], pair["b"]) for pair in document["pairs"]]
    assert pairs == [("good", "fair"), ("good", "peer"), ("fair", "peer")]
    first = document["pairs"][0]
    assert first["bootstrap"]["value"] == pytest.approx(good["value"] - fair["value"])
    assert first["delong"]["p_holm"] >= first["delong"]["p"]


def test_what_is_not_defined_is_null(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [Row(f"r{n}", "v.mp4", None, "toy", "test", "m" if n else None, labels=Labels(visual=n)) for n in (0, 1)]
    write(lines, tmp_path / "m.jsonl")
    (tmp_path / "s.csv").write_text("r0;0.1\nr1;0.2\n")
    files = [f"{name}={tmp_path / 's.csv'}" for name in "ab"]
    tool.main(str(tmp_path / "m.jsonl"), files, metric="tpr5", resamples=100, as_json=True)
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document["files"][0]["value"] is None
    assert document["pairs"][0]["bootstrap"]["p_holm"] is None
    tool.main(str(tmp_path / "m.jsonl"), files, metric="tpr5", resamples=100)
    shown = capsys.readouterr().out
    assert "nan" not in shown
    assert "5 % false alarms takes 20 genuine clips that all files judge, not 1: it is not defined here." in shown


@pytest.mark.parametrize(("clips", "told"), [(19, True), (20, False)])
def test_a_dash_has_its_reason(tool: ModuleType, clips: int, told: bool) -> None:
    found = compare({"a": said(people(clips, clips=2), 1.0, 1)}, "fake", "tpr5", resamples=100)
    assert found.genuine == clips
    assert math.isnan(found.measured[0].figure.value) == told
    assert any("20 genuine clips" in warning for warning in tool._warnings(found)) == told


def test_what_the_tool_does_not_take(tool: ModuleType, tmp_path: Path) -> None:
    manifest, good, fair = written(tmp_path)
    with pytest.raises(typer.BadParameter, match="two files are called good"):
        tool.main(manifest, [good, f"{good}:probability"])
    with pytest.raises(ManifestError, match="has no clip of the dev split"):
        tool.main(manifest, [good], split="dev")
    with pytest.raises(CompareError, match="good: cllr needs probabilities"):
        tool.main(manifest, [good, fair], metric="cllr")
    (tmp_path / "f.csv").write_text("id,fake\np0-0,1\n")
    with pytest.raises(ScoreFileError, match="has no visual score but fake; name another --aspect"):
        tool.main(manifest, [str(tmp_path / "f.csv")], aspect="visual")


def test_a_fault_ends_the_tool_with_one_sentence(tmp_path: Path) -> None:
    manifest, good, _ = written(tmp_path)
    command = [sys.executable, str(TOOL), manifest, f"{good}:probability"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert "is no probability" in failed.stderr
