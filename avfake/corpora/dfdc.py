"""The Deepfake Detection Challenge (DFDC): the full training set, the preview and the labelled test set.

Layouts (github.com/polimi-ispl/icpr2020dfdc, index_dfdc.py; github.com/selimsef/dfdc_deepfake_challenge,
preprocessing/utils.py; the competition's data page on Kaggle)::

    full      dfdc_train_part_N/metadata.json   {file: {label: REAL | FAKE, split: train, original: file}}, N = 0 to 49
              dfdc_train_part_N/dfdc_train_part_N/metadata.json          as the archives of Kaggle unpack
              train_sample_videos/metadata.json                          Kaggle's sample, where there are no parts
    preview   dataset.json                      {path: {label: real | fake, set: train | test, target_id, swapped_id,
                                                 augmentations}}, path such as method_B/ID/ID_C/NAME.mp4
    test      labels.csv                        filename,label with 1 = fake; the videos below the same root

FAKE is 1. It says that the face or the voice was altered, not which (Kaggle: "a deepfake could be either a face or
voice swap (or both)"). The authors' paper calls it a face swap dataset, so that visual is 1, with some noise, and audio
and sync are not known. In the preview, all fakes are face swaps; of their voices nothing is said. A genuine clip is
genuine throughout.

* ``corpus`` is ``DFDC``, ``DFDC-preview`` or ``DFDC-test``;
* ``method`` is not told (``DFDC``) but for the preview, whose two are ``method_A`` and ``method_B``;
* ``identity`` is the preview's ``target_id``, else not known: two clips may show the same actor;
* ``original`` is the metadata's, in the full set.

Splits: the full set has none that is of use (all is ``train``); as in ISPL's ICPR 2020 paper, parts 0 to 34 are train,
35 to 39 dev and 40 to 49 test. The sample is train; its clips may be those of any part. The preview has the official
train and test and no dev; the test set is test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import by_stem, document, files, folders, log, not_found, one_of, present, table, value_of
from avfake.manifest import Labels, Row
from avfake.storage import VIDEO_SUFFIXES

_GENUINE = Labels(visual=0, audio=0, sync=0)
_FAKE = Labels(visual=1)
_FILES = {"full": "dfdc_train_part_*/metadata.json", "preview": "dataset.json", "test": "labels.csv"}
_SAMPLE = "train_sample_videos"
_LAST_TRAIN, _LAST_DEV, _LAST = 34, 39, 49
_PREVIEW_METHODS = ("method_A", "method_B")


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    found = [name for name in (variant,) if name] or list(_FILES)
    found = [name for name in found if (_metadata(root) if name == "full" else (root / _FILES[name]).is_file())]
    if not found and variant:
        raise not_found(root, f"DFDC ({variant})", _FILES[variant])
    if not found:
        raise not_found(root, "DFDC, of which it needs one layout", *_FILES.values())
    return chain.from_iterable(_LAYOUTS[name](root) for name in found)


def _full(root: Path) -> Iterator[Row]:
    return present(_full_rows(root), "DFDC")


def _full_rows(root: Path) -> Iterator[Row]:
    numbers, metadata = _numbers(root), _metadata(root)
    if bare := [folder for folder in numbers if folder not in metadata]:
        log.warning("DFDC: %d parts have no metadata.json (%s for one) and are left out.", len(bare), bare[0])
    if numbers and (root / _SAMPLE).is_dir():
        log.warning("DFDC: %s is left out, as its clips may be those of the parts.", root / _SAMPLE)
    for folder, path in metadata.items():
        number = numbers.get(folder, 0)
        split = "train" if number <= _LAST_TRAIN else "dev" if number <= _LAST_DEV else "test"
        for name, record in _records(path):
            where = f"{path}, {name}"
            fake = one_of(where, "label", value_of(where, record, "label", str), ("REAL", "FAKE")) == "FAKE"
            original = value_of(where, record, "original", (str, type(None))) if fake and "original" in record else None
            yield Row(
                id=f"{folder.name}/{Path(name).stem}",
                video=str(path.parent / name),
                audio=None,
                corpus="DFDC",
                split=split,
                method="DFDC" if fake else None,
                original=f"{folder.name}/{Path(original).stem}" if original else None,
                labels=_FAKE if fake else _GENUINE,
            )


def _numbers(root: Path) -> dict[Path, int]:
    """Return the folders of the parts, by number, with their numbers."""
    found: dict[int, Path] = {}
    for folder in folders(root):
        if folder.name.startswith("dfdc_train_part_"):
            match = re.fullmatch(r"dfdc_train_part_(\d+)", folder.name)
            if not match or int(match[1]) > _LAST:
                raise CorpusError(f"{folder}: the parts of DFDC are dfdc_train_part_0 to dfdc_train_part_{_LAST}.")
            if (other := found.setdefault(int(match[1]), folder)) != folder:
                raise CorpusError(f"{folder} and {other} are the same part of DFDC; keep one of them.")
    return {found[number]: number for number in sorted(found)}


def _metadata(root: Path) -> dict[Path, Path]:
    """Return the metadata of each part that has some, or else, where there is no part, that of the sample."""
    places = {
        folder: [folder / "metadata.json", folder / folder.name / "metadata.json"]
        for folder in list(_numbers(root)) or [root / _SAMPLE]
    }
    return {folder: path for folder, paths in places.items() for path in paths[::-1] if path.is_file()}


def _preview(root: Path) -> Iterator[Row]:
    return present(_preview_rows(root), "the DFDC preview")


def _preview_rows(root: Path) -> Iterator[Row]:
    path = root / "dataset.json"
    for name, record in _records(path):
        where = f"{path}, {name}"
        fake = one_of(where, "label", value_of(where, record, "label", str), ("real", "fake")) == "fake"
        folder = name.partition("/")[0]
        yield Row(
            id=f"preview/{name.removesuffix('.mp4')}",
            video=str(root / name),
            audio=None,
            corpus="DFDC-preview",
            split=one_of(where, "set", value_of(where, record, "set", str), ("train", "test")),
            identity=f"preview/{value_of(where, record, 'target_id', (str, int))}",
            method=one_of(where, "the folder of a fake", folder, _PREVIEW_METHODS) if fake else None,
            labels=_FAKE if fake else _GENUINE,
        )


def _test(root: Path) -> Iterator[Row]:
    return present(_test_rows(root), "the DFDC test set")


def _test_rows(root: Path) -> Iterator[Row]:
    lines = list(table(root / "labels.csv", ("filename", "label")))
    listed = {Path(line["filename"]).stem for _, line in lines}
    # The archive has been unpacked as test/, videos/ and flat; the names are unique, so their folder does not matter.
    there = by_stem(path for path in files(root, VIDEO_SUFFIXES) if path.stem in listed)
    for where, line in lines:
        name = Path(line["filename"]).stem
        fake = one_of(where, "label", line["label"], ("0", "1")) == "1"
        yield Row(
            id=f"test/{name}",
            video=str(there.get(name, root / line["filename"])),
            audio=None,
            corpus="DFDC-test",
            split="test",
            method="DFDC" if fake else None,
            labels=_FAKE if fake else _GENUINE,
        )


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    value = document(path)
    if not isinstance(value, dict):
        raise CorpusError(f"{path}: it must be an object with a record for each video.")
    yield from sorted(value.items())


_LAYOUTS = {"full": _full, "preview": _preview, "test": _test}
READER = Reader("the Deepfake Detection Challenge", _read, tuple(_LAYOUTS))
