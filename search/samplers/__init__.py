"""Samplers: who proposes, once the first batch is known. One file per family.

Importing this package imports no Optuna; a family's file is imported when its sampler is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Moment:
    """What a sampler is made for: one batch of one study.

    Attributes:
        seed: The seed of this batch, below 2**32.
        lineage: A text that is the same in all batches of a study and differs between studies and runs.
        population: How many candidates make a generation of the evolutionary ones: a batch, and at least two.
        generation: The generation that is about to be bred; earlier candidates carry theirs as a user attribute.
    """

    seed: int
    lineage: str
    population: int
    generation: int


Make = Callable[[Moment, Mapping[str, Any]], "BaseSampler"]


@dataclass(frozen=True)
class Family:
    """A sampler by name.

    Attributes:
        settings: Everything that fixes it but its seed and the size of a batch; the plan holds it.
        make: Makes an Optuna sampler for one batch; None for the grid, which asks no sampler.
    """

    settings: Mapping[str, Any]
    make: Make | None


def _random(moment: Moment, settings: Mapping[str, Any]) -> BaseSampler:
    import optuna

    return optuna.samplers.RandomSampler(seed=moment.seed)


def _tpe(moment: Moment, settings: Mapping[str, Any]) -> BaseSampler:
    from mernas.search.samplers.tpe import make_tpe

    return make_tpe(moment, settings)


def _genetic(number: int) -> Make:
    def make(moment: Moment, settings: Mapping[str, Any]) -> BaseSampler:
        from mernas.search.samplers.genetic import Nsga

        return Nsga(number, moment, **settings)

    return make


def _evolution(moment: Moment, settings: Mapping[str, Any]) -> BaseSampler:
    from mernas.search.samplers.evolution import RegularisedEvolution

    return RegularisedEvolution(moment, **settings)


GRID = "grid"
_CROSSING = {"crossover": 0.9, "swapping": 0.5, "mutation": 1.0}
FAMILIES: Mapping[str, Family] = {
    "evolution": Family({"batches": 4, "tournament": 0.25}, _evolution),
    GRID: Family({"points": 5, "whole": 8}, None),
    "nsga2": Family(_CROSSING, _genetic(2)),
    "nsga3": Family({**_CROSSING, "divisions": 3}, _genetic(3)),
    "random": Family({}, _random),
    "tpe": Family(
        {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 0, "n_ei_candidates": 24},
        _tpe,
    ),
}
SAMPLERS = tuple(FAMILIES)
"""The names of all samplers."""


def sampler_settings(name: str) -> dict[str, Any]:
    """Return everything that fixes a sampler but its seed and the size of a batch, as the plan holds it.

    Example:
        >>> sampler_settings("random")
        {'name': 'random'}
    """
    return {"name": name, **FAMILIES[name].settings}
