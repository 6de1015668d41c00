"""One token for each place of a map: a readout (survey 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.components.topologies.transposition import Transposition
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, SEQUENCE


@register("readout", "patches", section="5.2.3", source="Dosovitskiy et al., ICLR 2021", maps={IMAGE: SEQUENCE})
@dataclass(frozen=True)
class Patches:
    """Each pixel of the last map, or the mean over each cell of a grid, as a token; row by row.

    Example:
        >>> Patches(grid=4).build((16, 14, 14))[1]
        (16, 16)
        >>> Patches(grid=0).build((16, 7, 9))[1]
        (63, 16)
    """

    grid: int = integer(0, 14, default=0, doc="cells along each side; 0 takes every pixel", sizes=True)

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (tokens, C) that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the map has fewer pixels along a side than the grid has cells.
        """
        channels, height, width = shape
        if min(height, width) < self.grid:
            rule = f"a grid of {self.grid} needs a map of at least {self.grid}x{self.grid}"
            remedy = "use a smaller grid, a larger input or fewer poolings"
            raise SpaceError(Problem('readout "patches", grid', rule, f"{height}x{width}", remedy))
        return (self.grid**2 if self.grid > 0 else height * width), channels

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (tokens, C) that leaves it; errors as there."""
        left = self.shape_after(shape)
        cells = [nn.AdaptiveAvgPool2d(self.grid)] if self.grid > 0 else []
        return nn.Sequential(*cells, nn.Flatten(2), Transposition()), left
