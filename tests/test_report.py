from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from avfake import judging
from avfake.demo import explain
from avfake.judging import Aspect, Detection, Segment, SyncAspect, Track, Verdict
from avfake.manifest import Row
from avfake.prepare import Summary
from avfake.report import terminal
from avfake.report.manifest import print_counts
from avfake.report.prepare import Progress, print_summary
from avfake.report.terminal import (
    clock,
    most_telling,
    print_detection,
    print_reminder,
    probability,
    shown,
    verdict_line,
)

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "detection.schema.json").read_text(encoding="utf-8"))
DOCS = (Path(__file__).parents[1] / "docs" / "detection.md").read_text(encoding="utf-8")

GENUINE = Aspect("genuine", 0.1)
SILENT = Aspect("not_judged", reason="no_audio")
IN_SYNC = SyncAspect("genuine", 0.1, state="in_sync", offset_ms=40)
SHIFTED = SyncAspect("genuine", 0.1, state="shifted", offset_ms=360)
MISMATCHED = SyncAspect("fake", 0.9, segments=(Segment(0.0, 4.0, 0.9),), state="mismatched")


def face(number: int = 0, start_s: float = 0.0, end_s: float = 6.0, **aspects: Any) -> Track:
    values: dict[str, Any] = {"visual": GENUINE, "audio": GENUINE, "sync": IN_SYNC, "speaker": True, "p_fake": 0.1}
    return Track(number, start_s, end_s, 72.1, **(values | aspects))


def found(*tracks: Track, label: Any = "genuine", p_fake: float | None = 0.1, **fields: Any) -> Detection:
    sure: Any = None if label == "not_judged" else "high"
    because = fields.pop("because", ())
    return Detection(
        file=fields.pop("file", "clip.mp4"),
        model="mini",
        duration_s=6.0,
        verdict=Verdict(label, p_fake, sure, because),
        voice=fields.pop("voice", GENUINE),
        tracks=tracks,
        speech=((0.4, 5.0),),
        **fields,
    )


def printed(detection: Detection) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    print_detection(detection, console)
    print_reminder(detection.model, console)
    return console.export_text()


def test_the_verdict_comes_first_and_every_aspect_follows() -> None:
    fake = Aspect("fake", 0.93, segments=(Segment(1.2, 3.44, 0.97), Segment(64.96, 66.0, 0.91)))
    text = printed(found(face(visual=fake, sync=SHIFTED), label="fake", p_fake=0.93, because=("face 0: odd",)))
    lines = text.splitlines()
    assert lines[1].strip() == "FAKE  P(fake) 0.93 (high certainty)"
    assert re.search(r"mouth +fake +0\.93 +0:01\.2-0:03\.4 \(0\.97\), 1:05\.0-1:06\.0 \(0\.91\)", text)
    assert re.search(r"voice +genuine +0\.10", text)
    assert "+360 ms (voice late): a muxing fault, not a fake" in text
    assert "the speaker" in text
    assert "face 0: odd" in text
    assert "evidence, not proof" in text


def test_reports_fit_80_columns() -> None:
    segments = tuple(Segment(i, i + 0.5, 0.7) for i in range(0, 40, 2))
    detection = found(
        face(visual=Aspect("fake", 0.8, segments=segments)),
        label="fake",
        because=("face 0: " + "very " * 40 + "odd",),
        warnings=("the file " + "goes on and on " * 20,),
    )
    assert max(len(line) for line in printed(detection).splitlines()) <= 80
    assert "and 14 more" in " ".join(printed(detection).split())


def test_what_is_not_judged_is_told_in_plain_words() -> None:
    quiet = SyncAspect("not_judged", reason="voice_over")
    text = printed(found(face(audio=Aspect("not_judged", reason="voice_over"), sync=quiet, speaker=False)))
    assert re.search(r"sync +not judged +- +a voice-over: somebody speaks, but not these lips", text)
    nothing = found(label="not_judged", p_fake=None, voice=SILENT, because=("no_audio", "no_face"))
    assert str(verdict_line(nothing.verdict)) == "NOT JUDGED: the file has no sound, no face in view"
    assert re.search(r"voice +not judged +- +the file has no sound", printed(nothing))


def test_a_verdict_without_findings_says_so() -> None:
    assert "no sign of a fake" in printed(found(face()))


def test_of_many_faces_the_most_telling_are_shown() -> None:
    dull = [face(n, end_s=1.0, speaker=False) for n in range(20)]
    speaker, fake = face(20, end_s=2.0), face(21, end_s=0.9, visual=Aspect("fake", 0.9), speaker=False)
    shown_tracks = most_telling([*dull, speaker, fake])
    assert len(shown_tracks) == terminal.MAX_TRACKS
    assert shown_tracks[-2:] == [speaker, fake]
    assert [t.track for t in shown_tracks] == sorted(t.track for t in shown_tracks)
    assert "and 14 more faces (see --json)" in printed(found(*dull, speaker, fake))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3599.99, "1:00:00.0"), (7325.5, "2:02:05.5")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_probability_never_claims_certainty() -> None:
    assert [probability(p) for p in (0.0, 0.004, 0.01, 0.5, 0.99, 0.9999)] == [
        *("<0.01", "<0.01", "0.01", "0.50"),
        *("0.99", ">0.99"),
    ]


