"""The list of the taxonomy's leaves says what is so: it is held against the registry and the code."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mernas.components  # noqa: F401  # registers every component
from mernas.space.coverage import load_coverage
from mernas.space.parameters import Choices, Slot
from mernas.space.registry import REGISTRY, register
from mernas.space.yaml_text import read_yaml

FILE = Path(__file__).resolve().parents[2] / "space" / "coverage.yaml"
SECTIONS = [
    "2", "4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.1.5", "4.2.1", "4.2.2", "4.2.3", "5.1", "5.2.1", "5.2.2", "5.2.3",
    "5.2.4", "5.3", "5.4", "6",
]  # fmt: skip


def listed() -> list[tuple[str, dict[str, Any]]]:
    """Name and body of every leaf as the file has them."""
    sections = read_yaml(FILE)["sections"].values()
    return [(name, body) for section in sections for name, body in section["leaves"].items()]


def ours() -> list[str]:
    return [f"{item.axis}.{item.name}" for item in REGISTRY if item.factory.__module__.startswith("mernas.")]


def test_every_component_stands_under_exactly_one_leaf_or_is_declared_as_extra() -> None:
    places = Counter(name for _, body in listed() for name in body.get("is", ()))
    places.update(list(read_yaml(FILE)["extra"]))
    assert not set(ours()) - set(places), "registered, but not in space/coverage.yaml"
    assert not set(places) - set(ours()), "in space/coverage.yaml, but not registered"
    assert not {name: count for name, count in places.items() if count > 1}


@pytest.mark.parametrize("reference", sorted({name for _, body in listed() for name in body.get("uses", ())}))
def test_what_a_leaf_uses_exists_with_its_hyper_parameter_and_value(reference: str) -> None:
    found = re.fullmatch(r"(\w+)\.([\w-]+)(?:\((\w+)(?:=([^)]+))?\))?", reference)
    assert found is not None
    axis, name, parameter, value = found.groups()
    declaration = REGISTRY.get(axis, name)
    if parameter is None:
        return
    domain = declaration.parameters[parameter].domain
    if value is not None:
        assert not isinstance(domain, Slot)
        known = domain.values if isinstance(domain, Choices) else range(int(domain.low), int(domain.high) + 1)
        assert value in [str(each) for each in known]


@pytest.mark.parametrize("name", sorted({name for _, body in listed() for name in body.get("code", ())}))
def test_code_that_a_leaf_names_exists(name: str) -> None:
    module, _, attribute = name.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_no_leaf_is_listed_twice_and_all_say_what_they_are() -> None:
    names = [name for name, _ in listed()]
    assert len(names) == len(set(names))
    words = [body["what"] for _, body in listed()]
    assert len(words) == len(set(words))
    assert not {key for _, body in listed() for key in body} - {"what", "is", "uses", "code", "lacks"}


def test_sections_are_those_of_the_survey_in_its_order() -> None:
    assert list(read_yaml(FILE)["sections"]) == SECTIONS
    assert [section.number for section in load_coverage().sections] == SECTIONS


def test_no_component_has_its_place_where_something_is_lacking() -> None:
    assert not [name for name, body in listed() if "lacks" in body and "is" in body]


def test_states_follow_from_what_is_listed_and_counts_add_up() -> None:
    expected = {
        name: "unavailable" if "lacks" in body else "implemented" if {"is", "uses", "code"} & set(body) else "not yet"
        for name, body in listed()
    }
    coverage = load_coverage()
    assert {leaf.name: leaf.state for leaf in coverage.leaves} == expected
    assert coverage.counts == Counter(expected.values())
    plain = coverage.plain()
    for state, count in coverage.counts.items():
        assert count == sum(section["counts"][state] for section in plain["sections"].values())
    for section in plain["sections"].values():
        assert sum(section["counts"].values()) == len(section["leaves"])
    assert sum(coverage.counts.values()) == len(listed())


def test_a_component_that_is_registered_and_not_listed_is_found() -> None:
    assert [name for name in load_coverage().unlisted() if name in ours()] == []

    @register("attention", "unheard_of")
    @dataclass(frozen=True)
    class UnheardOf:
        """A component of somebody else."""

    try:
        assert "attention.unheard_of" in load_coverage().unlisted()
        assert "attention.unheard_of" in load_coverage().plain()["unlisted"]
    finally:
        REGISTRY.remove("attention", "unheard_of")
