"""A temporal convolutional network: a cascade (survey 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.components.topologies.transposition import Transposition
from mernas.space.parameters import choice, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import SEQUENCE, VECTOR


@register("cascade", "tcn", source="Bai, Kolter, Koltun: arXiv 1803.01271, 2018", maps={SEQUENCE: VECTOR})
@dataclass(frozen=True)
class TCN:
    """Residual convolutions over the tokens; level i looks 2^i tokens apart, so that few levels see a whole clip.

    A level is convolution, batch norm, ReLU, dropout, convolution, batch norm, added to its input (by a convolution of
    kernel 1 where the width changes), then ReLU. Zeros keep the number of tokens.

    Example:
        >>> TCN(width=32).build((10, 64))[1]
        (32,)
    """

    width: int = integer(4, 512, default=32, log=True, doc="channels of every level")
    kernel: int = choice(3, 5, 7, default=3, doc="tokens under the kernel")
    levels: int = integer(1, 4, default=2, doc="levels, with dilations 1, 2, 4 and 8")
    causal: bool = choice(False, True, default=False, doc="see only earlier tokens, not those on both sides")
    read: str = choice("mean", "last", default="mean", doc="the mean over all tokens, or the last one")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width,) that leaves it.

        Args:
            shape: (T, F).
        """
        return (self.width,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for sequences (B, T, F) and the shape (width,) that leaves it.

        Args:
            shape: (T, F).
        """
        widths = [shape[1], *[self.width] * self.levels]
        levels = [
            _Level(widths[level], self.width, self.kernel, 2**level, self.causal, self.dropout)
            for level in range(self.levels)
        ]
        return nn.Sequential(Transposition(), *levels, _ReadTime(self.read)), self.shape_after(shape)


class _Level(nn.Module):
    def __init__(self, features: int, width: int, kernel: int, dilation: int, causal: bool, dropout: float) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        zeros = (reach, 0) if causal else (reach // 2, reach // 2)
        self.branch = nn.Sequential(
            nn.ConstantPad1d(zeros, 0.0),
            nn.Conv1d(features, width, kernel, dilation=dilation, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.ConstantPad1d(zeros, 0.0),
            nn.Conv1d(width, width, kernel, dilation=dilation, bias=False),
            nn.BatchNorm1d(width),
        )
        self.shortcut = nn.Identity() if features == width else nn.Conv1d(features, width, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return (B, width, T) for (B, features, T)."""
        summed: Tensor = self.shortcut(sequences) + self.branch(sequences)
        return nn.functional.relu(summed)


class _ReadTime(nn.Module):
    def __init__(self, read: str) -> None:
        super().__init__()
        self.read = read

    def forward(self, sequences: Tensor) -> Tensor:
        """Return (B, width) for (B, width, T)."""
        return sequences.mean(dim=2) if self.read == "mean" else sequences[:, :, -1]
