"""Attention without parameters: positions are weighed by how active they are (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.space.registry import register


@register("attention", "activation_map", source="after Xia et al., IEEE TIP 2020")
@dataclass(frozen=True)
class ActivationMap:
    """y = a * x, where a is the mean over the channels of x, stretched to [0, 1] over all positions of a clip.

    The attention of RCN-A is the same map, once for each class with the channels weighed as the last layer of the
    network weighs them for that class, and averaged over the classes. A block knows neither the classes nor that
    layer, so that here all channels weigh alike. Where all positions are equally active, all weights are 1.

    Example:
        >>> ActivationMap().build(1)(torch.tensor([[[[1.0, 2.0, 3.0]]]]))
        tensor([[[[0., 1., 3.]]]])
    """

    def build(self, channels: int) -> nn.Module:
        """Return a module from maps (B, channels, H, W) or (B, channels, T, H, W) to maps of the same shape.

        Args:
            channels: How many channels the maps have.
        """
        return _Stretched()


class _Stretched(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps, each position multiplied by its weight in [0, 1]."""
        activity = maps.mean(dim=1, keepdim=True)
        positions = tuple(range(2, maps.ndim))
        low, high = activity.amin(dim=positions, keepdim=True), activity.amax(dim=positions, keepdim=True)
        span = high - low
        # The divisor is never 0, not even where its quotient is not used: the gradient would be NaN there.
        weights = torch.where(span > 0, (activity - low) / torch.where(span > 0, span, 1.0), 1.0)
        return maps * weights
