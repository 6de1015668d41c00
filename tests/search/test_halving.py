"""Halving: whom a batch's short trainings stop, that nothing else decides it, and that a second reckoning agrees."""

from __future__ import annotations

import csv
import io
import math
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study._multi_objective import _fast_non_domination_rank

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.picking import Candidate
from mernas.search.executor import Interrupted
from mernas.search.halving import best_third, shortened
from mernas.search.ledger import Ledger
from mernas.search.record import Record
from mernas.search.run import SearchResult, run_search
from mernas.search.verify import verify_run
from mernas.search.verify_halving import _kept
from mernas.space.errors import PlanError
from mernas.space.genotype import from_complete, parse_genotype
from mernas.space.presets import load_preset

NETWORK = """
streams: [{{input: apex_frame, backbone: [{{convolution: {{width: 4}}}}]}}]
tasks: [{{emotion: {{head: linear}}}}]
training: {training}
loss: cross_entropy
"""
drawn = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9), st.booleans()), min_size=1, max_size=12)


@pytest.mark.parametrize(("epochs", "fewer"), [(1, 1), (2, 1), (9, 1), (10, 2), (40, 5), (800, 89)])
def test_a_short_training_has_a_ninth_of_the_epochs_rounded_up_and_differs_in_nothing_else(
    epochs: int, fewer: int
) -> None:
    whole = parse_genotype(NETWORK.format(training=f"{{scratch: {{epochs: {epochs}, batch: 12}}}}"))
    short = shortened(whole)
    assert short == parse_genotype(NETWORK.format(training=f"{{scratch: {{epochs: {fewer}, batch: 12}}}}"))
    assert from_complete(short.complete()) == short
    assert (short == whole) == (epochs == 1)


def test_fine_tuning_is_shorter_in_both_of_its_stages() -> None:
    whole = parse_genotype(NETWORK.format(training="{finetune: {epochs: 18, source_epochs: 27}}"))
    training = shortened(whole)["training"]
    assert (training["epochs"], training["source_epochs"]) == (2, 3)


def test_a_preset_keeps_everything_but_its_epochs() -> None:
    whole = load_preset("dual_inception").genotype
    short = shortened(whole)
    assert [leaf for leaf in short.root.walk() if leaf.name != "scratch"][1:] == [
        leaf for leaf in whole.root.walk() if leaf.name != "scratch"
    ][1:]


@given(drawn)
def test_who_goes_on_lies_on_the_best_fronts_as_optuna_ranks_them(points: list[tuple[int, int, bool]]) -> None:
    batch = [
        Candidate(f"{number:04x}", 10**size, score / 12, completed=finished)
        for number, (score, size, finished) in enumerate(points)
    ]
    kept = best_third(batch)
    finished = [one for one in batch if one.completed]
    room = math.ceil(len(batch) / 3)
    assert len(kept) == min(room, len(finished))
    assert [one for one in batch if one in kept] == kept
    if finished:
        values = np.array([[-one.uf1, math.log10(one.parameters)] for one in finished])
        ranks = dict(zip(finished, _fast_non_domination_rank(values), strict=True))
        worst = max(ranks[one] for one in kept)
        assert all(ranks[one] >= worst for one in finished if one not in kept)


@given(drawn)
def test_a_second_reckoning_keeps_the_same_ones(points: list[tuple[int, int, bool]]) -> None:
    batch = [
        Candidate(f"{number:04x}", 10**size, round(score / 12, 9), completed=finished)
        for number, (score, size, finished) in enumerate(points)
    ]
    again = _kept(
        [(one.uf1, one.parameters, one.genotype) for one in batch if one.completed], math.ceil(len(batch) / 3)
    )
    assert {one.genotype for one in best_third(batch)} == set(again)


def test_of_a_front_that_does_not_fit_its_ends_go_on_and_then_who_has_most_room() -> None:
    scores = {"a": (10, 0.1), "b": (100, 0.2), "c": (1_000, 0.3), "d": (100_000, 0.4), "e": (1_000_000, 0.9)}
    batch = [Candidate(name, size, score) for name, (size, score) in scores.items()]
    worse = [Candidate(f"worse {number}", 2_000_000, 0.05) for number in range(2)]
    assert [one.genotype for one in best_third([*batch, *worse])] == ["a", "d", "e"]  # a third of seven, rounded up


