"""From the evidence of a file's clips to a verdict: pooled scores, segments, reasons for what is not judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avfake import FPS
from avfake.models import MAX_SHIFT, Calibration, CheckpointConfig, CheckpointError

SCHEMA = "avfake-detection-1"

MIN_FACE_S = 0.8  # less of a face says nothing about its texture and flicker
MIN_SPEECH_S = 0.6  # less speech says nothing about a voice
MIN_SYNC_S = 1.2  # lips and voice need this much speech in view: with less, chance fits some shift
MIN_FACE_PX = 20.0  # between the eyes; the mouth is then about 18 pixels wide
STILL_LIPS = 0.02  # 10th to 90th percentile of mouth opening / mouth width; the stillest genuine speaker has 0.025
CONSTANT_OFFSET = 3  # frames; genuine clips carry up to 120 ms of their own
MIN_SEGMENT_S = 0.4
FALSE_ALARMS = 0.05  # the stated false-positive rate that decides unless another is asked for (see ``default_rate``)
EVEN_ODDS = 0.5  # the threshold of an aspect that has none: fake is then the likelier answer
LEAVE_BELOW = 0.15  # hysteresis: a segment is left where P(fake) falls this far below the threshold

Status = Literal["genuine", "fake", "not_judged"]
SyncState = Literal["in_sync", "shifted", "mismatched", "not_judged"]


@dataclass(frozen=True)
class Segment:
    """A stretch of a file, in seconds, with its mean P(fake)."""

    start_s: float
    end_s: float
    p_fake: float


@dataclass(frozen=True)
class Aspect:
    """One question about a face track or a voice.

    ``p_fake`` is calibrated and None where ``status`` is "not_judged"; then ``reason`` says why. ``segments`` are
    the stretches that look fake.
    """

    status: Status
    p_fake: float | None = None
    reason: str | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class SyncAspect(Aspect):
    """Do these lips speak this voice? ``offset_ms`` is positive where the voice comes late."""

    state: SyncState = "not_judged"
    offset_ms: int | None = None


@dataclass(frozen=True)
class Track:
    """One face from ``start_s`` to ``end_s``; ``face_px`` is the median distance between the eyes in source pixels.

    ``speaker`` is True for the face whose lips the voice belongs to, as far as sync can tell. ``p_fake`` is the
    fused P(fake) of the track, None where nothing could be judged.
    """

    track: int
    start_s: float
    end_s: float
    face_px: float
    speaker: bool
    visual: Aspect
    audio: Aspect
    sync: SyncAspect
    p_fake: float | None


@dataclass(frozen=True)
class Verdict:
    """The answer for the whole file; ``sure`` is None where the label is "not_judged"."""

    label: Status
    p_fake: float | None
    sure: Literal["low", "medium", "high"] | None
    because: tuple[str, ...]


@dataclass(frozen=True)
class Detection:
    """All that was found in one file. ``voice`` judges the sound of the whole file, whoever is in view.

    ``sha256`` is of the file's content and ``detector`` the fingerprint of what judged it (see ``fingerprint``): the
    same two give the same answer. None where clips were judged that are no file.
    """

    file: str
    model: str
    duration_s: float
    verdict: Verdict
    voice: Aspect
    tracks: tuple[Track, ...]
    speech: tuple[tuple[float, float], ...]
    warnings: tuple[str, ...] = ()
    sha256: str | None = None
    detector: str | None = None
    schema: str = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; docs/detection.schema.json describes it."""
        return asdict(self)


