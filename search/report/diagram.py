"""The drawing of a pipeline: streams from left to right, fusion, output; what is used in training only stands below."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from markupsafe import Markup

from mernas.components.contracts import Fusion, Input
from mernas.components.topologies.stage import build_stage
from mernas.search.report.drawing import element, group, wrap
from mernas.search.report.words import Said, describe, say
from mernas.space.genotype import Genotype, Leaf, instantiate

WIDE, GAP, LINE = 150.0, 26.0, 15.0
"""Width of a box, the space between two, and the height of a line of text, in pixels."""
CHARACTERS = 22
"""As many fit into a box at the size of its text."""
BETWEEN = 32.0
"""Space between two streams."""
FITTING = 1300.0
"""A wider drawing is not shrunk to the page, where its text would be too small: it is scrolled."""


@dataclass(frozen=True)
class Box:
    """One step of the drawing.

    Attributes:
        said: What it is.
        kind: For its colour: `data`, `layer`, `fixed` or `output`.
        shape: What leaves it, as a text; empty where that is not known.
    """

    said: Said
    kind: str
    shape: str = ""

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Pairs of a CSS class and a line of text."""
        made = [("box-title", line) for line in wrap(self.said.title, CHARACTERS - 4)]
        made += [("box-detail", line) for detail in self.said.details for line in wrap(detail, CHARACTERS)]
        return made

    @property
    def height(self) -> float:
        """In pixels."""
        return 16 + LINE * len(self.lines)


def draw_pipeline(genotype: Genotype, classes: int, name: str) -> Markup:
    """Return an SVG of a pipeline; a picture with a name for screen readers, since the words stand beside it.

    Args:
        genotype: A network or a classical pipeline.
        classes: How many classes are told apart.
        name: What it is called.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> "Convolution" in draw_pipeline(load_preset("ststnet").genotype, 3, "STSTNet")
        True
    """
    rows, tail = _boxes(genotype, classes)
    columns = max(map(len, rows))
    heights = [max(box.height for box in row) for row in rows]
    tops = [14 + sum(heights[:number]) + number * BETWEEN for number in range(len(rows))]
    middle = (tops[0] + tops[-1] + heights[-1]) / 2
    drawn: list[Markup] = []
    joint = columns * (WIDE + GAP)
    for row, top, height in zip(rows, tops, heights, strict=True):
        line = top + height / 2
        for place, box in enumerate(row):
            left = place * (WIDE + GAP)
            end = place == len(row) - 1
            if not end:
                drawn.append(_arrow(left + WIDE, line, left + WIDE + GAP, line))
            elif tail:
                drawn.append(_arrow(left + WIDE, line, joint, middle))
            drawn.append(_box(box, left, line - box.height / 2))
    for place, box in enumerate(tail):
        left = joint + place * (WIDE + GAP)
        if place:
            drawn.append(_arrow(left - GAP, middle, left, middle))
        drawn.append(_box(box, left, middle - box.height / 2))
    width = joint + len(tail) * (WIDE + GAP) - GAP if tail else joint - GAP
    lowest = max([tops[-1] + heights[-1], *(middle + box.height / 2 for box in tail)])
    highest = min([0.0, *(middle - box.height / 2 - 14 for box in tail)])
    beside, lowest = _training(genotype, width, lowest + 42)
    return element(
        "svg", element("title", f"{name}: {describe(genotype).short}"), *drawn, *beside,
        class_="diagram" if width > FITTING else "diagram fitting", role="img",
        viewBox=f"-2 {highest:.0f} {width + 4:.0f} {lowest - highest + 4:.0f}",
        width=width + 4, height=lowest - highest + 4,
    )  # fmt: skip


