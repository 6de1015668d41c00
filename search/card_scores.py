"""Scores of parts of the people: per dataset and, where the annotations allow, per group such as sex or ethnicity.

They are those of the pooled outer predictions of a rule, as its estimate is, never those of the model that is shipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.bootstrap import draw_resamples, interval
from mernas.evaluation.metrics import score
from mernas.search.choosing import Row, repeated_predictions
from mernas.search.plan import Plan
from mernas.search.record import Record

AGES = ("age", "age years", "age in years")
"""Columns of the annotations that hold ages in years, in lower case and with blanks."""

OLDEST = 130
"""Numbers from here on are no ages; some releases write 999 for an age that they do not know."""

GROUPINGS = ("sex", "gender", "ethnicity", "race", "age group", *AGES)
"""Columns that say to which group of people somebody belongs."""

FEWEST = 2
"""A group of fewer subjects is not published: its figures would be those of one person."""

FEW = 10
"""A part of fewer subjects is flagged: its figures say little."""

UNKNOWN = "not stated"
GAPS = ("", "-", "?", "n/a", "na", "nan", "none", "unknown", UNKNOWN)
"""What stands in a column where nothing is known, in lower case."""


@dataclass(frozen=True)
class PartScore:
    """The scores of some of the clips.

    Attributes:
        part: Name of the part, e.g. "female".
        clips, subjects: How many.
        uf1: Macro F1.
        low, high: Its 95% interval over the subjects of the part; NaN where it has fewer than two or lacks a class.
        uar: Macro recall.
        accuracy: Share of clips predicted right.
        f1: F1 of each class.
        absent: Numbers of the classes of which the part has no clip; their F1 can only be 0.
    """

    part: str
    clips: int
    subjects: int
    uf1: float
    low: float
    high: float
    uar: float
    accuracy: float
    f1: tuple[float, ...]
    absent: tuple[int, ...]

    @property
    def few(self) -> bool:
        """Whether there are too few subjects for the figures to say much."""
        return self.subjects < FEW


def part_scores(plan: Plan, record: Record, row: Row, parts: Sequence[str]) -> tuple[PartScore, ...]:
    """Return the scores of every part of the clips, by name of the part; means over repetitions.

    Args:
        plan: The plan.
        record: The record.
        row: The rule or budget.
        parts: The part that each clip belongs to, in the order of the dataset's clips.
    """
    names = np.array(parts, dtype=object)[plan.book.clips]
    predictions = repeated_predictions(plan, record, row)
    return tuple(_scored(plan, str(name), names == name, predictions) for name in sorted(set(parts)))


def groupings(dataset: Dataset) -> dict[str, list[str]]:
    """Return, for every column of the annotations that groups people, the group of each clip.

    Ages are put into decades. Columns in which everyone is alike say nothing and are left out.

    Example:
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> groupings(Synthetic(subjects=2, clips=2).load())
        {}
    """
    found: dict[str, list[str]] = {}
    for column in dataset.annotations.columns:
        name = " ".join(str(column).replace("_", " ").lower().split())
        if name in GROUPINGS:
            values = dataset.annotations[column]
            groups = _decades(values) if name in AGES else _names(values)
            if len(set(groups)) > 1:
                found[name] = groups
    return found


def people_of(dataset: Dataset, parts: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the subjects of every part of the clips; one whose clips lie in several parts is in each.

    Args:
        dataset: The clips.
        parts: The part that each of them belongs to.

    Example:
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> found = people_of(Synthetic(subjects=2, clips=2).load(), ["a", "a", "a", "b"])
        >>> len(found["a"]), len(found["b"])
        (2, 1)
    """
    clips = list(zip(dataset, parts, strict=True))
    return {name: frozenset(clip.subject for clip, part in clips if part == name) for name in parts}


def published(scores: Sequence[PartScore], people: Mapping[str, frozenset[str]]) -> tuple[tuple[PartScore, ...], int]:
    """Return the scores of the groups of a column that may be published, and how many groups are left out.

    A group of one person is left out. What is left out can be told from the groups shown and the scores of everyone;
    where that would be one person too, the smallest of the other groups is left out as well.

    Args:
        scores: Those of every group.
        people: The subjects of every group, by its name.
    """
    kept = [one for one in scores if len(people[one.part]) >= FEWEST]
    hidden = {one.part for one in scores} - {one.part for one in kept}
    while kept and hidden and len(frozenset().union(*(people[part] for part in hidden))) < FEWEST:
        smallest = min(reversed(kept), key=lambda one: (one.subjects, one.clips))
        kept.remove(smallest)
        hidden.add(smallest.part)
    return tuple(kept), len(hidden)


def _decades(column: pd.Series[Any]) -> list[str]:
    ages = pd.to_numeric(column, errors="coerce").astype(float)
    return [f"{int(age // 10) * 10} to {int(age // 10) * 10 + 9}" if 0 <= age < OLDEST else UNKNOWN for age in ages]


def _names(column: pd.Series[Any]) -> list[str]:
    """The values as text; those that differ in case alone are one group, and so are all gaps."""
    texts = [_text(value) for value in column]
    spelling: dict[str, str] = {}
    for text in sorted(texts):
        spelling.setdefault(text.lower(), text)
    return [UNKNOWN if text.lower() in GAPS else spelling[text.lower()] for text in texts]


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    whole = isinstance(value, float) and value.is_integer()  # a gap makes pandas turn codes into floats
    return str(int(value) if whole else value).strip()


def _scored(plan: Plan, part: str, inside: NDArray[np.bool_], predictions: NDArray[np.int64]) -> PartScore:
    classes = len(plan.dataset.classes)
    rows = np.flatnonzero(inside)
    labels, own = plan.book.labels[rows], predictions[:, rows]
    subjects = [plan.book.subjects[row] for row in rows]
    datasets = [plan.book.datasets[row] for row in rows]
    scores = [score(labels, one, classes) for one in own]
    absent = tuple(number for number in range(classes) if number not in labels)
    low = high = math.nan
    if len(set(subjects)) > 1 and not absent:
        drawn = draw_resamples(subjects, datasets, labels, classes, plan.settings.seed)
        low, high = interval("uf1", labels, own, subjects, drawn)
    return PartScore(
        part=part,
        clips=len(rows),
        subjects=len(set(subjects)),
        uf1=mean(one.uf1 for one in scores),
        low=low,
        high=high,
        uar=mean(one.uar for one in scores),
        accuracy=mean(one.accuracy for one in scores),
        f1=tuple(mean(one.f1[number] for one in scores) for number in range(classes)),
        absent=absent,
    )
