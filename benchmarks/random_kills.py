"""Random kills: a driver killed with kill -9 a thousand times, each time resumed, against one that was left alone.

    python benchmarks/random_kills.py
    python benchmarks/random_kills.py --kills 40 --exact --seed 7

A run is a small nested search with virtual workers (virtual_search.py). Every driver is a process of its own. It is
killed before or after the nth statement or commit of the ledger, at the nth place of its loop between two events, or,
by its parent, at any moment, which may be in the middle of a write to the disk (not with `--exact`, since where that
hits depends on the machine). Virtual workers die besides, in mid-job: their job comes back as a crash, and is tried
again, or is lost with its machine, and moved. A killed run is resumed, each time with other numbers and speeds of
workers, is perhaps killed again, and, once it is finished, its ledger must equal that of the undisturbed run in every
column but times, hosts and attempts, and its tables must be the same. A worker dies under a job at most once per
attempt that may be repeated: a second crash is a failure by design, recorded and hence a difference.

The exit code is 1 if any ledger differs. Needs fork and SIGKILL, so Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtual_search import oracle, paper_plan, run
from virtual_trainer import LOST, VirtualWorkers

from mernas.evaluation.jobs import CRASH
from mernas.search import ledger as ledger_module
from mernas.search.plan import Plan

STATEMENT, COMMIT, LOOP, MOMENT = "statement", "commit", "between events", "any moment"
CHAINED = 9
"""A run is killed at most so often before it is left to finish."""
MEANINGLESS = {"seconds", "started", "host", "attempts"}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"sampler": "random", "trials": 7, "batch": 3, "seed": 1, "seeds": 2},
    {"sampler": "tpe", "trials": 5, "batch": 2, "seed": 2},
    {"sampler": "nsga2", "trials": 6, "batch": 3, "seed": 3},
    {"sampler": "grid", "trials": 4, "batch": 2, "seed": 4},
)


@dataclass(frozen=True)
class Blow:
    """How a driver ends: at the nth event of a kind, before it or after it; at any moment, after some seconds."""

    kind: str
    nth: int = 0
    after: bool = False
    seconds: float = 0.0


def end() -> None:
    """Die at once: no handler, no `finally`, no commit."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fate:
    """Counts the events of this process by kind, and ends it at its blow."""

    def __init__(self, blow: Blow | None) -> None:
        self._blow = blow
        self.seen: Counter[str] = Counter()

    def around(self, kind: str, act: Callable[[], Any]) -> Any:
        """Do something that is an event of some kind."""
        self.seen[kind] += 1
        due = self._blow is not None and (self._blow.kind, self._blow.nth) == (kind, self.seen[kind])
        if due and self._blow is not None and not self._blow.after:
            end()
        done = act()
        if due:
            end()
        return done


