"""Center loss: an auxiliary loss (survey 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.losses.embedding import scaled
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@register(
    "auxiliary_loss", "center", source="Wen, Zhang, Li, Qiao: A discriminative feature learning approach, ECCV 2016"
)
@dataclass(frozen=True)
class Center:
    """Half the squared distance of every clip to the centre of its class, averaged over the batch.

    The centres start at zero and are no parameters: after every batch in training mode each moves towards its clips by
    `rate` times their summed difference from it, divided by one more than their number. They are those from before
    the batch while its loss is taken. Of a batch of mixed clips, which is judged by two labels, the centres move twice.

    Example:
        >>> from types import SimpleNamespace
        >>> loss = Center(weight=1.0, rate=1.0).build(SimpleNamespace(labels=torch.tensor([0]), classes=1), features=2)
        >>> clips, classes = torch.tensor([[3.0, 4.0]]), torch.tensor([0])
        >>> float(loss(clips, classes)), float(loss(clips, classes))  # the centre has come half the way
        (12.5, 3.125)
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    weight: float = real(1e-5, 1.0, default=0.003, log=True, doc="by which the loss is multiplied")
    rate: float = real(0.05, 1.0, default=0.5, doc="how fast the centres follow their clips")
    length: str = choice("free", "unit", default="free", doc="of the vectors: as they are, or scaled to 1")

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        """Return a module from (vectors (B, features), targets (B,)) to a scalar; its centres are a buffer."""
        centres = torch.zeros(rows.classes, features, device=rows.labels.device)
        return _CenterModule(centres, self.weight, self.rate, self.length)


class _CenterModule(nn.Module):
    centres: Tensor

    def __init__(self, centres: Tensor, weight: float, rate: float, length: str) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.weight, self.rate, self.length = weight, rate, length

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; move the centres if in training mode."""
        vectors = scaled(vectors, self.length)
        gaps = vectors - self.centres[targets]
        if self.training:
            with torch.no_grad():
                # Sums by a product with zeros and ones: scattered additions have no fixed order on an accelerator.
                classes = torch.arange(len(self.centres), device=targets.device)
                member = (targets[:, None] == classes).to(gaps.dtype)
                self.centres += self.rate * (member.T @ gaps) / (1 + member.sum(dim=0))[:, None]
        return self.weight * gaps.square().sum(dim=1).mean() / 2
