"""What all forgers share: when a clip can be forged, how the result is labelled, how sound is put into sound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfake import SAMPLE_RATE, SAMPLES_PER_FRAME
from avfake.clips import Clip, quantise_audio
from avfake.manifest import Labels, Segment, Segments
from avfake.samples import Sample

Rng = np.random.Generator
Audio = NDArray[np.float32]

MIN_FRAMES = 20
"""No forger makes a clip shorter than this; shorter ones teach nothing about time."""
MIN_SOUND = 10
"""Frames of sound below which there is no voice to forge or to forge with."""

_FADE = SAMPLE_RATE // 100
_FLOOR = 5e-4  # -66 dBFS: below it no frame is sound, however quiet the rest
_KNEE = 0.8  # full scale is 1
_RANGE = 10 ** (-25 / 20)  # nor is one this far below the loud frames of its clip


class NotForgeable(ValueError):  # noqa: N818 - it says that a forger does not apply, which is no error of anybody's
    """This forger cannot make this clip into what it labels; the text says why."""


def require_genuine(sample: Sample, aspect: str) -> None:
    """Raise ``NotForgeable`` unless the clip is known to be genuine in ``aspect``."""
    label = getattr(sample.row.labels, aspect)
    if label != 0:
        raise NotForgeable(
            f"{sample.row.id}: only a clip with {aspect} label 0 can be forged there, and it has {label}."
        )


def require_sound(sample: Sample) -> Audio:
    """Return the sound of a clip; raise ``NotForgeable`` where there is none or it is all but silent."""
    audio = sample.clip.audio
    if audio is None:
        raise NotForgeable(f"{sample.row.id}: it has no sound.")
    if np.count_nonzero(sounding(audio)) < MIN_SOUND:
        raise NotForgeable(f"{sample.row.id}: fewer than {MIN_SOUND} of its frames hold any sound.")
    return audio


def relabel(sample: Sample, name: str, clip: Clip, labels: Labels, segments: Segments, *, shift: int) -> Sample:
    """Return the forged clip; its row is that of ``sample`` with a new id, method, original, labels and segments."""
    row = replace(
        sample.row,
        id=f"{sample.row.id}/forge:{name}",
        method=f"forge:{name}",
        original=sample.row.id,
        labels=labels,
        segments=segments,
    )
    return Sample(row, clip, shift)


def sounding(audio: Audio) -> NDArray[np.bool_]:
    """Tell which frames (T,) of a sound (640 T,) are not a pause: above -66 dBFS and 25 dB below the loud ones."""
    rms = np.sqrt(np.mean(audio.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64) ** 2, axis=1))
    threshold: float = max(_FLOOR, _RANGE * float(np.quantile(rms, 0.95)))
    return np.asarray(rms > threshold)


def level(audio: Audio) -> float:
    """Return the RMS over the frames that are no pause; 0 where all are. A rest short of a frame is not heard."""
    audio = audio[: len(audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    loud = audio.reshape(-1, SAMPLES_PER_FRAME)[sounding(audio)].astype(np.float64)
    return float(np.sqrt(np.mean(loud**2))) if loud.size else 0.0


def at_level(audio: Audio, wanted: float) -> Audio:
    """Return the sound scaled to the level ``wanted``, its peaks rounded off above 0.8 as by a limiter.

    Loudness must not tell a forged voice, nor may it be clipped hard. The result is in [-1, 1] on the 16-bit grid, as
    all sound of clips is. Raises ``NotForgeable`` where the sound is silent.
    """
    own = level(audio)
    if own == 0:
        raise NotForgeable("The sound to be put in is silent.")
    size = np.abs(audio) * (wanted / own)
    size = np.where(size > _KNEE, _KNEE + (1 - _KNEE) * np.tanh((size - _KNEE) / (1 - _KNEE)), size)
    return quantise_audio(np.copysign(size, audio))


def put(audio: Audio, piece: Audio, start: int) -> Audio:
    """Return the sound with ``piece`` in place of what is at sample ``start``; fades of 10 ms lie inside the piece.

    The fades keep the power of two unrelated sounds. Where the piece ends with the clip there is none.
    """
    end = start + len(piece)
    gain = np.ones(len(piece))
    ramp = np.sin(np.pi / 2 * (np.arange(_FADE) + 0.5) / _FADE)
    if start > 0:
        gain[:_FADE] = ramp
    if end < len(audio):
        gain[-_FADE:] = ramp[::-1]
    out = audio.copy()
    out[start:end] = quantise_audio(gain * piece + np.sqrt(1 - gain**2) * audio[start:end])
    return out


def stretch(length: int, low: int, high: int, rng: Rng) -> tuple[int, int]:
    """Draw start and end of a stretch of ``low`` to ``high`` units, at most 0.6 of ``length``, clipped at both ends.

    A clip may begin or end inside a forged stretch, as windows cut from long files do: up to a quarter may be cut off.
    """
    high = min(high, int(0.6 * length))
    size = int(rng.integers(min(low, high), high + 1))
    start = int(rng.integers(-(size // 4), length - size + size // 4 + 1))
    return max(start, 0), min(start + size, length)


def seconds(start: int, end: int) -> Segment:
    """Return samples ``start`` to ``end`` in seconds."""
    return start / SAMPLE_RATE, end / SAMPLE_RATE
