"""Files that are written whole or not at all: beside their place, to disk, and then moved there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_whole(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a reader, or a power cut, finds the old content or the new one and nothing in between.

    Args:
        path: The file; its folder is made if need be.
        fill: Writes the content into an open binary file.

    Raises:
        OSError: If the file cannot be written; what was there before is then untouched.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "a" / "b.txt", lambda file: file.write(b"whole"))
        ...     (Path(folder) / "a" / "b.txt").read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp makes files that only their owner can read
        Path(name).replace(path)
    except BaseException:  # an interruption too must leave nothing behind
        Path(name).unlink(missing_ok=True)
        raise
