"""One token for each frame of a video: a readout (survey 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import SEQUENCE, VIDEO


@register("readout", "frames", section="5.2.3", source="Donahue et al., CVPR 2015", maps={VIDEO: SEQUENCE})
@dataclass(frozen=True)
class Frames:
    """The map of each frame, averaged over the cells of a grid, as one token: what a cascade reads frame by frame.

    Example:
        >>> Frames(grid=2).build((16, 8, 7, 7))[1]
        (8, 64)
    """

    grid: int = integer(1, 7, default=1, doc="cells along each side", sizes=True)

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (T, C * grid * grid) that leaves it.

        Args:
            shape: (C, T, H, W).

        Raises:
            SpaceError: If a frame has fewer pixels along a side than the grid has cells.
        """
        channels, times, height, width = shape
        if min(height, width) < self.grid:
            rule = f"a grid of {self.grid} needs a map of at least {self.grid}x{self.grid}"
            remedy = "use a smaller grid, a larger input or fewer poolings"
            raise SpaceError(Problem('readout "frames", grid', rule, f"{height}x{width}", remedy))
        return times, channels * self.grid**2

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for videos (B, C, T, H, W) and the shape (T, F) that leaves it; errors as there."""
        left = self.shape_after(shape)
        return _PoolFrames(self.grid, shape[1]), left


class _PoolFrames(nn.Module):
    def __init__(self, grid: int, times: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.times = times

    def forward(self, videos: Tensor) -> Tensor:
        """Return (B, T, C * grid * grid) for (B, C, T, H, W)."""
        # Frames join the batch: pooling in three dimensions has no counterpart in ONNX.
        pooled: Tensor = self.pool(videos.transpose(1, 2).flatten(0, 1))
        return pooled.reshape(-1, self.times, pooled.shape[1] * pooled.shape[2] * pooled.shape[3])
