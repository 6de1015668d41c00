"""Figures: every table of a run made again from the ledger, compared as text, and scored once more by scikit-learn."""

from __future__ import annotations

import csv
import io
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from mernas.components.datasets.clip import POOLED
from mernas.search.plan import Plan
from mernas.search.racing import COMPLETED
from mernas.search.record import Record
from mernas.search.results import Tables
from mernas.search.verify_check import Check, first_difference
from mernas.search.verify_ledger import ReadLedger

TOLERANCE = 1e-12
"""How far two ways to add up the same counts may differ."""

PROMISES = {
    "front.csv": "every figure of the front follows from the ledger",
    "rules.csv": "every estimate of a pick rule follows from the ledger",
    "choices.csv": "every study chose what its rules choose from its own inner predictions",
    "predictions.csv": "every prediction is that of the outer job of its subject",
    "trials.csv": "every proposal has the state and the inner UF1 that its jobs give",
    "baselines.csv": "every figure of a baseline follows from the ledger",
    "baseline_predictions.csv": "every prediction of a baseline is that of the outer job of its subject",
    "scores.csv": "every score of a dataset or class follows from the predictions",
}


def compare_tables(folder: Path, tables: Tables) -> list[Check]:
    """Compare every table of a run directory with the one made again as text, so every figure to its last bit."""
    checks = []
    for name, table in tables.files().items():
        check = Check(name, PROMISES.get(name, "it follows from the ledger"))
        expected = table.to_csv(index=False, lineterminator="\n")
        found = read_text(folder / name)
        if found is None:
            check.skipped = "there is no such file"
        else:
            compare_csv(name, found, expected, check)
        checks.append(check)
    return checks


def compare_csv(name: str, found: str, expected: str, check: Check) -> None:
    r"""Compare two CSV texts line by line and tell of every cell that differs.

    Example:
        >>> check = Check("a.csv", "")
        >>> compare_csv("a.csv", "x,y\n1,2\n", "x,y\n1,3\n", check)
        >>> str(check.findings[0])
        'a.csv line 2, y: found 2, expected 3'
    """
    if found == expected:
        check.checked += expected.count("\n")
        return
    heading = next(csv.reader(io.StringIO(expected)), [])
    lines = zip_longest(found.split("\n"), expected.split("\n"))
    for number, (one, other) in enumerate(lines, start=1):
        check.checked += 1
        if one == other:
            continue
        where = f"{name} line {number}"
        if one is None or other is None:
            check.fail(where, one if one is not None else "no such line", other if other is not None else "no line")
            continue
        try:
            cells, wanted = (next(csv.reader([line]), []) for line in (one, other))
        except csv.Error:
            cells = wanted = []
        if len(cells) != len(wanted) or cells == wanted or number == 1:
            check.fail(where, one, other)
            continue
        for column, cell, right in zip(heading, cells, wanted, strict=False):
            if cell != right:
                check.fail(f"{where}, {column}", cell or "nothing", right or "nothing")


def compare_candidates(folder: Path, tables: Tables, ledger: ReadLedger, check: Check) -> None:
    """Compare the YAML of every pipeline that some study chose with the ledger's."""
    chosen = {*tables.choices["genotype"], *tables.baselines["genotype"]}
    there = {path.name for path in (folder / "candidates").glob("*")}
    for key in sorted(chosen):
        name = f"candidates/{key}.yaml"
        found, expected = read_text(folder / name), ledger.genotype(key).to_yaml()
        if found is None:
            check.fail(name, "no such file", "the pipeline of this hash")
        elif not check.expect(found == expected, name, "another text", "the pipeline of this hash"):
            check.findings[-1] = first_difference(name, found, expected)
    for name in sorted(there - {f"{key}.yaml" for key in chosen}):
        check.fail(f"candidates/{name}", "a file", "none: no study chose it")


