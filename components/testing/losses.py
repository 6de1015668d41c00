"""Checks of what is minimised: losses of the class scores, of the fused vector, and side tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mernas.components.testing.subject import Subject
from mernas.components.testing.training_rows import SampleRows
from mernas.components.testing.verdict import ConformanceError, demand, own_chance, telling
from mernas.space.errors import DataError
from mernas.space.taxonomy import ACTION_UNITS

FEATURES = 6
CLASSES = 3
UNITS = 5

STEPS = (1.0, 0.1, 0.01, 1e-3, 1e-4)
"""Of a step along the gradient, one of these lengths must lower the loss."""

LABELS: dict[str, tuple[int, ...]] = {
    "ordinary rows": (0, 0, 1, 1, 2, 2, 0, 0, 1, 2),
    "a class that is absent": (0, 0, 2, 2, 0, 2),
    "one row of each class": (0, 1, 2),
    "two rows": (0, 1),
    "a single class": (1, 1, 1, 1),
}
"""Training rows that occur: small folds lack classes."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A loss that is built, and what it is asked about.

    Attributes:
        title: What messages call it.
        module: What was built.
        given: Logits or vectors, (B, K) or (B, F).
        second: Class numbers, or row numbers where a side task is asked.
        rows: The training rows that it was built from.
    """

    title: str
    module: nn.Module
    given: Tensor
    second: Tensor
    rows: SampleRows

    def value(self, given: Tensor | None = None) -> Tensor:
        """Return the loss of what was given, or of something else."""
        with telling(self.title, "takes (B, K) or (B, F), and (B,)"):
            result: Tensor = self.module(self.given if given is None else given, self.second)
            return result


def finite_values(subject: Subject) -> None:
    """It is a finite scalar with finite gradients, whichever classes occur, for ordinary and for large values."""
    for trial in _trials(subject):
        for scale in (1.0, 30.0):
            given = (scale * trial.given).requires_grad_()
            loss = trial.value(given)
            demand(loss.shape == (), trial.title, "gives a scalar", tuple(loss.shape))
            demand(math.isfinite(float(loss.detach())), trial.title, "gives a finite number", float(loss.detach()))
            torch.autograd.backward(loss)
            slope = given.grad
            demand(slope is not None, trial.title, "a gradient reaches what it is given", "none")
            finite = slope is not None and bool(torch.isfinite(slope).all())
            demand(finite, trial.title, f"gradients are finite (values about {scale:g})", slope)


def descent(subject: Subject) -> None:
    """A small step against the gradient lowers it; where there is no gradient, it is least."""
    for trial in _trials(subject):
        trial.module.eval()
        learnt = [trial.given.clone().requires_grad_(), *trial.module.parameters()]
        loss = trial.value(learnt[0])
        slopes = torch.autograd.grad(loss, learnt, allow_unused=True)
        unused = [number for number, slope in enumerate(slopes) if slope is None]
        demand(not unused, trial.title, "a gradient reaches its input and all its parameters", f"none at {unused}")
        square = sum(float(slope.square().sum()) for slope in slopes if slope is not None)
        if square < 1e-12:
            continue
        values = []
        for step in STEPS:
            with torch.no_grad():
                moved = [weights - step * slope for weights, slope in zip(learnt, slopes, strict=True)]
                names = [name for name, _ in trial.module.named_parameters()]
                replaced = dict(zip(names, moved[1:], strict=True))
                values.append(float(torch.func.functional_call(trial.module, replaced, (moved[0], trial.second))))
        start = float(loss.detach())
        rule = "a step against the gradient lowers the loss"
        demand(min(values) < start, trial.title, rule, f"{start:.6g} before, {min(values):.6g} at best")


def right_classes_win(subject: Subject) -> None:
    """Logits that go down its slope end with the true class on top."""
    for title, component in subject.settings():
        for name in ("ordinary rows", "one row of each class"):
            rows = _rows(LABELS[name])
            module = component.build(rows)
            with own_chance():
                logits = torch.randn(len(rows.labels), CLASSES).requires_grad_()
            optimizer = torch.optim.Adam([logits], lr=0.2)
            for _ in range(60):
                optimizer.zero_grad()
                torch.autograd.backward(module(logits, rows.labels))
                optimizer.step()
            right = logits.detach().argmax(dim=1) == rows.labels
            share = float(right.float().mean())
            demand(share == 1, f"{title}, {name}", "the true class of every row comes out on top", f"{share:.0%}")


def inputs_as_they_were(subject: Subject) -> None:
    """What it is given and the training rows are left as they are; asked twice in eval mode it says the same."""
    for trial in _trials(subject):
        trial.module.eval()
        before = (trial.given.clone(), trial.second.clone())
        rows = trial.rows.content()
        first, again = trial.value(), trial.value()
        same = torch.equal(before[0], trial.given) and torch.equal(before[1], trial.second)
        demand(same, trial.title, "does not write to what it is given", "changed values")
        demand(trial.rows.unchanged(rows), trial.title, "does not write to the training rows", "changed rows")
        demand(torch.equal(first, again), trial.title, "says the same twice in eval mode", (first.item(), again.item()))


def moved_with_its_figures(subject: Subject) -> None:
    """Moved to another device it works there: class weights and centres are buffers or parameters."""
    device = "cuda" if torch.cuda.is_available() else "meta"
    for trial in _trials(subject):
        outside = _held_outside(trial.module)
        demand(not outside, trial.title, "tensors are held as buffers or parameters", ", ".join(outside))
        module = trial.module.to(device)
        rule = f"works on the device that it is moved to ({device})"
        with telling(trial.title, rule), torch.no_grad():
            try:
                loss = module(trial.given.to(device), trial.second.to(device))
            except NotImplementedError:  # what depends on values, such as the mining of triplets, cannot be had on meta
                continue
        demand(loss.device.type == device, trial.title, f"what it gives is where it is ({device})", loss.device)


def only_training_rows(subject: Subject) -> None:
    """It is built from the training rows alone, and says by a `DataError` where they lack what it needs."""
    for title, component in subject.settings():
        for name, labels in LABELS.items():
            rows = _rows(labels, units=ACTION_UNITS in subject.declaration.needs)
            before = rows.content()
            with telling(f"{title}, {name}", "is built from training rows"):
                _built(subject, component, rows)
            demand(rows.unchanged(before), title, "does not write to the training rows", "changed rows")
        if ACTION_UNITS in subject.declaration.needs:
            try:
                _built(subject, component, replace(_rows(LABELS["ordinary rows"]), units=None))
            except DataError:
                continue
            raise ConformanceError(f"{title}: raises DataError where the rows have no {ACTION_UNITS}; found a result")


LOSS_CHECKS: dict[str, tuple[Callable[[Subject], None], ...]] = {
    "loss": (
        only_training_rows,
        finite_values,
        descent,
        right_classes_win,
        inputs_as_they_were,
        moved_with_its_figures,
    ),
    "auxiliary_loss": (only_training_rows, finite_values, descent, inputs_as_they_were, moved_with_its_figures),
    "side_task": (only_training_rows, finite_values, descent, inputs_as_they_were, moved_with_its_figures),
}


def _held_outside(module: nn.Module) -> list[str]:
    """Names of the attributes of a module and those inside it that are tensors and would not move with it."""
    return [
        f"{name}.{key}".lstrip(".")
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if any(isinstance(item, Tensor) for item in (value if isinstance(value, (list, tuple)) else (value,)))
    ]


def _rows(labels: tuple[int, ...], units: bool = False) -> SampleRows:
    generator = torch.Generator().manual_seed(len(labels))
    number = len(labels)
    drawn = torch.rand((number, UNITS), generator=generator)
    known = torch.where(drawn < 0.1, torch.nan, (drawn > 0.6).float()) if units else None
    maps = torch.randn((number, 1, 4, 4), generator=generator)
    return SampleRows((maps,), torch.tensor(labels), CLASSES, units=known)


def _built(subject: Subject, component: Any, rows: SampleRows) -> nn.Module:
    with own_chance():
        module: nn.Module = (
            component.build(rows) if subject.declaration.axis == "loss" else component.build(rows, FEATURES)
        )
    return module


def _trials(subject: Subject) -> Iterator[Trial]:
    """Every setting on every kind of training rows, with a batch of all of them and a batch of two."""
    width = CLASSES if subject.declaration.axis == "loss" else FEATURES
    for title, component in subject.settings():
        for name, labels in LABELS.items():
            for batch in sorted({2, len(labels)}):
                rows = _rows(labels, units=ACTION_UNITS in subject.declaration.needs)
                module = _built(subject, component, rows)
                chosen = torch.arange(len(labels))[-batch:]
                second = chosen if subject.declaration.axis == "side_task" else rows.labels[chosen]
                generator = torch.Generator().manual_seed(batch)
                given = torch.randn((batch, width), generator=generator)
                yield Trial(f"{title}, {name}, batch of {batch}", module, given, second, rows)
