"""Judging the clips of a test set: what workers do with one row."""

from __future__ import annotations

import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, AvfakeError
from avfake.clips import Clip, ClipError, extract
from avfake.detect import Detector
from avfake.evaluation.audit.measure import leading_silence
from avfake.evaluation.corruptions import Condition, corrupt
from avfake.evaluation.material import ClipFrames, Delay, Swap
from avfake.evaluation.table import ClipScore
from avfake.faces import BackendName
from avfake.judging import Aspect, Detection, Judge, Piece, Track, best_shift
from avfake.manifest import Row
from avfake.media.sound import SILENCE
from avfake.samples import Sample, opened
from avfake.shards import Entry, ShardFolder
from avfake.storage import local_copy

log = logging.getLogger(__name__)

MIN_SPOKEN_S = 2.0
"""A face must be in view while somebody speaks for this long, to be tried with other voices."""

DELAYS = (-14, -12, -10, -8, -6, -4, -2, 2, 4, 6, 8, 10, 12, 14)
"""Frames of 40 ms by which voices are delayed, to see whether the offset that is measured moves along."""


class Place(NamedTuple):
    """A row, and where its clips are: in shards (each clip's shard and entry), or, with no ``folder``, in its files.

    ``failure`` says why ``prepare`` could make no clip of it.
    """

    row: Row
    folder: str = ""
    entries: tuple[tuple[str, Entry], ...] = ()
    failure: str | None = None


class Damage(NamedTuple):
    """A row to be judged from a damaged copy of its first ``seconds``."""

    row: Row
    condition: Condition
    seconds: float


class Span(NamedTuple):
    """The longest talking face of a clip: its track, frames of its clock, and in how many of them somebody speaks."""

    track: int
    start: int
    end: int
    spoken: int


class Talk(NamedTuple):
    """A genuine talking face, and another person's whose voice it is tried with."""

    place: Place
    span: Span
    partner: Place
    partner_span: Span


class Seen(NamedTuple):
    """What was found in one row; ``talking`` where a face and a sound were."""

    said: Detection
    talking: Span | None


