"""A conformance suite: what every component must obey, checked for one's own as it is for those of mernas.

A check is a plain function that raises an `AssertionError` whose message names the component and its setting, the rule,
and what was found. Settings are the defaults and some that are drawn from the declaration. Most checks take well under
a second. With pytest:

    @pytest.mark.parametrize(("name", "check"), checks_for(REGISTRY.get("block", "mine")))
    def test_my_block_obeys(name, check):
        check()
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator

from mernas.components.testing.batches import BATCH_CHECKS
from mernas.components.testing.declarations import documented, is_a_value, well_declared
from mernas.components.testing.fitting import FITTING_CHECKS
from mernas.components.testing.inputs import (
    announced_clip,
    announced_flow,
    announced_maps,
    clip_as_it_was,
    honest_needs,
    repeatable,
)
from mernas.components.testing.learning import applies, learns
from mernas.components.testing.losses import LOSS_CHECKS
from mernas.components.testing.modules import MODULE_CHECKS
from mernas.components.testing.sampling import sample_components
from mernas.components.testing.shapes import SAYS, shapes_foretold
from mernas.components.testing.subject import Check, Subject
from mernas.components.testing.training_rows import SampleRows
from mernas.components.testing.verdict import telling
from mernas.space.registry import REGISTRY, Declaration, Registry

__all__ = ["SampleRows", "check_component", "checks_for", "sample_components"]

MODULES = ("attention", "block", "cascade", "fusion", "head", "normalisation", "readout", "task")
"""Axes whose components build modules."""

CHECKS: dict[str, tuple[Check, ...]] = {
    **dict.fromkeys(MODULES, MODULE_CHECKS),
    **dict.fromkeys(SAYS, (*MODULE_CHECKS, shapes_foretold)),
    **LOSS_CHECKS,
    **BATCH_CHECKS,
    **FITTING_CHECKS,
    "input": (announced_maps, repeatable, clip_as_it_was, honest_needs),
    "preprocessing": (announced_clip, repeatable, clip_as_it_was, honest_needs),
    "flow_estimator": (announced_flow, repeatable, clip_as_it_was, honest_needs),
}
"""The checks of each axis beside those of all axes."""


def checks_for(
    declaration: Declaration, registry: Registry = REGISTRY, *, without: Collection[str] = (), seed: int = 0
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the checks that apply to a component: the name of each, and a function that runs it.

    Of a component whose libraries are not installed only the declaration is checked. That it learns is checked of what
    is registered for all, because pipelines are made of that.

    Args:
        declaration: What the component says of itself.
        registry: Where it is registered, and the components for its slots.
        without: Names of checks to leave out. A component that cannot tell classes apart leaves out `learns`.
        seed: Which settings are drawn.

    Example:
        >>> [name for name, _ in checks_for(REGISTRY.get("schedule", "cosine"))]
        ['documented', 'well-declared', 'is-a-value', 'shares-in-range', 'learns']
    """
    subject = Subject(declaration, registry, seed)
    chosen: list[Check] = [documented, well_declared]
    if not declaration.missing and declaration.axis != "dataset":
        chosen += [is_a_value, *CHECKS.get(declaration.axis, ())]
        if registry is REGISTRY and (declaration.axis, declaration.name) in WHOLE:
            chosen += MODULE_CHECKS
        if applies(subject):
            chosen.append(learns)
    for check in chosen:
        name = check.__name__.replace("_", "-")
        if name not in without:
            yield name, functools.partial(_run, check, subject)


WHOLE = (("stream", "stream"), ("pipeline", "network"))
"""Records of which whole networks are made."""


def check_component(axis: str, name: str, registry: Registry = REGISTRY, *, without: Collection[str] = ()) -> None:
    """Run all checks that apply to a component.

    Args:
        axis: Its axis.
        name: Its name.
        registry: Where it is registered.
        without: Names of checks to leave out.

    Raises:
        AssertionError: If something does not hold: with the component, the rule, and what was found.
        UnknownNameError: If there is no such component.

    Example:
        >>> check_component("schedule", "cosine")
    """
    for _, check in checks_for(registry.get(axis, name), registry, without=without):
        check()


def _run(check: Check, subject: Subject) -> None:
    rule = (check.__doc__ or check.__name__).partition("\n")[0].rstrip(".")
    with telling(f"{subject.declaration.title}, check {check.__name__.replace('_', '-')}", rule):
        check(subject)
