"""Speech: ASVspoof 2019 LA, 2021 LA and DF, ASVspoof 5, and In-the-Wild.

Where the organisers say "bona fide" this says genuine; their scores rise with bona fide, ours with fake, and the
figures are the same. The score is ``audio``, or ``fake`` where the detector tells nothing else. WaveFake,
Fake-or-Real and other sets without a protocol of their own are measured by ``general``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation.figures import Figure, Question
from avfake.evaluation.material import Material
from avfake.evaluation.metrics import NAN
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.parts import (
    EER_FIRST,
    all_of,
    by_clips,
    by_fakes,
    called_fake,
    groups,
    headline,
    mean_over,
    of_trials,
    told,
)
from avfake.evaluation.table import Table
from avfake.evaluation.tandem import AsvRates, min_tdcf_2019, min_tdcf_2021

NO_ASV = "needs the scores of the organisers' speaker verifier (asv)"

_TRACKS = {"asvspoof2021-la": "LA", "asvspoof2021-df": "DF"}
_RANKED = "eval"
"""The subset of ASVspoof 2021 that the ranking, and nearly all published figures, are of."""
_DCF = ("min_dcf", "act_dcf", "cllr", "eer", "auc", "ece")
"""What ASVspoof 5 reports (track 1), the primary metric first."""

TandemCost = Callable[[NDArray[np.int64], NDArray[np.float64], AsvRates], float]


def _score(table: Table) -> str:
    return told(table, "audio")[0]


def _attacks(table: Table, whole: Question, metrics: tuple[str, ...], name: str = "{score}: {group}") -> list[Question]:
    """All genuine trials against each attack's."""
    return by_fakes(whole, groups(table, lambda row: row.method), "attack", metrics=metrics, name=name)


def _tandem(material: Material, whole: Question, year: int, cost: TandemCost, resamples: int) -> Figure:
    asv = material.asv
    return of_trials(
        material.table,
        whole,
        f"min_tdcf_{year}",
        f"min t-DCF ({year})",
        lambda labels, scores: NAN if asv is None else cost(labels, scores, asv),
        resamples,
        best=0.0,
        note=NO_ASV if asv is None else "needs both labels, and a verifier that lets some spoofs pass",
    )


# ASVspoof 2019


def _questions_2019(material: Material) -> list[Question]:
    table = material.table
    whole = headline(table, _score(table), metrics=EER_FIRST)
    return [whole, *_attacks(table, whole, ("eer", "auc"))]


def _further_2019(material: Material, resamples: int) -> list[Figure]:
    whole = headline(material.table, _score(material.table))
    return [
        _tandem(material, whole, 2019, min_tdcf_2019, resamples),
        *called_fake(material, [whole], resamples),
    ]


# ASVspoof 2021


def _tracks(table: Table) -> dict[str, Question]:
    """The ranked subset of each track that there is, by the name of its corpus."""
    score = _score(table)
    corpora = groups(table, lambda row: row.corpus)
    return {
        corpus: headline(
            table, score, name=f"{score}: {track}", among=corpora == f"{corpus}/{_RANKED}", metrics=EER_FIRST
        )
        for corpus, track in _TRACKS.items()
        if any(name.startswith(f"{corpus}/") for name in set(corpora))
    }


def _questions_2021(material: Material) -> list[Question]:
    table = material.table
    tracks = _tracks(table)
    corpora = groups(table, lambda row: row.corpus)
    parts = []
    for corpus, whole in tracks.items():
        track = _TRACKS[corpus]
        for subset in sorted(name for name in set(corpora) if name.startswith(f"{corpus}/")):
            name = f"{whole.score}: {track} {subset.removeprefix(f'{corpus}/')}"
            part = headline(table, whole.score, among=corpora == subset)
            if subset != f"{corpus}/{_RANKED}":
                parts.append(Question(name, whole.score, part.genuine, part.fake, whole.name, "subset", ("eer", "auc")))
        parts += _attacks(table, whole, ("eer", "auc"), f"{{score}}: {track} {{group}}")
    return [*tracks.values(), *parts]


