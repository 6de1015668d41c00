"""Scores from pooled counts: UF1 (macro F1), UAR (macro recall), accuracy and the F1 of each class.

Scores are always those of pooled predictions, never averages over folds: a subject with one clip has no F1 of its own.
A clip without a prediction (its outer job failed) bears `MISSING` and counts as an error: a miss of its class, a false
alarm of none.

All scores are made of three counts per class, held in `Counts`; the bootstrap weighs the same counts by subject, so
there is one formula for a figure and for its interval. They equal those of scikit-learn with every class passed in
`labels` and `zero_division=0`: a class that neither occurs nor is predicted (which happens in per-dataset parts only)
has an F1 and a recall of 0 and stays in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mernas.space.errors import DataError, Problem, raise_all

MISSING = -1
"""The prediction of a clip that has none."""

Statistic = Literal["uf1", "uar", "accuracy"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of clips per class, any number of them at once; C is the number of classes.

    Attributes:
        hits: Clips of the class that are predicted as such (..., C).
        predicted: Clips that are predicted as the class (..., C).
        actual: Clips of the class (..., C).

    Example:
        >>> counts = count(np.array([0, 0, 1]), np.array([0, 1, MISSING]), classes=2)
        >>> counts.hits, counts.predicted, counts.actual
        (array([1, 0]), array([1, 1]), array([2, 1]))
        >>> counts.f1()
        array([0.66666667, 0.        ])
    """

    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    actual: NDArray[np.int64]

    def weighed(self, weights: NDArray[np.int64]) -> Counts:
        """Return the sums (R, C) of counts (S, C) under weights (R, S): how often each row is taken."""
        return Counts(weights @ self.hits, weights @ self.predicted, weights @ self.actual)

    def f1(self) -> NDArray[np.float64]:
        """Return the F1 of each class (..., C) in [0, 1]; 0 for a class that neither occurs nor is predicted."""
        return _ratio(2 * self.hits, self.predicted + self.actual)

    def statistic(self, name: Statistic) -> NDArray[np.float64]:
        """Return UF1, UAR or accuracy (...) in [0, 1].

        Raises:
            DataError: If the name is none of `STATISTICS`.
        """
        if name == "uf1":
            return np.asarray(self.f1().mean(axis=-1))
        if name == "uar":
            return np.asarray(_ratio(self.hits, self.actual).mean(axis=-1))
        if name == "accuracy":
            return _ratio(self.hits.sum(axis=-1), self.actual.sum(axis=-1))
        raise DataError(Problem(f'statistic "{name}"', f"must be one of {', '.join(STATISTICS)}"))


@dataclass(frozen=True)
class Scores:
    """The scores of one set of clips, each in [0, 1].

    Attributes:
        uf1: Mean over the classes of F1.
        uar: Mean over the classes of recall.
        accuracy: Share of the clips that are predicted right.
        f1: F1 of each class.
        clips: How many clips there are.
        failed: How many of them have no prediction.
    """

    uf1: float
    uar: float
    accuracy: float
    f1: tuple[float, ...]
    clips: int
    failed: int


