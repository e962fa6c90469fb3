"""What runs a model: onnxruntime gives torch's scores, whatever the weights, and starts without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from scipy.io import wavfile
from silero_vad import load_silero_vad
from tiny import TINY

from avfake import SAMPLES_PER_FRAME
from avfake.config import load_config
from avfake.models import (
    AVFakeModel,
    CheckpointConfig,
    CheckpointError,
    ModelConfig,
    Scores,
    load_checkpoint,
    read_config,
    save_checkpoint,
)
from avfake.models.checkpoint import EMBEDDED, WEIGHTS
from avfake.runtimes import Runtime, describe, graphs, is_exported, load_runtime
from avfake.runtimes.eager import TorchRuntime
from avfake.runtimes.graphs import GraphRuntime
from avfake.speech import SpeechFinder

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of mini's architecture whose every number differs from the embedded one's."""
    return save_random(tmp_path_factory.mktemp("trained"), read_config(EMBEDDED / "mini").model)


def save_random(folder: Path, config: ModelConfig) -> Path:
    """A checkpoint with random numbers, also where training begins with zeros and ones."""
    torch.manual_seed(1)
    model = AVFakeModel(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "aspect_bias")):
            buffer.normal_(0, 0.1)
        elif name.endswith(("running_var", "aspect_scale")):
            buffer.uniform_(0.5, 2)
    for name, parameter in model.named_parameters():
        if name.endswith(("correction.weight", "layer_weights", "no_lips", "no_voice")):
            torch.nn.init.normal_(parameter, 0, 0.1)
    save_checkpoint(folder, model, CheckpointConfig(config, preprocessing=1))
    return folder


def clips(batch: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(frames)
    pictures = rng.integers(0, 256, (batch * frames, 96, 96, 3), dtype=np.uint8)
    return pictures, (0.1 * rng.normal(size=(batch, frames * SAMPLES_PER_FRAME))).astype(np.float32)


def judged(runtime: Runtime, batch: int, frames: int, lips: list[bool], audio: list[bool]) -> Scores[np.ndarray]:
    pictures, sound = clips(batch, frames)
    embedded = runtime.embed(pictures).reshape(batch, frames, -1)
    return runtime.score(embedded, sound, np.array(lips), np.array(audio))


@pytest.mark.parametrize("name", ["mini", "trained"])
def test_onnxruntime_gives_the_scores_of_torch(name: str, trained: Path) -> None:
    agree(str(trained) if name == "trained" else name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "large"])
def test_onnxruntime_gives_the_scores_of_torch_for_larger_models(name: str, tmp_path: Path) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml", ["data.sources.any.shards=none"]).model
    agree(str(save_random(tmp_path, config)))


def agree(name: str) -> None:
    fast, plain = load_runtime(name), TorchRuntime(load_checkpoint(name))
    assert isinstance(fast, GraphRuntime)
    assert (fast.config, fast.fingerprint) == (plain.config, plain.fingerprint) == describe(name)
    for batch, frames, lips, audio in (
        (1, 1, [True], [True]),
        (1, 100, [True], [True]),
        (1, 7, [False], [True]),
        (1, 7, [True], [False]),
        (3, 33, [True, False, True], [True, True, False]),
    ):
        given, expected = (judged(runtime, batch, frames, lips, audio) for runtime in (fast, plain))
        for field, one, other in zip(Scores._fields, given, expected, strict=True):
            assert one.dtype == other.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0, err_msg=f"{field}, {frames} frames")


def test_other_architectures_and_devices_run_in_torch(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, AVFakeModel(TINY), CheckpointConfig(TINY, preprocessing=1))
    assert isinstance(load_runtime(str(tmp_path)), TorchRuntime)
    assert isinstance(load_runtime("mini", device="cpu:0"), TorchRuntime)


def test_how_a_model_was_trained_makes_no_other_architecture(trained: Path, tmp_path: Path) -> None:
    config = read_config(trained)
    config.model.audio.wav2vec2.update(hidden_dropout=0.3)
    model = load_checkpoint(trained).model
    save_checkpoint(tmp_path, model, config)
    assert isinstance(load_runtime(str(tmp_path)), GraphRuntime)


