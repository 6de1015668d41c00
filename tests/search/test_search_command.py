"""The command that makes an estimate for a rule that was not planned is the search of the run with one more rule."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from mernas.cli import search_command
from mernas.components.datasets.clip import Dataset
from mernas.evaluation.picking import parse_rule
from mernas.search.finished import FinishedRun, open_run
from mernas.search.plan import Plan, Settings
from mernas.search.run import SearchResult, plan_search, run_search
from mernas.search.search_command import FLAGS, VALUED, command_with
from mernas.space.restriction import load_space

NO_PART_OF_THE_PLAN = {"data", "workers", "executor", "address", "audit", "out", "dry_run", "yes", "as_json"}

LIMITED = """
extends: standard
keep: {attention: none, mixing: none, sampler: none, averaging: none, side_task: none, auxiliary_loss: none}
drop: {augmentation: [crop, erase, noise, rotate]}
set:
  pipeline.network: {streams: 2}
  training.scratch: {epochs: {low: 10, high: 12}, batch: 16}
  optimizer.adamw: {lr: {low: 1e-3, high: 3e-3}}
  augmentation.shift: {pixels: {high: 2}}
  loss.cross_entropy: {smoothing: 0.1}
"""


@pytest.fixture(scope="module")
def run(finished: SearchResult) -> FinishedRun:
    return open_run(finished.folder)


def planned(command: str, data: Dataset) -> Plan:
    """The plan that `mernas search` would make of a command; the data are at hand."""
    program, name, *words = shlex.split(command)
    assert (program, name) == ("mernas", "search")
    given = search_command.make_context("search", words).params
    assert given["data"]
    return plan_search(data, **{name: value for name, value in given.items() if name not in NO_PART_OF_THE_PLAN})


def test_every_setting_has_its_option() -> None:
    assert {*VALUED, *FLAGS} == {field.name for field in fields(Settings)}
    assert not set(VALUED) & set(FLAGS)
    known = {name for parameter in search_command.params for name in parameter.opts}
    assert {option for option, _ in VALUED.values()} | set(FLAGS.values()) <= known


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"job_time": 90.25, "seeds": 3, "seed": 7, "sampler": "random"},
        {"racing": True, "halving": True, "batch": 5},
        {"together": True, "device": "cuda", "job_time": 86400.0},
        {"asynchronous": True, "max_parameters": 12_345},
        {"time": 7200.0, "trials": 40},
    ],
)
def test_the_command_gives_the_settings_of_the_run_and_the_new_budget(
    run: FinishedRun, toy: Callable[..., Dataset], changes: dict[str, Any]
) -> None:
    settings = replace(run.plan.settings, **changes)
    other = replace(run, plan=replace(run.plan, settings=settings))
    again = planned(command_with(other, parse_rule("<=5k")), toy())
    limit = max(settings.max_parameters, 5000)
    assert again.settings == replace(settings, budgets=(300, 3000, 5000), max_parameters=limit, time=None)


def test_a_run_that_the_clock_ended_is_repeated_with_as_many_trials_as_it_had(
    run: FinishedRun, toy: Callable[..., Dataset]
) -> None:
    timed = replace(run.plan, settings=replace(run.plan.settings, time=60.0, trials=1000))
    ended = replace(run, plan=timed, ledger=replace(run.ledger, about={**run.ledger.about, "trials": "5"}))
    again = planned(command_with(ended, parse_rule("<=5k")), toy())
    assert (again.settings.trials, again.settings.time) == (5, None)


def test_the_command_plans_the_same_search_but_for_the_budgets(run: FinishedRun, toy: Callable[..., Dataset]) -> None:
    again, before = planned(command_with(run, parse_rule("<=5k")), toy()).description, run.plan.description
    differing = {key for key in before["search"] if before["search"][key] != again["search"][key]}
    assert differing == {"budgets", "max_parameters", "rules"}
    assert {key: value for key, value in again.items() if key != "search"} == {
        key: value for key, value in before.items() if key != "search"
    }
    assert "<=5k" in again["search"]["rules"]


@pytest.mark.parametrize("space", ["full", "standard", "quick", LIMITED])
def test_the_space_file_of_a_run_leaves_what_the_run_searched(
    space: str, toy: Callable[..., Dataset], small: dict[str, Any], tmp_path: Path
) -> None:
    data = toy()
    named: str | Path = space
    if space == LIMITED:
        named = tmp_path / "limited.yaml"
        (tmp_path / "between.yaml").write_text(LIMITED)
        named.write_text("extends: between.yaml\nset:\n  block.convolution: {norm: [none, batch], dropout: 0}\n")
    asked = {name: value for name, value in small.items() if name != "workers"}
    plan = plan_search(data, named, **asked)
    (tmp_path / "elsewhere").mkdir()
    written = tmp_path / "elsewhere" / "space.yaml"
    written.write_text(plan.space_to_yaml(), encoding="utf-8")
    assert load_space(written, data.provides).describe() == plan.space.describe()
    assert plan_search(data, written, **asked).hash == plan.hash


def test_a_run_that_an_earlier_version_began_is_given_its_space_file_when_it_goes_on(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    path = folder / "space.yaml"
    text = path.read_text(encoding="utf-8")
    path.unlink()
    assert "--space toy.yaml" in command_with(open_run(folder), parse_rule("<=5k"))
    run_search(toy(), space=toy_space, out=folder, **small)
    assert path.read_text(encoding="utf-8") == text
