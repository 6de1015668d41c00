"""How exactly a search with `--time` ends when its time is up.

    python benchmarks/time_limit.py
    python benchmarks/time_limit.py --minutes 15 60

Searches that train nothing run under several time limits, with few and many workers, with racing, with halving, and
without. Their clock is that of virtual workers, whose speeds differ, whose jobs take unequally long, and who wait for
each other as real ones do. Printed is the share of the time that each run took: above 1.05 it was late, below 0.95 a
run of so many trials left time for more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from virtual_search import oracle, paper_plan, virtual_search
from virtual_trainer import VirtualWorkers

from mernas.search.clock import Clock
from mernas.search.ledger import Ledger

TOLERANCE = 0.05


def share_taken(limit: float, count: int, seed: int, by: str) -> tuple[float, int]:
    """Run a search and return the share of its time that it took, and its trials per study.

    Args:
        limit: Virtual seconds.
        count: How many workers.
        seed: Of the workers' speeds and of the search.
        by: What stops candidates early, `racing` or `halving`, or nothing.
    """
    plan = paper_plan(trials=1000, batch=8, sampler="random", time=limit, seed=seed, **{by: True} if by else {})
    workers = VirtualWorkers(oracle(plan), count, seed)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder,
        closing(Ledger(Path(folder) / "ledger.sqlite", plan.hash)) as ledger,
    ):
        ledger.begin_session()
        search = virtual_search(plan, ledger, workers)
        search.time_for = Clock(search, limit, lambda: workers.now, lambda job, _: workers.pilot(job))
        search.run()
        return workers.now / limit, ledger.ended_at() or plan.settings.trials


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description="How exactly a search with --time ends.")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--minutes", type=float, nargs="+", default=[60], help="of one worker's work per worker")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--by", nargs="+", default=["", "racing", "halving"], help="what stops candidates early")
    parser.add_argument("--json", action="store_true", help="print the shares only")
    asked = parser.parse_args()
    every: list[float] = []
    for by in asked.by:
        for count in asked.workers:
            for minutes in asked.minutes:
                found = [share_taken(60 * minutes, count, seed, by) for seed in range(asked.seeds)]
                shares = [share for share, _ in found]
                every += shares
                if asked.json:
                    continue
                trials = ", ".join(str(number) for _, number in found)
                print(
                    f"{by or 'all'}, {count} workers, {minutes:g} min: took "
                    f"{', '.join(f'{share:.3f}' for share in shares)} of the time; trials per study {trials}",
                    flush=True,
                )
    if asked.json:
        print(json.dumps({"shares": every}))
        return
    late = max(every)
    print(f"mean {np.mean(every):.3f}, from {min(every):.3f} to {late:.3f} of the time")
    if late > 1 + TOLERANCE:
        sys.exit("MISSED: a run was more than 5% late")


if __name__ == "__main__":
    main()
