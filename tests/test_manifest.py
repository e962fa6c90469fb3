from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfake.corpora import CorpusError
from avfake.corpora.shared import rows as shared_rows
from avfake.manifest import Labels, ManifestError, Row, Segments, read, write
from avfake.storage import StorageError

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"

ROW = Row(
    id="a",
    video="x/a.mp4",
    audio=None,
    corpus="toy",
    split="dev",
    identity="anna",
    method="wav2lip",
    language="en",
    original="b",
    labels=Labels(visual=1, audio=0, sync=None),
    segments=Segments(visual=((0.5, 1.25),)),
)

label = st.sampled_from([0, 1, None])
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
segments = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0.01, 10)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=2,
).map(tuple)
rows = st.builds(
    Row,
    id=text,
    video=text,
    audio=st.none() | text,
    corpus=text,
    split=st.sampled_from(["train", "dev", "test"]),
    identity=st.none() | text,
    method=st.none() | text,
    language=st.none() | text,
    original=st.none() | text,
    labels=st.builds(Labels, label, label, label),
    segments=st.builds(Segments, segments, segments),
)


def document(**change: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(asdict(ROW))), **change}


@given(st.lists(rows, unique_by=lambda row: row.id, max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, wanted: list[Row]) -> None:
    path = tmp_path_factory.getbasetemp() / "m.jsonl"
    assert write(wanted, path) == len(wanted)
    assert list(read(path)) == wanted


def test_a_line_holds_exactly_the_documented_fields(tmp_path: Path) -> None:
    write([ROW], tmp_path / "m.jsonl")
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {
        "id": "a",
        "video": "x/a.mp4",
        "audio": None,
        "corpus": "toy",
        "split": "dev",
        "identity": "anna",
        "method": "wav2lip",
        "language": "en",
        "original": "b",
        "labels": {"visual": 1, "audio": 0, "sync": None},
        "segments": {"visual": [[0.5, 1.25]], "audio": [], "sync": []},
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 3"),
        ("[]", "must be an object"),
        (document(split="valid"), "train, dev, test, not 'valid'"),
        (document(split=["dev"]), "train, dev, test"),
        (document(id=""), "id must be"),
        (document(id=7), "id must be"),
        (document(identity=3), "identity must be null or a text"),
        (document(video=None), "must not both be null"),
        (document(extra=1), "no field extra"),
        ({"id": "a"}, "lacks video, audio, corpus"),
        (
            document(labels={"visual": 2, "audio": 0, "sync": 0}),
            "labels.visual must be 0 (genuine), 1 (fake)",
        ),
        (document(labels={"visual": True, "audio": 0, "sync": 0}), "labels.visual"),
        (document(labels={"visual": 1, "audio": 0}), "labels lacks sync"),
        (document(labels=None), "labels must be an object"),
        (
            document(segments={"visual": [], "audio": [[2, 1]]}),
            "segments.audio must hold [start, end] with 0 <=",
        ),
        (document(segments={"visual": [[1]], "audio": []}), "segments.visual"),
        (document(segments={"visual": [["0", "1"]], "audio": []}), "segments.visual"),
        (document(segments={"visual": None, "audio": []}), "segments.visual must be a list"),
        (document(id="first"), "already that of line 1"),
    ],
)
def test_a_wrong_line_is_told_in_one_sentence(tmp_path: Path, line: Any, told: str) -> None:
    path = tmp_path / "m.jsonl"
    wrong = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(document(id="first")) + "\n\n" + wrong + "\n")
    found = read(path)
    assert next(found).id == "first"
    with pytest.raises(ManifestError) as error:
        next(found)
    message = str(error.value)
    assert told in message
    assert f"{path}, line 3" in message
    assert message.endswith(".")
    assert "\n" not in message


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        list(read(tmp_path / "none.jsonl"))
    (tmp_path / "clip.mp4").write_bytes(b"\xff\xd8\x00\n")
    with pytest.raises(ManifestError, match="not a manifest"):
        list(read(tmp_path / "clip.mp4"))
    with pytest.raises(StorageError, match="cannot be written"):
        write([ROW], tmp_path / "nowhere" / "m.jsonl")


