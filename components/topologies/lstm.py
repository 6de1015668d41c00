"""Long short-term memory: a cascade (survey 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import Shape
from mernas.components.topologies.recurrence import Recurrence
from mernas.space.parameters import choice, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import SEQUENCE, VECTOR


@register("cascade", "lstm", source="Hochreiter and Schmidhuber 1997; Khor et al., FG 2018", maps={SEQUENCE: VECTOR})
@dataclass(frozen=True)
class LSTM:
    """Tokens read one after the other by a memory with input, forget and output gates.

    Example:
        >>> LSTM(hidden=32, bidirectional=True).build((10, 64))[1]
        (64,)
    """

    hidden: int = integer(4, 4096, default=64, log=True, doc="units of each layer and direction")
    layers: int = integer(1, 2, default=1, doc="layers, each reading the outputs of the one before")
    bidirectional: bool = choice(False, True, default=False, doc="also read from the last token to the first")
    read: str = choice("last", "mean", default="last", doc="state after the last token, or the mean over all tokens")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of outputs set to zero in training, behind each layer")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (directions * hidden,) that leaves it.

        Args:
            shape: (T, F).
        """
        return ((2 if self.bidirectional else 1) * self.hidden,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for sequences (B, T, F) and the shape (directions * hidden,) that leaves it.

        Args:
            shape: (T, F).
        """
        cells = nn.LSTM(
            shape[1],
            self.hidden,
            self.layers,
            batch_first=True,
            dropout=self.dropout if self.layers > 1 else 0.0,
            bidirectional=self.bidirectional,
        )
        return Recurrence(cells, self.read, self.dropout), self.shape_after(shape)
