"""The ledger: one SQLite file per run, the only truth about what was proposed and what was trained.

Write-ahead logging with full synchronisation, one writer, every finished job in a transaction of its own: whatever
kills the run costs at most the jobs that were under way. Nothing is ever updated but the clock; studies are rebuilt by
reading.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.jobs import JobKey, Outcome
from mernas.space.errors import LedgerError, PlanError, Problem
from mernas.space.genotype import Genotype, from_complete
from mernas.space.parameters import Primitive

LEDGER_FORMAT = 2
READABLE = tuple(str(number) for number in range(1, LEDGER_FORMAT + 1))
"""The formats of which a finished run can be read; only in the last one can a run go on."""

# States of a draw. A place in a batch is filled by one `accepted` draw, or given up as `exhausted`.
ACCEPTED = "accepted"
INFEASIBLE = "infeasible"  # does not build, or is over the parameter limit
DUPLICATE = "duplicate"  # the same as a finished candidate of the same study
REPEATED = "repeated"  # the same as another one of its batch
PASSED_OVER = "passed over"  # first batch only: its size lies in an interval that is filled better
EXHAUSTED = "exhausted"

_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE genotypes (
    hash TEXT PRIMARY KEY, kind TEXT NOT NULL, parameters INTEGER, complete TEXT NOT NULL
) STRICT;
CREATE TABLE draws (
    study TEXT NOT NULL, number INTEGER NOT NULL, batch INTEGER NOT NULL, place INTEGER NOT NULL,
    state TEXT NOT NULL, origin TEXT NOT NULL, genotype TEXT, parameters INTEGER, answers TEXT NOT NULL,
    PRIMARY KEY (study, number)
) STRICT;
CREATE TABLE jobs (
    key TEXT PRIMARY KEY, genotype TEXT NOT NULL, left_out TEXT NOT NULL, repetition INTEGER NOT NULL,
    numeric_path TEXT NOT NULL, read TEXT NOT NULL, rows BLOB NOT NULL, probabilities BLOB, epochs BLOB,
    failure TEXT NOT NULL, seconds REAL NOT NULL, started REAL NOT NULL, host TEXT NOT NULL, attempts INTEGER NOT NULL
) STRICT;
CREATE TABLE sessions (number INTEGER PRIMARY KEY, started REAL NOT NULL, seconds REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Draw:
    """One draw of a study.

    Attributes:
        study, number: Which; numbers count a study's draws from 0.
        batch, place: For which place of which batch.
        state: One of the states above.
        origin: `preset NAME`, `random` or the sampler's name.
        genotype: Hash, or None where the pipeline could not be made.
        parameters: Its parameter count, or None where it does not build.
        answers: The trial's answers by dotted name.
    """

    study: str
    number: int
    batch: int
    place: int
    state: str
    origin: str
    genotype: str | None
    parameters: int | None
    answers: dict[str, Primitive]


def _draws(rows: Iterable[tuple[Any, ...]]) -> list[Draw]:
    return [
        Draw(study, number, batch, place, state, origin, genotype, parameters, json.loads(answers))
        for study, number, batch, place, state, origin, genotype, parameters, answers in rows
    ]


@dataclass(frozen=True, eq=False)
class JobRecord:
    """One finished job.

    Attributes:
        key: Who was left out of which genotype.
        rows: The rows predicted (m,), ascending.
        probabilities: (m, K), or None if the job failed.
        epoch_predictions: (epochs, m), if they were watched.
        failure: Empty, or the failure's name and what happened.
        seconds: How long it took.
    """

    key: JobKey
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None
    epoch_predictions: NDArray[np.int8] | None
    failure: str
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What one finished job cost.

    Attributes:
        kind: `network` or `classical`.
        genotype: Its hash.
        parameters: Its parameter count; None for classical ones.
        predicted: How many rows it predicted; it was trained on all others.
        seconds: How long it took.
    """

    kind: str
    genotype: str
    parameters: int | None
    predicted: int
    seconds: float


def _remedy(error: sqlite3.DatabaseError) -> str:
    """What to do about a ledger that cannot be used; only a damaged one has to be given up."""
    if "full" in str(error) or "I/O" in str(error):
        return "free some disk space and repeat the command: it goes on where it stopped"
    if "readonly" in str(error) or "unable to open" in str(error) or "locked" in str(error):
        return "make the folder and the file writable for this user, or choose another folder"
    return "move the file away; the same command then starts afresh"


