"""A folder of another plan, or of another evaluation, is refused, and what differs is said in the options' words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mernas.cli import cli
from mernas.components.datasets.clip import Dataset
from mernas.search.evaluate import run_evaluation
from mernas.search.run import SearchResult, run_search
from mernas.space.errors import PlanError
from mernas.space.yaml_text import dump_yaml, read_yaml

Search = Callable[..., SearchResult]


@pytest.fixture
def again(finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any]) -> Search:
    """The finished search once more, with other options."""

    def search(**changes: Any) -> SearchResult:
        asked = {"data": toy(), "space": toy_space, "out": finished.folder, **small, **changes}
        return run_search(asked.pop("data"), **asked)

    return search


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trials": 6, "batch": 2}, "--trials 5 instead of 6; --batch 3 instead of 2"),
        ({"seed": 4}, "--seed 3 instead of 4"),
        ({"seeds": 2}, "--seeds 1 instead of 2"),
        ({"budgets": "300,2k"}, "--budgets 300,3k instead of 300,2k"),
        ({"budgets": None}, "--budgets 300,3k instead of 2k,3k"),
        ({"max_params": "4k"}, "--max-params 3k instead of 4k"),
        ({"sampler": "random"}, "--sampler tpe instead of random"),
        ({"racing": True}, "no --race"),
        ({"halving": True}, "no --halve"),
        ({"together": True}, "no --together"),
        ({"asynchronous": True}, "no --asynchronous"),
        ({"time": "1h"}, "no --time instead of 3600s"),
        ({"job_time": "2h"}, "--job-time 3600s instead of 7200s"),
        ({"groups": 4}, "--groups 3 instead of 4"),
    ],
)
def test_what_another_plan_differs_in_is_said_in_the_words_of_the_options(
    changes: dict[str, Any], told: str, again: Search
) -> None:
    with pytest.raises(PlanError) as caught:
        again(**changes)
    (problem,) = caught.value.problems
    assert f"belongs to another plan, found {told}. Choose another --out, or repeat the command" in str(problem)


def test_at_most_five_differences_are_said_and_how_many_there_are_more(again: Search) -> None:
    with pytest.raises(PlanError, match=r"; --seed 3 instead of 4; 2 more\."):
        again(trials=6, batch=2, seed=4, seeds=2, sampler="random", racing=True, max_params="4k")


def test_other_data_and_another_space_are_named(
    again: Search, toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"found data toy: clips of other content"):
        again(data=toy(seed=1))
    other = tmp_path / "mine.yaml"
    other.write_text(toy_space.read_text().replace("width: {low: 2, high: 8}}", "width: {low: 2, high: 7}}"))
    with pytest.raises(PlanError, match=rf"found --space {toy_space.name} instead of mine\.yaml\."):
        again(space=other)
    same = tmp_path / toy_space.name
    same.write_text(other.read_text())
    with pytest.raises(PlanError, match=rf"found --space {toy_space.name} of other content\."):
        again(space=same)


def test_a_plan_that_somebody_has_edited_is_told_and_is_no_traceback(
    again: Search, finished: SearchResult, tmp_path: Path
) -> None:
    stated = read_yaml(finished.folder / "plan.yaml")
    ledger = (finished.folder / "ledger.sqlite").read_bytes()
    for number, part in enumerate(["x", None, {"trials": ["x"], "sampler": 3, "job_time": "long", "budgets": 7}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "ledger.sqlite").write_bytes(ledger)
        (folder / "plan.yaml").write_text(dump_yaml({**stated, "hash": "0" * 16, "search": part, "data": part}))
        with pytest.raises(PlanError, match="belongs to another plan"):
            again(out=folder)


def test_a_search_leaves_kept_folds_alone(again: Search, toy: Callable[..., Dataset], tmp_path: Path) -> None:
    first = run_evaluation("majority", toy(), keep=tmp_path / "kept", cache=tmp_path / "cache")
    with pytest.raises(PlanError, match="keeps the folds of `mernas evaluate`"):
        again(out=tmp_path / "kept")
    second = run_evaluation("majority", toy(), keep=tmp_path / "kept", cache=tmp_path / "cache")
    assert second.predictions.equals(first.predictions)


def test_folds_of_another_evaluation_say_what_differs_or_what_may(toy: Callable[..., Dataset], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run_evaluation("majority", toy(), keep=kept, cache=tmp_path / "cache")
    with pytest.raises(PlanError, match=r"keeps the folds of another evaluation, found pipeline \w{16} instead of"):
        run_evaluation("rbf_svm", toy(), keep=kept, cache=tmp_path / "cache")
    rule = r"of the same pipeline: other data or labels, another --seed or --protocol, or another engine\. .*--keep"
    with pytest.raises(PlanError, match=rule) as caught:
        run_evaluation("majority", toy(), seed=1, keep=kept, cache=tmp_path / "cache")
    assert "--out" not in str(caught.value)


def test_a_dry_run_tells_that_the_folder_belongs_to_another_plan_and_writes_nothing(tmp_path: Path) -> None:
    options = ["search", "--data", "synthetic", "--space", "quick", "--budgets", "5k", "--max-params", "5k"]
    options += ["--groups", "3", "--trials", "2", "--out", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.yaml").write_text("hash: '0'\nmernas: 0.0.1\n")
    result = CliRunner().invoke(cli, [*options, "--dry-run"])
    assert result.exit_code == 2, result.output
    assert "was begun with mernas 0.0.1" in result.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.yaml"]
