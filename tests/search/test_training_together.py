"""Folds together, as a run sees them: a numeric path of its own, recorded whole, tried again whole, equal otherwise."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import fit_and_predict
from mernas.evaluation.jobs import Job, Outcome, make_job
from mernas.evaluation.rows import number_rows
from mernas.search import shared_batches
from mernas.search.dispatch import Dispatcher
from mernas.search.evaluate import run_evaluation
from mernas.search.executor import Block, Feed, Interrupted
from mernas.search.features import FeatureShelf
from mernas.search.plan import Settings
from mernas.search.reporter import Silent
from mernas.search.run import SearchResult, run_search
from mernas.search.shared_batches import fold_batches, shared_group
from mernas.search.verify import verify_run
from mernas.space.errors import RunError
from mernas.space.genotype import parse_genotype
from mernas.space.registry import REGISTRY, register

TEXT = """
streams: [{input: {optical_flow: {estimator: given, size: 14}}, backbone: [{convolution: {width: 3, norm: biasless}}]}]
tasks: [{emotion: {head: linear}}]
training: {scratch: {epochs: 2, batch: 8}}
loss: cross_entropy
"""


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def probabilities(data: Dataset, **settings: object) -> np.ndarray:
    result = run_evaluation(parse_genotype(TEXT), data, executor="serial", **settings)  # type: ignore[arg-type]  # of any
    assert result.scores.failed == 0
    return result.predictions.filter(like="p_").to_numpy()


def test_an_evaluation_of_folds_together_predicts_what_its_jobs_predict_alone(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = toy()
    found = probabilities(data, together=True)
    book = number_rows(data, 0)
    store = FeatureShelf(data, book, tmp_path, Silent()).store([parse_genotype(TEXT)])
    for subject in data.subjects:
        _, job = make_job(parse_genotype(TEXT), (subject,), book, 3, 0, together=True)
        alone, _ = fit_and_predict(job, store)
        assert np.abs(found[book.clips[job.predict_rows]] - alone).max() < 1e-4


@dataclass(frozen=True)
class Anchored:
    """An auxiliary loss with a parameter of its own."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        return Anchor(features)


class Anchor(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(features))

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        return (vectors - self.place).square().mean()


@pytest.fixture
def anchored() -> Iterator[None]:
    register("auxiliary_loss", "anchored")(Anchored)
    yield
    REGISTRY.remove("auxiliary_loss", "anchored")


@pytest.mark.usefixtures("anchored")
def test_what_cannot_train_together_is_trained_fold_by_fold_with_the_same_bits_and_says_so(
    toy: Callable[..., Dataset],
) -> None:
    heard = Listening()
    genotype = parse_genotype(f"{TEXT}auxiliary_loss: anchored")
    apart = run_evaluation(genotype, toy(), executor="serial")
    asked = run_evaluation(genotype, toy(), executor="serial", together=True, reporter=heard)
    assert [line for line in heard.said if "one by one" in line and "parameters of its own" in line]
    assert apart.predictions.equals(asked.predictions)


def test_who_trains_folds_together_on_a_processor_is_told_that_it_is_slower(toy: Callable[..., Dataset]) -> None:
    heard = Listening()
    run_evaluation(parse_genotype(TEXT), toy(), executor="serial", together=True, reporter=heard)
    assert [line for line in heard.said if "slower than without it" in line]
    heard = Listening()
    run_evaluation(parse_genotype(TEXT), toy(), executor="serial", reporter=heard)
    assert heard.said == []


def test_a_stopped_evaluation_goes_on_with_whole_batches_and_ends_with_the_same_bits(
    toy: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_batches, "MOST_TOGETHER", 2)  # six folds in three batches
    undisturbed = probabilities(toy(), together=True)
    asked = iter([False, False, True])
    with pytest.raises(Interrupted):
        probabilities(toy(), together=True, keep=tmp_path, stopping=lambda: next(asked))
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    (kept,) = database.execute("SELECT count(*) FROM jobs").fetchone()
    assert kept in (2, 4)
    assert np.array_equal(probabilities(toy(), together=True, keep=tmp_path), undisturbed)
    paths = database.execute("SELECT numeric_path, count(*) FROM jobs GROUP BY numeric_path").fetchall()
    assert paths == [("cpu, 1 thread, folds in lanes", 6)]
    database.close()


def test_batches_of_folds_are_about_equally_large_and_smaller_for_large_networks(toy: Callable[..., Dataset]) -> None:
    job = jobs_of(toy())[0]
    assert [len(batch) for batch in fold_batches([job] * 68, 1_683)] == [68]
    assert [len(batch) for batch in fold_batches([job] * 90, 1_683)] == [45, 45]
    assert max(len(batch) for batch in fold_batches([job] * 68, 11_000_000)) <= 24
    assert len(fold_batches([job] * 3, 10**9)) == 3
    assert [len(batch) for batch in fold_batches([job] * 68, 1_683, steps=3_000)] == [17] * 4
    assert [len(batch) for batch in fold_batches([job] * 68, 1_683, steps=10**6)] == [*[7, 8] * 4, 8]


def jobs_of(data: Dataset) -> list[Job]:
    book = number_rows(data, 0)
    genotype = parse_genotype(TEXT)
    return [make_job(genotype, (subject,), book, 3, 0, together=True)[1] for subject in data.subjects[:3]]


