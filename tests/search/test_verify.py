"""Verifying: a finished run holds, and every way to tamper with one is caught by the check that is made for it."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import f1_score

from mernas.cli import cli
from mernas.components.datasets.clip import Dataset
from mernas.search import verify_draws
from mernas.search.executor import Interrupted
from mernas.search.finished import open_run
from mernas.search.run import SearchResult, run_search
from mernas.search.verify import verify_run
from mernas.space.errors import LedgerError, PlanError

TABLES = {"front.csv", "rules.csv", "choices.csv", "predictions.csv", "trials.csv"}
TABLES |= {"baselines.csv", "baseline_predictions.csv", "scores.csv"}
REPORT = {"report.html", "tables.md", "tables.tex", "audit.json", "calibration.csv"}
LEDGER_CHECKS = {"plan", "partition", "genotypes", "draws", "space", "jobs", "custody", "answers"}


@pytest.fixture(autouse=True)
def _counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same few networks are counted again and again; nothing that a test does can change the counts."""
    monkeypatch.setattr(verify_draws, "count_parameters", _counted)


_counted = functools.cache(verify_draws.count_parameters)


@pytest.fixture
def run(finished: SearchResult, tmp_path: Path) -> Path:
    """A copy of a finished run, to tamper with."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def failed(folder: Path) -> dict[str, list[str]]:
    """What was found by the checks that failed, by name."""
    found = verify_run(folder)
    caught = {check.name: [str(finding) for finding in check.findings] for check in found.checks if check.findings}
    assert found.holds == (not caught)
    return caught


def change(folder: Path, name: str, line: int, column: str, new: Callable[[str], str]) -> str:
    """Change one cell of a CSV file and return what was there; line 1 is the heading."""
    rows = list(csv.reader(io.StringIO((folder / name).read_text())))
    place = rows[0].index(column)
    old = rows[line - 1][place]
    rows[line - 1][place] = new(old)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    (folder / name).write_text(text.getvalue())
    return old


def alter(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        assert database.execute(statement, values).rowcount == 1


def ask(folder: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro&immutable=1", uri=True)) as database:
        return database.execute(query, values).fetchall()


def inner_job(folder: Path) -> tuple[Any, ...]:
    """An inner job of an accepted candidate: key, genotype, left out, read, rows, probabilities."""
    query = (
        "SELECT key, genotype, left_out, read, rows, probabilities FROM jobs WHERE json_array_length(left_out) = 4"
        " AND genotype IN (SELECT genotype FROM draws WHERE study = '0' AND state = 'accepted') ORDER BY key"
    )
    return ask(folder, query)[0]


def key_hash(genotype: str, left_out: list[str], repetition: int, path: str) -> str:
    """The key of a job, by its definition."""
    text = json.dumps([genotype, left_out, repetition, path])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_finished_run_holds_in_every_check(finished: SearchResult) -> None:
    found = verify_run(finished.folder)
    assert found.finished
    assert found.holds, found.plain()
    others = {"files", "candidates", "scikit-learn"}
    assert {check.name for check in found.checks} == LEDGER_CHECKS | TABLES | REPORT | others
    assert all(check.checked > 0 and not check.left_out for check in found.checks)
    assert found.failed_jobs == ()


def test_verifying_writes_nothing(run: Path) -> None:
    def contents() -> dict[Path, tuple[bytes, int]]:
        # SQLite itself keeps the marks of readers in the -shm file of a ledger that some process has open.
        files = [path for path in run.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = contents()
    assert verify_run(run).holds
    assert contents() == before


def test_a_run_of_several_repetitions_and_a_narrow_limit_holds(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    changed = {**small, "trials": 3, "batch": 2, "seeds": 2, "budgets": "150", "max_params": "150"}
    run_search(toy(), space=toy_space, out=folder, cache=tmp_path / "cache", **changed)
    assert ask(folder, "SELECT max(repetition) FROM jobs") == [(1,)]
    states = {state for (state,) in ask(folder, "SELECT DISTINCT state FROM draws")}
    assert {"accepted", "infeasible"} <= states
    assert failed(folder) == {}
    ((number,),) = ask(folder, "SELECT min(number) FROM draws WHERE study = 'final' AND state = 'infeasible'")
    alter(folder, "UPDATE draws SET state = 'duplicate' WHERE study = 'final' AND number = ?", number)
    change(folder, "predictions.csv", 40, "seed", lambda text: str(1 - int(text)))
    caught = failed(folder)
    assert {"draws", "predictions.csv", "scikit-learn"} <= caught.keys()
    assert any(finding.startswith(f"study final, draw {number}, parameters") for finding in caught["draws"])


def test_a_figure_changed_by_a_thousandth_is_caught(run: Path) -> None:
    old = change(run, "front.csv", 2, "nested_uf1", lambda text: repr(float(text) + 1e-3))
    caught = failed(run)
    assert caught.keys() == {"front.csv", "scikit-learn"}
    assert caught["front.csv"] == [f"front.csv line 2, nested_uf1: found {float(old) + 1e-3!r}, expected {old}"]


def test_a_changed_last_digit_of_any_table_is_caught(run: Path) -> None:
    columns = {"choices.csv": "inner_uf1", "trials.csv": "inner_uf1", "scores.csv": "uf1"}
    columns |= {"predictions.csv": "p_negative", "baseline_predictions.csv": "p_negative"}
    changed = {}
    for name in sorted(TABLES):
        rows = list(csv.DictReader(io.StringIO((run / name).read_text())))
        column = columns.get(name, "ci_low")
        line = next(place for place, row in enumerate(rows, start=2) if row[column])
        change(run, name, line, column, lambda text: repr(float(np.nextafter(float(text), 2))))
        changed[name] = f"{name} line {line}, {column}"
    caught = failed(run)
    assert {name: [finding.partition(":")[0] for finding in findings] for name, findings in caught.items()} == {
        name: [where] for name, where in changed.items()
    }


def test_a_swapped_prediction_row_is_caught(run: Path) -> None:
    lines = (run / "predictions.csv").read_text().split("\n")
    lines[1], lines[2] = lines[2], lines[1]
    (run / "predictions.csv").write_text("\n".join(lines))
    caught = failed(run)
    assert list(caught) == ["predictions.csv"]
    assert any(finding.startswith("predictions.csv line 2, clip") for finding in caught["predictions.csv"])


def test_a_label_changed_once_is_found_where_it_is(run: Path) -> None:
    old = change(run, "predictions.csv", 2, "label", lambda text: "surprise" if text != "surprise" else "negative")
    caught = failed(run)
    assert caught.keys() == {"predictions.csv", "scikit-learn"}
    assert caught["predictions.csv"][0].endswith(f"expected {old}")


def test_labels_changed_everywhere_do_not_have_the_fingerprint_of_the_plan(run: Path) -> None:
    for name in ("predictions.csv", "baseline_predictions.csv"):
        text = (run / name).read_text()
        swapped = text.replace(",negative,", ",\0,").replace(",positive,", ",negative,").replace(",\0,", ",positive,")
        (run / name).write_text(swapped)
    caught = failed(run)
    assert any(finding.startswith("plan.yaml, labels") for finding in caught["plan"])


def test_a_changed_inner_prediction_is_caught(run: Path) -> None:
    key, _, _, _, _, blob = inner_job(run)
    table = np.frombuffer(blob, dtype="<f8").reshape(-1, 3)
    turned = np.ascontiguousarray(table[:, [1, 2, 0]])  # still probabilities, of other classes
    alter(run, "UPDATE jobs SET probabilities = ? WHERE key = ?", turned.tobytes(), key)
    # It may have changed what a study chooses: then outer trainings are missing that such a choice would have had.
    assert {"trials.csv", "answers"} & set(failed(run))


@pytest.mark.parametrize("value", [float("nan"), -0.1])
def test_probabilities_that_are_none_are_caught(run: Path, value: float) -> None:
    key, _, _, _, _, blob = inner_job(run)
    table = np.frombuffer(blob, dtype="<f8").copy()
    table[0] = value
    alter(run, "UPDATE jobs SET probabilities = ? WHERE key = ?", table.tobytes(), key)
    assert any(finding.startswith(f"job {key}") for finding in failed(run)["jobs"])


def test_a_probability_of_the_outer_test_changed_by_its_last_bit_is_caught(run: Path, finished: SearchResult) -> None:
    genotype = finished.tables.predictions["genotype"].iloc[0]
    subject = finished.tables.predictions["subject"].iloc[0]
    query = "SELECT key, probabilities FROM jobs WHERE genotype = ? AND left_out = ?"
    ((key, blob),) = ask(run, query, genotype, json.dumps([subject]))
    table = np.frombuffer(blob, dtype="<f8").copy()
    table[0] = np.nextafter(table[0], 1)
    alter(run, "UPDATE jobs SET probabilities = ? WHERE key = ?", table.tobytes(), key)
    assert list(failed(run)) == ["predictions.csv"]


def test_a_job_that_read_whom_it_left_out_is_caught(run: Path) -> None:
    key, _, left_out, read, _, _ = inner_job(run)
    told = sorted([*json.loads(read), json.loads(left_out)[0]])
    alter(run, "UPDATE jobs SET read = ? WHERE key = ?", json.dumps(told), key)
    caught = failed(run)
    assert list(caught) == ["custody"]
    assert any(f"{json.loads(left_out)[0]}, left out and read" in finding for finding in caught["custody"])
    assert any(finding.startswith("study ") for finding in caught["custody"])


def test_a_job_that_read_too_few_is_caught(run: Path) -> None:
    key, _, _, read, _, _ = inner_job(run)
    alter(run, "UPDATE jobs SET read = ? WHERE key = ?", json.dumps(json.loads(read)[1:]), key)
    assert list(failed(run)) == ["custody"]


def test_a_forged_job_that_read_a_study_s_own_group_is_caught(run: Path, finished: SearchResult) -> None:
    """In place of the job without groups 0 and k, one that left out k alone, consistent in itself."""
    key, genotype, left_out, read, rows, blob = inner_job(run)
    groups = finished.plan.partition.groups
    own = next(group for group in groups if set(group) <= set(json.loads(left_out)))
    forged = sorted(set(json.loads(left_out)) - set(own))
    told = sorted({*json.loads(read), *own})
    path = finished.plan.numeric_path
    inside = np.isin(np.frombuffer(rows, dtype="<i8"), finished.plan.book.rows_of(forged))
    statement = "UPDATE jobs SET key = ?, left_out = ?, read = ?, rows = ?, probabilities = ? WHERE key = ?"
    values = (
        key_hash(genotype, forged, 1, path),
        json.dumps(forged),
        json.dumps(told),
        np.frombuffer(rows, dtype="<i8")[inside].tobytes(),
        np.frombuffer(blob, dtype="<f8").reshape(-1, 3)[inside].tobytes(),
        key,
    )
    alter(run, statement.replace("SET key", "SET repetition = 1, key"), *values)
    caught = failed(run)
    assert {"jobs", "answers"} <= caught.keys()
    assert any("no such job" in finding for finding in caught["answers"])
    assert any("a job that a proposal, baseline or choice asked for" in finding for finding in caught["answers"])


OUTER_JOB_OF_A_NETWORK = "FROM jobs WHERE json_array_length(left_out) = 1 AND epochs IS NOT NULL ORDER BY key LIMIT 1"


def as_many_epochs(folder: Path, key: str, genotype: str) -> bytes:
    """The predictions after the last epoch of a job, so often as another pipeline has epochs."""
    query = "SELECT json_extract(complete, '$[2].training[2].epochs') FROM genotypes WHERE hash = ?"
    ((count,),) = ask(folder, query, genotype)
    ((epochs, rows),) = ask(folder, "SELECT epochs, length(rows) / 8 FROM jobs WHERE key = ?", key)
    return bytes(epochs[-rows:] * count)


def test_a_job_that_nobody_asked_for_is_caught(run: Path, finished: SearchResult) -> None:
    """An outer job of a candidate that no study chose: whoever looked at it knew more than the plan allows."""
    tested = set(finished.tables.predictions["genotype"]) | set(finished.tables.baseline_predictions["genotype"])
    other = next(genotype for (genotype,) in ask(run, "SELECT genotype FROM draws WHERE state = 'accepted'")
                 if genotype not in tested)  # fmt: skip
    columns = "genotype, left_out, repetition, numeric_path"
    (source,) = ask(run, f"SELECT key, {columns} {OUTER_JOB_OF_A_NETWORK}")
    forged = key_hash(other, json.loads(source[2]), 0, source[4])
    alter(
        run,
        "INSERT INTO jobs SELECT ?, ?, left_out, repetition, numeric_path, read, rows, probabilities, ?, failure,"
        " seconds, started, host, attempts FROM jobs WHERE key = ?",
        forged, other, as_many_epochs(run, source[0], other), source[0],
    )  # fmt: skip
    caught = failed(run)
    assert list(caught) == ["answers", "report.html"]  # which counts the trainings
    assert caught["answers"][0].startswith(f"job {forged}")


def test_a_job_of_an_audit_that_was_recorded_before_the_choices_is_caught(run: Path, finished: SearchResult) -> None:
    """With an audit on record the job of the test above is in order, unless it came before one that a choice needs."""
    tested = set(finished.tables.predictions["genotype"]) | set(finished.tables.baseline_predictions["genotype"])
    final = ask(run, "SELECT genotype FROM draws WHERE state = 'accepted' AND study = 'final'")
    other = next(genotype for (genotype,) in final if genotype not in tested)
    columns = "genotype, left_out, repetition, numeric_path"
    (source,) = ask(run, f"SELECT key, {columns} {OUTER_JOB_OF_A_NETWORK}")
    forged = key_hash(other, json.loads(source[2]), 0, source[4])
    alter(run, "INSERT INTO about VALUES ('audit', 'full')")
    names = "left_out, repetition, numeric_path, read, rows, probabilities, ?, failure, seconds, started, host"
    epochs = as_many_epochs(run, source[0], other)
    copy = f"INSERT INTO jobs SELECT ?, ?, {names}, attempts FROM jobs WHERE key = ?"
    alter(run, copy, forged, other, epochs, source[0])
    assert failed(run) == {}
    alter(run, "UPDATE jobs SET rowid = -1 WHERE key = ?", forged)
    caught = failed(run)
    assert list(caught) == ["answers"]
    assert caught["answers"][0].startswith(f"job {forged}")


def test_a_job_filed_under_another_key_is_caught(run: Path) -> None:
    key = inner_job(run)[0]
    alter(run, "UPDATE jobs SET key = 'ffffffffffffffff' WHERE key = ?", key)
    assert any("expected ffffffffffffffff" in finding for finding in failed(run)["jobs"])


def test_predictions_by_epoch_of_a_job_that_must_not_watch_are_caught(run: Path) -> None:
    key, _, _, _, rows, _ = inner_job(run)
    alter(run, "UPDATE jobs SET epochs = ? WHERE key = ?", bytes(len(rows) // 8), key)
    caught = failed(run)
    assert list(caught) == ["jobs"]
    assert f"job {key}" in caught["jobs"][0]


def test_rows_of_others_are_caught(run: Path) -> None:
    key, _, _, _, rows, _ = inner_job(run)
    numbers = np.frombuffer(rows, dtype="<i8").copy()
    stranger = next(row for row in range(36) if row not in numbers)
    numbers[0] = stranger
    alter(run, "UPDATE jobs SET rows = ? WHERE key = ?", numbers.tobytes(), key)
    assert any("rows predicted" in finding for finding in failed(run)["jobs"])


@pytest.mark.parametrize(
    ("old", "new"),
    [("max_parameters: 3000", "max_parameters: 4000"), ("seed: 3", "seed: 4")],
)
def test_an_edited_plan_is_caught(run: Path, old: str, new: str) -> None:
    text = (run / "plan.yaml").read_text()
    assert text.count(old) == 1
    (run / "plan.yaml").write_text(text.replace(old, new))
    assert any("hash of its content" in finding for finding in failed(run)["plan"])


def test_a_plan_edited_with_its_hash_is_not_that_of_the_ledger(run: Path) -> None:
    from mernas.space.yaml_text import dump_yaml, read_yaml

    plan = read_yaml(run / "plan.yaml")
    plan["search"]["job_time"] = 60.0
    content = {name: value for name, value in plan.items() if name not in ("hash", "space_file")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    plan["hash"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    (run / "plan.yaml").write_text(dump_yaml(plan))
    caught = failed(run)
    assert list(caught) == ["plan", "report.html", "tables.md", "tables.tex"]  # these state the hash
    assert caught["plan"][0].startswith("ledger.sqlite, hash of its plan")


def test_a_subject_in_two_groups_is_caught(run: Path, finished: SearchResult) -> None:
    from mernas.space.yaml_text import dump_yaml, read_yaml

    plan = read_yaml(run / "plan.yaml")
    plan["partition"][0].append(plan["partition"][1][0])
    (run / "plan.yaml").write_text(dump_yaml(plan))
    assert any("in one group once" in finding for finding in failed(run)["partition"])


def test_a_plan_of_nonsense_is_caught_without_a_traceback(run: Path) -> None:
    text = (run / "plan.yaml").read_text()
    (run / "plan.yaml").write_text(text.replace("budgets:", "budgetz:"))
    caught = failed(run)
    assert any("a plan that can be understood" in finding for finding in caught["plan"])


def test_a_choice_of_what_did_better_on_the_outer_test_is_caught(run: Path, finished: SearchResult) -> None:
    """A study's choice replaced by another of its candidates, figures and all, as if that had been chosen."""
    choices, trials = finished.tables.choices, finished.tables.trials
    chosen = choices[(choices["group"] == "0") & (choices["rule"] == "best")].iloc[0]
    others = trials[(trials["group"] == "0") & (trials["state"] == "completed")]
    other = others[others["genotype"] != chosen["genotype"]].iloc[0]
    line = int(chosen.name) + 2
    for column in ("genotype", "params", "inner_uf1"):
        value = other[column]
        change(run, "choices.csv", line, column, lambda _, value=value: str(value))  # type: ignore[misc]  # bound now
    caught = failed(run)
    assert list(caught) == ["choices.csv"]
    assert (
        f"choices.csv line {line}, genotype: found {other['genotype']}, expected {chosen['genotype']}"
        in (caught["choices.csv"])
    )