def mortal(fate: Fate) -> type[sqlite3.Connection]:
    """Return a kind of connection whose statements and commits are events of a fate."""

    class Mortal(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
            kind = COMMIT if statement == "COMMIT" else STATEMENT
            cursor: sqlite3.Cursor = fate.around(kind, lambda: super(Mortal, self).execute(statement, *values))
            return cursor

        def executemany(self, statement: str, rows: Any, /) -> sqlite3.Cursor:
            cursor: sqlite3.Cursor = fate.around(STATEMENT, lambda: super(Mortal, self).executemany(statement, rows))
            return cursor

    return Mortal


def drive(plan: Plan, folder: Path, blow: Blow | None, seed: int) -> dict[str, Any]:
    """Run or resume a search in this process, and die on the way if that is its fate.

    Args:
        plan: What to do.
        folder: The run directory.
        blow: How this process ends; None to finish.
        seed: Of the number and speeds of the workers and of which of them die when.
    """
    fate = Fate(blow)
    connect = sqlite3.connect
    ledger_module.sqlite3.connect = lambda path, **named: connect(path, factory=mortal(fate), **named)  # type: ignore[assignment]
    generator = random.Random(seed)
    deaths = {generator.randint(1, 120): generator.choice((CRASH, LOST)) for _ in range(generator.randint(0, 4))}
    workers = VirtualWorkers(
        oracle(plan, failing=9),
        workers=generator.randint(1, 8),
        seed=seed,
        deaths=deaths if blow is not None or seed else {},
        passing=lambda place: fate.around(LOOP, lambda: None),
    )
    _, tables = run(plan, folder / "ledger.sqlite", workers)
    for name in ("front", "rules", "choices", "predictions", "trials", "baselines"):
        (folder / f"{name}.csv").write_text(getattr(tables, name).to_csv(index=False))
    return {"seen": dict(fate.seen), "died": workers.died}


def forked(plan: Plan, folder: Path, blow: Blow | None, seed: int) -> dict[str, Any] | None:
    """Run or resume a search in a process of its own; return what it says, or None if it was killed.

    Raises:
        RuntimeError: If it ended in any other way.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            said = drive(plan, folder, blow, seed)
            os.write(writing, json.dumps(said).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    timer = threading.Timer(blow.seconds, os.kill, (child, signal.SIGKILL)) if blow and blow.kind == MOMENT else None
    if timer is not None:
        timer.start()
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    # Not reaped before the timer is out of the way, so that it can hit no other process.
    if timer is not None:
        timer.cancel()
        timer.join()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise RuntimeError(f"a driver ended with {os.waitstatus_to_exitcode(status)} in {folder}")
    found: dict[str, Any] = json.loads(said)
    return found


def contents(folder: Path) -> dict[str, Any]:
    """Return all that must be equal: every row of the ledger but for times, hosts and attempts, and the tables."""
    found: dict[str, Any] = {path.name: path.read_text() for path in sorted(folder.glob("*.csv"))}
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'sessions'"
        for (table,) in database.execute(query).fetchall():
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join(column for column in columns if column not in MEANINGLESS)
            found[table] = sorted(database.execute(f"SELECT {chosen} FROM {table}"), key=repr)
    return found


def crashes(folder: Path) -> int:
    """Return how many jobs of a run were tried again."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        return int(database.execute("SELECT count(*) FROM jobs WHERE attempts > 1").fetchone()[0])


class Trial:
    """One plan, its undisturbed run, and how many events and seconds that had."""

    def __init__(self, root: Path, number: int) -> None:
        self.plan = paper_plan(subjects=12, clips=4, groups=3 + number % 2, max_parameters=20_000, **SETTINGS[number])
        folder = root / f"undisturbed{number}"
        folder.mkdir()
        began = time.perf_counter()
        said = forked(self.plan, folder, None, seed=0)
        if said is None:
            raise RuntimeError("the undisturbed run was killed")
        self.seconds = time.perf_counter() - began
        self.events: dict[str, int] = said["seen"]
        self.wanted = contents(folder)

    def blow(self, generator: random.Random, exact: bool) -> Blow:
        """Return a random way to end a driver, within the next third of a run, so that most live to see it."""
        kind = generator.choice((STATEMENT, COMMIT, LOOP) if exact else (STATEMENT, COMMIT, LOOP, MOMENT))
        if kind == MOMENT:
            return Blow(kind, seconds=generator.uniform(0.0, self.seconds / 3))
        return Blow(kind, generator.randint(1, self.events[kind] // 3), generator.random() < 0.5)

    def disturbed(
        self, folder: Path, generator: random.Random, exact: bool, most: int
    ) -> tuple[Counter[str], list[str]]:
        """Kill a run up to so many times and let it finish.

        Returns:
            How many kills there were of which kind, with jobs `tried again`; and what differs in the end.
        """
        folder.mkdir()
        kills: Counter[str] = Counter()
        for _ in range(generator.randint(1, most)):
            blow = self.blow(generator, exact)
            if forked(self.plan, folder, blow, generator.randrange(1, 2**31)) is not None:
                kills["finished before its blow"] += 1
                break
            kills[blow.kind] += 1
        # Its tables are made again, so that a run that finished above is looked at like the others.
        said = forked(self.plan, folder, None, generator.randrange(1, 2**31))
        if said is None:
            raise RuntimeError(f"a run that nobody killed was killed in {folder}")
        kills["tried again"] = crashes(folder)
        found = contents(folder)
        return kills, [name for name in self.wanted.keys() | found.keys() if self.wanted.get(name) != found.get(name)]


def main() -> None:
    """Kill until there were enough kills, and print how many of which kind, and what differed."""
    parser = argparse.ArgumentParser(description="Kill drivers at random, resume, and compare the ledgers.")
    parser.add_argument("--kills", type=int, default=1000, help="how many drivers to kill")
    parser.add_argument("--seed", type=int, default=0, help="of when who is killed")
    parser.add_argument("--exact", action="store_true", help="only at counted events, none by the clock")
    asked = parser.parse_args()
    generator = random.Random(asked.seed)
    total: Counter[str] = Counter()
    differing: list[str] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        trials = [Trial(root, number) for number in range(len(SETTINGS))]
        runs = 0
        kinds = (STATEMENT, COMMIT, LOOP, MOMENT)
        while (killed := sum(total[kind] for kind in kinds)) < asked.kills:
            folder = root / f"run{runs}"
            most = min(CHAINED, asked.kills - killed)
            kills, names = trials[runs % len(trials)].disturbed(folder, generator, asked.exact, most)
            total += kills
            differing += [f"run {runs} ({trials[runs % len(trials)].plan.settings.sampler}): {name}" for name in names]
            runs += 1
    print(f"{killed} drivers killed in {runs} runs, in {time.perf_counter() - began:.0f} s")
    for kind in kinds:
        print(f"  {kind}: {total[kind]}")
    print(f"  runs that finished before they were killed once more: {total['finished before its blow']}")
    print(f"  jobs recorded at their second attempt, because their worker had died: {total['tried again']}")
    print("\n".join(f"differs: {name}" for name in differing), end="\n" if differing else "")
    print(f"{len(differing)} differences from the undisturbed runs")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
