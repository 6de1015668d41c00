"""Halving, worked out a second time: which candidates of a batch had to be stopped after their short training.

Nothing here uses the code that stopped them. A short pipeline is made of plain data, scores are scikit-learn's, and
fronts are peeled off one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from mernas.evaluation.jobs import JobKey
from mernas.search.ledger import ACCEPTED, Draw
from mernas.search.plan import Plan
from mernas.search.verify_ledger import ReadLedger
from mernas.space.genotype import from_complete

SHORTER, KEPT = 9, 3
NEAR = 1e-9
"""Scores that differ by less are equal."""

Point = tuple[float, int, str]
"""UF1 of a short training, parameters, hash of the candidate."""


@dataclass(eq=False)
class ShortTrainings:
    """What the short trainings of a batch say.

    Attributes:
        needed: The jobs without which that cannot be said, by key, each with who asked.
        stopped: State by candidate of those that do not go on: `failed` or `stopped`.
        complete: Whether all of those jobs are there.
    """

    needed: dict[str, tuple[JobKey, str]] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def shortened_hash(ledger: ReadLedger, genotype: str) -> str | None:
    """Return the hash of a pipeline with a ninth of its epochs; None if it has one epoch or none, or is unknown."""
    known = ledger.genotypes.get(genotype)
    if known is None:
        return None
    name, version, body = known.complete()
    training = list(body["training"])
    training[2] = {key: _ninth(value) if "epochs" in key else value for key, value in training[2].items()}
    short = from_complete([name, version, {**body, "training": training}]).hash
    return short if short != genotype else None


def _ninth(epochs: Any) -> int:
    return -(-int(epochs) // SHORTER)


def judge_again(plan: Plan, ledger: ReadLedger, draws: Sequence[Draw]) -> ShortTrainings:
    """Judge the candidates of one batch of one study by their short trainings.

    Args:
        plan: The plan.
        ledger: The ledger.
        draws: The accepted draws of the batch, in order.
    """
    found = ShortTrainings()
    points: list[Point] = []
    for draw in draws:
        genotype = draw.genotype or ""
        short = shortened_hash(ledger, genotype)
        if draw.state != ACCEPTED or short is None:
            continue
        said: dict[int, int] = {}
        failed = False
        for scored, left_out in plan.inner_left_out(draw.study):
            key = JobKey(short, left_out, 0, plan.numeric_path)
            found.needed[key.hash] = (key, f"study {draw.study}, short training of {genotype} on group {scored}")
            job = ledger.find(key)
            if job is None:
                found.complete = False
            elif job.record.probabilities is None:
                failed = True
            else:
                inside = set(plan.partition.groups[scored])
                for row, probabilities in zip(job.record.rows.tolist(), job.record.probabilities, strict=True):
                    if plan.book.subjects[row] in inside:
                        said[row] = int(np.argmax(probabilities))
        found.stopped[genotype] = "failed" if failed else "stopped"
        if found.complete and not failed:
            points.append((_uf1(plan, said), draw.parameters or 0, genotype))
    for genotype in _kept(points, math.ceil(len(found.stopped) / KEPT)):
        del found.stopped[genotype]
    return found


def _uf1(plan: Plan, said: Mapping[int, int]) -> float:
    rows = sorted(said)
    numbers = list(range(len(plan.dataset.classes)))
    predictions = [said[row] for row in rows]
    score = f1_score(plan.book.labels[rows], predictions, labels=numbers, average="macro", zero_division=0)
    return round(float(score), 9)


def _kept(points: Sequence[Point], room: int) -> list[str]:
    kept: list[str] = []
    left = list(points)
    while left and len(kept) < room:
        front = [one for one in left if not any(_beats(other, one) for other in left)]
        left = [one for one in left if one not in front]
        farthest = sorted(front, key=lambda one: (-round(_distance(one, front), 9), one[1], one[2]))
        kept += [genotype for _, _, genotype in farthest[: room - len(kept)]]
    return kept


def _beats(other: Point, one: Point) -> bool:
    ahead = other[0] - one[0]
    return other[1] <= one[1] and (ahead > NEAR or (ahead >= -NEAR and other[1] < one[1]))


def _distance(one: Point, front: Sequence[Point]) -> float:
    """The gap between the two neighbours of a member, in both objectives, in proportion to the front's width.

    In an objective in which all members are alike there are no ends and no gaps.
    """
    total = 0.0
    for figure in (lambda point: point[0], lambda point: math.log10(max(point[1], 1))):
        line = sorted(front, key=lambda point: (figure(point), point[2]))
        place, width = line.index(one), figure(line[-1]) - figure(line[0])
        if width and place in (0, len(line) - 1):
            return math.inf
        total += (figure(line[place + 1]) - figure(line[place - 1])) / width if width else 0.0
    return total
