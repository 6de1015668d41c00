"""Contrastive loss over all pairs of a batch: an auxiliary loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.embedding import distances, scaled
from mernas.space.parameters import choice, real
from mernas.space.registry import register
from mernas.space.taxonomy import BALANCED_BATCHES


@register("auxiliary_loss", "contrastive", source="Hadsell, Chopra, LeCun: CVPR 2006", needs={BALANCED_BATCHES})
@dataclass(frozen=True)
class Contrastive:
    """Pulls clips of one class together and pushes those of different classes apart until they are `margin` apart.

    With d the distance of the vectors of two clips, a pair costs d^2 within a class and max(0, margin - d)^2 between
    classes; the loss is the mean over all pairs of the batch.

    Example:
        >>> from types import SimpleNamespace
        >>> loss = Contrastive(weight=1.0, margin=1.5).build(SimpleNamespace(), features=2)
        >>> clips = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # d^2: 2, 2 and 4
        >>> round(float(loss(clips, torch.tensor([0, 0, 1]))), 4)  # a third of 2 + (1.5 - sqrt 2)^2 + 0
        0.6691
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    weight: float = real(1e-3, 10.0, default=0.1, log=True, doc="by which the loss is multiplied")
    margin: float = real(0.1, 2.0, default=1.0, doc="distance that clips of different classes should have")
    length: str = choice("free", "unit", default="unit", doc="of the vectors: as they are, or scaled to 1")

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        """Return a module from (vectors (B, features), targets (B,)) to a scalar."""
        return _ContrastiveModule(self.weight, self.margin, self.length)


class _ContrastiveModule(nn.Module):
    def __init__(self, weight: float, margin: float, length: str) -> None:
        super().__init__()
        self.weight, self.margin, self.length = weight, margin, length

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; 0 for a single clip."""
        apart = distances(scaled(vectors, self.length))
        same = targets[:, None] == targets
        costs = torch.where(same, apart, torch.relu(self.margin - apart)).square()
        pairs = len(vectors) * (len(vectors) - 1) // 2
        return self.weight * costs.triu(diagonal=1).sum() / max(pairs, 1)
