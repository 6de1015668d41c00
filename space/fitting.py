"""Room: which shape arrives where in a pipeline, and which values a component then can be built with.

Nothing is built for it. Blocks, readouts and cascades may say by `shape_after(shape)` which shape leaves them, fusions
by `length_after(features)`, heads by `admit(features)` whether they can stand there; all raise `SpaceError` where they
cannot be built. Of components that say nothing, nothing is known, and so of all behind them.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

from mernas.space.errors import SpaceError
from mernas.space.genotype import Leaf, instantiate
from mernas.space.parameters import Choices, Domain, Integer, Primitive
from mernas.space.registry import Declaration, Registry

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
"""What arrives: one shape in a stream, those of all streams at a fusion. Without the batch."""

Chosen = tuple[tuple[str, Primitive], ...]
Open = tuple[tuple[str, tuple[Primitive, ...]], ...]


def shapes_after(leaf: Leaf, arriving: Shapes | None, registry: Registry) -> Shapes | None:
    """Return what leaves a component, None where that is not known or where it cannot be built.

    Args:
        leaf: An input, a block, a readout, a cascade, a fusion, a whole stream or a head.
        arriving: What arrives; of no concern to inputs and streams.
        registry: The components.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> from mernas.space.registry import REGISTRY
        >>> stream = load_preset("ststnet").genotype.streams[0]
        >>> shapes_after(stream["input"], None, REGISTRY), shapes_after(stream, None, REGISTRY)
        (((3, 28, 28),), ((75,),))
    """
    if leaf.axis == "stream":
        shapes: Shapes | None = None
        for part in (leaf["input"], *leaf["backbone"], leaf["readout"], leaf["cascade"]):
            shapes = shapes_after(part, shapes, registry) if part is not None else shapes
        return shapes
    if leaf.axis == "input":
        shape = getattr(instantiate(leaf, registry), "shape", None)
        return None if shape is None else (tuple(shape),)
    if arriving is None:
        return None
    try:
        return _leaving(leaf.axis, instantiate(leaf, registry), arriving)
    except SpaceError:
        return None


def has_room(declaration: Declaration, domains: Mapping[str, Domain], arriving: Shapes) -> bool:
    """Return whether a component can be built for what arrives, with some of its values.

    Args:
        declaration: The component.
        domains: Those of its hyper-parameters that have a say (`Parameter.sizes`), with the values that may be taken.
        arriving: What arrives.
    """
    still = tuple((name, _values(domain)) for name, domain in domains.items())
    return _buildable(declaration.axis, declaration.factory, (), still, arriving)


def with_room(
    declaration: Declaration, name: str, chosen: Mapping[str, Any], domains: Mapping[str, Domain], arriving: Shapes
) -> Domain:
    """Return the part of a domain that leaves the component a way to be built; all of it if no part does.

    Args:
        declaration: The component.
        name: The hyper-parameter.
        chosen: The values of those before it that have a say.
        domains: The domains of this one and of those after it that have a say.
        arriving: What arrives.

    Example:
        >>> from mernas.space.registry import REGISTRY
        >>> average = REGISTRY.get("readout", "average")
        >>> with_room(average, "grid", {}, {"grid": Integer(1, 7)}, ((16, 4, 5),))
        Integer(low=1, high=4, log=False)
    """
    domain = domains[name]
    values = _values(domain)
    still = tuple((other, _values(later)) for other, later in domains.items() if other != name)
    known = tuple(chosen.items())
    left = tuple(
        value
        for value in values
        if _buildable(declaration.axis, declaration.factory, (*known, (name, value)), still, arriving)
    )
    if not left or len(left) == len(values):
        return domain
    if isinstance(domain, Integer) and left == tuple(range(domain.low, domain.low + len(left))):
        return dataclasses.replace(domain, high=domain.low + len(left) - 1)
    return Choices(left)


def left_out(domain: Domain, narrowed: Domain) -> str:
    """Return the part of a question's name that tells what is not offered, so that one name has one domain.

    Example:
        >>> left_out(Choices(("none", "max2", "max4")), Choices(("none", "max2")))
        'without max4'
        >>> left_out(Integer(1, 7), Integer(1, 4))
        'up to 4'
    """
    if isinstance(narrowed, Integer):
        return f"up to {narrowed.high}"
    return without(_values(domain), _values(narrowed))


def without(names: tuple[Primitive, ...], narrowed: tuple[Primitive, ...]) -> str:
    """Return the same for the names or values themselves."""
    return "without " + "+".join(str(name) for name in names if name not in narrowed)


def _values(domain: Domain) -> tuple[Primitive, ...]:
    if isinstance(domain, Choices):
        return domain.values
    return tuple(range(int(domain.low), int(domain.high) + 1))  # only whole numbers may have a say in shapes


def _leaving(axis: str, component: Any, arriving: Shapes) -> Shapes | None:
    """What leaves a component that can say it; an error where it cannot be built."""
    if axis == "fusion":
        if getattr(component, "level", "feature") == "score":
            return arriving  # every stream keeps a head of its own
        say = getattr(component, "length_after", None)
        return None if say is None else ((say([shape[0] for shape in arriving]),),)
    if axis == "head":
        for shape in arriving if hasattr(component, "admit") else ():
            component.admit(shape[0])
        return None
    if not hasattr(component, "shape_after"):
        return None
    return tuple(_after(component, shape) for shape in arriving)


def _after(component: Any, shape: Shape) -> Shape:
    """The shape that leaves a stage; what is `frame_wise` is asked about a single frame of a video."""
    if len(shape) != 4 or not getattr(component, "frame_wise", False):  # (C, T, H, W)
        return tuple(component.shape_after(shape))
    channels, height, width = component.shape_after((shape[0], *shape[2:]))
    return channels, shape[1], height, width


@functools.lru_cache(maxsize=1 << 16)
def _buildable(axis: str, factory: type, chosen: Chosen, still: Open, arriving: Shapes) -> bool:
    """Whether some values of what is still open make a component that can be built; the rest has its defaults."""
    bare = {item.name: None for item in dataclasses.fields(factory) if _required(item)}
    names = [name for name, _ in still]
    for values in itertools.product(*(values for _, values in still)):
        try:
            _leaving(axis, factory(**bare, **dict(chosen), **dict(zip(names, values, strict=True))), arriving)
        except SpaceError:
            continue
        return True
    return False


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
