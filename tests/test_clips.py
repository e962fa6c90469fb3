from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfake import FPS, SAMPLES_PER_FRAME, clips
from avfake.clips import (
    Clip,
    ClipError,
    decode_clip,
    encode_clip,
    extract,
    quantise_audio,
    read_clip,
    write_clip,
)
from avfake.media import Tick
from avfake.storage import StorageError

MAX_S = 0.4  # ten ticks: short chunks, so that a few dozen ticks meet every case

# ---------------------------------------------------------------------------- a file and its faces, made up


@dataclasses.dataclass
class FakeFace:
    """What ``track_faces`` says of one face in one tick."""

    track: int
    ok: bool
    size_px: float = 40.0


class FakeDecoder:
    """Yields ticks whose audio is the tick's number; ``tracks[track][tick]`` is that face's ``ok``."""

    def __init__(self, ticks: int, tracks: dict[int, dict[int, bool]], audio: bool = True, video: bool = True):
        self.ticks, self.tracks, self.audio = ticks, tracks, audio
        self.info = SimpleNamespace(
            path="a.mp4",
            container="mp4",
            video=SimpleNamespace(codec="h264", fps=30.0, width=640, height=480, rotation=0) if video else None,
            audio=SimpleNamespace(codec="aac", sample_rate=44_100, channels=2) if audio else None,
        )

    def __iter__(self) -> Iterator[Tick]:
        for index in range(self.ticks):
            sound = np.full(SAMPLES_PER_FRAME, index / 32768, np.float32)
            frame: Any = SimpleNamespace(index=index)
            yield Tick(index, frame, sound if self.audio else None)


def fake_track_faces(decoder: FakeDecoder, backend: Any) -> Iterator[tuple[Tick, list[FakeFace]]]:
    for tick in decoder:
        yield (
            tick,
            [FakeFace(track, oks[tick.index]) for track, oks in decoder.tracks.items() if tick.index in oks],
        )


def fake_lip_crop(frame: Any, face: FakeFace) -> tuple[np.ndarray, np.ndarray]:
    """A crop that tells its tick (two bytes) and its track."""
    crop = np.zeros((96, 96, 3), np.uint8)
    crop[0, 0] = frame.index % 256, frame.index // 256, face.track
    return crop, np.full((20, 2), frame.index, np.float32)


@pytest.fixture(autouse=True)
def _fake_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "track_faces", fake_track_faces)
    monkeypatch.setattr(clips, "lip_crop", fake_lip_crop)


BACKEND: Any = SimpleNamespace(name="fake")


def run(decoder: FakeDecoder, backend: Any = BACKEND, max_s: float = MAX_S) -> list[Clip]:
    decoder_: Any = decoder
    return list(extract(decoder_, backend, max_s=max_s))


def span(clip: Clip) -> range:
    start = round(clip.start_s * FPS)
    return range(start, start + clip.frames)


def ticks_of_audio(clip: Clip) -> list[int]:
    assert clip.audio is not None
    return [round(float(k) * 32768) for k in clip.audio.reshape(-1, SAMPLES_PER_FRAME)[:, 0]]


def ticks_of_lips(clip: Clip) -> list[int]:
    assert clip.lips is not None
    return [int(crop[0, 0, 0]) + 256 * int(crop[0, 0, 1]) for crop in clip.lips]


# ---------------------------------------------------------------------------------------------- extraction


@st.composite
def decoders(draw: st.DrawFn) -> FakeDecoder:
    ticks = draw(st.integers(0, 70))
    tracks: dict[int, dict[int, bool]] = {}
    for track in range(draw(st.integers(0, 3))):
        # Several stretches, so that a track may vanish and come back under its number.
        oks: dict[int, bool] = {}
        for _ in range(draw(st.integers(1, 2))):
            start = draw(st.integers(0, max(ticks - 1, 0)))
            stop = draw(st.integers(start, ticks))
            bad = draw(st.sets(st.integers(start, stop), max_size=8))
            oks |= {tick: tick not in bad for tick in range(start, stop)}
        tracks[track] = oks
    return FakeDecoder(ticks, tracks, audio=draw(st.booleans()))


