"""avfake: tells whether a talking-face clip was faked.

    >>> import avfake
    >>> detection = avfake.load_detector().detect("clip.mp4")
    >>> print(detection.verdict.label)

Heavy libraries are imported by the modules that need them, never here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avfake.detect import Detector

__version__ = "0.1.0"

FPS = 25
"""Frames per second of the one time grid that everything shares."""
SAMPLE_RATE = 16_000
"""Audio samples per second, mono, everywhere."""
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""Audio samples that belong to one video frame (640)."""


class AvfakeError(Exception):
    """A failure told in one sentence that names the file and the cure.

    Every error a user can cause derives from this class; the command line prints its text and exits with 1.
    """


def load_detector(
    model: str = "mini", *, device: str = "cpu", threads: int = 1, false_alarms: float | None = None
) -> Detector:
    """Return a ready ``Detector``: ``load_detector().detect("clip.mp4")``.

    ``model`` is an embedded model, a checkpoint folder, ``hf:org/name`` or an exported file; ``device`` is a
    torch device; ``threads`` bounds CPU threads (more than one rarely helps: run one process a core instead).
    ``false_alarms`` is the stated false-positive rate whose thresholds decide what is called fake; None is 0.05, or
    the next one that the model has (docs/calibration.md). Raises ``AvfakeError`` if the model cannot be loaded or has
    no thresholds for the rate.
    """
    from avfake.detect import Detector

    return Detector.from_pretrained(model, device=device, threads=threads, false_alarms=false_alarms)
