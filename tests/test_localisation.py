"""AP@IoU and AR@N against the official scripts, hand-computed cases, ties and videos without proposals.

The figures named "official" were computed on the proposals that ``corpus`` makes again: by ControlNet/LAV-DF metrics.py
(commit 82496da, 25 fps) and by the compiled ``avdeepfake1m`` 0.0.4 of PyPI (ControlNet/AV-Deepfake1M src/loc_1d.rs).
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfake.evaluation.localisation import AV_DEEPFAKE1M, LAV_DF, ap_at_iou, ar_at_n, challenge_score, localise

Videos = list[list[list[float]]]
LABELS = 39  # in the corpus below


def corpus(more: bool) -> tuple[Videos, Videos]:
    """Segments and proposals of 40 videos, 100 chance proposals each or a few."""
    random = np.random.RandomState(7)  # whose numbers stay the same in all versions of numpy
    segments: Videos = []
    proposals: Videos = []
    for video in range(40):
        starts = np.sort(random.uniform(0, 8, video % 3))
        fake = [[a, a + length] for a, length in zip(starts, random.uniform(0.3, 1.0, video % 3), strict=True)]
        said = []
        for a, b in fake:
            for jitter in (0.02, 0.1, 0.3):
                da, db = random.normal(0, jitter, 2)
                said.append([random.uniform(0.3, 1.0), a + da, max(b + db, a + da + 0.1)])
        for _ in range(100 if more else video % 4):
            a = random.uniform(0, 8)
            said.append([random.uniform(0, 0.8), a, a + random.uniform(0.1, 1.5)])
        segments.append(fake)
        proposals.append(sorted(said, key=lambda proposal: -proposal[0]))
    return segments, proposals


def test_lav_df_script() -> None:
    ours = localise(*corpus(more=True), LAV_DF)
    # The top proposal is a hit at 0.5 and 0.75, and what it earns (1 / 39) is missing in the official AP.
    official = {"AP@0.5": 0.4760793149 + 1 / LABELS, "AP@0.75": 0.3648239672 + 1 / LABELS, "AP@0.95": 0.0570221730}
    official |= {"AR@100": 0.9512821436, "AR@50": 0.8871795536, "AR@20": 0.7205128670, "AR@10": 0.6051281691}
    assert ours == pytest.approx(official, abs=1e-6)
    assert list(ours) == list(official)


def test_av_deepfake1m_package() -> None:
    ours = localise(*corpus(more=True), AV_DEEPFAKE1M)
    # At 0.9 and 0.95 the top proposal is no hit.
    official = {"AP@0.5": 0.4760793149 + 1 / LABELS, "AP@0.75": 0.3648239970 + 1 / LABELS}
    official |= {"AP@0.9": 0.1881771833, "AP@0.95": 0.0570221730}
    official |= {"AR@50": 0.8871794939, "AR@30": 0.8051282167, "AR@20": 0.7205128073, "AR@10": 0.6051281691}
    official |= {"AR@5": 0.5846154094}
    assert ours == pytest.approx(official, abs=1e-6)


def test_av_deepfake1m_package_on_short_lists() -> None:
    segments, proposals = corpus(more=False)
    # It stops at an empty list; here, as there, something hopeless was proposed instead.
    filled = [said or [[0.001, 0.0, 0.01]] for said in proposals]
    ours = [ar_at_n(segments, filled, number) for number in (50, 30, 20, 10, 5)]
    assert ours == pytest.approx([0.9538461566] * 4 + [0.8538461924], abs=1e-6)
    assert [ar_at_n(segments, proposals, number) for number in (50, 5)] == pytest.approx([ours[0], ours[-1]])
    official = np.array([0.6444437504, 0.4285281897, 0.3129604161, 0.1266961694])
    aps = [ap_at_iou(segments, filled, iou) for iou in AV_DEEPFAKE1M.ious]
    assert aps == pytest.approx(official + 1 / LABELS, abs=1e-6)  # a hit at the top at all four


def test_challenge_score_by_hand() -> None:
    assert challenge_score({"AP@0.5": 0.2, "AP@0.75": 0.4, "AR@50": 0.8, "AR@5": 0.6}) == pytest.approx(0.5)


def test_the_best_hit_counts() -> None:
    # Official: 0 and 0.5.
    assert ap_at_iou([[[1, 2]]], [[[0.9, 1, 2]]], 0.5) == 1
    assert ap_at_iou([[[1, 2]], [[2, 3]]], [[[0.9, 1, 2]], [[0.8, 2, 3]]], 0.5) == 1


def test_ap_by_hand() -> None:
    segments = [[[0.0, 1.0], [2.0, 3.0]], []]
    # Ranked: hit, false (in the genuine video), hit: precision 1, 1/2, 2/3.
    proposals = [[[0.9, 0.0, 1.0], [0.5, 2.0, 3.0]], [[0.7, 0.0, 1.0]]]
    assert ap_at_iou(segments, proposals, 0.5) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # A second proposal on a segment that is taken is false.
    twice = [[[0.9, 0.0, 1.0], [0.8, 0.0, 1.0], [0.5, 2.0, 3.0]], []]
    assert ap_at_iou(segments, twice, 0.5) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # An IoU of exactly the threshold is no hit.
    assert ap_at_iou([[[0.0, 1.0]]], [[[0.9, 0.0, 2.0]]], 0.5) == 0
    assert ap_at_iou([[[0.0, 1.0]]], [[[0.9, 0.0, 1.9]]], 0.5) == 1


def test_ar_by_hand() -> None:
    segments = [[[0.0, 1.0], [2.0, 3.0]]]
    proposals = [[[0.9, 5.0, 6.0], [0.8, 0.0, 1.0], [0.7, 2.0, 2.72]]]
    assert ar_at_n(segments, proposals, 1) == 0
    assert ar_at_n(segments, proposals, 2) == 0.5
    assert ar_at_n(segments, proposals, 3) == pytest.approx(0.5 + 0.5 * 0.5)  # 0.72 exceeds five of ten thresholds


def test_proposals_need_not_be_sorted() -> None:
    # The surer proposal is the hit; the scripts would take the one listed first.
    segments, proposals = [[[0.0, 1.0]], []], [[[0.2, 0.0, 0.8], [0.9, 0.0, 1.0]], [[0.5, 0.0, 1.0]]]
    assert ap_at_iou(segments, proposals, 0.5) == 1
    assert ar_at_n(segments, proposals, 1) == 1


def test_a_fake_video_without_proposals_is_missed() -> None:
    segments = [[[0.0, 1.0]], [[0.0, 1.0]], []]
    proposals = [[[0.9, 0.0, 1.0]], [], []]
    assert ar_at_n(segments, proposals, 10) == 0.5  # AV-Deepfake1M: 1
    assert ap_at_iou(segments, proposals, 0.5) == 0.5
    assert ap_at_iou(segments, [[], [], []], 0.5) == 0
    assert ar_at_n(segments, [[], [], []], 10) == 0


def test_without_segments_nothing_is_defined() -> None:
    for segments, proposals in (([], []), ([[]], [[]]), ([[]], [[[0.5, 0.0, 1.0]]])):
        assert math.isnan(ap_at_iou(segments, proposals, 0.5))
        assert math.isnan(ar_at_n(segments, proposals, 10))


def test_equal_confidences_count_at_once() -> None:
    # One hit and one false proposal at the same confidence: precision 1/2, whichever video comes first.
    segments, proposals = [[[0.0, 1.0]], []], [[[0.5, 0.0, 1.0]], [[0.5, 0.0, 1.0]]]
    assert ap_at_iou(segments, proposals, 0.5) == 0.5
    assert ap_at_iou(segments[::-1], proposals[::-1], 0.5) == 0.5


@pytest.mark.parametrize(
    ("segments", "proposals", "said"),
    [
        ([[]], [], "1 videos do not fit proposals of 0"),
        ([[[1.0, 1.0]]], [[]], "segment of video 0"),
        ([[], [[0.0, 1.0]]], [[], [[0.9, 2.0, 1.0]]], "proposal of video 1"),
        ([[]], [[[math.nan, 0.0, 1.0]]], "proposal of video 0"),
        ([[[math.nan, 1.0]]], [[]], "segment of video 0"),
    ],
)
def test_wrong_input_is_refused(segments: Videos, proposals: Videos, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ap_at_iou(segments, proposals, 0.5)
    with pytest.raises(ValueError, match=said):
        ar_at_n(segments, proposals, 5)


tenths = st.integers(0, 30).map(lambda k: k / 10)
spans = st.tuples(tenths, st.integers(1, 10)).map(lambda pair: [pair[0], pair[0] + pair[1] / 10])
said = st.tuples(st.integers(0, 5).map(lambda k: k / 5), spans).map(lambda pair: [pair[0], *pair[1]])
many = st.lists(st.tuples(st.lists(spans, max_size=3), st.lists(said, max_size=5)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(many, st.randoms(use_true_random=False))
def test_properties(videos: list[tuple[list[list[float]], list[list[float]]]], random: object) -> None:
    segments, proposals = [fake for fake, _ in videos], [given for _, given in videos]
    values = [ap_at_iou(segments, proposals, iou) for iou in (0.3, 0.6, 0.9)]
    recalls = [ar_at_n(segments, proposals, number) for number in (1, 2, 5)]
    if not any(segments):
        assert all(math.isnan(value) for value in (*values, *recalls))
        return
    assert all(0 <= value <= 1 + 1e-12 for value in (*values, *recalls))
    assert recalls == sorted(recalls)
    mixed = list(videos)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    shuffled = [fake for fake, _ in mixed], [given for _, given in mixed]
    assert ap_at_iou(*shuffled, 0.6) == pytest.approx(values[1])
    assert ar_at_n(*shuffled, 2) == pytest.approx(recalls[1])
    surer = [[[math.exp(c), a, b] for c, a, b in given] for given in proposals]
    assert ap_at_iou(segments, surer, 0.6) == pytest.approx(values[1])
    exact = [[[1.0, a, b] for a, b in fake] for fake in segments]
    assert ar_at_n(segments, exact, 5) == 1
