"""ASVspoof 2021, logical access (LA) and deepfake (DF): evaluation sets alone. Sound alone.

Layout (zenodo.org/records/4837263 for LA, 4835108 for DF; keys: LA-keys-full and DF-keys-full of asvspoof.org, unpacked
beside the sound)::

    ROOT/keys/{LA,DF}/CM/trial_metadata.txt
    ROOT/ASVspoof2021_{LA,DF}_eval/flac/LA_E_9332881.flac

A line of LA has eight fields, one of DF thirteen (asvspoof-challenge/2021, eval-package): speaker, utterance, codec,
transmission (LA) or source (DF), attack, key, trim, subset and, for DF, vocoder, task, team, genders and language.
The challenge scores bona fide as positive; here bonafide is audio 0 and spoof is audio 1. A bona fide line may say
``bonafide`` or ``-`` for its attack; the key alone is believed. ``method`` is the attack, ``identity`` the speaker.

All rows are test. ``corpus`` is ``asvspoof2021-la/SUBSET`` or ``-df/SUBSET``, SUBSET being eval (what the published
figures are for), progress or hidden (silence trimmed), so that scores are told apart. The speakers LA_* are those of
the eval part of ASVspoof 2019; its train and dev parts are what the challenge allowed for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.asvspoof2019 import utterance_row
from avfake.corpora.layout import fields, one_of, present, require
from avfake.manifest import Row

_TITLE = "ASVspoof 2021"
_FIELDS = {"la": 8, "df": 13}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    tracks = [variant] if variant else list(_FIELDS)
    require(root, _TITLE, *(f"keys/{track.upper()}/CM/trial_metadata.txt" for track in tracks))
    return present((row for track in tracks for row in _listed(root, track)), _TITLE)


def _listed(root: Path, track: str) -> Iterator[Row]:
    sound = root / f"ASVspoof2021_{track.upper()}_eval" / "flac"
    for where, line in fields(root / "keys" / track.upper() / "CM" / "trial_metadata.txt", (_FIELDS[track],)):
        speaker, utterance, _, _, attack, key, _, subset = line[:8]
        one_of(where, "the subset", subset, ("eval", "progress", "hidden"))
        corpus = f"asvspoof2021-{track}/{subset}"
        file = sound / f"{utterance}.flac"
        yield utterance_row(where, file, speaker, attack, key, corpus=corpus, split="test", language=None)


READER = Reader(_TITLE, _rows, tuple(_FIELDS))
