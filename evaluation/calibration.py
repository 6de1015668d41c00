"""Calibration: whether probabilities mean what they say, one temperature to mend them, and when to answer at all.

The temperature is that of Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017:
logits are divided by it, so that the order of the classes stays. It is fitted to out-of-fold predictions, never to
those on which it is judged. The threshold of abstention follows El-Yaniv and Wiener, "On the foundations of noise-free
selective classification", JMLR 11, 2010: answer where confident, be silent elsewhere, and report both shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from mernas.space.errors import DataError, Problem, raise_all

BINS = 10
"""Bins of equal width over confidence; some hundred clips do not fill more."""

TEMPERATURES = (0.05, 20.0)
"""No temperature is sought outside: on data that are told apart without an error the best one would be zero."""

FLOOR = 1e-12
"""A probability of zero that came true counts as this one in the reported loss, so that it stays finite."""

TINY = 1e-300
"""The same where a temperature is fitted: far below what rounding leaves of any logit."""


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, by bins of confidence.

    Attributes:
        edges: The edges of the bins, one more than there are bins; a bin holds its upper edge.
        counts: Predictions in each bin.
        confidence: Their mean confidence; NaN where a bin is empty.
        accuracy: The share of them that is right; NaN where a bin is empty.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1]: the mean over predictions of a bin's |confidence - accuracy|."""
        gaps = (
            count * abs(confidence - accuracy)
            for count, confidence, accuracy in zip(self.counts, self.confidence, self.accuracy, strict=True)
            if count
        )
        return math.fsum(gaps) / sum(self.counts)


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]], bins: int = BINS) -> Reliability:
    """Return how often the predicted class is right, by the probability that it was given.

    Args:
        probabilities: (n, K), each row summing to 1.
        labels: Class numbers (n,).
        bins: How many bins of equal width.

    Raises:
        DataError: If the shapes differ, there is no clip, or a row is no distribution.

    Example:
        >>> told = reliability(np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]]), np.array([0, 1, 1, 1]))
        >>> told.counts[7:], round(told.error, 3)
        ((2, 2, 0), 0.3)
    """
    _check(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    # Half-open from below, as in the paper; rounding spares the edge .8 from being a hair above itself.
    places = np.clip(np.ceil(np.round(confidence * bins, 9)).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(places, weights=confidence, minlength=bins) / counts
        shares = np.bincount(places, weights=right, minlength=bins) / counts
    return Reliability(tuple(edges.tolist()), tuple(counts.tolist()), tuple(means.tolist()), tuple(shares.tolist()))


def negative_log_likelihood(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> float:
    """Return the mean of -log p over the classes that came true, in nats; arguments as for `reliability`."""
    _check(probabilities, labels)
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], FLOOR)).mean())


def temper(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities (n, K) as if the logits had been divided by a temperature; above 1 they become milder.

    Raises:
        DataError: If the temperature is not above 0.

    Example:
        >>> temper(np.array([[0.8, 0.2]]), 2.0).round(4).tolist()
        [[0.6667, 0.3333]]
    """
    if not 0 < temperature < math.inf:
        raise DataError(Problem("temperature", "must be above 0", str(temperature)))
    with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf, and that is right
        logits = np.log(probabilities) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def fit_temperature(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> float:
    """Return the temperature in `TEMPERATURES` of least negative log likelihood; the problem has one minimum.

    Args:
        probabilities: Out-of-fold probabilities (n, K).
        labels: Class numbers (n,).

    Raises:
        DataError: As for `reliability`.

    Example:
        >>> overconfident = np.array([[0.99, 0.01]] * 4)
        >>> round(fit_temperature(overconfident, np.array([0, 0, 0, 1])), 3)  # log 99 / log 3
        4.183
    """
    _check(probabilities, labels)
    logits = np.log(np.maximum(probabilities, TINY))
    true = logits[np.arange(len(labels)), labels]
    # Convex in the inverse temperature; the floor of the reported loss would make it flat where errors are certain.
    low, high = (1 / bound for bound in reversed(TEMPERATURES))
    found = minimize_scalar(
        lambda power: float((logsumexp(logits * power, axis=1) - true * power).mean()),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(1 / found.x)


def threshold(confidence: NDArray[np.float64], coverage: float) -> float:
    """Return the confidence that at least a share of the clips reaches, and no higher one does.

    Args:
        confidence: Confidence of every clip (n,) in [0, 1].
        coverage: The share that is to be answered, in (0, 1].

    Raises:
        DataError: If there is no clip, or the share is out of range.

    Example:
        >>> threshold(np.array([0.9, 0.5, 0.7, 0.6]), 0.5)
        0.7
    """
    if not len(confidence) or not 0 < coverage <= 1:
        rule = "needs at least one clip and a coverage above 0 and at most 1"
        raise DataError(Problem("threshold", rule, f"{len(confidence)} clips, coverage {coverage:g}"))
    answered = math.ceil(round(coverage * len(confidence), 9))
    return float(np.sort(confidence)[::-1][answered - 1])


def _check(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> None:
    problems: list[Problem | str] = []
    if probabilities.ndim != 2 or not len(labels) or probabilities.shape[0] != len(labels):
        rule = f"must be one row for each of {len(labels)} clips, at least one"
        problems.append(Problem("probabilities", rule, f"shape {probabilities.shape}"))
    else:
        off = np.abs(probabilities.sum(axis=1) - 1)
        if not np.isfinite(probabilities).all() or probabilities.min() < 0 or off.max() > 1e-6:
            problems.append(Problem("probabilities", "must be rows of numbers of at least 0 that sum to 1"))
        if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
            rule = f"must be class numbers from 0 to {probabilities.shape[1] - 1}"
            problems.append(Problem("labels", rule, f"{labels.min()} to {labels.max()}"))
    raise_all(DataError, problems)
