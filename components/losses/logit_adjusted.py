"""Cross-entropy of logits that are adjusted by how common their classes are: a loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.class_weights import class_counts
from mernas.space.parameters import real
from mernas.space.registry import register


@register("loss", "logit_adjusted", source="Menon et al.: Long-tail learning via logit adjustment, ICLR 2021")
@dataclass(frozen=True)
class LogitAdjusted:
    """Cross-entropy after tau times the logarithm of its share of the training rows has been added to each logit.

    The adjustment says what is common, so the network need not learn it; it is not there in prediction, whose scores
    are then those of classes that are equally common (with `tau` 1). A class without training rows is taken to have
    one: its logit is pushed down, but stays finite.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 0, 0, 1]), classes=2)
        >>> loss = LogitAdjusted().build(rows)(torch.zeros(1, 2), torch.tensor([1]))
        >>> round(float(loss), 4)  # log 4: the class has a quarter of the rows
        1.3863
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    tau: float = real(0.25, 3.0, default=1.0, doc="how much of the logarithm of the share is added")

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return a module from (logits (B, C), targets (B,)) to a scalar, its shares taken from the training rows."""
        shares = class_counts(rows).clamp(min=1) / len(rows.labels)
        return _LogitAdjustedModule(self.tau * torch.log(shares))


class _LogitAdjustedModule(nn.Module):
    adjustment: Tensor

    def __init__(self, adjustment: Tensor) -> None:
        super().__init__()
        self.register_buffer("adjustment", adjustment)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return F.cross_entropy(logits + self.adjustment, targets)
