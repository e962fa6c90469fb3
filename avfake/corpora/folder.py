"""Your own data in folders: genuine files in ``real``, fake ones in ``fake``.

Layout, of either form, with any folders below::

    ROOT/real/..., ROOT/fake/...
    ROOT/{train,dev,test}/real/..., ROOT/{train,dev,test}/fake/...    (val is dev, too)

Upper and lower case are the same, and ``0_real`` and ``1_fake`` (as AVLips names them) mean real and fake. Files are
told apart by their suffix: video, with the sound that is in it, or sound alone; others are passed over.

A file below real is genuine in all aspects. A file below fake is what ``records.plain_labels`` says: sound is a fake
voice, and a video is taken as an **altered face with a voice not known**, unless a variant (visual, audio, both) says
better. ``method`` is the first folder below fake, or ``unknown``. ``corpus`` is the name of ROOT. ``identity`` and
``original`` are None: folders do not tell; use a table if you know them.

Without folders for the splits, ours goes by the name of the file without its suffix, so that a fake that is called
like its original stays with it. Nothing else keeps a person in one split: with several files a person, make the
folders yourself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import AUDIO_SUFFIXES, VIDEO_SUFFIXES, files, present
from avfake.corpora.people import splits
from avfake.corpora.records import VARIANTS, plain_labels, tell_assumption
from avfake.manifest import Row

_TITLE = "a folder of real and fake files"
_KINDS = {"real": False, "0_real": False, "fake": True, "1_fake": True}
_SPLITS = {"train": "train", "dev": "dev", "val": "dev", "test": "test"}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    folders = list(_folders(root))
    if not folders:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else ""
        raise CorpusError(
            f"{root} is not {_TITLE}: expected ROOT/real and ROOT/fake, or the same two in ROOT/train, ROOT/dev and "
            f"ROOT/test, found {found or 'nothing'}."
        )
    return present(_found(root, folders, variant), _TITLE)


def _folders(root: Path) -> Iterator[tuple[Path, bool, str | None]]:
    """Yield each folder of real or fake files, whether it is of fakes, and its split if the folders tell."""
    for path, name in _children(root):
        if name in _KINDS:
            yield path, _KINDS[name], None
        elif name in _SPLITS:
            yield from ((below, _KINDS[kind], _SPLITS[name]) for below, kind in _children(path) if kind in _KINDS)


def _children(folder: Path) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        return []
    return [(path, path.name.lower()) for path in sorted(folder.iterdir()) if path.is_dir()]


def _found(root: Path, folders: list[tuple[Path, bool, str | None]], variant: str | None) -> Iterator[Row]:
    corpus = root.resolve().name
    found = [(files(folder, VIDEO_SUFFIXES + AUDIO_SUFFIXES), folder, fake, split) for folder, fake, split in folders]
    ours = splits(path.stem for paths, _, _, split in found if split is None for path in paths)
    assumed = 0
    for paths, folder, fake, split in found:
        for path in paths:
            below = path.relative_to(folder).parts
            is_video = path.suffix.lower() in VIDEO_SUFFIXES
            assumed += fake and is_video and variant is None
            yield Row(
                id=path.relative_to(root).as_posix(),
                video=str(path) if is_video else None,
                audio=None if is_video else str(path),
                corpus=corpus,
                split=split or ours[path.stem],
                method=(below[0] if len(below) > 1 else "unknown") if fake else None,
                labels=plain_labels(fake, is_video, variant),
            )
    tell_assumption(assumed, "folder")


READER = Reader(_TITLE, _rows, VARIANTS)