class Scripted:
    """An executor that runs nothing and hands back failures, one list for each block that it is given."""

    workers = 1

    def __init__(self, script: Sequence[Sequence[str]]) -> None:
        self.script = list(script)
        self.blocks: list[Block] = []

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        while (block := feed()) is not None:
            self.blocks.append(block)
            for job, failure in zip(block.jobs, self.script.pop(0), strict=True):
                given = None if failure else np.full((len(job.predict_rows), 3), 1 / 3)
                on_outcome(job, Outcome(job.key, given, failure=failure, attempts=job.attempt))

    def close(self) -> None:
        pass


Recorded = list[list[tuple[str, str, int]]]


def dispatched(executor: Scripted, jobs: Sequence[Job]) -> Recorded:
    recorded: Recorded = []

    def batch(pairs: Sequence[tuple[Job, Outcome]]) -> None:
        recorded.append([(job.key, outcome.failure, outcome.attempts) for job, outcome in pairs])

    dispatcher = Dispatcher(
        executor, lambda job, outcome: batch([(job, outcome)]), lambda text: None, record_batch=batch
    )
    dispatcher.add_batch(jobs, FeatureStore({}))
    dispatcher.run(lambda: False)
    return recorded


def test_a_batch_is_recorded_at_once_with_the_failures_of_its_folds(toy: Callable[..., Dataset]) -> None:
    jobs = jobs_of(toy())
    executor = Scripted([["", "not-finite: x", ""]])
    assert dispatched(executor, jobs) == [
        [(jobs[0].key, "", 1), (jobs[1].key, "not-finite: x", 1), (jobs[2].key, "", 1)]
    ]
    assert [block.together for block in executor.blocks] == [True]


def test_a_batch_that_crashed_is_tried_again_whole_and_nothing_of_the_first_attempt_is_recorded(
    toy: Callable[..., Dataset],
) -> None:
    jobs = jobs_of(toy())
    executor = Scripted([["crash: x"] * 3, [""] * 3])
    assert dispatched(executor, jobs) == [[(job.key, "", 2) for job in jobs]]
    assert [[job.key for job in block.jobs] for block in executor.blocks] == [[job.key for job in jobs]] * 2
    assert all(block.together for block in executor.blocks)


def test_a_batch_that_crashes_again_and_again_is_held_back_whole(toy: Callable[..., Dataset]) -> None:
    jobs = jobs_of(toy())
    assert dispatched(Scripted([["crash: x"] * 3] * 2), jobs) == [[(job.key, "crash: x", 2) for job in jobs]]
    executor = Scripted([["crash: x"] * 3] * 6)
    dispatcher = Dispatcher(executor, lambda job, outcome: pytest.fail("recorded"), lambda text: None)
    for width in (2, 3, 4):
        genotype = parse_genotype(TEXT.replace("width: 3", f"width: {width}"))
        others = [replace(job, genotype=genotype, key=f"{width}{job.key}") for job in jobs]
        dispatcher.add_batch(others, FeatureStore({}))
    with pytest.raises(RunError, match="3 pipelines failed"):
        dispatcher.run(lambda: False)


def tables(result: SearchResult) -> list[bytes]:
    names = ("front.csv", "choices.csv", "predictions.csv", "trials.csv")
    return [(result.folder / name).read_bytes() for name in names]


def test_a_search_of_folds_together_is_another_plan_and_verifies(joined: SearchResult) -> None:
    assert joined.plan.numeric_path == "cpu, 1 thread, folds in lanes"
    found = verify_run(joined.folder)
    assert found.holds, [finding for check in found.checks for finding in check.findings]
    assert found.finished


def test_every_batch_of_a_search_is_in_the_ledger_whole_and_inner_ones_share_a_group(joined: SearchResult) -> None:
    groups = joined.plan.partition.groups
    database = sqlite3.connect(joined.folder / "ledger.sqlite")
    query = "SELECT genotype, left_out, started FROM jobs JOIN genotypes ON hash = genotype WHERE kind = 'network'"
    rows = database.execute(query).fetchall()
    database.close()
    batches: dict[tuple[str, float], list[list[str]]] = {}
    for genotype, left_out, started in rows:
        batches.setdefault((genotype, started), []).append(json.loads(left_out))
    assert any(len(batch) > 1 for batch in batches.values())
    for batch in batches.values():
        if any(set(group) <= set(batch[0]) for group in groups):
            (shared,) = {shared_group(left_out, groups) for left_out in batch}
            assert len(batch) == 2  # with three groups: the group alone, and the pair with the next one
            assert all(set(groups[shared]) <= set(left_out) for left_out in batch)
        else:
            (group,) = {group for left_out in batch for group in groups if left_out[0] in group}
            assert sorted(subject for (subject,) in batch) == sorted(group)


def test_a_search_of_folds_together_that_is_stopped_again_and_again_ends_as_if_it_never_had_been(
    joined: SearchResult,
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path: Path,
    countdown: Callable[[int], Callable[[], bool]],
) -> None:
    held = {"space": toy_space, "out": tmp_path / "run", "executor": "serial", "together": True, **small}
    for questions in (12, 17, 22):
        with pytest.raises(Interrupted):
            run_search(toy(), stopping=countdown(questions), **held)
    again = run_search(toy(), **held)
    assert tables(again) == tables(joined)


def test_racing_and_folds_together_are_refused_with_each_other() -> None:
    assert any("--together" in str(problem) for problem in Settings(racing=True, together=True).problems())
    assert not Settings(together=True).problems()
