"""Several runs beside each other: their fronts in one picture, their rules in one table, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mernas.evaluation.bootstrap import difference_interval
from mernas.evaluation.picking import format_size, parse_size
from mernas.search.choosing import repeated_predictions
from mernas.search.finished import FinishedRun
from mernas.search.report.drawing import element
from mernas.search.report.estimates import (
    Difference,
    Estimate,
    baseline_estimates,
    distinct,
    network_estimates,
    told,
)
from mernas.search.report.front_chart import axes, make_frame, mark, whisker
from mernas.search.report.words import describe

COLOURS = 6
"""The style sheet has so many colours for runs; with more runs they repeat, and the shapes go on."""

_SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "M-5 -5h10v10h-10z",
    "M0 -7l7 7l-7 7l-7 -7z",
    "M0 -6l6.5 11h-13z",
    "M0 6l6.5 -11h-13z",
)


@dataclass(frozen=True)
class RunLine:
    """One run in the tables.

    Attributes:
        name: What it is called here.
        colour: Number of its colour.
        glyph: Its mark, for the legend.
        data, clips, subjects, space, sampler, trials, groups, seed, plan: What it was; with the sampler stands what
            stopped candidates.
    """

    name: str
    colour: int
    glyph: Markup
    data: str
    clips: int
    subjects: int
    space: str
    sampler: str
    trials: int
    groups: int
    seed: int
    plan: str


@dataclass(frozen=True)
class Block:
    """One run against the first.

    Attributes:
        name, reference: What they are called.
        refusal: Why there are no paired differences; empty where there are.
        lines: The difference of every row that both have.
    """

    name: str
    reference: str
    refusal: str
    lines: tuple[Difference, ...]


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return what the page of a comparison shows.

    Args:
        runs: At least two.
    """
    names = run_names(runs)
    rows = [network_estimates(run) for run in runs]
    everything = [every_row(run) for run in runs]
    kinds = {one.title: one.kind for own in everything for one in own}
    titles = sorted(
        (title for title, kind in kinds.items() if kind == "budget"), key=lambda title: parse_size(title[1:])
    )
    titles += [title for kind in ("rule", "baseline") for title, own in kinds.items() if own == kind]
    return {
        "runs": [_line(run, name, number) for number, (run, name) in enumerate(zip(runs, names, strict=True))],
        "fronts_wide": draw_fronts(runs, rows, names),
        "fronts_narrow": draw_fronts(runs, rows, names, narrow=True),
        "by_rule": [
            (title, [next((one for one in own if one.title == title), None) for own in everything]) for title in titles
        ],
        "differences": [_block(runs[0], run, names[0], name) for run, name in zip(runs[1:], names[1:], strict=True)],
    }


def every_row(run: FinishedRun) -> tuple[Estimate, ...]:
    """Return all rows of a run, one for each budget: two runs need not merge the same ones."""
    apart = [
        replace(one, title=f"≤{format_size(budget)}") if one.kind == "budget" else one
        for one in network_estimates(run)
        for budget in one.row.budgets or (0,)
    ]
    return (*apart, *baseline_estimates(run))