def _boxes(genotype: Genotype, classes: int) -> tuple[list[list[Box]], list[Box]]:
    """The boxes of every stream, and those after them."""
    output = Box(Said(f"{classes} probabilities", ("one for each class",)), "output")
    if not genotype.is_network:
        rows = [_seen(stream) for stream in genotype.streams]
        return rows, [Box(say(genotype["classifier"]), "layer"), output]
    rows, lengths = [], []
    for stream in genotype.streams:
        *before, seen = _seen(stream)
        scaled = say(genotype["normalisation"]).brief
        row = [*before, Box(Said(seen.said.title, (*seen.said.details, scaled)), seen.kind, seen.shape)]
        component: Input = instantiate(stream["input"])
        shape: tuple[int, ...] = component.shape
        for leaf in filter(None, (*stream["backbone"], stream["readout"], stream["cascade"])):
            with torch.device("meta"):
                shape = build_stage(instantiate(leaf), shape)[1]
            row.append(Box(say(leaf), "fixed" if leaf.axis == "readout" else "layer", _size(shape)))
        rows.append(row)
        lengths.append(shape[0])
    tail: list[Box] = []
    if genotype["fusion"] is not None:
        with torch.device("meta"):
            fusion: Fusion = instantiate(genotype["fusion"])
            length = fusion.build(lengths)[1]
        tail.append(Box(say(genotype["fusion"]), "fixed", f"{length} values"))
    tail += [Box(say(task), "layer") for task in genotype["tasks"]]
    return rows, [*tail, output]


def _seen(stream: Leaf) -> list[Box]:
    component: Input = instantiate(stream["input"])
    steps = [Box(say(leaf), "data") for leaf in stream["preprocessing"]]
    return [*steps, Box(say(stream["input"]), "data", _size(component.shape))]


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} values"


def _box(box: Box, left: float, top: float) -> Markup:
    lines = [
        element("text", line, x=left + 9, y=top + 20 + LINE * place, class_=kind)
        for place, (kind, line) in enumerate(box.lines)
    ]
    frame = element("rect", x=left, y=top, width=WIDE, height=box.height, rx=5, class_=f"box box-{box.kind}")
    below = [
        element("text", box.shape, x=left + WIDE / 2, y=top + box.height + 13, class_="box-shape", text_anchor="middle")
    ]
    return group([frame, *lines, *(below if box.shape else [])])


def _arrow(x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A line that leaves and arrives level, with a head."""
    bend = (x1 + x2) / 2
    line = f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2 - 6:.1f} {y2:.1f}"
    head = f"M{x2 - 1:.1f} {y2:.1f}l-7 -3.5v7z"
    return group([element("path", d=line, class_="flow-line"), element("path", d=head, class_="flow-head")])


def _minimised(genotype: Genotype) -> list[Leaf]:
    """The loss and whatever is added to it."""
    return [leaf for leaf in (*genotype["loss"], genotype["auxiliary_loss"], genotype["side_task"]) if leaf is not None]


def _training(genotype: Genotype, width: float, top: float) -> tuple[list[Markup], float]:
    """What is used in training only: a dashed panel; returns it and its lower end."""
    if not genotype.is_network:
        return [], top - 20
    changes = ", ".join(say(leaf).phrase for leaf in genotype["augmentation"]) or "none"
    columns = [
        ("Augmentation", changes),
        ("Training", say(genotype["training"]).phrase),
        ("Loss", ", ".join(say(leaf).phrase for leaf in _minimised(genotype))),
    ]
    room = width / len(columns)
    wrapped = [wrap(text, int(room / 6.6)) for _, text in columns]
    height = 42 + LINE * max(map(len, wrapped))
    drawn = [
        element("rect", x=0, y=top, width=width, height=height, rx=5, class_="box box-training"),
        element("text", "in training only", x=1, y=top - 6, class_="box-shape"),
    ]
    for number, ((heading, _), lines) in enumerate(zip(columns, wrapped, strict=True)):
        left = number * room + 12
        drawn.append(element("text", heading, x=left, y=top + 20, class_="box-title"))
        drawn += [
            element("text", line, x=left, y=top + 38 + LINE * place, class_="box-detail")
            for place, line in enumerate(lines)
        ]
    return drawn, top + height
