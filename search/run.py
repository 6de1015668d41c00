"""Running a search: from what a user asks for to a folder of results. The command line and Python both come here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.composite import join
from mernas.components.datasets.recording import printable
from mernas.evaluation.partition import make_partition, read_partition
from mernas.evaluation.picking import default_rules, parse_budgets, parse_size
from mernas.search.baselines import families
from mernas.search.belonging import check_belongs, refuse_model
from mernas.search.choosing import Chosen
from mernas.search.clock import Clock
from mernas.search.duration import format_duration, parse_duration
from mernas.search.environment import differences, environment
from mernas.search.executor import Executor, Interrupted
from mernas.search.finished import open_run
from mernas.search.ledger import Ledger
from mernas.search.lock import UnwritableFolderError, sole_driver
from mernas.search.named_data import load_all
from mernas.search.nested import NestedSearch
from mernas.search.noted_data import NAME, note_data, noted_data
from mernas.search.out_file import unwritable
from mernas.search.plan import JOB_TIME, SPACE_FILE, Plan, Settings, make_plan
from mernas.search.report import report_files
from mernas.search.reporter import Reporter, Silent
from mernas.search.results import (
    Tables,
    interim_front,
    make_tables,
    trials_table,
    write_bytes,
    write_run,
    write_table,
    write_text,
)
from mernas.search.workers import chosen_executor, working
from mernas.space.errors import DataError, PlanError, Problem, SpaceError, UnknownNameError
from mernas.space.genotype import Genotype
from mernas.space.presets import load_preset, preset_names
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial
from mernas.space.tree import SearchSpace
from mernas.space.yaml_text import read_yaml

GROUPS = 5
AUDITS = ("usual", "full")
ENVIRONMENT = "environment.txt"
RUNS = Path("mernas-runs")
SLOWER = (
    "On a processor --together trains the same folds one after another, and slower than without it: it suits a GPU."
)
"""What those are told who ask for it there."""


def load_data(*texts: str, say: Callable[[str], None] = lambda note: None) -> Dataset:
    """Return a dataset by `NAME` or `NAME=PATH` or by the path of a manifest, or the composite of several.

    Args:
        texts: `synthetic`, or e.g. `flow-images=/data/norm_u_v_os`, or `clips.csv`: anything that ends in `.csv`.
        say: Told what the loaders note: what is missing or was assumed.

    Raises:
        UnknownNameError: If no dataset has that name, with the nearest known ones.
        DataError: If a path is missing or superfluous, or the data are not what they should be; with the mistakes in
            all of them.

    Example:
        >>> len(load_data("synthetic").classes)
        3
    """
    return join(load_all(texts, say))


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
    time: str | float | None = None,
    job_time: str | float = JOB_TIME,
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
    seconds = None if time is None else checked(lambda: parse_duration(time), None)
    each = checked(lambda: parse_duration(job_time, "--job-time"), JOB_TIME)
    asked = Settings(max_parameters=limit or 1, time=seconds, job_time=each, **settings)
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

    def export(self, out: str | Path, pick: str = "knee") -> Path:
        """Train what a rule chooses in the final study on everyone and write it as a bundle; see `export_model`."""
        from mernas.search.export import export_model

        return export_model(open_run(self.folder), pick, out, self.plan.dataset).folder


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
    seeds: int = 1,
    device: str = "cpu",
    asynchronous: bool = False,
    time: str | float | None = None,
    job_time: str | float = JOB_TIME,
    racing: bool = False,
    halving: bool = False,
    together: bool = False,
    out: str | Path | None = None,
    cache: Path | None = None,
    executor: str | Executor = "auto",
    workers: int | None = None,
    address: str | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
    audit: str = "usual",
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
        sampler: Who proposes; one of `mernas.search.plan.SAMPLERS`.
        seed: One seed, one result.
        seeds: How often every outer training is repeated, each time from another seed.
        device: `cpu` or `cuda`.
        asynchronous: Let a study propose as soon as it has room; faster on many workers, and one seed no longer gives
            one result.
        time: How long the whole run may take, e.g. `"2h"`; it then ends with fewer trials.
        job_time: How long one training may take before it counts as failed.
        racing: Stop a candidate in a study after any of its folds where it is clearly worse than another one of no more
            parameters; the job of a fold is then trained only if some study still needs it.
        halving: Train the candidates of a batch for a ninth of their epochs first, and only the third of them that is
            best in UF1 against parameters for all of them.
        together: Train the folds of a candidate as one, as suits a GPU; this is a numeric path of its own. Pipelines
            that do not allow it are trained fold by fold, and the reporter is told why.
        out: The run directory; by default its name comes from the plan's hash.
        cache: The folder of prepared maps.
        executor: `serial`, `ray`, or an executor; by default Ray Tune where there is more than one worker.
        workers: How many jobs run at once; by default one for each core, or what a cluster has.
        address: Of a Ray cluster, e.g. `auto`.
        reporter: Who tells the user.
        stopping: Asked between jobs whether to stop.
        audit: `usual`, or `full` for LOSO of all the final study's candidates as well, which is no result.

    Raises:
        MernasError: For every mistake of the user, with what to do about it; `LedgerError` if another process runs
            the same search in the same directory.
        Interrupted: If `stopping` said so.

    Example:
        >>> run_search("synthetic", trials=0)
        Traceback (most recent call last):
        mernas.space.errors.PlanError: --trials: must be at least 1, found 0.
    """
    if isinstance(executor, str):
        chosen_executor(executor, workers, device, address)
    dataset = load_data(data) if isinstance(data, str) else data
    plan = plan_search(
        dataset, space, groups, partition, budgets, max_params, time, job_time, trials=trials, batch=batch,
        sampler=sampler, seed=seed, seeds=seeds, device=device, asynchronous=asynchronous,
        racing=racing, halving=halving, together=together,
    )  # fmt: skip
    texts = (data,) if isinstance(data, str) else ()
    folder = run_folder(plan, out)
    return execute_plan(plan, folder, cache, executor, workers, address, reporter, stopping, audit, texts)


