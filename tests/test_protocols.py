from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfake import AvfakeError
from avfake.evaluation import asv_scores, metrics
from avfake.evaluation.figures import Figure, Question, answer
from avfake.evaluation.material import ClipFrames, Delay, Material, Swap
from avfake.evaluation.protocols import NAMES, EvaluationError, Protocol, find
from avfake.evaluation.protocols.parts import MIN_TRIALS, share_called_fake, told
from avfake.evaluation.table import ClipScore, Table
from avfake.evaluation.tandem import AsvRates, asv_rates, min_tdcf_2019, min_tdcf_2021
from avfake.manifest import Labels, Row

Clip = tuple[Row, ClipScore]

FAKE_FACE, FAKE_VOICE, GENUINE = Labels(visual=1), Labels(audio=1), Labels(0, 0, 0)


def clip(
    name: str,
    labels: Labels,
    *,
    corpus: str = "mine",
    method: str | None = None,
    sound_alone: bool = False,
    reasons: dict[str, str] | None = None,
    alarm: bool | None = None,
    duration_s: float = 5.0,
    offset_ms: int | None = None,
    identity: str | None = None,
    language: str | None = None,
    **scores: float,
) -> Clip:
    """A row and what was said of it; ``alarm`` is that of every score."""
    row = Row(
        id=name,
        video=None if sound_alone else f"{name}.mp4",
        audio=f"{name}.wav" if sound_alone else None,
        corpus=corpus,
        split="test",
        identity=identity,
        method=method,
        language=language,
        labels=labels,
    )
    alarms = {} if alarm is None else dict.fromkeys(scores, alarm)
    said = ClipScore(name, scores, alarms=alarms, reasons=reasons or {}, duration_s=duration_s, offset_ms=offset_ms)
    return row, said


def table(clips: Sequence[Clip]) -> Table:
    return Table(tuple(row for row, _ in clips), tuple(said for _, said in clips))


def material(clips: Sequence[Clip], **more: Any) -> Material:
    return Material(table(clips), **more)


def protocol(name: str, clips: Sequence[Clip] = ()) -> Protocol:
    return find(name, [row for row, _ in clips])


def figures(name: str, given: Material, resamples: int = 0) -> dict[tuple[str, str], Figure]:
    """All figures of a protocol by question and metric; no two may share both."""
    one = find(name, given.table.rows)
    asked = one.questions(given)
    found = [figure for question in asked for figure in answer(given.table, question, resamples)]
    found += one.further(given, resamples)
    by_name = {(figure.question, figure.metric): figure for figure in found}
    assert len(by_name) == len(found)
    assert len({question.name for question in asked}) == len(asked)
    for question in asked:
        assert question.part_of in ("", *(whole.name for whole in asked if not whole.part_of))
    return by_name


def parts(name: str, given: Material, by: str) -> dict[str, Question]:
    return {question.name: question for question in find(name, given.table.rows).questions(given) if question.by == by}


def genuine(prefix: str, scores: Sequence[float], score: str = "fake", **more: Any) -> list[Clip]:
    labels = more.pop("labels", GENUINE)
    return [clip(f"{prefix}{n}", labels, **{score: p}, **more) for n, p in enumerate(scores)]


def fakes(prefix: str, scores: Sequence[float], method: str, score: str = "fake", **more: Any) -> list[Clip]:
    labels = more.pop("labels", FAKE_FACE)
    return [clip(f"{prefix}{n}", labels, method=method, **{score: p}, **more) for n, p in enumerate(scores)]


# Which protocol


CORPORA = {
    "asvspoof2019": ["asvspoof2019-la"],
    "asvspoof2021": ["asvspoof2021-la/eval", "asvspoof2021-df/hidden"],
    "asvspoof5": ["asvspoof5"],
    "in-the-wild": ["in-the-wild"],
    "ff++": ["FaceForensics++/c23", "FaceForensics++/c40"],
    "dfd": ["DFD/c23"],
    "celeb-df": ["Celeb-DF-v2"],
    "dfdc": ["DFDC-test"],
    "kodf": ["KoDF"],
    "deepfaketimit": ["DeepfakeTIMIT/lower"],
    "cross-dataset": ["DFD/c23", "Celeb-DF-v2", "DFDC-test"],
    "fakeavceleb": ["FakeAVCeleb"],
    "talking": ["lrs2", "lrs3"],
    "shared": ["shared/one", "shared/two"],
    "general": ["FakeAVCeleb", "DFDC"],
}