def test_an_edited_genotype_is_caught(run: Path, finished: SearchResult) -> None:
    genotype = finished.tables.front["genotype"].iloc[0]
    ((text,),) = ask(run, "SELECT complete FROM genotypes WHERE hash = ?", genotype)
    changed = text.replace('"epochs": 1', '"epochs": 7').replace('"epochs": 2', '"epochs": 7')
    assert changed != text
    alter(run, "UPDATE genotypes SET complete = ? WHERE hash = ?", changed, genotype)
    assert any(finding.startswith(f"genotype {genotype}") for finding in failed(run)["genotypes"])


def test_an_edited_parameter_count_is_caught(run: Path, finished: SearchResult) -> None:
    genotype = finished.tables.front["genotype"].iloc[0]
    alter(run, "UPDATE genotypes SET parameters = 7 WHERE hash = ?", genotype)
    caught = failed(run)
    assert {"genotypes", "draws"} <= caught.keys()


def test_a_deleted_draw_is_caught(run: Path) -> None:
    alter(run, "DELETE FROM draws WHERE study = '1' AND number = 1")
    assert any(finding.startswith("study 1, numbers of its draws") for finding in failed(run)["draws"])


def test_a_deleted_last_batch_is_caught_where_the_study_has_fewer_trials(run: Path) -> None:
    with closing(sqlite3.connect(run / "ledger.sqlite")) as database, database:
        database.execute("DELETE FROM draws WHERE study = '2' AND batch = 1")
    assert any(finding.startswith("study 2, trials that count") for finding in failed(run)["draws"])


