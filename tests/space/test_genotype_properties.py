"""What must hold for every genotype, by property: sampling, building, hashing, restriction, and Optuna's agreement."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import mernas.components  # noqa: F401
from mernas.components.topologies.network import build_network, count_parameters
from mernas.evaluation.preparation import recipe_of
from mernas.space.errors import SpaceError
from mernas.space.genotype import from_complete, instantiate, parse_genotype
from mernas.space.parameters import Choices, Integer, Real, Slot
from mernas.space.presets import load_preset, preset_names
from mernas.space.registry import REGISTRY
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial, RecordedTrial
from mernas.space.taxonomy import (
    APEX,
    CAPABILITIES,
    FRAMES,
    FROM_WITHIN,
    GIVEN_FLOW,
    GIVEN_STRAIN,
    OFFSET,
    ONSET,
    TRUE_FLOW,
)
from mernas.space.tree import SearchSpace

FACTS = {
    "everything": frozenset(CAPABILITIES) - FROM_WITHIN - {GIVEN_FLOW, GIVEN_STRAIN},
    "flow of both kinds": frozenset({FRAMES, ONSET, APEX, GIVEN_FLOW, GIVEN_STRAIN}),
    "frames": frozenset({FRAMES, ONSET, APEX, OFFSET, TRUE_FLOW}),
    "maps": frozenset({GIVEN_FLOW, GIVEN_STRAIN}),
}
facts = st.sampled_from(sorted(FACTS))
seeds = st.integers(0, 2**32)
CALM = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@CALM
@given(facts, seeds)
def test_a_suggested_genotype_lies_in_its_space_and_its_answers_lead_back_to_it(data: str, seed: int) -> None:
    space = load_space("full", FACTS[data])
    genotype = space.suggest(RandomTrial(seed))
    assert space.problems(genotype) == []
    answers = {name: value for name, (value, _) in space.locate(genotype).items()}
    assert space.suggest(RecordedTrial(answers)) == genotype


@CALM
@given(facts, seeds)
def test_yaml_and_the_complete_form_give_the_same_genotype_back(data: str, seed: int) -> None:
    genotype = load_space("full", FACTS[data]).suggest(RandomTrial(seed))
    assert parse_genotype(genotype.to_yaml()) == genotype
    assert from_complete(json.loads(json.dumps(genotype.complete()))) == genotype


def test_hashes_are_the_same_in_another_process_with_another_hash_seed() -> None:
    space = load_space("full", FACTS["frames"])
    texts = {space.suggest(RandomTrial(seed)).hash: None for seed in range(40)}
    genotypes = {g.hash: g.to_yaml() for g in (space.suggest(RandomTrial(seed)) for seed in range(40))}
    assert list(texts) == list(genotypes)
    script = (
        "import json, sys, mernas.components\n"
        "from mernas.space.genotype import parse_genotype\n"
        "print(json.dumps([parse_genotype(text).hash for text in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(list(genotypes.values())),
        env={"PYTHONHASHSEED": "77", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == list(genotypes)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(facts, seeds)
def test_a_suggested_genotype_builds_counts_its_parameters_and_runs_forward_and_backward(data: str, seed: int) -> None:
    genotype = load_space("standard", FACTS[data]).suggest(RandomTrial(seed))
    try:
        counted = count_parameters(genotype, classes=3)
    except SpaceError:
        return  # refused before anything is trained; how often is limited by the test below
    network = build_network(genotype, classes=3).train()
    assert sum(parameter.numel() for parameter in network.parameters()) == counted
    shapes = [instantiate(stream["input"]).shape for stream in genotype.streams]
    logits = network([torch.randn(4, *shape) for shape in shapes])
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["standard", "quick", "full"])
@pytest.mark.parametrize("data", sorted(FACTS))
def test_at_most_one_genotype_in_twenty_is_refused_on_meta(name: str, data: str) -> None:
    space = load_space(name, FACTS[data])
    refused, count = 0, 40 if name == "full" else 100  # benchmarks/genotypes.py takes 2,000
    for seed in range(count):
        try:
            count_parameters(space.suggest(RandomTrial(seed)), classes=3)
        except SpaceError:
            refused += 1
    assert refused <= count // 20


@st.composite
def restrictions(draw: st.DrawFn) -> dict[str, Any]:
    """Rules that are legal by construction: parts of domains, and names left out where others remain."""
    rules: dict[str, Any] = {"drop": {}, "set": {}}
    for axis in ("block", "input", "readout", "head", "augmentation", "schedule", "optimizer", "normalisation"):
        names = REGISTRY.names(axis)
        if len(names) > 1 and draw(st.booleans()):
            rules["drop"][axis] = [draw(st.sampled_from(names))]
    for declaration in REGISTRY:
        if declaration.axis in ("dataset", "classifier", "features"):
            continue
        if declaration.name in rules["drop"].get(declaration.axis, ()):
            continue  # to narrow what the same file drops is a mistake
        body: dict[str, Any] = {}
        for name, parameter in declaration.parameters.items():
            domain = parameter.domain
            if not draw(st.booleans()):
                continue
            if isinstance(domain, Slot) and domain.shape in ("chain", "bag") and REGISTRY.names(domain.axis):
                domain = domain.count
            counted = domain is not parameter.domain
            if isinstance(domain, (Integer, Real)) and not counted and draw(st.booleans()):
                numbers = st.integers if isinstance(domain, Integer) else st.floats
                body[name] = draw(st.lists(numbers(domain.low, domain.high), min_size=1, max_size=3))
            elif isinstance(domain, Integer):
                ends = sorted(draw(st.tuples(*[st.integers(domain.low, domain.high)] * 2)))
                body[name] = {"low": ends[0], "high": ends[1]}
            elif isinstance(domain, Real):
                low, high = sorted(draw(st.tuples(*[st.floats(domain.low, domain.high)] * 2)))
                body[name] = {"low": low, "high": high}
            elif isinstance(domain, Choices) and not parameter.needs:
                body[name] = draw(st.lists(st.sampled_from(domain.values), min_size=1, unique=True))
        if body:
            rules["set"][f"{declaration.axis}.{declaration.name}"] = body
    return rules


@CALM
@given(restrictions(), seeds)
def test_a_restriction_never_widens(narrow: Callable[..., SearchSpace], rules: dict[str, Any], seed: int) -> None:
    full = load_space("full", FACTS["frames"])
    narrowed = narrow(FACTS["frames"], rules)
    genotype = narrowed.suggest(RandomTrial(seed))
    assert full.problems(genotype) == []
    assert narrowed.problems(genotype) == []


def distribution(domain: Integer | Real | Choices) -> optuna.distributions.BaseDistribution:
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Real):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return CategoricalDistribution(domain.values)


@pytest.mark.parametrize("data", sorted(FACTS))
def test_optuna_and_plain_random_agree_on_what_is_legal(data: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space("full", FACTS[data])
    domains: dict[str, optuna.distributions.BaseDistribution] = {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(40):  # what Optuna proposes is legal; and one name always has one domain, or `ask` would raise
        trial = study.ask()
        genotype = space.suggest(trial)
        assert space.problems(genotype) == []
        domains |= trial.distributions
        located = space.locate(genotype)
        assert len(located) == len(trial.distributions)  # the names may differ: streams are sorted afterwards
        assert all(domains.setdefault(name, distribution(d)) == distribution(d) for name, (_, d) in located.items())
        study.tell(trial, 0.0)
    for seed in range(40):  # what plain random proposes, Optuna can be told
        genotype = space.suggest(RandomTrial(seed))
        located = space.locate(genotype)
        fixed = optuna.trial.FixedTrial({name: value for name, (value, _) in located.items()})
        assert space.suggest(fixed) == genotype
        told = optuna.trial.create_trial(
            value=0.0,
            params={name: value for name, (value, _) in located.items()},
            distributions={name: distribution(domain) for name, (_, domain) in located.items()},
        )
        study.add_trial(told)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_lies_in_the_full_space_of_data_that_fit_it(name: str) -> None:
    preset = load_preset(name)
    assert preset.label in ("faithful", "approximation")
    assert preset.source
    facts = frozenset(CAPABILITIES) - FROM_WITHIN
    assert SearchSpace(facts, pipeline=preset.genotype.root.name).problems(preset.genotype) == []


def test_streams_commute_and_inactive_fusion_is_absent() -> None:
    streams = [
        "{input: apex_frame, backbone: [{convolution: {width: 4}}]}",
        "{input: optical_flow, backbone: [residual]}",
    ]
    rest = "tasks: [{emotion: {head: linear}}]\nloss: cross_entropy\n"
    first = parse_genotype(f"streams: [{streams[0]}, {streams[1]}]\n{rest}")
    second = parse_genotype(f"streams: [{streams[1]}, {streams[0]}]\n{rest}fusion: concatenation\n")
    assert first == second
    alone = parse_genotype(f"streams: [{streams[0]}]\n{rest}fusion: concatenation\n")
    assert alone["fusion"] is None
    assert alone == parse_genotype(f"streams: [{streams[0]}]\n{rest}")
    assert [recipe_of(stream).title for stream in first.streams] == ["apex_frame", "optical_flow"]


def test_a_changed_value_changes_the_hash() -> None:
    text = "streams: [{{input: apex_frame, backbone: [{{convolution: {{width: {}}}}}]}}]\n"
    rest = "tasks: [{emotion: {head: linear}}]\nloss: cross_entropy\n"
    assert parse_genotype(text.format(4) + rest).hash != parse_genotype(text.format(5) + rest).hash
