from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loader import numbered, read_numbers, row, shards

from avfake import SAMPLES_PER_FRAME
from avfake.clips import Clip, ClipError
from avfake.manifest import Labels, Row, Segments
from avfake.training import heldout
from avfake.training.batch import Batch
from avfake.training.heldout import held_out, heldout_windows
from avfake.training.loader import LoaderError, Source, file_number

Windows = list[tuple[Batch, list[Row]]]


def take(*sources: Source, held_out: int = 0, clips: int = 100, frames: int = 50, **options: Any) -> Windows:
    return list(heldout_windows(sources, held_out, clips, frames, options.pop("batch", 4), **options))


def rows_of(windows: Windows) -> list[Row]:
    return [row for _, rows in windows for row in rows]


def voice(name: str, *facts: object) -> Clip:
    return numbered(0, 3, lips=False)


def dev(name: str, label: int = 0, **facts: Any) -> Row:
    return row(name, label, split="dev", **facts)


def test_the_middle_of_a_clip_with_its_labels(tmp_path: Path) -> None:
    one = dev("part", 1, labels=Labels(1, 0, 0), segments=Segments(visual=((1.0, 2.0),)), original="g")
    ((batch, rows),) = take(
        shards(str(tmp_path), [[one]], split="dev", maker=lambda *facts: numbered(0, 90)), frames=50
    )
    seen, heard = read_numbers(batch, 0)
    assert seen.tolist() == heard.tolist() == [*range(20, 70)]
    assert (batch.frame_labels[0, :, 0].numpy() == ((seen >= 25) & (seen < 50))).all()
    assert batch.labels[0].tolist() == [1, 0, 0]
    assert batch.shift.tolist() == [0]
    assert batch.files.tolist() == [file_number(dev("g"))]
    assert batch.ids == ["part"]
    assert rows[0].segments.visual == ((pytest.approx(0.2), pytest.approx(1.2)),)
    assert rows[0].corpus == "toy"


def test_lengths_are_few_and_nothing_is_padded(tmp_path: Path) -> None:
    lengths = {"l19": 19, "l20": 20, "l39": 39, "l45": 45, "l50": 50, "l90": 90, "v8": 8, "v60": 60}
    source = shards(
        str(tmp_path),
        [[dev(name) for name in lengths]],
        split="dev",
        maker=lambda name, *facts: numbered(0, lengths[name], lips=name.startswith("l")),
    )
    windows = take(source, frames=50)
    found = {name: batch.length for batch, _ in windows for name in batch.ids}
    assert found == {"l20": 20, "l39": 20, "l45": 40, "l50": 50, "l90": 50, "v8": 50, "v60": 50}
    for batch, rows in windows:
        assert batch.ids == [row.id for row in rows]
        assert batch.lips.shape[:2] == batch.face_ok.shape
        assert batch.audio.shape == (len(batch.ids), batch.length * SAMPLES_PER_FRAME)
        for n, name in enumerate(batch.ids):
            seen, heard = read_numbers(batch, n)
            first = (lengths[name] - min(batch.length, lengths[name])) // 2
            assert heard.tolist() == [first + t % lengths[name] for t in range(batch.length)]
            assert name.startswith("v") or seen.tolist() == heard.tolist()
    assert {name: batch.length for batch, _ in take(source, frames=10) for name in batch.ids} == dict.fromkeys(
        lengths, 10
    )


def test_it_is_dev_and_the_people_who_are_held_out(tmp_path: Path) -> None:
    train = [row(f"t{n}", identity=f"i{n}") for n in range(40)]
    sources = [
        shards(str(tmp_path / "train"), [train], maker=voice),
        shards(str(tmp_path / "dev"), [[dev("d"), dev("unknown", labels=Labels())]], split="dev", maker=voice),
        shards(str(tmp_path / "test"), [[row("x", split="test")]], split="test", maker=voice),
    ]
    assert {one.id for one in rows_of(take(*sources))} == {"d"}
    found = {one.id for one in rows_of(take(*sources, held_out=5))}
    assert found == {"d"} | {one.id for one in train if held_out(one, 5)}
    assert 3 < len(found) < 20


