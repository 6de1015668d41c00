"""The command line. What is heavy is imported by the command that needs it, so that `mernas --help` is quick."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

import mernas
from mernas.space.errors import MernasError

if TYPE_CHECKING:
    import pandas as pd

    from mernas.search.evaluate import EvaluationResult
    from mernas.search.plan import Plan
    from mernas.search.run import SearchResult

# `mernas search` without --data shows the main job in minutes on two cores.
DEMONSTRATION: dict[str, Any] = {
    "data": ("synthetic",),
    "space": "quick",
    "trials": 12,
    "batch": 4,
    "budgets": "2k,10k,50k",
    "max_params": "50k",
}
USUAL: dict[str, Any] = {
    "space": "standard",
    "trials": 64,
    "batch": 8,
    "budgets": None,
    "max_params": "1M",
}


def _workers(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say where jobs run."""

    def added(command: Callable[..., None]) -> Callable[..., None]:
        options = (
            click.option("--workers", type=int, metavar="W", help=f"How many jobs run at once.  [default: {default}]"),
            click.option(
                "--executor",
                default="auto",
                show_default=True,
                metavar="serial|ray",
                help="In this process, or by Ray Tune; auto takes Ray for more than one worker.",
            ),
            click.option("--address", metavar="auto", help="Of a Ray cluster that `ray start` has made."),
            click.option(
                "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train."
            ),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return added


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(mernas.__version__, prog_name="mernas")
def cli() -> None:
    """Find the best micro-expression recognition pipeline for your data, with a score that is honest.

    \b
    mernas search                                  the whole way on made-up data, in minutes
    mernas search --data flow-images=PATH          on the MEGC2019 flow images
    mernas evaluate rbf_svm --data flow-images=PATH
    """


@cli.command(name="search")
@click.option(
    "--data",
    multiple=True,
    metavar="NAME[=PATH]",
    help="synthetic, or flow-images=PATH; several make a composite. Without it: a demonstration.",
)
@click.option("--space", metavar="NAME|FILE", help="quick, standard, full, or a space file.  [default: standard]")
@click.option("--trials", type=int, metavar="N", help="Proposals per study.  [default: 64]")
@click.option("--batch", type=int, metavar="N", help="Proposals per study and round.  [default: 8]")
@click.option("--groups", metavar="G|subjects", help="Groups of subjects, at least 3.  [default: 5]")
@click.option("--partition", type=Path, metavar="FILE", help="Use the groups of an earlier plan.yaml.")
@click.option("--budgets", metavar="2k,10k,…", help="Parameter budgets.  [default: 2k,10k,50k,250k,1M up to the limit]")
@click.option("--max-params", metavar="SIZE", help="No candidate is larger.  [default: 1M]")
@click.option(
    "--sampler",
    default="tpe",
    show_default=True,
    metavar="NAME",
    help="Who proposes: tpe, nsga2, nsga3, evolution, random; or grid, the space in one fixed order.",
)
@click.option("--time", metavar="2h", help="The whole run takes no longer, and ends with fewer trials if it must.")
@click.option(
    "--job-time", default="1h", show_default=True, metavar="1h", help="A training that takes longer has failed."
)
@click.option("--asynchronous", is_flag=True, help="Studies never wait; one seed no longer gives one result.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="One seed, one result.")
@click.option(
    "--seeds", type=int, default=1, show_default=True, metavar="K", help="Repeat every outer training K times."
)
@_workers("one for each core")
@click.option("--out", type=Path, metavar="DIR", help="The run directory.  [default: mernas-runs/DATA-HASH]")
@click.option("--dry-run", is_flag=True, help="Print the plan and a forecast, and train nothing but its pilot.")
@click.option("--yes", is_flag=True, help="Do not ask before a textbook search with one group per subject.")
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON.")
def search_command(**options: Any) -> None:
    """Search for pipelines under nested leave-one-subject-out and print the front of UF1 against parameters.

    The same command resumes a run that was stopped or killed, and prints a finished one.

    \b
    Examples:
      mernas search
      mernas search --data synthetic --space quick --trials 8 --batch 4 --dry-run
      mernas search --data flow-images=PATH --space my-space.yaml --budgets 2k,50k --trials 8 --batch 4
    """
    with _messages():
        _search(**options)


@cli.command(name="evaluate")
@click.argument("pipeline", metavar="PRESET|BASELINE|FILE")
@click.option(
    "--data",
    multiple=True,
    default=["synthetic"],
    show_default=True,
    metavar="NAME[=PATH]",
    help="Which data; several make a composite.",
)
@click.option("--protocol", default="loso", show_default=True, metavar="NAME", help="loso.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="One seed, one result.")
@_workers("1")
@click.option("--out", type=Path, metavar="FILE.csv", help="Also write the predictions.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate_command(pipeline: str, data: tuple[str, ...], protocol: str, **options: Any) -> None:
    """Evaluate one pipeline that was fixed beforehand: a preset, a baseline or a YAML file.

    \b
    Examples:
      mernas evaluate majority
      mernas evaluate rbf_svm --data flow-images=PATH --protocol loso
    """
    with _messages():
        _evaluate(pipeline, data, protocol, **options)


@cli.command(name="verify")
@click.argument("run", metavar="RUN", type=Path)
@click.option("--json", "as_json", is_flag=True, help="Print every check and finding as JSON.")
def verify_command(run: Path, as_json: bool) -> None:
    """Recompute every figure of a run from its ledger, and check that no job read whom it must not.

    Needs the run directory and nothing else; trains nothing and writes nothing. Exit code 1 if the run is not what it
    says.

    \b
    Examples:
      mernas verify mernas-runs/synthetic-0123456789
    """
    with _messages():
        from mernas.search.verify import print_verification, verify_run

        _tell(found := verify_run(run), print_verification, as_json)
        sys.exit(0 if found.holds else 1)


@cli.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor_command(as_json: bool) -> None:
    """Say what this machine has and what is wrong with it: libraries, cores, memory, disk, components.

    Exit code 1 if there is a problem.

    \b
    Examples:
      mernas doctor
    """
    with _messages():
        from mernas.search.doctor import examine
        from mernas.search.doctor_report import print_diagnosis

        _tell(found := examine(), print_diagnosis, as_json)
        sys.exit(0 if found.healthy else 1)


def main() -> None:
    """Run the command line; the entry point of the `mernas` command."""
    cli.main(prog_name="mernas")


def _search(dry_run: bool, yes: bool, as_json: bool, out: Path | None, **options: Any) -> None:
    demonstration = not options["data"]
    defaults = DEMONSTRATION if demonstration else USUAL
    options = {name: defaults.get(name) if value in (None, ()) else value for name, value in options.items()}

    from mernas.search.executor import Interrupted
    from mernas.search.progress import Screen
    from mernas.search.run import execute_plan, load_data, plan_search, run_folder
    from mernas.search.workers import chosen_executor, cores, require_cuda

    if demonstration:
        click.echo("No --data given: a demonstration on made-up faces, a few minutes.", err=True)
    where = {name: options.pop(name) for name in ("executor", "workers", "address")}
    kind = chosen_executor(device=options["device"], **where)
    plan = plan_search(load_data(*options.pop("data")), **options)
    folder = run_folder(plan, out)
    known = where["address"] is None and options["device"] == "cpu"  # elsewhere only Ray can say how many there are
    workers = 1 if kind == "serial" else where["workers"] or (cores() if known else None)
    click.echo(_headline(plan, folder), err=True)
    click.echo(_place(kind, workers, where["address"], options["device"]), err=True)
    if options["device"] == "cuda" and where["address"] is None:
        require_cuda()
    textbook = all(len(group) == 1 for group in plan.partition.groups)
    if dry_run or (textbook and not yes):
        _print_forecast(plan, workers or 1, as_json and dry_run, err=not dry_run)
        if dry_run:
            return
        click.confirm("Start?", abort=True, err=True)
    with _stopping() as stopping:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _unwritable(folder, error)
        with Screen(log=_log(folder)) as screen:
            try:
                result = execute_plan(plan, folder, reporter=screen, stopping=stopping, **where)
            except Interrupted:
                screen.say(f"Stopped. Finished jobs are kept in {folder}; interim.csv there holds inner scores only.")
                screen.say("To resume, repeat the command.")
                sys.exit(130)
    _print_search(result, as_json)


def _log(folder: Path) -> Path:
    path = folder / "log.txt"
    try:
        path.touch()
    except OSError as error:
        _unwritable(path, error)
    return path


def _unwritable(path: Path, error: OSError) -> None:
    from mernas.space.errors import DataError, Problem

    reason = error.strerror or str(error)
    raise DataError(Problem(str(path), "cannot be written", reason, "choose another folder with --out")) from None


def _headline(plan: Plan, folder: Path) -> str:
    from mernas.evaluation.picking import format_size

    settings = plan.settings
    budgets = ", ".join(format_size(budget) for budget in plan.budgets)
    groups = len(plan.partition.groups)
    return (
        f"Data: {plan.dataset.name}, {len(plan.dataset)} clips of {len(plan.dataset.subjects)} subjects; "
        f"space: {plan.space_name}; {settings.trials} trials per study in batches of {settings.batch}; "
        f"{groups} groups, so {groups + 1} studies;\n"
        f"budgets {budgets}; limit {format_size(settings.max_parameters)} parameters; sampler {settings.sampler}; "
        f"seed {settings.seed}; outer trainings {settings.seeds} times; run directory {folder}"
    )


def _place(kind: str, workers: int | None, address: str | None, device: str) -> str:
    if kind == "serial":
        return f"Jobs run in this process, one after the other, on {device}."
    where = "on this machine" if address is None else f"on the cluster {address}"
    number = "as many jobs at once as there is room for" if workers is None else f"{workers} jobs at once"
    return f"Ray Tune runs {number} {where}, on {device}."


def _print_forecast(plan: Plan, workers: int, as_json: bool, err: bool) -> None:
    import tempfile

    from rich.console import Console
    from rich.table import Table

    from mernas.search.executor import SerialExecutor
    from mernas.search.forecast import forecast
    from mernas.search.ledger import Ledger
    from mernas.search.nested import NestedSearch

    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(Path(scratch) / "pilot.sqlite", plan.hash)
        predicted = forecast(NestedSearch(plan, ledger, SerialExecutor()), workers)
        ledger.close()
    if as_json:
        import json

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
    for failure in predicted.failures:
        click.echo(f"A pilot failed and counts for nothing: {failure}", err=err)


def _print_search(result: SearchResult, as_json: bool) -> None:
    tables = result.tables
    if as_json:
        import json

        names = ("front", "rules", "baselines", "choices")
        body = {name: json.loads(getattr(tables, name).to_json(orient="records")) for name in names}
        head = {"folder": str(result.folder), "plan": result.plan.hash, "not_reported": list(result.chosen.empty)}
        click.echo(json.dumps({**head, **body}))
        return
    from mernas.evaluation.picking import format_size

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
    click.echo(f"Everything, with a picture (front.png), is in {result.folder}")


def _print_table(title: str, data: pd.DataFrame, name: str) -> None:
    """Print one of the tables, with all its columns where there is room for them."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 132)
    sized, wide = "params" in data.columns, console.width >= 125
    failures = wide or bool((data["failed"] > 0).any())
    columns: dict[str, Callable[[Any], str]] = {name: lambda row: str(row[name])}
    if sized:
        columns["params"] = lambda row: f"{row['params']:,}"
    if sized and wide:
        columns["over the studies"] = lambda row: f"{row['params_min']:,} to {row['params_max']:,}"
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


def _evaluate(
    pipeline: str,
    data: tuple[str, ...],
    protocol: str,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    from mernas.search.evaluate import run_evaluation
    from mernas.search.executor import Interrupted
    from mernas.search.progress import Screen
    from mernas.search.run import load_data

    with _stopping() as stopping, Screen() as screen:
        try:
            result = run_evaluation(
                pipeline,
                load_data(*data),
                protocol_name=protocol,
                reporter=screen,
                stopping=stopping,
                **options,
            )
        except Interrupted:
            screen.say("Stopped; a plain evaluation keeps nothing.")
            sys.exit(130)
    if out is not None:
        from mernas.search.results import write_table

        write_table(out, result.predictions)
    _print_evaluation(result, as_json)


def _print_evaluation(result: EvaluationResult, as_json: bool) -> None:
    parts = {"all": result.scores, **result.parts}
    if as_json:
        import json
        from dataclasses import asdict

        body = {name: asdict(scores) for name, scores in parts.items()}
        interval = [result.ci_low, result.ci_high]
        head = {"pipeline": result.name, "genotype": result.genotype.hash, "protocol": result.protocol}
        click.echo(json.dumps({**head, "parameters": result.parameters, "uf1_interval": interval, "scores": body}))
        return
    from rich.console import Console
    from rich.table import Table

    size = "" if result.parameters is None else f", {result.parameters:,} parameters"
    table = Table(title=f"{result.name}{size}: {result.protocol.upper()}, predictions pooled", title_justify="left")
    for heading in ("part", "clips", "UF1", "UAR", "accuracy", "failed"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name, scores in parts.items():
        figures = [f"{value:.4f}" for value in (scores.uf1, scores.uar, scores.accuracy)]
        table.add_row(name, str(scores.clips), *figures, str(scores.failed))
    Console().print(table)
    click.echo(f"95% interval of UF1 over subjects: {result.ci_low:.3f} to {result.ci_high:.3f}")


def _tell(found: Any, show: Callable[[Any], None], as_json: bool) -> None:
    """Print what was found for people, or as JSON."""
    if not as_json:
        show(found)
        return
    import json

    click.echo(json.dumps(found.plain()))


@contextmanager
def _messages() -> Iterator[None]:
    """A user's mistake becomes one message and exit code 2, never a traceback."""
    try:
        yield
    except MernasError as error:
        for problem in error.problems:
            click.echo(f"mernas: {problem}", err=True)
        sys.exit(2)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks to stop after the jobs under way; the second one interrupts at once."""
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        click.echo("\nStopping after the jobs under way; press Ctrl-C again to stop at once.", err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
