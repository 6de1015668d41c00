"""Folds together: the jobs of one pipeline train side by side, batched over their networks; made for accelerators.

Every fold has what it has alone: its own start, its own batches in its own order, its own batch statistics, count of
steps and learning rate. Folds have unequally many rows, so that the last batches of an epoch differ in size, or are
missing in some: in every step those folds run as one whose batches are equally large. Nothing is padded or cut.

It is a numeric path of its own: equal to jobs that run alone but for rounding, and for dropout, whose masks come from
one generator for all folds.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.contracts import Augmentation, Input, NotFiniteError
from mernas.components.training.epochs import Course, batch_sizes, lost_loss, lost_weight
from mernas.components.training.objective import build_objective
from mernas.components.training.scratch import Scratch
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import fitted_network, name_failure, numeric_state, training_view
from mernas.evaluation.fold_rows import FoldRows
from mernas.evaluation.fold_stack import Fold, FoldStack
from mernas.evaluation.jobs import Job, Outcome, seconds_for
from mernas.evaluation.limits import TimeOut, memory_limit, time_limit
from mernas.evaluation.preparation import recipe_of
from mernas.evaluation.stacked_optimizers import stacked_optimizer
from mernas.space.errors import Problem
from mernas.space.genotype import instantiate

AT_ONCE = 4096
"""So many maps are predicted at once, of all folds together."""


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
    common = common_seed(jobs)
    with numeric_state(common, device):
        rows = FoldRows(jobs, store, recipes, [component.channels for component in inputs], device)
        stack = FoldStack([_fold(job, store, rows, number) for number, job in enumerate(jobs)])
        held_out = HeldOut(jobs, store, recipes)
        torch.manual_seed(common)  # the weights were drawn from the seeds of the jobs; dropout is drawn for all at once
        seen: list[list[NDArray[np.int8]]] = [[] for _ in jobs]

        def watch() -> None:
            for number, own in enumerate(held_out.predict(stack)):
                if jobs[number].watch_epochs:
                    seen[number].append(own.argmax(axis=1).astype(np.int8))

        generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
        watched = watch if any(job.watch_epochs for job in jobs) else None
        problems = train_together(stack, rows, strategy.course, augmentation, generators, watched)
        probabilities = held_out.predict(stack)
    for number, own in enumerate(probabilities):
        if problems[number] is None and not np.isfinite(own).all():
            problems[number] = "a predicted probability is not a number"
    return [
        Fitted(own, np.stack(epochs) if epochs else None)
        if problem is None
        else Fitted(None, None, name_failure(NotFiniteError(problem)))
        for own, epochs, problem in zip(probabilities, seen, problems, strict=True)
    ]


def common_seed(jobs: Sequence[Job]) -> int:
    """Return the seed of what a batch of jobs draws in common: a hash of their seeds, in order."""
    digest = hashlib.sha256(" ".join(str(job.seed) for job in jobs).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _fold(job: Job, store: FeatureStore, rows: FoldRows, number: int) -> Fold:
    """The network of a job as it starts when alone, and what it minimises; of its rows only masked labels are kept."""
    view = training_view(job, store)
    torch.manual_seed(job.seed)
    network = fitted_network(job.genotype, view, job.device)
    own = view.held_by(job.genotype["training"])
    objective = build_objective(job.genotype, own, network)
    objective.labels = rows.labels(number, own.labels)
    return Fold(network, objective)


def train_together(
    stack: FoldStack,
    rows: FoldRows,
    course: Course,
    augmentation: Sequence[Augmentation],
    generators: Sequence[torch.Generator],
    on_epoch: Callable[[], None] | None = None,
) -> list[Problem | str | None]:
    """Train a stack in place, as `mernas.components.training.epochs.run_epochs` trains each of its networks.

    Args:
        stack: F folds.
        rows: Their training rows.
        course: How, without sampler, mixing and averaging.
        augmentation: Applied to every batch, in this order.
        generators: For each fold, of its batches and augmentation.
        on_epoch: Called after every epoch.

    Returns:
        For each fold what went wrong, or None. A fold whose loss is no longer a number goes on and is not used.

    Raises:
        ValueError: If the course has what cannot be done together.
    """
    if course.sampler is not None or course.mixing is not None or course.averaging is not None:
        raise ValueError("samplers, mixing and averages of weights cannot be done for folds together")
    optimizer = stacked_optimizer(course.optimizer, stack.weights)
    sizes = [batch_sizes(rows.count(fold), course.batch) for fold in range(len(rows))]
    steps = [course.epochs * len(own) for own in sizes]
    done = [0] * len(rows)
    problems: list[Problem | str | None] = [None] * len(rows)
    groups = equal_batches(sizes)
    device = stack.weights.device
    # A batch that all folds have needs no choice, and so no copy of the weights.
    chosen = [None if len(folds) == len(rows) else torch.tensor(folds, device=device) for _, folds in groups]
    for epoch in range(1, course.epochs + 1):
        total = torch.zeros(len(rows), device=device, dtype=stack.weights.dtype)
        batches = [_shuffled(own, generator) for own, generator in zip(sizes, generators, strict=True)]
        for (place, folds), which in zip(groups, chosen, strict=True):
            own = [batches[fold][place] for fold in folds]
            maps, places = rows.take(folds, own, augmentation, [generators[fold] for fold in folds])
            losses, gradients = stack.slopes(maps, places, which)
            factors = [course.schedule.factor(min(done[fold], steps[fold] - 1), steps[fold]) for fold in folds]
            for fold in folds:
                done[fold] += 1
            optimizer.step(gradients, factors, [done[fold] for fold in folds], which)
            total += losses if which is None else torch.zeros_like(total).index_copy_(0, which, losses)
        for fold, finite in enumerate(torch.isfinite(total).tolist()):
            if not finite and problems[fold] is None:
                problems[fold] = lost_loss(epoch)
        if on_epoch is not None:
            on_epoch()
    for fold, finite in enumerate(stack.finite().tolist()):
        if not finite and problems[fold] is None:
            problems[fold] = lost_weight()
    return problems


def equal_batches(sizes: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Return the steps of an epoch: which batch it is, and the folds that have one, equally large in all of them.

    Args:
        sizes: For each fold the sizes of its batches.

    Example:
        >>> equal_batches([[32, 8], [32, 8], [32, 7], [32]])
        [(0, [0, 1, 2, 3]), (1, [0, 1]), (1, [2])]
    """
    found: dict[tuple[int, int], list[int]] = {}
    for place in range(max(len(own) for own in sizes)):
        for fold, own in enumerate(sizes):
            if place < len(own):
                found.setdefault((place, own[place]), []).append(fold)
    return [(place, folds) for (place, _), folds in found.items()]


