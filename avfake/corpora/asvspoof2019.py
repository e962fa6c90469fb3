"""ASVspoof 2019, logical access (LA): read speech against text-to-speech and voice conversion. Sound alone.

Layout (LA.zip of datashare.ed.ac.uk/handle/10283/3336; ROOT is the folder LA in it)::

    ROOT/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{train.trn,dev.trl,eval.trl}.txt
    ROOT/ASVspoof2019_LA_{train,dev,eval}/flac/LA_T_1138215.flac

A protocol line is ``SPEAKER UTTERANCE - ATTACK KEY``, as in ``LA_0079 LA_T_1138215 - - bonafide``. The challenge
scores bona fide as positive; here bonafide is audio 0 and spoof is audio 1. ``method`` is the attack (A01 to A19),
``identity`` the speaker. The splits are the official ones (eval is our test); speakers do not overlap, and A07 to A19
are in eval alone. A protocol that is not there is left out, with a warning.

Physical access (PA) is not read: its spoofs are replayed recordings of genuine voices, which ``audio`` does not call
fake.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import fields, one_of, present, some_of
from avfake.manifest import Labels, Row

_TITLE = "ASVspoof 2019 LA"
_PROTOCOL = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"
_SPLITS = {
    f"{_PROTOCOL}.train.trn.txt": ("train", "train"),
    f"{_PROTOCOL}.dev.trl.txt": ("dev", "dev"),
    f"{_PROTOCOL}.eval.trl.txt": ("eval", "test"),
}


def utterance_row(
    where: str, file: Path, speaker: str, attack: str, key: str, *, corpus: str, split: str, language: str | None = "en"
) -> Row:
    """Return the row of one line of an ASVspoof protocol, of any year; the name of the file is its id.

    Raises ``CorpusError`` unless the key is ``bonafide`` (0) or ``spoof`` (1).
    """
    label = int(one_of(where, "the key", key, ("bonafide", "spoof")) == "spoof")
    return Row(
        id=file.stem,
        video=None,
        audio=str(file),
        corpus=corpus,
        split=split,
        identity=speaker,
        method=attack if label else None,
        language=language,
        labels=Labels(audio=label),
    )


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    return present(_listed(root, some_of(root, _TITLE, *_SPLITS)), _TITLE)


def _listed(root: Path, protocols: list[str]) -> Iterator[Row]:
    for protocol in protocols:
        part, split = _SPLITS[protocol]
        for where, line in fields(root / protocol, (5,)):
            speaker, utterance, _, attack, key = line
            file = root / f"ASVspoof2019_LA_{part}" / "flac" / f"{utterance}.flac"
            yield utterance_row(where, file, speaker, attack, key, corpus="asvspoof2019-la", split=split)


READER = Reader(_TITLE, _rows)
