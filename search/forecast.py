"""Forecast: how long a search will take, from a pilot on random labels that enters no ledger."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import Job
from mernas.evaluation.picking import format_size
from mernas.search.ledger import ACCEPTED
from mernas.search.nested import NestedSearch
from mernas.search.plan import FINAL, Plan
from mernas.search.sampling import first_batch
from mernas.space.genotype import Genotype


@dataclass(frozen=True)
class Forecast:
    """What a search will cost on one worker.

    Attributes:
        stages: (title, jobs, seconds) in order; jobs of a stage are the most there can be.
        pilots: Seconds of one pilot job by the size of its candidate, or the name of a baseline.
        failures: What pilots failed of; those are no measure of anything.
    """

    stages: tuple[tuple[str, int, float], ...]
    pilots: Mapping[str, float]
    failures: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds in all."""
        return sum(seconds for _, _, seconds in self.stages)


def forecast(search: NestedSearch) -> Forecast:
    """Train each candidate of the first batch once on random labels and count the jobs to come.

    The jobs are counted at their worst: every later proposal is new in its study, and every budget and rule chooses
    another candidate in every study. Each job is taken to cost what the pilot's candidates of its size do, in
    proportion to its training rows.
    """
    plan = search.plan
    draws, genotypes = first_batch(plan, FINAL, search.measure)
    by_hash = {genotype.hash: genotype for genotype, _ in genotypes}
    candidates = [by_hash[draw.genotype] for draw in draws if draw.state == ACCEPTED and draw.genotype]
    failures: list[str] = []
    measured = [(search.measure(candidate) or 0, _pilot(search, candidate, failures)) for candidate in candidates]
    pilots = [(size, seconds) for size, seconds in measured if seconds is not None]
    families = {name: _pilot(search, grid[0], failures) or 0.0 for name, grid in plan.families.items()}

    groups = len(plan.partition.groups)
    pairs, subjects = groups * (groups - 1) // 2, len(plan.dataset.subjects)
    every = len(plan.book.subjects)
    pilot_rows = len(_pilot_job(search, candidates[0] if candidates else plan.families["majority"][0]).train_rows)
    single, outer = (1 - 1 / groups) * every / pilot_rows, (1 - 1 / subjects) * every / pilot_rows
    mean = float(np.mean([seconds for _, seconds in pilots])) if pilots else 0.0

    first, later = plan.batches[0], plan.settings.trials - plan.batches[0]
    stages = [("First round", first * (pairs + groups), first * mean * (pairs + groups * single))]
    if later:
        inner = groups * (groups - 1)
        stages.append(("Later rounds", later * (inner + groups), later * mean * (inner + groups * single)))
    baseline_jobs = sum(len(grid) for grid in plan.families.values()) * (pairs + groups)
    baseline_seconds = sum(len(grid) * families[name] for name, grid in plan.families.items())
    stages.append(("Baselines", baseline_jobs, baseline_seconds * (pairs + groups * single)))
    worst = [_by_size(plan, pilots, budget) for budget in plan.budgets] + [_dearest(pilots)] * len(plan.rules)
    tests = len(worst) * subjects + len(families) * subjects
    stages.append(("Outer test", tests, (sum(worst) + sum(families.values())) * subjects * outer))
    named = {f"network of {format_size(size)} parameters": seconds for size, seconds in sorted(pilots)}
    return Forecast(tuple(stages), {**named, **families}, tuple(failures))


def _pilot_job(search: NestedSearch, genotype: Genotype) -> Job:
    """The pair job of the first two groups, with random labels in the place of the real ones."""
    plan = search.plan
    left_out = (*plan.partition.groups[0], *plan.partition.groups[1])
    _, job = search.task(genotype, left_out)
    labels = np.random.default_rng([plan.settings.seed, 9]).integers(0, job.classes, size=len(job.train_rows))
    return replace(job, train_labels=labels)


def _pilot(search: NestedSearch, genotype: Genotype, failures: list[str]) -> float | None:
    """Seconds of a pilot, or None if it failed, which is written down."""
    outcome = run_job(_pilot_job(search, genotype), search.store([genotype]))
    if outcome.failure:
        failures.append(f"{genotype.hash}: {outcome.failure}")
        return None
    return outcome.seconds


def _by_size(plan: Plan, pilots: Sequence[tuple[int, float]], budget: int) -> float:
    """Mean seconds of the pilots whose size lies just below a budget; the dearest where there is none."""
    place = bisect.bisect_left(plan.budgets, budget)
    inside = [seconds for size, seconds in pilots if bisect.bisect_left(plan.budgets, size) == place]
    return float(np.mean(inside)) if inside else _dearest(pilots)


def _dearest(pilots: Sequence[tuple[int, float]]) -> float:
    return max((seconds for _, seconds in pilots), default=0.0)
