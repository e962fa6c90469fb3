"""media/: one clock for pictures and sound, whatever the file; pictures cut out truly; failures told well."""

from __future__ import annotations

import gc
import math
import os
import weakref
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synth import (
    Audio,
    Video,
    add_cover,
    beeps,
    chirp,
    find_beep,
    flash,
    gradient,
    steady,
    turn,
    write,
)

from avfake import FPS, SAMPLES_PER_FRAME
from avfake.media import Decoder, Frame, MediaError, Tick, probe
from avfake.media.clock import SampleLine, StreamClock, Timeline, shown_from
from avfake.media.source import _is_consistent

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "video"
NTSC = Fraction(30_000, 1001)


def sound(ticks: list[Tick]) -> np.ndarray:
    pieces = [tick.audio for tick in ticks]
    assert all(piece is not None and piece.shape == (640,) and piece.dtype == np.float32 for piece in pieces)
    joined = np.concatenate(pieces)
    assert np.isfinite(joined).all()
    assert np.abs(joined).max() <= 1
    return joined


def flash_tick(ticks: list[Tick]) -> int:
    return next(t.index for t in ticks if t.frame is not None and t.frame.thumbnail().mean() > 128)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


def expected_tick(times: list[float], at: float) -> int:
    """First tick that shows the first picture at or after ``at``, by the rule of ``shown_from``."""
    before, after = next((a, b) for a, b in pairwise(times) if b >= at - 1e-6)
    return math.ceil((shown_from(before, after) - times[0]) * FPS - 1e-3)


# ---------------------------------------------------------------------------------------------- the clock itself

rising = st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60).map(lambda gaps: list(np.cumsum(gaps)))


@given(rising, st.floats(0.001, 0.5))
@settings(deadline=None)
def test_timeline_shows_the_right_picture(times: list[float], duration: float) -> None:
    line = Timeline((time, duration, index) for index, time in enumerate(times))
    end = times[-1] + duration
    shown = -1
    for tick in range(math.ceil(end * FPS) + 2):
        now = tick / FPS
        answer = line.at(now)
        if now < times[0] - 0.021 or now >= end:
            assert answer is None
            continue
        if now < times[0] - 0.019:
            continue
        assert answer is not None, "a tick inside the stream has a picture"
        time, index = answer
        assert time == times[index]
        assert index >= shown, "never back in time"
        shown = index
        nearest = min(times, key=lambda other: abs(other - now))
        following = times[index + 1] if index + 1 < len(times) else math.inf
        assert time - now <= 0.1 + 1e-5, "never more than 0.1 s early"
        if time != nearest:
            assert abs(time - now) <= abs(nearest - now) + 2e-6 or following - now > 0.1 - 1e-5


@given(rising)
@settings(deadline=None)
def test_timeline_reads_no_further_than_it_must(times: list[float]) -> None:
    pulled: list[float] = []

    def items():
        for time in times:
            pulled.append(time)
            yield time, 0.04, time

    line = Timeline(items())
    for tick in range(int(times[-1] * FPS)):
        line.at(tick / FPS)
        line.reaches((tick + 0.5) / FPS)
        assert sum(time > (tick + 0.5) / FPS for time in pulled) <= 1


@given(st.lists(st.floats(-5, 5, allow_nan=False), min_size=1, max_size=40))
@settings(deadline=None)
def test_timeline_survives_disorder(times: list[float]) -> None:
    line = Timeline((time, 0.04, time) for time in times)
    shown = [answer[0] for answer in (line.at(tick / FPS) for tick in range(200)) if answer is not None]
    assert shown == sorted(shown)


@given(st.floats(0.0, 100.0))
def test_a_tail_of_half_a_tick_makes_one_more(end: float) -> None:
    line = Timeline(iter([(0.0, end, 0)]))
    ticks = next(index for index in range(2600) if not line.reaches((index + 0.5) / FPS))
    assert abs(ticks - end * FPS) <= 0.501


@given(st.lists(st.tuples(st.integers(-400, 4000), st.integers(0, 1500)), max_size=20))
@settings(deadline=None)
def test_sample_line_puts_samples_where_they_belong(pieces: list[tuple[int, int]]) -> None:
    line, truth = SampleLine(), np.zeros(8000, np.float32)
    end = 0
    for number, (at, length) in enumerate(pieces, 1):
        line.append(np.full(length, number, np.float32), at)
        truth[max(at, end) : max(at + length, end)] = number
        end = max(end, at, at + length)
    assert line.end == end
    got = np.concatenate([line.take(SAMPLES_PER_FRAME) for _ in range(12)])
    assert np.array_equal(got, truth[: len(got)])


