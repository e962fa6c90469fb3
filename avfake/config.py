"""Typed configuration: YAML file + ``key=value`` pairs -> dataclasses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import timm
from omegaconf import BooleanNode, FloatNode, IntegerNode, Node, OmegaConf, StringNode
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError
from transformers import Wav2Vec2Config
from yaml import YAMLError  # type: ignore[import-untyped]

from avfake import AvfakeError
from avfake.models.fusion import MAX_SHIFT, ModelConfig


class ConfigError(AvfakeError):
    """A configuration file or ``key=value`` pair that does not fit."""


@dataclass(frozen=True)
class SourceConfig:
    """A folder or address that ``avfake prepare`` has filled; of weight w comes the share w / (sum of weights)."""

    shards: str
    weight: float = 1.0


@dataclass(frozen=True)
class CacheConfig:
    """What frozen towers say of ``windows`` windows is kept in ``folder`` and trained on again and again; 0: nothing.

    The windows are drawn, forged and augmented as they would be without a cache.
    """

    windows: int = 0
    folder: str = "runs/cache"


@dataclass(frozen=True)
class DataConfig:
    """What a step is trained on.

    ``sources`` by names of your choice; ``batch`` windows of ``frames`` frames (40 ms each) a process and step, each
    batch cut to a length drawn from ``shortest`` to ``frames`` (0: always ``frames``). Of genuine windows the share
    ``forged`` goes through a forger; the share ``paired`` of windows comes with its counterpart, a fake with its
    source. Lips and voice are cut up to ``jitter`` frames apart, so that position betrays nothing. ``workers``
    processes decode, forge and augment; 0: none but the one that trains.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    frames: int = 64
    shortest: int = 0
    batch: int = 16
    forged: float = 0.3
    paired: float = 0.5
    jitter: int = 11
    augmented: bool = True
    workers: int = 1
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass(frozen=True)
class ValidationConfig:
    """What the best weights are chosen by: the split ``dev``, and one person in ``held_out`` of ``train`` (0: nobody).

    Held-out persons are never trained on. Every ``every`` steps the middle ``frames`` frames of at most ``clips`` clips
    are judged. ``metric`` is ``mean`` or one of visual, audio, sync, fake: an AUC, higher is better. Training stops
    after ``patience`` validations without a better value (0: never).
    """

    held_out: int = 6
    every: int = 200
    clips: int = 1000
    frames: int = 100
    metric: str = "mean"
    patience: int = 0


@dataclass(frozen=True)
class LossWeights:
    """Weight of each task in the sum that is minimised; 0 switches it off. See docs/training.md for the formulas."""

    geometry: float = 0.0
    visual: float = 1.0
    audio: float = 1.0
    sync: float = 1.0
    mismatch: float = 0.5
    fake: float = 0.5
    distil: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW: ``rate`` rises over the share ``warm_up`` of the steps, then follows a cosine to zero.

    A backbone layer that lies n layers below the top learns at ``rate * layer_decay ** (n + 1)``, everything that is no
    backbone at ``rate``. Gradients of ``accumulate`` batches make one step; their norm is clipped at ``clip``. ``ema``
    is the decay of the moving average of the weights that is validated and kept (0: the weights themselves).
    """

    rate: float = 6e-4
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    warm_up: float = 0.05
    clip: float = 2.0
    accumulate: int = 1
    ema: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """A training run of ``steps`` steps.

    ``start`` is a checkpoint to go on from; without it training starts from public weights. ``freeze`` names parts of
    the model that do not learn, ``norms_only`` parts of which only the normalisation layers do (prefixes of parameter
    names, as in ``lip_tower.stages.0`` or ``voice_tower.wav2vec2``). ``teacher`` is a speech model of the hub, or a
    folder, that ``weights.distil`` learns from. ``device`` is auto or cpu; ``precision`` float32 or bf16. The state of
    the run is saved every ``save_every`` steps, to go on from after a crash.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = 1000
    start: str | None = None
    teacher: str | None = None
    freeze: list[str] = field(default_factory=list)
    norms_only: list[str] = field(default_factory=list)
    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    threads: int = 1
    seed: int = 0
    save_every: int = 200
    out: str = "runs/mini"


