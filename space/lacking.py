"""Why a component cannot stand in a pipeline, or none can: what it needs that the data and the parts before it lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mernas.space.errors import Problem
from mernas.space.genotype import Leaf
from mernas.space.parameters import Choices, Slot
from mernas.space.registry import Declaration
from mernas.space.taxonomy import AXES, CAPABILITIES, FROM_WITHIN

if TYPE_CHECKING:  # which asks this module for its messages
    from mernas.space.tree import Facts, SearchSpace

Lacks = frozenset[str]
"""What one way to fill a component lacks: capabilities, and what must be installed."""

NOTHING: Lacks = frozenset()


def refusals(
    space: SearchSpace, where: str, slot: Slot, leaf: Leaf, facts: Facts, kind: str | None
) -> list[Problem | str]:
    """Return why a component that somebody wrote is not offered: its own reason, or those of the parts inside it.

    Args:
        space: The space.
        where: The slot's dotted name.
        slot: The slot.
        leaf: What stands there.
        facts: What the data and the parts before it provide.
        kind: The kind that arrives, None where none flows.

    Returns:
        At least one problem.
    """
    own = _refusal(space, where, slot, leaf.name, facts, kind)
    if own is not None:
        return [own]
    path = where if AXES[slot.axis].record else f"{where}.{leaf.name}"
    within = facts | FROM_WITHIN | _stated(space, leaf)
    rule = "nothing that it needs inside fits the data, or no readout can follow it"
    return list(_inside(space, path, leaf, within)) or [Problem(f'{where}, {slot.axis} "{leaf.name}"', rule)]


def nothing_fits(space: SearchSpace, where: str, slot: Slot, facts: Facts) -> Problem:
    """Return why no component of a space can stand in a slot: what each needs, and what would fit instead.

    Args:
        space: The space.
        where: The slot's dotted name.
        slot: The slot.
        facts: What the data and the parts before it provide.

    Example:
        >>> import mernas.components
        >>> from mernas.space.restriction import load_space
        >>> space = load_space("quick", frozenset({"frames"}))
        >>> print(nothing_fits(space, "streams.0", Slot("stream", "one"), space.facts))
        streams.0: no stream of this space fits the data: input "optical_flow" needs onset and apex, or given flow and \
