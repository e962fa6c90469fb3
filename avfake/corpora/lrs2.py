"""LRS2-BBC: genuine talking faces of British television.

Layout (the archive of robots.ox.ac.uk/~vgg/data/lip_reading/lrs2.html unpacks to mvlrs_v1, which is ROOT; the lists are
fetched apart and put into it)::

    ROOT/main/5535415699068794046/00001.mp4    and ROOT/pretrain/...
    ROOT/train.txt, ROOT/val.txt, ROOT/test.txt, and ROOT/pretrain.txt if you have it

A line of a list is ``FOLDER/CLIP``; those of test.txt have a second word, which is not needed. Everything is genuine:
visual, audio and sync are 0 (a small constant offset, which television has, is no fake). ``identity`` is None: a
folder is a broadcast, and the corpus does not say who speaks. The splits are the official ones (val is our dev,
pretrain is training): pretrain and train come from the same years of broadcasts as val, so a speaker may be in both;
test is of later months.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import fields, present, require
from avfake.manifest import Labels, Row

_TITLE = "LRS2"
_LISTS = {
    "pretrain": ("pretrain", "train"),
    "train": ("main", "train"),
    "val": ("main", "dev"),
    "test": ("main", "test"),
}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, _TITLE, "main", "train.txt", "val.txt", "test.txt")
    return present(_listed(root), _TITLE, both_classes=False)


def _listed(root: Path) -> Iterator[Row]:
    for name, (folder, split) in _LISTS.items():
        if name == "pretrain" and not (root / "pretrain.txt").is_file():
            continue
        for _, line in fields(root / f"{name}.txt", (1, 2)):
            yield Row(
                id=f"{folder}/{line[0]}",
                video=str(root / folder / f"{line[0]}.mp4"),
                audio=None,
                corpus="lrs2",
                split=split,
                language="en",
                labels=Labels(visual=0, audio=0, sync=0),
            )


READER = Reader(_TITLE, _rows)
