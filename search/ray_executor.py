"""The parallel executor: Ray Tune runs the blocks, on this machine or on a cluster.

A Tune trial is one block. Tune asks a searcher of ours for the next one, starts it on a worker that it uses again
for later blocks, and tells a callback of ours each step's result, which is one job's outcome. Tune runs in a thread of
its own for as long as the executor lives; proposals, ledger and labels stay in the caller's thread. Tune's own
files, tables and restarts are not used: the ledger is the only truth.

Maps lie in Ray's object store, once for all workers of a machine. The driver keeps references to those that were used
lately and to all that blocks under way need; the store lets go of the others. A block that has been sent keeps its own
maps whatever the driver does, since the references are part of what is sent. Ray keeps what a process was started with
for as long as it lives, so the maps of every worker's first block stay as well.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mernas.search.ray_session import (  # isort: skip  # before Ray: it sets Ray's environment
    count_workers,
    last_line,
    object_store_bytes,
    resources,
    start_ray,
)
import ray
from ray.exceptions import ActorUnavailableError, RayActorError

from mernas.evaluation.custody import FeatureStore, source_key
from mernas.evaluation.jobs import CRASH, OUT_OF_MEMORY, TIME_OUT, Job, Outcome, learns_from_source, seconds_for
from mernas.evaluation.limits import memory_per_job
from mernas.evaluation.preparation import recipe_of
from mernas.search.executor import Block, Feed, Interrupted
from mernas.search.ray_tune import Arrived, Board, Crew, Lost, Stopped, run_tune
from mernas.search.ray_worker import Content, Parcel
from mernas.search.recent import Recent
from mernas.space.errors import Problem, RunError

AHEAD = 2
"""Blocks handed to Tune for each worker: one that runs and one that waits, so that no worker ever waits."""
MOST_MOVES = 5
"""So often a job may lose its machine before that counts against the job."""
SHARE_KEPT = 0.5
"""So much of the object store do maps take at most, beside those of blocks under way: the rest has to hold these."""


class RayExecutor:
    """Runs blocks on workers of Ray Tune; one process and one thread each.

    Args:
        workers: How many jobs run at once; by default one for each core that Ray sees, or four for each GPU.
        device: `cpu` or `cuda`; workers share GPUs evenly.
        address: `auto` or an address: a cluster that `ray start` has made. By default Ray is started here.
        memory: Bytes that a job may allocate; by default an even share of most of what is free on its machine.
        imports: Modules that workers import first, where components of the user's own are registered.
        log: Where what Ray Tune prints goes; nowhere by default.
        grace: Seconds that a job gets beyond its limit before its worker is ended, if it hears no alarm.
        most: How many bytes of maps to keep in the object store, beside those of blocks under way; by default half of
            what this machine's part of it has room for.

    Raises:
        UnavailableError: If there is no such cluster, or no GPU in it.
    """

    def __init__(
        self,
        workers: int | None = None,
        device: str = "cpu",
        address: str | None = None,
        memory: int | None = None,
        imports: tuple[str, ...] = (),
        log: Path | None = None,
        grace: float = 30.0,
        most: int | None = None,
    ) -> None:
        self._owns = not ray.is_initialized()
        if self._owns:
            start_ray(workers, device, address)
        self.workers = count_workers(workers, device)
        # Where workers are all that Ray has, its resources are the limit. Tune's own limit would leave no block
        # waiting, and a process is only used again where one waits.
        room = int(resources().get("CPU", 1))
        self._most = None if self.workers >= room else self.workers
        gpus = resources().get("GPU", 0.0) if device == "cuda" else 0.0
        self._share = min(gpus / self.workers, 1.0)
        # The machines of a cluster differ: there each worker sees for itself how much memory a job may have.
        self._memory = memory_per_job(self.workers) if memory is None and address is None else memory
        self._imports, self._log, self._grace = imports, log, grace
        self._board = Board(crew=Crew(self.workers))
        self._thread: threading.Thread | None = None
        # By recipe: what the maps are of (`FeatureStore.origin`), and where in the object store they lie.
        self._maps = Recent[tuple[object, Any]](int(object_store_bytes() * SHARE_KEPT) if most is None else most)
        self._parcels: dict[str, Parcel] = {}
        self._blocks: dict[str, deque[Job]] = {}
        self._contents: dict[str, Content] = {}
        self._back: deque[Content] = deque()
        self._moves: dict[str, int] = {}
        self._handed_out = 0

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more and nothing is under way; see `Executor.run`.

        Raises:
            Interrupted: If `stopping` said so.
            RunError: If Ray itself failed.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=run_tune,
                args=(self._board, self._share, self._most, self._log),
                name="ray-tune",
                daemon=True,
            )
            self._thread.start()
        while True:
            if stopping():
                self._board.stop.set()
                self._take_back()
            while not self._board.stop.is_set() and len(self._blocks) < AHEAD * self.workers:
                content = self._back.popleft() if self._back else self._packed(feed())
                if content is None:
                    break
                self._hand_out(content)
            if not self._blocks:
                break
            try:
                event = self._board.events.get(timeout=0.2)
            except queue.Empty:
                continue
            self._handle(event, on_outcome)
        if self._board.stop.is_set() or stopping():
            raise Interrupted

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        self._board.closed.set()
        self._board.stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self._owns:
            ray.shutdown()

    def _packed(self, block: Block | None) -> Content | None:
        """What a block is to a worker, its maps in the object store."""
        if block is None:
            return None
        recipes = {recipe_of(stream).hash for job in block.jobs for stream in job.genotype.streams}
        learning = [job.genotype for job in block.jobs if learns_from_source(job.genotype)]
        recipes |= {source_key(recipe_of(stream).hash) for genotype in learning for stream in genotype.streams}
        needed = recipes.union(*(content.maps for content in (*self._contents.values(), *self._back)))
        return Content(
            jobs=block.jobs,
            maps={recipe: self._reference(recipe, block.store, needed) for recipe in sorted(recipes)},
            source=block.store.source if learning else None,
            memory=self._memory,
            imports=self._imports,
            share=self._share,
            grace=self._grace,
            together=block.together,
        )

    def _reference(self, recipe: str, store: FeatureStore, needed: Collection[str]) -> Any:
        """Where in the object store the maps of a recipe lie; they are put there if need be."""
        known = self._maps.get(recipe)
        # A recipe says what is computed, not of which clips in which order.
        if known is not None and known[0] is store.origin:
            return known[1]
        maps = store.maps[recipe]
        reference = ray.put(maps.numpy())
        self._maps.keep(recipe, (store.origin, reference), maps.nbytes, needed)
        return reference

    def _hand_out(self, content: Content) -> None:
        name = f"{self._handed_out:06d}"
        self._handed_out += 1
        self._blocks[name] = deque(content.jobs)
        self._contents[name] = content
        self._parcels[name] = Parcel(ray.put(content))
        self._board.blocks.put((name, self._parcels[name]))

    def _take_back(self) -> None:
        """Take back the blocks that Tune has not asked for yet, and empty those that it has not begun."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._forget(self._board.blocks.get_nowait()[0])
        for name in self._parcels.keys() - self._board.begun:
            self._parcels[name].content = None

    def _handle(
        self, event: Lost | Arrived | Stopped | BaseException, on_outcome: Callable[[Job, Outcome], None]
    ) -> None:
        if isinstance(event, BaseException):
            problem = Problem("Ray Tune", "has ended", f"{type(event).__name__}: {event}", "see log.txt")
            raise RunError(problem) from event
        if isinstance(event, Arrived):
            arrived = [(self._blocks[event.trial].popleft(), outcome) for outcome in event.outcomes]
            if not self._blocks[event.trial]:
                self._forget(event.trial)
            for job, outcome in arrived:
                on_outcome(job, outcome)
            return
        if event.trial not in self._blocks:
            return  # all its jobs are done, and its worker has waited for more
        jobs = self._blocks[event.trial]
        content = self._contents[event.trial]
        self._forget(event.trial)
        if isinstance(event, Lost) and jobs:
            if not isinstance(event.error, RayActorError) or event.error.actor_init_failed:
                rule = "a worker cannot do its work"
                raise RunError(Problem("Ray", rule, last_line(event.error), "see log.txt"))
            # None of a block that trains together has come back: it is to blame as one, and runs again as one.
            step = [jobs.popleft() for _ in range(len(jobs) if content.together else 1)]
            failure = self._blame(step, event.error, event.seconds)
            if not failure:
                jobs.extendleft(reversed(step))
            for job in step if failure else ():
                on_outcome(job, Outcome(job.key, None, failure=failure, attempts=job.attempt))
        if jobs and not self._board.stop.is_set():
            self._back.append(replace(content, jobs=tuple(jobs)))

    def _blame(self, jobs: Sequence[Job], error: RayActorError, seconds: float) -> str:
        """Name the failure of a step whose worker was lost; empty if it was its machine that was lost."""
        first, limit = jobs[0].key, seconds_for(jobs)
        message = str(error)
        # Until Ray has noticed that a machine is gone, what ran there is unavailable. A result can be lost with it too.
        gone = isinstance(error, ActorUnavailableError) or "node has died" in message
        if gone or message.startswith(("NodeDied", "Object", "OwnerDied")):
            self._moves[first] = self._moves.get(first, 0) + 1
            return "" if self._moves[first] <= MOST_MOVES else f"{CRASH}: its machine was lost again and again"
        # Ray says the same of every process that ended by itself or by a signal, so that the clock must tell.
        if limit is not None and seconds >= limit + self._grace:
            return f"{TIME_OUT}: took longer than {limit:g} s and heard no alarm"
        if message.startswith("OutOfMemoryError"):  # Ray's memory monitor ended it
            return f"{OUT_OF_MEMORY}: its worker was ended because the machine had no memory left"
        return f"{CRASH}: its worker was lost"

    def _forget(self, name: str) -> None:
        del self._blocks[name], self._contents[name], self._parcels[name]
