"""What an audit measures of a file, and whether it finds the leaks that were planted in a table."""

import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import synth
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from scipy.io import wavfile

from avfake.evaluation.audit import Audit, AuditError, Properties, measure, measure_all, run
from avfake.evaluation.audit.findings import findings
from avfake.evaluation.audit.leaks import (
    LEAK,
    Answers,
    Estimate,
    Leak,
    _NumberModel,
    _Trial,
    ask,
    interval,
    label_of,
    questions,
    verdict,
)
from avfake.evaluation.audit.measure import NUMBERS, WORDS, _few_frames, _packets
from avfake.evaluation.audit.overlap import duplicate_files, duplicate_sounds, shared_identities, shared_originals
from avfake.evaluation.metrics import auc
from avfake.faces import FaceError, load_backend
from avfake.manifest import Labels, Row
from avfake.report.audit import document, draw, print_audit

RATE = 16_000
DEMO = Path(__file__).parent.parent / "avfake" / "data" / "demo.mp4"


@pytest.fixture
def faces() -> None:
    """Ask for the models that find faces, which are fetched once."""
    try:
        load_backend("facemesh")
    except FaceError as error:
        pytest.skip(str(error))


def row(id_: str = "a", video: Path | None = None, audio: Path | None = None, **rest: object) -> Row:
    fields = {"id": id_, "video": video and str(video), "audio": audio and str(audio), "corpus": "c", "split": "train"}
    return Row(**(fields | rest))  # type: ignore[arg-type]


def tone(seconds: float, amplitude: float = 0.5, rate: int = RATE, hz: float = 997) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


def wav(path: Path, samples: NDArray[np.float32], rate: int = RATE) -> Path:
    return synth.write(path, audio=synth.Audio(samples, rate, codec="pcm_s16le"))


# Measuring.


def test_silence_length_and_loudness_of_sound(tmp_path: Path) -> None:
    samples = np.concatenate([silence(0.5), tone(1.5), silence(0.25)])
    found = measure(row(audio=wav(tmp_path / "x.wav", samples)))
    assert found.error is None
    assert found.numbers["leading_silence_s"] == pytest.approx(0.5, abs=0.001)
    assert found.numbers["trailing_silence_s"] == pytest.approx(0.25, abs=0.001)
    assert found.numbers["audio_s"] == found.numbers["duration_s"] == pytest.approx(2.25)
    # A sine of amplitude 0.5 has a power of 1/8, here for 1.5 of 2.25 s.
    assert found.numbers["rms_dbfs"] == pytest.approx(10 * math.log10(1.5 / 2.25 / 8), abs=0.05)
    assert found.numbers["audio_kbps"] == pytest.approx(256, rel=0.01)
    assert found.words["audio_codec"] == "pcm_s16le"
    assert found.words["streams"] == "audio"
    assert "video_s" not in found.numbers


def test_integrated_loudness(tmp_path: Path) -> None:
    found = measure(row(audio=wav(tmp_path / "x.wav", np.concatenate([tone(4), silence(4)]))))
    # BS.1770: a 997 Hz sine at 0 dBFS in one channel has -3.01 LUFS; silence is gated out, unlike from the RMS.
    assert found.numbers["loudness_lufs"] == pytest.approx(-3.01 + 20 * math.log10(0.5), abs=0.3)
    assert found.numbers["rms_dbfs"] == pytest.approx(-3.01 + 20 * math.log10(0.5) - 3.01, abs=0.05)


def test_threshold_of_silence(tmp_path: Path) -> None:
    soft, loud = tone(0.5, amplitude=0.0004), tone(0.5, amplitude=0.002)
    found = measure(row(audio=wav(tmp_path / "x.wav", np.concatenate([soft, loud]))))
    assert found.numbers["leading_silence_s"] == pytest.approx(0.5, abs=0.001)


def test_digital_silence_has_no_loudness_and_no_sound_to_compare(tmp_path: Path) -> None:
    found = measure(row(audio=wav(tmp_path / "x.wav", silence(1))))
    assert found.numbers["leading_silence_s"] == 1
    assert found.numbers["rms_dbfs"] == -120
    assert "loudness_lufs" not in found.numbers
    assert "rolloff_hz" not in found.numbers
    assert found.sound is None


