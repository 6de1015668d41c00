"""How the executor scales from one to four node processes of Ray, and what the driver's parts can do at most.

    python benchmarks/node_processes.py [--nodes 1,2,4] [--train]

Every node is a process of Ray with one core, as `ray start` makes it on a machine of its own; the driver's node has
none. The same jobs go to one, two and four of them: jobs that wait half a second instead of computing, which shows what
the executor loses whatever the cores of this machine, and with `--train` jobs that train, which shows what is left of
it here. Every side warms up first, so that the start of worker processes is not counted. Efficiency is the time on one
node by the number of nodes times the time on them; the goal is 85% on four nodes with jobs that wait.

Then the driver alone: outcomes that a ledger takes per second, each in a transaction of its own that is on the disk,
and the bytes that a job, its outcome and the maps of a recipe need.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BLOCKS, FOLDS, WAIT = 20, 4, 0.5
GOAL = 0.85
WAITING = f"""
import time
import numpy as np
from mernas.evaluation.jobs import Outcome
from mernas.search import ray_worker

def waiting(job, store, memory=None):
    time.sleep({WAIT})
    shape = (len(job.predict_rows), job.classes)
    return Outcome(job.key, np.full(shape, 1 / job.classes), None, "", {WAIT}, time.time(), job.attempt, "waiting")

ray_worker.run_job = waiting
"""
NETWORK = """
streams:
  - input: {{optical_flow: {{estimator: farneback, size: 28}}}}
    backbone: [{{convolution: {{width: {width}}}}}]
tasks: [emotion]
training: {{scratch: {{epochs: 20, batch: 32}}}}
loss: cross_entropy
"""


def jobs_and_maps() -> tuple[list[list[Any]], Any]:
    """Return blocks of jobs, each of one pipeline, and the store that they need."""
    import mernas
    from mernas.evaluation.jobs import make_job
    from mernas.evaluation.rows import number_rows
    from mernas.search.features import FeatureShelf
    from mernas.search.reporter import Silent
    from mernas.space.genotype import parse_genotype

    data = mernas.load_data("synthetic")
    book = number_rows(data, 0)
    genotypes = [parse_genotype(NETWORK.format(width=4 + number)) for number in range(BLOCKS + 1)]
    blocks = [
        [make_job(genotype, [subject], book, len(data.classes), 0)[1] for subject in data.subjects[:FOLDS]]
        for genotype in genotypes
    ]
    return blocks, FeatureShelf(data, book, None, Silent()).store(genotypes)


def on_nodes(number: int, train: bool) -> float:
    """Return the seconds that all blocks take on some node processes; the last block warms up."""
    from mernas.search.ray_executor import RayExecutor  # before Ray: it sets its environment
    from mernas.search.executor import Block, feed_of  # isort: skip
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args={**machine, "num_cpus": 0, "include_dashboard": False})
    for _ in range(number):
        cluster.add_node(wait=False, **machine)
    cluster.wait_for_nodes(60)
    blocks, store = jobs_and_maps()
    imports = () if train else ("waiting_jobs",)
    executor = RayExecutor(workers=number, address=cluster.address, imports=imports)

    def run(chosen: list[list[Any]]) -> float:
        clock = time.perf_counter()
        failures: list[str] = []
        feed = feed_of([Block(tuple(block), store) for block in chosen])
        executor.run(feed, lambda _, outcome: failures.append(outcome.failure), lambda: False)
        if any(failures):
            raise RuntimeError(f"a job failed: {next(filter(None, failures))}")
        return time.perf_counter() - clock

    run([[job] for job in blocks[-1]])
    taken = run(blocks[:-1])
    executor.close()
    cluster.shutdown()
    return taken


def of_the_driver() -> str:
    """Return what the parts of the driver can do at most, in words."""
    from mernas.evaluation.jobs import JobKey, Outcome
    from mernas.search.ledger import Ledger

    blocks, store = jobs_and_maps()
    job = blocks[0][0]
    outcome = Outcome(job.key, np.full((6, 3), 1 / 3), np.zeros((40, 6), np.int8), "", 1.0, time.time(), 1, "here")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite", "benchmark")
        ledger.add_genotypes([(job.genotype, 1)])
        count, clock = 500, time.perf_counter()
        for number in range(count):
            key = JobKey(job.genotype.hash, (str(number),), 0, "benchmark")
            ledger.add_job(key, outcome, np.arange(6), ["a/1"] * 60)
        rate = count / (time.perf_counter() - clock)
        ledger.close()
        size = (Path(folder) / "ledger.sqlite").stat().st_size / count
    (maps,) = store.maps.values()
    return (
        f"the ledger takes {rate:.0f} outcomes a second and {size / 1e3:.1f} kB each; a job travels in "
        f"{len(pickle.dumps(job)) / 1e3:.1f} kB, its outcome in {len(pickle.dumps(outcome)) / 1e3:.1f} kB; the maps of "
        f"a recipe of {len(maps)} clips have {maps.numel() * 4 / 1e6:.1f} MB"
    )


def main() -> int:
    """Print the times and the efficiency; exit 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description="Efficiency on several node processes.")
    parser.add_argument("--nodes", default="1,2,4")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--on", type=int, help="only this many nodes, and print the seconds")
    given = parser.parse_args()
    if given.on:
        print(json.dumps(on_nodes(given.on, given.train)))
        return 0
    seconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "waiting_jobs.py").write_text(WAITING)
        for number in map(int, given.nodes.split(",")):
            command = [sys.executable, __file__, "--on", str(number), *(["--train"] if given.train else [])]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=with_path(folder))
            seconds[number] = float(json.loads(done.stdout.splitlines()[-1]))
            first = min(seconds)
            efficiency = seconds[first] * first / (number * seconds[number])
            jobs = BLOCKS * FOLDS
            print(f"{number} nodes: {jobs} jobs in {seconds[number]:.1f} s, efficiency {efficiency:.0%}", flush=True)
    print(of_the_driver())
    return int(not given.train and efficiency < GOAL)


def with_path(folder: str) -> dict[str, str]:
    """The environment with a folder to import from."""
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}


if __name__ == "__main__":
    sys.exit(main())
