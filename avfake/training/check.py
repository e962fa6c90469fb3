"""What shards must hold before training starts, told before hours are spent."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from avfake.config import TrainConfig
from avfake.shards import Entry, ShardFolder, read_entries
from avfake.training import TrainingError
from avfake.training.heldout import held_out
from avfake.training.loader import LoaderConfig, Source, drawable, left_out, rows_out

log = logging.getLogger(__name__)


class Taught(NamedTuple):
    """What a model learns from: names of corpora, and of the methods of their fakes."""

    corpora: list[str]
    methods: list[str]


def check(config: TrainConfig, sources: Sequence[Source]) -> Taught:
    """Return what is trained on.

    Raises ``TrainingError`` unless every task that has a weight has something to learn from in the split train,
    something is held out to choose by, and what is to be left out is there.
    """
    loader = loader_config(config)
    usable: list[Entry] = []
    held: list[Entry] = []
    names: set[str | None] = set()
    for source in sources:
        out = rows_out(source, loader)
        for shard in ShardFolder(source.folder).shards:
            if shard.split == "train":
                usable += drawable(source.folder, shard.name, loader, out)
            if shard.split in ("train", "dev"):
                entries = read_entries(source.folder, shard.name)
                names |= {name for entry in entries for name in (entry.row.method, entry.row.corpus)}
                entries = [entry for entry in entries if not left_out(entry.row, loader.leave_out)]
                held += [entry for entry in entries if shard.split == "dev" or held_out(entry.row, loader.held_out)]
    if unknown := [name for name in loader.leave_out if name not in names]:
        known = ", ".join(sorted(name for name in names if name is not None))
        raise TrainingError(
            f"data.leave_out: {_named(sources)} have no method and no corpus {unknown[0]!r}; they have {known}."
        )
    needs = _needs(config, usable)
    if lacking := [need for need, met in needs if not met]:
        raise TrainingError(
            f"{_named(sources)} cannot be trained on: the split train lacks {', and '.join(lacking)}; add them, or "
            "give that task the weight 0."
        )
    measurable = {aspect for aspect in ("visual", "audio") if {0, 1} <= _labels(held, aspect)}
    measurable |= {"sync"} if len(_synced(held)) > 1 else set()
    measurable |= {"mean", "fake"} if measurable else set()
    if not measurable:
        raise TrainingError(
            f"{_named(sources)} hold nothing to choose the best weights by: there must be genuine and fake clips of "
            "the split dev, or of train with validation.held_out, so that one person in so many is kept for it."
        )
    if (metric := config.validation.metric) not in measurable:
        raise TrainingError(
            f"validation.metric={metric} cannot be measured on what {_named(sources)} hold out, where "
            f"{', '.join(sorted(measurable))} can: choose another, or hold out more."
        )
    for aspect, weight in (("visual", config.weights.visual), ("audio", config.weights.audio)):
        if weight and 1 not in _labels(usable, aspect):
            log.warning("%s: no clip is known to be fake, so that forgeries of genuine ones alone teach it", aspect)
    methods = {entry.row.method for entry in usable if entry.row.method is not None}
    return Taught(sorted({entry.row.corpus for entry in usable}), sorted(methods))


def loader_config(config: TrainConfig) -> LoaderConfig:
    """Return what the loader is asked for; clips without lips are left out where they could teach nothing."""
    data, weights = config.data, config.weights
    return LoaderConfig(
        frames=data.frames,
        batch=data.batch,
        forged=data.forged,
        paired=data.paired,
        jitter=data.jitter,
        augmented=data.augmented,
        held_out=config.validation.held_out,
        seed=config.seed,
        leave_out=tuple(data.leave_out),
        faces=not any((weights.audio, weights.sync, weights.mismatch, weights.fake, weights.distil)),
    )


def _needs(config: TrainConfig, entries: Sequence[Entry]) -> Iterable[tuple[str, bool]]:
    weights, forged = config.weights, config.data.forged > 0
    long = f"of {config.data.frames} frames or more"
    for aspect, weight, kind in (("visual", weights.visual, f"faces {long}"), ("audio", weights.audio, "voices")):
        if weight:
            labels = _labels(entries, aspect)
            yield f"genuine {kind}", 0 in labels
            yield f"fake {kind} (or data.forged above 0)", 1 in labels or forged
    if weights.sync or weights.mismatch:
        yield f"two recordings in sync, {long}", len(_synced(entries)) > 1
    if weights.geometry:
        yield f"faces {long}", any(entry.has_lips for entry in entries)
    if weights.distil:
        yield "voices", any(entry.has_audio for entry in entries)


def _labels(entries: Iterable[Entry], aspect: str) -> set[int | None]:
    return {getattr(entry.row.labels, aspect) for entry in entries}


def _synced(entries: Iterable[Entry]) -> set[str]:
    return {e.row.original or e.row.id for e in entries if e.has_lips and e.has_audio and e.row.labels.sync == 0}


def _named(sources: Sequence[Source]) -> str:
    return " and ".join(source.folder for source in sources)
