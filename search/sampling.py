"""Proposing: every batch, each study is rebuilt from the ledger alone and gets a new sampler with a seed of its own.

That is what makes one seed give one result, whatever the number of workers and however often the run was killed: the
only memory of a study is what the ledger says, in the order of its draws.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from mernas.search.ledger import ACCEPTED, DUPLICATE, EXHAUSTED, INFEASIBLE, PASSED_OVER, REPEATED, Draw
from mernas.search.plan import Plan, sampler_settings
from mernas.search.record import Record
from mernas.space.genotype import Genotype
from mernas.space.parameters import Domain, Integer, Real
from mernas.space.suggestion import RandomTrial

REDRAWS = 100
"""How often one place of a batch is drawn again before it is given up."""

Measure = Callable[[Genotype], int | None]
Proposed = tuple[list[Draw], list[tuple[Genotype, int | None]]]


def first_batch(plan: Plan, study: str, measure: Measure) -> Proposed:
    """Return the first batch, which is the same in all studies but for the study's name.

    Presets that lie in the space come first, by name, at most half of the batch. Then come independent draws from
    the run's seed, each drawn again until its parameter count lies in the least filled interval between budgets; if no
    draw does, the first that was merely passed over is taken.

    Args:
        plan: The plan.
        study: The study.
        measure: Returns a pipeline's parameter count, or None where it does not build.
    """
    size = plan.batches[0]
    bounds = sorted({*plan.budgets, plan.settings.max_parameters})
    filled = [0] * len(bounds)
    batch = _Batch(plan, study, 0, 0, measure)

    def interval(parameters: int) -> int:
        return bisect.bisect_left(bounds, parameters)

    for name, genotype in list(plan.presets.items())[: size // 2]:
        parameters = measure(genotype)
        if parameters is not None and parameters <= plan.settings.max_parameters and batch.fresh(genotype):
            batch.add(ACCEPTED, f"preset {name}", genotype)
            filled[interval(parameters)] += 1
    while batch.place < size:
        passed: Genotype | None = None
        for attempt in range(REDRAWS + 1):
            genotype = plan.space.suggest(RandomTrial(f"{plan.settings.seed} first {batch.place} {attempt}"))
            parameters = measure(genotype)
            if parameters is None or parameters > plan.settings.max_parameters:
                batch.add(INFEASIBLE, "random", genotype)
            elif not batch.fresh(genotype):
                batch.add(REPEATED, "random", genotype)
            elif filled[interval(parameters)] > min(filled):
                batch.add(PASSED_OVER, "random", genotype)
                passed = passed or genotype
            else:
                batch.add(ACCEPTED, "random", genotype)
                filled[interval(parameters)] += 1
                break
        else:
            if passed is None:
                batch.add(EXHAUSTED, "random", None)
            else:
                batch.add(ACCEPTED, "random", passed)
                filled[interval(measure(passed) or 0)] += 1
    return batch.draws, batch.genotypes


def next_batch(plan: Plan, record: Record, study: str, number: int, measure: Measure) -> Proposed:
    """Return a later batch of a study.

    Args:
        plan: The plan.
        record: What the study knows; every job of its earlier batches must be finished.
        study: The study.
        number: The batch, from 1.
        measure: Returns a pipeline's parameter count, or None where it does not build.
    """
    history = record.ledger.draws(study)
    finished = {draw.genotype: draw for draw in history if draw.state == ACCEPTED}
    rebuilt = rebuild(plan, record, study, number, history)
    batch = _Batch(plan, study, number, len(history), measure)
    name = plan.settings.sampler
    limit = plan.settings.max_parameters
    while batch.place < plan.batches[number]:
        for _ in range(REDRAWS + 1):
            trial = rebuilt.ask()
            genotype = plan.space.suggest(trial)
            parameters = measure(genotype)
            if parameters is None or parameters > limit:
                batch.add(INFEASIBLE, name, genotype)
                trial.set_constraint("parameters", excess(parameters, limit))
                rebuilt.tell(trial, values=worst(parameters, limit))
            elif not batch.fresh(genotype):
                batch.add(REPEATED, name, genotype)
                rebuilt.tell(trial, state=TrialState.FAIL)
            elif genotype.hash in finished:
                batch.add(DUPLICATE, name, genotype)
                values = _values(record, study, genotype.hash, parameters)
                if values is None:
                    rebuilt.tell(trial, state=TrialState.FAIL)
                else:
                    trial.set_constraint("parameters", excess(parameters, limit))
                    rebuilt.tell(trial, values=values)
            else:
                batch.add(ACCEPTED, name, genotype)
                break
        else:
            batch.add(EXHAUSTED, name, None)
    return batch.draws, batch.genotypes


def rebuild(plan: Plan, record: Record, study: str, batch: int, history: Sequence[Draw]) -> optuna.Study:
    """Return the Optuna study that the ledger describes, with a new sampler for one batch."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = make_sampler(plan.settings.sampler, sampler_seed(plan.settings.seed, study, batch))
    rebuilt = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for draw in history:
        trial = _told(plan, record, draw)
        if trial is not None:
            rebuilt.add_trial(trial)
    return rebuilt


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return a sampler by name, its own random start-up switched off."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    settings: dict[str, Any] = {key: value for key, value in sampler_settings(name).items() if key != "name"}
    with warnings.catch_warnings():
        # `group` has been marked experimental since Optuna 2.8; the version is pinned and its behaviour tested.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, **settings)


