"""Convolution, normalisation, activation, pooling, dropout (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE

_POOL_KERNELS = {"none": 1, "max2": 2, "max3": 3, "average2": 2}


@register("block", "convolution", source="LeCun et al. 1998; Ioffe and Szegedy 2015", maps={IMAGE: IMAGE})
@dataclass(frozen=True)
class Convolution:
    """One convolution with what usually follows it: norm, activation, pooling and dropout, in this order.

    Pooling by k has stride k and a padding of (k - 1) // 2: a side of n becomes ceil(n / 3) by `max3` and n // 2 by
    the others. `norm: late` puts batch normalisation behind the activation, and `padding: full` adds k - 1 zeros on
    every side instead of (k - 1) / 2, so that a side grows by k - 1: both occur in released code.

    Example:
        >>> module, shape = Convolution(width=5, pool="max3").build((3, 28, 28))
        >>> shape
        (5, 10, 10)
    """

    width: int = integer(2, 128, default=16, log=True, doc="output channels")
    kernel: int = choice(1, 3, 5, 7, default=3, doc="side of the kernel, in pixels")
    norm: str = choice("batch", "late", "none", default="batch", doc="batch norm before or after the activation")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pool: str = choice("none", "max2", "max3", "average2", default="max2", doc="kind and stride of the pooling")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    padding: str = choice("same", "full", default="same", doc="zeros around the map")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (width, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the pooling kernel is larger than the map.
        """
        channels, height, width = shape
        border = self.kernel // 2 if self.padding == "same" else self.kernel - 1
        grown = 2 * border - self.kernel + 1
        pool, inset = _POOL_KERNELS[self.pool], (_POOL_KERNELS[self.pool] - 1) // 2
        sides = (height + grown, width + grown)
        if min(sides) < pool:
            rule = f"its pooling needs a map of at least {pool}x{pool}"
            remedy = "use a larger input, or fewer or smaller poolings"
            raise SpaceError(Problem(f'block "convolution", pool {self.pool}', rule, f"{sides[0]}x{sides[1]}", remedy))
        # The bias stays where batch norm follows, although the norm cancels it: published counts, such as the 1,683
        # of the released STSTNet, include it.
        layers: list[nn.Module] = [nn.Conv2d(channels, self.width, self.kernel, padding=border)]
        steps = {"norm": nn.BatchNorm2d(self.width), "act": nn.ReLU() if self.activation == "relu" else nn.GELU()}
        order = {"batch": ("norm", "act"), "late": ("act", "norm"), "none": ("act",)}[self.norm]
        layers += [steps[step] for step in order]
        if self.pool != "none":
            make = nn.AvgPool2d if self.pool.startswith("average") else nn.MaxPool2d
            layers.append(make(pool, stride=pool, padding=inset))
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        height, width = ((side + 2 * inset - pool) // pool + 1 for side in sides)
        return nn.Sequential(*layers), (self.width, height, width)
