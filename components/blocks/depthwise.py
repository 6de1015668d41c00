"""Depthwise separable convolution: positions channel by channel, then channels position by position (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mernas.components.blocks.convolution import activated
from mernas.components.blocks.pooling import POOLS, refuse_small, shape_after_pool, tail
from mernas.components.contracts import Attention, Shape
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register("block", "depthwise", source="Howard et al. 2017, arXiv 1704.04861", maps={IMAGE: IMAGE, VIDEO: VIDEO})
@dataclass(frozen=True)
class Depthwise:
    """A k x k convolution of each channel by itself, then a 1x1 convolution across the channels.

    Norm and activation follow both, then come attention, pooling and dropout. It has C * k * k + C * width weights
    where a convolution has C * width * k * k. By the stride a side of n becomes ceil(n / stride).

    Example:
        >>> Depthwise(width=32, stride=2, pool="none").build((16, 28, 28))[1]
        (32, 14, 14)
    """

    frame_wise: ClassVar[bool] = True

    width: int = integer(2, 512, default=16, log=True, doc="output channels")
    kernel: int = choice(3, 5, 7, default=3, doc="side of the depthwise kernel, in pixels")
    stride: int = choice(1, 2, default=1, doc="of the depthwise convolution; 2 halves the map", sizes=True)
    norm: str = choice("biasless", "batch", "late", "none", default="biasless", doc="batch norm, and where it stands")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pool: str = choice("none", *POOLS, default="max2", doc="kind and stride of the pooling", sizes=True)
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    attention: Attention | None = optional("attention", doc="weighs the maps before they are pooled")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the stride or the pooling kernel is larger than the map.
        """
        return shape_after_pool(self.pool, self._strided(shape), "depthwise")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (width, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        channels = shape[0]
        bias, border = self.norm != "biasless", self.kernel // 2
        within = nn.Conv2d(
            channels, channels, self.kernel, stride=self.stride, padding=border, groups=channels, bias=bias
        )
        layers = activated(within, self.norm, self.activation)
        layers += activated(nn.Conv2d(channels, self.width, 1, bias=bias), self.norm, self.activation)
        rest = tail(self._strided(shape), self.attention, self.pool, self.dropout)
        return nn.Sequential(*layers, *rest), left

    def _strided(self, shape: Shape) -> Shape:
        """The shape of the map before it is pooled."""
        refuse_small('block "depthwise", stride', "its stride", self.stride, *shape[1:])
        return (self.width, *(-(-side // self.stride) for side in shape[1:]))
