"""Reading an SQLite file without a trace, wherever it lies."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote


def reading_only(path: Path) -> sqlite3.Connection:
    """Return a connection that can write nothing; whoever asked for it closes it.

    A connection that only reads would still make a write-ahead log beside a ledger that has none. Such a ledger is
    opened as immutable; only one that has a log, because its run is under way or was killed, is opened as a shared one.

    Args:
        path: The file. Its name may hold what has a meaning in an address, such as `#`, `?` and `%41`.

    Raises:
        sqlite3.Error: If there is no such file; that it is no ledger shows when it is read.

    Example:
        >>> reading_only(Path("no-such-folder#1/ledger.sqlite"))
        Traceback (most recent call last):
            ...
        sqlite3.OperationalError: unable to open database file
    """
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    place = quote(os.fsencode(path))  # bytes, because a path on Linux need not be UTF-8
    return sqlite3.connect(f"file:{place}?{mode}", uri=True, isolation_level=None)
