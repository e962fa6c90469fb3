"""Small things to train: a model, talking clips whose labels can be seen and heard, shards of them, batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avfake import SAMPLES_PER_FRAME
from avfake.clips import PREPROCESSING, Clip, encode_clip
from avfake.manifest import Labels, Row
from avfake.models import ModelConfig
from avfake.models.contract import AudioConfig, VisualConfig
from avfake.shards import FOLDER_SCHEMA, INDEX_SCHEMA, Entry, ShardWriter, dumps
from avfake.storage import join, make_folder, whole_file, write_bytes
from avfake.training.batch import Batch

WAV2VEC2 = {
    "conv_dim": [32],
    "conv_kernel": [1],
    "conv_stride": [1],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.0,
}
TINY = ModelConfig(
    name="tiny",
    dim=32,
    sync_dim=32,
    heads=2,
    visual=VisualConfig(stages=1, width=32),
    audio=AudioConfig(wav2vec2=WAV2VEC2),
)


def still(config: ModelConfig = TINY) -> ModelConfig:
    """The configuration without dropout in its transformer."""
    off = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)
    return replace(config, audio=replace(config.audio, wav2vec2={**config.audio.wav2vec2, **off}))


def openness(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How wide a mouth is open, frame by frame, in [0, 1]."""
    raw = rng.normal(size=frames + 4)
    smooth = np.convolve(raw, np.ones(3) / 3, mode="same")[2:-2]
    low, high = smooth.min(), smooth.max()
    opened: NDArray[np.float64] = (smooth - low) / (high - low)
    return opened


def talking(
    seed: int, frames: int = 60, *, visual: int = 0, audio: int = 0, lips: bool = True, sound: bool = True
) -> Clip:
    """A mouth that opens as its voice gets louder; fakes have stripes in the picture, a tone for a voice."""
    rng = np.random.default_rng(seed)
    opened = openness(frames, rng)
    y, x = np.mgrid[:96, :96]
    pictures = np.empty((frames, 96, 96, 3), np.uint8)
    skin = rng.integers(120, 180, 3)
    height = 3 + 20 * opened
    inside = ((x - 48) / 26) ** 2 + ((y - 52) / height[:, None, None]) ** 2 < 1
    pictures[:] = skin
    pictures[inside] = (60, 10, 20)
    if visual:
        pictures[:, :, ::4] //= 2
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    mouth = np.stack([48 + 26 * np.cos(angles) + 0 * height[:, None], 52 + height[:, None] * np.sin(angles)], axis=-1)
    loud = np.repeat(0.02 + 0.3 * opened, SAMPLES_PER_FRAME)
    time = np.arange(len(loud)) / 16_000
    voice = np.sin(2 * np.pi * 440 * time) if audio else rng.normal(size=len(loud)) / 3
    return Clip(
        lips=pictures if lips else None,
        audio=(loud * voice).clip(-1, 1).astype(np.float32) if sound else None,
        mouth=mouth.astype(np.float32) if lips else None,
        face_ok=np.full(frames, lips),
    )


def row(name: str, *, visual: int | None = 0, audio: int | None = 0, **facts: Any) -> Row:
    """A row of a genuine video, or of what the labels say."""
    method = "made" if 1 in (visual, audio) else None
    facts = {"corpus": "toy", "split": "train", "identity": name, "method": method, **facts}
    return Row(name, f"{name}.mp4", None, labels=Labels(visual, audio, sync=0), **facts)


def shards(folder: str, groups: dict[str, list[tuple[Row, Clip]]]) -> str:
    """Prepared shards, one for each split."""
    make_folder(folder)
    infos = []
    for split, clips in groups.items():
        name = f"{split}-000000-x"
        entries = []
        with whole_file(join(folder, f"{name}.tar")) as file:
            writer = ShardWriter(file)
            for one, clip in clips:
                has = clip.lips is not None, clip.audio is not None
                entry = Entry(f"{one.id}-000", 0, 0, clip.frames, *has, replace(one, split=split))
                entries.append(writer.add(entry, encode_clip(clip)))
            writer.close()
        records = [{"id": entry.row.id, "clips": [entry.to_dict()]} for entry in entries]
        write_bytes(
            join(folder, f"{name}.json"),
            dumps({"schema": INDEX_SCHEMA, "manifest": "m", "settings": {}, "bytes": 0, "rows": records}),
        )
        infos.append({"name": name, "split": split, "clips": len(entries), "bytes": 0})
    facts = {"schema": FOLDER_SCHEMA, "preprocessing": PREPROCESSING, "summary": {}, "shards": infos}
    write_bytes(join(folder, "prepared.json"), dumps(facts))
    return folder


def eight(frames: int = 60) -> list[tuple[Row, Clip]]:
    """Eight clips: genuine, generated mouths, synthetic voices, both."""
    kinds = [(0, 0), (1, 0), (0, 1), (1, 1)] * 2
    return [
        (row(f"c{n}", visual=visual, audio=audio), talking(n, frames, visual=visual, audio=audio))
        for n, (visual, audio) in enumerate(kinds)
    ]


def batch(clips: list[tuple[Row, Clip]], frames: int = 30, shifts: list[int] | None = None) -> Batch:
    """The first frames of clips as a batch; a clip without labels of its own fake frames is one thing throughout."""
    count = len(clips)
    labels = np.array(
        [[np.nan if v is None else v for v in (r.labels.visual, r.labels.audio, r.labels.sync)] for r, _ in clips],
        np.float32,
    )
    for n, (_, clip) in enumerate(clips):
        if clip.lips is None:
            labels[n, [0, 2]] = np.nan
        if clip.audio is None:
            labels[n, [1, 2]] = np.nan
    blank = np.zeros((frames, 96, 96, 3), np.uint8)
    quiet = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    points = np.zeros((frames, 20, 2), np.float32)
    return Batch(
        lips=torch.from_numpy(np.stack([blank if c.lips is None else c.lips[:frames] for _, c in clips])),
        audio=torch.from_numpy(np.stack([quiet if c.audio is None else c.audio[: len(quiet)] for _, c in clips])),
        has_lips=torch.tensor([c.lips is not None for _, c in clips]),
        has_audio=torch.tensor([c.audio is not None for _, c in clips]),
        mouth=torch.from_numpy(np.stack([points if c.mouth is None else c.mouth[:frames] for _, c in clips])),
        face_ok=torch.from_numpy(np.stack([c.face_ok[:frames] for _, c in clips])),
        labels=torch.from_numpy(labels),
        frame_labels=torch.from_numpy(labels)[:, None].expand(count, frames, 3).clone(),
        shift=torch.tensor(shifts or [0] * count),
        files=torch.arange(count),
        ids=[r.id for r, _ in clips],
    )
