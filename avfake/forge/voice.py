"""Synthetic voices: what is left of a genuine one after a vocoder, or after its pitch or formants were moved.

A voice here is a function of a sound (N,) at 16 kHz and a random generator that gives as many samples, aligned in
time. ``resynthesise`` makes a labelled fake with one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, resample, sosfiltfilt
from torch import Tensor
from torchaudio.functional import griffinlim, melscale_fbanks, phase_vocoder

from avfake import SAMPLE_RATE
from avfake.forge.common import (
    Audio,
    NotForgeable,
    Rng,
    at_level,
    level,
    put,
    relabel,
    require_genuine,
    require_sound,
    seconds,
    sounding,
    stretch,
)
from avfake.samples import Sample

_PART_S = (0.4, 2.0)
_CONTEXT = SAMPLE_RATE // 10  # heard by a voice on both sides of a part, so that its edges are no edges to it
_TRIES = 8
_FFT = 1024
_RUMBLE = butter(4, 70, fs=SAMPLE_RATE, output="sos")


def griffin_lim(audio: Audio, rng: Rng) -> Audio:
    """Throw the phase away and guess it from the magnitudes (Griffin & Lim 1984; the fast form of Perraudin 2013)."""
    size = int(rng.choice([400, 512, 1024]))
    return _phased(_stft(audio, size).abs(), size, len(audio), int(rng.integers(8, 33)), rng)


def mel(audio: Audio, rng: Rng) -> Audio:
    """Keep 80 mel bands alone, as the inputs of neural vocoders do; the pseudo-inverse and Griffin-Lim lead back."""
    bands, back = _mel_bank()
    magnitude = _stft(audio, _FFT).abs()
    heard = (bands @ magnitude).clamp(min=1e-5)  # the floor of log-mel vocoders
    made = (back @ heard).clamp(min=0)
    edge = int(bands[-1].argmax())  # from the middle of the last band on the bands only fall
    made[edge:] = magnitude[edge:]
    return _phased(made, _FFT, len(audio), int(rng.integers(16, 33)), rng)


def pitch(audio: Audio, rng: Rng) -> Audio:
    """Move pitch and formants together by 1.5 to 5 semitones: a phase vocoder, played at another speed."""
    ratio = 2 ** (_away(rng, 1.5, 5) / 12)
    hop = _FFT // 4
    advance = torch.linspace(0, np.pi * hop, _FFT // 2 + 1)[:, None]
    slower = phase_vocoder(_stft(audio, _FFT), 1 / ratio, advance)
    return np.asarray(resample(_istft(slower, _FFT, round(len(audio) * ratio)).numpy(), len(audio)), np.float32)


def formants(audio: Audio, rng: Rng) -> Audio:
    """Stretch or squeeze the spectral envelope by 8 to 20 %, as a longer or shorter vocal tract would; pitch stays.

    The envelope is the cepstrum below 2 ms (Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 13).
    """
    spectrum = _stft(audio, _FFT)
    log = torch.log(spectrum.abs() + 1e-6)
    cepstrum = torch.fft.irfft(log, dim=0)
    cepstrum[SAMPLE_RATE // 500 : 1 - SAMPLE_RATE // 500] = 0
    envelope = torch.fft.rfft(cepstrum, dim=0).real
    moved = torch.from_numpy(_warp(envelope.numpy(), np.exp(_away(rng, 0.08, 0.18))))
    return _istft(spectrum * torch.exp((moved - envelope).clamp(-3, 3)), _FFT, len(audio)).numpy()


def world(audio: Audio, rng: Rng) -> Audio:
    """Take a voice apart and put it together with WORLD (Morise 2016); needs pyworld."""
    return _world(audio, 1.0, 1.0)


def world_convert(audio: Audio, rng: Rng) -> Audio:
    """Move pitch by 2 to 6 semitones and formants by 5 to 16 % the same way, between both halves of WORLD."""
    direction = rng.choice([-1, 1])
    return _world(audio, 2 ** (direction * rng.uniform(2, 6) / 12), float(np.exp(direction * rng.uniform(0.05, 0.15))))


Voice = Callable[[Audio, Rng], Audio]
VOICES: dict[str, Voice] = {
    voice.__name__: voice for voice in (griffin_lim, mel, world, pitch, formants, world_convert)
}
_NEEDS_PYWORLD = ("world", "world_convert")


def available() -> tuple[str, ...]:
    """Return the names of the ``VOICES`` that can run here: those of WORLD need the package pyworld."""
    installed = find_spec("pyworld") is not None
    return tuple(name for name in VOICES if installed or name not in _NEEDS_PYWORLD)


def resynthesise(sample: Sample, voice: str, rng: Rng, *, part: bool = False) -> Sample:
    """Replace the voice by what one of the ``VOICES`` makes of it: audio 1; of a ``part``, 0.4 to 2 s, with a segment.

    Length, loudness and timing stay, and so do the other labels. Raises ``NotForgeable`` unless the sound is known
    to be genuine and not silent, or where pyworld is needed and absent; ``KeyError`` for an unknown voice.
    """
    make = VOICES[voice]
    if voice not in available():
        raise NotForgeable(f"The voice {voice} needs the package pyworld: pip install pyworld.")
    audio = require_sound(sample)
    require_genuine(sample, "audio")
    start, end = _part(sample, audio, rng) if part else (0, len(audio))
    before, after = min(start, _CONTEXT), min(len(audio) - end, _CONTEXT)
    heard = audio[start - before : end + after]
    below = _below(heard)
    made = make(heard - below, rng)
    made = at_level(made - _below(made) + below, level(heard))[before : before + end - start]
    return relabel(
        sample,
        f"{voice}_part" if part else voice,
        replace(sample.clip, audio=put(audio, made, start)),
        replace(sample.row.labels, audio=1),
        replace(sample.row.segments, audio=(seconds(start, end),) if part else ()),
        shift=sample.shift,
    )


def _part(sample: Sample, audio: Audio, rng: Rng) -> tuple[int, int]:
    low, high = (int(s * SAMPLE_RATE) for s in _PART_S)
    active = np.repeat(sounding(audio), len(audio) // sample.clip.frames)
    for _ in range(_TRIES):
        start, end = stretch(len(audio), low, high, rng)
        if active[start:end].mean() >= 0.5:
            return start, end
    raise NotForgeable(f"{sample.row.id}: its sound has too many pauses for a part of it to be forged.")


def _below(audio: Audio) -> Audio:
    """Return what lies below all voices: hum, rumble, DC."""
    return np.asarray(sosfiltfilt(_RUMBLE, audio), np.float32)


def _away(rng: Rng, low: float, high: float) -> float:
    """Draw from -high to -low or low to high."""
    return float(rng.choice([-1, 1]) * rng.uniform(low, high))


def _stft(audio: Audio, size: int) -> Tensor:
    return torch.stft(torch.from_numpy(audio), size, size // 4, window=torch.hann_window(size), return_complex=True)


def _istft(spectrum: Tensor, size: int, length: int) -> Tensor:
    return torch.istft(spectrum, size, size // 4, window=torch.hann_window(size), length=length)


def _phased(magnitude: Tensor, size: int, length: int, rounds: int, rng: Rng) -> Audio:
    with torch.random.fork_rng(devices=[]):  # griffinlim draws its first phase from torch's own generator
        torch.default_generator.manual_seed(int(rng.integers(2**31)))
        return griffinlim(
            magnitude, torch.hann_window(size), size, size // 4, size, 1.0, rounds, 0.99, length, True
        ).numpy()


@cache
def _mel_bank() -> tuple[Tensor, Tensor]:
    bank = melscale_fbanks(_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, 80, SAMPLE_RATE, "slaney", "slaney").T
    return bank, torch.linalg.pinv(bank)


def _warp(envelope: NDArray[np.floating], ratio: float) -> NDArray[np.floating]:
    """Return an envelope (bins, frames) whose peaks are at ``ratio`` times their frequency."""
    bins = len(envelope)
    at = np.minimum(np.arange(bins) / ratio, bins - 1)
    below = np.minimum(at.astype(int), bins - 2)
    share = (at - below)[:, None].astype(envelope.dtype)
    return (1 - share) * envelope[below] + share * envelope[below + 1]


def _world(audio: Audio, pitch_ratio: float, formant_ratio: float) -> Audio:
    import pyworld

    x = audio.astype(np.float64)
    rough, times = pyworld.dio(x, SAMPLE_RATE)
    f0 = pyworld.stonemask(x, rough, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(x, f0, times, SAMPLE_RATE)
    noise = pyworld.d4c(x, f0, times, SAMPLE_RATE)
    if formant_ratio != 1:
        envelope = np.ascontiguousarray(np.exp(_warp(np.log(envelope.T), formant_ratio)).T)
    made = pyworld.synthesize(f0 * pitch_ratio, envelope, noise, SAMPLE_RATE)[: len(x)]
    # Its pulses all point one way; that of the microphone, which the sign of the skewness tells, is kept.
    flip = np.sign(np.mean(x**3)) * np.sign(np.mean(made**3)) or 1.0
    return np.asarray(flip * np.pad(made, (0, len(x) - len(made))), np.float32)
