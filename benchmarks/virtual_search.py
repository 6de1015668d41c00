"""A nested search that trains nothing: all of the driver, none of the training, in seconds and without torch.

    python benchmarks/virtual_search.py
    python benchmarks/virtual_search.py --sampler tpe --trials 200 --profile

The trainer is virtual (virtual_trainer.py), the components exist on paper (virtual_leaves.py); plan, samplers, ledger,
dispatcher, choice, outer test and tables are the real ones. What is left is what a driver costs per trial and per job,
which bounds how many workers it can keep busy. The ledger is written with full synchronisation to --folder; in a folder
in memory (/dev/shm) the wait for the disk falls away.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import virtual_leaves
from virtual_trainer import Oracle, VirtualWorkers

from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.partition import make_partition
from mernas.evaluation.picking import default_rules
from mernas.search.choosing import Chosen
from mernas.search.ledger import Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import Plan, Settings, make_plan
from mernas.search.results import Tables, make_tables
from mernas.space.genotype import Genotype, from_plain
from mernas.space.parameters import Integer
from mernas.space.tree import SearchSpace

CLASSES = ("negative", "positive", "surprise")


class NoMaps:
    """A shelf without maps: nothing is going to look at them."""

    def store(self, genotypes: object, /) -> Any:
        """Return nothing."""
        return None


def make_data(subjects: int, clips: int) -> Dataset:
    """Return clips of two made-up datasets without any content, with labels that are a fixed shuffle.

    Args:
        subjects: How many people.
        clips: Of each, how many clips.
    """
    keys = sorted(f"paper{one % 2}/subject{one:03d}/clip{clip:02d}" for one in range(subjects) for clip in range(clips))
    labels = np.random.default_rng(0).permutation(np.arange(len(keys)) % 3)
    made = tuple(Clip(key, key.split("/")[0], key.rpartition("/")[0], key) for key in keys)
    emotions = pd.DataFrame({"emotion": [CLASSES[label] for label in labels]}, index=pd.Index(keys, name="clip"))
    return Dataset("paper", made, emotions, CLASSES, frozenset(), "made up")


def paper_plan(subjects: int = 68, clips: int = 6, groups: int = 5, **settings: Any) -> Plan:
    """Return the plan of a search over components that exist on paper.

    Args:
        subjects: How many people.
        clips: How many clips of each.
        groups: How many groups of subjects.
        settings: See `mernas.search.plan.Settings`.
    """
    virtual_leaves.use()
    data = make_data(subjects, clips)
    limits = {("pipeline", "network", "streams"): Integer(1, 2), ("stream", "stream", "backbone"): Integer(1, 3)}
    space = SearchSpace(data.provides, limits={**limits, ("stream", "stream", "preprocessing"): Integer(0, 0)})
    people, sources = [clip.subject for clip in data], [clip.dataset for clip in data]
    asked = Settings(**{"max_parameters": 100_000, **settings})
    keys = [clip.key for clip in data]
    partition = make_partition(keys, people, sources, data.labels, data.classes, groups, asked.seed)
    baselines = {"neighbours": tuple(_baseline(count) for count in (1, 5))}
    return make_plan(data, space, "paper", partition, asked, default_rules(()), {}, baselines)


def _baseline(count: int) -> Genotype:
    return from_plain({"streams": [{"input": "maps"}], "classifier": {"neighbours": {"count": count}}})


def virtual_search(plan: Plan, ledger: Ledger, executor: VirtualWorkers) -> NestedSearch:
    """Return a search whose jobs an executor of virtual workers answers."""
    return NestedSearch(plan, ledger, executor, shelf=NoMaps(), count=virtual_leaves.count_on_paper)


def oracle(plan: Plan, failing: int = 0) -> Oracle:
    """Return the oracle of a plan's rows."""
    return Oracle(plan.book.labels, len(plan.dataset.classes), failing)


def run(plan: Plan, path: Path, executor: VirtualWorkers) -> tuple[Chosen, Tables]:
    """Run a whole search with its ledger at a path, from where it stands.

    Args:
        plan: What to do.
        path: The SQLite file.
        executor: Who answers the jobs.
    """
    with closing(Ledger(path, plan.hash)) as ledger:
        ledger.begin_session()
        search = virtual_search(plan, ledger, executor)
        chosen, baselines = search.run()
        return chosen, make_tables(plan, search.record, chosen, baselines)


def report(plan: Plan, folder: Path, workers: int) -> None:
    """Run a search and print what it took."""
    path = folder / "ledger.sqlite"
    executor = VirtualWorkers(oracle(plan, failing=50), workers)
    began, used = time.perf_counter(), time.process_time()
    _, tables = run(plan, path, executor)
    passed, used = time.perf_counter() - began, time.process_time() - used
    with closing(Ledger(path, plan.hash)) as ledger:
        jobs = len(ledger.finished())
        draws = sum(len(ledger.draws(study)) for study in plan.studies)
    trials = plan.settings.trials * len(plan.studies)
    print(f"{plan.settings.sampler}: {plan.settings.trials} trials in each of {len(plan.studies)} studies")
    print(f"{passed:.1f} s, of them {used:.1f} s of one core; {draws} draws, {jobs} jobs on {workers} virtual workers")
    print(f"{1000 * used / trials:.1f} ms of one core per trial, {1000 * used / jobs:.2f} ms per job")
    print(f"virtual: {executor.now / 3600:.2f} h, workers {100 * executor.busy / executor.now / workers:.0f}% busy")
    print(tables.front[["budget", "params", "inner_uf1", "nested_uf1"]].to_string(index=False))
    print(f"torch loaded: {'yes' if 'torch' in sys.modules else 'no'}")


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description="Run a nested search with virtual workers.")
    parser.add_argument("--trials", type=int, default=200, help="proposals per study")
    parser.add_argument("--batch", type=int, default=8, help="proposals per study and round")
    parser.add_argument("--sampler", default="random", help="who proposes")
    parser.add_argument("--groups", type=int, default=5, help="groups of subjects")
    parser.add_argument("--subjects", type=int, default=68, help="made-up people, of six clips each")
    parser.add_argument("--workers", type=int, default=16, help="virtual workers")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the ledger is written; a scratch folder if none"
    )
    parser.add_argument("--profile", action="store_true", help="say where the time went")
    asked = parser.parse_args()
    plan = paper_plan(
        asked.subjects, groups=asked.groups, trials=asked.trials, batch=asked.batch, sampler=asked.sampler
    )
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        if asked.profile:
            profiler.runcall(report, plan, Path(scratch), asked.workers)
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)
        else:
            report(plan, Path(scratch), asked.workers)


if __name__ == "__main__":
    main()
