"""The protocols of the shared corpus: speech, sync-swap, sync-shift, visual, verdict.

What is not judged is left out of a figure and counted in the coverage beside it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from avfake import FPS, SAMPLES_PER_FRAME
from avfake.clips import Clip, extract
from avfake.detect import Detector
from avfake.evaluation.metrics import auc, cllr, eer, mean_auc, recall_at_fpr
from avfake.judging import Detection, best_shift
from avfake.manifest import Row
from avfake.media import Decoder

SHIFT_TRIALS = (-14, -12, -10, -8, -6, -4, -2, 2, 4, 6, 8, 10, 12, 14)  # frames of 40 ms


@dataclass(frozen=True)
class Judged:
    """A row with the detector's answer; of a synchronised video also the clips of its longest face track.

    ``spoken_s`` is how long that face is in view while somebody speaks.
    """

    row: Row
    detection: Detection
    talking: tuple[Clip, ...] = ()
    spoken_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Length of the longest face track."""
        return sum(clip.duration_s for clip in self.talking)

    @property
    def voice(self) -> NDArray[np.float32]:
        """The sound of the longest face track."""
        return np.concatenate([clip.audio for clip in self.talking if clip.audio is not None])


@dataclass(frozen=True)
class Figure:
    """One number: ``value`` over ``judged`` of ``total`` trials."""

    name: str
    value: float
    judged: int
    total: int


def judge_rows(detector: Detector, rows: Iterable[Row]) -> list[Judged]:
    """Run the detector over every row's file."""
    judged = []
    for row in track(list(rows), description="judging", transient=True):
        decoder = Decoder(row.video or row.audio or "", threads=detector.threads)
        clips = list(extract(decoder, detector.backend if decoder.info.video else None))
        pieces = [detector.examine(clip) for clip in clips]
        detection = detector.judge(row.id, pieces, has_audio=decoder.info.audio is not None)
        talking = _talking(clips) if row.labels.sync == 0 else ()
        spoken = sum(
            int((piece.speech & piece.face_ok).sum())
            for clip, piece in zip(clips, pieces, strict=True)
            if any(clip is part for part in talking)
        )
        judged.append(Judged(row, detection, talking, spoken / FPS))
    return judged


