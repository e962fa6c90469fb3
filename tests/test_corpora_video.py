"""Readers of video corpora, each on a miniature tree in the official layout; no reader opens a media file."""

from __future__ import annotations

import csv
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfake.corpora import CorpusError, fakeavceleb, people, read
from avfake.manifest import Labels, Row, write


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def rows(corpus: str, root: Path) -> dict[str, Row]:
    """Return all rows by their ids, having checked that a manifest of them can be written and that the files exist."""
    found = list(read(corpus, root))
    assert write(found, root.parent / "m.jsonl") == len(found)  # refuses ids that appear twice and wrong values
    assert all(Path(path).is_file() for row in found for path in (row.video, row.audio) if path)
    return {row.id: row for row in (bare(row, corpus.partition(":")[0]) for row in found)}


def bare(row: Row, corpus: str) -> Row:
    """The row without the name of the corpus, which begins all ids, so that manifests can be joined."""
    assert row.id.startswith(f"{corpus}/")
    assert row.original is None or row.original.startswith(f"{corpus}/")
    original = row.original and row.original.removeprefix(f"{corpus}/")
    return replace(row, id=row.id.removeprefix(f"{corpus}/"), original=original)


def splits_of_people(found: Iterable[Row]) -> dict[str | None, set[str]]:
    splits: dict[str | None, set[str]] = {}
    for row in found:
        splits.setdefault(row.identity, set()).add(row.split)
    return splits


CORPORA = {
    "ff++": r"is not FaceForensics\+\+: expected ROOT/\*_sequences/\*/\*/videos",
    "ff++:c40": r"expected ROOT/\*_sequences/\*/c40/videos",
    "dfdc": r"expected ROOT/dfdc_train_part_\*/metadata.json, ROOT/dataset.json, ROOT/labels.csv",
    "dfdc:full": r"is not DFDC \(full\): expected ROOT/dfdc_train_part_\*/metadata.json",
    "celeb-df": r"is not Celeb-DF \(v2\): expected ROOT/Celeb-real, .*, ROOT/List_of_testing_videos.txt",
    "fakeavceleb": r"is not FakeAVCeleb v1.2: expected ROOT/meta_data.csv, ROOT/RealVideo-RealAudio",
    "kodf": r"is not KoDF with its metadata .*: expected ROOT/\*\*/원본영상_\*_메타데이터.csv",
    "deepfaketimit": r"is not DeepfakeTIMIT: expected ROOT/\*_quality/\*/\*.avi",
    "deepfaketimit:lower": r"expected ROOT/lower_quality/\*/\*.avi",
    "polyglotfake": r"is not PolyGlotFake: expected ROOT/json_file/real_json_file/all_real_video.json",
}


@pytest.mark.parametrize(("corpus", "told"), CORPORA.items())
def test_a_wrong_root_is_told_before_the_first_row(tmp_path: Path, corpus: str, told: str) -> None:
    touch(tmp_path, "readme.txt", "videos/a.mp4")
    with pytest.raises(CorpusError, match=told + r".*, found readme.txt, videos/\."):
        read(corpus, tmp_path)
    with pytest.raises(CorpusError, match="there is no such folder"):
        read(corpus, tmp_path / "nowhere")


# ----------------------------------------------------------------------------------------------- splits by person


@given(st.sets(st.text(min_size=1, max_size=4), max_size=60))
def test_people_get_one_split_each_in_the_stated_shares(names: set[str]) -> None:
    splits = people.splits(names)
    assert splits.keys() == names
    assert splits == people.splits(sorted(names, reverse=True))
    count = Counter(splits.values())
    assert abs(count["train"] - 0.7 * len(names)) <= 0.5 + 1e-9
    assert abs(count["test"] - 0.2 * len(names)) <= 0.5 + 1e-9


@given(st.integers())
def test_a_persons_own_hash_gives_the_stated_shares(seed: int) -> None:
    names = [f"{seed}/{number}" for number in range(300)]
    count = Counter(map(people.split_of, names))
    assert 165 <= count["train"] <= 250  # within six standard deviations
    assert 1 <= count["dev"] <= 61
    assert 18 <= count["test"] <= 102


def test_people_are_not_dealt_in_the_order_of_their_names() -> None:
    names = [f"f{number}" for number in range(50)] + [f"m{number}" for number in range(50)]
    test = [name for name, split in people.splits(names).items() if split == "test"]
    assert 4 <= sum(name.startswith("m") for name in test) <= 16  # women sort before men in VidTIMIT's names


# ----------------------------------------------------------------------------------------------- FaceForensics++

PAIRS = {"train": [["071", "054"]], "val": [["720", "672"], ["939", "115"]], "test": [["953", "974"]]}


