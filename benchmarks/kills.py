"""Kills: a Ray run whose driver or whose workers are killed with kill -9, at random moments, against one left alone.

    python benchmarks/kills.py
    python benchmarks/kills.py --drivers 3 --workers 1

Every run is the same small search on made-up clips. Where a driver was killed, the run is resumed, with Ray or in one
process by turns; where a worker was killed in mid-job, the run must go on by itself. Afterwards the ledger must equal
that of the undisturbed run in every column but times, hosts and attempts, the tables byte by byte, no finished job may
have been run again, and no worker of the killed run may be left after some seconds. Ray's two agents stay for a minute:
so long they try to tell a Ray that is gone of its end. The exit code is 1 if anything differs. Needs Linux, about half
a minute per kill on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
SEED = 20
SOON, LATE = 15.0, 90.0
"""Seconds after which no worker, and nothing at all, may be left of a killed run."""
SMALL = {"trials": 5, "batch": 3, "groups": 3, "budgets": "300,3k", "max_params": "3k", "seed": 3}
JOBS, BATCHES = 152, 8
"""How many jobs and batches the search records; checked against the undisturbed run."""
TOKEN = "MERNAS_KILLS"

CHILD = """
import importlib.util, json, os, signal, sys, threading
from pathlib import Path

conftest, space, folder, cache, settings, what, when, nth, delay = sys.argv[1:]
spec = importlib.util.spec_from_file_location("toy", conftest)
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

from mernas.search import ledger, run
from mernas.search.reporter import Silent

def end():
    os.kill(os.getpid(), signal.SIGKILL)

