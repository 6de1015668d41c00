"""Verifying: whether a run is what it says, from its directory alone. Nothing is trained and nothing is written.

The ledger is the only truth about what was trained; everything else that a run states follows from it, from the plan
and from the labels, which are those of the predictions and must have the fingerprint of the plan. So every table and
every text of the report is made again and compared, and from whom every job read it must follow that no choice saw whom
it is tested on. What was proposed is taken from the ledger: no sampler is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click

import mernas.components  # noqa: F401  # registers every component
from mernas.search.choosing import Chosen, Row, choose, choose_baselines, outer_jobs
from mernas.search.finished import FinishedRun
from mernas.search.ledger import Ledger
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.results import make_tables
from mernas.search.verify_check import SHOWN, Check
from mernas.search.verify_custody import (
    Asked,
    audit_asked,
    baselines_asked,
    batch_mates,
    check_complete,
    check_custody,
    check_jobs,
    check_strangers,
    inner_asked,
    outer_asked,
    possible_outer,
)
from mernas.search.verify_draws import check_draws, check_genotypes
from mernas.search.verify_figures import PROMISES, check_independently, compare_candidates, compare_tables
from mernas.search.verify_ledger import ReadLedger, read_ledger
from mernas.search.verify_plan import read_clips, read_plan, rebuild_plan
from mernas.search.verify_racing import Decisions, check_race, decide_again
from mernas.search.verify_report import PICTURES, REPORT_PROMISES, compare_report
from mernas.search.verify_space import check_proposals
from mernas.space.errors import MernasError

FILES = (*PROMISES, *REPORT_PROMISES, *PICTURES, "environment.txt")
"""Files of a finished run beside its plan, its ledger and its candidates."""
RESULTS = tuple(name for name in FILES if name not in ("trials.csv", "environment.txt"))
"""Those that only a finished run has; a stopped one leaves trials.csv too."""


@dataclass(frozen=True, eq=False)
class Verification:
    """What verifying a run found.

    Attributes:
        folder: The run directory.
        plan: The hash that the plan states.
        finished: Whether the run has results; of one without, only the ledger is checked.
        checks: Every check.
        failed_jobs: Jobs that failed in the run, which is no fault of it: key, genotype, left out, failure, attempts.
    """

    folder: Path
    plan: str
    finished: bool
    checks: tuple[Check, ...]
    failed_jobs: tuple[dict[str, Any], ...]

    @property
    def holds(self) -> bool:
        """Whether no check failed and, of a finished run, none was left out that could have been made."""
        return all(check.holds if self.finished else not check.findings for check in self.checks)

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "folder": str(self.folder),
            "plan": self.plan,
            "state": "finished" if self.finished else "unfinished",
            "holds": self.holds,
            "checks": [check.plain() for check in self.checks],
            "failed_jobs": list(self.failed_jobs),
        }


def verify_run(folder: str | Path) -> Verification:
    """Recompute every figure of a run from its ledger, and check from the ledger that no job read whom it must not.

    Args:
        folder: The run directory; it may be that of a run under way.

    Raises:
        PlanError: If it is no run directory.
        LedgerError: If its ledger is damaged.

    Example:
        >>> verify_run("no-such-folder")
        Traceback (most recent call last):
        mernas.space.errors.PlanError: no-such-folder: is no run directory: it has no plan.yaml. Name the folder that \
