"""The command `mernas space`: the search space as a tree, and which of the survey's taxonomy there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import mernas.components  # noqa: F401  # registers every component
from mernas.space.catalogue import EVERYTHING, catalogue
from mernas.space.coverage import IMPLEMENTED, STATES, UNAVAILABLE, Coverage, TaxonomyLeaf, load_coverage
from mernas.space.errors import Problem, SpaceError, raise_all
from mernas.space.restriction import load_space

WIDTH = 100
"""Columns of what is not printed on a screen."""


def show_space(
    data: Sequence[str] = (),
    space: str | None = None,
    tree: bool = False,
    coverage: bool = False,
    as_json: bool = False,
) -> None:
    """Print the space that some data and a space file leave, or the coverage of the survey's taxonomy.

    Args:
        data: As `load_data` takes them; none: whatever data could have.
        space: A shipped name or the path of a space file; `full` by default.
        tree: Print the tree, which is what is printed anyway.
        coverage: Print the coverage instead.
        as_json: Print plain data; of a space, as `describe_space` returns them.

    Raises:
        SpaceError: If the space is not known or faulty, or with `coverage` something else is asked for.
        UnknownNameError: If no dataset has that name.
        DataError: If the data are not what they should be.
    """
    if coverage:
        others = {"--tree": tree, "--data": bool(data), "--space": space is not None}
        rule, remedy = "goes with --json only: it does not depend on data or space", "leave the other out"
        raise_all(SpaceError, [Problem("--coverage", rule, name, remedy) for name, given in others.items() if given])
        found = load_coverage()
        if as_json:
            click.echo(json.dumps(found.plain()))
        else:
            print_coverage(found)
        return
    described = describe_space(data, space)
    if as_json:
        click.echo(json.dumps(described))
    else:
        print_space(described)


def describe_space(data: Sequence[str] = (), space: str | None = None) -> dict[str, Any]:
    """Return the space that some data and a space file leave, as plain data.

    Args:
        data: As `load_data` takes them; none: whatever data could have.
        space: A shipped name or the path of a space file; `full` by default.

    Returns:
        `space` and `data` (its name, null for none), and the `facts`, `fitting` and `axes` of
        `mernas.space.catalogue.catalogue`, which tells their shape.

    Example:
        >>> found = describe_space(space="quick")
        >>> found["axes"]["fusion"]["title"], found["axes"]["readout"]["components"]["average"]["available"]
        ('Fusion of streams', True)
    """
    name, facts = None, EVERYTHING
    if data:
        from mernas.search.run import load_data

        loaded = load_data(*data, say=lambda note: click.echo(note, err=True))
        name, facts = loaded.name, frozenset(loaded.provides)
    wanted = "full" if space is None else space
    return {"space": wanted, "data": name, **catalogue(load_space(wanted, facts))}


def print_space(described: Mapping[str, Any]) -> None:
    """Print a space, as `describe_space` returns it, as a tree."""
    components = [part for axis in described["axes"].values() for part in axis["components"].values()]
    absent = sum(not part["available"] for part in components)
    where = "any data" if described["data"] is None else f"the data {described['data']}"
    title = f"Space {described['space']} for {where}: {len(components)} components, {absent} of them unavailable"
    title += "; proposes only what fits its map" if described["fitting"] else ""
    root = Tree(Text(title, "bold"))
    for name, axis in described["axes"].items():
        optional = ", can be left out" if axis["optional"] else ""
        branch = root.add(Text.assemble((f"{axis['section']} {name}", "bold"), f": {axis['title']}{optional}"))
        if not axis["components"]:
            branch.add(Text("none in this space", "dim"))
        for own, component in axis["components"].items():
            _add_component(branch, own, component, axis["section"])
    _console().print(root)


def print_coverage(coverage: Coverage) -> None:
    """Print every leaf of the taxonomy with its state, and how many there are in each."""
    console = _console()
    for section in coverage.sections:
        table = Table(title=Text(f"{section.number} {section.title}: {_counted(section.counts)}"), title_justify="left")
        table.add_column("leaf", width=22)
        table.add_column("what it is", width=29)
        table.add_column("state", width=39, overflow="fold")
        for leaf in section.leaves:
            table.add_row(Text(leaf.name), Text(leaf.what), _state(leaf))
        console.print(table)
    table = Table(title="In all", title_justify="left")
    for heading in ("section", "", *STATES, "leaves"):
        table.add_column(heading, justify="left" if heading in ("section", "") else "right")
    for section in coverage.sections:
        counts = [str(section.counts[state]) for state in STATES]
        table.add_row(section.number, Text(section.title), *counts, str(len(section.leaves)))
    table.add_section()
    table.add_row("", "in all", *(str(coverage.counts[state]) for state in STATES), str(len(coverage.leaves)))
    console.print(table)
    console.print(Text(f"{len(coverage.extra)} components beyond the survey: {', '.join(coverage.extra)}."))
    unlisted = coverage.unlisted()
    if unlisted:
        console.print(Text(f"Not in this list, as those of third parties: {', '.join(unlisted)}."))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _state(leaf: TaxonomyLeaf) -> Text:
    parts = ", ".join((*leaf.home, *leaf.uses, *(name.rpartition(".")[2].replace(":", ".") for name in leaf.code)))
    if leaf.state == UNAVAILABLE:
        return Text(f"unavailable: needs {leaf.lacks}" + (f" (then {parts})" if parts else ""), "yellow")
    if leaf.state == IMPLEMENTED:
        install = " ".join(leaf.missing())
        return Text(f"implemented: {parts}" + (f" (here only with {install})" if install else ""), "green")
    return Text(leaf.state, "dim")


def _add_component(branch: Tree, name: str, component: Mapping[str, Any], section: str) -> None:
    elsewhere = f" ({component['section']})" if component["section"] not in (section, "-") else ""
    if not component["available"]:
        reason = f"{name}{elsewhere}, unavailable: {component['reason']}"
        branch.add(Text(reason, "dim"))
        return
    node = branch.add(Text.assemble((name, "bold"), f"{elsewhere}: {component['summary']}"))
    facts = "; ".join(_facts(component))
    if facts:
        node.add(Text(facts, "dim"))
    for own, parameter in component["hyperparameters"].items():
        domain = _domain(parameter)
        plain = parameter["default"] is None or domain == f"{parameter['default']} only"
        default = "" if plain else f", default {parameter['default']}"
        when = ", in some cases" if parameter["conditional"] else ""
        text = f": {domain}{default}{when}; {parameter['doc']}"
        wanted = (f"{value} needs {', '.join(needs)}" for value, needs in _grouped(parameter["needs"]))
        node.add(Text.assemble((own, "cyan"), "; ".join((text, *wanted))))


def _facts(component: Mapping[str, Any]) -> Iterator[str]:
    if component["maps"]:
        yield ", ".join(f"{before} to {after}" for before, after in component["maps"].items())
    if component["needs"]:
        yield f"needs {', '.join(component['needs'])}"
    if component["provides"]:
        yield f"gives {', '.join(component['provides'])}"
    if component["requires"]:
        yield f"installed with {', '.join(component['requires'].values())}"
    if component["source"]:
        yield f"from {component['source']}"


def _grouped(needs: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Values with what they need; those that need the same together."""
    for wanted in dict.fromkeys(map(tuple, needs.values())):
        yield ", ".join(value for value, own in needs.items() if tuple(own) == wanted), wanted


def _domain(parameter: Mapping[str, Any]) -> str:
    domain = parameter["domain"]
    kind = parameter["kind"]
    if kind == "choice":
        return f"{domain[0]} only" if len(domain) == 1 else ", ".join(str(value) for value in domain)
    if kind in ("integer", "real"):
        if domain["low"] == domain["high"]:
            return f"{domain['low']} only"
        return f"{domain['low']} to {domain['high']}" + (" by ratio" if domain["log"] else "")
    axis, low, high = domain["axis"], domain["low"], domain["high"]
    if kind == "subset":
        return f"any of {axis}, each at most once"
    if kind == "optional":
        return f"one of {axis} or none"
    if kind == "one":
        return f"one of {axis}"
    number = str(low) if low == high else f"{low} to {high}"
    return f"{number} of {axis}" + (" in any order" if kind == "bag" and high > 1 else "")
