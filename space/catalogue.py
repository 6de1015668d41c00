"""The catalogue of a space: every axis and component with what it needs and, where it cannot be had, the reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING
from typing import Any

from mernas.space.parameters import Choices, Domain, Integer, Parameter, Real, Slot
from mernas.space.registry import Declaration
from mernas.space.taxonomy import AXES, CAPABILITIES, CLIP, FROM_WITHIN, IMAGE
from mernas.space.tree import Facts, SearchSpace

EVERYTHING: Facts = frozenset(CAPABILITIES) - FROM_WITHIN
"""What data can have at most."""

ROOTS = ("dataset", "pipeline")
"""Axes whose components stand in no slot."""


def catalogue(space: SearchSpace) -> dict[str, Any]:
    """Return a space as plain data, in the survey's order.

    Components that the space leaves out are not listed; those that the data or the installation leave out are, with
    the reason. Of a hyper-parameter the domain is what remains of it.

    The shape, to which keys may be added but from which none will be taken: `facts`, the capabilities of the data;
    `fitting`, whether proposals are only of what there is room for in the map that arrives; `axes` by name ->
    `section`, `title`, `optional` (whether a pipeline can do without), `components` by name -> `version`, `section`,
    `source`, `summary`, `needs` and `provides` (capabilities), `requires` (importable module -> what pip is asked for),
    `maps` (kind -> kind), `available`, `reason` (empty if available), `hyperparameters` by name -> `kind`, `domain`,
    `default`, `doc`, `needs` (value -> capabilities), `conditional` (whether it is there for some values of the others
    only). The domain of an `integer` or `real` has `low`, `high` and `log`; that of a `choice` is a list; that of a
    slot for components (`one`, `optional`, `chain`, `bag`, `subset`) has `axis`, `low` and `high`. A default is null
    where there is none. `provides` of an input holds what its maps have for some of its values.

    Example:
        >>> import mernas.components
        >>> found = catalogue(SearchSpace(frozenset({"given flow", "given strain"})))
        >>> estimators = found["axes"]["flow_estimator"]["components"]
        >>> estimators["given"]["available"], estimators["dis"]["reason"]
        (True, 'needs the frames of the clips; the onset frame of every clip; the apex frame of every clip')
        >>> found["axes"]["optimizer"]["components"]["sgd"]["hyperparameters"]["momentum"]["domain"]
        {'low': 0.0, 'high': 0.99, 'log': False}
    """
    offer = _Offer(space)
    axes: dict[str, Any] = {}
    for axis in AXES.values():
        components = {item.name: _component(offer, item) for item in offer.left if item.axis == axis.name}
        axes[axis.name] = {
            "section": axis.section,
            "title": axis.title,
            "optional": axis.empty,
            "components": components,
        }
    return {"facts": sorted(space.facts), "fitting": space.fitting, "axes": axes}


def _component(offer: _Offer, item: Declaration) -> dict[str, Any]:
    reason = offer.reasons.get((item.axis, item.name), "")
    return {
        "version": item.version,
        "section": item.section,
        "source": item.source,
        "summary": item.summary,
        "needs": sorted(item.needs),
        "provides": sorted(item.provides | (offer.given_by(item) if not reason else frozenset())),
        "requires": dict(item.requires),
        "maps": dict(item.maps),
        "available": not reason,
        "reason": reason,
        "hyperparameters": {name: _parameter(offer, item, name) for name in item.parameters},
    }


def _parameter(offer: _Offer, item: Declaration, name: str) -> dict[str, Any]:
    parameter = item.parameters[name]
    domain = offer.domain(item, name)
    default = item.default(name)
    if isinstance(domain, Slot):
        default = domain.default
    kinds = {Integer: "integer", Real: "real", Choices: "choice"}
    return {
        "kind": domain.shape if isinstance(domain, Slot) else kinds[type(domain)],
        "domain": _plain_domain(domain),
        "default": None if default is MISSING else default,
        "doc": parameter.doc,
        "needs": {str(value): sorted(needs) for value, needs in parameter.needs.items()},
        "conditional": parameter.when is not None,
    }


def _plain_domain(domain: Domain | Slot) -> Any:
    if isinstance(domain, Choices):
        return list(domain.values)
    if isinstance(domain, Slot):
        return {"axis": domain.axis, "low": domain.low, "high": domain.high}
    return {"low": domain.low, "high": domain.high, "log": domain.log}


class _Offer:
    """What of a space can occur in a pipeline.

    It begins with everything that the space leaves and takes away what cannot be had, which may take away what others
    need, until nothing changes.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.left = [item for item in space.registry if item.name in space.names(item.axis)]
        self.reasons: dict[tuple[str, str], str] = {}
        self.facts = space.facts
        while True:
            self.facts = space.facts.union(*(item.provides | self.given_by(item) for item in self.alive()))
            found = {(item.axis, item.name): reason for item in self.alive() if (reason := self._reason(item))}
            if not found:
                return
            self.reasons |= found

    def alive(self, axis: str | None = None) -> Iterator[Declaration]:
        """Yield the components, of one axis or of all, against which nothing is known."""
        for item in self.left:
            if axis in (None, item.axis) and (item.axis, item.name) not in self.reasons:
                yield item

    def domain(self, item: Declaration, name: str) -> Domain | Slot:
        """Return what the space and the facts leave of a hyper-parameter; all of it where they leave nothing."""
        domain, needs = self.space.domain(item, name), item.parameters[name].needs
        if isinstance(domain, Choices) and needs:
            met = tuple(value for value in domain.values if needs.get(value, frozenset()) <= self.facts)
            return Choices(met) if met else domain
        return domain

    def given_by(self, item: Declaration) -> Facts:
        """Return the capabilities that the maps of an input have for some of its values."""
        if item.axis != "input" or item.missing or not item.needs <= self.space.facts:
            return frozenset()
        choices = [self._some_values(item, name, parameter) for name, parameter in item.parameters.items()]
        inputs: Iterable[Any] = (
            item.factory(**dict(zip(item.parameters, values, strict=True))) for values in itertools.product(*choices)
        )
        return frozenset().union(*(component.provides(self.space.facts) for component in inputs))

    def _some_values(self, item: Declaration, name: str, parameter: Parameter) -> Sequence[Any]:
        """Values on which the kind of a map can depend: all words, one number, and every component by its defaults."""
        domain = self.domain(item, name)
        if isinstance(domain, Slot):
            return [part.factory() for part in self.alive(domain.axis)] if domain.shape == "one" else [None]
        if isinstance(domain, Choices):
            numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in domain.values)
            return domain.values[:1] if numbers else domain.values
        return [domain.low]

    def _reason(self, item: Declaration) -> str:
        """Why a component cannot occur, or nothing."""
        if item.missing:
            return f"needs {' '.join(item.missing)}"
        wanting = [capability for capability in CAPABILITIES if capability in item.needs - self.facts]
        if wanting:
            return f"needs {'; '.join(CAPABILITIES[capability] for capability in wanting)}"
        for name, parameter in item.parameters.items():
            domain = self.space.domain(item, name)
            if isinstance(domain, Slot) and domain.low > 0 and parameter.when is None:
                if not any(self.alive(domain.axis)):
                    return f"needs a component of the axis {domain.axis}, of which none is left"
            elif isinstance(domain, Choices) and parameter.needs:
                wanted = [parameter.needs.get(value, frozenset()) - self.facts for value in domain.values]
                if all(wanted):
                    ways = {"; ".join(CAPABILITIES[name] for name in sorted(names)) for names in wanted}
                    return f"{name} needs {' or '.join(sorted(ways))}"
        if item.axis not in ROOTS and item.axis not in self._axes_with_a_place():
            return "nothing that is left here has a place for it"
        return self._misfit(item)

    def _axes_with_a_place(self) -> set[str]:
        """Return the axes of the slots in which something can stand."""
        return {
            domain.axis
            for item in self.alive()
            for name in item.parameters
            if isinstance(domain := self.space.domain(item, name), Slot) and domain.high > 0 and self._asked(item, name)
        }

    def _asked(self, item: Declaration, name: str) -> bool:
        """Whether a hyper-parameter can be active; where that depends on a component, it is taken to be."""
        when = item.parameters[name].when
        if when is None:
            return True
        earlier: dict[str, Sequence[Any]] = {}
        for other in itertools.takewhile(lambda other: other != name, item.parameters):
            domain = self.space.domain(item, other)
            if isinstance(domain, Slot):
                if domain.shape not in ("chain", "bag"):
                    return True
                earlier[other] = [(None,) * domain.low, (None,) * domain.high]
            else:
                earlier[other] = domain.values if isinstance(domain, Choices) else [domain.low, domain.high]
        return any(when(dict(zip(earlier, values, strict=True))) for values in itertools.product(*earlier.values()))

    def _misfit(self, item: Declaration) -> str:
        """Why no data can flow through a component on its way through a stream, or nothing."""
        stream = next(self.alive("stream"), None)
        if stream is None:
            return ""
        slots = [self.space.domain(stream, name) for name in stream.parameters]
        way = [slot for slot in slots if isinstance(slot, Slot) and slot.flows]
        places = [place for place, slot in enumerate(way) if slot.axis == item.axis]
        if not places:
            return ""
        arriving = self._arriving(way, stream.starts or CLIP)
        leaving = self._leaving(way, stream.ends)
        place = places[0]
        taken = [kind for kind in item.maps if kind in arriving[place]]
        if not taken:
            return f"takes {_either(item.maps)}, which nothing before it makes here"
        made = {item.maps[kind] for kind in taken}
        return "" if made & leaving[place] else f"makes {_either(made)}, which nothing behind it takes here"

    def _arriving(self, way: Sequence[Slot], start: str) -> list[set[str]]:
        """Return, for every slot of a stream, the kinds that can arrive at one of its components."""
        arriving: list[set[str]] = []
        kinds = {start}
        for slot in way:
            steps = [kinds]
            for _ in range(slot.high):
                maps = [item.maps for item in self.alive(slot.axis)]
                steps.append({each[kind] for each in maps for kind in steps[-1] if kind in each})
            arriving.append(set().union(*steps[:-1]))
            kinds = set().union(*steps[slot.low :])
        return arriving

    def _leaving(self, way: Sequence[Slot], end: str | None) -> list[set[str]]:
        """Return, for every slot of a stream, the kinds from which the end can be reached behind one of its parts."""
        leaving: list[set[str]] = []
        kinds = {str(end)}
        for slot in reversed(way):
            steps = [kinds]
            for _ in range(slot.high):
                maps = [item.maps for item in self.alive(slot.axis)]
                steps.append({kind for each in maps for kind, made in each.items() if made in steps[-1]})
            leaving.append(set().union(*steps[:-1]))
            kinds = set().union(*steps[slot.low :])
        return leaving[::-1]


def _either(kinds: Iterable[str]) -> str:
    """Kinds for people; a component that maps none takes part in no stream."""
    named = ("an image" if kind == IMAGE else f"a {kind}" for kind in sorted(kinds))
    return " or ".join(named) or "no kind that it names"