def faceforensics(root: Path, folder: str = "splits") -> Path:
    for name, pairs in PAIRS.items():
        put(root / folder / f"{name}.json", pairs)
        for a, b in pairs:
            for compression in ("c23", "c40"):
                touch(root, *(f"original_sequences/youtube/{compression}/videos/{video}.mp4" for video in (a, b)))
                for method in ("Deepfakes", "FaceShifter"):
                    fakes = root / "manipulated_sequences" / method / compression / "videos"
                    touch(fakes, f"{a}_{b}.mp4", f"{b}_{a}.mp4")
    touch(root / "original_sequences/actors/c23/videos", "01__kitchen_pan.mp4", "02__exit_phone_room.mp4")
    touch(root / "manipulated_sequences/DeepFakeDetection/c23/videos", "01_02__kitchen_pan__YVGY8LOK.mp4")
    touch(root / "manipulated_sequences/DeepFakeDetection/masks/videos", "01_02__kitchen_pan__YVGY8LOK.mp4")
    return root


def test_faceforensics_rows_in_full(tmp_path: Path) -> None:
    root = faceforensics(tmp_path / "ff")
    found = rows("ff++:c23", root)
    assert found["c23/youtube/720"] == Row(
        id="c23/youtube/720",
        video=str(root / "original_sequences/youtube/c23/videos/720.mp4"),
        audio=None,
        corpus="FaceForensics++/c23",
        split="dev",
        identity="youtube/720",
        labels=Labels(visual=0),
    )
    assert found["c23/Deepfakes/720_672"] == Row(
        id="c23/Deepfakes/720_672",
        video=str(root / "manipulated_sequences/Deepfakes/c23/videos/720_672.mp4"),
        audio=None,
        corpus="FaceForensics++/c23",
        split="dev",
        identity="youtube/720",
        method="Deepfakes",
        original="c23/youtube/720",
        labels=Labels(visual=1),
    )
    assert found["c23/DeepFakeDetection/01_02__kitchen_pan__YVGY8LOK"] == Row(
        id="c23/DeepFakeDetection/01_02__kitchen_pan__YVGY8LOK",
        video=str(root / "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__kitchen_pan__YVGY8LOK.mp4"),
        audio=None,
        corpus="DFD/c23",
        split="test",
        identity="actors/01",
        method="DeepFakeDetection",
        original="c23/actors/01__kitchen_pan",
        labels=Labels(visual=1),
    )
    assert found["c23/actors/02__exit_phone_room"].labels == Labels(visual=0)
    assert len(found) == 8 + 2 * 8 + 3
    assert {row.original for row in found.values()} - {None} <= found.keys()


def test_faceforensics_splits_are_the_official_ones_and_keep_pairs_together(tmp_path: Path) -> None:
    found = rows("ff++:c23", faceforensics(tmp_path / "ff"))
    for name, pairs in PAIRS.items():
        split = {"val": "dev"}.get(name, name)
        for a, b in pairs:
            ids = [f"youtube/{a}", f"youtube/{b}", f"Deepfakes/{a}_{b}", f"Deepfakes/{b}_{a}", f"FaceShifter/{b}_{a}"]
            assert {found[f"c23/{clip}"].split for clip in ids} == {split}
    assert {row.split for row in found.values() if row.corpus == "DFD/c23"} == {"test"}
    assert all(len(splits) == 1 for splits in splits_of_people(found.values()).values())


def test_faceforensics_without_a_variant_is_every_compression_there(tmp_path: Path) -> None:
    found = rows("ff++", faceforensics(tmp_path / "ff"))
    corpora = Counter(row.corpus for row in found.values())
    assert corpora == {"FaceForensics++/c23": 24, "FaceForensics++/c40": 24, "DFD/c23": 3}


@pytest.mark.parametrize("folder", ["splits", "dataset/splits", "."])
def test_faceforensics_splits_may_lie_where_people_put_them(tmp_path: Path, folder: str) -> None:
    assert len(rows("ff++:c40", faceforensics(tmp_path / "ff", folder))) == 24


def test_faceforensics_without_its_splits_says_where_to_get_them(tmp_path: Path) -> None:
    root = faceforensics(tmp_path / "ff")
    (root / "splits/val.json").unlink()
    with pytest.raises(CorpusError, match=r"lacks the official splits: put .* from https://github.com/ondyari/"):
        read("ff++", root)


def test_dfd_alone_needs_no_splits(tmp_path: Path) -> None:
    touch(tmp_path / "dfd/original_sequences/actors/raw/videos", "01__kitchen_pan.mp4")
    assert rows("ff++:raw", tmp_path / "dfd").keys() == {"raw/actors/01__kitchen_pan"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": 1}, "must be a list of pairs"),
        ([["071"]], r"\['071'\] is not a pair"),
        ([["071", 54]], "is not a pair of ids"),
        ([["071", "720"]], r"val\.json: video 720 is already in .*train\.json"),
        ("[", "cannot be read as JSON"),
    ],
)
def test_faceforensics_wrong_splits_are_told(tmp_path: Path, content: Any, told: str) -> None:
    root = faceforensics(tmp_path / "ff")
    put(root / "splits/train.json", content)
    with pytest.raises(CorpusError, match=told) as error:
        read("ff++", root)
    assert str(root / "splits") in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "original_sequences/actors/c23/videos/1.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__pan.mp4",
    ],
)
def test_dfd_wrong_names_are_told(tmp_path: Path, name: str) -> None:
    root = faceforensics(tmp_path / "ff")
    touch(root, name)
    with pytest.raises(CorpusError, match=f"{root / name}: a .* of DFD is named"):
        list(read("ff++", root))


