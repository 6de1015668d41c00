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
    as it is.

    Example:
        >>> Standardise().build((3, 28, 28))(torch.ones(1, 3, 28, 28)).mean()  # not fitted yet: nothing changes
        tensor(1.)
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape: Shape) -> nn.Module:
        """Return the unfitted module for maps (B, C, H, W); its statistics are buffers.

        Args:
            shape: (C, H, W).
        """
        return _StandardiseModule(shape[0])

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        """Set the statistics of the module of one stream from the training rows."""
        spread, mean = torch.std_mean(rows.maps(stream), dim=(0, 2, 3), correction=0, keepdim=True)
        # A constant channel has, by rounding, a spread of some 1e-7 of its mean; dividing by that would blow up noise.
        constant = spread <= 1e-6 * mean.abs()
        module.get_buffer("mean").copy_(mean[0])
        module.get_buffer("spread").copy_(torch.where(constant, torch.ones_like(spread), spread)[0])


class _StandardiseModule(nn.Module):
    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        return (maps - self.mean) / self.spread