given strain, found data that provide frames. Add to the data what one of these needs.
    """
    rule = f"no {slot.axis} of this space fits the data"
    have = f"data that provide {', '.join(sorted(facts)) or 'nothing'}"
    wanting = list(_wanting(space, slot.axis, facts))
    if not wanting:  # then it is not the data
        return Problem(where, rule, have, "take a wider space")
    wishes = "; ".join(f'{item.axis} "{item.name}" needs {_in_words(ways)}' for item, ways in wanting)
    remedy = "add to the data what one of these needs"
    full = replace(space, kept={}, limits={})
    axes = {item.axis for item, _ in wanting}
    others = [
        item.name for item in space.registry if item.axis in axes and NOTHING in _ways(full, item, facts | FROM_WITHIN)
    ]
    if others:
        remedy += f", or take a space that has {_listed(others, 'or')}"
    return Problem(where, f"{rule}: {wishes}", have, remedy)


def _refusal(
    space: SearchSpace, where: str, slot: Slot, name: str, facts: Facts, kind: str | None = None
) -> Problem | None:
    """Why a component cannot stand in a slot, whatever is inside it; None where nothing is known against it."""
    subject = f'{where}, {slot.axis} "{name}"'
    if name not in space.names(slot.axis):
        left = ", ".join(space.names(slot.axis)) or "none"
        return Problem(subject, "is left out by the space file", "", f"left: {left}")
    declaration = space.registry.get(slot.axis, name)
    if declaration.missing:
        wanted = " ".join(declaration.missing)
        remedy = f'run: python -m pip install "{wanted}"'
        return Problem(subject, f"unavailable: needs {wanted}, which is not installed", "", remedy)
    if declaration.needs - facts:
        return _unmet(subject, declaration.needs - facts)
    if slot.flows and kind is not None and kind not in declaration.maps:
        return Problem(subject, f"takes {' or '.join(declaration.maps)}", kind, "place it elsewhere")
    return None


def _unmet(subject: str, lacking: Lacks) -> Problem:
    needed = "; ".join(CAPABILITIES[name] for name in CAPABILITIES if name in lacking)
    if FROM_WITHIN.issuperset(lacking):
        return Problem(subject, f"unavailable: needs {needed}", "", "change what comes before it or leave it out")
    remedy = "use other data or leave it out"
    return Problem(subject, f"unavailable: needs {needed}, which these data lack", "", remedy)


def _inside(space: SearchSpace, path: str, leaf: Leaf, facts: Facts) -> Iterator[Problem]:
    """What is against the parts of a component and against its values."""
    declaration = space.registry.get(leaf.axis, leaf.name)
    for name, value in leaf.values:
        parameter = declaration.parameters[name]
        if not isinstance(parameter.domain, Slot):
            lacking = (
                parameter.needs.get(value, NOTHING) - facts if isinstance(value, (bool, int, float, str)) else None
            )
            if lacking:
                yield _unmet(f"{path}.{name}, {value}", lacking)
            continue
        chain = isinstance(value, tuple)
        for place, part in enumerate(value if isinstance(value, tuple) else (value,)):
            if not isinstance(part, Leaf):
                continue
            where = f"{path}.{name}.{place}" if chain and parameter.domain.shape != "subset" else f"{path}.{name}"
            own = _refusal(space, where, parameter.domain, part.name, facts)
            if own is not None:
                yield own
            yield from _inside(space, where if AXES[part.axis].record else f"{where}.{part.name}", part, facts)


def _stated(space: SearchSpace, leaf: Leaf) -> Facts:
    """What a component and those inside it say that they provide."""
    return frozenset().union(*(space.registry.get(part.axis, part.name).provides for part in leaf.walk()))


def _wanting(space: SearchSpace, axis: str, facts: Facts) -> Iterator[tuple[Declaration, set[Lacks]]]:
    """The components of an axis that lack something, with the ways to help them; of a record, those inside it."""
    for name in space.names(axis):
        declaration = space.registry.get(axis, name)
        ways = _ways(space, declaration, facts | FROM_WITHIN)
        if not ways or NOTHING in ways:
            continue
        if not AXES[axis].record:
            yield declaration, ways
            continue
        for slot in _filled(space, declaration):
            options = [space.registry.get(slot.axis, option) for option in space.names(slot.axis)]
            if all(NOTHING not in _ways(space, option, facts | FROM_WITHIN) for option in options):
                yield from _wanting(space, slot.axis, facts)


def _filled(space: SearchSpace, declaration: Declaration) -> Iterator[Slot]:
    """The slots of a component that hold something in any case."""
    for name, parameter in declaration.parameters.items():
        domain = space.domain(declaration, name)
        if isinstance(domain, Slot) and domain.low > 0 and parameter.when is None:
            yield domain


def _ways(space: SearchSpace, declaration: Declaration, facts: Facts) -> set[Lacks]:
    """What a component lacks, for each way to fill it: `NOTHING` if one lacks nothing; no way at all if it has none."""
    ways = {frozenset(declaration.missing) | (declaration.needs - facts)}
    for slot in _filled(space, declaration):
        options = [space.registry.get(slot.axis, option) for option in space.names(slot.axis)]
        ways = _both(ways, {way for option in options for way in _ways(space, option, facts)})
        facts = facts.union(*(option.provides for option in options))
    for name, parameter in declaration.parameters.items():
        domain = space.domain(declaration, name)
        if isinstance(domain, Choices) and parameter.needs:
            ways = _both(ways, {parameter.needs.get(value, NOTHING) - facts for value in domain.values})
    return ways


def _both(some: set[Lacks], others: set[Lacks]) -> set[Lacks]:
    """What is lacking for one and another, without what another way spares."""
    joined = {one | other for one in some for other in others}
    return {one for one in joined if not any(other < one for other in joined)}


def _in_words(ways: Iterable[Lacks]) -> str:
    order = list(CAPABILITIES)
    named = [([name for name in order if name in way], sorted(way.difference(order))) for way in ways]
    named.sort(key=lambda one: (len(one[0]) + len(one[1]), [order.index(name) for name in one[0]], one[1]))
    return ", or ".join(
        _listed([*data, *(f"{name} (not installed)" for name in installed)], "and") for data, installed in named
    )


def _listed(names: list[str], word: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
