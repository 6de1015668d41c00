"""One driver per run directory: the operating system holds the lock, so that it ends with the process that took it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mernas.search.results import write_text
from mernas.space.errors import LedgerError, Problem


@contextmanager
def sole_driver(folder: Path) -> Iterator[None]:
    """Hold a run directory for as long as the context lasts.

    The lock is one of the operating system: a driver that was killed, even with kill -9, holds nothing any more, and
    what it wrote about itself is overwritten.

    Args:
        folder: The run directory; it must exist.

    Raises:
        LedgerError: If another driver holds it; the message says who.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, sole_driver(Path(folder)):
        ...     (Path(folder) / "driver.txt").read_text().startswith("process")
        True
    """
    stated = folder / "driver.txt"
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = stated.read_text(encoding="utf-8").strip() if stated.is_file() else "another process"
        rule = "is in use by another driver"
        remedy = "wait for it or stop it, or choose another --out"
        raise LedgerError(Problem(f"run directory {folder}", rule, holder, remedy)) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_text(stated, f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        yield
    finally:
        stated.unlink(missing_ok=True)
        lock.release()
