"""Intervals over the choice of subjects: a percentile bootstrap that resamples subjects within datasets.

The resamples are drawn once from the run seed and are common to all rows of a report. Whoever has predictions.csv and
plan.yaml can draw them again with NumPy alone:

1. `rng = np.random.default_rng([seed, 4])`. The second number keeps this use of the run seed apart from every other.
2. The datasets are taken in sorted order and within each its subjects in sorted order (both as Python sorts text).
3. For each resample and, in it, for each dataset of n subjects, in that order: `rng.integers(0, n, size=n)` gives the
   positions of the subjects drawn. How often a subject is drawn is its multiplicity: its clips count that many times.
4. If some class has no clip among the subjects drawn, the whole resample is drawn again, all datasets, from the same
   generator as it then stands, and one redraw is counted.

NumPy does not promise the same stream in all of its versions; a run's environment.txt names the version it used.

An interval is the 2.5th and the 97.5th percentile, by linear interpolation between order statistics (the default of
`np.percentile`), of the figure in every resample. With several repetitions the figure is their mean in that resample. A
difference is that of the two figures in one and the same resample: it is paired over subjects. Intervals cover the
choice of subjects, not seeds.

The deviation that the pick rule `knee` allows is drawn by the same steps 2 to 4 among one study's own subjects, from
`np.random.default_rng([seed, 5, study])`.

Percentile bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.metrics import MISSING, Counts, Statistic, check_lengths, check_numbers
from mernas.space.errors import DataError, Problem, raise_all

RESAMPLES = 2000
DEVIATION_RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)

# What tells one use of the run seed from another; no two may be equal, and none may be 0: NumPy takes [7] and [7, 0]
# for the same seed.
INTERVAL_STREAM = 4
DEVIATION_STREAM = 5  # 6 is that of `mernas.evaluation.racing`


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each subject is drawn in each resample.

    Attributes:
        subjects: The S subjects: datasets sorted, and within each its subjects sorted.
        multiplicity: (R, S), read-only; each row sums to S.
        classes: How many classes there are; each has a clip in every resample.
        redrawn: How many resamples lacked a class and were drawn again.
    """

    subjects: tuple[str, ...]
    multiplicity: NDArray[np.int64]
    classes: int
    redrawn: int


def draw_resamples(
    subjects: Sequence[str],
    datasets: Sequence[str],
    labels: NDArray[np.integer[Any]],
    classes: int,
    seed: int,
    resamples: int = RESAMPLES,
) -> Resamples:
    """Draw the resamples that all intervals of a run share.

    Args:
        subjects: Subject of each clip (n,), in any order of clips.
        datasets: Dataset of each clip (n,).
        labels: Class number of each clip (n,).
        classes: How many classes there are.
        seed: The run seed, at least 0.
        resamples: How many to draw.

    Raises:
        DataError: If the lengths differ, a subject belongs to two datasets, or a class has no clip at all.

    Example:
        >>> drawn = draw_resamples(["s/1", "s/2", "s/3"], ["s"] * 3, np.array([0, 1, 0]), 2, seed=7, resamples=2)
        >>> drawn.multiplicity.sum(axis=1)
        array([3, 3])
        >>> bool((drawn.multiplicity[:, 1] > 0).all())  # the only subject that has class 1
        True
    """
    return _draw(np.random.default_rng([seed, INTERVAL_STREAM]), subjects, datasets, labels, classes, resamples)