@pytest.mark.parametrize(("name", "corpora"), CORPORA.items())
def test_auto_takes_the_protocol_of_the_corpora(name: str, corpora: list[str]) -> None:
    rows = [clip(str(n), GENUINE, corpus=corpus)[0] for n, corpus in enumerate(corpora)]
    assert find("auto", rows).name == name
    assert find(name, []).name == name


def test_auto_is_general_for_other_sets_and_none() -> None:
    assert find("auto", []).name == "general"
    assert find("auto", [clip("a", GENUINE, corpus="DFDC-mine")[0]]).name == "general"


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_says_what_it_can_and_cannot_tell(name: str) -> None:
    one = find(name, [])
    assert one.name == name
    assert one.title
    assert one.says.endswith(".")
    assert one.cannot.endswith(".")


def test_an_unknown_name_is_told_with_a_suggestion() -> None:
    with pytest.raises(EvaluationError, match=r"'asvspof2019'.*asvspoof2019"):
        find("asvspof2019", [])
    with pytest.raises(AvfakeError, match=r"auto or one of .*ff\+\+"):
        find("zzz", [])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("lav-df", "av-deepfake1m")])
def test_nothing_breaks_on_nothing(name: str) -> None:
    """A set without clips, and one that was not judged at all: every figure is NaN and says why."""
    for clips in ([], [clip("a", GENUINE), clip("b", FAKE_FACE, method="x")]):
        for figure in figures(name, material(clips), 5).values():
            assert math.isnan(figure.value), figure
            assert figure.note, figure


# General


def test_headlines_are_the_scores_with_both_labels_that_the_detector_speaks_of() -> None:
    clips = [
        clip("a", GENUINE, fake=0.1, visual=0.1, audio=0.2, sync=0.3),
        clip("b", Labels(1, 0, 0), method="m", fake=0.9, visual=0.9, audio=0.1, sync=0.3),
        clip("c", Labels(0, 1, None), method="n", fake=0.8, visual=0.2, audio=0.9),
    ]
    found = figures("general", material(clips))
    assert {question for question, _ in found} == {"fake", "visual", "audio"}  # no clip is out of sync
    assert found["visual", "auc"].value == 1
    assert found["visual", "auc"].genuine == 2


def test_a_score_that_was_never_judged_is_asked_about_if_the_detector_says_why() -> None:
    clips = [
        clip("a", GENUINE, fake=0.1, reasons={"visual": "no_face"}),
        clip("b", FAKE_FACE, method="m", fake=0.9, reasons={"visual": "no_face"}),
    ]
    found = figures("general", material(clips))
    assert (found["visual", "auc"].judged, found["visual", "auc"].total) == (0, 2)
    assert "audio" not in {question for question, _ in found}


def test_told_falls_back_on_the_verdict_of_a_score_file() -> None:
    assert told(table(genuine("g", [0.1])), "visual") == ("fake",)
    assert told(table(genuine("g", [0.1], "visual")), "fake", "visual") == ("visual",)


def test_methods_are_measured_against_their_own_sources_where_these_have_ten_genuine_clips() -> None:
    clips = [
        *genuine("a", [0.5] * 10, corpus="a"),
        *genuine("b", [0.0] * 9, corpus="b"),
        *fakes("p", [0.4] * 3, "p", corpus="a"),
        *fakes("q", [0.4] * 3, "q", corpus="b"),
    ]
    found = figures("general", material(clips))
    assert found["fake: p", "auc"].value == 0
    assert found["fake: p", "auc"].genuine == 10
    assert found["fake: q", "auc"].value == pytest.approx(9 / 19)
    assert found["fake: q", "auc"].genuine == 19
    assert found["fake", "mean_auc"].value == pytest.approx(9 / 38)
    assert "2 methods" in found["fake", "mean_auc"].title


def test_parts_need_three_of_each_label() -> None:
    clips = [
        *genuine("a", [0.1] * 3, corpus="a", language="de", duration_s=3.99),
        *genuine("b", [0.1] * 2, corpus="b", language="fr", duration_s=4.0),
        *fakes("p", [0.9] * 3, "p", corpus="a", language="de", duration_s=3.0),
        *fakes("q", [0.9] * 2, "q", corpus="b", language="fr", duration_s=10.0),
        clip("r", GENUINE, fake=0.1, duration_s=0.0),
    ]
    asked = [question for by in ("method", "source", "language", "length") for question in parts_of(clips, by)]
    assert asked == ["fake: p", "fake: source a", "fake: language de", "fake: length under 4 s"]


