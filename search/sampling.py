"""Proposing: every batch, each study is rebuilt from the ledger alone and gets a new sampler with a seed of its own.

That is what makes one seed give one result, whatever the number of workers and however often the run was killed: the
only memory of a study is what the ledger says, in the order of its draws.
"""

from __future__ import annotations

import bisect
import datetime
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from mernas.evaluation.picking import Candidate
from mernas.search.ledger import ACCEPTED, DUPLICATE, EXHAUSTED, INFEASIBLE, PASSED_OVER, REPEATED, Draw
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.samplers import FAMILIES, GRID, Moment
from mernas.search.samplers.breeding import DUPLICATE_OF_EARLIER, GENERATION
from mernas.search.samplers.grid import GridOrder
from mernas.space.genotype import Genotype
from mernas.space.parameters import Domain, Integer, Real
from mernas.space.suggestion import DealtTrial, RandomTrial

REDRAWS = 100
"""How often one place of a batch is drawn again before it is given up."""

_ANY_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""Optuna wants to know when a trial ran; no sampler looks at it."""

Measure = Callable[[Genotype], int | None]
Proposed = tuple[list[Draw], list[tuple[Genotype, int | None]]]
Standings = Mapping[str, Candidate | None]
"""The accepted candidates of a study by genotype; None for one that still has unfinished jobs."""
Proposals = Iterator[tuple[Genotype, Callable[[str], None]]]
"""Proposals without end or to the end of the grid, each with whom to tell if it is not accepted, and why."""


@dataclass(eq=False)
class Memory:
    """What a search has worked out from its plan alone and need not work out again; it changes no result.

    Attributes:
        domains: What Optuna calls the domain of each question that was met so far. One question has one domain
            throughout a space, and the answers are in the ledger: so a draw need not be followed through the tree again
            in every batch to say of which domains its answers are.
        grid: The order of the grid, which is the same in all studies; None where it was not needed yet.
    """

    domains: dict[str, BaseDistribution] = field(default_factory=dict)
    grid: GridOrder | None = None


def first_batch(
    plan: Plan,
    study: str,
    measure: Measure,
    size: int | None = None,
    *,
    dealing: bool = True,
    memory: Memory | None = None,
) -> Proposed:
    """Return the first batch, which is the same in all studies but for the study's name.

    Presets that lie in the space come first, by name, at most half of the batch. Then come draws from the run's seed,
    each drawn again until its parameter count lies in the least filled interval between budgets; if no draw does, the
    first that was merely passed over is taken. What the streams of a place look at is dealt out, not drawn, so that a
    batch meets as many inputs as it has places; only when half of the redraws have not brought the size is it drawn as
    well. The grid has neither presets nor random draws: it begins with its first point.

    Args:
        plan: The plan.
        study: The study.
        measure: Returns a pipeline's parameter count, or None where it does not build.
        size: How many places it has; by default as many as planned.
        dealing: Whether inputs are dealt out; without it they are drawn as everything else, to compare the two.
        memory: What is known of this plan; None to begin with nothing.
    """
    size = plan.batches[0] if size is None else size
    if plan.settings.sampler == GRID:
        return _fill(plan, study, 0, size, [], {}, _grid_points(plan, [], memory or Memory()), measure)
    bounds = sorted({*plan.budgets, plan.settings.max_parameters})
    filled = [0] * len(bounds)
    batch = _Batch(plan, study, 0, 0, measure)

    def interval(parameters: int) -> int:
        return bisect.bisect_left(bounds, parameters)

    for name, genotype in plan.presets.items():
        if batch.place == size // 2:
            break
        parameters = measure(genotype)
        if parameters is not None and parameters <= plan.settings.max_parameters and batch.fresh(genotype):
            batch.add(ACCEPTED, f"preset {name}", genotype)
            filled[interval(parameters)] += 1
    while batch.place < size:
        passed: Genotype | None = None
        for attempt in range(REDRAWS + 1):
            seed = f"{plan.settings.seed} first {batch.place} {attempt}"
            dealt = DealtTrial(seed, f"{plan.settings.seed} deal", batch.place)
            genotype = plan.space.suggest(dealt if dealing and attempt <= REDRAWS // 2 else RandomTrial(seed))
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


def next_batch(
    plan: Plan,
    record: Record,
    study: str,
    number: int,
    measure: Measure,
    size: int | None = None,
    memory: Memory | None = None,
) -> Proposed:
    """Return a later batch of a study.

    An asynchronous study proposes while candidates of its earlier batches are under way. The sampler is then told that
    they are running; TPE keeps away from them, the others leave them aside. The same proposal once more is drawn again,
    like one of the same batch.

    Args:
        plan: The plan.
        record: What the study knows.
        study: The study.
        number: The batch, from 1.
        measure: Returns a pipeline's parameter count, or None where it does not build.
        size: How many places it has; by default as many as planned.
        memory: What is known of this plan; None to begin with nothing.

    Raises:
        LookupError: If a job of an earlier batch is unfinished and the plan is not asynchronous.
    """
    history = record.ledger.draws(study)
    standings = _standings(plan, record, history)
    if plan.settings.sampler == GRID:
        proposals = _grid_points(plan, history, memory or Memory())
    else:
        rebuilt = rebuild(plan, record, study, number, history, memory)
        proposals = _sampled(plan, rebuilt, standings, measure)
    size = plan.batches[number] if size is None else size
    return _fill(plan, study, number, size, history, standings, proposals, measure)


def _fill(
    plan: Plan,
    study: str,
    number: int,
    size: int,
    history: Sequence[Draw],
    standings: Standings,
    proposals: Proposals,
    measure: Measure,
) -> Proposed:
    """Fill every place of a batch from the sampler's proposals, each refused one drawn again."""
    batch = _Batch(plan, study, number, len(history), measure)
    while batch.place < size:
        for genotype, tell in itertools.islice(proposals, REDRAWS + 1):
            parameters = measure(genotype)
            if parameters is None or parameters > plan.settings.max_parameters:
                state = INFEASIBLE
            elif not batch.fresh(genotype) or (genotype.hash in standings and standings[genotype.hash] is None):
                state = REPEATED
            elif genotype.hash in standings:
                state = DUPLICATE
            else:
                state = ACCEPTED
            batch.add(state, plan.settings.sampler, genotype)
            if state == ACCEPTED:
                break
            tell(state)
        else:
            batch.add(EXHAUSTED, plan.settings.sampler, None)
    return batch.draws, batch.genotypes


