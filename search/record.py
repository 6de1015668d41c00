"""What a study knows: its own proposals, and the scores of models trained without its left-out group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.jobs import JobKey
from mernas.evaluation.metrics import uf1
from mernas.evaluation.picking import Candidate
from mernas.search.halving import Halving
from mernas.search.ledger import ACCEPTED, Draw, JobRecord, Ledger
from mernas.search.plan import Plan
from mernas.search.racing import COMPLETED, FAILED, STOPPED, Race, Verdict


@dataclass(frozen=True, eq=False)
class PooledPredictions:
    """Out-of-fold predictions of one candidate in one study.

    Attributes:
        rows: The rows predicted, ascending.
        probabilities: The probability of every class, a row for each.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class numbers."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


class Record:
    """Reads the ledger with a study's eyes.

    A job for the pair {g, k} answers study g with its predictions of group k, and study k with those of group g. A
    study is only ever answered about candidates that it has proposed itself.

    Args:
        plan: The plan.
        ledger: The ledger.

    Attributes:
        halving: Which candidates are stopped after a short training; None where none are.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.plan = plan
        self.ledger = ledger
        self._known: dict[tuple[str, str], tuple[Candidate, Verdict]] = {}
        self._left_out = {study: plan.inner_left_out(study) for study in plan.studies}
        self._race = Race(self) if plan.settings.racing else None
        self.halving = Halving(self) if plan.settings.halving else None

    def job_key(self, genotype: str, left_out: tuple[str, ...], repetition: int = 0) -> JobKey:
        """Return the key of a job of this plan; an inner job is always repetition 0."""
        return JobKey(genotype, tuple(sorted(left_out)), repetition, self.plan.numeric_path)

    def job(self, genotype: str, left_out: tuple[str, ...], repetition: int = 0) -> JobRecord | None:
        """Return a finished job, or None.

        It is read from the ledger each time: what stays in memory of a candidate is its score and its verdict, since
        the predictions of all jobs of a long run would outgrow it.
        """
        return self.ledger.job(self.job_key(genotype, left_out, repetition))

    def fold(self, study: str, genotype: str, number: int) -> PooledPredictions | None:
        """Return a candidate's predictions of one of a study's folds, or None if its job failed.

        Args:
            study: The study.
            genotype: Hash of the candidate.
            number: Which fold, in plan order from 0.

        Raises:
            LookupError: If the job has not been run yet.
        """
        scored, left_out = self._left_out[study][number]
        job = self.job(genotype, left_out)
        if job is None:
            raise LookupError(f"genotype {genotype} has unfinished jobs in study {study}")
        if job.probabilities is None:
            return None
        inside = np.isin(job.rows, self.plan.book.rows_of(self.plan.partition.groups[scored]))
        return PooledPredictions(job.rows[inside], job.probabilities[inside])

    def pooled(self, study: str, genotype: str) -> PooledPredictions | None:
        """Return a candidate's pooled inner predictions in a study, or None if one of its jobs failed.

        Raises:
            LookupError: If one of its jobs has not been run yet.
        """
        every = [self.fold(study, genotype, number) for number in range(len(self._left_out[study]))]
        folds = [fold for fold in every if fold is not None]
        if len(folds) < len(every):
            return None
        rows = np.concatenate([fold.rows for fold in folds])
        order = np.argsort(rows)
        return PooledPredictions(rows[order], np.concatenate([fold.probabilities for fold in folds])[order])

    def score(self, study: str, genotype: str) -> float | None:
        """Return the inner UF1 of a pipeline in a study, or None if one of its jobs failed.

        Raises:
            LookupError: If one of its jobs has not been run yet.
        """
        pooled = self.pooled(study, genotype)
        if pooled is None:
            return None
        return uf1(self.plan.book.labels[pooled.rows], pooled.predictions, len(self.plan.dataset.classes))

    def verdict(self, study: str, genotype: str) -> Verdict:
        """Return what became of a candidate in a study, and after how many of its folds.

        Raises:
            LookupError: If a job that decides it has not been run yet.
        """
        if (study, genotype) in self._known:
            return self._known[study, genotype][1]
        early = self._early_verdict(study, genotype)
        return early or self._late_verdict(study, self.pooled(study, genotype) is None)

    def _late_verdict(self, study: str, failed: bool) -> Verdict:
        """The verdict after all folds."""
        return Verdict(FAILED if failed else COMPLETED, len(self._left_out[study]))

    def _early_verdict(self, study: str, genotype: str) -> Verdict | None:
        """The verdict of halving or of the race; None where neither has one."""
        short = self.halving.verdict(study, genotype) if self.halving is not None else None
        if short is None and self._race is not None and self._race.takes(study, genotype):
            return self._race.verdict(study, genotype)
        return short

    def is_decided(self, study: str, genotype: str) -> bool:
        """Return whether it can be said what became of a candidate in a study."""
        try:
            self.verdict(study, genotype)
        except LookupError:
            return False
        return True

    def candidate(self, study: str, genotype: str, parameters: int) -> Candidate:
        """Return a candidate with its inner UF1; one that failed or was stopped is not completed.

        Raises:
            LookupError: If a job that decides it has not been run yet.
        """
        place = (study, genotype)
        if place not in self._known:
            early = self._early_verdict(study, genotype)
            lost = early is not None and early.state != COMPLETED
            score = None if lost else self.score(study, genotype)
            verdict = early or self._late_verdict(study, score is None)
            stopped = verdict.state == STOPPED
            self._known[place] = (Candidate(genotype, parameters, score or 0.0, score is not None, stopped), verdict)
        return self._known[place][0]

    def proposals(self, study: str) -> list[Draw]:
        """Return the draws of a study that were accepted, in order."""
        return [draw for draw in self.ledger.draws(study) if draw.state == ACCEPTED]

    def candidates(self, study: str) -> list[Candidate]:
        """Return every proposal of a study with its score.

        Raises:
            LookupError: If one of their jobs has not been run yet.
        """
        return [self.candidate(study, draw.genotype or "", draw.parameters or 0) for draw in self.proposals(study)]