def test_faceforensics_says_what_is_missing_and_what_is_strange(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = faceforensics(tmp_path / "ff")
    folder = root / "manipulated_sequences/Deepfakes/c40/videos"
    (folder / "071_054.mp4").unlink()
    touch(folder, "071_054_copy.mp4")
    with caplog.at_level(logging.WARNING):
        found = rows("ff++:c40", root)
    assert len(found) == 23
    assert "1 of 24 clips are not there" in caplog.text
    assert "1 files" in caplog.text
    assert "071_054_copy.mp4 for one) are in no split" in caplog.text


# ----------------------------------------------------------------------------------------------------------- DFDC

PART = {
    "aaa.mp4": {"label": "REAL", "split": "train"},
    "bbb.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"},
}


def dfdc(root: Path) -> Path:
    for number in (0, 34, 35, 39, 40, 49):
        folder = f"dfdc_train_part_{number}"
        metadata = {f"{number}{name}": dict(record) for name, record in PART.items()}
        metadata[f"{number}bbb.mp4"]["original"] = f"{number}aaa.mp4"
        put(root / folder / "metadata.json", metadata)
        touch(root / folder, *metadata)
    return root


def preview(root: Path) -> Path:
    records: dict[str, dict[str, Any]] = {
        "original_videos/643049/643049_A_001.mp4": {"label": "real", "set": "train", "target_id": 643049},
        "method_B/1260311/1260311_C/1255229_1260311_C_001.mp4": {
            "label": "fake",
            "set": "test",
            "target_id": "1255229",
            "swapped_id": "1260311",
        },
    }
    put(root / "dataset.json", {name: {"augmentations": []} | record for name, record in records.items()})
    touch(root, *records)
    return root


def dfdc_test(root: Path) -> Path:
    put(root / "labels.csv", "\ufefffilename,label\nccc.mp4,0\nddd.mp4,1\n")
    touch(root / "test", "ccc.mp4", "ddd.mp4")
    return root


def test_dfdc_full_rows_and_splits(tmp_path: Path) -> None:
    root = dfdc(tmp_path / "dfdc")
    found = rows("dfdc:full", root)
    assert found["dfdc_train_part_35/35bbb"] == Row(
        id="dfdc_train_part_35/35bbb",
        video=str(root / "dfdc_train_part_35/35bbb.mp4"),
        audio=None,
        corpus="DFDC",
        split="dev",
        method="DFDC",
        original="dfdc_train_part_35/35aaa",
        labels=Labels(visual=1),
    )
    assert found["dfdc_train_part_0/0aaa"].labels == Labels(visual=0, audio=0, sync=0)
    assert found["dfdc_train_part_0/0aaa"].method is None
    splits = {int(row_id.split("/")[0].rsplit("_", 1)[1]): row.split for row_id, row in found.items()}
    assert splits == {0: "train", 34: "train", 35: "dev", 39: "dev", 40: "test", 49: "test"}


def test_dfdc_preview_rows(tmp_path: Path) -> None:
    root = preview(tmp_path / "preview")
    fake, genuine = rows("dfdc", root).values()
    assert fake == Row(
        id="preview/method_B/1260311/1260311_C/1255229_1260311_C_001",
        video=str(root / "method_B/1260311/1260311_C/1255229_1260311_C_001.mp4"),
        audio=None,
        corpus="DFDC-preview",
        split="test",
        identity="preview/1255229",
        method="method_B",
        labels=Labels(visual=1),
    )
    assert (genuine.labels, genuine.identity, genuine.split) == (Labels(0, 0, 0), "preview/643049", "train")


def test_dfdc_test_labels_are_one_for_fake(tmp_path: Path) -> None:
    root = dfdc_test(tmp_path / "test")
    found = rows("dfdc:test", root)
    assert found["test/ddd"].labels == Labels(visual=1)
    assert found["test/ddd"].video == str(root / "test/ddd.mp4")
    assert found["test/ccc"].labels == Labels(visual=0, audio=0, sync=0)
    assert {row.split for row in found.values()} == {"test"}


def test_dfdc_without_a_variant_is_all_that_is_there(tmp_path: Path) -> None:
    found = rows("dfdc", dfdc_test(preview(dfdc(tmp_path / "dfdc"))))
    assert Counter(row.corpus for row in found.values()) == {"DFDC": 12, "DFDC-preview": 2, "DFDC-test": 2}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("dfdc_train_part_0/metadata.json", {"a.mp4": {"label": "Fake"}}, "a.mp4: label must be one of REAL, FAKE"),
        ("dfdc_train_part_0/metadata.json", {"a.mp4": {}}, "a.mp4: the field 'label' is missing"),
        ("dfdc_train_part_0/metadata.json", [], "must be an object"),
        ("dfdc_train_part_50/metadata.json", {}, "dfdc_train_part_0 to dfdc_train_part_49"),
        ("dataset.json", {"a/b.mp4": {"label": "fake", "set": "train", "target_id": 1}}, "method_A, method_B, not 'a'"),
        ("dataset.json", {"a/b.mp4": {"label": "real", "set": "dev"}}, "set must be one of train, test"),
        ("labels.csv", "filename,label\na.mp4,FAKE\n", "line 2: label must be one of 0, 1"),
    ],
)
def test_dfdc_wrong_values_are_told(tmp_path: Path, name: str, content: Any, told: str) -> None:
    put(tmp_path / name, content)
    with pytest.raises(CorpusError, match=told) as error:
        list(read("dfdc", tmp_path))
    assert str((tmp_path / name).parent) in str(error.value)


