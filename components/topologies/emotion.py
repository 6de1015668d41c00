"""The emotion as the one thing predicted: a task (survey 5.2.4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Head
from mernas.space.parameters import one
from mernas.space.registry import register


@register("task", "emotion")
@dataclass(frozen=True)
class Emotion:
    """The class of the emotion, by one head.

    Example:
        >>> from mernas.components.topologies.linear import Linear
        >>> Emotion(head=Linear()).build(400, 3)
        Linear(in_features=400, out_features=3, bias=True)
    """

    head: Head = one("head", default="linear", doc="from the fused vector to the classes")

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes)."""
        return self.head.build(features, classes)
