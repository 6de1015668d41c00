"""Weights of classes by how rare they are, as the losses share them (survey 5.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from mernas.components.contracts import TrainingRows


def class_weights(rows: TrainingRows, weighting: str) -> Tensor:
    """Return a weight for every class, (C,) float32.

    Args:
        rows: The training rows.
        weighting: `none` for 1 everywhere; `balanced` for n / (C n_c), with n rows, C classes and n_c rows of class c,
            and 0 for a class without rows.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 0, 0, 1]), classes=2)
        >>> class_weights(rows, "balanced").tolist()
        [0.6666666865348816, 2.0]
    """
    if weighting == "none":
        return torch.ones(rows.classes, device=rows.labels.device)
    counts = class_counts(rows)
    return torch.where(counts > 0, len(rows.labels) / (rows.classes * counts.clamp(min=1)), 0.0)


def class_counts(rows: TrainingRows) -> Tensor:
    """Return how many training rows each class has, (C,) int64."""
    return torch.bincount(rows.labels, minlength=rows.classes)
