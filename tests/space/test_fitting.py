"""A fitting space proposes only what can be built, asks for the rest as always, and means the same by a name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mernas.components  # noqa: F401
from mernas.components.blocks.convolution import Convolution
from mernas.components.blocks.pooling import Pooling
from mernas.components.topologies.network import build_network, count_parameters
from mernas.space.errors import SpaceError
from mernas.space.fitting import shapes_after
from mernas.space.genotype import Genotype, instantiate, parse_genotype
from mernas.space.parameters import Choices, Primitive, chain, integer, one
from mernas.space.presets import load_preset, preset_names
from mernas.space.registry import REGISTRY, Registry, register
from mernas.space.restriction import load_space, rules_of
from mernas.space.suggestion import RandomTrial, RecordedTrial
from mernas.space.taxonomy import APEX, CAPABILITIES, CLIP, FRAMES, FROM_WITHIN, GIVEN_FLOW, GIVEN_STRAIN, IMAGE, ONSET
from mernas.space.tree import SearchSpace

RELEASE = frozenset({GIVEN_FLOW, GIVEN_STRAIN})
EVERYTHING = frozenset(CAPABILITIES) - FROM_WITHIN - RELEASE
seeds = st.integers(0, 2**32)
data = st.sampled_from([RELEASE, EVERYTHING, frozenset({FRAMES, ONSET, APEX})])
CALM = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
NARROWED = (".without ", ".up to ")


@CALM
@given(data, seeds)
def test_every_proposal_of_the_full_space_can_be_built(facts: frozenset[str], seed: int) -> None:
    genotype = load_space("full", facts).suggest(RandomTrial(seed))
    assert count_parameters(genotype, classes=3) > 0  # a SpaceError is a proposal that cannot be built


@CALM
@given(data, seeds)
def test_the_shapes_that_the_space_reckons_with_are_those_that_leave_the_streams(
    facts: frozenset[str], seed: int
) -> None:
    genotype = load_space("full", facts).suggest(RandomTrial(seed))
    with torch.device("meta"), torch.no_grad():
        network = build_network(genotype, classes=3).eval()
        for leaf, module in zip(genotype.streams, network.streams, strict=True):
            vectors = module(torch.empty((2, *instantiate(leaf["input"]).shape)))
            assert shapes_after(leaf, None, REGISTRY) == (tuple(vectors.shape[1:]),)


POOLS = Choices(("none", "max2", "max3", "max4", "stride3"))


def small(side: int, **limits: Choices) -> SearchSpace:
    """Pipelines of one or two blocks on an image of four channels and so many pixels."""
    made = Registry()

    @register("pipeline", "network", starts=CLIP, ends=IMAGE, registry=made)
    @dataclass(frozen=True, kw_only=True)
    class Pipeline:
        """An input and its blocks."""

        input: Any = one("input", flows=True)
        blocks: tuple[Any, ...] = chain("block", 1, 2, flows=True)

    @register("input", "picture", maps={CLIP: IMAGE}, registry=made)
    @dataclass(frozen=True)
    class Picture:
        """So many pixels."""

        shape: ClassVar[tuple[int, ...]] = (4, side, side)

        def provides(self, facts: frozenset[str]) -> set[str]:
            return set()

    register("block", "convolution", maps={IMAGE: IMAGE}, registry=made)(Convolution)
    register("block", "pooling", maps={IMAGE: IMAGE}, registry=made)(Pooling)

    # What has no say in shapes is fixed, so that all pipelines can be gone through.
    fixed = {"width": 4, "dropout": 0.0, "norm": "batch", "activation": "relu"}
    domains = {("block", "convolution", name): Choices((value,)) for name, value in fixed.items()}
    domains[("block", "pooling", "kind")] = Choices(("max",))
    domains[("block", "convolution", "pool")] = POOLS
    domains |= {("block", "convolution", name): domain for name, domain in limits.items()}
    return SearchSpace(frozenset(), domains, registry=made, fitting=True)


class Every:
    """Goes through all answers, as an odometer does; what is asked depends on what was answered before."""

    def __init__(self, taken: list[int]) -> None:
        self.taken = taken
        self.met: list[int] = []

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + self._next(high - low + 1)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise AssertionError(f"{name} is fixed")

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        return choices[self._next(len(choices))]

    def _next(self, count: int) -> int:
        self.met.append(count)
        if len(self.taken) < len(self.met):
            self.taken.append(0)
        return self.taken[len(self.met) - 1]


def every(space: SearchSpace) -> Iterator[Genotype]:
    taken: list[int] = []
    while True:
        trial = Every(taken)
        yield space.suggest(trial)
        while taken and taken[-1] == trial.met[len(taken) - 1] - 1:
            taken.pop()
        if not taken:
            return
        taken[-1] += 1


def blocks() -> Iterator[tuple[str, dict[str, Any]]]:
    """All settings of the two blocks of `small` that have a say in shapes."""
    for block, names in (("convolution", ("kernel", "pool", "padding")), ("pooling", ("kernel", "stride", "padding"))):
        domains = [POOLS if name == "pool" else REGISTRY.get("block", block).parameters[name].domain for name in names]
        for values in itertools.product(*(domain.values for domain in domains if isinstance(domain, Choices))):
            yield block, dict(zip(names, values, strict=True))


def builds(setting: tuple[str, dict[str, Any]], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    name, values = setting
    try:
        with torch.device("meta"):
            fixed = {"width": 4} if name == "convolution" else {}
            return REGISTRY.get("block", name).factory(**fixed, **values).build(shape)[1]  # type: ignore[no-any-return]
    except SpaceError:
        return None


@pytest.mark.parametrize("side", [1, 4])
def test_exactly_the_chains_of_blocks_that_can_be_built_are_proposed(side: int) -> None:
    wanted = set()
    for first in blocks():
        left = builds(first, (4, side, side))
        if left is None:
            continue
        wanted.add(str([first]))
        wanted |= {str([first, second]) for second in blocks() if builds(second, left) is not None}
    names = {"convolution": ("kernel", "pool", "padding"), "pooling": ("kernel", "stride", "padding")}
    seen = [
        str([(leaf.name, {name: leaf[name] for name in names[leaf.name]}) for leaf in genotype["blocks"]])
        for genotype in every(small(side))
    ]
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted


def test_where_nothing_fits_it_is_asked_as_always_and_what_comes_lies_in_the_space() -> None:
    space = small(2, kernel=Choices((5, 7)), padding=Choices(("none",)), pool=Choices(("none", "max4")))
    space = SearchSpace(space.facts, space.limits, {"block": frozenset({"convolution"})}, space.registry, fitting=True)
    seen = {(leaf["kernel"], leaf["pool"]) for genotype in every(space) for leaf in genotype["blocks"]}
    assert seen == set(itertools.product((5, 7), ("none", "max4")))
    for genotype in every(space):
        assert space.problems(genotype) == []
        assert not any(word in name for name in space.locate(genotype) for word in NARROWED)


def test_what_a_file_leaves_of_a_later_question_decides_what_an_earlier_one_offers() -> None:
    def kernels(padding: str) -> set[int]:
        firsts = (genotype["blocks"][0] for genotype in every(small(4, padding=Choices((padding,)))))
        return {leaf["kernel"] for leaf in firsts if leaf.name == "convolution"}

    assert kernels("none") == {1, 3}
    assert kernels("same") == {1, 3, 5, 7, 9, 11}


def test_one_name_has_one_domain_in_the_full_space() -> None:
    space, domains = load_space("full", EVERYTHING), dict[str, Any]()
    narrowed = set()
    for seed in range(60):
        genotype = space.suggest(RandomTrial(seed))
        located = space.locate(genotype)
        for name, (value, domain) in located.items():
            assert domains.setdefault(name, domain) == domain
            assert value in domain
        narrowed |= {name for name in located if any(word in name for word in NARROWED)}
        assert space.suggest(RecordedTrial({name: value for name, (value, _) in located.items()})) == genotype
    assert len(narrowed) > 100  # or this test would be about nothing


@pytest.mark.parametrize("name", ["standard", "quick"])
def test_a_space_that_is_not_fitting_asks_the_same_for_every_map(name: str) -> None:
    space = load_space(name, EVERYTHING)
    for seed in range(60):
        questions = space.locate(space.suggest(RandomTrial(seed)))
        assert not any(word in question for question in questions for word in NARROWED)


SMALL_MAP = """
streams:
  - input: {optical_flow: {size: 14}}
    backbone: [{convolution: {pool: max4}}, {convolution: {pool: max4}}]
