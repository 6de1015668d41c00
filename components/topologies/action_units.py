"""Action units predicted beside the emotion: a side task (survey 5.2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice, real
from mernas.space.registry import register
from mernas.space.taxonomy import ACTION_UNITS


@register("side_task", "action_units", needs={ACTION_UNITS})
@dataclass(frozen=True)
class ActionUnits:
    """Says of every action unit by itself whether a clip shows it, from the fused vector, by binary cross-entropy.

    What is not annotated (NaN) counts nowhere. `balanced` weighs, for each unit, the clips that show it by n / (2 n+)
    and the others by n / (2 n-), with n annotated training rows, n+ of which show it and n- do not; the loss is the
    weighted mean over all annotations of a batch, and 0 where it has none.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(units=torch.tensor([[1.0, 0.0], [0.0, torch.nan]]))
        >>> loss = ActionUnits(weight=1.0).build(rows, features=8)
        >>> loss.head, loss(torch.zeros(2, 8), torch.tensor([0, 1])).shape
        (Linear(in_features=8, out_features=2, bias=True), torch.Size([]))
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    weight: float = real(0.01, 1.0, default=0.2, log=True, doc="by which the loss is multiplied")
    weighting: str = choice("none", "balanced", default="balanced", doc="weights of shown and not shown, by unit")
    hidden: int = choice(0, 32, 64, 128, default=0, doc="units of a hidden layer; 0 for none")

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        """Return a module from (vectors (B, features), row numbers (B,)) to a scalar.

        Raises:
            DataError: If the training rows have no action units.
        """
        units = rows.units
        if units is None or units.shape[1] == 0:
            remedy = "use a dataset whose action units are annotated, or leave the side task out"
            raise DataError(Problem('side_task "action_units"', "needs annotated action units", "none", remedy))
        head: nn.Module = nn.Linear(features, units.shape[1])
        if self.hidden:
            head = nn.Sequential(nn.Linear(features, self.hidden), nn.ReLU(), nn.Linear(self.hidden, units.shape[1]))
        return _ActionUnitsModule(head, units, _weights(units, self.weighting), self.weight)


def _weights(units: Tensor, weighting: str) -> Tensor:
    """The weight of every annotation (n, U); 0 where there is none."""
    annotated = ~units.isnan()
    if weighting == "none":
        return annotated.to(units.dtype)
    shown = units.nan_to_num() > 0.5
    total, positive = annotated.sum(dim=0), shown.sum(dim=0)
    alike = torch.where(shown, positive, total - positive)  # how many annotations of the unit say the same
    return torch.where(annotated, total / (2 * alike.clamp(min=1)), 0.0)


class _ActionUnitsModule(nn.Module):
    units: Tensor
    annotation_weights: Tensor

    def __init__(self, head: nn.Module, units: Tensor, annotation_weights: Tensor, weight: float) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("units", units.nan_to_num())
        self.register_buffer("annotation_weights", annotation_weights)
        self.weight = weight

    def forward(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Return the weighted loss, a scalar, of vectors (B, F) that belong to training rows (B,)."""
        costs = F.binary_cross_entropy_with_logits(self.head(vectors), self.units[rows], reduction="none")
        weights = self.annotation_weights[rows]
        total = weights.sum()
        return self.weight * (weights * costs).sum() / torch.where(total > 0, total, 1.0)
