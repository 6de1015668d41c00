"""Racing and halving, worked out a second time: whom their studies had to stop, and which jobs were needed for that.

Nothing here uses the code that stopped them. Scores are scikit-learn's, the resamples are drawn by the steps that
`mernas.evaluation.racing` gives, clip by clip instead of subject by subject, and F1 comes from precision and recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from mernas.evaluation.jobs import JobKey
from mernas.search.ledger import ACCEPTED, Draw
from mernas.search.plan import Plan
from mernas.search.verify_check import Check
from mernas.search.verify_custody import Asked
from mernas.search.verify_figures import read_text_table
from mernas.search.verify_halving import judge_again
from mernas.search.verify_ledger import ReadLedger

RESAMPLES, SHARE, SUBJECTS, STREAM = 1000, 0.99, 10, 6
NEAR = 1e-9
"""Scores that differ by less are equal."""


@dataclass(frozen=True)
class Finished:
    """A completed candidate: hash, parameters, inner UF1, and the class that it predicts for each row."""

    genotype: str
    parameters: int
    uf1: float
    said: Mapping[int, int]


@dataclass(eq=False)
class Decisions:
    """What became of every candidate.

    Attributes:
        states: State and number of folds by study and genotype; without those that cannot be decided.
        needed: The jobs without which they could not be decided.
    """

    states: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    needed: Asked = field(default_factory=dict)


def decide_again(plan: Plan, ledger: ReadLedger) -> Decisions:
    """Decide every candidate of every study from the ledger's predictions."""
    decisions = Decisions()
    for study in plan.studies:
        own = [draw for draw in ledger.draws(study) if draw.state == ACCEPTED and draw.genotype is not None]
        finished: list[Finished] = []
        for batch in sorted({draw.batch for draw in own}):
            front = _front(finished)  # those of earlier batches
            draws = [draw for draw in own if draw.batch == batch]
            if plan.settings.halving:
                short = judge_again(plan, ledger, draws)
                decisions.needed |= short.needed
                if not short.complete:
                    break
                decisions.states |= {(study, genotype): (state, 0) for genotype, state in short.stopped.items()}
                draws = [draw for draw in draws if draw.genotype not in short.stopped]
            outcomes = [_decide(plan, ledger, draw, front, decisions) for draw in draws]
            if None in outcomes:
                break  # a job is missing: what its study had to do after that cannot be said
            finished += [one for one in outcomes if isinstance(one, Finished)]
    return decisions


def check_race(folder: Path, decisions: Decisions, check: Check) -> None:
    """Compare the written states of all candidates, and see that no study chose one that it had stopped."""
    for number, line in enumerate(read_text_table(folder / "trials.csv").to_dict(orient="records"), start=2):
        place = (str(line.get("group")), str(line.get("genotype")))
        if place in decisions.states and line.get("state") in ("completed", "failed", "stopped", "waiting"):
            found = f"{line.get('state')} after {line.get('folds')} folds"
            state, folds = decisions.states[place]
            check.equal(f"trials.csv line {number}, {place[1]}", found, f"{state} after {folds} folds")
    for number, line in enumerate(read_text_table(folder / "choices.csv").to_dict(orient="records"), start=2):
        state, _ = decisions.states.get((str(line.get("group")), str(line.get("genotype"))), ("unknown", 0))
        check.equal(f"choices.csv line {number}, state of the chosen", state, "completed")


