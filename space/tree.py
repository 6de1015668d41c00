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
from mernas.space.genotype import Genotype, Leaf, Value, instantiate, make_leaf
from mernas.space.parameters import Choices, Domain, Integer, Parameter, Primitive, Slot, Trial
from mernas.space.registry import REGISTRY, Declaration, Registry
from mernas.space.taxonomy import AXES, CAPABILITIES, CLIP

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
    """

    facts: Facts
    limits: Mapping[tuple[str, str, str], Domain] = field(default_factory=dict)
    kept: Mapping[str, frozenset[str]] = field(default_factory=dict)
    registry: Registry = REGISTRY
    pipeline: str = "network"

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
        """Return plain data that fixes this space for a plan: facts, axes with names, versions and domains."""
        axes: dict[str, Any] = {}
        for declaration in self.registry:
            if declaration.name in self.names(declaration.axis):
                domains = {name: repr(self.domain(declaration, name)) for name in declaration.parameters}
                axes.setdefault(declaration.axis, {})[declaration.name] = [declaration.version, domains]
        for outside in ("dataset", "classifier", "features"):
            axes.pop(outside, None)
        return [sorted(self.facts), axes]

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

    def leaf(self, path: str, declaration: Declaration, facts: Facts, guide: Leaf | None) -> Leaf:
        values: dict[str, Value] = {}
        kind = declaration.starts
        for name, parameter in declaration.parameters.items():
            if parameter.when is not None and not parameter.when(values):
                values[name] = None
                continue
            where = f"{path}.{name}" if path else name
            given = guide[name] if guide is not None else None
            domain = self.space.domain(declaration, name)
            if not isinstance(domain, Slot):
                values[name] = self._plain(where, parameter, domain, facts, given)
                continue
            rest = _flowing_after(declaration, name)
            values[name], kind = self._slot(where, domain, facts, given, kind, rest, declaration.ends)
            if domain.axis in ("stream", "features"):
                facts = facts | self._provided(values[name], facts)
        return make_leaf(declaration, values)

    def _plain(self, where: str, parameter: Parameter, domain: Domain, facts: Facts, given: Any) -> Value:
        if isinstance(domain, Choices) and parameter.needs:
            met = tuple(value for value in domain.values if parameter.needs.get(value, frozenset()) <= facts)
            domain = Choices(met)
        value: Primitive = self._answer(where, domain, given)
        return value

    def _answer(self, where: str, domain: Domain, given: Any) -> Any:
        if domain.single and not self.guided:
            return domain.only
        return self.decide(where, domain, given)

    def _slot(
        self,
        where: str,
        slot: Slot,
        facts: Facts,
        given: Any,
        kind: str | None,
        rest: tuple[Slot, ...],
        ends: str | None,
    ) -> tuple[Value, str | None]:
        if slot.shape == "subset":
            return self._subset(where, slot, facts, given), kind
        if slot.shape in ("one", "optional"):
            child, kind = self._one(where, slot, facts, given, kind, rest, ends, repeats=0)
            return child, kind
        available = self._offers(slot, facts, kind, rest, ends, repeats=max(slot.low - 1, 0))
        low, high = (slot.low, slot.high) if available else (slot.low, slot.low)
        count = self._answer(f"{where}.count", Integer(low, high), None if given is None else len(given))
        children: list[Leaf] = []
        for place in range(count):
            guide = given[place] if given is not None else None
            child, kind = self._one(f"{where}.{place}", slot, facts, guide, kind, rest, ends, repeats=count - place - 1)
            if child is not None:
                children.append(child)
        return tuple(children), kind

    def _one(
        self,
        where: str,
        slot: Slot,
        facts: Facts,
        given: Leaf | None,
        kind: str | None,
        rest: tuple[Slot, ...],
        ends: str | None,
        repeats: int,
    ) -> tuple[Leaf | None, str | None]:
        offers = self._offers(slot, facts, kind, rest, ends, repeats)
        names: tuple[Primitive, ...] = (*offers, *(("none",) if slot.shape == "optional" else ()))
        if given is not None and given.name not in offers:
            self.problems.append(self._refusal(where, slot, given.name, facts, kind))
            maps = self.space.registry.get(slot.axis, given.name).maps  # as if it stood, to say nothing twice
            return given, maps.get(kind, kind) if kind is not None else None
        if not names:
            rule = f"no {slot.axis} of this space fits the data"
            have = ", ".join(sorted(facts)) or "nothing"
            self.problems.append(Problem(where, rule, f"data that provide {have}", "widen the space file"))
            return None, kind
        # One dotted name must always have one set of choices. What is offered may depend on the kind that arrives, and,
        # where not every kind can reach the end, on how many components are still to come: then the name tells them.
        question = f"{where}.{kind}" if slot.flows and kind not in (None, CLIP) else where
        if slot.flows and offers != self._offers(slot, facts, kind, rest, None, repeats):
            question = f"{question}.{repeats} to come"
        name = self._answer(question, Choices(names), "none" if given is None else given.name)
        if name == "none":
            return None, kind
        declaration = self.space.registry.get(slot.axis, str(name))
        child = self.leaf(where if AXES[slot.axis].record else f"{where}.{name}", declaration, facts, given)
        return child, declaration.maps.get(kind, kind) if slot.flows and kind is not None else kind

    def _subset(self, where: str, slot: Slot, facts: Facts, given: Any) -> Value:
        offers = self._offers(slot, facts, None, (), None, 0)
        guides = {leaf.name: leaf for leaf in given} if given is not None else None
        for name in guides or ():
            if name not in offers:
                self.problems.append(self._refusal(where, slot, name, facts, None))
        chosen: list[Leaf] = []
        for name in offers:
            if self._answer(f"{where}.{name}", Choices((False, True)), guides is not None and name in guides):
                guide = guides[name] if guides is not None else None
                declaration = self.space.registry.get(slot.axis, name)
                chosen.append(self.leaf(f"{where}.{name}", declaration, facts, guide))
        return tuple(chosen)

    def _offers(
        self, slot: Slot, facts: Facts, kind: str | None, rest: tuple[Slot, ...], ends: str | None, repeats: int
    ) -> tuple[str, ...]:
        """Names that may stand here: needs met, and the end still within reach."""
        names = []
        for name in self.space.names(slot.axis):
            declaration = self.space.registry.get(slot.axis, name)
            if not self._available(declaration, facts):
                continue
            if slot.flows and kind is not None:
                if kind not in declaration.maps:
                    continue
                if ends is not None and not self._reaches(declaration.maps[kind], slot, repeats, rest, ends, facts):
                    continue
            names.append(name)
        return tuple(names)

    def _available(self, declaration: Declaration, facts: Facts) -> bool:
        """Whether the needs of a component are met, and those of at least one way to fill it."""
        if not declaration.needs <= facts:
            return False
        for name, parameter in declaration.parameters.items():
            domain = self.space.domain(declaration, name)
            if isinstance(domain, Choices) and parameter.needs:
                if not any(parameter.needs.get(value, frozenset()) <= facts for value in domain.values):
                    return False
            elif isinstance(domain, Slot) and domain.low > 0 and parameter.when is None:
                options = (self.space.registry.get(domain.axis, option) for option in self.space.names(domain.axis))
                if not any(self._available(option, facts) for option in options):
                    return False
        return True

    def _reaches(self, kind: str, slot: Slot, repeats: int, rest: tuple[Slot, ...], ends: str, facts: Facts) -> bool:
        """Whether `kind` can become `ends` through `repeats` more of this slot and then the rest."""
        kinds = {kind}
        for _ in range(repeats):
            kinds = self._onward(kinds, slot, facts)
        for later in rest:
            reached = self._onward(kinds, later, facts)
            kinds = reached | kinds if later.low == 0 else reached
            for _ in range(later.high - 1 if later.shape == "chain" else 0):
                kinds |= self._onward(kinds, later, facts)
        return ends in kinds

    def _onward(self, kinds: Iterable[str], slot: Slot, facts: Facts) -> set[str]:
        reached: set[str] = set()
        for name in self.space.names(slot.axis):
            declaration = self.space.registry.get(slot.axis, name)
            if self._available(declaration, facts):
                reached.update(declaration.maps[kind] for kind in kinds if kind in declaration.maps)
        return reached

    def _provided(self, streams: Value, facts: Facts) -> Facts:
        """What all streams provide to the later parts of the pipeline."""
        provided: list[Facts] = []
        for stream in streams if isinstance(streams, tuple) else ():
            component = instantiate(stream["input"], self.space.registry)
            provided.append(frozenset(component.provides(facts)))
        return frozenset.intersection(*provided) if provided else frozenset()

    def _refusal(self, where: str, slot: Slot, name: str, facts: Facts, kind: str | None) -> Problem:
        """Why a name that somebody wrote is not offered."""
        subject = f'{where}, {slot.axis} "{name}"'
        if name not in self.space.names(slot.axis):
            left = ", ".join(self.space.names(slot.axis)) or "none"
            return Problem(subject, "is left out by the space file", "", f"left: {left}")
        declaration = self.space.registry.get(slot.axis, name)
        missing = sorted(declaration.needs - facts)
        if missing:
            needed = "; ".join(CAPABILITIES[capability] for capability in missing)
            return Problem(subject, f"unavailable: needs {needed}", "", "use other data or leave it out")
        if slot.flows and kind is not None and kind not in declaration.maps:
            return Problem(subject, f"takes {' or '.join(declaration.maps)}", kind, "place it elsewhere")
        return Problem(subject, "nothing that it needs inside fits the data, or no readout can follow it")


def _flowing_after(declaration: Declaration, name: str) -> tuple[Slot, ...]:
    """The flowing slots that come after a field."""
    slots: list[Slot] = []
    seen = False
    for other, parameter in declaration.parameters.items():
        if seen and isinstance(parameter.domain, Slot) and parameter.domain.flows:
            slots.append(parameter.domain)
        seen = seen or other == name
    return tuple(slots)
