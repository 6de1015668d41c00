"""The nested search: rounds of proposals in all studies, their inner jobs, the choices, and the outer test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mernas.components.topologies.network import count_parameters
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.jobs import Job, JobKey, Outcome, make_job
from mernas.search.choosing import Chosen, Row, choose, choose_baselines, outer_jobs
from mernas.search.executor import Executor
from mernas.search.features import FeatureShelf
from mernas.search.ledger import ACCEPTED, Ledger
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.reporter import Reporter, Silent
from mernas.search.sampling import first_batch, next_batch
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype

Task = tuple[JobKey, Job]


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
    """

    plan: Plan
    ledger: Ledger
    executor: Executor
    cache: Path | None = None
    reporter: Reporter = field(default_factory=Silent)
    stopping: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.record = Record(self.plan, self.ledger)
        self._shelf = FeatureShelf(self.plan.dataset, self.plan.book, self.cache, self.reporter)
        self._sizes: dict[str, int | None] = {}

    def run(self) -> tuple[Chosen, tuple[Row, ...]]:
        """Do everything that the ledger does not hold yet.

        Returns:
            The choices of the search, and those of the baselines.

        Raises:
            Interrupted: If the user stopped the run.
        """
        for number in range(len(self.plan.batches)):
            title = f"Round {number + 1} of {len(self.plan.batches)}"
            self.execute(title, self.inner_tasks(self.propose(number)))
        chosen = choose(self.plan, self.record)
        self.execute("Baselines", self.baseline_tasks())
        baselines = choose_baselines(self.plan, self.record)
        self.execute("Outer test", self.outer_tasks([*chosen.front, *chosen.rules, *baselines]))
        return chosen, baselines

    def measure(self, genotype: Genotype) -> int | None:
        """Return the parameter count of a pipeline, or None where it does not build."""
        if genotype.hash not in self._sizes:
            try:
                self._sizes[genotype.hash] = count_parameters(genotype, len(self.plan.dataset.classes))
            except SpaceError:
                self._sizes[genotype.hash] = None
        return self._sizes[genotype.hash]

    def propose(self, number: int) -> list[tuple[str, Genotype]]:
        """Return (study, genotype) of every proposal of a round; what is not in the ledger yet is drawn and written."""
        proposals: list[tuple[str, Genotype]] = []
        for study in self.plan.studies:
            known = [draw for draw in self.ledger.draws(study) if draw.batch == number]
            if not known:
                if number == 0:
                    known, genotypes = first_batch(self.plan, study, self.measure)
                else:
                    known, genotypes = next_batch(self.plan, self.record, study, number, self.measure)
                self.ledger.add_batch(known, genotypes)
            accepted = (draw.genotype for draw in known if draw.state == ACCEPTED and draw.genotype is not None)
            proposals += [(study, self.ledger.genotype(key)) for key in accepted]
        return proposals

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
        genotypes = {key: self.ledger.genotype(key) for key in {genotype for genotype, _, _ in needed}}
        return [self.task(genotypes[genotype], (subject,)) for genotype, _, subject in needed]

    def task(self, genotype: Genotype, left_out: Sequence[str]) -> Task:
        """Return one job with its key."""
        settings = self.plan.settings
        classes = len(self.plan.dataset.classes)
        return make_job(genotype, left_out, self.plan.book, classes, settings.seed, settings.device)

    def execute(self, title: str, tasks: Sequence[Task]) -> None:
        """Run those of some jobs that the ledger does not hold, and write each as it arrives."""
        finished = self.ledger.finished()
        waiting = [(key, job) for key, job in tasks if key.hash not in finished]
        if not waiting:
            return
        store = self.store([job.genotype for _, job in waiting])
        keys = {key.hash: key for key, _ in waiting}
        self.reporter.stage(title, len(waiting))

        def arrived(job: Job, outcome: Outcome) -> None:
            read = [self.plan.book.subjects[row] for row in job.train_rows]
            self.ledger.add_job(keys[job.key], outcome, job.predict_rows, read)
            if outcome.failure:
                self.reporter.say(f"{job.genotype.hash} failed: {outcome.failure}")
            self.reporter.advance()

        self.executor.run([job for _, job in waiting], store, arrived, self.stopping)

    def store(self, genotypes: Iterable[Genotype]) -> FeatureStore:
        """Return the maps that some pipelines need."""
        return self._shelf.store(genotypes)
