"""A classifier with one hidden layer: a head (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.space.parameters import integer, real
from mernas.space.registry import register


@register("head", "mlp")
@dataclass(frozen=True)
class MLP:
    """A hidden layer with ReLU and dropout before the classes.

    Example:
        >>> MLP(hidden=8).build(400, 3)[0]
        Linear(in_features=400, out_features=8, bias=True)
    """

    hidden: int = integer(8, 4096, default=64, log=True, doc="units of the hidden layer")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of hidden units set to zero in training")

    def build(self, features: int, classes: int) -> nn.Sequential:
        """Return a module from (B, features) to logits (B, classes)."""
        layers: list[nn.Module] = [nn.Linear(features, self.hidden), nn.ReLU()]
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers, nn.Linear(self.hidden, classes))
