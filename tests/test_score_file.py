"""Anybody's scores and proposals, in every format, with every fault; and the files that AV-Deepfake1M takes."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from avfake.corpora import avdeepfake1m
from avfake.evaluation.localisation import AV_DEEPFAKE1M, localise
from avfake.evaluation.matching import match
from avfake.evaluation.score_file import NOTHING, ScoreFileError, read, read_proposals
from avfake.evaluation.submission import SubmissionError, write_proposals, write_video_scores
from avfake.manifest import Labels, Row

ROWS = (
    Row("toy/real/a", "/data/real/a.mp4", None, "toy", "test", labels=Labels(0, 0, 0)),
    Row("toy/fake/a", "/data/fake/a.mp4", None, "toy", "test", method="m", labels=Labels(1, 0, 1)),
    Row("toy/fake/b", "/data/fake/b.mp4", None, "toy", "test", method="m", labels=Labels(1, 0, 1)),
)
UTTERANCES = tuple(
    Row(f"asvspoof5/E_{n}", None, f"/data/flac_E_eval/E_{n}.flac", "asvspoof5", "test", labels=Labels(audio=n % 2))
    for n in range(3)
)


def wrote(tmp_path: Path, text: str, name: str = "s.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


# Formats.


FAKE = {"toy/real/a": 0.25, "toy/fake/a": 0.75, "toy/fake/b": None}
TABLES = {
    "header and ids": "id,fake\ntoy/real/a,0.25\ntoy/fake/a,0.75\ntoy/fake/b,\n",
    "semicolons, file first or not": "fake;file\n0.25;real/a.mp4\n0.75;fake/a.mp4\nnan;fake/b.mp4\n",
    "tabs": "file\tlabel\tfake\nreal/a.mp4\t0\t0.25\nfake/a.mp4\t1\t0.75\nb.mp4\t1\tNaN\n",
    "white space": "file   fake\nreal/a.mp4   0.25\nfake/a.mp4 0.75\nfake/b.mp4 nan\n",
    "one score, capitals, blanks": "\nFilename, Score\n  \nreal/a.mp4, 0.25\nfake/a.mp4, 0.75\nfake/b.mp4, \n",
    "AV-Deepfake1M": "real/a.mp4;0.25\nfake/a.mp4;0.75\nfake/b.mp4;\n",
    "ASVspoof 2021": "real/a 0.25\nfake/a 0.75\nfake/b nan\n",
    "no header, tabs, comma in the score's neighbour": "toy/real/a\t0.25\ntoy/fake/a\t7.5e-1\ntoy/fake/b\t\n",
    "Windows": "\ufefffile,score\r\nreal\\a.mp4,0.25\r\nfake\\a.mp4,0.75\r\nfake\\b.mp4,\r\n",
    "quotes": '"file","score"\n"real/a.mp4","0.25"\n"fake/a.mp4","0.75"\n"fake/b.mp4",""\n',
    "blanks around commas": 'id , score\n toy/real/a ,0.25 \n"toy/fake/a" , "0.75"\r\n  toy/fake/b\t,\t\n',
    "blanks around tabs": "file \t fake\nreal/a.mp4 \t 0.25\n fake/a.mp4\t0.75 \nb.mp4\t ",
    "JSON Lines": '{"id": "toy/real/a", "fake": 0.25}\n\n{"id": "toy/fake/a", "fake": 0.75, "x": []}\n'
    '{"id": "toy/fake/b", "fake": null}\n',
    "JSON Lines, key left out": '{"file": "real/a.mp4", "score": 0.25}\n{"file": "fake/a.mp4", "score": 0.75}\n'
    '{"file": "fake/b.mp4"}\n',
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_every_format_says_the_same(tmp_path: Path, text: str) -> None:
    found = read(wrote(tmp_path, text), ROWS)
    assert {id_: said["fake"] for id_, said in found.values.items()} == FAKE
    assert found.names == ("fake",)
    assert found.missing == found.unknown == ()
    assert found.notes() == []


def test_parquet_as_avfake_writes_it(tmp_path: Path) -> None:
    columns = {
        "id": [row.id for row in ROWS],
        "fake": [0.25, 0.75, None],
        "visual": [0.5, math.nan, 0.125],
        "audio": [None, 1.0, 0.0],
        "sync": [None, None, None],
        "reason": ["no_face", None, None],
    }
    found = read(parquet(tmp_path / "clips.parquet", columns), ROWS, scale="probability")
    assert found.names == ("fake", "visual", "audio", "sync")
    assert found.values["toy/real/a"] == {"fake": 0.25, "visual": 0.5, "audio": None, "sync": None}
    assert found.values["toy/fake/a"] == {"fake": 0.75, "visual": None, "audio": 1.0, "sync": None}
    assert [clip.scores for clip in found.table(ROWS).clips] == [
        {"fake": 0.25, "visual": 0.5}, {"fake": 0.75, "audio": 1.0}, {"visual": 0.125, "audio": 0.0},
    ]  # fmt: skip
    assert found.table(ROWS[1:]).scale == "probability"


def test_parquet_without_pyarrow_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "s.parquet", {"id": ["toy/real/a"], "fake": [0.5]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ScoreFileError, match=r'pip install "avfake\[eval\]"'):
        read(path, ROWS)


def test_asvspoof5_speaks_of_the_voice_and_rises_with_bona_fide(tmp_path: Path) -> None:
    path = wrote(tmp_path, "filename\tcm-score\nE_0\t4.5\nE_1\t-2\nE_2\t0\n", "scores.tsv")
    found = read(path, UTTERANCES, aspect="audio", higher="genuine", scale="llr")
    assert [found.values[row.id] for row in UTTERANCES] == [{"audio": -4.5}, {"audio": 2.0}, {"audio": 0.0}]


def test_what_scores_mean(tmp_path: Path) -> None:
    path = wrote(tmp_path, "real/a.mp4;0.9\nfake/a.mp4;0.2\nfake/b.mp4;1e-30\n")
    assert read(path, ROWS, higher="genuine", scale="probability").values["toy/real/a"]["fake"] == pytest.approx(0.1)
    ranks = [said["fake"] for said in read(path, ROWS, higher="genuine").values.values()]
    assert ranks == [-0.9, -0.2, -1e-30]  # which 1 - p would have rounded to 1
    assert read(path, ROWS, scale="llr").scale == "llr"


def test_columns_of_other_names(tmp_path: Path) -> None:
    path = wrote(tmp_path, "clip_path,p_Voice,fake\nreal/a.mp4,0.25,1\nfake/a.mp4,0.5,1\nfake/b.mp4,1,1\n")
    found = read(path, ROWS, columns={"id": "clip_path", "audio": "P_voice"})
    assert found.names == ("audio",)
    assert [said["audio"] for said in found.values.values()] == [0.25, 0.5, 1.0]
    with pytest.raises(ValueError, match="aspect and columns"):
        read(path, ROWS, columns={"voice": "p_voice"})


def test_missing_and_unknown_lines_are_told(tmp_path: Path) -> None:
    found = read(wrote(tmp_path, "real/a.mp4;0.5\nother/c.mp4;0.5\nother/d.mp4;0.5\n"), ROWS)
    assert found.values["toy/fake/a"] == {"fake": None}
    assert found.missing == ("toy/fake/a", "toy/fake/b")
    assert found.unknown == ("other/c.mp4", "other/d.mp4")
    missing, unknown = found.notes()
    assert "nothing of 2 of 3 clips (toy/fake/a for one)" in missing
    assert "2 clips that are not asked for (other/c.mp4 for one)" in unknown


def test_blanks_in_quotes_are_a_part_of_the_name(tmp_path: Path) -> None:
    called = (" a ", 'b , "c" ', "d\n , e", "a b")
    rows = [Row(name, "v.mp4", None, "toy", "test") for name in called]
    text = 'id , fake\n " a " , 0.1\n"b , ""c"" " ,0.2\n "d\n , e", 0.3\na b , 0.4'
    assert [said["fake"] for said in read(wrote(tmp_path, text), rows).values.values()] == [0.1, 0.2, 0.3, 0.4]
    rows = [Row(name, "v.mp4", None, "toy", "test") for name in ('5"a', '6"b')]  # no field begins with these
    assert read(wrote(tmp_path, 'id,fake\n5"a , 1\n6"b , 2\n'), rows).missing == ()


def test_the_same_line_twice_is_one(tmp_path: Path) -> None:
    assert read(wrote(tmp_path, "real/a.mp4;0.5\nreal/a;0.50\n"), ROWS).values["toy/real/a"] == {"fake": 0.5}


FAULTS = {
    "a word": ("file,score\nreal/a.mp4,0.5\nfake/a.mp4,high\n", "line 3: 'high' is no score"),
    "underscores": ("file,score\nreal/a.mp4,1_000\n", "line 2: '1_000' is no score; write a number"),
    "underscores without a header": ("real/a.mp4 1_0\n", "line 1: '1_0' is no score; write a number"),
    "a decimal comma": ('file;score\nreal/a.mp4;"0,5"\n', "line 2: '0,5' is no score"),
    "infinite": ("real/a.mp4;-inf\n", "line 1: a score must be finite"),
    "JSON infinite": ('{"id": "toy/real/a", "fake": Infinity}\n', "line 1: a score must be finite"),
    "too large": ('{"id": "toy/real/a", "fake": 1' + "0" * 400 + "}\n", "line 1: .* is no score"),
    "true": ('{"id": "toy/real/a", "fake": true}\n', "line 1: True is no score"),
    "a list": ('{"id": "toy/real/a", "fake": [0.5]}\n', r"line 1: \[0.5\] is no score"),
    "two scores": ("real/a.mp4;0.5\n\nreal/a.mp4;0.6\n", "line 3: 'toy/real/a' has another score in line 1"),
    "judged or not": ("real/a.mp4;\nreal/a.mp4;0.6\n", "line 2: 'toy/real/a' has another score in line 1"),
    "several rows": ("id,score\na,0.5\n", "line 2: 'a' may be 'toy/real/a' or 'toy/fake/a'"),
    "no row": ("c.mp4;0.5\nd.mp4;0.5\n", "none of the 3 clips .*'c.mp4' for one.*such as 'toy/real/a'"),
    "no line": ("file;score\n", "none of the 3 clips .*it is empty"),
    "nothing": ("\n \n", "is empty; write a table"),
    "no scores": ("file,label\nreal/a.mp4,1\n", "has no scores: of file, label call one"),
    "many scores": ("file,score,prediction\nreal/a.mp4,1,0\n", "several columns that may be the score"),
    "no clip": ("name,score\nreal/a.mp4,1\n", "names no clips: of name, score call one column id or file"),
    "empty clip": ("file,score\n,1\n", "line 2: '' is no name of a clip"),
    "JSON without clip": ('{"id": "toy/real/a", "fake": 1}\n{"fake": 1}\n', "line 2: None is no name of a clip"),
    "unknown header": ("a b c\nd e 0.5\n", "begins with 'a b c', neither a header"),
    "four columns": ("toy/real/a - bonafide 0.5\n", "neither a header nor a name and a score"),
    "twice": ("file,score,Score\nreal/a.mp4,1,2\n", "the column 'score' twice"),
    "a field too many": ("file,score\nreal/a.mp4,0,5\n", "line 2: 2 fields were expected, not 3"),
    "a field too few": ("file,score\nreal/a.mp4\n", "line 2: 2 fields were expected, not 1"),
    "an open quote": ('file,score\n"real/a.mp4,0.5\n', "cannot be read as a table"),
    "bad JSON": ('{"id": "toy/real/a", "fake": 1}\n{"id": \n', "line 2: this is not JSON"),
    "no object": ('{"id": "toy/real/a", "fake": 1}\n[1]\n', "line 2: this is no JSON object"),
}


@pytest.mark.parametrize(("text", "told"), FAULTS.values(), ids=FAULTS)
def test_faults_are_told_in_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = wrote(tmp_path, text)
    with pytest.raises(ScoreFileError, match=told) as caught:
        read(path, ROWS)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_faults_outside_the_text(tmp_path: Path) -> None:
    with pytest.raises(ScoreFileError, match=r"line 1: '1.5' is no probability"):
        read(wrote(tmp_path, "real/a.mp4;1.5\n"), ROWS, scale="probability")
    with pytest.raises(ScoreFileError, match="has no column 'p'; it has file, score"):
        read(wrote(tmp_path, "real/a.mp4;1.5\n"), ROWS, columns={"fake": "p"})
    with pytest.raises(ScoreFileError, match="cannot be read: No such file"):
        read(tmp_path / "nowhere.csv", ROWS)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ScoreFileError, match="neither Parquet nor UTF-8"):
        read(tmp_path / "picture.png", ROWS)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ScoreFileError, match="cannot be read as Parquet"):
        read(tmp_path / "cut.parquet", ROWS)
    with pytest.raises(ScoreFileError, match="row 2: 'b' is no score"):
        read(parquet(tmp_path / "words.parquet", {"id": ["toy/real/a", "toy/fake/a"], "fake": ["0.5", "b"]}), ROWS)
    with pytest.raises(ScoreFileError, match="none of the 0 clips"):
        read(wrote(tmp_path, "real/a.mp4;1.5\n"), [])


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9)
ids = st.lists(names.filter(lambda name: name.strip()), min_size=1, max_size=5, unique=True)
score = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(ids, st.lists(st.tuples(score, score), min_size=5, max_size=5), st.sampled_from(["\t", ";", ",", "json"]))
@example(["a\nb", "\r", "\u2028"], [(0.0, None)] * 5, ",")
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, called: list[str], given_: list[tuple[Any, Any]], kind: str
) -> None:
    rows = [Row(id_, "v.mp4", None, "toy", "test") for id_ in called]
    path = tmp_path_factory.getbasetemp() / "round.txt"
    with open(path, "w", encoding="utf-8", newline="") as file:
        if kind == "json":
            for id_, (fake, sync) in zip(called, given_, strict=False):
                file.write(json.dumps({"id": id_, "fake": fake, "sync": sync}) + "\n")
        else:
            writer = csv.writer(file, delimiter=kind, quoting=csv.QUOTE_ALL)
            writer.writerow(["id", "fake", "sync"])
            writer.writerows((id_, *pair) for id_, pair in zip(called, given_, strict=False))
    expected = dict(zip(called, ({"fake": fake, "sync": sync} for fake, sync in given_), strict=False))
    assert read(path, rows).values == expected


# Matching.


def matched(*called: str, rows: Any = ROWS) -> list[tuple[int, ...]]:
    return match(called, rows).rows


def test_a_file_names_its_clips_in_one_way() -> None:
    assert matched("toy/real/a", "fake/b.mp4") == [(0,), ()]  # the second is not the id that the first one is
    assert matched("/data/fake/a.mp4", "fake/b.mp4") == [(1,), ()]
    assert matched("fake/a.mp4", "./fake//b.avi", "fake/c.mp4") == [(1,), (2,), ()]
    assert matched("/elsewhere/toy/real/a.mp4", "/elsewhere/fake/b") == [(0,), (2,)]  # ends with an id
    # Nothing but file names is left, and that is told.
    assert match(["/elsewhere/b.mp4", "/elsewhere/a.mp4"], ROWS) == ([(2,), (0, 1)], ("/elsewhere/b.mp4", "toy/fake/b"))
    assert matched("b.mp4", "a") == [(2,), (0, 1)]
    assert matched("c.mp4", "") == [(), ()]


def test_a_fake_is_never_taken_for_the_genuine_clip_of_its_name() -> None:
    assert matched("real/a.mp4", "other/b.mp4", "other/a.mp4") == [(0,), (), ()]


DEEPFAKES = tuple(
    Row(f"ff++/c23/Deepfakes/{name}", f"/ff/Deepfakes/c23/videos/{name}.mp4", None, "FaceForensics++/c23", "test")
    for name in ("000_003", "001_870")
)


def test_clips_of_another_folder_are_told(tmp_path: Path) -> None:
    swaps = "file,score\n000_003.mp4,0.1\nout/FaceSwap/001_870.mp4,0.9\nout/FaceSwap/002_006.mp4,0.9\n"
    # The first name is an end of a path, so that the others have to be, too.
    assert read(wrote(tmp_path, swaps), DEEPFAKES).unknown == ("out/FaceSwap/001_870.mp4", "out/FaceSwap/002_006.mp4")
    path = wrote(tmp_path, swaps.replace("000_003", "003_000"))
    found = read(path, DEEPFAKES)
    assert found.values["ff++/c23/Deepfakes/001_870"] == {"fake": 0.9}
    assert found.notes()[0] == (
        f"{path} found its clips by file name alone, whatever the folder ('out/FaceSwap/001_870.mp4' as "
        "'ff++/c23/Deepfakes/001_870' for one): check that they are the same clips."
    )
    where = wrote(tmp_path, '{"FaceSwap/000_003.mp4": []}', "p.json")
    assert (
        "('FaceSwap/000_003.mp4' as 'ff++/c23/Deepfakes/000_003' for one)"
        in read_proposals(where, DEEPFAKES).notes()[0]
    )


@pytest.mark.parametrize(
    "named",
    ["000_003", "./000_003.mp4", "videos/000_003.mp4", "Deepfakes/000_003.avi", "ff++/c23/Deepfakes/000_003"],
)
def test_names_whose_folders_are_the_clips_own_are_not_told(tmp_path: Path, named: str) -> None:
    found = read(wrote(tmp_path, f"file,score\n{named},0.1\n{named.replace('000_003', '001_870')},0.9\n"), DEEPFAKES)
    assert found.notes() == []


def test_a_folder_that_an_id_begins_with_is_not_dropped_as_a_corpus_is() -> None:
    rows = (Row("real/a", "/data/1.mp4", None, "mine", "test"), Row("mine/real/b", "/data/2.mp4", None, "mine", "test"))
    assert match(["fake/a.mp4"], rows) == ([(0,)], ("fake/a.mp4", "real/a"))
    assert match(["out/real/b.mp4"], rows) == ([(1,)], None)


def test_endings() -> None:
    rows = (
        Row("x.v1", "x.v1.mp4", None, "toy", "test"),
        Row("x.v2", "x.v2.mp4", None, "toy", "test"),
        Row("sound", None, "x.v2.wav", "toy", "test"),
    )
    assert matched("d/x.v1.WAV", "d/x.v2.mp4", "d/x.v2.wav", rows=rows) == [(0,), (1,), (2,)]
    assert matched("d/x", rows=rows) == [()]  # .v1 is no ending of a media file


def test_the_end_of_a_path_goes_before_a_file_name() -> None:
    rows = (Row("one", "/data/deep/x.mp4", None, "toy", "test"), Row("two", "/data/deep/y.mp4", None, "toy", "test"))
    assert matched("deep/x.mp4", "other/y.mp4", rows=rows) == [(0,), ()]


def test_rows_of_one_video_are_told_apart_by_id_alone() -> None:
    rows = (ROWS[0], replace(ROWS[0], id="swapped", audio="/data/fake/b.wav"))
    assert matched("/data/real/a.mp4", rows=rows) == [(0, 1)]
    assert matched("swapped", "toy/real/a", rows=rows) == [(1,), (0,)]


# Proposals.


def test_proposals(tmp_path: Path) -> None:
    content = {
        "real/a.mp4": [list(NOTHING)],
        "fake/a.mp4": [[0.25, 1, 2], [0.75, 0.5, 1.5]],
        "c.mp4": [[0.5, 0.0, 1.0]],
    }
    path = wrote(tmp_path, json.dumps(content), "p.json")
    found = read_proposals(path, ROWS)
    assert found.values == {"toy/real/a": [], "toy/fake/a": [(0.75, 0.5, 1.5), (0.25, 1.0, 2.0)]}
    assert found.missing == ("toy/fake/b",)
    assert found.unknown == ("c.mp4",)
    assert "nothing of 1 of 3 clips" in found.notes()[0]
    assert read_proposals(path, ROWS, fps=25).values["toy/fake/a"][0] == pytest.approx((0.75, 0.02, 0.06))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "is not an object"),
        ("{", "is not JSON"),
        ('{"real/a.mp4": 1}', "a list of .* was expected, not 1"),
        ('{"real/a.mp4": [[0.5, 1]]}', "was expected, not"),
        ('{"real/a.mp4": [[0.5, 2, 1]]}', "start <= end was expected"),
        ('{"real/a.mp4": [[NaN, 1, 2]]}', "was expected"),
        ('{"real/a.mp4": [["x", 1, 2]]}', "'x' is no score"),
        ('{"real/a.mp4": [], "real/a.mp4": []}', "'toy/real/a' is there twice"),
        ('{"a.mp4": []}', "'a.mp4' may be 'toy/real/a' or 'toy/fake/a'"),
        ('{"c.mp4": []}', "none of the 3 clips"),
        ("{}", "it is empty"),
    ],
)
def test_faults_of_proposals(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ScoreFileError, match=told):
        read_proposals(wrote(tmp_path, text), ROWS)


# AV-Deepfake1M.


@pytest.fixture
def corpus(tmp_path: Path) -> list[Row]:
    """Rows of the corpus' own reader, as ``avfake manifest`` writes them."""
    names = ["id01/x/00030/real.mp4", "id01/x/00030/fake_video_fake_audio.mp4", "id02/y/00001/real.mp4"]
    records = [
        {
            "file": name,
            "original": None,
            "modify_type": "both_modified" if "fake" in name else "real",
            "visual_fake_segments": [[1.0, 2.0]] if "fake" in name else [],
            "audio_fake_segments": [[1.0, 2.0]] if "fake" in name else [],
            "audio_frames": 9,
        }
        for name in names
    ]
    (tmp_path / "val_metadata.json").write_text(json.dumps(records))
    (tmp_path / "test_files.txt").write_text("000001.mp4\n")
    for name in (*(f"val/{name}" for name in names), "test/000001.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rows = avdeepfake1m.READER.rows(tmp_path, None)
    return [replace(row, id=f"av-deepfake1m/{row.id}") for row in rows]


def test_video_scores_are_written_as_the_organisers_read_them(tmp_path: Path, corpus: list[Row]) -> None:
    rows = [row for row in corpus if row.split == "dev"]
    path = tmp_path / "prediction.txt"
    assert write_video_scores(path, rows, dict(zip((row.id for row in rows), (0.125, 1 / 3, 1), strict=True))) == ()
    assert path.read_text() == (
        "id01/x/00030/real.mp4;0.125\nid01/x/00030/fake_video_fake_audio.mp4;0.3333333333333333\n"
        "id02/y/00001/real.mp4;1.0\n"
    )
    assert [said["fake"] for said in read(path, rows).values.values()] == [0.125, 1 / 3, 1.0]
    test = [row for row in corpus if row.split == "test"]
    write_video_scores(path, test, {test[0].id: 0.5})
    assert path.read_text() == "000001.mp4;0.5\n"


def test_what_was_not_judged_is_refused_or_named(tmp_path: Path, corpus: list[Row]) -> None:
    rows = [row for row in corpus if row.split == "dev"]
    path, companion = tmp_path / "prediction.txt", tmp_path / "prediction.txt.unjudged"
    scores = {rows[0].id: 0.25, rows[1].id: None}
    with pytest.raises(SubmissionError, match=r"2 videos have no score .*fake_audio[.]mp4 for one"):
        write_video_scores(path, rows, scores)
    assert not path.exists()
    lacking = write_video_scores(path, rows, scores, unjudged=0.0)
    assert lacking == ("id01/x/00030/fake_video_fake_audio.mp4", "id02/y/00001/real.mp4")
    assert [line.split(";")[1] for line in path.read_text().splitlines()] == ["0.25", "0.0", "0.0"]
    assert tuple(companion.read_text().splitlines()) == lacking
    write_video_scores(path, rows, {row.id: 0.5 for row in rows}, unjudged=0.0)
    assert not companion.exists()
    json_path = tmp_path / "prediction.json"
    with pytest.raises(SubmissionError, match="3 videos were not judged"):
        write_proposals(json_path, rows, {})
    assert len(write_proposals(json_path, rows, {rows[0].id: []}, unjudged_as_nothing=True)) == 2


def test_proposals_are_written_as_the_organisers_read_them(tmp_path: Path, corpus: list[Row]) -> None:
    rows = [row for row in corpus if row.split == "dev"]
    path = tmp_path / "prediction.json"
    wanted = {
        rows[0].id: [],
        rows[1].id: [(0.25, 3.0, 4.0), (0.75, 1.0, 2.0)],
        rows[2].id: [(0.125, 0.0, 0.5)],
    }
    assert write_proposals(path, rows, wanted) == ()
    assert json.loads(path.read_text()) == {
        "id01/x/00030/real.mp4": [[0.0, 0.0, 0.0]],
        "id01/x/00030/fake_video_fake_audio.mp4": [[0.75, 1.0, 2.0], [0.25, 3.0, 4.0]],
        "id02/y/00001/real.mp4": [[0.125, 0.0, 0.5]],
    }
    found = read_proposals(path, rows).values
    assert found == {id_: sorted(said, reverse=True) for id_, said in wanted.items()}
    figures = localise([row.segments.visual for row in rows], [found[row.id] for row in rows], AV_DEEPFAKE1M)
    assert figures["AP@0.5"] == 1.0


def test_what_is_no_submission(tmp_path: Path, corpus: list[Row]) -> None:
    path = tmp_path / "p"
    with pytest.raises(SubmissionError, match=r"not of test, val; take the rows of one split"):
        write_video_scores(path, corpus, {row.id: 0.5 for row in corpus})
    with pytest.raises(SubmissionError, match="not of none"):
        write_video_scores(path, [], {})
    with pytest.raises(SubmissionError, match="'toy/real/a' is no video of av-deepfake1m"):
        write_video_scores(path, ROWS, {})
    with pytest.raises(SubmissionError, match="is no video of av-deepfake1m"):
        write_proposals(path, [replace(corpus[0], corpus="toy")], {})
    moved = [replace(corpus[0], video="/elsewhere/0.mp4")]
    with pytest.raises(SubmissionError, match="is no video of av-deepfake1m"):
        write_proposals(path, moved, {})
    for bad in (1.5, -0.5, math.nan):
        with pytest.raises(SubmissionError, match=r"P\(fake\) in \[0, 1\] was expected"):
            write_video_scores(path, corpus[:1], {corpus[0].id: bad})
    for proposal in ((1.5, 0.0, 1.0), (0.5, 1.0, 1.0), (0.5, -1.0, 1.0), (math.nan, 0.0, 1.0), (0.5, 0.0, math.inf)):
        with pytest.raises(SubmissionError, match="0 <= start < end"):
            write_proposals(path, corpus[:1], {corpus[0].id: [proposal]})
    assert not path.exists()
