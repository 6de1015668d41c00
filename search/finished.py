"""A finished run, read from its directory alone: no data and no training are needed to tell about it.

Everything is made again from plan.yaml, the ledger, and the labels that predictions.csv holds, by the very functions
that made the tables; `mernas verify` compares the two, and this module trusts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mernas.components  # noqa: F401  # registers every component
from mernas.search.choosing import Chosen, Row, choose, choose_baselines
from mernas.search.ledger import JobRecord, Ledger
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.results import Tables, make_tables
from mernas.search.verify_check import Check
from mernas.search.verify_ledger import ReadLedger, read_ledger
from mernas.search.verify_plan import holds, read_clips, read_plan, rebuild_plan
from mernas.space.errors import MernasError, PlanError, Problem
from mernas.space.genotype import Genotype


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: The run directory.
        plan: What was done; its clips have subjects and labels, and no frames.
        ledger: Everything that the ledger says.
        record: What each study knows.
        chosen: What every study chose.
        baselines: The rows of the baselines.
        tables: Every table.
    """

    folder: Path
    plan: Plan
    ledger: ReadLedger
    record: Record
    chosen: Chosen
    baselines: tuple[Row, ...]
    tables: Tables

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the front, then those of the rules; the baselines apart."""
        return (*self.chosen.front, *self.chosen.rules)

    def genotype(self, key: str) -> Genotype:
        """Return a pipeline by its hash.

        Raises:
            LedgerError: If the run has none of that hash.
        """
        return self.ledger.genotype(key)

    def jobs(self) -> Iterator[JobRecord]:
        """Yield every finished job, those that failed included."""
        for job in self.ledger.jobs:
            yield job.record


def open_run(folder: str | Path) -> FinishedRun:
    """Read a finished run.

    Args:
        folder: The run directory.

    Raises:
        PlanError: If it is no run directory, the run is not finished, or its files do not fit together.
        LedgerError: If its ledger is damaged.

    Example:
        >>> open_run("no-such-folder")
        Traceback (most recent call last):
        mernas.space.errors.PlanError: no-such-folder: is no run directory: it has no plan.yaml. Name the folder that \
a search wrote, the one that holds plan.yaml and ledger.sqlite.
    """
    folder = Path(folder)
    stated = read_plan(folder)
    if not holds(folder / "front.csv") or not holds(folder / "predictions.csv"):
        remedy = "repeat the command that made it: it goes on where it stopped"
        raise PlanError(Problem(str(folder), "is a run that is not finished", "", remedy))
    checks = [Check(name, "") for name in ("genotypes", "draws", "jobs", "plan", "partition")]
    ledger = read_ledger(folder / "ledger.sqlite", len(stated.description["data"]["classes"]), *checks[:3])
    plan = rebuild_plan(stated, read_clips(folder, stated), ledger, *checks[3:])
    findings = [finding for check in checks for finding in check.findings]
    if plan is None or findings:
        raise _damaged(folder, str(findings[0]) if findings else "no plan")
    # Record reads a ledger through three methods, which ReadLedger has; Ledger itself would open the file to write.
    record = Record(plan, cast(Ledger, ledger))
    try:
        chosen, baselines = choose(plan, record), choose_baselines(plan, record)
        tables = make_tables(plan, record, chosen, baselines)
    except (MernasError, LookupError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    return FinishedRun(folder, plan, ledger, record, chosen, baselines, tables)


def _damaged(folder: Path, found: str) -> PlanError:
    return PlanError(Problem(str(folder), "is not what it says", found, f"see `mernas verify {folder}`"))
