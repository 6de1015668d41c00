"""The command line. What is heavy is imported by the command that needs it, so that `mernas --help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import mernas
from mernas.search.data_group import data_group
from mernas.search.messages import messages
from mernas.search.stopping import stopping_on_signal

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
    metavar="NAME[=PATH]|FILE.csv",
    help="synthetic, flow-images=PATH or a manifest; several make a composite. Without it: a demonstration.",
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
@click.option(
    "--race/--no-race",
    "racing",
    default=False,
    show_default=True,
    help="Stop a candidate after any of its folds where another one is clearly better.",
)
@click.option(
    "--halve/--no-halve",
    "halving",
    default=False,
    show_default=True,
    help="Train a batch for a ninth of its epochs first, and its best third for all.",
)
@click.option("--together", is_flag=True, help="Train the folds of a pipeline as one, as suits a GPU.")
@click.option("--asynchronous", is_flag=True, help="Studies never wait; one seed no longer gives one result.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="One seed, one result.")
@click.option(
    "--seeds", type=int, default=1, show_default=True, metavar="K", help="Repeat every outer training K times."
)
@_workers("one for each core")
@click.option(
    "--audit",
    type=click.Choice(["usual", "full"]),
    default="usual",
    show_default=True,
    help="full: LOSO of every candidate as well, which is no result and shows how much it flatters.",
)
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
      mernas search --data synthetic --space quick --trials 4 --batch 2 --dry-run
      mernas search --data flow-images=PATH --space my-space.yaml --budgets 2k,50k --trials 8 --batch 4
    """
    with messages():
        _search(**options)