def test_the_lower_end_of_a_length_belongs_to_it_and_0_is_not_known() -> None:
    unknown = [0.0] * 3
    lengths = {"g": [4.0, 9.9, 7.0, 10.0, 11.0, 3600.0, *unknown], "f": [4.0, 5.0, 6.0, 10.0, 10.0, 10.0, *unknown]}
    clips = [clip(f"g{n}", GENUINE, fake=0.1, duration_s=s) for n, s in enumerate(lengths["g"])]
    clips += [clip(f"f{n}", FAKE_FACE, method="m", fake=0.9, duration_s=s) for n, s in enumerate(lengths["f"])]
    assert parts_of(clips, "length") == ["fake: length 4 to 10 s", "fake: length over 10 s"]


def parts_of(clips: Sequence[Clip], by: str) -> list[str]:
    return list(parts("general", material(clips), by))


def test_shares_called_fake_are_counted_where_judged() -> None:
    clips = [
        *genuine("a", [0.1] * 3, alarm=False),
        *genuine("b", [0.9], alarm=True),
        clip("c", GENUINE, reasons={"fake": "no_face"}),
        *fakes("p", [0.9, 0.8, 0.1], "p", alarm=True),
    ]
    found = figures("general", material(clips), 50)
    share = found["fake", "genuine_called_fake"]
    assert (share.value, share.judged, share.total, share.genuine, share.fake) == (0.25, 4, 5, 4, 0)
    assert share.low < 0.25 < share.high
    assert share.best == 0
    assert found["fake", "fakes_called_fake"].value == 1
    assert found["fake", "fakes_called_fake"].best == 1


def interval_of(alarms: Sequence[bool], persons: Sequence[str | None], resamples: int = 50) -> tuple[float, float]:
    called, who = np.array(alarms, np.float64), list(persons)
    found = share_called_fake("fake", 1, called, who, total=len(who), resamples=resamples)
    return found.low, found.high


def test_few_clips_that_were_all_called_alike_leave_room_for_doubt() -> None:
    # Clopper and Pearson: none of n leaves up to 1 - 0.025^(1/n).
    assert interval_of([False] * 2, "ab") == pytest.approx((0, 1 - 0.025**0.5))
    assert interval_of([True] * 10, [None] * 10) == pytest.approx((0.025**0.1, 1))
    assert interval_of([True] * 10, ["a", "a", *"bbbbbb", None, None]) == pytest.approx((0.025**0.25, 1))
    assert interval_of([False], ["a"]) == pytest.approx((0, 0.975))
    assert np.isnan(interval_of([], [])).all()
    assert np.isnan(interval_of([False] * 2, "ab", resamples=0)).all()
    low, high = interval_of([True, False] * 10, [None] * 20)
    assert 0.2 < low < 0.5 < high < 0.8  # the bootstrap's own
    clips = [*genuine("a", [0.1] * 2, alarm=False, identity="one"), *fakes("p", [0.9] * 2, "p", alarm=True)]
    found = figures("general", material(clips), 50)
    share = found["fake", "genuine_called_fake"]
    assert (share.value, share.low, share.high) == (0, 0, pytest.approx(0.975))


def test_a_set_of_fakes_alone_still_tells_how_many_are_called_fake() -> None:
    clips = [*fakes("p", [0.9] * 2, "p", alarm=True), *fakes("q", [0.9] * 2, "q", alarm=False)]
    found = figures("general", material(clips))
    assert found["fake", "fakes_called_fake"].value == 0.5
    assert ("fake", "auc") not in found


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from("abc"),
            st.sampled_from(["p", "q"]),
            st.none() | st.floats(0, 1),
            st.floats(0, 20),
        ),
        max_size=30,
    )
)
def test_every_part_lies_within_its_headline(drawn: list[tuple[bool, str, str, float | None, float]]) -> None:
    clips = [
        clip(
            str(n),
            FAKE_FACE if fake else GENUINE,
            method=method if fake else None,
            corpus=corpus,
            duration_s=seconds,
            **({} if score is None else {"fake": score}),
        )
        for n, (fake, corpus, method, score, seconds) in enumerate(drawn)
    ]
    asked = find("general", []).questions(material(clips))
    whole = {question.name: question for question in asked if not question.part_of}
    for part in asked:
        if part.part_of:
            assert not (part.genuine & ~whole[part.part_of].genuine).any()
            assert not (part.fake & ~whole[part.part_of].fake).any()
            assert min(part.genuine.sum(), part.fake.sum()) >= MIN_TRIALS
            assert not (part.genuine & part.fake).any()
    methods = [part for part in asked if part.by == "method"]
    assert sum(part.fake.sum() for part in methods) <= sum(fake for fake, *_ in drawn)


