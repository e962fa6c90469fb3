"""``avfake demo``: the packaged clip judged twice, as it is and with its voice delayed, and what that shows.

The clip is made by tools/make_demo_clip.py: a program moves the mouth of a portrait to a synthesised voice. Its
mouth and its voice are therefore fake, and its lips do follow its voice.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import av
from rich.console import Console
from rich.text import Text

from avfake.faces.store import cache_dir
from avfake.report.terminal import offset_words, print_detection, print_reminder, probability, reason

if TYPE_CHECKING:
    from avfake.detect import Detector
from avfake.judging import Aspect, Detection, Track

DELAY_MS = 320
FRAME_MS = 40  # offsets are found to the frame


def run_demo(detector: Detector, console: Console) -> None:
    """Judge the demo clip and a delayed copy of it, print both reports and explain them.

    Nothing is left on disk but the face models.
    Raises ``AvfakeError`` where the face models cannot be fetched.
    """
    console.print(
        Text(
            "The demo clip is a fake made for avfake: a program moves the mouth of a portrait, and the voice is a "
            f"computer's. It is judged twice: as it is, and with its voice delayed by {DELAY_MS} ms.\n"
        )
    )
    if not any(cache_dir().glob("*.tflite")):
        console.print(
            Text(
                "First run: two small models that find faces are fetched once (36 MB at most, this can take a minute) "
                f"and kept in {cache_dir()}.\n"
            )
        )
    packaged = resources.files("avfake") / "data" / "demo.mp4"
    with resources.as_file(packaged) as clip, tempfile.TemporaryDirectory(prefix="avfake-demo-") as folder:
        delayed = delay_voice(clip, Path(folder, "demo-delayed.mp4"), DELAY_MS)
        detections = []
        for title, path in (("1. As it is", clip), (f"2. Its voice delayed by {DELAY_MS} ms", delayed)):
            with console.status("judging ...") if console.is_terminal else nullcontext():
                found = detector.detect(path)
            detections.append(replace(found, file=path.name))  # the folder is gone when this is read
            console.print(Text(title, "bold underline"))
            print_detection(detections[-1], console)
            console.print()
    console.print(Text("What this shows", "bold underline"))
    for sentence in explain(*detections):
        console.print(Text(sentence))
    console.print()
    print_reminder(detections[0].model, console)


def delay_voice(source: Path, target: Path, delay_ms: int) -> Path:
    """Copy a media file with its sound ``delay_ms`` later; packets are copied, nothing is encoded again."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is None or packet.pts is None:
                continue  # the empty packet that ends a stream
            if packet.stream.type == "audio":
                shift = round(Fraction(delay_ms, 1000) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
    return target


def explain(original: Detection, delayed: Detection) -> list[str]:
    """Return a few sentences about the two detections, each computed from them."""
    face = _longest(original)
    if face is None:
        return ["No face was found in the demo clip, so there is nothing to compare: something is wrong here."]
    return [
        _noticed("Mouth, generated", face.visual),
        _noticed("Voice, synthetic", face.audio),
        _verdict(original),
        *_offsets(face, _longest(delayed)),
    ]


def _longest(detection: Detection) -> Track | None:
    return max(detection.tracks, key=lambda track: track.end_s - track.start_s, default=None)


def _noticed(what: str, aspect: Aspect) -> str:
    if aspect.p_fake is None:
        return f"{what}: not judged ({reason(aspect.reason)})."
    noticed = "noticed" if aspect.status == "fake" else "this model did not notice"
    return f"{what}: {noticed}, P(fake) {probability(aspect.p_fake)}."


def _verdict(detection: Detection) -> str:
    answers = {
        "fake": "The verdict is fake, which is right.",
        "genuine": "The verdict is genuine, which is wrong: this model missed a fake.",
        "not_judged": "There is no verdict: nothing could be judged.",
    }
    return answers[detection.verdict.label]


def _offsets(original: Track, delayed: Track | None) -> list[str]:
    """What the lips said about the delay, given the same face in both clips."""
    measured = []
    for which, track in (("as it is", original), ("delayed", delayed)):
        if track is None or track.sync.offset_ms is None:
            wanted = f"so the two cannot be compared; {DELAY_MS:+d} ms would have been right."
            return [f"Lips against voice, {which}: {_unmeasured(track)}, {wanted}"]
        measured.append(track.sync.offset_ms)
    first, second = measured
    difference = second - first
    right = abs(difference - DELAY_MS) <= FRAME_MS
    sentences = [
        f"Lips against voice: {offset_words(first)} as it is, {offset_words(second)} in the copy. The difference is "
        f"{difference:+d} ms; {DELAY_MS:+d} ms was put in" + (": found." if right else ", so this model is wrong here.")
    ]
    if right and delayed is not None and delayed.sync.state == "shifted":
        sentences.append("A constant offset like this is a muxing fault: it is reported, and it is not called a fake.")
    return sentences


def _unmeasured(track: Track | None) -> str:
    if track is None:
        return "no face was found"
    if track.sync.state == "mismatched":
        return "this model takes them not to belong together, which is wrong"
    return f"not judged ({reason(track.sync.reason)})"
