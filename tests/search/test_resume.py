"""One seed, one result: run twice, stopped by Ctrl-C, or killed with kill -9 at any moment and resumed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.search.executor import Interrupted
from mernas.search.run import SearchResult, run_search

CHILD = """
import importlib.util, json, os, signal, sys
from pathlib import Path

conftest, space, folder, cache, small, what, when, nth = sys.argv[1:9]
spec = importlib.util.spec_from_file_location("toy", conftest)
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

from mernas.search import ledger, results, run

owner, name = {"job": (ledger.Ledger, "add_job"), "batch": (ledger.Ledger, "add_batch"),
               "table": (results, "write_table")}[what]
original, calls = getattr(owner, name), 0

def wrapped(*arguments, **named):
    global calls
    calls += 1
    if calls == int(nth) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*arguments, **named)
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, wrapped)
run.run_search(toy.make_toy(), space=space, out=folder, cache=Path(cache), **json.loads(small))
"""

MOMENTS = [
    ("batch", "before", 2, 0),  # the first study has proposed, nobody else has
    ("batch", "after", 3, 0),  # everybody has proposed, nothing is trained
    ("job", "before", 5, 4),  # in the middle of the first round, a job just finished and not written
    ("batch", "after", 2, 18),  # in the middle of the proposals of the second round
    ("job", "after", 60, 78),  # among the baselines
    ("job", "before", 60, 137),  # in the outer test
    ("table", "before", 3, 156),  # while the tables are written
]
"""What a process is about to do, or has just done, for the nth time when it is killed, and how many jobs the ledger has
then. Each process goes on where the one before it was killed; one that trained a job again would be behind."""
MEANINGLESS = {"seconds", "started", "host", "attempts"}


def contents(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of a ledger, but for times, hosts and attempts; sessions are nothing but times."""
    database = sqlite3.connect(folder / "ledger.sqlite")
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'sessions'"
    tables = [row[0] for row in database.execute(query)]
    found = {}
    for table in tables:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] not in MEANINGLESS]
        found[table] = sorted(database.execute(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)
    database.close()
    return found


def check_same(first: Path, second: Path) -> None:
    before, after = contents(first), contents(second)
    assert before.keys() == after.keys()
    for table, rows in before.items():
        assert rows == after[table], table
    for name in (
        "front.csv",
        "rules.csv",
        "choices.csv",
        "predictions.csv",
        "trials.csv",
        "baselines.csv",
        "plan.yaml",
    ):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_the_same_seed_gives_the_same_ledger_and_tables(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    run_search(toy(), space=toy_space, out=tmp_path / "run", cache=tmp_path / "cache", **small)
    check_same(finished.folder, tmp_path / "run")


def test_another_seed_gives_another_search(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    other = run_search(toy(), space=toy_space, out=tmp_path / "run", **{**small, "seed": 4, "trials": 3})
    assert set(other.tables.trials["genotype"]) != set(finished.tables.trials["genotype"])


def test_a_run_that_is_killed_again_and_again_resumes_to_the_ledger_of_an_undisturbed_one(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    for what, when, nth, jobs in MOMENTS:
        arguments = [conftest, toy_space, folder, tmp_path / "cache", json.dumps(small), what, when, nth]
        killed = subprocess.run([sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (folder / "front.csv").exists() or what == "table"
        assert len(contents(folder)["jobs"]) == jobs, (what, when, nth)
    done: list[str] = []
    run_search(toy(), space=toy_space, out=folder, cache=tmp_path / "cache", reporter=Counter(done), **small)
    assert done == []
    check_same(finished.folder, folder)


class Counter:
    """A reporter that counts the jobs that are run."""

    def __init__(self, done: list[str]) -> None:
        self.done = done
        self.stages: list[tuple[str, int]] = []

    def stage(self, title: str, total: int) -> None:
        self.stages.append((title, total))

    def resize(self, left: int) -> None:
        if self.stages and left:
            self.stages[-1] = (self.stages[-1][0], left)
        elif self.stages:
            self.stages.pop()

    def advance(self) -> None:
        title, left = self.stages.pop()
        if left > 1:
            self.stages.append((title, left - 1))
        if not title.startswith("Preparing"):
            self.done.append(title)

    def say(self, text: str) -> None:
        raise AssertionError(text)


def test_a_stopped_run_leaves_an_interim_front_marked_inner_only_and_resumes(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    done: list[str] = []

    def stopping() -> bool:
        return len(done) >= 30

    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_search(toy(), space=toy_space, out=folder, reporter=Counter(done), stopping=stopping, **small)
    interim = (folder / "interim.csv").read_text()
    assert "inner only" in interim
    assert "nested" not in interim
    assert not (folder / "front.csv").exists()
    run_search(toy(), space=toy_space, out=folder, **small)
    assert not (folder / "interim.csv").exists()
    check_same(finished.folder, folder)


def test_a_finished_run_is_printed_again_without_training(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any]
) -> None:
    done: list[str] = []
    again = run_search(toy(), space=toy_space, out=finished.folder, reporter=Counter(done), **small)
    assert done == []
    assert again.front.equals(finished.front)