# Speech


ASV = AsvRates(0.02, 0.03, 0.4)


def utterances(corpus: str, attacks: dict[str, list[float]], bonafide: list[float]) -> list[Clip]:
    common: dict[str, Any] = {"corpus": corpus, "sound_alone": True}
    clips = genuine(f"{corpus}-g", bonafide, "audio", labels=Labels(audio=0), **common)
    for attack, scores in attacks.items():
        clips += fakes(f"{corpus}-{attack}", scores, attack, "audio", labels=FAKE_VOICE, **common)
    return clips


def test_attacks_are_measured_against_all_bona_fide_speech() -> None:
    clips = utterances("asvspoof2019-la", {"A07": [0.9] * 3, "A17": [0.2] * 3}, [0.1, 0.3, 0.4, 0.5])
    found = figures("asvspoof2019", material(clips, asv=ASV))
    assert found["audio: A07", "auc"].value == 1
    assert found["audio: A07", "eer"].value == 0
    assert found["audio: A17", "auc"].value == 0.25
    assert found["audio: A17", "auc"].genuine == 4
    assert found["audio", "auc"].value == pytest.approx((1 + 0.25) / 2)
    labels = [row.labels.audio for row, _ in clips]
    scores = [said.scores["audio"] for _, said in clips]
    assert found["audio", "min_tdcf_2019"].value == min_tdcf_2019(labels, scores, ASV)
    assert 0 < found["audio", "min_tdcf_2019"].value < 1
    assert found["audio", "min_tdcf_2019"].best == 0


def test_tandem_costs_need_the_verifier() -> None:
    clips = utterances("asvspoof2019-la", {"A07": [0.9] * 3}, [0.1] * 3)
    found = figures("asvspoof2019", material(clips))["audio", "min_tdcf_2019"]
    assert math.isnan(found.value)
    assert "asv" in found.note
    assert found.judged == 6


def test_inverted_scores_are_seen() -> None:
    found = figures("asvspoof2019", material(utterances("asvspoof2019-la", {"A07": [0.1] * 3}, [0.9] * 3), asv=ASV))
    assert found["audio", "auc"].value == 0
    assert found["audio", "eer"].value == 1
    assert found["audio", "min_tdcf_2019"].value == pytest.approx(1)


def test_tracks_and_subsets_of_2021_are_kept_apart() -> None:
    clips = [
        *utterances("asvspoof2021-la/eval", {"A07": [0.9] * 3}, [0.1] * 3),
        *utterances("asvspoof2021-la/hidden", {"A07": [0.1] * 3}, [0.9] * 3),
        *utterances("asvspoof2021-df/eval", {"A07": [0.5, 0.7, 0.7]}, [0.6] * 3),
    ]
    found = figures("asvspoof2021", material(clips, asv=ASV))
    assert found["audio: LA", "auc"].value == 1
    assert found["audio: LA", "auc"].total == 6
    assert found["audio: LA hidden", "auc"].value == 0
    assert found["audio: DF", "auc"].value == pytest.approx(2 / 3)
    assert found["audio: DF A07", "auc"].value == pytest.approx(2 / 3)
    assert found["audio: LA", "min_tdcf_2021"].value == min_tdcf_2021([0] * 3 + [1] * 3, [0.1] * 3 + [0.9] * 3, ASV)
    assert ("audio: DF", "min_tdcf_2021") not in found


def test_asvspoof_5_reports_costs_first_and_calibration() -> None:
    clips = utterances("asvspoof5", {"A17": [0.9] * 3, "A18": [0.8] * 3}, [0.1] * 4)
    (whole, *_) = find("asvspoof5", []).questions(material(clips))
    assert whole.metrics[:4] == ("min_dcf", "act_dcf", "cllr", "eer")
    found = figures("asvspoof5", material(clips))
    assert found["audio", "min_dcf"].value == 0
    assert found["audio", "act_dcf"].value == 0
    assert found["audio", "cllr"].value == pytest.approx(metrics.cllr([0, 1, 1], np.log([1 / 9, 9, 4])), abs=0.02)
    assert set(parts("asvspoof5", material(clips), "attack")) == {"audio: A17", "audio: A18"}


