"""What the components of the axes of modules are built for: shapes of every kind, in small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.components.testing.genotypes import network_of
from mernas.components.testing.subject import Subject
from mernas.components.testing.training_rows import SampleRows
from mernas.components.testing.verdict import ConformanceError, demand, own_chance, telling
from mernas.components.topologies.network import build_network
from mernas.components.topologies.stage import build_stage
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype, Leaf, instantiate
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import CAPSULES, GRAPH, IMAGE, SEQUENCE, VECTOR, VIDEO

SHAPES: dict[str, tuple[Shape, ...]] = {
    IMAGE: ((16, 14, 13), (3, 24, 24), (1, 5, 7)),
    VIDEO: ((16, 6, 10, 9), (1, 16, 12, 12), (2, 1, 5, 7)),
    GRAPH: ((51, 4), (68, 16), (5, 3)),
    SEQUENCE: ((8, 6), (1, 16), (49, 5)),
    VECTOR: ((40,), (7,), (400,)),
}
"""Without the batch. The first of each kind is one in which no parameter lies idle."""

CLASSES = 3

COSTLY = 100_000
"""Settings with more parameters are checked no further: what is wrong with them is wrong with smaller ones."""

WARM = 8
"""Clips of the batch by which running statistics leave their start."""

Build = Callable[[], tuple[nn.Module, Shape]]


@dataclass(frozen=True, eq=False)
class Case:
    """A setting of a component and the shapes that it is built for.

    Attributes:
        title: What messages call it.
        make: Builds the module, and says which shape leaves it.
        shapes: Of the tensors that enter, without the batch.
        listed: Whether the module takes them as a list.
        ready: Does to a module that is not on the meta device what must be done before it is of use.
        ample: Whether the shapes are such that no parameter lies idle; a sequence of one token, say, is not.
    """

    title: str
    make: Build
    shapes: tuple[Shape, ...]
    listed: bool = False
    ready: Callable[[nn.Module], None] | None = None
    ample: bool = True

    def built(self, seed: int = 0, ready: bool = True) -> nn.Module:
        """Return a module in training mode whose weights are drawn from this seed; fitted, unless not even `ready`."""
        with own_chance(seed), telling(self.title, "builds, or raises SpaceError"):
            module = self.make()[0]
            if self.ready is not None and ready:
                self.ready(module)
            return module

    def used(self, seed: int = 0) -> nn.Module:
        """Return a module in evaluation mode that has seen a batch in training mode."""
        module = self.built(seed)
        with own_chance(seed), torch.no_grad():
            self.run(module, self.inputs(WARM, seed))
        return module.eval()

    def inputs(self, batch: int, seed: int = 1, device: str = "cpu") -> list[Tensor]:
        """Return a batch of random tensors."""
        if device == "meta":
            return [torch.empty((batch, *shape), device=device) for shape in self.shapes]
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn((batch, *shape), generator=generator).to(device) for shape in self.shapes]

    def run(self, module: nn.Module, tensors: Sequence[Tensor]) -> Tensor:
        """Return what the module makes of the tensors."""
        with telling(self.title, "takes what it was built for"):
            result: Tensor = module(list(tensors)) if self.listed else module(*tensors)
            return result


def cases(subject: Subject, leaf: Leaf) -> list[Case]:
    """Return the cases of a setting that can be built; those that raise `SpaceError` are left out, as are large ones.

    Raises:
        AssertionError: If building raises anything else, or a module on the meta device has no size.
    """
    made: list[Case] = []
    title = subject.called(leaf)
    for case in _possible(subject, leaf, title):
        try:
            with torch.device("meta"):
                module, _ = case.make()
        except SpaceError as error:
            demand(bool(error.problems), case.title, "says why it cannot be built", "no problem in the SpaceError")
            continue
        except Exception as error:  # a stranger's component may raise anything
            rule = "builds on the meta device, or raises SpaceError"
            raise ConformanceError(f"{case.title}: {rule}; found {type(error).__name__}: {error}") from error
        if sum(weights.numel() for weights in module.parameters()) <= COSTLY:
            made.append(case)
    return made


def all_cases(subject: Subject) -> list[Case]:
    """Return the cases of all settings.

    Raises:
        AssertionError: If there are none, for then nothing would be checked.
    """
    made = [case for leaf in subject.leaves for case in cases(subject, leaf)]
    demand(bool(made), subject.declaration.title, "builds for at least one of the shapes of its kinds", "none")
    return made


def first_cases(subject: Subject) -> list[Case]:
    """Return, for what takes long, cases of two settings: of the first for every kind, of the second for one kind."""
    chosen: list[Case] = []
    for number, leaf in enumerate(subject.leaves[:2]):
        by_rank: dict[int, Case] = {}
        for case in cases(subject, leaf):
            by_rank.setdefault(len(case.shapes[0]), case)
        chosen += list(by_rank.values())[: 1 if number else None]
    return chosen


def _possible(subject: Subject, leaf: Leaf, title: str) -> Iterator[Case]:
    axis, maps = subject.declaration.axis, subject.declaration.maps
    if axis in ("stream", "pipeline"):
        yield from _whole(subject, leaf, title)
        return
    component = instantiate(leaf, subject.registry)
    if axis in ("block", "readout", "cascade"):
        for kind in maps:
            for shape in SHAPES[kind]:
                ample = shape == SHAPES[kind][0]
                yield Case(f"{title} for {kind} {shape}", _stage(component, shape), (shape,), ample=ample)
    elif axis == "attention":
        for kind in (IMAGE, VIDEO):
            for shape in SHAPES[kind]:
                ample = shape == SHAPES[kind][0]
                yield Case(f"{title} for {kind} {shape}", _attention(component, shape), (shape,), ample=ample)
    elif axis == "normalisation":
        for kind in (IMAGE, VIDEO, GRAPH, VECTOR):
            for shape in SHAPES[kind]:
                ready = _fitting(component, shape)
                yield Case(f"{title} for {kind} {shape}", _normaliser(component, shape), (shape,), ready=ready)
    elif axis in ("head", "task"):
        # Some heads want capsules of eight numbers, or a map of so many places.
        lengths = (64, 24) if CAPSULES in subject.declaration.needs else (40, 64, 7, 900, 1176, 392)
        for length in lengths:
            for classes in (CLASSES, 2):
                build = _classes(component, length, classes)
                yield Case(f"{title} for {length} features and {classes} classes", build, ((length,),))
    elif axis == "fusion":
        for several in ((12, 12), (12, 5, 7), (6, 6, 6, 6)):
            shapes = tuple((length,) for length in several)
            yield Case(f"{title} for vectors of {several}", _fusion(component, several), shapes, listed=True)
        if getattr(component, "level", "feature") == "score":
            for streams in (2, 4):
                entering = ((streams, CLASSES),)
                yield Case(f"{title} for scores of {streams} streams", _scores(component, streams), entering)


def _whole(subject: Subject, leaf: Leaf, title: str) -> Iterator[Case]:
    """The network of a pipeline; of a stream, the network that is nothing else."""
    if subject.registry is not REGISTRY or leaf.name == "classical":
        return  # networks are made of what is registered for all
    genotype = Genotype(leaf) if leaf.axis == "pipeline" else network_of([leaf])
    shapes = tuple(tuple(instantiate(stream["input"]).shape) for stream in genotype.streams)
    yield Case(f"{title} for {shapes}", lambda: (build_network(genotype, CLASSES), (CLASSES,)), shapes, listed=True)


def _stage(component: Any, shape: Shape) -> Build:
    return lambda: build_stage(component, shape)


def _attention(component: Any, shape: Shape) -> Build:
    return lambda: (component.build(shape[0]), shape)


def _normaliser(component: Any, shape: Shape) -> Build:
    return lambda: (component.build(shape), shape)


def _classes(component: Any, length: int, classes: int) -> Build:
    return lambda: (component.build(length, classes), (classes,))


def _scores(component: Any, streams: int) -> Build:
    return lambda: (component.build_scores(streams, CLASSES), (CLASSES,))


def _fusion(component: Any, lengths: Sequence[int]) -> Build:
    def build() -> tuple[nn.Module, Shape]:
        module, length = component.build(lengths)
        return module, (length,)

    return build


def _fitting(component: Any, shape: Shape) -> Callable[[nn.Module], None]:
    def fit(module: nn.Module) -> None:
        generator = torch.Generator().manual_seed(7)
        maps = 3 + 2 * torch.randn((12, *shape), generator=generator)
        rows = SampleRows((maps,), torch.arange(12) % 2)
        before = rows.content()
        component.fit(module, rows, 0)
        demand(rows.unchanged(before), repr(component), "leaves the training rows as they are", "changed rows")

    return fit