def resampled(
    statistic: Statistic,
    labels: NDArray[np.integer[Any]],
    predictions: NDArray[np.integer[Any]],
    subjects: Sequence[str],
    resamples: Resamples,
) -> NDArray[np.float64]:
    """Return a figure in every resample, (R,).

    Args:
        statistic: "uf1", "uar" or "accuracy".
        labels: Class numbers (n,), clips in any order.
        predictions: Class numbers or `MISSING`, (n,), or (K, n) of K repetitions: then their mean is the figure.
        subjects: Subject of each clip (n,).
        resamples: Those drawn of exactly these subjects.

    Raises:
        DataError: If lengths or numbers are wrong, or the subjects are not those of the resamples.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    check_numbers(labels, predictions, resamples.classes, repeated=True)
    check_lengths(len(labels), subjects=subjects)
    places = {subject: place for place, subject in enumerate(resamples.subjects)}
    strangers, absent = set(subjects) - set(places), set(places) - set(subjects)
    problems: list[Problem | str] = []
    remedy = "draw resamples of exactly the clips that are scored"
    if strangers:
        problems.append(Problem("resamples", "must hold every subject", f"none of {_listed(strangers)}", remedy))
    if absent:
        problems.append(Problem("clips", "must be of every subject resampled", f"none of {_listed(absent)}", remedy))
    raise_all(DataError, problems)
    rows = np.array([places[subject] for subject in subjects], dtype=np.int64)
    figures = [
        per_subject(labels, repetition, rows, len(places), resamples.classes)
        .weighed(resamples.multiplicity)
        .statistic(statistic)
        for repetition in np.atleast_2d(predictions)
    ]
    return np.asarray(np.mean(figures, axis=0))


def interval(
    statistic: Statistic,
    labels: NDArray[np.integer[Any]],
    predictions: NDArray[np.integer[Any]],
    subjects: Sequence[str],
    resamples: Resamples,
) -> tuple[float, float]:
    """Return the ends of the 95% interval of a figure; arguments as for `resampled`.

    Example:
        >>> labels = np.array([0, 1, 0, 1])
        >>> subjects = ["s/1", "s/1", "s/2", "s/2"]
        >>> drawn = draw_resamples(subjects, ["s"] * 4, labels, classes=2, seed=7)
        >>> interval("accuracy", labels, np.array([0, 1, 1, 0]), subjects, drawn)
        (0.0, 1.0)
    """
    return _ends(resampled(statistic, labels, predictions, subjects, resamples))


def difference_interval(
    statistic: Statistic,
    labels: NDArray[np.integer[Any]],
    predictions_a: NDArray[np.integer[Any]],
    predictions_b: NDArray[np.integer[Any]],
    subjects: Sequence[str],
    resamples: Resamples,
) -> tuple[float, float]:
    """Return the ends of the 95% interval of the figure of a minus that of b, paired over subjects.

    Arguments and errors are those of `resampled`; a and b may have different numbers of repetitions.

    Example:
        >>> labels = np.array([0, 1, 0, 1])
        >>> subjects = ["s/1", "s/1", "s/2", "s/2"]
        >>> drawn = draw_resamples(subjects, ["s"] * 4, labels, classes=2, seed=7)
        >>> difference_interval("uf1", labels, labels, 1 - labels, subjects, drawn)
        (1.0, 1.0)
    """
    first = resampled(statistic, labels, predictions_a, subjects, resamples)
    return _ends(first - resampled(statistic, labels, predictions_b, subjects, resamples))


def deviation(
    labels: NDArray[np.integer[Any]],
    predictions: NDArray[np.integer[Any]],
    subjects: Sequence[str],
    datasets: Sequence[str],
    classes: int,
    seed: int,
    study: int,
    resamples: int = DEVIATION_RESAMPLES,
) -> float:
    """Return the standard deviation of UF1 over resamples of one study's own subjects, for the pick rule `knee`.

    It is the bootstrap's estimate of a standard error, so its divisor is the number of resamples minus 1.

    Args:
        labels: Class numbers (n,) of the clips that the study scores, in any order.
        predictions: Class numbers or `MISSING` (n,): out-of-fold predictions of one candidate.
        subjects: Subject of each clip (n,).
        datasets: Dataset of each clip (n,).
        classes: How many classes there are.
        seed: The run seed, at least 0.
        study: Number of the study, from 0; the final study comes after those of the G groups, as number G.
        resamples: How many, at least 2.

    Raises:
        DataError: As for `draw_resamples` and `resampled`.

    Example:
        >>> labels = np.array([0, 1, 0, 1])
        >>> deviation(labels, labels, ["s/1", "s/1", "s/2", "s/2"], ["s"] * 4, classes=2, seed=7, study=0)
        0.0
    """
    generator = np.random.default_rng([seed, DEVIATION_STREAM, study])
    drawn = _draw(generator, subjects, datasets, labels, classes, resamples)
    return float(np.std(resampled("uf1", labels, predictions, subjects, drawn), ddof=1))


def subjects_in_order(
    labels: NDArray[np.integer[Any]], subjects: Sequence[str], datasets: Sequence[str], classes: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the subjects of some clips, datasets sorted and within each its subjects, and their number by dataset.

    Args:
        labels: Class number of each clip (n,); every class must occur.
        subjects: Subject of each clip (n,).
        datasets: Dataset of each clip (n,).
        classes: How many classes there are.

    Raises:
        DataError: If the lengths differ, a class has no clip, or a subject belongs to two datasets.

    Example:
        >>> subjects_in_order(np.array([0, 1, 0]), ["t/1", "s/2", "s/1"], ["t", "s", "s"], classes=2)
        (('s/1', 's/2', 't/1'), (2, 1))
    """
    check_numbers(labels, labels, classes)
    check_lengths(len(labels), subjects=subjects, datasets=datasets)
    homes: dict[str, set[str]] = {}
    for subject, dataset in zip(subjects, datasets, strict=True):
        homes.setdefault(subject, set()).add(dataset)
    problems: list[Problem | str] = [
        Problem(f"subject {subject}", "must belong to one dataset", ", ".join(sorted(homes[subject])))
        for subject in sorted(homes)
        if len(homes[subject]) > 1
    ]
    if lacking := sorted(set(range(classes)) - set(labels.tolist())):
        # Otherwise every resample would be drawn again, for ever.
        found = f"none of class {', '.join(map(str, lacking))}"
        problems.append(Problem("resamples", "every class must have a clip", found))
    raise_all(DataError, problems)

    ordered = tuple(sorted(homes, key=lambda subject: (min(homes[subject]), subject)))
    counted: dict[str, int] = {}
    for subject in ordered:
        (dataset,) = homes[subject]
        counted[dataset] = counted.get(dataset, 0) + 1
    return ordered, tuple(counted.values())