def test_dfdc_parts_without_their_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = dfdc(tmp_path / "dfdc")
    (root / "dfdc_train_part_0/0bbb.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(rows("dfdc", root)) == 11
    assert "DFDC: 1 of 12 clips are not there" in caplog.text
    (root / "dfdc_train_part_0/metadata.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(rows("dfdc", root)) == 10
    assert "1 parts have no metadata.json" in caplog.text


@pytest.mark.parametrize(
    ("folder", "part", "split"),
    [
        ("dfdc_train_part_40/dfdc_train_part_40", "dfdc_train_part_40", "test"),
        ("train_sample_videos", "train_sample_videos", "train"),
        ("train_sample_videos/train_sample_videos", "train_sample_videos", "train"),
    ],
)
def test_dfdc_as_the_archives_of_kaggle_unpack(tmp_path: Path, folder: str, part: str, split: str) -> None:
    root = tmp_path / "dfdc"
    put(root / folder / "metadata.json", PART)
    touch(root / folder, *PART)
    found = rows("dfdc:full", root)
    assert {row_id: (row.split, row.original) for row_id, row in found.items()} == {
        f"{part}/aaa": (split, None),
        f"{part}/bbb": (split, f"{part}/aaa"),
    }


def test_dfdc_sample_is_not_read_beside_the_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = dfdc(tmp_path / "dfdc")
    whole = rows("dfdc", root)
    put(root / "train_sample_videos/metadata.json", PART)
    touch(root / "train_sample_videos", *PART)
    with caplog.at_level(logging.WARNING):
        assert rows("dfdc", root) == whole
    assert "train_sample_videos is left out" in caplog.text


def test_dfdc_copies_are_told(tmp_path: Path) -> None:
    touch(dfdc_test(tmp_path / "test"), "masks/eee.mp4", "faces/ddd.mp4")
    with pytest.raises(CorpusError, match=r"test/ddd.mp4 and .*faces/ddd.mp4 have the same name"):
        list(read("dfdc", tmp_path / "test"))
    put(dfdc(tmp_path / "full") / "dfdc_train_part_00/metadata.json", PART)
    with pytest.raises(CorpusError, match=r"part_00 and .*part_0 are the same|part_0 and .*part_00 are the same"):
        list(read("dfdc", tmp_path / "full"))


# ------------------------------------------------------------------------------------------------------- Celeb-DF

CELEBDF = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0007.mp4",
    "YouTube-real/00170.mp4",
    "YouTube-real/00001.mp4",
    "Celeb-synthesis/id0_id16_0000.mp4",
    "Celeb-synthesis/id1_id0_0007.mp4",
)


def celebdf(root: Path) -> Path:
    touch(root, *CELEBDF)
    listed = "1 YouTube-real/00170.mp4\n1 Celeb-real/id1_0007.mp4\n0 Celeb-synthesis/id1_id0_0007.mp4\n"
    put(root / "List_of_testing_videos.txt", listed)
    return root


def test_celebdf_rows(tmp_path: Path) -> None:
    root = celebdf(tmp_path / "celeb")
    found = rows("celeb-df", root)
    assert len(found) == 6
    assert found["Celeb-synthesis/id0_id16_0000"] == Row(
        id="Celeb-synthesis/id0_id16_0000",
        video=str(root / "Celeb-synthesis/id0_id16_0000.mp4"),
        audio=None,
        corpus="Celeb-DF-v2",
        split="train",
        identity="id0",
        method="Celeb-synthesis",
        original="Celeb-real/id0_0000",
        labels=Labels(visual=1),
    )
    assert found["YouTube-real/00001"].identity is None
    assert found["YouTube-real/00001"].labels == Labels(visual=0)


def test_celebdf_turns_the_polarity_of_the_list_round(tmp_path: Path) -> None:
    found = rows("celeb-df", celebdf(tmp_path / "celeb"))
    test = {row_id: row.labels.visual for row_id, row in found.items() if row.split == "test"}
    # As listed: 1 for the first two, 0 for the last.
    assert test == {"YouTube-real/00170": 0, "Celeb-real/id1_0007": 0, "Celeb-synthesis/id1_id0_0007": 1}


def test_celebdf_may_have_its_files_one_level_down(tmp_path: Path) -> None:
    root = celebdf(tmp_path / "celeb")
    flat = rows("celeb-df", root)
    for name in CELEBDF:
        folder, file = name.split("/")
        touch(root / folder / "videos", file)
        (root / name).unlink()
    assert {row_id: row.split for row_id, row in rows("celeb-df", root).items()} == {
        row_id: row.split for row_id, row in flat.items()
    }


def test_celebdf_takes_the_right_file_of_several(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = celebdf(tmp_path / "celeb")
    touch(root, *(name.replace("/", f"/{folder}/") for name in CELEBDF for folder in ("masks", "faces")))
    assert all(Path(row.video or "").parent.parent == root for row in rows("celeb-df", root).values())
    listed = root / "Celeb-synthesis/id1_id0_0007.mp4"
    listed.rename(listed.with_suffix(".MP4"))
    row = rows("celeb-df", root)["Celeb-synthesis/id1_id0_0007"]
    assert (row.split, row.video) == ("test", str(listed.with_suffix(".MP4")))
    assert "are not there" not in caplog.text
    touch(root, "Celeb-synthesis/videos/id1_id0_0007.mp4")
    with pytest.raises(CorpusError, match="have the same name"):
        list(read("celeb-df", root))


def test_celebdf_without_its_fakes_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = celebdf(tmp_path / "celeb")
    for path in (root / "Celeb-synthesis").iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING):
        rows("celeb-df", root)
    assert "all its clips with a label are genuine" in caplog.text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 Celeb-real/id1_0007.mp4", "line 4: label 0 does not fit Celeb-real; in this list 1 is real"),
        ("1 Celeb-synthesis/id1_id0_0007.mp4", "label 1 does not fit Celeb-synthesis"),
        ("1 Celeb-fake/id1_0007.mp4", "the folder must be one of Celeb-real"),
        ("1", "expected 2 fields, found 1"),
    ],
)
def test_celebdf_wrong_lines_are_told(tmp_path: Path, line: str, told: str) -> None:
    root = celebdf(tmp_path / "celeb")
    with open(root / "List_of_testing_videos.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(CorpusError, match=told) as error:
        list(read("celeb-df", root))
    assert "List_of_testing_videos.txt, line 4" in str(error.value)


def test_celebdf_missing_and_misnamed_clips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = celebdf(tmp_path / "celeb")
    (root / "Celeb-real/id1_0007.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(rows("celeb-df", root)) == 5
    assert "1 of 6 clips are not there" in caplog.text
    touch(root, "Celeb-synthesis/id1_0007.mp4")
    with pytest.raises(CorpusError, match=r"id1_0007\.mp4: no clip of Celeb-DF .* in Celeb-synthesis has"):
        list(read("celeb-df", root))


# ---------------------------------------------------------------------------------------------------- FakeAVCeleb

HEADER = "source,target1,target2,method,category,type,race,gender,path,"  # as shipped, the folder's column unnamed


def line(kind: str, method: str, name: str, source: str = "id00076", race: str = "African", gender: str = "men") -> str:
    return f"{source},-,-,{method},A,{kind},{race},{gender},{name},FakeAVCeleb/{kind}/{race}/{gender}/{source}"


LINES = [
    line("RealVideo-RealAudio", "real", "00109.mp4"),
    line("RealVideo-FakeAudio", "rtvc", "00109_fake.mp4"),
    line("FakeVideo-RealAudio", "faceswap", "00109_id00173_UHoMXLSjlDo_faceswap.mp4"),
    line("FakeVideo-RealAudio", "wav2lip", "00109_3.mp4"),
    line("FakeVideo-FakeAudio", "wav2lip", "00109_id00391_wavtolip.mp4"),
    line("FakeVideo-FakeAudio", "fsgan-wav2lip", "00109_10_id00476_wavtolip.mp4"),
]


def fakeavceleb_tree(root: Path, lines: list[str]) -> Path:
    put(root / "meta_data.csv", "\n".join([HEADER, *lines]) + "\n")
    for kind in ("RealVideo-RealAudio", "RealVideo-FakeAudio", "FakeVideo-RealAudio", "FakeVideo-FakeAudio"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for values in csv.reader(lines):
        touch(root, f"{values[9].removeprefix('FakeAVCeleb/')}/{values[8]}")
    return root


def population(size: int = 25) -> list[str]:
    return [
        text
        for race in ("African", "Asian (East)")
        for gender in ("men", "women")
        for number in range(size)
        for source in [f"id{race[-2:]}{gender[0]}{number:03}"]
        for text in (
            line("RealVideo-RealAudio", "real", "00001.mp4", source, race, gender),
            line("FakeVideo-FakeAudio", "wav2lip", "00001_id00391_wavtolip.mp4", source, race, gender),
        )
    ]


def test_fakeavceleb_labels_and_originals_follow_type_and_method(tmp_path: Path) -> None:
    root = fakeavceleb_tree(tmp_path / "favc", LINES)
    found = list(rows("fakeavceleb", root).values())
    genuine = "RealVideo-RealAudio/African/men/id00076/00109"
    assert [(row.method, row.labels, row.original) for row in found] == [
        (None, Labels(0, 0, 0), None),
        ("RealVideo-FakeAudio:rtvc", Labels(0, 1, None), genuine),
        ("FakeVideo-RealAudio:faceswap", Labels(1, 0, None), None),
        ("FakeVideo-RealAudio:wav2lip", Labels(1, 0, 0), genuine),
        ("FakeVideo-FakeAudio:wav2lip", Labels(1, 1, 0), genuine),
        ("FakeVideo-FakeAudio:fsgan-wav2lip", Labels(1, 1, 0), None),
    ]
    assert found[0].id == genuine
    assert found[0].video == str(root / "RealVideo-RealAudio/African/men/id00076/00109.mp4")
    assert {(row.corpus, row.identity, row.audio) for row in found} == {("FakeAVCeleb", "id00076", None)}


def test_fakeavceleb_folds_share_nobody_and_are_balanced(tmp_path: Path) -> None:
    root = fakeavceleb_tree(tmp_path / "favc", population())
    tested: list[str | None] = []
    for fold in range(1, 6):
        splits = splits_of_people(rows(f"fakeavceleb:{fold}", root).values())
        assert all(len(of_person) == 1 for of_person in splits.values())
        test = [person for person, of_person in splits.items() if of_person == {"test"}]
        # Five of each group of 25 people.
        assert Counter(str(person)[:-3] for person in test) == {"idanm": 5, "idanw": 5, "idt)m": 5, "idt)w": 5}
        assert Counter(next(iter(of_person)) for of_person in splits.values()) == {"train": 60, "dev": 20, "test": 20}
        tested += test
    assert len(set(tested)) == 100  # everybody is tested once
    assert rows("fakeavceleb", root) == rows("fakeavceleb:1", root)
    dev = {row.identity for row in rows("fakeavceleb:5", root).values() if row.split == "dev"}
    assert dev == {row.identity for row in rows("fakeavceleb:1", root).values() if row.split == "test"}


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=5), st.sampled_from(["men", "women"]), min_size=1),
    st.integers(1, 5),
)
def test_fakeavceleb_folds_differ_by_at_most_one_person_a_group(genders: dict[str, str], fold: int) -> None:
    lines = [("", {"source": person, "race": "r", "gender": gender}) for person, gender in genders.items()]
    splits = fakeavceleb._splits(lines, fold)
    assert splits == fakeavceleb._splits(lines[::-1], fold)
    for gender in ("men", "women"):
        group = [splits[person] for person in genders if genders[person] == gender]
        assert len(group) // 5 <= group.count("test") <= -(-len(group) // 5)


