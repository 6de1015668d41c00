"""Running a search: from what a user asks for to a folder of results. The command line and Python both come here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.composite import join
from mernas.evaluation.partition import make_partition, read_partition
from mernas.evaluation.picking import default_rules, parse_budgets, parse_size
from mernas.search.baselines import families
from mernas.search.choosing import Chosen
from mernas.search.executor import Executor, Interrupted, SerialExecutor
from mernas.search.ledger import Ledger
from mernas.search.lock import sole_driver
from mernas.search.nested import NestedSearch
from mernas.search.picture import draw_front
from mernas.search.plan import Plan, Settings, make_plan
from mernas.search.reporter import Reporter, Silent
from mernas.search.results import (
    Tables,
    environment,
    interim_front,
    make_tables,
    trials_table,
    write_bytes,
    write_run,
    write_table,
    write_text,
)
from mernas.space.errors import DataError, PlanError, Problem, SpaceError, UnknownNameError
from mernas.space.genotype import Genotype
from mernas.space.presets import load_preset, preset_names
from mernas.space.registry import REGISTRY
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial
from mernas.space.tree import SearchSpace
from mernas.space.yaml_text import read_yaml

GROUPS = 5
RUNS = Path("mernas-runs")


def load_data(*texts: str) -> Dataset:
    """Return a dataset by `NAME` or `NAME=PATH`, or the composite of several.

    Args:
        texts: `synthetic`, or e.g. `flow-images=/data/norm_u_v_os`.

    Raises:
        UnknownNameError: If no dataset has that name, with the nearest known ones.
        DataError: If a path is missing or superfluous, or the data are not what they should be.

    Example:
        >>> len(load_data("synthetic").classes)
        3
    """
    return join([_load(text) for text in texts])


def _load(text: str) -> Dataset:
    name, given, path = text.partition("=")
    declaration = REGISTRY.get("dataset", name)
    component: Any = declaration.factory()
    wants_path = "path" in inspect.signature(component.load).parameters
    if wants_path and not path:
        raise DataError(Problem(f"dataset {name}", "needs to know where it lies", "", f"write {name}=PATH"))
    if given and not wants_path:
        raise DataError(Problem(f"dataset {name}", "has no files", path, f"write {name}"))
    loaded: Dataset = component.load(Path(path).expanduser()) if wants_path else component.load()
    return loaded


def fitting_presets(space: SearchSpace) -> dict[str, Genotype]:
    """Return the presets that lie in a space, by name."""
    presets = {name: load_preset(name).genotype for name in preset_names()}
    return {name: genotype for name, genotype in presets.items() if genotype in space}


def plan_search(
    data: Dataset,
    space: str | Path = "standard",
    groups: int | str | None = None,
    partition: Path | None = None,
    budgets: str | Sequence[str | int] | None = None,
    max_params: int | str = 1_000_000,
    **settings: Any,
) -> Plan:
    """Return the plan of a search; see `run_search` for the arguments.

    Raises:
        PlanError: With every contradiction that can be seen before the data are divided.
        SpaceError: With every mistake in the space file.
    """
    problems: list[Problem | str] = []

    def checked(check: Callable[[], Any], fallback: Any) -> Any:
        try:
            return check()
        except (PlanError, SpaceError, UnknownNameError) as error:
            problems.extend(error.problems)
            return fallback

    limit = checked(lambda: parse_size(max_params), None)
    known = budgets is not None and limit is not None
    parsed = checked(lambda: parse_budgets(budgets, limit), None) if known and budgets is not None else None
    asked = Settings(max_parameters=limit or 1, **settings)
    problems.extend(asked.problems())
    if groups is not None and partition is not None:
        problems.append(Problem("--groups", "cannot be given with --partition", str(groups), "leave one of them out"))
    tree = checked(lambda: _inhabited(load_space(space, data.provides)), None)
    keys = [clip.key for clip in data]
    subjects = [clip.subject for clip in data]
    datasets = [clip.dataset for clip in data]
    made = checked(
        lambda: (
            make_partition(keys, subjects, datasets, data.labels, data.classes, _groups(groups), max(asked.seed, 0))
            if partition is None
            else read_partition(partition, subjects, data.labels, data.classes)
        ),
        None,
    )
    if problems:
        raise PlanError(problems)
    return make_plan(
        dataset=data,
        space=tree,
        space_name=Path(space).name if Path(space).suffix else str(space),
        partition=made,
        settings=Settings(**{**vars(asked), "budgets": parsed}),
        rules=default_rules(()),
        presets=fitting_presets(tree),
        families=families(data),
    )


def _inhabited(space: SearchSpace) -> SearchSpace:
    """Return a space that has at least one pipeline; draws one to see."""
    space.suggest(RandomTrial(0))
    return space


def _groups(groups: int | str | None) -> Any:
    if groups is None:
        return GROUPS
    if isinstance(groups, int) or groups == "subjects":
        return groups
    try:
        return int(groups)
    except ValueError:
        raise PlanError(Problem("--groups", 'must be a number or "subjects"', groups)) from None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """A finished search.

    Attributes:
        plan: What was done.
        folder: The run directory.
        tables: Everything that was found; see `Tables`.
        chosen: What every study chose.
    """

    plan: Plan
    folder: Path
    tables: Tables
    chosen: Chosen

    @property
    def front(self) -> pd.DataFrame:
        """One row per budget."""
        return self.tables.front


def run_search(
    data: Dataset | str,
    *,
    space: str | Path = "standard",
    trials: int = 64,
    batch: int = 8,
    groups: int | str | None = None,
    partition: Path | None = None,
    budgets: str | Sequence[str | int] | None = None,
    max_params: int | str = 1_000_000,
    sampler: str = "tpe",
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    cache: Path | None = None,
    executor: Executor | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Search for the best pipelines under nested leave-one-subject-out; the same call resumes, or returns the result.

    Args:
        data: A dataset, or what `load_data` takes.
        space: `quick`, `standard`, `full`, or the path of a space file.
        trials: Proposals per study.
        batch: Proposals per study and round.
        groups: How many groups of subjects, at least 3, or `subjects` for one subject per group; 5 if not given.
        partition: A file with the groups of an earlier plan, instead of `groups`.
        budgets: Parameter budgets, e.g. `"2k,10k"`; by default 2k, 10k, 50k, 250k, 1M below `max_params`, and that.
        max_params: No candidate is larger.
        sampler: `tpe` or `random`.
        seed: One seed, one result.
        device: `cpu` or `cuda`.
        out: The run directory; by default its name comes from the plan's hash.
        cache: The folder of prepared maps.
        executor: Where jobs run; in this process by default.
        reporter: Who tells the user.
        stopping: Asked between jobs whether to stop.

    Raises:
        MernasError: For every mistake of the user, with what to do about it; `LedgerError` if another process runs
            the same search in the same directory.
        Interrupted: If `stopping` said so.

    Example:
        >>> run_search("synthetic", trials=0)
        Traceback (most recent call last):
        mernas.space.errors.PlanError: --trials: must be at least 1, found 0.
    """
    dataset = load_data(data) if isinstance(data, str) else data
    plan = plan_search(
        dataset, space, groups, partition, budgets, max_params,
        trials=trials, batch=batch, sampler=sampler, seed=seed, device=device,
    )  # fmt: skip
    return execute_plan(plan, run_folder(plan, out), cache, executor, reporter, stopping)


