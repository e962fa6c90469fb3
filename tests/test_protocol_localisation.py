"""The protocols of LAV-DF and AV-Deepfake1M on small tables with figures computed by hand."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avfake.clips import Clip
from avfake.evaluation.figures import Figure
from avfake.evaluation.localisation import AV_DEEPFAKE1M, LAV_DF, ap_at_iou, ar_at_n
from avfake.evaluation.material import ClipFrames, Material, Proposal
from avfake.evaluation.metrics import frame_auc
from avfake.evaluation.proposals import of_clips
from avfake.evaluation.protocols import find
from avfake.evaluation.protocols.localisation import (
    _AveragePrecision,
    _AverageRecall,
    _FrameAuc,
    fake_stretches,
    localised,
)
from avfake.evaluation.table import ClipScore, Table
from avfake.manifest import Labels, Row, Segment, Segments
from avfake.samples import Sample, frame_labels

REAL = Labels(0, 0, 0)


def row(
    name: str, labels: Labels = REAL, method: str | None = None, corpus: str = "lav-df", **where: tuple[Segment, ...]
) -> Row:
    return Row(name, f"{name}.mp4", None, corpus, "test", None, method, labels=labels, segments=Segments(**where))


def heard(name: str, *where: Segment) -> Row:
    return row(name, Labels(0, 1, 1), "audio_modified", audio=where, sync=where)


def seen(name: str, *where: Segment) -> Row:
    return row(name, Labels(1, 0, None), "visual_modified:TalkLip", visual=where)


def material(
    rows: Sequence[Row],
    proposals: Mapping[str, Sequence[Proposal]] | None,
    frames: Sequence[ClipFrames] | None = None,
    **scores: float,
) -> Material:
    clips = tuple(ClipScore(each.id, {"fake": scores.get(each.id, 0.5)}, duration_s=8.0) for each in rows)
    return Material(Table(tuple(rows), clips), None if frames is None else lambda: iter(frames), proposals)


def by_metric(found: list[Figure]) -> dict[str, Figure]:
    return {figure.metric: figure for figure in found if figure.question == "localisation"}


def test_hand_computed() -> None:
    # Ranked: a hit, then false alarms in the genuine clip and in the fake one; "silent" is fake and missed.
    rows = [heard("found", (1.0, 2.0)), seen("silent", (0.0, 1.0)), row("real")]
    said = {"found": [(0.9, 1.0, 2.0), (0.8, 3.0, 4.0)], "real": [(0.85, 0.0, 1.0)]}
    figures = by_metric(localised(material(rows, said), LAV_DF, 0))
    assert list(figures) == ["ap@0.5", "ap@0.75", "ap@0.95", "ar@100", "ar@50", "ar@20", "ar@10"]
    assert {figure.value for figure in figures.values()} == {0.5}
    first = figures["ap@0.5"]
    assert (first.title, first.judged, first.total, first.genuine, first.fake) == ("AP@0.5", 2, 3, 1, 2)
    assert first.note == "1 fake clips without proposals count as missed"


def test_a_false_alarm_above_the_hits_costs_precision() -> None:
    rows = [heard("a", (1.0, 2.0)), heard("b", (1.0, 2.0)), row("real")]
    said = {"a": [(0.9, 1.0, 2.0)], "b": [(0.5, 1.0, 1.9)], "real": [(0.7, 0.0, 1.0)]}
    figures = by_metric(localised(material(rows, said), AV_DEEPFAKE1M, 0))
    assert figures["ap@0.5"].value == pytest.approx((1 + 2 / 3) / 2)  # precision 1 at recall 1/2, 2/3 at recall 1
    assert figures["ap@0.9"].value == pytest.approx(0.5)  # an IoU of 0.9 is not above 0.9
    assert figures["ar@5"].value == pytest.approx((1 + 0.8) / 2)  # b is met at 0.5 to 0.85 of 0.5 to 0.95
    ap = [(1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 0.5, 0.5]
    assert figures["challenge_score"].value == pytest.approx((np.mean(ap) + 0.9) / 2)


def test_unlabelled_clips_are_no_trials() -> None:
    rows = [heard("a", (1.0, 2.0)), row("hidden", Labels())]
    figures = by_metric(localised(material(rows, {"a": [(0.1, 1.0, 2.0)], "hidden": [(0.9, 1.0, 2.0)]}), LAV_DF, 0))
    assert (figures["ap@0.5"].value, figures["ap@0.5"].total, figures["ap@0.5"].note) == (1, 1, "")


def test_intervals() -> None:
    rows = [heard(f"f{n}", (1.0, 2.0)) for n in range(30)] + [row(f"r{n}") for n in range(10)]
    said = {each.id: [(0.9, 1.0, 2.0) if n % 2 else (0.8, 5.0, 6.0)] for n, each in enumerate(rows)}
    figure = by_metric(localised(material(rows, said), LAV_DF, 100))["ap@0.75"]
    assert 0 < figure.low < figure.value < figure.high < 1


def test_without_proposals_or_segments() -> None:
    rows = [heard("a", (1.0, 2.0)), row("real")]
    (figure,) = localised(material(rows, None), LAV_DF, 10)
    assert math.isnan(figure.value)
    assert (figure.judged, figure.total, figure.note) == (0, 2, "there are no proposals")
    assert localised(material([row("a", Labels(1, 0, 0), "x"), row("real")], {}), LAV_DF, 10) == []


def test_stretches_are_the_union_of_the_aspects() -> None:
    both = row(
        "a", Labels(1, 1, 1), "x", visual=((3.0, 4.0), (1.0, 2.0)), audio=((1.5, 2.5), (4.0, 5.0)), sync=((1.5, 2.5),)
    )
    assert fake_stretches(both, 9.0) == ((1.0, 2.5), (3.0, 4.0), (4.0, 5.0))
    assert fake_stretches(row("a", Labels(0, 1, 0), "x"), 9.0) == ((0.0, 9.0),)
    assert fake_stretches(row("a"), 9.0) == ()
    endless = fake_stretches(row("a", Labels(1, None, None), "x"), 0.0)
    assert endless == ((0.0, math.inf),)
    rows = [row("a", Labels(1, None, None), "x"), heard("b", (1.0, 2.0))]
    table = Table(tuple(rows), tuple(ClipScore(each.id) for each in rows))
    figures = by_metric(localised(Material(table, None, {"a": [(0.9, 0.0, 9.0)], "b": [(0.8, 1.0, 2.0)]}), LAV_DF, 0))
    assert figures["ap@0.5"].value == pytest.approx(0.25)
    assert figures["ap@0.5"].note == "1 clips are fake throughout, but nobody has measured how long they are"


def curves(name: str, frames: int, fake: tuple[int, int], lost: slice = slice(0, 0)) -> ClipFrames:
    """Scores of a voice that are right on all frames; the picture is right the other way round."""
    audio = np.full(frames, -4.0, np.float32)
    audio[slice(*fake)] = 4.0
    speech = np.ones(frames, np.bool_)
    speech[lost] = False
    return ClipFrames(name, 0, 0, -audio, audio, np.ones(frames, np.bool_), speech, None)


def test_from_frames_to_figures() -> None:
    rows = [heard("a", (1.0, 2.0)), seen("b", (2.0, 3.0)), row("real")]
    frames = [curves("a", 200, (25, 50)), curves("b", 200, (0, 0), slice(100, 200)), curves("real", 100, (0, 0))]
    found = localised(material(rows, of_clips(frames[:1], {}), frames), LAV_DF, 10)
    assert by_metric(found)["ap@0.75"].value == pytest.approx(0.5)
    picture, voice = (figure for figure in found if figure.question.startswith("frames"))
    assert (voice.question, voice.metric, voice.value) == ("frames: audio", "frame_auc", 1)
    assert (voice.judged, voice.total) == (400, 500)
    # 25 of 200 frames of b are fake and score like all genuine ones but for the 25 of a, which score less.
    assert picture.value == pytest.approx(0.5 + 0.5 * 25 / 475)
    assert picture.total == 500


def test_figures_do_not_follow_the_order_in_which_clips_were_judged() -> None:
    random = np.random.default_rng(0)
    rows = [seen(f"f{n}", (1.0, 2.0)) if n % 2 else heard(f"f{n}", (1.0, 2.0)) for n in range(20)]
    rows += [row(f"r{n}") for n in range(10)]
    judged = [
        [
            ClipFrames(
                each.id, track, start, *random.normal(0, 3, (2, 40)).astype(np.float32), *np.ones((2, 40), bool), None
            )
            for track in (None, 0, 1, 2)
            for start in (0, 50)
        ]
        for each in rows
    ]

    def figures() -> str:
        frames = [run for runs in judged for run in runs]
        return repr(localised(material(rows, of_clips(frames, {}), frames), LAV_DF, 50))

    first = figures()
    assert "frames: visual" in first
    assert "frames: audio" in first
    for _ in range(3):
        random.shuffle(judged)
        for runs in judged:
            random.shuffle(runs)
        assert figures() == first


def test_frames_that_hold_no_fake_say_why() -> None:
    found = localised(material([heard("a", (9.0, 10.0)), row("real")], {}, [curves("a", 100, (0, 0))]), LAV_DF, 0)
    assert math.isnan(found[-1].value)
    assert found[-1].note == "no genuine or no fake frames were judged"


Drawn = tuple[list[list[list[float]]], list[list[list[float]]], NDArray[np.int64]]


def drawn(seed: int) -> Drawn:
    """Stretches and proposals of some clips, with tied confidences, and which clips are drawn."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 8))
    stretches, proposals = [], []
    for _ in range(count):
        starts = np.sort(random.uniform(0, 8, random.integers(0, 3)))
        stretches.append([[start, start + 1.0] for start in starts])
        said = [
            [start + random.normal(0, 0.2), 1.0] for start in [*starts, *random.uniform(0, 8, random.integers(0, 4))]
        ]
        proposals.append([[round(random.random(), 1), start, start + length] for start, length in said])
    return stretches, proposals, random.integers(0, count, random.integers(1, 10))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5, 0.75]), st.integers(1, 5))
