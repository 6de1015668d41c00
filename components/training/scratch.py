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
    NotFiniteError,
    Optimizer,
    Schedule,
    TrainingRows,
)
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import integer, one
from mernas.space.registry import register


@register("training", "scratch")
@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Trains all weights from their random start, for a fixed number of epochs, on shuffled mini-batches.

    No epoch is chosen by any score: the weights after the last epoch are the result.

    Example:
        >>> from mernas.components.training.adamw import AdamW
        >>> from mernas.components.training.cosine import Cosine
        >>> Scratch(epochs=5, optimizer=AdamW(), schedule=Cosine()).batches(65)
        [32, 33]
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS

    epochs: int = integer(1, 1000, default=40, log=True, doc="times that every training row is seen")
    batch: int = integer(8, 512, default=32, log=True, doc="rows per optimiser step")
    optimizer: Optimizer = one("optimizer", default="adamw", doc="how a gradient becomes a step")
    schedule: Schedule = one("schedule", default="cosine", doc="how the learning rate changes")

    def batches(self, rows: int) -> list[int]:
        """Return the sizes of the batches of one epoch over `rows` rows.

        A last batch of one row is merged into the one before it: batch normalisation cannot train on a single row.
        """
        sizes = [self.batch] * (rows // self.batch)
        rest = rows - sum(sizes)
        if rest == 1 and sizes:
            sizes[-1] += 1
        elif rest:
            sizes.append(rest)
        return sizes

    def fit(
        self,
        network: nn.Module,
        rows: TrainingRows,
        loss: nn.Module,
        augmentation: Sequence[Augmentation],
        generator: torch.Generator,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train the network in place and leave it in evaluation mode.

        Args:
            network: From a list of maps (B, C, H, W), one for each stream, to logits (B, classes).
            rows: The training rows.
            loss: From logits and targets (B,) to a scalar.
            augmentation: Applied to every batch, in this order.
            generator: For the order of the rows and for augmentation. Dropout draws from torch's global generator,
                which the caller seeds as for the weights.
            on_epoch: Called with n after epoch n, counted from 1; it may leave the network in evaluation mode.

        Raises:
            DataError: If there are no rows.
            NotFiniteError: After the first epoch whose loss is not a number, or if a weight is none at the end.
        """
        labels = rows.labels
        if not len(labels):
            raise DataError(Problem("training rows", "must be at least one", "0"))
        channels = [rows.channels(stream) for stream in range(rows.streams)]
        sizes = self.batches(len(labels))
        optimizer = self.optimizer.build(list(network.parameters()))
        starts = [group["lr"] for group in optimizer.param_groups]
        step, steps = 0, self.epochs * len(sizes)
        for epoch in range(1, self.epochs + 1):
            network.train()
            # Summed where it is and looked at once an epoch: asking for each value would stall an accelerator.
            total = torch.zeros((), device=labels.device)
            order = torch.randperm(len(labels), generator=generator, device=generator.device).to(labels.device)
            for batch in torch.split(order, sizes):
                maps = rows.take(batch)
                for change in augmentation:
                    maps = change.apply(maps, channels, generator)
                optimizer.zero_grad(set_to_none=True)
                value = loss(network(maps), labels[batch])
                value.backward()
                factor = self.schedule.factor(step, steps)
                for group, start in zip(optimizer.param_groups, starts, strict=True):
                    group["lr"] = start * factor
                optimizer.step()
                total += value.detach()
                step += 1
            if not torch.isfinite(total):
                rule = "the loss is no longer a finite number"
                raise NotFiniteError(Problem("training", rule, f"epoch {epoch}", "lower the learning rate"))
            if on_epoch is not None:
                on_epoch(epoch)
        network.eval()
        # The last step comes after the last loss.
        if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
            rule = "a weight is not a finite number"
            raise NotFiniteError(Problem("training", rule, "after the last epoch", "lower the learning rate"))
