"""Layers that both towers share."""

from __future__ import annotations

from torch import Tensor, nn


class TemporalConv(nn.Module):
    """Residual convolution over time, (B, T, C) -> (B, T, C); normalised per frame so that nothing leaks in time."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        self.act = nn.GELU()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve over time and add."""
        y = self.conv(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(self.act(y))
