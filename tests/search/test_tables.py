"""The tables of a run, recomputed by a script that knows nothing of mernas; and what else a run leaves behind."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score, f1_score, recall_score

from mernas.search.run import SearchResult


def uf1(labels: pd.Series, predictions: pd.Series, classes: list[str]) -> float:
    return float(f1_score(labels, predictions, labels=classes, average="macro", zero_division=0))


def recompute(folder) -> tuple[pd.DataFrame, pd.DataFrame]:  # type: ignore[no-untyped-def]  # a script of its own
    """From predictions.csv, choices.csv and plan.yaml alone; imports nothing of mernas."""
    plan = YAML(typ="safe").load((folder / "plan.yaml").read_text())
    classes, seed = plan["data"]["classes"], plan["search"]["seed"]
    text = {"subject": str, "group": str, "budget": str, "rule": str}
    predictions = pd.read_csv(folder / "predictions.csv", dtype=text, keep_default_na=False)
    choices = pd.read_csv(folder / "choices.csv", dtype=text, keep_default_na=False)
    lines = []
    for (budget, rule), rows in predictions.groupby(["budget", "rule"]):
        subjects = sorted(set(zip(rows["dataset"], rows["subject"], strict=True)))
        by_subject = [rows[rows["subject"] == subject] for _, subject in subjects]
        tables = np.array([[[((r["label"] == c) & (r["prediction"] == c)).sum(), (r["prediction"] == c).sum(),
                             (r["label"] == c).sum()] for c in classes] for r in by_subject])  # fmt: skip
        sizes = [sum(dataset == name for name, _ in subjects) for dataset in sorted({name for name, _ in subjects})]
        generator, scores = np.random.default_rng([seed, 4]), []
        while len(scores) < plan["resamples"]["intervals"]:
            times = np.concatenate([np.bincount(generator.integers(0, n, size=n), minlength=n) for n in sizes])
            hits, predicted, actual = np.tensordot(times, tables, 1).T
            if (actual > 0).all():
                scores.append(np.mean(2 * hits / np.maximum(predicted + actual, 1)))
        own = choices[(choices["rule"] == rule) & (choices["budget"] == budget.split("+")[0])]
        honest, final = own[own["group"] != "final"], own[own["group"] == "final"].iloc[0]
        uar = recall_score(rows["label"], rows["prediction"], labels=classes, average="macro", zero_division=0)
        low, high = np.percentile(scores, [2.5, 97.5])
        nested = uf1(rows["label"], rows["prediction"], classes)
        lines.append({"budget": budget, "rule": rule, "params": final["params"], "params_min": honest["params"].min(),
                      "params_max": honest["params"].max(), "genotypes": honest["genotype"].nunique(),
                      "inner_uf1": honest["inner_uf1"].mean(), "nested_uf1": nested, "ci_low": low, "ci_high": high,
                      "nested_uar": uar, "failed": 0, "genotype": final["genotype"]})  # fmt: skip
    table = pd.DataFrame(lines)
    budgets = table[table["rule"] == ""].drop(columns="rule")
    return budgets, table[table["rule"] != ""].drop(columns="budget")


def test_front_and_rules_are_recomputed_from_the_files_alone(finished: SearchResult) -> None:
    budgets, rules = recompute(finished.folder)
    front = pd.read_csv(finished.folder / "front.csv", dtype={"budget": str})
    stated = pd.read_csv(finished.folder / "rules.csv")
    for table, again, name in ((front, budgets, "budget"), (stated, rules, "rule")):
        pd.testing.assert_frame_equal(
            table.set_index(name).sort_index(),
            again.set_index(name).sort_index(),
            check_dtype=False,
            check_index_type=False,
            rtol=1e-12,
        )


def test_scores_equal_those_of_scikit_learn_on_the_pooled_predictions(finished: SearchResult) -> None:
    scores = pd.read_csv(finished.folder / "scores.csv", dtype={"budget": str}, keep_default_na=False)
    predictions = finished.tables.predictions
    classes = list(finished.plan.dataset.classes)
    compared = 0
    for line in scores[scores["baseline"] == ""].to_dict(orient="records"):
        rows = predictions[(predictions["budget"] == line["budget"]) & (predictions["rule"] == line["rule"])]
        if line["part"] != "all":
            rows = rows[rows["dataset"] == line["part"]]
        truth, said = rows["label"], rows["prediction"]
        assert line["uf1"] == pytest.approx(uf1(truth, said, classes))
        recall = recall_score(truth, said, labels=classes, average="macro", zero_division=0)
        assert line["uar"] == pytest.approx(recall)
        assert line["accuracy"] == pytest.approx(accuracy_score(truth, said))
        each = f1_score(truth, said, labels=classes, average=None, zero_division=0)
        assert [line[f"f1_{name}"] for name in classes] == pytest.approx(list(each))
        compared += 1
    assert compared == 3 * (len(finished.tables.front) + len(finished.tables.rules))


def test_every_clip_is_predicted_once_by_a_model_that_never_saw_its_subject(finished: SearchResult) -> None:
    database = sqlite3.connect(finished.folder / "ledger.sqlite")
    read = {
        (genotype, left): set(YAML(typ="safe").load(seen))
        for genotype, left, seen in database.execute("SELECT genotype, left_out, read FROM jobs")
    }
    for _, rows in finished.tables.predictions.groupby(["budget", "rule"]):
        assert list(rows["clip"]) == [clip.key for clip in finished.plan.dataset]
        for genotype, subject in set(zip(rows["genotype"], rows["subject"], strict=True)):
            trained_on = read[(genotype, f'["{subject}"]')]
            assert trained_on == set(finished.plan.dataset.subjects) - {subject}


def test_probabilities_sum_to_one_and_their_greatest_is_the_prediction(finished: SearchResult) -> None:
    table = finished.tables.predictions
    names = [f"p_{name}" for name in finished.plan.dataset.classes]
    assert np.allclose(table[names].sum(axis=1), 1.0)
    greatest = table[names].to_numpy().argmax(axis=1)
    assert [finished.plan.dataset.classes[place] for place in greatest] == list(table["prediction"])


def test_without_repetitions_there_is_one_numbered_0_and_no_spread(finished: SearchResult) -> None:
    for table in (finished.tables.predictions, finished.tables.baseline_predictions):
        assert set(table["seed"]) == {0}
    scores = pd.read_csv(finished.folder / "scores.csv", dtype=str, keep_default_na=False)
    assert set(scores["seeds"]) == {"1"}
    assert set(scores["uf1_sd"]) == {""}
    expected = ["budget", "rule", "baseline", "part", "clips", "seeds", "uf1", "uf1_sd", "uar", "accuracy"]
    assert list(scores)[: len(expected)] == expected


def test_the_columns_of_the_front_are_those_that_programs_read(finished: SearchResult) -> None:
    promised = """budget, params, params_min, params_max, genotypes, inner_uf1, nested_uf1, ci_low, ci_high, nested_uar,
    failed, genotype"""
    header = (finished.folder / "front.csv").read_text().splitlines()[0]
    assert header.split(",") == [name.strip() for name in promised.split(",")]


def test_all_studies_have_the_same_number_of_trials(finished: SearchResult) -> None:
    trials = finished.tables.trials
    places = trials[trials["state"].isin(["completed", "failed", "exhausted"])]
    assert set(places.groupby("group").size()) == {finished.plan.settings.trials}
    assert set(trials["group"]) == {"0", "1", "2", "final"}


def test_the_first_batch_is_the_same_in_all_studies_and_its_pair_jobs_are_shared(finished: SearchResult) -> None:
    first = finished.tables.trials.query("batch == 0")
    lists = [list(rows["genotype"]) for _, rows in first.groupby("group")]
    assert all(names == lists[0] for names in lists)
    database = sqlite3.connect(finished.folder / "ledger.sqlite")
    accepted = first[(first["group"] == "0") & (first["state"] == "completed")]["genotype"]
    for genotype in accepted:
        query = "SELECT count(*) FROM jobs WHERE genotype = ? AND json_array_length(left_out) > 1"
        (inner,) = database.execute(query, (genotype,)).fetchone()
        assert inner == 3 + 3  # three pairs of groups and three single groups, each trained once


def test_a_run_directory_holds_what_the_readme_says(finished: SearchResult) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    expected = {"plan.yaml", "ledger.sqlite", "front.csv", "rules.csv", "choices.csv", "predictions.csv", "trials.csv"}
    expected |= {
        "baselines.csv",
        "baseline_predictions.csv",
        "scores.csv",
        "front.png",
        "candidates",
        "environment.txt",
        "space.yaml",
    }
    assert expected <= names
    assert (finished.folder / "front.png").read_bytes().startswith(b"\x89PNG")
    chosen = set(finished.tables.choices["genotype"]) | set(finished.tables.baselines["genotype"])
    assert {path.stem for path in (finished.folder / "candidates").iterdir()} == chosen


def test_no_candidate_is_over_the_limit_and_choices_keep_to_their_budget(finished: SearchResult) -> None:
    trials, choices = finished.tables.trials, finished.tables.choices
    assert trials[trials["state"] == "completed"]["params"].max() <= finished.plan.settings.max_parameters
    budgets = choices[choices["budget"] != ""]
    assert (budgets["params"] <= budgets["budget"].astype(int)).all()
    assert len(budgets) == 2 * 4


def test_baselines_have_no_parameters_and_enter_no_study(finished: SearchResult) -> None:
    assert list(finished.tables.baselines["baseline"]) == ["logistic_regression", "majority", "rbf_svm"]
    assert not {"params", "budget"} & set(finished.tables.baselines.columns)
    assert not set(finished.tables.trials["genotype"]) & set(finished.tables.baselines["genotype"])


def test_the_result_in_python_is_what_the_files_hold(finished: SearchResult) -> None:
    import mernas

    assert mernas.run_search.__module__ == "mernas.search.run"
    front = pd.read_csv(finished.folder / "front.csv", dtype={"budget": str})
    pd.testing.assert_frame_equal(finished.front, front, check_dtype=False)
