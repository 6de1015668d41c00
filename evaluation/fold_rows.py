"""The rows of several folds: maps that lie in memory once, and for each fold which of them it may train on.

Labels are one vector per fold over all rows of the batch of folds, and masked outside the fold's own training rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mernas.components.contracts import Augmentation
from mernas.evaluation.custody import FeatureStore, chosen
from mernas.evaluation.jobs import Job
from mernas.space.errors import CustodyError, Problem

MASKED = -1
"""Stands in the place of a label that a fold must not see; it is no class, so that a loss that sees it fails."""


class FoldRows:
    """The training rows of jobs that train together.

    Args:
        jobs: At least one.
        store: The maps.
        recipes: For every stream, the hash of its recipe.
        channels: For every stream, the names of its channels.
        device: Where the maps are to lie.

    Attributes:
        rows: The rows that some fold trains on, ascending (U,); no other row is read.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        store: FeatureStore,
        recipes: Sequence[str],
        channels: Sequence[tuple[str, ...]],
        device: str,
    ) -> None:
        self.rows = np.unique(np.concatenate([job.train_rows for job in jobs]))
        kept = {recipe: store.select(recipe, self.rows).to(device) for recipe in dict.fromkeys(recipes)}
        self._maps = [kept[recipe] for recipe in recipes]
        self._channels = list(channels)
        self._own = [torch.from_numpy(np.searchsorted(self.rows, job.train_rows)) for job in jobs]
        self._device = device

    def __len__(self) -> int:
        return len(self._own)

    def count(self, fold: int) -> int:
        """Return how many training rows a fold has."""
        return len(self._own[fold])

    def labels(self, fold: int, own: Tensor) -> Tensor:
        """Return labels for all rows (U,), `MASKED` outside the fold's training rows.

        Args:
            fold: Which fold.
            own: The labels of its training rows, in their order.
        """
        masked = torch.full((len(self.rows),), MASKED, dtype=own.dtype, device=own.device)
        masked[self._own[fold].to(own.device)] = own
        return masked

    def places(self, fold: int, batch: Tensor) -> Tensor:
        """Return where the rows of a batch lie among all, (B,).

        Args:
            fold: Which fold.
            batch: Numbers within the fold's training rows (B,).

        Raises:
            CustodyError: If a number lies outside them.
        """
        count = self.count(fold)
        if len(batch) and (int(batch.min()) < 0 or int(batch.max()) >= count):
            strange = sorted({int(row) for row in batch if not 0 <= int(row) < count})
            rule = f"asked for rows outside the {count} training rows of its job"
            raise CustodyError(Problem(f"fold {fold}", rule, ", ".join(map(str, strange[:5])), "this is refused"))
        return self._own[fold][batch]

    def take(
        self,
        folds: Sequence[int],
        batches: Sequence[Tensor],
        augmentation: Sequence[Augmentation],
        generators: Sequence[torch.Generator],
    ) -> tuple[list[Tensor], Tensor]:
        """Return the maps of a batch of each fold, for every stream (G, B, ...), and their places among all (G, B).

        Args:
            folds: Which folds.
            batches: For each of them, numbers within its training rows (B,), equally many.
            augmentation: Applied to the batch of each fold by itself.
            generators: For each of them, what its augmentation draws from.

        Raises:
            CustodyError: If a number lies outside the training rows of its fold.
        """
        places = torch.stack([self.places(fold, batch) for fold, batch in zip(folds, batches, strict=True)])
        places = places.to(self._device)
        if not augmentation:
            return self._chosen(places), places
        changed: list[list[Tensor]] = []
        for own, generator in zip(places, generators, strict=True):
            maps = self._chosen(own)
            for change in augmentation:
                maps = change.apply(maps, self._channels, generator)
            changed.append(maps)
        return [torch.stack(stream) for stream in zip(*changed, strict=True)], places

    def _chosen(self, places: Tensor) -> list[Tensor]:
        """Maps at some places of any shape, for every stream; streams of one recipe are given the same tensor."""
        unique = {id(maps): maps for maps in self._maps}
        found = {
            key: chosen(maps, places.flatten()).reshape(*places.shape, *maps.shape[1:]) for key, maps in unique.items()
        }
        return [found[id(maps)] for maps in self._maps]
