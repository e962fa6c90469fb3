"""Faces: FaceForensics++ and DFD, Celeb-DF, DFDC, KoDF, DeepfakeTIMIT, and several of them at once.

Each corpus, and each compression of it, is a question of its own: genuine clips of c23 are never set against fakes of
c40. One score a *video*; figures over frames, as DeepfakeBench's, are others.
"""

from __future__ import annotations

from collections.abc import Callable

from avfake.evaluation.figures import GENERAL, Figure, Question
from avfake.evaluation.material import Material
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.parts import all_of, by_fakes, called_fake, groups, headline, mean_over, told
from avfake.evaluation.table import Table

_PART = ("auc", "eer", "tpr_at_1%", "tpr_at_5%")
_DFDC = ("log_loss", "log_loss_balanced", "log_wp_at_0.1", "log_wp_at_0.5", "log_wp_at_0.9")
_DFDC_CORPORA = ("DFDC", "DFDC-preview", "DFDC-test")
_CORPORA = ("FaceForensics++", "DFD", "Celeb-DF-v2", *_DFDC_CORPORA, "KoDF", "DeepfakeTIMIT")


def _headlines(table: Table) -> list[Question]:
    """For each corpus the picture and, where there is sound, the verdict: that is what its published figures are of."""
    corpora = groups(table, lambda row: row.corpus)
    heard = {row.corpus for row in table.rows if row.labels.audio is not None}
    return [
        headline(table, score, name=f"{score}: {corpus}", among=corpora == corpus, metrics=_metrics(corpus))
        for corpus in sorted(set(corpora))
        for score in told(table, *(("fake", "visual") if corpus in heard else ("visual",)))
    ]


def _metrics(corpus: str) -> tuple[str, ...]:
    if corpus not in _DFDC_CORPORA:
        return GENERAL
    return (*_DFDC, *(metric for metric in GENERAL if metric not in _DFDC))


def _questions(material: Material) -> list[Question]:
    table = material.table
    whole = _headlines(table)
    return whole + [part for question in whole for part in _methods(table, question)]


def _methods(table: Table, whole: Question) -> list[Question]:
    """The fakes of each method against the genuine clips of the same corpus and compression."""
    methods = groups(table, lambda row: row.method)
    if len(set(methods[whole.fake])) < 2:
        return []  # it would be the headline again
    return by_fakes(whole, methods, "method", metrics=_PART, name=f"{whole.name} {{group}}")


def _further(material: Material, resamples: int) -> list[Figure]:
    table = material.table
    whole = _headlines(table)
    methods = {question.name: _methods(table, question) for question in whole}
    return [
        *(mean_over(table, parts, "auc", of=name, what="methods") for name, parts in methods.items() if parts),
        *called_fake(material, whole, resamples),
    ]


def _across(material: Material, resamples: int) -> list[Figure]:
    """The mean over the corpora, too."""
    whole = _headlines(material.table)
    scores = sorted({question.score for question in whole})
    means = [
        mean_over(material.table, same, "auc", of=f"{score}: all corpora", what="corpora")
        for score in scores
        if len(same := [question for question in whole if question.score == score]) > 1
    ]
    return means + _further(material, resamples)


def _protocol(
    name: str,
    title: str,
    says: str,
    cannot: str,
    *corpora: str,
    further: Callable[[Material, int], list[Figure]] = _further,
) -> Protocol:
    return Protocol(name, title, says, cannot, lambda rows: all_of(rows, *corpora), _questions, further)


_LEARNED = (
    "Whether it has learned the corpus or the fakes, unless it was trained elsewhere: only where the summary says "
    "cross-dataset or cross-method does a figure speak of fakes of a kind that is new to the detector."
)

PROTOCOLS = (
    _protocol(
        "ff++",
        "FaceForensics++",
        "Each manipulation against the pristine videos of the same compression (raw, c23, c40), one score a video.",
        f"{_LEARNED} Between c23 and c40 it tells what compression costs. No sound.",
        "FaceForensics++",
    ),
    _protocol(
        "dfd",
        "DeepFakeDetection (DFD)",
        "Fakes against genuine videos of the same compression; the usual test of what was trained on FaceForensics++.",
        f"{_LEARNED} Some fakes show two faces of which one is forged: the longest is judged. No split: all is test.",
        "DFD",
    ),
    _protocol(
        "celeb-df",
        "Celeb-DF (v2)",
        "Fakes against genuine videos (with the official list as split test: 340 and 178), one score a video.",
        f"{_LEARNED} Train and test share people, so that trained on its train part it tells less.",
        "Celeb-DF-v2",
    ),
    _protocol(
        "dfdc",
        "Deepfake Detection Challenge",
        "Log loss as the challenge scored it, plain and balanced, log weighted precision of the preview paper, and the "
        "general figures.",
        f"{_LEARNED} Plain log loss depends on the share of fakes: half of the test set, five in six of the training "
        "parts. A fake is an altered face, a voice or both, the corpus does not say which. Leaderboards were on "
        "hidden videos.",
        *_DFDC_CORPORA,
    ),
    _protocol(
        "kodf",
        "KoDF",
        "Each model's fakes against the genuine clips, all Korean: the verdict with the sound, and the picture alone.",
        f"{_LEARNED} There is no public test part: the official validation part is the manifest's dev. Published "
        "figures are of subsets that their authors drew.",
        "KoDF",
    ),
    _protocol(
        "deepfaketimit",
        "DeepfakeTIMIT",
        "How many of the face swaps are called fake, in each quality.",
        "AUC and EER: the corpus has fakes alone. Join the manifest with one of genuine clips to have them, and "
        "remember that the source then tells the label.",
        "DeepfakeTIMIT",
    ),
    _protocol(
        "cross-dataset",
        "Cross-dataset: faces",
        "Each corpus by itself, and the mean AUC over them: the field's test for whether a detector that has learned "
        "one corpus (FaceForensics++ c23 as a rule) knows fakes at all.",
        "What was learned from which corpus it cannot know: the summary says in-domain or cross-dataset by what the "
        "model says of itself. Corpora are never pooled, for one threshold does not fit two cameras.",
        *_CORPORA,
        further=_across,
    ),
)
