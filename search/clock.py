"""The clock of a run with `--time`: how many more proposals fit, so that the run ends when the time is up.

Every round is forecast from what the pipelines cost so far, and what earlier rounds took in proportion to their
forecasts corrects the next: jobs that studies share, replay or spare by racing, workers that wait, the driver itself.
The outer test is forecast for what the rules would choose now. Its worst case, every choice the dearest pipeline of
all, would leave half of the time unused. If a whole round does not fit, a smaller one may.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mernas.search.choosing import choose, outer_jobs
from mernas.search.costs import outer_block, outer_rows, seconds_per_row
from mernas.search.duration import format_duration
from mernas.search.forecast import Costs, Train, baseline_seconds, measured, pilot, shared_by_all
from mernas.search.nested import NestedSearch
from mernas.space.errors import PlanError, Problem, RunError


class Clock:
    """Says how many more proposals per study a run has time for.

    Args:
        search: The run.
        limit: Seconds that it may take, restarts included.
        spent: Returns the seconds that it has taken; by default those of the ledger's sessions.
        train: Does the jobs of the pilot, see `mernas.search.forecast.pilot`.
    """

    def __init__(
        self,
        search: NestedSearch,
        limit: float,
        spent: Callable[[], float] | None = None,
        train: Train | None = None,
    ) -> None:
        self._search = search
        self._limit = limit
        self._spent = search.ledger.seconds if spent is None else spent
        self._train = train
        self._pilot: Costs | None = None
        self._promised: tuple[float, float] | None = None
        self._rounds: list[tuple[float, float]] = []

    def __call__(self, done: int, drawn: int, room: int) -> int:
        """Return how many proposals per study to add, at most a round of them; 0 where the time is up.

        Args:
            done: Proposals per study whose jobs are finished.
            drawn: Proposals per study so far.
            room: How many the next round would have.

        Raises:
            PlanError: If there is not even time for one proposal per study and its outer test.
            RunError: If every pilot failed.
        """
        if self._pilot is None:
            self._pilot, _ = pilot(self._search, self._train)
        costs = measured(self._search, self._pilot)
        if not costs.networks:
            found = (*self._pilot.failures, "no pilot at all")[0]
            raise RunError(
                Problem("--time", "cannot be kept, because every pilot failed", found, "see `mernas doctor`")
            )
        # While candidates are under way, as in an asynchronous study, nothing can be chosen yet.
        now, outer = self._spent(), self._outer_blocks(costs) if done == drawn > 0 else []
        if self._promised is not None:
            began, promised = self._promised
            self._rounds.append((promised, now - began))
        for more in range(room, 0, -1):
            promised = self._round(costs, done, drawn, drawn + more)
            forecast = now + promised * self._correction() + self._rest(costs, outer, drawn + more)
            if forecast <= self._limit:
                # What came of the first round, and of the pilot, says nothing of later ones.
                self._promised = (now, promised) if drawn > 0 and not self._search.plan.settings.asynchronous else None
                return more
        if drawn == 0:
            rule = "is too short for one trial per study and the outer test"
            found = f"{format_duration(self._limit)}, forecast {format_duration(forecast)}"
            remedy = "allow more time, more --workers, a lower --max-params or fewer --budgets"
            raise PlanError(Problem("--time", rule, found, remedy))
        return 0

    def _correction(self) -> float:
        """What the later rounds took, in proportion to what was forecast of them."""
        promised, took = (sum(part) for part in zip(*self._rounds, strict=True)) if self._rounds else (1.0, 1.0)
        return took / promised

    def _round(self, costs: Costs, done: int, drawn: int, until: int) -> float:
        """Return how long all proposals that are not finished would last if no study shared any job with another."""
        plan = self._search.plan
        every = len(plan.book.subjects)
        rows = {
            study: sum(every - len(plan.book.rows_of(left)) for _, left in plan.inner_left_out(study))
            for study in plan.studies
        }
        if drawn == 0:
            _, shared = shared_by_all(plan)
            return self._lasting(seconds * shared for _, seconds in costs.networks[:until])
        studies = [study for study in plan.studies for _ in range(until - done)]
        typical = _spread_out([seconds for _, seconds in costs.networks], len(studies))
        return self._lasting(rows[study] * seconds for study, seconds in zip(studies, typical, strict=True))

    def _rest(self, costs: Costs, outer: Sequence[float], until: int) -> float:
        """Return how long the baselines and the outer test would last if the search ended with so many proposals.

        Before anything is chosen, every budget and rule is taken to choose a pipeline of its own of the mean cost.
        """
        plan, workers = self._search.plan, self._search.executor.workers
        if not outer:
            trainings = len(plan.dataset.subjects) * plan.settings.seeds
            choices = min(len(plan.budgets) + len(plan.rules), until)
            per_row = choices * costs.mean + sum(costs.families.values())
            outer = [per_row * outer_rows(plan)] * trainings
        return baseline_seconds(plan, costs) / workers + self._lasting(outer)

    def _outer_blocks(self, costs: Costs) -> list[float]:
        """Seconds of the outer test's blocks for what the rules would choose now; none if nothing could be chosen."""
        plan = self._search.plan
        chosen = choose(plan, self._search.record)
        jobs = Counter(genotype for genotype, _, _, _ in outer_jobs(plan, [*chosen.front, *chosen.rules]))
        if not jobs:
            return []
        jobs.update(dict.fromkeys(plan.families, len(plan.dataset.subjects) * plan.settings.seeds))
        per_row = {**seconds_per_row(self._search.ledger, plan.book), **costs.families}
        blocks: list[float] = []
        for name in sorted(jobs, key=lambda name: -per_row[name]):
            each = per_row[name] * outer_rows(plan)
            size = outer_block(each)
            blocks += [each * min(size, jobs[name] - begin) for begin in range(0, jobs[name], size)]
        return blocks

    def _lasting(self, blocks: Iterable[float]) -> float:
        """Return how long blocks last that are handed out in order, each to the next worker that is free."""
        free = [0.0] * self._search.executor.workers
        for seconds in blocks:
            heapq.heapreplace(free, free[0] + seconds)
        return max(free)


def _spread_out(values: Sequence[float], number: int) -> list[float]:
    """Return so many values that are spread like the given ones, large and small ones mixed in a fixed order."""
    places = (np.random.default_rng(0).permutation(number) + 0.5) / number
    return [float(value) for value in np.quantile(values, places)]
