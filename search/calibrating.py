"""Calibration of a run: every study fits its own temperature and thresholds, and its sealed group judges them.

In study g the temperature and the thresholds of abstention come from the pooled inner predictions of what g chose, by
models trained without g; they are applied to the outer predictions of g's subjects, which nothing of this has seen. The
final study's are what an exported model carries. With several repetitions figures are means over them, and the
bins of the diagrams hold the predictions of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from mernas.evaluation.calibration import (
    Reliability,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    temper,
    threshold,
)
from mernas.evaluation.metrics import MISSING, uf1
from mernas.search.choosing import Row, outer_predictions
from mernas.search.plan import FINAL, Plan
from mernas.search.record import Record

COVERAGES = (0.9, 0.8, 0.7, 0.5)
"""Shares of the clips that are to be answered, fixed beforehand."""

SHIPPED_COVERAGE = 0.8
"""The one whose threshold an exported model carries."""


@dataclass(frozen=True)
class Abstention:
    """What becomes of the scores where only confident predictions count.

    Attributes:
        target: The share of clips that the studies wanted answered.
        thresholds: The confidence from which on a study answers, by study.
        coverage: The share of the outer clips that was answered.
        accuracy, uf1: Of the answered ones alone; a clip whose outer job failed counts as answered and wrong, and a
            class of which no clip was answered has an F1 of 0, as in every UF1. NaN if none was answered.
    """

    target: float
    thresholds: Mapping[str, float]
    coverage: float
    accuracy: float
    uf1: float


@dataclass(frozen=True)
class Calibration:
    """How well calibrated the outer predictions of a row are, before and after its studies' temperatures.

    Attributes:
        row: The row's title.
        temperatures: By study; that of the final one is shipped.
        error_before, error_after: Expected calibration error.
        loss_before, loss_after: Mean negative log likelihood, in nats.
        before, after: The diagrams.
        abstention: One entry for each of `COVERAGES`, by tempered confidence.
        failed: Outer predictions that are missing; no calibration is asked of them.
    """

    row: str
    temperatures: Mapping[str, float]
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float
    before: Reliability
    after: Reliability
    abstention: tuple[Abstention, ...]
    failed: int


def calibrate(plan: Plan, record: Record, row: Row) -> Calibration | None:
    """Return the calibration of a row, or None if a repetition of its outer test has not one prediction.

    Args:
        plan: The plan.
        record: The record; all jobs of the row must be finished.
        row: What was chosen.
    """
    temperatures: dict[str, float] = {}
    thresholds: dict[str, dict[float, float]] = {}
    for study, choice in row.choices.items():
        pooled = record.pooled(study, choice.genotype)
        if pooled is None:
            raise LookupError(f"{choice.genotype} was chosen and has no inner predictions")
        temperatures[study] = fit_temperature(pooled.probabilities, plan.book.labels[pooled.rows])
        confidence = temper(pooled.probabilities, temperatures[study]).max(axis=1)
        thresholds[study] = {target: threshold(confidence, target) for target in COVERAGES}
    studies = np.array([str(plan.partition.group_of(subject)) for subject in plan.book.subjects])
    outer = [outer_predictions(plan, record, row, number) for number in range(plan.settings.seeds)]
    found: list[NDArray[np.bool_]] = [np.asarray(np.isfinite(one).all(axis=1)) for _, one, _ in outer]
    if not all(bool(one.any()) for one in found):
        return None
    raw = [probabilities[seen] for (_, probabilities, _), seen in zip(outer, found, strict=True)]
    labels = [plan.book.labels[seen] for seen in found]
    mended = [
        _by_study(probabilities, studies[seen], temperatures) for probabilities, seen in zip(raw, found, strict=True)
    ]
    before, after = ([reliability(p, y) for p, y in zip(which, labels, strict=True)] for which in (raw, mended))
    losses = ([negative_log_likelihood(p, y) for p, y in zip(which, labels, strict=True)] for which in (raw, mended))
    loss_before, loss_after = (mean(values) for values in losses)
    abstention = []
    for target in COVERAGES:
        own = {study: by_target[target] for study, by_target in thresholds.items()}
        answers = [
            _answered(plan, predictions, seen, probabilities, studies, own)
            for (predictions, _, _), seen, probabilities in zip(outer, found, mended, strict=True)
        ]
        coverage, accuracy, score = (mean(values) for values in zip(*answers, strict=True))
        abstention.append(Abstention(target, own, coverage, accuracy, score))
    return Calibration(
        row=row.title,
        temperatures=temperatures,
        error_before=mean(one.error for one in before),
        error_after=mean(one.error for one in after),
        loss_before=loss_before,
        loss_after=loss_after,
        before=reliability(np.concatenate(raw), np.concatenate(labels)),
        after=reliability(np.concatenate(mended), np.concatenate(labels)),
        abstention=tuple(abstention),
        failed=sum(int((~seen).sum()) for seen in found),
    )


def _by_study(
    probabilities: NDArray[np.float64], studies: NDArray[np.str_], temperatures: Mapping[str, float]
) -> NDArray[np.float64]:
    mended = np.empty_like(probabilities)
    for study in sorted(set(temperatures) - {FINAL}):
        mended[studies == study] = temper(probabilities[studies == study], temperatures[study])
    return mended


def _answered(
    plan: Plan,
    predictions: NDArray[np.int64],
    seen: NDArray[np.bool_],
    tempered: NDArray[np.float64],
    studies: NDArray[np.str_],
    thresholds: Mapping[str, float],
) -> tuple[float, float, float]:
    """Coverage, and accuracy and UF1 of what is answered."""
    answered: NDArray[np.bool_] = np.asarray(~seen)
    answered[seen] = tempered.max(axis=1) >= np.array([thresholds[study] for study in studies[seen]])
    if not answered.any():
        return 0.0, float("nan"), float("nan")
    labels, said = plan.book.labels[answered], predictions[answered]
    right = float(((labels == said) & (said != MISSING)).mean())
    return float(answered.mean()), right, uf1(labels, said, len(plan.dataset.classes))
