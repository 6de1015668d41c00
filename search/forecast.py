"""Forecast: how long a search will take, from a pilot on random labels or from the jobs that are finished."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mernas.evaluation.jobs import Job
from mernas.evaluation.picking import format_size
from mernas.search.costs import outer_rows
from mernas.search.executor import Interrupted
from mernas.search.ledger import ACCEPTED
from mernas.search.nested import NestedSearch
from mernas.search.plan import FINAL, Plan
from mernas.search.sampling import first_batch
from mernas.space.genotype import Genotype

BASELINES, OUTER_TEST = "Baselines", "Outer test"
"""What the last two stages are called."""


@dataclass(frozen=True)
class Costs:
    """What training costs on one worker.

    Attributes:
        networks: (parameters, seconds per training row) of single jobs.
        families: The same seconds by baseline family.
        failures: What pilots failed of; those are no measure of anything.
    """

    networks: tuple[tuple[int, float], ...]
    families: Mapping[str, float]
    failures: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean seconds per training row of a network."""
        return float(np.mean([seconds for _, seconds in self.networks])) if self.networks else 0.0

    @property
    def dearest(self) -> float:
        """Seconds per training row of the dearest network."""
        return max((seconds for _, seconds in self.networks), default=0.0)

    def within(self, budgets: Sequence[int], budget: int) -> float:
        """Mean seconds per row of the networks whose size lies just below a budget; the dearest if there is none."""
        place = bisect.bisect_left(budgets, budget)
        inside = [seconds for size, seconds in self.networks if bisect.bisect_left(budgets, size) == place]
        return float(np.mean(inside)) if inside else self.dearest


