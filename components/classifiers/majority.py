"""Classifier `majority`: the floor under every other result (survey section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.space.registry import register


@dataclass(frozen=True, eq=False)
class ConstantScores:
    """Gives every clip the same scores.

    Attributes:
        scores: (K,), summing to 1.

    Example:
        >>> import torch
        >>> ConstantScores(np.array([0.75, 0.25])).predict([torch.zeros(2, 1, 4, 4)]).argmax(axis=1).tolist()
        [0, 0]
    """

    scores: NDArray[np.float64]

    def predict(self, maps: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return scores (B, K) for maps (B, C, H, W) of each stream."""
        return np.tile(self.scores, (len(maps[0]), 1))


@register("classifier", "majority", source="the rule that knows nothing but the class counts")
@dataclass(frozen=True)
class Majority:
    """Scores every clip with the class frequencies of the training rows, so that it always predicts the largest class.

    Of equally large classes the one with the smallest number is predicted.

    Attributes:
        fit_scope: The training rows of a job.
        family: A single member.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(labels=torch.tensor([1, 1, 1, 0]), classes=3)
        >>> Majority().fit(rows, seed=0).predict([torch.zeros(1, 1, 4, 4)]).tolist()
        [[0.25, 0.75, 0.0]]
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS
    family: ClassVar[dict[str, tuple[bool | int | float | str, ...]]] = {}

    def fit(self, rows: TrainingRows, seed: int) -> ConstantScores:
        """Count the classes of the training rows; the seed is not used."""
        counts = np.bincount(rows.labels.cpu().numpy(), minlength=rows.classes)
        return ConstantScores(counts / counts.sum())
