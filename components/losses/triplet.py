"""Triplet loss with mining inside the batch: an auxiliary loss (survey 5.4)."""

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


@register(
    "auxiliary_loss",
    "triplet",
    source="Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015; Hermans, Beyer, Leibe: arXiv 1703.07737",
    needs={BALANCED_BATCHES},
)
@dataclass(frozen=True)
class Triplet:
    """A clip must be nearer, by `margin`, to another one of its class (the positive) than to one of another class.

    A triplet costs max(0, d(clip, positive) - d(clip, negative) + margin), with Euclidean distances d. Mining says
    which triplets of the batch are averaged:

    - `all`: every one.
    - `hard`: one for each clip: its farthest positive and its nearest negative.
    - `semi-hard`: one for each clip and positive: the nearest of the negatives that are farther than the positive, or,
      where none is, the farthest negative.

    Without any triplet the loss is 0.

    Example:
        >>> from types import SimpleNamespace
        >>> loss = Triplet(weight=1.0, margin=0.5, length="free").build(SimpleNamespace(), features=1)
        >>> line = torch.tensor([[0.0], [1.0], [3.0]])  # two clips of a class at 0 and 1, another class at 3
        >>> float(loss(line, torch.tensor([0, 0, 1]))), float(loss(line, torch.tensor([0, 1, 0])))
        (0.0, 2.0)
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    weight: float = real(1e-3, 10.0, default=0.1, log=True, doc="by which the loss is multiplied")
    margin: float = real(0.05, 2.0, default=0.2, log=True, doc="by how much nearer the positive must be")
    mining: str = choice("all", "hard", "semi-hard", default="semi-hard", doc="which triplets of a batch count")
    length: str = choice("free", "unit", default="unit", doc="of the vectors: as they are, or scaled to 1")

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        """Return a module from (vectors (B, features), targets (B,)) to a scalar."""
        return _TripletModule(self.weight, self.margin, self.mining, self.length)


class _TripletModule(nn.Module):
    def __init__(self, weight: float, margin: float, mining: str, length: str) -> None:
        super().__init__()
        self.weight, self.margin, self.mining, self.length = weight, margin, mining, length

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss, a scalar."""
        apart = distances(scaled(vectors, self.length))
        other = targets[:, None] != targets
        positive = ~other & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
        if self.mining == "hard":
            far = torch.where(positive, apart, -torch.inf).amax(dim=1)
            near = torch.where(other, apart, torch.inf).amin(dim=1)
            return self._mean(far - near, positive.any(dim=1) & other.any(dim=1))
        clip, match = positive.nonzero(as_tuple=True)
        to_match, to_others, other = apart[clip, match][:, None], apart[clip], other[clip]  # one row for each pair
        if self.mining == "all":
            return self._mean(to_match - to_others, other)
        beyond = other & (to_others > to_match)
        nearest = torch.where(beyond, to_others, torch.inf).amin(dim=1)
        farthest = torch.where(other, to_others, -torch.inf).amax(dim=1)
        chosen = torch.where(beyond.any(dim=1), nearest, farthest)
        return self._mean(to_match[:, 0] - chosen, other.any(dim=1))

    def _mean(self, gaps: Tensor, valid: Tensor) -> Tensor:
        """The weighted mean cost of the valid triplets; gaps are d(clip, positive) - d(clip, negative)."""
        costs = torch.where(valid, torch.relu(gaps + self.margin), 0.0)
        return self.weight * costs.sum() / valid.sum().clamp(min=1)
