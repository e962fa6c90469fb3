"""FakeAVCeleb v1.2.

Layout (github.com/DASH-Lab/FakeAVCeleb with its issue 11; github.com/Vincent-ZHQ/MRDF, dataset/fakeavceleb.py)::

    meta_data.csv       source,target1,target2,method,category,type,race,gender,path,
    {RealVideo,FakeVideo}-{RealAudio,FakeAudio}/RACE/GENDER/SOURCE/NAME.mp4

The header is one name off: the column ``path`` holds the FILE NAME, and the last one, without a name, the FOLDER, such
as ``FakeAVCeleb/RealVideo-RealAudio/African/men/id00076``, of which the first part is the root.

``type`` says what is fake, and is turned into labels (1 = fake) for visual and audio. For sync:

* genuine clips, and all with Wav2Lip, whose lips were made to fit the voice that is heard: 0;
* RealVideo-FakeAudio (``rtvc``): a cloned voice beside lips that said it otherwise, aligned nobody says how: not known;
* face swaps beside a real voice (``faceswap``, ``fsgan``): nobody says whose recording is heard: not known.

The rest of the row:

* ``corpus`` is ``FakeAVCeleb``; ``method`` is the column of that name, with the type, as in
  ``FakeVideo-FakeAudio:wav2lip``;
* ``identity`` is ``source``, the person whose folder it is. A fake may borrow the face or the voice of another person
  of the same race and gender, who may be in another split; MRDF's folds do not prevent this either;
* ``original`` is the source's genuine clip for ``wav2lip`` and ``rtvc``; for face swaps it is not told which of the two
  recordings the frames come from.

There is no official split. Ours is one of five subject-independent folds in the manner of MRDF: within each group of
race and gender, people are dealt in turn to the folds in the order of the SHA-256 of their ids. Of variant K (1 unless
told otherwise), fold K is test, the next one (1 after 5) dev, and the other three train.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import one_of, present, require, table
from avfake.corpora.people import shuffled
from avfake.manifest import Labels, Row

log = logging.getLogger(__name__)
TITLE = "FakeAVCeleb v1.2"
FOLDS = 5
_COLUMNS = ("source", "method", "type", "race", "gender", "path")
_FOLDER = ""  # the header ends with a comma
_GENUINE = "RealVideo-RealAudio"
_TYPES = {
    _GENUINE: (0, 0),
    "RealVideo-FakeAudio": (0, 1),
    "FakeVideo-RealAudio": (1, 0),
    "FakeVideo-FakeAudio": (1, 1),
}
_IN_SYNC = {"real": True, "rtvc": False, "faceswap": False, "fsgan": False} | dict.fromkeys(
    ("wav2lip", "faceswap-wav2lip", "fsgan-wav2lip"), True
)
_SAME_FRAMES = ("wav2lip", "rtvc")

Lines = Sequence[tuple[str, dict[str, str]]]


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, TITLE, "meta_data.csv", *_TYPES)
    lines = list(table(root / "meta_data.csv", _COLUMNS))
    return present(_rows(root, lines, _splits(lines, int(variant or 1))), TITLE)


def _splits(lines: Lines, test: int) -> dict[str, str]:
    """Return the split of each source when fold ``test`` (from 1) is the test split."""
    groups: dict[tuple[str, str], set[str]] = {}
    for _, line in lines:
        groups.setdefault((line["race"], line["gender"]), set()).add(line["source"])
    names = {test: "test", test % FOLDS + 1: "dev"}
    return {
        person: names.get(position % FOLDS + 1, "train")
        for people in groups.values()
        for position, person in enumerate(shuffled(people))
    }


def _rows(root: Path, lines: Lines, splits: dict[str, str]) -> Iterator[Row]:
    ids = {_id(where, line) for where, line in lines}
    seen: set[str] = set()
    for where, line in lines:
        row_id = _id(where, line)
        if row_id not in seen:
            seen.add(row_id)
            yield _row(root, where, line, row_id, ids, splits[line["source"]])
    if len(seen) < len(lines):
        log.warning("%s: %d lines name a clip again and are left out.", TITLE, len(lines) - len(seen))


def _row(root: Path, where: str, line: dict[str, str], row_id: str, ids: set[str], split: str) -> Row:
    kind = one_of(where, "type", line["type"], _TYPES)
    method = one_of(where, "method", line["method"], _IN_SYNC)
    if (method == "real") != (kind == _GENUINE):
        raise CorpusError(f"{where}: method {method} does not fit type {kind}; real goes with {_GENUINE} alone.")
    visual, audio = _TYPES[kind]
    folder = PurePosixPath(row_id).parent.relative_to(kind)
    original = f"{_GENUINE}/{folder}/{line['path'].split('_')[0].removesuffix('.mp4')}"
    return Row(
        id=row_id,
        video=str(root / f"{row_id}.mp4"),
        audio=None,
        corpus="FakeAVCeleb",
        split=split,
        identity=line["source"],
        method=None if kind == _GENUINE else f"{kind}:{method}",
        original=original if method in _SAME_FRAMES and original in ids else None,
        labels=Labels(visual=visual, audio=audio, sync=0 if _IN_SYNC[method] else None),
    )


def _id(where: str, line: dict[str, str]) -> str:
    """Return a clip's path below the root without its ending."""
    if _FOLDER not in line:
        raise CorpusError(f"{where}: the column without a name, for the folder, is missing; use the table as shipped.")
    folder = PurePosixPath(line[_FOLDER])
    if len(folder.parts) < 3 or folder.parts[1] != line["type"]:
        raise CorpusError(f"{where}: the last column must be FakeAVCeleb/{line['type']}/..., not {line[_FOLDER]!r}.")
    if not line["path"].endswith(".mp4"):
        raise CorpusError(f"{where}: the column path must hold the name of an .mp4 file, not {line['path']!r}.")
    return str(PurePosixPath(*folder.parts[1:]) / line["path"].removesuffix(".mp4"))


READER = Reader(TITLE, _read, tuple(str(fold) for fold in range(1, FOLDS + 1)))
