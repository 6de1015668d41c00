"""Mistakes of the user as messages. Imports nothing heavy, as every command begins here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from mernas.space.errors import MernasError


@contextmanager
def messages() -> Iterator[None]:
    """A user's mistake becomes one message and exit code 2, never a traceback.

    Example:
        >>> with messages():
        ...     pass
    """
    try:
        yield
    except MernasError as error:
        for problem in error.problems:
            click.echo(f"mernas: {problem}", err=True)
        sys.exit(2)
