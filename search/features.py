"""From clips to the shared object: the maps that some pipelines need, rows in the order of the row book."""

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
from mernas.evaluation.preparation import Recipe, prepare, recipes_of
from mernas.evaluation.rows import RowBook
from mernas.search.executor import Interrupted
from mernas.search.reporter import Reporter
from mernas.search.workers import cores
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
        self._dataset = dataset
        self._clips = [dataset.clips[place] for place in book.clips]
        self._cache = cache
        self._reporter = reporter
        self._stopping = stopping
        self._maps: dict[str, Tensor] = {}
        self._source: SourceRows | None = None

    def store(self, genotypes: Iterable[Genotype]) -> FeatureStore:
        """Return a store that holds at least the maps that some pipelines need.

        Raises:
            DataError: If a clip cannot be prepared.
            Interrupted: If `stopping` said so; the clips that are finished by then are kept.
        """
        genotypes = list(genotypes)
        for recipe in recipes_of(genotypes):
            if recipe.hash not in self._maps:
                self._maps[recipe.hash] = torch.from_numpy(self._prepared(recipe, self._clips))
        source = self._source_rows(genotypes)
        return FeatureStore(dict(self._maps), source)

    def _source_rows(self, genotypes: Sequence[Genotype]) -> SourceRows | None:
        """The source domain, its maps prepared too, if some pipeline learns from it."""
        learning = [genotype for genotype in genotypes if learns_from_source(genotype)]
        source = self._dataset.source
        if not learning or source is None:
            return self._source
        for recipe in recipes_of(learning):
            if source_key(recipe.hash) not in self._maps:
                maps = self._prepared(recipe, source.clips, " of the source domain")
                self._maps[source_key(recipe.hash)] = torch.from_numpy(maps)
        if self._source is None:
            units = source.units
            self._source = SourceRows(
                torch.from_numpy(source.labels), None if units is None else torch.from_numpy(units)
            )
        return self._source

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
