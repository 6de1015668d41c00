"""The nodes of a graph as the tokens of a sequence: a readout (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.registry import register
from mernas.space.taxonomy import GRAPH, SEQUENCE


@register("readout", "nodes", maps={GRAPH: SEQUENCE})
@dataclass(frozen=True)
class Nodes:
    """Every node of the last graph as a token, in the order of the nodes, for a cascade to follow.

    Example:
        >>> Nodes().build((51, 32))[1]
        (51, 32)
    """

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (N, F) that leaves it.

        Args:
            shape: (N, F).
        """
        return shape

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for graphs (B, N, F) and the shape (N, F) that leaves it.

        Args:
            shape: (N, F).
        """
        return nn.Identity(), shape
