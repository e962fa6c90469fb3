"""Altered mouths: a changed copy of the mouth is blended back onto the face it came from.

The idea is that of Self-Blended Images (Shiohara & Yamasaki, CVPR 2022), kept to the mouth, where lip-sync generators
work, and coherent over time, as they are: all parameters are drawn once a clip unless the fake is the change itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from avfake import FPS
from avfake.faces import CROP
from avfake.forge.common import MIN_FRAMES, NotForgeable, Rng, relabel, require_genuine, sounding, stretch
from avfake.manifest import Label, Segment
from avfake.samples import Sample

Lips = NDArray[np.uint8]
Points = NDArray[np.float32]
Masks = NDArray[np.float32]

_SEGMENT = (10, 50)  # frames
_LATE = (2, 8)  # frames
_MOVING = 0.02  # spread of the opening of the lips, in mouth widths, from which on a mouth is seen to speak
_MISFIT = 20.0  # grey levels, on the mean over the seam, above which a mouth of another frame does not fit
_CHANGE = 1.0  # grey levels, on the mean over the mouth, below which nothing was forged
_CORNERS = [0, 6]
_INNER_TOP, _INNER_BOTTOM = [13, 14, 15], [19, 18, 17]


def mouth_blend(sample: Sample, rng: Rng) -> Sample:
    """Blend a warped, recoloured or re-textured copy of the mouth over it in every frame: visual 1, throughout.

    The other labels stay: the lips move when they did. Raises ``NotForgeable`` unless the picture is known to be
    genuine and the mouth is known and inside the crop.
    """
    lips, points = _require_mouth(sample)
    masks = _masks(points, rng)
    warped, recoloured, textured = _some(3, rng)
    copies, moved = _warp(lips, points, rng) if warped else (lips, points)
    copies = _recolour(copies, rng) if recoloured else copies
    copies = _texture(rng)(copies) if textured else copies
    return _forged(sample, "mouth_blend", _over(lips, copies, masks), moved, masks)


def mouth_late(sample: Sample, rng: Rng) -> Sample:
    """Blend the mouth of 2 to 8 frames earlier or later over each frame: visual 1, throughout.

    The clip is cut to the frames that have such a mouth. Sync 0 becomes None: the lips are late and the jaw is not.
    Raises ``NotForgeable`` as ``mouth_blend`` does, where the mouth hardly moves or does not fit (the head turns, a
    hand, a cut), and unless 20 frames are left.
    """
    _require_mouth(sample)
    late = int(rng.choice([-1, 1]) * rng.integers(_LATE[0], _LATE[1] + 1))
    left = sample.clip.frames - abs(late)
    if left < MIN_FRAMES:
        raise NotForgeable(f"{sample.row.id}: a mouth {late} frames late leaves fewer than {MIN_FRAMES} frames.")
    start = max(late, 0)
    kept = np.arange(start, start + left)
    out, moved, masks = _mouths_of(sample, kept - late, kept, rng)
    labels, segments = sample.row.labels, sample.row.segments
    sync = None if labels.sync == 0 or segments.sync else labels.sync
    unknown = replace(
        sample, row=replace(sample.row, labels=replace(labels, sync=sync), segments=replace(segments, sync=()))
    )
    return _forged(unknown.cut(start, start + left), "mouth_late", out, moved, masks)


def mouth_frozen(sample: Sample, rng: Rng) -> Sample:
    """Hold the mouth still for 0.4 to 2 s: visual 1 with the segment.

    Sync 0 becomes 1 with the segment where lips that spoke were stopped, None where that is not sure, and stays 0
    where all is silent. Raises ``NotForgeable`` as ``mouth_late`` does.
    """
    _require_mouth(sample)
    start, end = _segment(sample.clip.frames, 1, rng)
    return _replayed(sample, "mouth_frozen", np.full(end - start, start - 1), start, rng)


def mouth_looped(sample: Sample, rng: Rng) -> Sample:
    """Play 4 to 10 frames of the mouth over and over, or to and fro, for 0.4 to 2 s: visual 1 with the segment.

    Sync and errors as with ``mouth_frozen``, except that in silence, too, sync 0 becomes None: the lips move.
    """
    _require_mouth(sample)
    period = int(rng.integers(4, min(10, sample.clip.frames // 4) + 1))
    start, end = _segment(sample.clip.frames, period, rng)
    count = np.arange(end - start)
    if rng.random() < 0.5:
        shown = start - period + count % period
    else:
        turn = period - 1
        shown = start - 1 - (turn - np.abs((count + 1) % (2 * turn) - turn))
    return _replayed(sample, "mouth_looped", shown, start, rng)


def mouth_flicker(sample: Sample, rng: Rng) -> Sample:
    """Change the mouth from frame to frame: visual 1, throughout, all other labels stay.

    Either brightness, colour and place jitter, or odd and even frames are processed differently, as generators
    that work on single frames leave them. Raises ``NotForgeable`` as ``mouth_blend`` does.
    """
    lips, points = _require_mouth(sample)
    masks = _masks(points, rng)
    moved = points
    if rng.random() < 0.6:
        copies, moved = _jitter(lips, points, rng)
    else:
        copies = lips.copy()
        copies[::2], copies[1::2] = _texture(rng)(lips[::2]), _recolour(_texture(rng)(lips[1::2]), rng)
    return _forged(sample, "mouth_flicker", _over(lips, copies, masks), moved, masks)


def _require_mouth(sample: Sample) -> tuple[Lips, Points]:
    clip = sample.clip
    if clip.lips is None or clip.mouth is None or not np.isfinite(clip.mouth).all():
        raise NotForgeable(f"{sample.row.id}: it has no lips, or their points are not known.")
    if clip.frames < MIN_FRAMES:
        raise NotForgeable(f"{sample.row.id}: it is shorter than {MIN_FRAMES} frames.")
    inside = ((clip.mouth >= 0) & (clip.mouth <= CROP - 1)).all(axis=-1).mean(axis=-1)
    if inside.min() < 0.5:
        raise NotForgeable(f"{sample.row.id}: its mouth leaves the crop.")
    require_genuine(sample, "visual")
    return clip.lips, clip.mouth


def _segment(frames: int, first: int, rng: Rng) -> tuple[int, int]:
    start, end = stretch(frames - first, *_SEGMENT, rng)
    return first + start, first + end


def _replayed(sample: Sample, name: str, shown: NDArray[np.int64], start: int, rng: Rng) -> Sample:
    """Show the mouths of the frames ``shown`` from frame ``start`` on."""
    end = start + len(shown)
    out, moved, masks = _mouths_of(sample, shown, np.arange(start, end), rng)
    label, segments = _sync(sample, start, end, still=name == "mouth_frozen")
    segment = (start / FPS, end / FPS)
    forged = replace(
        sample,
        row=replace(
            sample.row,
            labels=replace(sample.row.labels, sync=label),
            segments=replace(sample.row.segments, visual=(segment,), sync=segments),
        ),
    )
    return _forged(forged, name, out, moved, masks, start)


def _sync(sample: Sample, start: int, end: int, *, still: bool) -> tuple[Label, tuple[Segment, ...]]:
    """Return what the sync label becomes when the lips of a segment are replaced by a still or other ones."""
    label, audio = sample.row.labels.sync, sample.clip.audio
    if label == 1 and not sample.row.segments.sync:
        return 1, ()
    if label != 0 or audio is None:
        return None, ()
    sound = sounding(audio)[start:end]
    if sound.mean() >= 0.5 and _opening(sample)[start:end].std() > _MOVING:
        return 1, ((start / FPS, end / FPS),)
    return (0, ()) if still and not sound.any() else (None, ())


def _opening(sample: Sample) -> NDArray[np.float64]:
    """Return how far the lips are apart (T,), in mouth widths."""
    points = np.asarray(sample.clip.mouth, np.float64)
    gap = np.linalg.norm(points[:, _INNER_TOP] - points[:, _INNER_BOTTOM], axis=-1).mean(axis=-1)
    width = np.linalg.norm(points[:, _CORNERS[0]] - points[:, _CORNERS[1]], axis=-1)
    return gap / np.maximum(width, 1)


def _forged(sample: Sample, name: str, lips: Lips, points: Points, masks: Masks, start: int = 0) -> Sample:
    """Put forged frames into the clip from frame ``start`` on; the visual label becomes 1."""
    clip, end = sample.clip, start + len(lips)
    assert clip.lips is not None
    assert clip.mouth is not None
    change = np.abs(lips.astype(np.float32) - clip.lips[start:end]).mean(axis=-1)
    if (change * masks).sum() < _CHANGE * masks.sum():
        raise NotForgeable(f"{sample.row.id}: {name} hardly changes its mouth.")
    all_lips, all_points = clip.lips.copy(), clip.mouth.copy()
    # To 0.01 px, as in clip files: what is finer would tell the forged.
    all_lips[start:end], all_points[start:end] = lips, np.round(points.astype(np.float64), 2)
    return relabel(
        sample,
        name,
        replace(clip, lips=all_lips, mouth=all_points),
        replace(sample.row.labels, visual=1),
        sample.row.segments,
        shift=sample.shift,
    )


def _masks(points: NDArray[np.floating], rng: Rng) -> Masks:
    """Return soft masks (T, 96, 96) in [0, 1]: the hull of the points (T, n, 2), grown and feathered alike in all.

    The feather is narrow enough for the lips themselves to be covered wholly.
    """
    grow = int(rng.integers(5, 9))
    feather = grow * rng.uniform(0.25, 0.4)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
    masks = np.zeros((len(points), CROP, CROP), np.float32)
    for mask, outline in zip(masks, np.clip(points, -CROP, 2 * CROP), strict=True):
        hull = np.rint(cv2.convexHull(outline.astype(np.float32)) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, hull, 1.0, lineType=cv2.LINE_8, shift=4)
        mask[:] = cv2.GaussianBlur(cv2.dilate(mask, kernel), (0, 0), feather)
    return masks


def _over(lips: Lips, copies: Lips, masks: Masks) -> Lips:
    """Return the copies where the mask is 1, the lips where it is 0."""
    below, above = lips.astype(np.float32), copies.astype(np.float32)
    return np.asarray(np.rint(below + masks[..., None] * (above - below)), np.uint8)


def _mouths_of(
    sample: Sample, shown: NDArray[np.int64], frames: NDArray[np.int64], rng: Rng
) -> tuple[Lips, Points, Masks]:
    """Return ``frames`` with the mouths of the frames ``shown``, brought to where their corners are, and the masks."""
    lips, points = _require_mouth(sample)
    centres = points[:, _CORNERS].mean(axis=1)
    # Whole pixels: in between, interpolation would make the mouth softer than its face.
    offsets = np.rint(centres[frames] - centres[shown])
    moved = points[shown] + offsets[:, None]
    masks = _masks(np.concatenate([points[frames], moved], axis=1), rng)
    copies = np.stack([_moved(lips[s], offset) for s, offset in zip(shown, offsets, strict=True)])
    seams = masks * (1 - masks)
    misfit = np.abs(copies.astype(np.float32) - lips[frames]).mean(axis=-1)
    if ((misfit * seams).sum(axis=(1, 2)) > _MISFIT * seams.sum(axis=(1, 2))).any():
        raise NotForgeable(f"{sample.row.id}: what is around its mouth changes too much for that of another frame.")
    return _over(lips[frames], copies, masks), moved, masks


def _moved(picture: Lips, offset: NDArray[np.floating]) -> Lips:
    matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float64)
    moved = cv2.warpAffine(picture, matrix, (CROP, CROP), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _some(count: int, rng: Rng) -> NDArray[np.bool_]:
    """Draw which of several changes are made: each in two of three clips, one at least."""
    chosen = rng.random(count) < 2 / 3
    chosen[rng.integers(count)] = True
    return chosen


def _warp(lips: Lips, points: Points, rng: Rng) -> tuple[Lips, Points]:
    """Turn, scale, move and bend the mouth a little, the same way in every frame."""
    angle, scale = np.deg2rad(rng.uniform(-4, 4)), rng.uniform(0.92, 1.08, 2)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    offset = rng.uniform(-2, 2, 2)
    field = np.stack([cv2.GaussianBlur(rng.normal(size=(CROP, CROP)), (0, 0), 10) for _ in range(2)], axis=-1)
    bend = rng.uniform(0, 2) * field / np.abs(field).max()
    grid = np.stack(np.meshgrid(np.arange(CROP), np.arange(CROP)), axis=-1)
    back = np.linalg.inv(linear)
    centres = points[:, _CORNERS].mean(axis=1).astype(np.float64)
    copies = np.empty_like(lips)
    for copy, picture, centre in zip(copies, lips, centres, strict=True):
        at = ((grid - centre - offset) @ back.T + centre + bend).astype(np.float32)
        copy[:] = cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    moved = (points - centres[:, None]) @ linear.T + (centres + offset)[:, None]
    return copies, moved.astype(np.float32)


def _recolour(lips: Lips, rng: Rng) -> Lips:
    """Change brightness, contrast and colour balance a little, the same way in every frame."""
    gain, lift = rng.uniform(0.92, 1.08) * rng.uniform(0.97, 1.03, 3), rng.uniform(-8, 8)
    table = np.clip(np.rint(np.arange(256)[:, None] * gain + lift), 0, 255).astype(np.uint8)
    return np.stack([table[lips[..., channel], channel] for channel in range(3)], axis=-1)


def _texture(rng: Rng) -> Callable[[Lips], Lips]:
    """Draw one change of sharpness and return it as a function of lips (T, 96, 96, 3)."""
    change: Callable[[Lips], Lips] = [
        partial(_blurred, sigma=rng.uniform(0.6, 1.5)),
        partial(_sharpened, amount=rng.uniform(0.4, 1.2)),
        partial(_compressed, quality=int(rng.integers(15, 60))),
        partial(_enlarged, side=int(rng.uniform(0.35, 0.7) * CROP)),
    ][rng.integers(4)]
    return lambda lips: np.stack([change(picture) for picture in lips])


def _blurred(picture: Lips, sigma: float) -> Lips:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def _sharpened(picture: Lips, amount: float) -> Lips:
    return np.asarray(cv2.addWeighted(picture, 1 + amount, _blurred(picture, 1.0), -amount, 0), np.uint8)


def _compressed(picture: Lips, quality: int) -> Lips:
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def _enlarged(picture: Lips, side: int) -> Lips:
    """Bring a picture down to ``side`` and up again, as generators of low resolution are."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (CROP, CROP), interpolation=cv2.INTER_CUBIC), np.uint8)


def _jitter(lips: Lips, points: Points, rng: Rng) -> tuple[Lips, Points]:
    """Give every frame a brightness, a colour and a place of its own."""
    count = len(lips)
    lift = rng.uniform(2, 6) * rng.normal(size=(count, 1)) + rng.uniform(0, 3) * rng.normal(size=(count, 3))
    offsets = rng.uniform(0.2, 0.8) * rng.normal(size=(count, 2))
    moved = np.stack([_moved(picture, offset) for picture, offset in zip(lips, offsets, strict=True)])
    copies = np.clip(np.rint(moved + lift[:, None, None]), 0, 255).astype(np.uint8)
    return copies, (points + offsets[:, None]).astype(np.float32)
