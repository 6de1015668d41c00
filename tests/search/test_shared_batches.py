"""Batches of selection: each shares a left-out group, of which nothing is held where it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.folds_together import fit_together
from mernas.evaluation.jobs import make_job
from mernas.evaluation.preparation import prepare, recipes_of
from mernas.evaluation.rows import number_rows
from mernas.search.shared_batches import Task, shared_batches, shared_group
from mernas.space.errors import CustodyError
from mernas.space.genotype import parse_genotype

TEXT = """
streams: [{input: {optical_flow: {estimator: given, size: 14}}, backbone: [{convolution: {width: 3}}]}]
tasks: [{emotion: {head: linear}}]
training: {scratch: {epochs: 2, batch: 8}}
loss: cross_entropy
"""


def inner_tasks(data: Dataset, groups: tuple[tuple[str, ...], ...], text: str = TEXT) -> list[Task]:
    """Every job that any study of a nested search needs of a pipeline."""
    book = number_rows(data, seed=0)
    left_out = [[*groups[g], *groups[k]] for g, k in combinations(range(len(groups)), 2)]
    left_out += [list(group) for group in groups]
    return [make_job(parse_genotype(text), subjects, book, len(data.classes), 0) for subjects in left_out]


@pytest.mark.parametrize("size", [3, 4, 5, 8])
def test_every_job_is_in_one_batch_whose_jobs_all_leave_one_group_out(toy: Callable[..., Dataset], size: int) -> None:
    data = toy(subjects=8)
    groups = tuple(tuple(data.subjects[number::size]) for number in range(size))
    tasks = inner_tasks(data, groups)
    batches = shared_batches(tasks, groups)
    assert sorted(key.hash for batch in batches for key, _ in batch) == sorted(key.hash for key, _ in tasks)
    assert len(batches) == size
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    for number, batch in enumerate(batches):
        assert {shared_group(key.left_out, groups) for key, _ in batch} == {number}
        assert all(set(groups[number]) <= set(key.left_out) for key, _ in batch)


def test_the_batch_of_a_job_depends_neither_on_the_others_nor_on_their_order(toy: Callable[..., Dataset]) -> None:
    data = toy()
    groups = tuple(tuple(data.subjects[number::3]) for number in range(3))
    tasks = inner_tasks(data, groups)
    other = inner_tasks(data, groups, TEXT.replace("width: 3", "width: 5"))
    whole = [[key.hash for key, _ in batch] for batch in shared_batches([*tasks, *other], groups)]
    assert [[key.hash for key, _ in batch] for batch in shared_batches([*tasks[::-1], *other], groups)] == whole
    for task in tasks:
        ((alone,),) = shared_batches([task], groups)
        assert alone[0].hash in whole[shared_group(task[0].left_out, groups)]


def test_jobs_that_leave_out_a_part_of_a_group_are_refused(toy: Callable[..., Dataset]) -> None:
    data = toy()
    groups = tuple(tuple(data.subjects[number::3]) for number in range(3))
    for left_out in (groups[0][:1], (*groups[0], groups[1][0]), data.subjects):
        with pytest.raises(CustodyError, match="whole groups"):
            shared_group(left_out, groups)


def test_maps_and_labels_of_the_shared_group_change_no_bit_of_a_batch(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = toy()
    groups = tuple(tuple(data.subjects[number::3]) for number in range(3))
    book = number_rows(data, seed=0)
    clips = [data.clips[place] for place in book.clips]
    recipes = recipes_of([parse_genotype(TEXT)])
    maps = {recipe.hash: torch.from_numpy(prepare(clips, recipe, tmp_path)) for recipe in recipes}
    for number, batch in enumerate(shared_batches(inner_tasks(data, groups), groups)):
        sealed = book.rows_of(groups[number])
        # What is predicted of the shared group itself must change with its maps, so only the others are compared.
        jobs = [
            replace(job, predict_rows=rows) for _, job in batch if len(rows := np.setdiff1d(job.predict_rows, sealed))
        ]
        other = {recipe: tensor.clone() for recipe, tensor in maps.items()}
        for tensor in other.values():
            tensor[torch.from_numpy(sealed)] = float("nan")
        before, after = (fit_together(jobs, FeatureStore(given)) for given in (maps, other))
        for one, two in zip(before, after, strict=True):
            assert one.probabilities is not None
            assert two.probabilities is not None
            assert one.probabilities.tobytes() == two.probabilities.tobytes()
