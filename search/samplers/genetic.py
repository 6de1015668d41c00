"""NSGA-II (Deb et al. 2002) and NSGA-III (Deb and Jain 2014), with crossover over the conditional tree."""

from __future__ import annotations

import copy
import hashlib
import warnings
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from mernas.search.samplers import Moment
from mernas.search.samplers.breeding import GENERATION, Breeder, candidates, costs, fronts, standing


class Nsga(Breeder):
    """Breeds a generation from the elite of all generations before it.

    The elite after a generation is the best `population` of that generation and the elite before it, by Optuna's own
    selection: fronts, then crowding distance (II) or niches around reference points (III). A candidate that failed
    joins no generation, so an elite may be smaller than `population`; it breeds all the same, and the next generation
    fills it. Only while nothing at all has completed is a child random. One parent alone is mutated.

    Both parents are winners of tournaments between two: the better front, then, for NSGA-II, the larger crowding
    distance. With probability `crossover` each gene comes from the second parent with probability `swapping`, or from
    the only one that has it; else the child is the first parent. Each gene then mutates, which means that its question
    is answered at random, with such a probability that `mutation` genes of the first parent do on average.

    Args:
        number: 2 or 3.
        moment: The batch.
        crossover: Probability that a child has two parents.
        swapping: Probability that a gene comes from the second.
        mutation: How many genes of a child mutate on average.
        divisions: How many parts NSGA-III divides each axis into for its reference points.
    """

    def __init__(
        self,
        number: int,
        moment: Moment,
        crossover: float,
        swapping: float,
        mutation: float,
        divisions: int | None = None,
    ) -> None:
        super().__init__(moment.seed)
        self.number = number
        self.moment = moment
        self.crossover = crossover
        self.swapping = swapping
        self.mutation = mutation
        self.divisions = divisions
        self._known = 0
        self._elite: list[FrozenTrial] = []

    def parents(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the elite of all generations before this one."""
        earlier = [trial for trial in candidates(study) if self._generation(trial) < self.moment.generation]
        if len(earlier) != self._known:
            self._known = len(earlier)
            self._elite = self._select(study, earlier)
        return self._elite

    def child(self, study: optuna.Study, trial: FrozenTrial, parents: list[FrozenTrial]) -> dict[str, Any]:
        """Return the genes of two parents, crossed, without those that mutate."""
        points = costs(study, parents)
        places = standing(points) if self.number == 2 else [(front, 0.0) for front in fronts(points)]
        first = self._tournament(places)
        genes = dict(parents[first].params)
        mutation = self.mutation / max(1, len(genes))
        if self.random.random() < self.crossover and len(parents) > 1:
            others = [place for one, place in enumerate(places) if one != first]
            second = self._tournament(others)
            for name, value in parents[second + (second >= first)].params.items():
                if name not in genes or self.random.random() < self.swapping:
                    genes[name] = value
        return {name: value for name, value in genes.items() if self.random.random() >= mutation}

    def _tournament(self, places: list[tuple[int, float]]) -> int:
        drawn = self.random.sample(range(len(places)), min(2, len(places)))
        return min(drawn, key=lambda one: places[one])

    def _generation(self, trial: FrozenTrial) -> int:
        return int(trial.user_attrs.get(GENERATION, trial.number // self.moment.population))

    def _select(self, study: optuna.Study, earlier: list[FrozenTrial]) -> list[FrozenTrial]:
        """The elite of some candidates, generation by generation."""
        downhill = optuna.create_study(directions=["minimize"] * len(study.directions))
        generations: dict[int, list[FrozenTrial]] = {}
        for trial in earlier:
            generations.setdefault(self._generation(trial), []).append(trial)
        elite: list[FrozenTrial] = []
        for generation in sorted(generations):
            pool = elite + generations[generation]
            if len(pool) <= self.moment.population:
                elite = pool
                continue
            # All objectives are turned into costs: Optuna's niches take the direction of none into account.
            selector = self._selector(generation)
            selector.pool = self._turned(study, pool)
            selected = {trial.number for trial in selector.select_parent(downhill, 1)}
            elite = [trial for trial in pool if trial.number in selected]
        return elite

    def _turned(self, study: optuna.Study, pool: list[FrozenTrial]) -> list[FrozenTrial]:
        turned = []
        for trial, point in zip(pool, costs(study, pool), strict=True):
            one = copy.copy(trial)
            one.values = list(point)
            turned.append(one)
        return turned

    def _selector(self, generation: int) -> _Two | _Three:
        """Optuna's selection, with a seed that is the same whenever the elite of a generation is worked out."""
        digest = hashlib.sha256(f"{self.moment.lineage} elite {generation}".encode()).digest()
        seed = int.from_bytes(digest[:4], "little")
        with warnings.catch_warnings():
            # NSGA-III has been marked experimental since Optuna 3.2; the version is pinned and its behaviour tested.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.number == 2:
                return _Two(population_size=self.moment.population, seed=seed)
            size, divisions = self.moment.population, self.divisions or 3
            return _Three(population_size=size, dividing_parameter=divisions, seed=seed)


class _Given:
    """Lets Optuna's selection of survivors choose from a pool that it is given, whatever the study holds."""

    pool: list[FrozenTrial]

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self.pool

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return []


class _Two(_Given, optuna.samplers.NSGAIISampler):
    """Optuna's selection of NSGA-II."""


class _Three(_Given, optuna.samplers.NSGAIIISampler):
    """Optuna's selection of NSGA-III."""
