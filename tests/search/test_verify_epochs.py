"""Verifying predictions by epoch: as many as the pipeline trains for, the last of them what the job predicts."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.training.scratch import Scratch
from mernas.evaluation.fitting import run_job
from mernas.evaluation.folds_together import run_together
from mernas.evaluation.jobs import JobKey, Outcome, make_job, numeric_path
from mernas.evaluation.rows import number_rows
from mernas.search.features import FeatureShelf
from mernas.search.ledger import JobRecord
from mernas.search.plan import Plan
from mernas.search.reporter import Silent
from mernas.search.run import SearchResult
from mernas.search.verify import verify_run
from mernas.search.verify_check import Check
from mernas.search.verify_epochs import check_epochs
from mernas.search.verify_ledger import ReadJob, ReadLedger
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.registry import REGISTRY, register

NETWORK = """
streams: [{{input: {{optical_flow: {{estimator: {flow}, size: 14}}}}, backbone: [{{convolution: {{width: 4}}}}]}}]
tasks: [{{emotion: {{head: linear}}}}]
training: {training}
loss: cross_entropy
"""
TRAININGS = {
    "plain": "{scratch: {epochs: 3, batch: 8}}",
    "ema": "{scratch: {epochs: 3, batch: 8, averaging: {ema: {decay: 0.9999}}}}",
    "swa": "{scratch: {epochs: 3, batch: 8, averaging: {swa: {share: 1.0}}}}",
    "finetune": "{finetune: {source_epochs: 2, epochs: 3, head: reset}}",
}


def check(genotype: Genotype, left_out: str, rows: Any, outcome: Outcome) -> Check:
    """What verifying says of one job."""
    assert outcome.failure == ""
    key = JobKey(genotype.hash, (left_out,), 0, numeric_path("cpu"))
    record = JobRecord(key, rows, outcome.probabilities, outcome.epoch_predictions, "", 1.0)
    ledger = ReadLedger(Path("ledger.sqlite"), genotypes={genotype.hash: genotype})
    told = Check("jobs", "")
    plan = cast(Plan, SimpleNamespace(dataset=SimpleNamespace(classes=("negative", "positive", "surprise"))))
    check_epochs(plan, ledger, ReadJob(key.hash, key, (), record, 1, 1), told)
    return told


@pytest.mark.parametrize("kind", sorted(TRAININGS))
@pytest.mark.parametrize("together", [False, True])
def test_what_an_honest_job_predicts_last_is_what_it_predicts(
    kind: str, together: bool, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    """With averages of the weights, which differ far from them, and with two stages too."""
    if kind == "finetune" and together:
        pytest.skip("finetune does not train folds together")
    data = toy(signal=0.3)
    if kind == "finetune":
        data = Synthetic(subjects=4, clips=4, size=48, macro_subjects=3, macro_clips=3).load()
    text = NETWORK.format(training=TRAININGS[kind], flow="farneback" if kind == "finetune" else "given")
    genotype, book = parse_genotype(text), number_rows(data, seed=0)
    store = FeatureShelf(data, book, tmp_path, Silent()).store([genotype])
    _, job = make_job(genotype, [data.subjects[0]], book, 3, 0)
    outcome = run_together([job], store)[0] if together else run_job(job, store)
    honest = check(genotype, data.subjects[0], job.predict_rows, outcome)
    assert honest.findings == []
    assert honest.left_out == []
    assert honest.checked == 4
    assert outcome.epoch_predictions is not None
    forged = outcome.epoch_predictions.copy()
    forged[-1] = (forged[-1] + 1) % 3
    assert check(genotype, data.subjects[0], job.predict_rows, replace(outcome, epoch_predictions=forged)).findings


def outcome(probabilities: list[float], last: int) -> Outcome:
    return Outcome("", np.array([probabilities]), np.array([[0], [last]], dtype=np.int8))


@pytest.mark.parametrize(("second", "holds"), [(0.4, True), (0.3999, True), (0.39, False)])
def test_either_of_two_classes_that_are_tied_may_have_been_predicted_last(second: float, holds: bool) -> None:
    genotype = parse_genotype(NETWORK.format(training="{scratch: {epochs: 2}}", flow="given"))
    told = check(genotype, "a/b", np.array([5]), outcome([0.4, second, 0.6 - second], 1))
    assert (told.findings == []) == holds


def test_what_parts_of_third_parties_predict_last_is_left_out_and_said() -> None:
    @register("training", "longer")
    @dataclass(frozen=True, kw_only=True)
    class Longer(Scratch):
        """Trains on after the last epoch that it tells of."""

    try:
        genotype = parse_genotype(NETWORK.format(training="{longer: {epochs: 2}}", flow="given"))
        told = check(genotype, "a/b", np.array([5]), outcome([0.9, 0.1, 0.0], 1))
    finally:
        REGISTRY.remove("training", "longer")
    assert told.findings == []
    assert told.left_out == ["predictions by epoch of the strategy longer, which is not one of mernas"]


@pytest.fixture
def run(finished: SearchResult, tmp_path: Path) -> Path:
    """A copy of a finished run, to tamper with."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def forge(folder: Path, change: Callable[[bytes, int], bytes]) -> str:
    """Change the predictions by epoch of one outer job of several epochs, and return its key."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        query = "SELECT key, epochs, length(rows) / 8 FROM jobs WHERE length(epochs) > length(rows) / 8 ORDER BY key"
        key, epochs, rows = database.execute(query).fetchone()
        database.execute("UPDATE jobs SET epochs = ? WHERE key = ?", (change(epochs, rows), key))
    return str(key)


def findings(folder: Path) -> list[str]:
    return [str(one) for check in verify_run(folder).checks if check.name == "jobs" for one in check.findings]


def test_forged_predictions_of_the_last_epoch_are_caught(run: Path) -> None:
    assert verify_run(run).holds
    key = forge(run, lambda epochs, rows: epochs[:-rows] + bytes((number + 1) % 3 for number in epochs[-rows:]))
    (found,) = findings(run)
    assert found.startswith(f"job {key} of genotype ")
    assert ", predictions by epoch, the last, rows [" in found
    assert found.endswith(", the most probable")


@pytest.mark.parametrize("change", [lambda epochs, rows: epochs[rows:], lambda epochs, rows: epochs + epochs[-rows:]])
def test_an_epoch_more_or_less_is_caught(run: Path, change: Callable[[bytes, int], bytes]) -> None:
    key = forge(run, change)
    (found,) = findings(run)
    assert found.startswith(f"job {key} of genotype ")
    assert ", predictions by epoch, epochs: found " in found
