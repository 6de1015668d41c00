"""Genotypes: one pipeline as a frozen, canonical, hashable tree of named leaves.

Canonical means that two texts which build the same pipeline are the same genotype: what is inactive is absent, what
commutes is sorted, defaults and component versions are filled in. The hash is taken over that complete form, so
that a default changed in a later version never changes an old run; only the display leaves defaults out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import mernas.space.grammar  # noqa: F401  # registers the records of which every genotype is made
from mernas.space.errors import Problem, SpaceError, UnknownNameError, nearest, raise_all
from mernas.space.parameters import Integer, Parameter, Primitive, Real, Slot
from mernas.space.registry import REGISTRY, Declaration, Registry
from mernas.space.taxonomy import AXES
from mernas.space.yaml_text import dump_yaml, load_yaml

Value: TypeAlias = "Primitive | Leaf | tuple[Leaf, ...] | None"


@dataclass(frozen=True)
class Leaf:
    """A component with a value for each of its hyper-parameters.

    Attributes:
        axis, name, version: Which component.
        values: Pairs of hyper-parameter and value, in the order in which the component declares them.
    """

    axis: str
    name: str
    version: int
    values: tuple[tuple[str, Value], ...] = ()

    def __getitem__(self, parameter: str) -> Any:
        for name, value in self.values:
            if name == parameter:
                return value
        raise KeyError(parameter)

    def walk(self) -> Iterator[Leaf]:
        """Yield this leaf and all below it."""
        yield self
        for _, value in self.values:
            for child in value if isinstance(value, tuple) else (value,):
                if isinstance(child, Leaf):
                    yield from child.walk()

    def complete(self) -> list[Any]:
        """Return the complete form: `[name, version, {hyper-parameter: value}]`, inactive parts left out."""
        body: dict[str, Any] = {}
        for name, value in self.values:
            if isinstance(value, Leaf):
                body[name] = value.complete()
            elif isinstance(value, tuple):
                if value:
                    body[name] = [child.complete() for child in value]
            elif value is not None:
                body[name] = value
        return [self.name, self.version, body]

    def key(self) -> str:
        """Return the complete form as canonical JSON, by which leaves that commute are sorted."""
        return json.dumps(self.complete(), sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Genotype:
    """One pipeline.

    Example:
        >>> import mernas.components
        >>> text = '''
        ... streams: [{input: {apex_frame: {size: 28}}, backbone: [{convolution: {width: 4}}]}]
        ... tasks: [{emotion: {head: linear}}]
        ... loss: cross_entropy
        ... '''
        >>> genotype = parse_genotype(text)
        >>> parse_genotype(genotype.to_yaml()) == genotype
        True
    """

    root: Leaf

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of the complete form."""
        return hashlib.sha256(self.root.key().encode()).hexdigest()[:16]

    @property
    def is_network(self) -> bool:
        """Whether it is trained end to end, rather than a classical classifier."""
        return self.root.name == "network"

    @property
    def streams(self) -> tuple[Leaf, ...]:
        """The streams, in canonical order."""
        streams: tuple[Leaf, ...] = self.root["streams"]
        return streams

    def __getitem__(self, part: str) -> Any:
        return self.root[part]

    def complete(self) -> list[Any]:
        """Return the complete plain form, from which `from_complete` makes the genotype again."""
        return self.root.complete()

    def to_yaml(self) -> str:
        """Return YAML for people: component versions and values equal to today's defaults are left out."""
        return dump_yaml(_display(self.root, REGISTRY))


def parse_genotype(text: str, subject: str = "genotype", registry: Registry = REGISTRY) -> Genotype:
    """Return the genotype that a YAML text describes.

    Args:
        text: YAML; a leaf is `name: {hyper-parameters}`, or just its name where all defaults are meant.
        subject: What messages call it, usually the file's name.
        registry: Where the names are looked up.

    Raises:
        SpaceError: With every mistake in the text; misspelt names come with the nearest known ones.
    """
    return from_plain(load_yaml(text, subject), subject, registry)