def run_folder(plan: Plan, out: str | Path | None = None) -> Path:
    """Return where a plan's run lives: what the user said, or a name made of the data and the plan's hash."""
    return Path(out).expanduser() if out is not None else RUNS / f"{plan.dataset.name}-{plan.hash[:10]}"


def make_folder(folder: Path, option: str = "--out") -> None:
    """Make a run directory if there is none.

    Args:
        folder: The folder.
        option: The option that named it.

    Raises:
        PlanError: If it holds an exported model.
        DataError: If it cannot be made.
    """
    try:
        refuse_model(folder, option)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, f"choose another folder with {option}") from None


def claim(plan: Plan, folder: Path) -> None:
    """Make a run directory a plan's own, or see that it is; its lock must be held.

    Raises:
        PlanError: If it belongs to another plan.
        DataError: If it cannot be written.
    """
    check_belongs(plan, folder)
    stated = folder / "plan.yaml"
    if stated.exists():
        if _is_of(plan, folder):
            if not (folder / SPACE_FILE).exists():  # begun by a version that did not write it
                write_text(folder / SPACE_FILE, plan.space_to_yaml())
            return
        for left in folder.glob("ledger.sqlite*"):
            left.unlink()
    write_text(folder / SPACE_FILE, plan.space_to_yaml())
    write_text(folder / ENVIRONMENT, environment(machine=True))
    write_text(stated, plan.to_yaml())  # last, because who finds it writes nothing else


def _is_of(plan: Plan, folder: Path) -> bool:
    other = read_yaml(folder / "plan.yaml")
    return isinstance(other, dict) and str(other.get("hash")) == plan.hash


