"""Repeated outer trainings: figures are means over them, and they change nothing but the outer test."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score, f1_score, recall_score

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.jobs import make_job
from mernas.evaluation.picking import Candidate
from mernas.search.choosing import (
    Chosen,
    Row,
    choose,
    choose_baselines,
    outer_jobs,
    outer_predictions,
    repeated_predictions,
)
from mernas.search.ledger import Ledger
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.results import make_tables, write_run
from mernas.search.run import SearchResult, run_search

SEEDS = 3
KEYS = ["budget", "rule", "baseline"]


@pytest.fixture(scope="module")
def repeated(
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> SearchResult:
    """The search of `finished` with three repetitions of its outer trainings."""
    folder = tmp_path_factory.mktemp("repeated")
    return run_search(toy(), space=toy_space, out=folder / "run", cache=folder / "cache", seeds=SEEDS, **small)


@pytest.fixture(scope="module")
def textbook(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> SearchResult:
    """One subject per group, so that an outer job leaves out whom an inner job of the final study leaves out."""
    folder = tmp_path_factory.mktemp("textbook")
    asked = {**small, "groups": "subjects", "trials": 2, "batch": 2}
    data = toy(subjects=4)
    return run_search(data, space=toy_space, out=folder / "run", cache=folder / "cache", seeds=2, **asked)


@pytest.fixture(scope="module")
def damaged(repeated: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchResult]:
    """The same run, had three outer jobs of the smallest budget's row and one of a baseline failed."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(repeated.folder, folder)
    (one, two), (other, _) = repeated.plan.partition.groups[0], repeated.plan.partition.groups[1]
    network = repeated.chosen.front[0].choices
    svm = repeated.tables.baselines.set_index("baseline").loc["rbf_svm", "genotype"]
    for genotype, subject, repetition in (
        (network["0"].genotype, one, 1),
        (network["0"].genotype, one, 2),
        (network["0"].genotype, two, 2),
        (svm, other, 0),
    ):
        fail = "UPDATE jobs SET probabilities = NULL, epochs = NULL, failure = 'forced'"
        place = (genotype, f'["{subject}"]', repetition)
        with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as database:
            changed = database.execute(f"{fail} WHERE genotype = ? AND left_out = ? AND repetition = ?", place)
            assert changed.rowcount == 1
    plan = repeated.plan
    with closing(Ledger(folder / "ledger.sqlite", plan.hash)) as ledger:
        record = Record(plan, ledger)
        chosen = choose(plan, record)
        tables = make_tables(plan, record, chosen, choose_baselines(plan, record))
        write_run(folder, plan, ledger, tables)
        yield replace(repeated, folder=folder, tables=tables, chosen=chosen)


def read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype={"budget": str, "subject": str}, keep_default_na=False)
    return table.assign(**{name: "" for name in KEYS if name not in table})


def blocks(folder: Path) -> dict[tuple[str, str, str], list[pd.DataFrame]]:
    """The predictions of every row of the front, the rules and the baselines: one table per repetition."""
    table = pd.concat([read(folder / "predictions.csv"), read(folder / "baseline_predictions.csv")])
    found: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for (budget, rule, baseline, _), rows in table.groupby([*KEYS, "seed"]):
        found.setdefault((budget, rule, baseline), []).append(rows)
    return found


def weights(rows: pd.DataFrame, classes: list[str], seed: int, resamples: int) -> np.ndarray:
    """How often each clip is taken in each resample of subjects within datasets, with NumPy alone."""
    pairs = list(zip(rows["dataset"], rows["subject"], strict=True))
    subjects = sorted(set(pairs))
    sizes = [sum(name == dataset for name, _ in subjects) for dataset in sorted({name for name, _ in subjects})]
    places = [subjects.index(pair) for pair in pairs]
    generator, drawn = np.random.default_rng([seed, 4]), []
    while len(drawn) < resamples:
        times = np.concatenate([np.bincount(generator.integers(0, n, size=n), minlength=n) for n in sizes])[places]
        if set(rows["label"][times > 0]) == set(classes):
            drawn.append(times)
    return np.array(drawn)


def mean_uf1(repetitions: list[pd.DataFrame], classes: list[str], taken: np.ndarray) -> np.ndarray:
    """The mean over repetitions of UF1 in each resample."""
    figures = []
    for rows in repetitions:
        truth, said = (rows[[column]].to_numpy() == np.array([classes]) for column in ("label", "prediction"))
        hits, predicted, actual = (taken @ table.astype(int) for table in (truth & said, said, truth))
        figures.append(np.mean(2 * hits / np.maximum(predicted + actual, 1), axis=1))
    return np.mean(figures, axis=0)


