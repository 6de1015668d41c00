"""Export: the final study's choice of a rule, trained on everyone, as a folder that travels.

The folder is made where it can be moved to its place at once, before anything is trained, so that a place that cannot
be written is found out first. What is in it was tried: a fresh process has loaded it and given the probabilities of
this one.
"""

from __future__ import annotations

import math
import platform
import shlex
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from mernas.components.contracts import NotFiniteError
from mernas.components.datasets.clip import Clip, Dataset
from mernas.components.topologies.network import count_parameters
from mernas.evaluation.bundle import Bundle, FrameSizes, RuleEstimate, TrainingData, write_bundle
from mernas.evaluation.bundle_files import CARD, ENVIRONMENT, ONNX, PIPELINE, PROGRAM, WEIGHTS
from mernas.evaluation.fitting import assemble, numeric_state, training_view
from mernas.evaluation.footprint import REPETITIONS, Footprint, FreshProcess, measure, predict_in_fresh_process
from mernas.evaluation.jobs import ENGINE_VERSION, make_job
from mernas.evaluation.model import Model, load_model, network_bytes
from mernas.evaluation.picking import Rule, parse_rule
from mernas.evaluation.programs import onnx_program, torch_program
from mernas.evaluation.rows import number_rows
from mernas.search.calibrating import SHIPPED_COVERAGE, Calibration, calibrate
from mernas.search.card_scores import groupings, part_scores, people_of, published
from mernas.search.choosing import Row
from mernas.search.environment import environment
from mernas.search.executor import Interrupted
from mernas.search.features import FeatureShelf
from mernas.search.finished import FinishedRun
from mernas.search.model_card import CardContent, write_card
from mernas.search.noted_data import noted_data
from mernas.search.placing import check_place, move_whole, place_of, staging, writing
from mernas.search.plan import FINAL, Plan, learned_beside
from mernas.search.reporter import Reporter, Silent
from mernas.search.results import PROTOCOL
from mernas.search.search_command import command_with, data_texts
from mernas.search.workers import require_cuda
from mernas.space.errors import DataError, PlanError, Problem, RunError, UnavailableError, nearest, raise_all
from mernas.space.genotype import Genotype

PROGRAMS = {PROGRAM: torch_program, ONNX: onnx_program}
AGREEMENT = 1e-5
"""A fresh process must give the probabilities of this one, to so much."""
COMPARED = 16
"""On so many clips at most."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A model that was exported.

    Attributes:
        folder: Where it is.
        bundle: Its manifest.
        footprint: What it costs, as measured.
        difference: Largest difference between the probabilities of this process and of a fresh one.
    """

    folder: Path
    bundle: Bundle
    footprint: Footprint
    difference: float


