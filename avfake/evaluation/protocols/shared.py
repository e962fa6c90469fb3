"""The shared corpus' own protocols: verdict, visual, speech, sync-swap and sync-shift, as its README defines them."""

from __future__ import annotations

from avfake.evaluation.figures import Figure, Question
from avfake.evaluation.material import Material
from avfake.evaluation.protocols import Protocol
from avfake.evaluation.protocols.parts import EER_FIRST, by_clips, by_fakes, called_fake, groups, headline, mean_over
from avfake.evaluation.protocols.sync import delay_figure, swap_figures
from avfake.evaluation.table import Table


def _headlines(table: Table) -> list[Question]:
    """Genuine is a video without a method: a real picture with a swapped voice is no trial of ``visual``."""
    video = table.where(lambda row: row.video is not None)
    made = table.where(lambda row: row.method is not None)
    altered = table.labels("visual") == 1
    return [
        Question("verdict", "fake", video & ~made, video & made),
        Question("visual", "visual", video & ~made, video & made & altered),
        headline(table, "audio", name="speech", among=~video, metrics=EER_FIRST),
    ]


def _questions(material: Material) -> list[Question]:
    table = material.table
    verdict, visual, speech = _headlines(table)
    methods = groups(table, lambda row: row.method)
    kinds = groups(table, lambda row: row.method and row.method.split(":")[0])
    return [
        verdict,
        visual,
        speech,
        *by_fakes(verdict, kinds, "kind", name="verdict: {group}", least=1),
        *by_fakes(visual, methods, "method", name="visual: {group}"),
        *by_clips(speech, groups(table, lambda row: row.corpus), "source", name="speech: {group}", least=1),
    ]


def _further(material: Material, resamples: int) -> list[Figure]:
    table = material.table
    asked = _questions(material)
    methods = [part for part in asked if part.part_of == "visual"]
    sources = [part for part in asked if part.part_of == "speech"]
    return [
        mean_over(table, methods, "auc", of="visual", what="methods"),
        mean_over(table, sources, "auc", of="speech", what="sources"),
        *swap_figures(material, resamples),
        delay_figure(material, resamples),
        *called_fake(material, [question for question in asked if not question.part_of], resamples),
    ]


PROTOCOLS = (
    Protocol(
        name="shared",
        title="The shared corpus",
        says="How clips that people posted are told apart: the verdict on all fakes and by kind, the picture by method "
        "(at least 3 clips) and the mean over methods, speech pooled and the mean over sources, own against foreign "
        "voices, and whether a delay is measured. No source, method or person of the split test is in train or dev.",
        cannot="What fakes look like that nobody shows: these are demos, clean and square, while the genuine clips are "
        "smaller and hand-held, so that size and sound predict the label. With about 50 genuine videos, differences "
        "of a few points are chance.",
        fits=lambda rows: bool(rows) and all(row.corpus.startswith("shared/") for row in rows),
        questions=_questions,
        further=_further,
        sync_trials=True,
    ),
)
