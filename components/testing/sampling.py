"""Settings of a component: its defaults, and legal values for all hyper-parameters drawn by the space's own walk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mernas.space.errors import Problem, SpaceError, UnavailableError
from mernas.space.genotype import Leaf, Value, instantiate, make_leaf
from mernas.space.parameters import Choices, Domain, Integer, Parameter, Primitive, Slot
from mernas.space.registry import REGISTRY, Declaration, Registry
from mernas.space.suggestion import RandomTrial
from mernas.space.taxonomy import CAPABILITIES, FROM_WITHIN
from mernas.space.tree import SearchSpace

LARGEST = 64
"""Whole numbers are drawn up to this where their ranges allow: a check is no training."""

LONGEST = 3
"""Chains are drawn up to this length where their ranges allow."""

WHOLE = ("pipeline", "stream", "features")
"""Axes whose components hold everything that provides what their parts need of each other."""

PLACE = "conformance sample"


def sample_components(declaration: Declaration, seed: int, count: int, registry: Registry = REGISTRY) -> list[Any]:
    """Return components with legal settings: the default one, if there is one, then some that are drawn.

    Slots are filled by the walk that proposes whole pipelines, for data that provide everything. Whole numbers are
    drawn up to 64 where the ranges allow.

    Args:
        declaration: What the component says of itself.
        seed: Another seed draws other settings.
        count: How many are drawn; fewer, where there are fewer.
        registry: Where the components for the slots are looked up.

    Raises:
        UnavailableError: If a library that it requires is not installed.
        SpaceError: If nothing fits into one of its slots.

    Example:
        >>> sample_components(REGISTRY.get("schedule", "warm_cosine"), seed=0, count=1)
        [WarmCosine(warm=0.1), WarmCosine(warm=0.426)]
    """
    return [instantiate(leaf, registry) for leaf in sample_leaves(declaration, seed, count, registry)]


def sample_leaves(declaration: Declaration, seed: int, count: int, registry: Registry = REGISTRY) -> list[Leaf]:
    """Return what `sample_components` does, as leaves; arguments and errors as there."""
    if declaration.missing:
        wanted = " ".join(declaration.missing)
        remedy = f'run: python -m pip install "{wanted}"'
        raise UnavailableError(Problem(declaration.title, f"needs {wanted}, which is not installed", "", remedy))
    default = default_leaf(declaration, registry)
    leaves = [] if default is None else [default]
    wanted_number = len(leaves) + count
    space = _space(declaration, registry)
    for attempt in range(10 * count):
        if len(leaves) == wanted_number:
            break
        trial = _Naming(f"{seed} {declaration.axis} {declaration.name} {attempt}", declaration.name)
        root = space.suggest(trial).root
        leaf: Leaf = root if declaration.axis == "pipeline" else root["component"]
        if leaf not in leaves:
            leaves.append(leaf)
    return leaves


def default_leaf(
    declaration: Declaration, registry: Registry = REGISTRY, filled: Mapping[str, Value] | None = None
) -> Leaf | None:
    """Return a component with all its defaults, as a leaf; None where a slot has none and must be filled.

    Args:
        declaration: What the component says of itself.
        registry: Where the defaults of its slots are looked up.
        filled: Values that take the place of defaults.

    Raises:
        UnknownNameError: If the default of a slot is not registered.

    Example:
        >>> default_leaf(REGISTRY.get("schedule", "warm_cosine"))["warm"]
        0.1
    """
    values: dict[str, Value] = {}
    for name, parameter in declaration.parameters.items():
        slot = parameter.domain
        if filled is not None and name in filled:
            values[name] = filled[name]
        elif parameter.when is not None and not parameter.when(values):
            values[name] = None
        elif not isinstance(slot, Slot):
            values[name] = declaration.default(name)
        elif slot.shape == "one":
            child = None if slot.default is None else default_leaf(registry.get(slot.axis, slot.default), registry)
            if child is None:
                return None
            values[name] = child
        elif slot.low > 0:
            return None
        else:
            values[name] = None if slot.shape == "optional" else ()
    return make_leaf(declaration, values)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A pipeline that is nothing but the component in question."""

    component: Any


class _Naming(RandomTrial):
    """Draws at random, but the component in question by its name."""

    def __init__(self, seed: str, name: str) -> None:
        super().__init__(seed)
        self._name = name

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        """Return one of the choices."""
        if name != "component":
            return super().suggest_categorical(name, choices)
        if self._name not in choices:
            raise SpaceError(Problem(self._name, "nothing that is registered fits into one of its slots"))
        return self._name


def _space(declaration: Declaration, registry: Registry) -> SearchSpace:
    """The space of all settings of one component."""
    facts = frozenset(CAPABILITIES) - (FROM_WITHIN if declaration.axis in WHOLE else frozenset())
    limits = _limits(registry)
    if declaration.axis == "pipeline":
        return SearchSpace(facts, limits, registry=registry, pipeline=declaration.name)
    extended = Registry()
    for known in registry:
        extended.add(known)
    place = Declaration("pipeline", PLACE, 1, "-", "", _Sample, {"component": Parameter(Slot(declaration.axis, "one"))})
    extended.add(place)
    return SearchSpace(facts, limits, registry=extended, pipeline=PLACE)


def _limits(registry: Registry) -> Mapping[tuple[str, str, str], Domain]:
    limits: dict[tuple[str, str, str], Domain] = {}
    for declaration in registry:
        for name, parameter in declaration.parameters.items():
            narrowed = _narrowed(parameter.domain)
            if narrowed is not None:
                limits[declaration.axis, declaration.name, name] = narrowed
    return limits


def _narrowed(domain: Domain | Slot) -> Domain | None:
    """The small part of a domain; None where all of it is small."""
    if isinstance(domain, Slot):
        long = domain.shape in ("chain", "bag") and domain.high > LONGEST
        return Integer(domain.low, max(domain.low, LONGEST)) if long else None
    if isinstance(domain, Integer) and domain.high > LARGEST:
        return dataclasses.replace(domain, high=max(domain.low, LARGEST))
    if isinstance(domain, Choices):
        numbers = [value for value in domain.values if isinstance(value, int) and not isinstance(value, bool)]
        if numbers and max(numbers) > LARGEST:
            most = max(min(numbers), LARGEST)
            return Choices(tuple(value for value in domain.values if value not in numbers or value <= most))
    return None
