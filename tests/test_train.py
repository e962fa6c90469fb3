"""Training learns, goes on after a kill as if nothing had happened, and tells what is wrong in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from tiny import TINY, batch, eight, row, shards, still, talking

from avfake.config import (
    CacheConfig,
    DataConfig,
    LossWeights,
    OptimConfig,
    SourceConfig,
    TrainConfig,
    ValidationConfig,
)
from avfake.manifest import Labels
from avfake.models import AVFakeModel, Calibration, CheckpointConfig, load_checkpoint, save_checkpoint
from avfake.settings import dump
from avfake.training import TrainingError, learner, loop
from avfake.training.cache import FrozenTowers, WindowCache
from avfake.training.check import Taught, check
from avfake.training.folder import claimed, keep
from avfake.training.heldout import heldout_windows
from avfake.training.learner import Learner, begin
from avfake.training.loader import Source
from avfake.training.optim import freeze, parameter_groups, schedule
from avfake.training.validate import Trial, Trials, judge

FROZEN = ["lip_tower.stem", "lip_tower.stages", "lip_tower.place", "lip_tower.project"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight clips to train on and the same ones, as other people, to choose by."""
    held = [(replace(one, id=f"d{one.id}", identity=f"d{one.id}"), clip) for one, clip in eight()]
    return shards(str(tmp_path_factory.mktemp("corpus")), {"train": eight(), "dev": held})


def config(corpus: str, out: Path, **changes: Any) -> TrainConfig:
    data = DataConfig(
        {"main": SourceConfig(corpus)}, frames=12, batch=4, forged=0, paired=0, jitter=0, augmented=False, workers=0
    )
    given = TrainConfig(
        model=still(),
        data=replace(data, **changes.pop("data", {})),
        validation=ValidationConfig(held_out=0, every=5, frames=20),
        optim=OptimConfig(rate=3e-3, warm_up=0.1),
        steps=10,
        device="cpu",
        save_every=5,
        out=str(out),
    )
    return replace(given, **changes)


@pytest.fixture(autouse=True)
def no_public_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from random weights: nothing is fetched."""
    monkeypatch.setattr(learner, "start_from_public_weights", lambda model, config: [])


def train(given: TrainConfig) -> Path:
    """Train, with blank pictures in the place of those that take longer to draw than a few steps to learn."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("example_windows", "calibration_plot"):
            patch.setattr(loop, name, lambda shown: Figure((1, 1)))
        patch.setattr(loop, "write_curves", lambda *paths: None)
        return loop.train(given)


def history(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "waited")} for line in lines]


# ------------------------------------------------------------------------------------------------------- learning


def learnt(lines: list[dict[str, Any]], *tasks: str) -> bool:
    """Whether the last four losses of each task are below half the first."""
    steps = [line for line in lines if line["kind"] == "train"]
    return all(sum(line[task] for line in steps[-4:]) / 4 < 0.5 * steps[0][task] for task in tasks)


def test_eight_clips_are_learnt_by_heart(corpus: str, tmp_path: Path) -> None:
    given = config(
        corpus,
        tmp_path / "run",
        data={"batch": 8},
        steps=16,
        weights=LossWeights(geometry=1.0),
        validation=ValidationConfig(held_out=0, every=16, frames=50),
    )
    out = loop.train(given)
    lines = history(out)
    assert learnt(lines, "visual", "audio", "geometry", "loss")
    figures = lines[-1]
    assert figures["kind"] == "validation"
    assert figures["visual"] == figures["audio"] == 1
    checkpoint = load_checkpoint(out)
    assert checkpoint.config.corpora == ["toy"]
    assert checkpoint.config.metrics["validation AUC"]["visual"] == 1
    assert checkpoint.config.aspects == ["visual", "audio", "sync", "fake"]
    assert checkpoint.config.calibration == {}  # four genuine clips are too few for it
    assert {path.name for path in out.iterdir()} >= {"train.yaml", "history.jsonl", "curves.png", "log", "state"}
    torch.manual_seed(given.seed)
    begun, now = AVFakeModel(given.model), dict(checkpoint.model.named_parameters())
    left = [name for name, value in begun.named_parameters() if torch.equal(value, now[name])]
    assert left == ["voice_tower.wav2vec2.masked_spec_embed"]  # nothing is masked; all else has learnt
    # A finished run is left as it is.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    train(given)
    assert ({path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}, history(out)) == (before, lines)


