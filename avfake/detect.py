"""From a file to a verdict: windows over each face track, pooled scores, segments, reasons for what is not judged."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from avfake import FPS, SAMPLES_PER_FRAME, __version__
from avfake.clips import PREPROCESSING, Clip, extract
from avfake.faces import Backend, BackendName, FaceError, backend_name, load_backend
from avfake.judging import EVEN_ODDS, FALSE_ALARMS, SCHEMA, Detection, Judge, Piece, WindowScore, default_rate
from avfake.media import Decoder
from avfake.models import INVALID, SHIFTS, CheckpointConfig, CheckpointError
from avfake.runtimes import Runtime, load_runtime
from avfake.speech import SpeechFinder
from avfake.storage import sha256

log = logging.getLogger(__name__)
WINDOW_S = 4.0  # the model sees this much at once
HOP_S = 2.0


def fingerprint(model: str, faces: BackendName, false_alarms: float | None = None) -> str:
    """Return a digest of all that decides over a result beside the file: model files, face backend, rate, this code."""
    rate = FALSE_ALARMS if false_alarms is None else false_alarms  # a model that has this rate judges alike by both
    parts = [model, faces, __version__, str(PREPROCESSING), SCHEMA, str(rate)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


class Detector:
    """Judges files with one model. ``Detector.from_pretrained("mini").detect("clip.mp4")``.

    ``false_alarms`` is the stated false-positive rate whose thresholds decide what is called fake; None takes 5 %, or
    the next one that an aspect has (``judging.default_rate``). Raises ``CheckpointError`` where the model has no
    thresholds for a rate that is asked for.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        threads: int = 1,
        faces: BackendName = "auto",
        false_alarms: float | None = None,
    ) -> None:
        self.config = runtime.config
        if self.config.preprocessing != PREPROCESSING:
            raise CheckpointError(
                f"the model {self.config.model.name} was trained on preprocessing version {self.config.preprocessing}, "
                f"but this avfake makes version {PREPROCESSING}; use the avfake release it came with, or train it again"
            )
        Judge(self.config, false_alarms)  # a rate that it lacks is refused before the first file is read
        cv2.setNumThreads(threads)
        self.threads = threads
        self.false_alarms = false_alarms
        self.runtime = runtime
        self.speech = SpeechFinder(threads=threads)
        self._faces: BackendName = backend_name(faces)
        self.fingerprint = fingerprint(runtime.fingerprint, self._faces, false_alarms)
        self._backend: Backend | FaceError | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str = "cpu",
        threads: int = 1,
        faces: BackendName = "auto",
        false_alarms: float | None = None,
    ) -> Detector:
        """Load an embedded model, a checkpoint folder, ``hf:org/name`` or an exported file.

        Raises ``CheckpointError``, and ``ExportError`` for a file.
        """
        runtime = load_runtime(name, device=device, threads=threads)
        config = runtime.config
        if bare := [aspect for aspect in config.aspects if not config.thresholds.get(aspect)]:
            log.warning(
                "the model %s has no thresholds for %s: fake is said from P(fake) %.1f on, however many false alarms "
                "that makes", config.model.name, ", ".join(bare), EVEN_ODDS,
            )  # fmt: skip
        if false_alarms is None:
            _tell_other_rates(config)
        return cls(runtime, threads=threads, faces=faces, false_alarms=false_alarms)

    def detect(
        self, path: str | os.PathLike[str], *, progress: Callable[[float], None] = lambda seconds: None
    ) -> Detection:
        """Judge one file in one pass, with memory that does not grow with its duration.

        ``progress`` is told the seconds done so far. Raises ``AvfakeError`` where the file cannot be read.
        """
        decoder = Decoder(path, threads=self.threads)
        backend = self.backend if decoder.info.video else None
        pieces = []
        for clip in extract(decoder, backend):
            pieces.append(self.examine(clip))
            progress(clip.start_s + clip.duration_s)
        detection = self.judge(
            str(path),
            pieces,
            has_audio=decoder.info.audio is not None,
            duration_s=decoder.decoded_s,
            warnings=decoder.warnings,
        )
        return replace(detection, sha256=sha256(str(path)), detector=self.fingerprint)

    @property
    def backend(self) -> Backend:
        """The face backend, loaded when the first file with a picture needs it. Raises ``FaceError``."""
        if self._backend is None:
            try:
                self._backend = load_backend(self._faces, threads=self.threads)
            except FaceError as error:
                self._backend = error  # remembered: every file would wait for the same network again
        if isinstance(self._backend, FaceError):
            raise self._backend
        return self._backend

    def examine(self, clip: Clip, embedded: NDArray[np.float32] | None = None) -> Piece:
        """Run the model over one clip, window by window.

        ``embedded`` (T, width) is what ``embed`` gave for the same lips, where they are examined again with another
        voice.
        """
        frames = clip.frames
        has_lips, has_audio = np.array([clip.lips is not None]), np.array([clip.audio is not None])
        audio = clip.audio if clip.audio is not None else np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
        speech = np.zeros(frames, np.bool_) if clip.audio is None else self.speech(audio)
        if embedded is None:
            embedded = self.embed(clip)

        count, visual, voice = np.zeros(frames), np.zeros(frames), np.zeros(frames)
        curve, weight = np.zeros(SHIFTS), np.zeros(SHIFTS)
        evidence, known = np.zeros((frames, SHIFTS)), np.zeros((frames, SHIFTS))
        windows = []
        first = round(clip.start_s * FPS)
        for start, end in window_spans(frames):
            sound = audio[None, start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
            scores = self.runtime.score(embedded[None, start:end], sound, has_lips, has_audio)
            count[start:end] += 1
            visual[start:end] += scores.visual_frames[0]
            voice[start:end] += scores.audio_frames[0]
            sync_map = scores.sync_map[0]
            valid = sync_map > INVALID / 2
            evidence[start:end] += np.where(valid, sync_map, 0)
            known[start:end] += valid
            used = valid & speech[start:end, None]
            curve += np.where(used, sync_map, 0).sum(0)
            weight += used.sum(0)
            spoken = int(speech[start:end].sum())
            windows.append(WindowScore(first + start, first + end, spoken, scores.fake.item(), scores.sync.item()))
        return Piece(
            track=clip.track,
            start=first,
            face_px=float(clip.source.get("face_px") or 0.0),
            visual=(visual / count).astype(np.float32),
            audio=(voice / count).astype(np.float32),
            speech=speech,
            face_ok=clip.face_ok,
            opening=_opening(clip),
            windows=tuple(windows),
            curve=curve,
            weight=weight,
            evidence=np.where(known > 0, evidence / np.maximum(known, 1), np.nan).astype(np.float16),
        )

    def embed(self, clip: Clip) -> NDArray[np.float32]:
        """Frame embeddings (T, width), each frame once although windows overlap."""
        if clip.lips is None:
            return np.zeros((clip.frames, self.config.model.visual.width), np.float32)
        return self.runtime.embed(clip.lips)

    @property
    def judge(self) -> Judge:
        """Pools the pieces of one file into a ``Detection``."""
        return Judge(self.config, self.false_alarms)


def _tell_other_rates(config: CheckpointConfig) -> None:
    """Warn where another rate than the usual one decides."""
    rates = {aspect: default_rate(given) for aspect in config.aspects if (given := config.thresholds.get(aspect))}
    others = [f"{rate:.0%} for {aspect}" for aspect, rate in rates.items() if rate != FALSE_ALARMS]
    if others:
        log.warning(
            "the model %s has not every threshold for a false-alarm rate of %.0f%%: it goes by %s",
            config.model.name, 100 * FALSE_ALARMS, ", ".join(others),
        )  # fmt: skip


def window_spans(frames: int) -> list[tuple[int, int]]:
    """Windows (start, end) over ``frames`` frames: ``WINDOW_S`` long, ``HOP_S`` apart, the last one at the end."""
    size, hop = round(WINDOW_S * FPS), round(HOP_S * FPS)
    if frames <= size:
        return [(0, frames)]
    starts = [*range(0, frames - size, hop), frames - size]
    return [(start, start + size) for start in starts]


def _opening(clip: Clip) -> NDArray[np.float32]:
    """Mouth opening over mouth width (T,), from the inner lip points; 0 without lips."""
    if clip.mouth is None:
        return np.zeros(clip.frames, np.float32)
    gap = np.linalg.norm(clip.mouth[:, 14] - clip.mouth[:, 18], axis=1)
    width = np.linalg.norm(clip.mouth[:, 0] - clip.mouth[:, 6], axis=1)
    return np.asarray(gap / np.maximum(width, 1.0), np.float32)
