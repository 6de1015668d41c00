"""Jobs: one training each. What a job is called, what seeds it, and what travels to where it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.rows import RowBook
from mernas.space.genotype import Genotype
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import SOURCE

ENGINE_VERSION = 2
"""Raised whenever an equal job would give other bits; it is part of every plan."""

NOT_FINITE, CUSTODY, OUT_OF_MEMORY, TIME_OUT, CRASH = "not-finite", "custody", "out-of-memory", "time-out", "crash"
"""The names of what can go wrong in a job."""
TOGETHER = "folds in lanes"
"""So ends the numeric path of jobs that train in batches."""


@dataclass(frozen=True)
class JobKey:
    """What makes two jobs the same job.

    Attributes:
        genotype: Hash of the genotype.
        left_out: The subjects that are not trained on, sorted; exactly these are predicted.
        repetition: 0, or up to K - 1 in repeated outer trainings.
        numeric_path: Device kind, threads, and whether folds are batched.
    """

    genotype: str
    left_out: tuple[str, ...]
    repetition: int
    numeric_path: str

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits; the only name of a job outside the driver."""
        parts = [self.genotype, list(self.left_out), self.repetition, self.numeric_path]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Job:
    """What travels to where a job runs: row numbers and the labels of its own training rows, no more.

    Attributes:
        key: Hash of its `JobKey`.
        genotype: The pipeline.
        train_rows: Rows to train on (n,).
        train_labels: Their class numbers (n,).
        predict_rows: Rows to predict (m,), disjoint from the training rows.
        classes: How many classes there are.
        seed: What everything random in the job is seeded with.
        device: Where to train, `cpu` or `cuda`.
        watch_epochs: Whether to record the predictions after every epoch; only where one subject is left out.
        seconds: How long it may take; None for no limit.
        attempt: Which attempt this is, from 1.
        train_units: Action units of the training rows (n, U), only where the pipeline has a side task; else None.
    """

    key: str
    genotype: Genotype
    train_rows: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    predict_rows: NDArray[np.int64]
    classes: int
    seed: int
    device: str = "cpu"
    watch_epochs: bool = False
    seconds: float | None = None
    attempt: int = 1
    train_units: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What comes back from a job.

    Attributes:
        key: The job's key.
        probabilities: (m, K) float64, rows as in `Job.predict_rows`; None if the job failed.
        epoch_predictions: (epochs, m) class numbers, if they were watched.
        failure: Empty, or the failure's name and what happened.
        seconds: How long it took.
        started: When it began, seconds since 1970.
        attempts: How often it was tried.
        host: Where, as `machine:process`.
    """

    key: str
    probabilities: NDArray[np.float64] | None
    epoch_predictions: NDArray[np.int8] | None = None
    failure: str = ""
    seconds: float = 0.0
    started: float = 0.0
    attempts: int = 1
    host: str = ""

    @property
    def failure_name(self) -> str:
        """The name of the failure without what happened; empty if there is none."""
        return self.failure.partition(":")[0]


def numeric_path(device: str, together: bool = False) -> str:
    """Return the numeric path of jobs with one thread per worker.

    Args:
        device: Where they train.
        together: Whether several folds train as one; see `mernas.evaluation.folds_together`.

    Example:
        >>> numeric_path("cpu")
        'cpu, 1 thread, single folds'
        >>> numeric_path("cuda", together=True)
        'cuda, 1 thread, folds in lanes'
    """
    return f"{device.partition(':')[0]}, 1 thread, {TOGETHER if together else 'single folds'}"


def make_job(
    genotype: Genotype,
    left_out: Sequence[str],
    book: RowBook,
    classes: int,
    run_seed: int,
    device: str = "cpu",
    repetition: int = 0,
    seconds: float | None = None,
    together: bool = False,
) -> tuple[JobKey, Job]:
    """Return a job and its key.

    Args:
        genotype: The pipeline.
        left_out: Subjects that are predicted and not trained on.
        book: Row numbers, subjects and labels.
        classes: How many classes there are.
        run_seed: The run's seed; the job's own is a hash of it and the key.
        device: Where to train.
        repetition: Which of several trainings that differ by nothing but their seed.
        seconds: How long it may take; None for no limit.
        together: Whether it trains in a batch with others of its pipeline.
    """
    key = JobKey(genotype.hash, tuple(sorted(left_out)), repetition, numeric_path(device, together))
    rows = book.rows_without(key.left_out)
    digest = hashlib.sha256(f"{run_seed} {key.hash}".encode()).digest()
    return key, Job(
        key=key.hash,
        genotype=genotype,
        train_rows=rows,
        train_labels=book.labels[rows],
        predict_rows=book.rows_of(key.left_out),
        classes=classes,
        seed=int.from_bytes(digest[:8], "little") >> 1,
        device=device,
        watch_epochs=len(key.left_out) == 1 and genotype.is_network,
        seconds=seconds,
        train_units=book.units[rows] if book.units is not None and has_side_task(genotype) else None,
    )


def seconds_for(jobs: Sequence[Job]) -> float | None:
    """Return how long some jobs may take together; None if one of them has no limit."""
    limits = [job.seconds for job in jobs if job.seconds is not None]
    return sum(limits) if len(limits) == len(jobs) else None


def has_side_task(genotype: Genotype) -> bool:
    """Return whether a pipeline predicts something beside the emotion in training, and so wants its annotations."""
    return genotype.is_network and genotype["side_task"] is not None


def learns_from_source(genotype: Genotype) -> bool:
    """Return whether a pipeline's training needs the source domain."""
    if not genotype.is_network:
        return False
    training = genotype["training"]
    return SOURCE in REGISTRY.get(training.axis, training.name).needs
