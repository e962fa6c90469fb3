"""Reads what ``avfake export`` writes: whole models as TorchScript or ONNX, run alike, with numpy in and out.

A TorchScript file is a program that torch interprets: load files of people you trust (docs/export.md). Its metadata,
and whether it is whole, are looked at before torch sees it. An ONNX file is a graph of known operators and executes
nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avfake import SAMPLES_PER_FRAME, AvfakeError
from avfake.models import SHIFTS, CheckpointConfig, Scores
from avfake.models.checkpoint import first_line
from avfake.models.contract import CROP_SIZE
from avfake.storage import read_bytes

SCHEMA = "avfake-export-1"
METADATA = "avfake.json"
"""Name of the JSON in a TorchScript file's ``_extra_files`` and of its key in an ONNX file's ``metadata_props``."""
DIGEST = "avfake.sha256"
"""Key of the last entry of an ONNX file's ``metadata_props``: SHA-256, in hexadecimal, of all bytes before it."""
FEW = {"torchscript": 16, "onnx": 8}
"""Frames to embed at once, by what runs the file: the fastest on a CPU (28 against 40 ms/s, and 18 against 35)."""
INPUTS = ("lips", "audio", "has_lips", "has_audio")
OUTPUTS = ("fake_logit", "visual_logit", "audio_logit", "sync_logit", "visual_frames", "audio_frames", "sync_map")
"""``Scores`` in its order; ONNX wants other names for outputs than for inputs."""
METHODS = ("forward", "embed", "score", "stream", "p_fake")
"""What the program in a TorchScript file of a whole model can be asked."""

Kind = Literal["torchscript", "onnx"]
Array = NDArray[np.generic]
Floats = NDArray[np.float32]


class ExportError(AvfakeError):
    """A model that cannot be exported faithfully, or a file that is no exported model."""


class Engine(Protocol):
    """What runs the program in a file; arrays have the shapes and types that the program wants.

    ``faults`` are what it raises where a program fails.
    """

    faults: tuple[type[Exception], ...]

    def forward(self, lips: Floats, audio: Floats, has_lips: Array, has_audio: Array) -> Sequence[Floats]:
        """The contract of ``AVFakeModel.forward``."""

    def embed(self, pictures: NDArray[np.uint8]) -> Floats:
        """Embed a few lip crops (N, 96, 96, 3) -> (N, width)."""

    def score(self, frames: Floats, audio: Floats, has_lips: Array, has_audio: Array) -> Sequence[Floats]:
        """``forward`` from frame embeddings (B, T, width)."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A whole model from a file: an ``avfake.runtimes.Runtime``, which can be called with lip crops too.

    ``metadata`` is the file's own JSON, ``config`` the same as a checkpoint has it, without its metrics;
    ``fingerprint`` is the SHA-256 of the file.
    """

    config: CheckpointConfig
    fingerprint: str
    metadata: dict[str, Any]
    runtime: Kind
    engine: Engine

    def __call__(self, lips: ArrayLike, audio: ArrayLike, has_lips: ArrayLike, has_audio: ArrayLike) -> Scores[Floats]:
        """Score a batch of clips as ``AVFakeModel.forward`` does.

        ``lips`` (B, T, 3, 96, 96) RGB in [0, 1], ``audio`` (B, 640 T) in [-1, 1], ``has_lips`` and ``has_audio`` (B,)
        booleans. Raises ``ValueError`` for other shapes.
        """
        pictures = np.asarray(lips, np.float32)
        voice, masks = _checked("lips", pictures, (3, CROP_SIZE, CROP_SIZE), audio, has_lips, has_audio)
        return Scores(*self.engine.forward(pictures, voice, *masks))

    def embed(self, pictures: NDArray[np.uint8]) -> Floats:
        """Lip crops (N, 96, 96, 3) -> frame embeddings (N, width). Raises ``ValueError`` for other crops."""
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (CROP_SIZE, CROP_SIZE, 3):
            raise ValueError(f"pictures must be uint8 (N, 96, 96, 3), not {pictures.dtype} {pictures.shape}")
        few = FEW[self.runtime]
        parts = [self.engine.embed(pictures[start : start + few]) for start in range(0, len(pictures), few)]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.model.visual.width), np.float32)

    def score(self, frames: ArrayLike, audio: ArrayLike, has_lips: ArrayLike, has_audio: ArrayLike) -> Scores[Floats]:
        """``__call__`` from frame embeddings (B, T, width). Raises ``ValueError`` for other shapes."""
        embedded = np.asarray(frames, np.float32)
        voice, masks = _checked("frames", embedded, (self.config.model.visual.width,), audio, has_lips, has_audio)
        return Scores(*self.engine.score(embedded, voice, *masks))


