"""Pooling: as a block of its own, and by name as the last layer of other blocks (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mernas.components.contracts import Attention, Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register("block", "pooling", source="LeCun et al. 1998", maps={IMAGE: IMAGE, VIDEO: VIDEO})
@dataclass(frozen=True)
class Pooling:
    """The largest value or the mean of each window; for windows that the other blocks' `pool` has no name for.

    A side of n becomes (n + 2 * padding - kernel) // stride + 1. Padding is minus infinity for the largest value, and
    zeros, which count, for the mean.

    Example:
        >>> Pooling(kind="max", kernel=3, stride=2).build((96, 55, 55))[1]
        (96, 27, 27)
    """

    frame_wise: ClassVar[bool] = True

    kind: str = choice("max", "average", default="max", doc="what is taken of each window")
    kernel: int = choice(2, 3, 4, 5, default=2, doc="side of the window, in pixels")
    stride: int = choice(1, 2, 3, 4, default=2, doc="from one window to the next, in pixels")
    padding: int = choice(0, 1, 2, default=0, doc="pixels around the map, at most half of the kernel")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (C, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the window is larger than the map, or the padding than half of the window.
        """
        channels, height, width = shape
        if 2 * self.padding > self.kernel:
            remedy = f"use a padding of at most {self.kernel // 2}, or a larger kernel"
            rule = f"a kernel of {self.kernel} allows for half of it"
            raise SpaceError(Problem('block "pooling", padding', rule, str(self.padding), remedy))
        refuse_small('block "pooling", kernel', "its pooling", self.kernel, height, width)
        make = nn.AvgPool2d if self.kind == "average" else nn.MaxPool2d
        module = make(self.kernel, stride=self.stride, padding=self.padding)
        height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (height, width))
        return module, (channels, height, width)


POOLS = {
    "max2": Pooling("max", 2, 2, 0),
    "max3": Pooling("max", 3, 3, 1),
    "average2": Pooling("average", 2, 2, 0),
    "max3_unpadded": Pooling("max", 3, 3, 0),
    "max3_overlapping": Pooling("max", 3, 2, 1),
    "max4": Pooling("max", 4, 4, 0),
}
"""What other blocks' `pool` may say besides `none`: a side of n becomes n // 2 by `max2` and `average2`, n // 3 by
`max3_unpadded`, n // 4 by `max4`, ceil(n / 3) by `max3` and ceil(n / 2) by `max3_overlapping`, whose windows are three
pixels wide and overlap by one."""


def pooled(name: str, shape: Shape, block: str) -> tuple[list[nn.Module], Shape]:
    """Return the pooling layers that a name of `POOLS` or `none` stands for, and the shape that leaves them.

    Args:
        name: What the block's `pool` says.
        shape: (C, H, W) of the map.
        block: Name of the block, for the message.

    Raises:
        SpaceError: If the window is larger than the map.

    Example:
        >>> pooled("max3", (16, 28, 28), "convolution")[1]
        (16, 10, 10)
    """
    if name not in POOLS:
        return [], shape
    refuse_small(f'block "{block}", pool {name}', "its pooling", POOLS[name].kernel, *shape[1:])
    module, shape = POOLS[name].build(shape)
    return [module], shape


def tail(
    shape: Shape, attention: Attention | None, pool: str, dropout: float, block: str
) -> tuple[list[nn.Module], Shape]:
    """Return what ends a block (attention, pooling, dropout, those of them that there are) and the shape that leaves.

    Args:
        shape: (C, H, W) of the map that enters.
        attention: Weighs the map, or None.
        pool: A name of `POOLS` or `none`.
        dropout: Share of values set to zero in training.
        block: Name of the block, for the message.

    Raises:
        SpaceError: If the window is larger than the map.

    Example:
        >>> tail((16, 28, 28), None, "max2", 0.5, "inception")[1]
        (16, 14, 14)
    """
    layers = [] if attention is None else [attention.build(shape[0])]
    pooling, left = pooled(pool, shape, block)
    layers += pooling
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return layers, left


def refuse_small(subject: str, what: str, side: int, height: int, width: int) -> None:
    """Raise a `SpaceError` if a map is smaller than what its layer needs.

    Args:
        subject: Block and hyper-parameter.
        what: What has need of it, e.g. `its kernel`.
        side: How many pixels are needed along both sides.
        height: Height of the map.
        width: Width of the map.

    Raises:
        SpaceError: If height or width is less than `side`.
    """
    if min(height, width) < side:
        remedy = "use a larger input, or fewer or smaller kernels, strides and poolings"
        raise SpaceError(Problem(subject, f"{what} needs a map of at least {side}x{side}", f"{height}x{width}", remedy))
