"""A learning rate that falls at a few steps (survey 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from mernas.space.parameters import integer, real
from mernas.space.registry import register


@register("schedule", "step")
@dataclass(frozen=True)
class Step:
    """The learning rate is multiplied by `factor_per_drop` at `drops` steps, which part the training into equal parts.

    Example:
        >>> [Step(drops=1, factor_per_drop=0.1).factor(step, 4) for step in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """

    drops: int = integer(1, 5, default=2, doc="how often it falls")
    factor_per_drop: float = real(0.05, 0.9, default=0.1, log=True, doc="by what it is multiplied each time")

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at `step` (from 0) of `steps`, in (0, 1]."""
        passed: int = step * (self.drops + 1) // steps
        return float(self.factor_per_drop**passed)
