"""Maps as they are: the normalisation that does nothing (survey 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mernas.components.contracts import TRAINING_ROWS, Shape, TrainingRows
from mernas.space.registry import register


@register("normalisation", "raw")
@dataclass(frozen=True)
class Raw:
    """Hands the maps on in the units in which the input prepares them.

    Example:
        >>> Raw().build((3, 28, 28))
        Identity()
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape: Shape) -> nn.Module:
        """Return a module that gives what it is given, whatever the shape (C, H, W)."""
        return nn.Identity()

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        """Fit nothing: there are no statistics."""
