"""Proposals: the first batch, redraws, duplicates, and studies rebuilt from the ledger alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.components.topologies.network import count_parameters
from mernas.search.ledger import ACCEPTED, DUPLICATE, EXHAUSTED, INFEASIBLE, PASSED_OVER, REPEATED, Ledger
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.run import SearchResult, load_data, plan_search
from mernas.search.samplers.grid import GridOrder
from mernas.search.sampling import Memory, first_batch, next_batch, rebuild
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype
from mernas.space.tree import SearchSpace


def measure(genotype: Genotype) -> int | None:
    try:
        return count_parameters(genotype, 3)
    except SpaceError:
        return None


@pytest.fixture
def plan(toy: Callable[..., Dataset], toy_space: Path) -> Plan:
    return plan_search(toy(), toy_space, 3, None, "100,300,3k", "3k", trials=12, batch=9, seed=1)


def test_the_first_batch_fills_the_intervals_between_budgets_evenly(plan: Plan) -> None:
    draws, genotypes = first_batch(plan, "0", measure)
    accepted = [draw for draw in draws if draw.state == ACCEPTED]
    assert len(accepted) == 9
    sizes = sorted(draw.parameters or 0 for draw in accepted)
    counts = [sum(low < size <= high for size in sizes) for low, high in ((0, 100), (100, 300), (300, 3000))]
    assert max(counts) - min(counts) <= 1
    assert {draw.state for draw in draws} <= {ACCEPTED, INFEASIBLE, PASSED_OVER, REPEATED}
    assert {genotype.hash for genotype, _ in genotypes} == {draw.genotype for draw in draws}
    assert [draw.number for draw in draws] == list(range(len(draws)))


def test_the_first_batch_deals_out_the_inputs_and_still_fills_the_intervals() -> None:
    data = load_data("synthetic")
    for seed in range(3):
        made = plan_search(data, "standard", 3, None, "10k,100k", "100k", trials=8, batch=8, seed=seed)
        draws = [draw for draw in first_batch(replace(made, presets={}), "0", measure)[0] if draw.state == ACCEPTED]
        inputs = {answer for draw in draws for name, answer in draw.answers.items() if name.endswith(".input")}
        assert len(draws) == 8
        assert len(inputs) >= 7  # of eight; one may have been given up for its size
        sizes = [(draw.parameters or 0) > 10_000 for draw in draws]
        assert sum(sizes) == 4


def test_the_first_batch_is_equal_in_all_studies_and_depends_on_the_seed(plan: Plan) -> None:
    first, other = first_batch(plan, "0", measure)[0], first_batch(plan, "final", measure)[0]
    assert [draw.genotype for draw in first] == [draw.genotype for draw in other]
    reseeded = replace(plan, settings=replace(plan.settings, seed=2))
    assert [draw.genotype for draw in first_batch(reseeded, "0", measure)[0]] != [draw.genotype for draw in first]


def test_presets_that_fit_come_first_and_take_at_most_half_of_the_batch(toy: Callable[..., Dataset]) -> None:
    made = plan_search(toy(), "full", 3, None, "100k", "100k", trials=5, batch=5, seed=1)
    draws, _ = first_batch(made, "0", measure)
    accepted = [draw for draw in draws if draw.state == ACCEPTED]
    # By name, without those that are too large (dual_inception, off_apexnet, sssnet), and no more than two of five.
    assert [draw.origin for draw in accepted] == ["preset rcn_a", "preset rcn_s", "random", "random", "random"]
    assert [draw.parameters for draw in accepted[:2]] == [55_747, 55_747]


def test_a_place_that_cannot_be_filled_is_exhausted_after_a_hundred_redraws(plan: Plan) -> None:
    draws, _ = first_batch(plan, "0", lambda genotype: None)
    assert [draw.state for draw in draws].count(EXHAUSTED) == 9
    assert [draw.state for draw in draws].count(INFEASIBLE) == 9 * 101
    assert len({draw.place for draw in draws}) == 9


def test_a_study_rebuilt_from_the_ledger_proposes_what_it_proposed(finished: SearchResult) -> None:
    ledger = Ledger(finished.folder / "ledger.sqlite", finished.plan.hash)
    record = Record(finished.plan, ledger)
    for study in finished.plan.studies:
        written = [draw for draw in ledger.draws(study) if draw.batch == 1]

        class Before(Ledger):
            def draws(self, study: str) -> Any:
                return [draw for draw in super().draws(study) if draw.batch < 1]

        earlier = Before(finished.folder / "ledger.sqlite", finished.plan.hash)
        again, _ = next_batch(finished.plan, Record(finished.plan, earlier), study, 1, measure)
        assert again == written
        earlier.close()
    assert record.candidates("0")
    ledger.close()


def test_two_searches_in_one_process_remember_their_own_questions_and_take_nothing_from_each_other(
    finished: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[str] = []
    locate = SearchSpace.locate

    def counted(space: SearchSpace, genotype: Genotype) -> Any:
        followed.append(genotype.hash)
        return locate(space, genotype)

    monkeypatch.setattr(SearchSpace, "locate", counted)
    searches = []
    for plan in (finished.plan, replace(finished.plan)):
        ledger = Ledger(finished.folder / "ledger.sqlite", plan.hash)
        searches.append((plan, Record(plan, ledger), ledger.draws("1"), Memory()))
    told = []
    for plan, record, history, memory in (*searches, *searches):
        before = len(followed)
        trials = rebuild(plan, record, "1", 1, history, memory).get_trials()
        told.append([(trial.state, trial.params, trial.distributions, trial.values) for trial in trials])
        assert bool(followed[before:]) == (len(told) <= 2)  # what was followed once is known
    alone = [rebuild(*search[:2], "1", 1, search[2]).get_trials() for search in searches]
    assert (
        told[:2]
        == told[2:]
        == [[(trial.state, trial.params, trial.distributions, trial.values) for trial in trials] for trials in alone]
    )
    for _, record, _, _ in searches:
        record.ledger.close()


def test_the_grid_is_worked_out_once_for_all_batches_of_a_search(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = replace(plan, settings=replace(plan.settings, sampler="grid"))
    made: list[SearchSpace] = []
    begin = GridOrder.__init__

    def counted(order: GridOrder, space: SearchSpace, *rest: Any, **settings: Any) -> None:
        made.append(space)
        begin(order, space, *rest, **settings)

    monkeypatch.setattr(GridOrder, "__init__", counted)
    memory = Memory()
    first = [first_batch(grid, study, measure, memory=memory)[0] for study in ("0", "1")]
    assert len(made) == 1
    assert [draw.genotype for draw in first[0]] == [draw.genotype for draw in first[1]]
    again = first_batch(grid, "0", measure)[0]
    assert len(made) == 2
    assert again == first[0]


def test_the_sampler_is_told_scores_sizes_and_what_is_infeasible(finished: SearchResult) -> None:
    ledger = Ledger(finished.folder / "ledger.sqlite", finished.plan.hash)
    record = Record(finished.plan, ledger)
    history = [draw for draw in ledger.draws("1") if draw.batch == 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = rebuild(finished.plan, record, "1", 1, history)
    told = study.get_trials()
    scores = {candidate.genotype: candidate.uf1 for candidate in record.candidates("1")}
    expected = [scores[draw.genotype or ""] for draw in history if draw.state == ACCEPTED]
    complete = [trial for trial in told if trial.constraints["parameters"] <= 0]
    assert [trial.values[0] for trial in complete] == expected
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in complete)
    infeasible = sum(draw.state == INFEASIBLE for draw in history)
    assert sum(trial.constraints["parameters"] > 0 for trial in told if trial.values) == infeasible
    ledger.close()


def test_a_duplicate_of_a_finished_candidate_is_drawn_again_and_does_not_count(
    finished: SearchResult, toy_space: Path
) -> None:
    ledger = Ledger(finished.folder / "ledger.sqlite", finished.plan.hash)
    record = Record(finished.plan, ledger)
    space = finished.plan.space
    known = [draw.genotype for draw in record.proposals("0") if draw.batch == 0]

    class Stubborn:
        """A space that proposes what is known three times before it proposes anything new."""

        def __init__(self) -> None:
            self.left = 3

        def suggest(self, trial: Any) -> Genotype:
            fresh = space.suggest(trial)
            self.left -= 1
            return ledger.genotype(known[0] or "") if self.left >= 0 else fresh

        def __getattr__(self, name: str) -> Any:
            return getattr(space, name)

    stubborn: Any = Stubborn()
    plan = replace(finished.plan, space=stubborn)

    class Before(Ledger):
        def draws(self, study: str) -> Any:
            return [draw for draw in super().draws(study) if draw.batch < 1]

    earlier = Before(finished.folder / "ledger.sqlite", finished.plan.hash)
    draws, _ = next_batch(plan, Record(plan, earlier), "0", 1, measure)
    assert [draw.state for draw in draws[:3]] == [DUPLICATE] * 3
    assert sum(draw.state in (ACCEPTED, EXHAUSTED) for draw in draws) == finished.plan.batches[1]
    ledger.close()
    earlier.close()
