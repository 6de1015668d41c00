"""What the pipelines of a run cost so far, and into how large blocks their outer trainings are cut."""

from __future__ import annotations

from mernas.evaluation.rows import RowBook
from mernas.search.ledger import Ledger
from mernas.search.plan import Plan

OUTER_BLOCK = 8
"""At most so many subjects of one pipeline's outer test are done by one worker at a stretch."""
BLOCK_SECONDS = 30.0
"""A block of several lasts no longer: handing over costs nothing beside long jobs, and others would wait at the end."""


def seconds_per_row(ledger: Ledger, book: RowBook) -> dict[str, float]:
    """Return the mean seconds per training row of every pipeline of which a job has succeeded, by its hash.

    Args:
        ledger: The ledger.
        book: The rows of the run.
    """
    every = len(book.subjects)
    found: dict[str, list[float]] = {}
    for cost in ledger.costs():
        found.setdefault(cost.genotype, []).append(cost.seconds / (every - cost.predicted))
    return {genotype: sum(seconds) / len(seconds) for genotype, seconds in found.items()}


def outer_rows(plan: Plan) -> float:
    """Return how many rows a job of the outer test trains on, on average: those of all subjects but one."""
    return (1 - 1 / len(plan.dataset.subjects)) * len(plan.book.subjects)


def outer_block(seconds: float) -> int:
    """Return how many outer trainings of one pipeline a worker does at a stretch.

    Args:
        seconds: What one takes.

    Example:
        >>> outer_block(0.5), outer_block(12.0), outer_block(300.0)
        (8, 2, 1)
    """
    return max(1, min(OUTER_BLOCK, int(BLOCK_SECONDS / max(seconds, 1e-3))))