def check_independently(folder: Path, plan: Plan, record: Record, check: Check) -> None:
    """Score the written predictions with scikit-learn and compare with the written figures.

    Inner UF1 is scored from the pooled inner predictions; the written figures are those of the files as they are.
    """
    labels = list(plan.dataset.classes)
    scored = _scored(folder, labels)
    for name in ("front.csv", "rules.csv", "baselines.csv"):
        for number, line in enumerate(read_text_table(folder / name).to_dict(orient="records"), start=2):
            key = (line.get("budget", ""), line.get("rule", ""), line.get("baseline", ""), POOLED)
            for figure, column in (("uf1", "nested_uf1"), ("uar", "nested_uar")):
                _near(f"{name} line {number}, {column}", line.get(column), scored.get(key, {}).get(figure), check)
    for number, line in enumerate(read_text_table(folder / "scores.csv").to_dict(orient="records"), start=2):
        key = (line.get("budget", ""), line.get("rule", ""), line.get("baseline", ""), line.get("part", ""))
        for figure, value in scored.get(key, {}).items():
            if figure in line and line[figure] != "":
                _near(f"scores.csv line {number}, {figure}", line[figure], value, check)
    proposed = {(study, draw.genotype) for study in plan.studies for draw in record.proposals(study)}
    for number, line in enumerate(read_text_table(folder / "choices.csv").to_dict(orient="records"), start=2):
        study, genotype = line.get("group", ""), line.get("genotype", "")
        inner = _inner(plan, record, study, genotype) if (study, genotype) in proposed else None
        _near(f"choices.csv line {number}, inner_uf1", line.get("inner_uf1"), inner, check)


def _inner(plan: Plan, record: Record, study: str, genotype: str) -> float | None:
    pooled = record.pooled(study, genotype) if record.verdict(study, genotype).state == COMPLETED else None
    if pooled is None:
        return None
    numbers = range(len(plan.dataset.classes))
    truth = plan.book.labels[pooled.rows]
    return float(f1_score(truth, pooled.predictions, labels=list(numbers), average="macro", zero_division=0))


def _scored(folder: Path, labels: list[str]) -> dict[tuple[str, ...], dict[str, float]]:
    """The scores by budget, rule, baseline and part: means over repetitions, each from its own pooled predictions."""
    repetitions: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for name in ("predictions.csv", "baseline_predictions.csv"):
        table = read_text_table(folder / name)
        wanted = {"rule", "seed", "dataset", "label", "prediction"}
        if not wanted <= set(table.columns):
            continue
        blocks = table.assign(**{column: "" for column in ("budget", "baseline") if column not in table.columns})
        for block, rows in blocks.groupby(["budget", "rule", "baseline", "seed"], sort=False):
            parts = [(POOLED, rows), *((str(name), own) for name, own in rows.groupby("dataset"))]
            for part, own in parts:
                key = (*map(str, block[:3]), part)
                repetitions.setdefault(key, []).append(_scores(own, labels))
    means: dict[tuple[str, ...], dict[str, float]] = {}
    for key, scores in repetitions.items():
        means[key] = {figure: mean(one[figure] for one in scores) for figure in scores[0]}
        if len(scores) > 1:
            means[key]["uf1_sd"] = stdev(one["uf1"] for one in scores)
    return means


def _scores(rows: pd.DataFrame, labels: list[str]) -> dict[str, float]:
    truth, said = rows["label"].to_numpy(dtype=object), rows["prediction"].to_numpy(dtype=object)
    _, recall, each, _ = precision_recall_fscore_support(truth, said, labels=labels, average=None, zero_division=0)
    return {
        "uf1": float(each.mean()),
        "uar": float(recall.mean()),
        "accuracy": float(accuracy_score(truth, said)),
        **{f"f1_{name}": float(value) for name, value in zip(labels, each, strict=True)},
    }


def _near(where: str, found: object, value: float | None, check: Check) -> None:
    if value is None:
        check.fail(where, found, "predictions to score")
        return
    try:
        close = abs(float(str(found)) - value) <= TOLERANCE
    except ValueError:
        close = False
    check.expect(close, where, str(found), f"{value!r} of scikit-learn")


def read_text_table(path: Path) -> pd.DataFrame:
    """Return a CSV file as text; empty where it cannot be read, which the comparison of the files tells.

    Args:
        path: The file.

    Example:
        >>> len(read_text_table(Path("no-such-file.csv")))
        0
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):  # pandas' errors of parsing and decoding are ValueErrors
        return pd.DataFrame()


def read_text(path: Path) -> str | None:
    """Return a text file, where bytes that are no text show as such; None where there is no file.

    Args:
        path: The file.

    Example:
        >>> read_text(Path("no-such-file.md")) is None
        True
    """
    try:
        return path.read_bytes().decode("utf-8", errors="backslashreplace")
    except OSError:
        return None
