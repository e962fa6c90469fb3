"""``avfake eval`` from end to end: a model or a score file on a small test set, resumed, damaged, failed."""

from __future__ import annotations

import csv
import json
import os
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from scipy.io import wavfile
from typer.testing import CliRunner

from avfake import SAMPLE_RATE, manifest
from avfake.cli import app
from avfake.clips import extract
from avfake.detect import Detector
from avfake.evaluation import judged, run, work
from avfake.evaluation.config import EvalConfig, SetConfig
from avfake.evaluation.corruptions import CLEAN, corrupt
from avfake.evaluation.judged import Examiner, Place
from avfake.evaluation.testset import EmptySetError, drawn, places
from avfake.faces import FaceError
from avfake.manifest import Labels, Row, Segments
from avfake.media import Decoder
from avfake.prepare import prepare

DEMO = Path(__file__).parents[1] / "avfake" / "data" / "demo.mp4"
runner = CliRunner()


@pytest.fixture(scope="session")
def loaded() -> Detector:
    detector = Detector.from_pretrained("mini", threads=1)
    try:
        assert detector.backend
    except FaceError as error:
        pytest.skip(str(error))
    return detector


@pytest.fixture
def detector(loaded: Detector, monkeypatch: pytest.MonkeyPatch) -> Detector:
    monkeypatch.setattr(Detector, "from_pretrained", lambda *_, **__: loaded)
    return loaded


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Two talking faces of two people, genuine and not, and twelve pieces of a voice, every other one a fake."""
    folder = tmp_path_factory.mktemp("media")
    (sound,) = [np.concatenate([clip.audio for clip in extract(Decoder(DEMO), None) if clip.audio is not None])]
    found = []
    for number in range(12):
        piece = sound[number * 1600 :][: 2 * SAMPLE_RATE]
        path = folder / f"{number}.wav"
        save(path, np.concatenate([np.zeros(800 * (number % 2), np.float32), piece]))
        label = number % 2
        found.append(
            Row(
                f"voice{number}",
                None,
                str(path),
                "toy",
                "test",
                identity=f"p{number % 4}",
                method="tts:x" if label else None,
                labels=Labels(audio=label),
            )
        )
    for name, label in (("one", 0), ("two", 0), ("three", 1)):
        path = corrupt(CLEAN, str(DEMO), None, folder / f"{name}.mkv", seconds=3.6)
        facts = {"identity": name, "method": "lipsync:y" if label else None, "labels": Labels(label, 0, 0)}
        found.append(Row(name, str(path), None, "toy", "test", **facts))  # type: ignore[arg-type]
    return found


def save(path: Path, samples: NDArray[np.float32]) -> None:
    wavfile.write(path, SAMPLE_RATE, (samples * 32767).astype(np.int16))


def config(folder: Path, rows: list[Row], **keys: str) -> list[str]:
    manifest.write(rows, folder / "m.jsonl")
    (folder / "eval.yaml").write_text(
        f"model: mini\nsets:\n  main:\n    manifest: {folder / 'm.jsonl'}\n    protocol: shared\n"
        f"resamples: 20\nshortcuts: 0\nout: {folder / 'out'}\n"
    )
    return ["eval", str(folder / "eval.yaml"), *(f"{key}={value}" for key, value in keys.items())]


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Note which rows are judged, and stop as Ctrl-C does after some."""
    judge, seen = Examiner.clip, list[str]()

    def clip(self: Examiner, place: Place) -> Any:
        if len(seen) == stop_after:
            raise KeyboardInterrupt
        seen.append(place.row.id)
        return judge(self, place)

    monkeypatch.setattr(Examiner, "clip", clip)
    return seen


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return found


def value(found: dict[str, Any], question: str, metric: str) -> Any:
    (figure,) = [f for f in found["sets"][0]["figures"] if (f["question"], f["metric"]) == (question, metric)]
    return figure


