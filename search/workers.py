"""Who does the work: the serial executor or Ray Tune, with how many workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mernas.evaluation.jobs import Job, Outcome
from mernas.search.executor import Executor, Feed, SerialExecutor
from mernas.space.errors import PlanError, Problem, UnavailableError, raise_all

EXECUTORS = ("auto", "serial", "ray")
MOST_WORKERS = 100_000


def cores() -> int:
    """Return how many cores this process may use.

    Example:
        >>> cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def chosen_executor(executor: str, workers: int | None, device: str, address: str | None) -> str:
    """Return `serial` or `ray`.

    `auto` is Ray where there is more than one worker, or a cluster; one worker needs no Ray.

    Args:
        executor: `auto`, `serial` or `ray`.
        workers: How many jobs run at once; None for what the machine has.
        device: `cpu` or `cuda`.
        address: Of a cluster, or None.

    Raises:
        PlanError: With every contradiction.

    Example:
        >>> chosen_executor("auto", 1, "cpu", None), chosen_executor("auto", 2, "cpu", None)
        ('serial', 'ray')
    """
    problems: list[Problem | str] = []
    if executor not in EXECUTORS:
        problems.append(Problem("--executor", f"must be one of {', '.join(EXECUTORS)}", executor))
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        problems.append(Problem("--workers", f"must lie between 1 and {MOST_WORKERS:,}", f"{workers:,}"))
    if executor == "serial" and workers is not None and workers > 1:
        problems.append(Problem("--executor serial", "has one worker", f"--workers {workers}", "use --executor ray"))
    if executor == "serial" and address is not None:
        problems.append(Problem("--executor serial", "knows no cluster", f"--address {address}", "use --executor ray"))
    raise_all(PlanError, problems)
    if executor != "auto":
        return executor
    many = address is not None or device == "cuda" or (cores() if workers is None else workers) > 1
    return "ray" if many else "serial"


def require_cuda() -> None:
    """See that PyTorch has a CUDA device in this process.

    Raises:
        UnavailableError: If it has none.
    """
    import torch

    if not torch.cuda.is_available():
        rule = "unavailable: needs a CUDA device and a CUDA build of PyTorch"
        raise UnavailableError(Problem("--device cuda", rule, f"torch {torch.__version__}", "use --device cpu"))


class _WhenNeeded:
    """Starts Ray when there is something to run: a run that is finished needs none."""

    def __init__(self, workers: int | None, device: str, address: str | None, log: Path | None) -> None:
        self._workers, self._device, self._address, self._log = workers, device, address, log
        self._made: Executor | None = None

    @property
    def workers(self) -> int:
        """How many jobs can run at once; a cluster has to be asked."""
        if self._address is None and self._device == "cpu":
            return self._workers or cores()
        return self._ray().workers

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more; see `Executor.run`."""
        self._ray().run(feed, on_outcome, stopping)

    def close(self) -> None:
        """End what was started."""
        if self._made is not None:
            self._made.close()

    def _ray(self) -> Executor:
        if self._made is None:
            try:
                from mernas.search.ray_executor import RayExecutor
            except ImportError as error:
                remedy = 'pip install "ray[tune]>=2.60,<3", or use --executor serial'
                raise UnavailableError(Problem("--executor ray", "needs Ray Tune", str(error), remedy)) from None
            self._made = RayExecutor(self._workers, self._device, self._address, log=self._log)
        return self._made


@contextmanager
def working(
    executor: str | Executor = "auto",
    workers: int | None = None,
    device: str = "cpu",
    address: str | None = None,
    log: Path | None = None,
) -> Iterator[Executor]:
    """Hold an executor for as long as the context lasts; one that was made elsewhere is not closed.

    Args:
        executor: `auto`, `serial`, `ray`, or an executor.
        workers: How many jobs run at once; None for what the machine or the cluster has.
        device: `cpu` or `cuda`.
        address: Of a Ray cluster, e.g. `auto`.
        log: Where what Ray Tune prints goes.

    Raises:
        PlanError: With every contradiction.
        UnavailableError: If there is no such cluster or device.

    Example:
        >>> with working("serial") as executor:
        ...     executor.workers
        1
    """
    if not isinstance(executor, str):
        yield executor
        return
    if device == "cuda" and address is None:
        require_cuda()
    serial = chosen_executor(executor, workers, device, address) == "serial"
    made: Executor = SerialExecutor() if serial else _WhenNeeded(workers, device, address, log)
    try:
        yield made
    finally:
        made.close()
