"""Answers as numbers: what a surrogate reads of a genotype.

Every question has columns of its own: a number as it is (its logarithm where the range is logarithmic), scaled to
[0, 1] and -1 where the question was not asked; a choice one column per value, and one that says that it was not asked.
With a thousand genotypes most of these are nearly empty, because a question's name tells its place and what stands
there. So questions that differ in their place alone (`streams.0.backbone.1.…`) are also read together: the mean of a
number over its places, and how often each value of a choice was given. The last column is log10 of the parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.space.parameters import Choices, Domain, Primitive

Located = Mapping[str, tuple[Primitive, Domain]]
"""The answers of one genotype and their domains, as `SearchSpace.locate` gives them."""
NOT_ASKED = "not asked"
MISSING = -1.0


@dataclass(frozen=True)
class _Column:
    question: str
    together: bool
    level: str | None  # None for a number


class Encoder:
    """Encodes genotypes by the questions that some known genotypes were asked; others are not looked at.

    Args:
        known: The answers of the genotypes that a surrogate is fitted to.

    Example:
        >>> from mernas.space.parameters import Integer
        >>> encoder = Encoder([{"width": (4, Integer(2, 6)), "pool": ("max2", Choices(("max2", "none")))}])
        >>> encoder.encode([{"width": (3, Integer(2, 6))}], [100]).round(2).tolist()
        [[0.0, 0.0, 1.0, 0.25, 0.0, 0.0, 0.25, 2.0]]
    """

    def __init__(self, known: Sequence[Located]) -> None:
        domains: dict[str, Domain] = {}
        levels: dict[str, set[str]] = {}
        for located in known:
            for name, (_, domain) in located.items():
                domains[name] = domain
                if isinstance(domain, Choices):
                    levels.setdefault(name, set()).update(map(str, domain.values))
                    levels.setdefault(everywhere(name), set()).update(map(str, domain.values))
        self._columns: list[_Column] = []
        for together in (False, True):
            named = {everywhere(name): domain for name, domain in domains.items()} if together else domains
            for name, domain in sorted(named.items()):
                if isinstance(domain, Choices):
                    shown = sorted(levels[name]) if together else [*sorted(levels[name]), NOT_ASKED]
                    self._columns += [_Column(name, together, level) for level in shown]
                else:
                    self._columns.append(_Column(name, together, None))

    def encode(self, rows: Sequence[Located], parameters: Sequence[int]) -> NDArray[np.float64]:
        """Return (n, columns).

        Args:
            rows: The answers of some genotypes.
            parameters: Their parameter counts.
        """
        encoded = np.empty((len(rows), len(self._columns) + 1))
        for place, (located, count) in enumerate(zip(rows, parameters, strict=True)):
            encoded[place, :-1] = self._row(located)
            encoded[place, -1] = math.log10(max(count, 1))
        return encoded

    def _row(self, located: Located) -> list[float]:
        alone: dict[str, str | float] = {}
        numbers: dict[str, list[float]] = {}
        counts: dict[tuple[str, str], int] = {}
        for name, (value, domain) in located.items():
            shared = everywhere(name)
            if isinstance(domain, Choices):
                alone[name] = str(value)
                counts[shared, str(value)] = counts.get((shared, str(value)), 0) + 1
            else:
                number = _scaled(float(value), domain)
                alone[name] = number
                numbers.setdefault(shared, []).append(number)
        row: list[float] = []
        for column in self._columns:
            if column.level is None and column.together:
                found = numbers.get(column.question)
                row.append(sum(found) / len(found) if found else MISSING)
            elif column.level is None:
                value = alone.get(column.question, MISSING)
                row.append(float(value))
            elif column.together:
                row.append(float(counts.get((column.question, column.level), 0)))
            else:
                row.append(float(alone.get(column.question, NOT_ASKED) == column.level))
        return row


def everywhere(question: str) -> str:
    """Return a question's name without its place.

    Example:
        >>> everywhere("streams.0.backbone.1.residual.width")
        'streams.*.backbone.*.residual.width'
    """
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", question)


def _scaled(value: float, domain: Domain) -> float:
    assert not isinstance(domain, Choices)
    low, high = float(domain.low), float(domain.high)
    if domain.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.0
