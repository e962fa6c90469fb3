"""The feature cache: what frozen towers say of a fixed number of windows, computed once, trained on many times.

The windows are batches of the loader, forged and augmented as ever; in the place of a stream whose tower is frozen
stands its embedding. Files appear whole or not at all, so a fill that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avfake.models.audio import VoiceEmbedding
from avfake.models.fusion import AVFakeModel
from avfake.models.visual import LipTower
from avfake.storage import make_folder
from avfake.training import TrainingError
from avfake.training.batch import Batch
from avfake.training.teacher import Teacher

CHUNK = 8
"""Batches in a file."""
FULL_SCALE = 32767  # sound is kept as 16-bit integers


class FrozenTowers:
    """The costly halves of the towers that do not learn, and the teacher: what needs to look at a window only once."""

    def __init__(self, model: AVFakeModel, teacher: Teacher | None) -> None:
        self.model, self.teacher = model, teacher
        tower = model.lip_tower
        self.lips = _frozen(tower.stem, tower.stages, tower.place, tower.project)
        self.voice = _frozen(model.voice_tower.wav2vec2)

    @cached_property
    def _lip_tower(self) -> LipTower:
        return self.model.lip_tower.for_inference()

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Return ``embedded(batch)``, and what the teacher says of it unless that is known."""
        if self.teacher is not None and batch.taught is None:
            batch = replace(batch, taught=self._taught(self.teacher, batch))
        return self.embedded(batch)

    @torch.no_grad()
    def embedded(self, batch: Batch) -> Batch:
        """Return the batch with embeddings in the place of streams whose tower is frozen."""
        if self.lips and batch.lips is not None:
            batch = replace(batch, lips=None, frames=self._embedded(batch.lips, batch.has_lips))
        if self.voice and batch.audio is not None:
            heard = self.model.voice_tower.embed(batch.audio[batch.has_audio]) if batch.has_audio.any() else None
            voice = None if heard is None else VoiceEmbedding(*(_spread(part, batch.has_audio) for part in heard))
            batch = replace(batch, audio=None, voice=voice)
        return batch

    def _embedded(self, lips: Tensor, has_lips: Tensor) -> Tensor | None:
        if not has_lips.any():
            return None
        frames = self._lip_tower.embed_pictures(lips[has_lips].flatten(0, 1))
        return _spread(frames.unflatten(0, (-1, lips.shape[1])), has_lips)

    def _taught(self, teacher: Teacher, batch: Batch) -> Tensor | None:
        assert batch.audio is not None
        if not batch.has_audio.any():
            return None
        return _spread(teacher(batch.audio[batch.has_audio]).float(), batch.has_audio)

    def digest(self) -> str:
        """Name the weights that the embeddings depend on."""
        digest = hashlib.sha256(f"{self.lips} {self.voice}".encode())
        parts = [self.model.lip_tower] * self.lips + [self.model.voice_tower.wav2vec2] * self.voice
        for part in (*parts, *([self.teacher] if self.teacher is not None else [])):
            for name, value in part.state_dict().items():
                digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _spread(values: Tensor, at: Tensor) -> Tensor:
    """Put values (M, ...) at the M rows that ``at`` (B,) marks; the others are zeros."""
    spread = values.new_zeros((len(at), *values.shape[1:]))
    spread[at] = values
    return spread


def _frozen(*modules: nn.Module) -> bool:
    return not any(parameter.requires_grad for module in modules for parameter in module.parameters())


