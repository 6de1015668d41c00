"""The rows of a run with their figures, and what else stands in the picture of the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mernas.evaluation.bootstrap import difference_interval
from mernas.search.choosing import Row, repeated_predictions
from mernas.search.finished import FinishedRun
from mernas.search.notation import figure, rule_title, span, thousands
from mernas.search.plan import FINAL
from mernas.search.report.words import describe


@dataclass(frozen=True, eq=False)
class Estimate:
    """One row of the front, the rules or the baselines, with its figures as the tables have them.

    Attributes:
        row: What was chosen.
        title: What people call it.
        kind: `budget`, `rule` or `baseline`.
        params, params_min, params_max: Sizes of the final study's choice and of those of the others; 0 for baselines.
        genotypes: How many pipelines the studies that leave a group out chose.
        inner: Mean inner UF1 of their choices: a selection score.
        nested, low, high, uar: The estimate with its 95% interval, and the mean recall.
        failed: Subjects without a prediction.
    """

    row: Row
    title: str
    kind: str
    params: int
    params_min: int
    params_max: int
    genotypes: int
    inner: float
    nested: float
    low: float
    high: float
    uar: float
    failed: int

    @property
    def interval(self) -> str:
        """The 95% interval as a text."""
        return span(self.low, self.high)


@dataclass(frozen=True)
class Preset:
    """A published method that was proposed in a run.

    Attributes:
        name: Its name.
        params: Its parameter count.
        inner: Its inner UF1 in the final study.
        short: It in words.
    """

    name: str
    params: int
    inner: float
    short: str


def network_estimates(run: FinishedRun) -> tuple[Estimate, ...]:
    """Return the rows of the front, then those of the rules."""
    front = _joined(run.chosen.front, run.tables.front, "budget")
    return (*front, *_joined(run.chosen.rules, run.tables.rules, "rule"))


def baseline_estimates(run: FinishedRun) -> tuple[Estimate, ...]:
    """Return the rows of the baselines."""
    return tuple(_joined(run.baselines, run.tables.baselines, "baseline"))


def distinct(estimates: Sequence[Estimate]) -> list[tuple[Estimate, str]]:
    """Return every estimate that differs from those before it, with the titles of all rows of the same choices."""
    titles: dict[tuple[tuple[str, str], ...], list[str]] = {}
    first: dict[tuple[tuple[str, str], ...], Estimate] = {}
    for one in estimates:
        key = tuple((study, choice.genotype) for study, choice in one.row.choices.items())
        first.setdefault(key, one)
        titles.setdefault(key, []).append(one.title)
    return [(one, " = ".join(titles[key])) for key, one in first.items()]


def final_trials(run: FinishedRun) -> pd.DataFrame:
    """Return the completed proposals of the final study, lines of trials.csv."""
    trials = run.tables.trials
    return trials[(trials["group"] == FINAL) & (trials["state"] == "completed")].reset_index(drop=True)


def proposed_presets(run: FinishedRun, trials: pd.DataFrame) -> tuple[Preset, ...]:
    """Return the published methods among the completed proposals of the final study, by name."""
    found = trials[trials["origin"].str.startswith("preset ")].sort_values("origin")
    return tuple(
        Preset(
            name=str(line["origin"]).removeprefix("preset "),
            params=int(line["params"]),
            inner=float(line["inner_uf1"]),
            short=describe(run.genotype(line["genotype"])).short,
        )
        for line in found.to_dict("records")
    )


@dataclass(frozen=True)
class Difference:
    """UF1 of one row minus that of another, paired over subjects.

    Attributes:
        title: Of the other row.
        value, low, high: The difference and its 95% interval.
    """

    title: str
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says; what is nothing to nine digits is rounding, and zero."""
        low, value, high = (round(number, 9) for number in (self.low, self.value, self.high))
        if low == value == high == 0:
            return "equal in every resample"
        if low > 0:
            return "ahead: the interval lies above zero"
        return "behind: the interval lies below zero" if high < 0 else "not told apart: the interval covers zero"


def difference(run: FinishedRun, one: Estimate, other: Estimate) -> Difference:
    """Return the difference in UF1 of two rows of a run, with the resamples that its intervals share."""
    plan, record = run.plan, run.record
    mine, theirs = (repeated_predictions(plan, record, side.row) for side in (one, other))
    low, high = difference_interval("uf1", plan.book.labels, mine, theirs, plan.book.subjects, run.tables.resamples)
    return Difference(other.title, one.nested - other.nested, low, high)


def told(estimate: Estimate, title: str, short: str = "") -> str:
    """Return everything about a row, line by line, for a tooltip and for a screen reader."""
    lines = [
        f"{estimate.kind.capitalize()} {title}",
        f"nested UF1 {figure(estimate.nested)} {estimate.interval}, the estimate",
        f"inner UF1 {figure(estimate.inner)}, a selection score",
    ]
    if estimate.kind != "baseline":
        sizes = f"{thousands(estimate.params_min)} to {thousands(estimate.params_max)} in the other studies"
        lines.append(f"{thousands(estimate.params)} parameters in the final study, {sizes}")
    return "\n".join([*lines, short] if short else lines)


def _joined(rows: Sequence[Row], table: pd.DataFrame, kind: str) -> list[Estimate]:
    records: list[dict[Any, Any]] = table.to_dict("records")
    return [
        Estimate(
            row=row,
            title=rule_title(row.title),
            kind=kind,
            params=int(line.get("params", 0)),
            params_min=int(line.get("params_min", 0)),
            params_max=int(line.get("params_max", 0)),
            genotypes=int(line["genotypes"]),
            inner=float(line["inner_uf1"]),
            nested=float(line["nested_uf1"]),
            low=float(line["ci_low"]),
            high=float(line["ci_high"]),
            uar=float(line["nested_uar"]),
            failed=int(line["failed"]),
        )
        for row, line in zip(rows, records, strict=True)
    ]
