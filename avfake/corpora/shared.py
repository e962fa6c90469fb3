"""The shared corpus: talking-face clips and speech, genuine and fake, gathered from public demos.

Its root holds ``video.csv`` with ``video/*.mp4`` and ``audio.csv`` with ``audio/*.opus``. In the rows

* ``corpus`` is ``shared/SOURCE``, SOURCE being the project that posted the clip, so that scores can be
  averaged over sources;
* ``method`` is ``KIND:METHOD`` for a fake, KIND being lipsync, talking_head, face_swap, reenactment,
  voice_swap or av_both for video and tts, vc or vocoder for speech, so that scores can be told by kind;
* ``original`` is the genuine recording of the same sentence, where there is exactly one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import one_of, require, table
from avfake.manifest import SPLITS, Label, Labels, Row

_VIDEO_COLUMNS = ("file", "split", "label", "fake_kind", "method", "source", "identity", "language", "notes")
_AUDIO_COLUMNS = ("file", "split", "label", "kind", "system", "source", "speaker", "language", "pair")

_VIDEO_LABELS = {
    "none": Labels(visual=0, audio=0, sync=0),
    "lipsync": Labels(visual=1, audio=0, sync=0),
    "talking_head": Labels(visual=1, audio=None, sync=0),
    "face_swap": Labels(visual=1, audio=0, sync=0),
    "reenactment": Labels(visual=1, audio=0, sync=0),
    "voice_swap": Labels(visual=0, audio=1, sync=None),
    "av_both": Labels(visual=1, audio=1, sync=None),
}
_AUDIO_IS_REAL = re.compile(r"\baudio real\b(?! or\b)")  # not: "audio real or TTS not stated"
_AUDIO_KINDS = ("none", "tts", "vc", "vocoder", "unknown")
_UNKNOWN_LANGUAGES = ("", "und", "unknown")


def rows(root: str | os.PathLike[str]) -> Iterator[Row]:
    """Yield the rows of ``video.csv``, then those of ``audio.csv``, with paths below ``root``.

    Raises ``CorpusError`` when ``root`` does not hold the corpus or a table has a value that it should not.
    """
    root = Path(root)
    require(root, "the shared corpus", "video.csv", "video", "audio.csv", "audio")
    return _rows(root)


def _rows(root: Path) -> Iterator[Row]:
    for where, line in table(root / "video.csv", _VIDEO_COLUMNS):
        yield _video_row(root, where, line)
    speech = list(table(root / "audio.csv", _AUDIO_COLUMNS))
    genuine: dict[str, list[str]] = {}
    for _, line in speech:
        if line["label"] == "0" and line["pair"]:
            genuine.setdefault(line["pair"], []).append(Path(line["file"]).stem)
    for where, line in speech:
        originals = genuine.get(line["pair"], []) if line["label"] == "1" else []
        yield _audio_row(root, where, line, originals[0] if len(originals) == 1 else None)


def _video_row(root: Path, where: str, line: dict[str, str]) -> Row:
    kind = one_of(where, "fake_kind", line["fake_kind"], tuple(_VIDEO_LABELS))
    _check_label(where, line, kind)
    visual, audio, sync = (getattr(_VIDEO_LABELS[kind], name) for name in ("visual", "audio", "sync"))
    # The notes overrule the table where they leave doubt; an unstated origin is doubt enough.
    if kind == "lipsync" and not _AUDIO_IS_REAL.search(line["notes"]):
        audio = None
    if kind == "voice_swap" and "video real" not in line["notes"]:
        visual = None
    return Row(
        id=Path(line["file"]).stem,
        video=str(root / line["file"]),
        audio=None,
        corpus=f"shared/{line['source']}",
        split=one_of(where, "split", line["split"], SPLITS),
        identity=line["identity"] or None,
        method=None if kind == "none" else f"{kind}:{line['method']}",
        language=_language(line),
        labels=Labels(visual, audio, sync),
    )


def _audio_row(root: Path, where: str, line: dict[str, str], original: str | None) -> Row:
    kind = one_of(where, "kind", line["kind"], _AUDIO_KINDS)
    label = _check_label(where, line, kind)
    return Row(
        id=Path(line["file"]).stem,
        video=None,
        audio=str(root / line["file"]),
        corpus=f"shared/{line['source']}",
        split=one_of(where, "split", line["split"], SPLITS),
        identity=line["speaker"] or None,
        method=None if kind == "none" else f"{kind}:{line['system']}",
        language=_language(line),
        original=original,
        labels=Labels(audio=label),
    )


def _check_label(where: str, line: dict[str, str], kind: str) -> Label:
    label = int(one_of(where, "label", line["label"], ("0", "1")))
    if (label == 1) != (kind != "none"):
        raise CorpusError(f"{where}: label {label} does not fit kind {kind!r}; 1 is fake, and 0 goes with none.")
    return label


def _language(line: dict[str, str]) -> str | None:
    return None if line["language"] in _UNKNOWN_LANGUAGES else line["language"]


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    return rows(root)


READER = Reader("the shared corpus", _read, ids_as_is=True)
