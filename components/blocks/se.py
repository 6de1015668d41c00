"""Squeeze and excitation: a weight for each channel, from the means of all channels (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.space.parameters import choice
from mernas.space.registry import register


@register("attention", "se", source="Hu, Shen, Sun: CVPR 2018")
@dataclass(frozen=True)
class SqueezeAndExcitation:
    """y = sigmoid(W2 relu(W1 mean(x))) * x, with C / r hidden values and no biases: 2 * C * C / r parameters.

    Example:
        >>> sum(weight.numel() for weight in SqueezeAndExcitation(reduction=4).build(16).parameters())
        128
    """

    reduction: int = choice(2, 4, 8, 16, default=4, doc="how many channels share one hidden value; at least one is")

    def build(self, channels: int) -> nn.Module:
        """Return a module from maps (B, channels, H, W) or (B, channels, T, H, W) to maps of the same shape.

        Args:
            channels: How many channels the maps have.
        """
        return _Excitation(channels, max(1, channels // self.reduction))


class _Excitation(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        squeeze, excite = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, channels, bias=False)
        self.weigh = nn.Sequential(squeeze, nn.ReLU(), excite, nn.Sigmoid())

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps, each channel multiplied by its weight in (0, 1)."""
        weights: Tensor = self.weigh(maps.flatten(2).mean(dim=2))
        return maps * weights[(..., *[None] * (maps.ndim - 2))]