def run_names(runs: Sequence[FinishedRun]) -> list[str]:
    """Return what the runs are called: their folders' names, with a number where two are the same."""
    names = [run.folder.resolve().name for run in runs]
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def draw_fronts(
    runs: Sequence[FinishedRun], rows: Sequence[Sequence[Estimate]], names: Sequence[str], narrow: bool = False
) -> Markup:
    """Return the fronts of several runs in one drawing; a line joins the budgets of a run."""
    every = [one for own in rows for one in own]
    frame = make_frame([one.params for one in every], [v for one in every for v in (one.low, one.high)], 0, narrow)
    drawn = list(axes(frame, narrow))
    for number, (run, own, name) in enumerate(zip(runs, rows, names, strict=True)):
        shift = (number - (len(runs) - 1) / 2) * (8 if narrow else 14)
        colour = f"run-{number % COLOURS}"
        budgets = sorted((one for one in own if one.kind == "budget"), key=lambda one: one.params)
        line = "".join(
            f"{'L' if place else 'M'}{frame.x(one.params) + shift:.1f} {frame.y(one.nested):.1f}"
            for place, one in enumerate(budgets)
        )
        drawn.append(element("path", d=line or "M0 0", class_=f"run-line {colour}"))
        for one, title in distinct(own):
            x, y = frame.x(one.params) + shift, frame.y(one.nested)
            tip = f"{name}\n{told(one, title, describe(run.genotype(one.row.final.genotype)).short)}"
            drawn.append(
                mark(
                    tip,
                    element("circle", cx=x, cy=y, r=9, class_="halo"),
                    whisker(x, frame.y(one.low), frame.y(one.high)),
                    _glyph(number, x, y),
                    kind=colour,
                )
            )
    return element(
        "svg", *drawn, role="group", aria_label=f"Nested UF1 against parameters of {len(runs)} runs",
        viewBox=f"0 0 {frame.width:.0f} {frame.height:.0f}",
        class_=f"chart front-chart {'narrow' if narrow else 'wide'}",
    )  # fmt: skip


def paired_differences(reference: FinishedRun, run: FinishedRun) -> Iterator[Difference]:
    """Yield UF1 of every row that both runs have, of `run` minus that of `reference`, paired over subjects.

    Both runs must be on the same clips and labels; their seeds, and so the numbers of their rows, may differ. The
    resamples are those of the reference.
    """
    plan = reference.plan
    theirs = {one.title: one for one in every_row(reference)}
    for one in every_row(run):
        other = theirs.get(one.title)
        if other is None:
            continue
        low, high = difference_interval(
            "uf1",
            plan.dataset.labels,
            _by_clip(run, one),
            _by_clip(reference, other),
            [clip.subject for clip in plan.dataset.clips],
            reference.tables.resamples,
        )
        yield Difference(one.title, one.nested - other.nested, low, high)


def _by_clip(run: FinishedRun, estimate: Estimate) -> NDArray[np.int64]:
    """Predictions (R, n) in the order of the clips' keys."""
    predictions = repeated_predictions(run.plan, run.record, estimate.row)
    return predictions[:, np.argsort(run.plan.book.clips)]


def _block(reference: FinishedRun, run: FinishedRun, reference_name: str, name: str) -> Block:
    refusal = _refusal(reference, run)
    lines = () if refusal else tuple(paired_differences(reference, run))
    return Block(name, reference_name, refusal, lines)


def _refusal(reference: FinishedRun, run: FinishedRun) -> str:
    """Why two runs cannot be paired; empty if they can."""
    first, second = reference.plan.dataset, run.plan.dataset
    if first.classes != second.classes:
        return f"the classes differ ({', '.join(second.classes)} and {', '.join(first.classes)})."
    if [clip.key for clip in first.clips] != [clip.key for clip in second.clips]:
        return f"the runs are on different clips ({len(second)} of {second.name} and {len(first)} of {first.name})."
    if first.label_fingerprint != second.label_fingerprint:
        return "the runs are on the same clips with different labels."
    return ""


def _line(run: FinishedRun, name: str, number: int) -> RunLine:
    settings, dataset = run.plan.settings, run.plan.dataset
    stops = [word for word, used in (("racing", settings.racing), ("halving", settings.halving)) if used]
    return RunLine(
        name=name,
        colour=number % COLOURS,
        glyph=_glyph(number, 13, 9),
        data=dataset.name,
        clips=len(dataset),
        subjects=len(dataset.subjects),
        space=run.plan.space_name,
        sampler=", ".join((settings.sampler, *stops)),
        trials=int(run.ledger.about.get("trials", settings.trials)),
        groups=len(run.plan.partition),
        seed=settings.seed,
        plan=run.plan.hash,
    )


def _glyph(number: int, x: float, y: float) -> Markup:
    return element("path", d=_SHAPES[number % len(_SHAPES)], transform=f"translate({x:.1f} {y:.1f})", class_="run-mark")