class _Face(NamedTuple):
    """The clips of a talking face and their embeddings, its own voice and another person's."""

    id: str
    clips: list[Clip]
    embedded: list[NDArray[np.float32]]
    voice: NDArray[np.float32]
    foreign: NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What was said of one row, as it is and without its leading silence; ``talking`` where a face and a sound were.

    Nothing in it depends on the row's labels.
    """

    score: ClipScore
    trimmed: ClipScore
    frames: tuple[ClipFrames, ...] = ()
    talking: Span | None = None


@dataclass(frozen=True)
class SyncAnswer:
    """What was said of one genuine talking face with other voices; ``error`` where its files could not be read."""

    swap: Swap
    delays: tuple[Delay, ...]
    error: str | None = None


@dataclass(frozen=True)
class MakeExaminer:
    """What a worker process makes its examiner from; all of it pickles."""

    model: str
    device: str
    faces: BackendName
    threads: int

    def __call__(self) -> Examiner:
        """Load the detector."""
        return Examiner(
            Detector.from_pretrained(self.model, device=self.device, faces=self.faces, threads=self.threads)
        )


class Examiner:
    """Judges rows with one detector, calibrated and not.

    Called, it tells of what goes wrong in its answers; ``clip``, ``detect``, ``voices`` raise ``AvfakeError``.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._judge = detector.judge
        self._bare = Judge(replace(detector.config, calibration={}, thresholds={}))

    def __call__(self, item: Place | Talk | Damage) -> Answer | SyncAnswer | ClipScore:
        """Judge whatever there is to judge."""
        try:
            if isinstance(item, Talk):
                return self.sync_trials(item)
            return self.damaged(item) if isinstance(item, Damage) else self.clip(item)
        except AvfakeError as error:
            return failed(item, str(error))
        except Exception as error:  # hours of other clips may hang on this run
            row = item.place.row if isinstance(item, Talk) else item.row
            log.exception("%s: an error inside avfake", row.id.replace("\n", "?"))
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return failed(item, f"{row.video or row.audio}: avfake itself failed ({reason}); please report it.")

    # ------------------------------------------------------------------------------------------ clips

    def detect(self, place: Place) -> Seen:
        """Judge one row as it is."""
        with _opened(place, self.detector) as source:
            pieces = [self.detector.examine(clip) for clip in source.clips]
            return Seen(_said(self._judge, place.row, pieces, source), _talking(pieces, source))

    def clip(self, place: Place) -> Answer:
        """Judge one row as it is and trimmed."""
        with _opened(place, self.detector) as source:
            return self._clip(place.row, source)

    def _clip(self, row: Row, source: _Source) -> Answer:
        pieces, trimmed = [], []
        for clip in source.clips:
            embedded = self.detector.embed(clip)
            piece = self.detector.examine(clip, embedded)
            pieces.append(piece)
            skip = source.first - piece.start
            if skip <= 0:
                trimmed.append(piece)
            elif skip < clip.frames:
                trimmed.append(self.detector.examine(Sample(row, clip).cut(skip, clip.frames).clip, embedded[skip:]))
        return Answer(
            self._score(row, pieces, source),
            self._score(row, trimmed, source),
            tuple(_frames(row, piece, self.detector.config.aspects) for piece in pieces),
            _talking(pieces, source),
        )

    def _score(self, row: Row, pieces: Sequence[Piece], source: _Source) -> ClipScore:
        said, raw = (_said(judge, row, pieces, source) for judge in (self._judge, self._bare))
        asked, face = aspects(said), _longest(said.tracks)
        alarms = {name: aspect.status == "fake" for name, aspect in asked.items() if aspect.p_fake is not None}
        reasons = {name: aspect.reason for name, aspect in asked.items() if aspect.reason is not None}
        if said.verdict.p_fake is None:
            reasons["fake"] = " ".join(said.verdict.because)
        else:
            alarms["fake"] = said.verdict.label == "fake"
        own = [piece for piece in pieces if face is not None and piece.track == face.track]
        speaker = longest_speaker(said)
        heard = [piece for piece in pieces if speaker is not None and piece.track == speaker.track]
        return ClipScore(
            row.id,
            scores=_scores(said),
            raw=_scores(raw),
            alarms=alarms,
            reasons=reasons,
            offset_ms=1000 * best_shift(heard) // FPS if heard else None,
            duration_s=said.duration_s,
            face_s=sum(len(piece.speech) for piece in own) / FPS,
            spoken_s=sum(int((piece.speech & piece.face_ok).sum()) for piece in own) / FPS,
            silence_s=source.silence_s,
        )

    # ------------------------------------------------------------------------------------------ damage

    def damaged(self, damage: Damage) -> ClipScore:
        """Judge one row whose file was damaged first."""
        row, condition = damage.row, damage.condition
        with ExitStack() as stack:
            video, audio = (
                None if address is None else stack.enter_context(local_copy(address))
                for address in (row.video, row.audio)
            )
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="avfake-")))
            seed = crc32(row.id.encode("utf-8", "backslashreplace"))
            file = corrupt(condition, video, audio, folder / "clip.mkv", seconds=damage.seconds, seed=seed)
            path = str(file)
            changed = replace(row, video=path if row.video else None, audio=None if row.video else path)
            source = stack.enter_context(_opened(Place(changed), self.detector))
            return self._score(row, [self.detector.examine(clip) for clip in source.clips], source)

    # ------------------------------------------------------------------------------------------ trials of sync

    def voices(self, talk: Talk) -> tuple[Detection, Detection]:
        """Judge a talking face, and it alone, with its own voice and with another person's."""
        face = self._face(talk)
        own, foreign = (self._judge(face.id, self._with(face, voice)) for voice in (face.voice, face.foreign))
        return own, foreign

    def sync_trials(self, talk: Talk) -> SyncAnswer:
        """Judge a talking face with its own voice, with another person's, and with its own delayed."""
        id_, face = talk.place.row.id, self._face(talk)
        own = self._with(face, face.voice)
        foreign = self._sync(id_, self._with(face, face.foreign))
        swap = Swap(id_, talk.partner.row.id, _seconds(talk), self._sync(id_, own), foreign)
        delays = [Delay(id_, frames, None) for frames in DELAYS]
        if swap.own is not None:
            offset = best_shift(own)
            delays = [
                replace(each, moved=best_shift(self._with(face, delayed(face.voice, each.frames))) - offset)
                for each in delays
            ]
        return SyncAnswer(swap, tuple(delays))

    def _sync(self, id_: str, pieces: Sequence[Piece]) -> float | None:
        tracks = self._judge(id_, pieces).tracks
        return tracks[0].sync.p_fake if tracks else None

    def _with(self, face: _Face, voice: NDArray[np.float32]) -> list[Piece]:
        """What the model says of a face with a voice."""
        pairs = zip(with_voice(face.clips, voice), face.embedded, strict=True)
        return [self.detector.examine(clip, embedded) for clip, embedded in pairs]

    def _face(self, talk: Talk) -> _Face:
        with _opened(talk.place, self.detector) as source:
            clips = [clip for clip in source.clips if clip.track == talk.span.track]
        voice = np.concatenate([clip.audio for clip in clips if clip.audio is not None])
        foreign = self._voice(talk.partner, talk.partner_span)
        return _Face(talk.place.row.id, clips, [self.detector.embed(clip) for clip in clips], voice, foreign)

    def _voice(self, place: Place, span: Span) -> NDArray[np.float32]:
        """The sound of a clip while its talking face is in view."""
        with _opened(place, None) as source:
            sound = np.zeros(span.end * SAMPLES_PER_FRAME, np.float32)
            for clip in source.clips:
                begin = round(clip.start_s * FPS) * SAMPLES_PER_FRAME
                if clip.audio is not None and begin < len(sound):
                    sound[begin : begin + len(clip.audio)] = clip.audio[: len(sound) - begin]
        return sound[span.start * SAMPLES_PER_FRAME :]


