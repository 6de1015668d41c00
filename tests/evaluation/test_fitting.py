"""One job: equal seeds give equal bits, failures have names, and the watched epochs end with the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import Job, JobKey, make_job
from mernas.evaluation.preparation import prepare, recipes_of
from mernas.evaluation.rows import number_rows
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.registry import REGISTRY, register

TEXT = """
streams:
  - input: {{optical_flow: {{estimator: given, size: 14, centre: median}}}}
    backbone: [{{convolution: {{width: 4, dropout: 0.2}}}}]
tasks: [{{emotion: {{head: linear}}}}]
augmentation: [flip, shift]
training: {{scratch: {{epochs: 6, batch: 16, optimizer: {{adamw: {{lr: 0.02}}}}}}}}
loss: {loss}
"""


@pytest.fixture
def job_of(toy: Callable[..., Dataset], tmp_path: Path) -> Callable[..., tuple[Job, FeatureStore]]:
    def made(loss: str = "cross_entropy", left_out: int = 1, seed: int = 0) -> tuple[Job, FeatureStore]:
        data = toy(signal=1.0)
        genotype: Genotype = parse_genotype(TEXT.format(loss=loss))
        book = number_rows(data, seed=0)
        _, job = make_job(genotype, data.subjects[:left_out], book, len(data.classes), seed)
        clips = [data.clips[place] for place in book.clips]
        maps = {recipe.hash: torch.from_numpy(prepare(clips, recipe, tmp_path)) for recipe in recipes_of([genotype])}
        return job, FeatureStore(maps)

    return made


def test_equal_jobs_give_equal_bits_whatever_was_drawn_before(job_of: Callable[..., tuple[Job, FeatureStore]]) -> None:
    job, store = job_of()
    first = run_job(job, store)
    torch.manual_seed(99)
    torch.rand(1000)
    state = torch.get_rng_state()
    second = run_job(job, store)
    assert first.failure == second.failure == ""
    assert first.probabilities is not None
    assert second.probabilities is not None
    assert first.probabilities.tobytes() == second.probabilities.tobytes()
    assert torch.equal(torch.get_rng_state(), state)  # and the job leaves the process's generator as it found it


def test_another_run_seed_gives_another_training(job_of: Callable[..., tuple[Job, FeatureStore]]) -> None:
    first, second = run_job(*job_of()), run_job(*job_of(seed=1))
    assert first.probabilities is not None
    assert second.probabilities is not None
    assert first.probabilities.tobytes() != second.probabilities.tobytes()


def test_the_watched_epochs_end_with_the_prediction_and_watching_changes_no_bit(
    job_of: Callable[..., tuple[Job, FeatureStore]],
) -> None:
    job, store = job_of()
    assert job.watch_epochs
    watched, blind = run_job(job, store), run_job(replace(job, watch_epochs=False), store)
    assert watched.epoch_predictions is not None
    assert blind.epoch_predictions is None
    assert watched.probabilities is not None
    assert blind.probabilities is not None
    assert watched.epoch_predictions.shape == (6, 6)
    assert watched.epoch_predictions[-1].tolist() == watched.probabilities.argmax(axis=1).tolist()
    assert watched.probabilities.tobytes() == blind.probabilities.tobytes()


def test_epochs_are_watched_only_where_one_subject_is_left_out(job_of: Callable[..., tuple[Job, FeatureStore]]) -> None:
    job, store = job_of(left_out=2)
    assert not job.watch_epochs
    assert run_job(job, store).epoch_predictions is None


def test_a_job_learns_what_there_is_to_learn(
    job_of: Callable[..., tuple[Job, FeatureStore]], toy: Callable[..., Dataset]
) -> None:
    job, store = job_of(left_out=2)
    outcome = run_job(job, store)
    assert outcome.probabilities is not None
    labels = number_rows(toy(signal=1.0), seed=0).labels[job.predict_rows]
    assert (outcome.probabilities.argmax(axis=1) == labels).mean() > 0.8


@dataclass(frozen=True)
class Failing:
    """A loss that fails in the way that its name says."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows) -> nn.Module:
        return FailingModule(type(self).__name__)


class NotANumber(Failing):
    pass


class NoMemory(Failing):
    pass


class Crash(Failing):
    pass


class FailingModule(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.way == "NoMemory":
            raise torch.OutOfMemoryError("it asked for 900 GiB")
        if self.way == "Crash":
            raise KeyError("surprise")
        return logits.sum() * float("nan")


@pytest.fixture
def failing() -> Iterator[None]:
    made = {"not_a_number": NotANumber, "no_memory": NoMemory, "crash": Crash}
    for name, factory in made.items():
        register("loss", name)(factory)
    yield
    for name in made:
        REGISTRY.remove("loss", name)


@pytest.mark.parametrize(
    ("loss", "name"), [("not_a_number", "not-finite"), ("no_memory", "out-of-memory"), ("crash", "crash: KeyError")]
)
@pytest.mark.usefixtures("failing")
def test_a_failure_is_recorded_by_name_and_ends_nothing(
    loss: str, name: str, job_of: Callable[..., tuple[Job, FeatureStore]]
) -> None:
    outcome = run_job(*job_of(loss=loss))
    assert outcome.probabilities is None
    assert outcome.failure.startswith(name)


def test_job_keys_tell_jobs_apart_and_ignore_the_order_of_subjects() -> None:
    key = JobKey("aa", ("x/1", "x/2"), 0, "cpu, 1 thread, single folds")
    others = [
        JobKey("ab", ("x/1", "x/2"), 0, "cpu, 1 thread, single folds"),
        JobKey("aa", ("x/1",), 0, "cpu, 1 thread, single folds"),
        JobKey("aa", ("x/1", "x/2"), 1, "cpu, 1 thread, single folds"),
        JobKey("aa", ("x/1", "x/2"), 0, "cuda, 1 thread, single folds"),
    ]
    assert len({key.hash, *(other.hash for other in others)}) == 5


def test_left_out_subjects_are_predicted_and_never_trained_on(toy: Callable[..., Dataset]) -> None:
    data = toy()
    book = number_rows(data, seed=0)
    genotype = parse_genotype(TEXT.format(loss="cross_entropy"))
    first, _ = make_job(genotype, data.subjects[:2], book, 3, 0)
    second, job = make_job(genotype, data.subjects[:2][::-1], book, 3, 0)
    assert first == second
    assert sorted([*job.train_rows, *job.predict_rows]) == list(range(len(data)))
    assert {book.subjects[row] for row in job.predict_rows} == set(data.subjects[:2])
    np.testing.assert_array_equal(job.train_labels, book.labels[job.train_rows])


def test_a_job_leaves_the_numeric_state_of_its_process_as_it_was(
    job_of: Callable[..., tuple[Job, FeatureStore]],
) -> None:
    threads = torch.get_num_threads()
    run_job(*job_of())
    assert torch.get_num_threads() == threads
    assert np.float32(1e-40) * np.float32(1) > 0  # denormal numbers are not flushed any more
    assert (torch.tensor(1e-40) * 1.0).item() > 0
