"""FakeAVCeleb: genuine clips (RVRA) against what is fake: voice (RVFA), face (FVRA) or both (FVFA), and by method.

R is real, F fake, V video, A audio. Groups are named as Feng et al. (CVPR 2023, cfeng16/audio-visual-forensics) name
theirs: by category and generator, WL being Wav2Lip, FS Faceswap, GAN FSGAN, the last two with the lips of Wav2Lip where
the voice is fake, too.
"""

from __future__ import annotations

from avfake.evaluation.figures import GENERAL, Figure, Question
from avfake.evaluation.material import Material
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.parts import all_of, by_fakes, called_fake, groups, headline, mean_over, told
from avfake.evaluation.table import Table
from avfake.manifest import Row

CATEGORIES = {"RealVideo-FakeAudio": "RVFA", "FakeVideo-RealAudio": "FVRA", "FakeVideo-FakeAudio": "FVFA"}
METHODS = {
    "RealVideo-FakeAudio:rtvc": "RVFA-RTVC",
    "FakeVideo-RealAudio:wav2lip": "FVRA-WL",
    "FakeVideo-RealAudio:faceswap": "FVRA-FS",
    "FakeVideo-RealAudio:fsgan": "FVRA-GAN",
    "FakeVideo-FakeAudio:wav2lip": "FVFA-WL",
    "FakeVideo-FakeAudio:faceswap-wav2lip": "FVFA-FS",
    "FakeVideo-FakeAudio:fsgan-wav2lip": "FVFA-GAN",
}
FENG = ("RVFA-RTVC", "FVRA-WL", "FVFA-FS", "FVFA-GAN", "FVFA-WL")
"""The five groups of Feng et al., whose RVFA is that of the category."""

_FENG_METRICS = ("ap", "auc")
_PART = (*_FENG_METRICS, "eer", "tpr_at_5%")


def _category(row: Row) -> str | None:
    return CATEGORIES.get((row.method or "").split(":")[0])


def _group(row: Row) -> str | None:
    return METHODS.get(row.method, row.method) if row.method else None


def _headlines(table: Table) -> list[Question]:
    return [headline(table, score, metrics=GENERAL) for score in told(table, "fake", "visual", "audio")]


def _questions(material: Material) -> list[Question]:
    table = material.table
    verdict, *aspects = _headlines(table)
    return [
        verdict,
        *aspects,
        *by_fakes(verdict, groups(table, _category), "category", metrics=_PART),
        *by_fakes(verdict, groups(table, _group), "method", metrics=_PART),
    ]


def _further(material: Material, resamples: int) -> list[Figure]:
    table = material.table
    asked = _questions(material)
    verdict = asked[0]
    categories = [part for part in asked if part.by == "category"]
    five = [part for part in asked if part.by == "method" and part.name.split(": ")[1] in FENG]
    return [
        mean_over(table, categories, "auc", of=verdict.name, what="categories"),
        *(mean_over(table, five, metric, of=f"{verdict.name}: Feng", what="groups") for metric in _FENG_METRICS),
        *called_fake(material, [question for question in asked if not question.part_of], resamples),
    ]


PROTOCOLS = (
    Protocol(
        name="fakeavceleb",
        title="FakeAVCeleb",
        says="The verdict on genuine clips (RVRA) against each category of fakes and each generator, among them the "
        "five groups of Feng et al.; and the picture and the voice by themselves, for which a clip whose other stream "
        "is fake is genuine.",
        cannot="Sync: the corpus does not say which voices were fitted to the lips. Little where the summary says "
        "in-domain: leading silence tells genuine from fake here (see the figures without it). There are but 500 "
        "genuine clips, no official split, and AP depends on the share of fakes: compare published figures with care.",
        fits=lambda rows: all_of(rows, "FakeAVCeleb"),
        questions=_questions,
        further=_further,
    ),
)
