"""Efficient channel attention: a weight for each channel, from the means of its neighbours (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.space.parameters import choice
from mernas.space.registry import register


@register("attention", "eca", source="Wang et al., CVPR 2020")
@dataclass(frozen=True)
class EfficientChannelAttention:
    """y = sigmoid(convolution over the channels of mean(x)) * x: as many parameters as the kernel is long.

    Example:
        >>> sum(weight.numel() for weight in EfficientChannelAttention(kernel=5).build(64).parameters())
        5
    """

    kernel: int = choice(3, 5, 7, default=3, doc="how many neighbouring channels a weight is made from")

    def build(self, channels: int) -> nn.Module:
        """Return a module from maps (B, channels, H, W) or (B, channels, T, H, W) to maps of the same shape.

        Args:
            channels: How many channels the maps have.
        """
        return _ChannelNeighbours(self.kernel)


class _ChannelNeighbours(nn.Module):
    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps, each channel multiplied by its weight in (0, 1)."""
        means = maps.flatten(2).mean(dim=2)
        weights: Tensor = self.convolution(means[:, None])[:, 0].sigmoid()
        return maps * weights[(..., *[None] * (maps.ndim - 2))]