def test_bandwidth_is_that_of_the_file_not_of_16_khz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.normal(size=48_000))
    spectrum[11_000:] = 0
    noise = np.fft.irfft(spectrum)
    path = wav(tmp_path / "x.wav", (0.3 * noise / np.abs(noise).max()).astype(np.float32), 48_000)
    found = measure(row(audio=path))
    assert found.numbers["sample_rate_hz"] == 48_000
    assert found.numbers["bandwidth_hz"] == pytest.approx(11_000, abs=120)
    assert found.numbers["rolloff_hz"] == pytest.approx(0.99 * 11_000, abs=120)


@pytest.mark.usefixtures("faces")
def test_picture_and_formats(tmp_path: Path) -> None:
    video = synth.Video(synth.steady(24, 1.5), synth.flash(0.5, size=(96, 64)), rate=24)  # type: ignore[arg-type]
    path = synth.write(tmp_path / "x.mp4", video, synth.Audio(tone(2.0, rate=44_100), 44_100, "stereo"))
    found = measure(row(video=path))
    assert found.numbers["fps"] == pytest.approx(24)
    assert found.numbers["short_side_px"] == 64
    assert found.numbers["area_px"] == 96 * 64
    assert found.numbers["aspect_ratio"] == 1.5
    assert found.numbers["video_s"] == pytest.approx(1.5, abs=0.05)
    assert found.numbers["audio_s"] == pytest.approx(2.0, abs=0.05)
    assert found.numbers["audio_minus_video_s"] == pytest.approx(0.5, abs=0.05)
    assert found.numbers["duration_s"] == found.numbers["audio_s"]
    assert found.numbers["channels"] == 2
    assert found.numbers["file_kb"] == path.stat().st_size / 1000
    bits = (found.numbers["video_kbps"] * 1.5 + found.numbers["audio_kbps"] * 2.0) * 1000
    assert bits == pytest.approx(8 * path.stat().st_size, rel=0.25)  # all but the index of the file
    assert found.words["video_codec"] == "h264"
    assert found.words["audio_codec"] == "aac"
    assert found.words["pixel_format"] == "yuv420p"
    assert "mp4" in found.words["container"]
    assert found.words["encoder"].startswith("Lavf")
    assert "face_px" not in found.numbers
    assert set(found.numbers) <= set(NUMBERS)
    assert set(found.words) == set(WORDS)


@pytest.mark.usefixtures("faces")
def test_sound_of_its_own_file_counts(tmp_path: Path) -> None:
    video = synth.write(
        tmp_path / "x.mp4", synth.Video(synth.steady(25, 1), synth.flash(0.5)), synth.Audio(tone(1, rate=48_000))
    )
    audio = wav(tmp_path / "other.wav", tone(0.6))
    found = measure(row(video=video, audio=audio))
    assert found.name == "x"
    assert found.words["audio_codec"] == "pcm_s16le"
    assert found.numbers["audio_s"] == pytest.approx(0.6)
    assert found.numbers["file_kb"] == pytest.approx((video.stat().st_size + audio.stat().st_size) / 1000)
    assert found.content != measure(row(video=video)).content


@pytest.mark.usefixtures("faces")
def test_face_size_of_the_demo() -> None:
    found = measure(row(video=DEMO))
    assert 20 < found.numbers["face_px"] < 200
    assert found.numbers["face_share"] == pytest.approx(
        found.numbers["face_px"] / found.numbers["short_side_px"], abs=1e-4
    )


@pytest.mark.parametrize("interval_of_keys", ["250", "5"])
def test_frames_for_the_face_are_spread_over_the_clip(tmp_path: Path, interval_of_keys: str) -> None:
    options = {"g": interval_of_keys, "sc_threshold": "0"}
    video = synth.Video(synth.steady(25, 3), synth.flash(1.4, 0.3), options=options)
    path = str(synth.write(tmp_path / "x.mp4", video))
    frames = list(_few_frames(path, _packets(path, "video")))
    assert [frame.time_s for frame in frames] == pytest.approx([0.5, 1.5, 2.5], abs=0.041)
    assert [bool(frame.thumbnail().mean() > 128) for frame in frames] == [False, True, False]