BASE = "base"
"""Key of a YAML file that names another one, relative to its own folder, which is read first and then added to."""

_KINDS: dict[Any, tuple[Callable[..., Node], str]] = {
    int: (IntegerNode, "a whole number"),
    float: (FloatNode, "a number"),
    bool: (BooleanNode, "true or false"),
    str: (StringNode, "text"),
}
_ELSEWHERE = {  # what other trainers call it, where spelling would not lead there
    "lr": "optim.rate",
    "learning_rate": "optim.rate",
    "epochs": "steps",
    "batch_size": "data.batch",
    "num_workers": "data.workers",
    "checkpoint": "start",
    "output_dir": "out",
}


class _Layer(NamedTuple):
    """Keys and values of one file or of one ``key=value`` pair, interpolations unresolved; ``name`` is for errors."""

    name: str
    values: dict[Any, Any]


class _Limit(NamedTuple):
    holds: Callable[[Any], bool]
    words: str


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read ``path``, after the file that its key ``base`` names, and merge ``key=value`` pairs over it.

    A source of a file is taken away by ``data.sources.NAME=null``. Raises ``ConfigError`` naming the key that is
    unknown, mistyped, missing or out of range.
    """
    layers = [*_files(path, ()), *map(_pair, overrides)]
    for layer in layers:
        _check_layer(layer, layer.values, TrainConfig, ())
    merged = OmegaConf.to_container(OmegaConf.merge(*(OmegaConf.create(layer.values) for layer in layers)))
    assert isinstance(merged, dict)
    sources = merged.get("data", {}).get("sources")
    if isinstance(sources, dict):
        merged["data"]["sources"] = {name: source for name, source in sources.items() if source is not None}
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), merged))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{path}: {error.full_key} is missing; give {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: {error.full_key} does not fit ({reason}); correct it") from error
    assert isinstance(config, TrainConfig)
    if fault := _fault(config):
        raise ConfigError(f"{path}: {fault}")
    return config


def dump_config(config: TrainConfig) -> str:
    """Return ``config`` as YAML that ``load_config`` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(_escaped(asdict(config))))


def differences(a: TrainConfig, b: TrainConfig) -> list[str]:
    """Return the keys, as in ``optim.rate``, whose values differ; a source that only one of them has differs."""
    ours, theirs = dict(_leaves(asdict(a))), dict(_leaves(asdict(b)))
    return [key for key in {**ours, **theirs} if key not in ours or key not in theirs or ours[key] != theirs[key]]


# ----------------------------------------------------------------------------------------------- reading


def _files(path: Path, below: tuple[Path, ...]) -> list[_Layer]:
    """Read a file and those that it builds on, the first of them first; ``below`` are the files that build on it."""
    try:
        loaded = OmegaConf.load(path)
    except FileNotFoundError as error:
        asked = f", the base of {below[-1]}," if below else ""
        raise ConfigError(
            f"{path}{asked} does not exist; the configurations that come with avfake are in configs/"
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML ({' '.join(str(error).split())}); correct it") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}); give a YAML file") from error
    values = OmegaConf.to_container(loaded)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a list, not keys and values; see the examples in configs/")
    if BASE not in values:
        return [_Layer(str(path), values)]
    base = values.pop(BASE)
    if not isinstance(base, str):
        raise ConfigError(f"{path}: {BASE} is {_shown(base)}, but must be the path of a YAML file, as in ../base.yaml")
    chain = (*below, path)
    if any((path.parent / base).resolve() == file.resolve() for file in chain):
        raise ConfigError(f"{path}: {BASE} is {base!r}, but that builds on this file; take one of the two keys away")
    return [*_files(path.parent / base, chain), _Layer(str(path), values)]


def _pair(text: str) -> _Layer:
    """Read a ``key=value`` pair of the command line."""
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is no key=value pair; write it as in optim.rate=3e-4")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except YAMLError as error:
        raise ConfigError(f"{text}: the value is not valid YAML; correct it, or put it in quotes") from error
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{text}: {str(error).splitlines()[0]}; write it as in optim.rate=3e-4") from error
    assert isinstance(values, dict)
    return _Layer(text, values)


