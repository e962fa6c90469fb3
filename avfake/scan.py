"""Judging many files: what an archive holds, one answer a file, on any engine, going on where a killed run stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from avfake import AvfakeError
from avfake.detect import Detector
from avfake.faces import BackendName
from avfake.judging import Detection
from avfake.storage import local_copy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judges:
    """Makes, in each worker process, a detector and the function that answers for one file (see ``judge``)."""

    model: str
    device: str
    faces: BackendName
    false_alarms: float | None

    def __call__(self) -> Callable[[str], Detection | str]:
        """Load the detector."""
        detector = Detector.from_pretrained(
            self.model, device=self.device, faces=self.faces, false_alarms=self.false_alarms
        )
        return partial(judge, detector)


def judge(
    detector: Detector, address: str, *, progress: Callable[[float], None] = lambda seconds: None
) -> Detection | str:
    """Return the detection, or the sentence that says why there is none; never raises but to stop everything."""
    path = address
    try:
        with local_copy(address) as path:
            detection = detector.detect(path, progress=progress)
        json.dumps(detection.to_dict(), allow_nan=False)
        return replace(detection, file=address)
    except AvfakeError as error:
        message = str(error).replace(path, address)
        return message if address in message else f"{address}: {message}"
    except Exception as error:  # hours of other files may hang on this run; the traceback is shown, the exit code is 1
        log.exception("%s: an error inside avfake", address.replace("\n", "?"))
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{address}: avfake itself failed ({reason}); please report it with the lines above"