def test_clock_begins_on_the_same_side_of_a_wrap() -> None:
    wrap = 2**33 / 90_000
    before, after = StreamClock(10, [], near_s=0.1), StreamClock(10, [], near_s=wrap - 0.1)
    assert before.stamp(wrap - 0.064, 0.064) == pytest.approx(-0.064)
    assert before.stamp(0.0, 0.064) == pytest.approx(0, abs=1e-9)
    assert after.stamp(0.02, 0.04) == pytest.approx(wrap + 0.02)


def test_clock_counts_on_and_closes_leaps_for_both_streams() -> None:
    leaps: list[float] = []
    video, audio = StreamClock(10, leaps), StreamClock(10, leaps)
    assert [video.stamp(t, 0.5) for t in (0.0, None, 1.0, 9000.0, 9000.5)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    # The second stream meets the leap elsewhere, and must land on the same clock.
    assert [audio.stamp(t, 0.25) for t in (0.0, 1.0, 9000.25, 9000.5)] == [0.0, 1.0, 1.75, 2.0]
    assert video.stamp(3.0, 0.5) == pytest.approx(2.5), "restarted stamps"


@given(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=50))
def test_clock_never_leaves_more_than_a_leap(stamps: list[float | None]) -> None:
    clock = StreamClock(10, [])
    out = [clock.stamp(time, 0.04) for time in stamps]
    assert all(abs(b - a) <= 10.1 for a, b in pairwise(out))


# --------------------------------------------------------------------------------------------- flashes and beeps


@pytest.mark.parametrize("fps", [15, 24, 25, NTSC, 30, 50, 60], ids=lambda fps: f"{float(fps):.4g}")
def test_frame_rates(tmp_path: Path, fps: Fraction) -> None:
    times = steady(fps, 3)
    video = Video(times, flash(1), rate=Fraction(fps))
    ticks = list(Decoder(write(tmp_path / "a.mp4", video, Audio(beeps(3, 48_000, [1])))))
    assert len(ticks) == 75
    assert all(tick.frame is not None for tick in ticks)
    assert flash_tick(ticks) == expected_tick(times, 1)
    assert abs(flash_tick(ticks) / FPS - 1) <= 0.04
    assert find_beep(sound(ticks)) == pytest.approx(1, abs=1e-3)
    # Each tick shows the picture nearest in time.
    worst = max(abs(t.frame.time_s - t.index / FPS) for t in ticks[:-1] if t.frame)
    assert worst <= 0.5 / float(fps) + 1e-4


def test_variable_frame_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    times = [0.0, *(np.arange(1, 90) / 30 + rng.uniform(-0.012, 0.012, 89))]
    times = [t for t in times if not 1.2 < t < 2.2]  # a long hold
    ticks = list(
        Decoder(
            write(
                tmp_path / "a.mp4",
                Video(times, flash(0.8)),
                Audio(
                    beeps(
                        3,
                        44_100,
                        [0.8],
                    ),
                    44_100,
                ),
            )
        )
    )
    assert flash_tick(ticks) == expected_tick(times, 0.8)
    assert find_beep(sound(ticks)) == pytest.approx(0.8, abs=1e-3)
    held = [t for t in ticks if 1.25 < t.index / FPS < 2.08]
    assert len({t.frame.time_s for t in held if t.frame}) == 1
    assert all(t.frame is not None for t in ticks)


