"""Queues of jobs that wait to be handed out: in plan order, or, where candidates race, by which fold decides next.

A race has nothing to gain from running all folds of a candidate at once. So the next job is one that a study needs
whatever else arrives: the first fold, in plan order, that it has not seen of a candidate that it has not decided. Of
those the candidate with the most folds still to come is first, so that all advance together and workers find such jobs
until a batch is nearly over. Only a worker that would otherwise be idle runs a later fold, which may turn out to be in
vain; such jobs are called speculative.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from mernas.evaluation.jobs import Job
from mernas.search.executor import Block, in_blocks

if TYPE_CHECKING:  # the maps are tensors, and a driver need not load torch to hand them on
    from mernas.evaluation.custody import FeatureStore

Undecided = Mapping[str, Mapping[str, Sequence[str]]]
"""For every study, by genotype, the keys of the unfinished jobs of its undecided candidates, in plan order."""


class Queue(Protocol):
    """Jobs that wait to be handed out."""

    def add(self, jobs: Sequence[Job], store: FeatureStore, most: int | None) -> None:
        """Add jobs in plan order, those of one pipeline together; at most so many are done at a stretch."""

    def next(self) -> Block | None:
        """Return the next block that is surely needed, and take it out; None if there is none now."""

    def next_speculative(self) -> Block | None:
        """Return a block that may turn out not to be needed, and take it out; None if there is none now."""

    def withdraw(self, genotype: str) -> Iterable[str]:
        """Take out the jobs of a genotype that nobody needs any more, and return their keys."""


class PlanQueue:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[Block] = deque()

    def add(self, jobs: Sequence[Job], store: FeatureStore, most: int | None) -> None:
        """Add jobs; see `Queue.add`."""
        self._waiting.extend(Block(block, store) for block in in_blocks(jobs, most))

    def next(self) -> Block | None:
        """Return the block that has waited longest."""
        return self._waiting.popleft() if self._waiting else None

    def next_speculative(self) -> Block | None:
        """Every job is needed."""
        return None

    def withdraw(self, genotype: str) -> Iterable[str]:
        """Every job is needed."""
        return ()


class RaceQueue:
    """Jobs of candidates that race, each a block of its own.

    Args:
        undecided: Which jobs the studies still need; whoever holds it keeps it up to date.
    """

    def __init__(self, undecided: Undecided) -> None:
        self._undecided = undecided
        self._waiting: dict[str, dict[str, Block]] = {}

    def add(self, jobs: Sequence[Job], store: FeatureStore, most: int | None) -> None:
        """Add jobs; see `Queue.add`."""
        for job in jobs:
            self._waiting.setdefault(job.genotype.hash, {})[job.key] = Block((job,), store)

    def next(self) -> Block | None:
        """Return the next fold of the candidate that has most of them to come."""
        return self._take((genotype, keys[:1]) for genotype, keys in self._candidates())

    def next_speculative(self) -> Block | None:
        """Return the nearest later fold of any candidate."""
        longest = max((len(keys) for _, keys in self._candidates()), default=0)
        for place in range(1, longest):
            block = self._take((genotype, keys[place : place + 1]) for genotype, keys in self._candidates())
            if block is not None:
                return block
        return None

    def withdraw(self, genotype: str) -> Iterable[str]:
        """Take out the jobs of a genotype that no study needs any more."""
        waiting = self._waiting.get(genotype, {})
        needed = {key for own in self._undecided.values() for key in own.get(genotype, ())}
        unneeded = [key for key in waiting if key not in needed]
        for key in unneeded:
            self._remove(genotype, key)
        return unneeded

    def _candidates(self) -> list[tuple[str, Sequence[str]]]:
        """Every undecided candidate of every study with its unfinished jobs, those with the most of them first."""
        every = [(genotype, keys) for own in self._undecided.values() for genotype, keys in own.items()]
        return sorted(every, key=lambda one: -len(one[1]))

    def _take(self, wanted: Iterable[tuple[str, Sequence[str]]]) -> Block | None:
        for genotype, keys in wanted:
            for key in keys:
                if key in self._waiting.get(genotype, {}):
                    return self._remove(genotype, key)
        return None

    def _remove(self, genotype: str, key: str) -> Block:
        block = self._waiting[genotype].pop(key)
        if not self._waiting[genotype]:
            del self._waiting[genotype]
        return block