def load_exported(path: str | Path, threads: int = 1) -> Exported:
    """Load a whole model that avfake exported; its content says which kind of file it is.

    ``threads`` bounds the CPU threads (torch has one setting for the whole process). Raises ``ExportError`` for a file
    that is damaged, foreign or a part of a model, ``StorageError`` for one that cannot be read.
    """
    return load_bytes(_content(path), path, threads)


def load_bytes(data: bytes, path: str | Path, threads: int = 1) -> Exported:
    """``load_exported`` from the bytes of a file; ``path`` is what errors call it."""
    runtime = runtime_of(data)
    metadata = _whole_model(path, _metadata(path, data))
    config = _config(path, metadata)
    engine = (_Script if runtime == "torchscript" else _Graphs)(path, data, threads)
    exported = Exported(config, hashlib.sha256(data).hexdigest(), metadata, runtime, engine)
    _try(path, exported)
    return exported


def _try(path: str | Path, exported: Exported) -> None:
    """Run a model once, for a program can have all the right names. Raises ``ExportError``."""
    faults: tuple[type[Exception], ...] = (ValueError, *exported.engine.faults)
    frames, masks = 2, np.ones(1, np.bool_)
    black, silence = np.zeros((frames, CROP_SIZE, CROP_SIZE, 3), np.uint8), np.zeros((1, frames * SAMPLES_PER_FRAME))
    try:
        scores = exported.score(exported.embed(black)[None], silence, masks, masks)
    except faults as error:
        raise _damaged(path, error) from error
    if [score.shape for score in scores] != [(1,)] * 4 + [(1, frames)] * 2 + [(1, frames, SHIFTS)]:
        raise _damaged(path, "its outputs have other shapes")


