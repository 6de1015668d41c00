"""A learning rate that falls as a cosine (survey 5.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mernas.space.registry import register


@register("schedule", "cosine", source="Loshchilov and Hutter: ICLR 2017")
@dataclass(frozen=True)
class Cosine:
    """The learning rate falls from its start towards 0 along half a cosine, without warm-up or restarts.

    Example:
        >>> [round(Cosine().factor(step, 4), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at `step` (from 0) of `steps`, in (0, 1]."""
        return (1.0 + math.cos(math.pi * step / steps)) / 2.0
