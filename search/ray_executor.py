"""The parallel executor: Ray Tune runs the blocks, on this machine or on a cluster.

A Tune trial is one block. Tune asks a searcher of ours for the next one, starts it on a worker that it uses again
for later blocks, and tells a callback of ours each step's result, which is one job's outcome. Tune runs in a thread of
its own for as long as the executor lives; proposals, ledger and labels stay in the caller's thread. Tune's own
files, tables and restarts are not used: the ledger is the only truth.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

# Ray reads these when it is imported or started. A user's own settings have precedence.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # all workers start at once; how many blocks wait is limited below
    "RAY_AIR_NEW_OUTPUT": "0",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402  # after its environment is set
from ray import cloudpickle, tune  # noqa: E402
from ray.air.execution._internal import RayActorManager  # noqa: E402
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError  # noqa: E402
from ray.tune.execution import tune_controller  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from mernas.evaluation.fitting import CRASH, OUT_OF_MEMORY, TIME_OUT  # noqa: E402
from mernas.evaluation.jobs import Job, Outcome  # noqa: E402
from mernas.evaluation.limits import memory_per_job  # noqa: E402
from mernas.evaluation.preparation import recipe_of  # noqa: E402
from mernas.search.executor import Block, Feed, Interrupted  # noqa: E402
from mernas.search.ray_worker import DONE, OUTCOME, BlockTrainable, Content, Parcel  # noqa: E402
from mernas.space.errors import Problem, RunError, UnavailableError  # noqa: E402

AHEAD = 2
"""Blocks handed to Tune for each worker: one that runs and one that waits, so that no worker ever waits."""
MOST_MOVES = 5
"""So often a job may lose its machine before that counts against the job."""
PATIENCE = 60.0
"""So many seconds workers wait for another one to start before they take it that there is no room for it."""
OBJECT_STORE = 100 * 1024**2
"""Least size of the object store in bytes; Ray refuses less than 80 MB."""


@dataclass(frozen=True, eq=False)
class _Lost:
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
class _Arrived:
    """A job has come back."""

    trial: str
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class _Stopped:
    """A trial has ended, with or without all of its jobs done."""

    trial: str


@dataclass(eq=False)
class _Crew:
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
        self.coming.discard(trial)
        self.up.discard(trial)

    def must_wait(self, blocks: int) -> bool:
        """Whether a worker whose block is done must wait.

        Args:
            blocks: How many blocks Tune has not asked for yet.
        """
        if len(self.coming) + blocks <= self.free:
            return True
        room = min(self.size, int(_resources().get("CPU", 1)))  # less where a machine was lost
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
class _Board:
    """What the caller's thread and Tune's thread share."""

    blocks: queue.Queue[tuple[str, Parcel]] = field(default_factory=queue.Queue)
    events: queue.Queue[_Lost | _Arrived | _Stopped | BaseException] = field(default_factory=queue.Queue)
    stop: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    crew: _Crew = field(default_factory=_Crew)


# Tune pickles and copies whatever it is given. A pickle is for restarts, which are not used: what comes back from it is
# an empty shell. A copy is the thing itself.
class _BlockSearcher(Searcher):
    """Hands Tune the next block when it has room for one."""

    def __init__(self, board: _Board | None = None) -> None:
        super().__init__()
        self._board = board or _Board()
        self._names: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_BlockSearcher, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> _BlockSearcher:
        return self

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


class _Listener(tune.Callback):
    """Passes on what happens to trials."""

    def __init__(self, board: _Board | None = None) -> None:
        self._board = board or _Board()
        self._began: dict[str, float] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Listener, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Listener:
        return self

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._board.crew.started(trial.trial_id)
        self._began[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._began[trial.trial_id] = time.monotonic()
        outcome = result.pop(OUTCOME, None)  # Tune keeps the last result of every trial; it need not keep this
        if outcome is not None:
            self._board.events.put(_Arrived(trial.config["block"], outcome))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)
        self._board.events.put(_Stopped(trial.config["block"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        seconds = time.monotonic() - self._ended(trial)
        # Tune copies the file to where its own method looks for it, at some time.
        path = trial.pickled_error_file
        error = cloudpickle.loads(Path(path).read_bytes()) if path else None  # our own Tune wrote it just now
        self._board.events.put(_Lost(trial.config["block"], error, seconds))

    def _ended(self, trial: Any) -> float:
        """Forget a trial; return when its last job began."""
        trial.config["parcel"].content = None
        self._board.crew.ended(trial.trial_id)
        return self._began.pop(trial.trial_id, time.monotonic())


class _StopAll(tune.Stopper):
    """Ends a trial whose block is done, and every one after its job under way once the user wants to stop."""

    def __init__(self, board: _Board | None = None) -> None:
        self._board = board or _Board()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_StopAll, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> _StopAll:
        return self

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        board = self._board
        return board.stop.is_set() or (bool(result.get(DONE)) and not board.crew.must_wait(board.blocks.qsize()))

    def stop_all(self) -> bool:
        """Never: the experiment lives as long as the executor."""
        return False


class RayExecutor:
    """Runs blocks on workers of Ray Tune; one process and one thread each.

    Args:
        workers: How many jobs run at once; by default one for each core that Ray sees, or four for each GPU.
        device: `cpu` or `cuda`; workers share GPUs evenly.
        address: `auto` or an address: a cluster that `ray start` has made. By default Ray is started here.
        memory: Bytes that a job may allocate; by default an even share of most of what is free on this machine.
        imports: Modules that workers import first, where components of the user's own are registered.
        log: Where what Ray Tune prints goes; nowhere by default.
        grace: Seconds that a job gets beyond its limit before its worker is ended, if it hears no alarm.

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
    ) -> None:
        self._owns = not ray.is_initialized()
        if self._owns:
            _start(workers, device, address)
        self.workers = _count_workers(workers, device)
        # Where workers are all that Ray has, its resources are the limit. Tune's own limit would leave no block
        # waiting, and a process is only used again where one waits.
        room = int(_resources().get("CPU", 1))
        self._most = None if self.workers >= room else self.workers
        gpus = _resources().get("GPU", 0.0) if device == "cuda" else 0.0
        self._share = min(gpus / self.workers, 1.0)
        self._memory = memory if memory is not None else memory_per_job(self.workers)
        self._imports, self._log, self._grace = imports, log, grace
        self._board = _Board(crew=_Crew(self.workers))
        self._thread: threading.Thread | None = None
        self._maps: dict[str, Any] = {}
        self._blocks: dict[str, deque[Job]] = {}
        self._stores: dict[str, Block] = {}
        self._back: deque[Block] = deque()
        self._moves: dict[str, int] = {}
        self._handed_out = 0

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more and nothing is under way; see `Executor.run`.

        Raises:
            Interrupted: If `stopping` said so.
            RunError: If Ray itself failed.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._tune, name="ray-tune", daemon=True)
            self._thread.start()
        while True:
            if stopping():
                self._board.stop.set()
                self._take_back()
            while not self._board.stop.is_set() and len(self._blocks) < AHEAD * self.workers:
                block = self._back.popleft() if self._back else feed()
                if block is None:
                    break
                self._hand_out(block)
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

    def _hand_out(self, block: Block) -> None:
        name = f"{self._handed_out:06d}"
        self._handed_out += 1
        recipes = {recipe_of(stream).hash for job in block.jobs for stream in job.genotype.streams}
        for recipe in recipes - self._maps.keys():
            self._maps[recipe] = ray.put(block.store.maps[recipe].numpy())
        content = Content(
            jobs=block.jobs,
            maps={recipe: self._maps[recipe] for recipe in recipes},
            memory=self._memory,
            imports=self._imports,
            share=self._share,
            grace=self._grace,
        )
        self._blocks[name] = deque(block.jobs)
        self._stores[name] = block
        self._board.blocks.put((name, Parcel(ray.put(content))))

    def _take_back(self) -> None:
        """Take back the blocks that Tune has not asked for yet."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._forget(self._board.blocks.get_nowait()[0])

    def _handle(
        self, event: _Lost | _Arrived | _Stopped | BaseException, on_outcome: Callable[[Job, Outcome], None]
    ) -> None:
        if isinstance(event, BaseException):
            problem = Problem("Ray Tune", "has ended", f"{type(event).__name__}: {event}", "see log.txt")
            raise RunError(problem) from event
        if isinstance(event, _Arrived):
            job = self._blocks[event.trial].popleft()
            if not self._blocks[event.trial]:
                self._forget(event.trial)
            on_outcome(job, event.outcome)
            return
        if event.trial not in self._blocks:
            return  # all its jobs are done, and its worker has waited for more
        jobs = self._blocks[event.trial]
        store = self._stores[event.trial].store
        self._forget(event.trial)
        if isinstance(event, _Lost) and jobs:
            if not isinstance(event.error, RayActorError) or event.error.actor_init_failed:
                rule = "a worker cannot do its work"
                raise RunError(Problem("Ray", rule, _last_line(event.error), "see log.txt"))
            failure = self._blame(jobs[0], event.error, event.seconds)
            if failure:
                job = jobs.popleft()
                on_outcome(job, Outcome(job.key, None, failure=failure, attempts=job.attempt))
        if jobs and not self._board.stop.is_set():
            self._back.append(Block(tuple(jobs), store))

    def _blame(self, job: Job, error: RayActorError, seconds: float) -> str:
        """Name the failure of a job whose worker was lost; empty if it was its machine that was lost."""
        message = str(error)
        # Until Ray has noticed that a machine is gone, what ran there is unavailable. A result can be lost with it too.
        gone = isinstance(error, ActorUnavailableError) or "node has died" in message
        if gone or message.startswith(("NodeDied", "Object", "OwnerDied")):
            self._moves[job.key] = self._moves.get(job.key, 0) + 1
            return "" if self._moves[job.key] <= MOST_MOVES else f"{CRASH}: its machine was lost again and again"
        # Ray says the same of every process that ended by itself or by a signal, so that the clock must tell.
        if job.seconds is not None and seconds >= job.seconds + self._grace:
            return f"{TIME_OUT}: took longer than {job.seconds:g} s and heard no alarm"
        if message.startswith("OutOfMemoryError"):  # Ray's memory monitor ended it
            return f"{OUT_OF_MEMORY}: its worker was ended because the machine had no memory left"
        return f"{CRASH}: its worker was lost"

    def _forget(self, name: str) -> None:
        del self._blocks[name], self._stores[name]

    def _tune(self) -> None:
        """Run Tune until the executor is closed; in a thread of its own."""
        board = self._board
        needs = {"cpu": 1.0, "gpu": self._share} if self._share else {"cpu": 1.0}
        try:
            with tempfile.TemporaryDirectory(prefix="mernas-tune-") as folder, _printing_to(self._log), _managing():
                tune.Tuner(
                    tune.with_resources(BlockTrainable, needs),
                    tune_config=tune.TuneConfig(
                        search_alg=_BlockSearcher(board),
                        num_samples=-1,
                        reuse_actors=True,
                        max_concurrent_trials=self._most,
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


def _start(workers: int | None, device: str, address: str | None) -> None:
    here: dict[str, Any] = {}
    if address is None:
        here = {"num_cpus": workers or len(os.sched_getaffinity(0)), "include_dashboard": False}
    try:
        with _own_signals():
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except ConnectionError as error:
        remedy = "start one with `ray start --head`, or leave --address out"
        problem = Problem(f"--address {address}", "needs a Ray cluster that runs", _last_line(error), remedy)
        raise UnavailableError(problem) from None
    if device == "cuda" and not _resources().get("GPU"):
        close = Problem("--device cuda", "needs a GPU that Ray can see", "none", "use --device cpu")
        ray.shutdown()
        raise UnavailableError(close)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the caller's handlers of signals: Ray would set one of its own for SIGTERM when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return found


def _count_workers(workers: int | None, device: str) -> int:
    resources = _resources()
    room = int(resources.get("CPU", 1))
    if device == "cuda" and workers is None:
        return max(min(room, 4 * int(resources.get("GPU", 1))), 1)
    return max(room if workers is None else min(workers, room), 1)


def _last_line(error: BaseException | None) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


@contextlib.contextmanager
def _managing() -> Iterator[None]:
    """Let Tune use our manager of workers."""
    names = vars(tune_controller)
    before, names["RayActorManager"] = names["RayActorManager"], _ActorManager
    try:
        yield
    finally:
        names["RayActorManager"] = before


class _ByThread:
    """Standard output of Ray's threads, and of the one that runs Tune, goes elsewhere; that of others stays."""

    def __init__(self, elsewhere: TextIO, before: TextIO) -> None:
        self._elsewhere, self._before = elsewhere, before

    def __getattr__(self, name: str) -> Any:
        ray_speaks = threading.current_thread().name.startswith(("ray-", "ray_"))
        return getattr(self._elsewhere if ray_speaks else self._before, name)


@contextlib.contextmanager
def _printing_to(log: Path | None) -> Iterator[None]:
    """Send what Ray and Tune print and report to a file, or nowhere."""
    before, reports = sys.stdout, logging.getLogger("ray")
    with open(log or os.devnull, "a", encoding="utf-8", buffering=1) as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handlers, reports.handlers, propagate, reports.propagate = reports.handlers, [handler], reports.propagate, False
        mine = _ByThread(file, before)
        sys.stdout = mine
        try:
            yield
        finally:
            if sys.stdout is mine:  # somebody else may have replaced it since
                sys.stdout = before
            reports.handlers, reports.propagate = handlers, propagate
