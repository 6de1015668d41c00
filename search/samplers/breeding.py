"""What evolutionary samplers share: who may be a parent, who is better, and genes in a conditional tree.

Optuna's own genetic samplers cross only the parameters that every finished trial has; in a conditional tree those are
few, and all others would be drawn at random. Here a gene is any answer of any parent: a child is asked the questions
of its own branch, takes the parents' answers to those that a parent was asked too, and draws the others at random.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mernas.search.crowding import crowding

GENERATION = "generation"
"""User attribute: the generation of a candidate."""
DUPLICATE_OF_EARLIER = "duplicate"
"""User attribute of a trial that is told with the values of an earlier one: it is nobody's parent."""


def candidates(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that may be parents, in order: completed, within the limits, and no duplicates.

    Failed candidates have no scores to be chosen by, and infeasible ones would mostly breed infeasible ones.
    """
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if all(value <= 0 for value in trial.constraints.values()) and DUPLICATE_OF_EARLIER not in trial.user_attrs
    ]


def costs(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[tuple[float, ...]]:
    """Return the objectives of some trials, turned so that less is better."""
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
    return [tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)) for trial in trials]


def fronts(points: Sequence[Sequence[float]]) -> list[int]:
    """Return the number of the front on which each point lies, from 0; less is better in every coordinate.

    Example:
        >>> fronts([(0, 2), (1, 1), (2, 2), (3, 3), (1, 1)])
        [0, 0, 1, 2, 0]
    """
    numbers = [-1] * len(points)
    left = set(range(len(points)))
    front = 0
    while left:
        free = {one for one in left if not any(_dominates(points[other], points[one]) for other in left)}
        for one in free:
            numbers[one] = front
        left -= free
        front += 1
    return numbers


def standing(points: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Return (front, minus the crowding distance on it) of every point; the smaller of two is the better point."""
    numbers = fronts(points)
    result = [(number, 0.0) for number in numbers]
    for front in set(numbers):
        members = [one for one, number in enumerate(numbers) if number == front]
        for one, distance in zip(members, crowding([points[one] for one in members]), strict=True):
            result[one] = (front, -distance)
    return result


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


class Breeder(optuna.samplers.BaseSampler):
    """A sampler that makes proposals from the answers of earlier candidates.

    A subclass says who the parents are and makes the genes of a child. Whatever a child is asked and has no gene for
    is drawn at random.

    Args:
        seed: Below 2**32.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._independent = optuna.samplers.RandomSampler(seed=seed)

    @abstractmethod
    def parents(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return those who may breed now, in the order of their numbers; empty if nobody can."""

    @abstractmethod
    def child(self, study: optuna.Study, trial: FrozenTrial, parents: list[FrozenTrial]) -> dict[str, Any]:
        """Return the genes of a child, by the names of the questions that they answer."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the questions that any parent was asked."""
        merged: dict[str, BaseDistribution] = {}
        for parent in self.parents(study):
            merged.update(parent.distributions)
        return merged

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the genes of a child, of which Optuna takes those that it is asked for."""
        parents = self.parents(study)
        genes = self.child(study, trial, parents) if parents else {}
        return {name: value for name, value in genes.items() if name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random answer: there is no gene for this question."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Start from another seed; Optuna asks for it before it runs trials in several threads."""
        self.random.seed()
        self._independent.reseed_rng()
