"""Cross-entropy, weighted by class or not: a loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.class_weights import class_weights
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@register("loss", "cross_entropy")
@dataclass(frozen=True)
class CrossEntropy:
    """The negative log-probability of the true class, averaged over the batch.

    `balanced` weighs class c by n / (C n_c), with n training rows, C classes and n_c rows of c, so that rare emotions
    count as much as common ones; a class without training rows weighs 0. The average is the weighted one.

    Example:
        >>> CrossEntropy(smoothing=0.1)
        CrossEntropy(weighting='balanced', smoothing=0.1)
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    weighting: str = choice("none", "balanced", default="balanced", doc="weights of the classes")
    smoothing: float = real(0.0, 0.3, default=0.0, doc="share of the target spread evenly over all classes")

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return a module from (logits (B, C), targets (B,)) to a scalar, its weights taken from the training rows."""
        if self.weighting == "none":
            return nn.CrossEntropyLoss(label_smoothing=self.smoothing)
        return nn.CrossEntropyLoss(weight=class_weights(rows, self.weighting), label_smoothing=self.smoothing)
