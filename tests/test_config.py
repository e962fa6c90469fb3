from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avfake.config import (
    CacheConfig,
    DataConfig,
    LossWeights,
    OptimConfig,
    SourceConfig,
    TrainConfig,
    ValidationConfig,
    load_config,
)
from avfake.models import AVFakeModel, ModelConfig
from avfake.models.contract import AudioConfig, VisualConfig
from avfake.settings import ConfigError, differences, dump
from avfake.training.optim import freeze

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "eval")
SHARDS = "data.sources.main.shards=shards/mine"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., TrainConfig]:
    def load(text: str, *overrides: str) -> TrainConfig:
        (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
        return load_config(tmp_path / "a.yaml", overrides)

    return load


def refused(load: Callable[..., TrainConfig], text: str, *overrides: str) -> str:
    """The one sentence in which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --------------------------------------------------------------------------------------------- what is right


def test_files_and_pairs_are_merged_in_order(load: Callable[..., TrainConfig]) -> None:
    config = load("steps: 5\noptim: {rate: 1e-3, clip: 1}\nfreeze: [a, b]", SHARDS, "optim.rate=2e-3", "steps=7")
    assert config.steps == 7
    assert config.optim == OptimConfig(rate=2e-3, clip=1.0)
    assert config.freeze == ["a", "b"]
    assert config.data.sources == {"main": SourceConfig("shards/mine")}
    assert config.model == ModelConfig()


def test_sources_come_and_go(load: Callable[..., TrainConfig]) -> None:
    text = "data: {sources: {a: {shards: x, weight: 2}, b: {shards: y}, c: null}}"
    assert load(text).data.sources == {"a": SourceConfig("x", 2.0), "b": SourceConfig("y")}
    assert load(text, "data.sources.a=null", "data.sources.b.weight=0.5").data.sources == {"b": SourceConfig("y", 0.5)}
    assert load(text, "data.sources.c.shards=z").data.sources["c"] == SourceConfig("z")
    assert load(text, "data.sources.a=null", "data.sources.a.shards=z").data.sources["a"] == SourceConfig("z")
    assert "data.sources is empty" in refused(load, text, "data.sources.a=null", "data.sources.b=null")


def test_interpolation(load: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFAKE_TEST_SHARDS", "s3://bucket")
    text = "data: {sources: {a: {shards: '${oc.env:AVFAKE_TEST_SHARDS}/a'}}}\nseed: 4\nsave_every: ${seed}"
    config = load(text)
    assert config.data.sources["a"].shards == "s3://bucket/a"
    assert config.save_every == 4
    assert "start" in refused(load, text, "start=${nothing}")
    assert "steps" in refused(load, text, "steps=${optim.rate}")


def test_a_file_builds_on_another(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.yaml").write_text("steps: 1\nseed: 1\nfreeze: [x, y]\ndata: {sources: {main: {shards: s}}}")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nseed: 2\ndata: {sources: {more: {shards: t}}}")
    (tmp_path / "inner" / "c.yaml").write_text("base: ../b.yaml\nsave_every: 3\nfreeze: [z]")
    config = load_config(tmp_path / "inner" / "c.yaml", ["save_every=4"])
    assert (config.steps, config.seed, config.save_every, config.freeze) == (1, 2, 4, ["z"])
    assert list(config.data.sources) == ["main", "more"]


def test_files_that_build_on_nothing_or_on_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: ./../" + tmp_path.name + "/a.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml: base is .*a\.yaml', but that builds on this file"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("base: none.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml, the base of .*a\.yaml, does not exist; "):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("base: [b.yaml]")
    with pytest.raises(ConfigError, match="must be the path of a YAML file"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("optim: {rat: 1}")
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml: there is no key 'optim\.rat'; did you mean optim\.rate\?"):
        load_config(tmp_path / "a.yaml")


# --------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("key", "cure"),
    [
        ("optim.rat", "did you mean optim.rate?"),
        ("optim.lr", "did you mean optim.rate?"),
        ("learning_rate", "did you mean optim.rate?"),
        ("optimizer.rate", "did you mean optim.rate?"),
        ("epochs", "did you mean steps?"),
        ("data.batch_size", "did you mean data.batch?"),
        ("data.shards", "did you mean data.sources.NAME.shards?"),
        ("data.sources.main.shard", "did you mean data.sources.main.shards?"),
        ("frames", "did you mean data.frames or validation.frames?"),
        ("freze", "did you mean freeze?"),
        ("models.dim", "did you mean model.dim?"),
        ("valdation.metrics", "did you mean validation.metric?"),
        ("optim.xyz", "the keys there are rate, weight_decay, layer_decay, warm_up, clip, accumulate, ema"),
    ],
)
def test_an_unknown_key_suggests_the_right_one(load: Callable[..., TrainConfig], key: str, cure: str) -> None:
    assert refused(load, "", SHARDS, f"{key}=1") == f"{key}=1: there is no key {key!r}; {cure}"
    *outer, last = key.split(".")
    text = "".join(f"{name}: {{" for name in outer) + f"{last}: 1" + "}" * len(outer)
    assert refused(load, text, SHARDS).endswith(f"a.yaml: there is no key {key!r}; {cure}")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("steps=many", "steps is 'many', but must be a whole number"),
        ("steps=1.5", "steps is 1.5, but must be a whole number"),
        ("steps=null", "steps is null, but must be a whole number"),
        ("steps={a: 1}", "steps is {'a': 1}, but must be a whole number"),
        ("optim.rate=fast", "optim.rate is 'fast', but must be a number"),
        ("optim.rate=true", "optim.rate is true, but must be a number"),
        ("compile=maybe", "compile is 'maybe', but must be true or false"),
        ("out=[a]", "out is ['a'], but must be text"),
        ("start={}", "start is {}, but must be text or null"),
        ("freeze=fusion", "freeze is 'fusion', but must be a list, as in [fusion]"),
        ("freeze=[null]", "freeze[0] is null, but must be text"),
        ("data.sources.main=x", "data.sources.main is 'x', but must be keys and values (shards, weight)"),
        ("data.sources=null", "data.sources is null, but must be keys and values"),
        ("optim=${data}", "optim is '${data}', but must be keys and values"),
    ],
)
def test_a_value_of_another_type(load: Callable[..., TrainConfig], pair: str, said: str) -> None:
    assert f"{pair}: {said}" in refused(load, "", SHARDS, pair)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("data.batch=0", "data.batch is 0, but must be at least 1"),
        ("data.frames=0", "data.frames is 0, but must be at least 1"),
        ("data.shortest=65", "data.shortest is 65, but must be at most data.frames, 64"),
        ("data.forged=1.1", "data.forged is 1.1, but must be from 0 to 1"),
        ("data.paired=-0.1", "data.paired is -0.1"),
        ("data.jitter=16", "data.jitter is 16, but must be from 0 to 15"),
        ("data.workers=-1", "data.workers is -1"),
        ("data.cache.windows=-1", "data.cache.windows is -1"),
        ("data.sources.main.weight=0", "data.sources.main.weight is 0.0, but must be above 0"),
        ("data.sources.main.shards=''", "data.sources.main.shards is '', but must be some text"),
        ("data.sources.b={}", "data.sources.b.shards is missing; give data.sources.b.shards=..."),
        ("validation.metric=auc", "validation.metric is 'auc', but must be one of mean, visual, audio, sync, fake"),
        ("validation.held_out=1", "validation.held_out is 1"),
        ("validation.every=0", "validation.every is 0"),
        ("weights.sync=-1", "weights.sync is -1.0, but must be 0 or more"),
        ("weights={visual: 0, audio: 0, sync: 0, mismatch: 0, fake: 0}", "all weights are 0"),
        ("weights.distil=1", "there is no teacher; give teacher=MODEL"),
        ("teacher=some/model", "weights.distil is 0; give weights.distil=1"),
        ("optim.rate=0", "optim.rate is 0.0, but must be above 0"),
        ("optim.rate=nan", "optim.rate is nan, but must be above 0"),
        ("optim.ema=1", "optim.ema is 1.0, but must be from 0 to below 1"),
        ("optim.accumulate=0", "optim.accumulate is 0"),
        ("optim.layer_decay=0", "optim.layer_decay is 0.0"),
        ("steps=0", "steps is 0, but must be at least 1"),
        ("save_every=0", "save_every is 0"),
        ("precision=fp16", "precision is 'fp16', but must be one of float32, bf16"),
        ("device=cuda", "device is 'cuda', but must be one of auto, cpu"),
        ("seed=-1", "seed is -1"),
        ("out=' '", "out is ' ', but must be some text"),
        ("model.heads=3", "model.heads is 3, but must divide model.dim, 128"),
        ("model.audio.frontend=mfcc", "must be one of logmel, wav2vec2"),
        ("model.visual.backbone=resnet50", "must be an EfficientNet of timm"),
        ("model.audio.wav2vec2.hiden_size=3", "wav2vec2.hiden_size is no setting of transformers' Wav2Vec2Config; did"),
    ],
)
def test_a_value_out_of_range(load: Callable[..., TrainConfig], pair: str, said: str) -> None:
    assert said in refused(load, "", SHARDS, pair)


def test_every_value_but_a_switch_has_a_limit(load: Callable[..., TrainConfig]) -> None:
    """A number that nothing checks would fail somewhere in the middle of a run."""
    config = load("", SHARDS)
    for key in differences(config, TrainConfig()) + differences(_other(config), config):
        if isinstance(value := _at(config, key), int | float) and not isinstance(value, bool):
            assert key in refused(load, "", SHARDS, f"{key}=-1")


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def _other(config: TrainConfig) -> TrainConfig:
    """A configuration in which every number is another."""
    return replace(
        config,
        **_more(config),
        data=replace(config.data, **_more(config.data), cache=replace(config.data.cache, windows=1)),
        validation=replace(config.validation, **_more(config.validation)),
        weights=replace(config.weights, **_more(config.weights)),
        optim=replace(config.optim, **_more(config.optim)),
        model=replace(config.model, **_more(config.model), visual=VisualConfig("x", 1, 2)),
    )


def _more(part: Any) -> dict[str, Any]:
    return {k: v + 1 for k, v in vars(part).items() if isinstance(v, int | float) and not isinstance(v, bool)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "data.sources is empty"),
        ("- a", "holds a list"),
        ("7", "cannot be read"),
        ("hello", "there is no key 'hello'"),
        ("steps: 1\nsteps: 2", "found duplicate key steps"),
        ("steps: 1: 2", "is not valid YAML"),
        ("a: !!python/object:os.system {}", "is not valid YAML"),
        ("3: x", "the key 3 is not text; put it in quotes"),
        ("data: {sources: {1: {shards: x}}}", "the key 1 is not text"),
        ("data:", "data is null, but must be keys and values"),
        ("data: {sources: {main: {weight: 2}}}", "data.sources.main.shards is missing"),
    ],
)
def test_a_file_that_is_no_configuration(load: Callable[..., TrainConfig], text: str, said: str) -> None:
    message = refused(load, text)
    assert said in message
    assert "a.yaml" in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist; "):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"out: \xe9")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize("pair", ["steps", "--resume", "=3", " =3"])
def test_what_is_no_pair(load: Callable[..., TrainConfig], pair: str) -> None:
    assert refused(load, "", SHARDS, pair) == f"{pair!r} is no key=value pair; write it as in optim.rate=3e-4"


def test_a_pair_that_is_not_yaml(load: Callable[..., TrainConfig]) -> None:
    assert refused(load, "", SHARDS, "freeze=[a").startswith("freeze=[a: the value is not valid YAML; ")


# ------------------------------------------------------------------------------------- written and read back

letters = st.text(st.characters(codec="utf-8"), max_size=8)
tricky = [
    "1e5",
    "no",
    "0x10",
    "null",
    "${seed}",
    "\\${seed}",
    "\\\\${a}b${",
    "$",
    "- a",
    "a: b",
    "#",
    "'",
    "1_000",
    "~",
    ".nan",
]
texts = letters.filter(lambda text: text.strip() and text != "???") | st.sampled_from(tricky)
shares = st.floats(0, 1)
counts = st.integers(1, 10**9)
amounts = st.floats(0, exclude_min=True, allow_infinity=False)
configs = st.builds(
    TrainConfig,
    model=st.builds(
        ModelConfig,
        name=texts,
        dim=counts,
        heads=st.just(1),
        visual=st.builds(VisualConfig, width=counts),
        audio=st.builds(
            AudioConfig,
            wav2vec2=st.fixed_dictionaries(
                {},
                optional={
                    "conv_dim": st.lists(counts),
                    "hidden_act": texts,
                    "layerdrop": amounts,
                    "conv_bias": st.booleans(),
                },
            ),
            pretrained=st.none() | texts,
        ),
    ),
    data=st.builds(
        DataConfig,
        sources=st.dictionaries(letters, st.builds(SourceConfig, texts, amounts), min_size=1, max_size=3),
        frames=counts,
        forged=shares,
        augmented=st.booleans(),
        cache=st.builds(CacheConfig, windows=counts, folder=texts),
    ),
    validation=st.builds(ValidationConfig, patience=counts),
    weights=st.builds(LossWeights, geometry=amounts, visual=amounts),
    optim=st.builds(OptimConfig, rate=amounts, warm_up=shares),
    steps=counts,
    start=st.none() | texts,
    freeze=st.lists(texts),
    out=texts,
)


@settings(deadline=None, max_examples=25)
@given(config=configs)
def test_what_is_written_is_read_back(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_bytes(dump(config).encode())
    assert load_config(path) == config


def test_differences(load: Callable[..., TrainConfig]) -> None:
    a = load("", SHARDS, "model.audio.wav2vec2.hidden_size=3")
    assert differences(a, a) == []
    b = load("", "data.sources.more.shards=x", "optim.rate=1", "freeze=[a]", "start=mini")
    changed = ["model.audio.wav2vec2.hidden_size", "data.sources.main.shards", "data.sources.main.weight", "optim.rate"]
    changed += ["start", "freeze"]
    added = ["data.sources.more.shards", "data.sources.more.weight"]
    assert differences(a, b) == changed + added
    assert sorted(differences(b, a)) == sorted(changed + added)


# ------------------------------------------------------------------------------------ those that come with avfake


@cache
def own_command(path: Path) -> tuple[str, TrainConfig]:
    """The header of a YAML file, and its configuration with the values that its own command gives."""
    name = path.relative_to(ROOT)
    header = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    command = re.search(rf"^#   avfake train {name}( .*)?$", header, re.MULTILINE)
    assert command, f"{name} does not say which command runs it"
    return header, load_config(path, shlex.split(command[1] or ""))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_can_be_used(path: Path) -> None:
    header, config = own_command(path)
    assert header.startswith("# ")
    first = header.index("avfake manifest")
    assert first < header.index("avfake prepare") < header.index(f"avfake train {path.relative_to(ROOT)}")
    prepared = set(re.findall(r"avfake prepare \S+ -o (\S+)", header))
    asked = {source.shards for source in config.data.sources.values()}
    assert prepared <= asked
    assert prepared == asked or path.stem == "combined"
    # Log-mel filters are computed, which needs numbers; the large ones need none.
    with torch.device("cpu" if config.model.audio.frontend == "logmel" else "meta"):
        model = AVFakeModel(config.model)
    freeze(model, config.freeze, config.norms_only)  # raises where a name fits nothing
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_configurations_write_to_different_folders() -> None:
    assert len(CONFIGS) >= 11
    outs = [own_command(path)[1].out for path in CONFIGS]
    assert len(set(outs)) == len(outs)


def test_starting_points_are_made_by_other_configurations() -> None:
    made = {own_command(path)[1].out: own_command(path)[1] for path in CONFIGS}
    for config in made.values():
        if config.start and config.start != "mini":
            assert made[config.start].model == config.model
