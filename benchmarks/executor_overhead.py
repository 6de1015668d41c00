"""What Ray Tune costs: start-up, trivial jobs per second, memory, and how much faster two workers are than one.

    python benchmarks/executor_overhead.py

Goals: at least 5 trivial jobs a second per worker after start-up; two workers at least 1.8 times as fast as one on
trainings. Both sides of every ratio are measured in this run, in turns. Two cores that have nothing else to do.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mernas
from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.jobs import Job, Outcome, make_job
from mernas.evaluation.rows import number_rows
from mernas.search.baselines import families
from mernas.search.executor import Block, Executor, SerialExecutor, feed_of, in_blocks
from mernas.search.features import FeatureShelf
from mernas.search.reporter import Silent
from mernas.space.genotype import Genotype, parse_genotype

NETWORK = """
streams: [{input: {optical_flow: {estimator: farneback, size: 28}}, backbone: [{convolution: {width: WIDTH}}]}]
tasks: [emotion]
training: {scratch: {epochs: 30, batch: 32}}
loss: cross_entropy
"""
TRIVIAL, TURNS, PIPELINES, FOLDS = 300, 3, 4, 10
RATE_GOAL, SPEED_GOAL = 5.0, 1.8


def jobs_of(genotypes: Sequence[Genotype], data: Dataset, count: int) -> list[Job]:
    """Return `count` folds of leave-one-subject-out of each pipeline, one seed after the other."""
    book = number_rows(data, 0)
    made = []
    for genotype in genotypes:
        for number in range(count):
            subject = data.subjects[number % len(data.subjects)]
            made.append(make_job(genotype, [subject], book, len(data.classes), number // len(data.subjects))[1])
    return made


def seconds(executor: Executor, blocks: Sequence[Block]) -> tuple[float, list[float]]:
    """Return how long some blocks took, and when each job came back."""
    arrivals: list[float] = []
    clock = time.perf_counter()

    def arrived(job: Job, outcome: Outcome) -> None:
        assert outcome.failure == "", outcome.failure
        arrivals.append(time.perf_counter() - clock)

    executor.run(feed_of(blocks), arrived, lambda: False)
    return time.perf_counter() - clock, arrivals


def memory_of_ray() -> float:
    """Return the proportional memory of all processes of this session's Ray, this one included, in MB (Linux)."""
    import os

    total, mine = 0.0, os.getsid(0)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == mine:
                lines = (entry / "smaps_rollup").read_text(encoding="ascii").splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        except (OSError, StopIteration, ProcessLookupError):
            continue
    return total


def measure(workers: int, trivial: list[Block], real: list[Block]) -> tuple[list[float], float, float, float, float]:
    """Return seconds of the real blocks in every turn, start-up, first job, trivial jobs per second, and memory."""
    from mernas.search.ray_executor import RayExecutor

    clock = time.perf_counter()
    executor = RayExecutor(workers)
    start = time.perf_counter() - clock
    _, arrivals = seconds(executor, trivial)
    rate = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    took = [seconds(executor, real)[0] for _ in range(TURNS)]
    used = memory_of_ray()
    executor.close()
    return took, start, arrivals[0], rate, used


def main() -> int:
    """Print every figure; exit 1 if a goal is missed."""
    data = mernas.load_data("synthetic")
    networks = [parse_genotype(NETWORK.replace("WIDTH", str(width))) for width in range(8, 8 + PIPELINES)]
    majority = families(data)["majority"][0]
    with tempfile.TemporaryDirectory() as folder:
        shelf = FeatureShelf(data, number_rows(data, 0), Path(folder), Silent())
        store: FeatureStore = shelf.store([*networks, majority])
    trivial = [Block(block, store) for block in in_blocks(jobs_of([majority], data, TRIVIAL), 15)]
    real = [Block(block, store) for block in in_blocks(jobs_of(networks, data, FOLDS), 5)]
    serial = SerialExecutor()
    rate = TRIVIAL / seconds(serial, trivial)[0]
    alone = [seconds(serial, real)[0] for _ in range(TURNS)]
    jobs = sum(len(block.jobs) for block in real)
    print(f"{jobs} trainings of {statistics.median(alone) / jobs:.2f} s, median of {TURNS} turns")
    print(f"serial:    {statistics.median(alone):6.1f} s; {rate:.0f} trivial jobs a second")
    medians, missed = {}, False
    for workers in (1, 2):
        took, start, first, rate, used = measure(workers, trivial, real)
        medians[workers] = statistics.median(took)
        missed |= rate < RATE_GOAL * workers
        overhead = medians[workers] * workers / statistics.median(alone)
        print(
            f"{workers} worker(s): {medians[workers]:5.1f} s, worker-seconds {overhead:.2f} times those of serial; Ray"
            f" starts in {start:.1f} s, first job after {first:.1f} s more; {rate:.0f} trivial jobs a second;"
            f" {used:.0f} MB in all processes"
        )
    ratio = medians[1] / medians[2]
    print(f"2 workers are {ratio:.2f} times as fast as 1 (goal {SPEED_GOAL})")
    return int(missed or ratio < SPEED_GOAL)


if __name__ == "__main__":
    sys.exit(main())