def scores(rows: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    truth, said = rows["label"], rows["prediction"]
    each = f1_score(truth, said, labels=classes, average=None, zero_division=0)
    return {
        "uf1": float(f1_score(truth, said, labels=classes, average="macro", zero_division=0)),
        "uar": float(recall_score(truth, said, labels=classes, average="macro", zero_division=0)),
        "accuracy": float(accuracy_score(truth, said)),
        **{f"f1_{name}": float(value) for name, value in zip(classes, each, strict=True)},
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # scikit-learn on a clip without prediction
@pytest.mark.parametrize("run", ["repeated", "damaged"])
def test_front_rules_and_baselines_are_means_over_repetitions_recomputed_from_the_files_alone(
    run: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(run).folder
    plan = YAML(typ="safe").load((folder / "plan.yaml").read_text())
    classes = plan["data"]["classes"]
    stated = pd.concat([read(folder / name) for name in ("front.csv", "rules.csv", "baselines.csv")]).set_index(KEYS)
    found = blocks(folder)
    assert set(stated.index) == set(found)
    taken = weights(next(iter(found.values()))[0], classes, plan["search"]["seed"], plan["resamples"]["intervals"])
    for key, repetitions in found.items():
        assert [set(rows["seed"]) for rows in repetitions] == [{0}, {1}, {2}]
        each = [scores(rows, classes) for rows in repetitions]
        low, high = np.percentile(mean_uf1(repetitions, classes, taken), [2.5, 97.5])
        failed = {subject for rows in repetitions for subject in rows["subject"][rows["prediction"] == ""]}
        again = {
            "nested_uf1": np.mean([one["uf1"] for one in each]),
            "nested_uar": np.mean([one["uar"] for one in each]),
            "ci_low": low,
            "ci_high": high,
            "failed": len(failed),
        }
        assert stated.loc[key, list(again)].to_dict() == pytest.approx(again, rel=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("run", ["repeated", "damaged"])
def test_every_score_is_the_mean_over_repetitions_of_those_of_scikit_learn(
    run: str, request: pytest.FixtureRequest
) -> None:
    result = request.getfixturevalue(run)
    table, classes = read(result.folder / "scores.csv"), list(result.plan.dataset.classes)
    found = blocks(result.folder)
    assert len(table) == 3 * len(found)
    spread = 0.0
    for line in table.to_dict(orient="records"):
        repetitions = found[tuple(line[name] for name in KEYS)]
        if line["part"] != "all":
            repetitions = [rows[rows["dataset"] == line["part"]] for rows in repetitions]
        each = pd.DataFrame([scores(rows, classes) for rows in repetitions])
        assert line["seeds"] == SEEDS
        assert line["clips"] == len(repetitions[0])
        assert float(line["uf1_sd"]) == pytest.approx(np.std(each["uf1"], ddof=1), abs=1e-12)
        assert {name: line[name] for name in each} == pytest.approx(each.mean().to_dict(), rel=1e-12)
        spread = max(spread, float(line["uf1_sd"]))
    assert spread > 0.01


def test_predictions_are_never_pooled_over_repetitions(repeated: SearchResult) -> None:
    classes = list(repeated.plan.dataset.classes)
    front = repeated.tables.front.set_index("budget")
    apart = []
    for (budget, _, _), repetitions in blocks(repeated.folder).items():
        if budget:
            pooled = scores(pd.concat(repetitions), classes)["uf1"]
            apart.append(abs(front.loc[budget, "nested_uf1"] - pooled))
    assert max(apart) > 1e-3


def test_a_subject_that_failed_in_any_repetition_counts_once_and_only_there(
    repeated: SearchResult, damaged: SearchResult
) -> None:
    smallest = repeated.chosen.front[0]
    before, after = (result.tables.front.set_index("budget").loc[smallest.budget] for result in (repeated, damaged))
    assert before["failed"] == 0
    assert after["failed"] == 2  # one subject in two repetitions, another in one
    svm = damaged.tables.baselines.set_index("baseline").loc["rbf_svm"]
    assert svm["failed"] == 1
    one, two = repeated.plan.partition.groups[0]
    lost = {(1, one), (2, one), (2, two)}
    names = [f"p_{name}" for name in repeated.plan.dataset.classes]
    tables = [result.tables.predictions for result in (repeated, damaged)]
    intact, now = (table[table["budget"] == smallest.budget].reset_index(drop=True) for table in tables)
    empty = np.array([place in lost for place in zip(now["seed"], now["subject"], strict=True)])
    assert set(now["prediction"][empty]) == {""}
    assert now[names][empty].isna().to_numpy().all()
    pd.testing.assert_frame_equal(now[~empty], intact[~empty])
    assert list(now["clip"]) == list(intact["clip"])


def test_a_failed_repetition_changes_no_choice(repeated: SearchResult, damaged: SearchResult) -> None:
    pd.testing.assert_frame_equal(damaged.tables.choices, repeated.tables.choices)
    pd.testing.assert_frame_equal(damaged.tables.trials, repeated.tables.trials)


def test_repetitions_differ_by_nothing_but_their_seed(repeated: SearchResult) -> None:
    plan = repeated.plan
    with closing(Ledger(repeated.folder / "ledger.sqlite", plan.hash)) as ledger:
        genotype = ledger.genotype(repeated.chosen.front[0].final.genotype)
    subject, classes = plan.dataset.subjects[0], len(plan.dataset.classes)
    made = [make_job(genotype, (subject,), plan.book, classes, plan.settings.seed, repetition=r) for r in range(SEEDS)]
    assert len({job.seed for _, job in made}) == len({job.key for _, job in made}) == SEEDS
    assert [replace(key, repetition=0) for key, _ in made] == [made[0][0]] * SEEDS
    fields = [{name: repr(value) for name, value in vars(job).items()} for _, job in made]
    varying = {name for name in fields[0] if len({one[name] for one in fields}) > 1}
    assert varying == {"key", "seed"}


def test_every_outer_training_is_repeated_on_the_same_subjects_and_clips(repeated: SearchResult) -> None:
    plan = repeated.plan
    with closing(sqlite3.connect(repeated.folder / "ledger.sqlite")) as database:
        query = "SELECT genotype, left_out, repetition, read, rows, probabilities FROM jobs"
        jobs = list(database.execute(f"{query} WHERE json_array_length(left_out) = 1 ORDER BY repetition"))
    by_training: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for genotype, left_out, *rest in jobs:
        by_training.setdefault((genotype, left_out), []).append(tuple(rest))
    families = {genotype.hash for grid in plan.families.values() for genotype in grid}
    for (genotype, _), repetitions in by_training.items():
        assert [one[0] for one in repetitions] == [0, 1, 2]
        assert len({one[1:3] for one in repetitions}) == 1
        if genotype not in families:  # a network begins elsewhere each time
            assert len({one[3] for one in repetitions}) == SEEDS
    tested = {genotype for genotype, _ in by_training}
    chosen = [*repeated.chosen.front, *repeated.chosen.rules]
    assert tested - families == {choice.genotype for row in chosen for choice in row.honest}
    assert all(tested & {genotype.hash for genotype in grid} for grid in plan.families.values())


def test_outer_jobs_name_every_training_once_per_repetition(repeated: SearchResult) -> None:
    rows = [*repeated.chosen.front, *repeated.chosen.rules]
    jobs = outer_jobs(repeated.plan, rows)
    trainings = {
        (choice.genotype, subject)
        for row in rows
        for group, choice in zip(repeated.plan.partition.groups, row.honest, strict=True)
        for subject in group
    }
    assert len(jobs) == len(set(jobs)) == SEEDS * len(trainings)
    assert {(genotype, subject) for genotype, _, subject, _ in jobs} == trainings


def test_repetition_0_is_the_run_without_repetitions_bit_for_bit(
    finished: SearchResult, repeated: SearchResult
) -> None:
    for name in ("choices.csv", "trials.csv"):
        assert (finished.folder / name).read_bytes() == (repeated.folder / name).read_bytes(), name
    for name in ("predictions.csv", "baseline_predictions.csv"):
        lines = (repeated.folder / name).read_text().splitlines()
        column = lines[0].split(",").index("seed")
        first = [line for line in lines[1:] if line.split(",")[column] == "0"]
        assert [lines[0], *first] == (finished.folder / name).read_text().splitlines(), name
    with_seeds, without = (jobs_of_repetition_0(result.folder) for result in (repeated, finished))
    assert with_seeds == without
    assert repeated.plan.hash != finished.plan.hash


def jobs_of_repetition_0(folder: Path) -> list[tuple[Any, ...]]:
    query = "SELECT key, read, rows, probabilities, epochs, failure FROM jobs WHERE repetition = 0 ORDER BY key"
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        return list(database.execute(query))


def inner(plan: Plan, folder: Path) -> tuple[dict[str, list[Candidate]], Chosen, tuple[Row, ...]]:
    """All inner scores of every study and all that was chosen by them."""
    with closing(Ledger(folder / "ledger.sqlite", plan.hash)) as ledger:
        record = Record(plan, ledger)
        own = {study: record.candidates(study) for study in plan.studies}
        return own, choose(plan, record), choose_baselines(plan, record)


def test_repetitions_never_enter_an_inner_score(textbook: SearchResult, tmp_path: Path) -> None:
    plan, folder = textbook.plan, tmp_path / "run"
    shutil.copytree(textbook.folder, folder)
    row = textbook.chosen.front[0]
    left_out = {job[2] for job in outer_jobs(plan, [row])}
    assert {(subject,) for subject in left_out} <= {subjects for _, subjects in plan.inner_left_out("final")}
    with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as database:
        wrong = np.tile([0.0, 0.0, 1.0], (6, 1)).astype("<f8").tobytes()
        changed = database.execute("UPDATE jobs SET probabilities = ? WHERE repetition > 0", (wrong,)).rowcount
        pairs = "SELECT count(*) FROM jobs WHERE repetition > 0 AND json_array_length(left_out) > 1"
        assert database.execute(pairs).fetchone() == (0,)
    scores, chosen, baselines = inner(plan, textbook.folder)
    assert changed == len(outer_jobs(plan, [*chosen.front, *chosen.rules, *baselines])) / 2
    assert inner(plan, folder) == (scores, chosen, baselines)
    with closing(Ledger(folder / "ledger.sqlite", plan.hash)) as ledger:
        after = repeated_predictions(plan, Record(plan, ledger), row)
    with closing(Ledger(textbook.folder / "ledger.sqlite", plan.hash)) as ledger:
        before = repeated_predictions(plan, Record(plan, ledger), row)
    assert before.shape == after.shape == (2, len(plan.dataset))
    assert (before[0] == after[0]).all()
    assert set(after[1]) == {2}
    assert (before[1] != after[1]).any()  # the change itself is no small one


def test_a_family_without_chance_has_the_same_figures_in_every_repetition(
    finished: SearchResult, repeated: SearchResult
) -> None:
    figures = ["nested_uf1", "nested_uar", "failed", "genotype"]
    majority = [
        result.tables.baselines.set_index("baseline").loc["majority", figures] for result in (finished, repeated)
    ]
    assert majority[0].to_dict() == majority[1].to_dict()
    spread = repeated.tables.scores.set_index("baseline").loc["majority", "uf1_sd"]
    assert list(spread) == [0.0, 0.0, 0.0]


def test_a_repetition_that_has_not_been_run_is_no_result(finished: SearchResult) -> None:
    plan = finished.plan
    with (
        closing(Ledger(finished.folder / "ledger.sqlite", plan.hash)) as ledger,
        pytest.raises(LookupError, match="repetition 1"),
    ):
        outer_predictions(plan, Record(plan, ledger), finished.chosen.front[0], 1)


@pytest.mark.parametrize("run", ["finished", "repeated", "damaged"])
def test_paired_differences_are_those_of_the_means_over_repetitions(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run).folder
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "paired_differences.py"
    spec = importlib.util.spec_from_file_location("paired_differences", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    plan = YAML(typ="safe").load((folder / "plan.yaml").read_text())
    classes = plan["data"]["classes"]
    found = blocks(folder)
    reference = found.pop(("", "best", "rbf_svm"))
    taken = weights(reference[0], classes, plan["search"]["seed"], plan["resamples"]["intervals"])
    once = np.ones((1, len(reference[0])), dtype=int)
    again = {}
    for (budget, rule, baseline), repetitions in found.items():
        name = baseline or (f"budget {budget}" if budget else f"rule {rule}")
        resampled = mean_uf1(repetitions, classes, taken) - mean_uf1(reference, classes, taken)
        (ahead,) = mean_uf1(repetitions, classes, once) - mean_uf1(reference, classes, once)
        again[name] = (ahead, *np.percentile(resampled, [2.5, 97.5]))
    stated = benchmark.differences(folder)
    assert stated.keys() == again.keys()
    for name, figures in stated.items():
        assert figures == pytest.approx(again[name], abs=1e-12), name
