"""Processes that train: each takes the jobs of one genotype at a time, on one thread, and ends with its driver."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import CRASH, Job, Outcome

Task = tuple[int, Sequence[Job]]
"""A genotype's number, and its folds in order."""
OnResult = Callable[[int, list[Outcome]], None]


def train(jobs: Sequence[Job], store: FeatureStore) -> list[Outcome]:
    """Return the outcome of every job, up to the first that fails.

    Its seconds are those of the processor: whatever else the machine does, they stay the same.
    """
    outcomes: list[Outcome] = []
    for job in jobs:
        clock = time.process_time()
        outcome = run_job(job, store)
        outcomes.append(replace(outcome, seconds=time.process_time() - clock))
        if outcomes[-1].failure:
            break
    return outcomes


def train_all(tasks: Iterable[Task], store: FeatureStore, workers: int, on_result: OnResult) -> None:
    """Train every task, in this process or in several others; the outcomes are the same.

    Args:
        tasks: What to do; taken as there is room.
        store: The maps that all of them need.
        workers: How many processes; with one, it is this one.
        on_result: Called in this process for every finished task, in the order in which they finish.
    """
    if workers == 1:
        for number, jobs in tasks:
            on_result(number, train(jobs, store))
        return
    left = iter(tasks)
    maps = {recipe: tensor.numpy() for recipe, tensor in store.maps.items()}
    busy: dict[Connection, tuple[Any, Task]] = {}
    try:
        for _ in range(workers):
            _hand_out(left, maps, None, busy)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, (number, jobs) = busy.pop(ready)
                try:
                    outcomes = ready.recv()
                except EOFError:  # the process is gone, whatever ended it; another one takes its place
                    process.join()
                    failure = f"{CRASH}: the process ended with {process.exitcode}"
                    outcomes = [Outcome(jobs[0].key, None, failure=failure)]
                    process = None
                on_result(number, outcomes)
                _hand_out(left, maps, None if process is None else (ready, process), busy)
    finally:
        for connection, (process, _) in busy.items():
            connection.close()
            process.terminate()


def _hand_out(
    left: Iterator[Task], maps: dict[str, NDArray[np.float32]], idle: Any, busy: dict[Connection, tuple[Any, Task]]
) -> None:
    """Give the next task to an idle process, or to a new one; with nothing left to do an idle one ends."""
    task = next(left, None)
    if task is None:
        if idle is not None:
            idle[0].close()
            idle[1].join()
        return
    if idle is None:
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, maps), daemon=True)
        process.start()
        there.close()  # so that this side hears it when the process ends
        idle = (here, process)
    connection, process = idle
    connection.send(task[1])
    busy[connection] = (process, task)


def _serve(connection: Connection, maps: dict[str, NDArray[np.float32]]) -> None:
    """Train until the driver hangs up, by intention or because it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = FeatureStore({recipe: torch.from_numpy(array) for recipe, array in maps.items()})
    while True:
        try:
            jobs = connection.recv()
            connection.send(train(jobs, store))
        except (EOFError, BrokenPipeError):
            return