def describe_exported(path: str | Path) -> tuple[CheckpointConfig, str]:
    """Return ``config`` and ``fingerprint`` of what ``load_exported`` would load. Raises as that does."""
    data = _content(path)
    return _config(path, _whole_model(path, _metadata(path, data))), hashlib.sha256(data).hexdigest()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what any file that avfake exported says of itself, whole model or part, without running or loading it.

    Raises ``ExportError`` for a file that is damaged or foreign, ``StorageError`` for one that cannot be read.
    """
    return _metadata(path, _content(path))


def runtime_of(data: bytes) -> Kind:
    """Say which kind of file it would be, from how it begins."""
    return "torchscript" if data.startswith(b"PK\x03\x04") else "onnx"


def sealed(program: bytes, metadata: str) -> bytes:
    """Return an ONNX file: a serialised model, then its metadata, then the digest of both.

    Protocol buffers add up: what is appended to a message belongs to it.
    """
    described = program + _entry(METADATA, metadata)
    return described + _entry(DIGEST, hashlib.sha256(described).hexdigest())


def _entry(key: str, value: str) -> bytes:
    from onnx import ModelProto, StringStringEntryProto

    return ModelProto(metadata_props=[StringStringEntryProto(key=key, value=value)]).SerializeToString()


def _content(path: str | Path) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise ExportError(f"{path} is no file; give one that avfake exported.")
    return read_bytes(str(path))


def _metadata(path: str | Path, data: bytes) -> dict[str, Any]:
    """Return the metadata of a whole, unchanged file. Raises ``ExportError``."""
    text = _script_metadata(path, data) if runtime_of(data) == "torchscript" else _graph_metadata(path, data)
    try:
        metadata = json.loads(text)
        if metadata["schema"] != SCHEMA:
            raise ExportError(
                f"{path} has the schema {metadata['schema']!r}, but this avfake reads {SCHEMA!r}; use the avfake "
                "release that it came from, or export it again."
            )
        if not {"name", "part"} <= metadata.keys():
            raise ValueError("it does not say what it is of")
        if "${" in text:  # would be replaced, by a variable of the environment for one
            raise ValueError("it holds ${")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(path, error) from error
    assert isinstance(metadata, dict)
    return metadata


def _script_metadata(path: str | Path, data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA}")]
            if len(names) != 1:
                raise _foreign(path)
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise _damaged(path, "its entries are compressed")
            if sum(entry.file_size for entry in entries) > len(data):
                raise _damaged(path, "its entries overlap")
            if damaged := archive.testzip():  # torch does not look at checksums
                raise _damaged(path, damaged)
            return archive.read(names[0]).decode("utf-8")
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _graph_metadata(path: str | Path, data: bytes) -> str:
    found = {entry.key: entry.value for entry in _parsed(path, data).metadata_props}
    if METADATA not in found:
        raise _foreign(path)
    seal = _entry(DIGEST, found.get(DIGEST, ""))
    if not data.endswith(seal) or hashlib.sha256(data[: -len(seal)]).hexdigest() != found.get(DIGEST):
        raise ExportError(
            f"{path} is not what avfake exported: it is damaged or was changed afterwards; export it or fetch it again."
        )
    return found[METADATA]


def _parsed(path: str | Path, data: bytes) -> Any:
    """Parse an ONNX file. Raises ``ExportError``."""
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import load_model_from_string
    except ImportError as error:
        raise missing(path, error) from error
    try:
        return load_model_from_string(data)
    except DecodeError as error:
        raise _damaged(path, error) from error


def missing(path: str | Path, error: ImportError) -> ExportError:
    """Return the error that a package of the extra ``export`` is not installed."""
    return ExportError(f"{path} needs the package {error.name}: pip install 'avfake[export]'.")


def _foreign(path: str | Path) -> ExportError:
    return ExportError(f"{path} was not exported by avfake: it holds no {METADATA}; give a file that was.")


def _damaged(path: str | Path, reason: object) -> ExportError:
    return ExportError(
        f"{path} is damaged, or no model that avfake exported ({first_line(reason)}); export it or fetch it again."
    )


def _unreadable(path: str | Path, reason: object) -> ExportError:
    return ExportError(f"the {METADATA} in {path} cannot be read ({first_line(reason)}); export it or fetch it again.")


def _whole_model(path: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata that is of a whole model. Raises ``ExportError``."""
    if metadata["part"] != "model":
        raise ExportError(
            f"{path} holds the part {metadata['part']!r} of {metadata['name']!r} alone, which judges nothing; "
            "export the whole model (--part model)."
        )
    return metadata


def _config(path: str | Path, metadata: dict[str, Any]) -> CheckpointConfig:
    """Return metadata as a configuration. Raises ``ExportError``."""
    try:
        if [output["name"] for output in metadata["outputs"]] != list(OUTPUTS):
            raise ValueError("other outputs")
        thresholds = {
            aspect: {float(rate): at for rate, at in given.items()} for aspect, given in metadata["thresholds"].items()
        }
        own = {key: value for key, value in metadata.items() if key in CheckpointConfig.__dataclass_fields__}
        merged = OmegaConf.merge(OmegaConf.structured(CheckpointConfig), own | {"thresholds": thresholds})
        config = OmegaConf.to_object(merged)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OmegaConfBaseException) as error:
        raise _unreadable(path, error) from error
    assert isinstance(config, CheckpointConfig)
    return config


