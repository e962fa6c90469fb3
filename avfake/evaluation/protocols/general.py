"""Any test set, your own folders too: every score that has genuine and fake trials, and where it is weak."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation.figures import Figure, Question
from avfake.evaluation.localisation import LAV_DF
from avfake.evaluation.material import Material
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.localisation import localised
from avfake.evaluation.protocols.parts import Groups, by_clips, by_fakes, called_fake, groups, headline, mean_over, told
from avfake.evaluation.table import SCORES, Table

LENGTHS = (("under 4 s", 0.0, 4.0), ("4 to 10 s", 4.0, 10.0), ("over 10 s", 10.0, float("inf")))
"""Bins of clip length in seconds: the lower end belongs to a bin, the upper one does not."""

OWN_GENUINE = 10
"""Genuine clips that the sources of a method's fakes must have for the fakes to be measured against these alone.

Genuine clips of other sources are easily told apart by resolution and sound; fewer than ten say too little.
"""


def _headlines(table: Table) -> list[Question]:
    return [headline(table, score) for score in told(table, *SCORES)]


def _questions(material: Material) -> list[Question]:
    table = material.table
    corpora = groups(table, lambda row: row.corpus)
    whole = [question for question in _headlines(table) if question.genuine.any() and question.fake.any()]
    parts = [part for question in whole for part in _parts(table, question, corpora)]
    return whole + parts


def _parts(table: Table, whole: Question, corpora: Groups) -> list[Question]:
    def same_sources(fake: NDArray[np.bool_]) -> NDArray[np.bool_]:
        here = whole.genuine & np.isin(corpora, list(set(corpora[fake])))
        return here if here.sum() >= OWN_GENUINE else whole.genuine

    return [
        *by_fakes(whole, groups(table, lambda row: row.method), "method", against=same_sources),
        *(by_clips(whole, corpora, "source") if len(set(corpora)) > 1 else ()),
        *by_clips(whole, groups(table, lambda row: row.language), "language"),
        *by_clips(whole, _lengths(table), "length"),
    ]


def _lengths(table: Table) -> Groups:
    found = np.empty(len(table.clips), object)
    for number, clip in enumerate(table.clips):
        if clip.duration_s > 0:  # else nobody has measured it
            found[number] = next(name for name, low, high in LENGTHS if low <= clip.duration_s < high)
    return found


def _further(material: Material, resamples: int) -> list[Figure]:
    table = material.table
    asked = _questions(material)
    methods = [
        (question, [part for part in asked if part.part_of == question.name and part.by == "method"])
        for question in asked
        if not question.part_of
    ]
    return [
        *(mean_over(table, parts, "auc", of=whole.name, what="methods") for whole, parts in methods if parts),
        *called_fake(material, _headlines(table), resamples),
        *localised(material, LAV_DF, resamples),
    ]


PROTOCOLS = (
    Protocol(
        name="general",
        title="General",
        says="How well each score orders genuine and fake clips of this set, how far its probabilities can be trusted, "
        "and for which methods, sources, languages and lengths it is weak. A method's fakes are measured against the "
        f"genuine clips of their own sources where there are {OWN_GENUINE}, else against all.",
        cannot="Whether it is the fake that was found and not where the clips come from: genuine and fake clips of "
        "different origin differ in size, sound and encoding, too (see the shortcuts). Other sets, other figures.",
        fits=lambda rows: True,
        questions=_questions,
        further=_further,
    ),
)
