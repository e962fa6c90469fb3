"""Typed settings: YAML files + ``key=value`` pairs -> dataclasses, and a sentence for everything that does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import BooleanNode, FloatNode, IntegerNode, Node, OmegaConf, StringNode
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]

from avfake import AvfakeError

Settings = TypeVar("Settings")


class ConfigError(AvfakeError):
    """A configuration file or ``key=value`` pair that does not fit."""


class Limit(NamedTuple):
    """What a value must be, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


@dataclass(frozen=True)
class Schema(Generic[Settings]):
    """What a configuration may hold.

    ``kind``       its dataclass.
    ``limits``     by key, as in ``optim.rate``; NAME stands for a name of the user's choice.
    ``fault``      says what does not go together, or None; it is asked when every value is within its limits.
    ``elsewhere``  keys by what others call them, where spelling would not lead there.
    ``first``      is asked before the limits: what is missing altogether.
    """

    kind: type[Settings]
    limits: Mapping[str, Limit]
    fault: Callable[[Settings], str | None]
    elsewhere: Mapping[str, str]
    first: Callable[[Settings], str | None] = lambda settings: None


BASE = "base"
"""Key of a YAML file that names another one, relative to its own folder, which is read first and then added to."""

NAME = "NAME"
"""Stands for a name of the user's choice in the keys of ``Schema``."""

_KINDS: dict[Any, tuple[Callable[..., Node], str]] = {
    int: (IntegerNode, "a whole number"),
    float: (FloatNode, "a number"),
    bool: (BooleanNode, "true or false"),
    str: (StringNode, "text"),
}


class _Layer(NamedTuple):
    """Keys and values of one file or of one ``key=value`` pair, interpolations unresolved; ``name`` is for errors."""

    name: str
    values: dict[Any, Any]


