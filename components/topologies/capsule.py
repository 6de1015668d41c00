"""Class capsules by dynamic routing: a head (survey 5.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.topologies.primary_capsules import CAPSULE_LENGTH, squash
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import CAPSULES

CLASS_LENGTH = 16
"""Numbers of one class capsule, as published."""


@register(
    "head",
    "capsule",
    section="5.1",
    source="Sabour, Frosst, Hinton: NeurIPS 2017; Van Quang et al., FG 2019",
    needs={CAPSULES},
)
@dataclass(frozen=True)
class Capsule:
    """A capsule for each class, made of those primary capsules that agree on it; its length says how much it is there.

    Every eight consecutive features are one primary capsule. The logit of a class is the log-odds of the length of its
    capsule: the sigmoid of the logit is that length, as margin losses of capsules want it, and the softmax over the
    logits gives probabilities. With s the capsule before squashing, the logit is log |s|^2.

    Example:
        >>> sum(weights.numel() for weights in Capsule().build(1152 * 8, 3).parameters())
        442368
    """

    iterations: int = integer(1, 4, default=3, doc="rounds of routing; 1 weighs all classes alike")

    def admit(self, features: int) -> None:
        """Return if it can stand behind so many features.

        Raises:
            SpaceError: If the features are not a whole number of capsules.
        """
        if features % CAPSULE_LENGTH:
            rule = f"needs a number of features divisible by {CAPSULE_LENGTH}"
            remedy = 'use the readout "primary_capsules"'
            raise SpaceError(Problem('head "capsule"', rule, str(features), remedy))

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes); errors as of `admit`."""
        self.admit(features)
        return _ClassCapsules(features // CAPSULE_LENGTH, classes, self.iterations)


class _ClassCapsules(nn.Module):
    def __init__(self, capsules: int, classes: int, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.weight = nn.Parameter(torch.empty(capsules, classes, CLASS_LENGTH, CAPSULE_LENGTH))
        # Each class gets 1 / classes of every capsule, so |s|^2 grows by capsules / classes^2: taken back here, lest
        # the lengths start near 0 or 1, where they learn nothing.
        nn.init.normal_(self.weight, std=0.5 * classes / math.sqrt(capsules))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits (B, classes) for (B, capsules * 8)."""
        capsules = vectors.reshape(-1, self.weight.shape[0], CAPSULE_LENGTH)
        votes = torch.einsum("ncoi,bni->bnco", self.weight, capsules)
        agreement = torch.zeros_like(votes[..., 0])
        for _ in range(self.iterations - 1):
            total = _weighted(votes, agreement)
            agreement = agreement + torch.einsum("bnco,bco->bnc", votes, squash(total))
        # The small number keeps the logarithm finite where nothing votes for a class.
        return torch.log(_weighted(votes, agreement).square().sum(dim=-1) + 1e-7)


def _weighted(votes: Tensor, agreement: Tensor) -> Tensor:
    """Capsules of the classes before squashing, (B, classes, 16): every primary capsule shares itself out."""
    return torch.einsum("bnco,bnc->bco", votes, torch.softmax(agreement, dim=2))