def execute_plan(
    plan: Plan,
    folder: Path,
    cache: Path | None = None,
    executor: str | Executor = "auto",
    workers: int | None = None,
    address: str | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
    audit: str = "usual",
    data: Sequence[str] = (),
) -> SearchResult:
    """Do what a plan says and its run directory does not hold yet; arguments as for `run_search`, but for two.

    `plan` and `folder` say what to do and where. `data` is what `load_data` took for the plan's dataset: it is kept in
    data.txt, so that `mernas export` finds the data again, and is no part of the plan, which knows them by content.
    """
    check_audit(audit, plan)
    reporter = reporter or Silent()
    make_folder(folder)
    with ExitStack() as held:
        try:
            held.enter_context(sole_driver(folder))
        except UnwritableFolderError:
            if audit != "usual" or not _is_finished(plan, folder):
                raise
            reporter.say(f"{folder} cannot be written; this is its finished result, as it lies there.")
            run = open_run(folder)
            return SearchResult(plan, folder, run.tables, run.chosen)
        claim(plan, folder)
        ledger = held.enter_context(closing(Ledger(folder / "ledger.sqlite", plan.hash)))
        changed = _changed(folder / ENVIRONMENT)
        if changed:
            reporter.say(f"This run began with {', '.join(changed)}: bits of its results may differ.")
        if plan.settings.together and plan.settings.device == "cpu":
            reporter.say(SLOWER)
        if data:
            note_data(folder, data)
        ledger.begin_session()
        with working(executor, workers, plan.settings.device, address, folder / "log.txt") as made:
            search = NestedSearch(plan, ledger, made, cache, reporter, stopping)
            if plan.settings.time is not None:
                search.time_for = Clock(search, plan.settings.time)
            try:
                chosen, baselines = search.run()
            except (Interrupted, KeyboardInterrupt):
                trials = trials_table(plan, search.record)
                write_table(folder / "interim.csv", interim_front(plan, trials))
                write_table(folder / "trials.csv", trials)
                raise Interrupted(str(folder)) from None
            ended = ledger.ended_at()
            if ended is not None:
                again = f"`--trials {ended}` without --time repeats this"
                reporter.say(f"Time was up after {ended} trials per study; {again}.")
            tables = make_tables(plan, search.record, chosen, baselines)
            write_run(folder, plan, ledger, tables)
            try:
                if audit == "full":
                    search.audit()
            finally:  # a run whose audit was stopped has its results all the same
                write_report(folder)
        return SearchResult(plan, folder, tables, chosen)


def _is_finished(plan: Plan, folder: Path) -> bool:
    """Whether a folder holds the results of a plan, and their report, which is written last."""
    names = ("plan.yaml", "front.csv", "predictions.csv", "report.html")
    return all((folder / name).is_file() for name in names) and _is_of(plan, folder)


def _changed(written: Path) -> list[str]:
    """What of the machine and the libraries is not as it was when a run began, as far as the run says."""
    if not written.is_file():
        return []
    return differences(written.read_text(encoding="utf-8", errors="replace"), environment(machine=True))


def check_audit(audit: str, plan: Plan) -> None:
    """See that a kind of audit exists and that there may be time for it.

    Raises:
        PlanError: If not.
    """
    if audit not in AUDITS:
        raise PlanError(Problem("--audit", f"must be {' or '.join(AUDITS)}", audit))
    if audit == "full" and plan.settings.time is not None:
        remedy = "leave one of them out; a search with --trials can be audited whenever it is finished"
        raise PlanError(
            Problem("--audit full", "cannot be given with --time", format_duration(plan.settings.time), remedy)
        )


def write_report(folder: str | Path) -> Path:
    """Write the report of a finished run, its pictures and its audit into the run directory, from that alone.

    Args:
        folder: The run directory.

    Returns:
        The path of report.html.

    Raises:
        PlanError: If it is no finished run.
        DataError: If a file cannot be written.
    """
    run = open_run(folder)
    for name, content in report_files(run).items():
        write_bytes(run.folder / name, content)
    return run.folder / "report.html"


def data_of(folder: str | Path) -> Dataset | None:
    """Return the data of a run, from where they lay when it was made; None if the run does not say.

    Args:
        folder: The run directory.

    Raises:
        DataError: If they are no longer there, or data.txt, which says where they lay, cannot be read.
    """
    texts = noted_data(Path(folder))
    try:
        return load_data(*texts) if texts else None
    except (DataError, UnknownNameError) as error:
        reasons = [f"{problem.subject}: {problem.rule}" for problem in error.problems if isinstance(problem, Problem)]
        found = printable(f"{', '.join(texts)} ({'; '.join(reasons[:3])})")
        subject, rule = str(Path(folder) / NAME), "names data that are no longer as it says"
        remedy = "say where the data lie now with --data NAME=PATH"
        raise DataError(Problem(subject, rule, found, remedy)) from None
