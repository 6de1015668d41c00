"""Typed composition on a small grammar of its own: nothing ill-typed is proposed, one name has one set of choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
import pytest

from mernas.space.genotype import Genotype, make_leaf
from mernas.space.parameters import chain, choice, integer, one, optional, subset
from mernas.space.registry import Registry, register
from mernas.space.suggestion import RandomTrial
from mernas.space.taxonomy import APEX, CLIP, FRAMES, IMAGE, OFFSET, VECTOR
from mernas.space.tree import SearchSpace


@pytest.fixture(scope="module")
def registry() -> Registry:
    """A clip becomes an image or a vector; blocks go from image to image, image to vector, vector to vector."""
    made = Registry()

    @register("pipeline", "network", starts=CLIP, ends=VECTOR, registry=made)
    @dataclass(frozen=True, kw_only=True)
    class Pipeline:
        """An input, one to three blocks, and perhaps a loss."""

        input: Any = one("input", flows=True)
        blocks: tuple[Any, ...] = chain("block", 1, 3, flows=True)
        loss: Any = optional("loss")
        augmentation: tuple[Any, ...] = subset("augmentation")

    def leaf(axis: str, name: str, **declared: Any) -> None:
        @register(axis, name, registry=made, **declared)
        @dataclass(frozen=True)
        class Plain:
            """A leaf with one number."""

            size: int = integer(1, 3, default=2)

    leaf("input", "picture", maps={CLIP: IMAGE}, needs={FRAMES})
    leaf("input", "handcrafted", maps={CLIP: VECTOR})
    leaf("input", "onward", maps={CLIP: IMAGE}, needs={FRAMES, OFFSET})
    leaf("block", "filter", maps={IMAGE: IMAGE})
    leaf("block", "flatten", maps={IMAGE: VECTOR})
    leaf("block", "dense", maps={VECTOR: VECTOR})
    leaf("loss", "squares")
    leaf("augmentation", "mirror", needs={APEX})

    @register("augmentation", "blur", registry=made)
    @dataclass(frozen=True)
    class Blur:
        """A choice of which one value needs the offset."""

        until: str = choice("apex", "offset", default="apex", needs={"apex": {APEX}, "offset": {OFFSET}})

    return made


def kinds(genotype: Genotype, registry: Registry) -> list[str]:
    kind, passed = CLIP, [CLIP]
    for leaf in (genotype["input"], *genotype["blocks"]):
        kind = registry.get(leaf.axis, leaf.name).maps[kind]  # a KeyError is an ill-typed pipeline
        passed.append(kind)
    return passed


def test_every_pipeline_ends_in_a_vector_and_all_kinds_of_them_occur(registry: Registry) -> None:
    space = SearchSpace(frozenset({FRAMES, APEX}), registry=registry)
    seen = set()
    for seed in range(400):
        genotype = space.suggest(RandomTrial(seed))
        assert kinds(genotype, registry)[-1] == VECTOR
        assert space.problems(genotype) == []
        seen.add(tuple(leaf.name for leaf in (genotype["input"], *genotype["blocks"])))
        assert genotype["loss"] is None or genotype["loss"].name == "squares"
    assert ("picture", "filter", "filter", "flatten") in seen
    assert ("picture", "flatten", "dense") in seen
    assert ("handcrafted", "dense") in seen
    # one block: flatten, or dense; two: filter-flatten, flatten-dense, dense-dense; and so on: all that there are
    assert len(seen) == (1 + 1) + (2 + 1) + (3 + 1)


def test_one_name_always_has_one_set_of_choices(registry: Registry) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = SearchSpace(frozenset({FRAMES, APEX}), registry=registry)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=3))
    for number in range(60):  # Optuna refuses a name whose choices change within a study
        trial = study.ask()
        genotype = space.suggest(trial)
        assert {name: value for name, (value, _) in space.locate(genotype).items()} == trial.params
        study.tell(trial, number % 7)


def test_needs_decide_what_is_offered(registry: Registry) -> None:
    poor, rich = (SearchSpace(frozenset(facts), registry=registry) for facts in ((FRAMES,), (FRAMES, APEX, OFFSET)))
    names: dict[str, set[str]] = {"poor": set(), "rich": set()}
    for word, space in (("poor", poor), ("rich", rich)):
        for seed in range(200):
            genotype = space.suggest(RandomTrial(seed))
            names[word] |= {leaf.name for leaf in genotype.root.walk()}
            names[word] |= {leaf["until"] for leaf in genotype["augmentation"] if leaf.name == "blur"}
    assert names["rich"] - names["poor"] == {"onward", "mirror", "blur", "apex", "offset"}


def test_an_ill_typed_genotype_is_refused_with_the_kind_that_arrived(registry: Registry) -> None:
    space = SearchSpace(frozenset({FRAMES}), registry=registry)

    def leaf(axis: str, name: str) -> Any:
        return make_leaf(registry.get(axis, name), {"size": 2})

    blocks = (leaf("block", "dense"), leaf("block", "flatten"))
    body = {"input": leaf("input", "picture"), "blocks": blocks, "loss": None, "augmentation": ()}
    problems = space.problems(Genotype(make_leaf(registry.get("pipeline", "network"), body)))
    assert any("takes vector, found image" in str(problem) for problem in problems)
