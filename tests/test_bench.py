from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synth

from avfake import bench
from avfake.clips import PREPROCESSING
from avfake.config import load_config
from avfake.faces import FaceError, load_backend
from avfake.models import AVFakeModel, CheckpointConfig, save_checkpoint

STAGES = ("floor", "decode", "faces", "crop", "speech", "visual", "audio", "fusion", "whole")


def in_this_process(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of the mini model with random weights: what it costs does not depend on them."""
    try:
        load_backend("facemesh")
    except FaceError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("model")
    config = load_config(Path(__file__).parents[1] / "configs" / "mini.yaml", ["data.sources.main.shards=x"]).model
    save_checkpoint(folder, AVFakeModel(config), CheckpointConfig(config, preprocessing=PREPROCESSING))
    return str(folder)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    picture = synth.gradient((320, 240))
    video = synth.Video(synth.steady(25, 1.0), lambda _: picture)
    return synth.write(tmp_path / "clip.mp4", video, synth.Audio(synth.beeps(1.0, 48_000, [0.3])))


def printed_stages(text: str) -> dict[str, list[float]]:
    """The numbers of each row of the table."""
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in text.splitlines()]
    return {row[0]: [float(cell) for cell in row[1:]] for row in cells if row[0] in STAGES and len(row) > 1}


def test_all_stages_are_printed(
    clip: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "THREADS", (1,))
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "in_fresh_process", in_this_process)
    bench.bench(clip, model=model)
    out = capsys.readouterr().out
    rows = printed_stages(out)
    assert tuple(rows) == STAGES
    assert all(len(row) == 2 for row in rows.values())
    assert all(rows[stage][0] > 0 for stage in ("floor", "decode", "visual", "audio", "whole"))
    assert "whole / floor" in out
    assert "real-time factor" in out
    assert "peak memory" in out


@pytest.mark.slow
def test_each_thread_count_has_its_own_process(clip: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench.bench(clip, model=model)
    rows = printed_stages(capsys.readouterr().out)
    assert tuple(rows) == STAGES
    assert all(len(row) == 2 * len(bench.THREADS) for row in rows.values())


def test_sound_alone_cannot_be_measured(tmp_path: Path) -> None:
    path = synth.write(tmp_path / "voice.wav", audio=synth.Audio(np.zeros(16_000, np.float32), codec="pcm_s16le"))
    with pytest.raises(bench.BenchError, match=r"voice\.wav.*no video"):
        bench.bench(path)
