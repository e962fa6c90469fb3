"""Judging: windows, pooling, reasons, speakers, segments; on made-up evidence, so that every case is exact."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfake import load_detector
from avfake.detect import HOP_S, WINDOW_S, Detector, window_spans
from avfake.judging import Piece, WindowScore, _hysteresis, _merged, best_shift, runs
from avfake.models import MAX_SHIFT, SHIFTS, Calibration, CheckpointError


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A detector with plain calibration: logit 0 is P(fake) = 0.5 is the threshold."""
    detector = load_detector("mini", threads=1)
    aspects = ("fake", "visual", "audio", "sync")
    detector.config = replace(
        detector.config,
        calibration={aspect: Calibration() for aspect in aspects},
        thresholds={aspect: {0.05: 0.5} for aspect in aspects},
    )
    return detector


def piece(frames: int = 100, *, track: int | None = 0, start: int = 0, shift: int = 0, **changes: object) -> Piece:
    """Evidence of a genuine talking face, in sync at ``shift``; logits of -2 everywhere."""
    curve = np.zeros(SHIFTS)
    curve[MAX_SHIFT + shift] = 50.0
    talking = 0.2 + 0.1 * np.sin(np.arange(frames))
    made = Piece(
        track=track,
        start=start,
        face_px=60.0,
        visual=np.full(frames, -2.0, np.float32),
        audio=np.full(frames, -2.0, np.float32),
        speech=np.ones(frames, np.bool_),
        face_ok=np.ones(frames, np.bool_),
        opening=talking.astype(np.float32),
        windows=(WindowScore(start, start + frames, frames, fake=-2.0, sync=-2.0),),
        curve=curve,
        weight=np.full(SHIFTS, 100.0),
        evidence=np.zeros((frames, SHIFTS), np.float16),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_genuine_speaker(detector: Detector) -> None:
    found = detector.judge("x", [piece()])
    (track,) = found.tracks
    assert found.verdict.label == "genuine"
    assert (track.visual.status, track.audio.status, track.sync.status) == ("genuine",) * 3
    assert track.sync.state == "in_sync"
    assert track.speaker


@pytest.mark.parametrize(("shift", "state"), [(3, "in_sync"), (-3, "in_sync"), (4, "shifted"), (-8, "shifted")])
def test_a_constant_offset_is_reported_and_is_no_fake(detector: Detector, shift: int, state: str) -> None:
    found = detector.judge("x", [piece(shift=shift)])
    assert found.tracks[0].sync.state == state
    assert found.tracks[0].sync.offset_ms == 40 * shift
    assert found.tracks[0].sync.status == "genuine"
    assert found.verdict.label == "genuine"


def test_lips_that_fit_no_shift_are_mismatched(detector: Detector) -> None:
    found = detector.judge("x", [piece(windows=(WindowScore(0, 100, 100, fake=3.0, sync=3.0),))])
    sync = found.tracks[0].sync
    assert (sync.status, sync.state, sync.offset_ms) == ("fake", "mismatched", None)
    assert [(s.start_s, s.end_s) for s in sync.segments] == [(0.0, 4.0)]
    assert found.verdict.label == "fake"
    assert any("do not belong together" in sentence for sentence in found.verdict.because)


def test_voice_over_a_still_face_is_not_judged_and_not_fake(detector: Detector) -> None:
    still = piece(opening=np.full(100, 0.05, np.float32), windows=(WindowScore(0, 100, 100, fake=5.0, sync=5.0),))
    found = detector.judge("x", [still])
    assert found.tracks[0].sync.reason == found.tracks[0].audio.reason == "voice_over"
    assert found.tracks[0].sync.status == "not_judged"
    assert found.voice.status == "genuine"
    assert found.verdict.label == "genuine"


@pytest.mark.parametrize(
    ("changes", "aspect", "reason"),
    [
        ({"speech": np.zeros(100, np.bool_)}, "audio", "no_speech"),
        ({"speech": np.zeros(100, np.bool_)}, "sync", "no_speech"),
        ({"speech": np.arange(100) < 10}, "audio", "too_short"),
        ({"speech": np.arange(100) < 25}, "sync", "too_short"),
        ({"face_ok": np.arange(100) < 10}, "visual", "too_short"),
        ({"face_px": 12.0}, "visual", "face_too_small"),
        ({"face_px": 12.0}, "sync", "face_too_small"),
    ],
)
def test_reasons(detector: Detector, changes: dict[str, object], aspect: str, reason: str) -> None:
    (track,) = detector.judge("x", [piece(**changes)]).tracks  # type: ignore[arg-type]
    judged = getattr(track, aspect)
    assert (judged.status, judged.reason, judged.p_fake) == ("not_judged", reason, None)


def test_without_sound_only_the_picture_is_judged(detector: Detector) -> None:
    silent = piece(speech=np.zeros(100, np.bool_))
    found = detector.judge("x", [silent], has_audio=False)
    assert found.tracks[0].audio.reason == found.tracks[0].sync.reason == found.voice.reason == "no_audio"
    assert found.verdict.label == "genuine"


def test_without_face_or_speech_nothing_is_judged(detector: Detector) -> None:
    nothing = piece(track=None, speech=np.zeros(100, np.bool_))
    found = detector.judge("x", [nothing])
    assert found.verdict.label == "not_judged"
    assert found.verdict.p_fake is None
    assert set(found.verdict.because) == {"no_face", "no_speech"}


def test_a_voice_alone_can_be_fake(detector: Detector) -> None:
    found = detector.judge("x", [piece(track=None, audio=np.full(100, 2.0, np.float32))])
    assert found.verdict.label == "fake"
    assert found.voice.segments[0].start_s == 0


def test_of_two_faces_the_better_fitting_one_is_the_speaker(detector: Detector) -> None:
    listener = piece(track=1, windows=(WindowScore(0, 100, 100, fake=4.0, sync=4.0),))
    found = detector.judge("x", [piece(), listener])
    speaker, other = found.tracks
    assert speaker.speaker
    assert not other.speaker
    assert other.sync.reason == "not_the_speaker"
    assert found.verdict.label == "genuine"


def test_people_who_take_turns_are_both_judged(detector: Detector) -> None:
    later = piece(track=1, start=100, windows=(WindowScore(100, 200, 100, fake=4.0, sync=4.0),))
    found = detector.judge("x", [piece(), later])
    assert [t.sync.state for t in found.tracks] == ["in_sync", "mismatched"]
    assert found.verdict.label == "fake"


def test_a_fake_stretch_becomes_a_segment(detector: Detector) -> None:
    logits = np.full(200, -3.0, np.float32)
    logits[80:130] = 3.0
    windows = (WindowScore(0, 200, 200, fake=-1.0, sync=-2.0),)
    opening = np.tile(piece().opening, 2)
    long = piece(200, visual=logits, windows=windows, opening=opening)
    (segment,) = detector.judge("x", [long]).tracks[0].visual.segments
    assert segment.start_s == pytest.approx(3.2, abs=0.2)
    assert segment.end_s == pytest.approx(5.2, abs=0.2)
    assert segment.p_fake > 0.5


def test_best_shift_weighs_pieces_by_speech() -> None:
    assert best_shift([piece(shift=2), piece(start=100, shift=2), piece(start=200, shift=-5)]) == 2


def test_other_preprocessing_is_refused(detector: Detector) -> None:
    config = replace(detector.config, preprocessing=999)
    with pytest.raises(CheckpointError, match="999"):
        Detector(SimpleNamespace(config=config))  # type: ignore[arg-type]  # nothing else is looked at


@given(st.integers(1, 2000))
def test_windows_cover_every_frame_and_have_one_length(frames: int) -> None:
    spans = window_spans(frames)
    size, hop = round(WINDOW_S * 25), round(HOP_S * 25)
    assert spans[0][0] == 0
    assert spans[-1][1] == frames
    assert all(end - start == min(size, frames) for start, end in spans)
    assert all(0 < b[0] - a[0] <= hop for a, b in itertools.pairwise(spans))


@given(st.lists(st.booleans(), max_size=60))
def test_runs_are_the_stretches_of_true(flags: list[bool]) -> None:
    array = np.array(flags, np.bool_)
    covered = np.zeros_like(array)
    for start, end in runs(array):
        assert start < end
        assert start == 0 or not array[start - 1]
        assert end == len(array) or not array[end]
        covered[start:end] = True
    assert (covered == array).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_hysteresis_enters_high_and_leaves_low(values: list[float]) -> None:
    array = np.array(values)
    spans = list(_hysteresis(array, 0.7, 0.4))
    inside = np.zeros(len(array), np.bool_)
    for start, end in spans:
        assert array[start:end].max() >= 0.7
        assert array[start:end].min() >= 0.4
        inside[start:end] = True
    assert not (array[~inside] >= 0.7).any()


def test_overlapping_windows_become_one_segment() -> None:
    joined = _merged([(0, 100, 0.8), (50, 150, 0.6), (300, 400, 0.9)])
    assert [(s.start_s, s.end_s) for s in joined] == [(0.0, 6.0), (12.0, 16.0)]
    assert joined[0].p_fake == pytest.approx(0.7)


def test_scattered_speech_is_too_short_for_sync(detector: Detector) -> None:
    windows = tuple(WindowScore(at, at + 100, 14, fake=5.0, sync=5.0) for at in range(0, 401, 50))
    speech = np.arange(500) % 50 < 7
    sparse = piece(500, speech=speech, windows=windows, opening=np.tile(piece().opening, 5))
    (track,) = detector.judge("x", [sparse]).tracks
    assert track.sync.reason == "too_short"
    assert track.p_fake == track.visual.p_fake


def test_a_fake_voice_off_screen_is_not_hidden_by_a_genuine_speaker(detector: Detector) -> None:
    narrator = piece(400, track=None, start=100, audio=np.full(400, 3.0, np.float32))
    found = detector.judge("x", [piece(), narrator])
    assert found.verdict.label == "fake"
    assert "the voice sounds synthetic or converted" in found.verdict.because


def test_a_voice_over_that_sounds_synthetic_is_told_of_the_voice_not_of_the_face(detector: Detector) -> None:
    still = piece(opening=np.full(100, 0.05, np.float32), audio=np.full(100, 3.0, np.float32))
    found = detector.judge("x", [still])
    assert found.tracks[0].sync.reason == found.tracks[0].audio.reason == "voice_over"
    assert found.voice.status == "fake"
    assert found.verdict.because == ("the voice sounds synthetic or converted",)


def test_findings_that_the_verdict_overrules_make_it_unsure(detector: Detector) -> None:
    doubtful = piece(visual=np.full(100, 2.0, np.float32), windows=(WindowScore(0, 100, 100, fake=-4.0, sync=-2.0),))
    verdict = detector.judge("x", [doubtful]).verdict
    assert (verdict.label, verdict.sure) == ("genuine", "low")
    assert any("stays below the threshold" in sentence for sentence in verdict.because)


def test_each_candidate_is_held_against_the_threshold_of_its_own_aspect(detector: Detector) -> None:
    plain = detector.config
    try:
        detector.config = replace(plain, thresholds={"visual": {0.05: 0.8}, "fake": {0.05: 0.5}})
        silent = piece(speech=np.zeros(100, np.bool_), visual=np.full(100, 1.0, np.float32))  # P(fake) 0.73
        found = detector.judge("x", [silent], has_audio=False)
        assert found.tracks[0].visual.status == found.verdict.label == "genuine"
    finally:
        detector.config = plain


def test_many_cuts_do_not_add_up_to_a_fake(detector: Detector) -> None:
    logits = np.random.default_rng(0).normal(-2, 1.2, 60)
    shots = [
        piece(track=n, start=100 * n, windows=(WindowScore(100 * n, 100 * n + 100, 100, fake=float(x), sync=-2.0),))
        for n, x in enumerate(logits)
    ]
    assert (1 / (1 + np.exp(-logits)) > 0.5).any()
    assert detector.judge("x", shots).verdict.label == "genuine"


def test_a_face_too_small_is_said_where_only_the_voice_was_judged(detector: Detector) -> None:
    verdict = detector.judge("x", [piece(face_px=10.0)]).verdict
    assert verdict.because == ("no face could be judged, so only the voice was",)


def test_shifts_that_few_frames_support_are_no_peaks() -> None:
    curve, weight = np.zeros(SHIFTS), np.full(SHIFTS, 50.0)
    curve[MAX_SHIFT + 2] = 25.0
    weight[-1], curve[-1] = 5.0, 4.5
    assert best_shift([piece(curve=curve, weight=weight)]) == 2


def test_a_swapped_stretch_of_a_genuine_speaker_is_told(detector: Detector) -> None:
    pieces = [
        piece(250, start=250 * n, opening=np.tile(piece().opening, 3)[:250],
              windows=(WindowScore(250 * n, 250 * n + 250, 250, fake=-2.0, sync=4.0 if n == 3 else -4.0),))
        for n in range(6)
    ]  # fmt: skip
    sync = detector.judge("x", pieces).tracks[0].sync
    assert sync.status == "genuine"
    assert [(s.start_s, s.end_s) for s in sync.segments] == [(30.0, 40.0)]


def test_sure_is_about_the_label(detector: Detector) -> None:
    plain = detector.config
    try:
        detector.config = replace(plain, thresholds={**plain.thresholds, "fake": {0.05: 0.95}})
        nearly = piece(windows=(WindowScore(0, 100, 100, fake=2.2, sync=-2.0),))  # P(fake) 0.90
        verdict = detector.judge("x", [nearly]).verdict
        assert (verdict.label, verdict.sure) == ("genuine", "low")
    finally:
        detector.config = plain


def test_a_fake_that_no_aspect_shows_alone_says_so(detector: Detector) -> None:
    verdict = detector.judge("x", [piece(windows=(WindowScore(0, 100, 100, fake=3.0, sync=-2.0),))]).verdict
    assert (verdict.label, verdict.sure) == ("fake", "low")
    assert verdict.because == ("no single aspect crosses its threshold, but together they do",)


def test_what_a_model_was_not_taught_it_does_not_judge(detector: Detector) -> None:
    whole = detector.config
    try:
        detector.config = replace(whole, aspects=["audio"])
        voices = detector.judge("a.mp4", [piece(audio=np.full(100, 50.0))])
        assert {voices.tracks[0].visual.reason, voices.tracks[0].sync.reason} == {"not_trained"}
        assert voices.tracks[0].p_fake is None
        assert voices.voice.status == voices.verdict.label == "fake"
        detector.config = replace(whole, aspects=["visual", "sync"])
        lips = detector.judge("a.mp4", [piece(visual=np.full(100, 50.0))])
        assert lips.voice.reason == "not_trained"
        assert lips.tracks[0].sync.state == "in_sync"
        assert lips.tracks[0].p_fake == lips.tracks[0].visual.p_fake
        assert lips.verdict.label == "fake"
        detector.config = replace(whole, aspects=["sync"])
        nothing = detector.judge("a.mp4", [piece()])
        assert nothing.verdict.label == "not_judged"
        assert nothing.verdict.because == ("not_trained",)
    finally:
        detector.config = whole
