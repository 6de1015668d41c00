"""The mean of the last weights: an averaging (survey 5.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from mernas.components.contracts import WeightAverage
from mernas.components.training.running_average import RunningAverage
from mernas.space.parameters import real
from mernas.space.registry import register


@register("averaging", "swa", source="Izmailov et al.: Averaging weights leads to wider optima, UAI 2018")
@dataclass(frozen=True)
class SWA:
    """The mean of the weights after each of the last steps, `share` of all; of the statistics of batch norm likewise.

    The paper holds the learning rate constant or lets it cycle meanwhile; here it goes on as the schedule says.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = SWA(share=0.5).build(layer, steps=4)
        >>> for step, value in enumerate([8.0, 8.0, 1.0, 2.0]):
        ...     _ = layer.weight.data.fill_(value)
        ...     average.update(step)
        >>> average.finish()
        >>> float(layer.weight.detach())
        1.5
    """

    share: float = real(0.05, 1.0, default=0.25, doc="of the optimiser steps whose weights are averaged, the last ones")

    def build(self, network: nn.Module, steps: int) -> WeightAverage:
        """Return what collects the weights of the network over `steps` optimiser steps."""
        return _MeanOfLast(network, steps - math.ceil(self.share * steps))


class _MeanOfLast:
    def __init__(self, network: nn.Module, start: int) -> None:
        self._average = RunningAverage(network)
        self._start = start

    def update(self, step: int) -> None:
        """Take the weights after optimiser step `step` (from 0), if it is one of the last."""
        if step >= self._start:
            self._average.take(1 / (step - self._start + 1))

    def finish(self) -> None:
        """Put the mean into the network."""
        self._average.write()
