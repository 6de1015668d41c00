"""Parameter counts, each worked out once per process: exact, on the meta device, never predicted."""

from __future__ import annotations

from collections.abc import Callable

from mernas.components.topologies.network import count_parameters
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype


class Measure:
    """Counts the parameters of genotypes and remembers the counts.

    Args:
        classes: How many classes are told apart.
        count: Counts the parameters of a genotype; raises SpaceError where it does not build.
    """

    def __init__(self, classes: int, count: Callable[[Genotype, int], int] = count_parameters) -> None:
        self._classes = classes
        self._count = count
        self._known: dict[str, int | None] = {}

    def __call__(self, genotype: Genotype) -> int | None:
        """Return the parameter count, or None where the genotype does not build."""
        key = genotype.hash
        if key not in self._known:
            try:
                self._known[key] = self._count(genotype, self._classes)
            except SpaceError:
                self._known[key] = None
        return self._known[key]
