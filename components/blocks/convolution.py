"""Convolution, normalisation, activation, attention, pooling, dropout (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mernas.components.blocks.pooling import POOLS, pooling_layers, refuse_small, shape_after_pool
from mernas.components.contracts import Attention, Shape
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register("block", "convolution", source="LeCun et al. 1998; Ioffe and Szegedy 2015", maps={IMAGE: IMAGE, VIDEO: VIDEO})
@dataclass(frozen=True)
class Convolution:
    """One convolution with what usually follows it: norm, activation, attention, pooling, dropout, in this order.

    `POOLS` of components/blocks/pooling.py says what becomes of a side by each pooling; `stride2` to `stride4` pool
    nothing, but let the convolution itself move by 2, 3 or 4 pixels. `norm: late` puts batch normalisation behind the
    activation and `norm: pooled` behind the pooling; `norm: biasless` is `batch` with a convolution that has no bias.
    `padding: full` adds k - 1 zeros on every side instead of (k - 1) / 2, so that a side grows by k - 1, and
    `padding: none` adds none, so that it shrinks by as much. All of these occur in released code.

    Example:
        >>> module, shape = Convolution(width=5, pool="max3").build((3, 28, 28))
        >>> shape
        (5, 10, 10)
    """

    frame_wise: ClassVar[bool] = True

    width: int = integer(2, 512, default=16, log=True, doc="output channels")
    kernel: int = choice(1, 3, 5, 7, 9, 11, default=3, doc="side of the kernel, in pixels", sizes=True)
    norm: str = choice(
        "batch", "late", "none", "pooled", "biasless", default="batch", doc="batch norm, and where it stands"
    )
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pool: str = choice(
        *("none", *POOLS, "stride2", "stride3", "stride4"),
        default="max2",
        doc="kind and stride of the pooling",
        sizes=True,
    )
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    padding: str = choice("same", "full", "none", default="same", doc="zeros around the map", sizes=True)
    attention: Attention | None = optional("attention", doc="weighs the maps before they are pooled")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the kernel is larger than a map without padding, or that of the pooling than its map.
        """
        return shape_after_pool(self.pool, self._convolved(shape), "convolution")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (width, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        # The bias stays where batch norm follows, although the norm cancels it: published counts, such as the 1,683
        # of the released STSTNet, include it. Those of ResNets do not, for which there is `biasless`.
        bias = self.norm != "biasless"
        convolution = nn.Conv2d(shape[0], self.width, self.kernel, stride=self._stride, padding=self._border, bias=bias)
        layers = activated(convolution, self.norm, self.activation)
        if self.attention is not None:
            layers.append(self.attention.build(self.width))
        layers += pooling_layers(self.pool, self._convolved(shape))
        if self.norm == "pooled":
            layers.append(nn.BatchNorm2d(self.width))
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers), left

    @property
    def _border(self) -> int:
        return {"same": self.kernel // 2, "full": self.kernel - 1, "none": 0}[self.padding]

    @property
    def _stride(self) -> int:
        return int(self.pool.removeprefix("stride")) if self.pool.startswith("stride") else 1

    def _convolved(self, shape: Shape) -> Shape:
        """The shape of the map before it is pooled."""
        around = 2 * self._border - self.kernel
        refuse_small('block "convolution", kernel', "its kernel", -around, *shape[1:])
        return (self.width, *((side + around) // self._stride + 1 for side in shape[1:]))


def activated(convolution: nn.Conv2d | nn.Conv3d, norm: str, activation: str) -> list[nn.Module]:
    """Return a convolution with its norm and activation, in the order that `norm` says.

    Args:
        convolution: Of images or of videos.
        norm: `batch` or `biasless` for batch norm before the activation, `late` for after it; else there is none.
        activation: `relu` or `gelu`.

    Example:
        >>> [type(layer).__name__ for layer in activated(nn.Conv2d(3, 8, 1), "late", "relu")]
        ['Conv2d', 'ReLU', 'BatchNorm2d']
    """
    make = nn.BatchNorm3d if isinstance(convolution, nn.Conv3d) else nn.BatchNorm2d
    act = nn.ReLU() if activation == "relu" else nn.GELU()
    if norm in ("batch", "biasless"):
        return [convolution, make(convolution.out_channels), act]
    if norm == "late":
        return [convolution, act, make(convolution.out_channels)]
    return [convolution, act]