def export_model(
    run: FinishedRun,
    pick: str | Rule,
    out: Path | str,
    dataset: Dataset | None = None,
    *,
    coverage: float = SHIPPED_COVERAGE,
    programs: Sequence[str] = (PROGRAM, ONNX),
    repetitions: int = REPETITIONS,
    cache: Path | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Exported:
    """Train what a rule chose in the final study on everyone, and write it as a bundle.

    Equal runs give equal weights: the training is a job like any other, with nobody left out, and its seed is derived
    in the same way.

    Args:
        run: The finished run.
        pick: `best`, `knee` or a budget such as `<=50k`; it must be a rule of the run's plan.
        out: The folder to make. One that exists is only filled if it is empty, or holds a bundle of the same pipeline
            and nothing else, which is replaced.
        dataset: The data of the run; not needed if the run was made in this process.
        coverage: One of the targets of abstention that the run was calibrated for: .9, .8, .7 or .5.
        programs: Which of `model.pt2` and `model.onnx` to make.
        repetitions: How often latencies are measured, at least once.
        cache: The folder of prepared maps.
        reporter: Who tells the user.
        stopping: Whether the user wants to stop; asked while clips are prepared and between the steps.

    Raises:
        PlanError: If the rule is not in the plan or has no estimate, with the command that makes one; if there is no
            such program or coverage, or nothing would be measured.
        DataError: If the data are not those of the run, or the folder cannot be taken or written.
        RunError: If the training fails, or a fresh process does not give the same probabilities.
        Interrupted: If `stopping` said so.
    """
    _check_request(programs, repetitions)
    reporter = reporter if reporter is not None else Silent()
    folder = place_of(out)
    rule = parse_rule(pick, _planned(run)) if isinstance(pick, str) else pick
    row = find_row(run, rule)
    genotype = run.genotype(row.final.genotype)
    data = checked_data(run, dataset)
    check_place(folder, genotype)
    calibration = calibrate(run.plan, run.record, row)
    temperature, threshold, target = _shipped(calibration, coverage)
    reporter.stage(f"Exporting {rule}", 4)

    def step() -> None:
        reporter.advance()
        if stopping():
            raise Interrupted

    with staging(folder) as staged, _stopped_first(stopping):
        network = train_on_everyone(run.plan, genotype, data, cache, reporter, stopping)
        step()
        bundle = Bundle(
            genotype=genotype,
            classes=data.classes,
            facts=data.provides,
            parameters=count_parameters(genotype, len(data.classes)),
            data=TrainingData(
                name=data.name,
                content=data.fingerprint,
                labels=data.label_fingerprint,
                clips=len(data),
                subjects=len(data.subjects),
                licence=data.licence,
            ),
            rule=str(rule),
            estimate=_estimate(run, row),
            plan=run.plan.hash,
            seed=run.plan.settings.seed,
            frames=frame_sizes(data.clips),
            temperature=temperature,
            threshold=threshold,
            coverage=target,
        )
        files = {
            WEIGHTS: network_bytes(network),
            PIPELINE: genotype.to_yaml().encode(),
            ENVIRONMENT: environment(machine=False).encode(),
        }
        differences: dict[str, float] = {}
        unavailable: dict[str, str] = {}
        shapes = [component.shape for component in bundle.inputs]
        for name in programs:
            try:
                made = PROGRAMS[name](network, shapes)
            except UnavailableError as error:
                unavailable[name] = str(error)
                reporter.say(str(error))
            else:
                files[name], differences[name] = made.content, made.difference
        step()
        with writing(folder):
            bundle = write_bundle(staged, replace(bundle, unavailable=unavailable), files)
        model = load_model(staged)
        clips = data.clips[:: max(1, len(data) // COMPARED)][:COMPARED]
        fresh, difference = _tried(staged, model, network, clips)
        step()
        footprint = measure(model, clips, fresh, repetitions)
        groups = {
            column: published(part_scores(run.plan, run.record, row, parts), people_of(data, parts))
            for column, parts in groupings(data).items()
        }
        card = write_card(
            CardContent(
                name=folder.name,
                bundle=bundle,
                footprint=footprint,
                counts=tuple(np.bincount(data.labels, minlength=len(data.classes)).tolist()),
                whole=part_scores(run.plan, run.record, row, ["all"] * len(data))[0],
                datasets=part_scores(run.plan, run.record, row, [clip.dataset for clip in data]),
                groups={column: scores for column, (scores, _) in groups.items()},
                left_out={column: left_out for column, (_, left_out) in groups.items()},
                calibration=calibration,
                failed=int(_figures(run, row)["failed"]),
                differences=differences,
                machine=machine(),
                environment=environment(machine=False),
            )
        )
        with writing(folder):
            bundle = write_bundle(staged, bundle, {CARD: card.encode()})
        step()
        with writing(folder):
            move_whole(staged, folder, genotype)
    return Exported(folder, replace(bundle, folder=folder), footprint, difference)


def _check_request(programs: Sequence[str], repetitions: int) -> None:
    given = [programs] if isinstance(programs, str) else programs
    problems: list[Problem | str] = [
        Problem(f'program "{name}"', "is not known", "", nearest(name, PROGRAMS))
        for name in given
        if name not in PROGRAMS
    ]
    if isinstance(programs, str) and not problems:
        problems.append(Problem("programs", "must be a list of names", f'"{programs}"', f'write ("{programs}",)'))
    if repetitions < 1:
        problems.append(Problem("repetitions", "must be at least 1", str(repetitions), "leave it out for the default"))
    raise_all(PlanError, problems)


@contextmanager
def _stopped_first(stopping: Callable[[], bool]) -> Iterator[None]:
    """What fails after the user has asked to stop is not told: that may have ended a process of ours as well."""
    try:
        yield
    except RunError:
        if stopping():
            raise Interrupted from None
        raise


def _tried(staged: Path, model: Model, network: nn.Module, clips: Sequence[Clip]) -> tuple[FreshProcess, float]:
    """What a fresh process finds with a bundle, and how far that is from what the trained network gives here."""
    maps = model.prepare(clips)
    fresh = predict_in_fresh_process(staged, maps)
    with numeric_state(0, "cpu"):
        trained = replace(model, network=network.eval())
        difference = float(np.abs(fresh.probabilities - trained.probabilities_of(maps)).max())
    if not difference <= AGREEMENT:  # also refuses NaN
        rule = f"must give the probabilities of this one to {AGREEMENT:g}"
        raise RunError(Problem("a fresh process", rule, f"{difference:.2g}", "see `mernas doctor`"))
    return fresh, difference


def find_row(run: FinishedRun, rule: Rule) -> Row:
    """Return what a rule of the plan chose in every study.

    Raises:
        PlanError: If the rule is not in the plan, or has no candidate in some study: then it has no estimate.
    """
    subject = f'rule "{rule}"'
    if rule.budget is None:
        planned = any(str(rule) == str(known) for known in run.plan.rules)
        found = next((row for row in run.chosen.rules if row.rule == str(rule)), None)
    else:
        planned = rule.budget in run.plan.budgets
        found = next((row for row in run.chosen.single if row.budgets == (rule.budget,)), None)
    if found is not None:
        return found
    if planned:
        text = "has no candidate in some study of this run, so nothing is known of how good it is"
        raise PlanError(Problem(subject, text, "", "choose another rule, or search again with more --trials"))
    text = f"is not in the plan of this run (which has {', '.join(map(str, _planned(run)))}), so it has no estimate"
    raise PlanError(Problem(subject, text, "", f"this command makes one: {command_with(run, rule)}"))


def _planned(run: FinishedRun) -> tuple[Rule, ...]:
    """The rules that a run has, budgets last."""
    return (*run.plan.rules, *(Rule("<=", budget) for budget in run.plan.budgets))


def checked_data(run: FinishedRun, dataset: Dataset | None) -> Dataset:
    """Return the data of a run, with frames or maps, if they are what the plan says.

    Raises:
        DataError: If they are not at hand, or other data; of the same clips, with everything else that differs.
    """
    data = run.plan.dataset if dataset is None else dataset
    if any(clip.frames is None and not clip.given for clip in data):
        rule = "are needed to train the model, and a run directory holds none"
        options = " ".join(f"--data {text}" for text in data_texts(run.plan.dataset.name))
        raise DataError(Problem("the data of the run", rule, "", f"name them: {options}"))
    raise_all(DataError, _other_data(run, data))
    return data


def _other_data(run: FinishedRun, data: Dataset) -> list[Problem | str]:
    """Why data are not those of a run: one reason where the clips are others, else all that differs beside them."""
    stated = run.plan.description["data"]
    if data.fingerprint != stated["content"]:
        has = f"{stated['name']}, {stated['clips']} clips of {stated['subjects']} subjects"
        found = f"{len(data)} other clips of {len(data.subjects)} subjects"
        return [Problem(f"data {data.name}", f"must be those of the run ({has})", found, _naming(run))]
    beside = learned_beside(data)
    found_here: dict[str, tuple[str, str]] = {
        "labels": ("labels", data.label_fingerprint),
        "classes": ("classes", ", ".join(data.classes)),
        "facts": ("facts that the clips come with", ", ".join(sorted(data.provides)) or "none"),
        "units": ("action units", beside.get("units", "none")),
        "source": ("source domain", beside.get("source", "none")),
    }
    problems: list[Problem | str] = []
    for key, (title, here) in found_here.items():
        value = stated.get(key, "none")
        there = value if isinstance(value, str) else ", ".join(value) or "none"
        if here != there:
            rule = f"the clips are those of the run, and the {title} must be too ({there})"
            problems.append(Problem(f"data {data.name}", rule, here, "use the annotations that the run was made with"))
    return problems


def _naming(run: FinishedRun) -> str:
    """How to name the data of a run: as its data.txt does, or as their name suggests."""
    noted = noted_data(run.folder)
    options = " ".join(f"--data {shlex.quote(text)}" for text in noted or data_texts(run.plan.dataset.name))
    if noted:
        return f"the run's data.txt names {options}; write that, or where they lie now"
    return f"name them: {options}"


def train_on_everyone(
    plan: Plan,
    genotype: Genotype,
    data: Dataset,
    cache: Path | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Return a network trained on every clip, in eval mode on the processor: a job of the plan that leaves out nobody.

    Args:
        plan: The plan; its seed, device and rows are used.
        genotype: The pipeline.
        data: Its clips and labels.
        cache: The folder of prepared maps.
        reporter: Who tells the user.
        stopping: Whether the user wants to stop; asked while clips are prepared.

    Raises:
        PlanError: If this mernas would not train it as the run did.
        RunError: If its training fails.
    """
    if plan.description["engine"] != ENGINE_VERSION:
        rule = f"was made with engine {plan.description['engine']} of mernas {plan.description['mernas']}"
        remedy = f"install mernas {plan.description['mernas']}, because another engine trains other weights"
        raise PlanError(Problem("this run", rule, f"engine {ENGINE_VERSION} here", remedy))
    device = plan.settings.device
    if device != "cpu":
        require_cuda()
    book = number_rows(data, plan.settings.seed)
    _, job = make_job(genotype, (), book, len(data.classes), plan.settings.seed, device)
    store = FeatureShelf(data, book, cache, reporter or Silent(), stopping).store([genotype])
    try:
        with numeric_state(job.seed, device):
            network, train = assemble(genotype, training_view(job, store), job.seed, device)
            train(None)
    except NotFiniteError as error:
        remedy = "choose another rule with --pick"
        raise RunError(
            Problem(f"pipeline {genotype.hash}", "cannot be trained on everyone", str(error), remedy)
        ) from None
    return network.cpu().eval()


def frame_sizes(clips: Sequence[Clip]) -> FrameSizes | None:
    """Return the sizes of the frames of some clips, or None if one of them has no frames.

    One frame of each clip is looked at: its onset, or its first.

    Example:
        >>> clips = [Clip(f"a/b/{h}", "a", "a/b", str(h), frames=np.zeros((2, h, 50), np.uint8)) for h in (60, 64, 90)]
        >>> frame_sizes(clips).height, frame_sizes(clips).width
        ((60, 64, 90), (50, 50, 50))
    """
    shapes = [clip.frames[clip.onset or 0].shape for clip in clips if clip.frames is not None]
    if len(shapes) < len(clips) or not shapes:
        return None
    heights, widths = ([shape[side] for shape in shapes] for side in (0, 1))
    return FrameSizes(
        height=(min(heights), statistics.median_low(heights), max(heights)),
        width=(min(widths), statistics.median_low(widths), max(widths)),
    )


def machine() -> str:
    """Return what kind of processor measures, e.g. for latencies."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {platform.system()}, torch {torch.__version__}"


def _figures(run: FinishedRun, row: Row) -> pd.Series[float]:
    """The line of front.csv or rules.csv in which a row stands."""
    if row.rule:
        return run.tables.rules[run.tables.rules["rule"] == row.rule].iloc[0]
    budgets = [str(budget).split("+") for budget in run.tables.front["budget"]]
    return run.tables.front[[row.budget in one for one in budgets]].iloc[0]


def _estimate(run: FinishedRun, row: Row) -> RuleEstimate:
    line = _figures(run, row)
    return RuleEstimate(
        protocol=PROTOCOL,
        uf1=float(line["nested_uf1"]),
        low=float(line["ci_low"]),
        high=float(line["ci_high"]),
        uar=float(line["nested_uar"]),
    )


def _shipped(calibration: Calibration | None, coverage: float) -> tuple[float, float, float]:
    """Temperature, threshold and target coverage of the final study; what changes nothing where none are known."""
    if calibration is None:
        return 1.0, 0.0, 1.0
    for one in calibration.abstention:
        if math.isclose(one.target, coverage):
            return calibration.temperatures[FINAL], one.thresholds[FINAL], one.target
    targets = ", ".join(f"{one.target:g}" for one in calibration.abstention)
    raise PlanError(Problem("coverage", f"must be one of {targets}", f"{coverage:g}"))
