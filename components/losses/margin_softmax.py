"""Cross-entropy with a margin on the true class: a loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.class_weights import class_weights
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@register("loss", "margin_softmax", source="Wang et al.: CosFace, CVPR 2018; Wang et al.: AM-Softmax, IEEE SPL 2018")
@dataclass(frozen=True)
class MarginSoftmax:
    """Cross-entropy after `margin` has been taken from the logit of the true class, which must win by that much.

    The margin is in units of logits. Behind a head that gives s times a cosine this is CosFace with its margin
    m = margin / s. The margin is not there in prediction. `balanced` weighs the classes as `cross_entropy` does.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 1]), classes=2)
        >>> loss = MarginSoftmax(margin=2.0).build(rows)(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        >>> round(float(loss), 4)  # the lead is the margin: log 2
        0.6931
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    margin: float = real(0.1, 32.0, default=1.0, log=True, doc="by how much the true class must win, in logits")
    weighting: str = choice("none", "balanced", default="balanced", doc="weights of the classes")

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return a module from (logits (B, C), targets (B,)) to a scalar, its weights taken from the training rows."""
        return _MarginSoftmaxModule(class_weights(rows, self.weighting), self.margin)


class _MarginSoftmaxModule(nn.Module):
    weight: Tensor

    def __init__(self, weight: Tensor, margin: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.margin = margin

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean over the batch, a scalar."""
        true = targets[:, None] == torch.arange(logits.shape[1], device=logits.device)
        return F.cross_entropy(torch.where(true, logits - self.margin, logits), targets, self.weight)
