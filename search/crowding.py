"""How lonely every point of a front is: what NSGA-II prefers among points of equal rank.

Crowding distance: Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II",
2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def crowding(points: Sequence[Sequence[float]]) -> list[float]:
    """Return the crowding distance of every point of one front: large where it stands alone, infinite at the ends.

    In a coordinate in which all points are alike nobody stands apart, so it counts for nobody; nor does one that is
    infinitely wide. Of points that are alike in a coordinate the earlier one is taken as the lower one.

    Args:
        points: The coordinates of every point, as many for each.

    Example:
        >>> crowding([(0, 4), (1, 2), (4, 0)])
        [inf, 2.0, inf]
        >>> crowding([(0, 4), (0, 4), (0, 4)])
        [0.0, 0.0, 0.0]
    """
    distances = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda one: points[one][axis])
        width = points[order[-1]][axis] - points[order[0]][axis]
        if not 0 < width < math.inf:
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, one, after in zip(order, order[1:], order[2:], strict=False):
            distances[one] += (points[after][axis] - points[before][axis]) / width
    return distances
