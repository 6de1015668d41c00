"""Scores in detail: by class, by dataset and by subject, and confusion matrices, of pooled outer predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mernas.evaluation.metrics import MISSING
from mernas.search.choosing import repeated_predictions
from mernas.search.finished import FinishedRun
from mernas.search.report.estimates import Estimate


@dataclass(frozen=True)
class Part:
    """Scores of one part of the clips.

    Attributes:
        name: `all`, or a dataset.
        clips: How many.
        uf1, uar, accuracy: Means over the repetitions.
        deviation: Standard deviation of UF1 over the repetitions; NaN with one.
        f1: By class.
    """

    name: str
    clips: int
    uf1: float
    uar: float
    accuracy: float
    deviation: float
    f1: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """One cell of a confusion matrix.

    Attributes:
        count: Clips, a mean over the repetitions.
        share: Of the clips of its true class.
        shade: From 0 to 9, for its colour.
    """

    count: float
    share: float

    @property
    def shade(self) -> int:
        """From 0 to 9."""
        return min(int(self.share * 10), 9)


@dataclass(frozen=True)
class Detail:
    """The scores of one row in detail.

    Attributes:
        title: Of the row.
        parts: All clips, then every dataset.
        confusion: By true class, a cell for every predicted class and, last, for clips without a prediction.
        missing: Whether any clip has no prediction.
    """

    title: str
    parts: tuple[Part, ...]
    confusion: tuple[tuple[str, int, tuple[Cell, ...]], ...]
    missing: bool


@dataclass(frozen=True)
class SubjectLine:
    """One subject.

    Attributes:
        name: The subject.
        clips: How many clips it has.
        right: Clips that every row predicts right, means over the repetitions.
    """

    name: str
    clips: int
    right: tuple[float, ...]


def detail(run: FinishedRun, estimate: Estimate, title: str) -> Detail:
    """Return the scores of one row in detail."""
    plan, row = run.plan, estimate.row
    names = plan.dataset.classes
    scores = run.tables.scores
    own = scores[(scores["budget"] == row.budget) & (scores["rule"] == row.rule) & (scores["baseline"] == row.family)]
    parts = tuple(
        Part(
            name=str(line["part"]),
            clips=int(line["clips"]),
            uf1=float(line["uf1"]),
            uar=float(line["uar"]),
            accuracy=float(line["accuracy"]),
            deviation=float(line["uf1_sd"]),
            f1=tuple(float(line[f"f1_{name}"]) for name in names),
        )
        for line in own.to_dict("records")
    )
    predictions = repeated_predictions(plan, run.record, row)
    labels = plan.book.labels
    lines = []
    for number, name in enumerate(names):
        of_class = predictions[:, labels == number]
        clips = of_class.shape[1]
        counts = [float((of_class == answer).sum(axis=1).mean()) for answer in (*range(len(names)), MISSING)]
        lines.append((name, clips, tuple(Cell(count, count / clips) for count in counts)))
    return Detail(title, parts, tuple(lines), bool((predictions == MISSING).any()))


def by_subject(run: FinishedRun, estimates: Sequence[Estimate]) -> tuple[SubjectLine, ...]:
    """Return how many clips of every subject each row predicts right, subjects in sorted order."""
    plan = run.plan
    labels, subjects = plan.book.labels, np.asarray(plan.book.subjects, dtype=object)
    right = [(repeated_predictions(plan, run.record, one.row) == labels).mean(axis=0) for one in estimates]
    return tuple(
        SubjectLine(
            name=subject,
            clips=int((subjects == subject).sum()),
            right=tuple(float(one[subjects == subject].sum()) for one in right),
        )
        for subject in plan.dataset.subjects
    )
