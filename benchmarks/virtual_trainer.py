"""A trainer that trains nothing: an executor whose workers live in virtual time and answer from a formula.

What it answers is a function of the job alone (its key, its pipeline, its rows), and so is the same on one worker or
on twenty, the first time or after a worker died. How long it takes is virtual: no job costs a real second, but jobs
finish in another order with other workers and other speeds, as they do on a cluster.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.jobs import CRASH, Job, Outcome
from mernas.search.executor import Block, Feed, Interrupted
from mernas.space.genotype import Genotype, Leaf

LOST = "lost"
"""A worker that dies so was lost with its machine: its job is moved, which is no attempt."""


def quality(genotype: Genotype, classes: int = 3) -> float:
    """Return how well a pipeline does, between 0 and 1: a smooth function of its answers, and a fixed share of chance.

    It rewards a learning rate near 0.005, medium widths, some epochs and the right input, so that a study has something
    to find; its own hash moves it a little, so that no two are equal.
    """
    score = 0.35 + 0.1 * (int(genotype.hash[:4], 16) / 0xFFFF - 0.5)
    if not genotype.is_network:
        return score + 0.05 * math.sin(genotype["classifier"]["count"])
    training = genotype["training"]
    score += 0.25 * math.exp(-((math.log10(training["optimizer"]["lr"]) + 2.3) ** 2) / 0.5)
    score += 0.1 * math.exp(-((math.log(training["epochs"] / 25)) ** 2))
    widths = [block["width"] for stream in genotype.streams for block in stream["backbone"]]
    score += 0.15 * min(sum(math.log(width) for width in widths) / 8, 1.0)
    score += 0.1 * (max(int(stream["input"]["channels"]) for stream in genotype.streams) - 1) / 2
    score += 0.05 * (genotype["loss"][0].name == "focal")
    return min(max(score, 0.0), 1.0)


class Oracle:
    """Answers jobs by a formula. It knows the labels of all rows, as no trainer may: it stands for what maps tell.

    Args:
        labels: Class numbers by row number (N,).
        classes: How many classes there are.
        failing: One pipeline in so many does not finish its training; 0 for none.
    """

    def __init__(self, labels: NDArray[np.int64], classes: int, failing: int = 0) -> None:
        self._labels = labels
        self._classes = classes
        self._failing = failing
        self._qualities: tuple[str, float] = ("", 0.0)

    def answer(self, job: Job) -> tuple[NDArray[np.float64] | None, NDArray[np.int8] | None, str]:
        """Return probabilities (m, K), the class predicted after each epoch (epochs, m) if watched, and a failure."""
        key = job.genotype.hash
        if self._failing and int(key[-4:], 16) % self._failing == 0:
            return None, None, "not-finite: so the formula has it"
        if self._qualities[0] != key:  # the jobs of a pipeline come one after the other
            self._qualities = (key, quality(job.genotype))
        seed = hashlib.sha256(f"{job.key} {job.seed}".encode()).digest()[:16]
        generator = np.random.default_rng(np.frombuffer(seed, dtype=np.uint64))
        rows = len(job.predict_rows)
        scores = generator.gumbel(size=(rows, self._classes))
        scores[np.arange(rows), self._labels[job.predict_rows]] += 4.0 * self._qualities[1]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        epochs = None
        if job.watch_epochs:
            epochs = generator.integers(0, self._classes, (epochs_of(job.genotype.root), rows)).astype(np.int8)
        return powers / powers.sum(axis=1, keepdims=True), epochs, ""


def epochs_of(root: Leaf) -> int:
    """Return how many epochs a pipeline trains."""
    return int(root["training"]["epochs"])


@dataclass(frozen=True, eq=False)
class _Run:
    """A job under way."""

    job: Job
    rest: tuple[Job, ...]
    block: Block
    began: float
    dies: str


class VirtualWorkers:
    """An executor: so many workers in virtual time, each with a speed of its own.

    Args:
        oracle: What jobs answer.
        workers: How many jobs run at once.
        seed: Of the workers' speeds and of the jobs' durations.
        deaths: How a worker dies in mid-job, by the number of the job's start: `crash` or `lost`.
        passing: Told of every place that the driver's loop passes, so that a test can end it there.
    """

    def __init__(
        self,
        oracle: Oracle,
        workers: int = 4,
        seed: int = 0,
        deaths: Mapping[int, str] | None = None,
        passing: Callable[[str], None] = lambda place: None,
    ) -> None:
        self.workers = workers
        self.now = 0.0
        self.busy = 0.0
        self.starts = 0
        self.died: dict[str, int] = {CRASH: 0, LOST: 0}
        self._oracle = oracle
        self._seed = seed
        self._deaths = dict(deaths or {})
        self._passing = passing
        speeds = np.random.default_rng([seed, 1])
        self._speeds = [float(speed) for speed in speeds.uniform(0.5, 2.0, workers)]

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more; see `mernas.search.executor.Executor.run`."""
        idle = list(range(self.workers))
        running: list[tuple[float, int, _Run]] = []
        while True:
            while idle and not stopping():
                self._passing("feed")
                block = feed()
                if block is None:
                    break
                self._start(running, heapq.heappop(idle), block.jobs, block)
            if not running:
                break
            self.now, worker, run = heapq.heappop(running)
            self.busy += self.now - run.began
            if run.dies == LOST:
                self._start(running, worker, (run.job, *run.rest), run.block)
                continue
            # The worker goes on before the driver hears of it, as it does on a cluster.
            if run.rest and not stopping():
                self._start(running, worker, run.rest, run.block)
            else:
                heapq.heappush(idle, worker)
            self._passing("outcome")
            on_outcome(run.job, self._outcome(run, worker))
            self._passing("recorded")
        if stopping():
            raise Interrupted

    def _start(self, running: list[tuple[float, int, _Run]], worker: int, jobs: tuple[Job, ...], block: Block) -> None:
        self.starts += 1
        dies = self._deaths.pop(self.starts, "")
        if dies == CRASH and jobs[0].attempt > 1:
            dies = LOST  # crashing twice is a failure, which is recorded and no longer equal to an undisturbed run
        run = _Run(jobs[0], jobs[1:], block, self.now, dies)
        whole = self._seconds(jobs[0], worker)
        if dies:
            self.died[dies] += 1
        heapq.heappush(running, (self.now + (0.5 * whole if dies else whole), worker, run))

    def pilot(self, job: Job) -> Outcome:
        """Return what a job that nobody waits for would say of its duration, on the first worker."""
        return Outcome(job.key, None, seconds=self._seconds(job, 0))

    def _seconds(self, job: Job, worker: int) -> float:
        """Virtual seconds: rows times epochs, a luck that depends on the job, and the worker's speed."""
        digest = hashlib.sha256(f"{self._seed} {job.key}".encode()).digest()
        luck = math.exp(int.from_bytes(digest[:4], "little") / 2**32 - 0.5)
        epochs = epochs_of(job.genotype.root) if job.genotype.is_network else 1
        return 0.001 * len(job.train_rows) * epochs * luck / self._speeds[worker]

    def _outcome(self, run: _Run, worker: int) -> Outcome:
        probabilities, epochs, failure = self._oracle.answer(run.job)
        if run.dies:
            probabilities, epochs, failure = None, None, f"{CRASH}: the worker died"
        return Outcome(
            key=run.job.key,
            probabilities=probabilities,
            epoch_predictions=epochs,
            failure=failure,
            seconds=self.now - run.began,
            started=run.began,
            attempts=run.job.attempt,
            host=f"virtual:{worker}",
        )

    def close(self) -> None:
        """There is nothing to let go of."""
