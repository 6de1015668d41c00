"""The partition of the subjects into groups, on which nested leave-one-subject-out stands; computed once per run.

By default scikit-learn's StratifiedGroupKFold, shuffled by the run seed, makes the groups: it spreads the strata, which
are the classes within each dataset, and never divides a subject. With one subject per group nothing is left to spread,
and the groups are the sorted subjects. A group is called by its number, from "0".

A partition can be read from a file instead, in the form in which plan.yaml holds it: under `partition`, a list of
groups, each a list of subjects.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from mernas.evaluation.metrics import check_lengths, check_numbers
from mernas.space.errors import PlanError, Problem, SpaceError, UnknownNameError, nearest, raise_all
from mernas.space.yaml_text import read_yaml

LEAST_GROUPS = 3
"""With fewer, no inner training set is left; and each class must occur in as many groups."""


@dataclass(frozen=True)
class Partition:
    """Disjoint groups of subjects.

    Attributes:
        groups: The subjects of each group, sorted.

    Raises:
        PlanError: If a group is empty or unsorted, or a subject occurs twice; with all mistakes.

    Example:
        >>> partition = Partition((("a/1", "b/1"), ("a/2",), ("a/3",)))
        >>> [partition.group_of(subject) for subject in ("b/1", "a/2", "a/3")]
        [0, 1, 2]
    """

    groups: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        raise_all(PlanError, _faults(self.groups))

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted."""
        return tuple(sorted(subject for group in self.groups for subject in group))

    @cached_property
    def _homes(self) -> Mapping[str, int]:
        return {subject: number for number, group in enumerate(self.groups) for subject in group}

    def group_of(self, subject: str) -> int:
        """Return the number of the group that a subject is in.

        Raises:
            UnknownNameError: If it is in none.
        """
        if subject not in self._homes:
            raise UnknownNameError(Problem(f"subject {subject}", "is in no group", "", nearest(subject, self._homes)))
        return self._homes[subject]

    def to_plain(self) -> list[list[str]]:
        """Return the groups as plan.yaml holds them."""
        return [list(group) for group in self.groups]


def make_partition(
    keys: Sequence[str],
    subjects: Sequence[str],
    datasets: Sequence[str],
    labels: NDArray[np.integer[Any]],
    classes: Sequence[str],
    groups: int | Literal["subjects"],
    seed: int,
) -> Partition:
    """Make the groups of a run; equal clips give equal groups, in whatever order they come.

    Args:
        keys: Key of each clip (n,), each once.
        subjects: Subject of each clip (n,), as `dataset/subject`.
        datasets: Dataset of each clip (n,).
        labels: Class number of each clip (n,).
        classes: The class names in the order of their numbers.
        groups: How many, at least 3, or "subjects" for one subject per group.
        seed: The run seed, from 0 to 2**32 - 1.

    Raises:
        PlanError: If there are fewer than three groups, fewer subjects than groups, a class that occurs in fewer than
            three groups, too few clips to spread, two clips of one key, or a seed out of range; with all mistakes.
        DataError: If the lengths differ or a label has no class.

    Example:
        >>> keys = [f"s/{subject}/{clip}" for subject in range(4) for clip in range(2)]
        >>> subjects = [key.rpartition("/")[0] for key in keys]
        >>> labels = np.array([0, 1] * 4)
        >>> make_partition(keys, subjects, ["s"] * 8, labels, ["negative", "positive"], "subjects", seed=0)
        Partition(groups=(('s/0',), ('s/1',), ('s/2',), ('s/3',)))
        >>> sorted(map(len, make_partition(keys, subjects, ["s"] * 8, labels, ["no", "yes"], 3, seed=0).groups))
        [1, 1, 2]
    """
    labels = np.asarray(labels)
    check_numbers(labels, labels, len(classes))
    check_lengths(len(labels), keys=keys, subjects=subjects, datasets=datasets)
    known = sorted(set(subjects))
    number = len(known) if groups == "subjects" else groups
    problems: list[Problem | str] = []
    if len(set(keys)) < len(keys):
        doubled = sorted(key for key, times in Counter(keys).items() if times > 1)
        problems.append(Problem("clips", "keys must be unique", ", ".join(doubled)))
    if number < LEAST_GROUPS:
        remedy = f"use --groups {LEAST_GROUPS} or more" if groups != "subjects" else "use data of more subjects"
        problems.append(Problem("--groups", f"must be at least {LEAST_GROUPS}", str(number), remedy))
    if number > len(known):
        found = f"{number} groups and {len(known)} subjects"
        problems.append(Problem("--groups", "needs at least one subject per group", found, "use fewer groups"))
    elif number < len(known) and number > max(Counter(zip(datasets, labels.tolist(), strict=True)).values()):
        # scikit-learn refuses this too, in words that are about its arguments.
        rule = "needs a class that has a clip per group within one dataset"
        problems.append(Problem("--groups", rule, "", "use fewer groups, or --groups subjects"))
    if not 0 <= seed < 2**32:
        problems.append(Problem("--seed", "must be from 0 to 4294967295", str(seed)))
    problems += _scarce(subjects, labels, classes)
    raise_all(PlanError, problems)

    if number == len(known):
        partition = Partition(tuple((subject,) for subject in known))
    else:
        partition = _stratified(keys, subjects, datasets, labels, number, seed)
    check_classes(partition, subjects, labels, classes)
    return partition


