"""The margin loss of capsule networks: a loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.class_weights import class_weights
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@register("loss", "capsule_margin", source="Sabour, Frosst, Hinton: Dynamic routing between capsules, NIPS 2017")
@dataclass(frozen=True)
class CapsuleMargin:
    """Asks of every class by itself whether it is there: its length must be above `upper` if so, else below `lower`.

    The length L of a class is the sigmoid of its logit, in (0, 1). A clip costs max(0, upper - L)^2 for its class and
    `absent` times max(0, L - lower)^2 for every other class. The average over the batch is weighted by the true class;
    `balanced` weights are those of `cross_entropy`.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 1]), classes=2)
        >>> loss = CapsuleMargin().build(rows)(torch.zeros(1, 2), torch.tensor([0]))  # both lengths are a half
        >>> round(float(loss), 4)  # 0.4^2 + 0.5 * 0.4^2
        0.24
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    upper: float = real(0.8, 0.99, default=0.9, doc="length that a class must have in its own clips")
    lower: float = real(0.01, 0.2, default=0.1, doc="length that it may have in other clips")
    absent: float = real(0.1, 1.0, default=0.5, doc="how much a class counts in the clips of others")
    weighting: str = choice("none", "balanced", default="balanced", doc="weights of the classes")

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return a module from (logits (B, C), targets (B,)) to a scalar, its weights taken from the training rows."""
        return _CapsuleMarginModule(class_weights(rows, self.weighting), self.upper, self.lower, self.absent)


class _CapsuleMarginModule(nn.Module):
    weight: Tensor

    def __init__(self, weight: Tensor, upper: float, lower: float, absent: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.upper, self.lower, self.absent = upper, lower, absent

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean over the batch, a scalar."""
        lengths = torch.sigmoid(logits)
        true = targets[:, None] == torch.arange(logits.shape[1], device=logits.device)
        short = torch.relu(self.upper - lengths).square()
        long = torch.relu(lengths - self.lower).square()
        costs = torch.where(true, short, self.absent * long).sum(dim=1)
        weights = self.weight[targets]
        return (weights * costs).sum() / weights.sum()
