"""The basic residual block (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mernas.components.contracts import Attention, Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register("block", "residual", source="He, Zhang, Ren, Sun: CVPR 2016", maps={IMAGE: IMAGE, VIDEO: VIDEO})
@dataclass(frozen=True)
class Residual:
    """Two 3x3 convolutions that learn the difference from a shortcut: y = relu(shortcut(x) + F(x)).

    F is convolution (with the stride), batch norm, ReLU, dropout, convolution, batch norm, attention. The shortcut is
    the identity where the shape stays as it is, else a 1x1 convolution with batch norm. A side of n becomes
    ceil(n / stride).

    Example:
        >>> module, shape = Residual(width=8, stride=2).build((3, 28, 28))
        >>> shape
        (8, 14, 14)
    """

    frame_wise: ClassVar[bool] = True

    width: int = integer(2, 512, default=16, log=True, doc="output channels")
    stride: int = choice(1, 2, default=2, doc="2 halves the map", sizes=True)
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero between the convolutions")
    attention: Attention | None = optional("attention", doc="weighs what the convolutions give, before the sum")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the stride is larger than the map.
        """
        _, height, width = shape
        if min(height, width) < self.stride:
            rule = f"a stride of {self.stride} needs a map of at least {self.stride}x{self.stride}"
            remedy = "use a larger input, or fewer or smaller strides and poolings"
            raise SpaceError(Problem('block "residual", stride', rule, f"{height}x{width}", remedy))
        return self.width, -(-height // self.stride), -(-width // self.stride)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (width, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        return _ResidualModule(shape[0], self.width, self.stride, self.dropout, self.attention), left


class _ResidualModule(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, dropout: float, attention: Attention | None) -> None:
        super().__init__()
        # No biases: each convolution is followed by a batch norm, which has its own, as in the released ResNets.
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != width or stride != 1:
            convolution = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(width))
        if attention is not None:
            self.branch.append(attention.build(width))

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, width, H', W') for (B, C, H, W)."""
        summed: Tensor = self.shortcut(maps) + self.branch(maps)
        return nn.functional.relu(summed)
