"""The mean of the class scores: a fusion of streams that each have a head of their own (survey 5.2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.topologies.concatenation import Concatenation
from mernas.space.parameters import choice
from mernas.space.registry import register


@register("fusion", "scores", source="Simonyan and Zisserman, NeurIPS 2014")
@dataclass(frozen=True)
class Scores:
    """The mean of what the heads of the streams say, with equal or with learned weights that add up to 1.

    The mean is taken of the logits or of the probabilities, whose logarithm then are the logits that leave.

    Example:
        >>> Scores().build_scores(2, 3)(torch.tensor([[[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]]))
        tensor([[2., 2., 2.]])
    """

    level: ClassVar[str] = "score"

    weights: str = choice("equal", "learned", default="equal", doc="weights of the streams")
    of: str = choice("logits", "probabilities", default="logits", doc="what the mean is taken of")

    def length_after(self, features: Sequence[int]) -> int:
        """Return the length of the vector that it gives for vectors of these lengths."""
        return sum(features)

    def build(self, features: Sequence[int]) -> tuple[nn.Module, int]:
        """Return the concatenation of the vectors, for losses of the vectors: heads do not see it."""
        return Concatenation().build(features)

    def build_scores(self, streams: int, classes: int) -> nn.Module:
        """Return a module from logits (B, streams, classes) to logits (B, classes)."""
        return _MeanScores(streams, self.weights == "learned", self.of == "probabilities")


class _MeanScores(nn.Module):
    def __init__(self, streams: int, learned: bool, of_probabilities: bool) -> None:
        super().__init__()
        self.of_probabilities = of_probabilities
        # Zeros are equal weights to begin with; the weights are the softmax.
        self.preference = nn.Parameter(torch.zeros(streams)) if learned else None
        self.equal = math.log(1 / streams)

    def forward(self, logits: Tensor) -> Tensor:
        """Return (B, classes) for (B, streams, classes)."""
        if self.of_probabilities:
            shares = self.equal if self.preference is None else torch.log_softmax(self.preference, dim=0)[:, None]
            return torch.logsumexp(torch.log_softmax(logits, dim=2) + shares, dim=1)
        if self.preference is None:
            return logits.mean(dim=1)
        return (torch.softmax(self.preference, dim=0)[:, None] * logits).sum(dim=1)
