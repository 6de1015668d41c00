"""Choosing: the pick rules applied in every study, and the outer test of what they choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.bootstrap import deviation
from mernas.evaluation.metrics import MISSING
from mernas.evaluation.picking import Candidate, best, format_size, merge_rows, within
from mernas.search.plan import FINAL, Plan
from mernas.search.record import Record


@dataclass(frozen=True)
class Row:
    """One line of the front, of the rules or of the baselines: what was chosen in each study.

    Attributes:
        budgets: The budgets that it stands for; several where every study chose the same for them.
        rule: The pick rule; empty for a row of budgets.
        family: The baseline's name; empty for networks.
        choices: The choice of every study, the final one included.
    """

    budgets: tuple[int, ...]
    rule: str
    family: str
    choices: Mapping[str, Candidate]

    @property
    def budget(self) -> str:
        """The budgets as tables have them, e.g. `2000` or `10000+50000`; empty for a row of a rule."""
        return "+".join(map(str, self.budgets))

    @property
    def title(self) -> str:
        """How people read it: `<=2k`, `<=10k = <=50k`, `knee`, or a baseline's name."""
        return self.family or self.rule or " = ".join(f"<={format_size(budget)}" for budget in self.budgets)

    @property
    def final(self) -> Candidate:
        """The choice of the final study: what would be shipped."""
        return self.choices[FINAL]

    @property
    def honest(self) -> tuple[Candidate, ...]:
        """The choices of the studies that leave a group out, in the order of the groups."""
        return tuple(choice for study, choice in self.choices.items() if study != FINAL)


@dataclass(frozen=True)
class Chosen:
    """Everything that the rules chose.

    Attributes:
        front: One row per budget, or per run of budgets with the same choices.
        rules: One row per pick rule that is not a budget.
        single: The unmerged rows, one per budget.
        empty: Budgets for which some study has no candidate; they are not reported, and that is said.
    """

    front: tuple[Row, ...]
    rules: tuple[Row, ...]
    single: tuple[Row, ...]
    empty: tuple[int, ...]


def choose(plan: Plan, record: Record) -> Chosen:
    """Apply every pick rule and budget of the plan in every study.

    Args:
        plan: The plan.
        record: The record; all inner jobs must be finished.
    """
    candidates = {study: record.candidates(study) for study in plan.studies}
    single: list[Row] = []
    empty: list[int] = []
    for budget in plan.budgets:
        found = {study: within(own, budget) for study, own in candidates.items()}
        choices = {study: choice for study, choice in found.items() if choice is not None}
        if len(choices) < len(found):
            empty.append(budget)
        else:
            single.append(Row((budget,), "", "", choices))
    rules: list[Row] = []
    for rule in plan.rules:
        picked = {study: rule.pick(own, partial(spread, plan, record, study)) for study, own in candidates.items()}
        choices = {study: choice for study, choice in picked.items() if choice is not None}
        if len(choices) == len(picked):
            rules.append(Row((), str(rule), "", choices))
    same = merge_rows({row.budgets[0]: {s: c.genotype for s, c in row.choices.items()} for row in single})
    by_budget = {row.budgets[0]: row for row in single}
    front = tuple(Row(tuple(run), "", "", by_budget[run[0]].choices) for run in same)
    return Chosen(front, tuple(rules), tuple(single), tuple(empty))


def spread(plan: Plan, record: Record, study: str, candidate: Candidate) -> float:
    """Return the standard deviation of a candidate's inner UF1 over resamples of a study's own subjects."""
    pooled = record.pooled(study, candidate.genotype)
    if pooled is None:
        raise LookupError(f"{candidate.genotype} is completed and has no predictions")
    return deviation(
        plan.book.labels[pooled.rows],
        pooled.predictions,
        [plan.book.subjects[row] for row in pooled.rows],
        [plan.book.datasets[row] for row in pooled.rows],
        len(plan.dataset.classes),
        plan.settings.seed,
        plan.studies.index(study),
    )


def audited_candidates(plan: Plan, record: Record) -> list[Candidate]:
    """Return the final study's completed candidates, each once: those whose LOSO `--audit full` computes."""
    return list({one.genotype: one for one in record.candidates(FINAL) if one.completed}.values())


def choose_baselines(plan: Plan, record: Record) -> tuple[Row, ...]:
    """Apply `best` to the grid of every baseline family, in every study; a family without a result is left out."""
    rows: list[Row] = []
    for family, grid in plan.families.items():
        picked = {
            study: best([record.candidate(study, genotype.hash, 0) for genotype in grid]) for study in plan.studies
        }
        choices = {study: choice for study, choice in picked.items() if choice is not None}
        if len(choices) == len(picked):
            rows.append(Row((), "best", family, choices))
    return tuple(rows)


def outer_jobs(plan: Plan, rows: Sequence[Row]) -> list[tuple[str, str, str, int]]:
    """Return (genotype, study, subject, repetition) of every outer training, each once, genotype by genotype."""
    needed: dict[tuple[str, str], str] = {}
    for row in rows:
        for study, choice in row.choices.items():
            if study != FINAL:
                for subject in plan.partition.groups[int(study)]:
                    needed.setdefault((choice.genotype, subject), study)
    ordered = sorted(needed.items())
    repetitions = range(plan.settings.seeds)
    return [(genotype, study, subject, number) for (genotype, subject), study in ordered for number in repetitions]


def outer_predictions(
    plan: Plan, record: Record, row: Row, repetition: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.object_]]:
    """Return the pooled outer predictions of a row in one repetition, by row number.

    Args:
        plan: The plan.
        record: The record.
        row: What was chosen.
        repetition: Which of the plan's repetitions, from 0.

    Returns:
        Class numbers (N,), `MISSING` where the job failed; probabilities (N, K), NaN where it failed; and the genotype
        that predicted each row.

    Raises:
        LookupError: If one of its outer jobs has not been run yet.
    """
    total, classes = len(plan.book.subjects), len(plan.dataset.classes)
    predictions = np.full(total, MISSING, dtype=np.int64)
    probabilities = np.full((total, classes), np.nan)
    genotypes = np.full(total, "", dtype=object)
    for study, choice in row.choices.items():
        for subject in plan.partition.groups[int(study)] if study != FINAL else ():
            job = record.job(choice.genotype, (subject,), repetition)
            if job is None:
                raise LookupError(f"the outer job of {subject} has not been run in repetition {repetition}")
            genotypes[job.rows] = choice.genotype
            if job.probabilities is not None:
                predictions[job.rows] = job.probabilities.argmax(axis=1)
                probabilities[job.rows] = job.probabilities
    return predictions, probabilities, genotypes


def repeated_predictions(plan: Plan, record: Record, row: Row) -> NDArray[np.int64]:
    """Return the class numbers that a row predicts in every repetition (R, N); see `outer_predictions`."""
    return np.stack([outer_predictions(plan, record, row, number)[0] for number in range(plan.settings.seeds)])
