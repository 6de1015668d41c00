"""Space files: restrictions of the full space by YAML. A restriction fixes, limits or drops, and never widens.

```yaml
extends: standard                 # standard (the default), quick, full, or another file
keep:                             # of these axes only these components remain
  flow_estimator: [given]
drop:                             # these go
  augmentation: [shift]
set:                              # a value fixes, a list or {low: …, high: …} limits; counts of a list slot too
  input.optical_flow: {size: 28, centre: [none, median]}
  training.scratch: {epochs: {low: 10, high: 20}}
  stream.stream: {backbone: {low: 1, high: 2}}
fitting: true                     # proposals only of what there is room for in the map that arrives
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from mernas.space.errors import Problem, SpaceError, UnknownNameError, nearest, raise_all
from mernas.space.parameters import Choices, Domain, Integer, Real, Slot
from mernas.space.registry import REGISTRY, Registry
from mernas.space.taxonomy import AXES
from mernas.space.tree import Facts, SearchSpace
from mernas.space.yaml_text import is_file, load_yaml, read_yaml

_KEYS = ("extends", "keep", "drop", "set", "fitting")
SHIPPED = ("full", "quick", "standard")
_WIDER = "a restriction never widens; to start from wider ranges write `extends: full`"


def load_space(name: str | Path, facts: Facts, registry: Registry = REGISTRY) -> SearchSpace:
    """Return the space that a space file, or a shipped name, leaves for data with these capabilities.

    Args:
        name: `full`, `standard`, `quick`, or a path.
        facts: Capabilities of the data.
        registry: The components.

    Raises:
        SpaceError: With every mistake in the file; a rule that would widen the space is one, and so is a component
            to keep or to narrow that the extended space has not.
    """
    space, problems = _load(name, SearchSpace(frozenset(facts), registry=registry, fitting=True), ())
    raise_all(SpaceError, problems)
    return space


def rules_of(space: SearchSpace) -> dict[str, Any]:
    """Return the rules of a space file of its own that leaves what a space leaves, whatever files that came from.

    The capabilities of the data are not in it.

    Example:
        >>> rules = rules_of(load_space("quick", frozenset()))
        >>> rules["extends"], rules["keep"]["loss"]
        ('full', ['cross_entropy'])
    """
    limits: dict[str, dict[str, Any]] = {}
    for (axis, name, parameter), domain in sorted(space.limits.items()):
        if name not in space.names(axis):
            continue  # a file narrowed it and another, which extends that one, dropped it
        rule = list(domain.values) if isinstance(domain, Choices) else {"low": domain.low, "high": domain.high}
        limits.setdefault(f"{axis}.{name}", {})[parameter] = rule
    kept = {axis: sorted(names) for axis, names in sorted(space.kept.items())}
    rules = {**({"keep": kept} if kept else {}), **({"set": limits} if limits else {})}
    return {"extends": "full", **rules, **({} if space.fitting else {"fitting": False})}


def _load(name: str | Path, full: SearchSpace, above: tuple[str, ...]) -> tuple[SearchSpace, list[Problem | str]]:
    if str(name) == "full":
        return full, []
    if str(name) in SHIPPED:
        text = resources.files("mernas.space").joinpath("spaces", f"{name}.yaml").read_text(encoding="utf-8")
        rules, base = load_yaml(text, f"{name}.yaml"), "full"
    else:
        if not is_file(name):
            remedy = nearest(str(name), SHIPPED) + "; or give the path of a YAML file"
            raise SpaceError(Problem(f"space {str(name)!r}", "no such file or shipped space", "", remedy))
        rules, base = read_yaml(Path(name)), "standard"
    subject = str(name)
    if rules is None:
        rules = {}
    if not isinstance(rules, Mapping):
        return full, [Problem(subject, f"must be a mapping with {', '.join(_KEYS)}", type(rules).__name__)]
    parent = str(rules.get("extends", base))
    if parent not in SHIPPED and not Path(parent).is_absolute():
        parent = str(Path(name).parent / parent)
    if parent not in SHIPPED:
        parent = str(Path(parent).resolve())  # one file has many spellings
    here = (*above, subject if subject in SHIPPED else str(Path(name).resolve()))
    if parent in here:
        return full, [Problem(subject, "extends itself", " > ".join((*here, parent)))]
    space, problems = _load(parent, full, here)
    extended = str(rules.get("extends", base))
    narrowed, more = _restrict(space, {key: rule for key, rule in rules.items() if key != "extends"}, subject, extended)
    return narrowed, problems + more


def _restrict(space: SearchSpace, rules: Any, subject: str, extended: str) -> tuple[SearchSpace, list[Problem | str]]:
    problems: list[Problem | str] = []
    for key in rules:
        if key not in _KEYS:
            remedy = nearest(str(key), _KEYS)
            problems.append(Problem(f'{subject}, "{key}"', "is not known", "", remedy))
    kept = dict(space.kept)
    for word in ("keep", "drop"):
        for axis, names in _mapping(rules, word, subject, problems).items():
            names = [] if names == "none" else [names] if isinstance(names, str) else names
            of = extended if word == "keep" else None
            listed = _known_names(space, axis, names, f"{subject}, {word}, {axis}", of, problems)
            if listed is None:
                continue
            left = frozenset(space.names(axis)) & kept.get(axis, frozenset(space.names(axis)))
            kept[axis] = left & listed if word == "keep" else left - listed
            if not kept[axis]:
                rule = "leaves no component on this axis"
                if not AXES[axis].empty:
                    problems.append(Problem(f"{subject}, {word}, {axis}", rule, "", "leave at least one"))
    limits = dict(space.limits)
    for leaf, body in _mapping(rules, "set", subject, problems).items():
        axis, _, name = str(leaf).partition(".")
        where = f"{subject}, set, {leaf}"
        try:
            declaration = space.registry.get(axis, name)
        except UnknownNameError as error:
            problems += [f"{where}: {problem}" for problem in error.problems]
            continue
        if name not in space.names(axis):
            problems.append(_absent(where, extended))
            continue
        if name not in kept.get(axis, (name,)):
            remedy = "take one of the two rules out"
            problems.append(Problem(where, "narrows what the same file does not keep, or drops", "", remedy))
            continue
        if not isinstance(body, Mapping):
            problems.append(Problem(where, "must be a mapping of hyper-parameters", repr(body)))
            continue
        for parameter, rule in body.items():
            if parameter not in declaration.parameters:
                remedy = nearest(str(parameter), declaration.parameters)
                problems.append(Problem(f'{where}, "{parameter}"', "is not known", "", remedy))
                continue
            domain = space.domain(declaration, parameter)
            narrowed = _narrow(domain, rule, f"{where}, {parameter}", problems)
            if narrowed is not None:
                limits[(axis, name, parameter)] = narrowed
    fitting = rules.get("fitting", space.fitting)
    if not isinstance(fitting, bool):
        problems.append(Problem(f"{subject}, fitting", "must be true or false", repr(fitting)))
    return replace(space, kept=kept, limits=limits, fitting=bool(fitting)), problems


def _mapping(rules: Any, word: str, subject: str, problems: list[Problem | str]) -> Mapping[Any, Any]:
    body = rules.get(word)
    if body is None:
        return {}
    if not isinstance(body, Mapping):
        problems.append(Problem(f"{subject}, {word}", "must be a mapping", repr(body)))
        return {}
    return body


def _known_names(
    space: SearchSpace, axis: Any, names: Any, where: str, extended: str | None, problems: list[Problem | str]
) -> frozenset[str] | None:
    """The names of a rule, or None after a problem; names to keep must be some of the extended space.

    Whether the data at hand offer them is not asked: a file is for other data too.
    """
    if not isinstance(names, list):
        problems.append(Problem(where, "must be a list of names", repr(names)))
        return None
    before = len(problems)
    if axis not in AXES:
        problems.append(Problem(f'{where}, axis "{axis}"', "is not known", "", nearest(str(axis), AXES)))
    for name in names if axis in AXES else ():
        try:
            space.registry.get(str(axis), str(name))
        except UnknownNameError as error:
            problems += [f"{where}: {problem}" for problem in error.problems]
        else:
            if extended is not None and str(name) not in space.names(str(axis)):
                problems.append(_absent(f'{where} "{name}"', extended))
    return frozenset(map(str, names)) if len(problems) == before else None


def _absent(where: str, extended: str) -> Problem:
    rule = f"is not in {extended}, which this file extends"
    remedy = "write `extends: full`, which begins with every component in its full range, or leave it out"
    return Problem(where, rule, "", remedy)


def _narrow(domain: Domain | Slot, rule: Any, where: str, problems: list[Problem | str]) -> Domain | None:
    """The part of a domain that a rule leaves, or None after a problem."""
    if isinstance(domain, Slot):
        if domain.shape not in ("chain", "bag"):
            remedy = f"use keep or drop on the axis {domain.axis}"
            problems.append(Problem(where, "is filled by a component", "", remedy))
            return None
        return _part(domain.count, rule, where, problems)
    if isinstance(domain, Choices):
        return _some(domain, rule, where, problems)
    if isinstance(rule, list):
        wrong = [value for value in rule if value not in domain]
        if wrong or not rule:
            found = ", ".join(map(repr, wrong)) or "nothing"
            problems.append(Problem(where, f"must be {domain}", found, _WIDER))
            return None
        return Choices(tuple(sorted({float(value) if isinstance(domain, Real) else value for value in rule})))
    return _part(domain, rule, where, problems)


def _some(domain: Choices, rule: Any, where: str, problems: list[Problem | str]) -> Choices | None:
    """Of some values those that are listed or, where all are numbers, those of a range."""
    numbers = [value for value in domain.values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if isinstance(rule, Mapping) and len(numbers) == len(domain.values):
        part = _part(Real(min(numbers), max(numbers)), rule, where, problems)
        if part is None:
            return None
        left = tuple(value for value in numbers if value in part)
        if not left:
            problems.append(Problem(where, f"must leave {domain}", repr(rule)))
        return Choices(left) if left else None
    values = tuple(rule) if isinstance(rule, list) else (rule,)
    if all(isinstance(value, float) for value in domain.values):
        values = tuple(float(value) if type(value) is int else value for value in values)
    wrong = [value for value in values if value not in domain]
    if wrong or not values:
        problems.append(Problem(where, f"must be {domain}", ", ".join(map(repr, wrong)) or "nothing"))
        return None
    return Choices(tuple(value for value in domain.values if value in Choices(values)))


def _part(domain: Integer | Real, rule: Any, where: str, problems: list[Problem | str]) -> Integer | Real | None:
    """The part of a range."""
    ends = rule if isinstance(rule, Mapping) else {"low": rule, "high": rule}
    low, high = ends.get("low", domain.low), ends.get("high", domain.high)
    if set(ends) - {"low", "high"} or low not in domain or high not in domain or low > high:
        must = f"must be within {domain}, as a value or {{low: …, high: …}}"
        problems.append(Problem(where, must, repr(rule), _WIDER))
        return None
    if isinstance(domain, Real):
        return replace(domain, low=float(low), high=float(high))
    return Integer(low, high, domain.log)
