"""Convolutional block attention: first channels are weighed, then positions (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.space.parameters import choice
from mernas.space.registry import register


@register("attention", "cbam", source="Woo, Park, Lee, Kweon: ECCV 2018")
@dataclass(frozen=True)
class ConvolutionalBlockAttention:
    """x' = sigmoid(MLP(mean(x)) + MLP(max(x))) * x, then y = sigmoid(norm(conv([mean_c(x'); max_c(x')]))) * x'.

    Means and maxima of a channel are taken over all its positions, those of a video over all frames too. Positions are
    weighed within each frame by itself. The MLP has C / r hidden values and biases, the convolution has none and a
    batch norm, as in the release.

    Example:
        >>> ConvolutionalBlockAttention(reduction=4).build(16)(torch.zeros(2, 16, 5, 5)).shape
        torch.Size([2, 16, 5, 5])
    """

    reduction: int = choice(2, 4, 8, 16, default=4, doc="how many channels share one hidden value; at least one is")
    kernel: int = choice(3, 5, 7, default=7, doc="side of the kernel that weighs positions, in pixels")

    def build(self, channels: int) -> nn.Module:
        """Return a module from maps (B, channels, H, W) or (B, channels, T, H, W) to maps of the same shape.

        Args:
            channels: How many channels the maps have.
        """
        return nn.Sequential(_ChannelGate(channels, max(1, channels // self.reduction)), _PositionGate(self.kernel))


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps, each channel multiplied by its weight in (0, 1)."""
        flat = maps.flatten(2)
        weights: Tensor = (self.perceptron(flat.mean(dim=2)) + self.perceptron(flat.amax(dim=2))).sigmoid()
        return maps * weights[(..., *[None] * (maps.ndim - 2))]


class _PositionGate(nn.Module):
    def __init__(self, kernel: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.weigh = nn.Sequential(convolution, nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps, each position multiplied by its weight in (0, 1)."""
        both = torch.stack([maps.mean(dim=1), maps.amax(dim=1)], dim=-3)  # (B, 2, H, W) or (B, T, 2, H, W)
        if maps.ndim == 4:
            weights: Tensor = self.weigh(both)
            return maps * weights
        weights = self.weigh(both.flatten(0, 1))[:, 0].reshape(-1, *maps.shape[2:])
        return maps * weights[:, None]
