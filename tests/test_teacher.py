"""What a teacher says of the voice: its clock, its scale, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    BertConfig,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from avfake.training import TrainingError
from avfake.training.teacher import Teacher, WaveformEncoder, WhisperEncoder

WIDTH, LAYERS, LONGEST = 32, 4, 30  # of LONGEST frames Whisper's positions are


def waveform_shape(stable: bool = False) -> dict[str, object]:
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "layer" if stable else "group",
        "do_stable_layer_norm": stable,
    }


def whisper_model() -> WhisperModel:
    shape = {"d_model": WIDTH, "encoder_layers": LAYERS, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    rest = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 60}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return WhisperModel(WhisperConfig(**shape, **rest, **special, max_source_positions=2 * LONGEST))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "wav2vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(**waveform_shape())),
    "wav2vec2-stable": lambda: Wav2Vec2Model(Wav2Vec2Config(**waveform_shape(stable=True))),
    "hubert": lambda: HubertModel(HubertConfig(**waveform_shape())),
    "wavlm": lambda: WavLMModel(WavLMConfig(**waveform_shape())),
    "wavlm-stable": lambda: WavLMModel(WavLMConfig(**waveform_shape(stable=True))),
    "whisper": whisper_model,
}


def save(folder: Path, model: PreTrainedModel, normalize: bool = True) -> str:
    model.save_pretrained(folder)
    if not isinstance(model, WhisperModel):
        Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = {}
    for name, make in MODELS.items():
        torch.manual_seed(0)
        made[name] = save(tmp_path_factory.mktemp(name), make())
    return made


def sound(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(batch, 640 * frames, generator=torch.Generator().manual_seed(seed))


def untrimmed(folder: str, audio: torch.Tensor, kind: type[PreTrainedModel]) -> tuple[torch.Tensor, ...]:
    """Every hidden state, from the whole model as transformers has it."""
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    network = model.encoder if isinstance(model, WhisperModel) else model
    with torch.no_grad():
        return network(audio, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", MODELS)
def test_every_family_gives_normalised_frames_that_nothing_can_train(folders: dict[str, str], family: str) -> None:
    teacher = Teacher.load(folders[family])
    teacher.train()
    audio = sound(3, 7).requires_grad_()
    first, second = teacher(audio), teacher(audio)
    assert first.shape == (3, 7, WIDTH)
    assert teacher.width == WIDTH
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    torch.testing.assert_close(first.mean(-1), torch.zeros(3, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.var(-1, correction=0), torch.ones(3, 7), atol=1e-2, rtol=0)


@pytest.mark.parametrize("family", MODELS)
def test_a_window_does_not_hear_the_others_of_its_batch(folders: dict[str, str], family: str) -> None:
    teacher = Teacher.load(folders[family])
    loud, quiet = 5 * sound(1, 7, seed=1), 1e-4 * sound(1, 7, seed=2)
    together = teacher(torch.cat([loud, quiet]))
    torch.testing.assert_close(together, torch.cat([teacher(loud), teacher(quiet)]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_silence_is_finite(folders: dict[str, str], family: str) -> None:
    assert torch.isfinite(Teacher.load(folders[family])(torch.zeros(1, 640 * 5))).all()


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("frames", [1, 2, LONGEST])
def test_windows_of_any_length(folders: dict[str, str], family: str, frames: int) -> None:
    assert Teacher.load(folders[family])(sound(1, frames)).shape == (1, frames, WIDTH)


def clicks(frames: int, struck: int) -> torch.Tensor:
    """Silence, and the same with a soft click of 10 ms in the middle of frame ``struck``: (2, 640 frames)."""
    sounds = torch.zeros(2, 640 * frames)
    middle = 640 * struck + 320
    sounds[1, middle - 80 : middle + 80] = 0.5 * torch.hann_window(160)
    return sounds


@pytest.mark.parametrize("family", ["wav2vec2-stable", "wavlm-stable"])
@pytest.mark.parametrize("struck", [0, 9, 20])
def test_the_convolutions_are_on_the_clock(folders: dict[str, str], family: str, struck: int) -> None:
    """Just the two steps of a frame hear its middle 240 samples. (A group norm would carry the click everywhere.)"""
    encoder = Teacher.load(folders[family]).encoder
    assert isinstance(encoder, WaveformEncoder)
    encoder.normalize = False  # so would this
    steps: list[torch.Tensor] = []
    encoder.model.feature_extractor.register_forward_hook(lambda *call: steps.append(call[-1]))
    encoder(clicks(21, struck))
    silent, clicked = steps[0]
    moved = (clicked - silent).abs().amax(dim=0)
    assert torch.nonzero(moved > 1e-6).flatten().tolist() == [2 * struck, 2 * struck + 1]


@pytest.mark.parametrize("struck", [1, 9, 19])
def test_whispers_spectrum_is_on_the_clock(folders: dict[str, str], struck: int) -> None:
    """Steps 2 t and 2 t + 1 of the strided convolution are centred on hops 4 t and 4 t + 2, a quarter from the ends."""
    encoder = Teacher.load(folders["whisper"]).encoder
    assert isinstance(encoder, WhisperEncoder)
    spectrum = encoder.log_mel(clicks(21, struck))[1].mean(dim=0)
    energy = spectrum - spectrum.min()
    assert len(energy) == 4 * 21
    middle = (energy * torch.arange(4 * 21)).sum() / energy.sum()
    assert float(middle) == pytest.approx(4 * struck + 1, abs=0.05)


@pytest.mark.parametrize("family", MODELS)
def test_a_click_moves_its_own_frame_most(folders: dict[str, str], family: str) -> None:
    """With attention silenced, which carries everything everywhere."""
    teacher = Teacher.load(folders[family])
    for name, module in teacher.named_modules():
        if name.endswith(("out_proj", "pos_conv_embed")):
            module.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
    quiet, clicked = teacher(sound(1, 21) + clicks(21, 9))
    assert int((clicked - quiet).norm(dim=1).argmax()) == 9


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("wav2vec2", Wav2Vec2Model),
        ("wav2vec2-stable", Wav2Vec2Model),
        ("hubert", HubertModel),
        ("wavlm", WavLMModel),
        ("wavlm-stable", WavLMModel),
    ],
)
def test_the_middle_third_is_what_the_whole_model_says(
    folders: dict[str, str], family: str, kind: type[PreTrainedModel]
) -> None:
    audio = sound(2, 6)
    normal = torch.from_numpy(
        Wav2Vec2FeatureExtractor(do_normalize=True)(list(audio.numpy()), sampling_rate=16000, return_tensors="np")[
            "input_values"
        ]
    )
    states = untrimmed(folders[family], F.pad(normal, (40, 40)), kind)
    assert len(states) == LAYERS + 1
    steps = (states[2] + states[3]) / 2
    frames = F.layer_norm((steps[:, ::2] + steps[:, 1::2]) / 2, (WIDTH,))
    torch.testing.assert_close(Teacher.load(folders[family])(audio), frames, atol=1e-4, rtol=1e-4)


def test_whisper_says_what_it_says_with_all_its_positions_in_use(folders: dict[str, str]) -> None:
    audio = sound(2, LONGEST)
    teacher = Teacher.load(folders["whisper"])
    assert isinstance(teacher.encoder, WhisperEncoder)
    mel = teacher.encoder.log_mel(audio)
    states = untrimmed(folders["whisper"], mel, WhisperModel)
    steps = (states[2] + states[3]) / 2
    frames = F.layer_norm((steps[:, ::2] + steps[:, 1::2]) / 2, (WIDTH,))
    torch.testing.assert_close(teacher(audio), frames, atol=1e-4, rtol=1e-4)


def test_whispers_spectrum_is_that_of_transformers_one_hop_later(folders: dict[str, str]) -> None:
    audio = sound(1, 10)
    audio[:, :1600] *= 0.01  # the loudest moment, which sets the floor, is heard by both
    encoder = Teacher.load(folders["whisper"]).encoder
    assert isinstance(encoder, WhisperEncoder)
    theirs = WhisperFeatureExtractor()(audio[0].numpy(), sampling_rate=16000, padding="longest", return_tensors="pt")
    ours = encoder.log_mel(audio)
    torch.testing.assert_close(ours[..., :-1], theirs["input_features"][..., 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("normalize", "same"), [(True, True), (False, False)])
def test_loudness_is_normalised_where_the_preprocessor_says_so(tmp_path: Path, normalize: bool, same: bool) -> None:
    teacher = Teacher.load(save(tmp_path, MODELS["wav2vec2-stable"](), normalize))
    audio = sound(1, 5)
    assert torch.allclose(teacher(audio), teacher(3 * audio + 0.1), atol=1e-3) == same


def test_half_precision_weights_are_used_in_float32(tmp_path: Path) -> None:
    teacher = Teacher.load(save(tmp_path, whisper_model().half()))
    assert {value.dtype for value in teacher.state_dict().values()} == {torch.float32}


def test_the_decoder_may_be_missing_the_encoder_may_not(tmp_path: Path) -> None:
    model = whisper_model()
    weights = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
    model.save_pretrained(tmp_path, state_dict=dict(weights))
    Teacher.load(str(tmp_path))
    del weights["encoder.conv1.weight"]
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(TrainingError, match=r"no weights for 1 tensors, encoder\.conv1\.weight"):
        Teacher.load(str(tmp_path))


def test_a_window_longer_than_whispers_positions_is_an_error(folders: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match=f"data.frames to {LONGEST} at most"):
        Teacher.load(folders["whisper"])(sound(1, LONGEST + 1))


def changed(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "has no config.json that describes a model"),
    "damaged configuration": (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "weights cannot be read"),
    "damaged weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "weights cannot be read"),
    "other shapes": (lambda folder: changed(folder, hidden_size=16), "weights cannot be read"),
    "no such shape": (
        lambda folder: changed(folder, num_hidden_layers="four"),
        "has no config.json that describes a model",
    ),
    "no preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "preprocessor_config.json cannot be read",
    ),
    "another rate": (
        lambda folder: Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder),
        "hears 8000 samples a second",
    ),
    "other steps": (lambda folder: changed(folder, conv_stride=[5, 2, 2, 2, 2, 2, 1]), "see 400 samples every 160"),
    "unknown family": (
        lambda folder: changed(folder, model_type="nonesuch"),
        "families wav2vec2, hubert, wavlm, whisper",
    ),
    "code": (
        lambda folder: changed(folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}),
        "families wav2vec2, hubert, wavlm, whisper",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_folder_that_is_no_teacher_is_told_in_one_sentence(tmp_path: Path, fault: str) -> None:
    save(tmp_path, MODELS["wav2vec2"]())
    damage, message = BROKEN[fault]
    damage(tmp_path)
    with pytest.raises(TrainingError, match=message) as caught:
        Teacher.load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_families_are_refused_before_their_weights_are_fetched(tmp_path: Path) -> None:
    BertConfig(hidden_size=8).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"of the family bert; .* wav2vec2, hubert, wavlm, whisper"):
        Teacher.load(str(tmp_path))


def test_a_name_that_is_neither_folder_nor_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TrainingError, match=r"no folder/here: its config\.json cannot be read"):
        Teacher.load("no folder/here")