def _sampled(plan: Plan, rebuilt: optuna.Study, standings: Standings, measure: Measure) -> Proposals:
    """What an Optuna sampler proposes; it learns at once of what is refused."""
    limit = plan.settings.max_parameters
    while True:
        trial = rebuilt.ask()
        genotype = plan.space.suggest(trial)

        def tell(state: str, trial: optuna.Trial = trial, genotype: Genotype = genotype) -> None:
            parameters = measure(genotype)
            values: list[float] | None = None
            earlier = standings[genotype.hash] if state == DUPLICATE else None
            stopped = earlier is not None and earlier.stopped
            if state == INFEASIBLE:
                values = worst(parameters, limit)
            elif state == DUPLICATE:
                values = _values(earlier)
            if values is None and not stopped:
                rebuilt.tell(trial, state=TrialState.FAIL)
                return
            if state == DUPLICATE:
                trial.set_user_attr(DUPLICATE_OF_EARLIER, True)
            trial.set_constraint("parameters", excess(parameters, limit))
            rebuilt.tell(trial, values=values, state=TrialState.PRUNED if stopped else None)

        yield genotype, tell


def _grid_points(plan: Plan, history: Sequence[Draw], memory: Memory) -> Proposals:
    """The points of the grid that the study has not drawn yet; every draw with a pipeline took one."""
    taken = sum(draw.genotype is not None for draw in history)
    if memory.grid is None:
        memory.grid = GridOrder(plan.space, **FAMILIES[GRID].settings)
    for genotype in memory.grid.after(taken):
        yield genotype, lambda state: None


def rebuild(
    plan: Plan, record: Record, study: str, batch: int, history: Sequence[Draw], memory: Memory | None = None
) -> optuna.Study:
    """Return the Optuna study that the ledger describes, with a new sampler for one batch."""
    memory = memory or Memory()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    standings = _standings(plan, record, history)
    sampler = make_sampler(plan, study, batch)
    rebuilt = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for draw in history:
        trial = _told(plan, record, standings, draw, memory.domains)
        if trial is not None:
            rebuilt.add_trial(trial)
    return rebuilt