@pytest.mark.parametrize(
    ("name", "vcodec", "acodec", "steady_base"),
    [
        ("a.mp4", "libx264", "aac", False),
        ("a.mov", "libx264", "aac", False),
        ("a.mkv", "libx265", "flac", False),
        ("a.webm", "libvpx", "libopus", False),
        ("a.webm", "libvpx-vp9", "libopus", False),
        ("a.avi", "mpeg4", "pcm_s16le", True),
        ("a.avi", "mpeg4", "libmp3lame", True),
        ("a.mpg", "mpeg2video", "mp2", True),
        ("a.ts", "libx264", "aac", False),
        ("a.flv", "libx264", "aac", False),
        ("a.mov", "mjpeg", "pcm_f32le", False),
    ],
)
def test_containers(tmp_path: Path, name: str, vcodec: str, acodec: str, steady_base: bool) -> None:
    pix_fmt = "yuvj420p" if vcodec == "mjpeg" else "yuv420p"
    video = Video(steady(25, 2), flash(1), vcodec, pix_fmt=pix_fmt)
    if steady_base:
        video.time_base = None
    decoder = Decoder(write(tmp_path / name, video, Audio(beeps(2, 48_000, [1]), codec=acodec)))
    ticks = list(decoder)
    assert 50 <= len(ticks) <= 53
    # Formats without edit lists begin with the encoder's delay, so sound and picture are compared.
    first_bright = next(t.frame for t in ticks if t.index == flash_tick(ticks))
    delay = 0.020 if (name, acodec) == ("a.avi", "libmp3lame") else 0.002
    assert first_bright.time_s - find_beep(sound(ticks)) == pytest.approx(0, abs=delay)
    assert decoder.warnings == []


def test_gif(tmp_path: Path) -> None:
    video = Video(steady(10, 2), flash(1), "gif", rate=Fraction(10), pix_fmt="rgb8", time_base=None)
    path = write(tmp_path / "a.gif", video)
    ticks = list(Decoder(path))
    assert probe(path).audio is None
    assert len(ticks) == 50
    assert all(t.audio is None and t.frame is not None for t in ticks)
    assert flash_tick(ticks) == pytest.approx(25, abs=2)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("delay", [-0.31, -0.013, 0.05, 0.5])
def test_streams_that_start_apart(tmp_path: Path, name: str, delay: float) -> None:
    times = steady(25, 2, start_s=max(0.0, -delay))
    video = Video(times, flash(times[0] + 1))
    audio = Audio(beeps(2, 48_000, [1]), start_s=max(0.0, delay))
    decoder = Decoder(write(tmp_path / name, video, audio))
    ticks = list(decoder)
    assert find_beep(sound(ticks)) == pytest.approx(1 + max(0.0, delay), abs=1e-3)
    bright = ticks[flash_tick(ticks)].frame
    assert bright.time_s - find_beep(sound(ticks)) == pytest.approx(-delay, abs=2e-3)
    assert decoder.info.video.start_s == pytest.approx(max(0.0, -delay), abs=1e-3)
    if delay < -0.1:
        assert all(t.frame is None for t in ticks if t.index / FPS < -delay - 0.02)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "flac"), ("a.m4a", "aac")])
def test_sample_rates(tmp_path: Path, rate: int, name: str, codec: str) -> None:
    path = write(tmp_path / name, audio=Audio(beeps(2, rate, [0.5, 1.5]), rate, codec=codec))
    ticks = list(Decoder(path))
    samples = sound(ticks)
    assert all(t.frame is None for t in ticks)
    for half, at in ((samples[:16_000], 0.5), (samples[16_000:], 0.5)):
        assert find_beep(half) == pytest.approx(at, abs=1e-3)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.06)
    info = probe(path)
    assert info.video is None
    assert info.audio.sample_rate == rate


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
def test_layouts(tmp_path: Path, layout: str, channels: int) -> None:
    path = write(tmp_path / "a.mp4", audio=Audio(beeps(1, 44_100, [0.4]), 44_100, layout))
    samples = sound(list(Decoder(path)))
    assert probe(path).audio.channels == channels
    assert find_beep(samples) == pytest.approx(0.4, abs=1e-3)
    # The same signal on all channels keeps its level.
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)


def test_centre_channel_is_heard_and_lfe_is_not(tmp_path: Path) -> None:
    voice = beeps(1, 48_000, [0.4])
    levels = []
    for gains in ([0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]):
        audio = Audio(voice, layout="5.1", codec="pcm_f32le", gains=gains)
        levels.append(np.abs(sound(list(Decoder(write(tmp_path / "a.mov", audio=audio))))).max())
    assert levels[0] > 0.1
    assert levels[1] == 0


