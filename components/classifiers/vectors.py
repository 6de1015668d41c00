"""What the classical classifiers share: maps as vectors, and scores of all classes from those seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.contracts import NotFiniteError
from mernas.space.errors import Problem


def as_vectors(maps: Sequence[Tensor]) -> NDArray[np.float64]:
    """Return the maps of all streams, (B, C, H, W) each, flattened and joined to (B, F).

    Raises:
        NotFiniteError: If a value is infinite or not a number.

    Example:
        >>> import torch
        >>> as_vectors([torch.zeros(5, 3, 4, 4), torch.ones(5, 1, 2, 2)]).shape
        (5, 52)
    """
    vectors = np.concatenate([stream.flatten(1).cpu().numpy().astype(np.float64) for stream in maps], axis=1)
    if not np.isfinite(vectors).all():
        broken = int((~np.isfinite(vectors)).any(axis=1).sum())
        remedy = "look for an input that divides by zero"
        raise NotFiniteError(Problem("maps", "must be finite", f"{broken} maps that are not", remedy))
    return vectors


def over_all_classes(scores: NDArray[np.float64], seen: Sequence[int], classes: int) -> NDArray[np.float64]:
    """Return scores (B, len(seen)) as (B, classes): a class that no training row had scores 0.

    Example:
        >>> over_all_classes(np.array([[0.25, 0.75]]), [0, 2], 3).tolist()
        [[0.25, 0.0, 0.75]]
    """
    spread = np.zeros((len(scores), classes))
    spread[:, list(seen)] = scores
    return spread
