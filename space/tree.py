"""The conditional tree: which pipelines exist for the data at hand, how a trial walks through them, what is legal.

One walk serves three ends. With a trial it proposes a genotype; with a genotype as its guide it says whether that
genotype lies in the space, and under which dotted names and domains a trial would have been asked for it. Composition
is typed on the way: a slot offers only components whose needs the data and the earlier stages meet and through which
the kind of the data can still reach the end of the stream, so nothing ill-typed is ever proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import mernas.space.grammar  # noqa: F401  # the records are part of every space
from mernas.space.errors import Problem, SpaceError, raise_all
from mernas.space.fitting import Shapes, has_room, left_out, shapes_after, with_room, without
from mernas.space.genotype import Genotype, Leaf, Value, instantiate, make_leaf
from mernas.space.lacking import nothing_fits, refusals
from mernas.space.parameters import Choices, Domain, Integer, Parameter, Primitive, Slot, Trial
from mernas.space.registry import REGISTRY, Declaration, Registry
from mernas.space.taxonomy import AXES, CLIP, SIZED

Facts = frozenset[str]


@dataclass(frozen=True)
class SearchSpace:
    """All network pipelines that fit some data, within some restriction.

    Attributes:
        facts: Capabilities of the data.
        limits: Narrower domains by (axis, component, hyper-parameter); a counted slot is limited by an `Integer`.
        kept: For restricted axes, the names that remain.
        registry: The components.
        pipeline: Which grammar is walked.
        fitting: Whether a trial is only asked for what there is room for in the map that arrives. What lies in the
            space does not depend on it: what has no room shows when it is built.
    """

    facts: Facts
    limits: Mapping[tuple[str, str, str], Domain] = field(default_factory=dict)
    kept: Mapping[str, frozenset[str]] = field(default_factory=dict)
    registry: Registry = REGISTRY
    pipeline: str = "network"
    fitting: bool = False

    def suggest(self, trial: Trial) -> Genotype:
        """Return a genotype made of the trial's answers.

        Args:
            trial: An Optuna trial, or anything with its three `suggest_` methods.

        Raises:
            SpaceError: If the space is empty.
        """
        walk = _Walk(self, lambda name, domain, _: domain.suggest(trial, name), guided=False)
        root = walk.leaf("", self.registry.get("pipeline", self.pipeline), self.facts, None)
        raise_all(SpaceError, walk.problems)
        return Genotype(root)

    def locate(self, genotype: Genotype) -> dict[str, tuple[Primitive, Domain]]:
        """Return the answers that lead to a genotype, with the domain of each, by dotted name.

        Raises:
            SpaceError: If the genotype does not lie in this space, with every reason.
        """
        answers, problems = self._follow(genotype)
        raise_all(SpaceError, problems)
        return answers

    def problems(self, genotype: Genotype) -> list[Problem | str]:
        """Return every reason why a genotype does not lie in this space; empty if it does."""
        return self._follow(genotype)[1]

    def __contains__(self, genotype: Genotype) -> bool:
        return not self.problems(genotype)

    def describe(self) -> list[Any]:
        """Return plain data that fixes this space for a plan: facts, axes with names, versions and domains.

        A space that asks only for what fits says so in a third part.
        """
        axes: dict[str, Any] = {}
        for declaration in self.registry:
            if declaration.name in self.names(declaration.axis) and not declaration.missing:
                domains = {name: repr(self.domain(declaration, name)) for name in declaration.parameters}
                axes.setdefault(declaration.axis, {})[declaration.name] = [declaration.version, domains]
        for outside in ("dataset", "classifier", "features"):
            axes.pop(outside, None)
        return [sorted(self.facts), axes, *(["fitting"] if self.fitting else [])]

    def names(self, axis: str) -> tuple[str, ...]:
        """Return the component names of an axis that the restriction leaves."""
        kept = self.kept.get(axis)
        return tuple(name for name in self.registry.names(axis) if kept is None or name in kept)

    def domain(self, declaration: Declaration, parameter: str) -> Domain | Slot:
        """Return the domain of a hyper-parameter within the restriction; for a counted slot, the slot so limited."""
        domain = declaration.parameters[parameter].domain
        limit = self.limits.get((declaration.axis, declaration.name, parameter))
        if limit is None:
            return domain
        if isinstance(domain, Slot):
            count = limit if isinstance(limit, Integer) else domain.count
            return replace(domain, low=count.low, high=count.high)
        return limit

    def _follow(self, genotype: Genotype) -> tuple[dict[str, tuple[Primitive, Domain]], list[Problem | str]]:
        answers: dict[str, tuple[Primitive, Domain]] = {}
        problems: list[Problem | str] = []

        def decide(name: str, domain: Domain, guide: Any) -> Primitive:
            if guide not in domain:
                problems.append(Problem(name, f"must be {domain} in this space", repr(guide)))
            elif not domain.single:
                answers[name] = (guide, domain)
            return guide  # type: ignore[no-any-return]  # the guide's own value, legal or reported

        if genotype.root.name != self.pipeline:
            rule = f"must be a {self.pipeline} pipeline"
            return {}, [Problem("genotype", rule, genotype.root.name)]
        walk = _Walk(self, decide, guided=True)
        walk.leaf("", self.registry.get("pipeline", self.pipeline), self.facts, genotype.root)
        return answers, [*problems, *walk.problems]


Decide = Callable[[str, Domain, Any], Any]


class _Walk:
    """One walk through the tree; `decide(name, domain, guide)` answers each question."""

    def __init__(self, space: SearchSpace, decide: Decide, guided: bool) -> None:
        self.space = space
        self.decide = decide
        self.guided = guided
        self.problems: list[Problem | str] = []
        self._known: dict[tuple[str, str, Facts], bool] = {}

    def leaf(
        self, path: str, declaration: Declaration, facts: Facts, guide: Leaf | None, arriving: Shapes | None = None
    ) -> Leaf:
        values: dict[str, Value] = {}
        kind, shapes = declaration.starts, arriving
        for name, parameter in declaration.parameters.items():
            if parameter.when is not None and not parameter.when(values):
                values[name] = None
                continue
            where = f"{path}.{name}" if path else name
            given = guide[name] if guide is not None else None
            domain = self.space.domain(declaration, name)
            if not isinstance(domain, Slot):
                room = self._room(declaration, name, values, arriving) if parameter.sizes else None
                values[name] = self._plain(where, parameter, domain, facts, given, room)
                continue
            way = _Way(declaration, name, kind, declaration.ends, self._flowing_after(declaration, name), shapes)
            values[name], way = self._slot(where, domain, facts, given, way)
            kind, shapes = way.kind, self._shapes(domain, values[name], way.shapes)
            facts = facts | self._provided(domain, values[name], facts)
        return make_leaf(declaration, values)

    def _room(
        self, declaration: Declaration, name: str, values: Mapping[str, Value], arriving: Shapes | None
    ) -> Callable[[Domain], Domain] | None:
        """What narrows the domain of a hyper-parameter to what fits; None where the shape is not known."""
        if arriving is None:
            return None
        sized = [other for other, parameter in declaration.parameters.items() if parameter.sizes]
        chosen = {other: values[other] for other in sized if other in values}
        later = {other: self._sized_domain(declaration, other) for other in sized[len(chosen) + 1 :]}

        def narrowed(domain: Domain) -> Domain:
            return with_room(declaration, name, chosen, {name: domain, **later}, arriving)

        return narrowed

    def _sized_domain(self, declaration: Declaration, name: str) -> Domain:
        domain = self.space.domain(declaration, name)
        assert not isinstance(domain, Slot)  # only plain values are declared by `sizes`  # noqa: S101
        return domain

    def _shapes(self, slot: Slot, value: Value, shapes: Shapes | None) -> Shapes | None:
        """What arrives behind a slot: behind streams, what leaves each of them."""
        if not self.space.fitting or slot.axis != "stream" or not isinstance(value, tuple):
            return shapes
        each = [shapes_after(stream, None, self.space.registry) for stream in value]
        return tuple(one[0] for one in each if one) if all(each) else None

    def _flowing_after(self, declaration: Declaration, name: str) -> tuple[Slot, ...]:
        """The flowing slots that come after a field, within the restriction."""
        later = list(declaration.parameters)[list(declaration.parameters).index(name) + 1 :]
        domains = (self.space.domain(declaration, other) for other in later)
        return tuple(domain for domain in domains if isinstance(domain, Slot) and domain.flows)

    def _plain(
        self,
        where: str,
        parameter: Parameter,
        domain: Domain,
        facts: Facts,
        given: Any,
        room: Callable[[Domain], Domain] | None,
    ) -> Value:
        if isinstance(domain, Choices) and parameter.needs:
            met = _met(domain, parameter, facts)
            if met != _met(domain, parameter, self.space.facts):
                where = f"{where}.with {self._gained(facts, frozenset().union(*parameter.needs.values()))}"
            domain = Choices(met)
        narrowed = domain if room is None else room(domain)
        if narrowed != domain and (not self.guided or given in narrowed):
            where, domain = f"{where}.{left_out(domain, narrowed)}", narrowed
        value: Primitive = self._answer(where, domain, given)
        return value

    def _answer(self, where: str, domain: Domain, given: Any) -> Any:
        if domain.single and not self.guided:
            return domain.only
        return self.decide(where, domain, given)

    def _slot(self, where: str, slot: Slot, facts: Facts, given: Any, way: _Way) -> tuple[Value, _Way]:
        if slot.shape == "subset":
            return self._subset(where, slot, facts, given), way
        if slot.shape in ("one", "optional"):
            return self._one(where, slot, facts, given, way, repeats=0)
        available = self._offers(slot, facts, way, repeats=max(slot.low - 1, 0))
        refused = given is not None and len(given) > slot.low  # which each of them is told by itself
        low, high = (slot.low, slot.high) if available or refused else (slot.low, slot.low)
        count = self._answer(f"{where}.count", Integer(low, high), None if given is None else len(given))
        children: list[Leaf] = []
        for place in range(count):
            guide = given[place] if given is not None else None
            child, way = self._one(f"{where}.{place}", slot, facts, guide, way, repeats=count - place - 1)
            if child is not None:
                children.append(child)
        return tuple(children), way

    def _one(
        self, where: str, slot: Slot, facts: Facts, given: Leaf | None, way: _Way, repeats: int
    ) -> tuple[Leaf | None, _Way]:
        kind = way.kind
        offers = self._offers(slot, facts, way, repeats)
        names: tuple[Primitive, ...] = offers
        if slot.shape == "optional" and not (slot.flows and self._stuck(way, facts)):
            names = (*offers, "none")
        if given is not None and given.name not in offers:
            self.problems += refusals(self.space, where, slot, given, facts, kind)
            maps = self.space.registry.get(slot.axis, given.name).maps  # as if it stood, to say nothing twice
            return given, replace(way, kind=maps.get(kind, kind) if kind is not None else None, shapes=None)
        if not names:
            self.problems.append(nothing_fits(self.space, where, slot, facts))
            return None, way
        # One dotted name must always have one set of choices. What is offered may depend on the kind that arrives, on
        # what earlier parts provide, and, where not every kind can reach the end, on how many components are still to
        # come: then the name tells them.
        question = f"{where}.{kind}" if slot.flows and kind not in (None, CLIP) else where
        if offers != self._offers(slot, self.space.facts, way, repeats):
            question = f"{question}.with {self._gained(facts, self._wanted(slot))}"
        if slot.flows and offers != self._offers(slot, facts, replace(way, ends=None), repeats):
            question = f"{question}.{repeats} to come"
        arriving = way.shapes if slot.axis in SIZED else None
        roomy = self._roomy(slot, offers, arriving)
        if roomy != offers and (given is None or given.name in roomy):
            question, names = f"{question}.{without(offers, roomy)}", (*roomy, *names[len(offers) :])
        name = self._answer(question, Choices(names), "none" if given is None else given.name)
        if name == "none":
            return None, way
        declaration = self.space.registry.get(slot.axis, str(name))
        child = self.leaf(where if AXES[slot.axis].record else f"{where}.{name}", declaration, facts, given, arriving)
        if slot.flows and kind is not None:
            way = replace(way, kind=declaration.maps.get(kind, kind))
        if self.space.fitting and (slot.axis in SIZED or slot.axis == "input"):
            way = replace(way, shapes=shapes_after(child, arriving, self.space.registry))
        return child, way

    def _roomy(self, slot: Slot, offers: tuple[str, ...], arriving: Shapes | None) -> tuple[str, ...]:
        """Those of the offers that can be built for what arrives with some of their values; all if none can."""
        if arriving is None:
            return offers
        roomy = []
        for name in offers:
            declaration = self.space.registry.get(slot.axis, name)
            sized = [other for other, parameter in declaration.parameters.items() if parameter.sizes]
            if has_room(declaration, {other: self._sized_domain(declaration, other) for other in sized}, arriving):
                roomy.append(name)
        return tuple(roomy) or offers

    def _subset(self, where: str, slot: Slot, facts: Facts, given: Any) -> Value:
        offers = self._offers(slot, facts, _Way(), 0)
        guides = {leaf.name: leaf for leaf in given} if given is not None else None
        for leaf in given or ():
            if leaf.name not in offers:
                self.problems += refusals(self.space, where, slot, leaf, facts, None)
        chosen: list[Leaf] = []
        for name in offers:
            if self._answer(f"{where}.{name}", Choices((False, True)), guides is not None and name in guides):
                guide = guides[name] if guides is not None else None
                declaration = self.space.registry.get(slot.axis, name)
                chosen.append(self.leaf(f"{where}.{name}", declaration, facts, guide))
        return tuple(chosen)

    def _offers(self, slot: Slot, facts: Facts, way: _Way, repeats: int) -> tuple[str, ...]:
        """Names that may stand here: needs met, here and further on, and the end still within reach."""
        names = []
        for name in self.space.names(slot.axis):
            declaration = self.space.registry.get(slot.axis, name)
            if not self._available(declaration, facts):
                continue
            if not self._fillable(way.declaration, way.after, facts | declaration.provides):
                continue
            if slot.flows and way.kind is not None:
                if way.kind not in declaration.maps:
                    continue
                onward = replace(way, kind=declaration.maps[way.kind])
                if way.ends is not None and not self._reaches(onward, slot, repeats, facts):
                    continue
            names.append(name)
        return tuple(names)

    def _available(self, declaration: Declaration, facts: Facts) -> bool:
        """Whether it is installed, its needs are met, and those of at least one way to fill it."""
        key = (declaration.axis, declaration.name, facts)
        if key not in self._known:
            fits = declaration.needs <= facts and not declaration.missing
            self._known[key] = fits and self._fillable(declaration, 0, facts)
        return self._known[key]

    def _fillable(self, declaration: Declaration | None, start: int, facts: Facts) -> bool:
        """Whether there is an answer for every hyper-parameter from number `start` on.

        A component in a slot may provide what a later hyper-parameter needs, so the ways are tried one by one.
        """
        if declaration is None:
            return True
        for place, (name, parameter) in enumerate(declaration.parameters.items()):
            if place < start:
                continue
            domain = self.space.domain(declaration, name)
            if isinstance(domain, Choices) and parameter.needs:
                if not _met(domain, parameter, facts):
                    return False
            elif isinstance(domain, Slot) and domain.low > 0 and parameter.when is None:
                options = (self.space.registry.get(domain.axis, option) for option in self.space.names(domain.axis))
                return any(
                    self._available(option, facts) and self._fillable(declaration, place + 1, facts | option.provides)
                    for option in options
                )
        return True

    def _stuck(self, way: _Way, facts: Facts) -> bool:
        """Whether the kind at hand cannot become the last one without the component in question."""
        return way.kind is not None and way.ends is not None and not self._reaches(way, None, 0, facts)

    def _reaches(self, way: _Way, slot: Slot | None, repeats: int, facts: Facts) -> bool:
        """Whether the kind at hand can become the last one through `repeats` more of a slot and then the rest."""
        kinds = {str(way.kind)}
        for _ in range(repeats if slot is not None else 0):
            kinds = self._onward(kinds, slot, facts) if slot is not None else kinds
        for later in way.rest:
            for _ in range(later.low):
                kinds = self._onward(kinds, later, facts)
            for _ in range(later.high - later.low):
                kinds = kinds | self._onward(kinds, later, facts)
        return way.ends in kinds

    def _onward(self, kinds: Iterable[str], slot: Slot, facts: Facts) -> set[str]:
        reached: set[str] = set()
        for name in self.space.names(slot.axis):
            declaration = self.space.registry.get(slot.axis, name)
            if self._available(declaration, facts):
                reached.update(declaration.maps[kind] for kind in kinds if kind in declaration.maps)
        return reached

    def _provided(self, slot: Slot, value: Value, facts: Facts) -> Facts:
        """What the components in a slot provide to the later parts of the pipeline; of streams, what all of them do."""
        leaves = value if isinstance(value, tuple) else (value,) if isinstance(value, Leaf) else ()
        if slot.axis not in ("stream", "features"):
            return frozenset().union(*(self._stated(leaf) for leaf in leaves))
        provided: list[Facts] = []
        for stream in leaves:
            component = instantiate(stream["input"], self.space.registry)
            # What parts of an input state serves its own later fields; of the whole it says itself what it provides.
            parts = [value for name, value in stream.values if name in ("readout", "cascade")]
            stated = (self._stated(leaf) for leaf in parts if isinstance(leaf, Leaf))
            provided.append(frozenset(component.provides(facts)).union(*stated))
        return frozenset.intersection(*provided) if provided else frozenset()

    def _stated(self, leaf: Leaf) -> Facts:
        """What a component and those inside it say that they provide, whatever their values."""
        declarations = (self.space.registry.get(part.axis, part.name) for part in leaf.walk())
        return frozenset().union(*(declaration.provides for declaration in declarations))

    def _wanted(self, slot: Slot) -> Facts:
        """What the components of a slot may need, inside them too."""
        wanted: set[str] = set()
        for name in self.space.names(slot.axis):
            declaration = self.space.registry.get(slot.axis, name)
            wanted |= declaration.needs
            for parameter in declaration.parameters.values():
                wanted = wanted.union(*parameter.needs.values())
                if isinstance(parameter.domain, Slot):
                    wanted |= self._wanted(parameter.domain)
        return frozenset(wanted)

    def _gained(self, facts: Facts, wanted: Facts) -> str:
        """Which of the wanted capabilities earlier parts have added to those of the data, as a part of a name."""
        return "+".join(sorted((facts - self.space.facts) & wanted))


@dataclass(frozen=True)
class _Way:
    """Where in which component a slot is, and which kind arrives there.

    Attributes:
        declaration: The component that has the slot; None where nothing later depends on it.
        name: The slot's field.
        kind: The kind that arrives, None where none flows.
        ends: The kind that must leave the component in the end.
        rest: The flowing slots after it, as far as the space leaves them.
        shapes: The shapes that arrive, None where they are not known.
    """

    declaration: Declaration | None = None
    name: str = ""
    kind: str | None = None
    ends: str | None = None
    rest: tuple[Slot, ...] = ()
    shapes: Shapes | None = None

    @property
    def after(self) -> int:
        """The number of the field after the slot."""
        return list(self.declaration.parameters).index(self.name) + 1 if self.declaration is not None else 0


def _met(domain: Choices, parameter: Parameter, facts: Facts) -> tuple[Primitive, ...]:
    """The values of a choice whose needs are met."""
    return tuple(value for value in domain.values if parameter.needs.get(value, frozenset()) <= facts)
