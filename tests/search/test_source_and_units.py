"""Pipelines that learn from other people's macro-expressions and from action units: the same on every executor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.evaluation.jobs import make_job
from mernas.evaluation.rows import number_rows
from mernas.search.evaluate import run_evaluation
from mernas.search.features import FeatureShelf
from mernas.search.reporter import Silent
from mernas.search.run import load_data, plan_search
from mernas.space.errors import PlanError, UnavailableError
from mernas.space.genotype import Genotype, parse_genotype

FINETUNE = """
streams: [{input: {optical_flow: {estimator: farneback, size: 14}}, backbone: [{convolution: {width: 4}}]}]
tasks: [{emotion: {head: linear}}]
side_task: {action_units: {weight: 0.3}}
training: {finetune: {source_epochs: 3, epochs: 3}}
loss: cross_entropy
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Synthetic(subjects=4, clips=4, size=48, macro_subjects=3, macro_clips=3).load()


@pytest.fixture
def genotype() -> Genotype:
    return parse_genotype(FINETUNE)


def test_one_result_in_this_process_and_on_workers(data: Dataset, genotype: Genotype, tmp_path: Path) -> None:
    tables = [
        run_evaluation(genotype, data, cache=tmp_path, executor=kind, workers=workers).predictions
        for kind, workers in (("serial", 1), ("ray", 2))
    ]
    assert not tables[0][["p_negative", "p_positive", "p_surprise"]].isna().any(axis=None)
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_job_carries_the_units_of_its_own_training_rows_and_of_nobody_else(data: Dataset, genotype: Genotype) -> None:
    book = number_rows(data, seed=0)
    left_out = data.subjects[0]
    _, job = make_job(genotype, [left_out], book, 3, 0)
    assert data.units is not None
    assert job.train_units is not None
    for row, units in zip(job.train_rows, job.train_units, strict=True):
        clip = data.clips[book.clips[row]]
        assert clip.subject != left_out
        text = set(data.annotations.loc[clip.key, "action_units"].split("+"))
        named = dict(zip((1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 25, 26), units, strict=True))
        assert {str(unit) for unit, shown in named.items() if shown == 1} == text - {"45"}
    plain = parse_genotype(FINETUNE.replace("side_task: {action_units: {weight: 0.3}}\n", ""))
    assert make_job(plain, [left_out], book, 3, 0)[1].train_units is None


def test_macro_expressions_are_prepared_only_for_those_who_learn_from_them(
    data: Dataset, genotype: Genotype, tmp_path: Path
) -> None:
    shelf = FeatureShelf(data, number_rows(data, 0), tmp_path, Silent())
    scratch = parse_genotype(FINETUNE.replace("finetune: {source_epochs: 3, epochs: 3}", "scratch: {epochs: 3}"))
    assert shelf.store([scratch]).source is None
    store = shelf.store([genotype])
    assert store.source is not None
    assert data.source is not None
    assert np.array_equal(store.source.labels.numpy(), data.source.labels)
    assert sorted(len(maps) for maps in store.maps.values()) == sorted([len(data), len(data.source)])


def test_other_macro_expressions_are_another_plan(data: Dataset) -> None:
    other = Synthetic(subjects=4, clips=4, size=48, macro_subjects=3, macro_clips=4).load()
    assert other.fingerprint == data.fingerprint
    plans = [plan_search(one, space="quick", trials=1, batch=1, groups=3, budgets="50k", max_params="50k")
             for one in (data, other)]  # fmt: skip
    assert plans[0].hash != plans[1].hash


def test_folds_kept_from_other_macro_expressions_or_action_units_are_not_taken(data: Dataset, tmp_path: Path) -> None:
    run_evaluation("majority", data, cache=tmp_path, keep=tmp_path / "kept")
    others = Synthetic(subjects=4, clips=4, size=48, macro_subjects=3, macro_clips=4).load()
    assert (others.fingerprint, others.label_fingerprint) == (data.fingerprint, data.label_fingerprint)
    with pytest.raises(PlanError):
        run_evaluation("majority", others, cache=tmp_path, keep=tmp_path / "kept")
    still = data.annotations.assign(action_units="")
    with pytest.raises(PlanError):
        run_evaluation("majority", replace(data, annotations=still), cache=tmp_path, keep=tmp_path / "kept")
    run_evaluation("majority", data, cache=tmp_path, keep=tmp_path / "kept")


def test_data_without_other_people_say_what_is_missing(data: Dataset, genotype: Genotype) -> None:
    alone = Synthetic(subjects=4, clips=4, size=48, macro_subjects=0).load()
    with pytest.raises(UnavailableError, match="macro-expressions of other people"):
        run_evaluation(parse_genotype(FINETUNE), alone)


def test_the_synthetic_dataset_offers_both() -> None:
    assert {"source domain", "action units"} <= load_data("synthetic").provides