def failed(item: Place | Talk | Damage, reason: str) -> Answer | SyncAnswer | ClipScore:
    """Return the answer that nothing could be said."""
    if isinstance(item, Talk):
        id_ = item.place.row.id
        swap = Swap(id_, item.partner.row.id, _seconds(item), None, None)
        return SyncAnswer(swap, tuple(Delay(id_, frames, None) for frames in DELAYS), reason)
    score = ClipScore(item.row.id, error=reason)
    return score if isinstance(item, Damage) else Answer(score, score)


def _seconds(talk: Talk) -> float:
    return (talk.span.end - talk.span.start) / FPS


def talks(found: Iterable[tuple[Place, Span | None]]) -> list[Talk]:
    """Pair each genuine talking face of ``MIN_SPOKEN_S`` and more with the voice of the next one of another person.

    Next by file name, cyclic. ``found`` are rows with what ``Answer`` and ``Seen`` call ``talking``.
    """
    chosen = sorted(
        (
            (place, span)
            for place, span in found
            if span is not None
            and span.spoken >= MIN_SPOKEN_S * FPS
            and place.row.labels.sync == 0
            and place.row.method is None
        ),
        key=lambda one: (one[0].row.video or "", one[0].row.id),
    )
    paired = []
    for number, (place, span) in enumerate(chosen):
        others = chosen[number + 1 :] + chosen[:number]
        partner = next((other for other in others if _person(other[0].row) != _person(place.row)), None)
        if partner is not None:
            paired.append(Talk(place, span, *partner))
    return paired


def _person(row: Row) -> str:
    return row.identity or f"\0{row.id}"


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


# ------------------------------------------------------------------------------------------------ sources


class _Source(NamedTuple):
    """The clips of a row while they are cut. ``first``: the frame to begin at where leading silence is cut off.

    ``duration_s`` tells how long the media are, once the clips are all taken.
    """

    clips: Iterator[Clip]
    has_audio: bool
    silence_s: float | None
    first: int
    duration_s: Callable[[], float]


