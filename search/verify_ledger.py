"""A ledger, read once and whole by a reader of its own, which can write nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mernas
from mernas.evaluation.jobs import JobKey
from mernas.search.ledger import READABLE, Draw, JobRecord
from mernas.search.reading_only import reading_only
from mernas.search.verify_check import Check
from mernas.space.errors import LedgerError, MernasError, Problem
from mernas.space.genotype import Genotype, from_complete


@dataclass(frozen=True, eq=False)
class ReadJob:
    """A job as the ledger has it.

    Attributes:
        stated: The key that it is filed under.
        key: The key that its columns make.
        read: The subjects that it says it was trained on.
        record: Its predictions.
        attempts: How often it was tried.
        place: Its place in the order in which jobs were recorded.
    """

    stated: str
    key: JobKey
    read: tuple[str, ...]
    record: JobRecord
    attempts: int
    place: int

    @property
    def title(self) -> str:
        """How findings call it."""
        return f"job {self.stated} of genotype {self.key.genotype}"


@dataclass(eq=False)
class ReadLedger:
    """Everything that a ledger says, in memory.

    Attributes:
        path: The file.
        about: What it says of itself.
        sizes: Stated parameter count by genotype hash; None for classical ones.
        kinds: Stated kind by genotype hash, `network` or `classical`.
        genotypes: The pipelines that are what their hash says, by hash.
        studies: The draws of every study in the order of their numbers.
        jobs: All jobs that can be read, in the order of the keys that they are filed under.
    """

    path: Path
    about: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int | None] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    genotypes: dict[str, Genotype] = field(default_factory=dict)
    studies: dict[str, list[Draw]] = field(default_factory=dict)
    jobs: list[ReadJob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_key: dict[str, ReadJob] = {}

    def add(self, job: ReadJob) -> None:
        """Add a job under the key that its columns make."""
        self.jobs.append(job)
        self._by_key[job.key.hash] = job

    def find(self, key: JobKey) -> ReadJob | None:
        """Return a job, or None."""
        return self._by_key.get(key.hash)

    def genotype(self, key: str) -> Genotype:
        """Return a recorded pipeline.

        Raises:
            LedgerError: If there is none.
        """
        if key not in self.genotypes:
            raise LedgerError(Problem(f"ledger {self.path}", f"holds no genotype {key}"))
        return self.genotypes[key]

    def draws(self, study: str) -> list[Draw]:
        """Return the draws of a study in the order of their numbers."""
        return self.studies.get(study, [])

    def job(self, key: JobKey) -> JobRecord | None:
        """Return the predictions of a job, or None."""
        found = self.find(key)
        return None if found is None else found.record


def read_ledger(path: Path, classes: int, genotypes: Check, draws: Check, jobs: Check) -> ReadLedger:
    """Read a ledger in one transaction.

    Args:
        path: The SQLite file.
        classes: How many classes the plan has.
        genotypes: Is told of pipelines that are not what their hash says.
        draws: Is told of draws that cannot be read.
        jobs: Is told of jobs that cannot be read; these are left out.

    Raises:
        LedgerError: If the file is no ledger or is damaged.
    """
    ledger = ReadLedger(path)
    try:
        with closing(reading_only(path)) as database:
            database.execute("BEGIN")
            for (verdict,) in database.execute("PRAGMA quick_check(1)").fetchall():
                if verdict != "ok":
                    raise sqlite3.DatabaseError(str(verdict).partition("\n")[0])
            ledger.about = dict(database.execute("SELECT name, value FROM about").fetchall())
            if ledger.about.get("format") not in READABLE:  # its tables may be others
                rule = f"must be of a format that mernas {mernas.__version__} can read, {' or '.join(READABLE)}"
                remedy = "install the mernas that wrote it, or a newer one"
                raise LedgerError(Problem(f"ledger {path}", rule, f"format {ledger.about.get('format')}", remedy))
            for row in _rows(database, "SELECT hash, kind, parameters, complete FROM genotypes ORDER BY hash"):
                ledger.sizes[row["hash"]], ledger.kinds[row["hash"]] = row["parameters"], row["kind"]
                _read_genotype(row, ledger, genotypes)
            for row in _rows(database, "SELECT * FROM draws ORDER BY study, number"):
                _read_draw(row, ledger, draws)
            for row in _rows(database, "SELECT rowid AS place, * FROM jobs ORDER BY key"):
                _read_job(row, classes, ledger, jobs)
    except sqlite3.DatabaseError as error:
        raise LedgerError(Problem(f"ledger {path}", "cannot be read", str(error))) from None
    return ledger


def _rows(database: sqlite3.Connection, query: str) -> Iterator[dict[str, Any]]:
    cursor = database.execute(query)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _read_genotype(row: dict[str, Any], ledger: ReadLedger, check: Check) -> None:
    where = f"genotype {row['hash']}"
    try:
        plain = json.loads(row["complete"])
    except ValueError:
        check.fail(where, "a complete form that is no JSON", "the form that has this hash")
        return
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    made = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    if not check.expect(made == row["hash"], where, f"a complete form of hash {made}", "the form that has this hash"):
        return
    try:
        ledger.genotypes[row["hash"]] = from_complete(plain)
    except MernasError as error:
        check.fail(where, str(error), "a pipeline that this installation knows")


def _read_draw(row: dict[str, Any], ledger: ReadLedger, check: Check) -> None:
    try:
        answers = json.loads(row["answers"])
        if not isinstance(answers, dict):
            raise ValueError("answers that are no mapping")
        draw = Draw(**{**row, "answers": answers})
    except (TypeError, ValueError) as error:
        check.fail(f"study {row['study']}, draw {row['number']}", str(error), "a draw that can be read")
        return
    ledger.studies.setdefault(draw.study, []).append(draw)


def _read_job(row: dict[str, Any], classes: int, ledger: ReadLedger, check: Check) -> None:
    try:
        left_out, read = (_names(row[column]) for column in ("left_out", "read"))
        rows: NDArray[np.int64] = np.frombuffer(row["rows"], dtype="<i8").astype(np.int64)
        probabilities = epochs = None
        if row["probabilities"] is not None:
            probabilities = np.frombuffer(row["probabilities"], dtype="<f8").reshape(len(rows), classes)
        if row["epochs"] is not None:
            epochs = np.frombuffer(row["epochs"], dtype="i1").reshape(-1, len(rows))
    except ValueError as error:
        check.fail(f"job {row['key']} of genotype {row['genotype']}", str(error), "a job that can be read")
        return
    key = JobKey(row["genotype"], left_out, row["repetition"], row["numeric_path"])
    record = JobRecord(key, rows, probabilities, epochs, row["failure"], row["seconds"])
    ledger.add(ReadJob(row["key"], key, read, record, row["attempts"], row["place"]))


def _names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{text!r} is no list of subjects")
    return tuple(names)
