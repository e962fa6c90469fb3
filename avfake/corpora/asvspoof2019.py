"""ASVspoof 2019, logical access (LA): read speech against text-to-speech and voice conversion. Sound alone.

Layout (LA.zip of datashare.ed.ac.uk/handle/10283/3336; ROOT is the folder LA in it)::

    ROOT/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{train.trn,dev.trl,eval.trl}.txt
    ROOT/ASVspoof2019_LA_{train,dev,eval}/flac/LA_T_1138215.flac

A protocol line is ``SPEAKER UTTERANCE - ATTACK KEY``, as in ``LA_0079 LA_T_1138215 - - bonafide``. The challenge
scores bona fide as positive; here bonafide is audio 0 and spoof is audio 1. ``method`` is the attack (A01 to A19),
``identity`` the speaker. The splits are the official ones (eval is our test); speakers do not overlap, and A07 to A19
are in eval alone.

Physical access (PA) is not read: its spoofs are replayed recordings of genuine voices, which ``audio`` does not call
fake.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import fields, one_of, present, require
from avfake.manifest import Label, Labels, Row

_TITLE = "ASVspoof 2019 LA"
_SPLITS = {"train": ("train.trn", "train"), "dev": ("dev.trl", "dev"), "eval": ("eval.trl", "test")}


def bonafide_or_spoof(where: str, key: str) -> Label:
    """Return 0 for ``bonafide`` and 1 for ``spoof``; else raise ``CorpusError``."""
    return int(one_of(where, "the key", key, ("bonafide", "spoof")) == "spoof")


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    folder = "ASVspoof2019_LA_cm_protocols"
    require(root, _TITLE, *(f"{folder}/ASVspoof2019.LA.cm.{part}.txt" for part, _ in _SPLITS.values()))
    return present(_listed(root, root / folder), _TITLE)


def _listed(root: Path, protocols: Path) -> Iterator[Row]:
    for name, (part, split) in _SPLITS.items():
        for where, line in fields(protocols / f"ASVspoof2019.LA.cm.{part}.txt", (5,)):
            speaker, utterance, _, attack, key = line
            label = bonafide_or_spoof(where, key)
            yield Row(
                id=utterance,
                video=None,
                audio=str(root / f"ASVspoof2019_LA_{name}" / "flac" / f"{utterance}.flac"),
                corpus="asvspoof2019-la",
                split=split,
                identity=speaker,
                method=attack if label else None,
                language="en",
                labels=Labels(audio=label),
            )


READER = Reader(_TITLE, _rows)
