"""Regularised evolution: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search"."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial

from mernas.search.samplers import Moment
from mernas.search.samplers.breeding import Breeder, candidates, costs, standing

TRIES = 64
"""How often a mutation is drawn again that changes nothing; a question with one answer is never mutated."""


class RegularisedEvolution(Breeder):
    """Mutates one answer of the winner of a tournament among the youngest candidates.

    The population is the last `batches` batches' worth of candidates that completed: whoever is older dies, however
    good. Were it one batch, all would die before their children breed. A failed candidate never joins it, so failures
    do not shrink it. Of a share `tournament` of its members (at least two, drawn without replacement) the one on the
    best front of the population wins; within a front the one that stands more alone, then the one with the better
    first objective (inner UF1), then the younger. One of its answers changes to another value; the others are kept
    wherever their question is still asked, and new questions are answered at random.

    Args:
        moment: The batch.
        batches: The population, in batches.
        tournament: Which share of the population is compared; a quarter in the paper.
    """

    def __init__(self, moment: Moment, batches: int, tournament: float) -> None:
        super().__init__(moment.seed)
        self.population = batches * moment.population
        self.tournament = tournament

    def parents(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the youngest candidates."""
        return candidates(study)[-self.population :]

    def child(self, study: optuna.Study, trial: FrozenTrial, parents: list[FrozenTrial]) -> dict[str, Any]:
        """Return the answers of a tournament's winner, one of them mutated."""
        points = costs(study, parents)
        places = standing(points)
        size = max(2, round(self.tournament * len(parents)))
        drawn = self.random.sample(range(len(parents)), min(size, len(parents)))
        winner = parents[min(drawn, key=lambda one: (places[one], points[one][0], -one))]
        genes = dict(winner.params)
        free = [name for name, distribution in winner.distributions.items() if not distribution.single()]
        if free:
            name = self.random.choice(free)
            for _ in range(TRIES):
                genes[name] = self.sample_independent(study, trial, name, winner.distributions[name])
                if genes[name] != winner.params[name]:
                    break
        return genes
