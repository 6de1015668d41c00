"""Rows: which clip has which number. Only the driver knows; what travels to where training happens are the numbers.

Row numbers are a shuffle of the sorted clip keys by the run's seed, because the order of paths tells the class in
several releases.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Dataset


@dataclass(frozen=True, eq=False)
class RowBook:
    """Which clip has which row number; only the driver holds it.

    Attributes:
        clips: Place of the clip in the dataset, by row number.
        subjects: Subject by row number.
        datasets: Dataset by row number.
        labels: Class number by row number.
        units: Action units (N, U) by row number, 1 shown, 0 not, NaN not annotated; None where there are none.
    """

    clips: NDArray[np.int64]
    subjects: tuple[str, ...]
    datasets: tuple[str, ...]
    labels: NDArray[np.int64]
    units: NDArray[np.float32] | None = None

    def rows_of(self, subjects: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of some subjects, ascending."""
        wanted = set(subjects)
        return np.array([row for row, subject in enumerate(self.subjects) if subject in wanted], dtype=np.int64)

    def rows_without(self, subjects: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of everyone but some subjects, ascending."""
        unwanted = set(subjects)
        return np.array([row for row, subject in enumerate(self.subjects) if subject not in unwanted], dtype=np.int64)


def number_rows(dataset: Dataset, seed: int) -> RowBook:
    """Return row numbers: a shuffle of the sorted clip keys by the run's seed, which knows nothing of labels."""
    places = list(range(len(dataset)))
    random.Random(f"rows {seed}").shuffle(places)
    labels, units = dataset.labels, dataset.units
    return RowBook(
        clips=np.array(places, dtype=np.int64),
        subjects=tuple(dataset.clips[place].subject for place in places),
        datasets=tuple(dataset.clips[place].dataset for place in places),
        labels=labels[places],
        units=None if units is None else units[places],
    )
