"""Limits of one job: how long it may take and how much memory it may allocate, so that no candidate ends a run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SHARE = 0.8
"""Which part of the memory that is free when a run starts its jobs may use together."""


class TimeOut(BaseException):  # a base exception, so that no component swallows it with `except Exception`
    """A job took longer than it may."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `TimeOut` in the body once it has run for so long.

    It uses the operating system's alarm clock, which only the main thread of a process can hear, and which Windows
    does not have; elsewhere there is no limit. A body that never comes back to Python is not reached either: see
    the watchdog of the parallel executor.

    Args:
        seconds: The limit, above 0; None for no limit.

    Example:
        >>> with time_limit(0.01):
        ...     while True:
        ...         pass
        Traceback (most recent call last):
        mernas.evaluation.limits.TimeOut: took longer than 0.01 s
    """
    heard = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds is None or not heard:
        yield
        return

    inside = True

    def ring(number: int, frame: FrameType | None) -> None:
        if inside:
            raise TimeOut(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    # It rings again and again: the first one may be lost in a callback whose exceptions Python cannot pass on.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        inside = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def memory_limit(extra: int | None) -> Iterator[None]:
    """Let the process allocate at most so much more than it has when the body begins.

    What goes beyond fails as an allocation fails on a full machine, inside the body, which the rest of the process
    survives. Only on Linux, where the limit on data counts all private memory; elsewhere there is no limit.

    Args:
        extra: Bytes; None for no limit.
    """
    if extra is None or sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_of_this_process() + extra
    for other in (soft, hard):
        wanted = wanted if other == resource.RLIM_INFINITY else min(wanted, other)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_of_this_process() -> int:
    """Bytes that the limit on data counts now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def free_memory() -> int | None:
    """Return how many bytes this process and its children could still use, or None where the system does not say.

    The smaller of what the machine has and what a container's limit leaves.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        free = free if limit == "max" else min(free, max(int(limit) - used, 0))
    except (OSError, ValueError):
        return free
    return free


def memory_per_job(workers: int) -> int | None:
    """Return how many bytes a job may allocate if so many run at once; None where the system does not say.

    Example:
        >>> two, one = memory_per_job(2), memory_per_job(1)
        >>> two is None or one is None or two < one
        True
    """
    free = free_memory()
    return None if free is None else int(free * SHARE / workers)