def watch(name):
    original, calls = getattr(ledger.Ledger, name), 0
    def wrapped(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == int(nth) and when == "before":
            end()
        original(*arguments, **named)
        if calls == int(nth):
            threading.Timer(float(delay), end).start() if when == "later" else end()
    setattr(ledger.Ledger, name, wrapped)

class Counter(Silent):
    done, titles, said = 0, [], []
    def stage(self, title, total):
        self.titles.append((title, total))
    def resize(self, left):
        if self.titles:
            self.titles[-1] = (self.titles[-1][0], left)
        while self.titles and not self.titles[-1][1]:
            self.titles.pop()
    def advance(self):
        title, left = self.titles[-1]
        self.done += not title.startswith("Preparing")
        self.resize(left - 1)
    def say(self, text):
        self.said.append(text)

if what in ("job", "batch"):
    watch("add_" + what)
counter = Counter()
run.run_search(toy.make_toy(), space=space, out=folder, cache=Path(cache), reporter=counter, **json.loads(settings))
print(json.dumps({"done": counter.done, "said": counter.said}))
"""


def load(path: Path) -> ModuleType:
    """Return a module of the tests by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Bench:
    """Where the runs live, and how one is started and looked at.

    Args:
        root: A folder of its own.
        scratch: A folder with a short path, for Ray's sockets.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch
        self._watchers = ThreadPoolExecutor()
        self._ends: list[Future[tuple[float, float, dict[int, str]]]] = []
        self._same = load(TESTS / "search" / "test_resume.py").check_same
        self._space = root / "space.yaml"
        self._space.write_text(load(TESTS / "conftest.py").TOY_SPACE)
        self.whole = root / "whole"
        assert self.finish(self.start(self.whole, "serial", "whole"))["done"] == JOBS

    def start(self, folder: Path, executor: str, token: str, *moment: Any) -> subprocess.Popen[str]:
        """Start a driver that kills itself at a moment, if one is given."""
        settings = {**SMALL, "executor": executor, "workers": 2 if executor == "ray" else 1}
        what, when, nth, delay = moment or ("never", "before", 0, 0.0)
        words = [TESTS / "conftest.py", self._space, folder, self.root / "cache", json.dumps(settings)]
        command = [sys.executable, "-c", CHILD, *map(str, [*words, what, when, nth, delay])]
        environment = {**os.environ, TOKEN: token, "RAY_TMPDIR": str(self.scratch)}
        output = (self.root / f"{token}.txt").open("w")
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=output, text=True)

    def finish(self, driver: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for a driver that is not killed, and return what it counted."""
        said, _ = driver.communicate(timeout=300)
        if driver.returncode:
            raise RuntimeError(f"a driver ended with {driver.returncode}; see {self.root}")
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def watch_end(self, known: dict[int, str], token: str) -> None:
        """Watch from now on how the processes of a run end."""
        self._ends.append(self._watchers.submit(left_after, known, token))

    def ended(self) -> bool:
        """Say how the processes of all runs have ended; return whether they did in time."""
        ends = [end.result() for end in self._ends]
        workers, everything = max(one for one, _, _ in ends), max(one for _, one, _ in ends)
        print(
            f"of a killed run all but Ray's agents was gone after at most {workers:.1f} s, all after {everything:.1f} s"
        )
        left = sorted({command for _, _, commands in ends for command in commands.values()})
        print("\n".join(f"still there: {command}" for command in left), end="\n" if left else "")
        return workers < SOON and not left

    def differs(self, folder: Path) -> str:
        """Say in what a finished run differs from the undisturbed one; empty if in nothing."""
        try:
            self._same(self.whole, folder)
        except (AssertionError, OSError) as error:
            return str(error).splitlines()[0] if str(error) else "differs"
        return ""


def recorded(folder: Path, column: str = "key") -> list[Any]:
    """Return a column of the finished jobs of a run, which may be under way."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True)) as database:
            return [row[0] for row in database.execute(f"SELECT {column} FROM jobs")]
    except sqlite3.OperationalError:  # it is not there yet
        return []


def processes() -> Iterator[tuple[int, int, str, bytes]]:
    """Yield (process, parent, command, environment) of all that runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                if words[0] != "Z":
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    yield int(entry.name), int(words[1]), command, (entry / "environ").read_bytes()


def family(driver: int, token: str) -> dict[int, str]:
    """Return the commands of a driver's processes: its descendants, and whoever has inherited its environment."""
    running = list(processes())
    found = {driver}
    while True:
        more = {process for process, parent, _, _ in running if parent in found} - found
        if not more:
            break
        found |= more
    mark = f"{TOKEN}={token}".encode()
    return {process: command for process, _, command, own in running if process in found or mark in own.split(b"\0")}


def computes(process: int) -> bool:
    """Whether a process is running, and does not sleep or wait."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:  # it has just ended
        return False


def left_after(known: dict[int, str], token: str) -> tuple[float, float, dict[int, str]]:
    """Wait until nothing of a killed run is left.

    Returns:
        After how many seconds all but Ray's agents was gone, and all; and what is left all the same.
    """
    began, workers = time.perf_counter(), -1.0
    while True:
        now = {process: command for process, _, command, _ in processes()}
        left = {process: now[process] for process in known if process in now} | family(-1, token)
        passed = time.perf_counter() - began
        if workers < 0 and all(command.endswith("Agent") for command in left.values()):
            workers = passed
        if not left or passed > LATE:
            return (workers if workers >= 0 else passed), passed, left
        time.sleep(0.5)


def kill_driver(bench: Bench, number: int, moment: tuple[Any, ...], resume: str) -> list[str]:
    """Kill a driver at a moment, resume the run, and return a row of the table."""
    folder, token = bench.root / f"driver{number}", f"driver{number}"
    driver = bench.start(folder, "ray", token, *moment)
    known: dict[int, str] = {}
    while driver.poll() is None:  # what it has started is known until just before its end
        known |= family(driver.pid, token)
        time.sleep(0.1)
    driver.communicate()
    known.pop(driver.pid, None)
    bench.watch_end(known, token)
    before = len(recorded(folder))
    told = bench.finish(bench.start(folder, resume, f"{token}-resumed"))
    again = before + told["done"] - len(recorded(folder))
    verdicts = [
        bench.differs(folder),
        "was not killed" if driver.returncode != -signal.SIGKILL else "",
        f"{again} jobs run again" if again else "",
    ]
    what, when, nth, delay = moment
    text = f"driver, {when} {what} {nth}" + (f" by {delay:.2f} s" if when == "later" else "")
    return [text, resume, str(before), str(told["done"]), *verdicts]


def kill_worker(bench: Bench, number: int, after: int) -> list[str]:
    """Kill a worker that is in a job once so many are recorded, and return a row of the table."""
    folder, token = bench.root / f"worker{number}", f"worker{number}"
    driver = bench.start(folder, "ray", token)
    known: dict[int, str] = {}
    before = -1
    while driver.poll() is None:
        running = family(driver.pid, token)
        known |= running
        # Ray calls a worker so while it is in a step, and one that computes is in a job.
        busy = [process for process, command in running.items() if command.endswith("Trainable.train")]
        busy = [process for process in busy if computes(process)]
        if before < 0 and busy and len(recorded(folder)) >= after:
            with contextlib.suppress(ProcessLookupError):
                os.kill(busy[-1], signal.SIGKILL)
                before = len(recorded(folder))
        time.sleep(0.05)
    told = bench.finish(driver)
    bench.watch_end(known, token)
    attempts = recorded(folder, "attempts")
    again = told["done"] - len(recorded(folder))
    verdicts = [
        bench.differs(folder),
        "was not killed" if before < 0 else "",
        f"{again} jobs run again" if again else "",
        f"attempts {sorted(attempts)[-3:]}" if sum(attempts) > JOBS + 1 else "",
    ]
    text = f"worker, after {after} jobs, in {'a job' if sum(attempts) > JOBS else 'none'}"
    return [text, "itself", str(max(before, 0)), str(told["done"] - max(before, 0)), *verdicts]


def moments(count: int) -> list[tuple[Any, ...]]:
    """Return (what, when, which, delay in seconds) of so many kills, spread over the run."""
    generator = random.Random(SEED)
    drawn: list[tuple[Any, ...]] = []
    for place in range(count):
        when = generator.choice(["before", "after", "later", "later"])
        delay = generator.uniform(0, 0.9)
        if place % 5 == 4:
            drawn.append(("batch", when, generator.randint(1, BATCHES), delay))
        else:  # one in each part of the run, so that no stage is missed; a late one must not miss the end
            first, last = JOBS * place // count, JOBS * (place + 1) // count
            drawn.append(("job", when, generator.randint(first + 1, max(min(last, JOBS - 12), first + 1)), delay))
    return drawn


def show(row: Sequence[str]) -> bool:
    """Print a row; return whether all is as it should be."""
    problems = [problem for problem in row[4:] if problem]
    widths = (34, 9, 10, 10)
    print("".join(text.ljust(width) for text, width in zip(row, widths, strict=False)), end="")
    print("; ".join(problems) or "the same", flush=True)
    return not problems


def main() -> None:
    """Run all kills and print a table."""
    parser = argparse.ArgumentParser(description="Kill drivers and workers of a Ray run with kill -9 and resume.")
    parser.add_argument("--drivers", type=int, default=10, help="how many drivers to kill")
    parser.add_argument("--workers", type=int, default=3, help="how many workers to kill")
    asked = parser.parse_args()
    print(f"{'killed':<34}{'goes on':<9}{'recorded':<10}{'run then':<10}ledger and tables", flush=True)
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory(prefix="ray") as scratch:
        bench = Bench(Path(root), Path(scratch))
        fine = [
            show(kill_driver(bench, number, moment, ("ray", "serial")[number % 2]))
            for number, moment in enumerate(moments(asked.drivers))
        ]
        parts = [JOBS * (2 * number + 1) // (2 * asked.workers) for number in range(asked.workers)]
        fine += [show(kill_worker(bench, number, after)) for number, after in enumerate(parts)]
        gone = bench.ended()
    print(f"{sum(fine)} of {len(fine)} kills left no trace")
    sys.exit(0 if all(fine) and gone else 1)


if __name__ == "__main__":
    main()
