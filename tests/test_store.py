"""Scores on disk: journals that a killed run leaves, Parquet that comes back equal, frames in parts."""

from __future__ import annotations

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


def answer(x: int, error: str | None = None) -> dict[str, object]:
    return {"x": x, "error": error}


def test_a_journal_is_gone_on_with_and_half_a_line_is_dropped(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "set", "clips", OF)
    made_of = {key: [[5, "then"]] for key in "abc"}
    assert stage.known(made_of) == {}
    with stage.writer() as journal:
        journal.add("a", [(5, "then")], answer(1))
    with open(stage.journal, "ab") as file:
        file.write(b'{"key": "b", "ans' + b"x" * 70_000)  # killed while it wrote
    assert stage.known(made_of) == {"a": answer(1)}
    with stage.writer() as journal:
        journal.add("c", [(5, "then")], answer(3))
    assert stage.known(made_of) == {"a": answer(1), "c": answer(3)}


def test_what_is_wanted_counts_where_it_was_made_of_the_same_and_the_last_word_is_right(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "clips", OF)
    with stage.writer() as journal:
        journal.add("a", 1, answer(1))
        journal.add("b", 1, answer(2))
        journal.add("b", 1, answer(3))
        journal.add("c", 1, answer(4, "it was gone"))
    assert stage.known({"a": 2, "b": 1, "c": 1, "d": 1}) == {"b": answer(3)}
    assert stage.known({"a": 1}) == {"a": answer(1)}  # a narrower question, and nothing is lost


def test_parquet_shows_what_was_said(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "clips", OF)
    stage.show("clips", [clip_record(ROW, SCORE)], CLIP_SCHEMA)
    (line,) = pq.read_table(tmp_path / "clips.parquet").to_pylist()
    assert [line[name] for name in SCORES] == [0.9, 0.8, None, None]
    assert [line[f"label_{name}"] for name in SCORES] == [1, 1, 0, None]
    assert (line["raw_fake"], line["alarm_fake"], line["reason_audio"]) == (0.7, True, "no_audio")
    assert (line["corpus"], line["method"], line["video"], line["audio_file"]) == ("toy", "m", "a.mp4", None)
    swap = {"id": "a", "partner": "b", "seconds": 3.0, "own": 0.1, "foreign": None}
    stage.show("sync", [sync_record({"swap": swap, "delays": [], "error": "gone"})], SYNC_SCHEMA)
    assert pq.read_table(tmp_path / "sync.parquet").to_pylist() == [{**swap, "error": "gone"}]


def test_scores_of_another_detector_are_not_mixed_in(tmp_path: Path) -> None:
    with Stage(tmp_path / "set", "clips", OF).writer():
        pass
    other = Stage(tmp_path / "set", "clips", OF | {"detector": "xyz"})
    with pytest.raises(StoreError, match=r"clips\.journal holds scores that were made otherwise \(detector\); choose"):
        other.known({})
    frames = Frames(tmp_path / "set", OF)
    frames.write(1, [])
    with pytest.raises(StoreError, match=r"part-00001\.parquet holds scores that were made otherwise"):
        list(Frames(tmp_path / "set", OF | {"detector": "xyz"}).read({"a": 1}))


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"[]\n", b'{"key": "a", "made_of": 1, "answer": {}}\n'])
def test_damaged_journals_are_told_in_one_sentence(tmp_path: Path, line: bytes) -> None:
    stage = Stage(tmp_path, "clips", OF)
    with stage.writer():
        pass
    with open(stage.journal, "ab") as file:
        file.write(line)
    with pytest.raises(StoreError, match=r"clips\.journal, line 2: it is damaged; delete it, and its clips") as raised:
        stage.known({"a": 1})
    assert "\n" not in str(raised.value)


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


def test_frames_of_what_was_judged_again_are_dropped_and_those_of_others_stay(tmp_path: Path) -> None:
    store = Frames(tmp_path, OF)
    old, other, odd = (frames(id_, 0, 0, 9, True) for id_ in ("a", "b", "c\ud8ff"))  # a name that is no UTF-8
    store.write(1, [old, other, odd])
    new = frames("a", 0, 0, 12, True)
    store.write(2, [new])
    store.prune({"a": 2, odd.id: 1})
    lines = pq.read_table(tmp_path / "frames")["id"].to_pylist()
    assert [lines.count(id_) for id_ in ("a", "b")] == [12, 9]
    back = list(store.read({"a": 2, "b": 1, odd.id: 1}))
    assert [clip.id for clip in back] == ["b", odd.id, "a"]
    assert same(back[2], new)


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
