"""An alternative first batch, under trial: it covers the inputs as well as the sizes.

The first batch of `mernas.search.sampling` spreads over sizes and leaves everything else to chance: of eight inputs,
eight random draws meet five. Here the questions at the top of a stream, those about its input, are not answered at
random but dealt out: each has its choices in an order that the run's seed shuffles, and place p of the batch takes the
choice number p, beginning again when all have been taken (a Latin hypercube over the inputs). Everything else, the
redraws for the sizes included, is as in the original.
"""

from __future__ import annotations

import bisect
import random

from mernas.search.ledger import ACCEPTED, EXHAUSTED, INFEASIBLE, PASSED_OVER, REPEATED
from mernas.search.plan import Plan
from mernas.search.sampling import REDRAWS, Measure, Proposed, _Batch
from mernas.space.genotype import Genotype
from mernas.space.parameters import Primitive
from mernas.space.suggestion import RandomTrial

TOP = ".input"
"""What the names of the questions about a stream's input contain."""


class CoveringTrial(RandomTrial):
    """Answers at random, but deals out the choices of an input by place.

    Args:
        seed: The run's seed, the same for all places.
        place: Which place of the batch.
        attempt: Which draw for it.

    Example:
        >>> trials = [CoveringTrial(0, place, 0) for place in range(4)]
        >>> sorted(one.suggest_categorical("streams.0.input.flow.centre", ("none", "median")) for one in trials)
        ['median', 'median', 'none', 'none']
    """

    def __init__(self, seed: int, place: int, attempt: int) -> None:
        super().__init__(f"{seed} first {place} {attempt}")
        self._seed = seed
        self._place = place

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        """Return the choice whose turn it is, or a random one."""
        if TOP not in name:
            return super().suggest_categorical(name, choices)
        order = list(choices)
        random.Random(f"{self._seed} order {name}").shuffle(order)
        return order[self._place % len(order)]


def covering_first_batch(plan: Plan, study: str, measure: Measure) -> Proposed:
    """Return the first batch; arguments as for `mernas.search.sampling.first_batch`. Presets take no part."""
    bounds = sorted({*plan.budgets, plan.settings.max_parameters})
    filled = [0] * len(bounds)
    batch = _Batch(plan, study, 0, 0, measure)
    while batch.place < plan.batches[0]:
        passed: Genotype | None = None
        for attempt in range(REDRAWS + 1):
            genotype = plan.space.suggest(CoveringTrial(plan.settings.seed, batch.place, attempt))
            parameters = measure(genotype)
            if parameters is None or parameters > plan.settings.max_parameters:
                batch.add(INFEASIBLE, "covering", genotype)
                continue
            interval = bisect.bisect_left(bounds, parameters)
            if not batch.fresh(genotype):
                batch.add(REPEATED, "covering", genotype)
            elif filled[interval] > min(filled):
                batch.add(PASSED_OVER, "covering", genotype)
                passed = passed or genotype
            else:
                batch.add(ACCEPTED, "covering", genotype)
                filled[interval] += 1
                break
        else:
            batch.add(EXHAUSTED if passed is None else ACCEPTED, "covering", passed)
            if passed is not None:
                filled[bisect.bisect_left(bounds, measure(passed) or 0)] += 1
    return batch.draws, batch.genotypes
