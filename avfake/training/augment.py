"""Augmentation of lip crops and voices that keeps every label true.

It removes what betrays a corpus instead of a fake: resolution, compression, colour, noise floor, bandwidth.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from avfake import SAMPLE_RATE

Rng = np.random.Generator

# Where each mouth point (48..67 of the 68-point scheme) goes when the picture is mirrored.
MIRROR = np.array([6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 16, 15, 14, 13, 12, 19, 18, 17])


def augment_lips(
    lips: NDArray[np.uint8], mouth: NDArray[np.float32], rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Change a run of lip crops (T, 96, 96, 3) alike in every frame; the mouth points (T, 20, 2) move along."""
    size = lips.shape[1]
    angle, scale = np.deg2rad(rng.uniform(-6, 6)), rng.uniform(0.92, 1.08)
    mirrored = rng.random() < 0.5
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.array([[-1.0, 0.0], [0.0, 1.0]])
    centre = np.full(2, (size - 1) / 2)
    matrix = np.column_stack([linear, centre + rng.uniform(-3, 3, 2) - linear @ centre])
    points = mouth @ matrix[:, :2].T + matrix[:, 2]
    points = points[:, MIRROR] if mirrored else points

    gain, lift = rng.uniform(0.7, 1.35, 3) ** rng.choice([0.3, 1.0]), rng.uniform(-25, 25)
    gamma = rng.uniform(0.75, 1.35)
    table = np.clip(np.arange(256)[:, None] * gain + lift, 0, 255)
    table = (255 * (table / 255) ** gamma).astype(np.uint8)
    grey = rng.random() < 0.1
    small = int(size * rng.uniform(0.35, 1.0)) if rng.random() < 0.6 else size
    blur = rng.uniform(0.3, 1.6) if rng.random() < 0.3 else 0.0
    noise = rng.uniform(1, 10) if rng.random() < 0.4 else 0.0
    quality = int(rng.integers(25, 95)) if rng.random() < 0.7 else 0

    out = np.empty_like(lips)
    for t, picture in enumerate(lips):
        x = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if small < size:
            x = cv2.resize(cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA), (size, size))
        if blur:
            x = cv2.GaussianBlur(x, (0, 0), blur)
        x = np.stack([table[x[..., c], c] for c in range(3)], axis=-1)
        if grey:
            x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        if noise:
            x = np.clip(x + rng.normal(0, noise, x.shape), 0, 255).astype(np.uint8)
        if quality:
            x = np.asarray(
                cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
            )
        out[t] = x
    return out, points.astype(np.float32)


def augment_voice(audio: NDArray[np.float32], rng: Rng) -> NDArray[np.float32]:
    """Change a voice (N,) without touching what is said or who says it: bandwidth, colour, noise, room, dropouts."""
    spectrum = np.fft.rfft(audio)
    frequency = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    if rng.random() < 0.6:  # a smooth random equaliser, +-8 dB
        knots = np.geomspace(60, SAMPLE_RATE / 2, 7)
        decibel = np.interp(np.log(frequency + 1), np.log(knots), rng.uniform(-8, 8, len(knots)))
        spectrum *= 10 ** (decibel / 20)
    if rng.random() < 0.5:  # bandwidth of phones, codecs and old recordings
        spectrum /= np.sqrt(1 + (frequency / rng.uniform(3000, 7800)) ** (2 * rng.integers(6, 24)))
    if rng.random() < 0.3:
        spectrum /= np.sqrt(1 + (rng.uniform(60, 250) / np.maximum(frequency, 1)) ** 6)
    out = np.fft.irfft(spectrum, len(audio))
    if rng.random() < 0.3:  # a small room: exponentially decaying noise
        length = int(rng.uniform(0.05, 0.35) * SAMPLE_RATE)
        tail = rng.normal(0, 1, length) * np.exp(-6.9 * np.arange(length) / length)
        tail *= rng.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())
        tail[0] += 1
        size = len(out) + length
        out = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(tail, size), size)[: len(out)]
    if rng.random() < 0.6:  # white to brown noise at 8-40 dB
        colour = rng.normal(0, 1, len(frequency)) + 1j * rng.normal(0, 1, len(frequency))
        noise = np.fft.irfft(colour / np.maximum(frequency, 50) ** rng.uniform(0, 1), len(audio))
        level = np.sqrt((out**2).mean() / max((noise**2).mean(), 1e-20)) * 10 ** (-rng.uniform(8, 40) / 20)
        out = out + level * noise
    return out.astype(np.float32)
