"""Figures on held-out people and clips: what training chooses by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avfake import SAMPLES_PER_FRAME
from avfake.evaluation.metrics import auc, mean_auc
from avfake.manifest import Row
from avfake.models import AVFakeModel, Scores
from avfake.models.visual import LipTower
from avfake.training.batch import Batch
from avfake.training.loader import person_of

MIN_SYNC_FRAMES = 50  # below two seconds sync is a guess


class Trial(NamedTuple):
    """What was said of a clip: who is in it, as (corpus, person), its label, a logit."""

    person: tuple[str, str]
    label: int
    logit: float

    @property
    def corpus(self) -> str:
        """The corpus it comes from."""
        return self.person[0]


@dataclass
class Trials:
    """What was said of each held-out clip, by aspect."""

    visual: list[Trial] = field(default_factory=list)
    audio: list[Trial] = field(default_factory=list)
    sync: list[Trial] = field(default_factory=list)
    fake: list[Trial] = field(default_factory=list)

    def add(self, other: Trials) -> None:
        """Take in what another process has judged."""
        for name, trials in vars(other).items():
            getattr(self, name).extend(trials)

    def figures(self, aspects: Collection[str]) -> dict[str, float]:
        """AUC of each of ``aspects`` that has both labels, and their ``mean``; higher is better.

        ``sync``: own voice against another person's; ``audio``: mean over the corpora that have both labels, because a
        pooled figure would measure how corpora differ.
        """
        figures = {name: auc(*_columns(getattr(self, name))) for name in ("visual", "sync", "fake")}
        corpora = sorted({trial.corpus for trial in self.audio})
        figures["audio"] = mean_auc([_columns([t for t in self.audio if t.corpus == corpus]) for corpus in corpora])
        known = {name: value for name, value in figures.items() if name in aspects and not np.isnan(value)}
        return {**known, "mean": float(np.mean(list(known.values())))} if known else {}

    def logits(self) -> dict[str, tuple[list[int], list[float]]]:
        """Labels and logits of each aspect that was judged."""
        return {name: _columns(trials) for name, trials in vars(self).items() if trials}

    def people(self, aspect: str) -> list[tuple[str, str]]:
        """Who each of an aspect's ``logits`` is of."""
        return [trial.person for trial in getattr(self, aspect)]


def _columns(trials: Sequence[Trial]) -> tuple[list[int], list[float]]:
    return [trial.label for trial in trials], [trial.logit for trial in trials]


@torch.no_grad()
def judge(model: AVFakeModel, batches: Iterable[tuple[Batch, Sequence[Row]]]) -> Trials:
    """Judge held-out windows. ``model`` is in evaluation mode and lies where the batches do."""
    trials, tower = Trials(), model.lip_tower.for_inference()
    voices: dict[int, list[_Synced]] = defaultdict(list)
    for batch, rows in batches:
        scores, lips, voice = _scores(model, tower, batch)
        for n, row in enumerate(rows):
            label = batch.labels[n].tolist()
            if batch.has_lips[n] and label[0] == label[0]:
                trials.visual.append(Trial(person_of(row), int(label[0]), scores.visual[n].item()))
            if batch.has_audio[n] and label[1] == label[1]:
                trials.audio.append(Trial(person_of(row), int(label[1]), scores.audio[n].item()))
            fake = _any_fake(label, bool(batch.has_lips[n]), bool(batch.has_audio[n]))
            if fake is not None:
                trials.fake.append(Trial(person_of(row), fake, scores.fake[n].item()))
            both = batch.has_lips[n] and batch.has_audio[n]
            if both and label[2] == 0 and batch.length >= MIN_SYNC_FRAMES:
                voices[batch.length].append(_Synced(person_of(row), lips[n], voice[n]))
            elif both and label[2] == 1:
                trials.sync.append(Trial(person_of(row), 1, scores.sync[n].item()))
    for synced in voices.values():
        for n, one in enumerate(synced):
            others = [other for other in synced[n:] + synced[:n] if other.person != one.person]
            if others:
                logits = model.sync_head(model.sync_head.map(*_stack((one, one), (one, others[0]))))
                trials.sync += [Trial(one.person, label, logit) for label, logit in enumerate(logits.tolist())]
    return trials


@dataclass(frozen=True)
class _Synced:
    """Gated embeddings (T, E) of lips and voice that belong together."""

    person: tuple[str, str]
    lips: Tensor
    voice: Tensor


def _stack(lips: Sequence[_Synced], voices: Sequence[_Synced]) -> tuple[Tensor, Tensor]:
    return torch.stack([one.lips for one in lips]), torch.stack([one.voice for one in voices])


def _any_fake(labels: Sequence[float], has_lips: bool, has_audio: bool) -> int | None:
    """Fake if any aspect of the streams there are is; genuine if all are known to be."""
    present = [
        label for label, there in zip(labels, (has_lips, has_audio, has_lips and has_audio), strict=True) if there
    ]
    if 1 in present:
        return 1
    return None if any(np.isnan(present)) else 0


def _scores(model: AVFakeModel, tower: LipTower, batch: Batch) -> tuple[Scores[Tensor], Tensor, Tensor]:
    """Scores of a batch whose towers may have been run already, and gated sync embeddings of lips and voice.

    ``tower`` is the lip tower made fast.
    """
    rows, length = batch.face_ok.shape
    frames, voice = batch.frames, batch.voice
    if frames is None:
        frames = batch.labels.new_zeros((rows, length, model.lip_tower.geometry.in_features))
        if batch.lips is not None and batch.has_lips.any():
            pictures = batch.lips[batch.has_lips].flatten(0, 1)
            frames[batch.has_lips] = tower.embed_pictures(pictures).unflatten(0, (-1, length)).float()
    if voice is None:
        audio = batch.audio if batch.audio is not None else batch.labels.new_zeros((rows, length * SAMPLES_PER_FRAME))
        voice = model.voice_tower.embed(audio)
    lip_features, voice_features = model.lip_tower(frames), model.voice_tower(voice)
    scores = model.judge(lip_features, voice_features, batch.has_lips, batch.has_audio)
    head = model.sync_head
    return scores, head.gated_lips(lip_features.sync).float(), head.gated_voice(voice_features.sync).float()
