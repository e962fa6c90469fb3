"""LRS3-TED: genuine talking faces of TED and TEDx talks.

Layout (robots.ox.ac.uk/~vgg/data/lip_reading/lrs3.html; facebookresearch/av_hubert, preparation/lrs3_prepare.py reads
it)::

    ROOT/{pretrain,trainval,test}/0af00UcTOSc/50001.mp4

Everything is genuine: visual, audio and sync are 0. ``identity`` is the talk (a YouTube id), which as a rule has one
speaker; a person with two talks has two. The splits are the official ones: pretrain and trainval, which may share
talks, are both training, test is apart, and there is no official dev set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import files, folders, present, require
from avfake.manifest import Labels, Row

_TITLE = "LRS3"
_SPLITS = {"pretrain": "train", "trainval": "train", "test": "test"}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, _TITLE, "trainval", "test")
    return present(_found(root), _TITLE, both_classes=False)


def _found(root: Path) -> Iterator[Row]:
    for name, split in _SPLITS.items():
        for path in (path for talk in folders(root / name) for path in files(talk, (".mp4",), deep=False)):
            yield Row(
                id=path.relative_to(root).with_suffix("").as_posix(),
                video=str(path),
                audio=None,
                corpus="lrs3",
                split=split,
                identity=path.parent.name,
                language="en",
                labels=Labels(visual=0, audio=0, sync=0),
            )


READER = Reader(_TITLE, _rows)
