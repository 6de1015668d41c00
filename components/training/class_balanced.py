"""Batches of several clips of several classes: a sampler (survey 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.registry import register
from mernas.space.taxonomy import BALANCED_BATCHES


@register("sampler", "class_balanced", source="Hermans, Beyer, Leibe: arXiv 1703.07737", provides={BALANCED_BATCHES})
@dataclass(frozen=True)
class ClassBalanced:
    """Every batch holds P classes with K clips each, so that rare classes come as often as common ones.

    P is the number of classes that occur, or half the size of a batch if that is less, but two where two occur; K, at
    least two, fills the batch as far as it goes. An epoch has about as many rows as there are, every class comes
    equally often (or once more than another), and so does every clip of a class. A clip comes twice in one batch only
    where its class has fewer than K.

    Example:
        >>> labels = torch.tensor([0] * 20 + [1] * 4)
        >>> batches = ClassBalanced().batches(labels, 8, torch.Generator().manual_seed(0))
        >>> [labels[batch].bincount().tolist() for batch in batches]
        [[4, 4], [4, 4], [4, 4]]
    """

    def batches(self, labels: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
        """Return the batches of one epoch: row numbers, as many in each.

        Args:
            labels: Class numbers (n,) of the training rows, on the generator's device.
            size: The wanted size of a batch; fewer rows than that are one batch.
            generator: Draws the rows.
        """
        if not len(labels):
            return []
        size = min(size, len(labels))
        present = torch.bincount(labels).nonzero()[:, 0]
        classes = min(len(present), max(2, size // 2))
        clips = max(2, size // classes)
        number = max(1, round(len(labels) / (classes * clips)))
        turns = rounds(present, number * classes, classes, generator)
        rows = torch.empty(number * classes, clips, dtype=torch.int64, device=labels.device)
        for label in present:
            turn = turns == label
            members = (labels == label).nonzero()[:, 0]
            rows[turn] = rounds(members, int(turn.sum()) * clips, clips, generator).view(-1, clips)
        return list(rows.view(number, classes * clips))


def rounds(items: Tensor, length: int, group: int, generator: torch.Generator) -> Tensor:
    """Return `length` items, drawn in rounds through all of them in a new random order each time.

    Each comes equally often, or once more than another, and none twice in one of the groups of `group` items that
    follow each other, if there are so many.

    Example:
        >>> drawn = rounds(torch.arange(3), 6, 2, torch.Generator().manual_seed(0))
        >>> sorted(drawn.tolist()), [len(set(pair.tolist())) for pair in drawn.split(2)]
        ([0, 0, 1, 1, 2, 2], [2, 2, 2])
    """
    drawn = items[:0]
    while len(drawn) < length:
        order = items[torch.randperm(len(items), generator=generator, device=generator.device)]
        begun = drawn[len(drawn) - len(drawn) % group :]  # a group that is not full: what is in it comes last
        again = torch.isin(order, begun)
        drawn = torch.cat([drawn, order[~again], order[again]])
    return drawn[:length]
