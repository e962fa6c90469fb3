"""The model's contract: shapes, masks, any length, tracing, checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from omegaconf import OmegaConf

from avfake.config import load_config
from avfake.models import (
    INVALID,
    MAX_SHIFT,
    SHIFTS,
    AVFakeModel,
    Calibration,
    CheckpointConfig,
    CheckpointError,
    ModelConfig,
    load_checkpoint,
    save_checkpoint,
)
from avfake.models.audio import LogMel
from avfake.models.fusion import SyncHead
from avfake.models.visual import LipTower
from avfake.settings import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


def config_of(name: str) -> ModelConfig:
    loaded = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(CONFIGS / f"{name}.yaml").model)
    config = OmegaConf.to_object(loaded)
    assert isinstance(config, ModelConfig)
    return config


def inputs(batch: int, frames: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(frames)
    lips = torch.rand(batch, frames, 3, 96, 96, generator=generator)
    audio = 0.1 * torch.randn(batch, 640 * frames, generator=generator)
    return lips, audio, torch.ones(batch, dtype=torch.bool), torch.ones(batch, dtype=torch.bool)


@pytest.fixture(scope="module")
def mini() -> AVFakeModel:
    torch.manual_seed(0)
    return AVFakeModel(config_of("mini")).eval()


@pytest.mark.parametrize("frames", [1, 7, 31, 60])
@torch.no_grad()
def test_scores_have_the_contracts_shapes(mini: AVFakeModel, frames: int) -> None:
    scores = mini(*inputs(2, frames))
    for name in ("fake", "visual", "audio", "sync"):
        assert getattr(scores, name).shape == (2,)
    assert scores.visual_frames.shape == scores.audio_frames.shape == (2, frames)
    assert scores.sync_map.shape == (2, frames, SHIFTS)
    assert all(torch.isfinite(value).all() for value in scores)


@torch.no_grad()
def test_shifts_outside_the_clip_are_invalid_and_no_others(mini: AVFakeModel) -> None:
    frames = 20
    sync_map = mini(*inputs(1, frames)).sync_map[0]
    t, k = torch.meshgrid(torch.arange(frames), torch.arange(SHIFTS) - MAX_SHIFT, indexing="ij")
    outside = (t + k < 0) | (t + k >= frames)
    assert torch.equal(sync_map == INVALID, outside)
    assert sync_map[~outside].abs().max() <= 1


@torch.no_grad()
def test_an_absent_stream_does_not_matter(mini: AVFakeModel) -> None:
    lips, audio, yes, _ = inputs(2, 25)
    no = ~yes
    other_lips, other_audio = torch.rand_like(lips), torch.randn_like(audio)
    without_lips, same = mini(lips, audio, no, yes), mini(other_lips, audio, no, yes)
    assert torch.allclose(without_lips.fake, same.fake, atol=1e-5)
    without_voice, same = mini(lips, audio, yes, no), mini(lips, other_audio, yes, no)
    assert torch.allclose(without_voice.fake, same.fake, atol=1e-5)
    assert not torch.allclose(without_voice.fake, without_lips.fake, atol=1e-3)


@torch.no_grad()
def test_a_batch_scores_like_its_rows(mini: AVFakeModel) -> None:
    lips, audio, yes, _ = inputs(2, 30)
    together = mini(lips, audio, yes, yes)
    for row in range(2):
        alone = mini(lips[row : row + 1], audio[row : row + 1], yes[:1], yes[:1])
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a[row], b[0], atol=1e-4)


@torch.no_grad()
def test_tracing_works_for_other_lengths_batches_and_masks(mini: AVFakeModel) -> None:
    traced = torch.jit.trace(mini, inputs(2, 20), check_trace=False, strict=False)
    for batch, frames in ((1, 33), (3, 12)):
        lips, audio, yes, _ = inputs(batch, frames)
        for has_lips, has_audio in ((yes, yes), (~yes, yes), (yes, ~yes)):
            expected = mini(lips, audio, has_lips, has_audio)
            for ours, theirs in zip(expected, traced(lips, audio, has_lips, has_audio), strict=True):
                assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "large"])
@torch.no_grad()
def test_the_other_sizes_are_the_same_code(name: str) -> None:
    model = AVFakeModel(config_of(name)).eval()
    traced = torch.jit.trace(model, inputs(2, 6), check_trace=False, strict=False)
    given = inputs(1, 10)
    for ours, theirs in zip(model(*given), traced(*given), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_log_mel_is_the_usual_one() -> None:
    audio = 0.1 * torch.randn(1, 640 * 10)
    usual = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=400, hop_length=160, n_mels=80, norm="slaney", mel_scale="slaney", center=False
    )
    expected = torch.log(usual(torch.nn.functional.pad(audio, (120, 120))) + 1e-5)
    assert torch.allclose(LogMel()(audio), expected, atol=1e-3)


@torch.no_grad()
def test_sync_map_finds_a_constant_offset() -> None:
    voice = torch.nn.functional.normalize(torch.randn(1, 60, 16), dim=-1)
    lips = torch.roll(voice, -4, dims=1)  # lips at t say what the voice says at t + 4
    curve = SyncHead.curve(SyncHead.map(lips, voice))
    assert curve.argmax().item() - MAX_SHIFT == 4


def test_the_sync_head_does_not_care_where_the_peak_is() -> None:
    head = SyncHead(16)
    curve = torch.full((2, SHIFTS), 0.1)
    curve[0, 8], curve[1, 20] = 0.6, 0.6
    logits = head.mismatch(curve, torch.tensor([60.0, 60.0]))
    assert torch.allclose(logits[0], logits[1], atol=1e-5)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, mini: AVFakeModel) -> None:
    config = CheckpointConfig(config_of("mini"), preprocessing=1, calibration={"fake": Calibration(2.0, -1.0)})
    save_checkpoint(tmp_path / "model", mini, config)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == config
    given = inputs(1, 12)
    with torch.no_grad():
        for a, b in zip(mini(*given), loaded.model(*given), strict=True):
            assert torch.equal(a, b)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.yaml", "model.safetensors"]


@pytest.mark.parametrize("broken", ["model.safetensors", "config.yaml"])
@pytest.mark.parametrize("how", ["missing", "cut", "foreign"])
def test_a_broken_checkpoint_gives_one_sentence(tmp_path: Path, mini: AVFakeModel, broken: str, how: str) -> None:
    save_checkpoint(tmp_path, mini, CheckpointConfig(config_of("mini"), preprocessing=1))
    file = tmp_path / broken
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[: 100 if broken == "model.safetensors" else 57])
    else:
        file.write_bytes(b"\x80\x04\x95 this is not ours: [")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert broken in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "content"),
    [
        ("config.yaml", "model: [unclosed"),
        ("config.yaml", "a: b: c"),
        ("config.yaml", "{model: {audio: {frontend: nosuch}}, preprocessing: 1}"),
        ("config.yaml", "{model: {visual: {backbone: nosuch}}, preprocessing: 1}"),
        ("config.yaml", "{model: {dim: -1}, preprocessing: 1}"),
        ("config.yaml", "- 1"),
        ("config.yaml", ""),
        ("config.yaml", None),
        ("model.safetensors", None),
    ],
)
def test_a_checkpoint_that_makes_no_sense_gives_one_sentence(
    tmp_path: Path, mini: AVFakeModel, broken: str, content: str | None
) -> None:
    save_checkpoint(tmp_path, mini, CheckpointConfig(config_of("mini"), preprocessing=1))
    (tmp_path / broken).unlink()
    if content is None:
        (tmp_path / broken).mkdir()
    else:
        (tmp_path / broken).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert str(tmp_path / broken) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "n" * 5000])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no model named"):
        load_checkpoint(name)


@pytest.mark.parametrize(
    "content",
    [None, "model: [", "a: b: c", "- 1", "\udcff"],
)
def test_a_configuration_that_cannot_be_read_gives_one_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "mini.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="mini"):
        load_checkpoint("nosuchmodel")


def test_calibration_is_monotone_and_never_overflows() -> None:
    calibrate = Calibration(scale=3.0, bias=0.5)
    values = [calibrate(logit) for logit in (-1e4, -2.0, 0.0, 2.0, 1e4)]
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] <= 1
    assert np.isclose(calibrate(0.0), 1 / (1 + np.exp(-0.5)))


@pytest.mark.parametrize("name", ["mini", "base"])
@torch.no_grad()
def test_folding_for_inference_changes_no_score(name: str) -> None:
    torch.manual_seed(0)
    tower = LipTower(config_of(name).visual, dim=32, sync_dim=32).eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that matter
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    lips = torch.rand(1, 3, 3, 96, 96)
    expected, folded = tower.embed(lips), tower.for_inference()
    assert torch.allclose(folded.embed(lips), expected, atol=1e-3)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