def from_plain(data: Any, subject: str = "genotype", registry: Registry = REGISTRY) -> Genotype:
    """Return the genotype that plain data (of a YAML file) describes; errors as in `parse_genotype`."""
    if not isinstance(data, Mapping):
        raise SpaceError(Problem(subject, "must be a mapping with streams, tasks, loss, …", type(data).__name__))
    name = "classical" if "classifier" in data else "network"
    reader = _Reader(registry)
    root = reader.record("pipeline", name, data, subject)
    raise_all(SpaceError, reader.problems)
    assert root is not None  # no problem was found, so there is a root  # noqa: S101
    return Genotype(root)


def from_complete(data: Any, registry: Registry = REGISTRY) -> Genotype:
    """Return the genotype of a complete form, as ledgers store it.

    Raises:
        SpaceError: If a component is unknown or of another version than today's.
    """
    return Genotype(_from_complete("pipeline", data, registry))


def instantiate(leaf: Leaf, registry: Registry = REGISTRY) -> Any:
    """Return the component that a leaf describes, with the components in its slots."""

    def made(value: Value) -> Any:
        if isinstance(value, Leaf):
            return instantiate(value, registry)
        if isinstance(value, tuple):
            return tuple(instantiate(child, registry) for child in value)
        return value

    factory = registry.get(leaf.axis, leaf.name).factory
    return factory(**{name: made(value) for name, value in leaf.values})


def make_leaf(declaration: Declaration, values: Mapping[str, Value]) -> Leaf:
    """Return a canonical leaf: values in declared order, commuting parts sorted, whole numbers as floats where real."""
    pairs: list[tuple[str, Value]] = []
    for name, parameter in declaration.parameters.items():
        value = values[name]
        domain = parameter.domain
        if isinstance(domain, Slot) and domain.shape in ("bag", "subset") and isinstance(value, tuple):
            value = tuple(sorted(value, key=Leaf.key))
        elif isinstance(domain, Real) and isinstance(value, int):
            value = float(value)
        pairs.append((name, value))
    return Leaf(declaration.axis, declaration.name, declaration.version, tuple(pairs))


def _from_complete(axis: str, data: Any, registry: Registry) -> Leaf:
    name, version, body = data
    declaration = registry.get(axis, name)
    if version != declaration.version:
        rule = f"was made with version {version}"
        found = f"version {declaration.version} in this installation"
        raise SpaceError(Problem(declaration.title, rule, found, "install the mernas that made it"))
    values: dict[str, Value] = {}
    for key, parameter in declaration.parameters.items():
        domain = parameter.domain
        if not isinstance(domain, Slot):
            values[key] = body[key]
        elif domain.shape in ("one", "optional"):
            values[key] = _from_complete(domain.axis, body[key], registry) if key in body else None
        else:
            values[key] = tuple(_from_complete(domain.axis, child, registry) for child in body.get(key, ()))
    return make_leaf(declaration, values)


def _display(leaf: Leaf, registry: Registry) -> Any:
    """A leaf as people read it."""
    declaration = registry.get(leaf.axis, leaf.name)
    body: dict[str, Any] = {}
    for name, parameter in declaration.parameters.items():
        value, domain = leaf[name], parameter.domain
        if isinstance(domain, Slot):
            if isinstance(value, Leaf):
                shown = _display(value, registry)
                if not (isinstance(shown, Mapping) and shown == {domain.default: {}}):
                    body[name] = shown
            elif value:
                body[name] = [_display(child, registry) for child in value]
        elif value != declaration.default(name):
            body[name] = value
    return body if AXES[leaf.axis].record else {leaf.name: body}


