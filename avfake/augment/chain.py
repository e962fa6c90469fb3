"""The random chains that training draws from; every probability and range stands here and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from avfake.augment import picture, voice
from avfake.augment.codecs import BLOCK, compress_lips, compress_voice, telephone
from avfake.augment.timing import change_frame_rate, change_speed, trim_silence
from avfake.samples import Sample


def augment(sample: Sample, rng: Generator) -> Sample:
    """Return a changed copy of a sample whose labels are as true as before; ``sample`` is not touched.

    Silence is trimmed in 3 of 10, the speed changed in 2 (so the clip may come out shorter or up to a tenth longer),
    the frame rate in 1.5; lips and voice go through ``augment_lips`` and ``augment_voice``. What is drawn follows
    from ``rng`` and the sample alone.
    """
    if rng.random() < 0.3:
        sample = trim_silence(sample)
    if rng.random() < 0.2:
        sample = change_speed(sample, rng.uniform(0.9, 1.1))
    if rng.random() < 0.15:
        sample = change_frame_rate(sample, float(rng.choice([10, 12.5, 15, 20])))
    clip = sample.clip
    lips, mouth, audio = clip.lips, clip.mouth, clip.audio
    if lips is not None:
        lips, points = augment_lips(lips, np.zeros((len(lips), 20, 2), np.float32) if mouth is None else mouth, rng)
        mouth = None if mouth is None else points
    if audio is not None:
        audio = augment_voice(audio, rng)
    return replace(sample, clip=replace(clip, lips=lips, mouth=mouth, audio=audio))


def augment_lips(
    lips: NDArray[np.uint8], mouth: NDArray[np.float32], rng: Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Change a run of lip crops (T, 96, 96, 3) as a camera, an editor and a platform do, in that order.

    The mouth points (T, 20, 2) move along. Time does not change.
    """
    if rng.random() < 0.5:
        lips, mouth = picture.mirror(lips, mouth)
    lips, mouth = picture.warp(
        lips, mouth, rng.uniform(-6, 6), rng.uniform(0.92, 1.08), (rng.uniform(-3, 3), rng.uniform(-3, 3))
    )
    if rng.random() < 0.1:
        lips = picture.motion_blur(lips, rng.uniform(2, 7), rng.uniform(0, 180))
    gain = rng.uniform(0.7, 1.35, 3) ** rng.choice([0.3, 1.0])
    lips = picture.tone(lips, gain, rng.uniform(-25, 25), rng.uniform(0.75, 1.35))
    if rng.random() < 0.2:
        lips = picture.contrast(lips, rng.uniform(0.6, 1.4))
    if rng.random() < 0.2:
        lips = picture.hue(picture.saturation(lips, rng.uniform(0.3, 1.4)), rng.uniform(-10, 10))
    if rng.random() < 0.1:
        lips = picture.saturation(lips, 0.0)
    if rng.random() < 0.1:
        for _ in range(rng.integers(1, 3)):
            lips = picture.distract(lips, str(rng.choice(picture.DISTRACTORS)), bool(rng.random() < 0.5), rng)
    if rng.random() < 0.6:
        up = str(rng.choice(["linear", "cubic", "lanczos", "nearest"], p=[0.5, 0.3, 0.1, 0.1]))
        lips = picture.resize(lips, int(lips.shape[1] * rng.uniform(0.35, 1.0)), "area", up)
    if rng.random() < 0.3:
        lips = picture.blur(lips, rng.uniform(0.3, 1.6))
    if rng.random() < 0.4:
        lips = picture.add_noise(lips, rng.uniform(1, 10), rng)
    compressed = rng.random()
    if compressed < 0.5:
        lips = picture.jpeg(lips, int(rng.integers(25, 95)))
    elif compressed < 0.8:
        lips = _through_video(lips, rng)
    if rng.random() < 0.03:
        lips = picture.blocks(lips, int(rng.integers(1, 8)), BLOCK // 2, rng)
    return lips, mouth


def _through_video(lips: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    codec, best, worst = (("h264", 18, 34), ("h264", 18, 34), ("mpeg4", 2, 14), ("vp9", 25, 55))[rng.integers(4)]
    left, top = (int(value) for value in rng.integers(0, BLOCK, 2))
    return compress_lips(lips, codec, int(rng.integers(best, worst + 1)), (left, top))


def augment_voice(audio: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Change a voice (N,) as a room, a microphone, a recorder and a platform do, without moving it in time.

    Half of the voices are turned upside down: which way the pulses of a voice point is up to the microphone and its
    wiring, and a vocoder that always points them one way must not be told by it.
    """
    if rng.random() < 0.5:
        audio = voice.invert(audio)
    if rng.random() < 0.6:
        audio = voice.equalise(audio, rng.uniform(-8, 8, len(voice.EQUALISER_HZ)))
    if rng.random() < 0.5:  # bandwidth of phones, codecs and old recordings
        audio = voice.band_limit(audio, 0, rng.uniform(3000, 7800), int(rng.integers(6, 24)))
    if rng.random() < 0.3:
        audio = voice.band_limit(audio, rng.uniform(60, 250), np.inf, 3)
    if rng.random() < 0.3:
        audio = voice.reverberate(audio, rng.uniform(0.05, 0.35), rng.uniform(0.1, 0.5), rng)
    if rng.random() < 0.1:
        audio = voice.distort(audio, rng.uniform(10, 30), rng)
    if rng.random() < 0.05:
        audio = voice.crackle(audio, rng.uniform(0.001, 0.05), rng.uniform(0.5, 2), rng)
    if rng.random() < 0.6:  # white to brown
        audio = voice.add_noise(audio, rng.uniform(8, 40), rng.uniform(0, 1), rng)
    if rng.random() < 0.4:
        audio = voice.gain(audio, rng.uniform(-15, 6))
    coded = rng.random()
    if coded < 0.25:
        codec, rates = (("aac", 16), ("mp3", 16), ("opus", 8))[rng.integers(3)]
        audio = compress_voice(audio, codec, int(1000 * np.exp(rng.uniform(np.log(rates), np.log(64)))))
    elif coded < 0.3:
        audio = telephone(audio)
    if rng.random() < 0.1:
        audio = voice.drop_out(audio, int(rng.integers(1, 6)), rng.uniform(0.005, 0.04), rng)
    return audio
