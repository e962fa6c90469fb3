"""Samples: a clip together with what is known of it. What shards hold, forging and augmenting change, training eats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avfake import FPS, SAMPLES_PER_FRAME
from avfake.clips import Clip
from avfake.manifest import Row
from avfake.media import Decoder, MediaError
from avfake.storage import local_copy


@dataclass(eq=False)
class Sample:
    """One clip and its labels.

    ``row``    what is known; its segments are in seconds of the clip (0 = the clip's first frame), not of the file.
    ``clip``   the lips and the sound.
    ``shift``  frames by which the voice has been made later than it was recorded (earlier if negative).
    """

    row: Row
    clip: Clip
    shift: int = 0

    def cut(self, start: int, end: int) -> Sample:
        """Return frames ``start`` to ``end`` (exclusive) with their labels. Raises ``ValueError`` beyond the clip."""
        clip = self.clip
        if not 0 <= start < end <= clip.frames:
            raise ValueError(f"frames {start} to {end} do not lie in a clip of {clip.frames}")
        return replace(
            self,
            row=self.row.cut(start / FPS, end / FPS),
            clip=Clip(
                lips=None if clip.lips is None else clip.lips[start:end],
                audio=None if clip.audio is None else clip.audio[start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME],
                mouth=None if clip.mouth is None else clip.mouth[start:end],
                face_ok=clip.face_ok[start:end],
                start_s=clip.start_s + start / FPS,
                track=clip.track,
                source=clip.source,
            ),
        )

    def frame_labels(self, aspect: str) -> NDArray[np.float32]:
        """Return the label of each frame (T,); see the function of this name."""
        return frame_labels(self.row, aspect, self.clip.frames)


def frame_labels(row: Row, aspect: str, frames: int) -> NDArray[np.float32]:
    """Return the label of each of ``frames`` frames (T,) for ``visual``, ``audio`` or ``sync``: 0, 1, NaN = not known.

    A frame is fake when its middle lies in a segment of ``row``, which is in seconds from the first frame on, or
    everywhere when label 1 comes without segments.
    """
    label, segments = getattr(row.labels, aspect), getattr(row.segments, aspect)
    if label is None:
        return np.full(frames, np.nan, np.float32)
    if label == 0 or not segments:
        return np.full(frames, label, np.float32)
    # In whole microseconds: a segment that a cut has moved is off by a rounding error, and may end in a frame's middle.
    middles = np.rint((np.arange(frames) + 0.5) / FPS * 1e6)
    edges = np.rint(np.asarray(segments) * 1e6)
    inside = [(start <= middles) & (middles < end) for start, end in edges]
    return np.any(inside, axis=0).astype(np.float32)


@contextmanager
def opened(row: Row, *, threads: int = 1) -> Iterator[Decoder]:
    """Open the media of a row, its picture and its sound on one clock; it is closed afterwards.

    Raises ``MediaError`` and ``StorageError``, which name the row's files, not local copies of them.
    """
    with ExitStack() as stack:
        addresses = [address for address in (row.video, row.audio) if address is not None]
        paths = [stack.enter_context(local_copy(address)) for address in addresses]
        try:
            decoder = Decoder(paths[0], sound=paths[1] if len(paths) == 2 else None, threads=threads)
            stack.callback(decoder.close)
            yield decoder
        except MediaError as error:
            text = str(error)
            for path, address in zip(paths, addresses, strict=True):
                text = text.replace(path, address)
            raise MediaError(text) from error