class _Reader:
    """Reads plain data into leaves and collects every mistake on the way."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem | str] = []

    def record(self, axis: str, name: str, data: Any, subject: str) -> Leaf | None:
        declaration = self.registry.get(axis, name)
        if not isinstance(data, Mapping):
            self.problems.append(Problem(subject, "must be a mapping", repr(data)))
            return None
        return self._body(declaration, data, subject)

    def leaf(self, axis: str, data: Any, subject: str) -> Leaf | None:
        if AXES[axis].record:
            return self.record(axis, self.registry.names(axis)[0], data, subject)
        if isinstance(data, str):
            data = {data: {}}
        if not isinstance(data, Mapping) or len(data) != 1:
            rule = f"must be one {axis}, written as `name` or `name: {{hyper-parameters}}`"
            self.problems.append(Problem(subject, rule, repr(data), nearest("", self.registry.names(axis))))
            return None
        name, body = next(iter(data.items()))
        try:
            declaration = self.registry.get(axis, str(name))
        except UnknownNameError as error:
            self.problems += [f"{subject}: {problem}" for problem in error.problems]
            return None
        body = {} if body is None else body
        if not isinstance(body, Mapping):
            rule = f"hyper-parameters of {name} must be a mapping"
            self.problems.append(Problem(subject, rule, repr(body), f"known: {', '.join(declaration.parameters)}"))
            return None
        return self._body(declaration, body, f"{subject}, {name}")

    def _body(self, declaration: Declaration, body: Mapping[str, Any], subject: str) -> Leaf | None:
        before = len(self.problems)
        for key in body:
            if key == "version":
                if body[key] != declaration.version:
                    rule = f"is version {declaration.version} in this installation"
                    self.problems.append(Problem(subject, rule, repr(body[key])))
            elif key not in declaration.parameters:
                remedy = nearest(str(key), declaration.parameters)
                self.problems.append(Problem(f'{subject}, "{key}"', "is not known", "", remedy))
        values: dict[str, Value] = {}
        for name, parameter in declaration.parameters.items():
            where = f"{subject}, {name}"
            inactive = parameter.when is not None and len(self.problems) == before and not parameter.when(values)
            if not inactive or name in body:
                values[name] = self._value(declaration, parameter, name, body, where)
            if inactive:
                values[name] = None  # what was written was read for its mistakes, and changes nothing
        return make_leaf(declaration, values) if len(self.problems) == before else None

    def _value(
        self, declaration: Declaration, parameter: Parameter, name: str, body: Mapping[str, Any], subject: str
    ) -> Value:
        domain = parameter.domain
        if not isinstance(domain, Slot):
            value = body.get(name, declaration.default(name))
            if isinstance(domain, Integer) and isinstance(value, float) and value.is_integer():
                value = int(value)
            if value not in domain:
                self.problems.append(Problem(subject, f"must be {domain}", repr(value)))
            return value  # type: ignore[no-any-return]  # whatever it is, it was checked against the domain
        given = body.get(name)
        if domain.shape in ("one", "optional"):
            given = domain.default if given is None else given
            if given is None or (domain.shape == "optional" and given == "none"):
                if domain.shape == "one":
                    remedy = f"name one of: {', '.join(self.registry.names(domain.axis))}"
                    self.problems.append(Problem(subject, f"a {domain.axis} is missing", "", remedy))
                return None
            return self.leaf(domain.axis, given, subject)
        return self._several(domain, given, subject)

    def _several(self, slot: Slot, given: Any, subject: str) -> Value:
        items = [] if given is None or given == "none" else given
        if isinstance(items, Mapping) and slot.shape == "subset":
            items = [{name: body} for name, body in items.items()]
        elif isinstance(items, (str, Mapping)):
            items = [items]
        if not isinstance(items, list):
            self.problems.append(Problem(subject, "must be a list", repr(given)))
            return ()
        if slot.shape != "subset" and len(items) not in slot.count:
            rule = f"must hold {slot.low} to {slot.high} {slot.axis} entries"
            self.problems.append(Problem(subject, rule, str(len(items))))
        leaves = [self.leaf(slot.axis, item, f"{subject}[{place}]") for place, item in enumerate(items)]
        names = [leaf.name for leaf in leaves if leaf is not None]
        if slot.shape == "subset" and len(set(names)) < len(names):
            self.problems.append(Problem(subject, "each name at most once", ", ".join(names)))
        return tuple(leaf for leaf in leaves if leaf is not None)
