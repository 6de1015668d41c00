"""Folds together: the jobs of one pipeline train side by side; made for accelerators.

Every fold has what it has alone: its own start, its own batches in its own order, its own batch statistics, learning
rates, augmentation and dropout. On an accelerator several run at once, their steps captured and replayed.

It is a numeric path of its own: equal to jobs that run alone but for rounding.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mernas.components.contracts import Augmentation, Input, NotFiniteError
from mernas.components.training.epochs import batches_of, lost_loss, lost_weight
from mernas.components.training.objective import build_objective
from mernas.components.training.scratch import Scratch
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import fitted_network, name_failure, numeric_state
from mernas.evaluation.fold_program import Setting, Start
from mernas.evaluation.fold_rows import FoldRows, HeldOut
from mernas.evaluation.jobs import Job, Outcome, seconds_for
from mernas.evaluation.lanes import MOST_LANES, Lane, Trained, train_in_lanes
from mernas.evaluation.limits import TimeOut, memory_limit, time_limit
from mernas.evaluation.one_fold import Fold
from mernas.evaluation.preparation import recipe_of
from mernas.space.errors import Problem
from mernas.space.genotype import instantiate

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What one fold gives.

    Attributes:
        probabilities: (m, K), rows as in `Job.predict_rows`; None if the fold failed.
        epoch_predictions: (epochs, m) class numbers, if they were watched.
        failure: Empty, or the failure's name and what happened.
    """

    probabilities: NDArray[np.float64] | None
    epoch_predictions: NDArray[np.int8] | None = None
    failure: str = ""


def run_together(jobs: Sequence[Job], store: FeatureStore, memory: int | None = None) -> list[Outcome]:
    """Train and predict several jobs of one pipeline; whatever goes wrong becomes a named failure.

    What goes wrong in one fold is the failure of its job; what stops the batch is that of every job.

    Args:
        jobs: Jobs of one pipeline that can train together (`mernas.evaluation.together_or_apart.why_apart`).
        store: The maps.
        memory: How many bytes they may allocate together; None for no limit.

    Returns:
        One outcome for each job, in their order. Each is said to have taken an equal part of the time.
    """
    started, clock = time.time(), time.perf_counter()
    try:
        with time_limit(seconds_for(jobs)), memory_limit(memory):
            fitted = fit_together(jobs, store)
    except (Exception, TimeOut) as error:  # one bad candidate never ends a run: it is recorded and shown to the user
        fitted = [Fitted(None, None, name_failure(error))] * len(jobs)
    seconds = (time.perf_counter() - clock) / len(jobs)
    host = f"{socket.gethostname()}:{os.getpid()}"
    return [
        Outcome(job.key, one.probabilities, one.epoch_predictions, one.failure, seconds, started, job.attempt, host)
        for job, one in zip(jobs, fitted, strict=True)
    ]


def fit_together(jobs: Sequence[Job], store: FeatureStore) -> list[Fitted]:
    """Train several jobs of one pipeline side by side, and return for each its probabilities or its failure.

    Args:
        jobs: At least one, all of one pipeline, on one device.
        store: The maps.

    Raises:
        ValueError: If the jobs are of several pipelines, or cannot train together.
        CustodyError: If a component wants what it must not see.
    """
    if len({(job.genotype.hash, job.device, job.classes) for job in jobs}) != 1:
        raise ValueError("jobs that train together must be of one pipeline, device and number of classes")
    genotype, device = jobs[0].genotype, jobs[0].device
    strategy = instantiate(genotype["training"])
    if type(strategy) is not Scratch:
        raise ValueError(f"{type(strategy).__name__} cannot train folds together")
    recipes = [recipe_of(stream).hash for stream in genotype.streams]
    inputs: list[Input] = [instantiate(stream["input"]) for stream in genotype.streams]
    augmentation: list[Augmentation] = [instantiate(leaf) for leaf in genotype["augmentation"]]
    with numeric_state(jobs[0].seed, device):
        rows = FoldRows(jobs, store, recipes, [component.channels for component in inputs], device)
        held_out = HeldOut(jobs, store, recipes, device)
        shares = divided(jobs, strategy, 1 if device == "cpu" else MOST_LANES)
        setting = Setting(rows, held_out, strategy.course, augmentation, jobs[0].classes, device)
        warm: set[str] = set()
        lanes = [Lane(setting, warm) for _ in shares]
        trained = train_in_lanes(lanes, [_starts(share, jobs, rows) for share in shares])
        if device != "cpu" and (why_not := next((lane.why_not for lane in lanes if lane.why_not), "")):
            LOG.warning("pipeline %s trains step by step, which takes longer: %s", genotype.hash, why_not)
        return [_fitted(one, jobs[one.number], held_out.counts[one.number]) for one in trained]


def divided(jobs: Sequence[Job], strategy: Scratch, lanes: int) -> list[list[int]]:
    """Return which jobs each lane trains: about equally many, and next to each other those with equal batches.

    Args:
        jobs: The jobs.
        strategy: Says how large their batches are.
        lanes: How many lanes there are at most.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> divided([], instantiate(load_preset("ststnet").genotype["training"]), 2)
        []
    """
    sizes: list[tuple[int, ...]] = []
    for job in jobs:
        batches = batches_of(strategy.course, torch.from_numpy(job.train_labels), torch.Generator().manual_seed(0))
        sizes.append(tuple(map(len, batches)))
    order = sorted(range(len(jobs)), key=lambda number: sizes[number])
    turns = -(-len(jobs) // lanes)
    return [order[start : start + turns] for start in range(0, len(jobs), max(turns, 1))]


def _starts(share: Sequence[int], jobs: Sequence[Job], rows: FoldRows) -> Iterator[Start]:
    """The folds of a lane as each starts when alone; of its rows only masked labels are kept."""
    for number in share:
        job = jobs[number]
        view = rows.view(number, job)
        torch.manual_seed(job.seed)
        network = fitted_network(job.genotype, view, job.device)
        own = view.held_by(job.genotype["training"])
        objective = build_objective(job.genotype, own, network)
        objective.labels = rows.labels(number, own.labels)
        noise = torch.Generator(job.device)
        if job.device == "cpu":  # dropout goes on where the weights ended
            noise.set_state(torch.get_rng_state())
        else:  # the weights were drawn on the processor
            noise.manual_seed(job.seed)
        batches = torch.Generator().manual_seed(job.seed)
        labels = torch.from_numpy(job.train_labels)
        yield Start(number, Fold(network, objective), labels, batches, noise, job.watch_epochs)


def _fitted(trained: Trained, job: Job, count: int) -> Fitted:
    """What a fold gives, on the processor, or what went wrong in it."""
    probabilities: NDArray[np.float64] = trained.probabilities[:count].cpu().numpy()
    problem: Problem | str | None = None
    lost = torch.isfinite(trained.losses).logical_not().nonzero()
    if len(lost):
        problem = lost_loss(int(lost[0]) + 1)
    elif not bool(trained.finite):
        problem = lost_weight()
    elif not np.isfinite(probabilities).all():
        problem = "a predicted probability is not a number"
    if problem is not None:
        return Fitted(None, None, name_failure(NotFiniteError(problem)))
    return Fitted(probabilities, None if trained.seen is None else trained.seen[:, :count].cpu().numpy())