def _further_2021(material: Material, resamples: int) -> list[Figure]:
    tracks = _tracks(material.table)
    access = tracks.get("asvspoof2021-la")
    return [
        *([_tandem(material, access, 2021, min_tdcf_2021, resamples)] if access else ()),
        *called_fake(material, list(tracks.values()), resamples),
    ]


# ASVspoof 5


def _questions_5(material: Material) -> list[Question]:
    table = material.table
    whole = headline(table, _score(table), metrics=_DCF)
    return [whole, *_attacks(table, whole, ("min_dcf", "eer"))]


def _further_5(material: Material, resamples: int) -> list[Figure]:
    return called_fake(material, [headline(material.table, _score(material.table))], resamples)


# In-the-Wild


def _questions_wild(material: Material) -> list[Question]:
    table = material.table
    whole = headline(table, _score(table), metrics=EER_FIRST)
    return [whole, *by_clips(whole, groups(table, lambda row: row.identity), "speaker")]


def _further_wild(material: Material, resamples: int) -> list[Figure]:
    whole, *speakers = _questions_wild(material)
    return [
        *([mean_over(material.table, speakers, "auc", of=whole.name, what="speakers")] if speakers else ()),
        *called_fake(material, [whole], resamples),
    ]


PROTOCOLS = (
    Protocol(
        name="asvspoof2019",
        title="ASVspoof 2019 LA",
        says="Pooled EER and, with the organisers' speaker verification scores, min t-DCF as the challenge defines "
        "them; each attack (A07 to A19 in the evaluation part) against all bona fide speech.",
        cannot="How speech from elsewhere fares: sentences read in a studio (VCTK), without codecs or noise, whose "
        "leading and trailing silence betrays many attacks. Systems near 1 % EER here can be near chance on "
        "speech found elsewhere. t-DCF by attack is not computed: the challenge reports the pooled one.",
        fits=lambda rows: all_of(rows, "asvspoof2019-la"),
        questions=_questions_2019,
        further=_further_2019,
    ),
    Protocol(
        name="asvspoof2021",
        title="ASVspoof 2021 LA and DF",
        says="EER over the subset eval, as published figures are, and for LA with the organisers' speaker verification "
        "scores min t-DCF of 2021; the subsets progress and hidden (silence trimmed) and each attack beside it.",
        cannot="Which codec or compression is hard: the manifest does not hold the condition. min t-DCF by attack, for "
        "which the organisers set the verifier's errors anew, is not computed. LA is the speech of 2019 sent over "
        "telephone lines: trained on 2019, its speakers and attacks are known in kind.",
        fits=lambda rows: all_of(rows, *_TRACKS),
        questions=_questions_2021,
        further=_further_2021,
    ),
    Protocol(
        name="asvspoof5",
        title="ASVspoof 5, track 1",
        says="minDCF (primary), actDCF, Cllr and EER as track 1 defines them, and each attack against all bona fide "
        "speech. actDCF beyond minDCF is what bad calibration costs.",
        cannot="Track 2: a-DCF judges a system that also knows who is claimed to speak, which a detector does not; "
        "avfake.evaluation.tandem.a_dcf computes it for one that does. By codec: the manifest does not hold it.",
        fits=lambda rows: all_of(rows, "asvspoof5"),
        questions=_questions_5,
        further=_further_5,
    ),
    Protocol(
        name="in-the-wild",
        title="In-the-Wild",
        says="EER and AUC on speech of public figures found on the web, which no corpus for training holds; and for "
        "each speaker alone, whose mean is free of who is heard.",
        cannot="By what a fake was made (nobody knows). Genuine and fake clips come from different recordings, rooms "
        "and encoders even of one speaker.",
        fits=lambda rows: all_of(rows, "in-the-wild"),
        questions=_questions_wild,
        further=_further_wild,
    ),
)