def test_drawing_counts_clips_as_often_as_they_are_drawn(seed: int, iou: float, number: int) -> None:
    stretches, proposals, clips = drawn(seed)
    again = [stretches[clip] for clip in clips], [proposals[clip] for clip in clips]
    ap, ar = _AveragePrecision(stretches, proposals, iou), _AverageRecall(stretches, proposals, number)
    assert ap(None, clips) == pytest.approx(ap_at_iou(*again, iou), nan_ok=True)
    assert ar(None, clips) == pytest.approx(ar_at_n(*again, number), nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_drawing_counts_frames_as_often_as_their_clip_is_drawn(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = [random.integers(0, 2, size) for size in random.integers(1, 9, 4)]
    scores = [np.where(random.random(len(each)) < 0.2, np.nan, random.integers(0, 5, len(each))) for each in labels]
    clips = random.integers(0, 4, 6)
    again = [labels[clip] for clip in clips], [scores[clip] for clip in clips]
    assert _FrameAuc(labels, scores)(None, clips) == pytest.approx(frame_auc(*again), nan_ok=True)


@given(st.lists(st.tuples(st.floats(0, 4), st.floats(0.01, 2)), max_size=3), st.sampled_from([0, 1]))
def test_a_frame_is_fake_where_its_middle_is(where: list[tuple[float, float]], label: int) -> None:
    segments = tuple((start, start + length) for start, length in where) if label else ()
    known = row("a", Labels(0, label, 0), "x", audio=segments)
    clip = Clip(None, np.zeros(640 * 60, np.float32), None, np.zeros(60, np.bool_))
    middles = [(frame + 0.5) / 25 for frame in range(60)]
    inside = [any(start <= middle < end for start, end in segments) or not segments for middle in middles]
    assert frame_labels(known, "audio", 60).tolist() == [label * each for each in inside]
    assert Sample(known, clip).frame_labels("audio").tolist() == [label * each for each in inside]
    assert np.isnan(frame_labels(row("a", Labels(0, None, 0)), "audio", 60)).all()


def test_questions_set_each_modification_against_real_clips() -> None:
    rows = [row(f"r{n}") for n in range(4)]
    rows += [heard(f"a{n}", (0.0, 1.0)) for n in range(3)] + [seen(f"v{n}", (0.0, 1.0)) for n in range(5)]
    rows += [
        row(f"b{n}", Labels(1, 1), "both_modified:TalkLip+VITS", visual=((0, 1),), audio=((0, 1),)) for n in range(3)
    ]
    clips = tuple(ClipScore(each.id, {"fake": 0.5, "visual": 0.5, "audio": 0.5}) for each in rows)
    asked = {each.name: each for each in find("lav-df", rows).questions(Material(Table(tuple(rows), clips)))}
    counts = {name: (int(each.genuine.sum()), int(each.fake.sum())) for name, each in asked.items()}
    assert counts == {
        "fake": (4, 11),
        "visual": (7, 8),
        "audio": (9, 6),
        "fake: audio_modified": (4, 3),
        "fake: both_modified": (4, 3),
        "fake: visual_modified": (4, 5),
        "visual: both_modified": (4, 3),
        "visual: visual_modified": (4, 5),
        "audio: audio_modified": (4, 3),
        "audio: both_modified": (4, 3),
    }
    assert {each.part_of for each in asked.values()} == {"", "fake", "visual", "audio"}


@pytest.mark.parametrize("name", ["lav-df", "av-deepfake1m"])
def test_each_corpus_finds_its_protocol(name: str) -> None:
    rows = [row("a", corpus=name), row("b", corpus=name)]
    assert find("auto", rows).name == name
    assert find("auto", [*rows, row("c", corpus="mine")]).name == "general"
    metrics = [figure.metric for figure in find(name, rows).further(material([heard("a", (1.0, 2.0))], {}), 0)]
    assert ("challenge_score" in metrics) == (name == "av-deepfake1m")
    assert ("ar@100" in metrics) == (name == "lav-df")
