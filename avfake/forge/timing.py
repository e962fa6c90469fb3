"""Voices that are not those of the lips: made later, another person's, other words, or spliced in for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from avfake.forge.common import (
    MIN_FRAMES,
    MIN_SOUND,
    Audio,
    NotForgeable,
    Rng,
    at_level,
    level,
    put,
    relabel,
    require_genuine,
    require_sound,
    seconds,
    sounding,
    stretch,
)
from avfake.manifest import Labels, Segments
from avfake.samples import Sample

IN_SYNC = 15
"""Frames up to which a constant shift is a fault of muxing and no fake; as far as the models look."""
APART = 25
"""Frames beyond which two moments of one recording count as other words, whatever its own small offset."""

_SPLICE_S = (0.4, 2.0)
_TRIES = 8
_HOP = SAMPLE_RATE // 100  # of the envelopes that are compared
_SAME_RHYTHM = 0.7  # of 4 s: unrelated speech reached 0.55 in 145 pairs, vocoded copies 0.97 and more


def shift(sample: Sample, frames: int) -> Sample:
    """Make the voice ``frames`` frames later (earlier if negative): ``shift``, or ``far_shift`` beyond 15 in all.

    Both streams are cut to what they share, so that no padding betrays the shift: the result is ``abs(frames)``
    shorter. Visual and audio labels and segments move with their stream; sync is 0 up to 15 frames, and 1 beyond.
    Raises ``NotForgeable`` unless the clip has lips and sound in sync and 20 frames are left, 10 of them with sound;
    ``ValueError`` for 0.
    """
    if frames == 0:
        raise ValueError("a shift by 0 frames forges nothing")
    audio = _require_pair(sample)
    left = sample.clip.frames - abs(frames)
    if left < MIN_FRAMES:
        raise NotForgeable(f"{sample.row.id}: a shift by {frames} frames leaves fewer than {MIN_FRAMES} of them.")
    seen, heard = max(frames, 0), max(-frames, 0)
    if np.count_nonzero(sounding(audio)[heard : heard + left]) < MIN_SOUND:
        raise NotForgeable(f"{sample.row.id}: a shift by {frames} frames leaves fewer than {MIN_SOUND} with sound.")
    lips, voice = sample.cut(seen, seen + left), sample.cut(heard, heard + left)
    total = sample.shift + frames
    far = abs(total) > IN_SYNC
    return relabel(
        sample,
        "far_shift" if far else "shift",
        replace(lips.clip, audio=_sound(voice)),
        Labels(lips.row.labels.visual, voice.row.labels.audio, int(far)),
        Segments(lips.row.segments.visual, voice.row.segments.audio),
        shift=total,
    )


def other_voice(sample: Sample, donor: Sample, rng: Rng) -> Sample:
    """Replace the voice by that of another person: sync 1, the donor's audio label, and its language.

    The result is as long as the shorter of the two; the longer is cut at random. The loudness is that of the voice
    replaced. The identity stays that of the face. Raises ``NotForgeable`` unless the clip has lips and sound in
    sync, both have 20 frames with sound, and the donor is not known to be the same person and does not say the same.
    """
    if same_person(sample, donor) or same_recording(sample, donor):
        raise NotForgeable(f"{donor.row.id}: its voice is that of the person seen in {sample.row.id}.")
    return _replaced(sample, donor, "other_voice", rng)


def other_words(sample: Sample, donor: Sample, rng: Rng) -> Sample:
    """Replace the voice by the same person's saying something else; all else is as with ``other_voice``.

    The donor may be of the same recording, a second away at least, which leaves no difference but the words.
    """
    if not (same_person(sample, donor) or same_recording(sample, donor)):
        raise NotForgeable(f"{donor.row.id}: its voice is not known to be that of the person seen in {sample.row.id}.")
    return _replaced(sample, donor, "other_words", rng)


def splice(sample: Sample, donor: Sample, rng: Rng) -> Sample:
    """Replace 0.4 to 2 s of the voice by sound of the donor, between fades of 10 ms, at the loudness of the clip.

    Sync is 1 in that stretch, where the clip has lips. Audio is what the donor is there: 0, 1 with segments, or None
    for the clip if the donor's is not known. The donor may be any clip with sound, the sample itself as well (from a
    second away). Raises ``NotForgeable`` unless audio and, where there are lips, sync are known to be genuine, and
    where nothing would be fake (a genuine voice into sound alone).
    """
    require_genuine(sample, "audio")
    audio, theirs = require_sound(sample), require_sound(donor)
    if sample.clip.lips is not None:
        require_genuine(sample, "sync")
    elif donor.row.labels.audio != 1:
        raise NotForgeable(f"{sample.row.id}: without lips, sound that is not known to be synthetic forges nothing.")
    for start, end, begin in _places(sample, donor, len(audio), len(theirs), rng):
        length = end - start
        piece = theirs[begin : begin + length]
        if not _mostly_sound(donor, begin, length) or _same_rhythm(audio, theirs, start, begin, length):
            continue
        row = donor.row.cut(begin / SAMPLE_RATE, (begin + length) / SAMPLE_RATE)
        whole = seconds(start, end)
        forged = tuple((whole[0] + a, whole[0] + b) for a, b in row.segments.audio) or (whole,)
        fake = row.labels.audio == 1
        if sample.clip.lips is None and not fake:
            continue
        return relabel(
            sample,
            "splice",
            replace(sample.clip, audio=put(audio, at_level(piece, level(audio)), start)),
            Labels(sample.row.labels.visual, row.labels.audio, None if sample.clip.lips is None else 1),
            Segments(
                sample.row.segments.visual,
                forged if fake else (),
                () if sample.clip.lips is None else (whole,),
            ),
            shift=sample.shift,
        )
    raise NotForgeable(f"{donor.row.id}: no stretch of it can be spliced into {sample.row.id}.")


def same_person(a: Sample, b: Sample) -> bool | None:
    """Tell whether two clips are of one person; None where not known, or one name is used in two corpora."""
    if a.row.identity is None or b.row.identity is None:
        return None
    if a.row.identity != b.row.identity:
        return False
    return True if a.row.corpus == b.row.corpus else None


def same_recording(a: Sample, b: Sample) -> bool:
    """Tell whether two clips come of one recording: of one row, made from one, or one made from the other."""
    return bool({a.row.id, a.row.original} & {b.row.id, b.row.original} - {None})


def _require_pair(sample: Sample) -> Audio:
    if sample.clip.lips is None:
        raise NotForgeable(f"{sample.row.id}: it has no lips.")
    audio = require_sound(sample)
    require_genuine(sample, "sync")
    return audio


def _sound(sample: Sample) -> Audio:
    assert sample.clip.audio is not None
    return sample.clip.audio


def _replaced(sample: Sample, donor: Sample, name: str, rng: Rng) -> Sample:
    wanted = level(_require_pair(sample))
    require_sound(donor)
    frames = min(sample.clip.frames, donor.clip.frames)
    if frames < MIN_FRAMES:
        raise NotForgeable(f"{sample.row.id} and {donor.row.id}: one of them is shorter than {MIN_FRAMES} frames.")
    places = [
        (start, begin)
        for start in range(sample.clip.frames - frames + 1)
        for begin in range(donor.clip.frames - frames + 1)
        if _apart(sample, donor, start / FPS, begin / FPS)
    ]
    for start, begin in rng.permutation(places)[:_TRIES].tolist():
        lips, voice = sample.cut(start, start + frames), donor.cut(begin, begin + frames)
        first, second = start * SAMPLES_PER_FRAME, begin * SAMPLES_PER_FRAME
        if np.count_nonzero(sounding(_sound(voice))) * 2 < frames or _same_rhythm(
            _sound(sample), _sound(donor), first, second, frames * SAMPLES_PER_FRAME
        ):
            continue
        return relabel(
            replace(sample, row=replace(sample.row, language=donor.row.language)),
            name,
            replace(lips.clip, audio=at_level(_sound(voice), wanted)),
            Labels(lips.row.labels.visual, voice.row.labels.audio, 1),
            Segments(lips.row.segments.visual, voice.row.segments.audio),
            shift=0,
        )
    raise NotForgeable(f"{donor.row.id}: no stretch of it can replace the voice of {sample.row.id}.")


def _places(sample: Sample, donor: Sample, length: int, theirs: int, rng: Rng) -> Iterator[tuple[int, int, int]]:
    """Draw start and end in the sample and the beginning in the donor, in samples."""
    low, high = (int(s * SAMPLE_RATE) for s in _SPLICE_S)
    for _ in range(_TRIES):
        start, end = stretch(length, low, min(high, theirs), rng)
        begin = int(rng.integers(theirs - (end - start) + 1))
        if _apart(sample, donor, start / SAMPLE_RATE, begin / SAMPLE_RATE):
            yield start, end, begin


def _apart(sample: Sample, donor: Sample, start_s: float, begin_s: float) -> bool:
    """Tell whether the donor's voice from ``begin_s`` on was not recorded with the lips from ``start_s`` on."""
    if not same_recording(sample, donor):
        return True
    recorded = donor.clip.start_s + begin_s - donor.shift / FPS
    return abs(sample.clip.start_s + start_s - recorded) > APART / FPS


