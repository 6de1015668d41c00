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
    kernel: int = choice(2, 3, 4, 5, default=2, doc="side of the window, in pixels", sizes=True)
    stride: int = choice(1, 2, 3, 4, default=2, doc="from one window to the next, in pixels")
    padding: int = choice(0, 1, 2, default=0, doc="pixels around the map, at most half of the kernel", sizes=True)

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (C, H', W') that leaves it.

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
        height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (height, width))
        return channels, height, width

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (C, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        make = nn.AvgPool2d if self.kind == "average" else nn.MaxPool2d
        return make(self.kernel, stride=self.stride, padding=self.padding), left


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


def shape_after_pool(name: str, shape: Shape, block: str) -> Shape:
    """Return the shape that leaves the pooling that a name of `POOLS` stands for, or the given one for other names.

    Args:
        name: What the block's `pool` says.
        shape: (C, H, W) of the map.
        block: Name of the block, for the message.

    Raises:
        SpaceError: If the window is larger than the map.

    Example:
        >>> shape_after_pool("max3", (16, 28, 28), "convolution")
        (16, 10, 10)
    """
    if name not in POOLS:
        return shape
    refuse_small(f'block "{block}", pool {name}', "its pooling", POOLS[name].kernel, *shape[1:])
    return POOLS[name].shape_after(shape)


def pooling_layers(name: str, shape: Shape) -> list[nn.Module]:
    """Return the layers that a name of `POOLS` stands for, none for other names.

    Args:
        name: What the block's `pool` says.
        shape: (C, H, W) of the map, which `shape_after_pool` did not refuse.

    Example:
        >>> pooling_layers("max2", (16, 28, 28))
        [MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)]
    """
    return [POOLS[name].build(shape)[0]] if name in POOLS else []


def tail(shape: Shape, attention: Attention | None, pool: str, dropout: float) -> list[nn.Module]:
    """Return the layers that end a block: attention, pooling and dropout, those of them that there are.

    Args:
        shape: (C, H, W) of the map that enters, which `shape_after_pool` did not refuse.
        attention: Weighs the map, or None.
        pool: A name of `POOLS` or `none`.
        dropout: Share of values set to zero in training.

    Example:
        >>> [type(layer).__name__ for layer in tail((16, 28, 28), None, "max2", 0.5)]
        ['MaxPool2d', 'Dropout']
    """
    layers = [] if attention is None else [attention.build(shape[0])]
    layers += pooling_layers(pool, shape)
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return layers


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
