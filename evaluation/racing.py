"""Racing: whether a candidate is so much worse on the clips scored so far that its other folds need no training.

A candidate is compared with members of the front of its study on the same clips. It is beaten if some member has the
higher pooled UF1 in at least 99% of 1,000 resamples of the subjects of these clips; every resample gives both figures,
so the comparison is paired. While the clips lack a class or come from fewer than ten subjects, nobody is beaten.

The resamples are drawn as those of the intervals are (`mernas.evaluation.bootstrap`), but all at once, which takes a
tenth of the time. Whoever has the predictions can draw them again with NumPy alone:

1. `rng = np.random.default_rng([seed, 6, study, folds, genotype])`: the run seed, the number of this use of it, the
   number of the study (the final one comes last), how many folds have been scored, and the hash of the candidate as a
   number. So every look at every candidate has resamples of its own, which depend on nothing else.
2. The datasets are taken in sorted order and within each its subjects in sorted order (both as Python sorts text).
3. For each dataset of n subjects, in that order: `rng.integers(0, n, size=(1000, n))` gives the positions of the
   subjects drawn, a row for each resample. The clips of a subject count as often as it is drawn.
4. Those resamples in which some class has no clip are drawn again by step 3, `(m, n)` positions for m of them, until
   there is none.

Racing candidates over resampled evaluations: Maron and Moore, "Hoeffding races", 1994; Birattari, Stützle, Paquete and
Varrentrapp, "A racing algorithm for configuring metaheuristics", 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.bootstrap import Resamples, per_subject, subjects_in_order
from mernas.evaluation.metrics import Counts, check_lengths, check_numbers

RACE_RESAMPLES = 1000
RACE_SHARE = 0.99
"""A candidate is beaten by who is better in at least this share of the resamples."""
RACE_SUBJECTS = 10
"""Nobody is beaten on the clips of fewer subjects."""
RACE_STREAM = 6  # see the streams of `mernas.evaluation.bootstrap`
LEAST_DIFFERENCE = 1e-9
"""UF1 is higher if it is so by more than this: equal figures that were added up in another order are equal."""


@dataclass(frozen=True)
class Look:
    """Which look at which candidate, so that its resamples can be drawn again.

    Attributes:
        seed: The run seed, at least 0.
        study: Number of the study, from 0; the final study comes last.
        genotype: Hash of the candidate.
        folds: How many of its folds have been scored.

    Example:
        >>> Look(7, 0, "00000000000000ff", 2).entropy
        (7, 6, 0, 2, 255)
    """

    seed: int
    study: int
    genotype: str
    folds: int

    @property
    def entropy(self) -> tuple[int, ...]:
        """What the generator of the resamples is made from."""
        return (self.seed, RACE_STREAM, self.study, self.folds, int(self.genotype, 16))


def racing_settings() -> dict[str, Any]:
    """Return everything that fixes racing, as the plan holds it.

    Example:
        >>> racing_settings()
        {'better_in': 0.99, 'resamples': 1000, 'subjects': 10}
    """
    return {"better_in": RACE_SHARE, "resamples": RACE_RESAMPLES, "subjects": RACE_SUBJECTS}


def may_judge(labels: NDArray[np.integer[Any]], subjects: Sequence[str], classes: int) -> bool:
    """Return whether some clips are enough to stop a candidate by: every class, and at least ten subjects.

    Args:
        labels: Class number of each clip (n,).
        subjects: Subject of each clip (n,).
        classes: How many classes there are.

    Example:
        >>> may_judge(np.array([0, 1] * 5), [f"s/{number}" for number in range(10)], classes=2)
        True
        >>> may_judge(np.array([0, 1] * 5), [f"s/{number}" for number in range(10)], classes=3)
        False
    """
    return len(np.unique(labels)) == classes and len(set(subjects)) >= RACE_SUBJECTS


def beaten(
    labels: NDArray[np.integer[Any]],
    predictions: NDArray[np.integer[Any]],
    members: NDArray[np.integer[Any]],
    subjects: Sequence[str],
    datasets: Sequence[str],
    classes: int,
    look: Look,
) -> bool:
    """Return whether some member of the front beats a candidate on the clips scored so far.

    Args:
        labels: Class number of each clip (n,), in any order.
        predictions: Class numbers that the candidate predicts (n,).
        members: Class numbers that each member predicts for the same clips (M, n); M may be 0.
        subjects: Subject of each clip (n,).
        datasets: Dataset of each clip (n,).
        classes: How many classes there are.
        look: Which look it is.

    Raises:
        DataError: If lengths or numbers are wrong, or a subject belongs to two datasets.

    Example:
        >>> labels = np.array([0, 1] * 6)
        >>> subjects = [f"s/{number}" for number in range(12)]
        >>> look = Look(7, 0, "00000000000000ff", 1)
        >>> beaten(labels, 1 - labels, labels[None], subjects, ["s"] * 12, 2, look)
        True
        >>> beaten(labels, labels, labels[None], subjects, ["s"] * 12, 2, look)
        False
    """
    labels, predictions, members = np.asarray(labels), np.asarray(predictions), np.asarray(members)
    lengths = {"predictions": range(len(predictions)), "members": range(members.shape[1])}
    check_lengths(len(labels), **lengths, subjects=subjects, datasets=datasets)
    if not len(members) or not may_judge(labels, subjects, classes):
        return False
    everybody = np.concatenate([predictions[None], members])
    check_numbers(labels, everybody, classes, repeated=True)
    drawn = race_resamples(labels, subjects, datasets, classes, look)
    places = {subject: place for place, subject in enumerate(drawn.subjects)}
    rows = np.array([places[subject] for subject in subjects], dtype=np.int64)
    counts = [per_subject(labels, one, rows, len(places), classes) for one in everybody]
    # One product of floats for all of them: whole numbers far below 2**53 are exact, and it is faster than integers.
    tables = np.concatenate([part for one in counts for part in (one.hits, one.predicted, one.actual)], axis=1)
    sums = (drawn.multiplicity.astype(np.float64) @ tables).astype(np.int64)
    weighed = sums.reshape(RACE_RESAMPLES, len(counts), 3, classes)
    figures = Counts(weighed[:, :, 0], weighed[:, :, 1], weighed[:, :, 2]).statistic("uf1")
    better = figures[:, 1:] - figures[:, :1] > LEAST_DIFFERENCE
    return bool((better.mean(axis=0) >= RACE_SHARE).any())


def race_resamples(
    labels: NDArray[np.integer[Any]], subjects: Sequence[str], datasets: Sequence[str], classes: int, look: Look
) -> Resamples:
    """Draw the resamples of one look by the steps of the module's docstring.

    Args:
        labels: Class number of each clip (n,), every class among them.
        subjects: Subject of each clip (n,).
        datasets: Dataset of each clip (n,).
        classes: How many classes there are.
        look: Which look it is.

    Raises:
        DataError: If the lengths differ, a class has no clip, or a subject belongs to two datasets.

    Example:
        >>> look = Look(7, 0, "00000000000000ff", 1)
        >>> drawn = race_resamples(np.array([0, 1]), ["s/1", "s/2"], ["s", "s"], 2, look)
        >>> drawn.multiplicity.shape, bool((drawn.multiplicity == 1).all())  # each class has one subject
        ((1000, 2), True)
    """
    labels = np.asarray(labels)
    ordered, sizes = subjects_in_order(labels, subjects, datasets, classes)
    places = {subject: place for place, subject in enumerate(ordered)}
    rows = np.array([places[subject] for subject in subjects], dtype=np.int64)
    actual = per_subject(labels, labels, rows, len(ordered), classes).actual
    generator = np.random.default_rng(look.entropy)
    multiplicity = np.zeros((RACE_RESAMPLES, len(ordered)), dtype=np.int64)
    lacking, redrawn = np.arange(RACE_RESAMPLES), 0
    while len(lacking):
        multiplicity[lacking] = _drawn(generator, sizes, len(lacking))
        lacking = lacking[~(multiplicity[lacking] @ actual).all(axis=1)]
        redrawn += len(lacking)
    multiplicity.setflags(write=False)
    return Resamples(ordered, multiplicity, classes, redrawn)


def _drawn(generator: np.random.Generator, sizes: Sequence[int], resamples: int) -> NDArray[np.int64]:
    """Step 3: how often each subject is drawn (R, S)."""
    parts = []
    for n in sizes:
        cells = generator.integers(0, n, size=(resamples, n)) + np.arange(resamples)[:, None] * n
        parts.append(np.bincount(cells.ravel(), minlength=resamples * n).reshape(resamples, n))
    return np.concatenate(parts, axis=1)
