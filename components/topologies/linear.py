"""A linear classifier: a head (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.space.registry import register


@register("head", "linear")
@dataclass(frozen=True)
class Linear:
    """One fully connected layer from the features to the classes.

    Example:
        >>> Linear().build(400, 3)
        Linear(in_features=400, out_features=3, bias=True)
    """

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes)."""
        return nn.Linear(features, classes)
