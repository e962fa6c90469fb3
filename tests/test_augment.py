"""Augmentation: labels stay on what they label, whatever moves; arrays stay valid; codecs move nothing in time."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from avfake.augment import augment, augment_lips, augment_voice, codecs, picture, timing, voice
from avfake.clips import Clip
from avfake.manifest import Labels, Row, Segments
from avfake.models import MAX_SHIFT
from avfake.samples import Sample

FRAME = 1 / FPS
BRIGHT = 230
TONE_HZ = 1000


def marked(frames: int = 60, start: int = 20, end: int = 35, shift: int = 0, silence: int = 0) -> Sample:
    """A sample that is white, and has a tone, just inside its segments; elsewhere dark, with a quiet low hum.

    The voice's segment lies ``shift`` frames after the lips'; ``silence``: frames without sound at both ends.
    """
    lips = np.full((frames, 96, 96, 3), 25, np.uint8)
    lips[start:end] = BRIGHT
    time = np.arange(frames * SAMPLES_PER_FRAME) / SAMPLE_RATE
    audio = 0.05 * np.sin(2 * np.pi * 90 * time)
    spoken = slice((start + shift) * SAMPLES_PER_FRAME, (end + shift) * SAMPLES_PER_FRAME)
    audio[spoken] = 0.5 * np.sin(2 * np.pi * TONE_HZ * time[spoken])
    if silence:
        audio[: silence * SAMPLES_PER_FRAME] = 0
        audio[-silence * SAMPLES_PER_FRAME :] = 0
    mouth = np.random.default_rng(0).uniform(35, 60, (frames, 20, 2)).astype(np.float32)
    mouth[:, 0, 0] = np.arange(frames) / 10  # names its frame
    face_ok = np.ones(frames, np.bool_)
    face_ok[start] = False
    segment, heard = (start * FRAME, end * FRAME), ((start + shift) * FRAME, (end + shift) * FRAME)
    return Sample(
        Row("id", "v.mp4", None, "corpus", "train", "somebody", "method", "en", "original", Labels(1, 1, 1),
            Segments((segment,), (heard,), (segment,))),
        Clip(lips, audio.astype(np.float32), mouth, face_ok),
        shift,
    )  # fmt: skip


def edges(inside: NDArray[np.bool_]) -> tuple[int, int]:
    """First frame of a run, and the one after its last."""
    where = np.flatnonzero(inside)
    return int(where[0]), int(where[-1]) + 1


def seen(sample: Sample) -> tuple[int, int]:
    """The frames that are white."""
    assert sample.clip.lips is not None
    return edges(sample.clip.lips.mean((1, 2, 3)) > 128)


def heard(sample: Sample) -> tuple[float, float]:
    """The frames, and parts of them, that hold the tone."""
    assert sample.clip.audio is not None
    envelope = np.convolve(np.abs(sample.clip.audio), np.ones(160) / 160, "same")
    first, end = edges(envelope > 0.15)
    return first / SAMPLES_PER_FRAME, end / SAMPLES_PER_FRAME


def assert_true(sample: Sample) -> None:
    """The content that was marked is what the segments say: pictures within a frame, the voice within 2 ms."""
    segments = sample.row.segments
    assert np.allclose(seen(sample), np.array(segments.visual[0]) * FPS, atol=1 + 1e-6)
    assert np.allclose(heard(sample), np.array(segments.audio[0]) * FPS, atol=0.05)
    assert segments.sync == segments.visual
    assert sample.row.labels == Labels(1, 1, 1)
    # The voice of what is seen is heard ``shift`` frames later.
    assert np.allclose(np.subtract(heard(sample), sample.shift), seen(sample), atol=1 + 0.05)


def unchanged(before: Sample, sample: Sample) -> bool:
    """Whether a sample still holds what its copy does."""
    names = ("lips", "audio", "mouth", "face_ok")
    arrays = all(np.array_equal(getattr(before.clip, name), getattr(sample.clip, name)) for name in names)
    return arrays and asdict(before.row) == asdict(sample.row) and before.shift == sample.shift


# ------------------------------------------------------------------------------------------------- time


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 2), st.integers(-15, 15), st.integers(16, 25), st.integers(6, 18))
def test_speed_keeps_segments_on_their_content(stretch: float, shift: int, start: int, length: int) -> None:
    sample = marked(60, start, start + length, shift)
    before = copy.deepcopy(sample)
    changed = timing.change_speed(sample, stretch)
    assert unchanged(before, sample)
    assert_true(changed)
    assert abs(changed.shift - shift * stretch) <= 0.5 or abs(changed.shift) == MAX_SHIFT
    lost = abs(changed.shift - shift * stretch) + 1
    assert 60 * stretch - 1 - lost <= changed.clip.frames <= 60 * stretch + 1e-4
    assert changed.clip.audio is not None
    assert np.abs(changed.clip.audio).max() <= 1


@pytest.mark.parametrize("stretch", [0.5, 0.8, 1.25, 2.0])
@pytest.mark.parametrize("shift", [-25, -16, -15, 0, 9, 15, 16, 30])
def test_speed_never_turns_an_offset_into_a_mismatch(shift: int, stretch: float) -> None:
    sample = replace(marked(100, 45, 55, shift), shift=shift)
    changed = timing.change_speed(sample, stretch)
    assert (abs(changed.shift) > MAX_SHIFT) == (abs(shift) > MAX_SHIFT)
    assert_true(changed)


def test_speed_takes_the_pitch_along_and_aligns_to_the_sample() -> None:
    sample = marked(100, 20, 80)
    changed = timing.change_speed(sample, 1.25)
    assert changed.clip.audio is not None
    tone = changed.clip.audio[40 * SAMPLES_PER_FRAME : 90 * SAMPLES_PER_FRAME]
    assert abs(np.abs(np.fft.rfft(tone)).argmax() * SAMPLE_RATE / len(tone) - TONE_HZ / 1.25) < 1
    audio = np.zeros(64_000, np.float32)
    audio[[8_000, 60_000]] = 0.9
    pulses = timing.change_speed(voice_only(audio), 1.1).clip.audio
    assert pulses is not None
    assert [int(pulses[:30_000].argmax()), int(pulses[30_000:].argmax()) + 30_000] == [8_800, 66_000]


@pytest.mark.parametrize("stretch", [0.49, 2.01, np.nan])
def test_no_speed_that_is_out_of_range(stretch: float) -> None:
    with pytest.raises(ValueError, match=r"stretch must be 0\.5 to 2"):
        timing.change_speed(marked(), stretch)


@settings(max_examples=20, deadline=None)
@given(st.floats(9.5, 25), st.integers(3, 30), st.integers(5, 25))
def test_frame_rate_keeps_segments_within_a_frame(fps: float, start: int, length: int) -> None:
    sample = marked(60, start, start + length)
    before = copy.deepcopy(sample)
    changed = timing.change_frame_rate(sample, fps)
    assert unchanged(before, sample)
    assert_true(changed)
    assert changed.clip.mouth is not None
    assert changed.clip.lips is not None
    shown = np.rint(changed.clip.mouth[:, 0, 0] * 10).astype(int)
    assert (np.diff(shown) >= 0).all()
    assert len(set(shown)) == pytest.approx(60 * fps / FPS, abs=1)
    # Points and face_ok are those of the picture.
    assert ((changed.clip.lips[:, 0, 0, 0] == BRIGHT) == ((shown >= start) & (shown < start + length))).all()
    assert (changed.clip.face_ok == (shown != start)).all()


@pytest.mark.parametrize("fps", [10, 12.5, 15, 20])
def test_frame_rate_makes_lips_neither_late_nor_early(fps: float) -> None:
    mouth = timing.change_frame_rate(marked(100), fps).clip.mouth
    assert mouth is not None
    lag = np.arange(100) - np.rint(mouth[:, 0, 0] * 10)
    assert abs(lag.mean()) <= 0.5
    assert np.abs(lag).max() <= 1


def test_full_frame_rate_changes_nothing() -> None:
    assert unchanged(timing.change_frame_rate(marked(), 25), marked())
    with pytest.raises(ValueError, match="fps"):
        timing.change_frame_rate(marked(), 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(-5, 5), st.integers(20, 30))
def test_trimming_takes_lips_voice_and_segments_along(silence: int, shift: int, start: int) -> None:
    sample = marked(60, start, start + 10, shift, silence)
    before = copy.deepcopy(sample)
    trimmed = timing.trim_silence(sample)
    assert unchanged(before, sample)
    assert_true(trimmed)
    # AVH-Align's int(25 s) + 1 frames; a sine may begin with a zero, still within its frame.
    assert trimmed.clip.frames == 60 - 2 * (silence + 1)
    assert trimmed.clip.start_s == pytest.approx((silence + 1) * FRAME)
    assert trimmed.clip.mouth is not None
    assert trimmed.clip.mouth[0, 0, 0] == pytest.approx((silence + 1) / 10)


def test_a_segment_that_is_trimmed_away_leaves_a_genuine_clip() -> None:
    sample = marked(60, 2, 6, 0, 10)
    labels = timing.trim_silence(sample).row.labels
    assert labels == Labels(0, 0, 0)


def test_silence_alone_is_not_trimmed() -> None:
    assert timing.trim_silence(voice_only(np.zeros(6400, np.float32))).clip.frames == 10
    assert timing.trim_silence(voice_only(np.full(640, 0.1, np.float32))).clip.frames == 1
    threshold = np.zeros(6400, np.float32)
    threshold[3000] = timing.SILENCE
    assert timing.trim_silence(voice_only(threshold)).clip.frames == 10


# ------------------------------------------------------------------------------------------------- front door


def voice_only(audio: NDArray[np.float32]) -> Sample:
    """A sample of sound alone."""
    frames = len(audio) // SAMPLES_PER_FRAME
    row = Row("id", None, "a.wav", "corpus", "train", labels=Labels(None, 0, None))
    return Sample(row, Clip(None, audio, None, np.zeros(frames, np.bool_)))


def lips_only(frames: int, *, points: bool = True) -> Sample:
    """A sample of noisy pictures alone."""
    rng = np.random.default_rng(frames)
    lips = rng.integers(0, 256, (frames, 96, 96, 3), np.uint8)
    mouth = rng.uniform(30, 60, (frames, 20, 2)).astype(np.float32) if points else None
    row = Row("id", "v.mp4", None, "corpus", "train", labels=Labels(0, None, None))
    return Sample(row, Clip(lips, None, mouth, np.ones(frames, np.bool_)))


def odd(kind: str, frames: int) -> Sample:
    """A sample of a kind that is easily forgotten."""
    loud = np.sign(np.sin(np.arange(frames * SAMPLES_PER_FRAME) / 7)).astype(np.float32)
    full = replace(lips_only(frames), row=replace(marked().row, segments=Segments()))
    return {
        "voice": lambda: voice_only(loud),
        "silence": lambda: voice_only(np.zeros_like(loud)),
        "lips": lambda: lips_only(frames),
        "no points": lambda: lips_only(frames, points=False),
        "both": lambda: replace(full, clip=replace(full.clip, audio=loud), shift=3),
    }[kind]()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["voice", "silence", "lips", "no points", "both"]),
    st.sampled_from([1, 2, 20]),
    st.integers(0, 100_000),
)
def test_any_clip_can_be_augmented(kind: str, frames: int, seed: int) -> None:
    sample = odd(kind, frames)
    before = copy.deepcopy(sample)
    changed = augment(sample, np.random.default_rng(seed))
    assert unchanged(before, sample)
    for name in ("lips", "audio", "mouth"):  # shapes and types are checked by Clip
        assert (getattr(sample.clip, name) is None) == (getattr(changed.clip, name) is None)
    if changed.clip.audio is not None:
        assert np.isfinite(changed.clip.audio).all()
        assert np.abs(changed.clip.audio).max() <= 1
    if changed.clip.mouth is not None:
        assert np.isfinite(changed.clip.mouth).all()
    assert replace(changed.row, segments=sample.row.segments) == sample.row


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.integers(-8, 8))
def test_labels_stay_true_through_the_whole_chain(seed: int, shift: int) -> None:
    sample = marked(60, 20, 35, shift)
    changed = augment(sample, np.random.default_rng(seed))
    assert changed.clip.lips is not None
    brightness = changed.clip.lips.mean((1, 2, 3))
    white = edges(brightness > (brightness.min() + brightness.max()) / 2)
    assert np.allclose(white, np.array(changed.row.segments.visual[0]) * FPS, atol=1.5)
    assert changed.row.labels == Labels(1, 1, 1)
    assert changed.row.segments.sync == changed.row.segments.visual
    distance = np.subtract(changed.row.segments.audio[0], changed.row.segments.visual[0]) * FPS
    assert np.allclose(distance, changed.shift, atol=0.01)
    known = ("id", "method", "original", "corpus", "identity", "split")
    assert all(getattr(changed.row, name) == getattr(sample.row, name) for name in known)


def test_one_seed_gives_one_result_and_another_gives_another() -> None:
    first, second, other = (augment(marked(20, 5, 10), np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert unchanged(first, second)
    assert not unchanged(first, other)


# ------------------------------------------------------------------------------------------------- pictures


def dots(mouth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A dark picture with a white dot at the first two mouth points."""
    lips = np.full((1, 96, 96, 3), 20, np.uint8)
    for x, y in mouth[0, :2].astype(int):
        lips[0, y - 2 : y + 3, x - 2 : x + 3] = 250
    return lips


