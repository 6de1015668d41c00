"""What runs in a worker of Ray: a Tune trainable whose steps are the jobs of one block."""

from __future__ import annotations

import importlib
import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray import tune
from torch import Tensor

import mernas.components  # noqa: F401  # registers every component
from mernas.evaluation.custody import FeatureStore, SourceRows
from mernas.evaluation.fitting import run_job
from mernas.evaluation.folds_together import run_together
from mernas.evaluation.jobs import Job, Outcome, seconds_for
from mernas.evaluation.limits import memory_per_job
from mernas.search.workers import cores
from mernas.space.registry import REGISTRY

REGISTRY.fill()  # when the process starts: no job is to pay for it with its own time and memory

OUTCOMES = "outcomes"
"""Under this name a step hands back what its jobs gave: one, or all of a block that trains together."""

DONE = "block_done"
"""Under this name a step says whether all jobs of its block are done."""

IDLE = 0.1
"""Seconds that a worker sleeps at a time, if its block is done and the driver wants it to wait."""

HUNG = 124
"""Exit status of a worker whose job does not even hear the alarm clock."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a block is to a worker.

    Attributes:
        jobs: Its jobs, in order.
        maps: References to arrays in the object store, by recipe.
        memory: Bytes that a job may allocate; None for an even share of most of what is free where the worker is.
        imports: Modules that register components of the user's own.
        share: Which part of a GPU's memory belongs to this worker; 0 without a GPU.
        grace: Seconds beyond its limit after which a job that hears no alarm ends with its worker.
        source: Annotations of the source domain, if one of the jobs learns from it.
        together: Whether the jobs train as one; all of them are then one step.
    """

    jobs: tuple[Job, ...]
    maps: dict[str, ray.ObjectRef[NDArray[np.float32]]]
    memory: int | None
    imports: tuple[str, ...]
    share: float
    grace: float
    source: SourceRows | None = None
    together: bool = False


NOTHING = Content(jobs=(), maps={}, memory=None, imports=(), share=0.0, grace=0.0)


class Parcel:
    """Carries a reference to a block's content through Tune, which copies and keeps every configuration.

    Attributes:
        content: The reference; emptied when the block is done, so that the object store can let go of it.
    """

    def __init__(self, content: ray.ObjectRef[Content]) -> None:
        self.content: ray.ObjectRef[Content] | None = content

    def __deepcopy__(self, memo: dict[int, Any]) -> Parcel:
        return self

    def __repr__(self) -> str:
        return "Parcel"


class BlockTrainable(tune.Trainable):
    """Runs one job of its block in every step, or all of them at once if they train together."""

    _place: int

    def setup(self, config: dict[str, Any]) -> None:
        """Make the process what every worker is, then take the block; called once in a process."""
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        self._maps: dict[str, tuple[ray.ObjectRef[NDArray[np.float32]], Tensor]] = {}
        self._content = NOTHING
        self._free = memory_per_job(cores())
        self._take(config)
        if self._content.share and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(self._content.share)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another block in the same process."""
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run the next job; the driver ends a block that is done, and until it does there is nothing to do."""
        if self._place == len(self._content.jobs):
            time.sleep(IDLE)
            return {DONE: True}
        end = len(self._content.jobs) if self._content.together else self._place + 1
        jobs = self._content.jobs[self._place : end]
        self._place = end
        store = FeatureStore({recipe: maps for recipe, (_, maps) in self._maps.items()}, self._content.source)
        memory = self._free if self._content.memory is None else self._content.memory
        watchdog = _watchdog(jobs, self._content.grace)
        outcomes: list[Outcome]
        try:
            if self._content.together:
                outcomes = run_together(jobs, store, memory)
            else:
                outcomes = [run_job(jobs[0], store, memory)]
        finally:
            if watchdog is not None:
                watchdog.cancel()
        return {OUTCOMES: outcomes, DONE: self._place == len(self._content.jobs)}

    def _take(self, config: dict[str, Any]) -> None:
        parcel: Parcel = config["parcel"]
        # Every result bears the configuration, and Tune keeps the last one of every trial: with the reference in it,
        # the object store could never let go of a block, nor of its maps.
        content, parcel.content = parcel.content, None
        if content is None:  # the driver took its jobs back
            self._content, self._place = NOTHING, 0
            return
        self._content = ray.get(content)
        self._place = 0
        for module in self._content.imports:
            importlib.import_module(module)
        wanted = self._content.maps
        known = {recipe: pair for recipe, pair in self._maps.items() if wanted.get(recipe) == pair[0]}
        missing = [recipe for recipe in wanted if recipe not in known]
        mapped = _mapped([wanted[recipe] for recipe in missing])
        self._maps = known | {recipe: (wanted[recipe], maps) for recipe, maps in zip(missing, mapped, strict=True)}


def _mapped(references: Sequence[ray.ObjectRef[NDArray[np.float32]]]) -> list[Tensor]:
    """Tensors over the object store's own memory: nothing is copied."""
    arrays = ray.get(list(references))
    with warnings.catch_warnings():
        # The arrays cannot be written to, and nobody does: a job selects its rows, which copies them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return [torch.from_numpy(array) for array in arrays]


def _watchdog(jobs: Sequence[Job], grace: float) -> threading.Timer | None:
    """End this process if jobs neither end nor hear the alarm clock, being stuck outside Python."""
    seconds = seconds_for(jobs)
    if seconds is None:
        return None
    timer = threading.Timer(seconds + grace, os._exit, (HUNG,))
    timer.daemon = True
    timer.start()
    return timer
