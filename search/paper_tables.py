"""The tables of a run for a paper: Markdown, and LaTeX for the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mernas.evaluation.picking import format_size
from mernas.search.notation import ABSENT, figure, rule_title, span, thousands
from mernas.search.plan import Plan
from mernas.search.results import Tables

HEADINGS = ("row", "parameters", "other studies", "nested UF1 [95% interval]", "nested UAR", "inner UF1", "failed")

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "≤": r"$\leq$", "–": "--", "−": "$-$", "\n": " ",
}  # fmt: skip
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_{}[]<>#|~&"} | {"\n": " "}


@dataclass(frozen=True)
class Block:
    """One table.

    Attributes:
        title: What it shows.
        lines: A cell for each of `HEADINGS`.
    """

    title: str
    lines: tuple[tuple[str, ...], ...]


def markdown_tables(plan: Plan, tables: Tables) -> str:
    """Return the front, the rules and the baselines as Markdown, with what a reader must know about them.

    Args:
        plan: The plan of the run.
        tables: Its tables.
    """
    parts = [f"# {escape_markdown(plan.dataset.name)}: nested leave-one-subject-out", "", escape_markdown(note(plan))]
    for block in _blocks(tables):
        parts += ["", f"## {block.title}", "", _line(map(escape_markdown, HEADINGS)), "|---|" + "---:|" * 6]
        parts += [_line(map(_markdown_figure, line)) for line in block.lines]
    return "\n".join(parts) + "\n"


def latex_tables(plan: Plan, tables: Tables) -> str:
    r"""Return the same as LaTeX: one `table` for each, which need `\usepackage{booktabs}`.

    Args:
        plan: The plan of the run.
        tables: Its tables.
    """
    made = ["% Needs \\usepackage{booktabs}."]
    for block in _blocks(tables):
        caption = f"{block.title}. {note(plan)}"
        made += [
            "", "\\begin{table}", "\\centering", f"\\caption{{{escape_latex(caption)}}}",
            "\\begin{tabular}{lrrlrrr}", "\\toprule", " & ".join(map(escape_latex, HEADINGS)) + " \\\\", "\\midrule",
            *(" & ".join(map(escape_latex, line)) + " \\\\" for line in block.lines),
            "\\bottomrule", "\\end{tabular}", "\\end{table}",
        ]  # fmt: skip
    return "\n".join(made) + "\n"


def note(plan: Plan) -> str:
    """Return how the figures were made and what they are, in plain text."""
    dataset, settings = plan.dataset, plan.settings
    seeds = f" Mean over {settings.seeds} seeds of the outer trainings." if settings.seeds > 1 else ""
    return (
        f"{len(dataset)} clips of {len(dataset.subjects)} subjects, {len(dataset.classes)} classes. Nested "
        f"leave-one-subject-out with {len(plan.partition)} groups of subjects, {settings.trials} proposals per study, "
        f"sampler {settings.sampler}, at most {format_size(settings.max_parameters)} parameters, seed {settings.seed}."
        f"{seeds} UF1 is macro F1 of pooled predictions; intervals are 95%, from resampled subjects. A nested figure "
        "belongs to the rule of its row, not to one model. Inner UF1 is the score by which the studies chose, a mean "
        "over them: no estimate. Parameters are those of the final study's choice and the range over the others. "
        f"Failed: subjects without a prediction. Plan {plan.hash}."
    )


def escape_latex(text: str) -> str:
    r"""Return a text as LaTeX prints it.

    Example:
        >>> print(escape_latex("rbf_svm & 95%"))
        rbf\_svm \& 95\%
    """
    return "".join(_LATEX.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    r"""Return a text as Markdown prints it, also in a cell of a table.

    Example:
        >>> print(escape_markdown("a|b_c"))
        a\|b\_c
    """
    return "".join(_MARKDOWN.get(character, character) for character in text)


def _markdown_figure(cell: str) -> str:
    """Brackets of an interval stay readable: they cannot begin a link where none follows."""
    return escape_markdown(cell).replace("\\[", "[").replace("\\]", "]")


def _blocks(tables: Tables) -> list[Block]:
    front = [_cells(_budgets(str(row["budget"])), row) for _, row in tables.front.iterrows()]
    rules = [_cells(rule_title(str(row["rule"])), row) for _, row in tables.rules.iterrows()]
    baselines = [_cells(rule_title(str(row["baseline"])), row) for _, row in tables.baselines.iterrows()]
    made = (("Front", front), ("Pick rules", rules), ("Baselines", baselines))
    return [Block(title, tuple(lines)) for title, lines in made if lines]


def _cells(title: str, row: pd.Series) -> tuple[str, ...]:
    network = "params" in row
    reach = f"{thousands(row['params_min'])} to {thousands(row['params_max'])}" if network else ABSENT
    return (
        title,
        thousands(row["params"]) if network else ABSENT,
        reach,
        f"{figure(row['nested_uf1'])} {span(row['ci_low'], row['ci_high'])}",
        figure(row["nested_uar"]),
        figure(row["inner_uf1"]),
        str(row["failed"]),
    )


def _budgets(text: str) -> str:
    return " = ".join(f"≤{format_size(int(budget))}" for budget in text.split("+"))


def _line(cells: Sequence[str] | map[str]) -> str:
    return f"| {' | '.join(cells)} |"