def make_sampler(plan: Plan, study: str, batch: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one batch of one study, its own random start-up switched off."""
    family = FAMILIES[plan.settings.sampler]
    if family.make is None:
        raise ValueError(f"{plan.settings.sampler} asks no Optuna sampler")
    moment = Moment(
        seed=sampler_seed(plan.settings.seed, study, batch),
        lineage=f"{plan.settings.seed} {study}",
        population=max(2, plan.settings.batch),
        generation=generation(plan, batch, 0),
    )
    return family.make(moment, family.settings)


def generation(plan: Plan, batch: int, place: int) -> int:
    """Return the generation of a place: its batch, or, in an asynchronous study, what its batch would be in another.

    It counts places rather than results, so it does not depend on which jobs have finished. What has not finished when
    a generation is bred is missing from its parents, and is among those of later ones.
    """
    if not plan.settings.asynchronous:
        return batch
    before = place if batch == 0 else min(plan.settings.trials, plan.settings.batch) + batch - 1
    return before // plan.settings.batch


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


def _standings(plan: Plan, record: Record, history: Sequence[Draw]) -> Standings:
    """What became of every accepted candidate of a study."""
    standings: dict[str, Candidate | None] = {}
    for draw in history:
        if draw.state == ACCEPTED and draw.genotype is not None:
            try:
                standings[draw.genotype] = record.candidate(draw.study, draw.genotype, draw.parameters or 0)
            except LookupError:
                if not plan.settings.asynchronous:
                    raise
                standings[draw.genotype] = None
    return standings


def _values(candidate: Candidate | None) -> list[float] | None:
    """The objectives of a finished candidate: inner UF1 and the logarithm of its size; None if it failed."""
    if candidate is None or not candidate.completed:
        return None
    return [candidate.uf1, math.log10(max(candidate.parameters, 1))]


def _told(
    plan: Plan, record: Record, standings: Standings, draw: Draw, known: dict[str, BaseDistribution]
) -> _Told | None:
    """How the sampler is told of an earlier draw; None where it is not told. Domains that are not known are added."""
    if draw.state in (EXHAUSTED, PASSED_OVER) or draw.genotype is None:
        return None
    params = draw.answers
    if not params.keys() <= known.keys():
        located = plan.space.locate(record.ledger.genotype(draw.genotype))
        known.update((name, _distribution(domain)) for name, (_, domain) in located.items())
    distributions = {name: known[name] for name in params}
    if draw.state == ACCEPTED and standings[draw.genotype] is None:
        return _Told(TrialState.RUNNING, params, distributions)
    limit = plan.settings.max_parameters
    values: list[float] | None = None
    attributes: dict[str, Any] = {}
    stopped = False
    if draw.state == INFEASIBLE:
        values = worst(draw.parameters, limit)
    elif draw.state in (ACCEPTED, DUPLICATE):
        candidate = standings[draw.genotype]
        values = _values(candidate)
        stopped = candidate is not None and candidate.stopped
        if draw.state == ACCEPTED:
            attributes = {GENERATION: generation(plan, draw.batch, draw.place)}
        else:
            attributes = {DUPLICATE_OF_EARLIER: True}
    if values is None and not stopped:
        return _Told(TrialState.FAIL, params, distributions)
    # Without a value TPE counts it among the bad ones whatever its size; one of some folds would be no inner UF1.
    state = TrialState.PRUNED if stopped else TrialState.COMPLETE
    told = _Told(state, params, distributions, values, attributes)
    told.set_constraint("parameters", excess(draw.parameters, limit))
    return told


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Real):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return CategoricalDistribution(domain.values)


class _Told(FrozenTrial):
    """An earlier trial, as a study is told of it: nobody changes it any more.

    Optuna copies what it is told down to the last domain, which took longer than all the rest of rebuilding a study.
    """

    def __init__(
        self,
        state: TrialState,
        params: dict[str, Any],
        distributions: dict[str, BaseDistribution],
        values: list[float] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        ended = _ANY_TIME if state.is_finished() else None
        super().__init__(
            -1, state, None, _ANY_TIME, ended, params, distributions, attributes or {}, {}, {}, -1, values=values
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> _Told:
        return self


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
