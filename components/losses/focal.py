"""Focal loss: a loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.class_weights import class_weights
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@register("loss", "focal", source="Lin, Goyal, Girshick, He, Dollar: Focal loss for dense object detection, ICCV 2017")
@dataclass(frozen=True)
class Focal:
    """Cross-entropy in which clips that are recognised already count little: -(1 - p)^gamma log p, p of the true class.

    With `gamma` 0 it is cross-entropy. `balanced` weighs the classes, and averages, as `cross_entropy` does.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 1]), classes=2)
        >>> loss = Focal(gamma=2.0).build(rows)(torch.zeros(1, 2), torch.tensor([0]))  # p is a half
        >>> round(float(loss), 4)  # a quarter of log 2
        0.1733
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    gamma: float = real(0.0, 5.0, default=2.0, doc="how much less a clip counts that is recognised already")
    weighting: str = choice("none", "balanced", default="balanced", doc="weights of the classes")

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return a module from (logits (B, C), targets (B,)) to a scalar, its weights taken from the training rows."""
        return _FocalModule(class_weights(rows, self.weighting), self.gamma)


class _FocalModule(nn.Module):
    weight: Tensor

    def __init__(self, weight: Tensor, gamma: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean over the batch, a scalar."""
        logs = torch.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
        # The slope of x^gamma is infinite at 0 where gamma is below 1; a clip that sure has no slope left anyway.
        doubt = (-torch.expm1(logs)).clamp(min=torch.finfo(logs.dtype).eps)
        weights = self.weight[targets]
        return -(weights * doubt**self.gamma * logs).sum() / weights.sum()
