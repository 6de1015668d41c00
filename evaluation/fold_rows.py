"""The rows of several folds: maps that lie in memory once, and for each fold which of them it may train on.

Labels are one vector per fold over all rows of the batch of folds, and masked outside the fold's own training rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mernas.evaluation.custody import FeatureStore, TrainingView, chosen
from mernas.evaluation.jobs import Job
from mernas.space.errors import CustodyError, Problem

MASKED = -1
"""Stands in the place of a label that a fold must not see; it is no class, so that a loss that sees it fails."""


class SharedMaps:
    """Maps of some rows, on a device; streams of one recipe share one tensor.

    Args:
        store: All maps.
        recipes: For every stream, the hash of its recipe.
        rows: Which rows, ascending (U,).
        device: Where they are to lie.
    """

    def __init__(self, store: FeatureStore, recipes: Sequence[str], rows: np.ndarray, device: str) -> None:
        kept = {recipe: store.select(recipe, rows).to(device) for recipe in dict.fromkeys(recipes)}
        self._maps = [kept[recipe] for recipe in recipes]

    def chosen(self, places: Tensor) -> list[Tensor]:
        """Return for every stream the maps (B, ...) at some places among the rows (B,)."""
        unique = {id(maps): maps for maps in self._maps}
        found = {key: chosen(maps, places) for key, maps in unique.items()}
        return [found[id(maps)] for maps in self._maps]


class FoldRows(SharedMaps):
    """The training rows of jobs that train together.

    Args:
        jobs: At least one.
        store: The maps.
        recipes: For every stream, the hash of its recipe.
        channels: For every stream, the names of its channels.
        device: Where the maps are to lie.

    Attributes:
        rows: The rows that some fold trains on, ascending (U,); no other row is read.
        channels: For every stream, the names of its channels.
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
        self.channels = list(channels)
        self._device = device
        super().__init__(store, recipes, self.rows, device)
        self._own = [torch.from_numpy(np.searchsorted(self.rows, job.train_rows)) for job in jobs]

    def __len__(self) -> int:
        return len(self._own)

    def view(self, fold: int, job: Job) -> TrainingView:
        """Return the training rows of a fold as components are handed them, on the device.

        Args:
            fold: Which fold.
            job: Its job.
        """
        own = self._own[fold].to(self._device)
        labels = torch.from_numpy(job.train_labels).to(self._device)
        return TrainingView(self.chosen(own), labels, job.classes, self.channels)

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
        """Return where the rows of a batch lie among all, (B,), on the processor.

        Args:
            fold: Which fold.
            batch: Numbers within the fold's training rows (B,).

        Raises:
            CustodyError: If a number lies outside them.
        """
        count = len(self._own[fold])
        if len(batch) and (int(batch.min()) < 0 or int(batch.max()) >= count):
            strange = sorted({int(row) for row in batch if not 0 <= int(row) < count})
            rule = f"asked for rows outside the {count} training rows of its job"
            raise CustodyError(Problem(f"fold {fold}", rule, ", ".join(map(str, strange[:5])), "this is refused"))
        return self._own[fold][batch]


class HeldOut(SharedMaps):
    """The rows that the folds predict. Their maps lie apart from those of the training rows, and they have no label.

    Args:
        jobs: One for each fold.
        store: The maps.
        recipes: For every stream, the hash of its recipe.
        device: Where the maps are to lie.
    """

    def __init__(self, jobs: Sequence[Job], store: FeatureStore, recipes: Sequence[str], device: str) -> None:
        rows = np.unique(np.concatenate([job.predict_rows for job in jobs]))
        super().__init__(store, recipes, rows, device)
        self.counts = [len(job.predict_rows) for job in jobs]
        # Folds with fewer rows are filled up with their own first one: in evaluation no row depends on another.
        places = [np.searchsorted(rows, job.predict_rows) for job in jobs]
        filled = [np.pad(own, (0, max(self.counts) - len(own)), mode="edge") for own in places]
        self._places = torch.from_numpy(np.stack(filled)).to(device)

    def places(self, fold: int) -> Tensor:
        """Return where the rows of a fold lie among all, filled up to the most that a fold has, (M,)."""
        return self._places[fold]
