"""Dispatch: which job runs next, which is tried again, and when so much fails that the run must stop.

A job that failed is tried once more where that can help: a crash (its worker may have been lost) and a refused
allocation (another process may have held the memory). Numbers that are not finite come back with the same bits, and a
job that used up its time would use it up again; these are recorded at once.

Jobs that train together are one here as well: they are recorded when all of them are back, and tried again whole.

Failures that may be the machine's fault are held back until some job succeeds. If pipeline after pipeline fails so, or
a whole batch of at least three, the run stops and what it held back is forgotten, as it is when the user stops it: a
broken driver or a full disk must not go into the ledger as the fault of pipelines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mernas.evaluation.jobs import CRASH, OUT_OF_MEMORY, Job, Outcome
from mernas.search.executor import Block, Executor
from mernas.search.queues import PlanQueue, Queue
from mernas.space.errors import Problem, RunError

if TYPE_CHECKING:  # the maps are tensors, and a driver need not load torch to hand them on
    from mernas.evaluation.custody import FeatureStore

ATTEMPTS = 2
MACHINE = (CRASH, OUT_OF_MEMORY)
"""Failures that may be the machine's fault rather than the candidate's; they are tried again."""
MOST_FAILURES = 8
"""So many pipelines in a row that failed through what may be the machine's fault, and the run stops."""
WHOLE_BATCH = 3
"""So many are enough where everything has come back and nothing was a success."""


Pair = tuple[Job, Outcome]


@dataclass(eq=False)
class _Batch:
    """How many jobs train together, and which of them have come back."""

    size: int
    arrived: list[Pair] = field(default_factory=list)