@pytest.mark.parametrize("wrong", [replace(ROW, id="b", split="all"), ROW])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, wrong: Row) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("old")
    with pytest.raises(ManifestError):
        write([ROW, wrong], path)

    def interrupted() -> Iterator[Row]:
        yield ROW
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(interrupted(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------ shared corpus

VIDEO = {
    "file": "video/v1.mp4",
    "split": "train",
    "label": "1",
    "fake_kind": "lipsync",
    "method": "Wav2Lip",
    "source": "who/what",
    "source_path": "a/b.mp4",
    "source_commit": "0",
    "license": "none stated",
    "duration_s": "3.00",
    "fps": "25.0",
    "identity": "anna",
    "language": "en",
    "corpus": "",
    "notes": "certainty=high; repo result; audio real",
}
AUDIO = {
    "file": "audio/a1.opus",
    "split": "dev",
    "label": "1",
    "kind": "tts",
    "system": "Tacotron",
    "source": "who/speech",
    "source_path": "a.wav",
    "source_commit": "0",
    "license": "none stated",
    "duration_s": "3.00",
    "orig_sample_rate": "22050",
    "orig_format": "wav",
    "speaker": "ljspeech",
    "language": "und",
    "pair": "",
    "notes": "",
}


def shared(root: Path, video: list[dict[str, str]], audio: list[dict[str, str]]) -> Path:
    for name, lines in (("video", video), ("audio", audio)):
        (root / name).mkdir()
        with open(root / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list({"video": VIDEO, "audio": AUDIO}[name]))
            writer.writeheader()
            writer.writerows(lines)
    return root


def test_shared_rows_in_full(tmp_path: Path) -> None:
    root = shared(tmp_path, [VIDEO], [AUDIO])
    assert list(shared_rows(root)) == [
        Row(
            id="v1",
            video=str(root / "video/v1.mp4"),
            audio=None,
            corpus="shared/who/what",
            split="train",
            identity="anna",
            method="lipsync:Wav2Lip",
            language="en",
            labels=Labels(visual=1, audio=0, sync=0),
        ),
        Row(
            id="a1",
            video=None,
            audio=str(root / "audio/a1.opus"),
            corpus="shared/who/speech",
            split="dev",
            identity="ljspeech",
            method="tts:Tacotron",
            language=None,
            labels=Labels(audio=1),
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "notes", "labels"),
    [
        ("none", "", (0, 0, 0)),
        ("lipsync", "audio real", (1, 0, 0)),
        ("lipsync", "audio TTS/other voice", (1, None, 0)),
        ("lipsync", "audio real or TTS not stated", (1, None, 0)),
        ("lipsync", "audio origin: TTS or other speech, not stated", (1, None, 0)),
        ("talking_head", "audio real", (1, None, 0)),
        ("face_swap", "", (1, 0, 0)),
        ("reenactment", "", (1, 0, 0)),
        ("voice_swap", "video real (MEAD), audio synthesised", (0, 1, None)),
        ("voice_swap", "video origin not stated", (None, 1, None)),
        ("av_both", "", (1, 1, None)),
    ],
)
def test_labels_follow_the_kind(
    tmp_path: Path, kind: str, notes: str, labels: tuple[int | None, int | None, int | None]
) -> None:
    line = VIDEO | {"fake_kind": kind, "label": "0" if kind == "none" else "1", "notes": notes}
    (row,) = shared_rows(shared(tmp_path, [line], []))
    assert row.labels == Labels(*labels)
    assert row.method == (None if kind == "none" else f"{kind}:Wav2Lip")


def test_the_original_is_the_only_genuine_one_of_a_pair(tmp_path: Path) -> None:
    def line(name: str, label: str, pair: str) -> dict[str, str]:
        kind = "vc" if label == "1" else "none"
        return AUDIO | {"file": f"audio/{name}.opus", "label": label, "kind": kind, "pair": pair}

    lines = [line("f1", "1", "p"), line("g1", "0", "p"), line("f2", "1", "q"), line("f3", "1", "")]
    lines += [line("g2", "0", "q"), line("g3", "0", "q"), line("g4", "0", "")]
    originals = {row.id: row.original for row in shared_rows(shared(tmp_path, [], lines))}
    assert originals == {"f1": "g1", "f2": None, "f3": None} | dict.fromkeys(["g1", "g2", "g3", "g4"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fake_kind": "deepfake"}, "fake_kind must be one of none, lipsync"),
        ({"split": "valid"}, "split must be one of train, dev, test"),
        ({"label": "2"}, "label must be one of 0, 1"),
        ({"label": "0"}, "label 0 does not fit kind 'lipsync'"),
    ],
)
def test_wrong_values_are_told(tmp_path: Path, change: dict[str, str], told: str) -> None:
    root = shared(tmp_path, [VIDEO, VIDEO | change], [])
    with pytest.raises(CorpusError) as error:
        list(shared_rows(root))
    assert told in str(error.value)
    assert f"{root / 'video.csv'}, line 3" in str(error.value)


def test_a_wrong_root_is_told(tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    with pytest.raises(CorpusError, match=r"expected ROOT/video.csv.*found video/"):
        shared_rows(tmp_path)


def test_missing_columns_and_short_lines_are_told(tmp_path: Path) -> None:
    root = shared(tmp_path, [], [])
    (root / "video.csv").write_text("file,split\nvideo/v1.mp4,train\n")
    with pytest.raises(CorpusError, match="lacks the columns label, fake_kind"):
        list(shared_rows(root))
    (root / "video.csv").write_text(",".join(VIDEO) + "\nvideo/v1.mp4,train\n")
    with pytest.raises(CorpusError, match="line 2: it has not as many values"):
        list(shared_rows(root))


@pytest.mark.corpus
@pytest.mark.skipif(not (CORPUS / "video.csv").exists(), reason="the shared corpus is not beside the checkout")
def test_the_real_shared_corpus(tmp_path: Path) -> None:
    count = write(shared_rows(CORPUS), tmp_path / "m.jsonl")
    found = list(read(tmp_path / "m.jsonl"))
    assert count == len(found) > 6000
    assert all(Path(row.video or row.audio or "").exists() for row in found)
    videos = [row for row in found if row.video]
    assert Counter(row.split for row in videos) == {"train": 524, "test": 127}
    assert sum(row.method is None for row in videos) == 254
    assert all((row.method is None) == (1 not in asdict(row.labels).values()) for row in found)
    # Nobody who is seen in the test split may be seen in training.
    seen = {row.identity for row in videos if row.split == "train"}
    assert not seen & {row.identity for row in videos if row.split == "test"}
