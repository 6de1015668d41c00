"""The plan's hash: changed by everything that can change a result, and by nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.search.ledger import EXHAUSTED, Draw, Ledger
from mernas.search.plan import FINAL, Plan
from mernas.search.run import claim, plan_search
from mernas.space.errors import PlanError
from mernas.space.yaml_text import load_yaml

USUAL: dict[str, Any] = {"groups": 3, "budgets": "300,3k", "max_params": "3k", "trials": 4, "batch": 2, "seed": 0}


def planned(data: Dataset, space: str | Path, **changes: Any) -> Plan:
    return plan_search(data, space, **{**USUAL, **changes})


def test_the_same_question_makes_the_same_plan_wherever_the_space_file_lies(
    toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path
) -> None:
    shutil.copy(toy_space, tmp_path / "moved.yaml")
    first, second = planned(toy(), toy_space), planned(toy(), tmp_path / "moved.yaml")
    assert first.hash == second.hash
    assert load_yaml(first.to_yaml())["hash"] == first.hash


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"trials": 5},
        {"batch": 4},
        {"budgets": "3k"},
        {"max_params": "4k"},
        {"sampler": "random"},
        {"groups": "subjects"},
        {"device": "cuda"},
    ],
)
def test_whatever_can_change_a_result_changes_the_hash(
    change: dict[str, Any], toy: Callable[..., Dataset], toy_space: Path
) -> None:
    assert planned(toy(), toy_space, **change).hash != planned(toy(), toy_space).hash


def test_data_labels_and_space_change_the_hash(toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path) -> None:
    usual = planned(toy(), toy_space).hash
    assert planned(toy(seed=1), toy_space).hash != usual
    data = toy()
    swapped = data.annotations.copy()
    swapped["emotion"] = [data.classes[2 - data.classes.index(emotion)] for emotion in swapped["emotion"]]
    assert planned(replace(data, annotations=swapped), toy_space).hash != usual
    narrower = tmp_path / "narrower.yaml"
    narrower.write_text(toy_space.read_text() + "  loss.cross_entropy: {smoothing: 0.1}\n")
    assert planned(data, narrower).hash != usual


def test_pair_jobs_answer_two_studies_and_the_final_study_leaves_out_single_groups(
    toy: Callable[..., Dataset], toy_space: Path
) -> None:
    plan = planned(toy(), toy_space)
    groups = plan.partition.groups
    pairs = {study: dict(plan.inner_left_out(study)) for study in plan.studies}
    assert pairs["0"][1] == pairs["1"][0] == tuple(sorted((*groups[0], *groups[1])))
    assert pairs[FINAL] == dict(enumerate(groups))
    for study in ("0", "1", "2"):
        assert all(set(groups[int(study)]) < set(left_out) for left_out in pairs[study].values())
        assert int(study) not in pairs[study]


def test_batches_add_up_to_the_trials(toy: Callable[..., Dataset], toy_space: Path) -> None:
    assert planned(toy(), toy_space, trials=7, batch=3).batches == (3, 3, 1)


def test_the_partition_of_an_earlier_plan_can_be_used_again(
    toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path
) -> None:
    plan = planned(toy(), toy_space, seed=5)
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    again = planned(toy(), toy_space, seed=6, groups=None, partition=tmp_path / "plan.yaml")
    assert again.partition == plan.partition
    with pytest.raises(PlanError, match="subject08"):  # a subject that the earlier plan does not know
        planned(toy(subjects=9), toy_space, groups=None, partition=tmp_path / "plan.yaml")


@pytest.mark.parametrize("name", ["run", "a#b", "a?b", "a%41b"])
def test_a_folder_is_held_by_what_was_proposed_in_it_and_by_nothing_in_a_neighbour(
    name: str, toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path
) -> None:
    first, second = planned(toy(), toy_space), planned(toy(), toy_space, seed=1)
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    for neighbour in {"a", "aAb"} - {name}:
        (tmp_path / neighbour).mkdir()
        Ledger(tmp_path / neighbour / "ledger.sqlite", first.hash).close()
    claim(first, tmp_path / name)
    Ledger(tmp_path / name / "ledger.sqlite", first.hash).close()
    claim(second, tmp_path / name)  # nothing was proposed
    ledger = Ledger(tmp_path / name / "ledger.sqlite", second.hash)
    ledger.add_batch([Draw("0", 0, 0, 0, EXHAUSTED, "tpe", None, None, {})], [])
    ledger.close()
    with pytest.raises(PlanError, match="belongs to another plan"):
        claim(first, tmp_path / name)


def test_numbers_of_another_kind_are_told_together_as_the_command_line_would(
    toy: Callable[..., Dataset], toy_space: Path
) -> None:
    with pytest.raises(PlanError) as error:
        planned(toy(), toy_space, trials="2", batch=2.5, seeds=True)
    told = [str(problem) for problem in error.value.problems]
    assert [one.partition(":")[0] for one in told] == ["--trials", "--batch", "--seeds"]
    assert all("must be a whole number" in one for one in told)