def sampler_seed(seed: int, study: str, batch: int) -> int:
    """Return the seed of the sampler of one batch of one study, below 2**32."""
    digest = hashlib.sha256(f"{seed} sampler {study} {batch}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def excess(parameters: int | None, limit: int) -> float:
    """Return by how much a pipeline breaks the parameter limit; at most 0 where it does not, 1 where it does not build.

    Example:
        >>> excess(1500, 1000), excess(None, 1000), excess(500, 1000)
        (0.5, 1.0, -0.5)
    """
    return 1.0 if parameters is None else (parameters - limit) / limit


def worst(parameters: int | None, limit: int) -> list[float]:
    """Return the objectives that an infeasible pipeline is told with; its constraint is what the sampler looks at."""
    return [0.0, math.log10(max(parameters or limit, limit))]


def _values(record: Record, study: str, genotype: str, parameters: int) -> list[float] | None:
    """The objectives of a finished candidate: inner UF1 and the logarithm of its size; None if it failed."""
    candidate = record.candidate(study, genotype, parameters)
    return [candidate.uf1, math.log10(max(parameters, 1))] if candidate.completed else None


def _told(plan: Plan, record: Record, draw: Draw) -> FrozenTrial | None:
    """How the sampler is told of an earlier draw; None where it is not told."""
    if draw.state in (EXHAUSTED, PASSED_OVER) or draw.genotype is None:
        return None
    located = plan.space.locate(record.ledger.genotype(draw.genotype))
    params: dict[str, Any] = {name: value for name, (value, _) in located.items()}
    distributions = {name: _distribution(domain) for name, (_, domain) in located.items()}
    limit = plan.settings.max_parameters
    values: list[float] | None = None
    if draw.state == INFEASIBLE:
        values = worst(draw.parameters, limit)
    elif draw.state in (ACCEPTED, DUPLICATE):
        values = _values(record, draw.study, draw.genotype, draw.parameters or 0)
    if values is None:
        return create_trial(state=TrialState.FAIL, params=params, distributions=distributions)
    constraints = {"parameters": excess(draw.parameters, limit)}
    return create_trial(values=values, params=params, distributions=distributions, constraints=constraints)


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Real):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return CategoricalDistribution(domain.values)


class _Batch:
    """Collects the draws of one batch of one study."""

    def __init__(self, plan: Plan, study: str, number: int, first: int, measure: Measure) -> None:
        self.plan = plan
        self.study = study
        self.number = number
        self.first = first
        self.measure = measure
        self.place = 0
        self.draws: list[Draw] = []
        self.genotypes: list[tuple[Genotype, int | None]] = []
        self._taken: set[str] = set()

    def fresh(self, genotype: Genotype) -> bool:
        """Whether no place of this batch holds the genotype yet."""
        return genotype.hash not in self._taken

    def add(self, state: str, origin: str, genotype: Genotype | None) -> None:
        """Add a draw; an accepted or exhausted one closes its place."""
        key = parameters = None
        answers = {}
        if genotype is not None:
            key, parameters = genotype.hash, self.measure(genotype)
            answers = {name: value for name, (value, _) in self.plan.space.locate(genotype).items()}
            self.genotypes.append((genotype, parameters))
        draw_number = self.first + len(self.draws)
        draw = Draw(self.study, draw_number, self.number, self.place, state, origin, key, parameters, answers)
        self.draws.append(draw)
        if state == ACCEPTED and key is not None:
            self._taken.add(key)
        if state in (ACCEPTED, EXHAUSTED):
            self.place += 1