def test_mirroring_twice_is_nothing() -> None:
    assert (picture.MIRROR[picture.MIRROR] == np.arange(20)).all()
    mouth = np.random.default_rng(0).uniform(20, 70, (2, 20, 2)).astype(np.float32)
    lips = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    back = picture.mirror(*picture.mirror(lips, mouth))
    assert (back[0] == lips).all()
    assert np.allclose(back[1], mouth, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_mouth_points_move_with_the_picture(seed: int) -> None:
    mouth = np.tile(np.array([48.0, 48.0], np.float32), (1, 20, 1))
    mouth[0, 0], mouth[0, 1] = (30, 40), (66, 60)
    rng = np.random.default_rng(seed)
    lips, points = picture.warp(dots(mouth), mouth, rng.uniform(-20, 20), rng.uniform(0.8, 1.2), (3, -2))
    lips, points = picture.mirror(lips, points)
    for x, y in points[0, picture.MIRROR[:2]]:
        near = lips[0, int(y + 0.5) - 8 : int(y + 0.5) + 9, int(x + 0.5) - 8 : int(x + 0.5) + 9].astype(float).mean(-1)
        middle = [(near - 20).sum(axis) @ (np.arange(17) - 8) / (near - 20).sum() for axis in (0, 1)]
        assert np.allclose(middle, (x - int(x + 0.5), y - int(y + 0.5)), atol=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_the_chain_moves_points_and_picture_alike(seed: int) -> None:
    mouth = np.tile(np.array([70.0, 60.0], np.float32), (1, 20, 1))
    mouth[0, 0] = (30, 40)
    moved, points = augment_lips(dots(mouth[:, [0, 5]]), mouth, np.random.default_rng(seed))
    grey = moved[0].astype(float).mean(-1)
    corner = next(points[0, i] for i in (0, picture.MIRROR[0]) if not np.allclose(points[0, i], points[0, 5], atol=1))
    for x, y in (corner, points[0, 5]):
        assert grey[int(y) - 1 : int(y) + 3, int(x) - 1 : int(x) + 3].mean() > grey.mean() + 15


PICTURES: dict[str, Any] = {
    "tone": lambda x, rng: picture.tone(x, 0.8, 20, 1.2),
    "contrast": lambda x, rng: picture.contrast(x, 0.5),
    "saturation": lambda x, rng: picture.saturation(x, 0.3),
    "hue": lambda x, rng: picture.hue(x, 20),
    "resize": lambda x, rng: picture.resize(x, 24, "area", "cubic"),
    "blur": lambda x, rng: picture.blur(x, 1.0),
    "motion_blur": lambda x, rng: picture.motion_blur(x, 6, 30),
    "add_noise": lambda x, rng: picture.add_noise(x, 8, rng),
    "blocks": lambda x, rng: picture.blocks(x, 6, 8, rng),
    "jpeg": lambda x, rng: picture.jpeg(x, 30),
    "text": lambda x, rng: picture.distract(x, "text", False, rng),
    "shape": lambda x, rng: picture.distract(x, "shape", True, rng),
    "line": lambda x, rng: picture.distract(x, "line", True, rng),
    "h264": lambda x, rng: codecs.compress_lips(x, "h264", 28, (5, 11)),
    "mpeg4": lambda x, rng: codecs.compress_lips(x, "mpeg4", 8, (0, 3)),
    "vp9": lambda x, rng: codecs.compress_lips(x, "vp9", 45),
}


def drawn(frames: int) -> NDArray[np.uint8]:
    """A smooth coloured picture with a bright bar that moves 2 pixels a frame."""
    y, x = np.mgrid[:96, :96]
    still = np.stack([60 + x, 150 - y, 90 + (x + y) // 4], axis=-1)
    moving = np.abs(x - 10 - 2 * np.arange(frames)[:, None, None]) < 5
    return np.where(moving[..., None], 240, still).astype(np.uint8)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_change_stay_valid_and_stay_in_place(name: str) -> None:
    lips = drawn(30)
    before = lips.copy()
    first, second = (PICTURES[name](lips, np.random.default_rng(3)) for _ in range(2))
    assert (lips == before).all()
    assert (first == second).all()
    assert first.dtype == np.uint8
    assert first.shape == lips.shape
    assert (first != lips).any()
    # Nothing moves in time or place: every frame looks most like itself, and not like it a pixel beside.
    assert PICTURES[name](lips[:1], np.random.default_rng(3)).shape == (1, 96, 96, 3)
    changed, plain = (x.astype(float).mean(-1) - x.mean((0, 3)) for x in (first, lips))
    for distance in ((1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1)):
        moved = np.roll(plain, distance, (0, 1, 2))[2:-2, 2:-2, 2:-2]
        assert (changed[2:-2, 2:-2, 2:-2] * plain[2:-2, 2:-2, 2:-2]).sum() > (changed[2:-2, 2:-2, 2:-2] * moved).sum()


def test_strengths_do_what_they_say() -> None:
    lips = drawn(2)
    assert np.ptp(picture.saturation(lips, 0), axis=-1).max() <= 1
    assert (picture.saturation(lips, 1) == lips).all()
    assert np.abs(picture.hue(lips, 360).astype(int) - lips).max() <= 1
    weights = np.array([0.299, 0.587, 0.114])
    soft = np.full((1, 96, 96, 3), (140, 120, 100), np.uint8)
    assert np.abs((picture.hue(soft, 30) - soft.astype(float)) @ weights).max() < 1
    assert picture.contrast(lips, 0.5).std() == pytest.approx(lips.std() / 2, rel=0.05)
    assert picture.add_noise(np.full((2, 96, 96, 3), 128, np.uint8), 10, np.random.default_rng(0)).std() == (
        pytest.approx(10, rel=0.02)
    )
    noise = picture.add_noise(np.full((20, 96, 96, 3), 128, np.uint8), 10, np.random.default_rng(0)) - 128.0
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.01  # new in every frame
    assert (picture.add_noise(np.full((1, 96, 96, 3), 254, np.uint8), 10, np.random.default_rng(0)) > 200).all()
    assert len(np.unique(picture.resize(lips, 8, "area", "nearest")[0, :, :, 0])) <= 64
    covered = (picture.blocks(lips, 3, 8, np.random.default_rng(0)) != lips).any(-1).sum((1, 2))
    assert 64 < covered[0] <= 3 * 64
    fixed = picture.distract(np.zeros_like(drawn(30)), "shape", False, np.random.default_rng(1))
    assert (fixed == fixed[0]).all()
    drifting = picture.distract(np.zeros_like(drawn(30)), "shape", True, np.random.default_rng(1))
    assert drifting[-1].any()
    assert (drifting[-1] != drifting[0]).any()
    with pytest.raises(ValueError, match="text, shape, line"):
        picture.distract(lips, "dog", True, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------- voices


def speech(seconds: float = 2.0) -> NDArray[np.float32]:
    """Noise of speech's band whose loudness changes all the time: a correlation finds its place to the sample."""
    rng = np.random.default_rng(1)
    noise = voice.band_limit(0.2 * rng.standard_normal(int(seconds * SAMPLE_RATE)).astype(np.float32), 300, 3000, 4)
    return noise * np.repeat(rng.uniform(0, 1, len(noise) // 160), 160).astype(np.float32)


def lag(plain: NDArray[np.float32], changed: NDArray[np.float32]) -> int:
    """Samples by which a sound is later than another."""
    size = 2 * len(plain)
    match = np.fft.irfft(np.fft.rfft(changed, size) * np.fft.rfft(plain, size).conj(), size)
    best = int(match.argmax())
    return best if best < len(plain) else best - size


VOICES: dict[str, Any] = {
    "equalise": lambda x, rng: voice.equalise(x, rng.uniform(-8, 8, 7)),
    "band_limit": lambda x, rng: voice.band_limit(x, 200, 4000, 12),
    "reverberate": lambda x, rng: voice.reverberate(x, 0.3, 0.5, rng),
    "add_noise": lambda x, rng: voice.add_noise(x, 10, 0.5, rng),
    "gain": lambda x, rng: voice.gain(x, 20),
    "distort": lambda x, rng: voice.distort(x, 12, rng),
    "crackle": lambda x, rng: voice.crackle(x, 0.05, 2, rng),
    "drop_out": lambda x, rng: voice.drop_out(x, 4, 0.03, rng),
    "telephone": lambda x, rng: codecs.telephone(x),
    **{
        f"{codec} {rate}": lambda x, rng, codec=codec, rate=rate: codecs.compress_voice(x, codec, rate)
        for codec in codecs.AUDIO_CODECS
        for rate in (12_000, 24_000, 64_000)
    },
}


@pytest.mark.parametrize("name", VOICES)
def test_voices_change_stay_valid_and_stay_in_place(name: str) -> None:
    plain = speech()
    before = plain.copy()
    first, second = (VOICES[name](plain, np.random.default_rng(2)) for _ in range(2))
    assert (plain == before).all()
    assert (first == second).all()
    assert first.dtype == np.float32
    assert first.shape == plain.shape
    assert np.isfinite(first).all()
    assert np.abs(first).max() <= 1
    assert (first != plain).any()
    for part in (slice(None), slice(0, 8000), slice(-8000, None)):  # no drift, and nothing lost at the ends
        assert abs(lag(plain[part], first[part])) <= SAMPLE_RATE // 1000
        assert np.corrcoef(plain[part], first[part])[0, 1] > 0.6
    for short in (np.zeros(640, np.float32), np.ones(640, np.float32), np.zeros(12_800, np.float32)):
        out = VOICES[name](short, np.random.default_rng(2))
        assert out.shape == short.shape
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1


@pytest.mark.parametrize("stretch", [0.5, 0.93, 1.1, 2.0])
def test_resampling_there_and_back_moves_nothing(stretch: float) -> None:
    back = voice.resample(voice.resample(speech(), stretch), 1 / stretch)
    plain = speech()[: len(back)]
    assert np.corrcoef(plain, back)[0, 1] > 0.98


def test_voice_strengths_do_what_they_say() -> None:
    plain = speech()
    noise = voice.add_noise(plain, 10, 0, np.random.default_rng(0)) - plain
    assert 10 * np.log10((plain**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.1)
    spectrum = np.abs(np.fft.rfft(codecs.telephone(np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32))))
    hertz = np.fft.rfftfreq(32_000, 1 / SAMPLE_RATE)
    inside = spectrum[(hertz > 500) & (hertz < 3000)].mean()
    assert spectrum[hertz > 4000].mean() < 0.01 * inside
    assert spectrum[(hertz > 10) & (hertz < 150)].mean() < 0.05 * inside
    lost = voice.drop_out(np.ones(16_000, np.float32), 1, 0.02, np.random.default_rng(0))
    assert (lost == 0).sum() == 320
    assert (voice.gain(np.full(640, 0.5, np.float32), 20) == 1).all()
    assert not voice.add_noise(np.zeros(640, np.float32), 10, 0, np.random.default_rng(0)).any()


def test_the_chain_leaves_the_voice_where_it_is_and_turns_half_of_them_upside_down() -> None:
    plain, upside_down = speech(), 0
    for seed in range(30):
        changed = augment_voice(plain, np.random.default_rng(seed))
        assert changed.dtype == np.float32
        assert changed.shape == plain.shape
        assert np.isfinite(changed).all()
        size = 2 * len(plain)
        match = np.fft.irfft(np.fft.rfft(changed, size) * np.fft.rfft(plain, size).conj(), size)
        upside_down += match.max() < -match.min()
        upright = changed if match.max() > -match.min() else voice.invert(changed)
        assert abs(lag(plain, upright)) <= SAMPLE_RATE // 1000
    assert 8 <= upside_down <= 22


# ------------------------------------------------------------------------------------------------- codecs


def test_worse_levels_are_worse_and_errors_between_pictures_remain() -> None:
    lips = picture.add_noise(drawn(12), 4, np.random.default_rng(0))
    for codec, levels in {"h264": (15, 25, 35, 45), "mpeg4": (2, 6, 12, 25), "vp9": (10, 35, 50, 63)}.items():
        errors = [((codecs.compress_lips(lips, codec, level) - lips.astype(float)) ** 2).mean() for level in levels]
        assert errors == sorted(errors)
        assert errors[-1] > 1.5 * errors[0]
    # Between key frames a picture is made from the one before: alone, it comes out otherwise.
    together, alone = codecs.compress_lips(lips, "h264", 35), codecs.compress_lips(lips[5:6], "h264", 35)
    assert (together[5] != alone[0]).any()


def test_colours_survive_a_video_codec() -> None:
    lips = np.full((3, 96, 96, 3), (180, 90, 60), np.uint8)
    for codec in codecs.VIDEO_CODECS:
        assert np.abs(codecs.compress_lips(lips, codec, 10, (7, 7)).astype(int) - lips).max() <= 6


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: codecs.compress_lips(drawn(1), "theora", 20), "h264, mpeg4, vp9"),
        (lambda: codecs.compress_lips(drawn(1), "h264", 52), "level of h264 must be 0 to 51"),
        (lambda: codecs.compress_lips(drawn(1), "h264", 20, (0, 16)), "origin must be"),
        (lambda: codecs.compress_voice(speech(), "flac", 20_000), "aac, mp3, opus"),
    ],
)
def test_what_a_codec_cannot_do_is_told(call: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()


def test_a_missing_encoder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = codecs.VIDEO_CODECS["h264"]._replace(encoder="libnosuch")
    monkeypatch.setitem(codecs.VIDEO_CODECS, "h264", gone)
    with pytest.raises(codecs.CodecError, match=r"^This build of PyAV has no encoder libnosuch: .*\.$"):
        codecs.compress_lips(drawn(1), "h264", 20)
