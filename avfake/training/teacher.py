"""A public speech encoder as a teacher of the voice tower: Wav2Vec2, HuBERT, WavLM or Whisper, on avfake's clock."""

from __future__ import annotations

import math
from pickle import UnpicklingError
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, PretrainedConfig, WhisperFeatureExtractor

from avfake import SAMPLE_RATE
from avfake.training import TrainingError

WAVEFORM_FAMILIES = ("wav2vec2", "hubert", "wavlm")
FAMILIES = (*WAVEFORM_FAMILIES, "whisper")
"""``model_type`` of the configurations that can teach."""
STEPS = 2  # of 20 ms a frame, in every one of these families
NOT_USED = ("decoder.", "masked_spec_embed", "adapter.")  # parts whose weights may be missing


class Teacher(nn.Module):
    """A frozen speech encoder; ``width`` is D of what it says.

    What it says is the mean of the middle third of its transformer's layers, layer-normalised per frame without
    weights. The middle third, because the first layers of such encoders repeat the spectrum and the last ones turn to
    their own pretraining target or, in Whisper, to text, while how a voice sounds is read best in between: where a
    frozen encoder is probed for synthetic voices, the choice of the layer recovers most of the accuracy (arXiv
    2509.12003). The mean of several layers, as in data2vec (arXiv 2202.03555), since no single one is best for
    every encoder. Normalised, so that a target has unit scale whatever the encoder.
    """

    def __init__(self, encoder: WaveformEncoder | WhisperEncoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = width
        self.requires_grad_(False).train(False)

    @staticmethod
    def load(name: str) -> Teacher:
        """Load a model of the Hugging Face hub, or a folder in its format. Nothing in it is executed.

        Raises ``TrainingError`` where it cannot be read, is of none of ``FAMILIES``, or lacks weights.
        """
        config = _config(name)
        if config.model_type == "whisper":
            return Teacher(WhisperEncoder(_model(name, config).encoder), config.d_model)
        step, field = math.prod(config.conv_stride), _receptive_field(config)
        if (step, field) != (WaveformEncoder.STEP, WaveformEncoder.FIELD):
            raise TrainingError(
                f"teacher {name}: its convolutions see {field} samples every {step}, not {WaveformEncoder.FIELD} every "
                f"{WaveformEncoder.STEP}; choose a model with those of wav2vec2-base"
            )
        normalize = _normalizes(name)
        return Teacher(WaveformEncoder(_model(name, config), normalize), config.hidden_size)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, even where the module that holds the teacher is trained."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Audio float (B, 640 T) in [-1, 1] -> float (B, T, D), zero mean and unit variance over D.

        Frame t is the mean of two steps that lie evenly about the middle of samples 640 t to 640 (t + 1). Each window
        is encoded by itself, but as a whole: every frame has heard all of it. Raises ``TrainingError`` where a window
        is longer than the encoder can hear.
        """
        steps: Tensor = self.encoder(audio)
        return F.layer_norm(steps.unflatten(1, (-1, STEPS)).mean(dim=2), (self.width,))


class WaveformEncoder(nn.Module):
    """Wav2Vec2, HuBERT, WavLM: audio (B, 640 T) -> mean of the middle layers (B, 2 T, D)."""

    STEP, FIELD = 320, 400  # samples
    SIDE = (FIELD - STEP) // 2  # on either side, so that exactly two steps make a frame

    def __init__(self, model: Any, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.used = _middle(len(model.encoder.layers))
        # What lies above is not run, but for one: of the topmost layer some encoders return a normalised version.
        del model.encoder.layers[self.used.stop + 1 :]
        self.normalize = normalize

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, 640 T) -> (B, 2 T, D)."""
        if self.normalize:  # as Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm does
            centred = audio - audio.mean(dim=1, keepdim=True)
            audio = centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)
        model: Any = self.model
        states = model(F.pad(audio, (self.SIDE, self.SIDE)), output_hidden_states=True).hidden_states
        return torch.stack([states[i + 1] for i in self.used]).mean(dim=0)  # states[0] goes into the first layer


