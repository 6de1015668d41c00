"""Parts of the face, one below the other, each with features of its own: a readout (survey 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VECTOR


@register("readout", "part_pool", source="Liu, Du, Zheng, Gedeon: FG 2019", maps={IMAGE: VECTOR})
@dataclass(frozen=True)
class PartPool:
    """The rows of the map cut into parts; the mean of each part goes through a layer of its own with tanh and dropout.

    Part i of n has the rows from floor(i H / n) to floor((i + 1) H / n): of seven rows and two parts, three are the
    upper face and four the lower.

    Example:
        >>> PartPool(parts=2, width=64).build((512, 7, 7))[1]
        (128,)
    """

    parts: int = integer(2, 7, default=2, doc="parts, from the top to the bottom", sizes=True)
    width: int = integer(4, 256, default=64, log=True, doc="features of each part")
    dropout: float = real(0.0, 0.7, default=0.1, doc="share of features set to zero in training")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (parts * width,) that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the map has fewer rows than parts.
        """
        height = shape[1]
        if height < self.parts:
            remedy = "use fewer parts, a larger input or fewer poolings"
            rule = f"{self.parts} parts need a map of at least as many rows"
            raise SpaceError(Problem('readout "part_pool", parts', rule, str(height), remedy))
        return (self.parts * self.width,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (parts * width,) that leaves it; errors as there."""
        left = self.shape_after(shape)
        edges = [part * shape[1] // self.parts for part in range(self.parts + 1)]
        return _PartPool(shape[0], edges, self.width, self.dropout), left


class _PartPool(nn.Module):
    def __init__(self, channels: int, edges: Sequence[int], width: int, dropout: float) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.layers = nn.ModuleList(nn.Linear(channels, width) for _ in edges[1:])
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, parts * width) for (B, C, H, W)."""
        parts = [maps[:, :, low:high] for low, high in pairwise(self.edges)]
        features = [layer(part.mean(dim=(2, 3))) for layer, part in zip(self.layers, parts, strict=True)]
        vectors: Tensor = self.dropout(torch.tanh(torch.cat(features, dim=1)))
        return vectors
