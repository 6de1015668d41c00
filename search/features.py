"""From clips to the shared object: the maps that some pipelines need, rows in the order of the row book."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore, RowBook
from mernas.evaluation.preparation import Recipe, prepare, recipes_of
from mernas.search.executor import Interrupted
from mernas.search.reporter import Reporter
from mernas.space.genotype import Genotype


class FeatureShelf:
    """Keeps the maps of a run, prepares what is missing, and hands out stores.

    Args:
        dataset: The clips.
        book: Which clip has which row.
        cache: The folder of prepared maps; None for the default.
        reporter: Who tells the user.
        stopping: Whether the user wants to stop; asked after every clip.
    """

    def __init__(
        self,
        dataset: Dataset,
        book: RowBook,
        cache: Path | None,
        reporter: Reporter,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clips = [dataset.clips[place] for place in book.clips]
        self._cache = cache
        self._reporter = reporter
        self._stopping = stopping
        self._maps: dict[str, Tensor] = {}

    def store(self, genotypes: Iterable[Genotype]) -> FeatureStore:
        """Return a store that holds at least the maps that some pipelines need.

        Raises:
            DataError: If a clip cannot be prepared.
            Interrupted: If `stopping` said so; what was prepared of the recipe under way is lost.
        """
        for recipe in recipes_of(genotypes):
            if recipe.hash not in self._maps:
                self._maps[recipe.hash] = torch.from_numpy(self._prepared(recipe))
        return FeatureStore(dict(self._maps))

    def _prepared(self, recipe: Recipe) -> NDArray[np.float32]:
        started = False

        def progress(done: int, total: int) -> None:
            nonlocal started
            if not started:
                self._reporter.stage(f"Preparing {recipe.title}", total)
                started = True
            self._reporter.advance()
            if done < total and self._stopping():
                raise Interrupted

        return prepare(self._clips, recipe, self._cache, os.cpu_count() or 1, progress)