def test_a_proposal_that_another_study_made_does_not_count_as_one_s_own(run: Path) -> None:
    ((number, genotype),) = ask(
        run,
        "SELECT number, genotype FROM draws WHERE study = '0' AND state = 'accepted' AND batch = 1 AND genotype NOT IN"
        " (SELECT genotype FROM draws WHERE study = '1' AND state = 'accepted') ORDER BY number LIMIT 1",
    )
    mine = "SELECT number FROM draws WHERE study = '1' AND state = 'accepted' AND batch = 1 ORDER BY number LIMIT 1"
    alter(run, f"UPDATE draws SET genotype = ? WHERE study = '1' AND number = ({mine})", genotype)
    caught = failed(run)
    assert number >= 0
    assert {"draws", "answers"} <= caught.keys()


def test_an_edited_candidates_file_is_caught(run: Path) -> None:
    path = next((run / "candidates").iterdir())
    path.write_text(path.read_text() + "\n# nothing\n")
    (run / "candidates" / "aaaa.yaml").write_text("x: 1\n")
    caught = failed(run)
    assert list(caught) == ["candidates"]
    assert [finding.partition(" ")[0].rstrip(":") for finding in caught["candidates"]] == [
        f"candidates/{path.name}",
        "candidates/aaaa.yaml",
    ]


