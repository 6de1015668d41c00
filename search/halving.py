"""Successive halving over epochs, for two objectives: which candidates of a batch are worth their whole training.

With `--halve` a study trains every candidate of a batch for a ninth of its epochs first, on the study's own folds. The
third of them that is best then trains for all its epochs, from the start; the others are stopped. Best is who lies on
the best fronts of inner UF1 against parameters, front by front; of the front that does not fit as a whole, who is
farthest from its neighbours. So no weight of one objective against the other is needed, and small candidates stay.

A short training is an ordinary job of an ordinary pipeline, the same one with fewer epochs. Its schedule ends with its
epochs. Scores of short and of whole trainings are never compared, and a batch is compared with nobody but itself.

Like racing this is worked out from the ledger and never written down: what decides a batch are predictions of its short
trainings, all of them, in whatever order they arrived.

Halving: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016. Fronts
and crowding distance: Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
NSGA-II", 2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mernas.evaluation.picking import Candidate
from mernas.search.crowding import crowding
from mernas.search.racing import FAILED, STOPPED, Verdict, front_of
from mernas.space.genotype import Genotype, Leaf

if TYPE_CHECKING:
    from mernas.search.record import Record

SHORTER = 9
"""A short training has one in so many of the epochs, rounded up."""
KEPT = 3
"""One in so many candidates of a batch trains for all its epochs, rounded up."""
EPOCHS = ("epochs", "source_epochs")
"""Hyper-parameters of training strategies that count epochs."""


def halving_settings() -> dict[str, Any]:
    """Return everything that fixes halving, as the plan holds it.

    Example:
        >>> halving_settings()
        {'epochs': '1/9', 'kept': '1/3'}
    """
    return {"epochs": f"1/{SHORTER}", "kept": f"1/{KEPT}"}


@lru_cache(maxsize=4096)
def shortened(genotype: Genotype) -> Genotype:
    """Return a pipeline with a ninth of its epochs; itself if it has one epoch or none.

    Args:
        genotype: A network.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> whole = load_preset("ststnet").genotype
        >>> whole["training"]["epochs"], shortened(whole)["training"]["epochs"]
        (800, 89)
    """
    training: Leaf = genotype["training"]
    fewer = tuple(
        (name, math.ceil(value / SHORTER) if name in EPOCHS and isinstance(value, int) else value)
        for name, value in training.values
    )
    values = tuple(
        (name, replace(training, values=fewer) if name == "training" else value) for name, value in genotype.root.values
    )
    return Genotype(replace(genotype.root, values=values))


def best_third(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates of a batch that train for all their epochs, in their order.

    Args:
        candidates: Those of a batch with the scores of their short trainings; who failed is never kept.

    Example:
        >>> drawn = [("a", 900, 0.5), ("b", 950, 0.4), ("c", 99, 0.3), ("d", 9, 0.1)]
        >>> [one.genotype for one in best_third([Candidate(*figures) for figures in drawn])]
        ['a', 'd']
    """
    left = [one for one in candidates if one.completed]
    room = math.ceil(len(candidates) / KEPT)
    chosen: set[str] = set()
    while left and len(chosen) < room:
        front = sorted(front_of(left), key=lambda one: one.genotype)
        gaps = crowding([(one.uf1, math.log10(max(one.parameters, 1))) for one in front])
        distance = {one.genotype: gap for one, gap in zip(front, gaps, strict=True)}
        # Rounded, as scores are below: what another order of adding up could change decides nothing.
        front.sort(key=lambda one: (-round(distance[one.genotype], 9), one.parameters, one.genotype))
        chosen.update(one.genotype for one in front[: room - len(chosen)])
        left = [one for one in left if one not in front]
    return [one for one in candidates if one.genotype in chosen]


class Halving:
    """The decisions of every study, made as they are asked for and then remembered.

    Args:
        record: What the studies know.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._batches: dict[tuple[str, str], int] = {}
        self._verdicts: dict[tuple[str, int], dict[str, Verdict | None]] = {}

    def verdict(self, study: str, genotype: str) -> Verdict | None:
        """Return what became of a candidate by its short training; None if it trains for all its epochs.

        Baselines, which nobody proposes, have no short training.

        Raises:
            LookupError: If a short training of its batch has not been run yet.
        """
        place = (study, genotype)
        if place not in self._batches:
            for draw in self._record.proposals(study):
                self._batches[study, draw.genotype or ""] = draw.batch
        if place not in self._batches:
            return None
        return self.of_batch(study, self._batches[place])[genotype]

    def of_batch(self, study: str, batch: int) -> dict[str, Verdict | None]:
        """Return the same for every candidate of a batch, in the order of their places.

        Raises:
            LookupError: If a short training has not been run yet.
        """
        if (study, batch) not in self._verdicts:
            self._verdicts[study, batch] = self._decide(study, batch)
        return self._verdicts[study, batch]

    def _decide(self, study: str, batch: int) -> dict[str, Verdict | None]:
        verdicts: dict[str, Verdict | None] = {}
        ranked: list[Candidate] = []
        for draw in self._record.proposals(study):
            if draw.batch != batch or draw.genotype is None:
                continue
            verdicts[draw.genotype] = None
            short = shortened(self._record.ledger.genotype(draw.genotype)).hash
            if short != draw.genotype:
                score = self._record.score(study, short)
                verdicts[draw.genotype] = Verdict(FAILED if score is None else STOPPED, 0)
                ranked.append(Candidate(draw.genotype, draw.parameters or 0, round(score or 0.0, 9), score is not None))
        return verdicts | dict.fromkeys((one.genotype for one in best_third(ranked)), None)