tasks: [{emotion: {head: linear}}]
loss: cross_entropy
"""


def test_what_lies_in_a_space_does_not_depend_on_whether_it_is_fitting() -> None:
    too_small = parse_genotype(SMALL_MAP)
    with pytest.raises(SpaceError, match="its pooling needs a map of at least 4x4"):
        count_parameters(too_small, classes=3)
    plain = SearchSpace(EVERYTHING)
    fitting = SearchSpace(EVERYTHING, fitting=True)
    assert plain.problems(too_small) == fitting.problems(too_small) == []
    assert fitting.locate(too_small) == plain.locate(too_small)


@pytest.mark.parametrize("name", [name for name in preset_names() if load_preset(name).genotype.is_network])
def test_a_preset_is_proposed_by_the_fitting_space_that_is_asked_for_it(name: str) -> None:
    genotype = load_preset(name).genotype
    space = SearchSpace(frozenset(CAPABILITIES) - FROM_WITHIN, fitting=True)
    answers = {name: value for name, (value, _) in space.locate(genotype).items()}
    assert space.suggest(RecordedTrial(answers)) == genotype


def test_behind_a_component_that_says_nothing_of_shapes_nothing_is_left_out() -> None:
    space = small(2, padding=Choices(("same",)))

    @register("block", "silent", maps={IMAGE: IMAGE}, registry=space.registry)
    @dataclass(frozen=True)
    class Silent:
        """Says nothing."""

        width: int = integer(1, 2, default=1)

        def build(self, shape: tuple[int, ...]) -> Any:
            raise AssertionError("nothing is built for a proposal")

    firsts, seconds = set(), set()
    for genotype in every(space):
        first, *rest = genotype["blocks"]
        firsts |= {leaf["pool"] for leaf in (first,) if leaf.name == "convolution"}
        seconds |= {leaf["pool"] for leaf in rest if leaf.name == "convolution" and first.name == "silent"}
    assert firsts == {"none", "max2", "stride3"}
    assert seconds == set(POOLS.values)


def test_components_of_mernas_say_what_they_do_to_shapes() -> None:
    says = {"block": "shape_after", "readout": "shape_after", "cascade": "shape_after", "fusion": "length_after"}
    silent = [one.title for one in REGISTRY if one.axis in says and not hasattr(one.factory, says[one.axis])]
    assert silent == []


def test_only_components_that_are_built_for_a_shape_may_declare_a_say_in_it() -> None:
    with pytest.raises(SpaceError, match=r'loss "own", size: is on an axis that is built for no shape, found loss'):

        @register("loss", "own", registry=Registry())
        @dataclass(frozen=True)
        class Own:
            """A loss."""

            size: int = integer(1, 3, default=2, sizes=True)


def test_a_space_file_says_whether_its_space_is_fitting_and_the_file_of_a_run_keeps_it(tmp_path: Path) -> None:
    def loaded(text: str) -> SearchSpace:
        file = tmp_path / "space.yaml"
        file.write_text(text)
        return load_space(file, EVERYTHING)

    assert loaded("extends: full\n").fitting
    assert not loaded("extends: full\nfitting: false\n").fitting
    assert not loaded("extends: standard\n").fitting
    assert loaded("fitting: true\n").fitting
    for rules in ("extends: full\n", "extends: standard\n", "extends: quick\nfitting: true\n"):
        space = loaded(rules)
        again = loaded(str(rules_of(space)))
        assert (again.fitting, again.describe()) == (space.fitting, space.describe())
    assert loaded("fitting: true\n").describe() != loaded("fitting: false\n").describe()
    with pytest.raises(SpaceError, match="fitting: must be true or false, found 'often'"):
        loaded("fitting: often\n")


def test_a_fitting_standard_space_refuses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("extends: standard\nfitting: true\n")
    plain, fitting = load_space("standard", EVERYTHING), load_space(file, EVERYTHING)
    assert not all(can_be_built(plain.suggest(RandomTrial(seed))) for seed in range(60))
    assert all(can_be_built(fitting.suggest(RandomTrial(seed))) for seed in range(60))


def can_be_built(genotype: Genotype) -> bool:
    try:
        count_parameters(genotype, classes=3)
    except SpaceError:
        return False
    return True