def test_weights_of_another_model_are_refused(trained: Path, tmp_path: Path) -> None:
    config = read_config(trained)
    save_checkpoint(tmp_path, load_checkpoint(trained).model, config)
    weights = load_file(tmp_path / WEIGHTS)
    for changed in (
        weights | {"stranger": torch.zeros(1)},
        {name: weight for name, weight in weights.items() if name != "visual_logit.bias"},
        weights | {"visual_logit.weight": torch.zeros(1, 7)},
    ):
        save_file(changed, tmp_path / WEIGHTS)
        for device in ("cpu", "cpu:0"):
            with pytest.raises(CheckpointError, match=r"does not fit its config\.yaml"):
                load_runtime(str(tmp_path), device=device)
    save_file({name: weight.bfloat16() for name, weight in weights.items()}, tmp_path / WEIGHTS)
    assert isinstance(load_runtime(str(tmp_path)), TorchRuntime)  # numpy has no such numbers
    (tmp_path / WEIGHTS).write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_runtime(str(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_runtime(str(tmp_path))


def test_detection_of_a_voice_leaves_torch_alone(tmp_path: Path) -> None:
    wavfile.write(
        tmp_path / "voice.wav", 16_000, (1000 * np.random.default_rng(0).normal(size=32_000)).astype(np.int16)
    )
    program = (
        "import sys\n"
        "class Never:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'transformers', 'timm'):\n"
        "            raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Never())\n"
        "from avfake.detect import Detector\n"
        f"said = Detector.from_pretrained('mini').detect({str(tmp_path / 'voice.wav')!r})\n"
        "print(said.model)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mini\n"


@pytest.mark.parametrize("samples", [512, 513, 640, 40_000])
def test_speech_is_found_as_silero_finds_it(samples: int) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(samples) / 16_000
    hum = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 20)) * (1 + np.sin(2 * np.pi * 4 * time))
    audio = (0.1 * hum + 0.01 * rng.normal(size=samples)).astype(np.float32)
    with torch.inference_mode():
        expected = load_silero_vad().audio_forward(torch.from_numpy(audio)[None], sr=16_000)[0].numpy()
    np.testing.assert_allclose(SpeechFinder().probability(audio), expected, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        "heads=8",
        "dim=64",
        "sync_dim=64",
        "visual.stages=4",
        "visual.width=128",
        "visual.backbone=tf_efficientnet_b0",
        "audio.frontend=wav2vec2",
        "audio.wav2vec2.num_attention_heads=2",
        "audio.wav2vec2.hidden_act=relu",
        "audio.wav2vec2.num_hidden_layers=2",
    ],
)
def test_what_changes_the_sums_is_another_architecture(change: str) -> None:
    config = read_config(EMBEDDED / "mini").model
    made = OmegaConf.merge(OmegaConf.structured(config), OmegaConf.from_dotlist([change]))
    assert graphs.find(config) is not None
    assert graphs.find(OmegaConf.to_object(made)) is None


def test_an_offset_of_the_sound_changes_nothing() -> None:
    fast, plain = load_runtime("mini"), TorchRuntime(load_checkpoint("mini"))
    pictures, sound = clips(1, 50)
    yes = np.array([True])
    for audio in (0 * sound + 0.3, 1e-4 * sound + 0.1, 1e-2 * sound - 0.5):
        given = audio.astype(np.float32)
        scores = [runtime.score(runtime.embed(pictures)[None], given, yes, yes) for runtime in (fast, plain)]
        for field, one, other in zip(Scores._fields, *scores, strict=True):
            np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0, err_msg=field)


@pytest.mark.parametrize("name", ["mini", "hf:a/b.onnx", "folder.onnx", "x" * 300])
def test_what_is_no_file_is_no_exported_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").touch()
    (tmp_path / "folder.onnx").mkdir()
    assert not is_exported(name)
    assert is_exported("none.onnx")
