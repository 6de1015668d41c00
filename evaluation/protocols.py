"""Plain evaluation protocols behind one interface: from the subject of each clip to folds of rows.

A fold never trains on a subject that it tests; `Fold` itself refuses to be made otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.space.errors import CustodyError, DataError, Problem, UnknownNameError, nearest, raise_all


@dataclass(frozen=True, eq=False)
class Fold:
    """One training and one test set of a protocol.

    Attributes:
        name: What is tested, e.g. the subject.
        train: Numbers of the clips to train on, ascending.
        test: Numbers of the clips to predict, ascending.
        subjects: Subject of every clip of the data (n,); checked and not kept.

    Raises:
        CustodyError: If a clip or a subject is in both sets.
        DataError: If a set is empty, not ascending, or names clips that do not exist.

    Example:
        >>> Fold("s/2", np.array([0]), np.array([1]), subjects=["s/1", "s/1"])
        Traceback (most recent call last):
            ...
        mernas.space.errors.CustodyError: fold "s/2": must not train on a subject that it tests, found s/1.
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    subjects: InitVar[Sequence[str]]

    def __post_init__(self, subjects: Sequence[str]) -> None:
        title = f'fold "{self.name}"'
        problems: list[Problem | str] = []
        for role, rows in (("training", self.train), ("test", self.test)):
            if not rows.size:
                problems.append(Problem(title, f"needs a {role} clip", "none"))
            elif (np.diff(rows) <= 0).any() or rows[0] < 0 or rows[-1] >= len(subjects):
                rule = f"needs ascending numbers of {role} clips from 0 to {len(subjects) - 1}"
                problems.append(Problem(title, rule, str(rows.tolist())))
        raise_all(DataError, problems)
        clips = np.intersect1d(self.train, self.test)
        if clips.size:
            problems.append(Problem(title, "must not train on a clip that it tests", str(clips.tolist())))
        shared = {subjects[row] for row in self.train} & {subjects[row] for row in self.test}
        if shared:
            found = ", ".join(sorted(shared))
            problems.append(Problem(title, "must not train on a subject that it tests", found))
        raise_all(CustodyError, problems)


EvaluationProtocol = Callable[[Sequence[str]], tuple[Fold, ...]]


def loso(subjects: Sequence[str]) -> tuple[Fold, ...]:
    """Leave one subject out: each subject is tested by a model trained on all the others.

    Args:
        subjects: Subject of each clip (n,), as `dataset/subject`.

    Returns:
        One fold per subject, sorted by subject and named after it.

    Raises:
        DataError: If there are fewer than two subjects.

    Example:
        >>> [(fold.name, fold.train.tolist(), fold.test.tolist()) for fold in loso(["s/2", "s/1", "s/2"])]
        [('s/1', [0, 2], [1]), ('s/2', [1], [0, 2])]
    """
    known = sorted(set(subjects))
    if len(known) < 2:
        raise DataError(Problem("loso", "needs at least two subjects", str(len(known))))
    names = np.asarray(subjects, dtype=object)
    return tuple(
        Fold(subject, np.flatnonzero(names != subject), np.flatnonzero(names == subject), subjects) for subject in known
    )


PROTOCOLS: dict[str, EvaluationProtocol] = {"loso": loso}


def protocol(name: str) -> EvaluationProtocol:
    """Return a protocol by its name.

    Raises:
        UnknownNameError: If there is none, with the nearest known names.

    Example:
        >>> protocol("loso") is loso
        True
    """
    if name not in PROTOCOLS:
        raise UnknownNameError(Problem(f'protocol "{name}"', "is not known", "", nearest(name, PROTOCOLS)))
    return PROTOCOLS[name]