def read_partition(
    path: Path, subjects: Sequence[str], labels: NDArray[np.integer[Any]], classes: Sequence[str]
) -> Partition:
    """Read a partition from a YAML file: a list of groups, or a mapping that has one under `partition`.

    The plan.yaml of another run is such a mapping.

    Args:
        path: The file.
        subjects: Subject of each clip (n,) of the data at hand.
        labels: Class number of each clip (n,).
        classes: The class names in the order of their numbers.

    Raises:
        PlanError: If it cannot be read or is no partition of these subjects; with all mistakes.
    """
    try:
        data = read_yaml(path)
    except SpaceError as error:
        raise PlanError(error.problems) from None
    if isinstance(data, Mapping) and "partition" in data:
        data = data["partition"]
    return partition_from_plain(data, subjects, labels, classes, str(path))


def partition_from_plain(
    data: object,
    subjects: Sequence[str],
    labels: NDArray[np.integer[Any]],
    classes: Sequence[str],
    source: str = "partition",
) -> Partition:
    """Return the partition that plan.yaml holds, checked against the data at hand.

    Args:
        data: A list of groups, each a list of subjects in any order.
        subjects: Subject of each clip (n,).
        labels: Class number of each clip (n,).
        classes: The class names in the order of their numbers.
        source: What messages call it, usually the file's name.

    Raises:
        PlanError: If it is no such list, a subject is missing, unknown or doubled, a group is empty, there are fewer
            than three groups, or a class occurs in fewer than three groups; with all mistakes.

    Example:
        >>> subjects, labels = ["s/1", "s/2", "s/3"], np.array([0, 0, 0])
        >>> partition_from_plain([["s/3"], ["s/1"], ["s/2"]], subjects, labels, ["negative"]).to_plain()
        [['s/3'], ['s/1'], ['s/2']]
    """
    if not isinstance(data, list) or not all(
        isinstance(group, list) and all(isinstance(subject, str) for subject in group) for group in data
    ):
        found = type(data).__name__ if not isinstance(data, list) else "a list of something else"
        remedy = "write it as plan.yaml does: partition: [[dataset/subject, ...], ...]"
        raise PlanError(Problem(source, "must be a list of groups, each a list of subjects", found, remedy))
    labels = np.asarray(labels)
    check_numbers(labels, labels, len(classes))
    known, listed = set(subjects), {subject for group in data for subject in group}
    problems: list[Problem | str] = []
    if missing := sorted(known - listed):
        problems.append(Problem(source, "must hold every subject of the data", f"none of {', '.join(missing)}"))
    if unknown := sorted(listed - known):
        problems.append(Problem(source, "must hold subjects of the data only", ", ".join(unknown)))
    if len(data) < LEAST_GROUPS:
        problems.append(Problem(source, f"must have at least {LEAST_GROUPS} groups", str(len(data))))
    groups = tuple(tuple(sorted(group)) for group in data)
    problems += _faults(groups)
    problems += _scarce(subjects, labels, classes)
    raise_all(PlanError, problems)
    partition = Partition(groups)
    check_classes(partition, subjects, labels, classes)
    return partition


