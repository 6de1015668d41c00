"""Concatenation: a fusion of streams (survey 5.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.space.registry import register


@register("fusion", "concatenation")
@dataclass(frozen=True)
class Concatenation:
    """The vectors of all streams, one after the other.

    Example:
        >>> Concatenation().build([75, 125, 200])[1]
        400
    """

    def length_after(self, features: Sequence[int]) -> int:
        """Return the length of the vector that it gives for vectors of these lengths."""
        return sum(features)

    def build(self, features: Sequence[int]) -> tuple[nn.Module, int]:
        """Return a module that takes a list of tensors (B, features[i]), and the length of the vector it gives."""
        return _Concatenate(), self.length_after(features)


class _Concatenate(nn.Module):
    def forward(self, vectors: list[Tensor]) -> Tensor:
        """Return (B, sum of features)."""
        return torch.cat(vectors, dim=1)