def test_not_finite_samples_become_silence(tmp_path: Path) -> None:
    samples = beeps(1, 48_000, [0.4])
    samples[:100] = np.nan
    samples[100:200] = np.inf
    samples[40_000:] = 7.0
    path = write(tmp_path / "a.mov", audio=Audio(samples, codec="pcm_f32le"))
    got = sound(list(Decoder(path)))
    assert np.abs(got[:5000]).max() < 1e-6
    assert find_beep(got[:13_000]) == pytest.approx(0.4, abs=1e-3)
    assert got[-500:-100] == pytest.approx(1, abs=0.01)


def test_gap_in_the_sound_is_kept_as_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for start in (0.0, 0.7, 1.5):
            frame = av.AudioFrame.from_ndarray((chirp(48_000)[None] * 32_000).astype(np.int16), layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), round(start * 48_000)
            container.mux(stream.encode(frame))
    samples = sound(list(Decoder(path)))
    for start in (0.0, 0.7, 1.5):
        begin = max(0, round((start - 0.02) * 16_000))
        found = find_beep(samples[begin : begin + 2000]) + begin / 16_000
        assert found == pytest.approx(start, abs=1.1e-3)  # Matroska counts in ms


def test_time_stamps_that_restart(tmp_path: Path) -> None:
    """Two broadcasts, one after the other in one file, stay together."""
    video = Video(steady(25, 11), flash(1), options={"preset": "ultrafast"})
    path = write(tmp_path / "a.ts", video, Audio(beeps(11, 16_000, [1]), 16_000))
    path.write_bytes(path.read_bytes() * 2)
    ticks = list(Decoder(path))
    assert 545 <= len(ticks) <= 560
    for part in (ticks[:260], ticks[260:]):
        bright = next(t.frame.time_s for t in part if t.frame is not None and t.frame.thumbnail().mean() > 128)
        beep = part[0].index / FPS + find_beep(sound(part))
        assert bright - beep == pytest.approx(0, abs=0.04)


# ------------------------------------------------------------------------------------------------------- pictures

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv411p", "yuva420p", "nv12", "gray", "yuv420p10le",
    "yuv422p10le", "p010le", "gray10le", "rgb24", "bgra", "gbrp",
]  # fmt: skip


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", [(321, 241), (640, 360)])
def test_sample_equals_conversion_of_the_whole(layout: str, size: tuple[int, int]) -> None:
    rgb = gradient(size)
    frame = Frame(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=layout, threads=1), 0.0)
    if layout.startswith("gray"):
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert (frame.width, frame.height) == size
    assert psnr(frame.sample(np.eye(2, 3), size), rgb) > 40
    for matrix in ([[0.7, 0.2, 30], [-0.2, 0.7, 60]], [[2.4, 0.3, 10], [-0.3, 2.3, 40]], [[1.4, 0, -30], [0, 1.4, 9]]):
        got = frame.sample(np.array(matrix), (96, 64))
        assert got.shape == (64, 96, 3)
        assert got.dtype == np.uint8
        assert psnr(got, finely(rgb, np.array(matrix), (96, 64))) > 40
    assert frame.thumbnail().shape == (18, 32)
    assert frame.thumbnail().dtype == np.uint8


