"""Dropout of whole channels (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register("block", "channel_dropout", source="Tompson et al., CVPR 2015", maps={IMAGE: IMAGE, VIDEO: VIDEO})
@dataclass(frozen=True)
class ChannelDropout:
    """Sets whole channels to zero in training and scales the others up; `dropout` of other blocks draws each pixel.

    Neighbouring pixels are so alike that dropping some of them hides little. Each frame of a video loses channels of
    its own.

    Example:
        >>> ChannelDropout(share=0.5).build((32, 20, 20))
        (Dropout2d(p=0.5, inplace=False), (32, 20, 20))
    """

    frame_wise: ClassVar[bool] = True

    share: float = real(0.05, 0.7, default=0.5, doc="share of channels set to zero in training")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the same shape, which is that of any image.

        Args:
            shape: (C, H, W).
        """
        return shape

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the same shape.

        Args:
            shape: (C, H, W).
        """
        return nn.Dropout2d(self.share), shape
