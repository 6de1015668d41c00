"""What the recurrent cascades have in common: from the outputs for every token to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recurrence(nn.Module):
    """Reads a sequence by recurrent cells and returns their last state or their mean over the tokens.

    Of cells in both directions, the last state is that of each direction at the end of its own reading.

    Args:
        cells: `nn.LSTM` or `nn.GRU` with the batch first.
        read: `last` or `mean`.
        dropout: Share of the features that are set to zero in training.

    Example:
        >>> Recurrence(nn.GRU(3, 5, batch_first=True), "last", 0.0)(torch.zeros(2, 7, 3)).shape
        torch.Size([2, 5])
    """

    def __init__(self, cells: nn.LSTM | nn.GRU, read: str, dropout: float) -> None:
        super().__init__()
        self.cells = cells
        self.read = read
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return (B, directions * hidden) for (B, T, F)."""
        outputs: Tensor = self.cells(sequences)[0]
        if self.read == "mean":
            read = outputs.mean(dim=1)
        else:
            hidden = self.cells.hidden_size
            read = torch.cat([outputs[:, -1, :hidden], outputs[:, 0, hidden:]], dim=1)
        vectors: Tensor = self.dropout(read)
        return vectors
