"""Coverage: which leaves of the survey's taxonomy mernas has, which need what nobody can install, which are to come.

The list is data, space/coverage.yaml, which tells its own format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from mernas.space.registry import REGISTRY, Registry
from mernas.space.yaml_text import load_yaml

IMPLEMENTED = "implemented"
UNAVAILABLE = "unavailable"
NOT_YET = "not yet"
STATES = (IMPLEMENTED, UNAVAILABLE, NOT_YET)


@dataclass(frozen=True)
class TaxonomyLeaf:
    """One leaf of the taxonomy.

    Attributes:
        section: Section of the survey.
        name: Our own short name.
        what: A few words.
        home: Components whose place it is, as `axis.name`.
        uses: Other components that it takes, as `axis.name`, `axis.name(hyper-parameter)` or
            `axis.name(hyper-parameter=value)`.
        code: What it is where it is no component, as `module:name`.
        lacks: What it needs and cannot be installed; empty for nothing.
    """

    section: str
    name: str
    what: str
    home: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    lacks: str = ""

    @property
    def state(self) -> str:
        """One of `STATES`.

        Example:
            >>> TaxonomyLeaf("5.1", "residual", "y = x + F(x)", home=("block.residual",)).state
            'implemented'
        """
        if self.lacks:
            return UNAVAILABLE
        return IMPLEMENTED if self.home or self.uses or self.code else NOT_YET

    def missing(self, registry: Registry = REGISTRY) -> tuple[str, ...]:
        """Return what must be installed before its components can work here, as pip is asked for it; sorted."""
        names = (name.partition(".") for name in self.home)
        return tuple(sorted({wanted for axis, _, name in names for wanted in registry.get(axis, name).missing}))

    def plain(self, registry: Registry = REGISTRY) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "name": self.name,
            "what": self.what,
            "state": self.state,
            "components": list(self.home),
            "uses": list(self.uses),
            "code": list(self.code),
            "lacks": self.lacks,
            "install": list(self.missing(registry)),
        }


@dataclass(frozen=True)
class TaxonomySection:
    """One section of the survey with its leaves."""

    number: str
    title: str
    leaves: tuple[TaxonomyLeaf, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many leaves are in each of `STATES`."""
        return _counts(self.leaves)


@dataclass(frozen=True)
class Coverage:
    """The whole taxonomy.

    Attributes:
        sections: In the survey's order.
        extra: Components beyond the survey, as `axis.name`, with what each is.
    """

    sections: tuple[TaxonomySection, ...]
    extra: Mapping[str, str]

    @cached_property
    def leaves(self) -> tuple[TaxonomyLeaf, ...]:
        """All leaves."""
        return tuple(leaf for section in self.sections for leaf in section.leaves)

    @property
    def counts(self) -> dict[str, int]:
        """How many leaves are in each of `STATES`."""
        return _counts(self.leaves)

    def unlisted(self, registry: Registry = REGISTRY) -> tuple[str, ...]:
        """Return the components that the list does not know: those of third parties."""
        listed = {name for leaf in self.leaves for name in leaf.home} | set(self.extra)
        names = (f"{item.axis}.{item.name}" for item in registry)
        return tuple(name for name in names if name not in listed)

    def plain(self, registry: Registry = REGISTRY) -> dict[str, Any]:
        """Return plain data: `sections` by number -> `title`, `counts`, `leaves`; `counts`, `extra`, `unlisted`."""
        sections = {
            section.number: {
                "title": section.title,
                "counts": section.counts,
                "leaves": [leaf.plain(registry) for leaf in section.leaves],
            }
            for section in self.sections
        }
        found = {"sections": sections, "counts": self.counts, "extra": dict(self.extra)}
        return {**found, "unlisted": list(self.unlisted(registry))}


def load_coverage() -> Coverage:
    """Return the coverage of the survey's taxonomy.

    Example:
        >>> coverage = load_coverage()
        >>> [leaf.home for leaf in coverage.leaves if leaf.name == "squeeze_excitation"]
        [('attention.se',)]
    """
    text = resources.files("mernas.space").joinpath("coverage.yaml").read_text(encoding="utf-8")
    data = load_yaml(text, "coverage.yaml")
    sections = tuple(
        TaxonomySection(number, body["title"], tuple(_leaf(number, *entry) for entry in body["leaves"].items()))
        for number, body in data["sections"].items()
    )
    return Coverage(sections, data["extra"])


def _leaf(section: str, name: str, body: Mapping[str, Any]) -> TaxonomyLeaf:
    home, uses, code = (tuple(body.get(key, ())) for key in ("is", "uses", "code"))
    return TaxonomyLeaf(section, name, body["what"], home, uses, code, body.get("lacks", ""))


def _counts(leaves: tuple[TaxonomyLeaf, ...]) -> dict[str, int]:
    counted = Counter(leaf.state for leaf in leaves)
    return {state: counted[state] for state in STATES}