def finely(rgb: np.ndarray, matrix: np.ndarray, size: tuple[int, int], times: int = 4) -> np.ndarray:
    """Reference: warp at ``times`` the resolution, then average."""
    linear = matrix[:, :2]
    shift = matrix[:, 2] + linear @ np.full(2, 0.5 / times - 0.5)
    big = cv2.warpAffine(
        rgb,
        np.column_stack([linear / times, shift]),
        (size[0] * times, size[1] * times),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(big, size, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(("name", "tag"), [("ITU709", 1), ("ITU601", 5)])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p10le"])
def test_colour_matrix_and_range(name: str, tag: int, levels: int, layout: str) -> None:
    rgb = gradient((320, 180))
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    picture = picture.reformat(format=layout, dst_colorspace=name, dst_color_range=levels)
    picture.colorspace, picture.color_range = tag, levels
    assert psnr(Frame(picture, 0.0).sample(np.eye(2, 3), (320, 180)), rgb) > 40


def test_unspecified_colours_follow_the_height() -> None:
    rgb = np.full((720, 64, 3), (200, 60, 40), np.uint8)
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p", dst_colorspace="ITU709")
    picture.colorspace = 2
    assert psnr(Frame(picture, 0.0).sample(np.eye(2, 3), (64, 720)), rgb) > 40


@pytest.mark.parametrize("shrink", [1.5, 2.0, 3.3, 5.0, 8.7])
def test_shrinking_does_not_alias(shrink: float) -> None:
    checker = np.indices((400, 400)).sum(axis=0) % 2 * 255
    picture = av.VideoFrame.from_ndarray(checker.astype(np.uint8), format="gray")
    cut = Frame(picture, 0.0).sample(np.array([[shrink, 0, 20], [0, shrink, 20]]), (40, 40))
    assert cut.mean() == pytest.approx(127.5, abs=4)
    assert cut.std() < (40 if shrink < 2 else 12)


def test_outside_of_the_picture_edges_repeat() -> None:
    picture = gradient((64, 48))
    frame = Frame(av.VideoFrame.from_ndarray(picture, format="rgb24"), 0.0)
    for scale in (1, 6):
        far = frame.sample(np.array([[scale, 0, -5000], [0, scale, -5000]]), (8, 8))
        assert np.abs(far - picture[:scale, :scale].mean(axis=(0, 1))).max() < 1
        assert frame.sample(np.array([[scale, 0, 900], [0, scale, 900]]), (8, 8)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("matrix", "rotation", "upright"),
    [
        ((1, 0, 0, 1), 0, lambda p: p),
        ((0, 1, -1, 0), 90, lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), 180, lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), 270, lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, 1), 180, lambda p: p[:, ::-1]),
    ],
)
def test_rotation_metadata(tmp_path: Path, matrix, rotation: int, upright) -> None:
    stored = gradient((128, 72))
    path = turn(write(tmp_path / "a.mp4", Video(steady(25, 0.2), lambda _: stored)), matrix)
    want = np.ascontiguousarray(upright(stored))
    info = probe(path).video
    frame = next(iter(Decoder(path))).frame
    assert (info.width, info.height) == (frame.width, frame.height) == want.shape[1::-1]
    if matrix != (-1, 0, 0, 1):
        assert info.rotation == rotation
    assert psnr(frame.sample(np.eye(2, 3), want.shape[1::-1]), want) > 35


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    stored = gradient((96, 96))
    path = write(tmp_path / "a.mp4", Video(steady(25, 0.2), lambda _: stored, aspect=Fraction(4, 3)))
    frame = next(iter(Decoder(path))).frame
    assert (frame.width, frame.height) == (128, 96)
    want = cv2.resize(stored, (128, 96), interpolation=cv2.INTER_LINEAR)
    assert psnr(frame.sample(np.eye(2, 3), (128, 96)), want) > 35


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx265", "yuv420p10le", (64, 48)),
        ("ffv1", "yuv420p", (65, 49)),
        ("ffv1", "bgr0", (33, 17)),
        ("libx264", "yuv444p", (63, 47)),
    ],
)
def test_deep_and_odd_sized_video(tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]) -> None:
    picture = gradient(size)
    path = write(tmp_path / "a.mkv", Video(steady(25, 0.4), lambda _: picture, codec, pix_fmt=pix_fmt))
    ticks = list(Decoder(path))
    assert len(ticks) == 10
    assert probe(path).video.pixel_format == pix_fmt
    assert psnr(ticks[5].frame.sample(np.eye(2, 3), size), picture) > 35


def test_interlaced_video_is_deinterlaced(tmp_path: Path) -> None:
    """Two fields of a moving bar leave a comb, which must be gone."""

    def combed(time: float) -> np.ndarray:
        picture = np.full((96, 128, 3), 30, np.uint8)
        left = 10 + round(time * 100)
        picture[0::2, left : left + 30] = 220
        picture[1::2, left + 4 : left + 34] = 220
        return picture

    options = {"x264-params": "tff=1", "preset": "ultrafast", "crf": "1"}
    path = write(tmp_path / "a.mp4", Video(steady(25, 0.8), combed, options=options))
    assert probe(path).video.interlaced
    ticks = list(Decoder(path))
    assert len(ticks) == 20
    assert [round(t.frame.time_s * FPS) for t in ticks] == list(range(20))
    middle = ticks[10].frame.sample(np.eye(2, 3), (128, 96))[20:76, :, 0].astype(int)
    comb = np.abs(2 * middle[1:-1] - middle[:-2] - middle[2:]).mean()
    raw = combed(0.4)[20:76, :, 0].astype(int)
    assert comb < 0.5 * np.abs(2 * raw[1:-1] - raw[:-2] - raw[2:]).mean()


