"""Changes of time: lips, voice and labels move together, so that each label stays on what it labels.

Every function takes a ``Sample`` and returns a new one (or the same one where there is nothing to change).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfake import FPS, SAMPLES_PER_FRAME
from avfake.augment.voice import resample
from avfake.manifest import Segment, Segments
from avfake.media.sound import SILENCE
from avfake.models import MAX_SHIFT
from avfake.samples import Sample


def trim_silence(sample: Sample) -> Sample:
    """Cut off the silence before and after the voice, with the lips of that time.

    As AVH-Align (Smeu et al., CVPR 2025) does at the beginning: silence of s seconds, up to the first sample beyond
    ``SILENCE``, costs int(25 s) + 1 frames; here the end is treated alike. A sample without any sound, or of which
    nothing would be left, is returned as it is.
    """
    if sample.clip.audio is None:
        return sample
    loud = np.flatnonzero(np.abs(sample.clip.audio) > SILENCE)
    if not len(loud):
        return sample
    start = int(loud[0]) // SAMPLES_PER_FRAME + 1
    end = sample.clip.frames - (len(sample.clip.audio) - 1 - int(loud[-1])) // SAMPLES_PER_FRAME - 1
    return sample.cut(start, end) if start < end else sample


def change_speed(sample: Sample, stretch: float) -> Sample:
    """Make a sample last ``stretch`` times as long: slow motion above 1, time lapse below.

    Pictures are repeated or dropped. The voice is played slower or faster, pitch and all, as film and tape are: it
    is resampled. Keeping the pitch would need a vocoder or splices, which the label "audio" is about. A voice made
    later by ``shift`` frames is later by ``shift * stretch`` then, rounded to frames by moving the voice a little;
    the rounding never crosses the border between an offset and a mismatch, 15 frames. Where this leaves lips
    without voice, they are cut. A sample of which nothing would be left is returned as it is.

    Raises ``ValueError`` unless 0.5 <= ``stretch`` <= 2.
    """
    if not 0.5 <= stretch <= 2:
        raise ValueError(f"stretch must be 0.5 to 2, not {stretch}")
    clip = sample.clip
    frames = int(clip.frames * stretch + 1e-6)
    if frames < 1:
        return sample
    shown = np.minimum((np.arange(frames) + 0.5) / stretch, clip.frames - 1).astype(int)
    shift = _rounded(sample.shift, stretch)
    moved = shift - sample.shift * stretch  # frames by which the stretched voice is moved, below 1 but near 15

    first, last, audio = 0, frames, None
    if clip.audio is not None:
        stretched = resample(clip.audio, stretch)
        begin = -round(moved * SAMPLES_PER_FRAME)
        end = begin + frames * SAMPLES_PER_FRAME
        audio = np.pad(stretched, (max(0, -begin), max(0, end - len(stretched))))[max(0, begin) :]
        audio = np.clip(audio[: frames * SAMPLES_PER_FRAME], -1, 1)
        first = -(min(0, begin) // SAMPLES_PER_FRAME)
        last = min(frames, (len(stretched) - begin) // SAMPLES_PER_FRAME)
        if first >= last:
            return sample
    row = replace(
        sample.row,
        segments=Segments(
            visual=_stretched(sample.row.segments.visual, stretch, 0.0),
            audio=_stretched(sample.row.segments.audio, stretch, moved / FPS),
            sync=_stretched(sample.row.segments.sync, stretch, 0.0),
        ),
    )
    whole = replace(_shown(sample, shown, audio), row=row, shift=shift)
    return whole.cut(first, last)


def change_frame_rate(sample: Sample, fps: float) -> Sample:
    """Show the pictures at ``fps`` (below 25) a second by repeating some; the voice and all labels stay.

    As two passes of ffmpeg's ``fps`` filter do (to ``fps`` and back; of several pictures for one place the last is
    kept, time stamps are rounded to the nearest), so that no picture is off by more than half its time on the screen
    and half a frame. Mouth points and ``face_ok`` go with their pictures.

    Raises ``ValueError`` unless 0 < ``fps`` <= 25.
    """
    if not 0 < fps <= FPS:
        raise ValueError(f"fps must be above 0 and at most {FPS}, not {fps}")
    frames = sample.clip.frames
    place = np.ceil((np.arange(frames) + 0.5) * fps / FPS - 1e-9) - 1
    shown = np.ceil((place + 0.5) * FPS / fps - 1e-9).astype(int) - 1
    return _shown(sample, np.minimum(shown, frames - 1), sample.clip.audio)


def _shown(sample: Sample, shown: NDArray[np.int_], audio: NDArray[np.float32] | None) -> Sample:
    """Return the sample with the pictures number ``shown`` (T,), and ``audio`` as its voice."""
    clip = sample.clip
    return replace(
        sample,
        clip=replace(
            clip,
            lips=None if clip.lips is None else clip.lips[shown],
            mouth=None if clip.mouth is None else clip.mouth[shown],
            face_ok=clip.face_ok[shown],
            audio=audio,
        ),
    )


def _rounded(shift: int, stretch: float) -> int:
    """Return ``shift * stretch`` in whole frames, on the same side of ``MAX_SHIFT`` as ``shift``."""
    size = round(abs(shift) * stretch)
    size = min(size, MAX_SHIFT) if abs(shift) <= MAX_SHIFT else max(size, MAX_SHIFT + 1)
    return size if shift > 0 else -size


def _stretched(segments: tuple[Segment, ...], stretch: float, moved_s: float) -> tuple[Segment, ...]:
    return tuple((start * stretch + moved_s, end * stretch + moved_s) for start, end in segments)