def _checked(
    name: str, given: Floats, shape: tuple[int, ...], audio: ArrayLike, has_lips: ArrayLike, has_audio: ArrayLike
) -> tuple[Floats, tuple[Array, Array]]:
    """Return audio and masks that fit what is given (B, T, *shape). Raises ``ValueError``."""
    if given.ndim < 2 or given.shape[2:] != shape or 0 in given.shape:
        raise ValueError(f"{name} has the shape {given.shape}, expected (clips, frames, {', '.join(map(str, shape))})")
    clips, frames = given.shape[:2]
    voice, masks = np.asarray(audio, np.float32), (np.asarray(has_lips, np.bool_), np.asarray(has_audio, np.bool_))
    for other, array, expected in (
        ("audio", voice, (clips, frames * SAMPLES_PER_FRAME)),
        ("has_lips", masks[0], (clips,)),
        ("has_audio", masks[1], (clips,)),
    ):
        if array.shape != expected:
            raise ValueError(f"{other} has the shape {array.shape}, expected {expected} for {clips} x {frames} frames")
    return voice, masks


class _Script:
    """A TorchScript program, on the CPU."""

    faults: tuple[type[Exception], ...] = (RuntimeError,)

    def __init__(self, path: str | Path, data: bytes, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        try:
            self._module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
        except RuntimeError as error:
            raise _damaged(path, error) from error
        if lacking := [method for method in METHODS if not hasattr(self._module, method)]:
            raise _damaged(path, f"it has no {lacking[0]}")
        self._torch = torch

    def forward(self, lips: Floats, audio: Floats, has_lips: Array, has_audio: Array) -> Sequence[Floats]:
        return self._run(self._module.forward, lips, audio, has_lips, has_audio)

    def embed(self, pictures: NDArray[np.uint8]) -> Floats:
        return self._run(lambda given: [self._module.embed(given)], pictures)[0]

    def score(self, frames: Floats, audio: Floats, has_lips: Array, has_audio: Array) -> Sequence[Floats]:
        return self._run(self._module.score, frames, audio, has_lips, has_audio)

    def _run(self, method: Any, *given: Array) -> list[Floats]:
        with self._torch.inference_mode():
            return [result.numpy() for result in method(*map(self._torch.tensor, given))]


class _Graphs:
    """Both halves of an ONNX graph, parted at its tensor ``frames``, so that each frame is embedded once."""

    def __init__(self, path: str | Path, data: bytes, threads: int) -> None:
        try:
            from onnx import TensorProto
            from onnx.utils import Extractor
            from onnxruntime.capi import onnxruntime_pybind11_state as errors

            from avfake.runtimes.graphs import session
        except ImportError as error:
            raise missing(path, error) from error
        self.faults: tuple[type[Exception], ...] = (
            *(errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf),
            *(errors.NotImplemented, errors.RuntimeException),
        )
        model = _parsed(path, data)
        if any(isinstance(part, TensorProto) and part.external_data for part in _messages(model)):
            raise _damaged(path, "its weights lie in other files")
        try:
            extractor = Extractor(model)
            halves = ((["lips"], ["frames"]), (["frames", *INPUTS[1:]], list(OUTPUTS)))
            self._embed, self._score = (
                session(extractor.extract_model(*names).SerializeToString(), threads) for names in halves
            )
        except (ValueError, *self.faults) as error:
            raise _damaged(path, error) from error

    def forward(self, lips: Floats, audio: Floats, has_lips: Array, has_audio: Array) -> Sequence[Floats]:
        clips, frames = lips.shape[:2]
        every, few = lips.reshape(1, clips * frames, *lips.shape[2:]), FEW["onnx"]
        parts = [self._frames(every[:, start : start + few]) for start in range(0, clips * frames, few)]
        return self.score(np.concatenate(parts, 1).reshape(clips, frames, -1), audio, has_lips, has_audio)

    def embed(self, pictures: NDArray[np.uint8]) -> Floats:
        frames: Floats = self._frames(np.moveaxis(pictures, 3, 1)[None].astype(np.float32) / np.float32(255))[0]
        return frames

    def score(self, frames: Floats, audio: Floats, has_lips: Array, has_audio: Array) -> Sequence[Floats]:
        scores: list[Floats] = self._score.run(
            list(OUTPUTS), {"frames": frames, "audio": audio, "has_lips": has_lips, "has_audio": has_audio}
        )
        return scores

    def _frames(self, lips: Floats) -> Floats:
        frames: Floats = self._embed.run(["frames"], {"lips": lips})[0]
        return frames


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protocol buffer's message and all those in it, however deep."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _messages(part)
