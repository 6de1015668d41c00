"""A time limit ends the proposals of all studies at the same number; asynchronous studies do not wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.jobs import Job, Outcome
from mernas.search import run as running
from mernas.search.executor import Block, Feed, Interrupted, SerialExecutor
from mernas.search.forecast import Costs, measured, pilot, stages
from mernas.search.ledger import ACCEPTED, Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import FINAL, Plan
from mernas.search.run import SearchResult, plan_search, run_search
from mernas.search.verify import verify_run
from mernas.space.errors import PlanError


def counted(folder: Path, plan: Plan) -> dict[str, int]:
    ledger = Ledger(folder / "ledger.sqlite", plan.hash)
    counts = {study: sum(draw.state == ACCEPTED for draw in ledger.draws(study)) for study in plan.studies}
    ledger.close()
    return counts


class Allowance:
    """In the place of the clock: allows so many proposals per study."""

    trials = 3

    def __init__(self, search: NestedSearch, seconds: float) -> None:
        pass

    def __call__(self, done: int, drawn: int, room: int) -> int:
        return max(min(self.trials - drawn, room), 0)


@pytest.mark.parametrize(("trials", "asynchronous"), [(2, False), (5, False), (5, True)])
def test_when_time_is_up_all_studies_have_the_same_number_of_trials_and_it_is_recorded(
    asynchronous: bool,
    trials: int,
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "Clock", Allowance)
    monkeypatch.setattr(Allowance, "trials", trials)
    said: list[str] = []
    settings = {**small, "trials": 12, "time": "1h", "asynchronous": asynchronous}
    result = run_search(toy(), space=toy_space, out=tmp_path / "run", reporter=Told(said), **settings)
    counts = counted(tmp_path / "run", result.plan)
    assert set(counts.values()) == {trials}
    assert any(f"`--trials {trials}` without --time repeats this" in line for line in said)
    ledger = Ledger(tmp_path / "run" / "ledger.sqlite", result.plan.hash)
    assert ledger.ended_at() == trials
    assert ledger.seconds() > 0
    ledger.close()
    assert verify_run(tmp_path / "run").holds
    # A second call asks no clock any more: the number is in the ledger.
    monkeypatch.setattr(Allowance, "trials", 100)
    again = run_search(toy(), space=toy_space, out=tmp_path / "run", **settings)
    assert again.front.equals(result.front)


def test_a_run_that_time_ended_equals_a_run_of_that_many_trials(
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "Clock", Allowance)
    trials = 5  # the second batch is smaller than planned
    monkeypatch.setattr(Allowance, "trials", trials)
    limited = run_search(toy(), space=toy_space, out=tmp_path / "limited", **{**small, "trials": 12, "time": 3600.0})
    plain = run_search(toy(), space=toy_space, out=tmp_path / "plain", **{**small, "trials": trials})
    assert limited.front.equals(plain.front)
    assert limited.tables.predictions.equals(plain.tables.predictions)


def test_a_run_that_was_stopped_before_its_last_smaller_round_goes_on_with_it(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "Clock", Allowance)
    monkeypatch.setattr(Allowance, "trials", 5)
    settings = {**small, "trials": 12, "time": 3600.0}
    whole = run_search(toy(), space=toy_space, out=tmp_path / "whole", **settings)
    propose = NestedSearch.propose

    def stopped(search: NestedSearch, study: str, number: int) -> Any:
        if number == 1:
            raise Interrupted
        return propose(search, study, number)

    with monkeypatch.context() as patch:
        patch.setattr(NestedSearch, "propose", stopped)
        with pytest.raises(Interrupted):
            run_search(toy(), space=toy_space, out=tmp_path / "cut", **settings)
    monkeypatch.setattr(Allowance, "trials", 12)  # nobody is asked again
    cut = run_search(toy(), space=toy_space, out=tmp_path / "cut", **settings)
    assert set(counted(tmp_path / "cut", cut.plan).values()) == {5}
    assert cut.tables.predictions.equals(whole.tables.predictions)


def test_a_time_too_short_for_one_trial_and_its_outer_test_is_refused_with_the_forecast(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"--time: is too short .*, found 1 s, forecast [0-9.]+ (s|min). Allow more"):
        run_search(toy(), space=toy_space, out=tmp_path / "run", **{**small, "time": "1s"})
    # The advice can be followed in the same directory: nothing was proposed there.
    run_search(toy(), space=toy_space, out=tmp_path / "run", **{**small, "trials": 1, "time": "1d"})


def test_a_generous_time_changes_nothing_but_the_plan(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    result = run_search(toy(), space=toy_space, out=tmp_path / "run", **{**small, "time": "2d"})
    assert result.plan.hash != finished.plan.hash
    assert result.front.equals(finished.front)
    assert result.tables.predictions.equals(finished.tables.predictions)


def test_the_forecast_counts_jobs_as_the_plan_does(toy: Callable[..., Dataset], toy_space: Path) -> None:
    plan = plan_search(toy(), toy_space, 3, None, "300,3k", "3k", trials=8, batch=3, seed=3, seeds=2)
    costs = Costs(((100, 2.0), (2000, 4.0)), {"majority": 1.0, "logistic_regression": 1.0, "rbf_svm": 1.0})
    found = {title: (jobs, seconds) for title, jobs, seconds in stages(plan, costs)}
    pairs, groups, rows = 3, 3, 36  # three groups: three pairs, three single ones; two of six subjects in each
    assert found["First round"] == (3 * (pairs + groups), pytest.approx(3 * 3.0 * (pairs * 12 + groups * 24)))
    assert found["Later rounds"] == (5 * (2 * pairs + groups), pytest.approx(5 * 3.0 * (2 * pairs * 12 + groups * 24)))
    # Two budgets and two rules at their dearest, three families; six subjects, two repetitions, 30 rows each.
    assert found["Outer test"] == ((4 + 3) * 6 * 2, pytest.approx((2.0 + 4.0 + 4.0 + 4.0 + 3.0) * 30 * 12))
    assert rows == len(plan.book.subjects)


def test_costs_are_measured_from_the_ledger_once_it_holds_jobs(finished: SearchResult, tmp_path: Path) -> None:
    plan = finished.plan
    ledger = Ledger(finished.folder / "ledger.sqlite", plan.hash)
    search = NestedSearch(plan, ledger, SerialExecutor(), tmp_path)
    costs = measured(search, Costs((), {"majority": 9.0, "other": 9.0}))
    assert len(costs.networks) == len({cost.genotype for cost in ledger.costs() if cost.kind == "network"}) > 0
    assert 0 < costs.families["majority"] < 1
    assert costs.families["other"] == 9.0
    found, rows = pilot(search)
    assert rows == 12
    assert len(found.networks) == plan.batches[0]
    assert set(found.families) == set(plan.families)
    ledger.close()


def test_the_user_can_stop_a_run_while_it_prepares_and_while_its_pilot_runs(
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path: Path,
    countdown: Callable[[int], Callable[[], bool]],
) -> None:
    for time, after in ((None, 5), ("1d", 40)):  # 36 clips, then the pilot
        folder, settings = tmp_path / str(after), {**small, "time": time, "stopping": countdown(after)}
        with pytest.raises(Interrupted):
            run_search(toy(), space=toy_space, out=folder, cache=folder / "cache", **settings)
        assert settings["stopping"].left == -1  # not asked again
        assert (folder / "interim.csv").is_file()


class Told:
    """A reporter that keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def stage(self, title: str, total: int) -> None:
        assert total > 0

    def resize(self, left: int) -> None:
        assert left >= 0

    def advance(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


class Hesitant(SerialExecutor):
    """Takes all blocks that it can get before it runs the first: as many workers as there are blocks."""

    workers = 1000

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        waiting: list[Block] = []
        self.most = 0
        while True:
            while (block := feed()) is not None:
                waiting.append(block)
            if not waiting:
                return
            self.most = max(self.most, len(waiting))
            block = waiting.pop(0)
            for job in block.jobs:
                on_outcome(job, self.outcome(job, block.store))

    def outcome(self, job: Job, store: FeatureStore) -> Outcome:
        from mernas.evaluation.fitting import run_job

        return run_job(job, store)


def test_an_asynchronous_study_proposes_while_others_of_its_candidates_are_trained(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[int] = []

    class Watching(NestedSearch):
        def propose(self, study: str, number: int) -> Any:
            if study == FINAL and number > 0:
                seen.append(len(self._open[study]))
            return super().propose(study, number)

    plan = plan_search(toy(), toy_space, 3, None, "3k", "3k", trials=8, batch=3, seed=3, asynchronous=True)
    ledger = Ledger(tmp_path / "ledger.sqlite", plan.hash)
    search = Watching(plan, ledger, Hesitant(), tmp_path / "cache")
    search.search()
    assert len(seen) == 5
    assert set(seen) == {2}  # a place is filled as soon as it is free, while the two others still wait
    assert {len(search.record.candidates(study)) for study in plan.studies} == {8}
    ledger.close()


def test_a_synchronous_study_waits_for_its_own_batch_only(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    open_elsewhere: list[int] = []

    class Watching(NestedSearch):
        def propose(self, study: str, number: int) -> Any:
            assert self._open[study] == {}
            open_elsewhere.append(sum(len(own) for own in self._open.values()))
            return super().propose(study, number)

    plan = plan_search(toy(), toy_space, 3, None, "3k", "3k", trials=9, batch=3, seed=3)
    ledger = Ledger(tmp_path / "ledger.sqlite", plan.hash)
    search = Watching(plan, ledger, Hesitant(), tmp_path / "cache")
    search.search()
    assert max(open_elsewhere) > 0
    ledger.close()


def test_the_order_in_which_jobs_come_back_changes_no_result(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    class Backwards(Hesitant):
        def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
            def reversed_feed() -> Block | None:
                block = feed()
                return None if block is None else Block(block.jobs[::-1], block.store)

            super().run(reversed_feed, on_outcome, stopping)

    result = run_search(toy(), space=toy_space, out=tmp_path / "run", executor=Backwards(), **small)
    assert result.tables.choices.equals(finished.tables.choices)
    assert result.tables.predictions.equals(finished.tables.predictions)
