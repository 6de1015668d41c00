"""The report: from one finished run, or from several, to one HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mernas.evaluation.picking import format_size
from mernas.search.audit import Audit, make_audit
from mernas.search.calibrating import Calibration, calibrate
from mernas.search.finished import FinishedRun
from mernas.search.notation import rule_title
from mernas.search.racing import STOPPED
from mernas.search.report.chosen import choice_lines, chosen_pipelines
from mernas.search.report.comparison import compare
from mernas.search.report.costs import add_up
from mernas.search.report.estimates import (
    Estimate,
    baseline_estimates,
    difference,
    distinct,
    final_trials,
    network_estimates,
    proposed_presets,
)
from mernas.search.report.front_chart import draw_front_chart
from mernas.search.report.rendering import embed, render
from mernas.search.report.scores import by_subject, detail
from mernas.search.report.searched import TRAINED, summarise
from mernas.search.report.small_charts import draw_optimism, draw_reliability
from mernas.search.report.words import describe
from mernas.space.errors import PlanError, Problem

FLOOR = "majority"
"""The baseline that any method must beat."""

CONTENTS = (
    ("summary", "In short"),
    ("front", "The front"),
    ("pipelines", "Chosen pipelines"),
    ("scores", "Scores in detail"),
    ("audit", "Audit"),
    ("calibration", "Calibration"),
    ("searched", "What was searched"),
    ("costs", "Failures and costs"),
    ("limits", "Not covered"),
    ("origin", "Origin"),
)
COMPARISON_CONTENTS = (
    ("summary", "The runs"),
    ("fronts", "Fronts"),
    ("rules", "Rule by rule"),
    ("differences", "Paired differences"),
    ("limits", "Not covered"),
)


def make_report(runs: Sequence[FinishedRun]) -> str:
    """Return a self-contained HTML page: the report of one run, or the comparison of several.

    Args:
        runs: At least one; what is shown depends on nothing but their directories.

    Raises:
        PlanError: If there is none.

    Example:
        >>> make_report([])
        Traceback (most recent call last):
        mernas.space.errors.PlanError: report: needs at least one run.
    """
    if not runs:
        raise PlanError(Problem("report", "needs at least one run"))
    if len(runs) == 1:
        return report_of(runs[0], make_audit(runs[0]), calibrations(runs[0]))
    return _comparison(runs)


def calibrations(run: FinishedRun) -> tuple[Calibration, ...]:
    """Return the calibration of every row of a run of which any outer job gave predictions."""
    made = (calibrate(run.plan, run.record, row) for row in run.rows)
    return tuple(one for one in made if one is not None)


def report_of(run: FinishedRun, audit: Audit, calibrated: Sequence[Calibration]) -> str:
    """Return the page of one run.

    Args:
        run: The run.
        audit: Its audit.
        calibrated: The calibration of its rows, those that have none left out.
    """
    plan, dataset = run.plan, run.plan.dataset
    estimates, baselines = network_estimates(run), baseline_estimates(run)
    rows, trials = distinct(estimates), final_trials(run)
    rule_rows = [(one, one.title) for one in estimates if one.kind == "rule"]
    lead = rule_rows[0][0] if rule_rows else None
    pipelines = chosen_pipelines(run, rows, lead)
    by_hash = {one.genotype: one for one in pipelines}
    searched = summarise(run)
    effects = [
        abs(answer.effect) + 2 * answer.error
        for question in (*searched.axes, *searched.settings)
        for answer in question.answers
        if answer.error == answer.error
    ]
    others = [one for one in baselines if one.title != FLOOR]
    clips = Counter(clip.dataset for clip in dataset.clips)
    labels = Counter(dataset.annotations["emotion"])
    ended = run.ledger.about.get("trials")
    return render(
        "run.html",
        contents=CONTENTS,
        name=dataset.name,
        clips=len(dataset),
        subjects=len(dataset.subjects),
        datasets=sorted(clips.items()),
        classes=dataset.classes,
        counts=[(label, labels[label]) for label in dataset.classes],
        synthetic=is_synthetic(run),
        groups=len(plan.partition),
        partition=plan.partition.groups,
        studies=plan.studies,
        trials=ended or plan.settings.trials,
        ended=bool(ended),
        sampler=plan.settings.sampler,
        repetitions=plan.settings.seeds,
        space=plan.space_name,
        lead=lead,
        lead_title=next((title for one, title in rows if lead and one.row.choices == lead.row.choices), ""),
        lead_pipeline=by_hash[lead.row.final.genotype] if lead else None,
        floor=next((one for one in baselines if one.title == FLOOR), None),
        differences=[difference(run, lead, one) for one in others] if lead else [],
        empty=[f"≤{format_size(budget)}" for budget in run.chosen.empty],
        rows=rows,
        rule_rows=rule_rows,
        baselines=baselines,
        presets=proposed_presets(run, trials),
        **_front(run, estimates, baselines, trials),
        choice_lines=choice_lines(rows, pipelines),
        pipeline_groups=[
            ("The final study's choices", [one for one in pipelines if one.shipped], True),
            ("What the other studies chose besides", [one for one in pipelines if not one.shipped], False),
        ],
        undrawn=any(not one.diagram for one in pipelines),
        drawn=sum(bool(one.diagram) for one in pipelines),
        details=[detail(run, one, title) for one, title in (*rows, *((one, one.title) for one in baselines))],
        subject_titles=[*(title for _, title in rows), *(one.title for one in baselines)],
        subject_lines=by_subject(run, [*(one for one, _ in rows), *baselines]),
        **_audited(run, audit, rows),
        calibrations=_calibrated(calibrated, rows),
        searched=searched,
        largest=max(effects, default=0.0),
        costs=add_up(run),
        facts=_facts(run),
        environment=_environment(run),
    )


def is_synthetic(run: FinishedRun) -> bool:
    """Return whether all clips of a run are made up."""
    return {clip.dataset for clip in run.plan.dataset.clips} == {"synthetic"}


def _front(
    run: FinishedRun, estimates: Sequence[Estimate], baselines: Sequence[Estimate], trials: Any
) -> dict[str, Any]:
    """The picture of the front in both shapes, and the data of its dots."""
    used = sorted(set(trials["genotype"]))
    places = {key: place for place, key in enumerate(used)}
    finals = {one.row.final.genotype for one in (*estimates, *baselines)}
    shorts = {key: describe(run.genotype(key)).short for key in sorted({*used, *finals})}
    sizes = [int(size) for size in trials["params"]]
    scores = [float(score) for score in trials["inner_uf1"]]
    dots = list(zip(sizes, scores, strict=True))
    presets = proposed_presets(run, trials)
    data = {
        "params": sizes,
        "inner": [round(score, 4) for score in scores],
        "pipeline": [places[key] for key in trials["genotype"]],
        "words": [shorts[key] for key in used],
    }
    return {
        "front_wide": draw_front_chart(estimates, baselines, presets, dots, shorts),
        "front_narrow": draw_front_chart(estimates, baselines, presets, dots, shorts, narrow=True),
        "trials_json": embed(data),
    }


@dataclass(frozen=True)
class AuditLine:
    """One line of the audit; all figures but `nested` are no results.

    Attributes:
        title: Of the row.
        nested, low, high: The estimate.
        inner, common, each: The final study's inner score, the best common epoch, the best epoch of every subject.
    """

    title: str
    nested: float
    low: float
    high: float
    inner: float
    common: float | None
    each: float | None


def _audited(run: FinishedRun, audit: Audit, rows: Sequence[tuple[Estimate, str]]) -> dict[str, Any]:
    titles = {id(one.row): title for one, title in rows} | {id(row): rule_title(row.title) for row in run.baselines}
    lines = [
        AuditLine(
            title=titles[id(row)],
            nested=one.nested,
            low=one.low,
            high=one.high,
            inner=one.inner,
            common=one.common_epoch,
            each=one.epoch_per_subject,
        )
        for row, one in zip((*run.rows, *run.baselines), audit.rows, strict=True)
        if id(row) in titles
    ]
    drawn = [
        (one.title, one.nested, one.low, one.high, one.inner, one.common, one.each)
        for one in lines
        if one.title != FLOOR
    ]
    return {
        "audit_rows": lines,
        "full": audit.full,
        "optimism_wide": draw_optimism(drawn) if drawn else Markup(),
        "optimism_narrow": draw_optimism(drawn, narrow=True) if drawn else Markup(),
    }


def _calibrated(
    calibrated: Sequence[Calibration], rows: Sequence[tuple[Estimate, str]]
) -> list[tuple[Calibration, str, Markup]]:
    known = {one.row: one for one in calibrated}
    return [
        (own, title, draw_reliability(own.before, own.after, f"Reliability diagram of {title}"))
        for estimate, title in rows
        if (own := known.get(estimate.row.title)) is not None
    ]


def _facts(run: FinishedRun) -> list[tuple[str, str]]:
    plan = run.plan
    settings = plan.settings
    stated = plan.description
    facts = [
        ("Plan", plan.hash),
        ("Clips, labels", f"{stated['data']['content']}, {stated['data']['labels']}"),  # no frames are at hand here
        ("mernas, engine", f"{stated['mernas']}, {stated['engine']}"),
        ("Space", f"{plan.space_name} ({stated['space']['hash']})"),
        ("Sampler", str(settings.sampler)),
        ("Proposals", f"{settings.trials} per study in batches of {settings.batch}"),
        ("Budgets", ", ".join(format_size(budget) for budget in plan.budgets)),
        ("Parameter limit", format_size(settings.max_parameters)),
        ("Seed", str(settings.seed)),
        ("Outer trainings", "each once" if settings.seeds == 1 else f"each {settings.seeds} times, from other seeds"),
        ("Numeric path", plan.numeric_path),
        ("Resamples", f"{len(run.tables.resamples.multiplicity):,}; {run.tables.resamples.redrawn} drawn again"),
    ]
    if settings.asynchronous:
        facts.append(("Asynchronous", "yes: the same seed need not give the same result"))
    if settings.halving:
        facts.append(("Halving", "yes: of every batch the best third of short trainings went on"))
    if settings.racing:
        facts.append(("Racing", "yes: whoever was clearly behind after some of the folds was stopped"))
    if settings.halving or settings.racing:
        facts.append(("Stopped", _stopped(run)))
    return facts


def _stopped(run: FinishedRun) -> str:
    trials = run.tables.trials
    states = trials["state"][trials["state"].isin(TRAINED)]
    stopped = int((states == STOPPED).sum())
    short = int((trials["folds"][trials["state"] == STOPPED] == 0).sum())
    of_them = f", {short:,} of them after a short training" if short else ""
    return f"{stopped:,} of the studies' {len(states):,} candidates{of_them}"


def _environment(run: FinishedRun) -> str:
    path = run.folder / "environment.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _comparison(runs: Sequence[FinishedRun]) -> str:
    return render(
        "comparison.html",
        contents=COMPARISON_CONTENTS,
        repetitions=max(run.plan.settings.seeds for run in runs),
        synthetic=all(is_synthetic(run) for run in runs),
        **compare(runs),
    )
