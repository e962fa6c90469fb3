"""Scores on disk: journals that a killed run leaves, Parquet that comes back equal, frames in parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfake.evaluation.material import ClipFrames
from avfake.evaluation.store import (
    CLIP_SCHEMA,
    SYNC_SCHEMA,
    Frames,
    Stage,
    StoreError,
    clip_record,
    sync_record,
)
from avfake.evaluation.table import SCORES, ClipScore
from avfake.manifest import Labels, Row

OF = {"detector": "abc", "clips": "media"}
ROW = Row("a", "a.mp4", None, "toy", "test", identity="p", method="m", labels=Labels(1, 0, None))
SCORE = ClipScore("a", {"fake": 0.9, "visual": 0.8}, {"fake": 0.7}, {"fake": True}, {"audio": "no_audio"}, 40, 2.0, 1.0)


def frames(id_: str, track: int | None, start: int, length: int, evidence: bool) -> ClipFrames:
    rng = np.random.default_rng(length)
    logits = rng.normal(size=(2, length)).astype(np.float32)
    sync = rng.normal(size=(length, 31)).astype(np.float16)
    sync[0, :3] = np.nan
    flags = rng.random((2, length)) < 0.5
    return ClipFrames(id_, track, start, logits[0], logits[1], flags[0], flags[1], sync if evidence else None)


def same(a: ClipFrames, b: ClipFrames) -> bool:
    arrays = ("visual", "audio", "face_ok", "speech", "evidence")
    facts = (a.id, a.track, a.start) == (b.id, b.track, b.start)
    return facts and all(
        (getattr(a, name) is None) == (getattr(b, name) is None)
        and (
            getattr(a, name) is None or np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "evidence")
        )
        for name in arrays
    )


def test_a_journal_is_gone_on_with_and_half_a_line_is_dropped(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "set", "clips", OF)
    assert stage.known() == {}
    journal = stage.writer()
    journal.add("a", {"x": 1})
    journal.close()
    with open(stage.journal, "ab") as file:
        file.write(b'{"key": "b", "ans')  # killed while it wrote
    assert stage.known() == {"a": {"x": 1}}
    journal = stage.writer()
    journal.add("c", {"x": 3})
    journal.close()
    assert stage.known() == {"a": {"x": 1}, "c": {"x": 3}}


def test_parquet_takes_the_place_of_the_journal_and_says_what_was_said(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "clips", OF)
    stage.writer().close()
    answer = {"score": asdict(SCORE)}
    stage.finish([clip_record(ROW, SCORE, "a", answer)], CLIP_SCHEMA)
    assert not stage.journal.exists()
    assert stage.known() == {"a": json.loads(json.dumps(answer))}
    (line,) = pq.read_table(stage.file).to_pylist()
    assert [line[name] for name in SCORES] == [0.9, 0.8, None, None]
    assert [line[f"label_{name}"] for name in SCORES] == [1, 1, 0, None]
    assert (line["raw_fake"], line["alarm_fake"], line["reason_audio"]) == (0.7, True, "no_audio")
    assert (line["corpus"], line["method"], line["video"], line["audio_file"]) == ("toy", "m", "a.mp4", None)


def test_what_is_newer_in_the_journal_counts(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "sync", OF)
    swap = {"id": "a", "partner": "b", "seconds": 3.0, "own": 0.1, "foreign": None}
    stage.finish([sync_record("a", {"swap": swap, "error": None})], SYNC_SCHEMA)
    journal = stage.writer()
    journal.add("a", {"swap": swap, "error": "gone"})
    journal.close()
    assert stage.known()["a"]["error"] == "gone"


@pytest.mark.parametrize("name", ["journal", "parquet"])
def test_scores_of_another_detector_are_not_mixed_in(tmp_path: Path, name: str) -> None:
    stage = Stage(tmp_path / "set", "clips", OF)
    if name == "journal":
        stage.writer().close()
    else:
        stage.folder.mkdir()
        stage.finish([clip_record(ROW, SCORE, "a", {})], CLIP_SCHEMA)
    other = Stage(tmp_path / "set", "clips", OF | {"detector": "xyz"})
    with pytest.raises(StoreError, match=rf"clips\.{name} holds scores that were made otherwise \(detector\); choose"):
        other.known()


def test_damaged_files_are_told_in_one_sentence(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "clips", OF)
    stage.file.write_bytes(b"PAR1 no more than that")
    with pytest.raises(StoreError, match=r"clips\.parquet cannot be read .*; delete .* and evaluate again") as raised:
        stage.known()
    assert "\n" not in str(raised.value)
    stage.file.unlink()
    stage.journal.write_bytes(b"{}\nnonsense\n")
    with pytest.raises(StoreError, match=r"is damaged|made otherwise"):
        stage.known()


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 2), st.integers(0, 9), st.integers(1, 40)),
        max_size=6,
        unique_by=lambda clip: clip[:2],
    )
)
def test_frames_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, clips: list[tuple[str, int | None, int, int]]
) -> None:
    given_ = [frames(id_, track, start, length, track is not None) for id_, track, start, length in clips]
    given_.sort(key=lambda clip: clip.id)
    store = Frames(tmp_path_factory.mktemp("frames"), OF)
    store.write(1, given_[:2])
    store.write(2, given_[2:])
    parts = {clip.id: 1 if number < 2 else 2 for number, clip in reversed(list(enumerate(given_)))}
    wanted = [clip for number, clip in enumerate(given_) if parts[clip.id] == (1 if number < 2 else 2)]
    back = list(store.read(parts))
    assert len(back) == len(wanted)
    assert all(map(same, back, wanted))


def test_what_follows_on_in_one_track_is_one_run(tmp_path: Path) -> None:
    whole = frames("a", 0, 5, 30, True)
    halves = [
        ClipFrames(
            "a",
            0,
            5 + begin,
            *(getattr(whole, n)[begin : begin + 15] for n in ("visual", "audio", "face_ok", "speech", "evidence")),
        )
        for begin in (0, 15)
    ]
    store = Frames(tmp_path, OF)
    store.write(1, halves)
    (back,) = store.read({"a": 1})
    assert same(back, whole)
    assert store.next_number() == 2
    with pytest.raises(StoreError, match=r"part-00002\.parquet is missing; delete"):
        list(store.read({"a": 2}))
