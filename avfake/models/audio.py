"""The voice tower: Wav2Vec2 from transformers, with its own feature extractor or a log-mel one."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from avfake import SAMPLE_RATE
from avfake.models.contract import AudioConfig
from avfake.models.layers import TemporalConv

N_FFT = 400  # 25 ms at 16 kHz
HOP = 160  # 10 ms
N_MELS = 80


class VoiceEmbedding(NamedTuple):
    """What the costly half of the voice tower gives, S steps a frame side by side.

    ``local`` (B, T, S C) features of the extractor; ``layers`` (B, L + 1, T, S H): every layer of the transformer.
    """

    local: Tensor
    layers: Tensor


class VoiceFeatures(NamedTuple):
    """Per-frame outputs of the voice tower: ``sync`` (B, T, E), ``context`` (B, T, D)."""

    sync: Tensor
    context: Tensor


class LogMel(nn.Module):
    """Log-mel spectrogram as a convolution with a windowed Fourier basis, so that every export route has it.

    (B, 640 T) -> (B, 80, 4 T): Hann window of 25 ms, hop 10 ms, slaney mel scale, natural logarithm of power.
    """

    def __init__(self) -> None:
        super().__init__()
        n = torch.arange(N_FFT, dtype=torch.float64)
        k = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)
        angle = 2 * torch.pi * k[:, None] * n / N_FFT
        window = torch.hann_window(N_FFT, dtype=torch.float64)
        basis = torch.cat([angle.cos() * window, angle.sin() * window])[:, None].float()
        mel = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("mel", mel.T[:, :, None].contiguous(), persistent=False)
        self.basis: Tensor
        self.mel: Tensor

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, 640 T) -> (B, 80, 4 T)."""
        side = (N_FFT - HOP) // 2
        spectrum = F.conv1d(F.pad(audio[:, None], (side, side)), self.basis, stride=HOP)
        real, imaginary = spectrum.chunk(2, dim=1)
        return torch.log(F.conv1d(real**2 + imaginary**2, self.mel) + 1e-5)


class LogMelExtractor(nn.Module):
    """Stands in for Wav2Vec2's feature extractor: audio (B, 640 T) -> (B, channels, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_mel = LogMel()
        widths = (32, 64, 96)
        self.convs = nn.Sequential(
            *_conv_block(1, widths[0], (2, 1)),
            *_conv_block(widths[0], widths[1], (2, 2)),
            *_conv_block(widths[1], widths[2], (2, 2)),
        )
        self.out = nn.Conv1d(widths[2] * N_MELS // 8, channels, 1)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, 640 T) -> (B, channels, T)."""
        maps = self.convs(self.log_mel(audio)[:, None] / 4)  # /4 brings log-power to unit scale
        return self.out(maps.flatten(1, 2))


def _conv_block(inputs: int, outputs: int, stride: tuple[int, int]) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.GELU()]


class VoiceTower(nn.Module):
    """Audio to sync embeddings (from local features) and spoof features (from the transformer's layers).

    ``embed`` is the costly half, Wav2Vec2 itself; what ``forward`` makes of it is cheap, so embeddings can be cached.
    """

    def __init__(self, config: AudioConfig, dim: int, sync_dim: int) -> None:
        super().__init__()
        # Masking of time spans is a pretraining device; it draws from numpy's global generator.
        settings = Wav2Vec2Config(**config.wav2vec2, apply_spec_augment=False, output_hidden_states=True)
        self.wav2vec2 = Wav2Vec2Model(settings)
        channels = settings.conv_dim[-1]
        if config.frontend == "logmel":
            self.wav2vec2.feature_extractor = LogMelExtractor(channels)  # type: ignore[assignment]
            self.side, self.steps = 0, 1
        elif config.frontend == "wav2vec2":
            # 400-sample windows every 320: 40 samples on either side make exactly two steps a video frame.
            self.side, self.steps = 40, 2
        else:
            raise ValueError(f"audio.frontend is {config.frontend!r}, expected 'logmel' or 'wav2vec2'")
        self.layer_weights = nn.Parameter(torch.zeros(settings.num_hidden_layers + 1))
        self.sync = nn.Sequential(
            nn.Linear(channels * self.steps, sync_dim),
            TemporalConv(sync_dim, kernel=5),
            TemporalConv(sync_dim, kernel=5),
            TemporalConv(sync_dim, kernel=5),
        )
        self.context = nn.Sequential(nn.Linear(settings.hidden_size * self.steps, dim), TemporalConv(dim, kernel=5))

    def embed(self, audio: Tensor) -> VoiceEmbedding:
        """Audio (B, 640 T) in [-1, 1] -> ``VoiceEmbedding`` of T frames; loudness is normalised away."""
        centred = audio - audio.mean(dim=1, keepdim=True)
        # Twice, for what rounding has left of a large mean would be amplified with a quiet voice.
        centred = centred - centred.mean(dim=1, keepdim=True)
        audio = centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)
        output = self.wav2vec2(F.pad(audio, (self.side, self.side)))
        layers = torch.stack([self._per_frame(layer) for layer in output.hidden_states], dim=1)
        return VoiceEmbedding(self._per_frame(output.extract_features), layers)

    def mixed(self, layers: Tensor) -> Tensor:
        """Weigh the layers: (B, L + 1, T, S H) -> (B, T, S H)."""
        weights = self.layer_weights.softmax(dim=0)
        return torch.einsum("l,bltd->btd", weights, layers)

    def forward(self, embedding: VoiceEmbedding) -> VoiceFeatures:
        """``VoiceEmbedding`` -> ``VoiceFeatures``."""
        return VoiceFeatures(self.sync(embedding.local), self.context(self.mixed(embedding.layers)))

    def _per_frame(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.steps)).flatten(2)
