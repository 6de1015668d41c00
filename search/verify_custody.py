"""Custody: whether no job read whom it must not, and every job is one that somebody asked for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.jobs import JobKey
from mernas.search.ledger import ACCEPTED
from mernas.search.plan import FINAL, Plan
from mernas.search.shared_batches import shared_group
from mernas.search.verify_check import Check, listed
from mernas.search.verify_epochs import check_epochs
from mernas.search.verify_halving import shortened_hash
from mernas.search.verify_ledger import ReadJob, ReadLedger

Asked = dict[str, tuple[JobKey, str]]
"""Jobs that somebody asked for, by key, each with who did."""


def check_jobs(plan: Plan, ledger: ReadLedger, jobs: Check) -> None:
    """Check every job by itself: its key, whom it predicted, and its probabilities."""
    seen: dict[tuple[str, ...], NDArray[np.int64]] = {}
    for job in ledger.jobs:
        key, record = job.key, job.record
        jobs.equal(f"{job.title}, key made of its columns", key.hash, job.stated)
        jobs.equal(f"{job.title}, numeric path", key.numeric_path, plan.numeric_path)
        jobs.expect(key.genotype in ledger.sizes, job.title, "a genotype that is unknown", "one of the ledger")
        most = plan.settings.seeds if len(key.left_out) == 1 else 1  # only outer trainings are repeated
        jobs.expect(0 <= key.repetition < most, f"{job.title}, repetition", key.repetition, f"from 0 to {most - 1}")
        jobs.expect(job.attempts >= 1, f"{job.title}, attempts", job.attempts, "at least 1")
        wanted = plan.book.rows_of(key.left_out) if len(plan.dataset) else seen.setdefault(key.left_out, record.rows)
        if not np.array_equal(record.rows, wanted):
            jobs.fail(f"{job.title}, rows predicted", record.rows.tolist(), f"{wanted.tolist()}, of those left out")
        if record.probabilities is None:
            jobs.expect(bool(record.failure), job.title, "no predictions", "predictions, or the name of a failure")
        else:
            jobs.expect(not record.failure, job.title, f"failure {record.failure!r}", "none beside predictions")
            _check_probabilities(job, record.probabilities, jobs)
        check_epochs(plan, ledger, job, jobs)


def _check_probabilities(job: ReadJob, probabilities: NDArray[np.float64], check: Check) -> None:
    where = f"{job.title}, probabilities"
    finite = bool(np.isfinite(probabilities).all())
    if check.expect(finite, where, "numbers that are not finite", "finite numbers"):
        low, high = float(probabilities.min(initial=0.0)), float(probabilities.max(initial=1.0))
        check.expect(low >= 0 and high <= 1, where, f"{low:g} to {high:g}", "0 to 1")
        sums = probabilities.sum(axis=1)
        off = float(np.abs(sums - 1).max(initial=0.0))
        check.expect(off < 1e-6, where, f"a row whose sum is off by {off:g}", "rows that sum to 1")


def check_custody(plan: Plan, ledger: ReadLedger, check: Check) -> None:
    """Check who was read: by every job, and by those that answer each study."""
    everyone = set(plan.partition.subjects)
    for job in ledger.jobs:
        left_out, read = set(job.key.left_out), set(job.read)
        strangers = left_out - everyone
        check.expect(not strangers, f"{job.title}, left out", listed(strangers), "subjects of the plan")
        check.equal(f"{job.title}, left out", list(job.key.left_out), sorted(left_out))
        both = left_out & read
        check.expect(not both, f"{job.title}, read", f"{listed(both)}, left out and read", "nobody whom it left out")
        others = everyone - left_out
        exact = read - left_out == others and len(read) == len(job.read)
        found = f"{listed(read - left_out - others)} too many, {listed(others - read)} too few"
        check.expect(exact, f"{job.title}, read", found, "everybody else, each once")
    for study in plan.studies:
        sealed = set() if study == FINAL else set(plan.partition.groups[int(study)])
        for _, left_out_subjects in plan.inner_left_out(study):
            for genotype in [*_asked_by(plan, ledger, study), *_short_trainings(plan, ledger, study)]:
                answer = ledger.find(JobKey(genotype, left_out_subjects, 0, plan.numeric_path))
                told = set() if answer is None else sealed & set(answer.read)
                if answer is not None:
                    who = f"{listed(told)} of group {study}, read"
                    check.expect(not told, f"study {study}, answered by {answer.title}", who, "nobody of its group")


def _asked_by(plan: Plan, ledger: ReadLedger, study: str) -> list[str]:
    """The pipelines about which a study is answered: its own proposals, and every baseline."""
    own = [draw.genotype for draw in ledger.draws(study) if draw.state == ACCEPTED and draw.genotype is not None]
    return [*own, *(key for grid in plan.description["baselines"].values() for key in grid)]


def _short_trainings(plan: Plan, ledger: ReadLedger, study: str) -> list[str]:
    """The short trainings by which a study judges its proposals, if it does."""
    if not plan.settings.halving:
        return []
    own = [draw.genotype for draw in ledger.draws(study) if draw.state == ACCEPTED and draw.genotype is not None]
    return [short for genotype in own if (short := shortened_hash(ledger, genotype)) is not None]


def inner_asked(plan: Plan, ledger: ReadLedger) -> Asked:
    """Return the inner jobs that the proposals of some study, or the baselines, ask for."""
    asked: Asked = {}
    for study in plan.studies:
        for genotype in [*_asked_by(plan, ledger, study), *_short_trainings(plan, ledger, study)]:
            for scored, left_out in plan.inner_left_out(study):
                key = JobKey(genotype, left_out, 0, plan.numeric_path)
                asked.setdefault(key.hash, (key, f"study {study}, {genotype} on group {scored}"))
    return asked


def batch_mates(plan: Plan, asked: Asked) -> Asked:
    """Return the inner jobs that train in one batch with some that somebody asked for; they may be there."""
    if not plan.settings.together:
        return {}
    groups = plan.partition.groups
    inner = dict.fromkeys(left for study in plan.studies for _, left in plan.inner_left_out(study))
    batches = {left: shared_group(left, groups) for left in inner}
    found: Asked = {}
    for genotype, batch in {(key.genotype, batches[key.left_out]) for key, _ in asked.values()}:
        for left in (left for left in inner if batches[left] == batch):
            key = JobKey(genotype, left, 0, plan.numeric_path)
            found[key.hash] = (key, f"the batch of group {batch}, {genotype}")
    return found


def baselines_asked(plan: Plan) -> Asked:
    """Return the inner jobs of all baselines, which do not race."""
    asked: Asked = {}
    for study in plan.studies:
        for genotype in (key for grid in plan.description["baselines"].values() for key in grid):
            for scored, left_out in plan.inner_left_out(study):
                key = JobKey(genotype, left_out, 0, plan.numeric_path)
                asked.setdefault(key.hash, (key, f"study {study}, {genotype} on group {scored}"))
    return asked


def possible_outer(plan: Plan, ledger: ReadLedger) -> Asked:
    """Return the outer jobs that could be asked for by whatever is chosen: of proposals of the subject's own study."""
    asked: Asked = {}
    for number, group in enumerate(plan.partition.groups):
        for genotype in _asked_by(plan, ledger, str(number)):
            for subject in group:
                for repetition in range(plan.settings.seeds):
                    key = JobKey(genotype, (subject,), repetition, plan.numeric_path)
                    asked[key.hash] = (key, f"the outer test of {genotype} on {subject}")
    return asked