def run_folder(plan: Plan, out: str | Path | None = None) -> Path:
    """Return where a plan's run lives: what the user said, or a name made of the data and the plan's hash."""
    return Path(out).expanduser() if out is not None else RUNS / f"{plan.dataset.name}-{plan.hash[:10]}"


def claim(plan: Plan, folder: Path) -> None:
    """Make a run directory for a plan, or see that it is that plan's.

    Raises:
        PlanError: If it belongs to another plan.
        DataError: If it cannot be written.
    """
    stated = folder / "plan.yaml"
    if stated.exists():
        other = read_yaml(stated)
        found = str(other.get("hash")) if isinstance(other, dict) else "no plan"
        if found != plan.hash:
            remedy = "choose another --out, or repeat the command that made this run"
            rule = f"belongs to another plan than {plan.hash}"
            raise PlanError(Problem(f"run directory {folder}", rule, found, remedy))
    else:
        write_text(stated, plan.to_yaml())
        write_text(folder / "environment.txt", environment())


def execute_plan(
    plan: Plan,
    folder: Path,
    cache: Path | None = None,
    executor: Executor | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Do what a plan says and its run directory does not hold yet; arguments as for `run_search`."""
    claim(plan, folder)
    with sole_driver(folder), closing(Ledger(folder / "ledger.sqlite", plan.hash)) as ledger:
        reporter = reporter or Silent()
        written = folder / "environment.txt"
        if written.is_file() and written.read_text(encoding="utf-8") != environment():
            reporter.say("This run began on another machine or with other versions: bits of its results may differ.")
        search = NestedSearch(
            plan=plan,
            ledger=ledger,
            executor=executor or SerialExecutor(),
            cache=cache,
            reporter=reporter,
            stopping=stopping,
        )
        try:
            chosen, baselines = search.run()
        except (Interrupted, KeyboardInterrupt):
            write_table(folder / "interim.csv", interim_front(plan, search.record))
            write_table(folder / "trials.csv", trials_table(plan, search.record))
            raise Interrupted(str(folder)) from None
        tables = make_tables(plan, search.record, chosen, baselines)
        write_run(folder, plan, ledger, tables)
        write_bytes(folder / "front.png", draw_front(plan, tables))
        return SearchResult(plan, folder, tables, chosen)
