"""One driver per run directory: the operating system holds the lock, so that it ends with the process that took it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mernas.evaluation.whole_file import write_whole
from mernas.search.out_file import FULL, ROOM, unwritable
from mernas.space.errors import LedgerError, Problem


class UnwritableFolderError(LedgerError):
    """A folder in which nothing can be written, not even a lock: a disk mounted to be read, or somebody else's."""


@contextmanager
def sole_driver(folder: Path, option: str = "--out") -> Iterator[None]:
    """Hold a run directory for as long as the context lasts.

    The lock is one of the operating system: a driver that was killed, even with kill -9, holds nothing any more, and
    what it wrote about itself is overwritten.

    Args:
        folder: The run directory; it must exist.
        option: The option that named it.

    Raises:
        UnwritableFolderError: If the folder, its disk or the system allows no lock there.
        LedgerError: If another driver holds it; the message says who.
        DataError: If there is no room on its disk.

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
        remedy = f"wait for it or stop it, or choose another {option}"
        raise LedgerError(Problem(f"run directory {folder}", rule, holder, remedy)) from None
    except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
        raise _unwritable(folder, error, option) from None
    try:
        _state_holder(stated, folder, option)
        try:
            yield
        finally:
            stated.unlink(missing_ok=True)
    finally:
        lock.release()


def _state_holder(stated: Path, folder: Path, option: str) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
    try:
        write_whole(stated, lambda file: file.write(text.encode()))
    except OSError as error:
        if error.errno in FULL:
            raise unwritable(stated, error, ROOM) from None
        raise _unwritable(folder, error, option) from None


def _unwritable(folder: Path, error: Exception, option: str) -> UnwritableFolderError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    remedy = f"make the folder writable for this user, or choose another one with {option}"
    return UnwritableFolderError(Problem(str(folder), "cannot be written", reason, remedy))
