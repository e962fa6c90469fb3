"""Make the demo clip: a portrait that is animated to a synthesised voice, so a fake that anybody may have.

    pip install 'avfake[demo]'
    python tools/make_demo_clip.py -o avfake/data/demo.mp4

The portrait is NASA's photograph of Eileen Collins, public domain, which scikit-image ships as
``skimage.data.astronaut()``. The voice is made by espeak-ng, GPL-3 software that is used here as a tool: the
sound it makes is not covered by its licence. Every random number is seeded, so the same package versions
give the same file.

How it works: espeak-ng tells when each phoneme begins, phonemes become mouth shapes, mouth shapes move
smoothly over time, and each frame bends the portrait: lips, jaw, lids and head. All positions are
measured by hand in pixels of the 512x512 portrait.
"""

from __future__ import annotations

import argparse
import ctypes
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from avfake import FPS

try:
    import espeakng_loader
    from skimage import data
except ImportError as missing:
    raise SystemExit(f"make_demo_clip.py needs the package {missing.name}: pip install 'avfake[demo]'") from None

Array = NDArray[np.floating[Any]]

TEXT = "Hello. I am not a person. A program moves my mouth, and my voice was never spoken by anybody."
VOICE = "en-us+f3"
WORDS_PER_MINUTE = 150
LEAD_IN_S, TAIL_S = 0.4, 0.5
SEED = 7

SIZE = 512
"""Width and height of the clip."""
CROP_X, CROP_Y, CROP_SIZE = 104.0, 2.0, 240.0
"""Left, top and side of the square of the portrait that the clip shows: head and shoulders."""

BLINKS_S = (0.95, 3.05, 4.75, 7.1)
LIPS_LEAD_S = 0.03
"""People shape the mouth a little before the sound comes."""


# ------------------------------------------------------------------------------------------- the voice


class Phoneme(NamedTuple):
    """One sound of the voice: espeak-ng's ASCII name and where it begins, in seconds."""

    name: str
    start_s: float


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of ``speak_lib.h``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_SYNCHRONOUS, _PHONEME_EVENTS, _RATE, _UTF8 = 2, 1, 1, 1
_LIST_END, _PHONEME = 0, 7


