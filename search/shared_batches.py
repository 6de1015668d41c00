"""Which jobs of a pipeline train together: in selection only those that share a left-out group.

That group is then masked in all jobs of the batch, so that nothing of it is in the memory of the device that trains
them: neither maps to train on nor labels. Which batch a job is in follows from the groups that it leaves out, and from
nothing else, so that a batch holds the same jobs in every run, however much is finished already.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from mernas.evaluation.jobs import Job, JobKey
from mernas.space.errors import CustodyError, Problem
from mernas.space.genotype import Genotype

Task = tuple[JobKey, Job]
One = TypeVar("One")
MOST_TOGETHER = 80
"""At most so many folds train together."""
MOST_WEIGHTS = 1 << 28
"""So many weights at most do the folds have that train together: 1 GiB, and some four times as much with moments."""
MOST_STEPS = 60_000
"""So many training steps at most do they take together, or as many as some folds take: a stop waits for them."""
FEWEST = 8
"""So many folds train together, however long they take: fewer leave an accelerator idle."""


def shared_group(left_out: Sequence[str], groups: Sequence[Sequence[str]]) -> int:
    """Return the number of the group that all jobs of a job's batch leave out.

    A job that leaves out one group is in the batch of that group. One that leaves out a pair is in the batch of the
    group from which it is the shorter way to the other one, counted upwards and around; so every batch has about
    equally many jobs. Where both ways are equally long, it is the lower group.

    Args:
        left_out: The subjects that the job leaves out.
        groups: The subjects of every group.

    Raises:
        CustodyError: If the job leaves out anything but one or two whole groups.

    Example:
        >>> groups = (("a",), ("b", "c"), ("d",), ("e",), ("f",))
        >>> [shared_group(left_out, groups) for left_out in (["d"], ["a", "d"], ["a", "e"])]
        [2, 0, 3]
    """
    out = set(left_out)
    whole = [number for number, subjects in enumerate(groups) if out.issuperset(subjects)]
    if not 1 <= len(whole) <= 2 or len(out) != sum(len(groups[number]) for number in whole):
        rule = "must leave out one or two whole groups to be trained with others during selection"
        raise CustodyError(Problem("job", rule, ", ".join(sorted(out)[:5])))
    if len(whole) == 1:
        return whole[0]
    first, second = whole
    return first if second - first <= len(groups) - (second - first) else second


def shared_batches(tasks: Sequence[Task], groups: Sequence[Sequence[str]]) -> list[tuple[Task, ...]]:
    """Divide inner jobs into batches whose jobs are of one pipeline and share a left-out group.

    Args:
        tasks: Inner jobs with their keys. For whole batches: every inner job of their pipelines.
        groups: The subjects of every group.

    Returns:
        The batches, by pipeline in the order in which they first occur, then by shared group; within a batch by the
        subjects left out.

    Raises:
        CustodyError: If a job leaves out anything but one or two whole groups.
    """
    found: dict[tuple[str, int], list[Task]] = {}
    order = {key.genotype: place for place, (key, _) in reversed(list(enumerate(tasks)))}
    for key, job in tasks:
        found.setdefault((key.genotype, shared_group(key.left_out, groups)), []).append((key, job))
    places = sorted(found, key=lambda batch: (order[batch[0]], batch[1]))
    return [tuple(sorted(found[place], key=lambda task: task[0].left_out)) for place in places]


def fold_batches(jobs: Sequence[One], parameters: int, steps: int = 0) -> list[tuple[One, ...]]:
    """Divide the folds of a pipeline into batches that train together; they follow from the pipeline alone.

    Args:
        jobs: All folds, in the order of the protocol.
        parameters: How many the network has; larger ones are fewer in a batch, which must fit on a device.
        steps: How many training steps a fold takes; longer ones are fewer in a batch, which is recorded as a whole.

    Returns:
        Batches of about equally many folds.
    """
    fitting = MOST_WEIGHTS // max(parameters, 1)
    most = max(1, min(MOST_TOGETHER, fitting, max(FEWEST, MOST_STEPS // max(steps, 1))))
    batches = -(-len(jobs) // most)
    edges = [number * len(jobs) // batches for number in range(batches + 1)]
    return [tuple(jobs[start:end]) for start, end in pairwise(edges)]


def training_steps(genotype: Genotype, rows: int) -> int:
    """Return about how many training steps a fold of a network takes.

    Args:
        genotype: The pipeline.
        rows: How many rows it trains on.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> training_steps(load_preset("ststnet").genotype, 435)
        1600
    """
    training = genotype["training"]
    return int(training["epochs"]) * -(-rows // int(training["batch"]))