def test_nobody_crowds_out_the_others(tmp_path: Path) -> None:
    def voices(count: int, label: int, corpus: str, person: str) -> list[Row]:
        return [
            dev(f"{corpus}-{person}-{label}-{n}", label, corpus=corpus, identity=person, labels=Labels(audio=label))
            for n in range(count)
        ]

    rows = [
        *voices(300, 0, "giant", "star"),
        *(one for n in range(5) for one in voices(2, 0, "giant", f"p{n}")),
        *voices(10, 0, "small", "p"),
        *voices(2, 0, "tiny", "p"),
        *voices(4, 1, "fakes", "p"),
    ]
    source = shards(str(tmp_path), [rows[n::7] for n in range(7)], split="dev", maker=voice)
    chosen = rows_of(take(source, clips=28, frames=5))
    assert len({one.id for one in chosen}) == 28
    assert Counter(one.corpus for one in chosen) == {"giant": 12, "small": 10, "tiny": 2, "fakes": 4}
    giant = Counter(one.identity for one in chosen if one.corpus == "giant")
    assert giant == {"star": 2, **{f"p{n}": 2 for n in range(5)}}
    fewer = rows_of(take(source, clips=4, frames=5))
    assert sorted(one.labels.audio or 0 for one in fewer) == [0, 0, 1, 1]
    assert {one.id for one in fewer} <= {one.id for one in chosen}


def test_faces_and_voices_have_the_same_share(tmp_path: Path) -> None:
    sound = shards(str(tmp_path / "a"), [[dev(f"v{n}") for n in range(30)]], split="dev", maker=voice)
    faces = shards(
        str(tmp_path / "v"), [[dev(f"l{n}") for n in range(5)]], split="dev", maker=lambda *facts: numbered(0, 20)
    )
    for clips, expected in ((8, {"v": 4, "l": 4}), (12, {"v": 7, "l": 5}), (99, {"v": 30, "l": 5})):
        chosen = rows_of(take(sound, faces, clips=clips, frames=20))
        assert Counter(one.id[0] for one in chosen) == expected


def test_the_same_windows_each_time_dealt_to_the_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [[dev(f"r{g}{n}", n % 2) for n in range(9)] for g in range(4)]
    source = shards(
        str(tmp_path), groups, split="dev", maker=lambda name, *facts: numbered(int(name[1:]), 12, lips=False)
    )
    whole = take(source, clips=22, frames=10)
    heldout._chosen.cache_clear()
    again = take(source, source, clips=22, frames=10)
    assert [rows for _, rows in again] == [rows for _, rows in whole]
    assert all(torch.equal(a.audio, b.audio) for (a, _), (b, _) in zip(whole, again, strict=True))
    assert [len(rows) for _, rows in whole] == [4, 4, 4, 4, 4, 2]
    places = [one.id for one in rows_of(whole)]
    assert places == sorted(places)  # one shard after the other
    ranks = [take(source, clips=22, frames=10, rank=rank, world=4) for rank in range(4)]
    assert [len(windows) for windows in ranks] == [2, 2, 1, 1]
    for rank, windows in enumerate(ranks):
        assert [rows for _, rows in windows] == [rows for _, rows in whole[rank::4]]


def test_one_batch_at_a_time_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shards(str(tmp_path), [[dev(f"r{n}") for n in range(9)]], split="dev", maker=voice)
    read: list[str] = []
    decode = heldout.decode_clip

    def counting(data: bytes, name: str, **options: Any) -> Clip:
        read.append(name)
        return decode(data, name, **options)

    monkeypatch.setattr(heldout, "decode_clip", counting)
    windows = heldout_windows([source], 0, 9, 3, 4)
    next(windows)
    assert len(read) == 4
    assert len(list(windows)) == 2
    assert len(read) == 9


def test_what_is_not_chosen_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [dev(f"r{n}", identity=f"p{n % 11}") for n in range(100)]
    source = shards(str(tmp_path), [rows], split="dev", maker=voice)
    kept: list[int] = []
    by_people = heldout._by_people

    def counting(places: Sequence[Any]) -> list[Any]:
        kept.append(len(places))
        return by_people(places)

    whole = by_people(list(heldout._places((source.folder,), 0, 3)))[:5]
    monkeypatch.setattr(heldout, "_by_people", counting)
    chosen = rows_of(take(source, clips=5, frames=3))
    assert {one.id for one in chosen} == {place.row.id for place in whole}
    assert max(kept) == 20


def test_what_cannot_be_validated_on_is_said(tmp_path: Path) -> None:
    source = shards(str(tmp_path), [[row("a")]], maker=voice)
    with pytest.raises(LoaderError, match="nothing to validate on"):
        take(source)
    for wrong in ({"clips": 0}, {"frames": 0}, {"batch": 0}, {"held_out": -1}, {"rank": 1}):
        with pytest.raises(LoaderError, match="cannot be"):
            take(source, **wrong)
    (tmp_path / "train-000000-x.tar").write_bytes(b"x" * 2048)
    with pytest.raises(ClipError, match=r"train-000000-x\.tar/a-000"):
        take(source, held_out=1)