def audit_asked(plan: Plan, ledger: ReadLedger, others: Asked) -> Asked:
    """Return the jobs of a full audit: LOSO of the final study's candidates. They may be there, and none need be.

    They are asked for only if the ledger says that there was an audit, and if they were recorded after every other job:
    one that came before could have told a choice what it must not know.
    """
    asked: Asked = {}
    if ledger.about.get("audit") != "full":
        return asked
    last = max((job.place for job in ledger.jobs if job.key.hash in others), default=0)
    for draw in ledger.draws(FINAL):
        for subject in plan.partition.subjects if draw.state == ACCEPTED and draw.genotype is not None else ():
            key = JobKey(draw.genotype or "", (subject,), 0, plan.numeric_path)
            found = ledger.find(key)
            if found is None or found.place > last:
                asked[key.hash] = (key, f"the audit of {draw.genotype} on {subject}")
    return asked


def outer_asked(plan: Plan, needed: Iterable[tuple[str, str, str, int]]) -> Asked:
    """Return the outer jobs of what was chosen; see `mernas.search.choosing.outer_jobs`."""
    asked: Asked = {}
    for genotype, study, subject, repetition in needed:
        key = JobKey(genotype, (subject,), repetition, plan.numeric_path)
        asked[key.hash] = (key, f"study {study}, the outer test of {genotype} on {subject}, repetition {repetition}")
    return asked


def check_strangers(ledger: ReadLedger, asked: Asked, check: Check) -> None:
    """Check that every job was asked for."""
    for job in ledger.jobs:
        found = f"left out {listed(job.key.left_out)}, repetition {job.key.repetition}"
        check.expect(job.key.hash in asked, job.title, found, "a job that a proposal, baseline or choice asked for")


def check_complete(ledger: ReadLedger, asked: Asked, check: Check) -> bool:
    """Check that every job that was asked for is there, and return whether so."""
    complete = True
    for key, who in asked.values():
        complete &= check.expect(ledger.find(key) is not None, who, "no such job", f"job {key.hash}")
    return complete