def test_fakeavceleb_folds_do_not_depend_on_which_files_are_there(tmp_path: Path) -> None:
    root = fakeavceleb_tree(tmp_path / "favc", population(7))
    whole = rows("fakeavceleb:2", root)
    for row in list(whole.values())[::3]:
        Path(row.video or "").unlink()
    assert rows("fakeavceleb:2", root).items() < whole.items()


def test_fakeavceleb_has_five_folds(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no variant '6': use one of 1, 2, 3, 4, 5"):
        read("fakeavceleb:6", tmp_path)


def test_fakeavceleb_counts_missing_clips_and_repeated_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fakeavceleb_tree(tmp_path / "favc", [*LINES, LINES[2]])
    (root / "RealVideo-FakeAudio/African/men/id00076/00109_fake.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(rows("fakeavceleb", root)) == 5
    assert "1 of 6 clips are not there" in caplog.text
    assert "1 lines name a clip again" in caplog.text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("wav2lip", "lip2wav"), "method must be one of real, rtvc"),
        (("FakeVideo-RealAudio", "FakeVideo-NoAudio"), "type must be one of RealVideo-RealAudio"),
        (("FakeVideo-RealAudio/", "FakeVideo-FakeAudio/"), "the last column must be FakeAVCeleb/FakeVideo-RealAudio/"),
        (("wav2lip", "real"), "method real does not fit type FakeVideo-RealAudio"),
        (("00109_3.mp4", "FakeAVCeleb/00109_3"), "path must hold the name of an .mp4 file"),
    ],
)
def test_fakeavceleb_wrong_values_are_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    wrong = LINES[3].replace(*change)
    root = fakeavceleb_tree(tmp_path / "favc", [LINES[0], wrong])
    with pytest.raises(CorpusError, match=told) as error:
        list(read("fakeavceleb", root))
    assert "meta_data.csv, line 3" in str(error.value)


