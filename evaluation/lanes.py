"""Lanes: each trains one fold after another on the same memory, and several lanes run side by side.

On an accelerator every lane has a stream of its own, and its steps are captured and replayed
(`mernas.evaluation.replays`); nothing is asked of the accelerator before all folds are trained. On a processor there
is one lane, which does the same, step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mernas.components.training.epochs import batches_of
from mernas.evaluation.fold_program import FoldProgram, Setting, Start

MOST_LANES = 8
"""So many lanes at most run on an accelerator: more of them gain little, and each captures its own steps."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What is left of a fold that was trained, on its device.

    Attributes:
        number: Which of the folds it was.
        probabilities: (M, K) of the held-out rows; M is that of the fold that has most of them.
        seen: Class numbers (epochs, M) after every epoch, or None.
        losses: The sum of the losses of each epoch (epochs,).
        finite: Whether every number of the trained network is finite, ().
    """

    number: int
    probabilities: Tensor
    seen: Tensor | None
    losses: Tensor
    finite: Tensor


class Lane:
    """Trains folds of one pipeline, one after another.

    Args:
        setting: What they have in common.
        warm: Work that another lane has done before, so that this one captures it at once; it is added to.
    """

    def __init__(self, setting: Setting, warm: set[str]) -> None:
        self._setting, self._warm = setting, warm
        self._stream = torch.cuda.Stream() if setting.device != "cpu" else None  # type: ignore[no-untyped-call]  # by torch
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())  # the maps are there
        self._program: FoldProgram | None = None

    @property
    def why_not(self) -> str:
        """Why its work is not captured; empty if all of it is."""
        return "" if self._program is None else self._program.why_not

    def current(self) -> AbstractContextManager[Any]:
        """Return a context in which torch works for this lane."""
        return torch.cuda.stream(self._stream) if self._stream is not None else nullcontext()

    def wait(self) -> None:
        """Let what comes after wait for all that this lane was given to do."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)

    def train(self, starts: Iterator[Start]) -> Iterator[Trained | None]:
        """Train folds; what it yields, after every step, is a fold that is trained, or None.

        Each step of the iteration must be taken in the context of `current`.

        Args:
            starts: The folds.

        Raises:
            ValueError: If the pipeline cannot train in lanes.
            CustodyError: If a fold is given rows that are not its own.
        """
        course, rows = self._setting.course, self._setting.rows
        for start in starts:
            if self._program is None:
                self._program = FoldProgram(self._setting, start, self._warm)
            program = self._program
            program.load(start)
            steps = course.epochs * len(batches_of(course, start.labels, start.batches.clone_state()))
            factors = [course.schedule.factor(step, steps) for step in range(steps)]
            figures = program.figures(factors)
            average = None if course.averaging is None else course.averaging.build(program.network, steps)
            losses: list[Tensor] = []
            seen: list[Tensor] = []
            step = 0
            for epoch in range(1, course.epochs + 1):
                batches = batches_of(course, start.labels, start.batches)
                own = [rows.places(start.number, batch) for batch in batches]
                moved = torch.cat(own).to(self._setting.device, non_blocking=True)  # or it would wait for every step
                for places in torch.split(moved, [len(batch) for batch in own]):
                    program.learn(places, figures[min(step, steps - 1)], start.batches)
                    if average is not None:
                        average.update(step)
                    step += 1
                    yield None
                if average is not None and epoch == course.epochs:
                    average.finish()
                losses.append(program.epoch_loss())
                if start.watched:
                    program.look()
                    seen.append(program.classes.clone())
            program.look()
            yield Trained(
                start.number,
                program.probabilities.clone(),
                torch.stack(seen) if seen else None,
                torch.stack(losses),
                program.finite.clone(),
            )


def train_in_lanes(lanes: Sequence[Lane], shares: Sequence[Iterator[Start]]) -> list[Trained]:
    """Train folds, each lane its share, all lanes by turns; return them in the order of their numbers."""
    runs = [(lane, lane.train(share)) for lane, share in zip(lanes, shares, strict=True)]
    done: list[Trained] = []
    while runs:
        going: list[tuple[Lane, Iterator[Trained | None]]] = []
        for lane, run in runs:
            with lane.current():
                for trained in run:
                    if trained is not None:
                        done.append(trained)
                        continue
                    going.append((lane, run))
                    break
        runs = going
    for lane in lanes:
        lane.wait()
    return sorted(done, key=lambda one: one.number)
