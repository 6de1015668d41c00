"""Training rows in memory, for checks and tests: they refuse every row that is not theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.errors import CustodyError, Problem
from mernas.space.genotype import Leaf


@dataclass(frozen=True, eq=False)
class SampleRows:
    """What a fitted step, a loss or a strategy is handed; see `mernas.components.contracts.TrainingRows`.

    Attributes:
        tensors: The maps of every stream, (n, ...).
        labels: Class numbers (n,).
        classes: How many classes there are.
        names: The channel names of every stream; numbers if none are given.
        units: Action units (n, U), or None.
        source: Rows of the source domain, or None.

    Example:
        >>> rows = SampleRows((torch.zeros(4, 2),), torch.tensor([0, 1, 0, 1]))
        >>> rows.take([4])
        Traceback (most recent call last):
        ...
        mernas.space.errors.CustodyError: training rows: only rows 0 to 3 are there, found row 4.
    """

    tensors: tuple[Tensor, ...]
    labels: Tensor
    classes: int = 2
    names: tuple[tuple[str, ...], ...] = ()
    units: Tensor | None = None
    source: SampleRows | None = None

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self.tensors)

    def channels(self, stream: int) -> tuple[str, ...]:
        """Return the channel names of a stream."""
        if self.names:
            return self.names[stream]
        return tuple(f"channel {number}" for number in range(self.tensors[stream].shape[1]))

    def maps(self, stream: int) -> Tensor:
        """Return all maps of a stream."""
        return self.tensors[stream]

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        """Return the maps of some rows.

        Raises:
            CustodyError: If one of them is not there.
        """
        index = torch.as_tensor(rows, dtype=torch.int64)
        strange = [int(row) for row in index.flatten() if not 0 <= int(row) < len(self.labels)]
        if strange:
            rule = f"only rows 0 to {len(self.labels) - 1} are there"
            raise CustodyError(Problem("training rows", rule, f"row {strange[0]}"))
        return [maps.index_select(0, index) for maps in self.tensors]

    def held_by(self, component: Leaf) -> SampleRows:
        """Return the same rows in the name of a component."""
        return self

    def content(self) -> list[Tensor]:
        """Return copies of all that it holds, to be compared with later."""
        kept = [*self.tensors, self.labels, *(() if self.units is None else (self.units,))]
        return [tensor.clone() for tensor in kept] + ([] if self.source is None else self.source.content())

    def unchanged(self, content: Sequence[Tensor]) -> bool:
        """Return whether it still holds what it held when `content` was taken."""
        return all(
            torch.equal(torch.nan_to_num(now, 9e9), torch.nan_to_num(then, 9e9))
            for now, then in zip(self.content(), content, strict=True)
        )