def _decide(
    plan: Plan, ledger: ReadLedger, draw: Draw, front: Sequence[Finished], decisions: Decisions
) -> Finished | str | None:
    """Decide one candidate: itself if it is completed, else its state; None if a job is missing."""
    said: dict[int, int] = {}
    genotype, size = draw.genotype or "", draw.parameters or 0
    folds = plan.inner_left_out(draw.study)
    for number, (scored, left_out) in enumerate(folds, start=1):
        key = JobKey(genotype, left_out, 0, plan.numeric_path)
        decisions.needed[key.hash] = (key, f"study {draw.study}, {genotype} on group {scored}")
        job = ledger.find(key)
        if job is None:
            return None
        if job.record.probabilities is None:
            decisions.states[draw.study, genotype] = ("failed", number)
            return "failed"
        inside = set(plan.partition.groups[scored])
        for row, probabilities in zip(job.record.rows.tolist(), job.record.probabilities, strict=True):
            if plan.book.subjects[row] in inside:
                said[row] = int(np.argmax(probabilities))
        races = plan.settings.racing and number < len(folds)
        if races and _is_beaten(plan, draw, said, number, [m for m in front if m.parameters <= size]):
            decisions.states[draw.study, genotype] = ("stopped", number)
            return "stopped"
    decisions.states[draw.study, genotype] = ("completed", len(folds))
    return Finished(genotype, size, _uf1(plan, said), said)


def _front(finished: Sequence[Finished]) -> list[Finished]:
    """Those that nobody of no more parameters reaches: better by more than nothing, or as good and smaller."""
    return [
        one
        for one in finished
        if not any(
            other.parameters <= one.parameters
            and (other.uf1 - one.uf1 > NEAR or (abs(other.uf1 - one.uf1) <= NEAR and other.parameters < one.parameters))
            for other in finished
        )
    ]


def _uf1(plan: Plan, said: Mapping[int, int]) -> float:
    rows = sorted(said)
    numbers = list(range(len(plan.dataset.classes)))
    predictions = [said[row] for row in rows]
    return float(f1_score(plan.book.labels[rows], predictions, labels=numbers, average="macro", zero_division=0))


def _is_beaten(plan: Plan, draw: Draw, said: Mapping[int, int], folds: int, rivals: Sequence[Finished]) -> bool:
    rows = sorted(said)
    labels = plan.book.labels[rows]
    subjects = [(plan.book.datasets[row], plan.book.subjects[row]) for row in rows]
    classes = range(len(plan.dataset.classes))
    if not rivals or len(set(subjects)) < SUBJECTS or set(labels.tolist()) != set(classes):
        return False
    entropy = [plan.settings.seed, STREAM, plan.studies.index(draw.study), folds, int(draw.genotype or "", 16)]
    weights = _weights(np.random.default_rng(entropy), labels, subjects)
    own = _scores(weights, labels, np.array([said[row] for row in rows]), classes)
    for rival in rivals:
        other = _scores(weights, labels, np.array([rival.said[row] for row in rows]), classes)
        if np.count_nonzero(other - own > NEAR) >= SHARE * RESAMPLES:
            return True
    return False


def _weights(
    generator: np.random.Generator, labels: NDArray[np.int64], subjects: Sequence[tuple[str, str]]
) -> NDArray[np.float64]:
    """How often every clip counts in every resample (R, n)."""
    weights = np.zeros((RESAMPLES, len(labels)))
    wanting = np.arange(RESAMPLES)
    while len(wanting):
        for dataset in sorted({dataset for dataset, _ in subjects}):
            names = sorted({name for of, name in subjects if of == dataset})
            positions = generator.integers(0, len(names), size=(len(wanting), len(names)))
            for place, name in enumerate(names):
                clips = np.array([clip for clip, one in enumerate(subjects) if one == (dataset, name)])
                weights[np.ix_(wanting, clips)] = (positions == place).sum(axis=1)[:, None]
        present = [weights[wanting][:, labels == number].sum(axis=1) > 0 for number in np.unique(labels)]
        wanting = wanting[~np.logical_and.reduce(present)]
    return weights


def _scores(
    weights: NDArray[np.float64], labels: NDArray[np.int64], said: NDArray[np.int64], classes: range
) -> NDArray[np.float64]:
    """UF1 in every resample, from precision and recall."""
    figures = []
    for number in classes:
        hits = weights @ ((labels == number) & (said == number))
        precision = hits / np.maximum(weights @ (said == number), 1)
        recall = hits / np.maximum(weights @ (labels == number), 1)
        both = precision + recall
        figures.append(np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0.0))
    return np.asarray(np.mean(figures, axis=0))
