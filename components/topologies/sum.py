"""The sum: a fusion of streams (survey 5.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.topologies.projection import Projection, projected_length
from mernas.space.parameters import integer
from mernas.space.registry import register


@register("fusion", "sum")
@dataclass(frozen=True)
class Sum:
    """The sum of the vectors of all streams; where they are not equally long, each is first projected to `width`.

    Example:
        >>> Sum(width=32).build([75, 75])[1], Sum(width=32).build([75, 125])[1]
        (75, 32)
    """

    width: int = integer(2, 512, default=64, log=True, doc="length of the projected vectors")

    def length_after(self, features: Sequence[int]) -> int:
        """Return the length of the vector that it gives for vectors of these lengths."""
        return projected_length(features, self.width)

    def build(self, features: Sequence[int]) -> tuple[nn.Module, int]:
        """Return a module that takes a list of tensors (B, features[i]), and the length of the vector it gives."""
        projection = Projection(features, self.width)
        return nn.Sequential(projection, _Sum()), projection.length


class _Sum(nn.Module):
    def forward(self, vectors: list[Tensor]) -> Tensor:
        """Return (B, length) for as many tensors (B, length) as there are streams."""
        return torch.stack(vectors).sum(dim=0)