def test_speakers_in_the_wild_are_measured_alone() -> None:
    common: dict[str, Any] = {"corpus": "in-the-wild", "sound_alone": True}
    clips = []
    for person, low, high in (("Ann", 0.1, 0.2), ("Bob", 0.8, 0.9)):
        clips += genuine(f"g{person}", [low] * 3, "audio", labels=Labels(audio=0), identity=person, **common)
        clips += fakes(f"f{person}", [high] * 3, "unknown", "audio", labels=FAKE_VOICE, identity=person, **common)
    clips += genuine("gCy", [0.5], "audio", labels=Labels(audio=0), identity="Cy", **common)
    found = figures("in-the-wild", material(clips))
    assert found["audio", "auc"].value < 1
    assert found["audio: speaker Ann", "auc"].value == found["audio", "mean_auc"].value == 1
    assert "2 speakers" in found["audio", "mean_auc"].title


# Speaker verification


def test_asv_scores_of_2019(tmp_path: Path) -> None:
    path = tmp_path / "asv.txt"
    path.write_text("bonafide target 5.5\nbonafide nontarget -1\nA07 spoof 6\nbonafide target 0.5\n\nA08 spoof -3\n")
    assert asv_scores.read(path) == asv_rates([5.5, 0.5], [-1], [6, -3])


def write_2021(folder: Path, scores: str, metadata: str | None) -> Path:
    path = folder / "ASV" / "ASVTorch_Kaldi" / "score.txt"
    path.parent.mkdir(parents=True)
    path.write_text(scores)
    if metadata is not None:
        (folder / "ASV" / "trial_metadata.txt").write_text(metadata)
    return path


LINES_2021 = (
    "LA_0009 LA_E_1 alaw ita_tx bonafide target notrim eval\n"
    "LA_0009 LA_E_1 alaw ita_tx bonafide nontarget notrim eval\n"
    "LA_0009 LA_E_2 alaw ita_tx A07 spoof notrim eval\n"
    "LA_0009 LA_E_3 alaw ita_tx A07 spoof notrim progress\n"
)