@pytest.mark.usefixtures("detector")
def test_a_model_is_measured_and_the_same_scores_give_the_same_page(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged, "DELAYS", (-4, 8))
    seen = counted(monkeypatch)
    first = runner.invoke(app, config(tmp_path, rows))
    assert first.exit_code == 0, first.output
    assert sorted(seen) == sorted(row.id for row in rows)
    found = report(tmp_path)
    assert value(found, "speech", "auc")["judged"] == 12
    assert value(found, "verdict", "auc")["total"] == 3
    assert value(found, "speech", "raw_cllr")["value"] != value(found, "speech", "cllr")["value"]
    clips = pq.read_table(tmp_path / "out" / "main" / "clips.parquet").to_pylist()
    assert [clip["id"] for clip in clips] == [row.id for row in rows]
    assert all(0 < clip["audio"] < 1 for clip in clips)
    silent = {clip["id"]: clip["silence_s"] for clip in clips}
    assert silent["voice1"] >= 0.05 > silent["voice0"]
    trimmed = pq.read_table(tmp_path / "out" / "main" / "trimmed.parquet").to_pylist()
    assert trimmed[1]["audio"] != clips[1]["audio"]
    frames = pq.read_table(tmp_path / "out" / "main" / "frames")
    assert set(frames["id"].to_pylist()) == {row.id for row in rows}
    sync = pq.read_table(tmp_path / "out" / "main" / "sync.parquet").to_pylist()
    assert [(line["id"], line["partner"]) for line in sync] == [("one", "two"), ("two", "one")]

    page, table = (tmp_path / "out" / "report.html").read_bytes(), first.stdout
    again = runner.invoke(app, config(tmp_path, rows))
    assert len(seen) == len(rows)  # nothing was judged again
    assert (tmp_path / "out" / "report.html").read_bytes() == page
    assert again.stdout == table
    assert report(tmp_path) == found


