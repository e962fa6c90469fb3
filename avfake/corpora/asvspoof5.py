"""ASVspoof 5, track 1: crowd-sourced speech against synthetic, converted and adversarial speech. Sound alone.

Layout (zenodo.org/records/14498691; the protocols may also lie in ROOT/ASVspoof5_protocols)::

    ROOT/ASVspoof5.train.tsv, ROOT/ASVspoof5.dev.track_1.tsv, ROOT/ASVspoof5.eval.track_1.tsv
    ROOT/flac_T/T_*.flac, ROOT/flac_D/D_*.flac, ROOT/flac_E_eval/E_*.flac

In spite of its name a protocol has no tabs and no header: ten fields between spaces, speaker, file, gender, codec,
codec quality, codec seed, attack tag, attack, key and one unused (nii-yamagishilab/AntiDeepfake,
protocols/ASVspoof5.py shows lines, such as ``D_4461 D_0000000169 F - - - AC1 A14 spoof -``; other public readers give
the same names). The challenge scores bona fide as positive; here bonafide is audio 0 and spoof is audio 1. ``method``
is the attack (A01 to A32), ``identity`` the speaker. The splits are the official ones (eval is our test). A
protocol that is not there is left out, with a warning. The early form with six fields, of the challenge's first phase,
is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.asvspoof2019 import utterance_row
from avfake.corpora.layout import fields, present, some_of
from avfake.manifest import Row

_TITLE = "ASVspoof 5"
_PARTS = {
    "ASVspoof5.train.tsv": ("flac_T", "train"),
    "ASVspoof5.dev.track_1.tsv": ("flac_D", "dev"),
    "ASVspoof5.eval.track_1.tsv": ("flac_E_eval", "test"),
}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    protocols = root / "ASVspoof5_protocols"
    if not protocols.is_dir():
        protocols = root
    paths = [protocols / name for name in some_of(protocols, _TITLE, *_PARTS)]
    return present(_listed(root, paths), _TITLE)


def _listed(root: Path, protocols: list[Path]) -> Iterator[Row]:
    for protocol in protocols:
        folder, split = _PARTS[protocol.name]
        for where, line in fields(protocol, (10,)):
            speaker, utterance, attack, key = line[0], line[1], line[7], line[8]
            file = root / folder / f"{utterance}.flac"
            yield utterance_row(where, file, speaker, attack, key, corpus="asvspoof5", split=split)


READER = Reader(_TITLE, _rows)
