"""A sum weighted by what the vectors hold: a fusion of streams (survey 5.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.topologies.projection import Projection, projected_length
from mernas.space.parameters import integer
from mernas.space.registry import register


@register("fusion", "attention")
@dataclass(frozen=True)
class Attention:
    """The sum of the vectors with weights that add up to 1 and depend on the clip: each stream scores its own vector.

    The weights are the softmax over streams of a linear score. Vectors that are not equally long are first projected
    to `width`; the scores are taken of the projected ones.

    Example:
        >>> Attention(width=32).build([75, 75])[1], Attention(width=32).build([75, 125])[1]
        (75, 32)
    """

    width: int = integer(2, 512, default=64, log=True, doc="length of the projected vectors")

    def length_after(self, features: Sequence[int]) -> int:
        """Return the length of the vector that it gives for vectors of these lengths."""
        return projected_length(features, self.width)

    def build(self, features: Sequence[int]) -> tuple[nn.Module, int]:
        """Return a module that takes a list of tensors (B, features[i]), and the length of the vector it gives."""
        projection = Projection(features, self.width)
        return nn.Sequential(projection, _Attention(len(features), projection.length)), projection.length


class _Attention(nn.Module):
    def __init__(self, streams: int, length: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Linear(length, 1) for _ in range(streams))

    def forward(self, vectors: list[Tensor]) -> Tensor:
        """Return (B, length) for as many tensors (B, length) as there are streams."""
        scores = [score(vector) for score, vector in zip(self.scores, vectors, strict=True)]
        weights = torch.softmax(torch.stack(scores), dim=0)  # (S, B, 1)
        return (weights * torch.stack(vectors)).sum(dim=0)
