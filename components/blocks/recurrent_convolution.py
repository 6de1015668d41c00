"""Recurrent convolution: a convolution that is applied to its own output again, beside the input (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mernas.components.blocks.convolution import activated
from mernas.components.blocks.pooling import POOLS, shape_after_pool, tail
from mernas.components.contracts import Attention, Shape
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VIDEO


@register(
    "block",
    "recurrent_convolution",
    source="Liang and Hu, CVPR 2015; Xia et al., IEEE TIP 2020",
    maps={IMAGE: IMAGE, VIDEO: VIDEO},
)
@dataclass(frozen=True)
class RecurrentConvolution:
    """x_0 = f(u) by a 1x1 convolution, then x_t = g(u + x_{t-1}) for t = 1 to `steps` by a 3x3 convolution.

    Each f and g is convolution, norm and activation. As many channels leave as enter. With shared weights all g are
    one, norm included (RCN-A); each step may also have its own (STRCN, Xia et al., IEEE TMM 2020). Dense shortcuts add
    all earlier outputs, x_t = g(u + x_0 + … + x_{t-1}) (RCN-S).

    Example:
        >>> RecurrentConvolution(steps=2).build((64, 28, 28))[1]
        (64, 14, 14)
    """

    frame_wise: ClassVar[bool] = True

    steps: int = integer(1, 4, default=2, doc="how often the 3x3 convolution is applied")
    weights: str = choice("shared", "own", default="shared", doc="whether all steps share one convolution")
    shortcuts: str = choice("input", "dense", default="input", doc="what is added to the last output at each step")
    norm: str = choice("batch", "late", "none", "biasless", default="batch", doc="batch norm, and where it stands")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pool: str = choice("none", *POOLS, default="max2", doc="kind and stride of the pooling", sizes=True)
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    attention: Attention | None = optional("attention", doc="weighs the maps before they are pooled")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (C, H', W') that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the pooling kernel is larger than the map.
        """
        return shape_after_pool(self.pool, shape, "recurrent_convolution")

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (C, H', W') that leaves it; errors as there."""
        left = self.shape_after(shape)
        width = shape[0]
        bias = self.norm != "biasless"
        first = nn.Sequential(*activated(nn.Conv2d(width, width, 1, bias=bias), self.norm, self.activation))
        own = [
            nn.Sequential(*activated(nn.Conv2d(width, width, 3, padding=1, bias=bias), self.norm, self.activation))
            for _ in range(self.steps if self.weights == "own" else 1)
        ]
        recurrence = _Recurrence(first, own, self.steps, dense=self.shortcuts == "dense")
        return nn.Sequential(recurrence, *tail(shape, self.attention, self.pool, self.dropout)), left


class _Recurrence(nn.Module):
    def __init__(self, first: nn.Module, own: list[nn.Sequential], steps: int, *, dense: bool) -> None:
        super().__init__()
        self.first = first
        self.own = nn.ModuleList(own)
        self.steps = steps
        self.dense = dense

    def forward(self, maps: Tensor) -> Tensor:
        """Return the last output, (B, C, H, W) for (B, C, H, W)."""
        output: Tensor = self.first(maps)
        added = maps
        for step in range(self.steps):
            entering = added + output
            if self.dense:
                added = entering
            output = self.own[step % len(self.own)](entering)
        return output
