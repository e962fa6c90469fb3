"""KoDF, the Korean DeepFake Detection Dataset.

What is read are the metadata tables and, by its name, each clip that they list, wherever it lies below the root: the
archives unpack to different trees (AI-Hub: ``1.Training`` and ``2.Validation`` with Korean folder names; elsewhere
``original_videos/PERSON/...``, ``audio-driven``, ``dffs``, ``dfl``, ``fo`` and ``fsgan``), but all clips have their own
names::

    **/원본영상_{training,validation}_메타데이터.csv    genuine clips
        영상ID file, UUID person, ...
    **/변조영상_{training,validation}_메타데이터.csv    fakes
        영상ID file, 타겟영상 file it was made from, 타겟UUID that one's person, 소스UUID person whose face was put in,
        변조모델 model, ...

Sources: several public readers of the AI-Hub release agree on these names and columns; data/datasets/KoDF/test_list.txt
of github.com/Eleven4AI/SpeechForensics lists clips of the other tree.

The corpus has no label column: a clip in the second table is fake (1 for visual). Its authors altered pictures; whether
the sound of a fake is the one recorded with it is not told (the clips of FSGAN have none), so that audio and sync are
not known. Genuine clips are genuine throughout; many are silent for long.

* ``corpus`` is ``KoDF``; ``method`` is the model, as the table has it (such as dffs, dfl, fsgan);
* ``identity`` is the target's, ``original`` the target's clip; ``language`` is Korean.

Splits are the official ones: training is train, validation is dev. There is no public test part. Copies with an
adversarial perturbation (below a folder named 탐지방해) have the names of the clips that they were made from and are
left out.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import by_stem, files, not_found, present, table
from avfake.manifest import Labels, Row

log = logging.getLogger(__name__)
TITLE = "KoDF"
_TABLE = re.compile(r"(원본영상|변조영상)_(training|validation)_메타데이터\.csv")
_SPLITS = {"training": "train", "validation": "dev"}
_FILE, _PERSON, _TARGET_FILE, _TARGET, _SOURCE, _MODEL = (
    "영상ID",
    "UUID",
    "타겟영상",
    "타겟UUID",
    "소스UUID",
    "변조모델",
)
_PERTURBED = "탐지방해"


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    if not (tables := _tables(root)):
        raise not_found(root, f"{TITLE} with its metadata (train_meta, validate_meta)", "**/원본영상_*_메타데이터.csv")
    return present(_rows(root, tables), TITLE)


def _tables(root: Path) -> list[tuple[Path, re.Match[str]]]:
    """Return the metadata tables; names on disk may be decomposed (macOS) and are compared in composed form."""
    found = ((path, _TABLE.fullmatch(_composed(path.name))) for path in files(root, (".csv",)))
    return [(path, match) for path, match in found if match]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _rows(root: Path, tables: list[tuple[Path, re.Match[str]]]) -> Iterator[Row]:
    there = _clips(root)
    for path, match in tables:
        genuine, split = match[1] == "원본영상", _SPLITS[match[2]]
        columns = (_FILE, _PERSON) if genuine else (_FILE, _TARGET_FILE, _TARGET, _SOURCE, _MODEL)
        for where, line in table(path, columns):
            if empty := [name for name in columns if not line[name]]:
                raise CorpusError(f"{where}: the column {empty[0]} is empty.")
            name = Path(line[_FILE]).stem
            yield Row(
                id=name,
                video=str(there.get(name, root / line[_FILE])),
                audio=None,
                corpus=TITLE,
                split=split,
                identity=line[_PERSON if genuine else _TARGET],
                method=None if genuine else line[_MODEL],
                language="ko",
                original=None if genuine else Path(line[_TARGET_FILE]).stem,
                labels=Labels(visual=0, audio=0, sync=0) if genuine else Labels(visual=1),
            )


def _clips(root: Path) -> dict[str, Path]:
    """Return the clips below the root by their names without suffix."""
    found = files(root, (".mp4",))
    clips = [path for path in found if _PERTURBED not in _composed(str(path.relative_to(root)))]
    if len(clips) < len(found):
        log.warning("%s: %d clips with an adversarial perturbation are left out.", TITLE, len(found) - len(clips))
    return by_stem(clips)


READER = Reader(TITLE, _read)