@dataclass(frozen=True)
class Forecast:
    """What a search will cost.

    Attributes:
        stages: (title, jobs, seconds of one worker) in order; jobs of a stage are the most there can be.
        workers: How many workers share the work.
        pilots: Seconds of one pilot job by the size of its candidate, or the name of a baseline.
        failures: What pilots failed of.
    """

    stages: tuple[tuple[str, int, float], ...]
    workers: int
    pilots: Mapping[str, float]
    failures: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds in all, if the workers are never idle."""
        return sum(seconds for _, _, seconds in self.stages) / self.workers


def forecast(search: NestedSearch, workers: int = 1, full_audit: bool = False) -> Forecast:
    """Train each candidate of the first batch once on random labels and count the jobs to come.

    The jobs are counted at their worst: every later proposal is new in its study, and every budget and rule chooses
    another candidate in every study. Each job is taken to cost what the pilot's candidates of its size do, in
    proportion to its training rows.

    Args:
        search: What would be done.
        workers: How many workers would share the work.
        full_audit: Whether LOSO of all the final study's candidates follows.
    """
    plan = search.plan
    costs, rows = pilot(search)
    counted = remaining(plan, costs, 0, plan.settings.trials)
    if full_audit:
        jobs = plan.settings.trials * len(plan.dataset.subjects)
        every = len(plan.book.subjects) * (1 - 1 / len(plan.dataset.subjects))
        counted = (*counted, ("Audit", jobs, jobs * costs.mean * every))
    named = {f"network of {format_size(size)} parameters": seconds * rows for size, seconds in sorted(costs.networks)}
    named |= {name: seconds * rows for name, seconds in costs.families.items()}
    return Forecast(counted, workers, named, costs.failures)


def remaining(plan: Plan, costs: Costs, done: int, until: int) -> tuple[tuple[str, int, float], ...]:
    """Count what is still to do at its worst.

    Args:
        plan: The plan.
        costs: What training costs.
        done: Proposals per study that are finished.
        until: Proposals per study at which all studies end.

    Returns:
        (title, jobs, seconds of one worker) by stage.
    """
    groups = len(plan.partition.groups)
    pairs, subjects, every = groups * (groups - 1) // 2, len(plan.dataset.subjects), len(plan.book.subjects)
    pair_rows, single_rows = (1 - 2 / groups) * every, (1 - 1 / groups) * every
    # A first batch shares its pair jobs among all studies; later ones are taken to share none.
    shared = pairs * pair_rows + groups * single_rows
    alone = 2 * pairs * pair_rows + groups * single_rows
    first = max(min(plan.batches[0], until) - done, 0)
    later = max(until - max(done, plan.batches[0]), 0)
    stages: list[tuple[str, int, float]] = []
    if first:
        stages.append(("First round", first * (pairs + groups), first * costs.mean * shared))
    if later:
        stages.append(("Later rounds", later * (2 * pairs + groups), later * costs.mean * alone))
    sizes = {name: len(grid) for name, grid in plan.families.items()}
    baseline_seconds = sum(size * costs.families.get(name, 0.0) for name, size in sizes.items()) * shared
    stages.append((BASELINES, sum(sizes.values()) * (pairs + groups), baseline_seconds))
    every_choice = [costs.within(plan.budgets, budget) for budget in plan.budgets] + [costs.dearest] * len(plan.rules)
    worst = sorted(every_choice, reverse=True)[:until]  # no study can choose more pipelines than it has proposed
    tests = (len(worst) + len(sizes)) * subjects * plan.settings.seeds
    per_row = sum(worst) + sum(costs.families.get(name, 0.0) for name in sizes)
    stages.append((OUTER_TEST, tests, per_row * outer_rows(plan) * subjects * plan.settings.seeds))
    return tuple(stages)


def pilot(search: NestedSearch) -> tuple[Costs, int]:
    """Return the costs of the first batch and of the baselines, measured on random labels, and the rows trained on.

    Nothing of it enters a ledger.

    Raises:
        Interrupted: If the user wants to stop; asked before every pilot.
    """
    plan = search.plan
    draws, genotypes = first_batch(plan, FINAL, search.measure)
    by_hash = {genotype.hash: genotype for genotype, _ in genotypes}
    candidates = [by_hash[draw.genotype] for draw in draws if draw.state == ACCEPTED and draw.genotype]
    grids = {name: grid[0] for name, grid in plan.families.items()}
    rows = len(_pilot_job(search, next(iter(grids.values()))).train_rows)
    failures: list[str] = []
    networks: list[tuple[int, float]] = []
    for candidate in candidates:
        seconds = _pilot(search, candidate, failures)
        if seconds is not None:
            networks.append((search.measure(candidate) or 0, seconds / rows))
    families = {name: (_pilot(search, one, failures) or 0.0) / rows for name, one in grids.items()}
    return Costs(tuple(networks), families, tuple(failures)), rows


def measured(search: NestedSearch, fallback: Costs) -> Costs:
    """Return the costs of the jobs that the ledger holds; where it holds none of a kind, those of the pilot."""
    plan = search.plan
    every = len(plan.book.subjects)
    costs = search.ledger.costs()
    networks = tuple((c.parameters or 0, c.seconds / (every - c.predicted)) for c in costs if c.kind == "network")
    family_of = {genotype.hash: name for name, grid in plan.families.items() for genotype in grid}
    found: dict[str, list[float]] = {}
    for cost in costs:
        if cost.genotype in family_of:
            found.setdefault(family_of[cost.genotype], []).append(cost.seconds / (every - cost.predicted))
    families = {name: float(np.mean(found.get(name, [seconds]))) for name, seconds in fallback.families.items()}
    return Costs(networks or fallback.networks, families, fallback.failures)


def _pilot_job(search: NestedSearch, genotype: Genotype) -> Job:
    """The pair job of the first two groups, with random labels in the place of the real ones."""
    plan = search.plan
    left_out = (*plan.partition.groups[0], *plan.partition.groups[1])
    _, job = search.task(genotype, left_out)
    labels = np.random.default_rng([plan.settings.seed, 9]).integers(0, job.classes, size=len(job.train_rows))
    return replace(job, train_labels=labels)


def _pilot(search: NestedSearch, genotype: Genotype, failures: list[str]) -> float | None:
    """Seconds of a pilot, or None if it failed, which is written down."""
    from mernas.evaluation.fitting import run_job  # here, because it imports torch, which counting does without

    if search.stopping():
        raise Interrupted
    outcome = run_job(_pilot_job(search, genotype), search.store([genotype]))
    if outcome.failure:
        failures.append(f"{genotype.hash}: {outcome.failure}")
        return None
    return outcome.seconds
