"""What travels to where training happens holds nothing of held-out clips; a spy and planted leaks prove it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from mernas.components.contracts import TRAINING_ROWS, Shape, TrainingRows
from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore, TrainingView
from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import Job, make_job
from mernas.evaluation.preparation import prepare, recipes_of
from mernas.evaluation.rows import number_rows
from mernas.search.executor import Block, Feed, SerialExecutor
from mernas.search.run import SearchResult
from mernas.space.errors import CustodyError
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.registry import REGISTRY, register

NETWORK = """
streams: [{{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{{convolution: {{width: 2}}}}]}}]
tasks: [{{emotion: {{head: linear}}}}]
normalisation: {normalisation}
training: {{scratch: {{epochs: 2, batch: 16}}}}
loss: cross_entropy
"""


@dataclass(frozen=True)
class Seen:
    where: str
    thing: Any


SEEN: list[Seen] = []


@dataclass(frozen=True)
class Spy:
    """A normalisation that writes down everything it is handed."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape: Shape) -> nn.Module:
        return SpyModule()

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        SEEN.append(Seen("fit", (rows, stream)))


class SpyModule(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        SEEN.append(Seen("train" if self.training else "predict", maps.detach().clone()))
        return maps


@dataclass(frozen=True)
class Greedy:
    """A normalisation that wants to be fitted on everybody."""

    fit_scope: ClassVar[str] = "all rows"

    def build(self, shape: Shape) -> nn.Module:
        return nn.Identity()

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        raise AssertionError("it must be refused before it is asked")


@dataclass(frozen=True)
class Curious:
    """A normalisation that asks its input for a row outside its training rows."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape: Shape) -> nn.Module:
        return nn.Identity()

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        rows.take([0, len(rows.labels)])


@pytest.fixture(autouse=True)
def spies() -> Iterator[None]:
    made = {"spy": Spy, "greedy": Greedy, "curious": Curious}
    for name, factory in made.items():
        register("normalisation", name)(factory)
    SEEN.clear()
    yield
    for name in made:
        REGISTRY.remove("normalisation", name)


def job_on(data: Dataset, genotype: Genotype, cache: Path, left_out: int = 2) -> tuple[Job, FeatureStore]:
    book = number_rows(data, seed=5)
    _, job = make_job(genotype, data.subjects[:left_out], book, len(data.classes), run_seed=5)
    clips = [data.clips[place] for place in book.clips]
    maps = {recipe.hash: torch.from_numpy(prepare(clips, recipe, cache)) for recipe in recipes_of([genotype])}
    return job, FeatureStore(maps)


def things_in(thing: Any, depth: int = 0) -> Iterator[Any]:
    """Everything that can be reached from an object through attributes and containers."""
    yield thing
    if depth > 8 or isinstance(thing, (str, bytes, int, float, torch.Tensor, np.ndarray, type)):
        return
    children: list[Any] = []
    if isinstance(thing, dict):
        children = [*thing.keys(), *thing.values()]
    elif isinstance(thing, (list, tuple, set, frozenset)):
        children = list(thing)
    elif hasattr(thing, "__dict__"):
        children = list(vars(thing).values())
    for child in children:
        yield from things_in(child, depth + 1)


def test_a_spy_sees_its_training_rows_and_held_out_maps_without_label_key_or_row_number(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = toy()
    job, store = job_on(data, parse_genotype(NETWORK.format(normalisation="spy")), tmp_path)
    assert run_job(job, store).failure == ""
    (maps,) = store.maps.values()
    training = {maps[row].numpy().tobytes() for row in job.train_rows}
    held_out = {maps[row].numpy().tobytes() for row in job.predict_rows}
    assert not training & held_out

    fitted = [seen.thing for seen in SEEN if seen.where == "fit"]
    assert len(fitted) == 1
    names = [clip.key for clip in data] + list(data.subjects)
    arrays = []
    for thing in things_in(fitted):
        assert not (isinstance(thing, str) and any(name in thing for name in names))
        if isinstance(thing, (torch.Tensor, np.ndarray)):
            arrays.append(torch.as_tensor(thing))
    floats = [array for array in arrays if array.is_floating_point()]
    whole = [array for array in arrays if not array.is_floating_point()]
    for array in floats:
        assert {row.numpy().tobytes() for row in array} <= training
    for array in whole:  # the only whole numbers are the labels of the training rows, not the row numbers
        assert array.tolist() == job.train_labels.tolist()
    assert floats
    assert whole

    trained = [row.numpy().tobytes() for seen in SEEN if seen.where == "train" for row in seen.thing]
    assert trained
    assert set(trained) <= training
    predicted = [row.numpy().tobytes() for seen in SEEN if seen.where == "predict" for row in seen.thing]
    assert set(predicted) == held_out


def test_a_fit_scope_wider_than_the_training_rows_is_refused_by_name(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    outcome = run_job(*job_on(toy(), parse_genotype(NETWORK.format(normalisation="greedy")), tmp_path))
    assert outcome.probabilities is None
    assert outcome.failure.startswith('custody: normalisation "greedy"')
    assert "'all rows'" in outcome.failure


def test_asking_for_a_row_outside_the_training_rows_is_refused_by_name(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    outcome = run_job(*job_on(toy(), parse_genotype(NETWORK.format(normalisation="curious")), tmp_path))
    assert outcome.failure.startswith('custody: normalisation "curious"')
    view = TrainingView([torch.zeros(3, 1, 2, 2)], torch.zeros(3, dtype=torch.int64), 2, [("u",)])
    for rows in ([-1], [3], [0, 7]):
        with pytest.raises(CustodyError):
            view.take(rows)


def test_the_payload_of_a_job_and_the_shared_object_hold_no_label_key_or_path_of_held_out_clips(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    from mernas.search.run import run_search

    data = toy()
    book = finished.plan.book
    names = [part.encode() for clip in data for part in (clip.key, clip.subject, *clip.key.split("/")[1:])]
    names += [name.encode() for name in data.classes]
    checked = 0

    def inspect(block: Block) -> None:
        nonlocal checked
        luggage = pickle.dumps(block)
        assert not any(name in luggage for name in names)
        assert all(isinstance(maps, torch.Tensor) for maps in block.store.maps.values())
        for job in block.jobs:
            assert len(job.train_labels) == len(job.train_rows)
            assert not set(job.train_rows) & set(job.predict_rows)
            assert job.train_labels.tolist() == book.labels[job.train_rows].tolist()
            numbers = [thing for thing in things_in(job) if isinstance(thing, np.ndarray)]
            assert len(numbers) == 3  # training rows, their labels, rows to predict: no fourth that could leak
            checked += 1

    class Customs(SerialExecutor):
        def run(self, feed: Feed, on_outcome: Any, stopping: Any) -> None:
            def inspected() -> Block | None:
                block = feed()
                if block is not None:
                    inspect(block)
                return block

            super().run(inspected, on_outcome, stopping)

    run_search(data, space=toy_space, out=tmp_path / "run", executor=Customs(), **small)
    assert checked > 50


def test_row_numbers_do_not_tell_the_order_of_the_clips(toy: Callable[..., Dataset]) -> None:
    data = toy(subjects=9)
    book = number_rows(data, seed=0)
    order = book.clips.tolist()
    assert sorted(order) == list(range(len(data)))
    assert abs(np.corrcoef(order, range(len(order)))[0, 1]) < 0.4
    assert number_rows(data, seed=1).clips.tolist() != order
    assert book.labels.tolist() == data.labels[book.clips].tolist()
