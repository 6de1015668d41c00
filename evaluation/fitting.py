"""Fitting: one job, from row numbers to class probabilities. Runs anywhere, knows no subject and no file."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mernas.components.contracts import (
    Augmentation,
    Classifier,
    Input,
    NotFiniteError,
    Objective,
    Predictor,
    Strategy,
    TrainingRows,
)
from mernas.components.one_thread import one_thread
from mernas.components.topologies.network import Network, build_network, fit_normalisation
from mernas.components.training.objective import GuardedRows, build_objective
from mernas.evaluation.custody import FeatureStore, TrainingView, source_key
from mernas.evaluation.jobs import (
    CRASH,
    CUSTODY,
    NOT_FINITE,
    OUT_OF_MEMORY,
    TIME_OUT,
    Job,
    Outcome,
    has_side_task,
    learns_from_source,
)
from mernas.evaluation.limits import TimeOut, memory_limit, time_limit
from mernas.evaluation.preparation import recipe_of
from mernas.evaluation.quickening import Quickening, keep_memory, laid_out
from mernas.space.errors import CustodyError
from mernas.space.genotype import Genotype, Leaf, instantiate


def run_job(job: Job, store: FeatureStore, memory: int | None = None) -> Outcome:
    """Train and predict; whatever goes wrong in the candidate becomes a named failure, never the end of a run.

    Args:
        job: What to do, and how long it may take.
        store: The maps.
        memory: How many bytes it may allocate; None for no limit.

    Returns:
        Probabilities, or a failure: a name such as `mernas.evaluation.jobs.CRASH`, a colon, and what happened.
    """
    started, clock = time.time(), time.perf_counter()
    probabilities: NDArray[np.float64] | None = None
    epochs: NDArray[np.int8] | None = None
    failure = ""
    try:
        with time_limit(job.seconds), memory_limit(memory):
            probabilities, epochs = fit_and_predict(job, store)
    except (Exception, TimeOut) as error:  # one bad candidate never ends a run: it is recorded and shown to the user
        failure = name_failure(error)
    seconds = time.perf_counter() - clock
    host = f"{socket.gethostname()}:{os.getpid()}"
    return Outcome(job.key, probabilities, epochs, failure, seconds, started, job.attempt, host)


def name_failure(error: BaseException) -> str:
    """Return the name of a failure, a colon, and what happened, in one line.

    Example:
        >>> name_failure(MemoryError("no more")), name_failure(KeyError("width"))
        ('out-of-memory: an allocation was refused', "crash: KeyError: 'width'")
    """
    text = " ".join(str(error).split())[:500]
    if isinstance(error, NotFiniteError):
        return f"{NOT_FINITE}: {text}"
    if isinstance(error, CustodyError):
        return f"{CUSTODY}: {text}"
    if isinstance(error, TimeOut):
        return f"{TIME_OUT}: {text}"
    # On a processor torch reports a refused allocation as a plain RuntimeError.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return f"{OUT_OF_MEMORY}: an allocation was refused"  # how large it was depends on the machine
    return f"{CRASH}: {type(error).__name__}: {text}"


def fit_and_predict(job: Job, store: FeatureStore) -> tuple[NDArray[np.float64], NDArray[np.int8] | None]:
    """Return probabilities (m, K) and, if watched, the class predicted after each epoch (epochs, m).

    Raises:
        NotFiniteError: If the training or a prediction is not a number.
        CustodyError: If a component wants what it must not see.
    """
    view = training_view(job, store)
    recipes = [recipe_of(stream).hash for stream in job.genotype.streams]
    held_out = [store.select(recipe, job.predict_rows).to(job.device) for recipe in recipes]
    with numeric_state(job.seed, job.device):
        if job.genotype.is_network:
            probabilities, epochs = _network(job, view, held_out)
        else:
            probabilities, epochs = _classical(job, view, held_out), None
    if not np.isfinite(probabilities).all():
        raise NotFiniteError("a predicted probability is not a number")
    return probabilities, epochs


def training_view(job: Job, store: FeatureStore) -> TrainingView:
    """Return the training rows of a job, with the source domain where its pipeline learns from one."""
    recipes = [recipe_of(stream).hash for stream in job.genotype.streams]
    inputs: list[Input] = [instantiate(stream["input"]) for stream in job.genotype.streams]
    channels = [component.channels for component in inputs]
    source = None
    if store.source is not None and learns_from_source(job.genotype):
        units = store.source.units
        source = TrainingView(
            maps=[laid_out(store.maps[source_key(recipe)], job.device) for recipe in recipes],
            labels=store.source.labels.to(job.device),
            classes=job.classes,
            channels=channels,
            units=None if units is None or not has_side_task(job.genotype) else units.to(job.device),
        )
    # Streams of one recipe share one tensor.
    maps = {recipe: laid_out(store.select(recipe, job.train_rows), job.device) for recipe in set(recipes)}
    return TrainingView(
        maps=[maps[recipe] for recipe in recipes],
        labels=torch.from_numpy(job.train_labels).to(job.device),
        classes=job.classes,
        channels=channels,
        units=None if job.train_units is None else torch.from_numpy(job.train_units).to(job.device),
        source=source,
    )


@contextmanager
def numeric_state(seed: int, device: str) -> Iterator[None]:
    """Set what makes equal jobs give equal bits in every process, and leave the process as it was.

    One thread for torch and for linear algebra, denormal numbers flushed to zero (they slow a processor down and carry
    nothing), torch's generators seeded, and on an accelerator cuDNN held to algorithms that repeat themselves.
    One thing stays: the process keeps freed memory from now on, which changes no result.
    """
    keep_memory()
    threads = torch.get_num_threads()
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    with one_thread(), torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        torch.manual_seed(seed)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
            torch.set_num_threads(threads)
            torch.set_flush_denormal(False)  # torch cannot say what it was; off is how a process starts


def _classical(job: Job, view: TrainingView, held_out: Sequence[Tensor]) -> NDArray[np.float64]:
    leaf: Leaf = job.genotype["classifier"]
    classifier: Classifier = instantiate(leaf)
    # scikit-learn takes seeds below 2**32.
    predictor: Predictor = classifier.fit(view.held_by(leaf), job.seed % 2**32)
    return predictor.predict(held_out)


def _network(
    job: Job, view: TrainingView, held_out: list[Tensor]
) -> tuple[NDArray[np.float64], NDArray[np.int8] | None]:
    network, train = assemble(job.genotype, view, job.seed, job.device)
    seen: list[NDArray[np.int8]] = []

    def watch(epoch: int) -> None:
        network.eval()
        seen.append(predict(network, held_out).argmax(axis=1).astype(np.int8))
        network.train()

    train(watch if job.watch_epochs else None)
    return predict(network, held_out), np.stack(seen) if seen else None


def assemble(
    genotype: Genotype, view: TrainingView, seed: int, device: str = "cpu"
) -> tuple[nn.Module, Callable[[Callable[[int], None] | None], None]]:
    """Return a network with fitted normalisation, and the function that trains it.

    Args:
        genotype: The pipeline.
        view: Its training rows.
        seed: Seeds shuffling and augmentation; weights are drawn from torch's global generator.
        device: Where to train.
    """
    network = fitted_network(genotype, view, device)
    augmentation: list[Augmentation] = [instantiate(leaf) for leaf in genotype["augmentation"]]
    strategy: Strategy = instantiate(genotype["training"])
    rows = view.held_by(genotype["training"])
    generator = torch.Generator().manual_seed(seed)

    def objective(of: TrainingRows) -> Objective:
        return build_objective(genotype, cast(GuardedRows, of), network)

    def train(on_epoch: Callable[[int], None] | None = None) -> None:
        quickening = Quickening(network, device)

        def watched(epoch: int) -> None:
            quickening.off()
            if on_epoch is not None:
                on_epoch(epoch)
            quickening.on()

        quickening.on()
        try:
            strategy.fit(network, rows, objective, augmentation, generator, watched if on_epoch is not None else None)
        finally:
            quickening.off()

    return network, train


def fitted_network(genotype: Genotype, view: TrainingView, device: str = "cpu") -> Network:
    """Return an untrained network with fitted normalisation; its weights are drawn from torch's global generator.

    Args:
        genotype: The pipeline.
        view: Its training rows.
        device: Where to put it.
    """
    network = build_network(genotype, view.classes).to(device)
    fit_normalisation(network, genotype, view.held_by(genotype["normalisation"]))
    return network


def predict(network: nn.Module, maps: list[Tensor], batch: int = 512) -> NDArray[np.float64]:
    """Return class probabilities (m, K) of a trained network in eval mode; it is left in eval mode."""
    network.eval()
    with torch.inference_mode():
        parts = [
            torch.softmax(network([stream[start : start + batch] for stream in maps]).double(), dim=1)
            for start in range(0, len(maps[0]), batch)
        ]
    result: NDArray[np.float64] = torch.cat(parts).cpu().numpy()
    return result
