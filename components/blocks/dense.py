"""A dense layer for vectors of hand-crafted features (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.space.parameters import choice, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import VECTOR


@register("block", "dense", maps={VECTOR: VECTOR})
@dataclass(frozen=True, kw_only=True)
class Dense:
    """A linear map with what usually follows it: norm, activation and dropout, in this order.

    Example:
        >>> Dense(width=8).build((4425,))[1]
        (8,)
    """

    width: int = integer(4, 1024, default=64, log=True, doc="units")
    norm: str = choice("batch", "layer", "none", default="batch", doc="norm before the activation")
    activation: str = choice("relu", "gelu", "tanh", default="relu", doc="what makes it non-linear")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of units set to zero in training")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width,) that leaves it.

        Args:
            shape: (F,).
        """
        return (self.width,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for vectors (B, F) and the shape (width,) that leaves it.

        Args:
            shape: (F,).
        """
        layers: list[nn.Module] = [nn.Linear(shape[0], self.width)]
        if self.norm != "none":
            layers.append((nn.BatchNorm1d if self.norm == "batch" else nn.LayerNorm)(self.width))
        layers.append({"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}[self.activation]())
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers), (self.width,)
