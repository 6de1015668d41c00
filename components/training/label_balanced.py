"""Rows drawn the more often the rarer their class is: a sampler (survey 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.components.training.epochs import batch_sizes
from mernas.space.registry import register


@register("sampler", "label_balanced")
@dataclass(frozen=True)
class LabelBalanced:
    """Draws as many rows as there are, with replacement, each with a probability inverse to the size of its class.

    Every class that occurs thereby comes equally often on average; a batch may lack one. Two rows are drawn where
    there is but one.

    Example:
        >>> labels = torch.tensor([0] * 900 + [1] * 100)
        >>> batches = LabelBalanced().batches(labels, 32, torch.Generator().manual_seed(0))
        >>> labels[torch.cat(batches)].bincount().tolist()
        [500, 500]
    """

    def batches(self, labels: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
        """Return the batches of one epoch: row numbers, `size` in each but the last.

        Args:
            labels: Class numbers (n,) of the training rows, on the generator's device.
            size: The size of a batch.
            generator: Draws the rows.
        """
        if not len(labels):
            return []
        chances = 1.0 / torch.bincount(labels)[labels]
        number = max(2, len(labels))
        drawn = torch.multinomial(chances, number, replacement=True, generator=generator)
        return list(torch.split(drawn, batch_sizes(number, max(2, size))))
