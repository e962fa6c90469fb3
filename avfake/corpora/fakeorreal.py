"""Fake-or-Real (FoR): genuine speech of several corpora against text-to-speech of 2019. Sound alone.

Layout (bil.eecs.yorku.ca/datasets; the copies that many people use have the inner folder of the second line)::

    ROOT/for-norm/{training,validation,testing}/{real,fake}/file1.wav_16k.wav_norm.wav_mono.wav_silence.wav
    ROOT/for-norm/for-norm/...    ROOT/for-2sec/for-2seconds/...    ROOT/for-rerec/for-rerecorded/...
    ROOT/for-2seconds/...         ROOT/for-rerecorded/...

Capitals do not matter, and the first of these folders that has both classes in all three splits is read.

real is audio 0, fake is audio 1. The four parts hold the same recordings: ``original`` as collected, ``norm`` with
equal loudness, rate and class sizes (read unless a variant is named), ``2sec`` cut to two seconds, ``rerec`` played
and recorded again. Never train on one and test on another. In ``rerec`` a genuine voice that was recorded again stays
genuine.

``method`` is ``tts``: the corpus does not say which system made a file. ``identity`` is None: it does not name
speakers. The splits are the official ones (validation is our dev).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import files, folders, not_found, present
from avfake.manifest import Labels, Row
from avfake.storage import AUDIO_SUFFIXES

_TITLE = "Fake-or-Real"
_FOLDERS = {
    "norm": ("for-norm", "for-norm/for-norm"),
    "original": ("for-original", "for-original/for-original"),
    "2sec": ("for-2sec", "for-2sec/for-2seconds", "for-2seconds"),
    "rerec": ("for-rerec", "for-rerec/for-rerecorded", "for-rerecorded"),
}
_SPLITS = {"training": "train", "validation": "dev", "testing": "test"}
_KINDS = {"real": 0, "fake": 1}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    part = variant or "norm"
    places = {name: _places(root / name) for name in _FOLDERS[part]}
    fullest = max(places, key=lambda name: len(places[name]))
    missing = [place for place in product(_SPLITS, _KINDS) if place not in places[fullest]]
    if missing:
        raise not_found(root, _TITLE, *(f"{fullest}/{split}/{kind}" for split, kind in missing))
    return present(_found(places[fullest], part), _TITLE)


def _places(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the folders of files by split and kind, such as ("training", "real"), as far as they are there."""
    found = {(split.name.lower(), kind.name.lower()): kind for split in folders(folder) for kind in folders(split)}
    return {place: found[place] for place in product(_SPLITS, _KINDS) if place in found}


def _found(places: dict[tuple[str, str], Path], part: str) -> Iterator[Row]:
    for (split, kind), folder in places.items():
        for path in files(folder, AUDIO_SUFFIXES):
            yield Row(
                id=f"{part}/{split}/{kind}/{path.relative_to(folder).as_posix()}",
                video=None,
                audio=str(path),
                corpus=f"for-{part}",
                split=_SPLITS[split],
                method="tts" if _KINDS[kind] else None,
                language="en",
                labels=Labels(audio=_KINDS[kind]),
            )


READER = Reader(_TITLE, _rows, tuple(_FOLDERS))
