"""Custody of labels and rows: who may see what, enforced where it is handed over.

What travels to where training happens is a `FeatureStore`, maps addressed by row number, and jobs, which bear the
labels of their own training rows. Row numbers are a shuffle of the sorted clip keys by the run's seed, because the
order of paths tells the class in several releases. Keys, subjects and the labels of held-out clips stay in the driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.contracts import TRAINING_ROWS
from mernas.space.errors import CustodyError, Problem
from mernas.space.genotype import Leaf, instantiate


@dataclass(frozen=True, eq=False)
class SourceRows:
    """Annotations of the source domain: macro-expressions of people who are in no fold. Every job may learn from all.

    Attributes:
        labels: Class numbers (M,).
        units: Action units (M, U), or None.
    """

    labels: Tensor
    units: Tensor | None = None


def source_key(recipe: str) -> str:
    """Return where a store keeps the maps of the source domain for a recipe."""
    return f"{recipe} source"


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """The shared object: maps by recipe and row number. It holds no name, path or label of anyone who is ever tested.

    Attributes:
        maps: Tensors (N, ...) by recipe hash; those of the source domain (M, ...) by `source_key`.
        source: The annotations of the source domain; None unless some pipeline learns from it.
        origin: Which clips, in which order, the maps are of: stores of one origin hold equal maps under equal keys. By
            default there is no other store of the same origin.
    """

    maps: Mapping[str, Tensor]
    source: SourceRows | None = None
    origin: object = field(default_factory=object)

    def select(self, recipe: str, rows: NDArray[np.int64]) -> Tensor:
        """Return a copy of the maps of some rows."""
        return self.maps[recipe].index_select(0, torch.from_numpy(rows))


class TrainingView:
    """The training rows of one job, as components are handed them; see `mernas.components.contracts.TrainingRows`.

    Args:
        maps: For every stream, the maps (n, ...) of the training rows.
        labels: Their class numbers (n,).
        classes: How many classes there are.
        channels: The channel names of every stream.
        holder: The component that holds this view, for messages.
        units: Their action units (n, U), or None.
        source: The rows of the source domain, or None.
    """

    def __init__(
        self,
        maps: Sequence[Tensor],
        labels: Tensor,
        classes: int,
        channels: Sequence[tuple[str, ...]],
        holder: str = "the engine",
        units: Tensor | None = None,
        source: TrainingView | None = None,
    ) -> None:
        self._maps = list(maps)
        self._labels = labels
        self._classes = classes
        self._channels = list(channels)
        self._holder = holder
        self._units = units
        self._source = source

    def held_by(self, component: Leaf) -> TrainingView:
        """Return the same view in the name of a component, checking the fit scope that it declares.

        Raises:
            CustodyError: If the component wants more than the training rows of its job.
        """
        title = f'{component.axis} "{component.name}"'
        scope = getattr(instantiate(component), "fit_scope", None)
        if scope != TRAINING_ROWS:
            rule = f'may only be fitted on the {TRAINING_ROWS} of its job (fit_scope = "{TRAINING_ROWS}")'
            raise CustodyError(Problem(title, rule, repr(scope), "narrow its fit scope"))
        source = self._source.held_by(component) if self._source is not None else None
        return TrainingView(self._maps, self._labels, self._classes, self._channels, title, self._units, source)

    @property
    def labels(self) -> Tensor:
        """Class numbers (n,), int64."""
        return self._labels

    @property
    def units(self) -> Tensor | None:
        """Action units (n, U) float32: 1 shown, 0 not shown, NaN not annotated; None where the data have none."""
        return self._units

    @property
    def source(self) -> TrainingView | None:
        """Rows of the source domain, of other people than any here; None where there is none."""
        return self._source

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self._classes

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self._maps)

    def channels(self, stream: int) -> tuple[str, ...]:
        """Return the channel names of a stream."""
        return self._channels[stream]

    def maps(self, stream: int) -> Tensor:
        """Return all training maps of a stream, (n, ...)."""
        return self._maps[stream]

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        """Return the maps of some training rows for every stream; streams of one recipe are given the same tensor.

        Raises:
            CustodyError: If a row lies outside the training rows; the message names the component that asked.
        """
        index = torch.as_tensor(rows, dtype=torch.int64)
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= len(self._labels)):
            strange = sorted({int(row) for row in index if not 0 <= int(row) < len(self._labels)})
            rule = f"asked for rows outside the {len(self._labels)} training rows of its job"
            raise CustodyError(Problem(self._holder, rule, ", ".join(map(str, strange[:5])), "this is refused"))
        index = index.to(self._labels.device)
        found = {id(maps): chosen(maps, index) for maps in {id(maps): maps for maps in self._maps}.values()}
        return [found[id(maps)] for maps in self._maps]


def chosen(maps: Tensor, index: Tensor) -> Tensor:
    """Return some rows of maps (n, ...), lying in memory as those do; torch alone would lay them channels first.

    Args:
        maps: Maps (N, ...).
        index: Row numbers (n,).
    """
    if maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        return maps.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return maps.index_select(0, index)
