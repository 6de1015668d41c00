"""Samplers: one conformance suite for all of them, then what is special about each family."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers.nsgaii._elite_population_selection_strategy import _calc_crowding_distance
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from mernas.components.datasets.clip import Dataset
from mernas.components.topologies.network import count_parameters
from mernas.evaluation.picking import Candidate
from mernas.search.crowding import crowding
from mernas.search.ledger import ACCEPTED, DUPLICATE, EXHAUSTED, INFEASIBLE, REPEATED, Draw, Ledger
from mernas.search.plan import Plan, Settings
from mernas.search.record import Record
from mernas.search.run import plan_search
from mernas.search.samplers import FAMILIES, SAMPLERS, Moment, sampler_settings
from mernas.search.samplers.breeding import GENERATION, fronts, standing
from mernas.search.samplers.evolution import RegularisedEvolution
from mernas.search.samplers.genetic import Nsga
from mernas.search.samplers.grid import GridOrder
from mernas.search.sampling import first_batch, generation, make_sampler, next_batch, rebuild
from mernas.space.genotype import Genotype
from mernas.space.suggestion import RecordedTrial

OPTUNA = tuple(name for name in SAMPLERS if name != "grid")
LIMIT = 3000

# Two kinds of block with questions of their own, and everything else fixed but a few answers.
GRID_SPACE = """
extends: full
keep: {input: [apex_frame, optical_flow], flow_estimator: [farneback, given], block: [convolution, residual],
       attention: none, readout: [average], cascade: none, head: [linear], fusion: [concatenation],
       preprocessing: none, augmentation: [shift], normalisation: [raw, standardise], training: [scratch],
       optimizer: [adamw], schedule: [cosine], sampler: none, mixing: none, averaging: none, loss: [cross_entropy],
       auxiliary_loss: none, side_task: none}
set:
  input.optical_flow: {size: 14, quantities: u+v, centre: none}
  pipeline.network: {streams: 1}
  stream.stream: {backbone: 1}
  block.convolution: {width: {low: 2, high: 4}, kernel: 3, norm: [batch, late, none], activation: relu, pool: none,
                      padding: same, dropout: 0}
  block.residual: {width: 2, stride: [1, 2], dropout: 0}
  readout.average: {grid: 1}
  loss.cross_entropy: {weighting: none}
  training.scratch: {epochs: 1, batch: 16}
  optimizer.adamw: {lr: 0.001, weight_decay: 0}
"""

# Millions of points: every range in full, but of every axis only one or two components.
VAST_SPACE = """
extends: full
keep: {input: [optical_flow], block: [convolution, residual], attention: none, readout: [average, flatten],
       cascade: none, head: [linear, mlp], fusion: [concatenation], preprocessing: none, augmentation: [flip, shift],
       training: [scratch], schedule: [constant, cosine], sampler: none, mixing: none, averaging: none,
       loss: [cross_entropy], auxiliary_loss: none, side_task: none}
set:
  stream.stream: {backbone: {low: 1, high: 4}}
