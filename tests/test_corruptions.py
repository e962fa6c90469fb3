"""corruptions.py: each family damages its own stream alone, more with each severity, and moves nothing in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synth import Audio, Video, beeps, flash, gradient, steady, turn, write

from avfake import FPS, SAMPLE_RATE, AvfakeError
from avfake.augment.codecs import VIDEO_CODECS, CodecError
from avfake.evaluation import corruptions
from avfake.evaluation.corruptions import (
    CLEAN,
    FAMILIES,
    SEVERITIES,
    Condition,
    CorruptionError,
    applies,
    conditions,
    corrupt,
)
from avfake.media import Decoder, MediaError

SIZE = (131, 97)  # odd
DURATION = 0.8


class Read(NamedTuple):
    """What detection sees and hears of a file, tick by tick."""

    pictures: list[NDArray[np.uint8] | None]
    audio: NDArray[np.float32] | None

    def shown(self) -> NDArray[np.uint8]:
        """All pictures at the size of the tests' clip (t, h, w, 3)."""
        return np.stack([cv2.resize(picture, SIZE) for picture in self.pictures if picture is not None])


def read(path: Path | str) -> Read:
    pictures, audio = [], []
    for tick in Decoder(path):
        frame = tick.frame
        pictures.append(None if frame is None else frame.sample(np.eye(2, 3), (frame.width, frame.height)))
        audio.append(tick.audio)
    return Read(pictures, None if audio[0] is None else np.concatenate(audio))


def drawing(size: tuple[int, int]) -> Callable[[float], NDArray[np.uint8]]:
    """A picture with fine and coarse detail that moves."""
    ground = gradient(size).astype(float)
    ground += 25 * np.random.default_rng(0).standard_normal((*ground.shape[:2], 1))
    ground = np.clip(ground, 0, 255).astype(np.uint8)
    return lambda time: np.roll(ground, round(40 * time), axis=1)


