"""Racing in the studies: after which of its folds a candidate is decided, worked out from the ledger alone.

A study looks at the folds of a candidate in plan order. After each but the last it stops the candidate if a member of
its front of no more parameters beats it (`mernas.evaluation.racing`) on the clips scored so far. The front is that of
the earlier batches, which are decided before a batch is proposed. So the first fold at which a candidate is stopped
depends on the predictions of the folds up to it, never on which jobs happen to be finished, in which order they came,
or how many workers there are; a job that arrives later, for another study, changes nothing. A fold whose job failed
decides a candidate as well. After the last fold nothing is left to be saved, so nobody is stopped there.

No decision is written down. It is a function of rows of the ledger that never change, so a run that was killed
anywhere finds the same decisions again, and no decision can contradict the predictions that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.picking import Candidate
from mernas.evaluation.racing import LEAST_DIFFERENCE, Look, beaten
from mernas.search.ledger import Draw

if TYPE_CHECKING:
    from mernas.search.record import Record

# What became of a candidate of a study.
COMPLETED = "completed"
FAILED = "failed"
STOPPED = "stopped"


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate in a study.

    Attributes:
        state: `completed`, `failed` or `stopped`.
        folds: How many folds that was decided on, in plan order.
    """

    state: str
    folds: int


@dataclass(frozen=True, eq=False)
class Member:
    """A member of a study's front.

    Attributes:
        candidate: Which.
        predictions: Class numbers by row (N,); -1 where the study does not score it.
    """

    candidate: Candidate
    predictions: NDArray[np.int64]


def front_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the completed candidates that no other one dominates in inner UF1 and parameters, in their order.

    Example:
        >>> one, other = Candidate("a1", 900, 0.7), Candidate("b2", 1000, 0.6)
        >>> [member.genotype for member in front_of([one, other])]
        ['a1']
    """
    completed = [one for one in candidates if one.completed]
    return [one for one in completed if not any(_dominates(other, one) for other in completed)]


def _dominates(one: Candidate, other: Candidate) -> bool:
    ahead = one.uf1 - other.uf1
    better = ahead > LEAST_DIFFERENCE or one.parameters < other.parameters
    return ahead >= -LEAST_DIFFERENCE and one.parameters <= other.parameters and better


class Race:
    """The decisions of every study, made as they are asked for and then remembered.

    Args:
        record: What the studies know.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._plan = record.plan
        self._proposed: dict[str, dict[str, Draw]] = {study: {} for study in self._plan.studies}
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._passed: dict[tuple[str, str], int] = {}  # folds after which a candidate was looked at and not stopped
        self._fronts: dict[str, list[tuple[Member, ...]]] = {study: [()] for study in self._plan.studies}

    def takes(self, study: str, genotype: str) -> bool:
        """Return whether a study has proposed a pipeline; baselines do not race."""
        return self._draw(study, genotype) is not None

    def verdict(self, study: str, genotype: str) -> Verdict:
        """Return what became of a candidate.

        Raises:
            LookupError: If that cannot be said yet, or the study has not proposed it.
        """
        place = (study, genotype)
        if place not in self._verdicts:
            self._verdicts[place] = self._decide(study, genotype)
            self._passed.pop(place, None)
        return self._verdicts[place]

    def _decide(self, study: str, genotype: str) -> Verdict:
        draw = self._draw(study, genotype)
        if draw is None:
            raise LookupError(f"study {study} has not proposed {genotype}")
        place, folds = (study, genotype), len(self._plan.inner_left_out(study))
        predictions = np.full(len(self._plan.book.subjects), -1, dtype=np.int64)
        for number in range(1, folds + 1):
            fold = self._record.fold(study, genotype, number - 1)
            if fold is None:
                return Verdict(FAILED, number)
            predictions[fold.rows] = fold.predictions
            if number < folds and self._passed.get(place, 0) < number:
                if self._is_beaten(draw, number, predictions):
                    return Verdict(STOPPED, number)
                self._passed[place] = number
        return Verdict(COMPLETED, folds)

    def _is_beaten(self, draw: Draw, folds: int, predictions: NDArray[np.int64]) -> bool:
        """Whether a member of the front beats a candidate on the clips of its first folds."""
        plan, book = self._plan, self._plan.book
        front = self._front(draw.study, draw.batch)
        rivals = [member for member in front if member.candidate.parameters <= (draw.parameters or 0)]
        if not rivals:
            return False
        rows = np.flatnonzero(predictions >= 0)
        return beaten(
            book.labels[rows],
            predictions[rows],
            np.stack([member.predictions[rows] for member in rivals]),
            [book.subjects[row] for row in rows],
            [book.datasets[row] for row in rows],
            len(plan.dataset.classes),
            Look(plan.settings.seed, plan.studies.index(draw.study), draw.genotype or "", folds),
        )

    def _front(self, study: str, batch: int) -> tuple[Member, ...]:
        """The front of a study as it stood when a batch was proposed: that of the batches before it."""
        fronts = self._fronts[study]
        while len(fronts) <= batch:
            members = {member.candidate.genotype: member for member in fronts[-1]}
            for draw in self._read(study):
                if draw.batch == len(fronts) - 1 and draw.genotype is not None:
                    candidate = self._record.candidate(study, draw.genotype, draw.parameters or 0)
                    if candidate.completed:
                        members[draw.genotype] = self._member(study, candidate)
            best = front_of([member.candidate for member in members.values()])
            fronts.append(tuple(members[one.genotype] for one in best))
        return fronts[batch]

    def _member(self, study: str, candidate: Candidate) -> Member:
        pooled = self._record.pooled(study, candidate.genotype)
        if pooled is None:
            raise LookupError(f"{candidate.genotype} is completed and has no predictions")
        predictions = np.full(len(self._plan.book.subjects), -1, dtype=np.int64)
        predictions[pooled.rows] = pooled.predictions
        return Member(candidate, predictions)

    def _draw(self, study: str, genotype: str) -> Draw | None:
        if genotype not in self._proposed[study]:
            self._read(study)
        return self._proposed[study].get(genotype)

    def _read(self, study: str) -> list[Draw]:
        draws = self._record.proposals(study)
        self._proposed[study].update((draw.genotype or "", draw) for draw in draws)
        return draws