def test_equal_sound_in_unequal_files(tmp_path: Path) -> None:
    samples = np.concatenate([silence(0.1), tone(0.5)])
    first = measure(row(audio=wav(tmp_path / "a.wav", samples)))
    second = measure(row(audio=synth.write(tmp_path / "b.flac", audio=synth.Audio(samples, RATE, codec="flac"))))
    assert first.content != second.content
    assert first.sound == second.sound is not None


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n")
    sound = wav(tmp_path / "sound.wav", tone(0.5))
    rows = [
        row("missing", video=tmp_path / "missing.mp4"),
        row("text", video=text),
        row("no picture", video=sound),
        row("fine", audio=sound),
    ]
    heard: list[int] = []
    found = measure_all(rows, told=heard.append)
    assert heard == [1, 2, 3, 4]
    missing, broken, blind, fine = found
    assert "there is no such file" in str(missing.error)
    assert "text.mp4" in str(broken.error)
    assert "holds no picture" in str(blind.error)
    assert fine.error is None
    audit = run(rows, found)
    assert [id_ for id_, _ in audit.unreadable] == ["missing", "text", "no picture"]
    assert audit.findings[0].kind == "error"
    assert audit.findings[0].text.startswith("3 clips cannot be read, as missing:")


@pytest.mark.parametrize(("worst", "rate"), [(np.inf, RATE), (np.nan, RATE), (1e30, RATE), (3e38, RATE), (0.5, 1)])
def test_damaged_sound_is_measured(tmp_path: Path, worst: float, rate: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, RATE if rate == RATE else 20).astype(np.float32)
    samples[10:15] = worst
    wavfile.write(tmp_path / "x.wav", rate, samples)
    found = measure(row(audio=tmp_path / "x.wav"))
    assert found.error is None
    assert "bandwidth_hz" in found.numbers
    assert all(map(math.isfinite, found.numbers.values()))


def test_a_manifest_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    rows = [row(name, audio=tmp_path / f"{name}.wav") for name in ("a", "b")]
    with pytest.raises(AuditError, match=r"the first is a: .*a\.wav: there is no such file"):
        run(rows, measure_all(rows))


# Asking. One table of clips with a leak planted in each of several properties.

CLIPS = 240


def planted(seed: int = 0) -> tuple[list[Row], list[Properties]]:
    """Return clips of 60 persons and 6 corpora whose label shows in some properties, and not in ``rms_dbfs``."""
    rng = np.random.default_rng(seed)
    rows, found = [], []
    for index in range(CLIPS):
        fake = int(rng.integers(2))
        numbers = {
            "rms_dbfs": rng.normal(-20, 3),
            "leading_silence_s": rng.uniform(0, 0.1) + 0.2 * fake,
            # The middle is fake: no threshold tells it.
            "bandwidth_hz": rng.uniform(4000, 5000) if fake else rng.choice([3000, 6000]) + rng.uniform(0, 500),
            "fps": 25.0 if rng.random() < 0.9 else 24.0,
            "channels": 1.0,
        }
        if not fake or rng.random() < 0.05:
            numbers["face_px"] = rng.uniform(40, 80)
        words = {"audio_codec": "aac" if fake else "opus", "container": str(rng.choice(["mp4", "mkv"]))}
        name = f"{'fake' if fake else 'real'}_{rng.integers(10_000):05d}"
        person = index % 60
        rows.append(
            row(
                f"clip{index}",
                Path(f"{name}.mp4"),
                identity=f"person{person}",
                corpus=f"corpus{person % 6}",
                split="test" if person >= 40 else "train",
                method="m" if fake else None,
                labels=Labels(visual=fake, audio=None if index % 10 == 0 else 0),
            )
        )
        found.append(Properties(f"clip{index}", name=name, numbers=numbers, words=words, content=str(index)))
    return rows, found


@pytest.fixture(scope="module")
def audit() -> Audit:
    return run(*planted())


def blinded() -> tuple[list[Row], list[Properties]]:
    """Return 120 of the clips with nothing but what does not tell, and their names."""
    rows, found = planted()
    kept = [replace(each, numbers={"rms_dbfs": each.numbers["rms_dbfs"]}, words={}) for each in found]
    return [replace(each, identity=None, corpus="c", split="train") for each in rows[:120]], kept[:120]


