"""Cosines to a direction for each class: a head (survey 5.2, 5.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mernas.space.parameters import real
from mernas.space.registry import register


@register("head", "cosine", source="Wang et al., CVPR 2018")
@dataclass(frozen=True)
class Cosine:
    """The cosine of the angle between the vector and a direction of each class, times a scale; there is no bias.

    Losses with a margin between angles are made for it: its logits lie in [-scale, scale].

    Example:
        >>> Cosine(scale=8.0).build(400, 3)(torch.ones(2, 400)).shape
        torch.Size([2, 3])
    """

    scale: float = real(1.0, 64.0, default=16.0, log=True, doc="largest logit")

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes)."""
        return _Cosine(features, classes, self.scale)


class _Cosine(nn.Module):
    def __init__(self, features: int, classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits (B, classes) for (B, features)."""
        cosines = functional.linear(functional.normalize(vectors, dim=1), functional.normalize(self.weight, dim=1))
        return self.scale * cosines