@given(decoder=decoders(), max_ticks=st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_clips_cover_everything_once(decoder: FakeDecoder, max_ticks: int) -> None:
    max_s = max_ticks / FPS
    found = run(decoder, max_s=max_s)
    ends = [span(clip).stop for clip in found]
    assert ends == sorted(ends)
    for clip in found:
        assert 0 < clip.frames < 1.5 * max_ticks or clip.frames == max_ticks == 1
        assert clip.duration_s <= 1.5 * max_s + 1e-9
        assert (clip.audio is not None) == decoder.audio
        if clip.audio is not None:
            assert ticks_of_audio(clip) == list(span(clip))
        if clip.lips is None:
            assert clip.track is None
            assert not clip.face_ok.any()

    # No frame in which a face was measured is lost, doubled or moved.
    for track, oks in decoder.tracks.items():
        measured = [
            tick
            for clip in found
            if clip.track == track
            for tick, ok, crop in zip(span(clip), clip.face_ok, ticks_of_lips(clip), strict=True)
            if ok and tick == crop
        ]
        assert measured == [tick for tick in range(decoder.ticks) if oks.get(tick)]

    # Sound: clips with a face may overlap, clips without fill exactly the rest.
    if decoder.audio:
        with_face = {tick for clip in found if clip.lips is not None for tick in span(clip)}
        without = [tick for clip in found if clip.lips is None for tick in span(clip)]
        assert sorted(without) == sorted(set(range(decoder.ticks)) - with_face)
    else:
        assert all(clip.lips is not None for clip in found)


@given(ticks=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_one_track_is_cut_evenly(ticks: int) -> None:
    found = run(FakeDecoder(ticks, {0: dict.fromkeys(range(ticks), True)}))
    lengths = [clip.frames for clip in found]
    assert sum(lengths) == ticks
    assert all(length == 10 for length in lengths[:-1])
    if ticks >= 5:
        assert 5 <= lengths[-1] <= 14
    assert [tick for clip in found for tick in ticks_of_lips(clip)] == list(range(ticks))


def test_gaps_repeat_the_crop_before_even_across_chunks() -> None:
    oks = {tick: tick not in range(7, 13) for tick in range(20)}
    first, second = run(FakeDecoder(20, {0: oks}))
    assert ticks_of_lips(first) == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]
    assert ticks_of_lips(second) == [6, 6, 6, *range(13, 20)]
    assert first.face_ok.tolist() == [True] * 7 + [False] * 3
    assert first.mouth is not None
    assert first.mouth[9, 0, 0] == 6


def test_a_track_begins_at_its_first_measured_face() -> None:
    sound, face = run(FakeDecoder(10, {4: {tick: tick >= 3 for tick in range(10)}}))
    assert (sound.lips, sound.track, sound.frames) == (None, None, 3)
    assert (face.track, face.start_s, face.frames) == (4, 0.12, 7)


def test_extraction_streams() -> None:
    decoder = FakeDecoder(10_000_000, {0: dict.fromkeys(range(100), True)})
    stream = extract(decoder, BACKEND, max_s=MAX_S)  # type: ignore[arg-type]
    assert [next(stream).frames for _ in range(12)] == [10] * 12


def test_no_backend_means_sound_alone() -> None:
    decoder = FakeDecoder(12, {0: dict.fromkeys(range(12), True)})
    (clip,) = run(decoder, backend=None)
    assert clip.lips is None
    assert clip.source["backend"] is None
    (clip,) = run(FakeDecoder(12, {}, video=False))
    assert "width" not in clip.source


def test_source_facts_are_json() -> None:
    (clip,) = run(FakeDecoder(12, {0: dict.fromkeys(range(12), True)}))
    assert json.loads(json.dumps(clip.source)) == {
        "path": "a.mp4",
        "container": "mp4",
        "preprocessing": clips.PREPROCESSING,
        "video_codec": "h264",
        "fps": 30.0,
        "width": 640,
        "height": 480,
        "rotation": 0,
        "backend": "fake",
        "audio_codec": "aac",
        "sample_rate": 44_100,
        "channels": 2,
        "face_px": 40.0,
    }


def test_max_s_below_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="max_s"):
        run(FakeDecoder(3, {}), max_s=0.03)