def _talking(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    tracks: dict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.track is not None and clip.audio is not None:
            tracks[clip.track].append(clip)
    return tuple(max(tracks.values(), key=lambda parts: sum(c.frames for c in parts), default=[]))


def with_voice(clips: Sequence[Clip], voice: NDArray[np.float32]) -> list[Clip]:
    """Return consecutive clips with another voice, cut or looped to their length."""
    voice = np.resize(voice, sum(clip.frames for clip in clips) * SAMPLES_PER_FRAME)
    parts = np.split(voice, np.cumsum([clip.frames for clip in clips])[:-1] * SAMPLES_PER_FRAME)
    return [replace(clip, audio=part) for clip, part in zip(clips, parts, strict=True)]


def delayed(voice: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return a voice that comes ``frames`` later (earlier if negative), padded with its own edge samples."""
    shift = abs(frames) * SAMPLES_PER_FRAME
    if frames >= 0:
        return np.pad(voice, (shift, 0), mode="edge")[: len(voice)]
    return np.pad(voice, (0, shift), mode="edge")[shift:]


def swapped(detector: Detector, judged: Sequence[Judged]) -> list[tuple[Judged, Detection, Detection]]:
    """Genuine talking faces of 2 s and more, judged with their own voice and with that of the next other person."""
    genuine = sorted((j for j in judged if j.row.method is None and j.spoken_s >= 2), key=lambda j: str(j.row.video))
    out = []
    for number, one in enumerate(genuine):
        others = [o for o in genuine[number + 1 :] + genuine[:number] if o.row.identity != one.row.identity]
        if others:
            embedded = [detector.embed(clip) for clip in one.talking]
            voices = (one.talking, with_voice(one.talking, others[0].voice))
            own, foreign = (detector.judge(one.row.id, map(detector.examine, clips, embedded)) for clips in voices)
            out.append((one, own, foreign))
    return out


def protocols(detector: Detector, rows: Sequence[Row]) -> list[Figure]:
    """All figures over the rows of one split."""
    videos = judge_rows(detector, [row for row in rows if row.video])
    voices = judge_rows(detector, [row for row in rows if not row.video])
    pairs = swapped(detector, videos)
    return [
        *speech_figures(voices),
        *swap_figures(pairs),
        shift_figure(detector, [(one, own) for one, own, _ in pairs]),
        *visual_figures(videos),
        *verdict_figures(videos),
    ]


def speech_figures(voices: Sequence[Judged]) -> list[Figure]:
    """Pooled EER, and the mean over sources that have both labels of AUC."""
    known = [(j.row, j.detection.voice.p_fake) for j in voices if j.row.labels.audio is not None]
    scored = [(row.corpus, int(row.labels.audio == 1), p) for row, p in known if p is not None]
    labels, scores = [label for _, label, _ in scored], [p for _, _, p in scored]
    sources: list[tuple[list[int], list[float]]] = [
        ([label for c, label, _ in scored if c == corpus], [p for c, _, p in scored if c == corpus])
        for corpus in sorted({c for c, _, _ in scored})
    ]
    paired = [labels for labels, _ in sources if len(set(labels)) == 2]
    return [
        Figure("speech: pooled EER", eer(labels, scores), len(scored), len(known)),
        Figure(f"speech: mean AUC over {len(paired)} sources", mean_auc(sources), len(scored), len(known)),
    ]


def swap_figures(pairs: Sequence[tuple[Judged, Detection, Detection]]) -> list[Figure]:
    """AUC of own against swapped voices, for short and for long clips."""
    figures = []
    for name, low, high in (("2-4 s", 2.0, 4.0), (">= 4 s", 4.0, math.inf)):
        chosen = [pair for pair in pairs if low <= pair[0].seconds < high]
        trials = [(0, sync_score(own)) for _, own, _ in chosen] + [(1, sync_score(other)) for _, _, other in chosen]
        scored = [(label, p) for label, p in trials if p is not None]
        value = auc([label for label, _ in scored], [p for _, p in scored])
        figures.append(Figure(f"sync-swap: AUC, {name}", value, len(scored), len(trials)))
    return figures


def sync_score(detection: Detection) -> float | None:
    """P(fake) of sync of the first face."""
    return detection.tracks[0].sync.p_fake if detection.tracks else None


def shift_figure(detector: Detector, genuine: Sequence[tuple[Judged, Detection]]) -> Figure:
    """Share of delayed voices whose estimated offset moved by the delay, within a frame."""
    judged = [one for one, own in genuine if sync_score(own) is not None]
    right = 0
    for one in track(judged, description="shifting", transient=True):
        embedded = [detector.embed(clip) for clip in one.talking]
        offset = {}
        for frames in (0, *SHIFT_TRIALS):
            clips = with_voice(one.talking, delayed(one.voice, frames))
            offset[frames] = best_shift(map(detector.examine, clips, embedded))
        right += sum(abs(offset[frames] - offset[0] - frames) <= 1 for frames in SHIFT_TRIALS)
    trials = len(SHIFT_TRIALS)
    value = right / (trials * len(judged)) if judged else math.nan
    return Figure("sync-shift: share within a frame", value, trials * len(judged), trials * len(genuine))


def speaker_score(detection: Detection) -> float | None:
    """Fused P(fake) of the longest face that speaks."""
    speakers = [t for t in detection.tracks if t.speaker]
    return max(speakers, key=lambda t: t.end_s - t.start_s).p_fake if speakers else None


def visual_score(detection: Detection) -> float | None:
    """P(fake) of the longest face that was judged."""
    judged = [t for t in detection.tracks if t.visual.p_fake is not None]
    return max(judged, key=lambda t: t.end_s - t.start_s).visual.p_fake if judged else None


def visual_figures(videos: Sequence[Judged]) -> list[Figure]:
    """AUC of genuine clips against each method with at least three, and their mean."""
    methods: dict[str, list[Judged]] = defaultdict(list)
    for one in videos:
        if one.row.labels.visual == 1 and one.row.method:
            methods[one.row.method].append(one)
    genuine = [visual_score(j.detection) for j in videos if j.row.method is None]
    known = [p for p in genuine if p is not None]
    figures = []
    for method, fakes in sorted(methods.items()):
        if len(fakes) < 3:
            continue
        scores = [p for j in fakes if (p := visual_score(j.detection)) is not None]
        value = auc([0] * len(known) + [1] * len(scores), known + scores)
        figures.append(Figure(f"visual: AUC, {method}", value, len(known) + len(scores), len(genuine) + len(fakes)))
    mean = float(np.mean([figure.value for figure in figures])) if figures else math.nan
    name = f"visual: mean AUC over {len(figures)} methods"
    return [*figures, Figure(name, mean, sum(f.judged for f in figures), sum(f.total for f in figures))]


def verdict_figures(videos: Sequence[Judged]) -> list[Figure]:
    """All fakes against all genuine clips, what the labels say at the model's own thresholds, and each kind of fake."""
    trials = [(j.row.method, j.detection.verdict.p_fake) for j in videos]
    scored = [(method, p) for method, p in trials if p is not None]
    labels = [int(method is not None) for method, _ in scored]
    scores = [p for _, p in scored]
    sure = 1 - 1e-9  # a probability that rounds to 1 would cost infinitely much
    ratios = [math.log(p / (1 - p)) for p in (min(max(p, 1 - sure), sure) for p in scores)]
    figures = [
        Figure("verdict: AUC", auc(labels, scores), len(scored), len(trials)),
        Figure("verdict: recall at 5 % false alarms", recall_at_fpr(labels, scores, 0.05), len(scored), len(trials)),
        Figure("verdict: Cllr", cllr(labels, ratios), len(scored), len(trials)),
    ]
    for name, fake in (("genuine", False), ("fakes", True)):
        given = [j.detection.verdict for j in videos if (j.row.method is not None) == fake]
        judged = [verdict.label == "fake" for verdict in given if verdict.p_fake is not None]
        share = float(np.mean(judged)) if judged else math.nan
        figures.append(Figure(f"verdict: share of {name} called fake", share, len(judged), len(given)))
    kinds = sorted({method.split(":")[0] for method, _ in trials if method})
    for kind in kinds:
        chosen = [(m, p) for m, p in scored if m is None or m.startswith(kind + ":")]
        total = sum(m is None or m.startswith(kind + ":") for m, _ in trials)
        value = auc([int(m is not None) for m, _ in chosen], [p for _, p in chosen])
        figures.append(Figure(f"verdict: AUC, {kind}", value, len(chosen), total))
    return figures