@pytest.mark.usefixtures("detector")
def test_a_run_that_is_stopped_goes_on_and_finds_the_same(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = rows[:8]
    monkeypatch.setattr(work, "PART_CLIPS", 2)
    with monkeypatch.context() as patched:
        counted(patched, stop_after=5)
        stopped = runner.invoke(app, config(tmp_path, voices))
    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.stderr
    seen = counted(monkeypatch)
    assert runner.invoke(app, config(tmp_path, voices)).exit_code == 0
    assert seen == [row.id for row in voices[4:]]  # the fifth was judged, but not yet on disk
    whole = tmp_path / "whole"
    whole.mkdir()
    assert runner.invoke(app, config(whole, voices)).exit_code == 0
    assert report(whole)["sets"] == report(tmp_path)["sets"]


@pytest.mark.usefixtures("detector")
def test_what_changed_or_failed_is_judged_again_and_nothing_else(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no sound")
    voices = [*rows[:4], replace(rows[1], id="broken", audio=str(broken))]
    result = runner.invoke(app, config(tmp_path, voices))
    assert result.exit_code == 1
    (failed,) = report(tmp_path)["sets"][0]["failed"]
    assert "broken.wav" in json.dumps(failed)
    assert value(report(tmp_path), "speech", "auc")["judged"] == 4
    assert value(report(tmp_path), "speech", "auc")["total"] == 5
    broken.write_bytes(Path(str(rows[3].audio)).read_bytes())
    seen = counted(monkeypatch)
    assert runner.invoke(app, config(tmp_path, voices)).exit_code == 0
    assert seen == ["broken"]
    os.utime(broken, (0, 0))  # as many bytes, but of another time
    assert runner.invoke(app, config(tmp_path, voices)).exit_code == 0
    assert seen == ["broken", "broken"]
    assert runner.invoke(app, config(tmp_path, voices[:2])).exit_code == 0
    assert runner.invoke(app, config(tmp_path, voices)).exit_code == 0
    assert seen == ["broken", "broken"]  # a narrower run in between has lost nothing


@pytest.mark.usefixtures("detector")
def test_corrected_labels_need_no_new_judgement(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged, "DELAYS", (-4,))
    faces = rows[-3:-1]
    assert runner.invoke(app, config(tmp_path, faces)).exit_code == 0
    seen = counted(monkeypatch)
    altered = replace(faces[1], method="lipsync:z", labels=Labels(1, 0, 0))
    assert runner.invoke(app, config(tmp_path, [faces[0], altered])).exit_code == 0
    assert seen == []
    clips = pq.read_table(tmp_path / "out" / "main" / "clips.parquet").to_pylist()
    assert [(clip["method"], clip["label_fake"]) for clip in clips] == [(None, 0), ("lipsync:z", 1)]
    assert pq.read_table(tmp_path / "out" / "main" / "sync.parquet").num_rows == 0  # a fake is no genuine voice


@pytest.mark.usefixtures("detector")
def test_a_fault_of_our_own_costs_one_clip(tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Examiner.clip

    def clip(self: Examiner, place: Place) -> Any:
        if place.row.id == "voice1":
            raise ZeroDivisionError("by nought")
        return judge(self, place)

    monkeypatch.setattr(Examiner, "clip", clip)
    assert runner.invoke(app, config(tmp_path, rows[:4])).exit_code == 1
    (failed,) = report(tmp_path)["sets"][0]["failed"]
    assert "avfake itself failed (ZeroDivisionError: by nought)" in failed["reason"]
    assert value(report(tmp_path), "speech", "auc")["judged"] == 3


@pytest.mark.usefixtures("detector")
def test_scores_of_another_model_are_not_mixed_in(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runner.invoke(app, config(tmp_path, rows[:2])).exit_code == 0
    monkeypatch.setattr(run, "fingerprint", lambda *_: "another")
    result = runner.invoke(app, config(tmp_path, rows[:2]))
    assert result.exit_code == 1
    assert "is the report on another detector, or another version of it (mini)" in " ".join(result.stderr.split())
    (tmp_path / "out" / "report.json").unlink()
    result = runner.invoke(app, config(tmp_path, rows[:2]))
    assert result.exit_code == 1
    assert "holds scores that were made otherwise (detector); choose another out" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("detector")
def test_damaged_copies_are_judged_beside_clean_ones(tmp_path: Path, rows: list[Row]) -> None:
    keys = {"corruptions.families": "[audio-noise]", "corruptions.severities": "[1,5]", "corruptions.seconds": "1.6"}
    args = config(tmp_path, rows[:6], **keys, **{"corruptions.clips": "4"})
    result = runner.invoke(app, [*args, "--corruptions"])
    assert result.exit_code == 0, result.output
    lines = pq.read_table(tmp_path / "out" / "main" / "damaged.parquet").to_pylist()
    assert sorted({line["condition"] for line in lines}) == ["audio-noise-1", "audio-noise-5", str(CLEAN)]
    assert len(lines) == 12
    assert sum(line["label_audio"] for line in lines) == 6
    found = report(tmp_path)["sets"][0]
    assert {each["severity"] for each in found["damaged"]} == {0, 1, 5}
    domains = {(each["question"], each["name"]) for each in found["domains"]}
    assert {("speech", "undamaged"), ("speech", "corrupted")} <= domains
    assert not any(question == "verdict" for question, _ in domains if _ in ("undamaged", "corrupted"))


@pytest.mark.usefixtures("detector")
def test_a_damaged_stretch_has_the_label_of_what_is_in_it(tmp_path: Path, rows: list[Row]) -> None:
    late = replace(rows[1], segments=Segments(audio=((1.5, 1.9),)))
    keys = {"corruptions.families": "[telephone]", "corruptions.severities": "[1]", "corruptions.seconds": "1.0"}
    assert runner.invoke(app, [*config(tmp_path, [rows[0], late], **keys), "--corruptions"]).exit_code == 0
    lines = pq.read_table(tmp_path / "out" / "main" / "damaged.parquet").to_pylist()
    assert {line["label_audio"] for line in lines} == {0}
    assert {line["label_fake"] for line in lines if line["id"] == "voice1"} == {None}  # it was made of a fake


@pytest.mark.parametrize(
    ("score", "family", "touched"),
    [("visual", "blur", True), ("visual", "opus", False), ("audio", "opus", True), ("audio", "noise", False),
     ("fake", "opus", True), ("sync", "blur", True), ("visual", "reencode", True), ("audio", "reencode", True)],
)  # fmt: skip
def test_the_mean_over_corruptions_is_of_those_that_touch_the_score(score: str, family: str, touched: bool) -> None:
    assert run._touches(score, family) == touched


@pytest.mark.usefixtures("detector")
def test_a_folder_is_of_one_detector_and_of_one_run_at_a_time(tmp_path: Path, rows: list[Row]) -> None:
    args = config(tmp_path, rows[:2])
    assert runner.invoke(app, args).exit_code == 0
    with FileLock(tmp_path / "out" / ".lock"):
        result = runner.invoke(app, args)
    assert result.exit_code == 1
    assert "is being evaluated into by another process: wait" in " ".join(result.stderr.split())
    (tmp_path / "theirs.csv").write_text("id,score\nvoice0,0.1\nvoice1,0.9\n")
    result = runner.invoke(app, [*args, "model=null", f"scores.file={tmp_path / 'theirs.csv'}", "scores.aspect=audio"])
    assert result.exit_code == 1
    assert "is the report on another detector, or another version of it (mini)" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("detector")
def test_somebodys_scores_give_the_figures_of_the_same_scores(tmp_path: Path, rows: list[Row]) -> None:
    voices = rows[:12]
    assert runner.invoke(app, config(tmp_path, voices)).exit_code == 0
    ours = value(report(tmp_path), "speech", "auc")
    clips = pq.read_table(tmp_path / "out" / "main" / "clips.parquet").to_pylist()
    with open(tmp_path / "theirs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "score"), *((clip["id"], 1 - clip["audio"]) for clip in clips)])
    keys = {"model": "null", "scores.file": str(tmp_path / "theirs.csv"), "scores.higher": "genuine"}
    keys |= {"out": str(tmp_path / "out2"), "scores.aspect": "audio", "scores.scale": "probability"}
    args = config(tmp_path, voices, **keys)
    assert runner.invoke(app, args).exit_code == 0
    theirs = value(json.loads((tmp_path / "out2" / "report.json").read_text()), "speech", "auc")
    assert theirs == ours
    refused = runner.invoke(app, [*args, "--corruptions"])
    assert refused.exit_code == 1
    assert "with --corruptions there must be a model" in refused.stderr


@pytest.mark.usefixtures("detector")
def test_prepared_clips_are_measured_as_their_files_are(tmp_path: Path, rows: list[Row]) -> None:
    some = [*rows[:4], rows[-1]]
    args = config(tmp_path, some)
    assert runner.invoke(app, args).exit_code == 0
    media = {clip["id"]: clip for clip in pq.read_table(tmp_path / "out" / "main" / "clips.parquet").to_pylist()}
    prepare(str(tmp_path / "m.jsonl"), str(tmp_path / "shards"), workers=0)
    keys = ["sets.main.manifest=null", f"sets.main.shards={tmp_path / 'shards'}", f"out={tmp_path / 'shards-out'}"]
    result = runner.invoke(app, [*args, *keys])
    assert result.exit_code == 0, result.output
    for clip in pq.read_table(tmp_path / "shards-out" / "main" / "clips.parquet").to_pylist():
        assert clip["audio"] == pytest.approx(media[clip["id"]]["audio"], abs=1e-3)
        if clip["video"] is not None:
            assert clip["visual"] == pytest.approx(media[clip["id"]]["visual"], abs=0.02)  # crops were JPEG once


def test_a_test_set_keeps_what_is_asked_for(tmp_path: Path, rows: list[Row]) -> None:
    manifest.write(rows, tmp_path / "m.jsonl")
    given = SetConfig(manifest=str(tmp_path / "m.jsonl"))
    assert [place.row for place in places("main", given)] == rows
    fakes = [place.row.method for place in places("main", replace(given, methods=["lipsync:y"]))]
    assert set(fakes) == {None, "lipsync:y"}
    with pytest.raises(EmptySetError, match=r"m\.jsonl: it has no row of split dev, so sets\.main has nothing"):
        places("main", replace(given, split="dev"))
    with pytest.raises(EmptySetError, match="sources other"):
        places("main", replace(given, sources=["other"]))


def test_a_draw_is_even_and_always_the_same() -> None:
    items = [f"{kind}{number}" for kind in "ab" for number in range(40 if kind == "a" else 5)]
    key: Callable[[str], str] = str
    chosen = drawn(items, 12, key, lambda item: item[0])
    assert chosen == drawn(items[::-1], 12, key, lambda item: item[0])[::-1]
    assert [sum(item[0] == kind for item in chosen) for kind in "ab"] == [7, 5]
    assert drawn(items, 100, key, lambda item: item[0]) == items


def test_domains_follow_from_what_the_model_has_learned(rows: list[Row]) -> None:
    def domains(**keys: list[str]) -> Iterator[tuple[str, ...]]:
        system = run._System("x", "", None)
        return iter(run._domain_of([rows[0], rows[1]], EvalConfig(**keys), system))  # type: ignore[arg-type]

    assert list(domains()) == [("unknown",), ("unknown",)]
    assert list(domains(corpora=["other"])) == [("cross-dataset",), ("cross-dataset",)]
    assert list(domains(corpora=["toy"], methods=["z"])) == [("in-domain", "cross-method"), ("cross-method",)]
    assert list(domains(corpora=["toy"], methods=["tts:x"])) == [("in-domain", "cross-method"), ("in-domain",)]


def test_the_tool_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tool = Path(__file__).parents[1] / "tools" / "eval.py"
    monkeypatch.setattr("sys.argv", [str(tool), "missing.yaml", "resamples=5", "--corruptions"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    assert ended.value.code == 1
    assert "missing.yaml" in capsys.readouterr().err