def test_training_stops_early_where_nothing_gets_better_and_stays_stopped(corpus: str, tmp_path: Path) -> None:
    given = config(
        corpus,
        tmp_path / "run",
        steps=40,
        save_every=40,
        optim=OptimConfig(rate=1e-12),
        validation=ValidationConfig(held_out=0, every=2, frames=20, patience=2),
    )
    lines = history(train(given))
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["best"] for line in validations[:1]] == [True]
    assert len(validations) < 10
    assert history(train(given)) == lines


def test_the_moving_average_is_what_is_kept(corpus: str, tmp_path: Path) -> None:
    given = config(corpus, tmp_path / "run", steps=4, optim=OptimConfig(rate=3e-3, ema=0.9))
    out = train(given)
    kept = load_file(out / "model.safetensors")
    last = load_file(next((out / "state").glob("*/model.safetensors")))
    name = "visual_logit.weight"
    assert not torch.equal(kept[name], last[f"model.{name}"])


def test_accumulated_gradients_make_one_step(corpus: str, tmp_path: Path) -> None:
    lines = history(train(config(corpus, tmp_path / "run", steps=2, optim=OptimConfig(accumulate=3))))
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2]


def test_bf16_and_norms_only(corpus: str, tmp_path: Path) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    given = config(corpus, tmp_path / "run", steps=2, precision="bf16", norms_only=["voice_tower.wav2vec2"])
    lines = history(train(given))
    AcceleratorState._reset_state(True)
    assert all(line["loss"] < 20 for line in lines if line["kind"] == "train")


# ------------------------------------------------------------------------------------------------------- going on

KILLED = """
import logging, os, signal, sys
from pathlib import Path
from avfake.config import load_config
from avfake.training import learner, loop
learner.start_from_public_weights = lambda model, config: []
logging.basicConfig(level=logging.ERROR)
take = learner.Learner.step

def step(self, batches, number):
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, batches, number)

learner.Learner.step = step
if __name__ == "__main__":
    loop.train(load_config(Path(sys.argv[1])))
"""