class Dispatcher:
    """Runs jobs through an executor, each until it has an outcome worth recording.

    Args:
        executor: Where jobs run.
        record: Called once for each job with its final outcome.
        say: Tells the user of failures.
        more: Called when nothing that is surely needed is waiting; may add jobs.
        queue: Which job is next; by default they are handed out in the order in which they were added.
        record_batch: Called once for each batch of jobs that trained together, with all of their final outcomes; by
            default `record` is called for each of them.
    """

    def __init__(
        self,
        executor: Executor,
        record: Callable[[Job, Outcome], None],
        say: Callable[[str], None],
        more: Callable[[Dispatcher], None] = lambda _: None,
        queue: Queue | None = None,
        record_batch: Callable[[Sequence[Pair]], None] | None = None,
    ) -> None:
        self._executor = executor
        self._record = record
        self._record_batch = record_batch
        self._say = say
        self._more = more
        self._waiting: Queue = queue if queue is not None else PlanQueue()
        self._handed_out: set[str] = set()
        self._again: deque[Block] = deque()
        self._batches: deque[Block] = deque()
        self._back: dict[str, _Batch] = {}
        self._stores: dict[str, FeatureStore] = {}
        self._held: list[Sequence[Pair]] = []
        self._in_a_row: set[str] = set()
        self._any_success = False  # since everything had last come back
        self._known: set[str] = set()

    def add(self, jobs: Sequence[Job], store: FeatureStore, most: int | None = None) -> int:
        """Add those jobs that are not waiting, under way or held back already.

        Args:
            jobs: In plan order, those of one pipeline together.
            store: The maps that they need.
            most: The largest number of jobs that one worker does at a stretch.

        Returns:
            How many were added.
        """
        new = [job for job in jobs if job.key not in self._known]
        self._known.update(job.key for job in new)
        self._stores.update((job.key, store) for job in new)
        self._waiting.add(new, store, most)
        return len(new)

    def add_batch(self, jobs: Sequence[Job], store: FeatureStore) -> int:
        """Add jobs that train together, unless they were added already; they are handed out before those of `add`.

        Args:
            jobs: In plan order, all of one pipeline. A job is always in one and the same batch.
            store: The maps that they need.

        Returns:
            How many were added: all or none.
        """
        if jobs[0].key in self._known:
            return 0
        batch = _Batch(len(jobs))
        self._known.update(job.key for job in jobs)
        self._stores.update((job.key, store) for job in jobs)
        self._back.update((job.key, batch) for job in jobs)
        self._batches.append(Block(tuple(jobs), store, together=True))
        return len(jobs)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run all jobs, and those that `more` adds on the way.

        Raises:
            Interrupted: If `stopping` said so.
            RunError: If pipeline after pipeline failed.
        """
        self._executor.run(self._next, self._arrived, stopping)
        self._settle()

    @property
    def under_way(self) -> frozenset[str]:
        """The keys of the jobs that are handed out and have not come back."""
        return frozenset(self._handed_out)

    def _next(self) -> Block | None:
        block = self._choose()
        if block is not None:
            self._handed_out.update(job.key for job in block.jobs)
        return block

    def _choose(self) -> Block | None:
        if self._again:
            return self._again.popleft()
        block = self._needed()
        if block is None:
            if not self._handed_out:  # everything has come back, and who proposes must know how
                self._settle()
            self._more(self)
            block = self._needed()
        # What may be in vain is for a worker that would be idle, and not to be piled up before one that is busy.
        if block is None and len(self._handed_out) < self._executor.workers:
            block = self._waiting.next_speculative()
        return block

    def _needed(self) -> Block | None:
        return self._batches.popleft() if self._batches else self._waiting.next()

    def _arrived(self, job: Job, outcome: Outcome) -> None:
        batch = self._back.get(job.key)
        if batch is None:
            self._judge([(job, outcome)])
            return
        batch.arrived.append((job, outcome))
        if len(batch.arrived) == batch.size:
            arrived, batch.arrived = batch.arrived, []
            self._judge(arrived, together=True)

    def _judge(self, pairs: Sequence[Pair], together: bool = False) -> None:
        """Record a job, or a batch of jobs that trained together, or have it tried again, or hold it back."""
        store, genotype = self._stores[pairs[0][0].key], pairs[0][0].genotype.hash
        self._handed_out.difference_update(job.key for job, _ in pairs)
        faults = [outcome.failure for _, outcome in pairs if outcome.failure_name in MACHINE]
        if faults and pairs[0][0].attempt < ATTEMPTS:
            self._say(f"{genotype} is tried again: {faults[0]}")
            again = tuple(replace(job, attempt=job.attempt + 1) for job, _ in pairs)
            self._again.append(Block(again, store, together))
            return
        for job, _ in pairs:
            del self._stores[job.key]
            self._back.pop(job.key, None)
        for failure in dict.fromkeys(outcome.failure for _, outcome in pairs if outcome.failure):
            self._say(f"{genotype} failed: {failure}")
        if faults:
            self._held.append(pairs)
            self._in_a_row.add(genotype)
            self._give_up_at(MOST_FAILURES)
            return
        self._in_a_row.clear()
        self._any_success = True
        self._release()
        self._finish(pairs)

    def _settle(self) -> None:
        """Record what was held back, now that everything has come back; unless nothing of it was a success."""
        if self._held and not self._any_success:
            self._give_up_at(WHOLE_BATCH)
        self._any_success = False
        self._release()

    def _release(self) -> None:
        while self._held:
            self._finish(self._held.pop(0))

    def _finish(self, pairs: Sequence[Pair]) -> None:
        """Record jobs, and forget them and those of their pipeline that nobody needs now that they are known."""
        if len(pairs) > 1 and self._record_batch is not None:
            self._record_batch(pairs)
        else:
            for job, outcome in pairs:
                self._record(job, outcome)
        self._known.difference_update(job.key for job, _ in pairs)
        for key in self._waiting.withdraw(pairs[0][0].genotype.hash):
            self._known.discard(key)  # another study may need it yet
            del self._stores[key]

    def _give_up_at(self, number: int) -> None:
        """Stop the run if so many pipelines failed in a row."""
        if len(self._in_a_row) >= number:
            rule = f"{len(self._in_a_row)} pipelines failed one after the other, so that the machine may be at fault"
            remedy = "these failures were not recorded: see `mernas doctor`, lower --max-params, and repeat the command"
            raise RunError(Problem("run", rule, self._held[-1][-1][1].failure, remedy))