def _check_layer(layer: _Layer, value: Any, kind: Any, path: tuple[str, ...]) -> None:
    """Raise ``ConfigError`` unless ``value``, which lies at ``path`` of the layer, can become a ``kind``."""
    words = ""
    if is_dataclass(kind) or get_origin(kind) is dict:
        if value is None and path[:-1] == ("data", "sources"):
            return
        if isinstance(value, dict):
            inner = get_type_hints(kind) if is_dataclass(kind) else dict.fromkeys(value, get_args(kind)[1])
            for key, part in value.items():
                if not isinstance(key, str):
                    raise ConfigError(f"{layer.name}: the key {_shown(key)} is not text; put it in quotes")
                if key not in inner:
                    raise ConfigError(_no_such_key(layer.name, (*path, key), part, list(inner)))
                _check_layer(layer, part, inner[key], (*path, key))
            return
        words = f"keys and values ({', '.join(get_type_hints(kind))})" if is_dataclass(kind) else "keys and values"
    elif get_origin(kind) is list:
        if isinstance(value, list):
            for index, part in enumerate(value):
                _check_layer(layer, part, get_args(kind)[0], (*path[:-1], f"{path[-1]}[{index}]"))
            return
        words = f"a list, as in [{value if isinstance(value, str) else 'a, b'}]"
    elif kind is not Any:
        optional = type(None) in get_args(kind)
        node, words = _KINDS[next(part for part in (*get_args(kind), kind) if part in _KINDS)]
        words += " or null" * optional
        try:
            node(value, is_optional=optional)  # takes an interpolation as it is
        except ValidationError:
            pass
        else:
            return
    if kind is not Any:
        raise ConfigError(f"{layer.name}: {'.'.join(path)} is {_shown(value)}, but must be {words}")


