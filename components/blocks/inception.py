"""Inception: kernels of several sizes side by side (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.blocks.convolution import activated
from mernas.components.blocks.pooling import POOLS, shape_after_pool, tail
from mernas.components.contracts import Attention, Shape
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register("block", "inception", source="Szegedy et al., CVPR 2015", maps={IMAGE: IMAGE, VIDEO: VIDEO})
@dataclass(frozen=True)
class Inception:
    """Four branches of `width` channels each, one after the other in what leaves: 4 * width channels.

    The branches are a 1x1 convolution; a 1x1 and a 3x3; a 1x1 and a 5x5; the largest value of 3x3 pixels and a 1x1.
    Norm and activation follow every convolution. Then come attention, pooling and dropout, all as in `convolution`.
    Two of these, of widths 6 and 16 without norm, are one stream of Dual-Inception (Zhou, Mao, Xue: FG 2019).

    Example:
        >>> Inception(width=6, norm="none").build((1, 28, 28))[1]
        (24, 14, 14)
    """

    frame_wise: ClassVar[bool] = True

    width: int = integer(2, 128, default=8, log=True, doc="channels of each branch; four times as many leave")
    norm: str = choice("batch", "late", "none", "biasless", default="batch", doc="batch norm, and where it stands")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pool: str = choice("none", *POOLS, default="max2", doc="kind and stride of the pooling", sizes=True)
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    attention: Attention | None = optional("attention", doc="weighs the maps before they are pooled")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (4 * width, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the pooling kernel is larger than the map.
        """
        return shape_after_pool(self.pool, (4 * self.width, *shape[1:]), "inception")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (4 * width, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        branches = _Branches(shape[0], self.width, self.norm, self.activation)
        rest = tail((4 * self.width, *shape[1:]), self.attention, self.pool, self.dropout)
        return nn.Sequential(branches, *rest), left


class _Branches(nn.Module):
    def __init__(self, channels: int, width: int, norm: str, activation: str) -> None:
        super().__init__()

        def step(entering: int, kernel: int) -> list[nn.Module]:
            bias = norm != "biasless"
            return activated(nn.Conv2d(entering, width, kernel, padding=kernel // 2, bias=bias), norm, activation)

        self.branches = nn.ModuleList(
            [
                nn.Sequential(*step(channels, 1)),
                nn.Sequential(*step(channels, 1), *step(width, 3)),
                nn.Sequential(*step(channels, 1), *step(width, 5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *step(channels, 1)),
            ]
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, 4 * width, H, W) for (B, C, H, W)."""
        return torch.cat([branch(maps) for branch in self.branches], dim=1)