def test_asv_scores_of_2021_belong_to_the_lines_of_the_metadata(tmp_path: Path) -> None:
    path = write_2021(
        tmp_path, "LA_0009 LA_E_1 4\nLA_0010  LA_E_1 -2\nLA_0009 LA_E_2 5\nLA_0009 LA_E_3 -9\n", LINES_2021
    )
    assert asv_scores.read(path) == asv_rates([4], [-2], [5])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("bonafide target 1\nbonafide nontarget 0\nA07 spoof\n", "line 3: expected 3 fields, found 2"),
        ("bonafide target 1\nbonafide impostor 0\n", "line 2: the key must be one of target, nontarget, spoof"),
        ("bonafide target 1\nbonafide nontarget x\n", "line 2: the score must be a finite number, not 'x'"),
        ("bonafide target nan\n", "line 1: the score must be a finite number"),
        ("bonafide target 1\nA07 spoof 2\n", "no nontarget trials"),
        ("LA_0009 LA_E_1 4\n", "trial_metadata.txt"),
    ],
)
def test_faults_of_asv_scores_are_told(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "asv.txt"
    path.write_text(text)
    with pytest.raises(AvfakeError, match=fault) as told:
        asv_scores.read(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("scores", "fault"),
    [
        ("LA_0009 LA_E_1 4\n", "number of lines"),
        ("LA_0009 LA_E_1 4\nLA_0009 LA_E_2 4\nLA_0009 LA_E_1 4\nLA_0009 LA_E_3 4\n", "line 2: it is of trial LA_E_2"),
    ],
)
def test_asv_scores_that_do_not_fit_their_metadata_are_refused(tmp_path: Path, scores: str, fault: str) -> None:
    with pytest.raises(AvfakeError, match=fault):
        asv_scores.read(write_2021(tmp_path, scores, LINES_2021))


def test_a_missing_asv_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(AvfakeError, match="cannot be read"):
        asv_scores.read(tmp_path / "none.txt")


# Faces


def faces(corpus: str, made: dict[str, list[float]], pristine: list[float], **more: Any) -> list[Clip]:
    labels = more.pop("genuine", Labels(visual=0))
    clips = genuine(f"{corpus}-g", pristine, "visual", corpus=corpus, labels=labels, **more)
    for method, scores in made.items():
        clips += fakes(f"{corpus}-{method}", scores, method, "visual", corpus=corpus, **more)
    return clips


def test_compressions_are_kept_apart() -> None:
    clips = [
        *faces("FaceForensics++/c23", {"Deepfakes": [0.4] * 3, "FaceSwap": [0.2] * 3}, [0.1, 0.1, 0.3]),
        *faces("FaceForensics++/c40", {"Deepfakes": [0.8] * 3, "FaceSwap": [0.9] * 3}, [0.7] * 4),
    ]
    found = figures("ff++", material(clips))
    c23, c40 = "visual: FaceForensics++/c23", "visual: FaceForensics++/c40"
    assert found[f"{c23} Deepfakes", "auc"].value == 1
    assert found[f"{c23} Deepfakes", "auc"].total == 6
    assert found[f"{c23} FaceSwap", "auc"].value == pytest.approx(2 / 3)
    assert found[c23, "mean_auc"].value == pytest.approx(5 / 6)
    assert found[c40, "auc"].value == 1
    assert found[c40, "auc"].total == 10
    assert math.isnan(found[f"{c40} Deepfakes", "tpr_at_5%"].value)  # four pristine clips cannot show it


def test_a_score_file_of_verdicts_is_measured_too() -> None:
    clips = [
        *genuine("g", [0.1] * 3, corpus="DFD/c23", labels=Labels(visual=0)),
        *fakes("f", [0.9] * 3, "DeepFakeDetection", corpus="DFD/c23"),
    ]
    assert figures("dfd", material(clips))["fake: DFD/c23", "auc"].value == 1


def test_dfdc_asks_for_log_loss_of_the_verdict_first() -> None:
    clips = [
        *[clip(f"g{n}", GENUINE, corpus="DFDC-test", fake=0.2, visual=0.5) for n in range(3)],
        clip("f", FAKE_FACE, corpus="DFDC-test", method="DFDC", fake=0.9, visual=0.5),
    ]
    asked = find("dfdc", []).questions(material(clips))
    assert [question.name for question in asked] == ["fake: DFDC-test", "visual: DFDC-test"]
    assert asked[0].metrics[:2] == ("log_loss", "log_loss_balanced")
    assert len(set(asked[0].metrics)) == len(asked[0].metrics)
    found = figures("dfdc", material(clips))
    losses = -math.log(0.8), -math.log(0.9)
    assert found["fake: DFDC-test", "log_loss"].value == pytest.approx((3 * losses[0] + losses[1]) / 4)
    assert found["fake: DFDC-test", "log_loss_balanced"].value == pytest.approx(sum(losses) / 2)
    assert found["fake: DFDC-test", "log_wp_at_0.5"].value == 0
    assert found["visual: DFDC-test", "log_loss"].value == pytest.approx(math.log(2))


def test_several_corpora_are_never_pooled() -> None:
    clips = [
        *faces("DFD/c23", {"DeepFakeDetection": [0.2] * 3}, [0.1] * 3),
        *faces("Celeb-DF-v2", {"Celeb-synthesis": [0.8, 0.8, 0.6]}, [0.7] * 3),
        *faces("DeepfakeTIMIT/lower", {"faceswap-GAN": [0.9] * 3}, []),
    ]
    found = figures("cross-dataset", material(clips))
    assert found["visual: DFD/c23", "auc"].value == 1
    assert found["visual: Celeb-DF-v2", "auc"].value == pytest.approx(2 / 3)
    mean = found["visual: all corpora", "mean_auc"]
    assert mean.value == pytest.approx(5 / 6)
    assert "2 corpora" in mean.title
    alone = found["visual: DeepfakeTIMIT/lower", "auc"]
    assert math.isnan(alone.value)
    assert alone.note == "no genuine trials were judged"


# FakeAVCeleb


def test_categories_and_generators_are_measured_against_genuine_clips_alone() -> None:
    methods = {
        "RealVideo-FakeAudio:rtvc": (Labels(0, 1, None), 0.2),
        "FakeVideo-RealAudio:wav2lip": (Labels(1, 0, 0), 0.6),
        "FakeVideo-RealAudio:fsgan": (Labels(1, 0, None), 0.8),
        "FakeVideo-FakeAudio:wav2lip": (Labels(1, 1, 0), 0.9),
        "FakeVideo-FakeAudio:fsgan-wav2lip": (Labels(1, 1, 0), 0.1),
    }
    common: dict[str, Any] = {"corpus": "FakeAVCeleb"}
    clips = genuine("g", [0.5] * 4, **common)
    for method, (labels, score) in methods.items():
        clips += [clip(f"{method}{n}", labels, method=method, fake=score, audio=score, **common) for n in range(3)]
    given = material(clips)
    found = figures("fakeavceleb", given)
    expected = {"RVFA": 0, "FVRA": 1, "FVFA": 0.5, "FVRA-WL": 1, "FVRA-GAN": 1, "FVFA-WL": 1, "FVFA-GAN": 0}
    for group, value in (expected | {"RVFA-RTVC": 0}).items():
        assert found[f"fake: {group}", "auc"].value == value, group
        assert found[f"fake: {group}", "auc"].genuine == 4
    assert found["fake", "mean_auc"].value == 0.5  # of the categories
    assert found["fake: Feng", "mean_auc"].value == 0.5
    assert "4 groups" in found["fake: Feng", "mean_auc"].title
    assert set(parts("fakeavceleb", given, "category")) == {"fake: RVFA", "fake: FVRA", "fake: FVFA"}
    # The voice of a clip with a fake face is genuine, and was judged.
    assert (found["audio", "auc"].genuine, found["audio", "auc"].fake) == (6, 9)


# Talking


def frames(name: str, best: int, length: int = 40, track: int = 0, start: int = 0) -> ClipFrames:
    """Evidence that is highest at one shift throughout, NaN where it leaves the clip."""
    evidence = np.full((length, 31), 0.1, np.float16)
    evidence[:, best + 15] = 0.9
    at = np.arange(length)[:, None] + np.arange(-15, 16)
    evidence[(at < 0) | (at >= length)] = np.nan
    silent, seen = np.zeros(length, np.float32), np.ones(length, np.bool_)
    return ClipFrames(name, track, start, silent, silent, seen, seen, evidence)


def talk(names: str, **more: Any) -> list[Clip]:
    return [clip(name, GENUINE, corpus="lrs3", sync=0.1, **more) for name in names]


def test_the_accuracy_of_offsets_is_that_of_the_metrics_over_all_windows() -> None:
    said = [frames("a", 0, 40), frames("b", 1, 30), frames("c", 2, 24)]

    def yielded() -> Iterator[ClipFrames]:
        yield from said

    found = figures("talking", material(talk("abc"), frames=yielded), 20)
    maps = [np.asarray(one.evidence) for one in said]
    for context in (5, 7, 9, 11, 13, 15, 25):
        right, error = (found[f"sync offset: {context} frames", m] for m in ("sync_accuracy", "mean_offset_error"))
        assert right.value == metrics.sync_accuracy([0] * 3, maps, context)
        assert error.value == metrics.mean_offset_error([0] * 3, maps, context)
        assert right.judged == (2 if context == 25 else 3)
        assert right.total == 3
    assert 0 < found["sync offset: 5 frames", "sync_accuracy"].value < 1
    assert found["sync evidence", "sync_distance"].value == pytest.approx(0.1, abs=1e-3)
    assert found["sync evidence", "sync_confidence"].value == pytest.approx(0.8, abs=1e-3)


def test_of_a_clip_the_longest_face_counts_in_all_its_stretches() -> None:
    bystander = frames("a", 9, 30, track=1)
    unheard = ClipFrames("a", None, 0, *(np.zeros(99, np.float32),) * 2, *(np.zeros(99, np.bool_),) * 2, evidence=None)
    said = [bystander, frames("a", 0, 20), frames("a", 0, 20, start=90), unheard, frames("b", 0)]
    found = figures("talking", material(talk("ab"), frames=lambda: iter(said)))
    assert found["sync offset: 5 frames", "sync_accuracy"].value == 1
    assert found["sync offset: 25 frames", "sync_accuracy"].judged == 1  # no window spans a gap


def test_figures_do_not_follow_the_order_in_which_clips_were_judged() -> None:
    random = np.random.default_rng(0)
    names = [f"c{n}" for n in range(12)]
    clips = [clip(name, GENUINE, corpus="lrs3", sync=0.1, identity=f"p{n // 2}") for n, name in enumerate(names)]
    judged = [
        [
            replace(one, evidence=one.evidence + random.normal(0, 0.5, one.evidence.shape).astype(np.float16))
            for track in range(2)  # as long as each other, so the first one counts
            for one in (frames(name, n % 5, 40, track), frames(name, n % 3, 26, track, start=60))
            if one.evidence is not None
        ]
        for n, name in enumerate(names)
    ]

    def told() -> str:
        return repr(figures("talking", material(clips, frames=lambda: (run for runs in judged for run in runs)), 50))

    first = told()
    for _ in range(3):
        random.shuffle(judged)
        for runs in judged:
            random.shuffle(runs)
        assert told() == first


def test_frames_are_read_once_and_not_kept() -> None:
    reads = []

    def yielded() -> Iterator[ClipFrames]:
        reads.append(1)
        yield frames("a", 0)

    figures("talking", material(talk("a"), frames=yielded))
    assert len(reads) == 1


def test_constant_offsets_and_false_alarms_of_genuine_clips() -> None:
    clips = talk("ab", offset_ms=-40, alarm=False) + talk("c", offset_ms=80, alarm=True) + talk("d")
    found = figures("talking", material(clips))
    whole = found["sync offset: whole clip", "sync_accuracy"]
    # What is called mismatched ("c") is judged and wrong; "d" was not judged.
    assert (whole.value, whole.judged, whole.total) == (pytest.approx(2 / 3), 3, 4)
    unjudged = figures("talking", material(talk("d")))["sync offset: whole clip", "sync_accuracy"]
    assert (unjudged.judged, unjudged.note) == (0, "the offset of no clip was measured")
    assert found["sync", "genuine_called_fake"].value == pytest.approx(1 / 3)
    assert find("talking", []).sync_trials


# Trials of sync, shared by talking and shared


SWAPS = (
    Swap("a", "b", 2.0, 0.1, 0.9),
    Swap("b", "a", 3.99, 0.2, 0.15),
    Swap("c", "a", 4.0, 0.1, 0.9),
    Swap("d", "a", 60.0, None, 0.05),
)
DELAYS = (Delay("a", -14, -13), Delay("a", 2, 4), Delay("b", 6, 6), Delay("b", 8, None))


@pytest.mark.parametrize(("name", "corpus"), [("talking", "lrs2"), ("shared", "shared/x")])
def test_trials_of_sync(name: str, corpus: str) -> None:
    clips = [clip(letter, GENUINE, corpus=corpus, sync=0.1, identity=letter) for letter in "abcd"]
    found = figures(name, material(clips, swaps=SWAPS, delays=DELAYS), 20)
    short, long = found["sync-swap: 2-4 s", "auc"], found["sync-swap: >= 4 s", "auc"]
    assert short.value == 0.75
    assert (short.judged, short.total, short.genuine, short.fake) == (4, 4, 2, 2)
    assert long.value == 0.5
    assert (long.judged, long.total, long.genuine, long.fake) == (3, 4, 1, 2)
    moved = found["sync-shift", "within_a_frame"]
    assert moved.value == pytest.approx(2 / 3)
    assert (moved.judged, moved.total) == (3, 4)


# Shared


def test_the_protocols_of_the_shared_corpus() -> None:
    def video(name: str, labels: Labels, method: str | None, **scores: float) -> Clip:
        return clip(name, labels, method=method, corpus="shared/v", **scores)

    def voice(name: str, label: int, source: str, score: float) -> Clip:
        method = "tts:x" if label else None
        return clip(
            name,
            Labels(audio=label),
            method=method,
            corpus=f"shared/{source}",
            sound_alone=True,
            audio=score,
            fake=score,
        )

    clips = [
        *[video(f"g{n}", GENUINE, None, fake=0.3, visual=p, audio=0.9) for n, p in enumerate([0.1, 0.2, 0.3])],
        video("unjudged", GENUINE, None),
        *[video(f"l{n}", Labels(1, 0, 0), "lipsync:A", fake=0.9, visual=p) for n, p in enumerate([0.4, 0.5, 0.15])],
        *[video(f"t{n}", Labels(1, None, 0), "talking_head:B", fake=0.2, visual=0.9) for n in range(2)],
        *[video(f"s{n}", Labels(0, 1, None), "voice_swap:C", fake=0.9, visual=0.9) for n in range(3)],
        voice("v1", 0, "one", 0.1),
        voice("v2", 1, "one", 0.9),
        voice("v3", 0, "two", 0.8),
        voice("v4", 1, "two", 0.2),
        voice("v5", 1, "three", 0.95),
    ]
    found = figures("shared", material(clips))
    # A swapped voice behind a real picture is neither genuine nor fake for the picture, and the voice of a video is
    # not part of speech.
    assert (found["visual", "auc"].genuine, found["visual", "auc"].fake) == (3, 5)
    assert found["visual: lipsync:A", "auc"].value == pytest.approx(7 / 9)
    assert found["visual: lipsync:A", "auc"].total == 7
    assert ("visual: talking_head:B", "auc") not in found  # two clips
    assert found["visual", "mean_auc"].value == pytest.approx(7 / 9)
    assert "1 methods" in found["visual", "mean_auc"].title
    assert (found["speech", "eer"].genuine, found["speech", "eer"].fake) == (2, 3)
    assert found["speech", "mean_auc"].value == 0.5
    assert "2 sources" in found["speech", "mean_auc"].title
    verdict = found["verdict", "auc"]
    assert (verdict.judged, verdict.total, verdict.fake) == (11, 12, 8)
    assert verdict.value == 0.75
    assert found["verdict: talking_head", "auc"].value == 0
    assert found["verdict: voice_swap", "auc"].value == 1