# -------------------------------------------------------------------------------------------------- which streams


def test_video_without_sound(tmp_path: Path) -> None:
    ticks = list(Decoder(write(tmp_path / "a.mp4", Video(steady(25, 1), flash(0.4)))))
    assert len(ticks) == 25
    assert all(t.audio is None and t.frame is not None for t in ticks)


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", gradient((64, 64)))[1].tobytes()
    path = add_cover(write(tmp_path / "a.mp3", audio=Audio(beeps(1, 44_100, [0.4]), 44_100, codec="libmp3lame")), jpeg)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1, "the cover is there"
    assert probe(path).video is None
    ticks = list(Decoder(path))
    assert all(t.frame is None for t in ticks)
    assert find_beep(sound(ticks)) == pytest.approx(0.4, abs=1e-3)


def test_one_stream_outlives_the_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Video(steady(25, 1), flash(0.4)), Audio(beeps(2, 48_000, [1.4]), codec="flac"))
    ticks = list(Decoder(path))
    assert [t.index for t in ticks if t.frame is not None] == list(range(25))
    assert find_beep(sound(ticks)) == pytest.approx(1.4, abs=1e-3)
    path = write(tmp_path / "b.mkv", Video(steady(25, 2), flash(0.4)), Audio(beeps(1, 48_000, [0.4]), codec="flac"))
    ticks = list(Decoder(path))
    assert len(ticks) == 50
    assert not sound(ticks)[16_000:].any()


# ------------------------------------------------------------------------------------------- streaming and threads


def test_memory_does_not_grow_with_duration(tmp_path: Path) -> None:
    video = Video(steady(25, 20), flash(1, size=(32, 32)), options={"preset": "ultrafast"})
    path = write(tmp_path / "a.mp4", video, Audio(beeps(20, 16_000, [1]), 16_000))
    gc.disable()  # frames must go by themselves, not when the collector happens to run
    try:
        alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        most = 0
        for tick in Decoder(path):
            if tick.frame is not None:
                alive.add(tick.frame)
                tick.frame.sample(np.eye(2, 3), (8, 8))
            most = max(most, len(alive))
    finally:
        gc.enable()
    assert most <= 3


def test_threads_give_the_same_pictures(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Video(steady(25, 1), flash(0.4)), Audio(beeps(1, 48_000, [0.4])))
    one, two = list(Decoder(path)), list(Decoder(path, threads=2))
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.frame.time_s == b.frame.time_s
        assert np.array_equal(a.frame.thumbnail(), b.frame.thumbnail())
        assert np.array_equal(a.audio, b.audio)


def test_files_are_closed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Video(steady(25, 1), flash(0.4)), Audio(beeps(1, 48_000, [0.4])))

    def is_open() -> bool:
        links = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
        return str(path) in links

    probe(path)
    assert not is_open()
    ticks = iter(Decoder(path))
    next(ticks)
    assert is_open()
    ticks.close()
    assert not is_open()
    decoder = Decoder(path)
    list(decoder)
    assert not is_open()
    with pytest.raises(RuntimeError, match="once"):
        next(iter(decoder))


