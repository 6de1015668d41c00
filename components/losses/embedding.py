"""Lengths of fused vectors and distances between them, as the losses of embeddings share them (survey 5.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def scaled(vectors: Tensor, length: str) -> Tensor:
    """Return vectors (B, F) as they are (`free`) or each divided by its Euclidean length (`unit`); zeros stay zeros.

    Example:
        >>> scaled(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "unit")
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return F.normalize(vectors, dim=1) if length == "unit" else vectors


def distances(vectors: Tensor) -> Tensor:
    """Return the Euclidean distances (B, B) between vectors (B, F).

    Differences are taken before they are squared, which a matrix product would not do: near vectors keep their digits.
    The slope at distance 0 is taken to be 0.
    """
    return torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
