"""Where in a clip the fake is: LAV-DF, AV-Deepfake1M (and ++), and any manifest whose rows have segments.

The fake stretches of a video are the union of those of its aspects, as the organisers have them: LAV-DF lists
``fake_periods`` for both streams together, AV-Deepfake1M scores against ``fake_segments``. The rules are those of
``evaluation.localisation``. Intervals draw persons, or clips where nobody knows whose they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation import localisation
from avfake.evaluation.bootstrap import Metric
from avfake.evaluation.figures import Figure, Question, any_figure
from avfake.evaluation.localisation import AV_DEEPFAKE1M, LAV_DF, Benchmark, Proposals, Segments
from avfake.evaluation.material import Material
from avfake.evaluation.metrics import NAN, pool_frames
from avfake.evaluation.proposals import Curves, by_clip
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.parts import all_of, by_fakes, groups, headline, told
from avfake.evaluation.table import Table
from avfake.manifest import ASPECTS, Row, Segment
from avfake.samples import frame_labels

QUESTION = "localisation"


def partly_fake(rows: Iterable[Row]) -> bool:
    """Return whether some row says where it is fake, so that there is something to localise."""
    return any(row.segments.visual or row.segments.audio or row.segments.sync for row in rows)


def fake_stretches(row: Row, duration_s: float) -> tuple[Segment, ...]:
    """Return where a clip is fake in any aspect, in seconds of its file and in order; overlapping segments are joined.

    An aspect that is fake throughout makes the whole clip fake; a ``duration_s`` of 0 means that nobody has measured
    it, and then such a stretch has no end, and no proposal meets it.
    """
    known: set[Segment] = set()
    for aspect in ASPECTS:
        if getattr(row.labels, aspect) == 1:
            known |= set(getattr(row.segments, aspect) or [(0.0, duration_s or math.inf)])
    joined: list[Segment] = []
    for start, end in sorted(known):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def localised(material: Material, benchmark: Benchmark, resamples: int) -> list[Figure]:
    """Return AP@IoU and AR@N of the proposals and the AUC of frames; nothing where no row has segments.

    Trials are the clips that are known to be fake or genuine. A clip without proposals is one in which nothing was
    found: fake, it is missed. ``judged`` counts the clips that were judged at all.
    """
    if not partly_fake(material.table.rows):
        return []
    return [*_proposed(material, benchmark, resamples), *_framewise(material, resamples)]


# Proposals: one trial a clip, named by its number, so that a draw of the bootstrap is how often each clip counts


def _proposed(material: Material, benchmark: Benchmark, resamples: int) -> list[Figure]:
    table = material.table
    chosen = np.flatnonzero(~np.isnan(table.labels("fake")))
    rows = [table.rows[number] for number in chosen]
    stretches = [fake_stretches(row, table.clips[number].duration_s) for row, number in zip(rows, chosen, strict=True)]
    fake = sum(bool(each) for each in stretches)
    given = material.proposals
    if given is None:
        title = f"AP@{benchmark.ious[0]:g}"
        note = "there are no proposals"
        return [Figure(QUESTION, title.lower(), title, NAN, NAN, NAN, 0, len(rows), 0, 0, note=note)]
    proposals = [given.get(row.id, ()) for row in rows]
    parts: dict[str, Metric] = {
        **{f"AP@{iou:g}": _AveragePrecision(stretches, proposals, iou) for iou in benchmark.ious},
        **{f"AR@{number}": _AverageRecall(stretches, proposals, number) for number in benchmark.numbers},
    }
    whole = {"challenge score": partial(_challenge, parts)} if benchmark == AV_DEEPFAKE1M else {}
    persons = table.persons()
    missed = sum(bool(known) and not said for known, said in zip(stretches, proposals, strict=True))
    endless = sum(math.isinf(known[-1][1]) for known in stretches if known)
    notes = [f"{missed} fake clips without proposals count as missed"] if missed else []
    notes += [f"{endless} clips are fake throughout, but nobody has measured how long they are"] if endless else []
    return [
        replace(
            any_figure(
                QUESTION,
                title.lower().replace(" ", "_"),
                title,
                compute,
                stretches,
                range(len(rows)),
                [persons[number] for number in chosen],
                total=len(rows),
                resamples=resamples,
                note="; ".join(notes),
            ),
            judged=sum(row.id in given for row in rows),
            genuine=len(rows) - fake,
            fake=fake,
        )
        for title, compute in (parts | whole).items()
    ]


class _AveragePrecision:
    """``localisation.ap_at_iou`` of drawn clips, told twice as a bootstrap of that would match and rank in every draw.

    A call takes labels, which it passes over, and the numbers of the clips drawn.
    """

    def __init__(self, stretches: Sequence[Segments], proposals: Sequence[Proposals], iou: float) -> None:
        videos = localisation.checked(stretches, proposals)
        self.stretches = np.array([len(fake) for fake, _ in videos])
        confidence = np.concatenate([np.zeros(0), *(said[:, 0] for _, said in videos)])
        hits = [localisation.matched(localisation.ious(said, fake) > iou) for fake, said in videos]
        order = np.argsort(-confidence, kind="stable")
        self.hit = np.concatenate([np.zeros(0, np.bool_), *hits])[order]
        self.clip = np.repeat(np.arange(len(videos)), [len(said) for _, said in videos])[order]
        self.last = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]  # of each confidence

    def __call__(self, labels: Any, clips: NDArray[np.int64]) -> float:
        drawn = np.bincount(clips, minlength=len(self.stretches))
        total = drawn @ self.stretches
        if not total:
            return NAN
        times = drawn[self.clip]
        found = np.cumsum(times * self.hit)[self.last]
        precision = found / np.maximum(np.cumsum(times)[self.last], 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.diff(found, prepend=0) @ highest / total)


class _AverageRecall:
    """``localisation.ar_at_n`` of drawn clips, told twice as a bootstrap of that would match again in every draw."""

    def __init__(self, stretches: Sequence[Segments], proposals: Sequence[Proposals], number: int) -> None:
        self.stretches = np.array([len(fake) for fake in stretches])
        each = [
            localisation.ar_at_n([fake], [said], number) if len(fake) else 0.0
            for fake, said in zip(stretches, proposals, strict=True)
        ]
        self.met = self.stretches * np.array(each)

    def __call__(self, labels: Any, clips: NDArray[np.int64]) -> float:
        total = self.stretches[clips].sum()
        return float(self.met[clips].sum() / total) if total else NAN


def _challenge(parts: dict[str, Metric], labels: Any, clips: NDArray[np.int64]) -> float:
    return localisation.challenge_score({name: compute(labels, clips) for name, compute in parts.items()})


# Frames


def _framewise(material: Material, resamples: int) -> list[Figure]:
    if material.frames is None:
        return []
    table = material.table
    numbers = {row.id: number for number, row in enumerate(table.rows)}
    found = {numbers[name]: curves for name, curves in by_clip(material.frames())}
    curves = sorted(found.items())  # workers finish in any order
    asked = [aspect for aspect in ("visual", "audio") if (table.labels(aspect) == 1).any()]
    return [_frame_figure(table, curves, aspect, resamples) for aspect in asked]


def _frame_figure(table: Table, curves: Sequence[tuple[int, Curves]], aspect: str, resamples: int) -> Figure:
    known = [(number, each) for number, each in curves if getattr(table.rows[number].labels, aspect) is not None]
    scores = [getattr(each, aspect) for _, each in known]
    labels = [
        frame_labels(table.rows[number], aspect, len(values)) for (number, _), values in zip(known, scores, strict=True)
    ]
    compute = _FrameAuc(labels, scores)
    persons = table.persons()
    figure = any_figure(
        f"frames: {aspect}",
        "frame_auc",
        "frame AUC",
        compute,
        [int(each.any()) for each in labels],
        range(len(known)),
        [persons[number] for number, _ in known],
        total=compute.known,
        resamples=resamples,
    )
    note = "no genuine or no fake frames were judged" if math.isnan(figure.value) else ""
    return replace(figure, judged=compute.judged, note=note)


class _FrameAuc:
    """``metrics.frame_auc`` of drawn clips, told twice as a bootstrap of that would rank all frames in every draw.

    A call takes labels, which it passes over, and the numbers of the clips drawn.
    """

    def __init__(self, labels: Sequence[NDArray[Any]], scores: Sequence[NDArray[Any]]) -> None:
        frames = pool_frames(labels, scores)
        self.clips = len(labels)
        self.clip, self.known, self.judged = frames.clip, frames.total, len(frames.labels)
        self.fake = frames.labels == 1
        self.rank = np.unique(frames.scores, return_inverse=True)[1]

    def __call__(self, labels: Any, clips: NDArray[np.int64]) -> float:
        times = np.bincount(clips, minlength=self.clips)[self.clip]
        fake, genuine = np.bincount(self.rank, times * self.fake), np.bincount(self.rank, times * ~self.fake)
        pairs = fake.sum() * genuine.sum()
        return float(fake @ (np.cumsum(genuine) - genuine / 2) / pairs) if pairs else NAN


# Clips


def _questions(material: Material) -> list[Question]:
    table = material.table
    asked = [headline(table, score) for score in told(table, "fake", "visual", "audio")]
    whole = [question for question in asked if question.genuine.any() and question.fake.any()]
    real = table.labels("fake") == 0
    kinds = groups(table, lambda row: None if row.method is None else row.method.split(":")[0])
    parts = [by_fakes(question, kinds, "modification", against=lambda fake: real) for question in whole]
    return [*whole, *(part for each in parts for part in each)]


_SAYS = (
    "How well clips with a few replaced words are told from genuine ones, by what was modified (each against clips "
    "that are genuine altogether), and how well the fake stretches are found: AP and AR of proposals, AUC of frames."
)

PROTOCOLS = (
    Protocol(
        name="lav-df",
        title="LAV-DF",
        says=_SAYS,
        cannot="How a detector does with other people: the corpus names no identities, so intervals draw clips and are "
        "too narrow. A word or two is replaced in each fake, by one pair of generators: whole fakes and newer "
        "generators are another matter.",
        fits=lambda rows: all_of(rows, "lav-df"),
        questions=_questions,
        further=lambda material, resamples: localised(material, LAV_DF, resamples),
    ),
    Protocol(
        name="av-deepfake1m",
        title="AV-Deepfake1M",
        says=_SAYS + " The challenge score is that of the 1M-Deepfakes challenges.",
        cannot="What the official test set says: its labels were never published, so figures are of val and do not "
        "compare with leaderboards. In AV-Deepfake1M++ train and val share subjects: nothing of unknown people there.",
        fits=lambda rows: all_of(rows, "av-deepfake1m"),
        questions=_questions,
        further=lambda material, resamples: localised(material, AV_DEEPFAKE1M, resamples),
    ),
)