class WhisperEncoder(nn.Module):
    """Whisper's encoder, without the padding to 30 s: audio (B, 640 T) -> mean of the middle layers (B, 2 T, D).

    A shorter window takes the first positions only, as a longer recording would begin. Positions are sinusoids that
    are added once, so nothing else in the encoder knows of 30 s.
    """

    HOP, N_FFT = 160, 400  # samples

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.model = encoder
        self.used = _middle(len(encoder.layers))
        del encoder.layers[self.used.stop :]
        extractor = WhisperFeatureExtractor(feature_size=encoder.num_mel_bins)  # type: ignore[no-untyped-call]
        mel = torch.from_numpy(extractor.mel_filters)
        self.register_buffer("mel", mel.T.float().contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.N_FFT), persistent=False)
        self.mel: Tensor
        self.window: Tensor

    def log_mel(self, audio: Tensor) -> Tensor:
        """Audio (B, 640 T) -> (B, mels, 4 T): ``WhisperFeatureExtractor``, one hop later.

        Whisper hears at samples 0, 160, ... and leaves out the last of them. Leaving out the first instead puts the
        two steps that make frame t at samples 640 t + 160 and 640 t + 480: evenly about the middle of the frame.
        """
        spectrum = torch.stft(audio, self.N_FFT, self.HOP, window=self.window, return_complex=True)[..., 1:]
        log = (self.mel @ spectrum.abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, 640 T) -> (B, 2 T, D)."""
        encoder: Any = self.model
        x = F.gelu(encoder.conv1(self.log_mel(audio)))
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)
        steps, longest = x.shape[1], encoder.max_source_positions
        if steps > longest:
            raise TrainingError(
                f"a window of {steps // STEPS} frames is longer than the teacher, a Whisper model, can hear; set "
                f"data.frames to {longest // STEPS} at most"
            )
        x = x + encoder.embed_positions.weight[:steps]
        total = torch.zeros_like(x)
        for number, layer in enumerate(encoder.layers):
            x = layer(x, None)
            if number in self.used:
                total = total + x
        return total / len(self.used)


def _middle(layers: int) -> range:
    """Return the numbers, from 0, of the middle third of so many layers."""
    return range(layers // 3, layers - layers // 3)


def _receptive_field(config: PretrainedConfig) -> int:
    field = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        field = (field - 1) * stride + kernel
    return field


def _config(name: str) -> PretrainedConfig:
    supported = f"teachers are models of the families {', '.join(FAMILIES)}"
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        _fail(name, "config.json", error)
    except (ValueError, StrictDataclassError) as error:
        raise TrainingError(f"teacher {name} has no config.json that describes a model; {supported}") from error
    if config.model_type not in FAMILIES:
        raise TrainingError(f"teacher {name} is of the family {config.model_type}; {supported}")
    return config


def _normalizes(name: str) -> bool:
    """Return whether the model was trained on windows of zero mean and unit variance, as its preprocessor says."""
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        _fail(name, "preprocessor_config.json", error)
    if extractor.sampling_rate != SAMPLE_RATE:
        raise TrainingError(
            f"teacher {name} hears {extractor.sampling_rate} samples a second; choose one that hears {SAMPLE_RATE}"
        )
    return bool(extractor.do_normalize)


def _model(name: str, config: PretrainedConfig) -> Any:
    """Load the weights, in float32 whatever they are stored in."""
    try:
        model, info = AutoModel.from_pretrained(
            name, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError, EOFError) as error:
        _fail(name, "weights", error)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(NOT_USED))
    if missing:  # transformers would go on with random numbers in their place
        raise TrainingError(
            f"teacher {name} has no weights for {len(missing)} tensors, {missing[0]} among them; fetch the model again"
        )
    return model


def _fail(name: str, part: str, error: Exception) -> NoReturn:
    reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    raise TrainingError(
        f"teacher {name}: its {part} cannot be read ({reason}); give the name of a model of the Hugging Face hub, or a "
        "folder in which one was saved with its preprocessor"
    ) from error
