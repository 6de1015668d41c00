"""What Ray Tune is given: a searcher that hands out blocks, and listeners that pass on what happens to them."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mernas.search.ray_session import printing_to, resources  # isort: skip  # before Ray: it sets Ray's environment
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.search import Searcher

from mernas.evaluation.jobs import Outcome
from mernas.search.ray_worker import DONE, OUTCOMES, BlockTrainable, Parcel

PATIENCE = 60.0
"""So many seconds workers wait for another one to start before they take it that there is no room for it."""


@dataclass(frozen=True, eq=False)
class Lost:
    """A worker ended before its block did.

    Attributes:
        trial: The block.
        error: What Ray says of it.
        seconds: How long it was busy with the job that it was lost with.
    """

    trial: str
    error: BaseException | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Arrived:
    """A job has come back, or all jobs of a block that trains together."""

    trial: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, eq=False)
class Stopped:
    """A trial has ended, with or without all of its jobs done."""

    trial: str


@dataclass(eq=False)
class Crew:
    """The workers, as Tune's thread sees them.

    Tune gives the process of a block that has ended to a block that waits, and ends the process that was starting for
    that one. Where blocks are shorter than a start, no second worker would ever come up. So a worker whose block is
    done waits until those that are starting are up. And it waits for the next block: Tune ends a process that nothing
    waits for.

    Attributes:
        size: How many workers there is room for.
        up: The trials that have a worker.
        coming: The trials that wait for one.
        since: When some worker began to wait for the others, or None.
        free: How many workers were let go for trials that have not started yet.
    """

    size: int = 1
    up: set[str] = field(default_factory=set)
    coming: set[str] = field(default_factory=set)
    since: float | None = None
    free: int = 0

    def started(self, trial: str) -> None:
        """A trial has got its worker."""
        self.coming.discard(trial)
        self.up.add(trial)
        self.size, self.since, self.free = max(self.size, len(self.up)), None, max(self.free - 1, 0)

    def ended(self, trial: str) -> None:
        """A trial has ended, or lost its worker."""
        if trial in self.coming:  # it never had the worker that was let go for it
            self.coming.discard(trial)
            self.free = max(self.free - 1, 0)
        self.up.discard(trial)

    def must_wait(self, blocks: int) -> bool:
        """Whether a worker whose block is done must wait.

        Args:
            blocks: How many blocks Tune has not asked for yet.
        """
        if len(self.coming) + blocks <= self.free:
            return True
        room = min(self.size, int(resources().get("CPU", 1)))  # less where a machine was lost
        if self.coming and len(self.up) < room:
            self.since = time.monotonic() if self.since is None else self.since
            if time.monotonic() - self.since < PATIENCE:
                return True
            self.size, self.since = len(self.up), None
        self.free += 1
        return False


class _ActorManager(RayActorManager):
    """Takes every error of Ray for that of a lost worker: with any other kind Tune itself would end.

    Ray's memory monitor gives such an error, and so does a result that is lost with its machine.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        super()._actor_task_failed(tracked_actor_task, exception)


@dataclass(eq=False)
class Board:
    """What the caller's thread and Tune's thread share."""

    blocks: queue.Queue[tuple[str, Parcel]] = field(default_factory=queue.Queue)
    events: queue.Queue[Lost | Arrived | Stopped | BaseException] = field(default_factory=queue.Queue)
    stop: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    begun: set[str] = field(default_factory=set)
    crew: Crew = field(default_factory=Crew)


class _OfOneBoard:
    """What is given to Tune, which pickles and copies it.

    A pickle is for restarts, which are not used: what comes back from it is an empty shell. A copy is the thing itself.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())

    def __deepcopy__(self, memo: dict[int, Any]) -> _OfOneBoard:
        return self


class _BlockSearcher(_OfOneBoard, Searcher):
    """Hands Tune the next block when it has room for one."""

    def __init__(self, board: Board | None = None) -> None:
        super().__init__()
        self._board = board or Board()

    def suggest(self, trial_id: str) -> Any:
        if self._board.closed.is_set():
            return Searcher.FINISHED
        try:
            name, parcel = self._board.blocks.get_nowait()
        except queue.Empty:
            return None
        self._board.crew.coming.add(trial_id)
        return {"block": name, "parcel": parcel}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The callback is told the same with more of it."""

    def save(self, checkpoint_path: str) -> None:
        """There is nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """There is nothing to restore."""


class _Listener(_OfOneBoard, tune.Callback):
    """Passes on what happens to trials."""

    def __init__(self, board: Board | None = None) -> None:
        self._board = board or Board()
        self._began: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._board.begun.add(trial.config["block"])
        self._board.crew.started(trial.trial_id)
        self._began[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._began[trial.trial_id] = time.monotonic()
        outcomes = result.pop(OUTCOMES, None)  # Tune keeps the last result of every trial; it need not keep this
        if outcomes is not None:
            self._board.events.put(Arrived(trial.config["block"], tuple(outcomes)))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)
        self._board.events.put(Stopped(trial.config["block"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        seconds = time.monotonic() - self._ended(trial)
        # Tune copies the file to where its own method looks for it, at some time.
        path = trial.pickled_error_file
        error = cloudpickle.loads(Path(path).read_bytes()) if path else None  # our own Tune wrote it just now
        self._board.events.put(Lost(trial.config["block"], error, seconds))

    def _ended(self, trial: Any) -> float:
        """Forget a trial; return when its last job began."""
        trial.config["parcel"].content = None
        self._board.crew.ended(trial.trial_id)
        return self._began.pop(trial.trial_id, time.monotonic())


class _StopAll(_OfOneBoard, tune.Stopper):
    """Ends a trial whose block is done, and every one after its job under way once the user wants to stop."""

    def __init__(self, board: Board | None = None) -> None:
        self._board = board or Board()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        board = self._board
        return board.stop.is_set() or (bool(result.get(DONE)) and not board.crew.must_wait(board.blocks.qsize()))

    def stop_all(self) -> bool:
        """Never: the experiment lives as long as the executor."""
        return False


def run_tune(board: Board, gpu: float, most: int | None, log: Path | None) -> None:
    """Run Tune until the board is closed; whatever ends it before that becomes an event.

    Args:
        board: What is shared with the caller's thread.
        gpu: Which part of a GPU each worker needs.
        most: The largest number of workers; None for what Ray has room for.
        log: Where what Ray and Tune print goes.
    """
    needs = {"cpu": 1.0, "gpu": gpu} if gpu else {"cpu": 1.0}
    try:
        with tempfile.TemporaryDirectory(prefix="mernas-tune-") as folder, printing_to(log), _managing():
            tune.Tuner(
                tune.with_resources(BlockTrainable, needs),
                tune_config=tune.TuneConfig(
                    search_alg=_BlockSearcher(board),
                    num_samples=-1,
                    reuse_actors=True,
                    max_concurrent_trials=most,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    name="blocks",
                    storage_path=folder,
                    verbose=0,
                    callbacks=[_Listener(board)],
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    stop=_StopAll(board),
                ),
            ).fit()
        if not board.closed.is_set():
            board.events.put(RuntimeError("the experiment ended by itself"))
    except BaseException as error:  # whatever ends this thread must reach the caller's
        board.events.put(error)


@contextlib.contextmanager
def _managing() -> Iterator[None]:
    """Let Tune use our manager of workers."""
    names = vars(tune_controller)
    before, names["RayActorManager"] = names["RayActorManager"], _ActorManager
    try:
        yield
    finally:
        names["RayActorManager"] = before
