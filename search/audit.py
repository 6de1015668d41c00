"""The audit of a run: the figures that the field mixes up, side by side, for every row.

Only the nested figure is a result. The final study's best score was chosen and reported on the same folds; the best
epoch of a test subject has seen its labels; and so has the best of all candidates under plain LOSO, which
`--audit full` computes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.audit import audit_epochs
from mernas.evaluation.metrics import MISSING, uf1
from mernas.evaluation.picking import Candidate, best
from mernas.search.choosing import Row, audited_candidates
from mernas.search.finished import FinishedRun
from mernas.search.ledger import JobRecord
from mernas.search.plan import FINAL


@dataclass(frozen=True)
class Optimism:
    """One row of a run, by who chose.

    Attributes:
        row: The row's title.
        nested: Its nested UF1: the result.
        low, high: The 95% interval of that.
        inner: The final study's choice, chosen and reported on the same folds; not a result.
        common_epoch: Nested, but every chosen pipeline with its best single epoch, picked on the test predictions of
            all subjects that it was tested on; where all studies chose the same one, that is one epoch for everybody.
            Not a result. None for classical rows, and where an outer job failed.
        epoch_per_subject: Nested, but with the best epoch of every test subject; not a result; None as above.
    """

    row: str
    nested: float
    low: float
    high: float
    inner: float
    common_epoch: float | None
    epoch_per_subject: float | None


@dataclass(frozen=True)
class FullAudit:
    """LOSO of every candidate of the final study, and the best of them quoted; not a result.

    Attributes:
        candidates: How many were evaluated.
        failed: How many of them lack a prediction, which counts as an error.
        best: UF1 of the best one.
        genotype, params: Which that is.
        nested: The nested UF1 of the rule `best`, to which it compares; the mean over repetitions, of which the
            candidates are given the first alone.
    """

    candidates: int
    failed: int
    best: float
    genotype: str
    params: int
    nested: float


@dataclass(frozen=True)
class Audit:
    """The audit of a run.

    Attributes:
        rows: One entry per row of the front and the rules, then the baselines.
        full: LOSO of all candidates, if it was asked for.
    """

    rows: tuple[Optimism, ...]
    full: FullAudit | None

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, each figure that is no result under a name that says so."""
        rows = [
            {
                "row": one.row,
                "nested_uf1": one.nested,
                "interval": [one.low, one.high],
                "not_a_result": {
                    "final_study_inner_uf1": one.inner,
                    "best_common_epoch_uf1": one.common_epoch,
                    "best_epoch_per_subject_uf1": one.epoch_per_subject,
                },
            }
            for one in self.rows
        ]
        return {"rows": rows, "loso_of_all_candidates_not_a_result": None if self.full is None else asdict(self.full)}


def make_audit(run: FinishedRun) -> Audit:
    """Return the audit of a finished run, from its ledger."""
    tables = (run.tables.front, run.tables.rules, run.tables.baselines)
    figures = [line for table in tables for line in table.to_dict(orient="records")]
    rows = tuple(_optimism(run, row, line) for row, line in zip((*run.rows, *run.baselines), figures, strict=True))
    return Audit(rows, _full(run))


def _optimism(run: FinishedRun, row: Row, line: dict[Any, Any]) -> Optimism:
    by_epoch = [_best_epochs(run, row, repetition) for repetition in range(run.plan.settings.seeds)]
    told = [pair for pair in by_epoch if pair is not None]
    common = per_subject = None
    if len(told) == len(by_epoch):
        common, per_subject = mean(pair[0] for pair in told), mean(pair[1] for pair in told)
    return Optimism(
        row=row.title,
        nested=float(line["nested_uf1"]),
        low=float(line["ci_low"]),
        high=float(line["ci_high"]),
        inner=row.final.uf1,
        common_epoch=common,
        epoch_per_subject=per_subject,
    )


def _best_epochs(run: FinishedRun, row: Row, repetition: int) -> tuple[float, float] | None:
    """UF1 with the best epoch per chosen pipeline, and per subject; None where epochs were not watched."""
    plan = run.plan
    labels, classes = plan.book.labels, len(plan.dataset.classes)
    common = np.full(len(labels), MISSING, dtype=np.int64)
    single = common.copy()
    tested: dict[str, list[JobRecord]] = {}
    for study, choice in row.choices.items():
        for subject in () if study == FINAL else plan.partition.groups[int(study)]:
            job = run.record.job(choice.genotype, (subject,), repetition)
            if job is None or job.epoch_predictions is None:
                return None
            tested.setdefault(choice.genotype, []).append(job)
    for jobs in tested.values():
        rows, epochs = _joined(jobs)
        subjects = [plan.book.subjects[place] for place in rows]
        found = audit_epochs(labels[rows], epochs, subjects, classes)
        common[rows] = epochs[found.common_epoch - 1]
        single[rows] = found.best_per_subject
    return uf1(labels, common, classes), uf1(labels, single, classes)


def _joined(jobs: list[JobRecord]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of several jobs, and what was predicted for them after every epoch (E, n)."""
    rows = np.concatenate([job.rows for job in jobs])
    epochs = np.concatenate([job.epoch_predictions for job in jobs if job.epoch_predictions is not None], axis=1)
    return rows, epochs.astype(np.int64)


def _full(run: FinishedRun) -> FullAudit | None:
    """LOSO of all candidates of the final study, if every one of its jobs is there."""
    plan = run.plan
    labels, classes = plan.book.labels, len(plan.dataset.classes)
    scored: list[Candidate] = []
    failed = 0
    for candidate in audited_candidates(plan, run.record):
        predictions = np.full(len(labels), MISSING, dtype=np.int64)
        for subject in plan.partition.subjects:
            job = run.record.job(candidate.genotype, (subject,))
            if job is None:
                return None
            if job.probabilities is not None:
                predictions[job.rows] = job.probabilities.argmax(axis=1)
        failed += bool((predictions == MISSING).any())
        scored.append(replace(candidate, uf1=uf1(labels, predictions, classes)))
    rule = [row for row in run.chosen.rules if row.rule == "best"]
    top = best(scored)
    if top is None or not rule:
        return None
    rules = run.tables.rules
    nested = float(rules["nested_uf1"].to_numpy()[list(rules["rule"]).index("best")])
    return FullAudit(len(scored), failed, top.uf1, top.genotype, top.parameters, nested)
