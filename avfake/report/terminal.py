"""A detection for people: the verdict first, then the evidence behind it, made for 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from avfake.judging import Aspect, Detection, Segment, SyncAspect, Track, Verdict

REASONS = {
    "no_face": "no face in view",
    "face_too_small": "the face is too small",
    "no_audio": "the file has no sound",
    "no_speech": "nobody speaks",
    "too_short": "too little of it to judge",
    "voice_over": "a voice-over: somebody speaks, but not these lips",
    "not_the_speaker": "somebody else in view speaks",
    "not_trained": "the model has not learned to judge it",
}
"""Why something is not judged, in plain words, by the code in the JSON."""

MAX_TRACKS = 8
MAX_FINDINGS = 8
MAX_SEGMENTS = 6

_LABELS = {
    "fake": ("FAKE", "bold red"),
    "genuine": ("GENUINE", "bold green"),
    "not_judged": ("NOT JUDGED", "bold yellow"),
}
_ANSWERS = {
    "fake": ("fake", "bold red"),
    "genuine": ("genuine", "green"),
    "not_judged": ("not judged", "yellow"),
    "in_sync": ("in sync", "green"),
    "shifted": ("shifted", "cyan"),
    "mismatched": ("mismatched", "bold red"),
}


def print_detection(detection: Detection, console: Console) -> None:
    """Print the report of one file. ``print_reminder`` belongs once below one or several of them."""
    console.print(Text.assemble((shown(detection.file), "bold"), (f"  {clock(detection.duration_s)}", "dim")))
    console.print(verdict_line(detection.verdict))
    for finding in _findings(detection):
        console.print(_indented(finding, "- "))
    tracks = most_telling(detection.tracks)
    for track in tracks:
        _print_track(track, console)
    if len(tracks) < len(detection.tracks):
        console.print(_indented(f"and {len(detection.tracks) - len(tracks)} more faces (see --json)"))
    spoken = sum(end - start for start, end in detection.speech)
    console.print(_indented(Text.assemble(("The whole file", "bold"), f"  {clock(spoken)} of speech")))
    console.print(_rows([("voice", detection.voice.status, detection.voice, _segments(detection.voice))]))
    for warning in detection.warnings:
        console.print(_indented(Text(f"warning: {shown(warning)}", "yellow")))


def print_reminder(model: str, console: Console) -> None:
    """Print the line that keeps a report from being taken for more than it is."""
    words = "This is evidence, not proof; docs/detection.md says how to read it and where its limits are."
    console.print(Text(f"Model {model}. {words}", "dim"))


def verdict_line(verdict: Verdict) -> Text:
    """Return the one line that answers, as in ``FAKE  P(fake) 0.93 (high certainty)``."""
    word, style = _LABELS[verdict.label]
    if verdict.p_fake is None:
        return Text.assemble((word, style), ": ", ", ".join(reason(code) for code in verdict.because))
    return Text.assemble((word, style), f"  P(fake) {probability(verdict.p_fake)} ({verdict.sure} certainty)")


def reason(code: str | None) -> str:
    """Return the plain words for a reason code."""
    return REASONS.get(code or "", code or "")


def probability(p: float) -> str:
    """Return P(fake) with two digits, and never as a certainty: ``0.93``, ``>0.99``, ``<0.01``."""
    return ">0.99" if p > 0.99 else "<0.01" if p < 0.01 else f"{p:.2f}"


def clock(seconds: float) -> str:
    """Return a time as ``m:ss.s``, from an hour on as ``h:mm:ss.s``."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{rest / 10:04.1f}"


def offset_words(offset_ms: int) -> str:
    """Return an offset as ``+320 ms (voice late)``."""
    if offset_ms == 0:
        return "0 ms"
    return f"{offset_ms:+d} ms (voice {'late' if offset_ms > 0 else 'early'})"


def shown(name: str) -> str:
    """Return a file name that every terminal can print: undecodable bytes and control characters as ``?``."""
    known = name.encode(errors="replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in known)


def most_telling(tracks: Iterable[Track], count: int = MAX_TRACKS) -> list[Track]:
    """Return up to ``count`` tracks, in order: those that look fake before speakers before others, longest first."""

    def weight(track: Track) -> tuple[bool, bool, float]:
        fake = any(aspect.status == "fake" for aspect in (track.visual, track.audio, track.sync))
        return fake, track.speaker, track.end_s - track.start_s

    return sorted(sorted(tracks, key=weight, reverse=True)[:count], key=lambda track: track.track)


def _findings(detection: Detection) -> list[str]:
    verdict = detection.verdict
    if verdict.label == "not_judged":
        return []
    if not verdict.because:
        return ["no sign of a fake in what was judged"]
    hidden = len(verdict.because) - MAX_FINDINGS
    return [*verdict.because[:MAX_FINDINGS], *([f"and {hidden} more (see --json)"] if hidden > 0 else [])]


def _print_track(track: Track, console: Console) -> None:
    facts = f"  {clock(track.start_s)}-{clock(track.end_s)}, {track.face_px:.0f} px between the eyes"
    if track.speaker:
        facts += ", the speaker"
    if track.p_fake is not None:
        facts += f", P(fake) {probability(track.p_fake)}"
    console.print(_indented(Text.assemble((f"Face {track.track}", "bold"), facts)))
    rows = [
        ("mouth", track.visual.status, track.visual, _segments(track.visual)),
        ("voice", track.audio.status, track.audio, _segments(track.audio)),
        ("sync", track.sync.state, track.sync, _sync_details(track.sync)),
    ]
    console.print(_rows(rows))


def _rows(rows: Sequence[tuple[str, str, Aspect, str]]) -> Padding:
    """One line an aspect: (question, answer, aspect, details)."""
    table = Table.grid(padding=(0, 2))
    for width in (5, 10, 5):
        table.add_column(min_width=width, no_wrap=True)
    table.add_column()
    for question, answer, aspect, details in rows:
        p = "-" if aspect.p_fake is None else probability(aspect.p_fake)
        table.add_row(question, Text(*_ANSWERS[answer]), Text(p, justify="right"), details)
    return Padding(table, (0, 0, 0, 4), expand=False)


def _sync_details(sync: SyncAspect) -> str:
    if sync.offset_ms is None:
        return _segments(sync)
    fault = ": a muxing fault, not a fake" if sync.state == "shifted" else ""
    return f"{offset_words(sync.offset_ms)}{fault}"


def _segments(aspect: Aspect) -> str:
    """Where an aspect looks fake, or why it is not judged."""
    if aspect.status == "not_judged":
        return reason(aspect.reason)

    def words(segment: Segment) -> str:
        return f"{clock(segment.start_s)}-{clock(segment.end_s)} ({probability(segment.p_fake)})"

    parts = [words(segment) for segment in aspect.segments[:MAX_SEGMENTS]]
    if len(aspect.segments) > MAX_SEGMENTS:
        parts.append(f"and {len(aspect.segments) - MAX_SEGMENTS} more")
    return ("doubtful at " if parts and aspect.status == "genuine" else "") + ", ".join(parts)


def _indented(text: str | Text, bullet: str = "") -> Padding:
    """Text wrapped two columns in, after its bullet."""
    line = Table.grid()
    if bullet:
        line.add_column(no_wrap=True)
    line.add_column()
    line.add_row(*([bullet] if bullet else []), text)
    return Padding(line, (0, 0, 0, 2), expand=False)
