"""The nested search: proposals in all studies, their inner jobs, the choices, and the outer test.

No study waits for another: each proposes its next batch as soon as its own last one is finished, which is all that a
proposal may depend on, so that the workers stay busy and one seed still gives one result. An asynchronous study does
not even wait for its own. Only a run with a time limit proceeds in rounds, because whether there is time for one more
batch must be decided for all studies at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mernas.evaluation.jobs import Job, JobKey, Outcome, make_job
from mernas.search.choosing import Chosen, Row, audited_candidates, choose, choose_baselines, outer_jobs
from mernas.search.costs import outer_block, outer_rows, seconds_per_row
from mernas.search.dispatch import Dispatcher
from mernas.search.executor import Executor, StockedExecutor
from mernas.search.halving import shortened
from mernas.search.ledger import ACCEPTED, Draw, Ledger
from mernas.search.plan import Plan
from mernas.search.queues import RaceQueue
from mernas.search.record import Record
from mernas.search.reporter import Reporter, Silent
from mernas.search.sampling import Memory, first_batch, next_batch
from mernas.search.shared_batches import fold_batches, shared_batches, training_steps
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype

if TYPE_CHECKING:  # the maps are tensors, and a driver need not load torch to hand them on
    from mernas.evaluation.custody import FeatureStore

Task = tuple[JobKey, Job]
Count = Callable[[Genotype, int], int]
"""Returns the parameter count of a pipeline for so many classes; raises `SpaceError` where it does not build."""


class Shelf(Protocol):
    """Where the maps of a run come from; see `mernas.search.features.FeatureShelf`."""

    def store(self, genotypes: Iterable[Genotype], /) -> FeatureStore:
        """Return a store that holds the maps that some pipelines need, preparing those that are missing."""


@dataclass(eq=False)
class NestedSearch:
    """One nested search, from the plan to the chosen pipelines and their outer predictions.

    Attributes:
        plan: What to do.
        ledger: What has been done.
        executor: Where jobs run.
        cache: The folder of prepared maps; None for the default.
        reporter: Who tells the user.
        stopping: Whether the user wants to stop.
        time_for: Asked before every round how many proposals per study there is time for, with those that are finished,
            those that are drawn, and how many the round would have; None for no time limit.
        shelf: Where the maps come from; None to prepare them from the clips of the plan, into `cache`.
        count: How a pipeline is measured; None to build its network without weights and count.
    """

    plan: Plan
    ledger: Ledger
    executor: Executor
    cache: Path | None = None
    reporter: Reporter = field(default_factory=Silent)
    stopping: Callable[[], bool] = lambda: False
    time_for: Callable[[int, int, int], int] | None = None
    shelf: Shelf | None = None
    count: Count | None = None

    def __post_init__(self) -> None:
        self.record = Record(self.plan, self.ledger)
        # Imported only here, because both import torch, which a search of given maps and sizes does without.
        if self.shelf is None:
            from mernas.search.features import FeatureShelf

            self.shelf = FeatureShelf(self.plan.dataset, self.plan.book, self.cache, self.reporter, self.stopping)
        if self.count is None:
            from mernas.components.topologies.network import count_parameters

            self.count = count_parameters
        self._shelf, self._count = self.shelf, self.count
        self._memory = Memory()
        self._stocked = StockedExecutor(self.executor, self.store)
        self._sizes: dict[str, int | None] = {}
        self._keys: dict[str, JobKey] = {}
        self._finished: set[str] = set()
        self._apart: set[str] = set()
        self._opened = dict.fromkeys(self.plan.studies, 0)
        # For every study whose batch is in its short trainings: the batch, and the pipelines of these trainings.
        self._short: dict[str, tuple[int, frozenset[str]]] = {}
        # For every study, the jobs that its undecided candidates still wait for, in plan order.
        self._open: dict[str, dict[str, list[str]]] = {study: {} for study in self.plan.studies}

    def run(self) -> tuple[Chosen, tuple[Row, ...]]:
        """Do everything that the ledger does not hold yet.

        Returns:
            The choices of the search, and those of the baselines.

        Raises:
            Interrupted: If the user stopped the run.
            RunError: If pipeline after pipeline failed.
        """
        self.search()
        chosen = choose(self.plan, self.record)
        self.execute("Baselines", self.baseline_tasks())
        baselines = choose_baselines(self.plan, self.record)
        self.execute_outer("Outer test", self.outer_tasks([*chosen.front, *chosen.rules, *baselines]))
        return chosen, baselines

    def audit(self) -> None:
        """Run LOSO of every candidate of the final study, for the full audit; after every choice has been made."""
        self.ledger.begin_audit()
        genotypes = [self.ledger.genotype(one.genotype) for one in audited_candidates(self.plan, self.record)]
        tasks = [self.task(genotype, (subject,)) for genotype in genotypes for subject in self.plan.partition.subjects]
        self.execute_outer("Audit", tasks)

    def search(self) -> None:
        """Let all studies propose until they have had their trials, and run the inner jobs of their proposals."""
        self._finished = self.ledger.finished()
        started = False

        def more(dispatcher: Dispatcher) -> None:
            nonlocal started
            added = 0
            while not added:
                proposals = self.next_proposals()
                if not proposals:
                    break
                tasks = self.unfinished(self.inner_tasks(self._undecided(proposals)))
                if tasks:
                    store = self.prepare([job.genotype for _, job in tasks])
                    if not started:
                        self.reporter.stage("Search", len(tasks) + self._to_come())
                        started = True
                    added = self._hand_over(dispatcher, tasks, store)
            if started:
                # A job under way may have become needless; it comes back all the same.
                self.reporter.resize(len(self._waiting_jobs() | dispatcher.under_way) + self._to_come())

        queue = RaceQueue(self._open) if self.plan.settings.racing else None
        say, batch = self.reporter.say, self._record_batch
        Dispatcher(self._stocked, self._record_job, say, more, queue, batch).run(self.stopping)

    def next_proposals(self) -> list[tuple[str, Genotype]]:
        """Return (study, genotype) of what the studies want to train next, and count their batches as proposed.

        That is what goes on after its short training, and the batches of all studies that may propose.
        """
        while True:
            proposals: list[tuple[str, Genotype]] = []
            judged = [study for study in self._short if not self._open[study]]
            for study in judged:
                batch, _ = self._short.pop(study)
                proposals += self._want(study, self._going_on(study, batch))
            ready = self._in_time([study for study in self.plan.studies if self._may_propose(study)])
            for study in ready:
                number = self._opened[study]
                self._opened[study] += 1
                own = self.propose(study, number)
                if self.record.halving is not None:
                    own = self._shortened(own)
                    self._short[study] = (number, frozenset(genotype.hash for genotype in own))
                proposals += self._want(study, own)
            if proposals or not (judged or ready):
                return proposals

    def _want(self, study: str, genotypes: Sequence[Genotype]) -> list[tuple[str, Genotype]]:
        """Note which jobs of some pipelines a study waits for, and return (study, genotype) of each."""
        for genotype in genotypes:
            keys = [self.record.job_key(genotype.hash, left).hash for _, left in self.plan.inner_left_out(study)]
            waiting = [key for key in keys if key not in self._finished]
            if waiting and not self._is_decided(study, genotype.hash):
                self._open[study][genotype.hash] = waiting
        return [(study, genotype) for genotype in genotypes]

    def _shortened(self, genotypes: Sequence[Genotype]) -> list[Genotype]:
        """The short trainings of a batch, known to the ledger."""
        short = {genotype: shortened(genotype) for genotype in genotypes}
        self.ledger.add_genotypes([(one, self.measure(genotype)) for genotype, one in short.items()])
        return [one for genotype, one in short.items() if one != genotype]

    def _going_on(self, study: str, batch: int) -> list[Genotype]:
        """The candidates of a batch that train for all their epochs."""
        if self.record.halving is None:
            return []
        verdicts = self.record.halving.of_batch(study, batch)
        return [self.ledger.genotype(genotype) for genotype, verdict in verdicts.items() if verdict is None]

    def propose(self, study: str, number: int) -> list[Genotype]:
        """Return what a study proposes in a batch; what is not in the ledger yet is drawn and written."""
        known: list[Draw] = self.ledger.batch(study, number)
        if not known:
            size = self.batches[number]
            if number == 0:
                known, genotypes = first_batch(self.plan, study, self.measure, size, memory=self._memory)
            else:
                known, genotypes = next_batch(self.plan, self.record, study, number, self.measure, size, self._memory)
            self.ledger.add_batch(known, genotypes)
        accepted = (draw.genotype for draw in known if draw.state == ACCEPTED and draw.genotype is not None)
        return [self.ledger.genotype(key) for key in accepted]

    @property
    def batches(self) -> tuple[int, ...]:
        """How many proposals per study each batch has, up to where the time was up."""
        return self.plan.batches_until(self.ledger.ended_at())

    def _is_decided(self, study: str, genotype: str) -> bool:
        """Whether a candidate with unfinished jobs needs none of them: only in a race, which has no short trainings."""
        if study in self._short and genotype in self._short[study][1]:
            return False
        return self.plan.settings.racing and self.record.is_decided(study, genotype)

    def _undecided(self, proposals: Iterable[tuple[str, Genotype]]) -> list[tuple[str, Genotype]]:
        return [(study, genotype) for study, genotype in proposals if genotype.hash in self._open[study]]

    def _may_propose(self, study: str) -> bool:
        number = self._opened[study]
        if number == len(self.batches):
            return False
        if self.plan.settings.asynchronous and number > 0:
            return len(self._open[study]) < self.plan.settings.batch
        return not self._open[study] and study not in self._short

    def _in_time(self, ready: list[str]) -> list[str]:
        """Return those of the studies that are ready which may propose under the time limit, if there is one.

        A study that lags behind another one may always catch up, so that all end at the same number of proposals.
        Where there is no time for a whole round, the number at which all end is recorded before a smaller one begins.
        """
        if self.time_for is None or not ready or self.ledger.ended_at() is not None:
            return ready
        drawn = {study: sum(self.plan.batches[: self._opened[study]]) for study in self.plan.studies}
        most = max(drawn.values())
        behind = [study for study in ready if drawn[study] < most]
        if behind:
            return behind
        if not self.plan.settings.asynchronous and len(ready) < len(self.plan.studies):
            return []  # the round is not over
        number = self._opened[ready[0]]
        recorded = any(self.ledger.batch(study, number) for study in ready)
        # A candidate that still waits for some of its jobs counts as one that is still to be done.
        done = min(count - len(self._open[study]) for study, count in drawn.items())
        room = self.plan.batches[number]
        fitting = room if recorded else self.time_for(done, most, room)
        if fitting < room:
            self.ledger.end_proposals(most + fitting)
        return ready if fitting else []

    def _to_come(self) -> int:
        """The most inner jobs that later proposals can need."""
        batches = self.batches
        trials = sum(batches)
        left = {study: trials - sum(batches[: self._opened[study]]) for study in self.plan.studies}
        return sum(number * len(self.plan.inner_left_out(study)) for study, number in left.items())

    def _waiting_jobs(self) -> set[str]:
        return {key for own in self._open.values() for keys in own.values() for key in keys}

    def measure(self, genotype: Genotype) -> int | None:
        """Return the parameter count of a pipeline, or None where it does not build."""
        if genotype.hash not in self._sizes:
            try:
                self._sizes[genotype.hash] = self._count(genotype, len(self.plan.dataset.classes))
            except SpaceError:
                self._sizes[genotype.hash] = None
        return self._sizes[genotype.hash]

    def inner_tasks(self, proposals: Iterable[tuple[str, Genotype]]) -> list[Task]:
        """Return the inner jobs that some proposals need, each once, genotype by genotype."""
        by_genotype: dict[str, dict[str, Task]] = {}
        for study, genotype in proposals:
            tasks = by_genotype.setdefault(genotype.hash, {})
            for _, left_out in self.plan.inner_left_out(study):
                key, job = self.task(genotype, left_out)
                tasks.setdefault(key.hash, (key, job))
        return [task for tasks in by_genotype.values() for task in tasks.values()]

    def baseline_tasks(self) -> list[Task]:
        """Return the inner jobs of all baseline candidates."""
        grid = [genotype for family in self.plan.families.values() for genotype in family]
        self.ledger.add_genotypes([(genotype, None) for genotype in grid])
        return self.inner_tasks((study, genotype) for genotype in grid for study in self.plan.studies)

    def outer_tasks(self, rows: Sequence[Row]) -> list[Task]:
        """Return the outer jobs of what was chosen: one subject left out, everyone else trained on."""
        needed = outer_jobs(self.plan, rows)
        genotypes = {key: self.ledger.genotype(key) for key in {genotype for genotype, _, _, _ in needed}}
        return [self.task(genotypes[genotype], (subject,), repetition) for genotype, _, subject, repetition in needed]

    def task(self, genotype: Genotype, left_out: Sequence[str], repetition: int = 0) -> Task:
        """Return one job with its key."""
        settings = self.plan.settings
        classes = len(self.plan.dataset.classes)
        book, limit = self.plan.book, settings.job_time
        return make_job(
            genotype, left_out, book, classes, settings.seed, settings.device, repetition, limit, settings.together
        )

    def unfinished(self, tasks: Sequence[Task]) -> list[Task]:
        """Return those tasks that the ledger does not hold, and remember what their jobs are called."""
        left = [(key, job) for key, job in tasks if key.hash not in self._finished]
        self._keys.update((key.hash, key) for key, _ in left)
        return left

    def execute_outer(self, title: str, tasks: Sequence[Task]) -> None:
        """Run outer jobs, the dearest pipelines first and in small blocks, so that workers end at the same time."""
        per_row, rows = seconds_per_row(self.ledger, self.plan.book), outer_rows(self.plan)
        seconds = {job.genotype: per_row.get(job.genotype.hash, 0.0) * rows for _, job in tasks}
        ordered = sorted(tasks, key=lambda task: -seconds[task[1].genotype])
        self.execute(title, ordered, lambda genotype: outer_block(seconds[genotype]))

    def execute(self, title: str, tasks: Sequence[Task], most: Callable[[Genotype], int] | None = None) -> None:
        """Run those of some jobs that the ledger does not hold, and write each as it arrives.

        Args:
            title: What the user is told that this is.
            tasks: The jobs, those of one pipeline together.
            most: Returns the largest number of jobs of a pipeline that one worker does at a stretch; None for all.
        """
        self._finished = self.ledger.finished()
        waiting = self.unfinished(tasks)
        if not waiting:
            return
        store = self.prepare([job.genotype for _, job in waiting])
        dispatcher = Dispatcher(self._stocked, self._record_job, self.reporter.say, record_batch=self._record_batch)
        self.reporter.stage(title, self._hand_over(dispatcher, waiting, store, most))
        dispatcher.run(self.stopping)

    def _hand_over(
        self,
        dispatcher: Dispatcher,
        tasks: Sequence[Task],
        store: FeatureStore,
        most: Callable[[Genotype], int] | None = None,
    ) -> int:
        """Give jobs to a dispatcher, those that train together in whole batches; return how many are new to it."""
        joined = {genotype for genotype in {job.genotype for _, job in tasks} if self._trains_together(genotype)}
        added = 0
        for batch in self._whole_batches([task for task in tasks if task[1].genotype in joined]):
            self._keys.update((key.hash, key) for key, _ in batch)
            added += dispatcher.add_batch([job for _, job in batch], store)
        apart = [job for _, job in tasks if job.genotype not in joined]
        for genotype, jobs in groupby(apart, key=lambda job: job.genotype):
            added += dispatcher.add(list(jobs), store, None if most is None else most(genotype))
        return added

    def _trains_together(self, genotype: Genotype) -> bool:
        if not self.plan.settings.together or not genotype.is_network:
            return False
        from mernas.evaluation.together_or_apart import why_apart  # here, because it imports torch

        why = why_apart(genotype)
        if why and genotype.hash not in self._apart:
            self._apart.add(genotype.hash)
            self.reporter.say(f"{genotype.hash} trains fold by fold: {why}")
        return not why

    def _whole_batches(self, tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
        """Return every batch that holds one of some jobs, whole, whatever else of it somebody has asked for.

        Inner jobs are in batches that share a left-out group, outer ones in one batch for each group of their subjects.
        """
        wanted = {key.hash for key, _ in tasks}
        inner = dict.fromkeys(left for study in self.plan.studies for _, left in self.plan.inner_left_out(study))
        groups = self.plan.partition.groups
        found: list[tuple[Task, ...]] = []
        for genotype, repetition in dict.fromkeys((job.genotype, key.repetition) for key, job in tasks):
            batches = shared_batches([self.task(genotype, left) for left in inner], groups) if repetition == 0 else []
            # The outer job of a subject that is a group of its own is an inner one as well, and is in that batch.
            tested = [group for group in groups if repetition > 0 or len(group) > 1]
            batches += [tuple(self.task(genotype, (one,), repetition) for one in group) for group in tested]
            for batch in batches:
                steps = training_steps(genotype, len(self.plan.book.subjects))
                parts = fold_batches(batch, self.measure(genotype) or 0, steps)
                found += [part for part in parts if any(key.hash in wanted for key, _ in part)]
        return found

    def _record_batch(self, pairs: Sequence[tuple[Job, Outcome]]) -> None:
        """Record jobs that trained together, in one transaction."""
        read = [[self.plan.book.subjects[row] for row in job.train_rows] for job, _ in pairs]
        rows = [
            (self._keys.pop(job.key), outcome, job.predict_rows, subjects)
            for (job, outcome), subjects in zip(pairs, read, strict=True)
        ]
        self.ledger.add_jobs(rows)
        for job, _ in pairs:
            self._done(job)

    def _record_job(self, job: Job, outcome: Outcome) -> None:
        read = [self.plan.book.subjects[row] for row in job.train_rows]
        self.ledger.add_job(self._keys.pop(job.key), outcome, job.predict_rows, read)
        self._done(job)

    def _done(self, job: Job) -> None:
        self._finished.add(job.key)
        for study, own in self._open.items():
            waiting = own.get(job.genotype.hash, [])
            if job.key in waiting:
                waiting.remove(job.key)
                if not waiting or self._is_decided(study, job.genotype.hash):
                    del own[job.genotype.hash]
        self.reporter.advance()

    def store(self, genotypes: Iterable[Genotype]) -> FeatureStore:
        """Return the maps that some pipelines need."""
        return self._shelf.store(genotypes)

    def prepare(self, genotypes: Iterable[Genotype]) -> FeatureStore:
        """Have the maps of some pipelines prepared, and return a store that holds none of them.

        It stands in for the maps of jobs that wait, which would not fit into memory; a block is given its own when it
        is handed out.
        """
        for genotype in dict.fromkeys(genotypes):
            self.store([genotype])
        return self.store(())