def test_any_file_name_can_be_printed() -> None:
    assert shown("a\udcffb\x1b[31m\nc") == "a?b?[31m?c"
    assert "[bold]clip[/bold].mp4" in printed(found(face(), file="[bold]clip[/bold].mp4"))


# ------------------------------------------------------------------------------------------- the JSON


def check(detection: Detection) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.validate(json.loads(json.dumps(detection.to_dict(), allow_nan=False)))


def test_the_schema_is_one_and_describes_detections() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    check(found(face(), face(1, sync=SHIFTED), face(2, sync=MISMATCHED, visual=Aspect("fake", 0.9))))
    check(found(label="not_judged", p_fake=None, voice=SILENT, because=("no_audio", "no_face")))


@pytest.mark.parametrize(
    "wrong",
    [
        found(face(visual=Aspect("genuine"))),
        found(face(visual=Aspect("not_judged", 0.5, reason="too_short"))),
        found(face(visual=Aspect("not_judged"))),
        found(face(visual=Aspect("not_judged", reason="tired"))),
        found(face(visual=Aspect("fake", 1.5))),
        found(face(sync=dataclasses.replace(IN_SYNC, offset_ms=None))),
        found(face(sync=dataclasses.replace(MISMATCHED, offset_ms=40))),
        found(face(sync=dataclasses.replace(MISMATCHED, status="genuine"))),
        found(label="not_judged", p_fake=0.5, because=("no_face",)),
        found(label="not_judged", p_fake=None, because=("a sentence",)),
        dataclasses.replace(found(), schema="avfake-detection-0"),
    ],
)
def test_the_schema_refuses_what_contradicts_itself(wrong: Detection) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


def test_schema_words_and_documentation_know_every_reason_and_field() -> None:
    code = Path(judging.__file__).read_text(encoding="utf-8")
    used = set(re.findall(r'reason="(\w+)"', code)) | {"no_face", "not_the_speaker"}
    known = set(SCHEMA["$defs"]["reason"]["enum"])
    assert used <= known
    assert set(terminal.REASONS) == known
    assert all(f"`{reason}`" in DOCS for reason in known)
    assert SCHEMA["properties"]["schema"]["const"] == judging.SCHEMA
    assert set(SCHEMA["properties"]) == {field.name for field in dataclasses.fields(Detection)}
    assert set(SCHEMA["$defs"]["track"]["properties"]) == {field.name for field in dataclasses.fields(Track)}


def test_the_example_in_the_documentation_is_valid() -> None:
    example = DOCS.split("## Example")[1].split("```json\n")[1].split("```")[0]
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(example))


# ------------------------------------------------------------------------------------------- the demo


def test_the_demo_explains_what_was_found() -> None:
    fake = Aspect("fake", 0.9)
    good = explain(
        found(face(visual=fake, audio=fake), label="fake"),
        found(face(visual=fake, audio=fake, sync=SHIFTED), label="fake"),
    )
    assert "Mouth, generated: noticed" in good[0]
    assert "Voice, synthetic: noticed" in good[1]
    assert "fake, which is right" in good[2]
    assert "+40 ms" in good[3]
    assert "+320 ms was put in: found." in good[3]
    assert "not called a fake" in good[4]


def test_the_demo_admits_what_was_missed() -> None:
    bad = explain(found(face()), found(face(sync=dataclasses.replace(SHIFTED, offset_ms=-200))))
    assert "this model did not notice" in bad[0]
    assert "this model missed a fake" in bad[2]
    assert "-240 ms; +320 ms was put in, so this model is wrong here" in bad[3]
    assert len(bad) == 4
    unsure = explain(found(face(sync=MISMATCHED)), found(face(sync=SHIFTED)))
    assert "as it is: this model takes them not to belong together, which is wrong" in unsure[3]
    lost = explain(found(face()), found())
    assert "delayed: no face was found" in lost[3]
    assert "No face was found" in explain(found(), found())[0]


def test_counts_and_summaries_print_names_that_look_like_markup() -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    rows = [Row(corpus, "x.mp4", None, corpus, "train") for corpus in ("clips[v2]", "[/x] c")]
    print_counts(rows, console)
    print_counts(rows[:1], console)
    with Progress(console) as told:
        print_summary(Summary(rows=1, failed=1), told, "[/x]out", console)
    text = console.export_text()
    assert "clips[v2]" in text
    assert "[/x] c" in text
    assert "2 clips\n" in text
    assert "1 clip\n" in text
    assert text.count("[/x]out") == 2