def speech(duration_s: float) -> NDArray[np.float32]:
    """A sum of harmonics with a little breath, in syllables."""
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(140 + 25 * np.sin(2 * np.pi * 1.3 * t)) / SAMPLE_RATE
    tone = sum(np.sin(k * phase + k) / k for k in range(1, 40))
    breath = 0.2 * np.random.default_rng(0).standard_normal(len(t))
    return (0.12 * (tone + breath) * (0.15 + np.sin(2 * np.pi * 2 * t) ** 2)).astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lossless clip of odd size whose sound is 16 kHz PCM: what is read of it is what was written."""
    video = Video(steady(25, DURATION), drawing(SIZE), "ffv1", pix_fmt="bgr0", time_base=None)
    audio = Audio(speech(DURATION), SAMPLE_RATE, codec="pcm_f32le")
    return str(write(tmp_path_factory.mktemp("clip") / "clip.mkv", video, audio))


@pytest.fixture(scope="module")
def clean(clip: str, tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(corrupt(CLEAN, clip, None, tmp_path_factory.mktemp("clean") / "out.mkv"))


def test_clean_is_the_clip_itself(clip: str, clean: Read) -> None:
    original = read(clip)
    assert len(original.pictures) == DURATION * FPS
    assert np.array_equal(clean.shown(), original.shown())
    assert clean.audio is not None
    assert original.audio is not None
    assert np.abs(clean.audio - original.audio).max() <= 0.51 / 32768


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_damages_its_own_stream_more_and_more(family: str, clip: str, clean: Read, tmp_path: Path) -> None:
    kind = FAMILIES[family].kind
    seen, heard, kept = [], [], []
    for severity in SEVERITIES:
        out = corrupt(Condition(family, severity), clip, None, tmp_path / "out.mkv")
        damaged = read(out)
        assert len(damaged.pictures) == len(clean.pictures)
        assert all(picture is not None for picture in damaged.pictures)
        assert damaged.audio is not None
        assert clean.audio is not None
        assert damaged.audio.shape == clean.audio.shape
        seen.append(np.square(damaged.shown().astype(float) - clean.shown()).mean())
        heard.append(float(np.square(damaged.audio - clean.audio).sum() / np.square(clean.audio).sum()))
        with av.open(str(out)) as container:
            kept.append(sum(1 for _ in container.decode(video=0)))
    if kind == "audio":
        assert seen == [0] * 5
    elif family == "framerate":  # a picture that comes too late may by chance differ less
        assert seen[0] > 0
        assert kept == sorted(set(kept), reverse=True)
    else:
        assert seen[0] > 1
        assert seen == sorted(set(seen))
        assert kept == [len(clean.pictures)] * 5
    if kind == "video":
        assert heard == [0] * 5
    else:
        assert heard[0] > 1e-4
        decibel = 10 * np.log10(heard)
        assert np.diff(decibel).min() > -0.3  # an SNR is not all that codecs and telephones take care of
        assert decibel[-1] > decibel[0]


def test_low_frame_rates_keep_true_times(clip: str, clean: Read, tmp_path: Path) -> None:
    with av.open(str(corrupt(Condition("framerate", 5), clip, None, tmp_path / "out.mkv"))) as container:
        frames = list(container.decode(video=0))
    times = np.array([float(frame.pts * frame.time_base) for frame in frames])
    assert np.diff(times[:-1]).min() >= 0.12 - 1e-6  # 8 fps of 25 are every third or fourth
    assert times[-1] == pytest.approx(DURATION - 1 / FPS)
    for frame, time in zip(frames, times, strict=True):
        assert np.array_equal(frame.to_ndarray(format="rgb24"), clean.pictures[round(time * FPS)])


def test_low_resolution_stays_small(clip: str, tmp_path: Path) -> None:
    for severity, divisor in zip((2, 4), (2, 4), strict=True):
        small = read(corrupt(Condition("resolution", severity), clip, None, tmp_path / "out.mkv")).pictures[0]
        assert small is not None
        assert small.shape == (round(SIZE[1] / divisor), round(SIZE[0] / divisor), 3)
    icon = write(tmp_path / "icon.mp4", Video(steady(25, 0.2), drawing((80, 60))))
    tiny = read(corrupt(Condition("resolution", 5), str(icon), None, tmp_path / "out.mkv")).pictures[0]
    assert tiny is not None
    assert tiny.shape == (16, 21, 3)


# --------------------------------------------------------------------------------------------- alignment


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A flash at 0.4 s with a beep, in a file whose sound begins late, at 48 kHz, with the picture on its side."""
    video = Video(steady(25, 1.2), flash(0.4, 0.32, (66, 48)))
    audio = Audio(beeps(1.2 - 0.24, 48_000, (0.4 - 0.24, 0.8 - 0.24)), start_s=0.24)
    return str(turn(write(tmp_path_factory.mktemp("signal") / "signal.mp4", video, audio), (0, 1, -1, 0)))


@pytest.mark.parametrize("condition", [CLEAN, *conditions(severities=(5,))], ids=str)
def test_flash_and_beep_stay_where_they_were(condition: Condition, signal: str, tmp_path: Path) -> None:
    before, after = read(signal), read(corrupt(condition, signal, None, tmp_path / "out.mkv"))
    assert len(after.pictures) == len(before.pictures)
    assert after.pictures[0] is not None
    assert after.pictures[0].shape[0] > after.pictures[0].shape[1]  # upright
    levels = after.shown().mean((1, 2, 3))
    bright = np.flatnonzero(levels > (levels.min() + levels.max()) / 2)
    off = 0 if condition.family != "framerate" else 2
    assert abs(bright[0] - 10) <= off
    assert abs(bright[-1] - 17) <= off
    assert before.audio is not None
    assert after.audio is not None
    assert after.audio.shape == before.audio.shape
    match = np.correlate(after.audio, before.audio, mode="full")
    assert abs(int(match.argmax()) - (len(before.audio) - 1)) <= SAMPLE_RATE / 1000  # 1 ms