# ------------------------------------------------------------------------------------------------ what goes wrong


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MP4 with its index in front."""
    noise = np.random.default_rng(0).integers(0, 255, (75, 48, 64, 3), np.uint8)
    video = Video(steady(25, 3), lambda time: noise[round(time * 25)])
    path = tmp_path_factory.mktemp("whole") / "a.mp4"
    return write(path, video, Audio(beeps(3, 48_000, [1])), {"movflags": "faststart"}).read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"Dear diary,\nthis is not a film.\n" * 40, "text"),
        ("Größe\n".encode() * 40, "text"),
        (bytes(range(1, 256)) * 90, "damaged"),
        (b"\0" * 5000, "damaged"),
    ],
)
def test_files_that_are_no_media(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        probe(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        Decoder(tmp_path / "none.mp4")
    with pytest.raises(MediaError, match="directory"):
        Decoder(tmp_path)
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(MediaError, match="permission"):
            Decoder(path)


@pytest.mark.parametrize("linked", [False, True])
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, linked: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        link = tmp_path / f"{path.name}.mp4"
        link.symlink_to(path)
        with pytest.raises(MediaError, match=r"a pipe or device, not a file; save it to a file first\.$"):
            Decoder(link if linked else path)


@pytest.mark.parametrize("size", [(4096, 16), (16, 4096), (4097, 2), (3, 1025)])
@pytest.mark.parametrize("pixels", ["yuv420p", "rgb24"])
def test_strips_can_be_sampled_as_a_whole(size: tuple[int, int], pixels: str) -> None:
    width, height = size
    picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="rgb24")
    frame = Frame(picture.reformat(format=pixels), 0.0)
    scale = max(size) / 128
    whole = np.array([[scale, 0, (width - 128 * scale) / 2], [0, scale, (height - 128 * scale) / 2]])
    sampled = frame.sample(whole, (128, 128))
    assert sampled.shape == (128, 128, 3)
    assert np.abs(sampled.astype(int) - 200).max() <= 3
    assert frame.thumbnail().shape == (18, 32)


def test_names_that_look_like_addresses(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clip:1.mp4", "concat:a|b.mp4", "100%03d.mp4", "ä ö.mp4"):
        (tmp_path / name).write_bytes(whole)
        assert probe(name).video is not None


def test_index_that_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Video(steady(25, 1), flash(0.4)), Audio(beeps(1, 48_000, [0.4])))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"index \(moov\) is missing.*fetch the complete file"):
        probe(path)


def test_file_that_is_cut_short(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    decoder = Decoder(path)
    ticks = list(decoder)
    assert 25 <= len(ticks) < 60
    assert any("ends early" in warning for warning in decoder.warnings)


@pytest.mark.parametrize(("planar", "planes", "sound"), [(True, 3, False), (True, 2, True), (False, 1, True)])
def test_a_frame_that_claims_other_channels_than_it_has_is_not_read(planar: bool, planes: int, sound: bool) -> None:
    # Damaged AAC does that; reading such a frame crashes the process.
    frame = SimpleNamespace(
        format=SimpleNamespace(is_planar=planar), planes=[None] * planes, layout=SimpleNamespace(nb_channels=2)
    )
    assert _is_consistent(frame) is sound  # type: ignore[arg-type]


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (75, 48, 64, 3), np.uint8)
    video = Video(steady(25, 3), lambda time: noise[round(time * 25)], "png", pix_fmt="rgb24")
    path = write(tmp_path / "a.mov", video, Audio(beeps(3, 44_100, [1, 2.5]), 44_100))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    length = len(content) - start
    rng = np.random.default_rng(1)
    for position in rng.integers(start + length // 3, start + length // 2, 400):
        content[position] ^= 0xFF
    path.write_bytes(content)
    decoder = Decoder(path)
    ticks = list(decoder)
    assert len(ticks) in (75, 76)
    assert any("damaged" in warning for warning in decoder.warnings)
    samples = sound(ticks)
    assert find_beep(samples[32_000:]) + 2 == pytest.approx(2.5, abs=5e-3)


def test_stream_without_a_decoder_is_left_out_and_told(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(whole.replace(b"avc1", b"zzz1"))
    decoder = Decoder(path)
    assert decoder.info.video is None
    assert decoder.info.audio is not None
    assert "video stream" in decoder.warnings[0]
    write(path, Video(steady(25, 1), flash(0.4)))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(MediaError, match=r"video stream .* convert"):
        Decoder(path)


def test_file_without_picture_and_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    with pytest.raises(MediaError, match=r"neither|text"):
        probe(path)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_garbled_files_never_crash(data: st.DataObject, whole: bytes, tmp_path_factory) -> None:
    content = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=20)):
        if position < len(content):
            content[position] = value
    path = tmp_path_factory.getbasetemp() / "garbled.mp4"
    path.write_bytes(content)
    try:
        decoder = Decoder(path)
    except MediaError:
        return
    for tick in decoder:
        if tick.index > 500:
            break


# -------------------------------------------------------------------------------------------------- genuine clips


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not here")
def test_corpus_clips() -> None:
    for path in sorted(CORPUS.glob("*.mp4"))[::160]:
        decoder = Decoder(path)
        count = sum(1 for tick in decoder if tick.frame is None or tick.frame.thumbnail().any())
        assert decoder.info.duration_s is not None
        assert count == pytest.approx(decoder.info.duration_s * FPS, abs=3)
        assert decoder.warnings == []
