"""What the catalogue calls available is what a trial can be asked for, no more and no less."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

import mernas.components  # noqa: F401  # registers every component
from mernas.space.catalogue import EVERYTHING, catalogue
from mernas.space.parameters import Primitive
from mernas.space.registry import REGISTRY, register
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial
from mernas.space.taxonomy import APEX, AXES, CAPABILITIES, FRAMES, GIVEN_FLOW, GIVEN_STRAIN, LANDMARKS, OFFSET, ONSET
from mernas.space.tree import SearchSpace

RELEASE = frozenset({GIVEN_FLOW, GIVEN_STRAIN})
SPACES = {
    "full, any data": SearchSpace(EVERYTHING),
    "full, flow images": SearchSpace(RELEASE),
    "full, frames with onset and apex": SearchSpace(frozenset({FRAMES, ONSET, APEX})),
    "full, landmarks alone": SearchSpace(frozenset({ONSET, APEX, LANDMARKS})),
    "standard, any data": load_space("standard", EVERYTHING),
    "quick, flow images": load_space("quick", RELEASE),
}
NARROWED: dict[str, dict[str, Any]] = {
    "vectors are not read": {"drop": {"readout": ["identity"]}},
    "one stream": {"set": {"pipeline.network": {"streams": 1}}},
    "no sampler": {"keep": {"sampler": []}},
}
Narrow = Callable[[frozenset[str], dict[str, Any]], SearchSpace]
NOT_SEARCHED = ("dataset", "features", "classifier")


class Wishing(RandomTrial):
    """A trial that takes certain components where it can, and as many as need be."""

    def __init__(self, seed: int, key: tuple[str, str]) -> None:
        super().__init__(seed)
        self._chance = random.Random(seed)
        needs = REGISTRY.get(*key).needs
        self._wishes = {key[1]} | {item.name for item in REGISTRY if item.provides & needs}
        self._streams = 2 if key[0] == "fusion" else 1

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if name.endswith("streams.count"):
            return self._streams
        return min(high, low + 1) if name.endswith(".count") else super().suggest_int(name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        if set(choices) == {False, True} and name.rpartition(".")[2] in self._wishes:
            return True
        wished = [choice for choice in choices if choice in self._wishes]
        return wished[0] if wished and self._chance.random() < 0.9 else super().suggest_categorical(name, choices)


def components(space: SearchSpace) -> dict[tuple[str, str], dict[str, Any]]:
    axes = catalogue(space)["axes"]
    return {(axis, name): part for axis, body in axes.items() for name, part in body["components"].items()}


def proposed(space: SearchSpace, trial: RandomTrial) -> set[tuple[str, str]]:
    return {(leaf.axis, leaf.name) for leaf in space.suggest(trial).root.walk()}


@pytest.mark.parametrize("title", [*SPACES, *NARROWED])
def test_what_a_trial_proposes_is_available_and_what_is_available_can_be_proposed(title: str, narrow: Narrow) -> None:
    space = SPACES[title] if title in SPACES else narrow(EVERYTHING, NARROWED[title])
    found = components(space)
    available = {key for key, part in found.items() if part["available"]}
    seen = set().union(*(proposed(space, RandomTrial(seed)) for seed in range(25)))
    assert seen <= available
    searched = {key for key in available if key[0] not in NOT_SEARCHED and key != ("pipeline", "classical")}
    for key in sorted(searched - seen):
        tries = (proposed(space, Wishing(seed, key)) for seed in range(60))
        assert any(key in trial for trial in tries), f"{key} is called available and is never proposed"


def test_everything_that_is_installed_can_occur_where_data_offer_everything() -> None:
    installed = {(item.axis, item.name) for item in REGISTRY if not item.missing}
    found = components(SearchSpace(EVERYTHING))
    assert {key: part["reason"] for key, part in found.items() if key in installed and not part["available"]} == {}


@pytest.mark.parametrize(
    ("facts", "component", "reason"),
    [
        (RELEASE, ("flow_estimator", "given"), ""),
        (RELEASE, ("flow_estimator", "farneback"), "needs the frames of the clips; the onset frame of every clip; "
         "the apex frame of every clip"),
        (RELEASE, ("input", "bi_woof"), "weighting needs flow in pixels with a known zero"),
        (RELEASE, ("augmentation", "flip"), ""),  # u and v can be centred by their medians
        (RELEASE, ("augmentation", "rotate"), ""),  # the strain by itself can be turned
        (RELEASE, ("augmentation", "jitter"), "needs maps of grey values in every stream"),
        (RELEASE, ("block", "convolution_3d"), "takes a video, which nothing before it makes here"),
        (RELEASE, ("block", "graph_convolution"), "takes a graph, which nothing before it makes here"),
        (RELEASE, ("training", "finetune"), f"needs {CAPABILITIES['source domain']}"),
        (EVERYTHING - {LANDMARKS}, ("preprocessing", "register"), "needs the 68 landmarks of every frame"),
        (EVERYTHING - {LANDMARKS}, ("readout", "mean_nodes"), "takes a graph, which nothing before it makes here"),
        (frozenset({ONSET, APEX, LANDMARKS}), ("augmentation", "shift"), f"needs {CAPABILITIES['pixels']}"),
    ],
)  # fmt: skip
def test_reasons(facts: frozenset[str], component: tuple[str, str], reason: str) -> None:
    found = components(SearchSpace(facts))[component]
    assert (found["available"], found["reason"]) == (not reason, reason)


def test_what_is_not_installed_is_unavailable_and_says_what_to_install() -> None:
    @register("attention", "far_away", requires={"no_such_module_anywhere": "mernas[nowhere]"})
    @dataclass(frozen=True)
    class FarAway:
        """Needs what is not there."""

    try:
        found = components(SearchSpace(EVERYTHING))[("attention", "far_away")]
    finally:
        REGISTRY.remove("attention", "far_away")
    assert (found["available"], found["reason"]) == (False, "needs mernas[nowhere]")
    assert found["requires"] == {"no_such_module_anywhere": "mernas[nowhere]"}


def test_what_a_space_takes_away_may_take_others_with_it(narrow: Narrow) -> None:
    without = components(narrow(EVERYTHING, NARROWED["no sampler"]))
    assert without[("auxiliary_loss", "triplet")]["reason"] == f"needs {CAPABILITIES['balanced batches']}"
    assert ("sampler", "class_balanced") not in without
    unread = components(narrow(EVERYTHING, NARROWED["vectors are not read"]))
    assert unread[("input", "lbp_top")]["reason"] == "makes a vector, which nothing behind it takes here"
    alone = components(narrow(EVERYTHING, NARROWED["one stream"]))
    assert alone[("fusion", "sum")]["reason"] == "nothing that is left here has a place for it"
    assert components(SPACES["full, any data"])[("fusion", "sum")]["available"]
    space = narrow(RELEASE, {"keep": {"flow_estimator": ["dis"]}})
    assert "axis flow_estimator" in components(space)[("input", "optical_flow")]["reason"]


def test_domains_are_what_space_and_data_leave_of_them(narrow: Narrow) -> None:
    rules = {"set": {"training.scratch": {"epochs": {"low": 10, "high": 20}}, "input.optical_flow": {"size": 28}}}
    facts = frozenset({FRAMES, ONSET, APEX, LANDMARKS})
    found = components(narrow(facts, rules))
    scratch = found[("training", "scratch")]["hyperparameters"]
    assert scratch["epochs"] == {**scratch["epochs"], "kind": "integer", "domain": {"low": 10, "high": 20, "log": True}}
    assert scratch["sampler"]["kind"] == "optional"
    assert scratch["sampler"]["domain"] == {"axis": "sampler", "low": 0, "high": 1}
    assert found[("input", "optical_flow")]["hyperparameters"]["size"]["domain"] in ([28], {"low": 28, "high": 28})
    moments = found[("input", "landmark_graph")]["hyperparameters"]["moments"]
    assert (moments["domain"], moments["needs"]) == (["apex"], {"apex+offset": ["offset"]})
    more = components(narrow(facts | {OFFSET}, rules))
    assert more[("input", "landmark_graph")]["hyperparameters"]["moments"]["domain"] == ["apex", "apex+offset"]


def test_the_shape_is_as_documented_and_everything_is_plain() -> None:
    found = catalogue(SearchSpace(EVERYTHING))
    assert json.loads(json.dumps(found)) == found
    assert list(found["axes"]) == list(AXES)
    for axis in found["axes"].values():
        assert set(axis) == {"section", "title", "optional", "components"}
        for component in axis["components"].values():
            assert set(component) == {
                "version", "section", "source", "summary", "needs", "provides", "requires", "maps", "available",
                "reason", "hyperparameters",
            }  # fmt: skip
            for parameter in component["hyperparameters"].values():
                assert set(parameter) == {"kind", "domain", "default", "doc", "needs", "conditional"}
    every = {f"{item.axis}.{item.name}" for item in REGISTRY}
    assert {f"{axis}.{name}" for axis, body in found["axes"].items() for name in body["components"]} == every


def test_an_input_provides_what_its_maps_have_for_some_values() -> None:
    found = components(SearchSpace(RELEASE))
    assert {"mirrorable maps", "pixels", "turnable maps"} <= set(found[("input", "optical_flow")]["provides"])
    assert "brightness" not in found[("input", "optical_flow")]["provides"]
    assert components(replace(SPACES["full, any data"]))[("input", "lbp_top")]["provides"] == []