@contextmanager
def _opened(place: Place, detector: Detector | None) -> Iterator[_Source]:
    """Open the clips of a row; without a detector faces are not looked for, so clips are of sound alone."""
    if place.failure is not None:
        raise ClipError(place.failure)
    if place.folder:
        folder = ShardFolder(place.folder)
        clips = [folder.sample(name, entry).clip for name, entry in place.entries]
        begin = min((clip.start_s for clip in clips), default=0.0)
        silence_s = _silence(clip for clip in clips if clip.start_s == begin)
        first = _first(silence_s, begin)
        yield _Source(iter(clips), any(clip.audio is not None for clip in clips), silence_s, first, lambda: 0.0)
        return
    row = place.row
    with opened(row, threads=1 if detector is None else detector.threads) as decoder, ExitStack() as stack:
        silence_s, begin = None, 0.0
        if decoder.info.audio is not None:
            apart = row.audio if row.video is not None else None
            sound = decoder.info.path if apart is None else stack.enter_context(local_copy(apart))
            silence_s, begin = leading_silence(sound), decoder.info.audio.start_s
        backend = detector.backend if detector is not None and decoder.info.video else None
        clips_of = extract(decoder, backend)
        has_audio = decoder.info.audio is not None
        yield _Source(clips_of, has_audio, silence_s, _first(silence_s, begin), lambda: decoder.decoded_s)


def _first(silence_s: float | None, begin: float) -> int:
    """AVH-Align's trimming: int(25 s) + 1 frames of picture and sound are cut off."""
    return 0 if silence_s is None else int((begin + silence_s) * FPS) + 1


def _silence(clips: Iterable[Clip]) -> float | None:
    for clip in clips:
        if clip.audio is not None:
            loud = np.flatnonzero(np.abs(clip.audio) > SILENCE)
            return float(loud[0] if len(loud) else len(clip.audio)) / SAMPLE_RATE
    return None


# ------------------------------------------------------------------------------------------------ answers


def longest_speaker(said: Detection) -> Track | None:
    """Return the longest of the faces that speak, None where none was found to."""
    return _longest([track for track in said.tracks if track.speaker])


def _said(judge: Judge, row: Row, pieces: Sequence[Piece], source: _Source) -> Detection:
    return judge(row.id, pieces, has_audio=source.has_audio, duration_s=source.duration_s())


def aspects(said: Detection) -> dict[str, Aspect]:
    """Return what clip scores are made of: the longest face's mouth, the file's voice, the longest speaker's sync."""
    face = _longest(said.tracks)
    if face is None:
        none = Aspect("not_judged", reason="no_face")
        return {"visual": none, "audio": said.voice, "sync": none}
    return {"visual": face.visual, "audio": said.voice, "sync": (longest_speaker(said) or face).sync}


def _scores(said: Detection) -> dict[str, float]:
    given = {"fake": said.verdict.p_fake} | {name: aspect.p_fake for name, aspect in aspects(said).items()}
    return {name: p_fake for name, p_fake in given.items() if p_fake is not None}


def _longest(tracks: Sequence[Track]) -> Track | None:
    """The longest face whose mouth was judged, or the longest where none was."""
    return max(tracks, key=lambda t: (t.visual.p_fake is not None, t.end_s - t.start_s), default=None)


def _talking(pieces: Sequence[Piece], source: _Source) -> Span | None:
    """The face that is in view for longest, where there is a sound."""
    tracks: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        if piece.track is not None:
            tracks[piece.track].append(piece)
    if not tracks or not source.has_audio:
        return None
    track, face = max(tracks.items(), key=lambda item: sum(len(piece.speech) for piece in item[1]))
    spoken = sum(int((piece.speech & piece.face_ok).sum()) for piece in face)
    return Span(track, face[0].start, face[-1].start + len(face[-1].speech), spoken)


def _frames(row: Row, piece: Piece, taught: Sequence[str]) -> ClipFrames:
    keep = piece.track is not None and "sync" in taught
    visual, audio = (
        logits if aspect in taught else np.full_like(logits, np.nan)
        for aspect, logits in (("visual", piece.visual), ("audio", piece.audio))
    )
    evidence = piece.evidence if keep else None
    return ClipFrames(row.id, piece.track, piece.start, visual, audio, piece.face_ok, piece.speech, evidence)
