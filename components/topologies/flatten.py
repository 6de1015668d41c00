"""Flattening: a readout (survey 5.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE, VECTOR


@register("readout", "flatten", maps={IMAGE: VECTOR})
@dataclass(frozen=True)
class Flatten:
    """Every pixel of the last map as a feature.

    Example:
        >>> Flatten().build((16, 7, 7))[1]
        (784,)
    """

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape (C * H * W,) that leaves it.

        Args:
            shape: (C, H, W).
        """
        return nn.Flatten(), (math.prod(shape),)
