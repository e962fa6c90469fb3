"""Reads the official scores of ASVspoof's speaker verifier (ASV), which t-DCF needs, as the verifier's errors.

2019 (ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt): ``SOURCE KEY SCORE``, as in
``bonafide target 5.3``; KEY is target, nontarget or spoof. Source: clovaai/aasist evaluation.py, which reads the same.

2021 LA (keys/LA/ASV/ASVTorch_Kaldi/score.txt): ``SPEAKER TRIAL SCORE``, and in the folder above it
trial_metadata.txt with eight fields, of which the 2nd is the trial, the 6th its key and the 8th the subset. **Line
belongs to line**: a trial is there once for each speaker that it is tried against. The subset eval counts, as for the
figures that are published. Source: asvspoof-challenge/2021, eval-package/{main,config}.py.

Scores rise with *target*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from avfake.corpora import CorpusError
from avfake.corpora.layout import fields, one_of
from avfake.evaluation.tandem import AsvRates, asv_rates

KEYS = ("target", "nontarget", "spoof")
METADATA = "trial_metadata.txt"
SUBSET = "eval"

_TRIAL, _KEY, _SUBSET = 1, 5, 7  # columns of METADATA


def read(path: Path) -> AsvRates:
    """Return the verifier's errors from its score file, of 2019 or 2021.

    Raises ``CorpusError``, naming the line, for what is no such file, and where a kind of trial is missing.
    """
    found: dict[str, list[float]] = {key: [] for key in KEYS}
    for key, score in _of_2019(path) if _keys_inside(path) else _of_2021(path):
        found[key].append(score)
    if missing := [key for key in KEYS if not found[key]]:
        raise CorpusError(f"{path} has no {' and no '.join(missing)} trials; get the whole file again.")
    return asv_rates(*(found[key] for key in KEYS))


def _keys_inside(path: Path) -> bool:
    for _, line in fields(path, (3,)):
        return line[1] in KEYS
    raise CorpusError(f"{path} is empty; get the file of ASV scores again.")


def _of_2019(path: Path) -> Iterator[tuple[str, float]]:
    for where, (_, key, score) in fields(path, (3,)):
        yield one_of(where, "the key", key, KEYS), _number(where, score)


def _of_2021(path: Path) -> Iterator[tuple[str, float]]:
    metadata = path.absolute().parent.parent / METADATA
    if not metadata.is_file():
        raise CorpusError(f"{path} does not tell targets from spoofs, and {metadata}, which does, is not there.")
    for scored, known in zip_longest(fields(path, (3,)), fields(metadata, (8,))):
        if scored is None or known is None:
            raise CorpusError(f"{path} and {metadata} differ in the number of lines; get both again.")
        (where, (_, trial, score)), (there, line) = scored, known
        if line[_TRIAL] != trial:
            raise CorpusError(f"{where}: it is of trial {trial}, but {there} of {line[_TRIAL]}; get both again.")
        key, value = one_of(there, "the key", line[_KEY], KEYS), _number(where, score)
        if line[_SUBSET] == SUBSET:
            yield key, value


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CorpusError(f"{where}: the score must be a finite number, not {text!r}.")
    return value
