"""What a run cost and what failed in it, from its finished jobs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from mernas.search.choosing import outer_jobs
from mernas.search.finished import FinishedRun

SEARCH = "Search: inner trainings"
OUTER = "Outer test of what was chosen"
AUDIT = "Audit: candidates that were not chosen"
CLASSICAL = "Baselines, inner and outer"


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: What was done.
        jobs: Finished trainings.
        failed: How many of them failed.
        seconds: The sum of their seconds, each on one worker.
    """

    name: str
    jobs: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Costs:
    """What a run cost.

    Attributes:
        stages: Stage by stage, those without a job left out.
        failures: Pairs of a failure's name and how many trainings ended so, most frequent first.
    """

    stages: tuple[Stage, ...]
    failures: tuple[tuple[str, int], ...]

    @property
    def jobs(self) -> int:
        """All trainings."""
        return sum(stage.jobs for stage in self.stages)

    @property
    def failed(self) -> int:
        """All trainings that failed."""
        return sum(stage.failed for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Seconds of all trainings."""
        return math.fsum(stage.seconds for stage in self.stages)


def add_up(run: FinishedRun) -> Costs:
    """Return what a run cost.

    A training that served the search and is needed again by the outer test (with one subject per group) counts for the
    search.
    """
    plan = run.plan
    classical = {genotype.hash for family in plan.families.values() for genotype in family}
    inner = {left_out for study in plan.studies for _, left_out in plan.inner_left_out(study)}
    outer = {(genotype, subject) for genotype, _, subject, _ in outer_jobs(plan, [*run.rows, *run.baselines])}
    seconds: dict[str, list[float]] = defaultdict(list)
    failed: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for job in run.jobs():
        left_out = tuple(job.key.left_out)
        if job.key.genotype in classical:
            stage = CLASSICAL
        elif left_out in inner and job.key.repetition == 0:
            stage = SEARCH
        else:
            stage = OUTER if (job.key.genotype, left_out[0]) in outer else AUDIT
        seconds[stage].append(job.seconds)
        if job.failure:
            failed[stage] += 1
            names[job.failure.partition(":")[0]] += 1
    order = (SEARCH, CLASSICAL, OUTER, AUDIT)
    stages = (Stage(name, len(seconds[name]), failed[name], math.fsum(seconds[name])) for name in order)
    by_number = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return Costs(tuple(stage for stage in stages if stage.jobs), tuple(by_number))
