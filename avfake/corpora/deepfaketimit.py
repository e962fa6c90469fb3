"""DeepfakeTIMIT.

Layout (zenodo.org/record/4068245; several public readers agree)::

    {lower,higher}_quality/fadg0/sa1-video-fram1.avi    sentence sa1 of person fadg0 with the face of fram1
    {lower,higher}_quality/fadg0/sa1.wav                its sound

The corpus has fakes alone, 16 pairs of people swapped both ways: visual is 1. The sound is the one recorded with the
target, and a face swap follows the target's mouth: audio and sync are 0, or not labelled where the .wav is missing.
The genuine videos are those of VidTIMIT, another download, which has them as single pictures and is not read here.

* ``corpus`` is ``DeepfakeTIMIT/lower`` or ``DeepfakeTIMIT/higher`` (64 or 128 pixels a face);
* ``method`` is ``faceswap-GAN``; ``identity`` is the target's; ``original`` is not there; ``language`` is English.

There is no official split. Ours keeps the two people of a pair together, in the same split in both qualities
(``avfake.corpora.people.splits`` over the pairs, so that it is the same wherever all of them are there).

Variants ``lower`` and ``higher`` give one quality, else both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader, people
from avfake.corpora.layout import files, present, require
from avfake.manifest import Labels, Row

TITLE = "DeepfakeTIMIT"
QUALITIES = ("lower", "higher")
_NAME = re.compile(r"(?P<sentence>\w+)-video-(?P<face>\w+)")


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, TITLE, f"{variant or '*'}_quality/*/*.avi")
    return present(_rows(root, (variant,) if variant else QUALITIES), TITLE, both_classes=False)


def _rows(root: Path, qualities: tuple[str, ...]) -> Iterator[Row]:
    # All qualities, whichever is asked for, so that a variant does not change the splits.
    clips = {path: _parse(path) for name in QUALITIES for path in files(root / f"{name}_quality", (".avi",))}
    splits = people.splits(_pair(path, match) for path, match in clips.items())
    for path, match in clips.items():
        quality = path.parent.parent.name.removesuffix("_quality")
        if quality in qualities:
            sound = path.with_name(f"{match['sentence']}.wav")
            known = 0 if sound.is_file() else None
            yield Row(
                id=f"{quality}/{path.parent.name}/{path.stem}",
                video=str(path),
                audio=str(sound) if sound.is_file() else None,
                corpus=f"{TITLE}/{quality}",
                split=splits[_pair(path, match)],
                identity=path.parent.name,
                method="faceswap-GAN",
                language="en",
                labels=Labels(visual=1, audio=known, sync=known),
            )


def _parse(path: Path) -> re.Match[str]:
    if not (match := _NAME.fullmatch(path.stem)) or not path.parent.parent.name.endswith("_quality"):
        raise CorpusError(f"{path}: a clip must be QUALITY_quality/PERSON/SENTENCE-video-PERSON.avi.")
    return match


def _pair(path: Path, match: re.Match[str]) -> str:
    return "+".join(sorted((path.parent.name, match["face"])))


READER = Reader(TITLE, _read, QUALITIES)
