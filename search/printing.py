"""What the commands tell a person, or a program with --json."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from mernas.components.datasets.clip import POOLED
from mernas.evaluation.picking import format_size
from mernas.search.duration import format_duration
from mernas.search.evaluate import EvaluationResult
from mernas.search.executor import SerialExecutor
from mernas.search.export import Exported
from mernas.search.forecast import forecast
from mernas.search.ledger import Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import Plan
from mernas.search.run import SearchResult
from mernas.space.taxonomy import FRAMES


def headline(plan: Plan, folder: Path) -> str:
    """Return what is searched and how, in four lines at most."""
    settings = plan.settings
    budgets = ", ".join(format_size(budget) for budget in plan.budgets)
    groups = len(plan.partition.groups)
    return (
        f"Data: {plan.dataset.name}, {len(plan.dataset)} clips of {len(plan.dataset.subjects)} subjects; "
        f"space: {plan.space_name}; {settings.trials} trials per study in batches of {settings.batch}; "
        f"{groups} groups, so {groups + 1} studies;\n"
        f"budgets {budgets}; limit {format_size(settings.max_parameters)} parameters; sampler {settings.sampler}; "
        f"{'' if settings.time is None else f'time {format_duration(settings.time)}; '}"
        f"racing {'on' if settings.racing else 'off'}; {'halving on; ' if settings.halving else ''}"
        f"seed {settings.seed}; outer trainings {settings.seeds} times; run directory {folder}"
    )


def place(kind: str, workers: int | None, address: str | None, device: str) -> str:
    """Return where the jobs run."""
    if kind == "serial":
        return f"Jobs run in this process, one after the other, on {device}."
    where = "on this machine" if address is None else f"on the cluster {address}"
    number = "as many jobs at once as there is room for" if workers is None else f"{workers} jobs at once"
    return f"Ray Tune runs {number} {where}, on {device}."


def print_forecast(plan: Plan, workers: int, as_json: bool, err: bool, full_audit: bool = False) -> None:
    """Forecast a search from a pilot and print it; trains nothing else and keeps nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(Path(scratch) / "pilot.sqlite", plan.hash)
        predicted = forecast(NestedSearch(plan, ledger, SerialExecutor()), workers, full_audit)
        ledger.close()
    if as_json:
        stages = [{"stage": title, "jobs": jobs, "seconds": seconds} for title, jobs, seconds in predicted.stages]
        body = {"plan": plan.hash, "stages": stages, "workers": workers, "seconds": predicted.seconds}
        click.echo(json.dumps({**body, "pilots": dict(predicted.pilots)}))
        return
    share = "one worker" if workers == 1 else f"{workers} workers that are never idle"
    click.echo(f"Forecast for {share}, from a pilot on random labels; jobs are the most there can be:", err=err)
    table = Table()
    for heading in ("stage", "jobs", "minutes"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for title, jobs, seconds in predicted.stages:
        table.add_row(title, str(jobs), f"{seconds / workers / 60:.1f}")
    table.add_row("in all", str(sum(jobs for _, jobs, _ in predicted.stages)), f"{predicted.seconds / 60:.1f}")
    Console(stderr=err).print(table)
    limit = plan.settings.time
    if limit is not None and predicted.seconds > limit:
        ends = "proposals end in time for the outer test, or nothing begins if not even one proposal fits"
        click.echo(f"That is longer than --time {format_duration(limit)}: {ends}.", err=err)
    for failure in predicted.failures:
        click.echo(f"A pilot failed and counts for nothing: {failure}", err=err)


def print_search(result: SearchResult, as_json: bool) -> None:
    """Print the tables of a finished search."""
    tables = result.tables
    if as_json:
        names = ("front", "rules", "baselines", "choices")
        body = {name: json.loads(getattr(tables, name).to_json(orient="records")) for name in names}
        head = {"folder": str(result.folder), "plan": result.plan.hash, "not_reported": list(result.chosen.empty)}
        click.echo(json.dumps({**head, **body}))
        return

    front = tables.front.assign(
        budget=[" = ".join(f"<={format_size(int(b))}" for b in str(text).split("+")) for text in tables.front["budget"]]
    )
    _print_table("Front: UF1 against parameters, nested leave-one-subject-out", front, "budget")
    _print_table("Pick rules: what this search with this rule attains on new subjects", tables.rules, "rule")
    _print_table("Baselines, searched in full by the same groups", tables.baselines, "baseline")
    if result.chosen.empty:
        missing = ", ".join(format_size(budget) for budget in result.chosen.empty)
        click.echo(f"Not reported, because some study has no candidate that small: {missing}.")
    click.echo(
        "inner UF1 is the score that candidates were chosen by: no estimate. nested UF1 is the estimate; its interval\n"
        "covers the choice of subjects, not of seeds. The largest nested UF1 of the front is itself a selection."
    )
    click.echo(f"Everything is in {result.folder}; to read it, open {result.folder / 'report.html'}")


def _print_table(title: str, data: pd.DataFrame, name: str) -> None:
    """Print one of the tables, with all its columns where there is room for them."""
    console = Console(width=None if sys.stdout.isatty() else 132)
    sized, wide = "params" in data.columns, console.width >= 125
    failures = wide or bool((data["failed"] > 0).any())
    columns: dict[str, Callable[[Any], str]] = {name: lambda row: str(row[name])}
    if sized:
        columns["params"] = lambda row: f"{row['params']:,}"
    if sized and wide:
        columns["other studies"] = lambda row: f"{row['params_min']:,} to {row['params_max']:,}"
    columns["inner UF1"] = lambda row: f"{row['inner_uf1']:.3f}"
    columns["nested UF1"] = lambda row: f"{row['nested_uf1']:.3f}"
    columns["95% interval"] = lambda row: f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
    if wide:
        columns["nested UAR"] = lambda row: f"{row['nested_uar']:.3f}"
    if failures:
        columns["failed"] = lambda row: str(row["failed"])
    if wide:
        columns["genotype"] = lambda row: str(row["genotype"])
    table = Table()
    for heading in columns:
        table.add_column(heading, justify="left" if heading in (name, "genotype") else "right", no_wrap=True)
    for row in data.to_dict(orient="records"):
        table.add_row(*(show(row) for show in columns.values()))
    click.echo(f"\n{title}")
    console.print(table)


def print_export(exported: Exported, as_json: bool) -> None:
    """Print what was exported, what it costs, and what the rule attains."""
    bundle, cost = exported.bundle, exported.footprint
    if as_json:
        body = {
            "folder": str(exported.folder),
            "genotype": bundle.genotype.hash,
            "rule": bundle.rule,
            "rule_estimate": asdict(bundle.estimate),
            "parameters": cost.parameters,
            "flops": cost.flops,
            "network_seconds": asdict(cost.network),
            "whole_seconds": None if cost.whole is None else asdict(cost.whole),
            "memory_bytes": cost.memory,
            "difference_in_a_fresh_process": exported.difference,
            "unavailable": dict(bundle.unavailable),
        }
        click.echo(json.dumps(body))
        return
    estimate = bundle.estimate
    click.echo(f"Exported to {exported.folder}: {cost.parameters:,} parameters, {cost.flops:,} operations per clip.")
    click.echo(
        f"One clip takes {cost.network.median * 1e3:.2f} ms (p95 {cost.network.p95 * 1e3:.2f} ms) through the network, "
        + ("" if cost.whole is None else f"{cost.whole.median * 1e3:.2f} ms with its preparation, ")
        + "on one thread of this machine."
    )
    click.echo(
        f"This search with the rule {bundle.rule} attains UF1 {estimate.uf1:.3f} ({estimate.low:.3f} to "
        f"{estimate.high:.3f}) on new subjects; that is no score of this one model."
    )
    for reason in bundle.unavailable.values():
        click.echo(f"Not written: {reason}")
    source = "VIDEO" if FRAMES in bundle.facts else "FLOW-IMAGES"
    click.echo(f"Its model card is {exported.folder / 'README.md'}; try `mernas predict {exported.folder} {source}`.")


def print_evaluation(result: EvaluationResult, as_json: bool) -> None:
    """Print the scores of a plain protocol, and what UF1 becomes where test subjects pick the epoch."""
    parts = {POOLED: result.scores, **result.parts}
    if as_json:
        body = {name: asdict(scores) for name, scores in parts.items()}
        interval = [result.ci_low, result.ci_high]
        head = {"pipeline": result.name, "genotype": result.genotype.hash, "protocol": result.protocol}
        no_result = None if result.audit is None else result.audit.plain()
        body_of = {"parameters": result.parameters, "uf1_interval": interval, "scores": body}
        click.echo(json.dumps({**head, **body_of, "audit_not_a_result": no_result}))
        return

    size = "" if result.parameters is None else f", {result.parameters:,} parameters"
    table = Table(title=f"{result.name}{size}: {result.protocol.upper()}, predictions pooled", title_justify="left")
    for heading in ("part", "clips", "UF1", "UAR", "accuracy", "failed"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name, scores in parts.items():
        figures = [f"{value:.4f}" for value in (scores.uf1, scores.uar, scores.accuracy)]
        table.add_row(name, str(scores.clips), *figures, str(scores.failed))
    Console().print(table)
    click.echo(f"95% interval of UF1 over subjects: {result.ci_low:.3f} to {result.ci_high:.3f}")
    if result.audit is not None:
        audit = result.audit
        click.echo(
            f"Not a result: UF1 would be {audit.common:.4f} with the best single epoch ({audit.common_epoch} of "
            f"{audit.epochs}) picked on the\ntest predictions, and {audit.per_subject:.4f} with the best epoch of "
            f"every test subject; {audit.fixed:.4f} is that of the last."
        )
