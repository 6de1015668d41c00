"""Hypervolume and the statistics of the comparison, each against something independent of it."""

from __future__ import annotations

import doctest
import importlib
import random

import numpy as np
import pytest
import tabular.comparison
from scipy.stats import wilcoxon
from tabular.comparison import compare, expected, holm, seen
from tabular.hypervolume import front, hypervolume
from tabular.replay import Tried
from tabular.surrogate import Answer


@pytest.mark.parametrize("seed", range(20))
def test_hypervolume_is_the_number_of_dominated_cells(seed: int) -> None:
    generator = random.Random(seed)
    side = 12
    points = [(generator.randrange(side + 3), generator.randrange(side + 3)) for _ in range(generator.randrange(9))]
    # A cell is counted if some point is at least as high and at most as far to the right.
    cells = sum(
        any(high > row and low <= column for high, low in points) for row in range(side) for column in range(side)
    )
    above = [(min(high, side), low) for high, low in points]  # the cells end where UF1 would end
    assert hypervolume([(float(high), float(low)) for high, low in above], (0.0, float(side))) == cells


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nobody_dominates(seed: int) -> None:
    generator = random.Random(seed)
    points = [(float(generator.randrange(6)), float(generator.randrange(6))) for _ in range(15)]
    free = {
        one for one in points if not any(other != one and other[0] >= one[0] and other[1] <= one[1] for other in points)
    }
    assert set(front(points)) == free
    assert len(front(points)) == len(free)


def test_a_point_beyond_the_reference_adds_nothing() -> None:
    assert hypervolume([(0.9, 5.1), (0.0, 2.0), (-1.0, 1.0)], (0.0, 5.0)) == 0.0


def test_holm_multiplies_the_smallest_by_their_number_and_never_decreases() -> None:
    generator = np.random.default_rng(0)
    ps = generator.uniform(size=7).tolist()
    corrected = holm(ps)
    order = sorted(range(7), key=ps.__getitem__)
    # The definition: the corrected p of rank k is the largest of (m - j) p_(j) over all j up to k, at most 1.
    for rank, place in enumerate(order):
        largest = max(min(1.0, (7 - j) * ps[order[j]]) for j in range(rank + 1))
        assert corrected[place] == pytest.approx(largest)


def test_a_clear_difference_is_found_and_none_is_made_up() -> None:
    generator = np.random.default_rng(1)
    luck = generator.normal(size=30)
    values = {
        "random": luck,
        "ahead": luck + 0.3 + generator.normal(scale=0.1, size=30),
        "same": luck + generator.normal(scale=0.1, size=30),
        "behind": luck - 0.3 + generator.normal(scale=0.1, size=30),
    }
    ahead, same, behind = compare(values, [(name, "random") for name in ("ahead", "same", "behind")])
    assert ahead.verdict == "better than random"
    assert ahead.low <= 0.3 <= ahead.high
    assert same.verdict == "no difference from random"
    assert behind.verdict == "worse than random"
    assert ahead.p == pytest.approx(3 * wilcoxon(values["ahead"] - luck).pvalue)


def test_equal_samplers_do_not_differ() -> None:
    values = {"grid": np.ones(5), "random": np.ones(5)}
    (one,) = compare(values, [("grid", "random")])
    assert (one.p, one.difference, one.wins) == (1.0, 0.0, 0)


def test_expected_hypervolume_takes_the_luck_from_the_front_that_was_seen() -> None:
    tried = [
        Tried(3, "lucky", 100, Answer(0.8, (0.8,) * 3, 0.5, failed=False)),
        Tried(3, "solid", 100, Answer(0.7, (0.7,) * 3, 0.7, failed=False)),
        Tried(6, "late", 10, Answer(0.6, (0.6,) * 3, 0.6, failed=False)),
        Tried(3, "lost", 1, Answer(0.9, (0.9,) * 3, 0.9, failed=True)),
    ]
    assert seen(tried, 3, 1000) == pytest.approx(0.8)
    # The search would have taken the lucky one, so the solid one does not count.
    assert expected(tried, 3, 1000) == pytest.approx(0.5)
    assert expected(tried, 6, 1000) == pytest.approx(0.6 * 2)


@pytest.mark.parametrize("name", ["comparison", "drawing", "encoding", "hypervolume"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"tabular.{name}"))
    assert tried.attempted > 0
    assert tried.failed == 0


def test_resamples_are_the_same_every_time() -> None:
    values = {"tpe": np.arange(8.0), "random": np.ones(8)}
    assert compare(values, [("tpe", "random")]) == compare(values, [("tpe", "random")])
    assert tabular.comparison.RESAMPLES >= 1000
