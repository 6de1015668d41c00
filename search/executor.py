"""Executors: where jobs run. The serial one runs them in this process, one after the other.

A driver hands out blocks through a feed and is handed every outcome as it arrives. What to run next, what to try
again and when to give up is the dispatcher's business; an executor only runs what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mernas.evaluation.jobs import Job, Outcome
from mernas.evaluation.limits import memory_per_job
from mernas.space.genotype import Genotype

if TYPE_CHECKING:  # the maps are tensors, and a driver need not load torch to hand them on
    from mernas.evaluation.custody import FeatureStore


class Interrupted(KeyboardInterrupt):
    """The user asked the run to stop; what is finished is in the ledger.

    It is no error, and so no `Exception`: a loop over searches that goes on after errors ends here.
    """


@dataclass(frozen=True, eq=False)
class Block:
    """What one worker does at a stretch: jobs of one pipeline, in plan order.

    Attributes:
        jobs: At least one.
        store: The maps that they need.
        together: Whether they train as one and come back at once; if so, they must be able to
            (`mernas.evaluation.together_or_apart`).
    """

    jobs: tuple[Job, ...]
    store: FeatureStore
    together: bool = False


Feed = Callable[[], Block | None]
"""Returns the next block, or None if there is nothing to hand out before another outcome has arrived."""


class Executor(Protocol):
    """Runs blocks and hands back every outcome as it arrives."""

    @property
    def workers(self) -> int:
        """How many jobs can run at once."""

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more and nothing is under way.

        Args:
            feed: Asked, in the caller's thread, whenever a worker has room.
            on_outcome: Called once for each job handed out, in the caller's thread; it may make the feed richer.
            stopping: Whether the user wants to stop; asked between jobs.

        Raises:
            Interrupted: If `stopping` said so. Jobs under way are finished and handed back first.
        """

    def close(self) -> None:
        """Let go of workers; the executor is not used again."""


class SerialExecutor:
    """Runs jobs in this process, in order, with one thread: the numeric path of every executor.

    Args:
        memory: Bytes that a job may allocate; by default most of what is free.
    """

    workers = 1

    def __init__(self, memory: int | None = None) -> None:
        self._memory = memory if memory is not None else memory_per_job(1)

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more; see `Executor.run`."""
        # Here, because a driver that trains elsewhere needs no torch.
        from mernas.evaluation.fitting import run_job
        from mernas.evaluation.folds_together import run_together

        while (block := feed()) is not None:
            if block.together:
                if stopping():
                    raise Interrupted
                outcomes = run_together(block.jobs, block.store, self._memory)
                for job, outcome in zip(block.jobs, outcomes, strict=True):
                    on_outcome(job, outcome)
                continue
            for job in block.jobs:
                if stopping():
                    raise Interrupted
                on_outcome(job, run_job(job, block.store, self._memory))
        if stopping():
            raise Interrupted

    def close(self) -> None:
        """There is nothing to let go of."""


class StockedExecutor:
    """Runs blocks in another executor, and gives each its maps when it is handed out: blocks that wait hold none.

    Args:
        executor: Where the blocks run.
        store: Returns the maps that some pipelines need.
    """

    def __init__(self, executor: Executor, store: Callable[[Sequence[Genotype]], FeatureStore]) -> None:
        self._executor = executor
        self._store = store

    @property
    def workers(self) -> int:
        """How many jobs can run at once."""
        return self._executor.workers

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more; see `Executor.run`."""

        def stocked() -> Block | None:
            block = feed()
            return block and replace(block, store=self._store([job.genotype for job in block.jobs]))

        self._executor.run(stocked, on_outcome, stopping)

    def close(self) -> None:
        """Close the other executor."""
        self._executor.close()


def feed_of(blocks: Iterable[Block]) -> Feed:
    """Return a feed that hands out some blocks, one after the other.

    Example:
        >>> feed_of([])() is None
        True
    """
    left = iter(blocks)
    return lambda: next(left, None)


def in_blocks(jobs: Sequence[Job], most: int | None = None) -> list[tuple[Job, ...]]:
    """Divide jobs into runs of one pipeline, of at most so many jobs.

    Args:
        jobs: In plan order.
        most: The largest number of jobs in a block; None for no limit.
    """
    blocks: list[list[Job]] = []
    for job in jobs:
        full = not blocks or blocks[-1][0].genotype != job.genotype or len(blocks[-1]) == most
        if full:
            blocks.append([])
        blocks[-1].append(job)
    return [tuple(block) for block in blocks]