@pytest.fixture(scope="module")
def blind() -> Answers:
    return ask(*blinded(), "visual")


def visual(audit: Audit) -> Answers:
    return next(answers for answers in audit.answers if answers.aspect == "visual")


def leak(audit: Audit, name: str) -> Leak:
    return next(leak for leak in visual(audit).leaks if leak.name == name)


@pytest.mark.parametrize(
    "name", ["leading_silence_s", "bandwidth_hz", "face_px", "audio_codec", "file_name", "file_name_masked"]
)
def test_a_planted_leak_is_found(audit: Audit, name: str) -> None:
    found = leak(audit, name)
    assert found.verdict == "leaks"
    for protocol in ("random", "identity", "corpus", "test"):
        estimate = found.estimates[protocol]  # type: ignore[index]
        assert estimate is not None
        assert estimate.auc > 0.95
    assert found.estimates["dev"] is None


def estimates(labels: NDArray[np.int64], numbers: NDArray[np.float64], persons: int) -> list[Estimate]:
    """Return what each of the numbers (n, clips) tells in random folds of clips of so many persons, by turns."""
    trial = _Trial([row(str(index), identity=f"p{index % persons}") for index in range(len(labels))], labels)
    return [found for each in numbers if (found := trial.estimates(each[:, None], _NumberModel)["random"]) is not None]


@pytest.mark.parametrize("persons", [1, 2])
def test_noise_of_few_persons_is_not_called_a_leak(persons: int) -> None:
    labels = np.arange(40) % 4 // 2  # each of the two persons has both
    found = estimates(labels, np.random.default_rng(0).normal(size=(10, 40)), persons)
    assert max(each.auc for each in found) > LEAK
    assert [each for each in found if verdict(each) == "leaks"] == []


def test_a_shifted_number_is_told_as_well_as_by_its_rank() -> None:
    labels = np.arange(200) % 2
    found = estimates(labels, np.random.default_rng(0).normal(size=(4, 200)) + 1.05 * labels, 1)
    # Two normals 1.05 standard deviations apart: Phi(1.05 / sqrt 2) = 0.77.
    assert np.mean([each.auc for each in found]) == pytest.approx(0.77, abs=0.03)


def test_infinite_numbers_count_as_missing() -> None:
    rows = [row(str(index), labels=Labels(visual=index % 2)) for index in range(20)]
    found = [Properties(each.id, numbers={"fps": np.inf if each.labels.visual else 25.0}) for each in rows]
    (fps,) = (leak for leak in ask(rows, found, "visual").leaks if leak.name == "fps")
    assert (fps.genuine.missing, fps.fake.missing, fps.verdict) == (0, 1, "leaks")


def test_few_persons_are_told(audit: Audit) -> None:
    def told(persons: int) -> list[str]:
        return [each.text for each in findings(replace(audit, answers=(replace(visual(audit), persons=persons),)))]

    assert visual(audit).persons > 50
    assert any(text.startswith("A class comes from 2 persons alone") for text in told(2))
    assert not any("alone where" in text for text in told(10))


def test_what_kind_of_leak_it_is(audit: Audit) -> None:
    silent, band, face, codec = (
        leak(audit, name) for name in ("leading_silence_s", "bandwidth_hz", "face_px", "audio_codec")
    )
    assert silent.rank_auc == 1
    assert band.rank_auc is not None
    assert 0.3 < band.rank_auc < 0.7  # the rank alone misses it
    assert band.rule is not None
    assert (band.rule.low or 0) >= 4000
    assert (band.rule.high or 0) <= 5000
    assert band.rule.fake == band.rule.clips
    assert face.genuine.missing == 0
    assert face.fake.missing > 0.9
    assert face.rule is not None
    assert face.rule.low is face.rule.high is face.rule.word is None
    assert (codec.genuine.value, codec.fake.value) == ("opus", "aac")


@pytest.mark.parametrize("name", ["rms_dbfs", "fps", "container"])
def test_what_tells_nothing_is_not_called_a_leak(audit: Audit, name: str) -> None:
    found = leak(audit, name)
    assert found.verdict != "leaks"
    assert found.random.low < 0.5 < found.random.high


