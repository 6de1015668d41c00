"""Checks of what a component says of shapes without being built, by which a space asks only for what fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mernas.components.contracts import Shape
from mernas.components.testing.module_cases import CLASSES, SHAPES
from mernas.components.testing.subject import Subject
from mernas.components.testing.verdict import demand
from mernas.components.topologies.stage import build_stage
from mernas.space.errors import SpaceError
from mernas.space.fitting import shapes_after
from mernas.space.genotype import instantiate
from mernas.space.taxonomy import GRAPH, IMAGE, VIDEO

SMALL: dict[str, tuple[Shape, ...]] = {
    IMAGE: ((16, 1, 1), (2, 2, 2), (16, 3, 4), (5, 6, 6)),
    VIDEO: ((16, 1, 1, 1), (2, 3, 2, 2), (16, 4, 3, 4), (5, 9, 6, 6)),
    GRAPH: ((1, 1), (30, 4)),
}
"""Beside those that modules are checked with: those for which there may be no room."""

LENGTHS = (7, 8, 40, 64, 392, 900)
"""Of the vectors that heads are asked about."""

SAYS = {
    "block": "shape_after",
    "readout": "shape_after",
    "cascade": "shape_after",
    "fusion": "length_after",
    "head": "admit",
}
"""The method by which a component of an axis may say what it does to shapes, without being built."""


def shapes_foretold(subject: Subject) -> None:
    """What it says of shapes without being built is what building says, and only what declares it has a say."""
    declaration = subject.declaration
    sized = [name for name, parameter in declaration.parameters.items() if parameter.sizes]
    says = SAYS.get(declaration.axis)
    if says is None or not hasattr(declaration.factory, says):
        rule = f"what declares hyper-parameters with `sizes` has the method {says or 'of an axis that is asked'}"
        demand(not sized, declaration.title, rule, ", ".join(sized))
        return
    if declaration.axis == "fusion":
        _lengths(subject)
        return
    first = instantiate(subject.leaves[0], subject.registry)
    for leaf in subject.leaves:
        component, title = instantiate(leaf, subject.registry), subject.called(leaf)
        other = dataclasses.replace(first, **{name: getattr(component, name) for name in sized})
        for shape in _arriving(subject):
            left = _built(declaration.axis, component, shape)
            if declaration.axis == "head":
                told: Any = _raises_nothing(component.admit, shape[0])
                demand(told == (left is not None), title, f"admits {shape} if it can be built for it", told)
            else:
                told = shapes_after(leaf, (shape,), subject.registry)
                demand(told == (None if left is None else (left,)), title, f"says what leaves for {shape}", told)
            alike = _built(declaration.axis, other, shape) is None
            rule = f"whether it can be built for {shape} depends on {', '.join(sized) or 'nothing'}"
            demand(alike == (left is None), title, rule, "on other hyper-parameters, which `sizes` does not declare")


def _lengths(subject: Subject) -> None:
    for leaf in subject.leaves:
        component = instantiate(leaf, subject.registry)
        for several in ((12, 12), (12, 5, 7), (6, 6, 6, 6)):
            told, given = component.length_after(several), component.build(several)[1]
            demand(told == given, subject.called(leaf), f"says which length leaves for {several}", told)


def _arriving(subject: Subject) -> Sequence[Shape]:
    """The shapes that a component is asked about."""
    if subject.declaration.axis == "head":
        return [(length,) for length in LENGTHS]
    return [shape for kind in subject.declaration.maps for shape in (*SHAPES[kind], *SMALL.get(kind, ()))]


def _built(axis: str, component: Any, shape: Shape) -> Shape | None:
    """The shape that leaves what is built, None where it cannot be built."""
    try:
        with torch.device("meta"):
            if axis != "head":
                return build_stage(component, shape)[1]
            component.build(shape[0], CLASSES)
            return (CLASSES,)
    except SpaceError:
        return None


def _raises_nothing(say: Callable[[int], None], length: int) -> bool:
    try:
        say(length)
    except SpaceError:
        return False
    return True
