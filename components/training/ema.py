"""An exponential moving average of the weights: an averaging (survey 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import WeightAverage
from mernas.components.training.running_average import RunningAverage
from mernas.space.parameters import real
from mernas.space.registry import register


@register("averaging", "ema", source="Polyak and Juditsky: SIAM J. Control Optim. 30(4), 1992")
@dataclass(frozen=True)
class EMA:
    """The average forgets at each step: average = d average + (1 - d) weights, the statistics of batch norm included.

    d is `decay`, but at most (1 + t) / (10 + t) after t steps, so that trainings of a few hundred steps are not
    averages of their beginning.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = EMA(decay=0.9).build(layer, steps=2)
        >>> for step, value in enumerate([0.0, 11.0]):
        ...     _ = layer.weight.data.fill_(value)
        ...     average.update(step)
        >>> average.finish()
        >>> round(float(layer.weight.detach()), 4)  # d is 2 / 11 here
        9.0
    """

    decay: float = real(0.5, 0.9999, default=0.99, doc="share of the average that is kept at each step")

    def build(self, network: nn.Module, steps: int) -> WeightAverage:
        """Return what collects the weights of the network over `steps` optimiser steps."""
        return _MovingAverage(network, self.decay)


class _MovingAverage:
    def __init__(self, network: nn.Module, decay: float) -> None:
        self._average = RunningAverage(network)
        self._decay = decay

    def update(self, step: int) -> None:
        """Take the weights after optimiser step `step` (from 0)."""
        self._average.take(1 - min(self._decay, (1 + step) / (10 + step)))

    def finish(self) -> None:
        """Put the average into the network."""
        self._average.write()
