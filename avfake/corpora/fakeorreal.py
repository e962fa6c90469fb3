"""Fake-or-Real (FoR): genuine speech of several corpora against text-to-speech of 2019. Sound alone.

Layout (bil.eecs.yorku.ca/datasets; the copies that many people use have the inner folder of the second line)::

    ROOT/for-norm/{training,validation,testing}/{real,fake}/file1.wav_16k.wav_norm.wav_mono.wav_silence.wav
    ROOT/for-norm/for-norm/...    ROOT/for-2sec/for-2seconds/...    ROOT/for-rerec/for-rerecorded/...

real is audio 0, fake is audio 1. The four parts hold the same recordings: ``original`` as collected, ``norm`` with
equal loudness, rate and class sizes (read unless a variant is named), ``2sec`` cut to two seconds, ``rerec`` played
and recorded again. Never train on one and test on another. In ``rerec`` a genuine voice that was recorded again stays
genuine.

``method`` is ``tts``: the corpus does not say which system made a file. ``identity`` is None: it does not name
speakers. The splits are the official ones (validation is our dev).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import AUDIO_SUFFIXES, files, present, require
from avfake.manifest import Labels, Row

_TITLE = "Fake-or-Real"
_FOLDERS = {
    "norm": ("for-norm", "for-norm/for-norm"),
    "original": ("for-original", "for-original/for-original"),
    "2sec": ("for-2sec", "for-2sec/for-2seconds"),
    "rerec": ("for-rerec", "for-rerec/for-rerecorded"),
}
_SPLITS = {"training": "train", "validation": "dev", "testing": "test"}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    part = variant or "norm"
    outer, inner = _FOLDERS[part]
    folder = inner if (root / inner).is_dir() else outer
    require(root, _TITLE, *(f"{folder}/{name}" for name in _SPLITS))
    return present(_found(root / folder, part), _TITLE)


def _found(folder: Path, part: str) -> Iterator[Row]:
    for name, split in _SPLITS.items():
        for label, kind in enumerate(("real", "fake")):
            for path in files(folder / name / kind, AUDIO_SUFFIXES):
                yield Row(
                    id=path.relative_to(folder).as_posix(),
                    video=None,
                    audio=str(path),
                    corpus=f"for-{part}",
                    split=split,
                    method="tts" if label else None,
                    language="en",
                    labels=Labels(audio=label),
                )


READER = Reader(_TITLE, _rows, tuple(_FOLDERS))
