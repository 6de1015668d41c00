"""Training from scratch: a strategy (survey 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mernas.components.contracts import (
    TRAINING_ROWS,
    Augmentation,
    Averaging,
    Mixing,
    Objectives,
    Optimizer,
    Sampler,
    Schedule,
    TrainingRows,
)
from mernas.components.training.epochs import Course, run_epochs
from mernas.space.parameters import integer, one, optional
from mernas.space.registry import register


@register("training", "scratch")
@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Trains all weights from their random start, for a fixed number of epochs.

    No epoch is chosen by any score: the weights after the last epoch (or their average) are the result.

    Example:
        >>> from mernas.components.training.adamw import AdamW
        >>> from mernas.components.training.cosine import Cosine
        >>> Scratch(epochs=5, optimizer=AdamW(), schedule=Cosine()).course.epochs
        5
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    epochs: int = integer(1, 1000, default=40, log=True, doc="times that every training row is seen")
    batch: int = integer(8, 512, default=32, log=True, doc="rows per optimiser step")
    optimizer: Optimizer = one("optimizer", default="adamw", doc="how a gradient becomes a step")
    schedule: Schedule = one("schedule", default="cosine", doc="how the learning rate changes")
    sampler: Sampler | None = optional("sampler", doc="which rows make a batch; none: each once, shuffled")
    mixing: Mixing | None = optional("mixing", doc="how the clips of a batch are mixed")
    averaging: Averaging | None = optional("averaging", doc="which average of the weights is kept")

    @property
    def course(self) -> Course:
        """How its epochs go."""
        return Course(self.epochs, self.batch, self.optimizer, self.schedule, self.sampler, self.mixing, self.averaging)

    def fit(
        self,
        network: nn.Module,
        rows: TrainingRows,
        objectives: Objectives,
        augmentation: Sequence[Augmentation],
        generator: torch.Generator,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train the network in place and leave it in evaluation mode; arguments and errors as of `run_epochs`."""
        run_epochs(network, rows, objectives(rows), self.course, augmentation, generator, on_epoch)