def test_of_candidates_that_are_all_alike_those_of_smallest_hash_go_on() -> None:
    batch = [Candidate(name, 900, 0.5) for name in ("e", "a", "d", "c", "b")]
    assert [one.genotype for one in best_third(batch)] == ["a", "b"]


def gaps(points: np.ndarray) -> np.ndarray:
    """Crowding distances of the members (n, 2) of a front that are in the order of their hashes."""
    total = np.zeros(len(points))
    for axis in points.T:
        if axis.max() > axis.min():
            order = np.argsort(axis, kind="stable")
            total[order[1:-1]] += (axis[order[2:]] - axis[order[:-2]]) / np.ptp(axis)
            total[order[[0, -1]]] = np.inf
    return total


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(0, 20))
def test_of_a_front_those_go_on_that_a_sort_by_numpys_gaps_puts_first(scores: list[int], others: int) -> None:
    # The better, the larger: so all of them are one front, on which several may be alike.
    front = [Candidate(f"{number:04x}", 2**score, round(score / 7, 9)) for number, score in enumerate(scores)]
    failed = [Candidate(f"failed {number}", 1, 0.0, completed=False) for number in range(others)]
    room = min(len(front), math.ceil((len(front) + others) / 3))
    distance = np.round(gaps(np.array([[one.uf1, math.log10(one.parameters)] for one in front])), 9)
    wanted = [front[place] for place in np.lexsort((scores, -distance))[:room]]
    assert set(best_third([*front, *failed])) == set(wanted)


def states(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "trials.csv").read_text())))


def test_a_third_of_every_batch_goes_on_and_a_second_reckoning_holds(halved: SearchResult) -> None:
    found = verify_run(halved.folder)
    assert found.holds, found.plain()
    assert any(check.name == "halving" and check.checked > 0 for check in found.checks)
    trials = halved.tables.trials
    for _, batch in trials[trials["state"].isin(["completed", "stopped"])].groupby(["group", "batch"]):
        assert (batch["state"] == "completed").sum() == math.ceil(len(batch) / 3)
        assert set(batch["folds"][batch["state"] == "stopped"]) == {0}
    ledger = Ledger(halved.folder / "ledger.sqlite", halved.plan.hash)
    record = Record(halved.plan, ledger)
    for study in halved.plan.studies:
        for draw in record.proposals(study):
            short = shortened(ledger.genotype(draw.genotype or "")).hash
            assert all(record.job(short, left_out) for _, left_out in halved.plan.inner_left_out(study))
    ledger.close()


def test_a_search_that_was_stopped_after_some_short_trainings_goes_on_to_the_same_result(
    halved: SearchResult,
    halved_settings: dict[str, Any],
    toy: Callable[..., Dataset],
    patient_space: Path,
    tmp_path: Path,
    countdown: Callable[[int], Callable[[], bool]],
) -> None:
    settings = {**halved_settings, "out": tmp_path / "run", "cache": tmp_path / "cache"}
    for after in (60, 75, 100):  # 36 clips are prepared first, so the cache must be the test's own
        with pytest.raises(Interrupted):
            run_search(toy(), space=patient_space, stopping=countdown(after), **settings)
    resumed = run_search(toy(), space=patient_space, **settings)
    assert resumed.tables.trials.equals(halved.tables.trials)
    assert resumed.tables.predictions.equals(halved.tables.predictions)


def test_halving_and_racing_together_hold(
    many: Dataset, patient_space: Path, halved_settings: dict[str, Any], tmp_path: Path
) -> None:
    both = run_search(many, space=patient_space, out=tmp_path / "run", **{**halved_settings, "racing": True})
    found = verify_run(both.folder)
    assert found.holds, found.plain()
    assert any(check.name == "halving and racing" for check in found.checks)


@pytest.fixture
def run(halved: SearchResult, tmp_path: Path) -> Path:
    """A copy of a finished run, to tamper with."""
    return Path(shutil.copytree(halved.folder, tmp_path / "run"))