@pytest.mark.parametrize("missing", [["predictions.csv"], sorted(TABLES - {"predictions.csv", "front.csv"})])
def test_missing_tables_are_caught(run: Path, missing: list[str]) -> None:
    for name in missing:
        (run / name).unlink()
    found = [f"{name}: found no such file, expected a file of every finished run" for name in missing]
    assert sorted(failed(run)["files"]) == found


def test_missing_predictions_of_every_kind_leave_no_labels_and_nothing_holds(run: Path) -> None:
    (run / "predictions.csv").unlink()
    (run / "baseline_predictions.csv").unlink()
    assert len(failed(run)["files"]) == 2


def test_a_missing_candidate_and_binary_tables_are_caught(run: Path) -> None:
    gone = next((run / "candidates").iterdir())
    gone.unlink()
    (run / "scores.csv").write_bytes(b"\xff\xfe\x00,\n")
    caught = failed(run)
    assert caught.keys() == {"candidates", "scores.csv"}
    assert gone.name in caught["candidates"][0]


def test_failed_jobs_are_listed_and_the_failed_column_is_made_again(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path, run: Path
) -> None:
    """The outer job of one subject is made to fail; the same search then makes its tables from that ledger."""
    ((key, genotype, left_out),) = ask(
        run,
        "SELECT key, genotype, left_out FROM jobs WHERE json_array_length(left_out) = 1 AND genotype ="
        " (SELECT genotype FROM draws WHERE state = 'accepted' AND genotype IN"
        "  (SELECT genotype FROM jobs WHERE json_array_length(left_out) = 1) LIMIT 1) LIMIT 1",
    )
    alter(run, "UPDATE jobs SET probabilities = NULL, epochs = NULL, failure = 'made up' WHERE key = ?", key)
    assert {"predictions.csv", "scores.csv"} <= failed(run).keys()
    for name in (*TABLES, "front.png"):
        (run / name).unlink()
    run_search(toy(), space=toy_space, out=run, cache=tmp_path / "cache", **small)
    found = verify_run(run)
    assert found.holds, found.plain()
    (job,) = found.failed_jobs
    assert (job["job"], job["genotype"], job["left_out"]) == (key, genotype, json.loads(left_out))
    failures = [line["failed"] for name in ("front.csv", "rules.csv")
                for line in csv.DictReader(io.StringIO((run / name).read_text()))]  # fmt: skip
    assert set(failures) <= {"0", "1"}
    assert "1" in failures


