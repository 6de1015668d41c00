"""A vector as it is: a readout (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.registry import register
from mernas.space.taxonomy import VECTOR


@register("readout", "identity", maps={VECTOR: VECTOR})
@dataclass(frozen=True)
class Identity:
    """Hands on the vector of a stream without images: hand-crafted features, or what dense blocks made of them.

    Example:
        >>> Identity().build((64,))[1]
        (64,)
    """

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (F,) that leaves it.

        Args:
            shape: (F,).
        """
        return shape

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for vectors (B, F) and the shape (F,) that leaves it.

        Args:
            shape: (F,).
        """
        return nn.Identity(), shape