def count(labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int) -> Counts:
    """Count hits, predictions and occurrences of each class.

    Args:
        labels: Class numbers (n,) in 0 .. classes - 1.
        predictions: Class numbers (n,), or `MISSING`.
        classes: How many classes there are, whether they occur or not.

    Raises:
        DataError: If there is no clip, the shapes differ, or a number is out of range.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    check_numbers(labels, predictions, classes)
    return Counts(
        hits=np.bincount(labels[labels == predictions], minlength=classes),
        predicted=np.bincount(predictions[predictions != MISSING], minlength=classes),
        actual=np.bincount(labels, minlength=classes),
    )


def uf1(labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int) -> float:
    """Return the unweighted mean over the classes of F1; arguments as for `count`.

    Example:
        >>> uf1(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), classes=3)
        0.7777777777777777
    """
    return float(count(labels, predictions, classes).statistic("uf1"))


def uar(labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int) -> float:
    """Return the unweighted mean over the classes of recall; arguments as for `count`.

    Example:
        >>> uar(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), classes=3)
        0.8333333333333334
    """
    return float(count(labels, predictions, classes).statistic("uar"))


def accuracy(labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int) -> float:
    """Return the share of clips that are predicted right; arguments as for `count`.

    Example:
        >>> accuracy(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), classes=3)
        0.75
    """
    return float(count(labels, predictions, classes).statistic("accuracy"))


def score(labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int) -> Scores:
    """Return all scores of pooled predictions; arguments as for `count`.

    Example:
        >>> score(np.array([0, 0, 1, 1]), np.array([0, 0, 1, MISSING]), classes=2)
        Scores(uf1=0.8333333333333333, uar=0.75, accuracy=0.75, f1=(1.0, 0.6666666666666666), clips=4, failed=1)
    """
    counts = count(labels, predictions, classes)
    return Scores(
        uf1=float(counts.statistic("uf1")),
        uar=float(counts.statistic("uar")),
        accuracy=float(counts.statistic("accuracy")),
        f1=tuple(counts.f1().tolist()),
        clips=len(labels),
        failed=int((np.asarray(predictions) == MISSING).sum()),
    )


def score_parts(
    labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], groups: Sequence[str], classes: int
) -> dict[str, Scores]:
    """Return the scores of each part of the clips by the name of the part, sorted.

    Args:
        labels: Class numbers (n,).
        predictions: Class numbers (n,), or `MISSING`.
        groups: The part that each clip belongs to (n,), such as its dataset.
        classes: How many classes there are; one that does not occur in a part counts as 0 there.

    Raises:
        DataError: As for `count`, and if `groups` has another length.

    Example:
        >>> parts = score_parts(np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0]), ["a", "a", "b", "b"], classes=2)
        >>> {name: part.uf1 for name, part in parts.items()}
        {'a': 1.0, 'b': 0.0}
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    check_numbers(labels, predictions, classes)
    check_lengths(len(labels), groups=groups)
    names = np.asarray(groups, dtype=object)
    return {name: score(labels[names == name], predictions[names == name], classes) for name in sorted(set(groups))}


def check_numbers(
    labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int, repeated: bool = False
) -> None:
    """Check labels (n,) and predictions (n,), or also (K, n) of K repetitions where they may be `repeated`.

    Raises:
        DataError: If there is no clip, the shapes differ, or a number is out of range; with all mistakes.
    """
    problems: list[Problem | str] = []
    if labels.ndim != 1 or not labels.size:
        problems.append(Problem("labels", "must be one per clip, of at least one clip", f"shape {labels.shape}"))
    elif (
        predictions.ndim not in ((1, 2) if repeated else (1,))
        or predictions.shape[-1] != labels.size
        or not predictions.size
    ):
        problems.append(Problem("predictions", f"must be {labels.size}, one per clip", f"shape {predictions.shape}"))
    for name, numbers, lowest in (("labels", labels, 0), ("predictions", predictions, MISSING)):
        if not np.issubdtype(numbers.dtype, np.integer):
            problems.append(Problem(name, "must be whole numbers", str(numbers.dtype)))
        elif numbers.size and (numbers.min() < lowest or numbers.max() >= classes):
            rule = f"must be class numbers from {lowest} to {classes - 1}"
            problems.append(Problem(name, rule, f"{numbers.min()} to {numbers.max()}"))
    raise_all(DataError, problems)


def check_lengths(clips: int, **columns: Sequence[object]) -> None:
    """Check that every column has one entry per clip.

    Raises:
        DataError: If one has not; names each such column.

    Example:
        >>> check_lengths(2, subjects=["s/1", "s/2"], datasets=["s", "s"])
    """
    problems: list[Problem | str] = [
        Problem(name, f"must be {clips}, one per clip", str(len(column)))
        for name, column in columns.items()
        if len(column) != clips
    ]
    raise_all(DataError, problems)


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return above / below, 0 where both are 0."""
    return np.asarray(above / np.maximum(below, 1))
