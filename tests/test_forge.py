from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import correlate

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from avfake.augment.timing import change_frame_rate, change_speed, trim_silence
from avfake.clips import Clip, quantise_audio
from avfake.forge import (
    FORGERS,
    NotForgeable,
    available,
    forge,
    mouth_frozen,
    mouth_late,
    mouth_looped,
    other_voice,
    other_words,
    resynthesise,
    same_person,
    same_recording,
    shift,
    splice,
)
from avfake.forge.common import at_level, level, put, stretch
from avfake.forge.voice import VOICES
from avfake.manifest import ASPECTS, Labels, Row, Segments
from avfake.samples import Sample

GENUINE = Labels(0, 0, 0)
INSIDE = slice(50, 54)  # rows and columns of a crop that lie between the lips
MOUTHS = [name for name in FORGERS if name.startswith("mouth")]
VOICED = [name for name in FORGERS if name.removesuffix("_part") in VOICES]


def voice(frames: int, seed: int, gain: float = 0.2) -> NDArray[np.float32]:
    """Syllables of a buzz with formants, in a rhythm of their own; a low noise between them."""
    rng = np.random.default_rng(seed)
    count = frames * SAMPLES_PER_FRAME
    time = np.arange(count) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(rng.uniform(100, 180) * (1 + 0.1 * np.sin(3 * time))) / SAMPLE_RATE
    buzz = sum(np.sin(n * phase) / n for n in range(1, 25))
    knots = rng.uniform(0, 1, frames // 3 + 2) ** 2
    rise = np.interp(time * FPS / 3, np.arange(len(knots)), knots)
    return quantise_audio(np.clip(gain * buzz * rise + 1e-3 * rng.normal(size=count), -1, 1))


def lips(frames: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A textured face whose mouth opens and closes, and its mouth points."""
    rng = np.random.default_rng(seed)
    skin = cv2.GaussianBlur(rng.uniform(60, 220, (96, 96, 3)), (0, 0), 2)
    angle = np.linspace(np.pi, 3 * np.pi, 13)[:-1]
    inner = np.linspace(np.pi, 3 * np.pi, 9)[:-1]
    pictures, points = [], []
    for gap in 1 + 9 * rng.uniform(0, 1, frames):
        outline = np.stack([48 + 18 * np.cos(angle), 52 + (gap + 3) * np.sin(angle)], axis=-1)
        opening = np.stack([48 + 14 * np.cos(inner), 52 + gap * np.sin(inner)], axis=-1)
        picture = skin.copy()
        cv2.ellipse(picture, (48, 52), (18, int(gap) + 3), 0, 0, 360, (170, 60, 70), -1)
        cv2.ellipse(
            picture, (48, 52), (14, int(gap)), 0, 0, 360, rng.uniform(0, 60, 3), -1
        )  # no two frames are the same
        pictures.append(picture.astype(np.uint8))
        points.append(np.concatenate([outline, opening]))
    return np.stack(pictures), np.round(np.stack(points), 2).astype(np.float32)


def sample(
    frames: int = 80,
    seed: int = 0,
    *,
    seen: bool = True,
    heard: bool = True,
    identity: str | None = "anna",
    labels: Labels | None = None,
    **row: Any,
) -> Sample:
    pictures, points = lips(frames, seed)
    known = Labels(0 if seen else None, 0 if heard else None, 0 if seen and heard else None)
    return Sample(
        Row(f"r{seed}", "v.mp4", None, "toy", "train", identity=identity, labels=labels or known, **row),
        Clip(
            lips=pictures if seen else None,
            audio=voice(frames, seed) if heard else None,
            mouth=points if seen else None,
            face_ok=np.ones(frames, bool),
            start_s=2.0,
            track=0 if seen else None,
        ),
    )


SOURCE = sample()
DONORS = [sample(70, 1, identity="ben"), sample(70, 2), sample(90, 3, seen=False, labels=Labels(audio=1))]


def made(name: str, source: Sample = SOURCE, seed: int = 0) -> Sample:
    """The fake of a forger, with the first seed from ``seed`` on for which it applies."""
    for attempt in range(seed, seed + 20):
        try:
            return FORGERS[name](source, DONORS, np.random.default_rng(attempt))
        except NotForgeable:
            continue
    raise AssertionError(f"{name} never applies")


def equal(a: Sample, b: Sample) -> bool:
    arrays = ("lips", "audio", "mouth", "face_ok")
    return (a.row, a.shift, a.clip.start_s) == (b.row, b.shift, b.clip.start_s) and all(
        np.array_equal(getattr(a.clip, name), getattr(b.clip, name)) for name in arrays
    )


def outside(fake: Sample, aspect: str, per_frame: int) -> NDArray[np.bool_]:
    """What of a stream, of so many values a frame, is not fake in ``aspect``."""
    count = fake.clip.frames * per_frame
    kept = np.full(count, getattr(fake.row.labels, aspect) != 1)
    for number, (start, end) in enumerate(getattr(fake.row.segments, aspect)):
        kept = np.ones(count, bool) if number == 0 else kept
        kept[round(start * FPS * per_frame) : round(end * FPS * per_frame)] = False
    return kept


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(available()),
    seed=st.integers(0, 1000),
    frames=st.integers(2, 70),
    seen=st.booleans(),
    heard=st.booleans(),
    sound=st.sampled_from(["voice", "voice", "silence", "clicks", "full scale"]),
    pictures=st.sampled_from(["face", "face", "black"]),
)
def test_labels_under_every_forger(
    name: str, seed: int, frames: int, seen: bool, heard: bool, sound: str, pictures: str
) -> None:
    source = sample(frames, seed % 7 + 10, seen=seen, heard=heard or not seen)
    if source.clip.audio is not None and sound == "silence":
        source.clip.audio[:] = 0
    if source.clip.audio is not None and sound == "clicks":
        source.clip.audio[:] = 0
        source.clip.audio[:: SAMPLES_PER_FRAME - 1] = -1
    if source.clip.audio is not None and sound == "full scale":
        source.clip.audio[:] = quantise_audio(np.sign(source.clip.audio))
    if source.clip.lips is not None and pictures == "black":
        source.clip.lips[:] = 0
    before = deepcopy(source)
    try:
        fake = FORGERS[name](source, [*DONORS, source], np.random.default_rng(seed))
    except NotForgeable:
        return
    finally:
        assert equal(source, before)
    again = FORGERS[name](source, [*DONORS, source], np.random.default_rng(seed))
    assert equal(fake, again)
    check(name, source, fake)


def check(name: str, source: Sample, fake: Sample) -> None:
    row, clip = fake.row, fake.clip
    assert (row.method, row.original, row.identity) == (f"forge:{name}", source.row.id, source.row.identity)
    assert row.id != source.row.id
    assert name == "shift" or 1 in (row.labels.visual, row.labels.audio, row.labels.sync)
    for aspect in ASPECTS:
        assert getattr(row.labels, aspect) == 1 or not getattr(row.segments, aspect)
        assert all(0 <= start < end <= clip.duration_s + 1e-9 for start, end in getattr(row.segments, aspect))
    if clip.audio is not None:
        assert np.isfinite(clip.audio).all()
        assert np.abs(clip.audio).max() <= 1
        assert np.array_equal(clip.audio, quantise_audio(clip.audio))
    ahead = round((clip.start_s - source.clip.start_s) * FPS)
    if clip.lips is not None:
        assert source.clip.lips is not None
        assert clip.mouth is not None
        assert np.array_equal(clip.mouth, np.round(clip.mouth.astype(float), 2).astype(np.float32))
        kept = outside(fake, "visual", 1)
        assert np.array_equal(clip.lips[kept], source.clip.lips[ahead : ahead + clip.frames][kept])
        assert np.array_equal(clip.lips[:, :16], source.clip.lips[ahead : ahead + clip.frames, :16])
    if clip.audio is not None and name in (*MOUTHS, *VOICED, "splice"):
        assert source.clip.audio is not None
        original = source.clip.audio[ahead * SAMPLES_PER_FRAME :][: len(clip.audio)]
        forged = name if name == "splice" else "voice"
        kept = outside(fake, "sync" if forged == "splice" and clip.lips is not None else "audio", SAMPLES_PER_FRAME)
        assert np.array_equal(clip.audio[kept], original[kept])
    for start, end in ((0, clip.frames // 2), (clip.frames // 3, clip.frames)):
        if start < end:
            for aspect in ASPECTS:
                whole, cut = fake.frame_labels(aspect)[start:end], fake.cut(start, end).frame_labels(aspect)
                # On the very edge of a segment, rounding decides.
                edges = np.array([*getattr(row.segments, aspect), (-1.0, -1.0)]).ravel()
                middles = (np.arange(start, end) + 0.5) / FPS
                sure = np.abs(middles[:, None] - edges).min(axis=1) > 1e-6
                assert np.array_equal(whole[sure], cut[sure], equal_nan=True)


@pytest.mark.parametrize("name", available())
def test_every_forger_applies_to_an_ordinary_clip(name: str) -> None:
    fake = made(name)
    check(name, SOURCE, fake)
    aspects = {"mouth": "visual", "other": "sync", "splice": "sync", "far": "sync"}
    if name != "shift":
        assert getattr(fake.row.labels, aspects.get(name.split("_")[0], "audio")) == 1
    assert not equal(replace(fake, row=SOURCE.row), SOURCE)


@pytest.mark.parametrize("frames", [-15, -7, 4, 15, -16, 30])
def test_a_shift_is_found_by_correlation(frames: int) -> None:
    source = sample(labels=Labels(1, 1, 0), segments=Segments(visual=((1.0, 1.8),), audio=((1.0, 1.8),)))
    assert source.clip.lips is not None
    fake = shift(source, frames)
    assert (fake.shift, fake.row.labels.sync, fake.clip.frames) == (frames, int(abs(frames) > 15), 80 - abs(frames))
    assert fake.clip.lips is not None
    assert fake.clip.audio is not None
    assert source.clip.audio is not None
    # Where the lips of the fake were recorded, and where its voice was.
    lips_at = next(t for t in range(80) if np.array_equal(fake.clip.lips[20], source.clip.lips[t])) - 20
    power = [np.abs(np.asarray(x)).reshape(-1, SAMPLES_PER_FRAME).sum(1) for x in (fake.clip.audio, source.clip.audio)]
    voice_at = int(np.argmax(np.correlate(power[1], power[0], "valid")))
    assert lips_at - voice_at == frames
    # What was fake from 1 s on is still the same lips and the same sound.
    for aspect, at in (("visual", lips_at), ("audio", voice_at)):
        moved = source.frame_labels(aspect)[at : at + fake.clip.frames]
        assert np.array_equal(fake.frame_labels(aspect), moved)


def test_shifts_add_up() -> None:
    assert shift(shift(sample(), 10), 10).row.labels.sync == 1
    back = shift(shift(sample(), 10), -10)
    assert (back.shift, back.row.labels.sync) == (0, 0)
    with pytest.raises(ValueError, match="0 frames"):
        shift(sample(), 0)
    with pytest.raises(NotForgeable, match="fewer than 20"):
        shift(sample(30), 11)
    quiet = sample(60)
    assert quiet.clip.audio is not None
    quiet.clip.audio[25 * SAMPLES_PER_FRAME :] = 0
    with pytest.raises(NotForgeable, match="with sound"):
        shift(quiet, -30)


@pytest.mark.parametrize("audio", [0, 1, None])
def test_another_voice_brings_its_own_label_and_takes_the_loudness(audio: int | None) -> None:
    donor = sample(60, 1, identity="ben", labels=Labels(audio=audio), language="de")
    assert donor.clip.audio is not None
    donor.clip.audio *= 0.1
    fake = other_voice(SOURCE, donor, np.random.default_rng(0))
    assert fake.row.labels == Labels(0, audio, 1)
    assert (fake.row.segments, fake.clip.frames, fake.row.language) == (Segments(), 60, "de")
    assert SOURCE.clip.audio is not None
    assert fake.clip.audio is not None
    assert level(fake.clip.audio) == pytest.approx(level(SOURCE.clip.audio), rel=0.01)


def test_a_donor_in_step_with_the_voice_is_no_donor() -> None:
    converted = resynthesise(SOURCE, "formants", np.random.default_rng(0))
    stranger = replace(converted, row=replace(converted.row, id="x", original=None, identity="ben"))
    with pytest.raises(NotForgeable, match="no stretch of it"):
        other_voice(SOURCE, stranger, np.random.default_rng(0))


def test_other_words_come_from_the_same_person_or_elsewhere_in_the_recording() -> None:
    rng = np.random.default_rng(0)
    later = replace(DONORS[1], row=SOURCE.row, clip=replace(DONORS[1].clip, start_s=SOURCE.clip.start_s + 10))
    near = replace(later, clip=replace(later.clip, start_s=SOURCE.clip.start_s + 0.2))
    assert other_words(SOURCE, later, rng).row.labels.sync == 1
    full = replace(sample(80, 5), row=SOURCE.row, shift=20)  # 30 frames later, less 20 by which its voice was shifted
    full.clip.start_s = SOURCE.clip.start_s + 30 / FPS
    for donor, reason in ((near, "no stretch"), (full, "no stretch"), (DONORS[0], "not known to be")):
        with pytest.raises(NotForgeable, match=reason):
            other_words(SOURCE, donor, rng)
    with pytest.raises(NotForgeable, match="is that of the person"):
        other_voice(SOURCE, DONORS[1], rng)


def test_same_person_and_same_recording() -> None:
    anna, ben, nobody = sample(20, 1), sample(20, 2, identity="ben"), sample(20, 3, identity=None)
    namesake = replace(anna, row=replace(anna.row, corpus="other"))
    assert [same_person(anna, other) for other in (anna, ben, nobody, namesake)] == [True, False, None, None]
    fake = replace(anna, row=replace(anna.row, id="f", original="r1"))
    sibling = replace(anna, row=replace(anna.row, id="g", original="r1"))
    assert same_recording(anna, fake)
    assert same_recording(fake, sibling)
    assert not same_recording(ben, nobody)


@pytest.mark.parametrize(("audio", "segments"), [(0, 0), (None, 0), (1, 1)])
def test_a_splice_is_fake_where_the_donor_is_heard(audio: int | None, segments: int) -> None:
    donor = sample(70, 1, identity="ben", labels=Labels(audio=audio))
    fake = splice(SOURCE, donor, np.random.default_rng(3))
    ((start, end),) = fake.row.segments.sync
    assert fake.row.labels == Labels(0, audio, 1)
    assert fake.row.segments.audio == ((start, end),) * segments
    assert fake.clip.audio is not None
    assert SOURCE.clip.audio is not None
    changed = np.flatnonzero(fake.clip.audio != SOURCE.clip.audio) / SAMPLE_RATE
    assert start <= changed[0] < start + 0.01
    assert end - 0.01 < changed[-1] < end


def test_a_splice_of_a_partly_synthetic_donor_keeps_its_segments() -> None:
    donor = sample(70, 1, identity="ben", labels=Labels(audio=1), segments=Segments(audio=((1.0, 1.4),)))
    fakes = [splice(SOURCE, donor, np.random.default_rng(seed)) for seed in range(30)]
    assert {fake.row.labels.audio for fake in fakes} == {0, 1}
    for fake in fakes:
        ((start, end),) = fake.row.segments.sync
        assert all(start <= a < b <= end + 1e-9 and b - a < 0.4 + 1e-9 for a, b in fake.row.segments.audio)


def test_a_splice_into_sound_alone_must_be_synthetic() -> None:
    alone = sample(seen=False)
    fake = splice(alone, DONORS[2], np.random.default_rng(0))
    assert (fake.row.labels, fake.row.segments.sync) == (Labels(None, 1, None), ())
    assert len(fake.row.segments.audio) == 1
    with pytest.raises(NotForgeable, match="without lips"):
        splice(alone, DONORS[0], np.random.default_rng(0))


def test_a_splice_from_the_clip_itself_comes_from_a_second_away() -> None:
    found = 0
    for seed in range(20):
        try:
            fake = splice(SOURCE, SOURCE, np.random.default_rng(seed))
        except NotForgeable:
            continue
        ((start, end),) = fake.row.segments.sync
        assert fake.clip.audio is not None
        assert SOURCE.clip.audio is not None
        inner = slice(round(start * SAMPLE_RATE) + 200, round(end * SAMPLE_RATE) - 200)
        audio = SOURCE.clip.audio.astype(float)
        match = correlate(audio, fake.clip.audio[inner].astype(float), "valid", "fft")
        match /= np.sqrt(correlate(audio**2, np.ones(inner.stop - inner.start), "valid", "fft"))
        assert abs(int(np.argmax(match)) - inner.start) > SAMPLE_RATE - 1
        found += 1
    assert found > 10


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("name", [name for name in VOICES if name in available()])
def test_a_voice_made_anew_differs_in_step_and_as_loud(name: str, part: bool) -> None:
    fake = resynthesise(SOURCE, name, np.random.default_rng(1), part=part)
    assert fake.row.labels == Labels(0, 1, 0)
    assert len(fake.row.segments.audio) == part
    start, end = fake.row.segments.audio[0] if part else (0.0, SOURCE.clip.duration_s)
    stretch = slice(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
    assert fake.clip.audio is not None
    assert SOURCE.clip.audio is not None
    before, after = SOURCE.clip.audio[stretch], fake.clip.audio[stretch]
    assert np.abs(before - after).max() > 0.02
    assert level(after) == pytest.approx(level(before), rel=0.25 if part else 0.01)
    envelopes = [np.sqrt(np.convolve(x.astype(float) ** 2, np.hanning(640), "same"))[::16] for x in (before, after)]
    a, b = (x - x.mean() for x in envelopes)
    reach = 100
    scores = [a[reach:-reach] @ b[reach + lag : len(b) - reach + lag] for lag in range(-reach, reach + 1)]
    assert abs(int(np.argmax(scores)) - reach) <= 10  # ms


@pytest.mark.parametrize("seed", range(3))
def test_pitch_moves_a_tone_and_formants_move_an_envelope(seed: int) -> None:
    def peak(audio: NDArray[np.float32]) -> float:
        return float(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax())

    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / SAMPLE_RATE)).astype(np.float32)
    semitones = 12 * np.log2(peak(VOICES["pitch"](tone, np.random.default_rng(seed))) / 440)
    assert 1.4 < abs(semitones) < 5.1
    assert peak(VOICES["formants"](tone, np.random.default_rng(seed))) == 440

    # A buzz of 100 Hz through one resonance at 1500 Hz: the strongest harmonic follows the resonance.
    harmonics = np.arange(100, 7900, 100)
    gains = 1 / (1 + ((harmonics - 1500) / 300) ** 2)
    time = np.arange(16_000) / SAMPLE_RATE
    buzz = sum(g * np.sin(2 * np.pi * f * time + f) for f, g in zip(harmonics, gains, strict=True))
    ratio = peak(VOICES["formants"]((0.05 * buzz).astype(np.float32), np.random.default_rng(seed))) / 1500
    assert 0.05 < abs(np.log(ratio)) < 0.25
    assert round(1500 * ratio) % 100 == 0


@pytest.mark.parametrize("name", ["griffin_lim", "mel"])
def test_the_generator_given_is_the_only_one(name: str) -> None:
    made_voices = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        made_voices.append(VOICES[name](voice(20, 0), np.random.default_rng(0)))
        assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(*made_voices)
    assert not np.array_equal(made_voices[0], VOICES[name](voice(20, 0), np.random.default_rng(1)))


@pytest.mark.skipif("world" not in available(), reason="needs pyworld")
@pytest.mark.parametrize("sign", [-1, 1])
def test_world_keeps_the_polarity_and_what_is_below_all_voices(sign: int) -> None:
    source = sample(100, 4)
    assert source.clip.audio is not None
    pulses = np.zeros(len(source.clip.audio))
    pulses[:: SAMPLE_RATE // 120] = sign
    ringing = np.exp(-np.arange(200) / 40) * np.cos(2 * np.pi * 500 * np.arange(200) / SAMPLE_RATE)
    audio = quantise_audio(0.02 + 0.3 * np.convolve(pulses, ringing)[: len(pulses)])
    fake = resynthesise(replace(source, clip=replace(source.clip, audio=audio)), "world", np.random.default_rng(0))
    assert fake.clip.audio is not None
    assert np.sign(((fake.clip.audio - fake.clip.audio.mean()) ** 3).mean()) == sign
    assert fake.clip.audio.mean() == pytest.approx(audio.mean(), rel=0.1)


def test_without_pyworld_its_voices_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avfake.forge.voice.find_spec", lambda name: None)
    assert "world" not in available()
    assert "world_convert_part" not in available()
    assert "mel_part" in available()
    with pytest.raises(NotForgeable, match="pip install pyworld"):
        resynthesise(SOURCE, "world", np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(4))
def test_a_frozen_mouth_is_frozen_and_a_loop_repeats(seed: int) -> None:
    frozen = mouth_frozen(SOURCE, np.random.default_rng(seed))
    ((start, end),) = frozen.row.segments.visual
    first, last = round(start * FPS), round(end * FPS)
    assert frozen.clip.lips is not None
    assert SOURCE.clip.lips is not None
    middle = frozen.clip.lips[:, INSIDE, INSIDE].astype(int)
    assert np.abs(middle[first:last] - SOURCE.clip.lips[first - 1, INSIDE, INSIDE]).max() <= 1
    assert frozen.row.segments.sync == frozen.row.segments.visual  # lips that spoke stand still

    looped = mouth_looped(SOURCE, np.random.default_rng(seed))
    ((start, end),) = looped.row.segments.visual
    first, last = round(start * FPS), round(end * FPS)
    assert looped.clip.lips is not None
    source = SOURCE.clip.lips[:, INSIDE, INSIDE].astype(int)
    shown = [int(np.abs(source - picture[INSIDE, INSIDE]).max(axis=(1, 2, 3)).argmin()) for picture in looped.clip.lips]
    assert shown[:first] == list(range(first))
    assert shown[last:] == list(range(last, 80))
    period = first - min(shown[first:last])
    assert 4 <= period <= 10
    assert max(shown[first - 1 : last]) == first - 1
    steps = np.diff(shown[first - 1 : last])
    assert set(np.abs(steps)) <= {1, period - 1}


@pytest.mark.parametrize(
    ("forger", "sound", "expected"),
    [
        (mouth_frozen, 1.0, 1),
        (mouth_looped, 1.0, 1),
        (mouth_frozen, 0.0, 0),
        (mouth_looped, 0.0, None),
        (mouth_late, 1.0, None),
    ],
)
def test_sync_of_replaced_mouths_is_honest(
    forger: Callable[[Sample, np.random.Generator], Sample], sound: float, expected: int | None
) -> None:
    source = sample()
    assert source.clip.audio is not None
    source.clip.audio *= sound
    source.clip.audio[:SAMPLES_PER_FRAME] = 0.3  # so that the file is not silent
    rng = np.random.default_rng(5)
    if sound:
        source.clip.audio[:] = 0.1 * np.sign(source.clip.audio)
    assert forger(source, rng).row.labels.sync == expected
    unknown = replace(source, row=replace(source.row, labels=Labels(0, 0, None)))
    assert forger(unknown, np.random.default_rng(5)).row.labels.sync is None
    dubbed = replace(source, row=replace(source.row, labels=Labels(0, 0, 1)))
    assert forger(dubbed, np.random.default_rng(5)).row.labels.sync == 1


def test_a_still_mouth_cannot_be_frozen() -> None:
    source = sample()
    assert source.clip.lips is not None
    source.clip.lips[:] = source.clip.lips[0]
    for forger in (mouth_frozen, mouth_looped, mouth_late):
        with pytest.raises(NotForgeable, match="hardly changes"):
            forger(source, np.random.default_rng(0))


def test_no_mouth_is_carried_over_a_cut() -> None:
    source = sample(60)
    assert source.clip.lips is not None
    source.clip.lips[30:] = 255 - source.clip.lips[30:]
    with pytest.raises(NotForgeable, match="changes too much"):
        mouth_late(source, np.random.default_rng(0))


@pytest.mark.parametrize("label", [1, None])
@pytest.mark.parametrize("name", [name for name in available() if name != "shift"])
def test_only_what_is_known_to_be_genuine_is_forged(name: str, label: int | None) -> None:
    aspect = "visual" if name in MOUTHS else "audio" if name in VOICED else "sync"
    fake = replace(SOURCE, row=replace(SOURCE.row, labels=replace(GENUINE, **{aspect: label})))
    for seed in range(3):
        with pytest.raises(NotForgeable):
            FORGERS[name](fake, DONORS, np.random.default_rng(seed))


def test_the_front_door_takes_every_forger_that_applies_and_no_other() -> None:
    def names(source: Sample, count: int) -> set[str]:
        fakes = [forge(source, DONORS, np.random.default_rng(seed)) for seed in range(count)]
        return {str(fake.row.method).removeprefix("forge:") for fake in fakes}

    quick = tuple(name for name in available() if not name.startswith(("world", "mel", "griffin")))
    fakes = [forge(SOURCE, DONORS, np.random.default_rng(seed), quick) for seed in range(90)]
    assert {str(fake.row.method).removeprefix("forge:") for fake in fakes} == set(quick)
    assert names(sample(30, heard=False), 20) <= set(MOUTHS)
    assert names(sample(20, seen=False), 6) <= {*VOICED, "splice"}
    silent = sample(20, seen=False)
    assert silent.clip.audio is not None
    silent.clip.audio[:] = 0
    with pytest.raises(NotForgeable, match="none of the forgers"):
        forge(silent, DONORS, np.random.default_rng(0))
    with pytest.raises(KeyError):
        forge(SOURCE, DONORS, np.random.default_rng(0), ["wav2lip"])


@given(st.integers(20, 400), st.integers(0, 10_000))
def test_a_stretch_lies_in_the_clip(length: int, seed: int) -> None:
    start, end = stretch(length, 10, 50, np.random.default_rng(seed))
    assert 0 <= start < end <= length
    assert 7 <= end - start <= min(50, 0.6 * length)


def test_sound_is_put_in_without_clicks_and_at_its_level() -> None:
    base, piece = voice(40, 5), at_level(voice(20, 6), 0.1)
    assert level(piece) == pytest.approx(0.1, rel=0.02)
    flat = put(np.full(9600, 0.5, np.float32), np.full(3200, -0.5, np.float32), 3200)
    assert np.abs(np.diff(flat)).max() < 0.02
    assert np.array_equal(put(base, piece, 0)[: len(piece) - 200], piece[:-200])  # no fade at the end of the clip
    with pytest.raises(NotForgeable, match="silent"):
        at_level(np.zeros(6400, np.float32), 0.3)


# ------------------------------------------------------------------------------------------------- the whole chain

TONE_HZ = 3000


def _tone(frames: int) -> NDArray[np.float32]:
    """A tone whose loudness changes from frame to frame, as unlike a hum in rhythm as in height."""
    time = np.arange(frames * SAMPLES_PER_FRAME) / SAMPLE_RATE
    loud = np.repeat(np.random.default_rng(8).uniform(0.1, 0.5, frames), SAMPLES_PER_FRAME)
    return quantise_audio(loud * np.sin(2 * np.pi * TONE_HZ * time))


def _marked(visual: tuple[int, int] | None, audio: tuple[int, int] | None, seed: int = 0, frames: int = 100) -> Sample:
    """A sample white in the frames ``visual``, with a tone in the frames ``audio``, fake in both; silent at its ends.

    Elsewhere it hums, in a rhythm that ``seed`` draws. Both the opening of the mouth and the top of the face tell the
    number of the frame, by their brightness: what differs is the mouth of another frame.
    """
    source = sample(frames, 4)
    loud = np.repeat(np.random.default_rng(seed).uniform(0.05, 0.3, frames), SAMPLES_PER_FRAME)
    pictures, sound = source.clip.lips, loud * np.sin(2 * np.pi * 90 * np.arange(len(loud)) / SAMPLE_RATE)
    assert pictures is not None
    pictures[:, :8] = pictures[:, INSIDE, INSIDE] = (40 + 2 * np.arange(frames))[:, None, None, None]
    pictures[:, -8:] = 0
    if visual:
        pictures[slice(*visual), -8:] = 255
    if audio:
        sound[audio[0] * SAMPLES_PER_FRAME : audio[1] * SAMPLES_PER_FRAME] = _tone(audio[1] - audio[0])
    sound[: 5 * SAMPLES_PER_FRAME + 300] = sound[-7 * SAMPLES_PER_FRAME - 300 :] = 0
    segments = Segments(*(((part[0] / FPS, part[1] / FPS),) if part else () for part in (visual, audio)))
    return replace(
        source,
        row=replace(source.row, labels=Labels(int(visual is not None), int(audio is not None), 0), segments=segments),
        clip=replace(source.clip, audio=quantise_audio(sound)),
    )


def _toned(audio: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which samples hold the tone rather than the hum or nothing."""
    smooth = np.ones(160) / 160
    steep, loud = (np.convolve(np.abs(x), smooth, "same") for x in (np.diff(audio, prepend=audio[0]), audio))
    return np.asarray((steep > 0.5 * loud) & (loud > 1e-3))


def _labelled(sample: Sample, aspect: str, per_frame: int) -> NDArray[np.bool_]:
    """Tell which of so many values a frame the labels call fake."""
    return ~outside(sample, aspect, per_frame)


def _off(content: NDArray[np.bool_], labels: NDArray[np.bool_]) -> int:
    """Return the length of the longest run in which content and labels differ."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], content != labels, [0]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _forged_from_marks(name: str, rng: np.random.Generator) -> Sample:
    first, last = sorted(rng.choice(np.arange(12, 88), 2, replace=False).tolist())
    part = (first, last + 1)
    if name == "part":
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(VOICES, "formants", lambda audio, rng: _tone(len(audio) // 640 + 1)[: len(audio)])
            return resynthesise(_marked(part, None), "formants", rng, part=True)
    if name in ("splice", "other_voice"):
        donor = sample(90, 6, identity="ben", labels=Labels(audio=1))
        donor = replace(donor, clip=replace(donor.clip, audio=_tone(90)))
        if name == "splice":
            return splice(_marked(part, None), donor, rng)
        other = _marked(None, part, seed=1).cut(6, 92)  # without silent ends, which are a rhythm in common
        return other_voice(_marked(part, None), replace(other, row=replace(other.row, id="x", identity="ben")), rng)
    if name == "shift":
        return shift(_marked(part, part), int(rng.choice([-15, -8, 3, 15, 22])))
    return (mouth_frozen if name == "frozen" else mouth_late)(_marked(None, part), rng)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["part", "splice", "frozen", "late", "shift", "other_voice"]),
    seed=st.integers(0, 10_000),
    stretched=st.floats(0.9, 1.1),
    fps=st.sampled_from([10, 12.5, 15, 20, 25]),
    cut=st.tuples(st.floats(0, 0.4), st.floats(0.6, 1)),
)
def test_labels_name_what_is_seen_and_heard_through_forge_augment_and_cut(
    name: str, seed: int, stretched: float, fps: float, cut: tuple[float, float]
) -> None:
    try:
        fake = _forged_from_marks(name, np.random.default_rng(seed))
    except NotForgeable:
        reject()
    changed = change_frame_rate(change_speed(trim_silence(fake), stretched), fps)
    start, end = int(cut[0] * changed.clip.frames), int(cut[1] * changed.clip.frames)
    for result in (fake, changed, changed.cut(start, end)):
        pictures, audio = result.clip.lips, result.clip.audio
        assert pictures is not None
        assert audio is not None
        if name in ("frozen", "late"):
            middle = pictures[:, INSIDE, INSIDE].mean((1, 2, 3))
            seen = np.abs(middle - pictures[:, :8].mean((1, 2, 3))) > 1
        else:
            seen = pictures[:, -8:].mean((1, 2, 3)) > 128
        exact = result is fake
        assert _off(seen, _labelled(result, "visual", 1)) <= (0 if exact else 2)
        assert _off(_toned(audio), _labelled(result, "audio", 640)) <= (160 if exact else 320 + 160)
        label, segments = result.row.labels.sync, result.row.segments
        if name == "splice":
            assert segments.sync == segments.audio
        if name == "frozen" and label == 1:
            assert segments.sync == segments.visual
