"""Replays of a search: mernas proposes as it always does, and a landscape answers instead of a training.

First batch, later batches, redraws, the rebuilding of the study for every batch and the ledger (in memory) are those of
`mernas.search`. Only the record, which would read scores of trained jobs, asks the landscape.

Successive halving is no sampler of mernas. It is represented with what the table knows: the first rung is one of the
three folds, the second all of them. It trains sixteen random candidates of each batch on the first fold alone and the
best four of them (fronts of that fold's UF1 and the size, then who stands more alone) on the other two: 24 fold
trainings, as many as eight whole candidates cost. What was not trained on all folds is no candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from tabular.measuring import Measure
from tabular.surrogate import Answer, Surrogate
from tabular.table import FOLDS

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.partition import Partition
from mernas.evaluation.picking import Candidate, default_budgets
from mernas.evaluation.rows import number_rows
from mernas.search.ledger import ACCEPTED, Ledger
from mernas.search.plan import FINAL, Plan, Settings
from mernas.search.record import Record
from mernas.search.samplers import SAMPLERS
from mernas.search.samplers.breeding import standing
from mernas.search.sampling import Memory, Proposed, first_batch, next_batch
from mernas.space.genotype import Genotype
from mernas.space.suggestion import RandomTrial
from mernas.space.tree import SearchSpace

HALVING = "halving"
CHANCE = "+chance"
"""Behind the name of a sampler: its first batch draws the inputs as well instead of dealing them out."""
REPLAYED = (*SAMPLERS, HALVING)
ETA = 4
"""One in so many candidates of a batch of the first rung reaches the second."""
FirstBatch = Callable[[Plan, str, Callable[[Genotype], int | None]], Proposed]


@dataclass(frozen=True)
class Tried:
    """A candidate that was trained on all folds.

    Attributes:
        spent: Fold trainings when the batch that it belongs to was finished.
        genotype: Its hash.
        parameters: Its size.
        answer: What the landscape says of it.
    """

    spent: int
    genotype: str
    parameters: int
    answer: Answer


class Landscape:
    """The answers of one seed for genotypes of one space.

    Args:
        surrogate: What answers.
        space: The space.
        seed: Which landscape.
    """

    def __init__(self, surrogate: Surrogate, space: SearchSpace, seed: int) -> None:
        self.space = space
        self._surrogate = surrogate
        self._seed = seed
        self._known: dict[str, Answer] = {}

    def ask(self, genotypes: Sequence[Genotype], measure: Measure) -> list[Answer]:
        """Return what is said of some genotypes that build; each is answered once and then remembered."""
        new = {one.hash: one for one in genotypes if one.hash not in self._known}
        rows = [self.space.locate(one) for one in new.values()]
        sizes = [measure(one) or 0 for one in new.values()]
        answers = self._surrogate.answer(list(new), rows, sizes, self._seed)
        self._known |= dict(zip(new, answers, strict=True))
        return [self._known[one.hash] for one in genotypes]

    def known(self, genotype: str) -> Answer:
        """Return what was said of a genotype."""
        return self._known[genotype]


class AnsweredRecord(Record):
    """A record whose scores come from a landscape, which has been asked before."""

    def __init__(self, plan: Plan, ledger: Ledger, landscape: Landscape) -> None:
        super().__init__(plan, ledger)
        self.landscape = landscape

    def candidate(self, study: str, genotype: str, parameters: int) -> Candidate:
        """Return a candidate with the UF1 that the landscape says."""
        answer = self.landscape.known(genotype)
        return Candidate(genotype, parameters, 0.0 if answer.failed else answer.uf1, completed=not answer.failed)


def replay_plan(space: SearchSpace, sampler: str, seed: int, trials: int, batch: int, limit: int) -> Plan:
    """Return a plan of one study without data: all that proposing looks at.

    Raises:
        ValueError: If the settings contradict each other.
    """
    nobody = Dataset("table", (), pd.DataFrame({"emotion": []}), (), space.facts, "no clip")
    settings = Settings(
        trials=trials, batch=batch, budgets=default_budgets(limit), max_parameters=limit, sampler=sampler, seed=seed
    )
    if problems := settings.problems():
        raise ValueError("; ".join(map(str, problems)))
    return Plan(nobody, number_rows(nobody, seed), space, "table", Partition(()), settings, (), {}, {}, {})


def replay(
    name: str, landscape: Landscape, seed: int, trials: int, batch: int, limit: int, measure: Measure
) -> list[Tried]:
    """Return what a search tries, in order; a shorter search of the same seed is its beginning.

    Args:
        name: One of `REPLAYED`, or a sampler with `+chance` behind its name.
        landscape: What answers.
        seed: The search's seed.
        trials: How many proposals; halving has their fold trainings.
        batch: Proposals of a batch.
        limit: The parameter limit.
        measure: Counts parameters.

    Raises:
        ValueError: If there is no such sampler.
    """
    sampler = name.removesuffix(CHANCE)
    begin: FirstBatch = partial(first_batch, dealing=sampler == name)
    if sampler == HALVING:
        plan = replay_plan(landscape.space, "random", seed, trials, batch, limit)
        return _halving(plan, landscape, measure, begin)
    return _search(replay_plan(landscape.space, sampler, seed, trials, batch, limit), landscape, measure, begin)


def _search(plan: Plan, landscape: Landscape, measure: Measure, begin: FirstBatch) -> list[Tried]:
    tried: list[Tried] = []
    with closing(Ledger(Path(":memory:"), "replay")) as ledger:
        record, memory = AnsweredRecord(plan, ledger, landscape), Memory()
        for number in range(len(plan.batches)):
            if number == 0:
                draws, genotypes = begin(plan, FINAL, measure)
            else:
                draws, genotypes = next_batch(plan, record, FINAL, number, measure, memory=memory)
            ledger.add_batch(draws, genotypes)
            named = {genotype.hash: genotype for genotype, _ in genotypes}
            accepted = [draw.genotype for draw in draws if draw.state == ACCEPTED and draw.genotype is not None]
            answers = landscape.ask([named[key] for key in accepted], measure)
            spent = FOLDS * sum(plan.batches[: number + 1])
            for key, answer in zip(accepted, answers, strict=True):
                tried.append(Tried(spent, key, measure(named[key]) or 0, answer))
    return tried


def _halving(plan: Plan, landscape: Landscape, measure: Measure, begin: FirstBatch) -> list[Tried]:
    """Random candidates, raced over folds; the first ones are those of the first batch of every search."""
    draws, genotypes = begin(plan, FINAL, measure)
    named = {genotype.hash: genotype for genotype, _ in genotypes}
    waiting = [named[draw.genotype] for draw in draws if draw.state == ACCEPTED and draw.genotype is not None]
    seen = {genotype.hash for genotype in waiting}
    tried: list[Tried] = []
    number, spent = 0, 0
    for size in plan.batches:
        # n on one fold and n / ETA on the other two cost as much as `size` on all of them.
        rung = max(1, round(size * FOLDS / (1 + (FOLDS - 1) / ETA)))
        while len(waiting) < rung:
            genotype = landscape.space.suggest(RandomTrial(f"{plan.settings.seed} halving {number}"))
            number += 1
            parameters = measure(genotype)
            if parameters is None or parameters > plan.settings.max_parameters or genotype.hash in seen:
                continue
            seen.add(genotype.hash)
            waiting.append(genotype)
        cohort, waiting = waiting[:rung], waiting[rung:]
        answers = landscape.ask(cohort, measure)
        sizes = [measure(genotype) or 0 for genotype in cohort]
        running = [place for place, answer in enumerate(answers) if not answer.failed]
        points = [(-answers[place].uf1_folds[0], math.log10(max(sizes[place], 1))) for place in running]
        places = standing(points)
        order = sorted(range(len(running)), key=lambda one: (places[one], points[one]))
        promoted = [running[one] for one in order[: max(1, rung // ETA)]]
        spent += FOLDS * size
        tried += [Tried(spent, cohort[place].hash, sizes[place], answers[place]) for place in sorted(promoted)]
    return tried