class WindowCache:
    """``windows`` windows in ``folder``, in files of ``CHUNK`` batches."""

    def __init__(self, folder: Path, windows: int, batch: int) -> None:
        self.folder, self.batch = folder, batch
        self._files = [folder / f"{n:06d}.safetensors" for n in range(-(-windows // (CHUNK * batch)))]

    def fill(
        self,
        batches: Callable[[int], Iterator[Batch]],
        towers: FrozenTowers,
        device: torch.device,
        told: Callable[[int, int], None],
    ) -> None:
        """Compute what is missing; ``batches(n)`` are those of the loader from number n on."""
        make_folder(str(self.folder))
        missing = [number for number, file in enumerate(self._files) if not file.exists()]
        if not missing:
            return
        for before, number in zip([None, *missing], missing, strict=False):
            if before is None or number != before + 1:
                source = batches(number * CHUNK)
            chunk = [towers(batch.to(device)).to(torch.device("cpu")) for batch in itertools.islice(source, CHUNK)]
            partial = self._files[number].with_suffix(f".partial-{os.getpid()}")
            ids = [name for batch in chunk for name in batch.ids]
            save_file(_stacked([_packed(batch) for batch in chunk]), partial, metadata={"ids": json.dumps(ids)})
            os.replace(partial, self._files[number])
            told((number + 1) * CHUNK * self.batch, len(self._files) * CHUNK * self.batch)

    def batches(self, seed: int, start: int) -> Iterator[Batch]:
        """Yield batches of windows without end, from batch ``start`` on: all of them, in another order each time.

        Neighbours stay together, for they may be a fake and its source.
        """
        chunks = [_Chunk(file) for file in self._files]
        places = [(chunk, row) for chunk in chunks for row in range(0, len(chunk.ids), 2)]
        couples = -(-self.batch // 2)
        position = start * couples
        while True:
            epoch, at = divmod(position, len(places))
            order = np.random.default_rng([seed, epoch]).permutation(len(places))
            chosen = [places[index] for index in order[at : at + couples]]
            while len(chosen) < couples:  # the rest of a batch that reaches into the next round
                epoch += 1
                order = np.random.default_rng([seed, epoch]).permutation(len(places))
                chosen += [places[index] for index in order[: couples - len(chosen)]]
            position += couples
            yield _joined([part for chunk, row in chosen for part in chunk.read(row)][: self.batch])


class _Chunk:
    def __init__(self, file: Path) -> None:
        opened: Any = safe_open  # it has no types
        try:
            self._file = opened(file, framework="pt")
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{file} of the feature cache is damaged ({error}); delete it.") from error
        self.ids: list[str] = json.loads(self._file.metadata()["ids"])
        self._slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118

    def read(self, row: int) -> list[tuple[str, dict[str, Tensor]]]:
        """Return the couple of windows that begins at ``row``."""
        parts = {name: part[row : row + 2] for name, part in self._slices.items()}
        return [
            (name, {key: part[n : n + 1] for key, part in parts.items()})
            for n, name in enumerate(self.ids[row : row + 2])
        ]


def _packed(batch: Batch) -> dict[str, Tensor]:
    values = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    if batch.voice is not None:
        values |= {"voice.local": batch.voice.local, "voice.layers": batch.voice.layers}
    for name in ("frames", "taught", "voice.local", "voice.layers", "mouth"):
        if name in values:
            values[name] = values[name].half()
    if "audio" in values:
        values["audio"] = (values["audio"] * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE).short()
    return {name: value.contiguous() for name, value in values.items()}


def _stacked(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join batches; a stream that one of them has none of is zeros there."""
    like = {name: value for part in parts for name, value in part.items()}
    counts = [len(part["labels"]) for part in parts]
    return {
        name: torch.cat(
            [
                part[name] if name in part else example.new_zeros((count, *example.shape[1:]))
                for part, count in zip(parts, counts, strict=True)
            ]
        )
        for name, example in sorted(like.items())
    }


def _joined(rows: Sequence[tuple[str, dict[str, Tensor]]]) -> Batch:
    values: dict[str, Any] = dict(_stacked([row for _, row in rows]))
    for name in ("frames", "taught", "voice.local", "voice.layers", "mouth"):
        if name in values:
            values[name] = values[name].float()
    if "audio" in values:
        values["audio"] = values["audio"].float() / FULL_SCALE
    if "voice.local" in values:
        values["voice"] = VoiceEmbedding(values.pop("voice.local"), values.pop("voice.layers"))
    return Batch(**{"lips": None, "audio": None, **values}, ids=[name for name, _ in rows])
