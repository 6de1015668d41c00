"""A learning rate that rises, then falls as a cosine (survey 5.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mernas.space.parameters import real
from mernas.space.registry import register


@register("schedule", "warm_cosine", source="Goyal et al.: arXiv 1706.02677; Loshchilov and Hutter: ICLR 2017")
@dataclass(frozen=True)
class WarmCosine:
    """The learning rate rises in equal steps to its full value, then falls towards 0 along half a cosine.

    Example:
        >>> [round(WarmCosine(warm=0.4).factor(step, 5), 3) for step in range(5)]
        [0.5, 1.0, 1.0, 0.75, 0.25]
    """

    warm: float = real(0.01, 0.5, default=0.1, doc="share of the steps in which it rises")

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at `step` (from 0) of `steps`, in (0, 1]."""
        rising = int(self.warm * steps)
        if step < rising:
            return (step + 1) / rising
        return (1.0 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2.0
