"""Dispatch: which job runs next, which is tried again, and when so much fails that the run must stop.

A job that failed is tried once more where that can help: a crash (its worker may have been lost) and a refused
allocation (another process may have held the memory). Numbers that are not finite come back with the same bits, and a
job that used up its time would use it up again; these are recorded at once.

Failures that may be the machine's fault are held back until some job succeeds. If pipeline after pipeline fails so, or
a whole batch of at least three, the run stops and what it held back is forgotten, as it is when the user stops it: a
broken driver or a full disk must not go into the ledger as the fault of pipelines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
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


class Dispatcher:
    """Runs jobs through an executor, each until it has an outcome worth recording.

    Args:
        executor: Where jobs run.
        record: Called once for each job with its final outcome.
        say: Tells the user of failures.
        more: Called when nothing that is surely needed is waiting; may add jobs.
        queue: Which job is next; by default they are handed out in the order in which they were added.
    """

    def __init__(
        self,
        executor: Executor,
        record: Callable[[Job, Outcome], None],
        say: Callable[[str], None],
        more: Callable[[Dispatcher], None] = lambda _: None,
        queue: Queue | None = None,
    ) -> None:
        self._executor = executor
        self._record = record
        self._say = say
        self._more = more
        self._waiting: Queue = queue if queue is not None else PlanQueue()
        self._handed_out: set[str] = set()
        self._again: deque[Block] = deque()
        self._stores: dict[str, FeatureStore] = {}
        self._held: list[tuple[Job, Outcome]] = []
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
        block = self._waiting.next()
        if block is None:
            if not self._handed_out:  # everything has come back, and who proposes must know how
                self._settle()
            self._more(self)
            block = self._waiting.next()
        # What may be in vain is for a worker that would be idle, and not to be piled up before one that is busy.
        if block is None and len(self._handed_out) < self._executor.workers:
            block = self._waiting.next_speculative()
        return block

    def _arrived(self, job: Job, outcome: Outcome) -> None:
        store = self._stores[job.key]
        self._handed_out.discard(job.key)
        name = outcome.failure_name
        if name in MACHINE and job.attempt < ATTEMPTS:
            self._say(f"{job.genotype.hash} is tried again: {outcome.failure}")
            self._again.append(Block((replace(job, attempt=job.attempt + 1),), store))
            return
        del self._stores[job.key]
        if outcome.failure:
            self._say(f"{job.genotype.hash} failed: {outcome.failure}")
        if name in MACHINE:
            self._held.append((job, outcome))
            self._in_a_row.add(job.genotype.hash)
            self._give_up_at(MOST_FAILURES)
            return
        self._in_a_row.clear()
        self._any_success = True
        self._release()
        self._finish(job, outcome)

    def _settle(self) -> None:
        """Record what was held back, now that everything has come back; unless nothing of it was a success."""
        if self._held and not self._any_success:
            self._give_up_at(WHOLE_BATCH)
        self._any_success = False
        self._release()

    def _release(self) -> None:
        while self._held:
            self._finish(*self._held.pop(0))

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """Record a job, and forget it and those of its pipeline that nobody needs now that it is known."""
        self._record(job, outcome)
        self._known.discard(job.key)
        for key in self._waiting.withdraw(job.genotype.hash):
            self._known.discard(key)  # another study may need it yet
            del self._stores[key]

    def _give_up_at(self, number: int) -> None:
        """Stop the run if so many pipelines failed in a row."""
        if len(self._in_a_row) >= number:
            rule = f"{len(self._in_a_row)} pipelines failed one after the other, so that the machine may be at fault"
            remedy = "these failures were not recorded: see `mernas doctor`, lower --max-params, and repeat the command"
            raise RunError(Problem("run", rule, self._held[-1][1].failure, remedy))
