"""The loop that all strategies share: epochs over shuffled batches, for a fixed number of them (survey section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.contracts import (
    Augmentation,
    Averaging,
    Mixing,
    NotFiniteError,
    Objective,
    Optimizer,
    Sampler,
    Schedule,
    TrainingRows,
)
from mernas.space.errors import DataError, Problem


@dataclass(frozen=True, eq=False)
class Course:
    """How epochs go.

    Attributes:
        epochs: How many.
        batch: Rows per optimiser step.
        optimizer: How a gradient becomes a step.
        schedule: How the learning rate changes.
        sampler: Which rows make a batch; None for every row once, shuffled.
        mixing: How the clips of a batch are mixed, or None.
        averaging: Which average of the weights is kept, or None for the last ones.
        rate: What the learning rate is multiplied by.
    """

    epochs: int
    batch: int
    optimizer: Optimizer
    schedule: Schedule
    sampler: Sampler | None = None
    mixing: Mixing | None = None
    averaging: Averaging | None = None
    rate: float = 1.0


def batch_sizes(rows: int, batch: int) -> list[int]:
    """Return the sizes of the batches of one epoch over `rows` rows.

    A last batch of one row is merged into the one before it: batch normalisation cannot train on a single row.

    Example:
        >>> batch_sizes(65, 32), batch_sizes(70, 32)
        ([32, 33], [32, 32, 6])
    """
    sizes = [batch] * (rows // batch)
    rest = rows - sum(sizes)
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def run_epochs(
    network: nn.Module,
    rows: TrainingRows,
    objective: Objective,
    course: Course,
    augmentation: Sequence[Augmentation],
    generator: torch.Generator,
    on_epoch: Callable[[int], None] | None = None,
    frozen: Sequence[nn.Module] = (),
) -> None:
    """Train the network in place and leave it in evaluation mode.

    Args:
        network: From a list of maps, one for each stream, to logits (B, classes).
        rows: The training rows.
        objective: What is minimised.
        course: How.
        augmentation: Applied to every batch, in this order.
        generator: For the batches, augmentation and mixing. Dropout draws from torch's global generator, which the
            caller seeds as for the weights.
        on_epoch: Called with n after epoch n, counted from 1; it may leave the network in evaluation mode. Where an
            average of the weights is kept, what it sees are the weights themselves, but after the last epoch.
        frozen: Parts of the network that stay what they are, buffers included: they work as in evaluation and have no
            gradient meanwhile. Which of their parameters have one otherwise is as before when this returns or fails.

    Raises:
        DataError: If there are no rows.
        NotFiniteError: After the first epoch whose loss is not a number, or if a weight is none at the end.
    """
    labels = rows.labels
    if not len(labels):
        raise DataError(Problem("training rows", "must be at least one", "0"))
    channels = [rows.channels(stream) for stream in range(rows.streams)]
    sampled = labels.to(generator.device)
    steps = course.epochs * len(batches_of(course, sampled, generator.clone_state()))
    resting = {id(parameter) for part in frozen for parameter in part.parameters()}
    weights = [parameter for parameter in network.parameters() if id(parameter) not in resting]
    optimizer = course.optimizer.build([*weights, *objective.parameters()])
    starts = [group["lr"] * course.rate for group in optimizer.param_groups]
    average = course.averaging.build(network, steps) if course.averaging is not None else None
    step = 0
    with _at_rest(frozen):
        for epoch in range(1, course.epochs + 1):
            network.train()
            for (
                part
            ) in frozen:  # at each epoch, because what is called after one may send the whole network to training
                part.eval()
            # Summed where it is and looked at once an epoch: asking for each value would stall an accelerator.
            total = torch.zeros((), device=labels.device)
            for batch in batches_of(course, sampled, generator):
                batch = batch.to(labels.device)
                optimizer.zero_grad(set_to_none=True)
                value = _loss(network, rows.take(batch), batch, channels, objective, course, augmentation, generator)
                torch.autograd.backward(value)
                factor = course.schedule.factor(min(step, steps - 1), steps)
                for group, start in zip(optimizer.param_groups, starts, strict=True):
                    group["lr"] = start * factor
                optimizer.step()
                if average is not None:
                    average.update(step)
                total += value.detach()
                step += 1
            if not torch.isfinite(total):
                raise NotFiniteError(lost_loss(epoch))
            if average is not None and epoch == course.epochs:
                average.finish()
            if on_epoch is not None:
                on_epoch(epoch)
    network.eval()
    # The last step comes after the last loss.
    if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
        raise NotFiniteError(lost_weight())


@contextmanager
def _at_rest(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Let the parameters of some parts have no gradient meanwhile, nor keep one of an earlier step."""
    parameters = [parameter for part in parts for parameter in part.parameters()]
    usual = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        yield
    finally:
        for parameter, trained in usual:
            parameter.requires_grad_(trained)


def lost_loss(epoch: int) -> Problem:
    """Return what is wrong if the losses of an epoch, counted from 1, are not finite."""
    return Problem("training", "the loss is no longer a finite number", f"epoch {epoch}", "lower the learning rate")


def lost_weight() -> Problem:
    """Return what is wrong if a weight is not finite at the end."""
    return Problem("training", "a weight is not a finite number", "after the last epoch", "lower the learning rate")


def batches_of(course: Course, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Return the batches of one epoch, as numbers of training rows.

    Args:
        course: Says how large they are and which rows are drawn.
        labels: Of the training rows (n,), on the generator's device.
        generator: Draws them.
    """
    if course.sampler is not None:
        return course.sampler.batches(labels, course.batch, generator)
    order = torch.randperm(len(labels), generator=generator, device=generator.device)
    return list(torch.split(order, batch_sizes(len(labels), course.batch)))


def _loss(
    network: nn.Module,
    maps: list[Tensor],
    batch: Tensor,
    channels: Sequence[tuple[str, ...]],
    objective: Objective,
    course: Course,
    augmentation: Sequence[Augmentation],
    generator: torch.Generator,
) -> Tensor:
    for change in augmentation:
        maps = change.apply(maps, channels, generator)
    if course.mixing is None:
        return objective.value(objective.outputs(network, maps), batch)
    maps, other, share = course.mixing.mix(maps, generator)
    outputs = objective.outputs(network, maps)
    other = other.to(batch.device)
    return share * objective.value(outputs, batch) + (1 - share) * objective.value(outputs, batch[other])
