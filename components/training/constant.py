"""A constant learning rate (survey 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from mernas.space.registry import register


@register("schedule", "constant")
@dataclass(frozen=True)
class Constant:
    """The learning rate stays what it is at the start.

    Example:
        >>> Constant().factor(9, 10)
        1.0
    """

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at `step` (from 0) of `steps`: always 1."""
        return 1.0
