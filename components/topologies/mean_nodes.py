"""What the nodes of a graph have in common: a readout (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import GRAPH, VECTOR


@register("readout", "mean_nodes", maps={GRAPH: VECTOR})
@dataclass(frozen=True, kw_only=True)
class MeanNodes:
    """The mean of each feature over the nodes and, if wanted, its largest value behind it.

    Example:
        >>> MeanNodes(statistics="mean+max").build((51, 32))[1]
        (64,)
    """

    statistics: str = choice("mean", "mean+max", default="mean", doc="what is kept of each feature")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (F,) or, with the largest values, (2 F,) that leaves it.

        Args:
            shape: (N, F).
        """
        return (shape[1] * (2 if self.statistics == "mean+max" else 1),)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for graphs (B, N, F) and the shape (F,) or, with the largest values, (2 F,) that leaves it.

        Args:
            shape: (N, F).
        """
        largest = self.statistics == "mean+max"
        return _MeanNodesModule(largest), self.shape_after(shape)


class _MeanNodesModule(nn.Module):
    def __init__(self, largest: bool) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, graphs: Tensor) -> Tensor:
        """Return (B, F) or (B, 2 F) for (B, N, F)."""
        mean = graphs.mean(dim=1)
        return torch.cat([mean, graphs.amax(dim=1)], dim=1) if self.largest else mean
