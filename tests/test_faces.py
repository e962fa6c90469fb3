"""Faces: the store, the crop geometry, tracking with a scripted backend, and both real backends on a portrait."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import urllib.error
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avfake.faces import CROP, Backend, FaceError, Region, TrackedFace, lip_crop, load_backend, store, track_faces
from avfake.faces.base import apply
from avfake.faces.crop import TEMPLATE, crop_matrix, similarity, stable_points
from avfake.media import Frame, Tick

MOUTH = TEMPLATE[3]


def turn(degrees: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


# ---------------------------------------------------------------------------------------------------- model store


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A store of two tiny models in an empty cache, with neither source reachable."""
    contents = {name: f"the bytes of {name}".encode() for name in store._MODELS}
    models = {
        name: store._Model(f"{name}.tflite", hashlib.sha256(data).hexdigest(), f"https://models/{name}", f"m/{name}")
        for name, data in contents.items()
    }

    def unreachable(url: str, timeout: float) -> io.BytesIO:
        assert timeout <= 10
        raise urllib.error.URLError("no route")

    def no_pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no index\n")

    monkeypatch.setattr(store, "_MODELS", models)
    monkeypatch.setenv("AVFAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("subprocess.run", no_pip)
    return contents


def serve(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda url, timeout: io.BytesIO(contents[url.removeprefix("https://models/")])
    )


def serve_wheel(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[list[str]]:
    calls: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(Path(folder, "mediapipe-0-any.whl"), "w") as wheel:
            for name, data in contents.items():
                wheel.writestr(f"m/{name}", data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", pip)
    return calls


def test_store_prefers_the_cache_then_the_address(
    shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as online:
        serve(online, shelf)
        path = store.fetch("face_landmark")
    assert path == tmp_path / "cache" / "face_landmark.tflite"
    assert path.read_bytes() == shelf["face_landmark"]
    assert store.fetch("face_landmark") == path  # and now without any network
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_store_falls_back_to_one_wheel_for_both(shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = serve_wheel(monkeypatch, shelf)
    for name in shelf:
        assert store.fetch(name).read_bytes() == shelf[name]
    (command,) = calls
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command


def test_store_refuses_wrong_bytes_and_mends_a_damaged_file(
    shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve(monkeypatch, {"face_landmark": b"something else"})
    serve_wheel(monkeypatch, shelf)
    path = store.fetch("face_landmark")
    path.write_bytes(b"cut off")
    assert store.fetch("face_landmark").read_bytes() == shelf["face_landmark"]
    assert "damaged" in caplog.text
    assert "SHA-256" in caplog.text


@pytest.mark.parametrize("wheel", ["absent", "foreign", "changed"])
def test_store_says_what_was_tried_and_the_cure(
    shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: str
) -> None:
    if wheel != "absent":
        serve_wheel(monkeypatch, {} if wheel == "foreign" else dict.fromkeys(shelf, b"other"))
    with pytest.raises(FaceError) as caught:
        store.fetch("face_detection")
    text = str(caught.value)
    assert "no route" in text
    assert "mediapipe==0.10.21" in text
    assert str(tmp_path / "cache") in text
    assert hashlib.sha256(shelf["face_detection"]).hexdigest() in text


# -------------------------------------------------------------------------------------------------- crop geometry


@pytest.mark.parametrize("what", ["file", "folder"])
def test_store_says_what_cannot_be_read(
    shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "face_landmark.tflite").write_bytes(shelf["face_landmark"])
    monkeypatch.setattr(Path, "read_bytes" if what == "file" else "is_file", denied)
    with pytest.raises(FaceError, match=r"face_landmark\.tflite cannot be read .*AVFAKE_CACHE") as caught:
        store.fetch("face_landmark")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("shelf")
def test_store_fetches_nothing_that_it_cannot_keep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv("AVFAKE_CACHE", str(tmp_path / "taken"))
    monkeypatch.setattr(store, "download", lambda *_: pytest.fail("fetched all the same"))
    with pytest.raises(FaceError, match=r"cannot be kept in .*taken.* set AVFAKE_CACHE to a folder you can write"):
        store.fetch("face_landmark")


numbers = st.floats(-1000, 1000)


@given(st.floats(0.05, 20), st.floats(-180, 180), numbers, numbers)
def test_similarity_is_recovered(scale: float, degrees: float, x: float, y: float) -> None:
    linear = scale * turn(degrees)
    moved = TEMPLATE @ linear.T + [x, y]
    assert np.allclose(similarity(TEMPLATE, moved), linear, atol=1e-9 * (1 + scale))
    matrix = crop_matrix(moved)
    assert np.allclose(apply(matrix, TEMPLATE), moved, atol=1e-6)


@given(st.lists(st.tuples(numbers, numbers), min_size=4, max_size=4))
def test_crop_of_any_points_is_finite_with_the_mouth_in_place(points: list[tuple[float, float]]) -> None:
    stable = np.array(points)
    matrix = crop_matrix(stable)
    assert np.isfinite(matrix).all()
    assert np.allclose(apply(matrix, MOUTH[None]), stable[3], atol=1e-6)


def test_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    target = TEMPLATE + rng.normal(0, 5, TEMPLATE.shape)
    p, q = TEMPLATE - TEMPLATE.mean(0), target - target.mean(0)
    design = np.concatenate([np.stack([p[:, 0], -p[:, 1]], 1), np.stack([p[:, 1], p[:, 0]], 1)])
    cos, sin = np.linalg.lstsq(design, np.concatenate([q[:, 0], q[:, 1]]), rcond=None)[0]
    assert np.allclose(similarity(TEMPLATE, target), [[cos, -sin], [sin, cos]])


@given(st.floats(10, 500), st.floats(-3, 3))
def test_region_views_its_own_square(size: float, angle: float) -> None:
    region = Region(100.0, 50.0, size, angle)
    corners = apply(region.matrix(96), np.array([[-0.5, -0.5], [95.5, -0.5], [95.5, 95.5], [-0.5, 95.5]]))
    assert np.allclose(corners.mean(0), [100, 50])
    assert np.allclose(np.linalg.norm(corners[1] - corners[0]), size)
    assert np.allclose(corners[1] - corners[0], size * np.array([math.cos(angle), math.sin(angle)]))


# ------------------------------------------------------------------- tracking, with a backend that knows the answer


def face_68() -> np.ndarray:
    """A drawn face in iBUG order: eyes one unit apart about (0, 0)."""

    def oval(x: float, y: float, width: float, height: float, degrees: Iterable[float]) -> list[tuple[float, float]]:
        return [(x + width * math.cos(math.radians(d)), y + height * math.sin(math.radians(d))) for d in degrees]

    points = oval(0, 0.3, 1.1, 1.5, np.linspace(180, 0, 17))
    points += oval(-0.5, -0.2, 0.35, 0.15, np.linspace(180, 360, 5))
    points += oval(0.5, -0.2, 0.35, 0.15, np.linspace(180, 360, 5))
    points += [(0, y) for y in (0.0, 0.2, 0.4, 0.58)]
    points += [(x, 0.7) for x in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    for x in (-0.5, 0.5):
        points += oval(x, 0, 0.2, 0.08, (180, 240, 300, 0, 60, 120))
    points += oval(0, 1.07, 0.4, 0.2, np.arange(180, 540, 30))
    points += oval(0, 1.07, 0.3, 0.08, np.arange(180, 540, 45))
    return np.array(points)


FACE = face_68()


@dataclass
class Face:
    """A face that the scripted backend will find: middle between the eyes, their distance, roll in degrees."""

    x: float
    y: float
    eyes: float = 50.0
    roll: float = 0.0

    @property
    def points(self) -> np.ndarray:
        return (self.eyes * FACE @ turn(self.roll).T + [self.x, self.y]).astype(np.float32)


@dataclass(eq=False)
class Scene:
    """Stands for a frame: where its faces are, and what its thumbnail looks like."""

    faces: list[Face]
    shot: int = 0
    light: float = 0.0
    width: int = 1280
    height: int = 720

    def thumbnail(self) -> np.ndarray:
        coarse = np.random.default_rng(self.shot).uniform(0, 255, (3, 4))
        picture = cv2.resize(coarse, (32, 18), interpolation=cv2.INTER_CUBIC)
        return (picture + self.light).clip(0, 255).astype(np.uint8)


@dataclass
class Script:
    """A backend that reads the answer off the scene and counts what it is asked."""

    name: str = "script"
    noise: float = 0.0
    detections: list[Scene] = field(default_factory=list)
    measurements: list[Scene] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def detect(self, frame: Scene) -> list[tuple[Region, float]]:
        self.detections.append(frame)
        return [(self.region(face.points), 0.9) for face in frame.faces]

    def landmarks(self, frame: Scene, region: Region) -> tuple[np.ndarray, float]:
        self.measurements.append(frame)
        near = [face for face in frame.faces if self.region(face.points).overlap(region) > 0.3]
        if not near:
            return Face(region.x, region.y, region.size / 3).points, 0.01
        points = near[0].points + self.rng.normal(0, self.noise, (68, 2)) if self.noise else near[0].points
        return points.astype(np.float32), 0.99

    def region(self, points: np.ndarray) -> Region:
        x, y = points.mean(0)
        right, left = points[36:42].mean(0), points[42:48].mean(0)
        return Region(float(x), float(y), 3 * math.dist(right, left), math.atan2(*(left - right)[::-1]))


def ticks(scenes: Iterable[Scene | None]) -> Iterator[Tick]:
    for index, scene in enumerate(scenes):
        yield Tick(index, scene, None)  # type: ignore[arg-type]


def track(scenes: Iterable[Scene | None], backend: Backend | None = None) -> list[list[TrackedFace]]:
    told = list(track_faces(ticks(scenes), backend or Script()))  # type: ignore[arg-type]
    assert [tick.index for tick, _ in told] == list(range(len(told)))
    return [faces for _, faces in told]


def numbers_of(told: list[list[TrackedFace]]) -> list[list[int]]:
    return [sorted(face.track for face in faces) for faces in told]


def walk(count: int, speed: float = 4.0) -> list[Scene]:
    return [Scene([Face(200 + speed * i, 300, roll=10 * math.sin(i / 15))]) for i in range(count)]


def test_moving_face_keeps_its_track_from_first_to_last_tick() -> None:
    backend = Script()
    told = track(walk(80), backend)
    assert numbers_of(told) == [[0]] * 80
    assert all(face.ok for faces in told for face in faces)
    assert len(backend.detections) == 7  # every 12th tick
    assert 40 <= len(backend.measurements) <= 50  # every 2nd, and a few to begin with


def test_points_and_crop_do_not_lag() -> None:
    scenes = walk(60)
    for scene, (face,) in zip(scenes, track(scenes), strict=True):
        true = scene.faces[0]
        assert np.abs(face.points - true.points).max() < 0.5
        assert np.abs(face.matrix - crop_matrix(stable_points(true.points))).max() < 0.5
        assert face.size_px == pytest.approx(50, abs=0.5)


def test_crop_is_steadier_than_the_landmarks() -> None:
    told = track([Scene([Face(400, 300)]) for _ in range(200)], Script(noise=2.0))
    mouths = np.array([apply(face.matrix, MOUTH[None])[0] for (face,) in told[10:-10]])
    raw = np.array([stable_points(face.points)[3] for (face,) in told[10:-10]])
    assert np.std(np.diff(mouths, axis=0)) < 0.4 * np.std(np.diff(raw, axis=0))


def test_mouth_motion_survives_the_smoothing() -> None:
    scenes = [Scene([Face(400, 300)]) for _ in range(40)]
    opened = {}

    class Talker(Script):
        def landmarks(self, frame: Scene, region: Region) -> tuple[np.ndarray, float]:
            points, score = super().landmarks(frame, region)
            points[57, 1] += opened.setdefault(id(frame), 10.0 * (len(opened) % 2))
            return points, score

    lips = np.array([face.points[57, 1] for (face,) in track(scenes, Talker())])
    assert np.ptp(lips) == pytest.approx(10, abs=0.1)


def test_cut_ends_the_track_and_finds_the_next_face_at_once() -> None:
    scenes = [Scene([Face(300, 300)], shot=1) for _ in range(31)] + [Scene([Face(320, 310)], shot=2)] * 1
    scenes += [Scene([Face(320, 310)], shot=2) for _ in range(30)]
    told = track(scenes)
    assert numbers_of(told) == [[0]] * 31 + [[1]] * 31
    for scene, (face,) in zip(scenes, told, strict=True):  # nothing was smoothed across the cut
        assert np.allclose(face.points, scene.faces[0].points, atol=0.01)
        assert np.allclose(face.matrix, crop_matrix(stable_points(scene.faces[0].points)), atol=0.01)


@pytest.mark.parametrize("light", [90.0, 400.0])
def test_flash_is_no_cut(light: float) -> None:
    scenes = walk(60)
    for scene in scenes[30:32]:
        scene.light = light
        scene.faces = [] if light > 255 else scene.faces
    assert numbers_of(track(scenes)) == [[0]] * 60


def test_fade_is_no_cut() -> None:
    scenes = walk(60)
    for i, scene in enumerate(scenes):
        scene.light = -2.0 * i
    assert numbers_of(track(scenes)) == [[0]] * 60


def test_short_gap_is_bridged_along_the_way() -> None:
    scenes = walk(60)
    true = [scene.faces[0] for scene in scenes]
    for scene in scenes[25:30]:  # 0.2 s
        scene.faces = []
    told = track(scenes)
    assert numbers_of(told) == [[0]] * 60
    for face, (found,) in zip(true, told, strict=True):
        assert found.ok
        assert np.abs(found.points - face.points).max() < 2


def test_long_gap_ends_the_track() -> None:
    scenes = walk(90)
    for scene in scenes[25:50]:  # 1 s
        scene.faces = []
    told = numbers_of(track(scenes))
    assert told[:25] == [[0]] * 25
    assert told[27:50] == [[]] * 23
    assert told[62:] == [[1]] * 28  # found at the next regular look


def test_lost_face_is_looked_for_elsewhere_at_once() -> None:
    scenes = [Scene([Face(200, 300)]) for _ in range(26)] + [Scene([Face(900, 300)]) for _ in range(34)]
    told = numbers_of(track(scenes))
    assert told[32:] == [[1]] * 28 or told[32:36] == [[1]] * 4  # not only at the next regular look
    assert all(len(now) == 1 for now in told[32:])


def test_several_faces_come_largest_first_and_keep_apart() -> None:
    scenes = [Scene([Face(200 + i, 200), Face(600 - i, 300, 70), Face(1000, 500, 40)]) for i in range(50)]
    told = track(scenes)
    assert numbers_of(told) == [[0, 1, 2]] * 50
    assert all([round(face.size_px) for face in faces] == [70, 50, 40] for faces in told)
    assert all([face.track for face in faces] == [0, 1, 2] for faces in told)


def test_crowd_is_cut_to_the_largest_six() -> None:
    faces = [Face(100 + 140 * i, 300, 30 + i) for i in range(9)]
    told = track([Scene(faces) for _ in range(20)])
    assert all([round(face.size_px) for face in now] == [38, 37, 36, 35, 34, 33] for now in told)


def test_tiny_faces_are_ignored() -> None:
    assert numbers_of(track([Scene([Face(300, 300, 9.0)]) for _ in range(30)])) == [[]] * 30
    assert numbers_of(track([Scene([Face(300, 300, 11.0)]) for _ in range(30)])) == [[0]] * 30


def test_newcomer_is_found_within_half_a_second() -> None:
    scenes = [Scene([Face(300, 300)] + ([Face(800, 300)] if i >= 20 else [])) for i in range(60)]
    told = numbers_of(track(scenes))
    assert told[:20] == [[0]] * 20
    assert told[32:] == [[0, 1]] * 28


def test_no_face_and_no_picture() -> None:
    assert numbers_of(track([Scene([]) for _ in range(30)])) == [[]] * 30
    assert numbers_of(track([None] * 30)) == [[]] * 30
    assert track([]) == []
    scenes = [None] * 5 + walk(30) + [None] * 20 + walk(30)
    assert numbers_of(track(scenes)) == [[]] * 5 + [[0]] * 30 + [[]] * 20 + [[1]] * 30


@pytest.mark.parametrize("shown", [2, 3, 5, 40])
def test_repeated_frames_keep_their_faces_and_are_measured_once(shown: int) -> None:
    backend = Script()
    frames = walk(8, speed=5 * min(shown, 5))
    told = track([frame for frame in frames for _ in range(shown)], backend)
    assert numbers_of(told) == [[0]] * (8 * shown)
    for i, frame in enumerate(frames):
        group = told[i * shown : (i + 1) * shown]
        assert all(faces is group[0] for faces in group)
        assert np.abs(group[0][0].points - frame.faces[0].points).max() < 0.01
        error = apply(group[0][0].matrix, MOUTH[None])[0] - stable_points(frame.faces[0].points)[3]
        assert np.abs(error).max() < 2
    assert len(backend.measurements) <= 8 + 4
    assert len({id(scene) for scene in backend.detections}) == len(backend.detections)


def test_memory_stays_flat() -> None:
    alive = 0
    most = 0

    class Counted(Scene):
        def __init__(self, faces: list[Face]) -> None:
            nonlocal alive, most
            super().__init__(faces)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class Plain(Script):
        def detect(self, frame: Scene) -> list[tuple[Region, float]]:
            return [(self.region(face.points), 0.9) for face in frame.faces]

        def landmarks(self, frame: Scene, region: Region) -> tuple[np.ndarray, float]:
            return frame.faces[0].points, 1.0

    stream = track_faces(ticks(Counted([Face(300, 300)]) for _ in range(500)), Plain())  # type: ignore[arg-type]
    assert sum(len(faces) for _, faces in stream) == 500
    assert most < 30


# ------------------------------------------------------------------------------------------------- the real backends


@pytest.fixture(scope="session")
def mesh() -> Backend:
    try:
        return load_backend("facemesh")
    except FaceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return np.asarray(data.astronaut())


EYES = np.array([223.0, 112.0])  # of the portrait, about the middle between the eyes


def frame_of(picture: np.ndarray) -> Frame:
    return Frame(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"), 0.0)


def placed(
    portrait: np.ndarray, size: tuple[int, int], at: tuple[float, float], scale: float = 1.0, degrees: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture with the portrait's eyes at a place, and the (2, 3) map from portrait to picture."""
    linear = scale * turn(degrees)
    matrix = np.column_stack([linear, np.array(at) - linear @ EYES])
    smooth = cv2.GaussianBlur(portrait, (0, 0), 0.4 / scale) if scale < 0.8 else portrait
    return cv2.warpAffine(smooth, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), matrix


def measured(backend: Backend, picture: np.ndarray) -> tuple[np.ndarray, Frame]:
    frame = frame_of(picture)
    region, score = backend.detect(frame)[0]
    assert score > 0.5
    for _ in range(3):
        points, score = backend.landmarks(frame, region)
        region = backend.region(points)
    assert score > 0.9
    return points, frame


def crop_of(frame: Frame, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    face = TrackedFace(0, points, crop_matrix(stable_points(points)), True, 50.0)
    return lip_crop(frame, face)


def test_mesh_points_are_in_ibug_order(mesh: Backend, portrait: np.ndarray) -> None:
    points, _ = measured(mesh, portrait)
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    x, y = points.T
    jaw, brows, nose_base = x[:17], x[17:27], x[31:36]
    for row in (jaw[1:-1], brows, nose_base, x[48:55], x[60:65], x[[59, 58, 57, 56, 55]], x[[67, 66, 65]]):
        assert (np.diff(row) > 0).all()
    assert (np.diff(y[27:31]) > 0).all()  # down the nose
    assert y[8] == y.max()  # the chin
    assert y[17:27].max() < y[36:48].min() < y[33] < y[51] < y[57] < y[8]
    for top, low in ((37, 41), (38, 40), (43, 47), (44, 46), (51, 62), (62, 66), (66, 57)):
        assert y[top] < y[low]


@pytest.mark.parametrize(
    ("scale", "degrees", "at"),
    [
        (1.0, 0, (320, 200)),
        (1.0, 25, (300, 220)),
        (1.0, -25, (340, 180)),
        (0.5, 10, (500, 120)),
        (2.0, -10, (320, 220)),
    ],
)
def test_crop_does_not_depend_on_place_size_or_roll(
    mesh: Backend, portrait: np.ndarray, scale: float, degrees: float, at: tuple[float, float]
) -> None:
    reference, frame = measured(mesh, portrait)
    straight, lips = crop_of(frame, reference)
    picture, matrix = placed(portrait, (640, 480), at, scale, degrees)
    points, moved = measured(mesh, picture)
    crop, mouth = crop_of(moved, points)
    assert crop.shape == (CROP, CROP, 3)
    assert crop.dtype == np.uint8
    assert mouth.shape == (20, 2)
    assert np.allclose(mouth[[0, 6]].mean(0), MOUTH, atol=0.1)
    back = apply(crop_matrix(stable_points(points)), MOUTH[None])  # where the crop's middle lies in the picture
    there = apply(crop_matrix(stable_points(apply(matrix, reference).astype(np.float32))), MOUTH[None])
    assert np.linalg.norm(back - there) < 2 * scale  # 2 px of a crop are about 2 px of the portrait
    assert np.abs(mouth - lips).max() < 3
    if scale >= 1:
        assert np.abs(crop.astype(int) - straight).mean() < 14


def test_detector_finds_small_faces_and_several(mesh: Backend, portrait: np.ndarray) -> None:
    head = portrait[30:230, 120:330]
    picture = np.full((720, 1280, 3), 128, np.uint8)
    small = cv2.resize(head, None, fx=0.42, fy=0.42, interpolation=cv2.INTER_AREA)  # the face itself is 60 px high
    picture[500 : 500 + small.shape[0], 900 : 900 + small.shape[1]] = small
    ((region, _),) = mesh.detect(frame_of(picture))
    assert math.dist((region.x, region.y), (900 + 44, 500 + 42)) < 12

    picture = np.full((1280, 720, 3), 128, np.uint8)
    corners = [(100, 50), (900, 60), (500, 400)]
    for y, x in corners:
        picture[y : y + 200, x % 500 : x % 500 + 210] = head
    found = mesh.detect(frame_of(picture))
    assert len(found) == 3
    for y, x in corners:
        assert min(math.dist((r.x, r.y), (x % 500 + 104, y + 98)) for r, _ in found) < 20


@pytest.mark.parametrize(("size", "most"), [((4096, 16), 1), ((16, 4096), 1), ((4096, 48), 90), ((48, 4096), 90)])
def test_a_strip_takes_few_looks(
    mesh: Backend, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], most: int
) -> None:
    looks = []
    sample = Frame.sample
    monkeypatch.setattr(Frame, "sample", lambda frame, *args: looks.append(1) or sample(frame, *args))
    assert mesh.detect(frame_of(np.full((*size, 3), 128, np.uint8))) == []
    assert len(looks) <= most


def test_detector_finds_nothing_where_nobody_is(mesh: Backend) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    for picture in (np.zeros_like(noise), noise, cv2.GaussianBlur(noise, (0, 0), 9)):
        assert mesh.detect(frame_of(picture)) == []


def film(portrait: np.ndarray, count: int, hidden: range = range(0)) -> Iterator[Tick]:
    for i in range(count):
        picture, matrix = placed(portrait, (640, 360), (200 + 4 * i, 130), 0.9, 10 * math.sin(i / 10))
        if i in hidden:
            x, y = matrix[:, :2] @ (EYES + np.array([0, 20])) + matrix[:, 2]
            cv2.rectangle(picture, (int(x - 75), int(y - 95)), (int(x + 75), int(y + 95)), (90, 90, 90), -1)
        yield Tick(i, frame_of(picture), None)


def test_film_of_a_portrait(mesh: Backend, portrait: np.ndarray) -> None:
    crops = []
    for tick, (face,) in track_faces(film(portrait, 40), mesh):
        assert tick.frame is not None
        assert face.track == 0
        crop, mouth = lip_crop(tick.frame, face)
        assert np.linalg.norm(mouth[[0, 6]].mean(0) - MOUTH) < 1.5
        crops.append(crop.astype(int))
    changes = [np.abs(a - b).mean() for a, b in pairwise(crops)]
    assert np.median(changes) < 3  # the lips stand still while the head moves


def test_film_with_a_hand_before_the_face(mesh: Backend, portrait: np.ndarray) -> None:
    short = [[face.track for face in faces] for _, faces in track_faces(film(portrait, 40, range(15, 20)), mesh)]
    assert short == [[0]] * 40
    long = [[face.track for face in faces] for _, faces in track_faces(film(portrait, 60, range(15, 40)), mesh)]
    assert long[:15] == [[0]] * 15
    assert long[17:40] == [[]] * 23
    assert long[52:] == [[1]] * 8


def test_film_with_a_cut(mesh: Backend, portrait: np.ndarray) -> None:
    first, _ = placed(portrait, (640, 360), (320, 130))
    second, _ = placed(portrait[:, ::-1], (640, 360), (250, 150), 1.3)
    shots = [Tick(i, frame_of(first if i < 17 else second), None) for i in range(34)]
    told = [[face.track for face in faces] for _, faces in track_faces(shots, mesh)]
    assert told == [[0]] * 17 + [[1]] * 17


# ------------------------------------------------------------------------------------------------- face_alignment


@pytest.mark.parametrize("kept", [{}, {"XDG_CACHE_HOME": "/caches"}, {"TORCH_HOME": "~/torch", "XDG_CACHE_HOME": "/x"}])
def test_the_weights_are_where_torch_keeps_them(monkeypatch: pytest.MonkeyPatch, kept: dict[str, str]) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert store.fan_weights().parents[1] == Path(torch.hub.get_dir())


@pytest.fixture(scope="session")
def fan(tmp_path_factory: pytest.TempPathFactory, mesh: Backend) -> Any:
    """The backend with the true network, its weights random: everything but the quality of the points."""
    numba = pytest.importorskip("numba")
    pytest.importorskip("face_alignment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)  # compiling costs more than these few calls
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        from face_alignment.models import FAN

        store.fan_weights().parent.mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(FAN(4).state_dict(), store.fan_weights())
        backend = load_backend("face_alignment")
        store.fan_weights().unlink()
    return backend


def test_fan_takes_boxes_and_gives_68_points(fan: Any, mesh: Backend, portrait: np.ndarray) -> None:
    assert fan.name == "face_alignment"
    frame = frame_of(portrait)
    ((region, _),) = fan.detect(frame)
    ((tight, _),) = mesh.detect(frame)
    assert region.size > tight.size
    points, score = fan.landmarks(frame, region)
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    assert 0 <= score <= 1
    assert np.abs(points - [region.x, region.y]).max() <= region.size  # all within the rolled square
    again, _ = fan.landmarks(frame, region)
    assert np.array_equal(points, again)
    crop, mouth = crop_of(frame, points)
    assert crop.shape == (CROP, CROP, 3)
    assert mouth.shape == (20, 2)


@pytest.mark.parametrize("degrees", [0, 20])
def test_fan_gives_the_same_crop_as_the_mesh(
    fan: Any, mesh: Backend, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch, degrees: float
) -> None:
    """A network that answers with the true heat maps: the points must come back to where they are in the picture."""
    picture, _ = placed(portrait, (640, 480), (320, 200), 1.5, degrees)
    true, frame = measured(mesh, picture)
    region = fan.region(true)
    inside = apply(np.asarray(cv2.invertAffineTransform(region.matrix(64)), np.float64), true)
    assert ((inside > 2) & (inside < 61)).all()  # the square holds the face with a margin
    rows = np.arange(64)

    def network(image: Any) -> Any:
        assert image.shape == (1, 3, 256, 256)
        maps = [np.exp(-((rows[None] - x) ** 2 + (rows[:, None] - y) ** 2) / 2).astype(np.float32) for x, y in inside]
        return torch.from_numpy(np.stack(maps)[None])

    monkeypatch.setattr(fan._fan, "face_alignment_net", network)
    points, score = fan.landmarks(frame, region)
    assert score == 1
    assert np.abs(points - true).max() < region.size / 64  # one cell of the heat maps
    crop, mouth = crop_of(frame, points)
    expected, lips = crop_of(frame, true)
    here = apply(np.asarray(cv2.invertAffineTransform(crop_matrix(stable_points(true))), np.float64), points)
    assert np.linalg.norm(stable_points(here.astype(np.float32))[3] - MOUTH) < 2
    assert np.abs(mouth - lips).max() < 2
    assert np.abs(crop.astype(int) - expected).mean() < 10


def test_fan_without_weights_says_where_they_belong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("face_alignment")

    def unreachable(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(FaceError) as caught:
        load_backend("face_alignment")
    for part in ("2DFAN4-11f355bf06.pth.tar", str(tmp_path / "hub" / "checkpoints"), "https://", "--faces facemesh"):
        assert part in str(caught.value)


def test_fan_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avfake.faces.fan.find_spec", lambda name: None)
    with pytest.raises(FaceError, match=r"avfake\[fan\]"):
        load_backend("face_alignment")


def test_auto_takes_the_mesh_without_a_gpu(mesh: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert load_backend("auto").name == "facemesh"


def test_unknown_backend_is_named() -> None:
    with pytest.raises(FaceError, match="dlib"):
        load_backend("dlib")  # type: ignore[arg-type]