@dataclass(frozen=True)
class Piece:
    """What the model says of one clip of ``T`` frames; logits are uncalibrated.

    ``visual``, ``audio`` (T,) frame logits, ``speech`` and ``face_ok`` (T,) bool, ``opening`` (T,) mouth opening /
    mouth width; ``windows`` one ``WindowScore`` each; ``curve`` (31,) and ``weight`` (31,): summed sync evidence of
    each shift over the frames with speech, and how many frames each sum has; ``evidence`` (T, 31): sync evidence of
    each frame and shift, NaN where a shift leaves the clip.
    """

    track: int | None
    start: int
    face_px: float
    visual: NDArray[np.float32]
    audio: NDArray[np.float32]
    speech: NDArray[np.bool_]
    face_ok: NDArray[np.bool_]
    opening: NDArray[np.float32]
    windows: tuple[WindowScore, ...]
    curve: NDArray[np.float64]
    weight: NDArray[np.float64]
    evidence: NDArray[np.float16]


@dataclass(frozen=True)
class WindowScore:
    """Clip logits of one window: frames ``start`` to ``end`` of the file, of which ``speech`` hold speech."""

    start: int
    end: int
    speech: int
    fake: float
    sync: float


class Judge:
    """Judges files from the evidence of their clips, as the calibration and thresholds of a checkpoint say.

    ``false_alarms`` is the false-positive rate whose thresholds decide; None is the ``default_rate`` of each aspect. An
    aspect without any threshold is held against even odds. Raises ``CheckpointError`` where a rate is asked for and an
    aspect has thresholds, but none for that rate.
    """

    def __init__(self, config: CheckpointConfig, false_alarms: float | None = None) -> None:
        self.config = config
        given = {aspect: thresholds for aspect, thresholds in config.thresholds.items() if thresholds}
        common = set[float]().union(*given.values()).intersection(*given.values())
        if false_alarms is not None and given and false_alarms not in common:
            rates = (
                f"only for {' and '.join(f'{rate:g}' for rate in sorted(common))}" if common else "nor for any other"
            )
            raise CheckpointError(
                f"the model {config.model.name} has no thresholds for a false-alarm rate of {false_alarms:g}, {rates}: "
                "ask for a rate that it has, or calibrate it on more clips"
            )
        self._thresholds = {
            aspect: thresholds[default_rate(thresholds) if false_alarms is None else false_alarms]
            for aspect, thresholds in given.items()
        }

    def __call__(
        self,
        file: str,
        pieces: Iterable[Piece],
        *,
        has_audio: bool = True,
        duration_s: float = 0.0,
        warnings: Iterable[str] = (),
    ) -> Detection:
        """Pool the pieces of one file into a ``Detection``; ``duration_s`` counts where no clip reaches the end."""
        pieces = list(pieces)
        by_track: dict[int, list[Piece]] = {}
        for piece in pieces:
            if piece.track is not None:
                by_track.setdefault(piece.track, []).append(piece)
        tracks = [self._track(number, parts, has_audio) for number, parts in sorted(by_track.items())]
        tracks = _pick_speakers(tracks)
        voice, speech = self._voice(pieces, has_audio)
        return Detection(
            file=file,
            model=self.config.model.name,
            duration_s=max([duration_s, *((p.start + len(p.speech)) / FPS for p in pieces)]),
            verdict=self._verdict(tracks, voice, speech),
            voice=voice,
            tracks=tuple(tracks),
            speech=tuple((start / FPS, end / FPS) for start, end in runs(speech)),
            warnings=tuple(warnings),
        )

    def _track(self, number: int, pieces: list[Piece], has_audio: bool) -> Track:
        face_px = float(np.median([piece.face_px for piece in pieces]))
        visual = self._visual(pieces, face_px)
        audio = self._audio(_joined(pieces, "audio"), _joined(pieces, "speech"), pieces[0].start, has_audio)
        sync = self._sync(pieces, has_audio, visual)
        p_fake = visual.p_fake
        if sync.p_fake is not None and self._fuses:
            p_fake = self._calibrated("fake", _by_speech(_spoken(pieces), "fake"))
        elif sync.reason == "voice_over":
            audio = Aspect("not_judged", reason="voice_over")
        return Track(
            track=number,
            start_s=pieces[0].start / FPS,
            end_s=(pieces[-1].start + len(pieces[-1].speech)) / FPS,
            face_px=round(face_px, 1),
            speaker=sync.p_fake is not None,
            visual=visual,
            audio=audio,
            sync=sync,
            p_fake=p_fake,
        )

    def _visual(self, pieces: list[Piece], face_px: float) -> Aspect:
        logits, ok = _joined(pieces, "visual"), _joined(pieces, "face_ok")
        if ok.sum() < MIN_FACE_S * FPS:
            return Aspect("not_judged", reason="too_short")
        if face_px < MIN_FACE_PX:
            return Aspect("not_judged", reason="face_too_small")
        if "visual" not in self.config.aspects:
            return Aspect("not_judged", reason="not_trained")
        return self._pooled("visual", logits, ok, pieces[0].start)

    def _audio(self, logits: NDArray[Any], speech: NDArray[np.bool_], start: int, has_audio: bool) -> Aspect:
        """A voice, of one face or of the whole file, from frame logits and where there is speech."""
        if not has_audio:
            return Aspect("not_judged", reason="no_audio")
        if not speech.any():
            return Aspect("not_judged", reason="no_speech")
        if speech.sum() < MIN_SPEECH_S * FPS:
            return Aspect("not_judged", reason="too_short")
        if "audio" not in self.config.aspects:
            return Aspect("not_judged", reason="not_trained")
        return self._pooled("audio", logits, speech, start)

    def _sync(self, pieces: list[Piece], has_audio: bool, visual: Aspect) -> SyncAspect:
        speech = _joined(pieces, "speech")
        spoken = speech & _joined(pieces, "face_ok")
        if not has_audio:
            return SyncAspect("not_judged", reason="no_audio")
        if visual.reason == "face_too_small":
            return SyncAspect("not_judged", reason="face_too_small")
        if not speech.any():
            return SyncAspect("not_judged", reason="no_speech")
        windows = _spoken(pieces)
        if spoken.sum() < MIN_SYNC_S * FPS or not windows:
            return SyncAspect("not_judged", reason="too_short")
        low, high = np.percentile(_joined(pieces, "opening")[spoken], [10, 90])
        if high - low < STILL_LIPS:
            return SyncAspect("not_judged", reason="voice_over")
        if "sync" not in self.config.aspects:
            return SyncAspect("not_judged", reason="not_trained")
        p_fake = self._calibrated("sync", _by_speech(windows, "sync"))
        threshold = self._threshold("sync")
        doubtful = [(w.start, w.end, self._calibrated("sync", w.sync)) for w in windows]
        segments = _merged([(start, end, p) for start, end, p in doubtful if p >= threshold])
        if p_fake >= threshold:
            return SyncAspect("fake", p_fake, segments=segments, state="mismatched")
        offset = best_shift(pieces)
        state: SyncState = "shifted" if abs(offset) > CONSTANT_OFFSET else "in_sync"
        return SyncAspect("genuine", p_fake, segments=segments, state=state, offset_ms=1000 * offset // FPS)

    def _voice(self, pieces: list[Piece], has_audio: bool) -> tuple[Aspect, NDArray[np.bool_]]:
        """The voice of the whole file, on its own timeline, and where there is speech."""
        length = max((p.start + len(p.speech) for p in pieces), default=0)
        total, count, speech = np.zeros(length), np.zeros(length), np.zeros(length, np.bool_)
        for piece in pieces:
            span = slice(piece.start, piece.start + len(piece.speech))
            total[span] += piece.audio
            count[span] += 1
            speech[span] |= piece.speech
        return self._audio(total / np.maximum(count, 1), speech, 0, has_audio), speech

    def _pooled(self, aspect: str, logits: NDArray[Any], used: NDArray[np.bool_], start: int) -> Aspect:
        """Mean of the used frames' logits, calibrated, and the stretches that stand out."""
        p_fake = self._calibrated(aspect, float(logits[used].mean()))
        threshold = self._threshold(aspect)
        smooth = _smoothed(np.where(used, logits, np.nan))
        frames = np.where(used, self._calibration(aspect)(smooth), 0.0)
        segments = tuple(
            Segment((start + a) / FPS, (start + b) / FPS, float(frames[a:b].mean()))
            for a, b in _hysteresis(frames, threshold, threshold - LEAVE_BELOW)
            if b - a >= MIN_SEGMENT_S * FPS
        )
        return Aspect("fake" if p_fake >= threshold else "genuine", p_fake, segments=segments)

    def _verdict(self, tracks: list[Track], voice: Aspect, speech: NDArray[np.bool_]) -> Verdict:
        """The more suspicious of the faces and of a voice that no visible speaker's verdict already holds."""
        answers = [self._faces_together(tracks)] if any(track.p_fake is not None for track in tracks) else []
        unseen = speech.copy()
        for track in tracks:
            if track.speaker and self._fuses:
                unseen[round(track.start_s * FPS) : round(track.end_s * FPS)] = False
        if voice.p_fake is not None and unseen.sum() >= MIN_SPEECH_S * FPS:
            answers.append((voice.p_fake, self._threshold("audio")))
        if not answers:
            reasons = {voice.reason, *(track.visual.reason for track in tracks), None if tracks else "no_face"}
            return Verdict("not_judged", None, None, tuple(sorted(reason for reason in reasons if reason)))
        p_fake, threshold = max(answers, key=lambda answer: answer[0] - answer[1])
        label: Status = "fake" if p_fake >= threshold else "genuine"
        aspects = [voice, *(aspect for t in tracks for aspect in (t.visual, t.audio, t.sync))]
        # The verdict and the aspects can disagree: the fusion head sees more than the three answers.
        divided = (label == "fake") != any(aspect.status == "fake" for aspect in aspects)
        certainty = p_fake if label == "fake" else 1 - p_fake
        sure: Literal["low", "medium", "high"]
        sure = "high" if certainty >= 0.9 else "medium" if certainty >= 0.75 else "low"
        found = _because(tracks, voice)
        if divided and label == "fake":
            found.append("no single aspect crosses its threshold, but together they do")
        elif divided:
            found.append("taken together the evidence stays below the threshold of a fake")
        return Verdict(label, p_fake, "low" if divided else sure, tuple(found))

    def _faces_together(self, tracks: list[Track]) -> tuple[float, float]:
        """P(fake) and threshold of the more suspicious half of the judged face time.

        The most suspicious track alone would raise more false alarms the more often a film is cut; the mean of all
        would miss one faked speaker of two.
        """
        judged = [
            (
                track.p_fake,
                self._threshold("fake" if track.speaker and self._fuses else "visual"),
                track.end_s - track.start_s,
            )
            for track in tracks
            if track.p_fake is not None
        ]
        judged.sort(key=lambda face: face[1] - face[0])
        left = sum(seconds for *_, seconds in judged) / 2
        shares = []
        for *_, seconds in judged:
            shares.append(min(seconds, left))
            left -= shares[-1]
        p_fakes, thresholds, _ = zip(*judged, strict=True)
        return float(np.average(p_fakes, weights=shares)), float(np.average(thresholds, weights=shares))

    @property
    def _fuses(self) -> bool:
        """Whether the model was taught a verdict on a speaker; else picture and voice are judged each by itself."""
        return "fake" in self.config.aspects

    def _calibration(self, aspect: str) -> Calibration:
        return self.config.calibration.get(aspect, Calibration())

    def _calibrated(self, aspect: str, logit: float) -> float:
        return float(self._calibration(aspect)(logit))

    def _threshold(self, aspect: str) -> float:
        return self._thresholds.get(aspect, EVEN_ODDS)


def default_rate(rates: Collection[float]) -> float:
    """Return which of an aspect's false-positive rates, one or more, decides where none is asked for.

    ``FALSE_ALARMS``, else the next one above, else the highest: few genuine clips have no thresholds for low rates.
    """
    return min((rate for rate in rates if rate >= FALSE_ALARMS), default=max(rates))


def best_shift(pieces: Iterable[Piece]) -> int:
    """Return the shift in frames at which lips and voice fit best; positive where the voice comes late.

    A shift that rests on less than 0.4 of the evidence of the best-known one is left out: few frames fit by chance.
    """
    pieces = list(pieces)
    weight = np.sum([p.weight for p in pieces], axis=0)
    curve = np.sum([p.curve for p in pieces], axis=0) / np.maximum(weight, 1)
    return int(np.argmax(np.where(weight >= 0.4 * weight.max(), curve, -np.inf))) - MAX_SHIFT


def _spoken(pieces: list[Piece]) -> list[WindowScore]:
    """The windows with enough speech to judge lips by."""
    return [w for piece in pieces for w in piece.windows if w.speech >= MIN_SPEECH_S * FPS]


def _by_speech(windows: list[WindowScore], name: str) -> float:
    """Mean of a window logit, weighted by the speech in each window."""
    return float(np.average([getattr(w, name) for w in windows], weights=[w.speech for w in windows]))


def _pick_speakers(tracks: list[Track]) -> list[Track]:
    """Of faces in view together only the one whose lips fit best is the speaker; the others' sync is not judged."""
    out = []
    for track in tracks:
        rivals = [other for other in tracks if other.speaker and other is not track and _together(track, other)]
        if track.speaker and any((r.sync.p_fake or 0.0) < (track.sync.p_fake or 0.0) for r in rivals):
            silent = "not_the_speaker"
            track = replace(
                track,
                speaker=False,
                audio=Aspect("not_judged", reason=silent),
                sync=SyncAspect("not_judged", reason=silent),
                p_fake=track.visual.p_fake,
            )
        out.append(track)
    return out


def _together(a: Track, b: Track) -> bool:
    shared = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
    return shared > 0.5 * min(a.end_s - a.start_s, b.end_s - b.start_s)


def _because(tracks: list[Track], voice: Aspect) -> list[str]:
    """The findings behind a verdict, one short sentence each."""
    found = []
    for track in tracks:
        face = f"face {track.track}: "
        if track.visual.status == "fake":
            found.append(face + "the mouth region looks generated or altered")
        if track.sync.state == "mismatched":
            found.append(face + "lips and voice do not belong together")
        if track.sync.state == "shifted":
            found.append(face + f"voice and lips match at a constant offset of {track.sync.offset_ms} ms (not a fake)")
    if voice.status == "fake":
        found.append("the voice sounds synthetic or converted")
    if not tracks:
        found.append("no face in view, so only the voice was judged")
    elif all(track.visual.p_fake is None for track in tracks):
        found.append("no face could be judged, so only the voice was")
    elif voice.p_fake is None:
        found.append("no voice could be judged, so only the mouth was")
    return found


def _joined(pieces: list[Piece], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(piece, name) for piece in pieces])


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred moving mean over 0.6 s of the values that are not NaN; NaN stays NaN."""
    known = ~np.isnan(values)
    kernel = np.ones(15)
    total = np.convolve(np.where(known, values, 0.0), kernel, "full")[7 : 7 + len(values)]
    count = np.convolve(known.astype(float), kernel, "full")[7 : 7 + len(values)]
    return np.where(known, total / np.maximum(count, 1.0), np.nan)


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the stretches (start, end) of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _hysteresis(values: NDArray[np.float64], enter: float, leave: float) -> Iterator[tuple[int, int]]:
    """Stretches that reach ``enter`` somewhere and stay at or above ``leave`` throughout (silero-vad's rule)."""
    for start, end in runs(values >= leave):
        if values[start:end].max() >= enter:
            yield start, end


def _merged(spans: list[tuple[int, int, float]]) -> tuple[Segment, ...]:
    """Overlapping windows (start, end, p) joined into segments, in order."""
    joined: list[tuple[int, int, list[float]]] = []
    for start, end, p in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]), [*joined[-1][2], p])
        else:
            joined.append((start, end, [p]))
    return tuple(Segment(start / FPS, end / FPS, float(np.mean(ps))) for start, end, ps in joined)
