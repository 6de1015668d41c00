"""Ray itself: how it is started or joined, how quiet it is, and what it has. Imported before anything of Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
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

from mernas.search.workers import cores  # noqa: E402
from mernas.space.errors import PlanError, Problem, UnavailableError  # noqa: E402


def start_ray(workers: int | None, device: str, address: str | None) -> None:
    """Start Ray on this machine, or join a cluster.

    Raises:
        PlanError: If the address is none.
        UnavailableError: If Ray does not start, there is no such cluster, or no GPU in it.
    """
    if address is not None:
        _knock(address)
    here: dict[str, Any] = {}
    if address is None:
        here = {"num_cpus": workers or cores(), "include_dashboard": False}
    try:
        with _own_signals():
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except Exception as error:  # Ray raises what it likes, a bare Exception where a machine is slow to start
        if address is None:
            remedy = "try again when the machine is less busy, see `mernas doctor`, or use --executor serial"
            raise UnavailableError(
                Problem("--executor ray", "cannot start Ray here", last_line(error), remedy)
            ) from error
        raise _no_cluster(address, error) from None
    if device == "cuda" and not resources().get("GPU"):
        close = Problem("--device cuda", "needs a GPU that Ray can see", "none", "use --device cpu")
        ray.shutdown()
        raise UnavailableError(close)


def _knock(address: str) -> None:
    """See whether anybody listens at an address: Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        raise PlanError(Problem("--address", "must be auto or HOST:PORT", address))
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> UnavailableError:
    remedy = "start one with `ray start --head`, or leave --address out"
    return UnavailableError(Problem(f"--address {address}", "needs a Ray cluster that runs", last_line(error), remedy))


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


def resources() -> dict[str, float]:
    """Return what Ray has: `CPU`, `GPU` and so on."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return found


def object_store_bytes() -> int:
    """Return how many bytes the object store of this machine has room for; 0 if Ray does not say."""
    here = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return next((int(node["Resources"].get("object_store_memory", 0)) for node in nodes if node["NodeID"] == here), 0)


def count_workers(workers: int | None, device: str) -> int:
    """Return how many workers there are: as many as asked for, or one for each core, or four for each GPU.

    Raises:
        UnavailableError: If there is no room for as many as asked for.
    """
    room = max(int(resources().get("CPU", 1)), 1)
    if workers is not None and workers > room:
        remedy = "ask for fewer, or start Ray on more machines"
        raise UnavailableError(Problem(f"--workers {workers}", "needs as many cores in Ray", f"{room}", remedy))
    if device == "cuda" and workers is None:
        return max(min(room, 4 * int(resources().get("GPU", 1))), 1)
    return room if workers is None else workers


def last_line(error: BaseException | None) -> str:
    """Return the last line of an error's message, which says what happened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


class _ByThread:
    """Standard output of Ray's threads, and of the one that runs Tune, goes elsewhere; that of others stays."""

    def __init__(self, elsewhere: TextIO, before: TextIO) -> None:
        self._elsewhere, self._before = elsewhere, before

    def __getattr__(self, name: str) -> Any:
        ray_speaks = threading.current_thread().name.startswith(("ray-", "ray_"))
        return getattr(self._elsewhere if ray_speaks else self._before, name)


@contextlib.contextmanager
def printing_to(log: Path | None) -> Iterator[None]:
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
