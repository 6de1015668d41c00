"""Average pooling to a small grid: a readout (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VECTOR, VIDEO


@register("readout", "average", source="Lin, Chen, Yan: ICLR 2014", maps={IMAGE: VECTOR, VIDEO: VECTOR})
@dataclass(frozen=True)
class Average:
    """The mean of each channel over the cells of a grid, flattened; a grid of 1 is global average pooling.

    A grid above 1 keeps where on the face something moved. Of a video the mean over all frames is taken as well.

    Example:
        >>> Average(grid=5).build((16, 10, 10))[1]
        (400,)
        >>> Average(grid=5).build((16, 8, 10, 10))[1]
        (400,)
    """

    grid: int = integer(1, 7, default=3, doc="cells along each side", sizes=True)

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (C * grid * grid,) that leaves it.

        Args:
            shape: (C, H, W) or (C, T, H, W).

        Raises:
            SpaceError: If the map has fewer pixels along a side than the grid has cells.
        """
        channels, height, width = shape[0], *shape[-2:]
        if min(height, width) < self.grid:
            rule = f"a grid of {self.grid} needs a map of at least {self.grid}x{self.grid}"
            remedy = "use a smaller grid, a larger input or fewer poolings"
            raise SpaceError(Problem('readout "average", grid', rule, f"{height}x{width}", remedy))
        return (channels * self.grid**2,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) or (B, C, T, H, W) and the shape that leaves it; errors as there."""
        left = self.shape_after(shape)
        before = [_MeanOverTime()] if len(shape) == 4 else []
        return nn.Sequential(*before, nn.AdaptiveAvgPool2d(self.grid), nn.Flatten()), left


class _MeanOverTime(nn.Module):
    def forward(self, videos: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, T, H, W)."""
        return videos.mean(dim=2)
