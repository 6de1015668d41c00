"""Proposals: whether they lie in the space of the plan, and are on record with the answers that lead to them.

Samplers are rebuilt from these answers. The space, with whatever a user's file left of it, is made again from
plan.yaml, where every component stands with its version and its domains; only if it is then described as it is there
can anything be said. A component that has changed since, or is not installed here, makes another space. How questions
are called may change with the version of mernas and is part of no description: so a plan of another version is followed
as far as it goes, and what does not fit is left out.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import mernas
from mernas.evaluation.jobs import ENGINE_VERSION
from mernas.search.ledger import Draw
from mernas.search.plan import Plan, plain_hash
from mernas.search.verify_check import Check
from mernas.search.verify_ledger import ReadLedger
from mernas.space.errors import MernasError, Problem, SpaceError
from mernas.space.genotype import Genotype
from mernas.space.parameters import Choices, Domain, Integer, Primitive, Real, Slot
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import AXES
from mernas.space.tree import SearchSpace

_KINDS: Mapping[str, type[Domain | Slot]] = {"Choices": Choices, "Integer": Integer, "Real": Real, "Slot": Slot}
_OUTSIDE = ("dataset", "classifier", "features")
"""Axes that no network has and no plan describes."""


def check_proposals(plan: Plan, ledger: ReadLedger, check: Check) -> None:
    """Check that every proposal lies in the plan's space, and that its answers are those that lead to it.

    Args:
        plan: The plan.
        ledger: The ledger.
        check: Is told what is wrong, or why nothing can be said.
    """
    stated = plan.description
    try:
        space = stated_space(stated)
    except (MernasError, LookupError, TypeError, ValueError, SyntaxError, AttributeError) as error:
        check.left_out.append(str(error) if isinstance(error, MernasError) else f"plan.yaml, space: {error}")
        return
    own = Check(check.name, check.promise)
    answers: dict[str, dict[str, Primitive] | str] = {"": {}}
    for draw in (draw for study in plan.studies for draw in ledger.draws(study)):
        key = draw.genotype or ""
        if key and key not in ledger.genotypes:
            continue  # which the check of the pipelines tells
        if key not in answers:
            answers[key] = _answers(space, ledger.genotypes[key])
        _compare(draw, answers[key], own)
    if own.findings and (stated["mernas"], stated["engine"]) != (mernas.__version__, ENGINE_VERSION):
        made = f"the plan is of mernas {stated['mernas']}, engine {stated['engine']}"
        here = f"this is {mernas.__version__}, engine {ENGINE_VERSION}"
        check.left_out.append(f"{len(own.findings)} proposals, which this version would call otherwise: {made}; {here}")
        check.checked += own.checked - len(own.findings)
        return
    check.checked += own.checked
    check.findings += own.findings


def stated_space(description: Mapping[str, Any]) -> SearchSpace:
    """Return the space that a plan describes.

    Args:
        description: What plan.yaml says.

    Raises:
        SpaceError: If the components of this installation do not make it.

    Example:
        >>> from mernas.space.restriction import load_space
        >>> asked = load_space("quick", frozenset({"apex", "frames"}))
        >>> names, axes = asked.describe()
        >>> told = {"data": {"facts": names}, "space": {"hash": plain_hash([names, axes]), "axes": axes}, "mernas": "0"}
        >>> stated_space(told).describe() == asked.describe()
        True
    """
    axes, limits = description["space"]["axes"], dict[tuple[str, str, str], Domain]()
    for axis, components in axes.items():
        for name in set(components).intersection(REGISTRY.names(axis)):
            declared = REGISTRY.get(axis, name).parameters
            for parameter, text in components[name][1].items():
                if parameter in declared and repr(declared[parameter].domain) != text:
                    domain = _domain(text)
                    limits[axis, name, parameter] = domain.count if isinstance(domain, Slot) else domain
    kept = {axis: frozenset(axes.get(axis, ())) for axis in AXES if axis not in _OUTSIDE}
    fitting = description["space"].get("fitting", False)
    space = SearchSpace(frozenset(description["data"]["facts"]), limits, kept, fitting=fitting)
    if plain_hash(space.describe()) != description["space"]["hash"]:
        rule = f"cannot be made again here; mernas {description['mernas']} made it"
        raise SpaceError(Problem("plan.yaml, space", rule, _differing(axes, space.describe()[1])))
    return space


def _domain(text: str) -> Domain | Slot:
    """The domain that a plan has as the text that makes it, e.g. `Integer(low=1, high=4, log=False)`."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"{text!r} is no domain")
    values: dict[str, Any] = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    return _KINDS[call.func.id](**values)


def _differing(stated: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """The components that are not what a plan says."""
    names = {(axis, name) for axes in (stated, made) for axis, components in axes.items() for name in components}
    other = sorted(
        f"{axis} {name}" for axis, name in names if stated.get(axis, {}).get(name) != made.get(axis, {}).get(name)
    )
    return f"other or missing: {', '.join(other)}" if other else "other data"


def _answers(space: SearchSpace, genotype: Genotype) -> dict[str, Primitive] | str:
    """The answers that lead to a pipeline, or why there are none."""
    try:
        return {name: value for name, (value, _) in space.locate(genotype).items()}
    except (MernasError, LookupError) as error:
        return str(error)


def _compare(draw: Draw, expected: dict[str, Primitive] | str, check: Check) -> None:
    where = f"study {draw.study}, draw {draw.number}"
    if isinstance(expected, str):
        check.expect(False, f"{where}, {draw.genotype}", expected, "a pipeline of the plan's space")
        return
    # As JSON, in which True, 1 and 1.0 differ.
    own, right = ({name: json.dumps(value) for name, value in one.items()} for one in (draw.answers, expected))
    names = sorted(name for name in own.keys() | right.keys() if own.get(name) != right.get(name))
    found, wanted = (", ".join(f"{name}: {one.get(name, 'none')}" for name in names) for one in (own, right))
    check.expect(not names, f"{where}, answers", found, wanted)