"""


# Small maps and long backbones: the map soon has a single pixel.
SHRINKING_SPACE = VAST_SPACE.replace("backbone: {low: 1, high: 4}", "backbone: {low: 4, high: 8}").replace(
    "set:", "set:\n  input.optical_flow: {size: 14}"
)


def size_of(genotype: Genotype) -> int | None:
    """A made-up size, spread evenly below and a little above the limit; some pipelines do not build."""
    number = int(genotype.hash[:8], 16)
    return None if number % 5 == 0 else 1 + number % (LIMIT + 300)


class Known(Record):
    """A record that makes the scores up: no training, some failures, and jobs that are still to come."""

    def __init__(self, plan: Plan, ledger: Ledger, failing: Callable[[str], bool] | None = None) -> None:
        super().__init__(plan, ledger)
        self.failing = failing or (lambda genotype: int(genotype[:4], 16) % 4 == 0)
        self.unfinished: set[str] = set()

    def candidate(self, study: str, genotype: str, parameters: int) -> Candidate:
        if genotype in self.unfinished:
            raise LookupError(genotype)
        score = int(genotype[8:12], 16) / 16**4
        return Candidate(genotype, parameters, score, completed=not self.failing(genotype))


@pytest.fixture
def make(toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path) -> Callable[..., Plan]:
    def made(sampler: str, space: str = "", **settings: Any) -> Plan:
        path = toy_space
        if space:
            path = tmp_path / "space.yaml"
            path.write_text(space)
        choices = {"trials": 11, "batch": 4, "seed": 1, **settings}
        plan = plan_search(toy(), path, 3, None, "1k,2k,3k", str(LIMIT))
        fixed = replace(plan.settings, sampler=sampler, **choices)
        assert not fixed.problems()
        return replace(plan, settings=fixed)

    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.sqlite", "plan")
    yield opened
    opened.close()


def propose(plan: Plan, record: Record, study: str, number: int) -> list[Draw]:
    """Draw one batch and write it."""
    if number == 0:
        draws, genotypes = first_batch(plan, study, size_of)
    else:
        draws, genotypes = next_batch(plan, record, study, number, size_of)
    record.ledger.add_batch(draws, genotypes)
    return draws


def propose_all(plan: Plan, record: Record, study: str) -> list[Draw]:
    for number in range(len(plan.batches)):
        propose(plan, record, study, number)
    return record.ledger.draws(study)


def names(draws: Sequence[Draw]) -> list[str | None]:
    return [draw.genotype for draw in draws]


# All samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_seed_gives_one_run_whether_or_not_it_was_interrupted(
    name: str, make: Callable[..., Plan], ledger: Ledger, tmp_path: Path
) -> None:
    plan = make(name)
    whole = propose_all(plan, Known(plan, ledger), "0")
    for number in range(len(plan.batches)):
        again = Ledger(tmp_path / "again.sqlite", "plan")  # every batch as after a kill: nothing is left but the file
        propose(replace(plan), Known(plan, again), "0", number)
        written = again.draws("0")
        again.close()
    assert written == whole


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_proposal_lies_in_the_space_and_every_place_is_filled(
    name: str, make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make(name, trials=17, batch=5)
    record = Known(plan, ledger)
    draws = propose_all(plan, record, "final")
    assert not [problem for draw in draws for problem in plan.space.problems(ledger.genotype(draw.genotype or ""))]
    assert sum(draw.state == ACCEPTED for draw in draws) == plan.settings.trials
    accepted = [draw for draw in draws if draw.state == ACCEPTED]
    assert len(set(names(accepted))) == len(accepted)
    assert all(draw.parameters is not None and draw.parameters <= LIMIT for draw in accepted)
    # What makes samplers stumble was there: refusals, and candidates that failed.
    assert any(draw.state == INFEASIBLE for draw in draws)
    assert any(record.failing(draw.genotype or "") for draw in accepted)
    later = [draw for draw in draws if draw.batch > 0]
    assert {draw.origin for draw in later} == {name}


@pytest.mark.parametrize("name", SAMPLERS)
def test_of_a_fitting_space_only_what_can_be_built_is_proposed_and_its_answers_lead_back_to_it(
    name: str, make: Callable[..., Plan], ledger: Ledger
) -> None:
    def built(genotype: Genotype) -> int:
        count_parameters(genotype, classes=3)  # raises where it cannot be built
        return 1 + int(genotype.hash[:8], 16) % LIMIT

    plan = make(name, SHRINKING_SPACE, trials=16)
    record = Known(plan, ledger)
    assert plan.space.fitting
    for number in range(len(plan.batches)):
        draw = first_batch(plan, "0", built) if number == 0 else next_batch(plan, record, "0", number, built)
        ledger.add_batch(*draw)
    draws = ledger.draws("0")
    assert sum(draw.state == ACCEPTED for draw in draws) == 16
    for one in draws:
        assert plan.space.suggest(RecordedTrial(one.answers)) == ledger.genotype(one.genotype or "")
    asked = [question for one in draws for question in one.answers]
    assert any(".without " in question or ".up to " in question for question in asked)  # or nothing was left out


@pytest.mark.parametrize("name", SAMPLERS)
def test_studies_and_seeds_differ_except_on_the_grid(name: str, make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make(name)
    record = Known(plan, ledger)
    one, other = propose_all(plan, record, "0"), propose_all(plan, record, "1")
    assert names([draw for draw in one if draw.batch == 0]) == names([draw for draw in other if draw.batch == 0])
    assert (names(one) == names(other)) == (name == "grid")
    reseeded = replace(plan, settings=replace(plan.settings, seed=2))
    assert (names(propose_all(reseeded, record, "2")) == names(one)) == (name == "grid")


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_synchronous_study_waits_for_every_job(name: str, make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make(name)
    record = Known(plan, ledger)
    first = propose(plan, record, "0", 0)
    record.unfinished.add(next(draw.genotype or "" for draw in first if draw.state == ACCEPTED))
    with pytest.raises(LookupError):
        next_batch(plan, record, "0", 1, size_of)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_asynchronous_study_proposes_while_candidates_are_under_way(
    name: str, make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make(name, asynchronous=True, trials=12, batch=4)
    assert plan.batches == (4, *[1] * 8)
    record = Known(plan, ledger)
    for number in range(len(plan.batches)):
        drawn = propose(plan, record, "0", number)
        record.unfinished = {draw.genotype or "" for draw in [*ledger.draws("0")][-6:] if draw.state == ACCEPTED}
        assert sum(draw.state == ACCEPTED for draw in drawn) == plan.batches[number]
    accepted = [draw for draw in ledger.draws("0") if draw.state == ACCEPTED]
    assert len(set(names(accepted))) == 12
    assert record.unfinished


@pytest.mark.parametrize("name", OPTUNA)
def test_unfinished_candidates_are_told_as_running_and_their_duplicates_drawn_again(
    name: str, make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make(name, asynchronous=True, trials=7, batch=5)
    record = Known(plan, ledger)
    first = [draw for draw in propose(plan, record, "0", 0) if draw.state == ACCEPTED]
    running = first[0].genotype or ""
    record.unfinished = {running}
    told = rebuild(plan, record, "0", 1, ledger.draws("0")).get_trials()
    assert sum(trial.state == TrialState.RUNNING for trial in told) == 1

    class Stubborn:
        """A space that proposes what is under way twice before it proposes anything else."""

        left = 2

        def suggest(self, trial: Any) -> Genotype:
            fresh = plan.space.suggest(trial)
            self.left -= 1
            return ledger.genotype(running) if self.left >= 0 else fresh

        def __getattr__(self, attribute: str) -> Any:
            return getattr(plan.space, attribute)

    stubborn: Any = Stubborn()
    draws, _ = next_batch(replace(plan, space=stubborn), record, "0", 1, size_of)
    assert [draw.state for draw in draws[:2]] == [REPEATED, REPEATED]
    assert draws[-1].state == ACCEPTED
    assert draws[-1].genotype != running


def test_the_parzen_estimator_keeps_away_from_what_is_under_way(make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make("tpe", asynchronous=True, trials=20, batch=10)
    record = Known(plan, ledger)
    accepted = [draw.genotype or "" for draw in propose(plan, record, "0", 0) if draw.state == ACCEPTED]
    record.unfinished = set(accepted[5:])
    seen = [draw.answers for draw in next_batch(plan, record, "0", 1, size_of)[0]]
    record.failing = lambda genotype: genotype in accepted[5:]  # known to have failed, it is nothing to keep away from
    record.unfinished = set()
    assert seen != [draw.answers for draw in next_batch(plan, record, "0", 1, size_of)[0]]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_plan_holds_all_that_fixes_a_sampler(name: str) -> None:
    assert not Settings(sampler=name).problems()
    held = sampler_settings(name)
    assert held["name"] == name
    assert json.loads(json.dumps(held)) == held
    assert {key: value for key, value in held.items() if key != "name"} == dict(FAMILIES[name].settings)


def test_the_settings_of_the_first_samplers_are_what_they_were() -> None:
    # They are part of every plan's hash, and so of the name of its run directory.
    assert sampler_settings("random") == {"name": "random"}
    assert sampler_settings("tpe") == {
        "name": "tpe",
        "multivariate": True,
        "group": True,
        "constant_liar": True,
        "n_startup_trials": 0,
        "n_ei_candidates": 24,
    }


def test_an_unknown_sampler_is_refused_with_the_names_of_all() -> None:
    (problem,) = Settings(sampler="nsga").problems()
    assert all(name in str(problem) for name in SAMPLERS)


def test_the_names_of_samplers_are_known_without_optuna() -> None:
    code = "import sys, mernas.search.samplers as s; assert 'tpe' in s.SAMPLERS; sys.exit('optuna' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# The grid


def everything(space: Any) -> list[Genotype]:
    settings = FAMILIES["grid"].settings
    return list(GridOrder(space, **settings).after(0))


def test_the_grid_is_every_point_of_a_small_space_once(make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make("grid", GRID_SPACE, trials=700, batch=600)
    block = 3 * 3 + 2  # a convolution's width and norm, or a residual block's stride
    shift, smoothing, normalisation = 1 + 4, 5, 2  # none or by 1 to 4 pixels; five values of a real number
    expected = block * shift * smoothing * normalisation
    points = everything(plan.space)
    assert len(points) == expected == 550
    assert len({genotype.hash for genotype in points}) == expected
    assert {genotype["loss"][0]["smoothing"] for genotype in points} == {0.0, 0.075, 0.15, 0.225, 0.3}

    record = Known(plan, ledger)
    draws, genotypes = first_batch(plan, "0", lambda genotype: 1)
    assert [genotype for genotype, _ in genotypes] == points
    assert Counter(draw.state for draw in draws) == {ACCEPTED: 550, EXHAUSTED: 50}
    ledger.add_batch(draws, genotypes)
    past, none = next_batch(plan, record, "0", 1, lambda genotype: 1)
    assert [draw.state for draw in past] == [EXHAUSTED] * 100
    assert not none


def test_the_grid_goes_on_where_the_ledger_ends(make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make("grid", GRID_SPACE, trials=60, batch=7)
    draws = propose_all(plan, Known(plan, ledger), "0")
    points = everything(plan.space)[: len(draws)]
    assert names(draws) == [genotype.hash for genotype in points]
    assert {draw.state for draw in draws} == {ACCEPTED, INFEASIBLE}


def test_equal_points_of_the_grid_count_once(make: Callable[..., Plan], ledger: Ledger) -> None:
    both = GRID_SPACE.replace("streams: 1", "streams: 2").replace("norm: [batch, late, none]", "norm: batch")
    both = both.replace("augmentation: [shift]", "augmentation: none")
    both = both.replace("[raw, standardise]", "[raw]").replace("head: [linear],\n", "head: [linear],")
    both = both.replace("weighting: none", "weighting: none, smoothing: 0").replace("stride: [1, 2]", "stride: 1")
    plan = make("grid", both, trials=16, batch=8)
    draws = propose_all(plan, Known(plan, ledger, failing=lambda genotype: False), "0")
    stream = 3 + 1
    pairs = stream * (stream + 1) // 2  # two streams in any order
    states = Counter("twice" if draw.state in (REPEATED, DUPLICATE) else draw.state for draw in draws)
    feasible = {genotype.hash for genotype in everything(plan.space) if (size_of(genotype) or LIMIT + 1) <= LIMIT}
    assert len({draw.genotype for draw in draws if draw.genotype}) == pairs
    assert states[ACCEPTED] == len(feasible)
    assert sum(count for state, count in states.items() if state != EXHAUSTED) == stream**2
    assert states[ACCEPTED] + states[EXHAUSTED] == 16


def test_a_few_points_of_a_vast_grid_spread_over_the_tree(toy: Callable[..., Dataset], tmp_path: Path) -> None:
    path = tmp_path / "vast.yaml"
    path.write_text(VAST_SPACE)
    plan = plan_search(toy(), path, 3, None, "1k", "3k", sampler="grid", trials=64, batch=8)
    order = GridOrder(plan.space, **FAMILIES["grid"].settings)
    points = [genotype for genotype, _ in zip(order.after(0), range(64), strict=False)]
    assert len({genotype.hash for genotype in points}) == 64
    assert Counter(len(genotype.streams) for genotype in points) == {1: 16, 2: 16, 3: 16, 4: 16}
    answers = [{name: value for name, (value, _) in plan.space.locate(genotype).items()} for genotype in points]
    # The very last questions, which an odometer would leave at their first answer or turn alone.
    for question in ("tasks.0.emotion.head", "training.scratch.optimizer", "loss.0.cross_entropy.weighting"):
        counts = Counter(given[question] for given in answers)
        assert len(counts) == 2
        assert min(counts.values()) >= 16
    rates = {given["training.scratch.epochs"] for given in answers}
    assert rates == {1, 6, 32, 178, 1000}  # five values at equal ratios, as whole numbers


def test_a_grid_takes_both_ends_of_a_range_and_equal_steps_between() -> None:
    class Space:
        def suggest(self, trial: Any) -> Any:
            rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
            return rate, trial.suggest_float("share", 0.0, 0.4), trial.suggest_int("few", 1, 8)

    space: Any = Space()
    found: list[Any] = list(GridOrder(space, points=5, whole=8).after(0))
    assert len(found) == 5 * 5 * 8
    np.testing.assert_allclose(sorted({rate for rate, _, _ in found}), np.geomspace(1e-5, 1e-1, 5))
    np.testing.assert_allclose(sorted({share for _, share, _ in found}), np.linspace(0, 0.4, 5))
    assert sorted({few for _, _, few in found}) == list(range(1, 9))
    assert len(list(GridOrder(space, points=5, whole=7).after(0))) == 5**3


def test_a_grid_of_an_uneven_tree_holds_every_leaf_once() -> None:
    class Tree:
        """Down to depth 12 by one answer each, or out: thirteen leaves, far apart in depth."""

        def suggest(self, trial: Any) -> Any:
            depth = 0
            while depth < 12 and trial.suggest_categorical(f"deeper {depth}", (False, True)):
                depth += 1
            return depth

    tree: Any = Tree()
    depths: list[Any] = list(GridOrder(tree, 5, 8).after(0))
    assert sorted(depths) == list(range(13))


# Ranking


def test_fronts_and_crowding_are_those_of_optuna() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        points = generator.random((30, 2))
        assert fronts(points.tolist()) == _fast_non_domination_rank(points).tolist()
        first = [point for point, front in zip(points.tolist(), fronts(points.tolist()), strict=True) if front == 0]
        trials = [create_trial(values=point) for point in first]
        for number, trial in enumerate(trials):
            trial.number = number
        theirs = _calc_crowding_distance(list(trials))
        assert crowding(first) == pytest.approx([theirs[number] for number in range(len(first))])


def test_equal_points_share_a_front_and_who_stands_alone_comes_first() -> None:
    points = [(0.0, 1.0), (0.0, 1.0), (0.5, 0.5), (0.55, 0.45), (1.0, 0.0), (1.0, 1.0)]
    assert fronts(points) == [0, 0, 0, 0, 0, 1]
    places = standing(points)
    assert sorted(range(6), key=lambda one: places[one])[-1] == 5
    assert places[2] < places[3] or places[3] < places[2]
    assert fronts([]) == []
    assert crowding([(1.0, math.inf), (2.0, 3.0)]) == [math.inf, math.inf]
    assert crowding([(1.0, 2.0)] * 3) == [0.0, 0.0, 0.0]


# NSGA-II and NSGA-III


def completed(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials() if GENERATION in trial.user_attrs]


def beats(one: FrozenTrial, other: FrozenTrial) -> bool:
    (score, size), (score2, size2) = one.values, other.values
    return score >= score2 and size <= size2 and (score, size) != (score2, size2)


def after_two_batches(plan: Plan, ledger: Ledger) -> tuple[Known, optuna.Study]:
    """A study as it is rebuilt for its third batch."""
    record = Known(plan, ledger)
    for number in range(2):
        propose(plan, record, "0", number)
    return record, rebuild(plan, record, "0", 2, ledger.draws("0"))


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_a_rebuilt_study_breeds_from_the_elite_of_all_earlier_batches(
    name: str, make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make(name, trials=50, batch=10, seed=3)
    record, study = after_two_batches(plan, ledger)
    sampler = study.sampler
    assert isinstance(sampler, Nsga)
    known = completed(study)
    assert {trial.user_attrs[GENERATION] for trial in known} == {0, 1}
    accepted = [draw for draw in ledger.draws("0") if draw.state == ACCEPTED]
    assert len(known) == sum(not record.failing(draw.genotype or "") for draw in accepted)
    parents = sampler.parents(study)
    chosen = {trial.number for trial in parents}
    assert len(chosen) == 10 < len(known)
    assert chosen <= {trial.number for trial in known}
    left = [trial for trial in known if trial.number not in chosen]
    assert not [1 for one in left for parent in parents if beats(one, parent)]


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_without_mutation_a_child_has_its_parents_genes_and_no_others(
    name: str, make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make(name, trials=50, batch=10)
    _, study = after_two_batches(plan, ledger)
    assert isinstance(study.sampler, Nsga)
    study.sampler.mutation = 0.0
    parents = [trial.params for trial in study.sampler.parents(study)]
    crossed = 0
    for _ in range(60):
        trial = study.ask()
        plan.space.suggest(trial)
        pairs = [
            (one, other)
            for one in parents
            for other in parents
            if all(
                value in [parent[question] for parent in (one, other) if question in parent]
                for question, value in trial.params.items()
                if question in one or question in other
            )
        ]
        assert pairs, "no two parents explain this child"
        crossed += not any(one == other for one, other in pairs)
        study.tell(trial, state=TrialState.FAIL)
    assert crossed > 30


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_about_one_gene_of_a_child_mutates(name: str, make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make(name, trials=50, batch=10)
    record = Known(plan, ledger)
    propose(plan, record, "0", 0)
    study = rebuild(plan, record, "0", 1, ledger.draws("0"))
    assert isinstance(study.sampler, Nsga)
    parents = [trial.params for trial in study.sampler.parents(study)]

    def foreign(answers: dict[str, Any]) -> int:
        """Real answers that no parent gave: nobody hits upon those by chance."""
        return sum(
            isinstance(value, float) and value not in [parent.get(name) for parent in parents]
            for name, value in answers.items()
        )

    bred, drawn = [], []
    for place in range(150):
        trial = study.ask()
        plan.space.suggest(trial)
        bred.append(foreign(trial.params) / max(1, sum(isinstance(value, float) for value in trial.params.values())))
        study.tell(trial, state=TrialState.FAIL)
        sampler = optuna.samplers.RandomSampler(seed=place)
        free = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler).ask()
        plan.space.suggest(free)
        drawn.append(foreign(free.params) / max(1, sum(isinstance(value, float) for value in free.params.values())))
    assert np.mean(drawn) > 0.95
    assert 0.01 < np.mean(bred) < 0.25


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_failures_do_not_turn_breeding_into_random_search(name: str, make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make(name, trials=20, batch=4)
    batches: list[set[str]] = []
    failing: set[str] = set()
    record = Known(plan, ledger, failing=lambda genotype: genotype in failing)

    def parents(number: int) -> set[int]:
        study = rebuild(plan, record, "0", number, ledger.draws("0"))
        assert isinstance(study.sampler, Nsga)
        return {int(trial.user_attrs[GENERATION]) for trial in study.sampler.parents(study)}

    for number in range(4):
        drawn = propose(plan, record, "0", number)
        batches.append({draw.genotype or "" for draw in drawn if draw.state == ACCEPTED})
        failing.update(batches[number] if number in (0, 2) else sorted(batches[number])[:3])
    assert parents(1) == set()  # nothing has completed: the children are random, as there is nobody to breed from
    assert parents(2) == {1}  # one candidate has, and is enough
    assert parents(3) == {1}  # a batch that failed as a whole leaves the elite as it was
    assert parents(4) == {1, 3}
    assert sum(draw.state == ACCEPTED for draw in propose(plan, record, "0", 4)) == 4


@pytest.mark.parametrize(("number", "shares"), [(2, [3, 1.5, 0, 1.5]), (3, [3, 1, 1, 1])])
def test_parents_win_tournaments_between_two(number: int, shares: list[float]) -> None:
    # The first dominates the others, which share a front; the third lies between two ends there, to which NSGA-III is
    # blind. Of the six pairs each wins so many, half a pair where neither is better.
    values = [[1.0, 1.0], [0.9, 3.0], [0.6, 2.5], [0.5, 2.0]]
    asked: dict[str, BaseDistribution] = {"x": IntDistribution(0, 9)}
    trials = [create_trial(values=pair, params={"x": place}, distributions=asked) for place, pair in enumerate(values)]
    study = optuna.create_study(directions=["maximize", "minimize"])
    sampler = Nsga(number, Moment(1, "", 4, 1), crossover=0.0, swapping=0.5, mutation=0.0)
    drawn = Counter(sampler.child(study, trials[0], trials)["x"] for _ in range(3000))
    assert [drawn[place] / 500 for place in range(4)] == pytest.approx(shares, abs=0.2)


def test_a_single_parent_is_mutated(make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make("nsga2", trials=10, batch=1)
    record = Known(plan, ledger, failing=lambda genotype: False)
    propose(plan, record, "0", 0)
    study = rebuild(plan, record, "0", 1, ledger.draws("0"))
    assert isinstance(study.sampler, Nsga)
    (parent,) = study.sampler.parents(study)
    assert study.sampler.moment.population == 2
    child = study.ask()
    plan.space.suggest(child)
    shared = parent.params.keys() & child.params.keys()
    assert sum(parent.params[name] == child.params[name] for name in shared) >= len(shared) - 4


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_a_long_history_is_no_deep_recursion(name: str) -> None:
    make_one = FAMILIES[name].make
    assert make_one is not None
    study = optuna.create_study(directions=["maximize", "minimize"])
    generator = random.Random(0)
    for number in range(2400):
        study.add_trial(
            create_trial(
                values=[generator.random(), generator.random()],
                params={"x": number},
                distributions={"x": IntDistribution(0, 9999)},
                user_attrs={GENERATION: number // 2},
            )
        )
    sampler = make_one(Moment(1, "0 0", 2, 1200), FAMILIES[name].settings)
    assert isinstance(sampler, Nsga)
    parents = sampler.parents(study)
    assert len(parents) == 2
    assert not [1 for one in completed(study) for parent in parents if beats(one, parent)] or name == "nsga3"


def test_the_elite_of_a_generation_is_the_same_whichever_batch_asks(make: Callable[..., Plan], ledger: Ledger) -> None:
    plan = make("nsga3", trials=40, batch=8)
    record = Known(plan, ledger)
    for number in range(3):
        propose(plan, record, "0", number)
    elites = []
    for batch in (3, 4):
        study = rebuild(plan, record, "0", batch, ledger.draws("0"))
        assert isinstance(study.sampler, Nsga)
        elites.append([trial.number for trial in study.sampler.parents(study)])
    assert elites[0] == elites[1]


def test_an_asynchronous_study_has_generations_of_a_batch_of_places(make: Callable[..., Plan]) -> None:
    plan = make("nsga2", asynchronous=True, trials=17, batch=5)
    places = [(batch, place) for batch, size in enumerate(plan.batches) for place in range(size)]
    assert [generation(plan, *place) for place in places] == [number // 5 for number in range(17)]
    both = make("nsga2", trials=17, batch=5)
    places = [(batch, place) for batch, size in enumerate(both.batches) for place in range(size)]
    assert [generation(both, *place) for place in places] == [number // 5 for number in range(17)]


def test_the_grid_has_no_optuna_sampler(make: Callable[..., Plan]) -> None:
    with pytest.raises(ValueError, match="grid"):
        make_sampler(make("grid"), "0", 1)


# Regularised evolution


def bred(plan: Plan, record: Record, number: int, children: int) -> tuple[list[FrozenTrial], list[dict[str, Any]]]:
    """The population of a batch, and the answers of some children of it."""
    study = rebuild(plan, record, "0", number, record.ledger.draws("0"))
    assert isinstance(study.sampler, RegularisedEvolution)
    population = study.sampler.parents(study)
    answers = []
    for _ in range(children):
        trial = study.ask()
        plan.space.suggest(trial)
        answers.append(trial.params)
        study.tell(trial, state=TrialState.FAIL)
    return population, answers


def test_evolution_changes_one_answer_and_keeps_every_other_that_is_still_asked(
    make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make("evolution")
    record = Known(plan, ledger)
    for number in range(2):
        propose(plan, record, "0", number)
    population, children = bred(plan, record, 2, 80)
    branching = 0
    for child in children:
        explained = set()
        for parent in population:
            changed = [name for name in parent.params.keys() & child.keys() if parent.params[name] != child[name]]
            if len(changed) == 1:
                explained.add((isinstance(child[changed[0]], float), parent.params.keys() == child.keys()))
        assert explained - {(True, False)}, "no parent is one answer away"  # a real number opens no other branch
        branching += all(not same for _, same in explained)
    assert 0 < branching < 80


def test_evolution_breeds_from_the_youngest_candidates_that_completed(
    make: Callable[..., Plan], ledger: Ledger
) -> None:
    plan = make("evolution", trials=60, batch=5)
    record = Known(plan, ledger)
    for number in range(7):
        propose(plan, record, "0", number)
    population, _ = bred(plan, record, 7, 0)
    finished = [
        draw for draw in ledger.draws("0") if draw.state == ACCEPTED and not record.failing(draw.genotype or "")
    ]
    youngest = [draw.answers for draw in finished[-20:]]  # four batches of five
    assert [trial.params for trial in population] == youngest
    assert len(finished) > 20


def test_the_better_front_wins_a_tournament_of_all() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    generator = random.Random(1)
    for number in range(8):
        study.add_trial(
            create_trial(
                values=[generator.random(), generator.random()],
                params={"x": 100 * number, "y": 100 * number},
                distributions={"x": IntDistribution(0, 999), "y": IntDistribution(0, 999)},
            )
        )
    sampler = RegularisedEvolution(Moment(1, "", 8, 1), batches=1, tournament=1.0)
    trials = study.get_trials()
    best = {trial.number for trial in trials if not any(beats(other, trial) for other in trials)}
    assert len(best) < 8
    for _ in range(20):
        child = sampler.child(study, trials[0], trials)
        kept = {trial.number for trial in trials if trial.params["x"] == child["x"] or trial.params["y"] == child["y"]}
        assert kept & best


class TestRegularisedEvolutionAsOptunaWants(
    BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return lambda: RegularisedEvolution(Moment(5, "", 4, 1), batches=1, tournament=0.5)


class TestGeneticAsOptunaWants(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=["nsga2", "nsga3"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], optuna.samplers.BaseSampler]:
        family = FAMILIES[request.param]
        assert family.make is not None
        make_one = family.make
        return lambda: make_one(Moment(5, "", 4, 10**6), family.settings)


# Do they search?


def trade_off(trial: optuna.Trial) -> tuple[float, float]:
    """A closed form over a conditional tree: quality in [0, 1) and the logarithm of a size, at odds with each other."""
    error, size = 1.0, 10.0
    for place in range(trial.suggest_int("count", 1, 4)):
        kind = trial.suggest_categorical(f"{place}", ("convolution", "residual", "separable", "pooling"))
        if kind == "pooling":
            error *= 1.1 if trial.suggest_categorical(f"{place}.pooling.maximum", (True, False)) else 1.0
            continue
        width = trial.suggest_int(f"{place}.{kind}.width", 2, 64, log=True)
        kernel = trial.suggest_int(f"{place}.{kind}.kernel", 1, 4)
        gain, cost = {"convolution": (0.3, 9), "residual": (0.45, 18), "separable": (0.35, 3)}[kind]
        size += cost * width * kernel
        error *= 1 - gain * math.log2(width) / 6 * (1 - abs(kernel - 3) / 4)
    error *= 1 + 0.3 * abs(math.log10(trial.suggest_float("rate", 1e-4, 1e-1, log=True)) + 2.5)
    for question in range(4):
        error *= 1.0 if trial.suggest_categorical(f"choice {question}", ("a", "b", "c")) == "b" else 1.12
    return max(0.0, 1 - error / 1.6), math.log10(size)


def area(points: Sequence[tuple[float, float]], largest: float = 4.5) -> float:
    """The area that (quality, size) pairs dominate, from quality 0 and a largest size: a staircase."""
    total = height = 0.0
    for quality, size in sorted(points, key=lambda point: point[1]):
        if quality > height and size < largest:
            total += (quality - height) * (largest - size)
            height = quality
    return total


def search_area(name: str, seed: int, batches: int, batch: int = 8) -> float:
    """Search by batches as a run does, the first one at random, with no objective but the closed form."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    found = []
    for number in range(batches):
        family = FAMILIES[name if number else "random"]
        assert family.make is not None
        study.sampler = family.make(Moment(seed * 1000 + number, str(seed), batch, number), family.settings)
        asked = []
        for _ in range(batch):
            trial = study.ask()
            asked.append((trial, trade_off(trial)))
        for trial, values in asked:
            trial.set_user_attr(GENERATION, number)
            study.tell(trial, values)
            found.append(values)
    return area(found)


def test_the_area_of_a_staircase_is_what_counting_cells_says() -> None:
    points = [(0.2, 1.0), (0.5, 2.0), (0.4, 3.0), (0.9, 4.0), (1.0, 5.0)]
    quality, size = np.meshgrid((np.arange(100) + 0.5) / 100, (np.arange(450) + 0.5) / 100)
    covered = np.zeros(quality.shape, dtype=bool)
    for best, least in points:
        covered |= (quality <= best) & (size >= least)
    assert area(points) == pytest.approx(covered.sum() / 100**2)


def test_evolutionary_samplers_beat_random_search() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = range(20)
    by_chance = np.array([search_area("random", seed, 10) for seed in seeds])
    for name in ("nsga2", "nsga3", "evolution"):
        gains = np.array([search_area(name, seed, 10) for seed in seeds]) - by_chance
        assert gains.mean() > 0.1, name
        assert gains.mean() > 3 * gains.std(ddof=1) / math.sqrt(len(gains)), name