def _mostly_sound(donor: Sample, begin: int, length: int) -> bool:
    frames = sounding(_sound(donor))[begin // SAMPLES_PER_FRAME : (begin + length) // SAMPLES_PER_FRAME]
    return bool(frames.mean() >= 0.5)


def _same_rhythm(audio: Audio, theirs: Audio, start: int, begin: int, length: int) -> bool:
    """Tell whether two sounds rise and fall together within 15 frames: converted or dubbed word by word, still in sync.

    Compared are loudness curves in steps of 10 ms, up to a second beyond the stretch on both sides.
    """
    before = min(start, begin, SAMPLE_RATE)
    after = min(len(audio) - start - length, len(theirs) - begin - length, SAMPLE_RATE)
    a = _loudness(audio[start - before : start + length + after])
    b = _loudness(theirs[begin - before : begin + length + after])
    reach = min(IN_SYNC * SAMPLES_PER_FRAME // _HOP, len(a) // 2)
    best = max(
        _correlation(a[max(lag, 0) : len(a) + min(lag, 0)], b[max(-lag, 0) : len(b) + min(-lag, 0)])
        for lag in range(-reach, reach + 1)
    )
    return best > _SAME_RHYTHM


def _loudness(audio: Audio) -> NDArray[np.float64]:
    power = np.mean(audio[: len(audio) // _HOP * _HOP].reshape(-1, _HOP).astype(np.float64) ** 2, axis=1)
    decibel = 10 * np.log10(power + 1e-12)
    return np.maximum(decibel, decibel.max() - 40)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
