"""Verifying proposals: each lies in the plan's space, and its answers, from which samplers learn, lead to it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mernas.search.run import SearchResult, plan_search
from mernas.search.verify import verify_run
from mernas.search.verify_space import stated_space
from mernas.space.errors import SpaceError
from mernas.space.restriction import SHIPPED, load_space
from mernas.space.yaml_text import dump_yaml, load_yaml, read_yaml

ACCEPTED = "WHERE study = '0' AND state = 'accepted' ORDER BY number LIMIT 1"


@pytest.fixture
def run(finished: SearchResult, tmp_path: Path) -> Path:
    """A copy of a finished run, to tamper with."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def findings(folder: Path, *, of: str = "space") -> list[str]:
    return [str(one) for check in verify_run(folder).checks if check.name == of for one in check.findings]


def alter(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        assert database.execute(statement, values).rowcount > 0


def ask(folder: Path, query: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        return tuple(database.execute(query).fetchone())


def test_answers_that_were_emptied_are_caught(run: Path) -> None:
    assert verify_run(run).holds
    alter(run, "UPDATE draws SET answers = '{}' WHERE state = 'accepted'")
    caught = findings(run)
    assert len(caught) == ask(run, "SELECT count(*) FROM draws WHERE state = 'accepted'")[0]
    assert all(one.startswith("study ") and ", answers: found " in one for one in caught)


@pytest.mark.parametrize("state", ["accepted", "infeasible"])
def test_one_answer_changed_is_caught_by_its_name(run: Path, state: str) -> None:
    number, text = ask(run, f"SELECT number, answers FROM draws WHERE study = '0' AND state = '{state}' LIMIT 1")
    answers = json.loads(text)
    name = next(name for name, value in answers.items() if type(value) is float)
    answers[name] += 0.001
    alter(run, "UPDATE draws SET answers = ? WHERE study = '0' AND number = ?", json.dumps(answers), number)
    (found,) = findings(run)
    assert found.startswith(f"study 0, draw {number}, answers: found {name}: {answers[name]}, expected {name}: ")


def test_true_in_the_place_of_1_is_caught(run: Path) -> None:
    number, text = ask(run, f"SELECT number, answers FROM draws {ACCEPTED}")
    answers = json.loads(text)
    name = next(name for name, value in answers.items() if type(value) is int and value == 1)
    alter(
        run, "UPDATE draws SET answers = ? WHERE study = '0' AND number = ?", json.dumps(answers | {name: True}), number
    )
    assert findings(run) == [f"study 0, draw {number}, answers: found {name}: true, expected {name}: 1"]


def test_a_pipeline_outside_the_space_of_the_plan_is_caught(run: Path) -> None:
    """Nine epochs, where the space file allows two: another pipeline, put in the place of a proposal everywhere."""
    number, old = ask(run, f"SELECT number, genotype FROM draws {ACCEPTED}")
    (text,) = ask(run, f"SELECT complete FROM genotypes WHERE hash = '{old}'")
    complete = json.loads(text)
    complete[2]["training"][2]["epochs"] = 9
    canonical = json.dumps(complete, sort_keys=True, separators=(",", ":"))
    new = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    alter(run, "UPDATE genotypes SET hash = ?, complete = ? WHERE hash = ?", new, json.dumps(complete), old)
    alter(run, "UPDATE draws SET genotype = ? WHERE genotype = ?", new, old)
    caught = [one for one in findings(run) if one.startswith(f"study 0, draw {number}, {new}: ")]
    assert len(caught) == 1
    assert "epochs: must be a whole number in [1, 2] in this space, found 9" in caught[0]
    assert caught[0].endswith("expected a pipeline of the plan's space")


def test_answers_where_a_place_was_given_up_are_caught(run: Path) -> None:
    number = ask(run, f"SELECT number FROM draws {ACCEPTED}")[0]
    change = "UPDATE draws SET genotype = NULL, parameters = NULL, state = 'exhausted' WHERE study = '0' AND number = ?"
    alter(run, change, number)
    (found,) = findings(run)
    assert found.startswith(f"study 0, draw {number}, answers: found ")


@pytest.mark.parametrize("kind", ["raced", "halved", "joined"])
def test_the_proposals_of_every_kind_of_search_hold(kind: str, request: pytest.FixtureRequest) -> None:
    result: SearchResult = request.getfixturevalue(kind)
    found = verify_run(result.folder)
    assert found.holds, [str(finding) for check in found.checks for finding in check.findings]
    (space,) = [check for check in found.checks if check.name == "space"]
    assert space.checked == len(result.tables.trials)
    assert space.left_out == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_space_is_made_again_from_the_plan_alone(name: str, finished: SearchResult) -> None:
    facts = finished.plan.dataset.provides
    plan = plan_search(finished.plan.dataset, space=name, trials=1, budgets="3k", max_params="3k")
    written = load_yaml(plan.to_yaml(), "plan.yaml")
    assert stated_space(written).describe() == load_space(name, facts).describe()


def test_a_space_of_listed_numbers_is_made_again_from_the_plan_alone(finished: SearchResult, tmp_path: Path) -> None:
    listed = tmp_path / "listed.yaml"
    listed.write_text("set: {training.scratch: {epochs: [10, 20]}, optimizer.adamw: {lr: [0.002, 0.01]}}\n")
    plan = plan_search(finished.plan.dataset, space=listed, trials=1, budgets="3k", max_params="3k")
    written = load_yaml(plan.to_yaml(), "plan.yaml")
    assert stated_space(written).describe() == load_space(listed, finished.plan.dataset.provides).describe()


def test_a_plan_of_a_space_that_is_none_is_left_out_without_a_traceback(run: Path) -> None:
    plan = read_yaml(run / "plan.yaml")
    plan["space"]["axes"]["block"]["residual"][1]["width"] = "exit()"
    with pytest.raises((SpaceError, LookupError)):
        stated_space(plan)
    (run / "plan.yaml").write_text(dump_yaml(plan))
    found = verify_run(run)
    assert not found.holds  # the plan does not have its hash
    (space,) = [check for check in found.checks if check.name == "space"]
    assert space.verdict == "not checked"
    assert space.left_out[0].startswith("plan.yaml, space")
