"""How a check says no: an `AssertionError` that names the component, the rule, and what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mernas.space.errors import MernasError


class ConformanceError(AssertionError):
    """Something that a component does against the rules, told with its name; pytest shows it as a failed assertion."""


def demand(holds: bool, subject: str, rule: str, found: object = "") -> None:
    """Raise a `ConformanceError`, which is an `AssertionError`, unless something holds.

    Args:
        holds: Whether it does.
        subject: What must obey, as messages call it.
        rule: What must hold.
        found: What is so instead.

    Example:
        >>> demand(False, 'schedule "steep"', "the share lies in [0, 1]", 1.5)
        Traceback (most recent call last):
        ...
        mernas.components.testing.verdict.ConformanceError: schedule "steep": the share lies in [0, 1]; found 1.5
    """
    if not holds:
        raise ConformanceError(f"{subject}: {rule}; found {found}" if str(found) else f"{subject}: {rule}")


@contextmanager
def telling(subject: str, rule: str) -> Iterator[None]:
    """Turn whatever is raised inside into a `ConformanceError`; what is one already passes as it is."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:  # whatever a stranger's component does wrong is told, and in whose name
        text = str(error) if isinstance(error, MernasError) else " ".join(str(error).split())[:500]
        raise ConformanceError(f"{subject}: {rule}; found {type(error).__name__}: {text}") from error


@contextmanager
def own_chance(seed: int = 0) -> Iterator[None]:
    """Seed torch's global generator, and put it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
