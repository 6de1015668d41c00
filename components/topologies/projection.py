"""Vectors of unequal lengths made equally long, for fusions that need it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def projected_length(features: Sequence[int], width: int) -> int:
    """Return the length of the vectors that a `Projection` gives; arguments as there.

    Example:
        >>> projected_length([5, 5], 3), projected_length([4, 5], 3)
        (5, 3)
    """
    return features[0] if len(set(features)) == 1 else width


class Projection(nn.Module):
    """Leaves vectors of equal lengths as they are; else maps each to `width` numbers by a linear layer of its own.

    Args:
        features: Lengths of the vectors.
        width: What they are made to where they are not equally long.

    Example:
        >>> Projection([5, 5], width=3).length, Projection([4, 5], width=3).length
        (5, 3)
    """

    def __init__(self, features: Sequence[int], width: int) -> None:
        super().__init__()
        equal = len(set(features)) == 1
        self.length = projected_length(features, width)
        self.layers = nn.ModuleList(nn.Identity() if equal else nn.Linear(length, width) for length in features)

    def forward(self, vectors: list[Tensor]) -> list[Tensor]:
        """Return as many tensors (B, length) for tensors (B, features[i])."""
        return [layer(vector) for layer, vector in zip(self.layers, vectors, strict=True)]
