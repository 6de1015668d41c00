"""A classifier with several hidden layers: a head (survey 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.space.parameters import integer, real
from mernas.space.registry import register


@register("head", "deep_mlp", source="Gan et al., Signal Processing: Image Communication 74, 2019 (OFF-ApexNet)")
@dataclass(frozen=True)
class DeepMLP:
    """Two or three hidden layers of the same width, each with ReLU and dropout, before the classes.

    Example:
        >>> sum(weights.numel() for weights in DeepMLP(hidden=8).build(16, 3).parameters())
        235
    """

    hidden: int = integer(8, 4096, default=64, log=True, doc="units of each hidden layer")
    layers: int = integer(2, 3, default=2, doc="hidden layers; for one there is `mlp`")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of hidden units set to zero in training, in each layer")

    def build(self, features: int, classes: int) -> nn.Sequential:
        """Return a module from (B, features) to logits (B, classes)."""
        layers: list[nn.Module] = []
        entering = features
        for _ in range(self.layers):
            layers += [nn.Linear(entering, self.hidden), nn.ReLU()]
            if self.dropout > 0:
                layers.append(nn.Dropout(self.dropout))
            entering = self.hidden
        return nn.Sequential(*layers, nn.Linear(entering, classes))
