"""What metadata tell beside a detector: of the same trials, and of clips that lost their leading silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from avfake.evaluation import shortcuts as module
from avfake.evaluation.audit import Properties, measure
from avfake.evaluation.audit.leaks import PROTOCOLS, Answers, Estimate
from avfake.evaluation.config import EvalConfig
from avfake.evaluation.figures import Question
from avfake.evaluation.result import Shortcut
from avfake.evaluation.shortcuts import shortcuts, without_leading_silence
from avfake.evaluation.table import ClipScore, Table
from avfake.manifest import Labels, Row

COUNT = 80


def sound(id_: str, silence_s: float = 0.0, speech_s: float = 4.0, **numbers: float) -> Properties:
    length = silence_s + speech_s
    common = {
        "leading_silence_s": silence_s,
        "trailing_silence_s": 0.0,
        "audio_s": length,
        "duration_s": length,
        "file_kb": 32 * length,
        "rms_dbfs": -20 + 10 * float(np.log10(speech_s / length)),
    }
    return Properties(id_, name="clip", numbers=common | numbers)


def table(judged: Sequence[bool] = (True,) * COUNT, silences: Sequence[float | None] = (0.0,) * COUNT) -> Table:
    """Clips of which every other one is a fake."""
    rows = tuple(
        Row(f"clip{n}", None, f"{n}.wav", "toy", "test", identity=f"p{n // 2}", labels=Labels(audio=n % 2))
        for n in range(COUNT)
    )
    clips = tuple(
        ClipScore(row.id, {"audio": 0.5} if known else {}, silence_s=silence_s)
        for row, known, silence_s in zip(rows, judged, silences, strict=True)
    )
    return Table(rows, clips)


def question(of: Table) -> Question:
    labels = of.labels("audio")
    return Question("speech", "audio", labels == 0, labels == 1)


class Measured:
    """Stands for the measuring of files, and notes whose were measured."""

    def __init__(self, properties: Sequence[Properties]) -> None:
        self.properties = {found.id: found for found in properties}
        self.asked: list[str] = []

    def __call__(self, rows: Sequence[Row], **_: Any) -> list[Properties]:
        self.asked += [row.id for row in rows]
        return [self.properties[row.id] for row in rows]


def found(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    of: Table,
    trimmed: Table | None,
    properties: Sequence[Properties],
    most: int = 2000,
) -> tuple[Shortcut, list[str]]:
    measured = Measured(properties)
    monkeypatch.setattr(module, "measure_all", measured)
    config = EvalConfig(shortcuts=most, resamples=20)
    (shortcut,) = shortcuts(of, trimmed, [question(of)], folder, config, lambda what, done, total: None)
    return shortcut, measured.asked


def test_metadata_and_silence_are_asked_of_the_judged_trials_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = [n < 40 for n in range(COUNT)]
    tells = [0.0 if known else float(n % 2) for n, known in enumerate(judged)]  # of the others, silence tells all
    properties = [sound(f"clip{n}", silence_s) for n, silence_s in enumerate(tells)]
    shortcut, asked = found(monkeypatch, tmp_path, table(judged, tells), None, properties)
    assert asked == [f"clip{n}" for n in range(40)]
    assert shortcut.metadata is not None
    assert shortcut.silence is not None
    assert (shortcut.metadata.auc, shortcut.metadata.clips) == (0.5, 40)
    assert (shortcut.silence.auc, shortcut.silence.clips) == (0.5, 40)
    assert shortcut.drawn is None
    of_all, _ = found(monkeypatch, tmp_path, table(silences=tells), None, properties)
    assert of_all.metadata is not None
    assert of_all.silence is not None
    assert of_all.metadata.auc > 0.7
    assert of_all.silence.auc == 0.75


def test_above_the_limit_it_is_a_draw_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = [sound(f"clip{n}") for n in range(COUNT)]
    shortcut, asked = found(monkeypatch, tmp_path, table(), None, properties, most=30)
    assert shortcut.drawn == len(asked) == 30
    assert shortcut.metadata is not None
    assert shortcut.metadata.clips == 30
    assert sum(int(id_.removeprefix("clip")) % 2 for id_ in asked) == 15
    assert shortcut.silence is not None
    assert shortcut.silence.clips == COUNT
    few, _ = found(monkeypatch, tmp_path, table(), None, properties, most=12)
    assert (few.drawn, few.metadata) == (12, None)
    assert "10 of each are needed" in few.reason
    none, _ = found(monkeypatch, tmp_path, table(), None, properties, most=0)
    assert (none.drawn, none.metadata, none.reason) == (None, None, "metadata were not measured")


def test_beside_trimmed_clips_neither_silence_nor_the_length_it_adds_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    silences = [float(n % 2 * random.uniform(0.4, 0.8)) for n in range(COUNT)]
    properties = [sound(f"clip{n}", s, random.uniform(3.9, 4.1)) for n, s in enumerate(silences)]
    of = table(silences=silences)
    shortcut, _ = found(monkeypatch, tmp_path, of, of, properties)
    assert shortcut.metadata is not None
    assert shortcut.trimmed is not None
    assert shortcut.trimmed_unseen is not None
    assert shortcut.metadata.auc > 0.95
    assert max(shortcut.trimmed.auc, shortcut.trimmed_unseen.auc) < 0.7


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "\udcff" + text,
        lambda text: "null",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"properties"', '"other"'),
        lambda text: text.replace('"numbers"', '"figures"'),
        lambda text: text[: text.index('"properties"')] + '"properties": []}',
    ],
)
def test_what_was_measured_is_kept_and_measured_again_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[str], str]
) -> None:
    monkeypatch.setattr(module, "ask", Asked())
    properties = [sound(f"clip{n}") for n in range(COUNT)]
    of = table()
    assert len(found(monkeypatch, tmp_path, of, None, properties)[1]) == COUNT
    first, asked = found(monkeypatch, tmp_path, of, None, properties)
    assert asked == []
    file = tmp_path / "properties.json"
    whole = file.read_text()
    file.write_bytes(damage(whole).encode(errors="surrogateescape"))
    again, asked = found(monkeypatch, tmp_path, of, None, properties)
    assert len(asked) == COUNT
    assert again.metadata == first.metadata
    assert file.read_text() == whole


class Asked:
    """Stands for asking classifiers, and notes of which clips they were."""

    def __init__(self) -> None:
        self.clips: list[int] = []

    def __call__(self, rows: Sequence[Row], properties: Sequence[Properties], aspect: str) -> Answers:
        self.clips.append(len(rows))
        if len(rows) < 20:
            return Answers(aspect, "all", 0, 0, 0, "too few")
        return Answers(aspect, "all", 0, 0, 0, metadata=dict.fromkeys(PROTOCOLS, Estimate(0.6, 0.5, 0.7, len(rows))))


def test_trimmed_clips_that_were_not_judged_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ask", asked := Asked())
    properties = [sound(f"clip{n}", 0.1) for n in range(COUNT)]
    of = table()
    fewer, _ = found(monkeypatch, tmp_path, of, table([n > 3 for n in range(COUNT)]), properties)
    assert fewer.metadata is not None
    assert fewer.trimmed is not None
    assert (fewer.metadata.clips, fewer.trimmed.clips) == (COUNT, COUNT - 4)
    too_few, _ = found(monkeypatch, tmp_path, of, table([n < 10 for n in range(COUNT)]), properties)
    assert too_few.metadata is not None
    assert (too_few.trimmed, too_few.trimmed_unseen) == (None, None)
    unasked, _ = found(monkeypatch, tmp_path, of, None, properties)
    assert (unasked.trimmed, unasked.trimmed_unseen) == (None, None)
    assert asked.clips == [COUNT, COUNT - 4, COUNT, 10, COUNT]


def test_without_silence_to_cut_metadata_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ask", asked := Asked())
    properties = [sound(f"clip{n}") for n in range(COUNT - 1)]
    properties.append(Properties(f"clip{COUNT - 1}", numbers={"video_s": 4.0, "duration_s": 4.0}))  # without sound
    shortcut, _ = found(monkeypatch, tmp_path, table(), table(), properties)
    assert asked.clips == [COUNT]
    assert shortcut.trimmed == shortcut.metadata is not None
    assert shortcut.trimmed_unseen == shortcut.unseen is not None
    found(monkeypatch, tmp_path, table(), table([n > 0 for n in range(COUNT)]), properties)
    assert asked.clips == [COUNT, COUNT, COUNT - 1]  # not of the same clips
    properties[0] = sound("clip0", 0.1)
    found(monkeypatch, tmp_path / "other", table(), table(), properties)
    assert asked.clips[3:] == [COUNT, COUNT]
    properties[0] = sound("clip0", video_s=4.0, start_gap_s=0.1)
    found(monkeypatch, tmp_path / "late", table(), table(), properties)
    assert asked.clips[5:] == [COUNT, COUNT]


# Properties of a trimmed clip.


def test_a_trimmed_video_is_shorter_by_the_frames_that_are_cut() -> None:
    numbers = {
        "leading_silence_s": 0.5,
        "trailing_silence_s": 0.2,
        "audio_s": 4.02,
        "video_s": 4.0,
        "audio_minus_video_s": 0.02,
        "start_gap_s": 0.0,
        "duration_s": 4.02,
        "file_kb": 402.0,
        "rms_dbfs": -20.0,
        "fps": 25.0,
    }
    trimmed = without_leading_silence(Properties("a", numbers=numbers)).numbers
    cut = 13 * 0.04  # int(25 * 0.5) + 1 frames
    assert trimmed == pytest.approx(
        {
            "trailing_silence_s": 0.2,
            "audio_s": 4.02 - cut,
            "video_s": 4.0 - cut,
            "audio_minus_video_s": 0.02,
            "start_gap_s": 0.0,
            "duration_s": 4.02 - cut,
            "file_kb": 350.0,
            "rms_dbfs": -20 + 10 * np.log10(4.02 / 3.52),
            "fps": 25.0,
        },
        abs=1e-6,
    )


def test_they_are_those_that_a_trimmed_file_has(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 4 * SAMPLE_RATE).astype(np.float32)
    samples[:12345] = 0
    cut = (int(12345 / SAMPLE_RATE * FPS) + 1) * SAMPLES_PER_FRAME
    for name, part in (("whole", samples), ("rest", samples[cut:])):
        wavfile.write(tmp_path / f"{name}.wav", SAMPLE_RATE, part)
    whole, rest = (measure(Row(name, None, str(tmp_path / f"{name}.wav"), "toy", "test")) for name in ("whole", "rest"))
    assert "leading_silence_s" in whole.numbers
    names = ("audio_s", "duration_s", "trailing_silence_s", "rms_dbfs", "file_kb")
    trimmed = without_leading_silence(whole).numbers
    assert [trimmed[name] for name in names] == pytest.approx([rest.numbers[name] for name in names], abs=0.05)


def test_sound_that_begins_late_is_cut_from_its_own_beginning() -> None:
    late = {"start_gap_s": 0.3, "video_s": 4.0, "duration_s": 4.0}
    trimmed = without_leading_silence(sound("a", 0.2, 3.5, **late)).numbers  # 13 frames, 0.22 s of them with sound
    assert [trimmed[name] for name in ("audio_s", "video_s", "start_gap_s")] == pytest.approx([3.48, 3.48, 0])
    early = {"start_gap_s": -0.3, "video_s": 4.0, "duration_s": 4.0}
    trimmed = without_leading_silence(sound("a", 0.1, 3.9, **early)).numbers  # 3 frames: no picture is there yet
    assert [trimmed[name] for name in ("audio_s", "video_s", "start_gap_s")] == pytest.approx([3.88, 4.0, -0.18])


def test_of_sound_that_is_all_silent_nothing_is_left() -> None:
    silent = sound("a", 0.0, 4.0, leading_silence_s=4.0, trailing_silence_s=4.0, rms_dbfs=-120.0)
    trimmed = without_leading_silence(replace(silent, numbers=silent.numbers | {"video_s": 5.0})).numbers
    assert (trimmed["audio_s"], trimmed["trailing_silence_s"], trimmed["rms_dbfs"]) == (0, 0, -120)
    assert [trimmed["video_s"], trimmed["duration_s"]] == pytest.approx([5 - 4.04, 5 - 4.04])


def test_without_sound_nothing_is_cut() -> None:
    mute = Properties("a", numbers={"video_s": 4.0, "duration_s": 4.0, "file_kb": 9.0})
    assert without_leading_silence(mute) == mute
    broken = Properties("a", error="it is empty; fetch it again.")
    assert without_leading_silence(broken) == broken


@given(st.floats(0, 30), st.floats(0.1, 30), st.one_of(st.none(), st.floats(0.5, 60)), st.floats(-2, 2))
def test_at_least_the_silence_and_at_most_a_frame_more_is_cut(
    silence_s: float, speech_s: float, video_s: float | None, gap: float
) -> None:
    video = {} if video_s is None else {"video_s": video_s, "start_gap_s": gap}
    given_ = sound("a", silence_s, speech_s, **video)
    trimmed = without_leading_silence(given_).numbers
    assert "leading_silence_s" not in trimmed
    cut = given_.numbers["audio_s"] - trimmed["audio_s"]
    assert min(silence_s, given_.numbers["audio_s"]) - 1e-5 <= cut <= silence_s + 0.04 + 1e-5
    assert trimmed["duration_s"] == max(trimmed["audio_s"], trimmed.get("video_s", 0))
    assert all(np.isfinite(value) for value in trimmed.values())
    if video_s is not None:
        assert 0 <= trimmed["video_s"] <= video_s + 1e-6
        assert trimmed["start_gap_s"] <= 0
