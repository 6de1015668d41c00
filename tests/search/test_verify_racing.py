"""Verifying a run whose candidates raced: it holds, and whoever moves a decision is caught."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mernas.search.finished import open_run
from mernas.search.report import report_files
from mernas.search.run import SearchResult, write_report
from mernas.search.verify import verify_run
from mernas.search.verify_racing import decide_again


@pytest.fixture
def run(raced: SearchResult, tmp_path: Path) -> Path:
    """A copy of a finished run, to tamper with."""
    return Path(shutil.copytree(raced.folder, tmp_path / "run"))


def failed(folder: Path) -> dict[str, list[str]]:
    """What was found by the checks that failed, by name."""
    found = verify_run(folder)
    caught = {check.name: [str(finding) for finding in check.findings] for check in found.checks if check.findings}
    assert found.holds == (not caught)
    return caught


def alter(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        assert database.execute(statement, values).rowcount == 1


def trials(folder: Path, state: str) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and lines of trials.csv in some state."""
    lines = csv.DictReader(io.StringIO((folder / "trials.csv").read_text()))
    return [(number, line) for number, line in enumerate(lines, start=2) if line["state"] == state]


def rewrite(folder: Path, name: str, number: int, **cells: str) -> None:
    lines = list(csv.DictReader(io.StringIO((folder / name).read_text())))
    lines[number - 2] |= cells
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    (folder / name).write_text(text.getvalue())


def test_a_raced_run_holds_and_every_decision_is_found_again(raced: SearchResult) -> None:
    found = verify_run(raced.folder)
    assert found.holds, found.plain()
    (racing,) = [check for check in found.checks if check.name == "racing"]
    trials_table = raced.tables.trials
    accepted = trials_table[trials_table["state"].isin(["completed", "failed", "stopped"])]
    assert racing.checked == len(accepted) + len(raced.tables.choices)
    opened = open_run(raced.folder)
    states = decide_again(opened.plan, opened.ledger).states
    assert len(states) == len(accepted)
    assert {state for state, _ in states.values()} == {"completed", "stopped"}


def test_a_stopped_candidate_that_is_written_as_completed_or_stopped_elsewhere_is_noticed(run: Path) -> None:
    number, line = trials(run, "stopped")[0]
    rewrite(run, "trials.csv", number, state="completed", folds="2")
    assert failed(run).keys() == {"trials.csv", "racing"}
    rewrite(run, "trials.csv", number, state="stopped", folds=str(int(line["folds"]) + 1))
    assert failed(run).keys() == {"trials.csv", "racing"}
    rewrite(run, "trials.csv", number, state="stopped", folds=line["folds"])
    assert failed(run) == {}


def test_a_stopped_candidate_among_the_choices_is_noticed(run: Path) -> None:
    _, line = trials(run, "stopped")[0]
    choices = list(csv.DictReader(io.StringIO((run / "choices.csv").read_text())))
    number = next(place for place, one in enumerate(choices, start=2) if one["group"] == line["group"])
    rewrite(run, "choices.csv", number, genotype=line["genotype"])
    caught = failed(run)
    assert {"choices.csv", "racing"} <= caught.keys()
    assert any("found stopped, expected completed" in finding for finding in caught["racing"])


def test_predictions_that_would_have_saved_a_candidate_are_noticed(run: Path, raced: SearchResult) -> None:
    """Its first fold is made perfect in the ledger: then its study would have gone on with it."""
    plan = raced.plan
    _, line = trials(run, "stopped")[0]
    _, left_out = plan.inner_left_out(line["group"])[0]
    rows = plan.book.rows_of(left_out)
    perfect = np.eye(3)[plan.book.labels[rows]].astype("<f8").tobytes()
    where = "genotype = ? AND left_out = ?"
    alter(
        run, f"UPDATE jobs SET probabilities = ? WHERE {where}", perfect, line["genotype"], json.dumps(list(left_out))
    )
    assert "answers" in failed(run)  # its next fold was never trained


def test_a_missing_job_is_noticed_if_it_decides_something_and_only_then(run: Path, raced: SearchResult) -> None:
    plan = raced.plan
    opened = open_run(run)
    decisions = decide_again(opened.plan, opened.ledger)
    everything = {job.stated: job for job in opened.ledger.jobs}
    _, line = trials(run, "stopped")[0]
    ((first, second),) = [[left for _, left in plan.inner_left_out(line["group"])]]
    record = opened.record
    assert record.job_key(line["genotype"], first).hash in decisions.needed
    useless = record.job_key(line["genotype"], second).hash
    assert useless not in decisions.needed
    assert useless not in everything
    alter(run, "DELETE FROM jobs WHERE key = ?", record.job_key(line["genotype"], first).hash)
    assert "answers" in failed(run)


def test_a_job_that_came_too_late_to_decide_anything_is_allowed_and_changes_nothing(
    run: Path, raced: SearchResult
) -> None:
    """As when a worker had nothing else to do: the next fold of a stopped candidate, and it is perfect."""
    plan = raced.plan
    _, line = trials(run, "stopped")[0]
    _, left_out = plan.inner_left_out(line["group"])[1]
    key = open_run(run).record.job_key(line["genotype"], left_out)
    rows = plan.book.rows_of(left_out)
    perfect = np.eye(3)[plan.book.labels[rows]].astype("<f8").tobytes()
    read = sorted(set(plan.partition.subjects) - set(left_out))
    values = (key.hash, key.genotype, json.dumps(list(left_out)), 0, key.numeric_path, json.dumps(read))
    alter(
        run,
        "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, '', 1.0, 1.0, 'here', 1)",
        *values,
        rows.astype("<i8").tobytes(),
        perfect,
    )
    assert list(failed(run)) == ["report.html"]  # which counts the trainings
    write_report(run)
    assert failed(run) == {}


def test_a_plan_that_races_by_other_rules_is_noticed(run: Path) -> None:
    text = (run / "plan.yaml").read_text()
    assert "better_in: 0.99" in text
    (run / "plan.yaml").write_text(text.replace("better_in: 0.99", "better_in: 0.9"))
    assert any("racing" in finding for finding in failed(run)["plan"])


def test_the_report_says_how_many_candidates_were_stopped(raced: SearchResult) -> None:
    page = report_files(open_run(raced.folder))["report.html"].decode()
    trials_table = raced.tables.trials
    stopped = int((trials_table["state"] == "stopped").sum())
    accepted = int(trials_table["state"].isin(["completed", "failed", "stopped"]).sum())
    assert f"{stopped} of the studies&#39; {accepted} candidates" in page
    assert "accepted, and stopped before its last fold" in page


def test_a_plan_from_before_racing_still_verifies(finished: SearchResult) -> None:
    assert finished.plan.description["search"]["racing"] is False
    assert "folds" not in finished.tables.trials.columns
    assert verify_run(finished.folder).holds
