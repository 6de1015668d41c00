"""Zero mean and unit spread per channel: a normalisation (survey 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, Shape, TrainingRows
from mernas.space.registry import register


@register("normalisation", "standardise")
@dataclass(frozen=True)
class Standardise:
    """Subtracts from each channel its mean and divides by its standard deviation, over training rows and pixels.

    A channel that never changes is only centred. One figure per channel, not per pixel, leaves the pattern of a map
    as it is. The channels of a video are taken over its frames as well; what is a channel in maps is a feature in
    graphs, where it is taken over the nodes, and in vectors.

    Example:
        >>> Standardise().build((3, 28, 28))(torch.ones(1, 3, 28, 28)).mean()  # not fitted yet: nothing changes
        tensor(1.)
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape: Shape) -> nn.Module:
        """Return the unfitted module; its statistics are buffers.

        Args:
            shape: (C, H, W), (C, T, H, W), (N, F) or (F,).
        """
        return _StandardiseModule((shape[0], *(1 for _ in shape[1:])) if len(shape) > 2 else shape[-1:])

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        """Set the statistics of the module of one stream from the training rows."""
        maps = rows.maps(stream)
        kept = 1 if maps.ndim > 3 else maps.ndim - 1
        others = tuple(axis for axis in range(maps.ndim) if axis != kept)
        spread, mean = torch.std_mean(maps, dim=others, correction=0, keepdim=True)
        # A constant channel has, by rounding, a spread of some 1e-7 of its mean; dividing by that would blow up noise.
        constant = spread <= 1e-6 * mean.abs()
        spread = torch.where(constant, torch.ones_like(spread), spread)
        for name, figures in (("mean", mean), ("spread", spread)):
            buffer = module.get_buffer(name)
            buffer.copy_(figures.reshape(buffer.shape))


class _StandardiseModule(nn.Module):
    mean: Tensor
    spread: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps, graphs or vectors of the same shape, the batch first."""
        return (maps - self.mean) / self.spread