def _no_such_key(name: str, path: tuple[str, ...], value: Any, siblings: Sequence[str]) -> str:
    while isinstance(value, dict) and value:  # the first whole key below one that does not exist says most
        key, value = next(iter(value.items()))
        path = (*path, str(key))
    dotted, last, keys = ".".join(path), path[-1], list(_keys(TrainConfig))
    names = [key.rpartition(".")[2] for key in keys]
    found = [_ELSEWHERE[last]] if last in _ELSEWHERE else []
    found = found or [key for key, called in zip(keys, names, strict=True) if called == last]
    found = found or [".".join((*path[:-1], key)) for key in get_close_matches(last, siblings, 1)]
    found = found or get_close_matches(dotted, keys, 1, 0.75)
    close = [] if found else get_close_matches(last, names, 1, 0.75)
    found = found or [key for key, called in zip(keys, names, strict=True) if called in close]
    cure = f"did you mean {' or '.join(found)}?" if found else f"the keys there are {', '.join(siblings)}"
    return f"{name}: there is no key {dotted!r}; {cure}"


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield all keys that lead to a value; NAME stands for one of your choice."""
    if is_dataclass(kind):
        for name, part in get_type_hints(kind).items():
            yield from _keys(part, f"{prefix}.{name}" if prefix else name)
    elif get_origin(kind) is dict and is_dataclass(get_args(kind)[1]):
        yield from _keys(get_args(kind)[1], f"{prefix}.NAME")
    else:
        yield prefix


# --------------------------------------------------------------------------------------------- checking


def _at_least(least: int) -> _Limit:
    return _Limit(lambda value: value >= least, f"at least {least}")


def _one_of(*names: str) -> _Limit:
    return _Limit(lambda value: value in names, f"one of {', '.join(names)}")


_SHARE = _Limit(lambda value: 0 <= value <= 1, "from 0 to 1")
_ABOVE_0 = _Limit(lambda value: 0 < value < math.inf, "above 0")
_NOT_NEGATIVE = _Limit(lambda value: 0 <= value < math.inf, "0 or more")
_TEXT = _Limit(lambda value: value is None or bool(value.strip()), "some text")
_LIMITS = {
    "model.dim": _at_least(1),
    "model.sync_dim": _at_least(1),
    "model.heads": _at_least(1),
    "model.visual.backbone": _Limit(
        lambda name: "efficientnet" in name and timm.is_model(name), "an EfficientNet of timm, as in tf_efficientnet_b4"
    ),
    "model.visual.stages": _Limit(lambda value: 1 <= value <= 7, "from 1 to 7"),
    "model.visual.width": _at_least(1),
    "model.audio.frontend": _one_of("logmel", "wav2vec2"),
    "data.frames": _at_least(1),
    "data.shortest": _at_least(0),
    "data.batch": _at_least(1),
    "data.forged": _SHARE,
    "data.paired": _SHARE,
    "data.jitter": _Limit(lambda value: 0 <= value <= MAX_SHIFT, f"from 0 to {MAX_SHIFT}, as far as the model looks"),
    "data.workers": _at_least(0),
    "data.cache.windows": _at_least(0),
    "data.cache.folder": _TEXT,
    "validation.held_out": _Limit(lambda value: value == 0 or value >= 2, "0 (nobody) or at least 2 (one person in 2)"),
    "validation.every": _at_least(1),
    "validation.clips": _at_least(1),
    "validation.frames": _at_least(1),
    "validation.metric": _one_of("mean", "visual", "audio", "sync", "fake"),
    "validation.patience": _at_least(0),
    **{f"weights.{field.name}": _NOT_NEGATIVE for field in fields(LossWeights)},
    "optim.rate": _ABOVE_0,
    "optim.weight_decay": _NOT_NEGATIVE,
    "optim.layer_decay": _Limit(lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "optim.warm_up": _SHARE,
    "optim.clip": _ABOVE_0,
    "optim.accumulate": _at_least(1),
    "optim.ema": _Limit(lambda value: 0 <= value < 1, "from 0 to below 1"),
    "steps": _at_least(1),
    "start": _TEXT,
    "teacher": _TEXT,
    "device": _one_of("auto", "cpu"),
    "precision": _one_of("float32", "bf16"),
    "threads": _at_least(1),
    "seed": _at_least(0),
    "save_every": _at_least(1),
    "out": _TEXT,
}


def _fault(config: TrainConfig) -> str | None:
    """Say what is out of range or does not go together, first of all whether there is anything to train on."""
    data, weights = config.data, config.weights
    if not data.sources:
        return "data.sources is empty; say what to train on with data.sources.main.shards=FOLDER (see avfake prepare)"
    limits = [(key, attrgetter(key)(config), limit) for key, limit in _LIMITS.items()]
    for name, source in data.sources.items():
        limits.append((f"data.sources.{name}.shards", source.shards, _TEXT))
        limits.append((f"data.sources.{name}.weight", source.weight, _ABOVE_0))
    for key, value, limit in limits:
        if not limit.holds(value):
            return f"{key} is {_shown(value)}, but must be {limit.words}"
    if data.shortest > data.frames:
        return f"data.shortest is {data.shortest}, but must be at most data.frames, {data.frames}"
    if data.cache.windows and data.batch % 2:
        return f"data.batch is {data.batch}, but must be even where data.cache.windows is above 0: couples are kept"
    if config.model.dim % config.model.heads:
        return f"model.heads is {config.model.heads}, but must divide model.dim, {config.model.dim}"
    if not any(getattr(weights, field.name) for field in fields(weights)):
        return "all weights are 0, so there is nothing to learn; give one, as in weights.sync=1"
    if weights.distil and config.teacher is None:
        return "weights.distil is above 0, but there is no teacher; give teacher=MODEL, or weights.distil=0"
    if config.teacher is not None and not weights.distil:
        return "there is a teacher, but weights.distil is 0; give weights.distil=1, or teacher=null"
    known = {field.name for field in fields(Wav2Vec2Config)}
    for key in config.model.audio.wav2vec2:  # transformers takes any name, and does nothing with it
        if key not in known:
            close = get_close_matches(key, known, 1)
            cure = f"did you mean {close[0]}?" if close else "see its documentation"
            return f"model.audio.wav2vec2.{key} is no setting of transformers' Wav2Vec2Config; {cure}"
    return None


# ---------------------------------------------------------------------------------------------- writing


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _escaped(value: Any) -> Any:
    """Let ``${`` in a text be two letters, not the beginning of an interpolation."""
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