def test_fakeavceleb_with_a_mended_header_is_told(tmp_path: Path) -> None:
    root = fakeavceleb_tree(tmp_path / "favc", LINES)
    put(root / "meta_data.csv", "\n".join([HEADER.replace("path,", "name,path"), *LINES]))
    with pytest.raises(CorpusError, match=r"line 2: the column without a name, for the folder, is missing"):
        list(read("fakeavceleb", root))


# ----------------------------------------------------------------------------------------------------------- KoDF

GENUINE = "영상ID,UUID,인물성별,촬영장소,촬영시작,스크립트파일,시나리오번호\n"
FORGED = "영상ID,타겟영상,타겟UUID,소스UUID,변조모델,촬영시작,인물성별\n"


def kodf(root: Path, form: Literal["NFC", "NFD"] = "NFC") -> Path:
    for part, a, b in (("training", "110531", "138311"), ("validation", "16370", "168153")):
        folder = root / "라벨링데이터" / f"{part}_meta_data"
        put(
            folder / unicodedata.normalize(form, f"원본영상_{part}_메타데이터.csv"),
            f"{GENUINE}{a}_121.mp4,{a},남,,,,\n",
        )
        fakes = f"{FORGED}{a}_{b}_2_0310.mp4,{a}_121.mp4,{a},{b},dfl,,남\n"
        put(folder / unicodedata.normalize(form, f"변조영상_{part}_메타데이터.csv"), fakes)
        touch(root, f"original_videos/{a}/{a}_121.mp4", f"dfl/{a}/{a}_{b}_2_0310.mp4")
    return root