# --------------------------------------------------------------------------------------------------- clips


def make_clip(frames: int = 30, *, lips: bool = True, audio: bool = True, kind: str = "natural") -> Clip:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96].astype(float)
    pictures = np.empty((frames, 96, 96, 3), np.uint8)
    for t in range(frames):
        # Skin and lips as coloured blobs that open and close, with the noise of an ordinary camera.
        lip = np.exp(-((((x - 48) / 24) ** 2 + ((y - 52 - np.sin(t)) / 10) ** 2) ** 2))[..., None]
        picture = (1 - lip) * [205, 150, 125] + lip * [150, 45, 55] + 20 * np.sin(x / 30 + y / 50)[..., None]
        if kind == "noisy":
            picture += rng.normal(0, 8, picture.shape)
        elif kind == "natural":
            picture += rng.normal(0, 2, picture.shape)
        pictures[t] = np.clip(np.rint(picture), 0, 255)
    sound = rng.uniform(-1, 1, frames * SAMPLES_PER_FRAME).astype(np.float32)
    sound[:2] = -1, 1
    return Clip(
        lips=pictures if lips else None,
        audio=quantise_audio(sound) if audio else None,
        mouth=rng.uniform(-5, 100, (frames, 20, 2)).astype(np.float32) if lips else None,
        face_ok=rng.random(frames) < 0.8 if lips else np.zeros(frames, bool),
        start_s=12.36,
        track=3 if lips else None,
        source={"path": "ä.mp4", "fps": 29.97, "face_px": None},
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("kind", ["natural", "smooth", "noisy"])
def test_round_trip(tmp_path: Path, kind: str) -> None:
    clip = make_clip(kind=kind)
    write_clip(clip, tmp_path / "a.mkv")
    back = read_clip(tmp_path / "a.mkv")
    assert clip.lips is not None
    assert clip.mouth is not None
    assert back.lips is not None
    assert back.mouth is not None
    assert psnr(clip.lips, back.lips) > 40
    # A wrong range or matrix would move the colours by several levels.
    assert np.abs(clip.lips.astype(float).mean((0, 1, 2)) - back.lips.mean((0, 1, 2))).max() < 1
    assert np.array_equal(clip.audio, back.audio)  # type: ignore[arg-type]
    assert np.abs(clip.mouth - back.mouth).max() < 0.0051
    assert np.array_equal(clip.face_ok, back.face_ok)
    assert (back.start_s, back.track, back.source) == (clip.start_s, clip.track, clip.source)
    assert back.duration_s == clip.frames / FPS


@pytest.mark.parametrize(("lips", "audio"), [(True, False), (False, True)])
@pytest.mark.parametrize("frames", [1, 2, 40])
def test_round_trip_of_one_stream(lips: bool, audio: bool, frames: int) -> None:
    clip = make_clip(frames, lips=lips, audio=audio)
    back = decode_clip(encode_clip(clip))
    assert (back.lips is not None, back.mouth is not None, back.audio is not None) == (lips, lips, audio)
    assert back.frames == frames
    if audio:
        assert np.array_equal(clip.audio, back.audio)  # type: ignore[arg-type]


def test_any_player_sees_the_same_picture(tmp_path: Path) -> None:
    clip = make_clip()
    write_clip(clip, tmp_path / "a.mkv")
    with av.open(str(tmp_path / "a.mkv")) as container:
        (video,) = container.streams.video
        assert video.average_rate == FPS
        assert (video.width, video.height, container.streams.audio[0].rate) == (96, 96, 16_000)
        assert abs(float(container.duration or 0) / 1e6 - clip.duration_s) < 0.05
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    assert clip.lips is not None
    assert psnr(clip.lips, np.stack(pictures)) > 38


def test_same_clip_same_bytes_and_second_generation_keeps_all_but_jpeg() -> None:
    data = encode_clip(make_clip())
    assert data == encode_clip(make_clip())
    first = decode_clip(data)
    second = decode_clip(encode_clip(first))
    assert np.array_equal(first.audio, second.audio)  # type: ignore[arg-type]
    assert np.array_equal(first.mouth, second.mouth)  # type: ignore[arg-type]


@given(samples=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50))
def test_quantised_audio_stays_put(samples: list[float]) -> None:
    audio = np.array(samples, np.float32)
    once = quantise_audio(audio)
    assert np.abs(once - audio).max() <= 1 / 32768
    assert np.array_equal(quantise_audio(once), once)