class Ledger:
    """The ledger of one run.

    Args:
        path: The SQLite file; made if it does not exist.
        plan_hash: The plan that the run belongs to.

    Raises:
        PlanError: If the file belongs to another plan.
        LedgerError: If it cannot be opened or is damaged.
    """

    def __init__(self, path: Path, plan_hash: str) -> None:
        self.path = path
        self._session: int | None = None
        self._clock = 0.0
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            try:
                self._open(plan_hash)
            except BaseException:  # nobody else could close what nobody gets
                self._database.close()
                raise
        except sqlite3.DatabaseError as error:
            raise LedgerError(Problem(f"ledger {path}", "cannot be opened", str(error), _remedy(error))) from None

    def _open(self, plan_hash: str) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        tables = {row[0] for row in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "about" not in tables:
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    self._database.execute(statement)
                about = [("format", str(LEDGER_FORMAT)), ("plan", plan_hash)]
                self._database.executemany("INSERT INTO about VALUES (?, ?)", about)
            return
        about_now = dict(self._database.execute("SELECT name, value FROM about"))
        if about_now.get("format") != str(LEDGER_FORMAT):
            raise LedgerError(self._strange_format(str(about_now.get("format"))))
        if about_now.get("plan") != plan_hash:
            rule = f"belongs to another plan than {plan_hash}"
            remedy = "choose another folder, or repeat the command that made this one"
            raise PlanError(Problem(f"run directory {self.path.parent}", rule, str(about_now.get("plan")), remedy))

    def _strange_format(self, found: str) -> Problem:
        rule = f"must be of format {LEDGER_FORMAT} for a run to go on in it"
        if found in READABLE:
            remedy = "go on with the mernas that began it, or choose another folder; what is finished can be reported"
        else:
            remedy = "install the mernas that began it, or a newer one, or choose another folder"
        return Problem(f"ledger {self.path}", rule, f"format {found}", remedy)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            if self._session is not None:
                passed = (time.perf_counter() - self._clock, self._session)
                self._database.execute("UPDATE sessions SET seconds = ? WHERE number = ?", passed)
            self._database.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            problem = Problem(f"ledger {self.path}", "cannot be written", str(error), _remedy(error))
            raise LedgerError(problem) from None
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _read(self, query: str, *values: str | int) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise LedgerError(Problem(f"ledger {self.path}", "cannot be read", str(error), _remedy(error))) from None

    def close(self) -> None:
        """Write down how long this session took and close the file; the write-ahead log is folded into it."""
        with suppress(LedgerError), self._transaction():
            pass
        self._database.close()

    def begin_session(self) -> None:
        """Start the clock of one driver; every later transaction writes down how far it has come."""
        self._clock = time.perf_counter()
        with self._transaction():
            query = "INSERT INTO sessions (started, seconds) VALUES (?, 0)"
            self._session = self._database.execute(query, (time.time(),)).lastrowid

    def seconds(self) -> float:
        """Return how long all drivers of this run have worked, this one until now."""
        others = sum(
            seconds for number, seconds in self._read("SELECT number, seconds FROM sessions") if number != self._session
        )
        return float(others) + (0.0 if self._session is None else time.perf_counter() - self._clock)

    def end_proposals(self, trials: int) -> None:
        """Record that every study ends at so many proposals, because the time is up."""
        with self._transaction():
            self._database.execute("INSERT INTO about VALUES ('trials', ?)", (str(trials),))

    def begin_audit(self) -> None:
        """Record that LOSO of every candidate follows; jobs of it before this, or without it, nobody asked for."""
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO about VALUES ('audit', 'full')")

    def ended_at(self) -> int | None:
        """Return the number of proposals at which the time was up, or None."""
        rows = self._read("SELECT value FROM about WHERE name = 'trials'")
        return int(rows[0][0]) if rows else None

    def costs(self) -> list[Cost]:
        """Return what every finished job cost that did not fail."""
        query = (
            "SELECT kind, genotype, parameters, length(rows) / 8, seconds"
            " FROM jobs JOIN genotypes ON jobs.genotype = genotypes.hash WHERE failure = '' ORDER BY jobs.key"
        )
        return [Cost(*row) for row in self._read(query)]

    def add_genotypes(self, genotypes: Sequence[tuple[Genotype, int | None]]) -> None:
        """Record pipelines with their parameter counts; known ones are left as they are."""
        rows = [
            (one.hash, "network" if one.is_network else "classical", count, json.dumps(one.complete()))
            for one, count in genotypes
        ]
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO genotypes VALUES (?, ?, ?, ?)", rows)

    def genotype(self, key: str) -> Genotype:
        """Return a recorded pipeline."""
        rows = self._read("SELECT complete FROM genotypes WHERE hash = ?", key)
        if not rows:
            raise LedgerError(Problem(f"ledger {self.path}", f"holds no genotype {key}"))
        return from_complete(json.loads(rows[0][0]))

    def add_batch(self, draws: Sequence[Draw], genotypes: Sequence[tuple[Genotype, int | None]]) -> None:
        """Record all draws of one batch of one study in one transaction, before the first of its jobs."""
        rows = [
            (d.study, d.number, d.batch, d.place, d.state, d.origin, d.genotype, d.parameters, json.dumps(d.answers))
            for d in draws
        ]
        complete = [(one.hash, "network", count, json.dumps(one.complete())) for one, count in genotypes]
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO genotypes VALUES (?, ?, ?, ?)", complete)
            self._database.executemany("INSERT INTO draws VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def draws(self, study: str) -> list[Draw]:
        """Return the draws of a study in the order of their numbers."""
        return _draws(self._read("SELECT * FROM draws WHERE study = ? ORDER BY number", study))

    def batch(self, study: str, number: int) -> list[Draw]:
        """Return the draws of one batch of a study in the order of their numbers; none if it was not proposed yet."""
        query = "SELECT * FROM draws WHERE study = ? AND batch = ? ORDER BY number"
        return _draws(self._read(query, study, number))

    def add_job(self, key: JobKey, outcome: Outcome, rows: NDArray[np.int64], read: Sequence[str]) -> None:
        """Record a finished job, in a transaction of its own.

        Args:
            key: The job.
            outcome: What came back.
            rows: The rows that were predicted.
            read: The subjects whose clips and labels the job was trained on.
        """
        self.add_jobs([(key, outcome, rows, read)])

    def add_jobs(self, jobs: Sequence[tuple[JobKey, Outcome, NDArray[np.int64], Sequence[str]]]) -> None:
        """Record the jobs of a batch that trained together, in one transaction: all of them or none.

        Args:
            jobs: For each of them what `add_job` takes.
        """
        rows = [_job_row(*job) for job in jobs]
        marks = ", ".join("?" * len(rows[0]))
        with self._transaction():
            self._database.executemany(f"INSERT INTO jobs VALUES ({marks})", rows)  # noqa: S608  # marks only

    def job(self, key: JobKey) -> JobRecord | None:
        """Return a finished job, or None."""
        query = "SELECT rows, probabilities, epochs, failure, seconds FROM jobs WHERE key = ?"
        rows = self._read(query, key.hash)
        if not rows:
            return None
        row = rows[0]
        predicted = np.frombuffer(row[0], dtype="<i8").astype(np.int64)
        probabilities = None if row[1] is None else np.frombuffer(row[1], dtype="<f8").reshape(len(predicted), -1)
        epochs = None if row[2] is None else np.frombuffer(row[2], dtype="i1").reshape(-1, len(predicted))
        return JobRecord(key, predicted, probabilities, epochs, row[3], row[4])

    def finished(self) -> set[str]:
        """Return the hashes of the keys of all finished jobs."""
        return {row[0] for row in self._read("SELECT key FROM jobs")}


def _job_row(key: JobKey, outcome: Outcome, rows: NDArray[np.int64], read: Sequence[str]) -> tuple[Any, ...]:
    """A finished job as the table of jobs holds it."""
    probabilities = None if outcome.probabilities is None else outcome.probabilities.astype("<f8").tobytes()
    epochs = None if outcome.epoch_predictions is None else outcome.epoch_predictions.astype("i1").tobytes()
    return (
        key.hash,
        key.genotype,
        json.dumps(list(key.left_out)),
        key.repetition,
        key.numeric_path,
        json.dumps(sorted(set(read))),
        rows.astype("<i8").tobytes(),
        probabilities,
        epochs,
        outcome.failure,
        outcome.seconds,
        outcome.started,
        outcome.host,
        outcome.attempts,
    )