def load(path: Path, overrides: Sequence[str], schema: Schema[Settings]) -> Settings:
    """Read ``path``, after the file that its key ``base`` names, and merge ``key=value`` pairs over it.

    Of what has names of the user's choice, one is taken away by null, as in ``data.sources.NAME=null``. Raises
    ``ConfigError`` naming the key that is unknown, mistyped, missing or out of range.
    """
    layers = [*_files(path, ()), *map(_pair, overrides)]
    for layer in layers:
        _check_layer(layer, layer.values, schema.kind, (), schema)
    merged = OmegaConf.to_container(OmegaConf.merge(*(OmegaConf.create(layer.values) for layer in layers)))
    try:
        structured = OmegaConf.structured(schema.kind)
        config = OmegaConf.to_object(OmegaConf.merge(structured, _without_null(merged, schema.kind)))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{path}: {error.full_key} is missing; give {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: {error.full_key} does not fit ({reason}); correct it") from error
    assert isinstance(config, schema.kind)
    if fault := schema.first(config) or _beyond(config, schema) or schema.fault(config):
        raise ConfigError(f"{path}: {fault}")
    return config


def dump(settings: Any) -> str:
    """Return ``settings``, a dataclass, as YAML that ``load`` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(_escaped(asdict(settings))))


def differences(a: Any, b: Any) -> list[str]:
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
        raise ConfigError(f"{path}: {BASE} is {shown(base)}, but must be the path of a YAML file, as in ../base.yaml")
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


def _check_layer(layer: _Layer, value: Any, kind: Any, path: tuple[str, ...], schema: Schema[Any]) -> None:
    """Raise ``ConfigError`` unless ``value``, which lies at ``path`` of the layer, can become a ``kind``."""
    words = ""
    if is_dataclass(kind) or get_origin(kind) is dict:
        if isinstance(value, dict):
            inner = get_type_hints(kind) if is_dataclass(kind) else dict.fromkeys(value, get_args(kind)[1])
            for key, part in value.items():
                if not isinstance(key, str):
                    raise ConfigError(f"{layer.name}: the key {shown(key)} is not text; put it in quotes")
                if key not in inner:
                    raise ConfigError(_no_such_key(layer.name, (*path, key), part, list(inner), schema))
                if part is not None or not _is_named(kind):
                    _check_layer(layer, part, inner[key], (*path, key), schema)
            return
        words = f"keys and values ({', '.join(get_type_hints(kind))})" if is_dataclass(kind) else "keys and values"
    elif get_origin(kind) is list:
        if isinstance(value, list):
            for index, part in enumerate(value):
                _check_layer(layer, part, get_args(kind)[0], (*path[:-1], f"{path[-1]}[{index}]"), schema)
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
        raise ConfigError(f"{layer.name}: {'.'.join(path)} is {shown(value)}, but must be {words}")


def _no_such_key(name: str, path: tuple[str, ...], value: Any, siblings: Sequence[str], schema: Schema[Any]) -> str:
    while isinstance(value, dict) and value:  # the first whole key below one that does not exist says most
        key, value = next(iter(value.items()))
        path = (*path, str(key))
    dotted, last, keys = ".".join(path), path[-1], list(_keys(schema.kind))
    names = [key.rpartition(".")[2] for key in keys]
    found = [schema.elsewhere[last]] if last in schema.elsewhere else []
    found = found or [key for key, called in zip(keys, names, strict=True) if called == last]
    found = found or [".".join((*path[:-1], key)) for key in get_close_matches(last, siblings, 1)]
    found = found or get_close_matches(dotted, keys, 1, 0.75)
    close = [] if found else get_close_matches(last, names, 1, 0.75)
    found = found or [key for key, called in zip(keys, names, strict=True) if called in close]
    cure = f"did you mean {' or '.join(found)}?" if found else f"the keys there are {', '.join(siblings)}"
    return f"{name}: there is no key {dotted!r}; {cure}"


def _is_named(kind: Any) -> bool:
    """Whether what is of this kind holds dataclasses by names of the user's choice."""
    return get_origin(kind) is dict and is_dataclass(get_args(kind)[1])


def _without_null(values: Any, kind: Any) -> Any:
    """Take away what was named and then set to null."""
    if not isinstance(values, dict):
        return values
    if _is_named(kind):
        inner = get_args(kind)[1]
        return {name: _without_null(part, inner) for name, part in values.items() if part is not None}
    if not is_dataclass(kind):
        return values
    hints = get_type_hints(kind)
    return {name: _without_null(part, hints[name]) for name, part in values.items()}


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield all keys that lead to a value; NAME stands for one of your choice."""
    if is_dataclass(kind):
        for name, part in get_type_hints(kind).items():
            yield from _keys(part, f"{prefix}.{name}" if prefix else name)
    elif _is_named(kind):
        yield from _keys(get_args(kind)[1], f"{prefix}.{NAME}")
    else:
        yield prefix


# --------------------------------------------------------------------------------------------- checking


def at_least(least: int) -> Limit:
    """Return the limit of numbers from ``least`` on."""
    return Limit(lambda value: value >= least, f"at least {least}")


def one_of(*names: str) -> Limit:
    """Return the limit of a choice."""
    return Limit(lambda value: value in names, f"one of {', '.join(names)}")


SHARE = Limit(lambda value: 0 <= value <= 1, "from 0 to 1")
ABOVE_0 = Limit(lambda value: 0 < value < math.inf, "above 0")
NOT_NEGATIVE = Limit(lambda value: 0 <= value < math.inf, "0 or more")
TEXT = Limit(lambda value: value is None or bool(value.strip()), "some text")


def _beyond(settings: Any, schema: Schema[Any]) -> str | None:
    """Say which value is out of its limits."""
    for key, limit in schema.limits.items():
        for full_key, value in _values(settings, key.split("."), ()):
            if not limit.holds(value):
                return f"{full_key} is {shown(value)}, but must be {limit.words}"
    return None


def _values(value: Any, left: Sequence[str], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the full keys and values that a key of ``Schema.limits`` stands for."""
    if not left:
        yield ".".join(path), value
    elif left[0] == NAME:
        for name, part in value.items():
            yield from _values(part, left[1:], (*path, name))
    else:
        yield from _values(getattr(value, left[0]), left[1:], (*path, left[0]))


# ---------------------------------------------------------------------------------------------- writing


def shown(value: Any) -> str:
    """Return a value as YAML has it."""
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
