"""Dilated convolutions, one or several side by side (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.blocks.convolution import activated
from mernas.components.blocks.pooling import POOLS, refuse_small, shape_after_pool, tail
from mernas.components.contracts import Attention, Shape
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register(
    "block",
    "dilated",
    source="Yu and Koltun, ICLR 2016; Xia et al., IEEE TIP 2020",
    maps={IMAGE: IMAGE, VIDEO: VIDEO},
)
@dataclass(frozen=True)
class Dilated:
    """3x3 convolutions whose nine pixels lie `dilations` apart, one branch for each dilation.

    Every branch takes half of the channels that are left and the last one all of them: `1+2+3` splits 64 into 32, 16
    and 16, as the wide stem of RCN-W does (which also has `norm: late`, a stride of 3 and no pooling). Norm and
    activation follow in each branch, then come attention, pooling and dropout. By the stride a side of n becomes
    ceil(n / stride).

    Example:
        >>> Dilated(width=64, dilations="1+2+3", stride=3, pool="none").build((3, 60, 60))[1]
        (64, 20, 20)
    """

    frame_wise: ClassVar[bool] = True

    width: int = integer(4, 512, default=16, log=True, doc="output channels, of all branches together")
    dilations: str = choice(
        *("2", "3", "4", "1+2", "1+3", "2+3", "1+2+3"),
        default="2",
        doc="distance of the pixels of a kernel, by branch",
        sizes=True,
    )
    stride: int = choice(1, 2, 3, default=1, doc="of the convolutions, in pixels", sizes=True)
    norm: str = choice("batch", "late", "none", "biasless", default="batch", doc="batch norm, and where it stands")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pool: str = choice("none", *POOLS, default="max2", doc="kind and stride of the pooling", sizes=True)
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    attention: Attention | None = optional("attention", doc="weighs the maps before they are pooled")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the map is so small that a dilated kernel never sees more than its centre, or smaller than
                the stride or the pooling kernel.
        """
        return shape_after_pool(self.pool, self._strided(shape), "dilated")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (width, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        branches: list[nn.Sequential] = []
        remaining, dilations = self.width, self._distances
        for number, dilation in enumerate(dilations, start=1):
            share = remaining if number == len(dilations) else remaining // 2
            convolution = nn.Conv2d(
                shape[0],
                share,
                3,
                stride=self.stride,
                padding=dilation,
                dilation=dilation,
                bias=self.norm != "biasless",
            )
            branches.append(nn.Sequential(*activated(convolution, self.norm, self.activation)))
            remaining -= share
        rest = tail(self._strided(shape), self.attention, self.pool, self.dropout)
        return nn.Sequential(_SideBySide(branches), *rest), left

    @property
    def _distances(self) -> list[int]:
        return [int(dilation) for dilation in self.dilations.split("+")]

    def _strided(self, shape: Shape) -> Shape:
        """The shape of the map before it is pooled."""
        refuse_small('block "dilated", dilations', "its kernel", max(self._distances) + 1, *shape[1:])
        refuse_small('block "dilated", stride', "its stride", self.stride, *shape[1:])
        return (self.width, *(-(-side // self.stride) for side in shape[1:]))


class _SideBySide(nn.Module):
    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, width, H', W') for (B, C, H, W)."""
        return torch.cat([branch(maps) for branch in self.branches], dim=1)
