"""The chosen pipelines: who chose which, in words, as a drawing and as YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mernas.evaluation.picking import Candidate
from mernas.search.finished import FinishedRun
from mernas.search.plan import FINAL
from mernas.search.report.diagram import draw_pipeline
from mernas.search.report.estimates import Estimate
from mernas.search.report.words import Paragraph, describe

DRAWN = 60
"""So many pipelines are drawn; a run with one subject per group can choose hundreds."""


@dataclass(frozen=True)
class Pipeline:
    """One pipeline that some study chose.

    Attributes:
        name: `A`, `B`, … in the order in which they are shown.
        genotype: Its hash.
        parameters: Its parameter count; 0 for a classical one.
        words: It in words.
        diagram: It as a drawing; empty after the first `DRAWN`.
        yaml: It as a file that `mernas evaluate` takes.
        shipped: Titles of the rows of which it is the final study's choice.
        elsewhere: (studies, titles) of the other studies that chose it, those together that chose it for the same rows.
    """

    name: str
    genotype: str
    parameters: int
    words: Paragraph
    diagram: Markup
    yaml: str
    shipped: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ChoiceLine:
    """What every study chose for one row.

    Attributes:
        title: Of the row.
        cells: (pipeline's name, inner UF1, parameters) of every study, in the plan's order.
    """

    title: str
    cells: tuple[tuple[str, float, int], ...]


def chosen_pipelines(
    run: FinishedRun, rows: Sequence[tuple[Estimate, str]], lead: Estimate | None = None
) -> tuple[Pipeline, ...]:
    """Return every pipeline that some row's study chose: those of the final study first.

    Args:
        run: The run.
        rows: Rows of different choices, each with the titles that it has.
        lead: The row whose pipeline comes first.
    """
    order: dict[str, Candidate] = {}
    for estimate, _ in sorted(rows, key=lambda row: lead is not None and row[0].row.choices != lead.row.choices):
        order.setdefault(estimate.row.final.genotype, estimate.row.final)
    for estimate, _ in rows:
        for choice in estimate.row.honest:
            order.setdefault(choice.genotype, choice)
    classes = len(run.plan.dataset.classes)
    made = []
    for number, (key, candidate) in enumerate(order.items()):
        genotype, name = run.genotype(key), letters(number)
        elsewhere: dict[str, list[str]] = {}
        for estimate, title in rows:
            groups = [study for study, choice in estimate.row.choices.items() if choice.genotype == key]
            numbers = [study for study in groups if study != FINAL]
            if numbers:
                elsewhere.setdefault(", ".join(numbers), []).append(title)
        made.append(
            Pipeline(
                name=name,
                genotype=key,
                parameters=candidate.parameters,
                words=describe(genotype),
                diagram=draw_pipeline(genotype, classes, f"Pipeline {name}") if number < DRAWN else Markup(),
                yaml=genotype.to_yaml(),
                shipped=tuple(title for estimate, title in rows if estimate.row.final.genotype == key),
                elsewhere=tuple((numbers, ", ".join(titles)) for numbers, titles in elsewhere.items()),
            )
        )
    return tuple(made)


def choice_lines(rows: Sequence[tuple[Estimate, str]], pipelines: Sequence[Pipeline]) -> tuple[ChoiceLine, ...]:
    """Return what every study chose, row by row."""
    names = {one.genotype: one.name for one in pipelines}
    return tuple(
        ChoiceLine(
            title=title,
            cells=tuple((names[c.genotype], c.uf1, c.parameters) for c in estimate.row.choices.values()),
        )
        for estimate, title in rows
    )


def letters(number: int) -> str:
    """Return `A` to `Z`, then `AA`, `AB`, ….

    Example:
        >>> letters(0), letters(25), letters(26)
        ('A', 'Z', 'AA')
    """
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
