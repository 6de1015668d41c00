"""A mean over the tokens, weighted by what they hold: a cascade (survey 5.1, 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import SEQUENCE, VECTOR


@register(
    "cascade",
    "token_attention",
    source="Bahdanau, Cho, Bengio: ICLR 2015; Ilse, Tomczak, Welling: ICML 2018",
    maps={SEQUENCE: VECTOR},
)
@dataclass(frozen=True)
class TokenAttention:
    """The sum of all tokens x_t with weights softmax_t(w . tanh(V x_t)); behind `frames` it is temporal attention.

    Example:
        >>> TokenAttention(hidden=16).build((10, 64))[1]
        (64,)
    """

    hidden: int = integer(4, 128, default=32, log=True, doc="rows of V")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (F,) that leaves it.

        Args:
            shape: (T, F).
        """
        return (shape[1],)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for sequences (B, T, F) and the shape (F,) that leaves it.

        Args:
            shape: (T, F).
        """
        return _TokenAttention(shape[1], self.hidden), self.shape_after(shape)


class _TokenAttention(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        # No bias behind the tanh: it would be the same for all tokens, which the softmax does not see.
        self.score = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, sequences: Tensor) -> Tensor:
        """Return (B, F) for (B, T, F)."""
        weights = torch.softmax(self.score(sequences), dim=1)
        return (weights * sequences).sum(dim=1)
