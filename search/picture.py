"""The picture of a run: nested UF1 against parameters, with intervals, and the baselines as lines."""

from __future__ import annotations

import io
from typing import Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mernas.evaluation.picking import format_size
from mernas.search.plan import Plan
from mernas.search.results import Tables

LINES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
GREYS = ("#555555", "#2a7f62", "#a4552e", "#6b5b95")
NESTED, INNER = "#0b5394", "#b45f06"


def draw_front(plan: Plan, tables: Tables, form: Literal["png", "svg"] = "png") -> bytes:
    """Return a PNG or an SVG of the front; the same tables give the same bytes.

    A row of the front stands at the parameter count of the final study's choice; the horizontal bar spans the counts
    of what the other studies chose. Hollow marks are inner scores: selection scores, no estimates. With several
    repetitions of the outer test every nested figure is their mean, and the title says so.

    Args:
        plan: The plan of the run.
        tables: Its tables.
        form: The format of the picture.
    """
    figure = Figure(figsize=(8, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    front = tables.front
    if len(front):
        below = (front["nested_uf1"] - front["ci_low"]).clip(lower=0)
        above = (front["ci_high"] - front["nested_uf1"]).clip(lower=0)
        axes.hlines(
            front["nested_uf1"], front["params_min"], front["params_max"], color=NESTED, alpha=0.25, linewidth=6
        )
        for end in ("params_min", "params_max"):  # a bar from a size to itself would not be seen
            axes.plot(front[end], front["nested_uf1"], "|", color=NESTED, alpha=0.4, markersize=9)
        axes.errorbar(
            front["params"], front["nested_uf1"], yerr=[below, above], fmt="o", color=NESTED, capsize=4,
            label="nested UF1 of a budget, 95% interval over subjects",
        )  # fmt: skip
        axes.plot(
            front["params"], front["inner_uf1"], "o", mfc="none", color=INNER,
            label="inner UF1: selection score, no estimate",
        )  # fmt: skip
        for _, row in front.iterrows():
            label = " = ".join(f"≤{format_size(int(budget))}" for budget in str(row["budget"]).split("+"))
            axes.annotate(
                label, (row["params"], row["ci_high"]), textcoords="offset points", xytext=(0, 5), ha="center",
                fontsize=8,
            )  # fmt: skip
    for number, (_, row) in enumerate(tables.baselines.iterrows()):
        style, color = LINES[number % len(LINES)], GREYS[number % len(GREYS)]
        label = f"{str(row['baseline']).replace('_', ' ')}, nested: {row['nested_uf1']:.3f}"
        axes.axhline(row["nested_uf1"], linestyle=style, color=color, linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("parameters of the final study's choice (log scale); bar: range over the other studies")
    axes.set_ylabel("UF1 (macro F1 of pooled predictions)")
    clips, subjects, seeds = len(plan.dataset), len(plan.dataset.subjects), plan.settings.seeds
    title = f"{plan.dataset.name}: {clips} clips, {subjects} subjects, nested leave-one-subject-out"
    axes.set_title(title + (f" (mean of {seeds} seeds)" if seeds > 1 else ""), fontsize=10)
    axes.grid(alpha=0.25, which="both")
    figure.legend(fontsize=7, loc="outside lower center", ncols=2)
    buffer = io.BytesIO()
    # Without a salt and a date an SVG has random names and the hour in it.
    with mpl.rc_context({"svg.hashsalt": "mernas"}):
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()
