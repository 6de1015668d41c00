"""Rectangles on maps, by where they begin and end as shares of the map's sides."""

from __future__ import annotations

import torch
from torch import Tensor


def covered(pixels: int, start: float | Tensor, end: float | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return which of a row of pixels have their centre in [start, end), both as shares of the row.

    Args:
        pixels: How many pixels the row has.
        start: Where the part begins; a tensor (B, 1) for B rows at once.
        end: Where it ends, likewise.
        device: Where tensors among them are.

    Returns:
        Booleans (pixels,), or (B, pixels).

    Example:
        >>> covered(4, 0.25, 0.75).tolist()
        [False, True, True, False]
        >>> covered(4, torch.tensor([[0.0], [0.5]]), torch.tensor([[0.5], [1.0]])).tolist()
        [[True, True, False, False], [False, False, True, True]]
    """
    centres = (torch.arange(pixels, device=device) + 0.5) / pixels
    return (centres >= start) & (centres < end)