@pytest.mark.parametrize("after", [25, 130])
def test_a_run_under_way_is_verified_as_far_as_it_is(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path, after: int
) -> None:
    folder = tmp_path / "run"

    def stopping() -> bool:
        with closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM jobs").fetchone()[0]) >= after

    with pytest.raises(Interrupted):
        run_search(toy(), space=toy_space, out=folder, cache=tmp_path / "cache", stopping=stopping, **small)
    found = verify_run(folder)
    assert not found.finished
    assert found.holds, found.plain()
    assert {check.name for check in found.checks if check.verdict == "ok"} == LEDGER_CHECKS
    shown = mernas("verify", folder)
    assert shown.exit_code == 0
    assert "Unfinished: the ledger is checked and holds so far; there are no results yet." in shown.output
    query = "SELECT key, read, left_out FROM jobs ORDER BY key LIMIT 1"
    ((key, read, left_out),) = ask(folder, query)
    told = json.dumps(sorted([*json.loads(read), *json.loads(left_out)]))
    alter(folder, "UPDATE jobs SET read = ? WHERE key = ?", told, key)
    assert list(failed(folder)) == ["custody"]


def test_a_ledger_that_is_being_written_is_read(run: Path) -> None:
    with closing(sqlite3.connect(run / "ledger.sqlite", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE sessions SET seconds = seconds + 1")
        assert (run / "ledger.sqlite-wal").stat().st_size > 0
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM jobs")
        assert verify_run(run).holds
        writer.execute("ROLLBACK")


def test_inner_uf1_of_the_choices_is_that_of_a_script_that_reads_the_ledger_alone(finished: SearchResult) -> None:
    """What verify promises, once more without mernas: pooled over the pairs, each scored on the other group."""
    groups, labels = finished.plan.partition.groups, finished.plan.book.labels
    for line in finished.tables.choices.to_dict(orient="records"):
        if line["group"] == "final":
            continue
        sealed, rows, said = int(line["group"]), [], []
        for number, group in enumerate(groups):
            if number != sealed:
                left_out = json.dumps(sorted([*groups[sealed], *group]))
                query = "SELECT rows, probabilities FROM jobs WHERE genotype = ? AND left_out = ?"
                ((places, blob),) = ask(finished.folder, query, line["genotype"], left_out)
                mine = np.isin(np.frombuffer(places, dtype="<i8"), finished.plan.book.rows_of(group))
                rows += np.frombuffer(places, dtype="<i8")[mine].tolist()
                said += np.frombuffer(blob, dtype="<f8").reshape(-1, 3)[mine].argmax(axis=1).tolist()
        score = f1_score(labels[rows], said, labels=[0, 1, 2], average="macro", zero_division=0)
        assert line["inner_uf1"] == pytest.approx(score, abs=1e-12)


def mernas(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_command_prints_and_exits_by_what_it_found(run: Path) -> None:
    good = mernas("verify", run)
    assert good.exit_code == 0, good.output
    assert "Everything holds" in good.output
    change(run, "rules.csv", 2, "failed", lambda _: "4")
    bad = mernas("verify", run)
    assert bad.exit_code == 1
    assert "rules.csv line 2, failed: found 4, expected 0" in bad.output
    assert "The run is not what it says: 1 of 24 checks failed." in bad.output
    told = mernas("verify", run, "--json")
    assert told.exit_code == 1
    body = json.loads(told.stdout)
    assert (body["state"], body["holds"]) == ("finished", False)
    (check,) = [check for check in body["checks"] if check["verdict"] == "failed"]
    assert check["findings"] == [{"where": "rules.csv line 2, failed", "found": "4", "expected": "0"}]


@pytest.mark.parametrize("missing", ["", "plan.yaml", "ledger.sqlite"])
def test_what_is_no_run_directory_is_told_in_one_message(run: Path, tmp_path: Path, missing: str) -> None:
    if missing:
        (run / missing).unlink()
    folder = run if missing else tmp_path / "nowhere"
    with pytest.raises(PlanError, match="is no run directory"):
        verify_run(folder)
    result = mernas("verify", folder)
    assert result.exit_code == 2
    assert result.stderr.startswith("mernas: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_run_directory_that_may_not_be_entered_is_told_in_one_message(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.stat

    def refused(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.parent == run:  # root, who may run this, is never refused
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)
    for command in ("verify", "report"):
        result = mernas(command, run)
        assert result.exit_code == 2
        assert result.stderr == f"mernas: {run}: cannot be read, found Permission denied. Check permissions.\n"


def test_a_run_directory_whose_name_is_not_utf8_holds(run: Path) -> None:
    folder = run.parent / os.fsdecode(b"r\xe9sum\xe9 100%?#")
    try:
        run.rename(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert verify_run(folder).holds
    assert len(open_run(folder).rows) == len(open_run(folder.rename(run)).rows) > 0


@pytest.mark.parametrize("damage", ["whole", "page", "empty"])
def test_a_damaged_ledger_gives_one_message(run: Path, damage: str) -> None:
    path = run / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    if damage == "page":
        content[4096 * 2 : 4096 * 12] = b"\xff" * 4096 * 10
    path.write_bytes({"whole": b"no database" * 500, "page": bytes(content), "empty": b""}[damage])
    with pytest.raises(LedgerError):
        verify_run(run)
    result = mernas("verify", run)
    assert result.exit_code == 2
    assert [line.startswith("mernas: ledger") for line in result.stderr.splitlines()] == [True]


def test_help_has_an_example() -> None:
    assert "Examples:" in mernas("verify", "--help").output
