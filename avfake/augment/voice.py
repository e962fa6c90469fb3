"""Changes of a voice that leave what is said, who says it, and when.

Every function takes a voice float32 (N,) at 16 kHz in [-1, 1] and returns a new one of the same length, range and
alignment (filters have zero phase); randomness comes from the generator only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from avfake import SAMPLE_RATE

EQUALISER_HZ = np.geomspace(60, SAMPLE_RATE / 2, 7)
"""Frequencies whose gain ``equalise`` takes."""

_PAD = SAMPLE_RATE // 10  # silence after the end, so that filters do not wrap it onto the beginning
Audio = NDArray[np.float32]


def equalise(audio: Audio, decibel: NDArray[np.float64]) -> Audio:
    """Give each of the ``EQUALISER_HZ`` its gain in ``decibel`` (7,), with straight lines between on a log scale."""
    knots = np.log(EQUALISER_HZ)
    return filtered(audio, lambda hertz: 10 ** (np.interp(np.log(hertz + 1), knots, decibel) / 20))


def band_limit(audio: Audio, low_hz: float, high_hz: float, order: int) -> Audio:
    """Keep ``low_hz`` to ``high_hz``; both edges fall as Butterworth's of ``order`` do, 6 dB an octave and order."""
    return filtered(
        audio,
        lambda hertz: 1 / np.sqrt(
            (1 + (hertz / high_hz) ** (2 * order)) * (1 + (low_hz / np.maximum(hertz, 1)) ** (2 * order))
        ),
    )  # fmt: skip


def reverberate(audio: Audio, decay_s: float, level: float, rng: Generator) -> Audio:
    """Add a room: white noise that falls by 60 dB in ``decay_s``, with ``level`` times the direct sound's amplitude."""
    length = max(1, int(decay_s * SAMPLE_RATE))
    tail = rng.normal(0, 1, length) * np.exp(-6.9 * np.arange(length) / length)
    tail *= level / np.sqrt((tail**2).sum())
    tail[0] += 1
    size = _fast(len(audio) + length)
    return bounded(np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)[: len(audio)])


def add_noise(audio: Audio, snr_db: float, exponent: float, rng: Generator) -> Audio:
    """Add noise at ``snr_db`` below the voice's mean power; its amplitude falls with frequency to the ``exponent``.

    Exponent 0 is white, 0.5 pink, 1 brown, -1 blue. A voice of digital silence stays silent.
    """
    colour = np.maximum(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE), 50) ** -exponent
    parts = rng.standard_normal((2, len(colour)))
    noise = np.fft.irfft((parts[0] + 1j * parts[1]) * colour, len(audio))
    level = np.sqrt(_power(audio) / max(_power(noise), 1e-20)) * 10 ** (-snr_db / 20)
    return bounded(audio + level * noise)


def invert(audio: Audio) -> Audio:
    """Turn a voice upside down, as a microphone wired the other way round does; the ear hears no difference."""
    return -audio


def gain(audio: Audio, decibel: float) -> Audio:
    """Make a voice louder or softer; what leaves [-1, 1] is clipped, as by a recorder."""
    return np.clip(audio * 10 ** (decibel / 20), -1, 1).astype(np.float32)


def distort(audio: Audio, harmonics_db: float, rng: Generator) -> Audio:
    """Convolutive distortion of a cheap channel: powers 1 to 5 of the voice, each through notches of its own.

    The powers above 1 lie ``harmonics_db`` below it. After "linear and non-linear convolutive noise" of RawBoost,
    Tak et al., ICASSP 2022 (five notches, 20 Hz to 8 kHz, 100 to 1000 Hz wide), with filters of zero phase.
    """

    def notches(hertz: NDArray[np.floating]) -> NDArray[np.floating]:
        centres, widths = rng.uniform(20, SAMPLE_RATE / 2, (5, 1)), rng.uniform(100, 1000, (5, 1))
        return (1 - np.exp(-0.5 * ((hertz - centres) / (widths / 2)) ** 2)).prod(axis=0)

    peak = max(float(np.abs(audio).max()), 1e-9)
    out = np.zeros(len(audio))
    for power in range(1, 6):
        part = filtered(peak * (audio / peak) ** power, notches)
        out += part if power == 1 else 10 ** (-harmonics_db / 20) * part
    return bounded(out - out.mean())


def crackle(audio: Audio, share: float, level: float, rng: Generator) -> Audio:
    """Hit a random ``share`` of the samples with impulses of up to ``level`` times their own amplitude.

    After "impulsive signal-dependent noise" of RawBoost, Tak et al., ICASSP 2022.
    """
    hit = rng.random(len(audio)) < share
    return bounded(audio * (1 + hit * rng.uniform(-level, level, len(audio))))


def drop_out(audio: Audio, count: int, length_s: float, rng: Generator) -> Audio:
    """Lose ``count`` packets of ``length_s`` seconds: they are silent."""
    out, length = audio.copy(), int(length_s * SAMPLE_RATE)
    for begin in rng.integers(0, len(audio), count):
        out[begin : begin + length] = 0
    return out


def resample(audio: Audio, ratio: float) -> Audio:
    """Return a sound (N,) at ``ratio`` times its sample rate: floor(N * ratio) samples, band-limited, without delay.

    Sample k lies at sample k / ratio of the input, give or take half a sample over the whole length.
    """
    size = _fast(len(audio) + _PAD)
    target = round(size * ratio)
    out = np.fft.irfft(np.fft.rfft(audio, size), target) * (target / size)
    return out[: int(len(audio) * ratio + 1e-6)].astype(np.float32)


def filtered(audio: Audio, response: Callable[[NDArray[np.floating]], NDArray[np.floating]]) -> Audio:
    """Multiply the spectrum by a real ``response`` to frequencies in Hz: zero phase, so nothing moves in time."""
    size = _fast(len(audio) + _PAD)
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    return bounded(np.fft.irfft(np.fft.rfft(audio, size) * response(hertz), size)[: len(audio)])


def bounded(audio: NDArray[np.floating]) -> Audio:
    """Return samples as float32, turned down where they would leave [-1, 1]."""
    return (audio / max(1.0, float(np.abs(audio).max()))).astype(np.float32)


def _power(audio: NDArray[np.floating]) -> float:
    return float((audio.astype(np.float64) ** 2).mean())


def _fast(size: int) -> int:
    """Return a length from ``size`` on whose Fourier transform is quick."""
    return -(-size // 1024) * 1024