@pytest.mark.parametrize(
    "change",
    [
        {"lips": np.zeros((30, 96, 96, 3), np.float32)},
        {"lips": np.zeros((29, 96, 96, 3), np.uint8)},
        {"audio": np.zeros(30 * SAMPLES_PER_FRAME - 1, np.float32)},
        {"audio": np.zeros(30 * SAMPLES_PER_FRAME, np.float64)},
        {"mouth": np.zeros((30, 68, 2), np.float32)},
        {"face_ok": np.zeros(0, bool)},
        {"face_ok": np.zeros(30, np.uint8)},
        {"lips": None, "mouth": None, "audio": None},
        {"lips": None},
    ],
)
def test_wrong_shapes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lips|audio|mouth|face_ok"):
        dataclasses.replace(make_clip(), **change)


# -------------------------------------------------------------------------------------------------- errors


def assert_one_sentence(error: pytest.ExceptionInfo[ClipError], name: str) -> None:
    text = str(error.value)
    assert name in text
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize("size", [0, 10, 500, 0.3, 0.9])
def test_damaged_files_are_named(tmp_path: Path, size: float) -> None:
    data = encode_clip(make_clip())
    path = tmp_path / "half.mkv"
    path.write_bytes(data[: int(size * len(data)) if size < 1 else int(size)])
    with pytest.raises(ClipError, match="whole clip") as error:
        read_clip(path)
    assert_one_sentence(error, "half.mkv")


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    data = bytearray(encode_clip(make_clip(lips=True, audio=False)))
    start = data.index(b"\xff\xd8\xff", len(data) // 2)
    data[start : start + 200] = bytes(200)
    (tmp_path / "bad.mkv").write_bytes(bytes(data))
    with pytest.raises(ClipError) as error:
        read_clip(tmp_path / "bad.mkv")
    assert_one_sentence(error, "bad.mkv")


def test_a_foreign_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(96, 96, "yuvj420p")))
        container.mux(stream.encode(None))
    with pytest.raises(ClipError, match="not a clip made by avfake") as error:
        read_clip(path)
    assert_one_sentence(error, "foreign.mkv")


def test_another_preprocessing_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PREPROCESSING", 99)
    data = encode_clip(make_clip())
    monkeypatch.undo()
    with pytest.raises(ClipError, match="version 99") as error:
        decode_clip(data, "old.mkv")
    assert_one_sentence(error, "old.mkv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipError) as error:
        read_clip(tmp_path / "none.mkv")
    assert_one_sentence(error, "none.mkv")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error:
        write_clip(make_clip(), tmp_path / "nowhere" / "a.mkv")
    assert_one_sentence(error, "a.mkv")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(b"old")

    def interrupted(source: Path, target: Path) -> None:
        assert source.stat().st_size > 0
        raise error

    monkeypatch.setattr(os, "replace", interrupted)
    error: BaseException = OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="No space left"):
        write_clip(make_clip(), path)
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        write_clip(make_clip(), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mkv"]


def test_a_stretch_is_read_without_the_rest(tmp_path: Path) -> None:
    clip = make_clip()
    whole = decode_clip(encode_clip(clip))
    part = decode_clip(encode_clip(clip), start=3, end=7)
    assert whole.lips is not None
    assert whole.audio is not None
    assert whole.mouth is not None
    np.testing.assert_array_equal(part.lips, whole.lips[3:7])
    np.testing.assert_array_equal(part.audio, whole.audio[3 * SAMPLES_PER_FRAME : 7 * SAMPLES_PER_FRAME])
    np.testing.assert_array_equal(part.mouth, whole.mouth[3:7])
    np.testing.assert_array_equal(part.face_ok, whole.face_ok[3:7])
    assert part.start_s == pytest.approx(clip.start_s + 3 / 25)
    with pytest.raises(ClipError, match="not a whole clip"):
        decode_clip(encode_clip(clip), start=1000)