def test_kodf_rows(tmp_path: Path) -> None:
    root = kodf(tmp_path / "kodf")
    found = rows("kodf", root)
    assert found["110531_138311_2_0310"] == Row(
        id="110531_138311_2_0310",
        video=str(root / "dfl/110531/110531_138311_2_0310.mp4"),
        audio=None,
        corpus="KoDF",
        split="train",
        identity="110531",
        method="dfl",
        language="ko",
        original="110531_121",
        labels=Labels(visual=1),
    )
    assert found["16370_121"].labels == Labels(visual=0, audio=0, sync=0)
    assert {row_id: row.split for row_id, row in found.items()} == {
        "110531_121": "train",
        "110531_138311_2_0310": "train",
        "16370_121": "dev",
        "16370_168153_2_0310": "dev",
    }


def test_kodf_tables_may_have_decomposed_names(tmp_path: Path) -> None:
    assert len(rows("kodf", kodf(tmp_path / "kodf", "NFD"))) == 4


def test_kodf_leaves_perturbed_copies_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = kodf(tmp_path / "kodf")
    touch(root, "train_탐지방해/변조영상/110531_138311_2_0310.mp4")
    with caplog.at_level(logging.WARNING):
        found = rows("kodf", root)
    assert found["110531_138311_2_0310"].video == str(root / "dfl/110531/110531_138311_2_0310.mp4")
    assert "1 clips with an adversarial perturbation are left out" in caplog.text
    touch(root, "copy/110531_138311_2_0310.mp4")
    with pytest.raises(CorpusError, match="have the same name"):
        list(read("kodf", root))