def _shuffled(sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """The batches of an epoch, drawn as `run_epochs` draws them."""
    return list(torch.split(torch.randperm(sum(sizes), generator=generator), list(sizes)))


class HeldOut:
    """The rows that the folds predict. Their maps lie apart from those of the training rows, and they have no label.

    Args:
        jobs: One for each fold.
        store: The maps.
        recipes: For every stream, the hash of its recipe.
    """

    def __init__(self, jobs: Sequence[Job], store: FeatureStore, recipes: Sequence[str]) -> None:
        rows = np.unique(np.concatenate([job.predict_rows for job in jobs]))
        kept = {recipe: store.select(recipe, rows).to(jobs[0].device) for recipe in dict.fromkeys(recipes)}
        self._maps = [kept[recipe] for recipe in recipes]
        self._counts = [len(job.predict_rows) for job in jobs]
        # Folds with fewer rows are filled up with their own first one: in evaluation no row depends on another.
        places = [np.searchsorted(rows, job.predict_rows) for job in jobs]
        filled = [np.pad(own, (0, max(self._counts) - len(own)), mode="edge") for own in places]
        self._places = torch.from_numpy(np.stack(filled)).to(jobs[0].device)

    def predict(self, stack: FoldStack) -> list[NDArray[np.float64]]:
        """Return the class probabilities (m, K) of every fold."""
        parts: list[Tensor] = []
        for places in torch.split(self._places, max(1, AT_ONCE // len(stack)), dim=1):
            flat = places.flatten()
            maps = [stream[flat].reshape(*places.shape, *stream.shape[1:]) for stream in self._maps]
            parts.append(torch.softmax(stack.logits(maps).double(), dim=2))
        every = torch.cat(parts, dim=1).cpu().numpy()
        return [own[:count] for own, count in zip(every, self._counts, strict=True)]
