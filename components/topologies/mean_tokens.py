"""The mean over the tokens: the simplest cascade (survey 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.registry import register
from mernas.space.taxonomy import SEQUENCE, VECTOR


@register("cascade", "mean_tokens", maps={SEQUENCE: VECTOR})
@dataclass(frozen=True)
class MeanTokens:
    """The mean over all tokens, whatever their order.

    Example:
        >>> MeanTokens().build((10, 64))[1]
        (64,)
    """

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
        return _MeanTokens(), self.shape_after(shape)


class _MeanTokens(nn.Module):
    def forward(self, sequences: Tensor) -> Tensor:
        """Return (B, F) for (B, T, F)."""
        return sequences.mean(dim=1)
