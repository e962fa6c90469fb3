"""Readers of localisation, speech and talking-face corpora, and of people's own tables and folders."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfake.corpora import CorpusError, people, read
from avfake.corpora.lavdf import partly_fake
from avfake.manifest import ASPECTS, Labels, ManifestError, Row, Segments
from avfake.manifest import read as read_manifest
from avfake.manifest import write as write_manifest

GENUINE = Labels(visual=0, audio=0, sync=0)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def put(root: Path, name: str, text: Any) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text if isinstance(text, str) else json.dumps(text))


def rows(corpus: str, root: Path) -> dict[str, Row]:
    """The rows by id, after a look at what holds for every reader."""
    found = list(read(corpus, root))
    by_id = {row.id: row for row in (bare(row, root.name if corpus[:6] == "folder" else corpus) for row in found)}
    assert len(by_id) == len(found)
    assert write_manifest(found, root.parent / "any.jsonl") == len(found)  # as a manifest wants them
    assert all(Path(row.video or row.audio or "").is_file() for row in found)
    assert all(row.method is not None for row in found if 1 in asdict(row.labels).values())
    assert all(row.method is None for row in found if row.labels == (GENUINE if row.video else Labels(audio=0)))
    assert all(row.original is None or row.original in by_id for row in by_id.values())
    return by_id


def bare(row: Row, corpus: str) -> Row:
    """The row without the name of the corpus, which begins all ids, so that manifests can be joined."""
    prefix = f"{corpus.partition(':')[0]}/"
    assert row.id.startswith(prefix)
    assert row.original is None or row.original.startswith(prefix)
    return replace(row, id=row.id.removeprefix(prefix), original=row.original and row.original.removeprefix(prefix))


def error(corpus: str, root: Path) -> str:
    with pytest.raises(CorpusError) as raised:
        list(read(corpus, root))
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert str(root) in message
    return message


# ---------------------------------------------------------------------------------- LAV-DF

LAVDF = {
    "file": "test/000001.mp4",
    "n_fakes": 0,
    "fake_periods": [],
    "duration": 4.224,
    "original": None,
    "modify_video": False,
    "modify_audio": False,
    "split": "test",
    "video_frames": 103,
    "audio_channels": 1,
    "audio_frames": 65536,
}


def lavdf_fake(number: int, video: bool, audio: bool, **change: Any) -> dict[str, Any]:
    fake = {
        "file": f"test/{number:06d}.mp4",
        "n_fakes": 1,
        "fake_periods": [[0.5, 1.25]],
        "original": "test/000001.mp4",
        "modify_video": video,
        "modify_audio": audio,
    }
    return LAVDF | fake | change


def lavdf(root: Path, *records: dict[str, Any], name: str = "metadata.min.json") -> Path:
    put(root, name, list(records))
    touch(root, *(record["file"] for record in records if isinstance(record.get("file"), str)))
    return root


def test_lavdf(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = lavdf(
        tmp_path / "LAV-DF",
        LAVDF,
        lavdf_fake(2, True, True),
        lavdf_fake(3, False, True, fake_periods=[[0, 0.4], [2, 2.5]]),
        lavdf_fake(4, True, False),
        LAVDF | {"file": "train/000009.mp4", "split": "train"},
        lavdf_fake(5, True, False, file="dev/000005.mp4", split="dev", original="dev/000777.mp4"),
        lavdf_fake(6, True, False, original="elsewhere/000009.mp4"),
    )
    found = rows("lav-df", root)
    assert found["test/000001"] == Row(
        id="test/000001",
        video=str(root / "test/000001.mp4"),
        audio=None,
        corpus="lav-df",
        split="test",
        labels=GENUINE,
    )
    both, voice, face = (found[f"test/00000{number}"] for number in (2, 3, 4))
    assert (both.labels, both.method) == (Labels(visual=1, audio=1), "both_modified")
    assert both.segments == Segments(visual=((0.5, 1.25),), audio=((0.5, 1.25),))
    assert (voice.labels, voice.method) == (Labels(visual=0, audio=1, sync=1), "audio_modified")
    assert voice.segments == Segments(audio=((0, 0.4), (2, 2.5)), sync=((0, 0.4), (2, 2.5)))
    assert (face.labels, face.method) == (Labels(visual=1, audio=0), "visual_modified")
    assert face.segments == Segments(visual=((0.5, 1.25),))
    assert {row.original for row in (both, voice, face)} == {"test/000001"}
    assert found["train/000009"].split == "train"
    # Its original is not in the list: better none than one that does not exist.
    assert (found["dev/000005"].split, found["dev/000005"].original) == ("dev", None)
    assert "1 fakes name an original that is not listed" in caplog.text
    assert found["test/000006"].original == "train/000009"  # no other clip is called 000009


def test_lavdf_reads_the_long_metadata_where_there_is_no_short(tmp_path: Path) -> None:
    root = lavdf(tmp_path / "a", LAVDF | {"transcript": "hello"}, name="metadata.json")
    assert list(rows("lav-df", root)) == ["test/000001"]
    lavdf(root, lavdf_fake(2, True, True, original=None))
    assert list(rows("lav-df", root)) == ["test/000002"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split": "val"}, "split must be one of train, dev, test"),
        ({"modify_audio": 1}, "'modify_audio'"),
        ({"fake_periods": [[2.0, 1.0]]}, "0 <= start <= end"),
        ({"fake_periods": [[1.0]]}, "[start, end] in seconds"),
        ({"fake_periods": [["0", "1"]]}, "[start, end] in seconds"),
        ({"modify_video": False, "modify_audio": False}, "neither modify_video nor modify_audio"),
    ],
)
def test_lavdf_tells_a_broken_record(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    root = lavdf(tmp_path, LAVDF, lavdf_fake(2, True, True, **change))
    message = error("lav-df", root)
    assert told in message
    assert "metadata.min.json, test/000002.mp4" in message


def test_lavdf_tells_records_that_are_none(tmp_path: Path) -> None:
    lavdf(tmp_path, LAVDF, {"n_fakes": 0})
    assert "record 1: the field 'file' is missing" in error("lav-df", tmp_path)
    put(tmp_path, "metadata.min.json", {"file": 1})
    assert "not the list of records" in error("lav-df", tmp_path)
    for text in ("[", "[" * 100_000):
        put(tmp_path, "metadata.min.json", text)
        assert "cannot be read as JSON" in error("lav-df", tmp_path)


def test_an_alteration_without_a_place_is_not_called_fake_throughout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = lavdf(
        tmp_path / "a",
        lavdf_fake(2, True, False, fake_periods=[], original=None),
        lavdf_fake(3, False, True, fake_periods=[[1.0, 1.0]], original=None),
    )
    with caplog.at_level(logging.WARNING):
        found = rows("lav-df", root)
    assert found["test/000002"].labels == Labels(visual=None, audio=0, sync=None)
    assert found["test/000003"].labels == Labels(visual=0, audio=None, sync=None)
    assert all(row.segments == Segments() for row in found.values())
    assert "2 clips were altered, but nothing tells where" in caplog.text


pairs = st.lists(
    st.tuples(st.floats(0, 60), st.floats(0.01, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=3
)


@given(st.none() | pairs.map(tuple), st.none() | pairs.map(tuple))
def test_segments_and_labels_of_a_partly_fake_clip_agree(visual: Any, audio: Any) -> None:
    labels, segments = partly_fake(visual, audio)
    for aspect, told in (("visual", visual), ("audio", audio)):
        label, where = getattr(labels, aspect), getattr(segments, aspect)
        assert label == (0 if told is None else 1 if told else None)
        assert where == (told or ())
    assert (labels.sync == 1) == (visual is None and bool(audio))
    assert (labels.sync == 0) == (visual is None and audio is None)
    assert all((getattr(labels, aspect) == 1) == bool(getattr(segments, aspect)) for aspect in ASPECTS)


# ---------------------------------------------------------------------------------- AV-Deepfake1M


def av1m(file: str, kind: str, **change: Any) -> dict[str, Any]:
    return {
        "file": file,
        "original": file.rsplit("/", 1)[0] + "/real.mp4",
        "split": "train",
        "modify_type": kind,
        "audio_model": "vits",
        "fake_segments": [],
        "audio_fake_segments": [],
        "visual_fake_segments": [],
        "video_frames": 100,
        "audio_frames": 64000,
    } | change


SPEAKER = "id00012/21Uxsk56VDQ/00001"


def avdeepfake1m(root: Path, subset: str, *records: dict[str, Any]) -> Path:
    put(root, f"{subset}_metadata.json", list(records))
    touch(root / subset, *(record["file"] for record in records))
    return root


def test_avdeepfake1m(tmp_path: Path) -> None:
    root = tmp_path / "AV-Deepfake1M"
    visual, audio = {"visual_fake_segments": [[0.48, 0.86]]}, {"audio_fake_segments": [[0.5, 1.5]]}
    avdeepfake1m(
        root,
        "train",
        av1m(f"{SPEAKER}/real.mp4", "real", original="VoxCeleb2/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4"),
        av1m(f"{SPEAKER}/fake_video_fake_audio.mp4", "both_modified", **visual, **audio),
        av1m(f"{SPEAKER}/real_video_fake_audio.mp4", "audio_modified", visual_fake_segments=[[0.5, 1.5]], **audio),
        av1m(f"{SPEAKER}/fake_video_real_audio.mp4", "visual_modified", audio_fake_segments=[[0.48, 0.86]], **visual),
    )
    avdeepfake1m(root, "val", av1m("id00099/abc/00007/real.mp4", "real", split="val"))
    put(root, "test_files.txt", "000001.mp4\n000002.mp4\n")
    touch(root, "test/000001.mp4", "test/000002.mp4")
    found = rows("av-deepfake1m", root)
    real = f"train/{SPEAKER}/real"
    assert found[real] == Row(
        id=real,
        video=str(root / "train" / SPEAKER / "real.mp4"),
        audio=None,
        corpus="av-deepfake1m",
        split="train",
        identity="id00012",
        labels=GENUINE,
    )
    both, voice, face = (
        found[f"train/{SPEAKER}/{name}"]
        for name in ("fake_video_fake_audio", "real_video_fake_audio", "fake_video_real_audio")
    )
    # both_modified, with an underscore, is fake in both; each stream has its own segments.
    assert both.labels == Labels(visual=1, audio=1, sync=None)
    assert both.segments == Segments(visual=((0.48, 0.86),), audio=((0.5, 1.5),))
    # The segment that the release copies into the stream that was not altered is passed over.
    assert voice.labels == Labels(visual=0, audio=1, sync=1)
    assert voice.segments == Segments(audio=((0.5, 1.5),), sync=((0.5, 1.5),))
    assert face.labels == Labels(visual=1, audio=0, sync=None)
    assert face.segments == Segments(visual=((0.48, 0.86),))
    assert [row.method for row in (both, voice, face)] == [
        "both_modified:vits",
        "audio_modified:vits",
        "visual_modified",
    ]
    assert {row.original for row in (both, voice, face)} == {real}
    assert (found["val/id00099/abc/00007/real"].split, found["val/id00099/abc/00007/real"].original) == ("dev", None)
    assert found["test/000001"] == Row(
        id="test/000001", video=str(root / "test/000001.mp4"), audio=None, corpus="av-deepfake1m", split="test"
    )


def test_avdeepfake1m_plus_plus(tmp_path: Path) -> None:
    silent = "silent_videos/subject_17_ddvyjnjfad_vid_2_6"
    fake: dict[str, Any] = {"video_model": "Talklip", "audio_model": "yourtts", "visual_fake_segments": [[1, 2]]}
    root = avdeepfake1m(
        tmp_path / "pp",
        "val",
        av1m(f"vox_celeb_2/{SPEAKER}/fake.mp4", "both_modified", audio_fake_segments=[[1, 2]], **fake),
        av1m("lrs3/ue2ZEmTJSXo/00013/real.mp4", "real", audio_model=None, visual_fake_segments=None),
        av1m(f"{silent}/real.mp4", "real"),
        av1m(f"{silent}/fake.mp4", "visual_modified", audio_frames=0, **fake | {"video_model": "diff2lip"}),
        av1m("vox_celeb_2/id1/x/1/mute.mp4", "visual_modified", audio_frames=None, **fake),
    )
    found = {row.video.split("/val/")[1]: row for row in rows("av-deepfake1m", root).values() if row.video}
    assert found[f"vox_celeb_2/{SPEAKER}/fake.mp4"].method == "both_modified:Talklip+yourtts"
    assert found[f"vox_celeb_2/{SPEAKER}/fake.mp4"].original is None  # its real.mp4 is not listed
    assert [row.identity for row in found.values()] == ["id00012", "ue2ZEmTJSXo", "subject_17", "subject_17", "id1"]
    assert found["lrs3/ue2ZEmTJSXo/00013/real.mp4"].labels == GENUINE
    assert found[f"{silent}/real.mp4"].labels == Labels(visual=0)
    assert found[f"{silent}/fake.mp4"].labels == Labels(visual=1)
    assert found[f"{silent}/fake.mp4"].method == "visual_modified:diff2lip"
    assert found[f"{silent}/fake.mp4"].original == f"val/{silent}/real"
    assert found["vox_celeb_2/id1/x/1/mute.mp4"].labels == Labels(visual=1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"modify_type": "both-modified"}, "modify_type must be one of real, visual_modified"),
        ({"audio_fake_segments": [[-1, 1]]}, "'audio_fake_segments' must hold 0 <= start <= end"),
        ({"audio_frames": "none"}, "'audio_frames'"),
    ],
)
def test_avdeepfake1m_tells_a_broken_record(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    record = av1m(f"{SPEAKER}/x.mp4", "audio_modified", audio_fake_segments=[[0, 1]])
    message = error("av-deepfake1m", avdeepfake1m(tmp_path, "train", record | change))
    assert told in message
    assert f"train_metadata.json, {SPEAKER}/x.mp4" in message


# ---------------------------------------------------------------------------------- speech


def asvspoof2019(root: Path, eval_line: str = "LA_0039 LA_E_2834763 - A11 spoof") -> Path:
    protocols = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"
    put(root, f"{protocols}.train.trn.txt", "LA_0079 LA_T_1138215 - - bonafide\nLA_0079 LA_T_1271820 - A01 spoof\n")
    put(root, f"{protocols}.dev.trl.txt", "LA_0069 LA_D_1047731 - - bonafide\n")
    put(root, f"{protocols}.eval.trl.txt", eval_line + "\n")
    for part, names in (("train", ("T_1138215", "T_1271820")), ("dev", ("D_1047731",)), ("eval", ("E_2834763",))):
        touch(root, *(f"ASVspoof2019_LA_{part}/flac/LA_{name}.flac" for name in names))
    return root


def test_asvspoof2019(tmp_path: Path) -> None:
    root = asvspoof2019(tmp_path / "LA")
    found = rows("asvspoof2019", root)
    assert found["LA_T_1271820"] == Row(
        id="LA_T_1271820",
        video=None,
        audio=str(root / "ASVspoof2019_LA_train/flac/LA_T_1271820.flac"),
        corpus="asvspoof2019-la",
        split="train",
        identity="LA_0079",
        method="A01",
        language="en",
        labels=Labels(audio=1),
    )
    told = {row.id: (row.split, row.labels.audio, row.method) for row in found.values()}
    assert told == {
        "LA_T_1138215": ("train", 0, None),
        "LA_T_1271820": ("train", 1, "A01"),
        "LA_D_1047731": ("dev", 0, None),
        "LA_E_2834763": ("test", 1, "A11"),
    }
    asvspoof2019(root, "LA_0039 LA_E_2834763 - A11 fake")
    assert "eval.trl.txt, line 1: the key must be one of bonafide, spoof, not 'fake'" in error("asvspoof2019", root)
    asvspoof2019(root, "LA_0039 LA_E_2834763 spoof")
    assert "expected 5 fields, found 3" in error("asvspoof2019", root)


LA = [
    "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
    "LA_0009 LA_E_1000001 alaw ita_tx bonafide bonafide notrim eval",
    "LA_0010 LA_E_1000002 opus ita_tx A10 spoof notrim progress",
    "LA_0010 LA_E_1000003 none none - bonafide trim hidden",
]
DF = [
    "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
    "TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder_autoregressive Task1 team20 FF E",
    "LA_0048 DF_E_2000058 mp3m4a asvspoof - bonafide notrim eval bonafide - - - -",
]


def asvspoof2021(root: Path, **tracks: list[str]) -> Path:
    for track, lines in tracks.items():
        put(root, f"keys/{track}/CM/trial_metadata.txt", "\n".join(lines) + "\n")
        touch(root, *(f"ASVspoof2021_{track}_eval/flac/{line.split()[1]}.flac" for line in lines))
    return root


def test_asvspoof2021(tmp_path: Path) -> None:
    root = asvspoof2021(tmp_path / "2021", LA=LA, DF=DF)
    found = rows("asvspoof2021", root)
    assert {row.id: (row.corpus, row.labels.audio, row.method, row.identity) for row in found.values()} == {
        "LA_E_9332881": ("asvspoof2021-la/eval", 1, "A07", "LA_0009"),
        "LA_E_1000001": ("asvspoof2021-la/eval", 0, None, "LA_0009"),
        "LA_E_1000002": ("asvspoof2021-la/progress", 1, "A10", "LA_0010"),
        "LA_E_1000003": ("asvspoof2021-la/hidden", 0, None, "LA_0010"),
        "DF_E_2000011": ("asvspoof2021-df/progress", 1, "A14", "LA_0023"),
        "DF_E_2000013": ("asvspoof2021-df/eval", 1, "Task1-team20", "TEF2"),
        "DF_E_2000058": ("asvspoof2021-df/eval", 0, None, "LA_0048"),
    }
    assert {row.split for row in found.values()} == {"test"}
    assert found["DF_E_2000013"].audio == str(root / "ASVspoof2021_DF_eval/flac/DF_E_2000013.flac")
    assert {row.labels.visual for row in found.values()} == {row.labels.sync for row in found.values()} == {None}


def test_asvspoof2021_has_two_tracks(tmp_path: Path) -> None:
    root = asvspoof2021(tmp_path / "2021", LA=LA)
    assert len(rows("asvspoof2021:la", root)) == len(LA)
    assert "expected ROOT/keys/DF/CM/trial_metadata.txt, found" in error("asvspoof2021:df", root)
    asvspoof2021(root, LA=[LA[0].replace("eval", "all")])
    assert "line 1: the subset must be one of eval, progress, hidden" in error("asvspoof2021:la", root)
    with pytest.raises(CorpusError, match="no variant 'pa': use one of la, df"):
        read("asvspoof2021:pa", root)


ASV5 = {
    "ASVspoof5.train.tsv": (
        "T_4850 T_0000000000 F - - - AC3 A05 spoof -\nT_1 T_0000000001 M - - - - bonafide bonafide -\n"
    ),
    "ASVspoof5.dev.track_1.tsv": "D_0461 D_0000000190 M - - - - bonafide bonafide -\n",
    "ASVspoof5.eval.track_1.tsv": "E_0001 E_0000000002 F C05 2 E_0000000009 AC1 A17 spoof -\n",
}


@pytest.mark.parametrize("folder", ["", "ASVspoof5_protocols/"])
def test_asvspoof5(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "5"
    for name, text in ASV5.items():
        put(root, folder + name, text)
    touch(root, "flac_T/T_0000000000.flac", "flac_T/T_0000000001.flac")
    touch(root, "flac_D/D_0000000190.flac", "flac_E_eval/E_0000000002.flac")
    found = rows("asvspoof5", root)
    assert {row.id: (row.split, row.labels.audio, row.method, row.identity) for row in found.values()} == {
        "T_0000000000": ("train", 1, "A05", "T_4850"),
        "T_0000000001": ("train", 0, None, "T_1"),
        "D_0000000190": ("dev", 0, None, "D_0461"),
        "E_0000000002": ("test", 1, "A17", "E_0001"),
    }
    put(root, folder + "ASVspoof5.train.tsv", "T_4850 T_0000000000 F - - spoof\n")
    assert "ASVspoof5.train.tsv, line 1: expected 10 fields, found 6" in error("asvspoof5", root)


def test_in_the_wild(tmp_path: Path) -> None:
    root = tmp_path / "release_in_the_wild"
    put(root, "meta.csv", "file,speaker,label\n0.wav,Alec Guinness,spoof\n4.wav,Barack Obama,bona-fide\n")
    touch(root, "0.wav", "4.wav")
    found = rows("in-the-wild", root)
    assert (found["0"].labels, found["0"].method, found["0"].split) == (Labels(audio=1), "unknown", "test")
    assert found["4"] == Row(
        id="4",
        video=None,
        audio=str(root / "4.wav"),
        corpus="in-the-wild",
        split="test",
        identity="Barack Obama",
        language="en",
        labels=Labels(audio=0),
    )
    put(root, "meta.csv", "file,speaker,label\n0.wav,Alec Guinness,bonafide\n")
    assert "line 2: label must be one of bona-fide, spoof, not 'bonafide'" in error("in-the-wild", root)


def wavefake(root: Path, sentences: int) -> Path:
    tts = "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech"
    for number in range(1, sentences + 1):
        for folder in ("ljspeech_melgan", "ljspeech_hifiGAN"):
            touch(root, f"generated_audio/{folder}/LJ001-{number:04d}_gen.wav")
        touch(root, f"generated_audio/jsut_parallel_wavegan/BASIC5000_{number:04d}_gen.wav")
        touch(root, f"generated_audio/{tts}/gen_{number}.wav", f"generated_audio/{tts}/generated/gen_{number}.wav")
    return root


def test_wavefake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = wavefake(tmp_path / "WaveFake", 20)
    with caplog.at_level(logging.WARNING):
        alone = rows("wavefake", root)
    assert {row.labels for row in alone.values()} == {Labels(audio=1)}
    assert "no genuine speech of ljspeech in LJSpeech-1.1/wavs" in caplog.text
    for number in range(1, 21):
        touch(root, f"LJSpeech-1.1/wavs/LJ001-{number:04d}.wav")
        touch(root, f"jsut_ver1.1/basic5000/wav/BASIC5000_{number:04d}.wav")
    found = rows("wavefake", root)
    assert len(found) == 120
    melgan, hifigan, genuine = (
        found[name] for name in ("ljspeech_melgan/LJ001-0001_gen", "ljspeech_hifiGAN/LJ001-0001_gen", "LJ001-0001")
    )
    assert (genuine.labels, genuine.method, genuine.identity) == (Labels(audio=0), None, "ljspeech")
    assert (melgan.labels, melgan.method, melgan.original) == (Labels(audio=1), "ljspeech_melgan", "LJ001-0001")
    japanese = found["jsut_parallel_wavegan/BASIC5000_0003_gen"]
    assert (japanese.language, japanese.identity, japanese.original) == ("ja", "jsut", "BASIC5000_0003")
    spoken = next(row for row in found.values() if (row.method or "").startswith("common_voices"))
    assert (spoken.original, spoken.identity, spoken.language) == (None, "ljspeech", "en")
    # A sentence is in one split, whoever made it.
    assert melgan.split == hifigan.split == genuine.split
    assert all(row.original is None or row.split == found[row.original].split for row in found.values())
    assert {row.split for row in found.values()} == {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("corpus", "folder"),
    [
        ("for", "for-norm"),
        ("for:norm", "for-norm/for-norm"),
        ("for:original", "for-original"),
        ("for:2sec", "for-2sec/for-2seconds"),
        ("for:rerec", "for-rerec/for-rerecorded"),
    ],
)
def test_fake_or_real(tmp_path: Path, corpus: str, folder: str) -> None:
    root = tmp_path / "FoR"
    name = "file1.wav_16k.wav_norm.wav_mono.wav_silence.wav"
    for split in ("training", "validation", "testing"):
        touch(root, *(f"{folder}/{split}/{kind}/{name}" for kind in ("real", "fake")))
    found = rows(corpus, root)
    assert {row.id: (row.split, row.labels, row.method) for row in found.values()} == {
        f"{corpus.partition(':')[2] or 'norm'}/{folder_name}/{kind}/{name}": (
            split,
            Labels(audio=label),
            "tts" if label else None,
        )
        for folder_name, split in (("training", "train"), ("validation", "dev"), ("testing", "test"))
        for label, kind in enumerate(("real", "fake"))
    }
    assert {row.corpus for row in found.values()} == {"for-" + (corpus.partition(":")[2] or "norm")}


@pytest.mark.parametrize(
    ("corpus", "folder"), [("for:2sec", "for-2seconds"), ("for:rerec", "for-rerecorded"), ("for", "for-norm")]
)
def test_fake_or_real_as_people_unpack_it(tmp_path: Path, corpus: str, folder: str) -> None:
    root = tmp_path / "FoR"
    for split in ("training", "Validation", "testing"):
        touch(root, f"{folder}/{split}/Real/1.wav", f"{folder}/{split}/fake/2.wav")
    (root / "for-norm/for-norm").mkdir(parents=True)  # an empty inner folder hides nothing
    assert sorted(row.labels.audio for row in rows(corpus, root).values()) == [0, 0, 0, 1, 1, 1]
    (root / folder / "testing/fake/2.wav").unlink()
    (root / folder / "testing/fake").rmdir()
    assert f"expected ROOT/{folder}/testing/fake, found" in error(corpus, root)


def test_asvspoof_with_some_of_its_protocols(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = asvspoof2019(tmp_path / "LA")
    (root / "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt").unlink()
    put(tmp_path / "5", "ASVspoof5.train.tsv", "\ufeff" + ASV5["ASVspoof5.train.tsv"])
    touch(tmp_path / "5", "flac_T/T_0000000000.flac", "flac_T/T_0000000001.flac")
    with caplog.at_level(logging.WARNING):
        assert {row.split for row in rows("asvspoof2019", root).values()} == {"train", "dev"}
        assert {row.identity for row in rows("asvspoof5", tmp_path / "5").values()} == {"T_4850", "T_1"}
    assert "left out: ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt." in caplog.text
    assert "left out: ASVspoof5.dev.track_1.tsv, ASVspoof5.eval.track_1.tsv." in caplog.text


# ---------------------------------------------------------------------------------- genuine talking faces


@pytest.mark.parametrize(
    ("corpus", "clip", "needed"),
    [
        ("lrs3", "trainval/abc/1.mp4", "test/abc"),
        ("voxceleb2", "dev/mp4/id1/abc/1.mp4", "."),
        ("wavefake", "generated_audio/ljspeech_melgan/1_gen.wav", "."),
    ],
)
def test_hidden_files_are_none_and_suffixes_have_any_case(
    tmp_path: Path, corpus: str, clip: str, needed: str, caplog: pytest.LogCaptureFixture
) -> None:
    root, path = tmp_path / "root", Path(clip)
    touch(root, clip, str(path.with_name(f"._{path.name}")), str(path.with_name(f"2{path.suffix.upper()}")))
    (root / needed).mkdir(parents=True, exist_ok=True)
    with caplog.at_level(logging.WARNING):
        found = rows(corpus, root)
    assert sorted(Path(row.video or row.audio or "").name for row in found.values()) == [
        path.name,
        f"2{path.suffix.upper()}",
    ]
    assert "all its clips" not in caplog.text  # one class is what these have


def test_lrs2(tmp_path: Path) -> None:
    root = tmp_path / "mvlrs_v1"
    put(root, "train.txt", "5535415699068794046/00001\n")
    put(root, "val.txt", "5535415699068794046/00002\n")
    put(root, "test.txt", "6330311066473698535/00011 NF\n6331559613336179781/00018 MV\n")
    touch(root, "main/5535415699068794046/00001.mp4", "main/5535415699068794046/00002.mp4")
    touch(root, "main/6330311066473698535/00011.mp4", "main/6331559613336179781/00018.mp4")
    found = rows("lrs2", root)
    assert {row.id: row.split for row in found.values()} == {
        "main/5535415699068794046/00001": "train",
        "main/5535415699068794046/00002": "dev",
        "main/6330311066473698535/00011": "test",
        "main/6331559613336179781/00018": "test",
    }
    assert all((row.labels, row.method, row.identity) == (GENUINE, None, None) for row in found.values())
    put(root, "pretrain.txt", "5535415699068794046/00001\n")
    touch(root, "pretrain/5535415699068794046/00001.mp4")
    assert rows("lrs2", root)["pretrain/5535415699068794046/00001"].split == "train"
    put(root, "val.txt", "5535415699068794046/00002 NF more\n")
    assert "val.txt, line 1: expected 1 or 2 fields" in error("lrs2", root)


def test_lrs3(tmp_path: Path) -> None:
    root = tmp_path / "lrs3"
    touch(root, "pretrain/0af00UcTOSc/00001.mp4", "trainval/0af00UcTOSc/50001.mp4", "test/0Fi83BHQsMA/00002.mp4")
    touch(root, "test/0Fi83BHQsMA/00002.txt")
    found = rows("lrs3", root)
    assert {row.id: (row.split, row.identity) for row in found.values()} == {
        "pretrain/0af00UcTOSc/00001": ("train", "0af00UcTOSc"),
        "trainval/0af00UcTOSc/50001": ("train", "0af00UcTOSc"),
        "test/0Fi83BHQsMA/00002": ("test", "0Fi83BHQsMA"),
    }
    assert {row.labels for row in found.values()} == {GENUINE}


def test_voxceleb2(tmp_path: Path) -> None:
    root = tmp_path / "vox2"
    touch(root, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "test/mp4/id00017/01dfn2spqyE/00001.mp4")
    touch(root, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a")
    found = rows("voxceleb2", root)
    # The authors' dev is the part to train on.
    assert found["dev/mp4/id00012/21Uxsk56VDQ/00001"] == Row(
        id="dev/mp4/id00012/21Uxsk56VDQ/00001",
        video=str(root / "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4"),
        audio=None,
        corpus="voxceleb2",
        split="train",
        identity="id00012",
        labels=GENUINE,
    )
    assert found["test/mp4/id00017/01dfn2spqyE/00001"].split == "test"
    (voice,) = rows("voxceleb2:audio", root).values()
    assert (voice.video, voice.audio) == (None, str(root / "dev/aac/id00012/21Uxsk56VDQ/00001.m4a"))
    assert (voice.labels, voice.identity) == (Labels(audio=0), "id00012")


# ---------------------------------------------------------------------------------- what holds for all of them


@pytest.mark.parametrize(
    ("corpus", "told"),
    [
        ("lav-df", "is not LAV-DF: expected ROOT/metadata.min.json or ROOT/metadata.json"),
        ("av-deepfake1m", "is not AV-Deepfake1M: expected ROOT/train_metadata.json, ROOT/val_"),
        (
            "asvspoof2019",
            "is not ASVspoof 2019 LA: expected ROOT/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn",
        ),
        ("asvspoof2021", "is not ASVspoof 2021: expected ROOT/keys/LA/CM/trial_metadata.txt, ROOT/keys/DF/"),
        ("asvspoof5", "is not ASVspoof 5: expected ROOT/ASVspoof5.train.tsv"),
        ("in-the-wild", "is not In-the-Wild: expected ROOT/meta.csv"),
        ("wavefake", "is not WaveFake: expected ROOT/generated_audio"),
        ("for", "is not Fake-or-Real: expected ROOT/for-norm/training"),
        ("lrs2", "is not LRS2: expected ROOT/main, ROOT/train.txt"),
        ("lrs3", "is not LRS3: expected ROOT/trainval, ROOT/test"),
        ("voxceleb2", "is not VoxCeleb2: expected ROOT/*/mp4/id*"),
        ("folder", "is not a folder of real and fake files: expected ROOT/real and ROOT/fake"),
    ],
)
def test_a_wrong_root_is_told(tmp_path: Path, corpus: str, told: str) -> None:
    touch(tmp_path, "holiday/beach.jpg", "foo_metadata.json", "metadata.foo.json")
    message = error(corpus, tmp_path)
    assert told in message
    assert "found foo_metadata.json, holiday" in message


def _holds_three(root: Path, corpus: str) -> Path:
    """A tree of the corpus with three clips, all of them on disk."""
    if corpus == "lav-df":
        return lavdf(root, LAVDF, lavdf_fake(2, True, True), lavdf_fake(3, True, True))
    if corpus == "asvspoof2021:df":
        return asvspoof2021(root, DF=DF)
    table = root / "own.csv"
    put(root, "own.csv", "video,fake\na.mp4,0\nb.mp4,0\nc.mp4,0\n")
    touch(root, "a.mp4", "b.mp4", "c.mp4")
    return table


@pytest.mark.parametrize("corpus", ["lav-df", "asvspoof2021:df", "table"])
def test_files_that_are_not_there_are_left_out_and_counted(
    tmp_path: Path, corpus: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = _holds_three(tmp_path, corpus)
    whole = list(read(corpus, root))
    assert len(whole) == 3
    Path(whole[0].video or whole[0].audio or "").unlink()
    with caplog.at_level(logging.WARNING):
        assert list(read(corpus, root)) == whole[1:]
    assert "1 of 3 clips are not there" in caplog.text
    for row in whole[1:]:
        Path(row.video or row.audio or "").unlink()
    with pytest.raises(CorpusError, match="none of its 3 clips is there"):
        list(read(corpus, root))


def test_manifests_of_several_corpora_can_be_joined(tmp_path: Path) -> None:
    lavdf(tmp_path / "l", LAVDF)
    put(tmp_path, "a/test_files.txt", "000001.mp4\n")
    touch(tmp_path, "a/test/000001.mp4")
    for part in ("norm", "2sec"):
        for split in ("training", "validation", "testing"):
            touch(tmp_path, *(f"f/for-{part}/{split}/{kind}/file1.wav" for kind in ("real", "fake")))
    whole = "\ufeff"  # as some editors on Windows put it
    for corpus, root in (("lav-df", "l"), ("av-deepfake1m", "a"), ("for", "f"), ("for:2sec", "f")):
        write_manifest(read(corpus, tmp_path / root), tmp_path / "one.jsonl")
        whole += (tmp_path / "one.jsonl").read_text()
    put(tmp_path, "all.jsonl", whole)
    found = [row.id for row in read_manifest(tmp_path / "all.jsonl")]
    assert found[:2] == ["lav-df/test/000001", "av-deepfake1m/test/000001"]
    assert len(found) == 14


def test_a_manifest_of_nothing_but_brackets_is_told(tmp_path: Path) -> None:
    put(tmp_path, "m.jsonl", "[" * 100_000)
    with pytest.raises(ManifestError, match="line 1"):
        list(read_manifest(tmp_path / "m.jsonl"))


# ---------------------------------------------------------------------------------- your own data: tables

MEDIA = ("a.mp4", "b.mkv", "below/c.mp4", "d.wav", "e.flac")


def write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)))
    writer.writeheader()
    writer.writerows(lines)
    path.write_text(text.getvalue(), newline="")


def write_jsonl(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def own(root: Path, *lines: dict[str, Any], name: str = "own.csv") -> Path:
    touch(root, *MEDIA)
    (write_csv if name.endswith(".csv") else write_jsonl)(root / name, list(lines))
    return root / name


label = st.sampled_from([0, 1, None])
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
segments = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0.01, 10)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=2
).map(tuple)


@st.composite
def own_rows(draw: st.DrawFn) -> Row:
    video = draw(st.none() | st.sampled_from(["a.mp4", "b.mkv", "below/c.mp4"]))
    audio = draw(st.sampled_from(["d.wav", "e.flac"]) if video is None else st.none() | st.just("d.wav"))
    labels = Labels(draw(label), draw(label), draw(label)) if video else Labels(audio=draw(label))
    fake = 1 in asdict(labels).values()
    return Row(
        id=draw(text),
        video=video,
        audio=audio,
        corpus=draw(text),
        split=draw(st.sampled_from(["train", "dev", "test"])),
        identity=draw(st.none() | text),
        method=draw(text) if fake else None,
        language=draw(st.none() | text),
        original=draw(st.none() | text),
        labels=labels,
        segments=Segments(**{a: draw(segments) if getattr(labels, a) == 1 else () for a in ASPECTS}),
    )


def as_line(row: Row) -> dict[str, Any]:
    line = {name: value for name, value in asdict(row).items() if name not in ("labels", "segments")}
    line |= {f"{aspect}_fake": getattr(row.labels, aspect) for aspect in ASPECTS}
    return line | {f"{aspect}_segments": getattr(row.segments, aspect) for aspect in ASPECTS}


def as_csv_line(row: Row) -> dict[str, Any]:
    spelt = {
        f"{aspect}_segments": " ".join(f"{start!r}:{end!r}" for start, end in getattr(row.segments, aspect))
        for aspect in ASPECTS
    }
    return as_line(row) | spelt


@pytest.mark.parametrize(
    ("name", "spell"),
    [("own.csv", as_csv_line), ("own.jsonl", as_line), ("whole.jsonl", asdict)],
)
@given(wanted=st.lists(own_rows(), min_size=1, max_size=4, unique_by=lambda row: row.id))
def test_a_table_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, spell: Callable[[Row], dict[str, Any]], wanted: list[Row]
) -> None:
    root = tmp_path_factory.getbasetemp() / "tables"
    found = list(read("table", own(root, *map(spell, wanted), name=name)))
    assert found == [
        replace(row, video=row.video and str(root / row.video), audio=row.audio and str(root / row.audio))
        for row in wanted
    ]


@pytest.mark.parametrize(
    ("variant", "line", "labels"),
    [
        ("", {"video": "a.mp4", "fake": 0}, GENUINE),
        ("", {"video": "a.mp4", "fake": 1}, Labels(visual=1)),
        (":visual", {"video": "a.mp4", "fake": 1}, Labels(visual=1, audio=0)),
        (":audio", {"video": "a.mp4", "fake": 1}, Labels(visual=0, audio=1)),
        (":both", {"video": "a.mp4", "fake": 1}, Labels(visual=1, audio=1)),
        (":both", {"video": "a.mp4", "fake": 0}, GENUINE),
        (":both", {"audio": "d.wav", "fake": 1}, Labels(audio=1)),
        (":visual", {"audio": "d.wav", "fake": 1}, Labels(audio=1)),
        ("", {"audio": "d.wav", "fake": 0}, Labels(audio=0)),
        # What is told of an aspect goes before any assumption.
        ("", {"video": "a.mp4", "fake": 1, "sync_fake": 1}, Labels(sync=1)),
        (":visual", {"video": "a.mp4", "fake": 1, "visual_fake": 0, "audio_fake": 1}, Labels(visual=0, audio=1)),
        ("", {"video": "a.mp4", "visual_fake": 0}, Labels(visual=0)),
        ("", {"video": "a.mp4"}, Labels()),
    ],
)
def test_what_a_line_says_of_aspects(tmp_path: Path, variant: str, line: dict[str, Any], labels: Labels) -> None:
    for name in ("own.csv", "own.jsonl"):
        (row,) = read(f"table{variant}", own(tmp_path, line, name=name))
        assert row.labels == labels
        assert row.method == ("unknown" if 1 in asdict(labels).values() else None)


def test_the_assumption_about_bare_fakes_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [{"video": name, "audio": "", "fake": 1} for name in MEDIA[:3]] + [{"audio": "d.wav", "fake": 1}]
    path = own(tmp_path, *lines, {"audio": "e.flac", "fake": 0})
    with caplog.at_level(logging.WARNING):
        list(read("table:visual", path))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        list(read("table", path))
    assert "3 videos are said to be fake, but not in what" in caplog.text
    assert len(caplog.records) == 1


def test_what_a_table_leaves_empty(tmp_path: Path) -> None:
    (row,) = read("table", own(tmp_path / "t", {"video": "below/c.mp4", "audio": "d.wav", "fake": 0}, name="t.csv"))
    assert row == Row(
        id="t/below/c.mp4",
        video=str(tmp_path / "t" / "below/c.mp4"),
        audio=str(tmp_path / "t" / "d.wav"),
        corpus="t",
        split=row.split,
        labels=GENUINE,
    )


def test_our_split_of_a_table_keeps_people_and_originals_together(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"id": f"{person}{clip}", "audio": "d.wav", "fake": 0, "identity": person}
        for person in "abcdefghij"
        for clip in "12"
    ]
    lines += [{"id": f"fake{person}", "audio": "d.wav", "fake": 1, "original": f"{person}1"} for person in "abcdefghij"]
    lines += [
        {"id": "lone", "audio": "d.wav", "fake": 0},
        {"id": "copy", "audio": "d.wav", "fake": 1, "original": "lone"},
    ]
    split = {row.id: row.split for row in read("table", own(tmp_path, *lines))}
    assert all(split[f"{person}1"] == split[f"{person}2"] == split[f"fake{person}"] for person in "abcdefghij")
    assert split["lone"] == split["copy"]
    assert set(split.values()) == {"train", "dev", "test"}
    assert split == {row.id: row.split for row in read("table", own(tmp_path, *reversed(lines)))}


LONE: dict[str, dict[str, Any]] = {
    "fake of another person": {"f": {"original": "o", "identity": "source"}, "o": {"identity": "target"}},
    "original of a nameless person": {"f": {"original": "o", "identity": "anna"}, "o": {}},
    "some have a split": {"f": {"identity": "anna"}, "o": {"identity": "anna", "split": "test"}},
    "a fake of a fake": {"g": {"original": "f"}, "f": {"original": "o"}, "o": {"identity": "anna"}},
    "an original that is not listed": {"f": {"original": "x"}, "g": {"original": "x", "identity": "anna"}},
}


@pytest.mark.parametrize("family", LONE.values(), ids=LONE)
def test_our_split_of_a_table_keeps_families_whole(tmp_path: Path, family: dict[str, dict[str, Any]]) -> None:
    # Many of them: one alone may be together by chance.
    def named(value: str, number: int) -> str:
        return value if value in ("train", "dev", "test") else f"{value}{number}"

    lines = [
        {"id": f"{name}{number}", "audio": "d.wav", "fake": int("original" in line)}
        | {column: named(value, number) for column, value in line.items()}
        for number in range(20)
        for name, line in family.items()
    ]
    split = {row.id: row.split for row in read("table", own(tmp_path, *lines))}
    for number in range(20):
        told = {line["split"] for line in family.values() if "split" in line}
        found = {split[f"{name}{number}"] for name in family}
        assert found == (told or {split[f"f{number}"]})


def test_two_splits_in_a_family(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"id": name, "audio": "d.wav", "fake": 0, "identity": "anna", "split": split}
        for name, split in (("a", "train"), ("b", "test"), ("c", ""))
    ]
    message = error("table", own(tmp_path, *lines))
    assert "'a' is train and 'b' is test, but 'c', which has no split, shares people" in message
    # Many official splits share people; with nothing left to decide they are taken as they are.
    with caplog.at_level(logging.WARNING):
        assert [row.split for row in read("table", own(tmp_path, *lines[:2]))] == ["train", "test"]
    assert "has people or originals (a for one) in two splits" in caplog.text


names = st.none() | st.sampled_from("abcdef")


@given(st.lists(st.tuples(names, names), max_size=6))
def test_families_are_the_connected_rows(told: list[tuple[str | None, str | None]]) -> None:
    found = [
        Row("abcdef"[index], None, "a.wav", "c", "train", identity=identity, original=original)
        for index, (identity, original) in enumerate(told)
    ]
    groups = people.families(found)
    assert sorted(set(groups)) == list(range(len(set(groups))))
    reach = [{index} for index in range(len(found))]
    for _ in found:
        for a, one in enumerate(found):
            for b, other in enumerate(found):
                same = one.identity is not None and one.identity == other.identity
                if same or {one.id, one.original} & {other.id, other.original} - {None}:
                    reach[a] |= reach[b]
    for a, others in enumerate(reach):
        assert {b for b in range(len(found)) if groups[b] == groups[a]} == others


@pytest.mark.parametrize("corpus", ["table", "folder"])
def test_our_splits_do_not_move_when_clips_are_added(tmp_path: Path, corpus: str) -> None:
    def split(count: int) -> dict[str, str]:
        root = tmp_path / "mine"
        touch(root, *(f"{kind}/{number}.wav" for kind in ("real", "fake") for number in range(count)))
        lines = [{"audio": f"real/{number}.wav", "fake": 0} for number in range(count)]
        lines += [
            {"audio": f"fake/{number}.wav", "fake": 1, "original": f"real/{number}.wav"}
            for number in range(0, count, 2)
        ]
        path = root / f"{count}.csv"
        write_csv(path, lines)
        found = read(corpus, root if corpus == "folder" else path)
        return {row.id.partition("/")[2]: row.split for row in found}

    few, many = split(50), split(80)
    assert few.items() <= many.items()
    if corpus == "table":
        assert all(many[f"real/{number}.wav"] == many[f"fake/{number}.wav"] for number in range(0, 80, 2))


def test_an_original_may_be_named_by_its_path(tmp_path: Path) -> None:
    lines = [
        {"video": "./a.mp4", "fake": 0},
        {"video": "b.mkv", "fake": 1, "original": "a.mp4"},
        {"video": "below/c.mp4", "fake": 1, "original": "lrs3/test/x/1"},
    ]
    found = list(read("table", own(tmp_path, *lines)))
    assert [(row.id, row.original) for row in found] == [
        ("own/a.mp4", None),
        ("own/b.mkv", "own/a.mp4"),
        ("own/below/c.mp4", "lrs3/test/x/1"),
    ]


def test_a_table_may_name_remote_files(tmp_path: Path) -> None:
    lines = [{"video": "s3://bucket/a.mp4", "fake": 0}, {"video": "a.mp4", "audio": "memory://b.wav", "fake": 1}]
    found = list(read("table", own(tmp_path, *lines)))
    assert [(row.id, row.video, row.audio) for row in found] == [
        ("s3://bucket/a.mp4", "s3://bucket/a.mp4", None),
        ("own/a.mp4", str(tmp_path / "a.mp4"), "memory://b.wav"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("video;fake\na.mp4;1\n", "part the columns by commas"),
        ("video, fake\na.mp4, 1\n", "write no space beside the commas"),
        ("video,fake,fake\na.mp4,1,0\n", "a column is there twice in video, fake, fake"),
    ],
)
def test_a_table_that_is_spelt_otherwise_is_told_how(tmp_path: Path, text: str, told: str) -> None:
    put(tmp_path, "own.csv", text)
    touch(tmp_path, "a.mp4")
    assert told in error("table", tmp_path / "own.csv")


@pytest.mark.parametrize(
    ("column", "told"),
    [({}, "none of its clips has a label"), ({"fake": 1}, "all its clips with a label are fake")],
)
def test_a_class_that_is_missing_is_told(
    tmp_path: Path, column: dict[str, int], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        list(read("table:visual", own(tmp_path, {"video": "a.mp4"} | column)))
    assert told in caplog.text
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        list(read("table:visual", own(tmp_path, {"video": "a.mp4", "fake": 1}, {"audio": "d.wav", "fake": 0})))
    assert not caplog.records


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl", "whole.jsonl"])
def test_tables_may_begin_with_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    row = Row("x", "a.mp4", None, "c", "test", labels=GENUINE)
    line = {"own.csv": "video,fake\na.mp4,0\n", "own.jsonl": '{"video": "a.mp4", "fake": 0}\n'}
    put(tmp_path, name, "\ufeff" + line.get(name, json.dumps(asdict(row)) + "\n"))
    touch(tmp_path, "a.mp4")
    assert [row.video for row in read("table", tmp_path / name)] == [str(tmp_path / "a.mp4")]


def test_a_path_that_cannot_be_is_told(tmp_path: Path) -> None:
    long = "a" * 300
    with pytest.raises(CorpusError, match=f"{long}.mp4 cannot be looked at: File name too long"):
        list(read("table", own(tmp_path, {"video": f"{long}.mp4", "fake": 1})))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"vidio": "a.mp4"}, "there is no column 'vidio'; the columns are id, video"),
        ({"labels": "1"}, "there is no column 'labels'"),
        ({"video": "", "fake": 1}, "both video and audio are empty"),
        ({"video": "a.mp4", "fake": 2}, "fake must be 1 (fake), 0 (genuine) or empty"),
        ({"video": "a.mp4", "fake": "real"}, "fake must be 1 (fake)"),
        ({"video": "a.mp4", "fake": 0, "audio_fake": 1}, "fake is 0, but visual_fake"),
        ({"video": "a.mp4", "fake": 1, "audio_fake": 0}, "fake is 1, but visual_fake"),
        ({"audio": "d.wav", "visual_fake": 1}, "there is sound alone"),
        ({"video": "a.mp4", "fake": 0, "method": "wav2lip"}, "it has a method, but its labels say"),
        ({"audio": "d.wav", "fake": 0, "method": "vits"}, "it has a method, but its labels say"),
        ({"video": "a.mp4", "split": "valid"}, "split must be one of train, dev, test, not 'valid'"),
        ({"video": "a.mp4", "audio_fake": 0, "audio_segments": "1:2"}, "audio_fake is not 1"),
        ({"video": "a.mp4", "audio_fake": 1, "audio_segments": "1-2"}, "audio_segments must be written 0.5:1.25 3:4"),
        ({"video": "a.mp4", "audio_fake": 1, "audio_segments": "2:1"}, "0 <= start <= end"),
        ({"video": "a.mp4", "audio_fake": 1, "audio_segments": "1:nan"}, "0 <= start <= end"),
        ({"video": "a.mp4", "audio_fake": 1, "audio_segments": "1:1"}, "ends where it starts"),
    ],
)
def test_a_wrong_line_of_a_table_is_told(tmp_path: Path, line: dict[str, Any], told: str) -> None:
    for name, number in (("own.csv", 2), ("own.jsonl", 1)):
        message = error("table", own(tmp_path, line, name=name))
        assert told in message
        assert f"{name}, line {number}:" in message


def test_tables_that_are_none(tmp_path: Path) -> None:
    path = own(tmp_path, {"video": "a.mp4"}, {"video": "./below/../a.mp4"})
    assert "line 3: the id 'own/a.mp4' is already that of" in error("table", path)
    assert "expected ROOT to be a .csv or .jsonl file, found a folder" in error("table", tmp_path)
    assert "found nothing" in error("table", tmp_path / "none.csv")
    assert "a .csv or .jsonl file" in error("table", tmp_path / "a.mp4")
    put(tmp_path, "own.jsonl", '{"video": \n')
    assert "line 1 cannot be read as JSON" in error("table", tmp_path / "own.jsonl")
    put(tmp_path, "own.jsonl", "[" * 100_000 + "\n")
    assert "line 1 cannot be read as JSON" in error("table", tmp_path / "own.jsonl")
    put(tmp_path, "own.jsonl", "[1]\n")
    assert "line 1: it must be an object" in error("table", tmp_path / "own.jsonl")
    put(tmp_path, "own.jsonl", '{"video": 1}\n')
    assert "line 1: video must be a text, not 1" in error("table", tmp_path / "own.jsonl")
    put(tmp_path, "own.jsonl", '{"labels": {}}\n')
    assert "line 1: the row lacks id" in error("table", tmp_path / "own.jsonl")
    (tmp_path / "own.jsonl").write_bytes(b"\xff\n")
    assert "cannot be read as JSON Lines" in error("table", tmp_path / "own.jsonl")


# ---------------------------------------------------------------------------------- your own data: folders


def test_folders_of_real_and_fake_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "mine"
    touch(root, "Real/anna/1.MP4", "real.txt", "Real/2.wav", "Real/notes.txt", "Real/.hidden.mp4")
    touch(root, "FAKE/wav2lip/deep/1.mp4", "FAKE/3.mp4", "FAKE/vits/2.wav")
    with caplog.at_level(logging.WARNING):
        found = rows("folder", root)
    assert {row.id: (row.method, row.labels) for row in found.values()} == {
        "Real/anna/1.MP4": (None, GENUINE),
        "Real/2.wav": (None, Labels(audio=0)),
        "FAKE/wav2lip/deep/1.mp4": ("wav2lip", Labels(visual=1)),
        "FAKE/3.mp4": ("unknown", Labels(visual=1)),
        "FAKE/vits/2.wav": ("vits", Labels(audio=1)),
    }
    assert "2 videos are said to be fake, but not in what" in caplog.text
    assert {row.corpus for row in found.values()} == {"mine"}
    assert (found["Real/2.wav"].video, found["Real/2.wav"].audio) == (None, str(root / "Real/2.wav"))
    # Files that are called alike stay together.
    assert found["Real/anna/1.MP4"].split == found["FAKE/wav2lip/deep/1.mp4"].split
    assert found["Real/2.wav"].split == found["FAKE/vits/2.wav"].split
    wanted = {
        "visual": Labels(visual=1, audio=0),
        "audio": Labels(visual=0, audio=1),
        "both": Labels(visual=1, audio=1),
    }
    for variant, labels in wanted.items():
        again = rows(f"folder:{variant}", root)
        assert again["FAKE/3.mp4"].labels == labels
        assert (again["Real/anna/1.MP4"].labels, again["FAKE/vits/2.wav"].labels) == (GENUINE, Labels(audio=1))


def test_our_split_of_folders_goes_by_the_name_of_the_file(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    touch(root, *(f"{kind}/{number}.wav" for kind in ("real", "fake") for number in range(40)))
    split = {row.id: row.split for row in rows("folder", root).values()}
    assert all(split[f"real/{number}.wav"] == split[f"fake/{number}.wav"] for number in range(40))
    assert set(split.values()) == {"train", "dev", "test"}


def test_folders_with_splits(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    touch(root, "train/real/1.mp4", "train/fake/x/1.mp4", "Val/real/2.mp4", "dev/fake/3.mp4", "test/1_fake/1.mp4")
    assert {row.id: row.split for row in rows("folder", root).values()} == {
        "train/real/1.mp4": "train",
        "train/fake/x/1.mp4": "train",
        "Val/real/2.mp4": "dev",
        "dev/fake/3.mp4": "dev",
        "test/1_fake/1.mp4": "test",
    }


def test_folders_with_splits_below(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    touch(root, "real/Train/1.wmv", "real/test/2.mp4", "fake/train/x/1.mpg", "fake/val/3.mp4", "fake/train/4.mp4")
    found = rows("folder", root)
    assert {row.id: (row.split, row.method) for row in found.values()} == {
        "real/Train/1.wmv": ("train", None),
        "real/test/2.mp4": ("test", None),
        "fake/train/x/1.mpg": ("train", "x"),
        "fake/train/4.mp4": ("train", "unknown"),
        "fake/val/3.mp4": ("dev", "unknown"),
    }


def test_what_folders_pass_over_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "mine"
    touch(root, "train/real/a.mp4", "train/real/a.jpg", "training/fake/b.mp4", "test/fakes/c.mp4", ".git/real/d.mp4")
    with caplog.at_level(logging.WARNING):
        assert len(rows("folder", root)) == 1
    assert "2 folders (test/fakes, training) are neither real nor fake nor a split" in caplog.text
    assert f"1 files ({root / 'train/real/a.jpg'} for one) have no suffix of video or sound" in caplog.text
    assert "all its clips with a label are genuine" in caplog.text


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    touch(root, "real/a.mp4", "fake/b.mp4", "real/.hidden/c.mp4")
    touch(tmp_path, "elsewhere/d.mp4")
    (root / "real/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(root / "real")
    (root / "fake/self").symlink_to(root / "fake")
    assert rows("folder", root).keys() == {"real/a.mp4", "real/more/d.mp4", "fake/b.mp4"}


def test_folders_as_avlips_has_them(tmp_path: Path) -> None:
    root = tmp_path / "AVLips"
    touch(root, "0_real/0.mp4", "1_fake/0.mp4", "wav/0_real/0.wav", "wav/1_fake/0.wav")
    found = rows("folder:visual", root)
    assert {row.id: row.labels for row in found.values()} == {
        "0_real/0.mp4": GENUINE,
        "1_fake/0.mp4": Labels(visual=1, audio=0),
    }


def test_empty_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    with pytest.raises(CorpusError, match="it lists no clip"):
        list(read("folder", tmp_path))
    assert "found nothing" in error("folder", tmp_path / "none")
