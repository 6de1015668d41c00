"""Whether the memory of a driver stays flat: a search of 5,000 trials with virtual workers, looked at every 500 trials.

    python benchmarks/driver_memory.py
    python benchmarks/driver_memory.py --trials 600 --every 100 --traced

Prints the resident memory of the process and, with `--traced`, what Python's own allocations hold between two batches,
which grows by as many bytes per trial as the driver remembers of it, whatever allocators do. The size of the ledger
stands beside it: that is what there is to know. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from virtual_search import oracle, paper_plan, virtual_search
from virtual_trainer import VirtualWorkers

from mernas.search.ledger import ACCEPTED, Draw, Ledger
from mernas.space.genotype import Genotype


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class WatchedLedger(Ledger):
    """A ledger that looks at the memory of its process whenever so many trials more were proposed.

    Args:
        path: The SQLite file.
        plan_hash: The plan that the run belongs to.
        every: After how many trials to look.
    """

    def __init__(self, path: Path, plan_hash: str, every: int) -> None:
        super().__init__(path, plan_hash)
        self.looks: list[dict[str, int]] = []
        self._every = every
        self._trials = 0

    def add_batch(self, draws: Sequence[Draw], genotypes: Sequence[tuple[Genotype, int | None]]) -> None:
        """Record a batch, and look."""
        super().add_batch(draws, genotypes)
        before = self._trials
        self._trials += sum(draw.state == ACCEPTED for draw in draws)
        if before // self._every < self._trials // self._every:
            self.look()

    def look(self) -> None:
        """Note how much memory is in use."""
        traced = 0
        if tracemalloc.is_tracing():
            gc.collect()
            traced = tracemalloc.get_traced_memory()[0]
        stored = sum(path.stat().st_size for path in self.path.parent.glob("ledger.sqlite*"))
        self.looks.append({"trials": self._trials, "resident": resident(), "traced": traced, "ledger": stored})


def slope(looks: Sequence[dict[str, int]], what: str) -> float:
    """Return by how many bytes per trial something grew between the second look and the last, by least squares."""
    later = looks[1:]
    trials, sizes = [look["trials"] for look in later], [look[what] for look in later]
    middle, mean = sum(trials) / len(later), sum(sizes) / len(later)
    above = sum((trial - middle) * (size - mean) for trial, size in zip(trials, sizes, strict=True))
    return above / sum((trial - middle) ** 2 for trial in trials)


def main() -> None:
    """Run the search and print a line for every look."""
    parser = argparse.ArgumentParser(description="Watch the memory of a driver.")
    parser.add_argument("--trials", type=int, default=5000, help="trials in all studies together, about")
    parser.add_argument("--every", type=int, default=500, help="after how many trials to look")
    parser.add_argument("--groups", type=int, default=5, help="groups of subjects")
    parser.add_argument("--subjects", type=int, default=68, help="made-up people, of six clips each")
    parser.add_argument("--sampler", default="random", help="who proposes")
    parser.add_argument("--traced", action="store_true", help="follow every allocation; several times slower")
    parser.add_argument("--folder", type=Path, help="below which the ledger is written")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    own = -(-asked.trials // (asked.groups + 1))
    plan = paper_plan(asked.subjects, groups=asked.groups, trials=own, sampler=asked.sampler)
    began = time.process_time()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        if asked.traced:
            tracemalloc.start()
        with closing(WatchedLedger(Path(scratch) / "ledger.sqlite", plan.hash, asked.every)) as ledger:
            ledger.begin_session()
            search = virtual_search(plan, ledger, VirtualWorkers(oracle(plan, failing=50), 16))
            search.search()
            ledger.look()  # while the search is still there, with all that it remembers
            del search
            looks = ledger.looks
            jobs = len(ledger.finished())
    grown = {what: slope(looks, what) for what in ("resident", "traced", "ledger")}
    if asked.json:
        print(json.dumps({"looks": looks, "bytes_per_trial": grown, "jobs": jobs}))
        return
    print(f"{plan.settings.sampler}: {own} trials in each of {len(plan.studies)} studies, {jobs} jobs,", end=" ")
    print(f"{time.process_time() - began:.0f} s of one core")
    print(f"{'trials':>8}{'resident':>12}{'traced':>12}{'ledger':>12}   MB")
    for look in looks:
        print(f"{look['trials']:>8}" + "".join(f"{look[what] / 1e6:>12.2f}" for what in grown))
    print("bytes per trial: " + ", ".join(f"{what} {size:,.0f}" for what, size in grown.items()))


if __name__ == "__main__":
    main()