def _draw(
    generator: np.random.Generator,
    subjects: Sequence[str],
    datasets: Sequence[str],
    labels: NDArray[np.integer[Any]],
    classes: int,
    resamples: int,
) -> Resamples:
    """Steps 2 to 4 of the module's docstring."""
    labels = np.asarray(labels)
    ordered, sizes = subjects_in_order(labels, subjects, datasets, classes)
    places = {subject: place for place, subject in enumerate(ordered)}
    rows = np.array([places[subject] for subject in subjects], dtype=np.int64)
    actual = per_subject(labels, labels, rows, len(ordered), classes).actual
    multiplicity = np.empty((resamples, len(ordered)), dtype=np.int64)
    redrawn = 0
    for resample in range(resamples):
        while True:
            drawn = np.concatenate([np.bincount(generator.integers(0, n, size=n), minlength=n) for n in sizes])
            if (drawn @ actual).all():
                break
            redrawn += 1
        multiplicity[resample] = drawn
    multiplicity.setflags(write=False)
    return Resamples(ordered, multiplicity, classes, redrawn)


def per_subject(
    labels: NDArray[np.integer[Any]],
    predictions: NDArray[np.integer[Any]],
    rows: NDArray[np.int64],
    subjects: int,
    classes: int,
) -> Counts:
    """Return the counts (S, C) of each subject.

    Args:
        labels: Class numbers (n,).
        predictions: Class numbers or `MISSING` (n,).
        rows: Place of each clip's subject (n,), below `subjects`.
        subjects: S.
        classes: C.

    Example:
        >>> per_subject(np.array([0, 1]), np.array([0, 0]), np.array([0, 1]), subjects=2, classes=2).predicted
        array([[1, 0],
               [1, 0]])
    """

    def table(taken: NDArray[np.bool_], numbers: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        cells = rows[taken] * classes + numbers[taken]
        return np.bincount(cells, minlength=subjects * classes).reshape(subjects, classes)

    return Counts(
        hits=table(labels == predictions, labels),
        predicted=table(predictions != MISSING, predictions),
        actual=table(np.ones(len(labels), dtype=np.bool_), labels),
    )


def _ends(figures: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(figures, PERCENTILES)
    return float(low), float(high)


def _listed(subjects: set[str]) -> str:
    return ", ".join(sorted(subjects))
