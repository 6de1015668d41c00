"""The audit and the calibration of a run: made again by hand from its ledger, and blind to whom they are judged on."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import f1_score

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.audit import audit_epochs
from mernas.evaluation.calibration import fit_temperature
from mernas.search.audit import _best_epochs, make_audit
from mernas.search.calibrating import COVERAGES, calibrate
from mernas.search.evaluate import run_evaluation
from mernas.search.finished import FinishedRun, open_run
from mernas.search.noted_data import note_data, noted_data
from mernas.search.plan import FINAL
from mernas.search.record import Record
from mernas.search.run import SearchResult, check_audit, data_of, load_data, run_search
from mernas.search.verify import verify_run
from mernas.space.errors import DataError, PlanError
from mernas.space.genotype import parse_genotype


@pytest.fixture(scope="module")
def run(finished: SearchResult) -> FinishedRun:
    return open_run(finished.folder)


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """Every job as the file has it."""
    with closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM jobs")]


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float(f1_score(labels, predictions, labels=[0, 1, 2], average="macro", zero_division=0))


def test_a_run_read_from_its_directory_has_the_tables_that_it_wrote(finished: SearchResult, run: FinishedRun) -> None:
    for name, table in run.tables.files().items():
        assert table.to_csv(index=False, lineterminator="\n") == (finished.folder / name).read_text()


def test_a_directory_that_is_no_finished_run_is_refused_by_name(finished: SearchResult, tmp_path: Path) -> None:
    for name in ("plan.yaml", "ledger.sqlite"):
        (tmp_path / name).write_bytes((finished.folder / name).read_bytes())
    with pytest.raises(PlanError, match="not finished"):
        open_run(tmp_path)


@pytest.mark.parametrize("kept", ["front.csv", "predictions.csv"])
def test_a_run_whose_results_may_not_be_looked_at_is_refused_in_one_message(
    kept: str, finished: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.stat

    def refused(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == kept:  # root, who may run this, is never refused
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(PlanError) as caught:
        open_run(finished.folder)
    assert str(caught.value) == f"{finished.folder}: cannot be read, found Permission denied. Check permissions."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"flow-images=/gone\n", 'no longer as it says, found flow-images=/gone ("/gone": does not exist).'),
        (b"synthetik\n", 'no longer as it says, found synthetik (dataset "synthetik": is not known).'),
        (b"flow-images=/lat\xe9in\n", 'found flow-images=/lat\\udce9in ("/lat\\udce9in": does not exist).'),
    ],
)
def test_data_that_are_no_longer_where_they_lay_are_told_as_what_the_run_says(
    content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / "data.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        data_of(tmp_path)
    (message,) = [str(problem) for problem in caught.value.problems]
    assert message.startswith(f"{tmp_path / 'data.txt'}: ")
    assert message.endswith(f"{says} Say where the data lie now with --data NAME=PATH.")


def test_where_data_lay_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.txt").write_text("synthetic\n")

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(DataError, match=r"data\.txt: cannot be read, found Permission denied. Make it readable, or"):
        data_of(tmp_path)


def test_data_in_a_folder_whose_name_is_no_utf8_are_found_again(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"donn\xe9es \xe2\x80\xa8 x")  # U+2028 parts lines elsewhere, but not here
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    for subject, label in itertools.product(("s01", "s02"), (0, 1)):
        (folder / subject / "u_test" / str(label)).mkdir(parents=True)
        pixels = np.full((28, 28, 3), 100 + label + 10 * int(subject[1:]), np.uint8)
        coded = cv2.imencode(".png", pixels)[1].tobytes()
        (folder / subject / "u_test" / str(label) / f"{subject}_{subject}_{label}_01.png").write_bytes(coded)
    note_data(tmp_path, ["synthetic", f"flow-images={folder}"])
    assert noted_data(tmp_path) == ["synthetic", f"flow-images={folder}"]
    note_data(tmp_path, [f"flow-images={folder}"])
    found = data_of(tmp_path)
    assert found is not None
    assert found.fingerprint == load_data(f"flow-images={folder}").fingerprint


def test_data_are_loaded_again_from_where_the_run_says_that_they_lay(tmp_path: Path) -> None:
    assert data_of(tmp_path) is None
    (tmp_path / "data.txt").write_text("synthetic\n")
    loaded = data_of(tmp_path)
    assert loaded is not None
    assert loaded.fingerprint == load_data("synthetic").fingerprint


def test_the_best_epoch_of_every_subject_is_that_of_a_loop_over_the_ledger(run: FinishedRun) -> None:
    row = next(row for row in run.chosen.rules if row.rule == "best")
    jobs = {(job["genotype"], job["left_out"]): job for job in jobs_of(run.folder)}
    labels = run.plan.book.labels
    picked, last = np.full(len(labels), -1), np.full(len(labels), -1)
    for group, subjects in enumerate(run.plan.partition.groups):
        for subject in subjects:
            job = jobs[row.choices[str(group)].genotype, json.dumps([subject])]
            rows = np.frombuffer(job["rows"], dtype="<i8")
            epochs = np.frombuffer(job["epochs"], dtype="i1").reshape(-1, len(rows))
            right = [int((epoch == labels[rows]).sum()) for epoch in epochs]
            picked[rows] = epochs[right.index(max(right))]
            last[rows] = epochs[-1]
    found = next(one for one in make_audit(run).rows if one.row == "best")
    assert found.epoch_per_subject == pytest.approx(macro_f1(labels, picked))
    assert found.nested == pytest.approx(macro_f1(labels, last))
    assert found.inner == row.choices[FINAL].uf1
    assert (labels == picked).mean() >= (labels == last).mean()


def test_classical_rows_have_no_epochs_to_pick(run: FinishedRun) -> None:
    found = {one.row: one for one in make_audit(run).rows}
    assert found["majority"].epoch_per_subject is None
    assert found["majority"].common_epoch is None
    assert [one.row for one in make_audit(run).rows] == [row.title for row in (*run.rows, *run.baselines)]


def test_the_full_audit_is_loso_of_every_candidate_and_changes_no_result(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    small = {**small, "trials": 2, "batch": 2}
    plain = run_search(toy(), space=toy_space, out=tmp_path / "run", cache=tmp_path / "cache", **small)
    before = {path.name: path.read_bytes() for path in plain.folder.glob("*.csv")}
    assert make_audit(open_run(plain.folder)).full is None
    run_search(toy(), space=toy_space, out=tmp_path / "run", cache=tmp_path / "cache", audit="full", **small)
    after = {path.name: path.read_bytes() for path in plain.folder.glob("*.csv")}
    assert after == before
    run = open_run(plain.folder)
    full = make_audit(run).full
    assert full is not None
    assert full.candidates == 2
    by_hand = []
    for draw in run.record.proposals(FINAL):
        loso = run_evaluation(run.genotype(draw.genotype or ""), toy(), seed=small["seed"], cache=tmp_path / "cache")
        by_hand.append(loso.scores.uf1)
    assert full.best == pytest.approx(max(by_hand))
    assert verify_run(plain.folder).holds
    stated = json.loads((plain.folder / "audit.json").read_text())
    assert stated["loso_of_all_candidates_not_a_result"]["best"] == full.best


def test_an_evaluation_tells_what_its_epochs_would_make_of_it(toy: Callable[..., Dataset], tmp_path: Path) -> None:
    text = """
    streams: [{input: {optical_flow: {estimator: given, size: 14}}, backbone: [{convolution: {width: 3}}]}]
    tasks: [emotion]
    training: {scratch: {epochs: 3}}
    loss: cross_entropy
    """
    audit = run_evaluation(parse_genotype(text), toy(signal=0.5), cache=tmp_path).audit
    assert audit is not None
    assert audit.epochs == 3
    assert max(audit.common, audit.per_subject) >= audit.fixed
    alone = run_evaluation(parse_genotype(text), toy(signal=0.5), cache=tmp_path)
    assert audit.fixed == alone.scores.uf1


def test_ties_go_to_the_earliest_epoch_and_every_subject_picks_for_itself() -> None:
    labels = np.array([0, 1, 2, 2])
    epochs = np.array([[0, 0, 2, 0], [1, 1, 0, 0], [0, 1, 1, 2]])
    audit = audit_epochs(labels, epochs, ["a", "a", "b", "b"], classes=3)
    assert audit.best_per_subject.tolist() == [0, 1, 2, 0]
    assert audit.fixed == pytest.approx(macro_f1(labels, epochs[2]))


def test_a_studys_temperature_is_fitted_to_its_own_inner_predictions_and_nothing_else(run: FinishedRun) -> None:
    row = next(row for row in run.chosen.rules if row.rule == "best")
    told = calibrate(run.plan, run.record, row)
    assert told is not None
    jobs = {(job["genotype"], job["left_out"]): job for job in jobs_of(run.folder)}
    groups, labels = run.plan.partition.groups, run.plan.book.labels
    for study, choice in row.choices.items():
        probabilities, truth = [], []
        for other, group in enumerate(groups):
            if str(other) == study:
                continue
            sealed = () if study == FINAL else groups[int(study)]
            job = jobs[choice.genotype, json.dumps(sorted((*sealed, *group)))]
            rows = np.frombuffer(job["rows"], dtype="<i8")
            inside = np.isin(rows, run.plan.book.rows_of(group))
            probabilities.append(np.frombuffer(job["probabilities"], dtype="<f8").reshape(len(rows), 3)[inside])
            truth.append(labels[rows[inside]])
        fitted = fit_temperature(np.concatenate(probabilities), np.concatenate(truth))
        assert told.temperatures[study] == pytest.approx(fitted, rel=1e-4)


def test_labels_of_a_sealed_group_reach_neither_its_temperature_nor_its_threshold(run: FinishedRun) -> None:
    row = next(row for row in run.chosen.rules if row.rule == "best")
    honest = calibrate(run.plan, run.record, row)
    rows = run.plan.book.rows_of(run.plan.partition.groups[0])
    labels = run.plan.book.labels.copy()
    labels[rows] = (labels[rows] + 1) % 3
    spoilt_plan = replace(run.plan, book=replace(run.plan.book, labels=labels))
    spoilt = calibrate(spoilt_plan, Record(spoilt_plan, run.record.ledger), row)
    assert honest is not None
    assert spoilt is not None
    assert spoilt.temperatures["0"] == honest.temperatures["0"]
    assert spoilt.temperatures["1"] != honest.temperatures["1"]
    for one, other in zip(honest.abstention, spoilt.abstention, strict=True):
        assert one.thresholds["0"] == other.thresholds["0"]
    assert spoilt.temperatures["final"] != honest.temperatures["final"]


def test_abstention_reports_the_share_that_was_really_answered(run: FinishedRun) -> None:
    for row in (*run.rows, *run.baselines):
        told = calibrate(run.plan, run.record, row)
        assert told is not None
        assert [one.target for one in told.abstention] == list(COVERAGES)
        shares = [one.coverage for one in told.abstention]
        assert shares == sorted(shares, reverse=True)
        assert all(0 <= share <= 1 for share in shares)
        assert sum(told.before.counts) == len(run.plan.dataset) - told.failed


def test_one_pipeline_has_one_common_epoch_whatever_the_groups(run: FinishedRun) -> None:
    """Where every study chose the same, the common epoch is that of plain LOSO, for everybody together."""
    row = next(row for row in run.chosen.rules if row.rule == "best")
    genotype = row.choices["0"].genotype
    jobs = [job for job in run.jobs() if job.key.genotype == genotype and len(job.key.left_out) == 1]
    tested = {job.key.left_out[0] for job in jobs if job.key.repetition == 0}
    alone = [study for study, choice in row.choices.items() if choice.genotype == genotype and study != FINAL]
    expected = {subject for study in alone for subject in run.plan.partition.groups[int(study)]}
    assert expected <= tested
    labels, places = run.plan.book.labels, {job.key.left_out[0]: job for job in jobs}
    rows = np.concatenate([places[subject].rows for subject in sorted(expected)])
    kept = [places[subject].epoch_predictions for subject in sorted(expected)]
    epochs = np.concatenate([one for one in kept if one is not None], axis=1)
    best = max(range(len(epochs)), key=lambda epoch: macro_f1(labels[rows], epochs[epoch]))
    same = replace(row, choices=dict.fromkeys(alone, row.choices["0"]) | {FINAL: row.choices[FINAL]})
    found = _best_epochs(run, same, 0)
    assert found is not None
    predicted = np.full(len(labels), -1)
    predicted[rows] = epochs[best]
    assert found[0] == pytest.approx(macro_f1(labels, predicted))


def test_a_full_audit_is_refused_where_the_time_is_limited(finished: SearchResult) -> None:
    plan = finished.plan
    check_audit("full", plan)
    with pytest.raises(PlanError, match="cannot be given with --time"):
        check_audit("full", replace(plan, settings=replace(plan.settings, time=60.0)))
