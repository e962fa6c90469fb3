"""The Deepfake Detection Challenge (DFDC): the full training set, the preview and the labelled test set.

Layouts (github.com/polimi-ispl/icpr2020dfdc, index_dfdc.py; github.com/selimsef/dfdc_deepfake_challenge,
preprocessing/utils.py; the competition's data page on Kaggle)::

    full      dfdc_train_part_N/metadata.json   {file: {label: REAL | FAKE, split: train, original: file}}, N = 0 to 49
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
35 to 39 dev and 40 to 49 test. The preview has the official train and test and no dev; the test set is test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import VIDEO_SUFFIXES, document, files, one_of, present, require, table, value_of
from avfake.manifest import Labels, Row

_GENUINE = Labels(visual=0, audio=0, sync=0)
_FAKE = Labels(visual=1)
_FILES = {"full": "dfdc_train_part_*/metadata.json", "preview": "dataset.json", "test": "labels.csv"}
_LAST_TRAIN, _LAST_DEV, _LAST = 34, 39, 49
_PREVIEW_METHODS = ("method_A", "method_B")


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    if variant:
        require(root, f"DFDC ({variant})", _FILES[variant])
        return _LAYOUTS[variant](root)
    found = [name for name, pattern in _FILES.items() if next(root.glob(pattern), None) is not None]
    if not found:
        require(root, "DFDC, of which it needs one layout", *_FILES.values())
    return chain.from_iterable(_LAYOUTS[name](root) for name in found)


def _full(root: Path) -> Iterator[Row]:
    return present(_full_rows(root), "DFDC")


def _full_rows(root: Path) -> Iterator[Row]:
    parts = {_part(path): path for path in root.glob("dfdc_train_part_*") if path.is_dir()}
    for number, folder in sorted(parts.items()):
        split = "train" if number <= _LAST_TRAIN else "dev" if number <= _LAST_DEV else "test"
        path = folder / "metadata.json"
        for name, record in _records(path):
            where = f"{path}, {name}"
            fake = one_of(where, "label", value_of(where, record, "label", str), ("REAL", "FAKE")) == "FAKE"
            original = value_of(where, record, "original", (str, type(None))) if fake and "original" in record else None
            yield Row(
                id=f"{folder.name}/{Path(name).stem}",
                video=str(folder / name),
                audio=None,
                corpus="DFDC",
                split=split,
                method="DFDC" if fake else None,
                original=f"{folder.name}/{Path(original).stem}" if original else None,
                labels=_FAKE if fake else _GENUINE,
            )


def _part(folder: Path) -> int:
    if not (match := re.fullmatch(r"dfdc_train_part_(\d+)", folder.name)) or int(match[1]) > _LAST:
        raise CorpusError(f"{folder}: the parts of DFDC are dfdc_train_part_0 to dfdc_train_part_{_LAST}.")
    return int(match[1])


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
    # The archive has been unpacked as test/, videos/ and flat; the names are unique, so their folder does not matter.
    there = {path.name: path for path in files(root, VIDEO_SUFFIXES)}
    for where, line in table(root / "labels.csv", ("filename", "label")):
        fake = one_of(where, "label", line["label"], ("0", "1")) == "1"
        yield Row(
            id=f"test/{Path(line['filename']).stem}",
            video=str(there.get(line["filename"], root / line["filename"])),
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
