"""The configuration of an evaluation: what does not fit is one sentence."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from avfake import corpora
from avfake.evaluation.config import EvalConfig, load_config
from avfake.evaluation.protocols import AUTO, NAMES
from avfake.settings import ConfigError, dump

CONFIGS = Path(__file__).parents[1] / "configs" / "eval"
GOOD = "model: mini\nsets:\n  main:\n    manifest: m.jsonl\n"


def load(folder: Path, text: str, *changes: str) -> EvalConfig:
    path = folder / "eval.yaml"
    path.write_text(text)
    return load_config(path, changes)


def test_a_set_and_a_model_are_enough_and_come_back_from_what_is_saved(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, "sets.other.shards=s", "corruptions.families=[noise]", "leave_one_out=[method]")
    assert config.sets["main"].split == "auto"
    assert load(tmp_path, dump(config)) == config


@pytest.mark.parametrize(
    ("text", "changes", "told"),
    [
        ("model: mini\n", (), "sets is empty; say what to evaluate on with sets.main.manifest="),
        (GOOD, ("model=null",), "nothing says what to evaluate; give one of model=mini and scores.file="),
        (GOOD, ("scores.file=a.csv",), "a model and a score file are given"),
        (GOOD, ("sets.main.shards=s",), "sets.main has manifest and shards, but must have one of"),
        (GOOD, ("sets.b.split=dev",), "sets.b has nothing, but must have one of"),
        (GOOD, ("sets.main.split=val",), "sets.main.split is 'val', but must be one of auto, train, dev, test, all"),
        (GOOD, ("sets.main.manifst=a",), r"there is no key 'sets.main.manifst'; did you mean sets.main.manifest\?"),
        (GOOD, ("corruptions.families=[nois]",), "corruptions.families is .'nois'., but must be some of "),
        (GOOD, ("corruptions.severities=[0]",), "corruptions.severities is .0., but must be some of 1 to 5"),
        (GOOD, ("leave_one_out=[person]",), "leave_one_out is .'person'., but must be some of method and source"),
        (GOOD, ("checkpoint=a",), r"there is no key 'checkpoint'; did you mean model\?"),
        (GOOD, ("resamples=-1",), "resamples is -1, but must be at least 0"),
        (GOOD, ("scores.proposals=p.json",), "scores.proposals comes without scores.file"),
        ("model: mini\nsets:\n  a/b:\n    media: x\n", (), "sets.a/b becomes a folder; use letters"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, text: str, changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        load(tmp_path, text, *changes)
    assert "\n" not in str(raised.value)


def test_a_set_of_the_file_is_taken_away_by_null(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, "sets.main=null", "sets.own.media=folder")
    assert list(config.sets) == ["own"]


COMMAND = re.compile(r"^#\s+avfake eval (\S+)((?: \\\n#\s+| [^\\\n#]+)*)", re.MULTILINE)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_commands_of_each_configuration_are_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parents[1])
    text = path.read_text()
    commands = COMMAND.findall(text)
    assert commands, "the header says how to run it"
    for file, rest in commands:
        assert CONFIGS / Path(file).name == path
        words = shlex.split(rest.replace("\\\n#", " "))
        config = load_config(Path(file), [word for word in words if word != "--corruptions"])
        assert config.model is not None
        for one in config.sets.values():
            assert one.protocol in (AUTO, *NAMES)
    for corpus in re.findall(r"^#\s+avfake manifest (\S+)", text, re.MULTILINE):
        assert corpus.split(":")[0] in corpora.NAMES