def synthesise(text: str) -> tuple[NDArray[np.int16], int, list[Phoneme]]:
    """Speak ``text``: int16 mono samples, their sample rate in Hz, and the phonemes in order."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    chunks: list[NDArray[np.int16]] = []
    phonemes: list[Phoneme] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            event = events[index]
            if event.type == _PHONEME:
                phonemes.append(Phoneme(event.name.decode(), event.audio_position / 1000))
            index += 1
        return 0

    sample_rate = library.espeak_Initialize(
        _SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), _PHONEME_EVENTS
    )
    if sample_rate <= 0 or library.espeak_SetVoiceByName(VOICE.encode()) != 0:
        raise SystemExit(f"espeak-ng has no voice {VOICE}: reinstall the package espeakng-loader")
    # espeak-ng seeds the noise of its voice with the time of day unless it is told otherwise.
    library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
    callback = callback_type(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_RATE, WORDS_PER_MINUTE, 0)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    return np.concatenate(chunks), sample_rate, phonemes


def add_room(voice: NDArray[np.int16], sample_rate: int, seed: int) -> Array:
    """Put the voice between a lead-in and a tail, with faint early echoes and room tone; in [-1, 1]."""
    rng = np.random.default_rng(seed)
    dry = np.pad(voice / 32768.0, (round(LEAD_IN_S * sample_rate), round(TAIL_S * sample_rate)))
    dry *= 0.6 / np.abs(dry).max()
    echo = rng.standard_normal(round(0.12 * sample_rate))
    echo *= 0.015 * np.exp(-np.arange(len(echo)) / (0.03 * sample_rate))
    wet = dry + np.convolve(dry, echo)[: len(dry)]
    tone = np.convolve(rng.standard_normal(len(dry)), np.hanning(9) / 5, mode="same")
    return (wet + 0.0012 * tone).astype(np.float32)


# ------------------------------------------------------------------------- from sounds to mouth shapes


class Mouth(NamedTuple):
    """A mouth shape, in pixels of the portrait."""

    gap: float  # between the inner lips, at the middle
    half_width: float
    raise_upper: float  # how far the upper lip leaves its rest position, up
    tongue: float  # 0 low .. 1 behind the upper teeth
    closed: float  # 0 free .. 1 the lips are pressed together


#                 gap  width raise tongue closed
REST = Mouth(0.5, 18.3, 0.1, 0.0, 0.0)
PRESSED = Mouth(0.0, 18.0, 0.0, 0.0, 1.0)
SHAPES = {
    "p b m": PRESSED,
    "f v": Mouth(2.4, 18.2, 2.0, 0.0, 0.0),
    "T D": Mouth(4.0, 18.0, 1.0, 1.0, 0.0),
    "t d n l t#": Mouth(4.2, 18.3, 1.0, 0.8, 0.0),
    "s z": Mouth(3.2, 18.8, 1.4, 0.3, 0.0),
    "S Z tS dZ": Mouth(4.2, 14.5, 1.6, 0.2, 0.0),
    "k g N h": Mouth(5.0, 18.0, 0.9, 0.2, 0.0),
    "r w": Mouth(3.0, 13.6, 0.6, 0.1, 0.0),
    "i i: I I2 j": Mouth(4.8, 19.6, 1.6, 0.3, 0.0),
    "E e eI": Mouth(7.6, 19.0, 1.5, 0.1, 0.0),
    "a a# aa A A: 0 V": Mouth(9.6, 17.8, 1.5, 0.0, 0.0),
    "@ 3 3:": Mouth(5.6, 17.0, 1.0, 0.1, 0.0),
    "O O: o": Mouth(8.6, 14.4, 1.0, 0.0, 0.0),
    "u u: U": Mouth(4.0, 12.6, 0.6, 0.0, 0.0),
}
DIPHTHONGS = {"aI": ("a", "I"), "aU": ("a", "U"), "OI": ("O", "I"), "oU": ("O", "U")}
SHAPE_OF = {name: shape for names, shape in SHAPES.items() for name in names.split()}

_CURVE_RATE = 1000
"""Samples per second of the curves that mouth shapes are smoothed on."""


def shape_of(name: str) -> Mouth:
    """Return the mouth shape of one phoneme; marks of stress are ignored and pauses are at rest."""
    bare = name.lstrip("',")
    if bare.startswith("_") or not bare:
        return REST
    if bare not in SHAPE_OF:
        raise SystemExit(f"espeak-ng speaks the phoneme {bare}, which has no mouth shape: add it to SHAPES")
    return SHAPE_OF[bare]


def smooth(curve: Array, width_s: float, rate: float) -> Array:
    """Smooth a curve over time with a Hann window whose half-height width is ``width_s``."""
    window = np.hanning(2 * round(width_s * rate) + 1)
    half = len(window) // 2
    padded = np.pad(curve, half, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid").astype(np.float32)


def split_diphthongs(phonemes: list[Phoneme], end_s: float) -> list[Phoneme]:
    """Replace each diphthong by its two vowels, the first a little longer."""
    result: list[Phoneme] = []
    ends = [following.start_s for following in phonemes[1:]] + [end_s]
    for phoneme, phoneme_end in zip(phonemes, ends, strict=True):
        parts = DIPHTHONGS.get(phoneme.name.lstrip("',"))
        if parts is None:
            result.append(phoneme)
        else:
            middle = phoneme.start_s + 0.6 * (phoneme_end - phoneme.start_s)
            result += [Phoneme(parts[0], phoneme.start_s), Phoneme(parts[1], middle)]
    return result


def loudness(audio: Array, sample_rate: int, frames: int) -> Array:
    """Return how loud the audio is in the middle of each frame, as a share of its peak: (frames,)."""
    times = (np.arange(frames) + 0.5) / FPS
    energy = smooth(np.square(audio), 0.06, sample_rate)
    level = np.sqrt(energy / energy.max())
    return np.asarray(np.interp(times, np.arange(len(level)) / sample_rate, level))


def mouth_shapes(phonemes: list[Phoneme], level: Array) -> list[Mouth]:
    """Return the mouth of every frame, given how loud each is: ``level`` (frames,) in [0, 1]."""
    frames = len(level)
    duration_s = frames / FPS
    spoken = split_diphthongs([Phoneme(p.name, p.start_s + LEAD_IN_S) for p in phonemes], duration_s)
    clock = np.arange(round(duration_s * _CURVE_RATE)) / _CURVE_RATE
    current = np.searchsorted([p.start_s for p in spoken], clock, side="right")
    table = np.array([REST, *(shape_of(p.name) for p in spoken)], np.float32)[current]
    # A frame stands for the 40 ms that follow its time stamp; its mouth is the one in the middle of them.
    times = (np.arange(frames) + 0.5) / FPS

    def at_frames(curve: Array) -> Array:
        return np.interp(times + LIPS_LEAD_S, clock, curve).astype(np.float32)

    gap, width, raised, tongue = (at_frames(smooth(table[:, k], 0.07, _CURVE_RATE)) for k in range(4))
    # Lips do meet in p, b and m, however short: a narrower window than for the rest, and it saturates.
    closed = at_frames(np.minimum(1, 1.6 * smooth(table[:, 4], 0.05, _CURVE_RATE)))
    gap = gap * (0.65 + 0.5 * level) * (1 - closed)
    curves = np.stack([gap, width, raised * (1 - closed), tongue, closed], axis=1)
    return [Mouth(*map(float, row)) for row in curves]


# ---------------------------------------------------------------------------------------- the portrait

MOUTH_X = 223.8
"""Middle of the mouth."""
CORNER_HALF_WIDTH = 20.8
"""Half of the distance between the corners of the mouth in the portrait, where the face smiles."""
CORNER_Y = 140.6
_LIP_X = (203, 207, 210, 215, 220, 225, 230, 235, 240, 244.6)
_UPPER_OUTER_Y = (138.4, 139.2, 139.5, 139.8, 140.2, 140.4, 140.2, 139.8, 139.3, 138.8)
_UPPER_INNER_Y = (140.4, 140.9, 141.7, 142.6, 143.3, 143.4, 142.9, 141.9, 141.0, 140.9)
_LOWER_INNER_Y = (140.4, 144.8, 147.6, 149.9, 150.9, 151.0, 150.3, 148.3, 145.3, 140.9)
_LOWER_OUTER_Y = (142.6, 147.6, 150.6, 154.0, 155.9, 156.2, 155.2, 152.6, 148.0, 143.2)

REST_UPPER_Y = 146.2
"""Height of the upper inner lip, at its middle, when the smile is relaxed."""
REST_CORNER_Y = 142.6


class Eye(NamedTuple):
    """Where an eye is: its middle and half width across, and the heights of its lids and corners."""

    x: float
    half_width: float
    upper_y: float
    lower_y: float
    corner_y: float


EYES = (Eye(203.0, 10.4, 96.6, 104.6, 102.6), Eye(247.0, 11.0, 99.4, 106.7, 104.0))

CAVITY = np.array([46, 20, 18], np.float32)
TONGUE = np.array([150, 72, 70], np.float32)
IN_SHADE = np.array([0.90, 0.85, 0.79], np.float32)
"""What shade leaves of the light on the teeth."""
LIP_RED = np.array([0.93, 0.78, 0.80], np.float32)
"""A touch of lipstick: the lower lip of the portrait is as pale as its skin."""


def bump(distance: Array) -> Array:
    """Return a Gaussian of a distance in standard deviations: 1 at 0."""
    return np.exp(-0.5 * np.square(distance)).astype(np.float32)


def ramp(value: Array) -> Array:
    """Rise smoothly from 0 (at 0 and below) to 1 (at 1 and above)."""
    clipped = np.clip(value, 0, 1)
    return (clipped * clipped * (3 - 2 * clipped)).astype(np.float32)


class HeadPose(NamedTuple):
    """Small motion of the head: pixels of the portrait, radians, and a scale factor."""

    x: float
    y: float
    angle: float
    scale: float
    yaw: float  # shift of the nearest part of the face against the rest: a hint of depth
    pitch: float


def head_poses(frames: int, level: Array, seed: int) -> list[HeadPose]:
    """Return a slow random sway, with nods that follow the loudness ``level`` (frames,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / FPS

    def sway(size: float) -> Array:
        waves = [np.sin(2 * np.pi * (f * time + rng.uniform())) / (1 + i) for i, f in enumerate((0.17, 0.39, 0.83))]
        return np.asarray(size * np.stack(waves).sum(axis=0))

    nod = smooth(level, 0.3, FPS)
    columns = (
        sway(1.6),
        sway(0.7) + 1.6 * nod,
        sway(0.012),
        1 + sway(0.006),
        sway(1.1),
        sway(0.5) + 0.9 * nod,
    )
    return [HeadPose(*map(float, row)) for row in zip(*columns, strict=True)]


def to_still_head(x: Array, y: Array, pose: HeadPose) -> tuple[Array, Array]:
    """Map picture positions back to where they are when the head is still; the body does not move."""
    distance = np.hypot((x - 225) / 72, (y - 95) / 95)
    weight = 1 - ramp((distance - 1) / 0.75)
    pivot_x, pivot_y = 225.0, 185.0
    dome = bump(np.hypot((x - 225) / 32, (y - 118) / 38))
    dx, dy = x - pivot_x - pose.x - pose.yaw * dome, y - pivot_y - pose.y - pose.pitch * dome
    cos, sin = np.cos(pose.angle) / pose.scale, np.sin(pose.angle) / pose.scale
    still_x = pivot_x + cos * dx + sin * dy
    still_y = pivot_y - sin * dx + cos * dy
    return x + weight * (still_x - x), y + weight * (still_y - y)


def blink_at(time_s: float) -> float:
    """Return how far the lids are down: 0 open .. 1 shut."""
    return 0.93 * max(float(bump(np.array((time_s - instant) / 0.05))) for instant in BLINKS_S)


def open_lids(x: Array, y: Array, shut: float) -> tuple[Array, Array]:
    """Map heights back from lids that are ``shut``, and return the shade (0 none .. 1) of lashes and lids.

    The lid comes down over an eyeball that does not move: clean skin above the lashes is stretched over it,
    and the lashes are drawn anew at its edge.
    """
    shade = np.zeros_like(x)
    drawn = min(1.0, 3 * shut)
    for eye in EYES:
        across = (x - eye.x) / eye.half_width
        arch = np.clip(1 - across * across, 0, None)
        lid = eye.corner_y + (eye.upper_y - eye.corner_y) * arch
        lower = eye.corner_y + (eye.lower_y - eye.corner_y) * arch
        moved = lid + shut * (lower - lid)
        brow = eye.upper_y - 4.5
        inward = ramp((1 - np.abs(across)) / 0.4)
        skin = np.maximum(lid - 2.6 * drawn * inward, brow + 0.5)
        covered = (np.abs(across) < 1) & (y > brow) & (y < moved)
        shade += drawn * inward * (0.55 * bump((y - moved + 0.2) / 0.65) + 0.1 * ramp((y - lid + 2) / 2) * covered)
        y = np.where(covered, brow + (y - brow) * (skin - brow) / (moved - brow), y)
    return y, shade


class MouthWarp(NamedTuple):
    """Where the pixels of a frame lie in the portrait, and which show the inside of the mouth."""

    x: Array
    y: Array
    inside: Array  # 0 skin .. 1 inside, soft edges
    rim: Array  # distance to the nearest inner lip, in pixels
    below_lip: Array  # distance below the upper inner lip, in pixels
    lower_lip_y: Array
    vermilion: Array  # 0 skin .. 1 red of the lips


def warp_mouth(x: Array, y: Array, mouth: Mouth) -> MouthWarp:
    """Map positions on a still head back to the portrait, for one mouth shape (scalar fields)."""
    # Across: the width of the mouth changes most at its corners and fades away from them.
    narrower = CORNER_HALF_WIDTH - mouth.half_width
    offset = (x - MOUTH_X) / mouth.half_width
    source_x = x + narrower * offset * np.exp(0.5 * (1 - np.square(offset))) * bump((y - 147) / 13)

    # Along each column: heights of lips and chin move, and skin stretches evenly between them.
    u = (source_x - MOUTH_X) / CORNER_HALF_WIDTH
    arch = np.clip(1 - np.abs(u) ** 2.2, 0, None).astype(np.float32)
    fade = np.where(np.abs(u) < 1, 1, bump((np.abs(u) - 1) / 0.4)).astype(np.float32)
    jaw = 0.75 * mouth.gap
    corner = REST_CORNER_Y - CORNER_Y + 0.12 * mouth.gap
    upper_middle = REST_UPPER_Y - mouth.raise_upper
    lower_middle = upper_middle + mouth.gap

    outer_upper, inner_upper, inner_lower, outer_lower = (
        np.interp(source_x, _LIP_X, curve).astype(np.float32)
        for curve in (_UPPER_OUTER_Y, _UPPER_INNER_Y, _LOWER_INNER_Y, _LOWER_OUTER_Y)
    )
    chin = 178 - 16 * np.square((source_x - 224) / 36)

    def moved(height: Array, middle: float) -> Array:
        return np.asarray(height + fade * (corner + (middle - corner) * arch))

    level = CORNER_Y + corner
    new_upper = np.where(arch > 0, level + (upper_middle - level) * arch, moved(inner_upper, corner))
    new_lower = np.where(arch > 0, level + (lower_middle - level) * arch, moved(inner_lower, corner))
    old = [
        np.full_like(x, 128),
        outer_upper,
        inner_upper,
        inner_lower,
        outer_lower,
        chin,
        np.full_like(x, 194),
    ]
    new = [
        old[0],
        moved(outer_upper, 0.6 * (upper_middle - 143.4) - 0.5 * mouth.closed),
        new_upper,
        new_lower,
        moved(outer_lower, 0.95 * (lower_middle - 151.0) + 0.9 * mouth.closed),
        chin + jaw * bump((source_x - 224) / 26),
        old[-1],
    ]
    source_y = y.copy()
    for k in (0, 1, 3, 4, 5):
        span = np.maximum(new[k + 1] - new[k], 0.05)
        stretched = old[k] + (y - new[k]) * (old[k + 1] - old[k]) / span
        source_y = np.where((y >= new[k]) & (y < new[k + 1]), stretched, source_y)
    # Between the lips the inner mouth is drawn over; the lips' own edges continue under its soft rim.
    between = (y >= new_upper) & (y < new_lower)
    nearer_upper = y - new_upper < new_lower - y
    source_y = np.where(between, np.where(nearer_upper, inner_upper, inner_lower), source_y)

    below_upper, above_lower = y - new_upper, new_lower - y
    rim = np.minimum(below_upper, above_lower)
    inside = np.where(np.abs(u) < 1, ramp(rim / 0.9 + 0.35), 0)
    on_upper = ramp(source_y - outer_upper) * (y < new_upper)
    on_lower = ramp((outer_lower - source_y) / 2.5) * (y >= new_upper)
    vermilion = (on_upper + on_lower) * ramp((1 - np.abs(u)) / 0.3)
    return MouthWarp(source_x, source_y, inside, rim, below_upper, new_lower, vermilion)


def inner_mouth(portrait: Array, x: Array, y: Array, warp: MouthWarp, tongue: float) -> Array:
    """Draw the portrait's own upper teeth, fixed to the skull, before a dark cavity with a tongue."""
    edge = np.interp(x, _LIP_X, np.subtract(_LOWER_INNER_Y, 1.6)).astype(np.float32)
    teeth = sample(portrait, x, np.clip(y, edge - 4.0, edge - 0.8)) * IN_SHADE
    is_tooth = (1 - ramp((y - edge) / 1.2 + 0.5)) * bump((x - MOUTH_X) / 13)
    tongue_y = warp.lower_lip_y - 4.5 - 2.0 * tongue
    is_tongue = ramp((y - tongue_y) / 3.0) * bump((x - MOUTH_X) / 8.0) * (0.5 + 0.3 * tongue)
    back = CAVITY + (TONGUE - CAVITY) * is_tongue[..., None]
    colour = back + (teeth - back) * is_tooth[..., None]
    shade = 0.55 + 0.45 * ramp(warp.below_lip / 2.5)
    return (colour * shade[..., None]).astype(np.float32)


def sample(picture: Array, x: Array, y: Array) -> Array:
    """Sample a picture (h, w, 3) at float positions, with bicubic interpolation."""
    sampled = cv2.remap(
        picture, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, np.float32)


def render(portrait: Array, pose: HeadPose, mouth: Mouth, shut: float) -> Array:
    """Draw one frame, float32 (SIZE, SIZE, 3) RGB in [0, 255], before camera noise."""
    # Drawn at twice the size and shrunk, because lips and lids are sharp edges.
    axis = (np.arange(2 * SIZE, dtype=np.float32) + 0.5) * np.float32(CROP_SIZE / (2 * SIZE)) - 0.5
    picture_x, picture_y = np.meshgrid(CROP_X + axis, CROP_Y + axis)
    x, y = to_still_head(picture_x, picture_y, pose)
    lidded_y, lid_shade = open_lids(x, y, shut)
    warp = warp_mouth(x, lidded_y, mouth)
    skin = sample(portrait, warp.x, warp.y)
    skin *= 1 - warp.vermilion[..., None] * (1 - LIP_RED)
    # The line where the lips meet is in shade, open or closed.
    on_lips = ramp((mouth.half_width - np.abs(x - MOUTH_X)) / 5)
    skin *= 1 - (0.45 * bump(warp.rim / 0.7) * on_lips + lid_shade)[..., None]
    inside = inner_mouth(portrait, x, y, warp, mouth.tongue)
    drawn = skin + (inside - skin) * warp.inside[..., None]
    return np.asarray(cv2.resize(drawn, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.float32)


def add_camera(picture: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sharpen what was enlarged, add sensor noise, and round to uint8."""
    sharp = picture + 0.5 * (picture - cv2.GaussianBlur(picture, (0, 0), 2.0))
    noise = rng.normal(0, 1.3, picture.shape[:2])[..., None] + rng.normal(0, 0.5, picture.shape)
    return np.clip(np.rint(sharp + noise), 0, 255).astype(np.uint8)


# -------------------------------------------------------------------------------------- the whole clip


def render_frames(mouths: list[Mouth], level: Array, seed: int) -> list[NDArray[np.uint8]]:
    """Draw every frame: uint8 (SIZE, SIZE, 3) RGB."""
    portrait = np.asarray(data.astronaut(), np.float32)  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(seed)
    poses = head_poses(len(level), level, seed)
    pictures = []
    for index, (pose, mouth) in enumerate(zip(poses, mouths, strict=True)):
        picture = render(portrait, pose, mouth, blink_at(index / FPS))
        pictures.append(add_camera(picture, rng))
    return pictures


def write_mp4(path: Path, pictures: list[NDArray[np.uint8]], audio: Array, sample_rate: int) -> None:
    """Write H.264 and AAC into an MP4 file."""
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "23", "preset": "slow", "threads": "1"}
        voice = container.add_stream("aac", rate=24_000, layout="mono")
        voice.bit_rate = 64_000
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        sound.sample_rate = sample_rate
        sound.pts, sound.time_base = 0, Fraction(1, sample_rate)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=24_000)
        for piece in [*resampler.resample(sound), *resampler.resample(None)]:
            container.mux(voice.encode(piece))
        container.mux(voice.encode(None))


def make_clip(path: Path) -> None:
    """Make the demo clip and write it to ``path``."""
    voice, sample_rate, phonemes = synthesise(TEXT)
    audio = add_room(voice, sample_rate, SEED)
    frames = -(-len(audio) * FPS // sample_rate)
    level = loudness(audio, sample_rate, frames)
    pictures = render_frames(mouth_shapes(phonemes, level), level, SEED)
    write_mp4(path, pictures, audio, sample_rate)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Make the demo clip, a fake, again.")
    parser.add_argument("-o", "--output", type=Path, default=Path("avfake/data/demo.mp4"))
    path: Path = parser.parse_args().output
    if not path.parent.is_dir():
        raise SystemExit(f"{path} cannot be written: make the folder {path.parent} first")
    make_clip(path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