def alter(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        assert database.execute(statement, values).rowcount > 0


def test_a_state_that_was_rewritten_is_noticed(run: Path) -> None:
    text = (run / "trials.csv").read_text()
    (run / "trials.csv").write_text(text.replace(",stopped,0,", ",completed,2,", 1))
    caught = {check.name for check in verify_run(run).checks if check.findings}
    assert {"trials.csv", "halving"} <= caught


def test_short_trainings_that_would_have_kept_another_one_are_noticed(run: Path, halved: SearchResult) -> None:
    """A stopped candidate's short training is made perfect in the ledger: then its study would have gone on with it."""
    plan = halved.plan
    line = next(line for line in states(run) if line["state"] == "stopped" and line["group"] == "0")
    ledger = Ledger(run / "ledger.sqlite", plan.hash)
    short = shortened(ledger.genotype(line["genotype"])).hash
    keys = [Record(plan, ledger).job_key(short, left_out) for _, left_out in plan.inner_left_out("0")]
    ledger.close()
    for key in keys:
        rows = plan.book.rows_of(key.left_out)
        perfect = np.eye(3)[plan.book.labels[rows]].astype("<f8").tobytes()
        alter(run, "UPDATE jobs SET probabilities = ? WHERE key = ?", perfect, key.hash)
    found = verify_run(run)
    assert not found.holds
    assert any(check.name == "answers" and check.findings for check in found.checks)


def test_a_missing_short_training_is_noticed(run: Path, halved: SearchResult) -> None:
    plan = halved.plan
    line = next(line for line in states(run) if line["state"] == "stopped")
    ledger = Ledger(run / "ledger.sqlite", plan.hash)
    short = shortened(ledger.genotype(line["genotype"])).hash
    ledger.close()
    alter(run, "DELETE FROM jobs WHERE genotype = ?", short)
    assert any("short training" in str(f) for check in verify_run(run).checks for f in check.findings)


def test_a_batch_that_fails_in_its_short_trainings_does_not_stop_the_search(
    toy: Callable[..., Dataset],
    patient_space: Path,
    halved_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then nobody of it goes on, and the next batch is proposed all the same."""
    score = Record.score

    def failing(record: Record, study: str, genotype: str) -> float | None:
        drawn = {draw.genotype for draw in record.proposals(study)}
        first = {draw.genotype for draw in record.proposals(study) if draw.batch == 0}
        short = {shortened(record.ledger.genotype(one or "")).hash for one in first}
        return None if genotype in short - drawn else score(record, study, genotype)

    monkeypatch.setattr(Record, "score", failing)
    result = run_search(toy(), space=patient_space, out=tmp_path / "run", **halved_settings)
    trials = result.tables.trials
    assert set(trials[trials["batch"] == 0]["state"]) & {"completed", "stopped", "failed"} == {"failed"}
    assert "completed" in set(trials[trials["batch"] == 1]["state"])


def test_halving_a_study_that_never_has_a_whole_batch_is_refused(toy: Callable[..., Dataset], toy_space: Path) -> None:
    with pytest.raises(PlanError, match="--halve: cannot be given with --asynchronous"):
        run_search(toy(), space=toy_space, halving=True, asynchronous=True)


def test_two_workers_of_ray_find_the_same(
    halved: SearchResult,
    halved_settings: dict[str, Any],
    toy: Callable[..., Dataset],
    patient_space: Path,
    tmp_path: Path,
) -> None:
    settings = {**halved_settings, "workers": 2, "executor": "ray"}
    result = run_search(toy(), space=patient_space, out=tmp_path / "run", **settings)
    assert result.tables.trials.equals(halved.tables.trials)
    assert result.tables.predictions.equals(halved.tables.predictions)


def test_short_trainings_whose_folds_train_together_hold(
    halved_settings: dict[str, Any], toy: Callable[..., Dataset], patient_space: Path, tmp_path: Path
) -> None:
    joined = run_search(toy(), space=patient_space, out=tmp_path / "run", together=True, **halved_settings)
    found = verify_run(joined.folder)
    assert found.holds, found.plain()
    assert "stopped" in set(joined.tables.trials["state"])
