"""What workers do with one row: scores, frames, a face with other voices. A tiny untrained model, clips from shards."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY, row, shards, talking

from avfake.clips import Clip
from avfake.detect import Detector
from avfake.evaluation.judged import Answer, Examiner, Place, Span, SyncAnswer, delayed, talks, with_voice
from avfake.evaluation.localisation import LAV_DF
from avfake.evaluation.material import Material
from avfake.evaluation.proposals import by_clip, of_clips
from avfake.evaluation.protocols.localisation import localised
from avfake.evaluation.table import Table
from avfake.manifest import Row
from avfake.models import AVFakeModel, Calibration, Checkpoint, CheckpointConfig
from avfake.runtimes.eager import TorchRuntime
from avfake.shards import ShardFolder, read_entries
from avfake.speech import SpeechFinder


@cache
def model() -> AVFakeModel:
    torch.manual_seed(0)
    return AVFakeModel(TINY).eval()


@pytest.fixture(autouse=True)
def all_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechFinder, "__call__", lambda self, audio: np.ones(len(audio) // 640, np.bool_))


def examiner(rate: float | None = None, **facts: Any) -> Examiner:
    config = CheckpointConfig(TINY, preprocessing=1, **facts)
    return Examiner(Detector(TorchRuntime(Checkpoint(deepcopy(model()), config)), false_alarms=rate))


@pytest.fixture
def faces(tmp_path: Path) -> list[Place]:
    """Three seconds of two people who talk."""
    clips: list[tuple[Row, Clip]] = [
        (row(name), replace(talking(seed, 75), track=0, source={"face_px": 60.0}))
        for seed, name in enumerate(("anna", "bert"))
    ]
    folder = shards(str(tmp_path / "shards"), {"test": clips})
    (shard,) = ShardFolder(folder).shards
    return [Place(entry.row, folder, ((shard.name, entry),)) for entry in read_entries(folder, shard.name)]


# ------------------------------------------------------------------------------------------------ voices


def test_delays_pad_with_edge_samples() -> None:
    voice = np.arange(1, 3 * 640 + 1, dtype=np.float32)
    later, earlier = delayed(voice, 1), delayed(voice, -1)
    assert (later[:640] == 1).all()
    assert (later[640:] == voice[:-640]).all()
    assert (earlier[-640:] == voice[-1]).all()
    assert (earlier[:-640] == voice[640:]).all()
    assert (delayed(voice, 0) == voice).all()


def test_a_voice_is_cut_or_looped_to_the_clips() -> None:
    clips = [talking(0, 10), talking(1, 20)]
    long, short = np.arange(50 * 640, dtype=np.float32), np.arange(25 * 640, dtype=np.float32)
    for voice in (long, short):
        heard = [clip.audio for clip in with_voice(clips, voice)]
        assert [len(audio) // 640 for audio in heard if audio is not None] == [10, 20]
        whole = np.concatenate([audio for audio in heard if audio is not None])
        assert (whole == np.concatenate([voice, voice])[: 30 * 640]).all()


def place(name: str, person: str | None) -> Place:
    return Place(row(name, identity=person))


def test_each_face_gets_the_voice_of_the_next_other_person() -> None:
    enough, short = Span(0, 0, 100, 50), Span(0, 0, 100, 49)
    found = [
        (place("e", None), enough),
        (place("d", None), enough),  # nobody says who these two are, so they are two
        (place("a", "anna"), enough),
        (place("b", "anna"), enough),
        (place("c", "bert"), short),
        (place("c2", "bert"), None),
    ]
    paired = [(talk.place.row.id, talk.partner.row.id) for talk in talks(found)]
    assert paired == [("a", "d"), ("b", "d"), ("d", "e"), ("e", "a")]
    assert talks(found[2:4]) == []


def test_the_face_of_a_trial_is_told_with_both_voices(faces: list[Place]) -> None:
    examine = examiner(calibration={"sync": Calibration(3.0), "fake": Calibration(3.0)})
    seen = [(each, examine.detect(each)) for each in faces]
    first, _ = talks((each, found.talking) for each, found in seen)
    assert first.span == Span(0, 0, 75, 75)
    own, foreign = examine.voices(first)
    answer = examine(first)
    assert isinstance(answer, SyncAnswer)
    assert answer.error is None
    assert own.tracks[0].sync.p_fake == answer.swap.own is not None
    assert foreign.tracks[0].sync.p_fake == answer.swap.foreign is not None
    # The clip is that face throughout, so with its own voice it is what it is; with another's, it is not.
    assert own.tracks[0] == seen[0][1].said.tracks[0]
    assert foreign.tracks[0].p_fake != own.tracks[0].p_fake
    assert foreign.tracks[0].visual == own.tracks[0].visual
    assert all(delay.moved is not None for delay in answer.delays)


# ------------------------------------------------------------------------------------------------ scores


def test_the_rate_of_the_detector_decides_over_alarms(faces: list[Place]) -> None:
    thresholds = {"audio": {0.05: 1.1, 0.1: 0.0}}
    for rate, alarm in ((None, False), (0.05, False), (0.1, True)):
        answer = examiner(rate, thresholds=thresholds)(faces[0])
        assert isinstance(answer, Answer)
        assert answer.score.alarms["audio"] is alarm


def test_nothing_is_made_of_frames_of_an_aspect_that_was_not_taught(faces: list[Place]) -> None:
    def judged(*aspects: str) -> list[Answer]:
        answers = [examiner(aspects=list(aspects))(each) for each in faces]
        return [answer for answer in answers if isinstance(answer, Answer)]

    (frames,) = judged("visual", "audio", "sync", "fake")[0].frames
    assert np.isfinite([frames.visual, frames.audio]).all()
    assert frames.evidence is not None
    (frames,) = judged("audio", "fake")[0].frames
    assert np.isnan(frames.visual).all()
    assert np.isfinite(frames.audio).all()
    assert frames.evidence is None

    blind = judged("audio")
    shown = [one for answer in blind for one in answer.frames]
    assert all(np.isnan(curves.visual).all() for _, curves in by_clip(shown))
    assert of_clips(shown, {}).keys() == {"anna", "bert"}  # from the voice
    assert of_clips([one for answer in judged("sync") for one in answer.frames], {}) == {}

    rows = [replace(faces[0].row, labels=replace(faces[0].row.labels, visual=1, audio=1), method="x"), faces[1].row]
    rows[0] = replace(rows[0], segments=replace(rows[0].segments, visual=((1.0, 2.0),), audio=((1.0, 2.0),)))
    table = Table(tuple(rows), tuple(answer.score for answer in blind))
    found = localised(Material(table, lambda: iter(shown), of_clips(shown, {})), LAV_DF, 0)
    values = {figure.question: figure for figure in found if figure.metric == "frame_auc"}
    assert (values["frames: visual"].judged, math.isnan(values["frames: visual"].value)) == (0, True)
    assert values["frames: audio"].judged == 150
    assert 0 <= values["frames: audio"].value <= 1
