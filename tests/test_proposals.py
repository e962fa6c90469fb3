"""Proposals from hand-made frame curves: exact edges, near stretches, pauses, several faces, soft-NMS."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avfake.evaluation.localisation import ap_at_iou
from avfake.evaluation.material import ClipFrames, Proposal
from avfake.evaluation.proposals import HOLE, MAX_PROPOSALS, MIN_LENGTH, Curves, _thinned, by_clip, of_clips, propose
from avfake.models import Calibration

Floats = NDArray[np.float64]
Spans = list[tuple[int, int]]


def curve(frames: int, fake: Spans, high: float = 5.0, low: float = -5.0) -> Floats:
    """Log-odds (T,) that are high in the spans and low elsewhere."""
    values = np.full(frames, low)
    for start, end in fake:
        values[start:end] = high
    return values


def unknown(frames: int) -> Floats:
    return np.full(frames, math.nan)


def of_picture(values: Floats) -> list[Proposal]:
    return propose(Curves(values, unknown(len(values))), {})


def frames_of(name: str, visual: Floats, *, start: int = 0, track: int | None = 0, speech: bool = True) -> ClipFrames:
    """A track whose voice gets the same scores as its lips."""
    ok = ~np.isnan(visual)
    values = np.nan_to_num(visual).astype(np.float32)
    return ClipFrames(name, track, start, values, values, ok, ok & speech, None)


def test_a_perfect_detector_has_ap_1_on_frame_exact_edges() -> None:
    known: list[Spans] = [[(10, 30)], [(3, 6), (50, 90)], [], [(0, 40)], [(70, 100)]]
    proposals = [of_picture(curve(100, fake)) for fake in known]
    segments = [[(start / 25, end / 25) for start, end in fake] for fake in known]
    assert ap_at_iou(segments, proposals, 0.99) == pytest.approx(1)
    assert proposals[0][0][1:] == (0.4, 1.2)


def test_a_short_stretch_is_one_word_and_less_is_an_outlier() -> None:
    assert of_picture(curve(100, [(40, 40 + MIN_LENGTH)]))[0][1:] == (1.6, 1.72)
    assert [one[1:] for one in of_picture(curve(100, [(40, 42)]))] == [(0.0, 4.0)]


def test_single_outliers_neither_split_nor_extend_a_stretch() -> None:
    values = curve(100, [(30, 60)])
    values[45], values[70] = -5.0, 5.0
    found = of_picture(values)
    assert found[0][1:] == (1.2, 2.4)
    assert found[0] == of_picture(curve(100, [(30, 60)]))[0]


def test_near_stretches_are_not_merged() -> None:
    found = of_picture(curve(200, [(60, 80), (86, 110)]))
    assert {one[1:] for one in found[:2]} == {(2.4, 3.2), (3.44, 4.4)}
    assert (2.4, 4.4) not in {one[1:] for one in found}


def test_nothing_fake_has_no_confidence() -> None:
    noise = np.random.default_rng(0).normal(-5, 0.5, 250)
    found = of_picture(noise)
    assert found
    assert found[0][0] < 0.03


def test_what_was_not_judged_has_no_proposals() -> None:
    assert of_picture(unknown(50)) == []
    assert of_clips([frames_of("a", unknown(50)), frames_of("b", curve(50, []))], {}).keys() == {"b"}


def test_all_fake_is_the_whole_clip() -> None:
    found = propose(Curves(unknown(103), np.concatenate([unknown(3), curve(90, [(0, 90)]), unknown(10)])), {})
    assert [one[1:] for one in found] == [(0.0, 4.12)]
    assert found[0][0] == pytest.approx(0.5, abs=0.01)  # nothing genuine stands beside it


def test_confidence_rises_with_the_inside_and_falls_with_what_is_beside() -> None:
    inside = [of_picture(curve(100, [(30, 60)], high=high))[0] for high in (-1.0, 0.0, 2.0, 4.0)]
    beside = [of_picture(curve(100, [(30, 60)], low=low))[0] for low in (0.0, -1.0, -3.0)]
    for found in (inside, beside):
        assert {one[1:] for one in found} == {(1.2, 2.4)}
        confidences = [one[0] for one in found]
        assert confidences == sorted(set(confidences))


def test_calibration_decides_between_picture_and_voice() -> None:
    curves = Curves(curve(100, [(10, 30)]), curve(100, [(60, 90)]))
    plain, lowered = propose(curves, {}), propose(curves, {"visual": Calibration(bias=-8.0)})
    assert {one[1:] for one in plain[:2]} == {(0.4, 1.2), (2.4, 3.6)}
    assert lowered[0][1:] == (2.4, 3.6)
    assert {one[1:]: one[0] for one in lowered}[0.4, 1.2] < 0.1


def test_picture_and_voice_together_make_one_stretch() -> None:
    found = propose(Curves(curve(150, [(40, 60)]), curve(150, [(60, 80)])), {})
    assert (1.6, 3.2) in {one[1:] for one in found}


@pytest.mark.parametrize(("pause", "joined"), [(HOLE, True), (HOLE + 1, False)])
def test_a_fake_goes_on_in_short_pauses_alone(pause: int, joined: bool) -> None:
    values = curve(200, [(60, 140)])
    values[90 : 90 + pause] = math.nan
    found = {one[1:] for one in of_picture(values)}
    assert ((2.4, 5.6) in found) == joined
    assert ((2.4, 3.6) in found) != joined


def test_pieces_come_together_on_the_clock_of_the_file() -> None:
    halves = [frames_of("a", curve(50, [(40, 50)]), start=20), frames_of("a", curve(50, [(0, 10)]), start=70)]
    (name, curves), (other, _) = by_clip([*halves, frames_of("b", curve(10, []))])
    assert (name, other) == ("a", "b")
    assert np.isnan(curves.visual[:20]).all()
    assert len(curves.visual) == 120
    assert of_clips(halves, {})["a"][0][1:] == (2.4, 3.2)


def test_the_most_suspicious_face_and_the_mean_voice_count() -> None:
    calm, fake = frames_of("a", curve(40, [], low=-4.0)), frames_of("a", curve(20, [(0, 20)], high=2.0), track=1)
    still = frames_of("a", curve(40, [], low=9.0), track=2, speech=False)
    (_, curves), *_ = by_clip([calm, fake])
    assert curves.visual.tolist() == [2.0] * 20 + [-4.0] * 20
    assert curves.audio.tolist() == [-1.0] * 20 + [-4.0] * 20
    (_, curves), *_ = by_clip([still])
    assert np.isnan(curves.audio).all()


def test_soft_nms_keeps_the_best_and_lowers_what_overlaps_it() -> None:
    spans = np.array([[0, 9], [0, 10], [20, 30]])
    found = list(_thinned(spans, np.array([0.8, 0.9, 0.5])))
    lowered = 0.8 * math.exp(-(0.9**2) / 0.5)
    assert [tuple(one[1:]) for one in found] == [(0, 10), (20, 30), (0, 9)]
    assert [one[0] for one in found] == pytest.approx([0.9, 0.5, lowered])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.9),
    st.floats(0, 30),
)
def test_proposals_lie_in_the_clip_on_frames_and_are_ranked(frames: int, seed: int, lost: float, spread: float) -> None:
    random = np.random.default_rng(seed)
    curves = Curves(*np.where(random.random((2, frames)) < lost, np.nan, random.normal(0, spread, (2, frames))))
    found = propose(curves, {"audio": Calibration(0.2, 0.1)})
    assert found == propose(curves, {"audio": Calibration(0.2, 0.1)})
    assert bool(found) == (not np.isnan([curves.visual, curves.audio]).all())
    assert len(found) <= MAX_PROPOSALS
    assert len({one[1:] for one in found}) == len(found)
    assert [one[0] for one in found] == sorted((one[0] for one in found), reverse=True)
    for confidence, start, end in found:
        assert 0 <= confidence <= 1
        assert 0 <= start < end <= frames / 25
        assert (25 * start, 25 * end) == pytest.approx((round(25 * start), round(25 * end)))