a search wrote, the one that holds plan.yaml and ledger.sqlite.
    """
    folder = Path(folder)
    stated = read_plan(folder)
    finished = any((folder / name).exists() for name in RESULTS)
    plan_check = Check("plan", "plan.yaml is the plan that was hashed, of the labels that were scored")
    partition = Check("partition", "every subject is in exactly one group, and every class in at least three")
    genotypes = Check("genotypes", "every pipeline has the hash and the parameters that are stated")
    draws = Check("draws", "every study proposed as often as the others and as planned, nothing above the limit")
    space = Check("space", "every proposal lies in the plan's space and has the answers that lead to it")
    jobs = Check("jobs", "every job is filed under its key and predicted exactly whom it left out")
    custody = Check("custody", "every job read everybody but whom it left out; no study was told of its own group")
    answers = Check("answers", "every job was asked for by a proposal, a baseline or a choice, and none is missing")
    files = Check(
        "files", "every file of a finished run is there", skipped="" if finished else "there are no results yet"
    )
    checks = [files, plan_check, partition, genotypes, draws, space, jobs, custody, answers]
    for name in FILES if finished else ():
        again = "; `mernas report` makes it again" if name in (*REPORT_PROMISES, *PICTURES) else ""
        files.expect((folder / name).is_file(), name, "no such file", f"a file of every finished run{again}")

    classes = len(stated.description["data"]["classes"])
    ledger = read_ledger(folder / "ledger.sqlite", classes, genotypes, draws, jobs)
    clips = read_clips(folder, stated) if finished else []
    plan = rebuild_plan(stated, clips, ledger, plan_check, partition)
    if plan is None:
        for check in (draws, space, jobs, custody, answers):
            check.skipped = "the plan cannot be understood"
        checks += _left_out("the plan cannot be understood")
    else:
        check_genotypes(plan, ledger, finished, genotypes)
        check_draws(plan, ledger, finished, draws)
        check_proposals(plan, ledger, space)
        check_jobs(plan, ledger, jobs)
        check_custody(plan, ledger, custody)
        checks += _check_results(folder, plan, ledger, answers, bool(clips)) if finished else []
        if not finished:
            check_strangers(ledger, inner_asked(plan, ledger) | _later(plan, ledger), answers)
            checks += _left_out("there are no results yet")
    failed = tuple(
        {
            "job": job.stated,
            "genotype": job.key.genotype,
            "left_out": list(job.key.left_out),
            "repetition": job.key.repetition,
            "failure": job.record.failure,
            "attempts": job.attempts,
        }
        for job in ledger.jobs
        if job.record.failure
    )
    return Verification(folder, stated.hash, finished, tuple(checks), failed)


def _left_out(reason: str) -> list[Check]:
    promises = {**PROMISES, **REPORT_PROMISES}
    checks = [Check(name, promise, skipped=reason) for name, promise in promises.items()]
    return [*checks, _candidates(reason), _independent(reason)]


def _candidates(reason: str = "") -> Check:
    return Check("candidates", "every file of a chosen pipeline is that pipeline", skipped=reason)


def _independent(reason: str = "") -> Check:
    return Check("scikit-learn", "scikit-learn finds the same scores in the predictions", skipped=reason)


def _check_results(folder: Path, plan: Plan, ledger: ReadLedger, answers: Check, labelled: bool) -> list[Check]:
    """Make all choices and tables again and compare them."""
    asked = inner_asked(plan, ledger)
    mates = batch_mates(plan, asked)
    every = asked | mates | _later(plan, ledger)
    if not labelled:
        check_strangers(ledger, every, answers)
        return _left_out("no file tells the labels")
    # Where candidates are stopped, jobs may be asked for and then not be needed.
    stops = plan.settings.racing or plan.settings.halving
    decisions = decide_again(plan, ledger) if stops else None
    needed = asked if decisions is None else decisions.needed | baselines_asked(plan)
    if not check_complete(ledger, needed, answers):
        check_strangers(ledger, every, answers)
        return _left_out("inner jobs are missing")
    missing = {key for grid in plan.description["baselines"].values() for key in grid} - set(ledger.genotypes)
    if missing:
        check_strangers(ledger, every, answers)
        return _left_out("pipelines of the baselines are missing")
    # Record reads a ledger through three methods, which ReadLedger has; Ledger itself would open the file to write.
    record = Record(plan, cast(Ledger, ledger))
    try:
        return _compare(folder, plan, ledger, record, asked | mates, answers, decisions)
    except (MernasError, LookupError, ValueError) as error:
        checks = _left_out("the results cannot be made again")
        checks[0].fail("ledger.sqlite", f"{type(error).__name__}: {error}", "a ledger from which results can be made")
        return checks


def _compare(
    folder: Path,
    plan: Plan,
    ledger: ReadLedger,
    record: Record,
    asked: Asked,
    answers: Check,
    decisions: Decisions | None,
) -> list[Check]:
    chosen, baselines = choose(plan, record), choose_baselines(plan, record)
    outer = outer_asked(plan, outer_jobs(plan, _tested(chosen, baselines)))
    check_strangers(ledger, asked | outer | audit_asked(plan, ledger, asked | outer), answers)
    if not check_complete(ledger, outer, answers):
        return _left_out("outer jobs are missing")
    tables = make_tables(plan, record, chosen, baselines)
    candidates, independent = _candidates(), _independent()
    compare_candidates(folder, tables, ledger, candidates)
    check_independently(folder, plan, record, independent)
    run = FinishedRun(folder, plan, ledger, record, chosen, baselines, tables)
    reported = compare_report(run, {*asked, *outer})
    checks = [*compare_tables(folder, tables), *reported, candidates, independent]
    if decisions is not None:
        settings = plan.settings
        names = [name for name, on in (("halving", settings.halving), ("racing", settings.racing)) if on]
        checks.append(
            Check(" and ".join(names), "every candidate was stopped where it had to be, and none that was is chosen")
        )
        check_race(folder, decisions, checks[-1])
    return checks


def _later(plan: Plan, ledger: ReadLedger) -> Asked:
    """What may be asked for once something is chosen."""
    return possible_outer(plan, ledger) | audit_asked(plan, ledger, {})


def _tested(chosen: Chosen, baselines: Sequence[Row]) -> list[Row]:
    return [*chosen.front, *chosen.rules, *baselines]


def print_verification(found: Verification, say: Callable[[str], None] = click.echo) -> None:
    """Tell a person what verifying found."""
    say(f"Run {found.folder}, plan {found.plan}")
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        if check.verdict == "not checked" and not found.finished:
            continue
        detail = f"not checked: {check.skipped}" if check.skipped and not check.findings else check.promise
        mark = {"ok": "ok    ", "failed": "FAILED"}.get(check.verdict, "-     ")
        say(f"{mark}  {check.name:<{width}}  {detail} ({check.checked:,} checked)")
        for reason in check.left_out:
            say(f"          left out: {reason}")
        for finding in check.findings[:SHOWN]:
            say(f"          {finding}")
        if len(check.findings) > SHOWN:
            say(f"          and {len(check.findings) - SHOWN:,} more; --json lists them all")
    if found.failed_jobs:
        say(f"{len(found.failed_jobs)} jobs failed in the run; the figures count them as planned:")
        for job in found.failed_jobs[:SHOWN]:
            say(f"          job {job['job']} of {job['genotype']}, attempts {job['attempts']}: {job['failure']}")
        if len(found.failed_jobs) > SHOWN:
            say(f"          and {len(found.failed_jobs) - SHOWN:,} more; --json lists them all")
    broken = sum(check.verdict == "failed" for check in found.checks)
    skipped = sum(check.verdict == "not checked" for check in found.checks)
    if broken:
        say(f"The run is not what it says: {broken} of {len(found.checks)} checks failed.")
    elif not found.holds:
        say(f"Nothing is wrong so far, but {skipped} of {len(found.checks)} checks could not be made.")
    elif not found.finished:
        say("Unfinished: the ledger is checked and holds so far; there are no results yet.")
    elif any(check.left_out for check in found.checks):
        say("Everything that this installation can check holds; what it cannot is said above.")
    else:
        say("Everything holds: tables and report follow from the ledger, and no job read whom it must not.")
