"""VoxCeleb2: genuine talking faces of celebrities in interviews, in many languages.

Layout (robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html; facebookresearch/av_hubert, preparation/vox_prepare.py reads it)::

    ROOT/{dev,test}/mp4/id00012/21Uxsk56VDQ/00001.mp4    faces with their sound
    ROOT/{dev,test}/aac/id00012/21Uxsk56VDQ/00001.m4a    the sound alone: the variant voxceleb2:audio

Everything is genuine: visual, audio and sync are 0 (``voxceleb2:audio``: audio 0, nothing else). ``identity`` is the
speaker. The splits are the official ones by their use: what the authors call **dev is the training part**, so it is
our train; test is test; there is no set for tuning. FakeAVCeleb, LAV-DF and AV-Deepfake1M were made from this corpus
and keep its speaker ids (LAV-DF does not give them), so that a genuine clip here may be the original of a fake there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import files, folders, present, require
from avfake.manifest import Labels, Row

_TITLE = "VoxCeleb2"
_SPLITS = {"dev": "train", "test": "test"}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    folder = "aac" if variant == "audio" else "mp4"
    require(root, _TITLE, f"*/{folder}/id*")
    return present(_found(root, folder), _TITLE, both_classes=False)


def _found(root: Path, folder: str) -> Iterator[Row]:
    sound_alone = folder == "aac"
    suffix = ".m4a" if sound_alone else ".mp4"
    for name, split in _SPLITS.items():
        videos = (video for speaker in folders(root / name / folder) for video in folders(speaker))
        for path in (path for video in videos for path in files(video, (suffix,), deep=False)):
            yield Row(
                id=path.relative_to(root).with_suffix("").as_posix(),
                video=None if sound_alone else str(path),
                audio=str(path) if sound_alone else None,
                corpus="voxceleb2",
                split=split,
                identity=path.parts[-3],
                labels=Labels(audio=0) if sound_alone else Labels(visual=0, audio=0, sync=0),
            )


READER = Reader(_TITLE, _rows, ("audio",))
