"""FaceForensics++ and, inside it, DeepFakeDetection (DFD).

Layout, as the official download script leaves it (github.com/ondyari/FaceForensics, dataset/README.md)::

    original_sequences/{youtube,actors}/{raw|c0,c23,c40}/videos/*.mp4
    manipulated_sequences/{Deepfakes,Face2Face,FaceSwap,NeuralTextures,FaceShifter,DeepFakeDetection}/.../videos/*.mp4
    splits/{train,val,test}.json    lists of pairs of ids, fetched from dataset/splits of that repository

``youtube/000.mp4`` is genuine; ``Deepfakes/000_003.mp4`` is the video 000 with the face of 003 (TARGET_SOURCE). In DFD
``actors/01__SCENE.mp4`` is genuine and ``DeepFakeDetection/01_02__SCENE__CODE.mp4`` is actor 01 with the face of 02.

The corpus has no label field: what lies below ``manipulated_sequences`` is fake (1), the rest is genuine (0). The files
have no sound, hence no label for audio and sync.

* ``corpus`` is ``FaceForensics++/c23`` or ``DFD/c23``, after the compression;
* ``method`` is the folder of the manipulation;
* ``identity`` is the target's: ``youtube/000`` or ``actors/01``;
* ``original`` is the target's own video.

Splits of FaceForensics++ are the official ones, which keep both videos of a pair and both fakes made from them
together. DFD has none, and its actors were swapped with one another throughout, so that three splits without a common
actor would cost most of the fakes; all of it is test, which is how the field uses it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import document, files, present, require
from avfake.manifest import Labels, Row

log = logging.getLogger(__name__)
TITLE = "FaceForensics++"
COMPRESSIONS = ("raw", "c0", "c23", "c40")
_METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
_SPLIT_FILES = {"train": "train.json", "dev": "val.json", "test": "test.json"}
_SPLIT_FOLDERS = ("splits", "dataset/splits", ".")
_SPLIT_SOURCE = "https://github.com/ondyari/FaceForensics/tree/master/dataset/splits"
_ACTOR = re.compile(r"(\d\d)__(\w+)")
_SWAPPED_ACTOR = re.compile(r"(\d\d)_(\d\d)__(\w+)__([0-9A-Z]{8})")

Pairs = dict[str, list[tuple[str, str]]]


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, TITLE, f"*_sequences/*/{variant or '*'}/videos")
    compressions = (variant,) if variant else COMPRESSIONS
    needed = any(folder.is_dir() for name in compressions for folder in _pair_folders(root, name).values())
    return present(_rows(root, compressions, _pairs(root) if needed else {}), TITLE)


def _rows(root: Path, compressions: tuple[str, ...], pairs: Pairs) -> Iterator[Row]:
    for compression in compressions:
        for source, folder in _pair_folders(root, compression).items():
            if folder.is_dir():
                yield from _pair_rows(folder, source, compression, pairs)
        yield from _actor_rows(root, compression)


def _pair_folders(root: Path, compression: str) -> dict[str, Path]:
    """Return the folders whose splits are official: those of the youtube videos and of the fakes made from them."""
    fakes = {method: root / "manipulated_sequences" / method / compression / "videos" for method in _METHODS}
    return {"youtube": root / "original_sequences" / "youtube" / compression / "videos", **fakes}


def _pair_rows(folder: Path, source: str, compression: str, pairs: Pairs) -> Iterator[Row]:
    """Yield the rows of one folder, ``source`` being youtube or a method, for every clip that the splits name."""
    expected: set[str] = set()
    for split, couples in pairs.items():
        for target, other in (pair for a, b in couples for pair in ((a, b), (b, a))):
            name = target if source == "youtube" else f"{target}_{other}"
            expected.add(name)
            yield Row(
                id=f"{compression}/{source}/{name}",
                video=str(folder / f"{name}.mp4"),
                audio=None,
                corpus=f"{TITLE}/{compression}",
                split=split,
                identity=f"youtube/{target}",
                method=None if source == "youtube" else source,
                original=None if source == "youtube" else f"{compression}/youtube/{target}",
                labels=Labels(visual=int(source != "youtube")),
            )
    if strays := [path for path in files(folder, (".mp4",)) if path.stem not in expected]:
        log.warning("%s: %d files (%s for one) are in no split and are left out.", TITLE, len(strays), strays[0])


def _actor_rows(root: Path, compression: str) -> Iterator[Row]:
    for path in files(root / "original_sequences" / "actors" / compression / "videos", (".mp4",)):
        if not (name := _ACTOR.fullmatch(path.stem)):
            raise CorpusError(f"{path}: a genuine clip of DFD is named ACTOR__SCENE.mp4, such as 01__kitchen_pan.mp4.")
        yield _actor_row(path, compression, "actors", name[1], None)
    for path in files(root / "manipulated_sequences" / "DeepFakeDetection" / compression / "videos", (".mp4",)):
        if not (name := _SWAPPED_ACTOR.fullmatch(path.stem)):
            raise CorpusError(
                f"{path}: a fake of DFD is named TARGET_SOURCE__SCENE__CODE.mp4, with eight for the code."
            )
        yield _actor_row(path, compression, "DeepFakeDetection", name[1], f"{compression}/actors/{name[1]}__{name[3]}")


def _actor_row(path: Path, compression: str, source: str, actor: str, original: str | None) -> Row:
    return Row(
        id=f"{compression}/{source}/{path.stem}",
        video=str(path),
        audio=None,
        corpus=f"DFD/{compression}",
        split="test",
        identity=f"actors/{actor}",
        method=None if original is None else source,
        original=original,
        labels=Labels(visual=int(original is not None)),
    )


def _pairs(root: Path) -> Pairs:
    """Return the pairs of ids of each split. Raises ``CorpusError`` where the official files are not there."""
    for folder in (root / name for name in _SPLIT_FOLDERS):
        if all((folder / name).is_file() for name in _SPLIT_FILES.values()):
            break
    else:
        raise CorpusError(
            f"{root} lacks the official splits: put train.json, val.json and test.json from {_SPLIT_SOURCE} "
            f"into {root / 'splits'}."
        )
    pairs: Pairs = {}
    seen: dict[str, Path] = {}
    for split, name in _SPLIT_FILES.items():
        path = folder / name
        pairs[split] = _couples(path, document(path))
        for video in (video for couple in pairs[split] for video in couple):
            if video in seen:
                raise CorpusError(f"{path}: video {video} is already in {seen[video]}; get the official files again.")
            seen[video] = path
    return pairs


def _couples(path: Path, value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        raise CorpusError(f"{path}: it must be a list of pairs of ids.")
    for couple in value:
        ids = couple if isinstance(couple, list) else ()
        if len(ids) != 2 or not all(isinstance(name, str) and re.fullmatch(r"\d{3}", name) for name in ids):
            raise CorpusError(f'{path}: {couple!r} is not a pair of ids such as ["720", "672"].')
    return [(a, b) for a, b in value]


READER = Reader(TITLE, _read, COMPRESSIONS)
