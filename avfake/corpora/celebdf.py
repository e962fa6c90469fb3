"""Celeb-DF (v2).

Layout (github.com/yuezunli/celeb-deepfakeforensics; polimi-ispl/icpr2020dfdc, index_celebdf.py)::

    Celeb-real/id0_0000.mp4                 59 celebrities: PERSON_CLIP
    YouTube-real/00000.mp4                  other people
    Celeb-synthesis/id0_id1_0000.mp4        clip 0000 of id0 with the face of id1: TARGET_SOURCE_CLIP
    List_of_testing_videos.txt              lines such as "1 Celeb-real/id1_0007.mp4"

The list's polarity is the other way round: 1 is REAL there, 0 is fake. Here what lies in ``Celeb-synthesis`` is 1, and
a list that says otherwise is an error. Most files have no sound and the authors say nothing of it: audio and sync are
not labelled.

* ``corpus`` is ``Celeb-DF-v2``;
* ``method`` is ``Celeb-synthesis`` (one improved face swap made all fakes);
* ``identity`` is the target's, such as ``id0``; not known for ``YouTube-real``;
* ``original`` is the target's clip.

Splits: what is on the list is test, all else is train; the authors give no dev, and neither do we, because no part of
train is free of people who are elsewhere in it (each face is swapped with many others). Train and test share people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import by_stem, fields, files, one_of, present, require
from avfake.manifest import Labels, Row

TITLE = "Celeb-DF (v2)"
_FAKES = "Celeb-synthesis"
_NAMES = {
    "Celeb-real": re.compile(r"(?P<target>id\d+)_(?P<clip>\d{4})"),
    "YouTube-real": re.compile(r"\d{5}"),
    _FAKES: re.compile(r"(?P<target>id\d+)_id\d+_(?P<clip>\d{4})"),
}
_LIST = "List_of_testing_videos.txt"


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, TITLE, *_NAMES, _LIST)
    return present(_rows(root), TITLE)


def _rows(root: Path) -> Iterator[Row]:
    listed = _test_videos(root / _LIST)
    # Users often move the files one level down, to FOLDER/videos. Other folders hold other things of the same names.
    there = {
        f"{folder}/{name}": path
        for folder in _NAMES
        for name, path in by_stem(
            path for place in (folder, f"{folder}/videos") for path in files(root / place, (".mp4",), deep=False)
        ).items()
    }
    for key in sorted(there.keys() | listed):
        folder, _, name = key.partition("/")
        path = there.get(key, root / f"{key}.mp4")
        if not (match := _NAMES[folder].fullmatch(name)):
            raise CorpusError(f"{path}: no clip of {TITLE} in {folder} has such a name.")
        found = match.groupdict()
        fake = folder == _FAKES
        yield Row(
            id=key,
            video=str(path),
            audio=None,
            corpus="Celeb-DF-v2",
            split="test" if key in listed else "train",
            identity=found.get("target"),
            method=_FAKES if fake else None,
            original=f"Celeb-real/{found['target']}_{found['clip']}" if fake else None,
            labels=Labels(visual=int(fake)),
        )


def _test_videos(path: Path) -> set[str]:
    """Return the videos of the list, such as ``Celeb-real/id1_0007``, after a check of its labels."""
    videos: set[str] = set()
    for where, (label, video) in fields(path, (2,)):
        folder, _, name = video.partition("/")
        one_of(where, "the folder", folder, _NAMES)
        expected = "0" if folder == _FAKES else "1"
        if label != expected:
            raise CorpusError(f"{where}: label {label} does not fit {folder}; in this list 1 is real and 0 is fake.")
        videos.add(f"{folder}/{Path(name).stem}")
    return videos


READER = Reader(TITLE, _read)
