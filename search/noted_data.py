"""Where the data of a run lay, as data.txt of its run directory says: a line for each `--data`, with absolute paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mernas.search.named_data import named_data
from mernas.search.results import write_bytes
from mernas.space.errors import DataError, Problem

NAME = "data.txt"


def note_data(folder: Path, texts: Sequence[str]) -> None:
    """Write down what `--data` said, with absolute paths, so that it holds from any folder.

    Args:
        folder: The run directory.
        texts: What `mernas.search.run.load_data` took. A path need not be UTF-8, nor is the file then.

    Raises:
        DataError: If it cannot be written.
    """
    parts = [named_data(text) for text in texts]
    lines = [f"{name}={Path(path).expanduser().resolve()}\n" if path else f"{name}\n" for name, path in parts]
    write_bytes(folder / NAME, os.fsencode("".join(lines)))


def noted_data(folder: Path) -> list[str]:
    """Return what `--data` said when a run was made; nothing if the run directory does not tell.

    Args:
        folder: The run directory.

    Raises:
        DataError: If the file is there and cannot be read.

    Example:
        >>> noted_data(Path("no-such-run"))
        []
    """
    noted = folder / NAME
    try:
        text = os.fsdecode(noted.read_bytes()) if noted.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:  # where all paths are Unicode, another system's may be none
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        remedy = "make it readable, or remove it and say where the data lie now with --data NAME=PATH"
        raise DataError(Problem(str(noted), "cannot be read", reason or str(error), remedy)) from None
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
