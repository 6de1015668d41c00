"""A transformer encoder: a cascade (survey 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.parameters import choice, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import SEQUENCE, VECTOR


@register(
    "cascade",
    "transformer",
    source="Vaswani et al., NeurIPS 2017; Dosovitskiy et al., ICLR 2021",
    maps={SEQUENCE: VECTOR},
)
@dataclass(frozen=True)
class Transformer:
    """Every token weighs all tokens, layer after layer; a learned position tells where each stands.

    Tokens are projected linearly to heads * head_width features. A layer adds self-attention, then two fully connected
    layers with GELU between, each behind a layer norm. A last layer norm follows the layers.

    Example:
        >>> Transformer(heads=3, head_width=16).build((10, 64))[1]
        (48,)
    """

    heads: int = integer(1, 12, default=4, doc="attention heads of each layer")
    head_width: int = choice(4, 8, 16, 32, 64, default=16, doc="features of each head")
    depth: int = integer(1, 12, default=2, doc="layers")
    expansion: int = choice(
        1, 2, 4, default=2, doc="units between the fully connected layers, as multiple of the width"
    )
    read: str = choice("class", "mean", default="class", doc="a learned token put before the others, or their mean")
    dropout: float = real(0.0, 0.7, default=0.1, doc="share of values set to zero in training")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (heads * head_width,) that leaves it.

        Args:
            shape: (T, F).
        """
        return (self.heads * self.head_width,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for sequences (B, T, F) and the shape (heads * head_width,) that leaves it.

        Args:
            shape: (T, F).
        """
        width = self.heads * self.head_width
        layers = [
            nn.TransformerEncoderLayer(
                width,
                self.heads,
                self.expansion * width,
                self.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(self.depth)
        ]
        return _Encoder(shape, width, layers, self.read, self.dropout), self.shape_after(shape)


class _Encoder(nn.Module):
    # The layers stand in a plain chain: nn.TransformerEncoder would begin with as many copies of the same weights.
    def __init__(
        self, shape: Shape, width: int, layers: list[nn.TransformerEncoderLayer], read: str, dropout: float
    ) -> None:
        super().__init__()
        times, features = shape
        self.project = nn.Linear(features, width)
        self.first: nn.Parameter | None = None
        if read == "class":
            self.first = nn.Parameter(torch.empty(1, 1, width))
            nn.init.normal_(self.first, std=0.02)
            times += 1
        self.positions = nn.Parameter(torch.empty(1, times, width))
        nn.init.normal_(self.positions, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return (B, width) for (B, T, F)."""
        tokens: Tensor = self.project(sequences)
        if self.first is not None:
            tokens = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.norm(self.layers(self.dropout(tokens + self.positions)))
        return tokens.mean(dim=1) if self.first is None else tokens[:, 0]
