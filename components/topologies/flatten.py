"""Flattening: a readout (survey 5.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.registry import register
from mernas.space.taxonomy import GRAPH, IMAGE, VECTOR, VIDEO


@register("readout", "flatten", maps={IMAGE: VECTOR, VIDEO: VECTOR, GRAPH: VECTOR})
@dataclass(frozen=True)
class Flatten:
    """Every value of the last map as a feature: of an image, of a video, or of the nodes of a graph.

    Example:
        >>> Flatten().build((16, 7, 7))[1]
        (784,)
    """

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (F,) that leaves it.

        Args:
            shape: (C, H, W), (C, T, H, W) or (N, F).
        """
        return (math.prod(shape),)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, *shape) and the shape (F,) that leaves it, F the number of values of a map.

        Args:
            shape: (C, H, W), (C, T, H, W) or (N, F).
        """
        return nn.Flatten(), self.shape_after(shape)
