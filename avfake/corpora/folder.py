"""Your own data in folders: genuine files in ``real``, fake ones in ``fake``.

Layout, of either form, with any folders below::

    ROOT/real/..., ROOT/fake/...
    ROOT/{train,dev,test}/real/..., ROOT/{train,dev,test}/fake/...    (val is dev, too)
    ROOT/real/{train,dev,test}/..., ROOT/fake/{train,dev,test}/...

Upper and lower case are the same, and ``0_real`` and ``1_fake`` (as AVLips names them) mean real and fake. Files are
told apart by their suffix: video, with the sound that is in it, or sound alone; others, and other folders, are passed
over, which a warning says.

A file below real is genuine in all aspects. A file below fake is what ``records.plain_labels`` says: sound is a fake
voice, and a video is taken as an **altered face with a voice not known**, unless a variant (visual, audio, both) says
better. ``method`` is the first folder below fake (and its split), or ``unknown``. ``corpus`` is the name of ROOT, and
ids begin with it. ``identity`` and ``original`` are None: folders do not tell; use a table if you know them.

Without folders for the splits, ours (``people.split_of``) goes by the name of the file without its suffix, so that a
fake that is called like its original stays with it. Nothing else keeps a person in one split: with several files a
person, make the folders yourself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import files, folders, log, present
from avfake.corpora.people import split_of
from avfake.corpora.records import VARIANTS, plain_labels, tell_assumption
from avfake.manifest import Row
from avfake.storage import MEDIA_SUFFIXES, VIDEO_SUFFIXES

_TITLE = "a folder of real and fake files"
_KINDS = {"real": False, "0_real": False, "fake": True, "1_fake": True}
_SPLITS = {"train": "train", "dev": "dev", "val": "dev", "test": "test"}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    found, strange = _folders(root)
    if not found:
        names = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else ""
        raise CorpusError(
            f"{root} is not {_TITLE}: expected ROOT/real and ROOT/fake, or the same two in ROOT/train, ROOT/dev and "
            f"ROOT/test, found {names or 'nothing'}."
        )
    if strange:
        names = ", ".join(path.relative_to(root).as_posix() for path in strange[:8])
        log.warning("%d folders (%s) are neither real nor fake nor a split, and are passed over.", len(strange), names)
    return present(_found(root, found, variant), _TITLE)


def _folders(root: Path) -> tuple[list[tuple[Path, bool, str | None]], list[Path]]:
    """Return each folder of real or fake files, whether it is of fakes, and its split if one lies above; and others."""
    found: list[tuple[Path, bool, str | None]] = []
    strange: list[Path] = []
    for path in folders(root):
        split = _SPLITS.get(path.name.lower())
        for place in [path] if split is None else folders(path):
            if (fake := _KINDS.get(place.name.lower())) is None:
                strange.append(place)
            else:
                found.append((place, fake, split))
    return found, strange


def _found(root: Path, places: list[tuple[Path, bool, str | None]], variant: str | None) -> Iterator[Row]:
    corpus = root.resolve().name
    assumed = 0
    strange: list[Path] = []
    for folder, fake, split_above in places:
        for path in files(folder):
            if path.suffix.lower() not in MEDIA_SUFFIXES:
                strange.append(path)
                continue
            below = path.relative_to(folder).parts[:-1]
            split = split_above
            if split is None and below and (split := _SPLITS.get(below[0].lower())):
                below = below[1:]
            is_video = path.suffix.lower() in VIDEO_SUFFIXES
            assumed += fake and is_video and variant is None
            yield Row(
                id=f"{corpus}/{path.relative_to(root).as_posix()}",
                video=str(path) if is_video else None,
                audio=None if is_video else str(path),
                corpus=corpus,
                split=split or split_of(path.stem),
                method=(below[0] if below else "unknown") if fake else None,
                labels=plain_labels(fake, is_video, variant),
            )
    tell_assumption(assumed, "folder")
    if strange:
        example = strange[0]
        log.warning("%d files (%s for one) have no suffix of video or sound: passed over.", len(strange), example)


READER = Reader(_TITLE, _rows, VARIANTS, ids_as_is=True)
