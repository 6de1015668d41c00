"""The audit: what a score becomes where the test subject picks the epoch, as in much of the literature.

Networks are trained for the number of epochs of their genotype, and that is the result. Beside it the predictions
after every epoch are recorded wherever a single subject is left out, so that the other two figures that the field
quotes can be shown for what they are: the best single epoch, picked on the pooled test predictions, and the best epoch
of every test subject. Neither is a result: both have seen the labels that they are scored on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.metrics import uf1
from mernas.space.errors import DataError, Problem


@dataclass(frozen=True, eq=False)
class EpochAudit:
    """UF1 of one network under LOSO, by who picks the epoch.

    Attributes:
        fixed: The result: every network after its last epoch.
        common: The best single epoch, picked on the pooled test predictions; not a result.
        per_subject: The best epoch of every test subject; not a result.
        epochs: How many epochs there are.
        common_epoch: The best single epoch, counted from 1.
        best_per_subject: The predictions (n,) behind `per_subject`.
    """

    fixed: float
    common: float
    per_subject: float
    epochs: int
    common_epoch: int
    best_per_subject: NDArray[np.int64]

    def plain(self) -> dict[str, float | int]:
        """Return the figures as plain data."""
        return {name: value for name, value in vars(self).items() if name != "best_per_subject"}


def audit_epochs(
    labels: NDArray[np.integer[Any]], epochs: NDArray[np.integer[Any]], subjects: Sequence[str], classes: int
) -> EpochAudit:
    """Return what UF1 becomes where the test subjects pick the epoch.

    Args:
        labels: Class numbers (n,).
        epochs: The class predicted for every clip after every epoch (E, n).
        subjects: Subject of every clip (n,).
        classes: How many classes there are.

    Raises:
        DataError: If the shapes differ or there is no epoch.

    Example:
        >>> told = audit_epochs(np.array([0, 1]), np.array([[0, 0], [1, 1], [1, 0]]), ["a", "b"], classes=2)
        >>> told.fixed, round(told.common, 3), told.common_epoch, told.per_subject
        (0.0, 0.333, 1, 1.0)
    """
    if epochs.ndim != 2 or not len(epochs) or epochs.shape[1] != len(labels) or len(subjects) != len(labels):
        rule = f"must be one row per epoch with {len(labels)} clips, and one subject per clip"
        raise DataError(Problem("predictions by epoch", rule, f"{epochs.shape}, {len(subjects)} subjects"))
    by_epoch = [uf1(labels, row, classes) for row in epochs]
    common = int(np.argmax(by_epoch))
    single = best_per_subject(labels, epochs, subjects)
    return EpochAudit(
        fixed=by_epoch[-1],
        common=by_epoch[common],
        per_subject=uf1(labels, single, classes),
        epochs=len(epochs),
        common_epoch=common + 1,
        best_per_subject=single,
    )


def best_per_subject(
    labels: NDArray[np.integer[Any]], epochs: NDArray[np.integer[Any]], subjects: Sequence[str]
) -> NDArray[np.int64]:
    """Return the predictions (n,) of every subject's best epoch: the first of those with the most clips right.

    Args:
        labels: Class numbers (n,).
        epochs: The class predicted for every clip after every epoch (E, n).
        subjects: Subject of every clip (n,).

    Example:
        >>> best_per_subject(np.array([0, 1, 1]), np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), ["a", "a", "b"])
        array([0, 0, 1])
    """
    chosen = np.empty(len(labels), dtype=np.int64)
    names = np.asarray(subjects, dtype=object)
    for subject in sorted(set(subjects)):
        own = np.flatnonzero(names == subject)
        right = (epochs[:, own] == labels[own]).sum(axis=1)
        chosen[own] = epochs[int(np.argmax(right)), own]
    return chosen
