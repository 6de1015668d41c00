"""Tokens with their features last to features with their tokens last, and back."""

from __future__ import annotations

from torch import Tensor, nn


class Transposition(nn.Module):
    """Maps (B, M, N) to (B, N, M).

    Example:
        >>> import torch
        >>> Transposition()(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 4, 3])
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, N, M) for (B, M, N)."""
        return values.transpose(1, 2)