def test_kodf_wrong_values_and_missing_clips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = kodf(tmp_path / "kodf")
    (root / "dfl/16370/16370_168153_2_0310.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(rows("kodf", root)) == 3
    assert "1 of 4 clips are not there" in caplog.text
    table = root / "라벨링데이터/training_meta_data/변조영상_training_메타데이터.csv"
    put(table, f"{FORGED}110531_138311_2_0310.mp4,,110531,138311,dfl,,남\n")
    with pytest.raises(CorpusError, match="csv, line 2: the column 타겟영상 is empty"):
        list(read("kodf", root))
    put(table, "영상ID,타겟영상\n")
    with pytest.raises(CorpusError, match="lacks the columns 타겟UUID, 소스UUID, 변조모델"):
        list(read("kodf", root))


# -------------------------------------------------------------------------------------------------- DeepfakeTIMIT


def deepfaketimit(root: Path, pairs: int = 16) -> Path:
    for quality in ("lower_quality", "higher_quality"):
        for number in range(pairs):
            for target, face in ((f"fa{number:02}", f"mb{number:02}"), (f"mb{number:02}", f"fa{number:02}")):
                touch(root / quality / target, f"sa1-video-{face}.avi", "sa1.wav")
    return root


def test_deepfaketimit_rows(tmp_path: Path) -> None:
    root = deepfaketimit(tmp_path / "timit")
    (root / "lower_quality/fa01/sa1.wav").unlink()
    found = rows("deepfaketimit", root)
    assert len(found) == 64
    row = found["higher/fa00/sa1-video-mb00"]
    assert row == Row(
        id="higher/fa00/sa1-video-mb00",
        video=str(root / "higher_quality/fa00/sa1-video-mb00.avi"),
        audio=str(root / "higher_quality/fa00/sa1.wav"),
        corpus="DeepfakeTIMIT/higher",
        split=row.split,
        identity="fa00",
        method="faceswap-GAN",
        language="en",
        labels=Labels(visual=1, audio=0, sync=0),
    )
    silent = found["lower/fa01/sa1-video-mb01"]
    assert (silent.audio, silent.labels) == (None, Labels(visual=1))


def test_deepfaketimit_keeps_pairs_together_in_both_qualities(tmp_path: Path) -> None:
    root = deepfaketimit(tmp_path / "timit")
    found = rows("deepfaketimit", root)
    splits = splits_of_people(found.values())
    assert all(len(of_person) == 1 for of_person in splits.values())
    assert all(splits[f"fa{number:02}"] == splits[f"mb{number:02}"] for number in range(16))
    assert Counter(next(iter(of_person)) for of_person in splits.values()) == {"train": 22, "dev": 4, "test": 6}


def test_deepfaketimit_variants_do_not_change_the_splits(tmp_path: Path) -> None:
    root = deepfaketimit(tmp_path / "timit")
    for path in (root / "lower_quality").glob("*0[0-7]/*.avi"):
        path.unlink()
    found = rows("deepfaketimit", root)
    assert len(found) == 48
    for quality in ("lower", "higher"):
        one = rows(f"deepfaketimit:{quality}", root)
        assert one == {row_id: row for row_id, row in found.items() if row_id.startswith(f"{quality}/")}


@pytest.mark.parametrize("name", ["lower_quality/fa00/sa1.avi", "lower_quality/sa1-video-mb00.avi"])
def test_deepfaketimit_wrong_names_are_told(tmp_path: Path, name: str) -> None:
    root = deepfaketimit(tmp_path / "timit", 2)
    touch(root, name)
    with pytest.raises(CorpusError, match=f"{root / name}: a clip must be QUALITY_quality/PERSON/"):
        list(read("deepfaketimit", root))


# --------------------------------------------------------------------------------------------------- PolyGlotFake

REAL = "json_file/real_json_file/all_real_video.json"
FAKE = "json_file/fake_Json_file/all_fake_video.json"


def polyglotfake(root: Path, size: int = 20) -> Path:
    real = [
        {"filename": f"es_{number}.mp4", "lang": "es", "source": f"URL:https://example.org/{number // 2}"}
        for number in range(size)
    ]
    fake = [
        {
            "filename": f"es_{number}_to_{language}_Bark.mp4",
            "raw_lang": "es",
            "target_lang": language,
            "tts_technique": "Bark",
            "sync_tech": "Wav2Lip",
        }
        for number in range(size)
        for language in ("ru", "zh")
    ]
    put(root / REAL, {"videos": real})
    put(root / FAKE, {"video": fake})
    touch(root, *(f"real/es/{record['filename']}" for record in real))
    touch(root, *(f"fake/to_{record['target_lang']}/{record['filename']}" for record in fake))
    return root


def test_polyglotfake_rows(tmp_path: Path) -> None:
    root = polyglotfake(tmp_path / "pgf")
    found = rows("polyglotfake", root)
    genuine, fake = found["real/es_3"], found["fake/es_3_to_ru_Bark"]
    assert genuine == Row(
        id="real/es_3",
        video=str(root / "real/es/es_3.mp4"),
        audio=None,
        corpus="PolyGlotFake",
        split=genuine.split,
        identity="URL:https://example.org/1",
        language="es",
        labels=Labels(visual=0, audio=0, sync=0),
    )
    assert fake == Row(
        id="fake/es_3_to_ru_Bark",
        video=str(root / "fake/to_ru/es_3_to_ru_Bark.mp4"),
        audio=None,
        corpus="PolyGlotFake",
        split=genuine.split,
        identity="URL:https://example.org/1",
        method="Bark+Wav2Lip",
        language="ru",
        original="real/es_3",
        labels=Labels(visual=1, audio=1, sync=0),
    )


def test_polyglotfake_splits_share_nobody(tmp_path: Path) -> None:
    splits = splits_of_people(rows("polyglotfake", polyglotfake(tmp_path / "pgf")).values())
    assert all(len(of_person) == 1 for of_person in splits.values())
    assert {next(iter(of_person)) for of_person in splits.values()} == {"train", "dev", "test"}


def test_polyglotfake_without_sources_goes_by_the_clip(tmp_path: Path) -> None:
    root = polyglotfake(tmp_path / "pgf", 10)
    real = json.loads((root / REAL).read_text())
    put(root / REAL, {"videos": [{"filename": item["filename"], "lang": "es"} for item in real["videos"][1:]]})
    found = rows("polyglotfake", root)
    assert found["fake/es_3_to_ru_Bark"].identity == found["real/es_3"].identity == "es_3"
    orphan = found["fake/es_0_to_ru_Bark"]
    assert (orphan.identity, orphan.original) == ("es_0", None)
    assert orphan.split == found["fake/es_0_to_zh_Bark"].split


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (REAL, {"lang": "xx"}, "lang must be one of ar, en"),
        (FAKE, {"target_lang": None}, "the field 'target_lang' has the value None"),
        (FAKE, {"filename": "es_0.mp4"}, "a fake is named ORIGINAL_to_LANG_....mp4, not es_0.mp4"),
        (FAKE, {"filename": "es_0_to_ru"}, "must be the name of an .mp4 file"),
    ],
)
def test_polyglotfake_wrong_values_are_told(tmp_path: Path, name: str, change: dict[str, Any], told: str) -> None:
    root = polyglotfake(tmp_path / "pgf", 2)
    content = json.loads((root / name).read_text())
    next(iter(content.values()))[1] |= change
    put(root / name, content)
    with pytest.raises(CorpusError, match=told) as error:
        list(read("polyglotfake", root))
    assert f"{root / name}, record 2" in str(error.value)


def test_polyglotfake_missing_clips_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = polyglotfake(tmp_path / "pgf", 2)
    (root / "fake/to_ru/es_0_to_ru_Bark.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(rows("polyglotfake", root)) == 5
    assert "1 of 6 clips are not there" in caplog.text