def working(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(corpus: str, tmp_path: Path) -> None:
    whole = config(
        corpus,
        tmp_path / "whole",
        steps=9,
        save_every=4,
        model=TINY,  # with dropout
        optim=OptimConfig(rate=3e-3, ema=0.9),
        data={"augmented": True, "forged": 0.5, "paired": 0.5, "jitter": 5, "shortest": 10, "workers": 1},
    )
    killed = replace(whole, out=str(tmp_path / "killed"))
    script, file = tmp_path / "script.py", tmp_path / "killed.yaml"
    script.write_text(KILLED)
    file.write_text(dump(killed))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(script), str(file)], env=environment, start_new_session=True)
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 300
    while working(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not working(process.pid)  # its loader ended with it
    reached = [line["step"] for line in history(Path(killed.out)) if line["kind"] == "train"]
    assert reached == [1, 2, 3, 4, 5, 6]  # further than what was saved
    one, other = train(whole), train(killed)
    assert history(other) == history(one)
    assert (other / "model.safetensors").read_bytes() == (one / "model.safetensors").read_bytes()
    assert [path.name for path in (other / "state").iterdir()] == ["step-0000009"]


def test_another_configuration_does_not_go_on_with_a_run(corpus: str, tmp_path: Path) -> None:
    given = config(corpus, tmp_path / "run", steps=1)
    train(given)
    with pytest.raises(TrainingError, match=r"another configuration \(of optim.rate\)"):
        train(replace(given, optim=replace(given.optim, rate=1e-4)))


def test_a_damaged_state_is_told(corpus: str, tmp_path: Path) -> None:
    given = config(corpus, tmp_path / "run", steps=2)
    train(given)
    for file in (tmp_path / "run" / "state").glob("*/model.safetensors"):
        file.write_bytes(b"rotten")
    with pytest.raises(TrainingError, match="cannot be gone on from"):
        train(given)


# ------------------------------------------------------------------------------------------------------ the cache


@pytest.mark.parametrize("voice", [False, True])
def test_cached_windows_are_the_windows_of_the_loader(tmp_path: Path, voice: bool) -> None:
    model = AVFakeModel(TINY)
    freeze(model, FROZEN + ["voice_tower.wav2vec2"] * voice, [])
    model.eval()
    towers = FrozenTowers(model, None)
    assert (towers.lips, towers.voice) == (True, voice)
    whole = batch(eight(12), 12)
    silent = replace(whole, has_audio=torch.zeros(8, dtype=torch.bool))
    cache = WindowCache(tmp_path, 128, 8)
    asked: list[int] = []

    def batches(start: int) -> Any:
        asked.append(start)
        while True:
            yield whole
            yield silent

    cache.fill(batches, towers, torch.device("cpu"), lambda done, total: None)
    cache.fill(batches, towers, torch.device("cpu"), lambda done, total: None)
    assert asked == [0]  # the second time everything is there
    drawn = cache.batches(0, 0)
    seen = [next(drawn) for _ in range(32)]
    assert sum(len(one.ids) for one in seen[:16]) == 128
    for one in seen:
        numbers = [int(name[1:]) for name in one.ids]
        assert [b - a for a, b in zip(numbers[::2], numbers[1::2], strict=True)] == [1] * 4  # couples stay together
        assert one.lips is None
        assert one.frames is not None
        for n, name in enumerate(one.ids):
            k = whole.ids.index(name)
            assert whole.lips is not None
            expected = model.lip_tower.embed(whole.lips[k : k + 1].movedim(-1, -3).float() / 255)[0]
            assert torch.allclose(one.frames[n], expected, atol=0.02)
            assert torch.equal(one.labels[n], whole.labels[k])
            if one.has_audio[n] and not voice:
                assert one.audio is not None
                assert whole.audio is not None
                assert (one.audio[n] - whole.audio[k]).abs().max() < 1e-4
            if one.has_audio[n] and voice:
                assert one.voice is not None
                assert whole.audio is not None
                heard = model.voice_tower.embed(whole.audio[k : k + 1])
                assert torch.allclose(one.voice.layers[n], heard.layers[0], atol=0.02)
    # From any batch on, and each round holds every window once.
    again = cache.batches(0, 5)
    assert next(again).ids == seen[5].ids
    assert sorted(name for one in seen[:16] for name in one.ids) == sorted(
        name for one in seen[16:] for name in one.ids
    )
    assert [one.ids for one in seen[:16]] != [one.ids for one in seen[16:]]


def test_a_fill_that_was_stopped_goes_on(tmp_path: Path) -> None:
    model = AVFakeModel(TINY).eval()
    freeze(model, FROZEN, [])
    towers, cache = FrozenTowers(model, None), WindowCache(tmp_path, 3 * 8 * 2, 2)
    small = batch(eight(30)[:2], 20)

    def broken(start: int) -> Any:
        for _ in range(11):
            yield small
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(broken, towers, torch.device("cpu"), lambda done, total: None)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["000000.safetensors"]
    asked: list[int] = []

    def batches(start: int) -> Any:
        asked.append(start)
        while True:
            yield small

    cache.fill(batches, towers, torch.device("cpu"), lambda done, total: None)
    assert asked == [8]
    assert len(list(tmp_path.iterdir())) == 3


def test_heads_learn_eight_clips_by_heart_from_the_cache(corpus: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "start", AVFakeModel(still()), CheckpointConfig(still(), 1))
    given = config(
        corpus,
        tmp_path / "run",
        start=str(tmp_path / "start"),
        freeze=[*FROZEN, "voice_tower.wav2vec2"],
        data={"frames": 24, "batch": 8, "cache": CacheConfig(64, str(tmp_path / "cache"))},
        steps=120,
        optim=OptimConfig(rate=6e-3, warm_up=0.1),
        weights=LossWeights(geometry=1.0),
        validation=ValidationConfig(held_out=0, every=120, frames=50),
    )
    out = train(given)
    lines = history(out)
    assert learnt(lines, "visual", "audio", "sync", "geometry", "loss")
    assert lines[-1]["visual"] == lines[-1]["audio"] == 1
    assert lines[-1]["sync"] > 0.9
    (folder,) = (tmp_path / "cache").iterdir()
    made = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    begun, after = load_file(tmp_path / "start" / "model.safetensors"), load_file(out / "model.safetensors")
    still_there = {name for name in begun if torch.equal(begun[name], after[name])}
    assert {name for name in begun if name.startswith(tuple(given.freeze))} <= still_there
    assert "visual_logit.weight" not in still_there
    # Another run with other heads finds the same features.
    train(replace(given, out=str(tmp_path / "other"), steps=1))
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == made


def test_a_cache_without_a_frozen_tower_is_refused(corpus: str, tmp_path: Path) -> None:
    given = config(corpus, tmp_path / "run", data={"cache": CacheConfig(8, str(tmp_path / "cache"))})
    with pytest.raises(TrainingError, match="no tower is frozen"):
        train(given)


# ------------------------------------------------------------------------------------------- what learns, how fast


def test_what_is_frozen_does_not_learn() -> None:
    model = AVFakeModel(TINY)
    parts = freeze(model, ["lip_tower.stem", "voice_tower.layer_weights"], ["voice_tower.wav2vec2"])
    assert parts == [model.lip_tower.stem]
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert not any(name.startswith("lip_tower.stem.") for name in learning)
    assert "voice_tower.layer_weights" not in learning
    assert "voice_tower.wav2vec2.encoder.layers.0.layer_norm.weight" in learning
    assert "voice_tower.wav2vec2.encoder.layers.0.attention.q_proj.weight" not in learning
    assert "visual_logit.weight" in learning


@pytest.mark.parametrize(("name", "hint"), [("lip_tower.stages.O", "lip_tower.stages.0"), ("zzz", "fusion")])
def test_an_unknown_part_is_told(name: str, hint: str) -> None:
    with pytest.raises(TrainingError, match=hint):
        freeze(AVFakeModel(TINY), [name], [])


def test_backbones_learn_slower_from_top_to_bottom() -> None:
    model = AVFakeModel(replace(TINY, visual=replace(TINY.visual, stages=2)))
    groups = parameter_groups(model, OptimConfig(rate=1.0, layer_decay=0.5, weight_decay=0.1))
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    rates = {name: found[id(value)]["lr"] for name, value in model.named_parameters()}
    assert rates["visual_logit.weight"] == rates["lip_tower.project.0.weight"] == 1
    assert rates["lip_tower.stages.1.0.conv_pw.weight"] == 0.5
    assert rates["lip_tower.stages.0.0.conv_pw.weight"] == 0.25
    assert rates["lip_tower.stem.0.weight"] == 0.125
    assert rates["voice_tower.wav2vec2.encoder.layers.0.attention.q_proj.weight"] == 0.5
    assert rates["voice_tower.wav2vec2.feature_extractor.out.weight"] == 0.25
    decays = {name: found[id(value)]["weight_decay"] for name, value in model.named_parameters()}
    assert decays["visual_logit.weight"] == 0.1
    assert decays["visual_logit.bias"] == 0
    with pytest.raises(TrainingError, match="nothing to learn"):
        parameter_groups(model.requires_grad_(False), OptimConfig())


def test_the_rate_rises_then_falls_to_zero() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    rates = schedule(optimiser, OptimConfig(warm_up=0.1), 100)
    seen = []
    for _ in range(100):
        seen.append(rates.get_last_lr()[0])
        optimiser.step()
        rates.step()
    assert seen[0] == 0
    assert max(seen) == seen[10] == 2
    assert seen[99] < 0.01
    assert seen[55] == pytest.approx(1, abs=0.02)


# --------------------------------------------------------------------------------------------------- what is wrong


def test_a_loss_that_is_not_finite_names_the_batch(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(corpus, tmp_path / "run", optim=OptimConfig(rate=3e-3))
    real = loop.load

    def poisoned(*arguments: Any, **options: Any) -> Any:
        for number, one in enumerate(real(*arguments, **options)):
            yield replace(one, audio=one.audio * torch.nan) if number == 3 else one

    monkeypatch.setattr(loop, "load", poisoned)
    with pytest.raises(TrainingError, match=r"step 4 is not finite \(.*audio.*batch \(.*c\d"):
        train(given)
    assert [line["step"] for line in history(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ([("a", 0, 0), ("b", 0, 1)], "fake faces of 12 frames or more"),
        ([("a", 0, 0), ("b", 1, 0)], "fake voices"),
        ([("a", 1, 0), ("b", 1, 1)], "genuine faces"),
        ([("a", 0, 1), ("b", 1, 1)], "genuine voices"),
    ],
)
def test_what_a_corpus_lacks_is_told_in_one_sentence(
    tmp_path: Path, left: list[tuple[str, int, int]], told: str
) -> None:
    clips = [(row(n, visual=v, audio=a), talking(ord(n), 45, visual=v, audio=a)) for n, v, a in left]
    folder = shards(str(tmp_path / "shards"), {"train": clips, "dev": eight(45)})
    with pytest.raises(TrainingError, match=f"the split train lacks .*{told}") as raised:
        check(config(folder, tmp_path / "run"), [Source(folder)])
    assert "\n" not in str(raised.value)
    if "fake" in told:  # forging can make them
        check(config(folder, tmp_path / "run", data={"forged": 0.5}), [Source(folder)])


def test_what_is_left_out_is_neither_trained_nor_validated_on(tmp_path: Path) -> None:
    clips = eight()
    (first, clip), others = clips[0], clips[1:]
    strange = (replace(first, id="strange", method="unseen", labels=Labels(1, 1, 0)), clip)
    folder = shards(str(tmp_path / "shards"), {"train": [strange, *others], "dev": eight(45)})
    whole = check(config(folder, tmp_path / "run"), [Source(folder)])
    assert "unseen" in whole.methods
    assert (
        "unseen"
        not in check(config(folder, tmp_path / "run", data={"leave_out": ["unseen"]}), [Source(folder)]).methods
    )
    windows = heldout_windows([Source(folder)], 0, 9, 40, 4, leave_out=["unseen", *whole.methods])
    assert {row.method for _, rows in windows for row in rows} == {None}
    with pytest.raises(TrainingError, match=r"have no method and no corpus 'other'; they have .*unseen"):
        check(config(folder, tmp_path / "run", data={"leave_out": ["other"]}), [Source(folder)])


def test_there_must_be_something_to_choose_by(tmp_path: Path) -> None:
    genuine = [(row("d", split="dev"), talking(50, 60))]
    folder = shards(str(tmp_path / "shards"), {"train": eight(), "dev": genuine})
    with pytest.raises(TrainingError, match="nothing to choose the best weights by"):
        check(config(folder, tmp_path / "run"), [Source(folder)])


def test_a_start_of_another_shape_is_told(corpus: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="start=mini is a model of another shape"):
        train(config(corpus, tmp_path / "run", start="mini"))


# ----------------------------------------------------------------------------------------------------- validation


def said(corpus: str, label: int, logit: float, person: str = "anna") -> Trial:
    return Trial((corpus, person), label, logit)


def test_figures_are_those_of_labels_that_are_known() -> None:
    trials = Trials(
        visual=[said("a", 0, 0.1), said("a", 1, 0.2), said("a", 1, 0.05), said("a", 0, 0.0)],
        audio=[said("a", 0, 0.1), said("a", 1, 0.2), said("b", 0, 5.0), said("b", 1, 4.0), said("c", 1, 0.0)],
    )
    assert trials.figures(["visual", "audio", "sync"]) == {"visual": 0.75, "audio": 0.5, "mean": 0.625}
    assert trials.figures(["visual"]) == {"visual": 0.75, "mean": 0.75}
    assert Trials().figures(["visual"]) == {}


def test_held_out_voices_are_swapped_between_people() -> None:
    model = AVFakeModel(TINY).eval()
    clips = [*eight(60)[:3], (row("voice", visual=None, audio=1), talking(10, 60, lips=False))]
    whole = batch(clips, 60)
    trials = judge(model, [(whole, [one for one, _ in clips])])
    assert [trial.label for trial in trials.sync] == [0, 1] * 3
    assert [trial.label for trial in trials.visual] == [0, 1, 0]
    assert [trial.label for trial in trials.audio] == [0, 0, 1, 1]
    assert [trial.label for trial in trials.fake] == [0, 1, 1, 1]
    assert whole.lips is not None
    assert whole.audio is not None
    with torch.no_grad():
        scores = model(whole.lips.movedim(-1, -3).float() / 255, whole.audio, whole.has_lips, whole.has_audio)
    assert [trial.logit for trial in trials.visual] == pytest.approx(scores.visual[:3].tolist(), abs=1e-4)
    assert [trial.logit for trial in trials.sync[::2]] == pytest.approx(scores.sync[:3].tolist(), abs=1e-4)


def test_calibration_needs_clips_enough_and_what_was_there_is_kept(tmp_path: Path) -> None:
    old = {"audio": Calibration(2.0, 1.0), "visual": Calibration(3.0, 0.0)}
    save_checkpoint(tmp_path / "start", AVFakeModel(still()), CheckpointConfig(still(), 1, calibration=old))
    given = config(
        "x", tmp_path / "run", start=str(tmp_path / "start"), weights=LossWeights(audio=0, sync=0, mismatch=0)
    )
    taught = Learner(given, begin(given))
    visual = [said("a", label, label + 0.1 * n, f"p{n}") for n in range(20) for label in (0, 1)]
    keep(
        tmp_path / "run",
        taught,
        Taught(["toy"], []),
        Trials(visual=visual, audio=[said("a", 0, 0.0), said("a", 1, 1.0)]),
    )
    kept = load_checkpoint(tmp_path / "run").config
    assert kept.calibration["audio"] == old["audio"]
    assert kept.calibration["visual"] not in (old["visual"], Calibration())
    assert kept.thresholds.keys() == {"visual"}
    assert kept.thresholds["visual"].keys() == {0.05, 0.1}
    assert kept.metrics["calibration"]["visual"]["Cllr affine"] > 0  # cross-validated: twenty people


def test_a_model_of_one_question_says_so(corpus: str, tmp_path: Path) -> None:
    only = LossWeights(visual=1, audio=0, sync=0, mismatch=0, fake=0)
    out = train(config(corpus, tmp_path / "run", steps=2, weights=only))
    assert load_checkpoint(out).config.aspects == ["visual"]
    (validated,) = [line for line in history(out) if line["kind"] == "validation"]
    assert validated.keys() == {"step", "kind", "visual", "mean", "best"}


def test_what_a_run_begins_with_is_to_be_beaten(corpus: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "start", AVFakeModel(still()), CheckpointConfig(still(), 1))
    lines = history(train(config(corpus, tmp_path / "run", steps=2, start=str(tmp_path / "start"))))
    assert (lines[0]["step"], lines[0]["kind"], lines[0]["best"]) == (0, "validation", True)
    assert lines[-1]["best"] == (lines[-1]["mean"] > lines[0]["mean"])


def test_a_refused_run_does_not_hold_the_folder(corpus: str, tmp_path: Path) -> None:
    given = config(corpus, tmp_path / "run", steps=1)
    with pytest.raises(TrainingError, match="nosuch"):
        train(replace(given, freeze=["nosuch"]))
    train(given)


def test_two_runs_do_not_share_a_folder(corpus: str, tmp_path: Path) -> None:
    given = config(corpus, tmp_path / "run", steps=1)
    with claimed(given, begin(given)), pytest.raises(TrainingError, match="by another process"):
        train(given)


def test_a_window_of_which_nothing_fake_is_left_is_genuine() -> None:
    whole = batch(eight(30)[1:2], 30)
    whole.frame_labels[0, :, 0] = (torch.arange(30) < 6).float()
    assert whole.cut(0, 20).labels[0, 0] == 1
    assert whole.cut(5, 20).labels[0, 0] == 1
    assert whole.cut(6, 20).labels[0].tolist() == [0, 0, 0]