def test_what_is_constant_or_absent(audit: Audit) -> None:
    assert leak(audit, "channels").constant
    assert leak(audit, "channels").random.auc == 0.5
    assert "video_kbps" not in {leak.name for leak in visual(audit).leaks}


def test_all_metadata_leave_out_the_name(audit: Audit, blind: Answers) -> None:
    assert blind.leaks[0].name.startswith("file_name")
    estimate = blind.metadata["random"]
    assert estimate is not None
    assert estimate.low < 0.5 < estimate.high
    together = visual(audit).metadata["corpus"]
    assert together is not None
    assert together.auc > 0.99


def test_the_same_input_gives_the_same_answers(blind: Answers) -> None:
    assert ask(*blinded(), "visual") == blind


def test_questions_without_both_classes_are_told(audit: Audit) -> None:
    reasons = {answers.aspect: answers.reason for answers in audit.answers}
    assert reasons["visual"] is None
    assert "0 fake" in str(reasons["audio"])
    assert next(answers for answers in audit.answers if answers.aspect == "audio").unknown == CLIPS // 10
    texts = [finding.text for finding in audit.findings]
    assert any(text.startswith("Not asked whether the voice is fake") for text in texts)


def test_findings_in_words(audit: Audit) -> None:
    texts = [finding.text for finding in audit.findings if finding.kind == "leak"]
    assert texts[0].startswith("All metadata together tell whether the picture is fake: AUC 1.00 [")
    assert any("alone tells whether the picture is fake with AUC" in text and " where it is " in text for text in texts)


def test_mixed_corpora_are_asked_by_material() -> None:
    speech, video = row("a", audio=Path("a.wav")), row("b", video=Path("b.mp4"))
    assert ("audio", "all") in questions([speech])
    assert {("audio", "sound"), ("audio", "video"), ("any", "all")} <= set(questions([speech, video]))
    rows = [speech, video]
    found = [Properties(each.id) for each in rows]
    labelled = [replace(each, labels=Labels(audio=1)) for each in rows]
    assert ask(labelled, found, "audio", "sound").fake == 1
    assert ask(labelled, found, "audio", "video").fake == 1
    assert ask(labelled, found, "audio", "all").fake == 2


def test_any_aspect() -> None:
    assert label_of(row(labels=Labels(visual=0, audio=1), method="m"), "any") == 1
    assert label_of(row(labels=Labels(visual=0)), "any") == 0
    assert label_of(row(labels=Labels(visual=0), method="m"), "any") is None
    assert label_of(row(), "any") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_interval_without_chance_is_the_auc(pairs: list[tuple[bool, int]]) -> None:
    labels = np.array([int(fake) for fake, _ in pairs])
    scores = np.array([float(score) for _, score in pairs])
    low, high = interval(labels, scores, np.ones((3, len(pairs)), np.uint8))
    expected = auc(labels, scores)
    assert (low, high) == ((0, 1) if math.isnan(expected) else pytest.approx((expected, expected)))


def test_interval_counts_clips_as_often_as_drawn() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    weights = np.array([[1, 2, 3, 0]], np.uint8)
    expected = auc([0, 0, 0, 1, 1, 1], [0.1, 0.6, 0.6, 0.4, 0.4, 0.4])
    assert interval(labels, scores, weights) == pytest.approx((expected, expected))


# Overlap.


def test_identities_and_originals_in_two_splits() -> None:
    rows = [
        row("1", identity="p", split="train"),
        row("2", identity="p", split="test"),
        row("3", identity="q", split="test"),
        row("4", identity=None, split="dev", original="3"),
        row("5", identity="r", split="train", original="1"),
    ]
    (persons,) = shared_identities(rows)
    assert (persons.splits, persons.count, persons.clips, persons.examples) == (("train", "test"), 1, 2, ("p",))
    (originals,) = shared_originals(rows)
    assert (originals.splits, originals.count, originals.examples) == (("dev", "test"), 1, ("3",))


