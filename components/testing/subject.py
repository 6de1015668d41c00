"""What a check is about: a component by its declaration, with some settings of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from mernas.components.testing.sampling import sample_leaves
from mernas.space.genotype import Leaf, instantiate
from mernas.space.registry import Declaration, Registry

DRAWN = 2
"""How many settings are drawn beside the default one."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A component that is checked.

    Attributes:
        declaration: What it says of itself.
        registry: Where it and the components for its slots are registered.
        seed: Which settings are drawn.
    """

    declaration: Declaration
    registry: Registry
    seed: int = 0

    @functools.cached_property
    def leaves(self) -> list[Leaf]:
        """The default setting, if there is one, and some drawn ones."""
        return sample_leaves(self.declaration, self.seed, DRAWN, self.registry)

    def settings(self) -> Iterator[tuple[str, Any]]:
        """Yield components, each with what messages call it."""
        for leaf in self.leaves:
            yield self.called(leaf), instantiate(leaf, self.registry)

    def called(self, leaf: Leaf) -> str:
        """Return what messages call a setting."""
        component = instantiate(leaf, self.registry)
        return f"{self.declaration.title}, {component!r}"


Check: TypeAlias = Callable[[Subject], None]
"""Raises an `AssertionError` where something does not hold; the first line of its docstring is the rule."""
