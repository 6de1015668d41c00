"""Forecast: how long a search will take, from a pilot on random labels or from the jobs that are finished."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mernas.evaluation.jobs import Job, Outcome
from mernas.evaluation.picking import format_size
from mernas.search.costs import outer_rows, seconds_per_row
from mernas.search.executor import Interrupted
from mernas.search.ledger import ACCEPTED
from mernas.search.nested import NestedSearch
from mernas.search.plan import FINAL, Plan
from mernas.search.sampling import first_batch
from mernas.space.genotype import Genotype

if TYPE_CHECKING:  # the maps are tensors, and counting does without torch
    from mernas.evaluation.custody import FeatureStore

Train = Callable[[Job, "FeatureStore"], Outcome]


@dataclass(frozen=True)
class Costs:
    """What training costs on one worker.

    Attributes:
        networks: (parameters, mean seconds per training row) of every pipeline.
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
    counted = stages(plan, costs)
    if full_audit:
        jobs = plan.settings.trials * len(plan.dataset.subjects)
        every = len(plan.book.subjects) * (1 - 1 / len(plan.dataset.subjects))
        counted = (*counted, ("Audit", jobs, jobs * costs.mean * every))
    named = {f"network of {format_size(size)} parameters": seconds * rows for size, seconds in sorted(costs.networks)}
    named |= {name: seconds * rows for name, seconds in costs.families.items()}
    return Forecast(counted, workers, named, costs.failures)


def stages(plan: Plan, costs: Costs) -> tuple[tuple[str, int, float], ...]:
    """Return (title, jobs, seconds of one worker) of every stage of a search at its worst.

    Args:
        plan: The plan.
        costs: What training costs.
    """
    trials, subjects = plan.settings.trials, len(plan.dataset.subjects)
    first, later = plan.batches[0], trials - plan.batches[0]
    jobs, rows = shared_by_all(plan)
    groups = len(plan.partition.groups)
    pairs, every = jobs - groups, len(plan.book.subjects)
    # A first batch shares its pair jobs among all studies; later ones are taken to share none.
    alone = rows + pairs * (1 - 2 / groups) * every
    found = [("First round", first * jobs, first * costs.mean * rows)]
    if later:
        found.append(("Later rounds", later * (jobs + pairs), later * costs.mean * alone))
    found.append(("Baselines", sum(map(len, plan.families.values())) * jobs, baseline_seconds(plan, costs)))
    every_choice = [costs.within(plan.budgets, budget) for budget in plan.budgets] + [costs.dearest] * len(plan.rules)
    worst = sorted(every_choice, reverse=True)[:trials]  # no study can choose more pipelines than it has proposed
    tests = (len(worst) + len(plan.families)) * subjects * plan.settings.seeds
    per_row = sum(worst) + sum(costs.families.get(name, 0.0) for name in plan.families)
    found.append(("Outer test", tests, per_row * outer_rows(plan) * subjects * plan.settings.seeds))
    return tuple(found)


def shared_by_all(plan: Plan) -> tuple[int, float]:
    """Return how many inner jobs a pipeline has that all studies propose, and how many rows these train on together."""
    groups, every = len(plan.partition.groups), len(plan.book.subjects)
    pairs = groups * (groups - 1) // 2
    return pairs + groups, (pairs * (1 - 2 / groups) + groups * (1 - 1 / groups)) * every


def baseline_seconds(plan: Plan, costs: Costs) -> float:
    """Return the seconds of one worker that the inner jobs of all baselines take."""
    _, rows = shared_by_all(plan)
    return sum(len(grid) * costs.families.get(name, 0.0) for name, grid in plan.families.items()) * rows


def pilot(search: NestedSearch, train: Train | None = None) -> tuple[Costs, int]:
    """Return the costs of the first batch and of the baselines, measured on random labels, and the rows trained on.

    Nothing of it enters a ledger.

    Args:
        search: What would be done.
        train: Does a job; by default it is trained in this process.

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
        seconds = _pilot(search, candidate, failures, train)
        if seconds is not None:
            networks.append((search.measure(candidate) or 0, seconds / rows))
    families = {name: (_pilot(search, one, failures, train) or 0.0) / rows for name, one in grids.items()}
    return Costs(tuple(networks), families, tuple(failures)), rows


def measured(search: NestedSearch, fallback: Costs) -> Costs:
    """Return the costs of the jobs that the ledger holds; where it holds none of a kind, those of the pilot."""
    plan = search.plan
    per_row = seconds_per_row(search.ledger, plan.book)
    sizes = {cost.genotype: cost.parameters or 0 for cost in search.ledger.costs() if cost.kind == "network"}
    networks = tuple((size, per_row[genotype]) for genotype, size in sizes.items())
    families = dict(fallback.families)
    for name, grid in plan.families.items():
        if found := [per_row[genotype.hash] for genotype in grid if genotype.hash in per_row]:
            families[name] = float(np.mean(found))
    return Costs(networks or fallback.networks, families, fallback.failures)


def _pilot_job(search: NestedSearch, genotype: Genotype) -> Job:
    """The pair job of the first two groups, with random labels in the place of the real ones."""
    plan = search.plan
    left_out = (*plan.partition.groups[0], *plan.partition.groups[1])
    _, job = search.task(genotype, left_out)
    labels = np.random.default_rng([plan.settings.seed, 9]).integers(0, job.classes, size=len(job.train_rows))
    return replace(job, train_labels=labels)


def _pilot(search: NestedSearch, genotype: Genotype, failures: list[str], train: Train | None) -> float | None:
    """Seconds of a pilot, or None if it failed, which is written down."""
    if train is None:
        from mernas.evaluation.fitting import run_job  # here, because it imports torch

        train = run_job

    if search.stopping():
        raise Interrupted
    outcome = train(_pilot_job(search, genotype), search.store([genotype]))
    if outcome.failure:
        failures.append(f"{genotype.hash}: {outcome.failure}")
        return None
    return outcome.seconds