def test_duplicates_with_other_labels_or_splits_are_errors() -> None:
    fake, real = Labels(audio=1), Labels(audio=0)
    rows = [
        row("1", labels=fake, split="train"),
        row("2", labels=real, split="train"),
        row("3", labels=real, split="test"),
        row("4", labels=real, split="dev"),
        row("5", labels=Labels(visual=1), split="train"),
        row("6", labels=real, split="train"),
    ]
    found = [
        Properties("1", content="x", sound="s"),
        Properties("2", content="x", sound="s"),
        Properties("3", content="y", sound="t"),
        Properties("4", content="y2", sound="t"),
        Properties("5", content="z", sound=None),
        Properties("6", error="broken"),
    ]
    files, sounds = duplicate_files(rows, found), duplicate_sounds(rows, found)
    assert (files.groups, files.clips, files.contradicting, files.across_splits) == (1, 2, 1, 0)
    assert files.examples == (("1", "2"),)
    assert (sounds.groups, sounds.contradicting, sounds.across_splits) == (1, 0, 1)
    texts = [finding.text for finding in run(rows, found).findings if finding.kind == "error"]
    assert "Different labels within 1 set of clips equal byte by byte: 1, 2." in texts
    assert "More than one split within 1 set of clips equal in sound but not in bytes." in texts


def test_balance(audit: Audit) -> None:
    train, test = (audit.balance.labels["visual"][split] for split in ("train", "test"))
    assert train.genuine + train.fake + test.genuine + test.fake == CLIPS
    assert audit.balance.methods["m"]["train"] == train.fake
    assert (audit.balance.identities, audit.balance.corpora) == (60, 6)
    assert (visual(audit).corpora, visual(audit).one_sided, visual(audit).one_sided_clips) == (6, 0, 0)


def test_corpora_of_one_class_are_told() -> None:
    rows, found = blinded()
    rows = [replace(each, corpus=f"corpus{each.labels.visual}") for each in rows]
    answers = ask(rows, found, "visual")
    assert (answers.corpora, answers.one_sided, answers.one_sided_clips) == (2, 2, len(rows))
    assert answers.metadata["corpus"] is None  # nothing can be learnt without either of them


def test_an_empty_manifest_is_an_error() -> None:
    with pytest.raises(AuditError, match="no rows"):
        run([], [])


# Reports.


def test_terminal_fits_100_columns(audit: Audit) -> None:
    out = StringIO()
    print_audit(audit, Console(file=out, width=100, highlight=False))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert f"{CLIPS} clips, {CLIPS} of them readable" in text
    assert "leading silence" in text
    assert "no leak:" in text


def test_data_that_look_like_markup_are_printed(audit: Audit) -> None:
    codec = leak(audit, "audio_codec")
    assert codec.rule is not None
    codec = replace(codec, rule=replace(codec.rule, word="[/x] tool"))
    strange = replace(
        audit,
        unreadable=(("[/x]1", "[/x] broken"),),
        answers=(replace(visual(audit), leaks=(codec,)),),
        balance=replace(audit.balance, methods={"[/x] method": {"train": 1}}),
    )
    out = StringIO()
    print_audit(replace(strange, findings=tuple(findings(strange))), Console(file=out, width=200))
    assert all(
        text in out.getvalue() for text in ("[/x] tool: ", "is [/x] tool (", "[/x]1: [/x] broken", "[/x] method")
    )


def test_one_clip_is_not_several(audit: Audit) -> None:
    out = StringIO()
    print_audit(replace(audit, clips=1, balance=replace(audit.balance, anonymous=1)), Console(file=out, width=100))
    assert "1 clip, 1 of them readable" in out.getvalue()
    assert "1 clip without one" in out.getvalue()


def test_document(audit: Audit) -> None:
    found = json.loads(json.dumps(document(audit), allow_nan=False))
    assert found["schema"] == "avfake-audit-1"
    assert found["leak_level"] == LEAK
    question = next(each for each in found["questions"] if each["aspect"] == "visual")
    silent = next(each for each in question["leaks"] if each["name"] == "leading_silence_s")
    assert silent["verdict"] == "leaks"
    assert silent["estimates"]["random"]["auc"] > 0.95
    assert silent["unit"] == "s"
    assert question["metadata"]["dev"] is None


def test_picture(audit: Audit, tmp_path: Path) -> None:
    draw(audit, tmp_path / "audit.png")
    with Image.open(tmp_path / "audit.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 500
    draw(replace(audit, answers=()), tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 0