@cli.command(name="evaluate")
@click.argument("pipeline", metavar="PRESET|BASELINE|FILE")
@click.option(
    "--data",
    multiple=True,
    default=["synthetic"],
    show_default=True,
    metavar="NAME[=PATH]|FILE.csv",
    help="Which data; several make a composite.",
)
@click.option("--protocol", default="loso", show_default=True, metavar="NAME", help="loso.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="One seed, one result.")
@_workers("1")
@click.option("--out", type=Path, metavar="FILE.csv", help="Also write the predictions.")
@click.option("--together", is_flag=True, help="Train the folds of a pipeline as one, as suits a GPU.")
@click.option("--keep", type=Path, metavar="DIR", help="Keep finished folds there; the same command then resumes.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate_command(pipeline: str, data: tuple[str, ...], protocol: str, **options: Any) -> None:
    """Evaluate one pipeline that was fixed beforehand: a preset, a baseline or a YAML file.

    \b
    Examples:
      mernas evaluate majority
      mernas evaluate rbf_svm --data flow-images=PATH --protocol loso
    """
    with messages():
        from mernas.search.evaluate_command import evaluate_command as evaluate

        evaluate(pipeline, data, protocol, say=_note, **options)


@cli.command(name="report")
@click.argument("runs", metavar="RUN…", type=Path, nargs=-1, required=True)
@click.option("--out", type=Path, metavar="FILE.html", help="Of a comparison.  [default: comparison.html]")
def report_command(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write the report of a finished run again, from its directory alone; of several, a comparison.

    One run: report.html, the pictures, the audit and the tables for papers, into the run directory (or only the report,
    where --out says). Several: one page that compares them.

    \b
    Examples:
      mernas report mernas-runs/synthetic-0123456789
      mernas report runs/tpe runs/random --out comparison.html
    """
    with messages():
        from mernas.search.report import report_command as report

        for path in report(runs, out):
            click.echo(str(path))


@cli.command(name="export")
@click.argument("run", metavar="RUN", type=Path)
@click.option(
    "--pick", default="knee", show_default=True, metavar="RULE", help='knee, best, or a budget such as "<=50k".'
)
@click.option("--out", type=Path, required=True, metavar="DIR", help="The folder of the model.")
@click.option(
    "--data", multiple=True, metavar="NAME[=PATH]|FILE.csv", help="Where the data lie now, if they have moved."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was exported as JSON.")
def export_command(run: Path, as_json: bool, **options: Any) -> None:
    """Train what a rule chooses on everyone and write a model that travels.

    The folder holds weights, pipeline, preparation, labels, a model card with the rule's estimate, and the network as a
    torch.export program and as ONNX.

    \b
    Examples:
      mernas export mernas-runs/synthetic-0123456789 --pick knee --out model
      mernas export RUN --pick "<=50k" --data flow-images=PATH --out model
    """
    with messages():
        _export(run, as_json, **options)


@cli.command(name="predict")
@click.argument("model", metavar="MODEL", type=Path)
@click.argument("sources", metavar="VIDEO|FOLDER…", type=Path, nargs=-1, required=True)
@click.option("--onset", type=int, metavar="N", help="Frame of the onset, counted from 0.  [default: the first]")
@click.option("--apex", type=int, metavar="N", help="Frame of the apex.  [default: midway from onset to the last]")
@click.option("--fps", type=float, metavar="R", help="Frames per second; overrules a video's own.  [default: its own]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--out", type=Path, metavar="FILE", help="Write there instead of printing.")
def predict_command(model: Path, sources: tuple[Path, ...], **options: Any) -> None:
    """Say which class an exported model sees in recordings, with probabilities.

    A recording is a video file or a folder with the frames of one clip. A model that was trained on flow images takes
    such images, or folders of them. A model that reckons in seconds (magnify, frame_rate) needs --fps for folders of
    frames and for videos that do not say it; given, it overrules what a video says of itself, and a note tells so.

    \b
    Examples:
      mernas predict model clip.mp4
      mernas predict model clip.mp4 --onset 12 --apex 30 --json
      mernas predict model clips/a clips/b --fps 200 --csv --out predictions.csv
    """
    with messages():
        from mernas.search.predicting import predict_command as predict

        predict(model, sources, **options)


cli.add_command(data_group)


@cli.command(name="presets")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def presets_command(name: str | None, as_json: bool) -> None:
    """List the published methods that `evaluate` knows by name, with their published scores, or show one of them.

    What is shown of one is a file of its own, which `evaluate` takes as well.

    \b
    Examples:
      mernas presets
      mernas presets ststnet
    """
    with messages():
        from mernas.search.presets_command import show_presets

        show_presets(name, as_json)


@cli.command(name="space")
@click.option("--tree", is_flag=True, help="Print the space as a tree, which is what is printed anyway.")
@click.option("--coverage", is_flag=True, help="Print which of the survey's taxonomy there is instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--data",
    multiple=True,
    metavar="NAME[=PATH]|FILE.csv",
    help="What these data offer; several make a composite.  [default: whatever data could]",
)
@click.option("--space", metavar="NAME|FILE", help="quick, standard, full, or a space file.  [default: full]")
def space_command(**options: Any) -> None:
    """Print the search space: every component with its hyper-parameters, and why some are unavailable.

    In the survey's order, axis by axis. --coverage tells of every leaf of the survey's taxonomy whether it is
    implemented, unavailable because it needs what nobody can install, or not there yet.

    \b
    Examples:
      mernas space
      mernas space --data synthetic --space standard
      mernas space --data flow-images=PATH --json
      mernas space --coverage
    """
    with messages():
        from mernas.search.space_command import show_space

        show_space(**options)


@cli.command(name="verify")
@click.argument("run", metavar="RUN", type=Path)
@click.option("--json", "as_json", is_flag=True, help="Print every check and finding as JSON.")
def verify_command(run: Path, as_json: bool) -> None:
    """Recompute every figure of a run from its ledger, and check that no job read whom it must not.

    Needs the run directory and nothing else; trains nothing and writes nothing. Exit code 1 if the run is not what it
    says, or not everything could be checked.

    \b
    Examples:
      mernas verify mernas-runs/synthetic-0123456789
    """
    with messages():
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
    with messages():
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
    sizes = ("budgets", "max_params")
    if any(options[name] is not None for name in sizes):  # those of the demonstration need not fit what was given
        defaults = {**defaults, **{name: USUAL[name] for name in sizes}}
    options = {name: defaults.get(name) if value in (None, ()) else value for name, value in options.items()}

    from mernas.search.belonging import check_belongs
    from mernas.search.executor import Interrupted
    from mernas.search.printing import headline, place, print_forecast, print_search
    from mernas.search.progress import Screen
    from mernas.search.run import check_audit, execute_plan, load_data, make_folder, plan_search, run_folder
    from mernas.search.workers import chosen_executor, cores, require_cuda

    if demonstration:
        click.echo("No --data given: a demonstration on made-up faces, a few minutes.", err=True)
    where = {name: options.pop(name) for name in ("executor", "workers", "address")}
    audit = options.pop("audit")
    kind = chosen_executor(device=options["device"], **where)
    texts = options.pop("data")
    plan = plan_search(load_data(*texts, say=_note), **options)
    folder = run_folder(plan, out)
    check_audit(audit, plan)
    check_belongs(plan, folder)  # before a forecast, or a line in the log of another run
    known = where["address"] is None and options["device"] == "cpu"  # elsewhere only Ray can say how many there are
    workers = 1 if kind == "serial" else where["workers"] or (cores() if known else None)
    click.echo(headline(plan, folder), err=True)
    click.echo(place(kind, workers, where["address"], options["device"]), err=True)
    if options["device"] == "cuda" and where["address"] is None:
        require_cuda()
    textbook = all(len(group) == 1 for group in plan.partition.groups)
    if dry_run or (textbook and not yes):
        print_forecast(plan, workers or 1, as_json and dry_run, err=not dry_run, full_audit=audit == "full")
        if dry_run:
            return
        click.confirm("Start?", abort=True, err=True)
    with stopping_on_signal() as stopping:
        make_folder(folder)
        with Screen(log=_log(folder)) as screen:
            try:
                result = execute_plan(
                    plan, folder, reporter=screen, stopping=stopping, audit=audit, data=texts, **where
                )
            except Interrupted:
                done = (folder / "front.csv").is_file()
                left = "the results are complete but for the audit" if done else "interim.csv there holds inner scores"
                screen.say(f"Stopped. Finished jobs are kept in {folder}; {left}.")
                screen.say("To resume, repeat the command.")
                sys.exit(130)
    print_search(result, as_json)


def _log(folder: Path) -> Path | None:
    """Return the run's log; None where nothing at all can be written, of which the run itself says what it means."""
    path = folder / "log.txt"
    try:
        path.open("a").close()
    except OSError as error:
        if not os.access(folder, os.W_OK):
            return None
        from mernas.search.out_file import unwritable

        raise unwritable(path, error, "choose another folder with --out") from None
    return path


def _export(run: Path, as_json: bool, pick: str, out: Path, data: tuple[str, ...]) -> None:
    from mernas.search.executor import Interrupted
    from mernas.search.export import export_model
    from mernas.search.finished import open_run
    from mernas.search.printing import print_export
    from mernas.search.progress import Screen
    from mernas.search.run import data_of, load_data

    with stopping_on_signal() as stopping, Screen() as screen:
        try:
            finished = open_run(run)
            found = load_data(*data, say=_note) if data else data_of(run)
            exported = export_model(finished, pick, out, found, reporter=screen, stopping=stopping)
        except Interrupted:
            screen.say("Stopped; nothing was written.")
            sys.exit(130)
    print_export(exported, as_json)


def _note(text: str) -> None:
    click.echo(f"Note: {text}", err=True)


def _tell(found: Any, show: Callable[[Any], None], as_json: bool) -> None:
    """Print what was found for people, or as JSON."""
    if not as_json:
        show(found)
        return
    import json

    click.echo(json.dumps(found.plain()))
