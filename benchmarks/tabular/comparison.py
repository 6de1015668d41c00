"""Comparing samplers over the same seeds: paired differences of hypervolume, and which of them chance would not give.

Seed by seed, every sampler searches the same landscape. A difference is tested by Wilcoxon's signed-rank test (two
sides), all comparisons of one table are corrected together by Holm's method, and its interval is that of the median
over resampled seeds (percentile bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from tabular.hypervolume import Point, front, hypervolume
from tabular.replay import Tried

RESAMPLES = 10_000
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A sampler beside another one.

    Attributes:
        name, against: Which two.
        difference: Median over seeds of the first one's hypervolume minus the second one's.
        low, high: 95% interval of that median.
        wins: Seeds in which the first one has more.
        seeds: How many seeds.
        p: After Holm's correction.
    """

    name: str
    against: str
    difference: float
    low: float
    high: float
    wins: int
    seeds: int
    p: float

    @property
    def verdict(self) -> str:
        """Who is better, if anybody is."""
        if self.p >= LEVEL:
            return f"no difference from {self.against}"
        return f"{'better' if self.difference > 0 else 'worse'} than {self.against}"


def reference(limit: int) -> Point:
    """Return where hypervolume ends: a UF1 of 0, and the parameter limit."""
    return 0.0, math.log10(limit)


def seen(tried: Sequence[Tried], spent: int, limit: int) -> float:
    """Return the hypervolume of what was tried for so many fold trainings, by the scores that the search saw."""
    return hypervolume(_points(tried, spent), reference(limit))


def expected(tried: Sequence[Tried], spent: int, limit: int) -> float:
    """Return the hypervolume that the front a search saw has without its luck: by the surrogate's own predictions."""
    chosen = set(front(_points(tried, spent)))
    worth = [
        (one.answer.expected, _size(one))
        for one in tried
        if one.spent <= spent and not one.answer.failed and (one.answer.uf1, _size(one)) in chosen
    ]
    return hypervolume(worth, reference(limit))


def compare(
    values: Mapping[str, NDArray[np.float64]], pairs: Sequence[tuple[str, str]], seed: int = 0
) -> list[Comparison]:
    """Compare pairs of samplers over the same seeds.

    Args:
        values: Hypervolume of every sampler by seed (n,), in the same order of seeds.
        pairs: Who is compared with whom; all are corrected together.
        seed: Of the resamples.
    """
    differences = [values[name] - values[against] for name, against in pairs]
    corrected = holm([_p(difference) for difference in differences])
    made = []
    for (name, against), difference, p in zip(pairs, differences, corrected, strict=True):
        resampled = np.random.default_rng(seed).integers(0, len(difference), (RESAMPLES, len(difference)))
        low, high = np.percentile(np.median(difference[resampled], axis=1), [2.5, 97.5])
        wins = int((difference > 0).sum())
        median = float(np.median(difference))
        made.append(Comparison(name, against, median, float(low), float(high), wins, len(difference), p))
    return made


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979).

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(ps)
    so_far = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = so_far
    return corrected


def _p(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _points(tried: Sequence[Tried], spent: int) -> list[Point]:
    return [(one.answer.uf1, _size(one)) for one in tried if one.spent <= spent and not one.answer.failed]


def _size(tried: Tried) -> float:
    return math.log10(max(tried.parameters, 1))