# ------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("family", ["blocks", "noise", "distractors", "reencode", "telephone", "audio-noise"])
def test_the_same_call_gives_the_same_bytes(family: str, clip: str, tmp_path: Path) -> None:
    def content(path: str, seed: int) -> bytes:
        return corrupt(Condition(family, 3), path, None, tmp_path / "out.mkv", seconds=0.8, seed=seed).read_bytes()

    renamed = shutil.copy(clip, tmp_path / "other.mkv")  # what is fetched from a store gets a name of its own
    assert content(clip, 0) == content(renamed, 0)
    if family != "reencode":  # nothing is drawn
        assert content(clip, 0) != content(clip, 1)


# ------------------------------------------------------------------------------------------- ins and outs


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A clip without sound and a sound without picture."""
    folder = tmp_path_factory.mktemp("single")
    silent = write(folder / "silent.mp4", Video(steady(30, 0.6), drawing((64, 48))))
    return str(silent), str(write(folder / "sound.wav", audio=Audio(speech(0.6), SAMPLE_RATE, codec="pcm_s16le")))


@pytest.mark.parametrize("condition", [CLEAN, *conditions(severities=(4,))], ids=str)
def test_streams_that_are_not_there(condition: Condition, tmp_path: Path, single: tuple[str, str]) -> None:
    before = read(single[0])
    seen = read(corrupt(condition, single[0], None, tmp_path / "seen.mkv"))
    assert seen.audio is None
    assert len(seen.pictures) == 15
    if condition.family != "framerate":  # of which little may be seen in so short a clip
        changed = not np.array_equal(seen.shown(), before.shown())
        assert changed == (condition != CLEAN and applies(condition, True, False))
    heard = read(corrupt(condition, None, single[1], tmp_path / "heard.mkv"))
    assert set(map(type, heard.pictures)) == {type(None)}
    original = read(single[1]).audio
    assert heard.audio is not None
    assert original is not None
    assert np.array_equal(heard.audio, original) != (condition != CLEAN and applies(condition, False, True))


def test_sound_from_another_file(clip: str, tmp_path: Path, clean: Read) -> None:
    other = write(tmp_path / "other.wav", audio=Audio(0.5 * speech(0.5), SAMPLE_RATE, codec="pcm_s16le"))
    both = read(corrupt(CLEAN, clip, str(other), tmp_path / "out.mkv"))
    assert np.array_equal(both.shown(), clean.shown())
    assert both.audio is not None
    assert clean.audio is not None
    assert np.abs(both.audio[:8000] - 0.5 * clean.audio[:8000]).max() < 2 / 32768
    assert not both.audio[8000:].any()


@pytest.mark.parametrize("family", ["compression", "aac", "framerate"])
def test_seconds(family: str, clip: str, tmp_path: Path) -> None:
    short = read(corrupt(Condition(family, 2), clip, None, tmp_path / "out.mkv", seconds=0.72))
    assert short.audio is not None
    assert len(short.pictures) == 18
    assert len(short.audio) == 18 * 640


def test_long_sounds_are_changed_in_stretches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = str(write(tmp_path / "long.wav", audio=Audio(speech(6.0), SAMPLE_RATE, codec="pcm_s16le")))
    whole = {
        name: read(corrupt(Condition(name, 2), None, long, tmp_path / "out.mkv")).audio for name in ("aac", "opus")
    }
    monkeypatch.setattr(corruptions._Sound, "STRETCH", 2 * SAMPLE_RATE)
    monkeypatch.setattr(corruptions._Sound, "LAP", SAMPLE_RATE // 2)
    original = read(long).audio
    again = read(corrupt(CLEAN, None, long, tmp_path / "out.mkv")).audio
    assert original is not None
    assert again is not None
    assert np.abs(again - original).max() <= 1.01 / 32768  # rounded where it fades
    for name, once in whole.items():
        pieces = read(corrupt(Condition(name, 2), None, long, tmp_path / "out.mkv")).audio
        assert once is not None
        assert pieces is not None
        error, expected = (np.square(x - original).reshape(-1, 6400).sum(1) for x in (pieces, once))
        assert error.max() < 2 * expected.max()  # a seam is no worse than the codec


def test_a_clip_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        corrupt(Condition("noise", 1), str(tmp_path / "gone.mp4"), None, out)
    (tmp_path / "text.mp4").write_text("not a clip\n")
    with pytest.raises(AvfakeError, match=r"text\.mp4"):
        corrupt(CLEAN, str(tmp_path / "text.mp4"), None, out)
    with pytest.raises(ValueError, match="video"):
        corrupt(CLEAN, None, None, out)
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_a_place_that_cannot_be_written_to_is_named(clip: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptionError, match=r"clip\.mkv under noise-1 .*nowhere"):
        corrupt(Condition("noise", 1), clip, None, tmp_path / "nowhere" / "out.mkv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorruptionError, match="folder"):
        corrupt(CLEAN, clip, None, tmp_path / "folder", seconds=0.2)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_encoder_that_is_missing_is_named(clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VIDEO_CODECS, "h264", VIDEO_CODECS["h264"]._replace(encoder="nonesuch"))
    with pytest.raises(CodecError, match=r"clip\.mkv .*compression-1.*nonesuch"):
        corrupt(Condition("compression", 1), clip, None, tmp_path / "out.mkv")
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------- parameters and naming


def test_conditions() -> None:
    everything = conditions()
    assert len(everything) == len(set(everything)) == 5 * len(FAMILIES)
    assert conditions(["opus", "noise"], (2, 5)) == [
        Condition("opus", 2), Condition("opus", 5), Condition("noise", 2), Condition("noise", 5),
    ]  # fmt: skip
    assert [str(condition) for condition in (CLEAN, Condition("audio-noise", 3))] == ["clean", "audio-noise-3"]
    with pytest.raises(ValueError, match="'nois'; did you mean noise"):
        conditions(["nois"])
    with pytest.raises(ValueError, match="'zzz'; the families are saturation, contrast"):
        conditions(["zzz"])
    with pytest.raises(ValueError, match="severity 6"):
        conditions(["noise"], (1, 6))


def test_applies() -> None:
    assert all(applies(CLEAN, *streams) for streams in ((True, False), (False, True), (True, True)))
    for condition, streams in {"noise": (True, False), "opus": (False, True), "reencode": (True, True)}.items():
        assert (applies(Condition(condition, 1), True, False), applies(Condition(condition, 1), False, True)) == streams


def test_severities_are_told_apart_in_words() -> None:
    for family in FAMILIES.values():
        words = [family.describe(severity) for severity in SEVERITIES]
        assert len(set(words)) == 5
        assert not any("{" in told for told in words)
    assert FAMILIES["compression"].describe(5) == "H.264 at CRF 40"
    assert FAMILIES["reverberation"].describe(4) == "a decay of 0.9 s, +0 dB to the direct sound"


def test_noise_is_as_strong_as_the_official_code_makes_it() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    levels: Any = corruptions._noise(grey, 0.001, np.random.default_rng(0)).std((0, 1))
    # Y, Cb and Cr each sqrt(0.001) / (219 or 224) * 255 ** 2 levels, through the BT.601 matrix.
    luma, chroma = (0.001**0.5 * 255**2 / span for span in (219, 224))
    expected = np.hypot(luma, chroma * np.array([1.402, np.hypot(0.344, 0.714), 1.772]))
    assert levels == pytest.approx(expected, rel=0.02)


def test_blocks_grow_with_the_short_side() -> None:
    for height, width, count in ((64, 64, 16), (300, 200, 16), (800, 520, 32)):
        image: Any = corruptions._blocks(np.zeros((height, width, 3), np.uint8), 16, np.random.default_rng(1))
        covered = int((image[..., 0] == 128).sum())
        assert 0.6 * 64 * count <= covered <= 64 * count
        assert set(np.unique(image)) == {0, 128}
