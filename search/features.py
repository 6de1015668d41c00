"""From clips to the shared object: the maps that some pipelines need, rows in the order of the row book.

A search has hundreds of recipes, whose maps together may take more memory than there is. The shelf holds those that
were used lately. All others are read again from the preparation cache when a pipeline needs them, which takes some
milliseconds, so that more than a little is not worth holding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.custody import FeatureStore, SourceRows, source_key
from mernas.evaluation.jobs import learns_from_source
from mernas.evaluation.limits import free_memory
from mernas.evaluation.preparation import Recipe, prepare, recipes_of
from mernas.evaluation.rows import RowBook
from mernas.search.executor import Interrupted
from mernas.search.recent import Recent
from mernas.search.reporter import Reporter
from mernas.search.workers import cores
from mernas.space.genotype import Genotype

MOST_HELD = 512 << 20
"""So many bytes of maps does a shelf hold beyond those of the stores that are in use, or less on a small machine."""
SHARE_HELD = 0.1
"""At most this part of what is free: jobs may allocate four fifths of it (`mernas.evaluation.limits.SHARE`)."""


class FeatureShelf:
    """Holds the maps that were used lately, prepares what is missing, and hands out stores.

    Args:
        dataset: The clips.
        book: Which clip has which row.
        cache: The folder of prepared maps; None for the default.
        reporter: Who tells the user.
        stopping: Whether the user wants to stop; asked after every clip.
        most: How many bytes of maps to hold, beside those of the stores that are in use; by default a small part of
            the memory that is free.
    """

    def __init__(
        self,
        dataset: Dataset,
        book: RowBook,
        cache: Path | None,
        reporter: Reporter,
        stopping: Callable[[], bool] = lambda: False,
        most: int | None = None,
    ) -> None:
        self._dataset = dataset
        self._clips = [dataset.clips[place] for place in book.clips]
        self._cache = cache
        self._reporter = reporter
        self._stopping = stopping
        self._held = Recent[Tensor](_most_held() if most is None else most)
        self._source: SourceRows | None = None
        self._origin = object()

    def store(self, genotypes: Iterable[Genotype]) -> FeatureStore:
        """Return a store that holds the maps that some pipelines need, and no others.

        Raises:
            DataError: If a clip cannot be prepared.
            Interrupted: If `stopping` said so; the clips that are finished by then are kept.
        """
        genotypes = list(genotypes)
        maps = {recipe.hash: self._maps(recipe.hash, recipe, self._clips) for recipe in recipes_of(genotypes)}
        learning = [genotype for genotype in genotypes if learns_from_source(genotype)]
        source = self._dataset.source
        if not learning or source is None:
            return FeatureStore(maps, None, self._origin)
        for recipe in recipes_of(learning):
            key = source_key(recipe.hash)
            maps[key] = self._maps(key, recipe, source.clips, " of the source domain")
        if self._source is None:
            units = source.units
            self._source = SourceRows(
                torch.from_numpy(source.labels), None if units is None else torch.from_numpy(units)
            )
        return FeatureStore(maps, self._source, self._origin)

    def _maps(self, key: str, recipe: Recipe, clips: Sequence[Clip], which: str = "") -> Tensor:
        """The maps of some clips, rows in their order."""
        maps = self._held.get(key)
        if maps is None:
            maps = torch.from_numpy(self._prepared(recipe, clips, which))
            self._held.keep(key, maps, maps.nbytes)
        return maps

    def _prepared(self, recipe: Recipe, clips: Sequence[Clip], which: str = "") -> NDArray[np.float32]:
        started = False

        def progress(done: int, total: int) -> None:
            nonlocal started
            if not started:
                self._reporter.stage(f"Preparing {recipe.title}{which}", total)
                started = True
            self._reporter.advance()
            if done < total and self._stopping():
                raise Interrupted

        return prepare(clips, recipe, self._cache, cores(), progress)


def _most_held() -> int:
    free = free_memory()
    return MOST_HELD if free is None else min(MOST_HELD, int(free * SHARE_HELD))
