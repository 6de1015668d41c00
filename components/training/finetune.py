"""Fine-tuning: first macro-expressions of other people, then the micro-expressions (survey 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from mernas.components.contracts import TRAINING_ROWS, Augmentation, Objectives, Optimizer, Schedule, TrainingRows
from mernas.components.topologies.network import Network
from mernas.components.training.epochs import Course, run_epochs
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice, integer, one, real
from mernas.space.registry import register
from mernas.space.taxonomy import SOURCE


@register(
    "training",
    "finetune",
    source="Patel, Hong, Zhao, Selective deep features for micro-expression recognition, ICPR 2016",
    needs={SOURCE},
    version=2,  # 1 trained on with the statistics and the dropout of frozen streams
)
@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Trains on macro-expressions of people who are in no fold, then goes on with the training rows.

    Macro-expressions move the same muscles further and longer, and are easier to come by. Both stages have fixed
    numbers of epochs. The normalisation is fitted on the training rows and serves both. Frozen streams work as in
    evaluation in the second stage: their weights and the statistics of their norms stay, and they drop nothing.

    Example:
        >>> from mernas.components.training.adamw import AdamW
        >>> from mernas.components.training.cosine import Cosine
        >>> Finetune(optimizer=AdamW(), schedule=Cosine(), rate=0.1).second.rate
        0.1
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    source_epochs: int = integer(1, 1000, default=20, log=True, doc="epochs on the macro-expressions")
    epochs: int = integer(1, 1000, default=20, log=True, doc="epochs on the training rows")
    batch: int = integer(8, 512, default=32, log=True, doc="rows per optimiser step")
    rate: float = real(0.01, 1.0, default=0.3, log=True, doc="learning rate of the second stage, by that of the first")
    head: str = choice("keep", "reset", default="keep", doc="what the second stage does with the head of the first")
    frozen: str = choice("none", "streams", default="none", doc="what the second stage leaves as it is")
    optimizer: Optimizer = one("optimizer", default="adamw", doc="how a gradient becomes a step")
    schedule: Schedule = one("schedule", default="cosine", doc="how the learning rate changes")

    @property
    def first(self) -> Course:
        """The stage on the macro-expressions."""
        return Course(self.source_epochs, self.batch, self.optimizer, self.schedule)

    @property
    def second(self) -> Course:
        """The stage on the training rows."""
        return Course(self.epochs, self.batch, self.optimizer, self.schedule, rate=self.rate)

    def fit(
        self,
        network: nn.Module,
        rows: TrainingRows,
        objectives: Objectives,
        augmentation: Sequence[Augmentation],
        generator: torch.Generator,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train the network in place and leave it in evaluation mode; arguments and errors as of `run_epochs`.

        `on_epoch` is called for the epochs of the second stage.

        Raises:
            DataError: If the rows come without a source domain.
        """
        source = rows.source
        if source is None:
            rule = "needs macro-expressions of other people"
            raise DataError(Problem('training "finetune"', rule, "none", "use data that provide a source domain"))
        built = cast(Network, network)
        run_epochs(network, source, objectives(source), self.first, augmentation, generator)
        if self.head == "reset":
            _reset(built.task)
        frozen = [built.streams] if self.frozen == "streams" else []
        run_epochs(network, rows, objectives(rows), self.second, augmentation, generator, on_epoch, frozen)


def _reset(task: nn.Module) -> None:
    """Draw the weights of the head again, from torch's global generator."""
    for module in task.modules():
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            again()