def check_classes(
    partition: Partition, subjects: Sequence[str], labels: NDArray[np.integer[Any]], classes: Sequence[str]
) -> None:
    """Check that every class occurs in at least three groups: else some inner training set may lack it.

    Args:
        partition: The groups.
        subjects: Subject of each clip (n,).
        labels: Class number of each clip (n,).
        classes: The class names in the order of their numbers.

    Raises:
        PlanError: If a class does not; names each such class and where it occurs.
    """
    problems: list[Problem | str] = []
    for name, home in zip(classes, _subjects_by_class(subjects, labels, len(classes)), strict=True):
        groups = sorted({partition.group_of(subject) for subject in home})
        if len(groups) < LEAST_GROUPS:
            rule = f"must occur in at least {LEAST_GROUPS} groups, or no study is started"
            found = f"it in group {_numbered(groups)} alone ({', '.join(home)})" if home else "no clip of it"
            remedy = "use another --groups or --seed, or leave the class out"
            problems.append(Problem(f'class "{name}"', rule, found, remedy))
    raise_all(PlanError, problems)


def _faults(groups: Sequence[Sequence[str]]) -> list[Problem | str]:
    """Everything that is wrong with groups taken by themselves."""
    problems: list[Problem | str] = []
    homes: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        if not group:
            problems.append(Problem(f'group "{number}"', "must have a subject"))
        if list(group) != sorted(group):
            problems.append(Problem(f'group "{number}"', "must be sorted", ", ".join(group)))
        for subject in group:
            homes.setdefault(subject, []).append(number)
    problems += [
        Problem(f"subject {subject}", "must stand in one group once", f"it in group {_numbered(homes[subject])}")
        for subject in sorted(homes)
        if len(homes[subject]) > 1
    ]
    return problems


def _subjects_by_class(subjects: Sequence[str], labels: NDArray[np.integer[Any]], classes: int) -> list[list[str]]:
    """The distinct subjects that show each class, sorted."""
    pairs = set(zip(np.asarray(labels).tolist(), subjects, strict=True))
    return [sorted(subject for label, subject in pairs if label == number) for number in range(classes)]


def _scarce(subjects: Sequence[str], labels: NDArray[np.integer[Any]], classes: Sequence[str]) -> list[Problem | str]:
    """The classes of so few subjects that no partition can spread them over three groups."""
    rule = f"must occur in at least {LEAST_GROUPS} groups, so in as many subjects"
    return [
        Problem(
            f'class "{name}"',
            rule,
            f"it in {', '.join(home)}" if home else "no clip of it",
            "leave the class out or merge it",
        )
        for name, home in zip(classes, _subjects_by_class(subjects, labels, len(classes)), strict=True)
        if len(home) < LEAST_GROUPS
    ]


def _stratified(
    keys: Sequence[str],
    subjects: Sequence[str],
    datasets: Sequence[str],
    labels: NDArray[np.integer[Any]],
    groups: int,
    seed: int,
) -> Partition:
    """Spread the strata over groups of whole subjects."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    names = [(datasets[row], int(labels[row])) for row in order]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    strata = [numbers[name] for name in names]
    homes = [subjects[row] for row in order]
    # Before version 1.8, scikit-learn's own shuffle handed out other subjects than those it had spread (its pull
    # request 32540). Subjects under shuffled numbers give in all versions what its shuffle gives since then.
    known = sorted(set(homes))
    shuffled = np.arange(len(known))
    np.random.RandomState(seed).shuffle(shuffled)
    numbered = {known[place]: number for number, place in enumerate(shuffled.tolist())}
    splitter = StratifiedGroupKFold(n_splits=groups)
    with warnings.catch_warnings():
        # It warns of strata smaller than the number of groups; the rule that matters is checked on the classes.
        warnings.simplefilter("ignore", UserWarning)
        folds = list(splitter.split(strata, strata, [numbered[subject] for subject in homes]))
    return Partition(tuple(tuple(sorted({homes[row] for row in test})) for _, test in folds))


def _numbered(groups: Sequence[int]) -> str:
    return ", ".join(f'"{group}"' for group in groups)
