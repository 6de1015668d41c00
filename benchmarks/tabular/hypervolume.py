"""Hypervolume of two objectives: how much of the plane a set of candidates leaves behind it.

A candidate of UF1 y and x = log10(parameters) dominates the rectangle from x to the reference and from the reference up
to y. The hypervolume is the area of all rectangles together, in UF1 times decades of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]
"""What is maximised (UF1) and what is minimised (log10 of the parameters)."""


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other dominates, from the smallest to the largest; equal points once.

    Example:
        >>> front([(0.5, 3.0), (0.7, 4.0), (0.4, 3.5), (0.5, 3.0)])
        [(0.5, 3.0), (0.7, 4.0)]
    """
    kept: list[Point] = []
    for high, low in sorted(set(points), key=lambda point: (point[1], -point[0])):
        if not kept or high > kept[-1][0]:
            kept.append((high, low))
    return kept


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the area that points dominate up to a reference; a point beyond the reference adds nothing.

    Args:
        points: UF1 and log10 of the parameters.
        reference: The least UF1 and the largest log10 of the parameters that count.

    Example:
        >>> hypervolume([(0.5, 3.0), (1.0, 4.0), (0.25, 3.5)], (0.0, 5.0))
        1.5
    """
    worst_high, worst_low = reference
    inside = front([point for point in points if point[0] > worst_high and point[1] < worst_low])
    area, height = 0.0, worst_high
    for high, low in inside:
        area += (high - height) * (worst_low - low)
        height = high
    return area
