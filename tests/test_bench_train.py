from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, eight, shards
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from avfake.config import CacheConfig, DataConfig, SourceConfig, TrainConfig, ValidationConfig
from avfake.settings import dump
from avfake.training import learner

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import bench_train

FROZEN = ["lip_tower.stem", "lip_tower.stages", "lip_tower.place", "lip_tower.project"]


def in_this_process(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny run with a cache; one step a round, and nothing is fetched."""
    monkeypatch.setattr(bench_train, "in_fresh_process", in_this_process)
    monkeypatch.setattr(bench_train, "ROUND", 1)
    monkeypatch.setattr(bench_train, "SIDE", {"cpu": 64})
    monkeypatch.setattr(learner, "start_from_public_weights", lambda model, config: [])
    made = TrainConfig(
        model=TINY,
        data=DataConfig(
            {"main": SourceConfig(shards(str(tmp_path / "shards"), {"train": eight(), "dev": eight()}))},
            frames=12,
            shortest=8,
            batch=2,
            forged=0,
            augmented=False,
            workers=0,
            cache=CacheConfig(6000, str(tmp_path / "cache")),
        ),
        freeze=FROZEN,
        validation=ValidationConfig(held_out=0),
        device="cpu",
        out=str(tmp_path / "run"),
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(dump(made))
    return path


def test_every_row_is_printed(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_train.main([str(config), "data.batch=4", "--seconds", "0.01", "--workers", "0"])
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    rows = {row[0]: row[1:] for row in cells if len(row) > 1}
    for name in ("step, no worker", "step, batches there already", "step, from the cache"):
        steps, windows, waiting = rows[name]
        assert float(windows) == pytest.approx(4 * float(steps), rel=0.02)
        assert 0 <= float(waiting.rstrip("%")) <= 100
    assert float(rows["loader alone, no worker"][0]) > 0
    assert float(rows["step, batches there already"][2].rstrip("%")) < 5
    _, _, done, product, share, memory = rows["float32"]
    assert float(share.rstrip("%")) == pytest.approx(100 * float(done) / float(product), rel=0.05)
    assert memory == "-"
    text = " ".join(row[0] for row in cells if len(row) == 1)
    assert "steps of 4 windows of 8 to 12 frames" in text
    assert "GFLOP a window" in text
    assert "filling the cache (no worker)" in text
    assert "CPU cores must load" in text
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_backward_pass_counts_as_two_forward_passes(make: type[nn.Conv2d], groups: int) -> None:
    conv, x = make(8, 8, 3, stride=2, groups=groups), torch.randn(2, 8, 9, 9, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        out = conv(x).sum()
    mapping = {torch.ops.aten.convolution_backward: bench_train._conv_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as backward:
        out.backward()
    assert backward.get_total_flops() == 2 * forward.get_total_flops() > 0
