"""Which genotypes the table holds: half of them uniformly at random, half spread evenly over the sizes.

Drawn uniformly, as a random search draws, a space's networks crowd at a few sizes. A surrogate that was fitted to such
a draw alone would know nothing of the smallest and of the largest, and a search for small networks ends just there. So
every second genotype is drawn for an octave of parameters: of the draws from a stream of its own the next one that
falls into the octave whose turn it is; the others wait for the turn of theirs.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mernas.space.genotype import Genotype
from mernas.space.suggestion import RandomTrial
from mernas.space.tree import SearchSpace

UNIFORM, BY_SIZE = "uniform", "by size"
OCTAVES = 8
"""From the parameter limit downwards; what is smaller than all of them belongs to the last."""
PATIENCE = 1000
"""After so many draws that miss an octave its turn goes to the octave that has most draws waiting."""


@dataclass(frozen=True)
class Drawn:
    """A genotype of the table.

    Attributes:
        number: Its place, from 0.
        half: How it was drawn: `UNIFORM` or `BY_SIZE`.
        genotype: The genotype.
        parameters: Its parameter count; None if it does not build.
    """

    number: int
    half: str
    genotype: Genotype
    parameters: int | None


def octave(parameters: int, limit: int) -> int:
    """Return how often a size can be doubled within the limit, at most `OCTAVES` - 1.

    Example:
        >>> octave(50_000, 50_000), octave(20_000, 50_000), octave(3, 50_000)
        (0, 1, 7)
    """
    return min(math.floor(math.log2(limit / max(parameters, 1))), OCTAVES - 1)


def draw(space: SearchSpace, seed: int, limit: int, measure: Callable[[Genotype], int | None]) -> Iterator[Drawn]:
    """Yield distinct genotypes without end; how many are taken does not change which come first.

    Genotypes above the parameter limit are drawn again. Those that do not build are yielded where the uniform half
    meets them, since a search meets them as often.

    Args:
        space: What is drawn from.
        seed: One seed, one sequence.
        limit: The largest parameter count.
        measure: Returns a genotype's parameter count, or None where it does not build.
    """
    seen: set[str] = set()
    numbers = itertools.count()
    turns = itertools.cycle(range(OCTAVES))
    sized = _sized(space, seed, limit, measure)
    waiting: list[deque[tuple[Genotype, int]]] = [deque() for _ in range(OCTAVES)]
    attempts = itertools.count()
    while True:
        while True:
            genotype = space.suggest(RandomTrial(f"{seed} uniform {next(attempts)}"))
            if genotype.hash in seen:
                continue
            parameters = measure(genotype)
            if parameters is not None and parameters > limit:
                continue
            seen.add(genotype.hash)
            yield Drawn(next(numbers), UNIFORM, genotype, parameters)
            if parameters is not None:
                break
        genotype, count = _next_of(next(turns), sized, waiting, seen, limit)
        seen.add(genotype.hash)
        yield Drawn(next(numbers), BY_SIZE, genotype, count)


def _sized(
    space: SearchSpace, seed: int, limit: int, measure: Callable[[Genotype], int | None]
) -> Iterator[tuple[Genotype, int]]:
    """The stream that the half by size draws from: whatever builds within the limit."""
    for attempt in itertools.count():
        genotype = space.suggest(RandomTrial(f"{seed} by size {attempt}"))
        parameters = measure(genotype)
        if parameters is not None and parameters <= limit:
            yield genotype, parameters


def _next_of(
    wanted: int,
    sized: Iterator[tuple[Genotype, int]],
    waiting: list[deque[tuple[Genotype, int]]],
    seen: set[str],
    limit: int,
) -> tuple[Genotype, int]:
    """The next genotype of an octave that has not been seen."""
    for _ in range(PATIENCE):
        while waiting[wanted]:
            found = waiting[wanted].popleft()
            if found[0].hash not in seen:
                return found
        genotype, parameters = next(sized)
        waiting[octave(parameters, limit)].append((genotype, parameters))
    ready = [one for one in waiting if any(genotype.hash not in seen for genotype, _ in one)]
    if not ready:
        raise ValueError(f"{PATIENCE} draws gave no new genotype: the space is too small for so large a table")
    longest = max(ready, key=len)
    while True:
        found = longest.popleft()
        if found[0].hash not in seen:
            return found
