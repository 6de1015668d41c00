"""Layers whose gradient is the same bits each time on an accelerator, where that of torch's own is not.

Torch adds up the gradients of overlapping windows in whatever order its threads come by. Here they are sums of a
matrix product, whose order is fixed.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn


class SteadyAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """Average pooling to a grid whose cells overlap, in training as a matrix product; otherwise torch's own.

    Example:
        >>> maps = torch.randn(2, 3, 9, 9)
        >>> torch.allclose(SteadyAdaptiveAvgPool2d(5)(maps), nn.AdaptiveAvgPool2d(5)(maps), atol=1e-6)
        True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the cells (B, C, h, w) of maps (B, C, H, W)."""
        high, wide = self.output_size if isinstance(self.output_size, tuple) else (self.output_size,) * 2
        height, width = input.shape[-2:]
        high, wide = high or height, wide or width
        if not self.training or (height % high == 0 and width % wide == 0):
            return super().forward(input)
        cells = _cells(height, width, high, wide, input.device, input.dtype)
        found: Tensor = input.flatten(-2) @ cells
        return found.view(*input.shape[:-2], high, wide)


@lru_cache(maxsize=64)
def _cells(height: int, width: int, high: int, wide: int, device: torch.device, kind: torch.dtype) -> Tensor:
    """Which share every pixel has in every cell (H * W, h * w)."""
    both = _shares(height, high)[:, None, :, None] * _shares(width, wide)[None, :, None, :]
    return both.reshape(height * width, high * wide).to(kind).to(device)  # there when it returns, for every stream


def _shares(pixels: int, cells: int) -> Tensor:
    """Along one side (pixels, cells): a cell begins and ends where torch lets it."""
    cell, pixel = torch.arange(cells), torch.arange(pixels)[:, None]
    start, end = cell * pixels // cells, ((cell + 1) * pixels + cells - 1) // cells
    return ((pixel >= start) & (pixel < end)).double() / (end - start)


STEADY: dict[type[nn.Module], type[nn.Module]] = {nn.AdaptiveAvgPool2d: SteadyAdaptiveAvgPool2d}
"""What takes the place of which class in training on an accelerator."""
