"""Racing: which fold stops a candidate, whatever else is known; what samplers, rules and resuming make of it."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import Job, Outcome
from mernas.evaluation.picking import Candidate, parse_rule
from mernas.search.choosing import choose
from mernas.search.dispatch import Dispatcher
from mernas.search.executor import Block, Executor, Feed, SerialExecutor
from mernas.search.export import find_row
from mernas.search.finished import open_run
from mernas.search.ledger import ACCEPTED, DUPLICATE, Draw, Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import Plan, Settings
from mernas.search.printing import headline
from mernas.search.queues import RaceQueue
from mernas.search.racing import Verdict, front_of
from mernas.search.record import Record
from mernas.search.results import trials_table
from mernas.search.run import SearchResult, plan_search
from mernas.search.sampling import next_batch, rebuild
from mernas.space.errors import PlanError
from mernas.space.genotype import Genotype
from mernas.space.suggestion import RandomTrial

STUDY = "0"
RIGHT, WRONG = 1.0, 0.0


@pytest.fixture
def plan(many: Dataset, toy_space: Path) -> Plan:
    """Four groups, so that a study has three folds of seven or eight subjects, and the final one has four."""
    return plan_search(many, toy_space, 4, None, "3k", "3k", trials=8, batch=2, seed=1, racing=True)


class Planted:
    """A ledger whose candidates are right as often as a test wants, without any training."""

    def __init__(self, plan: Plan, path: Path) -> None:
        self.plan = plan
        self.ledger = Ledger(path, plan.hash)
        self._made = 0

    def propose(self, study: str, batch: int, parameters: int) -> Genotype:
        """Add an accepted draw of a new pipeline."""
        genotype = self.plan.space.suggest(RandomTrial(f"planted {self._made}"))
        number = len(self.ledger.draws(study))
        draw = Draw(study, number, batch, number % 2, ACCEPTED, "random", genotype.hash, parameters, {})
        self.ledger.add_batch([draw], [(genotype, parameters)])
        self._made += 1
        return genotype

    def finish(self, study: str, genotype: Genotype, folds: Mapping[int, float | None], seed: int = 0) -> None:
        """Record the jobs of some folds with a share of right predictions, or None for a failure."""
        book = self.plan.book
        left = self.plan.inner_left_out(study)
        for fold, share in folds.items():
            key = Record(self.plan, self.ledger).job_key(genotype.hash, left[fold][1])
            rows = book.rows_of(left[fold][1])
            chance = np.random.default_rng([seed, fold]).random(len(rows))
            said = np.where(chance < (share or 0.0), book.labels[rows], (book.labels[rows] + 1) % 3)
            outcome = Outcome(
                key.hash, np.eye(3)[said] if share is not None else None, failure="" if share is not None else "crash"
            )
            read = [subject for subject in self.plan.partition.subjects if subject not in left[fold][1]]
            self.ledger.add_job(key, outcome, rows, read)

    def verdict(self, study: str, genotype: Genotype) -> Verdict | None:
        """What a reader who knows nothing but the file says; None if it cannot be said yet."""
        try:
            return Record(self.plan, self.ledger).verdict(study, genotype.hash)
        except LookupError:
            return None


@pytest.fixture
def planted(plan: Plan, tmp_path: Path) -> Iterator[Planted]:
    found = Planted(plan, tmp_path / "planted.sqlite")
    yield found
    found.ledger.close()


@pytest.fixture
def good(planted: Planted) -> Genotype:
    """A member of the front of the first batch: always right."""
    genotype = planted.propose(STUDY, 0, 900)
    planted.finish(STUDY, genotype, {0: RIGHT, 1: RIGHT, 2: RIGHT})
    return genotype


# Which fold decides


def test_a_clearly_bad_candidate_is_stopped_as_soon_as_ten_subjects_are_scored(
    planted: Planted, good: Genotype
) -> None:
    bad = planted.propose(STUDY, 1, 1000)
    assert planted.verdict(STUDY, bad) is None
    planted.finish(STUDY, bad, {0: WRONG})
    assert planted.verdict(STUDY, bad) is None  # seven or eight subjects are too few
    planted.finish(STUDY, bad, {1: WRONG})
    assert planted.verdict(STUDY, bad) == Verdict("stopped", 2)


def test_a_candidate_that_equals_the_front_is_not_stopped(planted: Planted, good: Genotype) -> None:
    equal = planted.propose(STUDY, 1, 1000)
    planted.finish(STUDY, equal, {0: RIGHT, 1: RIGHT})
    assert planted.verdict(STUDY, equal) is None
    planted.finish(STUDY, equal, {2: RIGHT})
    assert planted.verdict(STUDY, equal) == Verdict("completed", 3)


def test_nobody_is_stopped_after_the_last_fold_where_nothing_is_left_to_save(planted: Planted, good: Genotype) -> None:
    late = planted.propose(STUDY, 1, 1000)
    planted.finish(STUDY, late, {0: RIGHT, 1: RIGHT, 2: WRONG})
    assert planted.verdict(STUDY, late) == Verdict("completed", 3)


def test_fewer_than_ten_subjects_stop_nobody(many: Dataset, toy_space: Path, tmp_path: Path) -> None:
    wide = plan_search(many, toy_space, 10, None, "3k", "3k", trials=8, batch=2, seed=1, racing=True)
    planted = Planted(wide, tmp_path / "wide.sqlite")
    folds = wide.inner_left_out(STUDY)
    good, bad = planted.propose(STUDY, 0, 900), planted.propose(STUDY, 1, 1000)
    planted.finish(STUDY, good, dict.fromkeys(range(len(folds)), RIGHT))
    scored = 0
    for number, (group, _) in enumerate(folds):
        planted.finish(STUDY, bad, {number: WRONG})
        scored += len(wide.partition.groups[group])
        if scored >= 10:
            break
        assert planted.verdict(STUDY, bad) is None
    assert number > 1
    assert planted.verdict(STUDY, bad) == Verdict("stopped", number + 1)
    planted.ledger.close()


def test_a_class_that_is_not_scored_yet_stops_nobody(plan: Plan, planted: Planted, good: Genotype) -> None:
    bad = planted.propose(STUDY, 1, 1000)
    planted.finish(STUDY, bad, {0: WRONG, 1: WRONG})
    first = {subject for group, _ in plan.inner_left_out(STUDY)[:2] for subject in plan.partition.groups[group]}
    labels = plan.book.labels.copy()
    labels[[row for row, name in enumerate(plan.book.subjects) if name in first and labels[row] == 2]] = 1
    lacking = replace(plan, book=replace(plan.book, labels=labels))
    with pytest.raises(LookupError, match="unfinished"):
        Record(lacking, planted.ledger).verdict(STUDY, bad.hash)
    assert Record(plan, planted.ledger).verdict(STUDY, bad.hash) == Verdict("stopped", 2)


def test_a_member_of_more_parameters_stops_nobody(planted: Planted, good: Genotype) -> None:
    smaller, as_large = planted.propose(STUDY, 1, 899), planted.propose(STUDY, 1, 900)
    for one in (smaller, as_large):
        planted.finish(STUDY, one, {0: WRONG, 1: WRONG, 2: WRONG})
    assert planted.verdict(STUDY, smaller) == Verdict("completed", 3)
    assert planted.verdict(STUDY, as_large) == Verdict("stopped", 2)


def test_the_front_is_that_of_earlier_batches_of_the_same_study(planted: Planted, good: Genotype) -> None:
    beside = planted.propose(STUDY, 0, 1000)
    elsewhere = planted.propose("1", 0, 1000)
    planted.finish(STUDY, beside, {0: WRONG, 1: WRONG, 2: WRONG})
    planted.finish("1", elsewhere, {0: WRONG, 1: WRONG, 2: WRONG})
    assert planted.verdict(STUDY, beside) == Verdict("completed", 3)
    assert planted.verdict("1", elsewhere) == Verdict("completed", 3)


def test_jobs_that_are_there_too_early_or_come_later_change_nothing(planted: Planted, good: Genotype) -> None:
    """The other folds are better than the front; whoever looked at them would not stop it, or would at another fold."""
    before, after, never = (planted.propose(STUDY, 1, 1000) for _ in range(3))
    planted.finish(STUDY, before, {2: RIGHT})
    for one in (before, after, never):
        planted.finish(STUDY, one, {0: WRONG, 1: WRONG})
    one_reader = Record(planted.plan, planted.ledger)
    early = one_reader.verdict(STUDY, after.hash)
    planted.finish(STUDY, after, {2: RIGHT})
    assert one_reader.verdict(STUDY, after.hash) == early
    assert {planted.verdict(STUDY, one) for one in (before, after, never)} == {Verdict("stopped", 2)}


def test_the_first_failed_fold_decides_unless_the_race_was_lost_before(planted: Planted, good: Genotype) -> None:
    failing, stopped, waiting = (planted.propose(STUDY, 1, 1000) for _ in range(3))
    planted.finish(STUDY, failing, {0: WRONG, 1: None, 2: WRONG})
    planted.finish(STUDY, stopped, {0: WRONG, 1: WRONG, 2: None})
    planted.finish(STUDY, waiting, {0: RIGHT, 2: None})  # the fold between them is not there yet
    assert planted.verdict(STUDY, failing) == Verdict("failed", 2)
    assert planted.verdict(STUDY, stopped) == Verdict("stopped", 2)
    assert planted.verdict(STUDY, waiting) is None


def test_without_a_race_every_fold_is_awaited(planted: Planted, good: Genotype) -> None:
    bad = planted.propose(STUDY, 1, 1000)
    planted.finish(STUDY, bad, {0: WRONG, 1: WRONG})
    calm = replace(planted.plan, settings=replace(planted.plan.settings, racing=False))
    with pytest.raises(LookupError):
        Record(calm, planted.ledger).verdict(STUDY, bad.hash)
    planted.finish(STUDY, bad, {2: WRONG})
    assert Record(calm, planted.ledger).verdict(STUDY, bad.hash) == Verdict("completed", 3)


def test_no_rule_chooses_a_stopped_candidate_even_if_all_its_jobs_are_there(plan: Plan, planted: Planted) -> None:
    """Its last folds are so good that it would be the best of its study; and the sampler does not hear of them."""
    chosen = {}
    for study in plan.studies:
        folds = len(plan.inner_left_out(study))
        fair, late = planted.propose(study, 0, 900), planted.propose(study, 1, 900)
        planted.finish(study, fair, dict.fromkeys(range(folds), 0.6))
        planted.finish(study, late, {number: WRONG if number < 2 else RIGHT for number in range(folds)})
        chosen[study] = fair.hash
    record = Record(plan, planted.ledger)
    found = choose(plan, record)
    for row in (*found.single, *found.rules):
        assert {study: choice.genotype for study, choice in row.choices.items()} == chosen
    trials = trials_table(plan, record)
    assert set(trials[trials["batch"] == 1]["state"]) == {"stopped"}
    assert trials[trials["batch"] == 1]["inner_uf1"].isna().all()
    assert set(trials[trials["batch"] == 1]["folds"]) == {2}


def test_fronts_hold_what_nobody_dominates() -> None:
    made = [Candidate("a", 100, 0.5), Candidate("b", 200, 0.5), Candidate("c", 200, 0.7), Candidate("d", 100, 0.5)]
    made += [Candidate("e", 300, 0.6), Candidate("f", 50, 0.9, completed=False), Candidate("g", 400, 0.7 + 1e-16)]
    assert [one.genotype for one in front_of(made)] == ["a", "c", "d"]


def test_racing_is_in_the_plan_and_its_hash_and_excludes_asynchrony(plan: Plan, many: Dataset, toy_space: Path) -> None:
    asked: dict[str, Any] = {"trials": 8, "batch": 2, "seed": 1}
    calm = plan_search(many, toy_space, 4, None, "3k", "3k", **asked)
    assert plan.description["search"]["racing"] == {"better_in": 0.99, "resamples": 1000, "subjects": 10}
    assert calm.description["search"]["racing"] is False
    assert plan.hash != calm.hash
    (problem,) = Settings(racing=True, asynchronous=True).problems()
    assert "--race" in str(problem)


def test_the_printed_plan_and_the_command_that_repeats_a_run_say_whether_candidates_race(
    plan: Plan, many: Dataset, toy_space: Path, raced: SearchResult
) -> None:
    calm = plan_search(many, toy_space, 4, None, "3k", "3k", trials=8, batch=2, seed=1)
    assert "racing on" in headline(plan, Path("run"))
    assert "racing off" in headline(calm, Path("run"))
    with pytest.raises(PlanError, match=r"makes one: mernas search .* --race"):
        find_row(open_run(raced.folder), parse_rule("<=2k"))


# What samplers are told


@pytest.mark.parametrize("name", ["tpe", "nsga2", "evolution"])
def test_a_stopped_candidate_is_told_as_pruned_and_so_is_its_duplicate(
    name: str, many: Dataset, toy_space: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"trials": 8, "batch": 2, "seed": 1, "sampler": name, "racing": True}
    plan = plan_search(many, toy_space, 4, None, "3k", "3k", **asked)
    planted = Planted(plan, tmp_path / "told.sqlite")
    good, bad = planted.propose(STUDY, 0, 900), planted.propose(STUDY, 1, 1000)
    planted.finish(STUDY, good, dict.fromkeys(range(3), RIGHT))
    planted.finish(STUDY, bad, {0: WRONG, 1: WRONG})
    record = Record(plan, planted.ledger)
    told = rebuild(plan, record, STUDY, 2, planted.ledger.draws(STUDY)).get_trials()
    assert [trial.state.name for trial in told] == ["COMPLETE", "PRUNED"]
    assert told[1].values is None

    class Stubborn:
        """A space that proposes the stopped candidate once more before it proposes anything else."""

        left = 1

        def suggest(self, trial: Any) -> Genotype:
            fresh = plan.space.suggest(trial)
            self.left -= 1
            return bad if self.left >= 0 else fresh

        def __getattr__(self, attribute: str) -> Any:
            return getattr(plan.space, attribute)

    stubborn: Any = Stubborn()
    tells: list[optuna.trial.TrialState | None] = []
    with pytest.MonkeyPatch.context() as patch:
        original = optuna.Study.tell

        def tell(self: Any, trial: Any, **named: Any) -> Any:
            tells.append(named.get("state"))
            return original(self, trial, **named)

        patch.setattr(optuna.Study, "tell", tell)
        draws, _ = next_batch(replace(plan, space=stubborn), record, STUDY, 2, lambda genotype: 500)
    assert draws[0].state == DUPLICATE
    assert tells[0] == optuna.trial.TrialState.PRUNED
    assert [draw.state for draw in draws[1:]].count(ACCEPTED) == 2
    planted.ledger.close()


def test_the_parzen_estimator_takes_pruned_trials_for_bad_ones_whatever_their_size() -> None:
    """The better way to tell it: as failed it would forget them, and with a low score a small one may count as good."""

    def share(state: str) -> float:
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=0, seed=0)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        split = optuna.distributions.CategoricalDistribution(["plain", "bad"])
        width = optuna.distributions.FloatDistribution(0.0, 1.0)
        generator = np.random.default_rng(0)
        for number in range(60):
            bad = number % 2 == 1
            place = float(generator.random())
            values = [0.2 if bad else 0.5 + 0.1 * place, 2.0 if bad else 3.0 + place]  # what is bad is small as well
            told: dict[str, Any] = {"values": values}
            if bad and state != "COMPLETE":
                told = {"state": optuna.trial.TrialState[state]}
            trial = optuna.trial.create_trial(
                params={"split": "bad" if bad else "plain", "width": place},
                distributions={"split": split, "width": width},
                **told,
            )
            study.add_trial(trial)
        asked = [study.ask({"split": split, "width": width}).params["split"] for _ in range(100)]
        return asked.count("bad") / 100

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruned, failed, complete = share("PRUNED"), share("FAIL"), share("COMPLETE")
    assert pruned < failed
    assert pruned < complete


# Which job is next


class Bare:
    """As much of a job, or of a pipeline, as a queue looks at."""

    attempt = 1

    def __init__(self, name: str, genotype: str = "") -> None:
        self.key = self.hash = name
        self.genotype: Any = Bare(genotype) if genotype else None


def bare_jobs(genotype: str, *keys: str) -> Any:
    return [Bare(key, genotype) for key in keys]


def drained(queue: RaceQueue, speculative: bool = False) -> list[str]:
    found = []
    while (block := queue.next_speculative() if speculative else queue.next()) is not None:
        found += [job.key for job in block.jobs]
    return found


def test_the_next_job_is_the_first_fold_that_a_study_has_not_seen() -> None:
    undecided = {"0": {"a": ["a1", "a2"], "b": ["b1", "b2", "b3"]}, "1": {"a": ["a2", "a4"]}}
    queue = RaceQueue(undecided)
    store: Any = None
    queue.add([*bare_jobs("a", "a1", "a2", "a4"), *bare_jobs("b", "b1", "b2", "b3")], store, None)
    assert drained(queue) == [
        "b1",
        "a1",
        "a2",
    ]  # those with the most folds to come first; a2 is the other study's first
    undecided["0"]["b"].remove("b1")
    assert drained(queue) == ["b2"]
    assert drained(queue, speculative=True) == ["b3", "a4"]  # what is left, for a worker that would be idle
    assert drained(queue) == []


def test_jobs_of_a_decided_candidate_are_withdrawn_unless_another_study_needs_them() -> None:
    undecided = {"0": {"a": ["a2", "a3"]}, "1": {"a": ["a3", "a4"]}}
    queue = RaceQueue(undecided)
    store: Any = None
    queue.add(bare_jobs("a", "a2", "a3", "a4"), store, None)
    del undecided["0"]["a"]
    assert list(queue.withdraw("a")) == ["a2"]
    assert drained(queue) == ["a3"]
    del undecided["1"]["a"]
    assert list(queue.withdraw("a")) == ["a4"]
    assert drained(queue, speculative=True) == []


class Taking:
    """An executor that takes all that it is given before anything comes back."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.taken: list[list[str]] = []

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        while True:
            blocks = []
            while (block := feed()) is not None:
                blocks.append(block)
            if not blocks:
                return
            self.taken.append([job.key for block in blocks for job in block.jobs])
            for block in blocks:
                for job in block.jobs:
                    on_outcome(job, Outcome(job.key, np.eye(3)))

    def close(self) -> None:
        """There is nothing to let go of."""


@pytest.mark.parametrize(("workers", "first"), [(1, ["a1"]), (3, ["a1", "a2", "a3"])])
def test_only_workers_that_would_be_idle_are_given_what_may_be_in_vain(workers: int, first: list[str]) -> None:
    undecided = {"0": {"a": ["a1", "a2", "a3", "a4", "a5"]}}
    executor: Any = Taking(workers)
    store: Any = None

    def record(job: Job, outcome: Outcome) -> None:
        undecided["0"]["a"].remove(job.key)

    dispatcher = Dispatcher(executor, record, lambda text: None, queue=RaceQueue(undecided))
    assert dispatcher.add(bare_jobs("a", *undecided["0"]["a"]), store) == 5
    dispatcher.run(lambda: False)
    assert executor.taken[0] == first
    assert [key for taken in executor.taken for key in taken] == ["a1", "a2", "a3", "a4", "a5"]


def test_a_job_that_was_withdrawn_is_trained_if_another_study_asks_for_it_later() -> None:
    undecided: dict[str, dict[str, list[str]]] = {"0": {"a": ["a1", "a2"]}, "1": {}}
    executor: Any = Taking(1)
    store: Any = None

    def record(job: Job, outcome: Outcome) -> None:
        for own in undecided.values():
            own.pop("a", None)  # decided

    asked = iter(["a2"])

    def more(dispatcher: Dispatcher) -> None:
        if dispatcher.under_way:
            return
        for key in asked:
            undecided["1"]["a"] = [key]
            assert dispatcher.add(bare_jobs("a", key), store) == 1

    dispatcher = Dispatcher(executor, record, lambda text: None, more, RaceQueue(undecided))
    dispatcher.add(bare_jobs("a", "a1", "a2"), store)
    dispatcher.run(lambda: False)
    assert executor.taken == [["a1"], ["a2"]]


# Whole searches


def trained(ledger: Path) -> set[str]:
    return {row[0] for row in sqlite3.connect(ledger).execute("SELECT key FROM jobs")}


class Eager:
    """Takes all blocks that it can get before it runs the first, and runs the last first, as many workers might."""

    workers = 1000

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        waiting: list[Block] = []
        while True:
            while (block := feed()) is not None:
                waiting.append(block)
            if not waiting:
                return
            block = waiting.pop()
            for job in block.jobs:
                on_outcome(job, run_job(job, block.store))

    def close(self) -> None:
        """There is nothing to let go of."""


def search(plan: Plan, folder: Path, executor: Executor) -> tuple[pd.DataFrame, set[str], set[str]]:
    """The trials of a search without its outer test, the jobs trained, and those that decided something."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder / "ledger.sqlite", plan.hash)
    found = NestedSearch(plan, ledger, executor, folder.parent / "cache")
    found.search()
    table = trials_table(plan, found.record)
    needed = set()
    for study in plan.studies:
        left = plan.inner_left_out(study)
        for draw in found.record.proposals(study):
            folds = found.record.verdict(study, draw.genotype or "").folds
            needed |= {found.record.job_key(draw.genotype or "", one).hash for _, one in left[:folds]}
    ledger.close()
    return table, trained(folder / "ledger.sqlite"), needed


def test_one_worker_trains_exactly_the_jobs_that_decide_and_many_workers_give_the_same_trials(
    raced: SearchResult, many: Dataset, toy_space: Path, raced_settings: dict[str, Any], tmp_path: Path
) -> None:
    plan = raced.plan
    alone, jobs, needed = search(plan, tmp_path / "alone", SerialExecutor())
    assert (alone["state"] == "stopped").sum() > 5
    assert jobs == needed
    eager, more, same = search(plan, tmp_path / "eager", Eager())
    pd.testing.assert_frame_equal(alone, eager)
    pd.testing.assert_frame_equal(alone, raced.tables.trials)
    assert same == needed
    assert more > needed  # what idle workers trained in vain, and what changed nothing


def test_a_race_trains_less_than_a_search_without_one(raced: SearchResult, tmp_path: Path) -> None:
    settings = replace(raced.plan.settings, racing=False)
    calm = replace(raced.plan, settings=settings)
    table, jobs, needed = search(calm, tmp_path / "calm", SerialExecutor())
    assert jobs == needed
    assert (table["state"] != "stopped").all()
    of_race = sqlite3.connect(raced.folder / "ledger.sqlite").execute(
        "SELECT count(*) FROM jobs JOIN genotypes ON genotype = hash WHERE kind = 'network'"
        " AND json_array_length(left_out) > 1"
    )
    assert of_race.fetchone()[0] < len(jobs)


def test_the_same_seed_gives_the_same_trials_twice(raced: SearchResult, tmp_path: Path) -> None:
    (first, some, _), (second, others, _) = (search(raced.plan, tmp_path / name, SerialExecutor()) for name in "ab")
    pd.testing.assert_frame_equal(first, second)
    assert some == others


CHILD = """
import importlib.util, json, os, signal, sys
from pathlib import Path

conftest, space, folder, settings, nth, what, when = sys.argv[1:8]
spec = importlib.util.spec_from_file_location("toy", conftest)
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

from mernas.search.executor import SerialExecutor
from mernas.search.ledger import Ledger
from mernas.search.nested import NestedSearch
from mernas.search.run import plan_search

original, calls = getattr(Ledger, what), 0

def wrapped(*arguments, **named):
    global calls
    calls += 1
    if calls == int(nth) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*arguments, **named)
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)

setattr(Ledger, what, wrapped)
settings = json.loads(settings)
settings.pop("workers")
plan = plan_search(toy.make_toy(subjects=30, clips=3), space, **settings)
Path(folder).mkdir()
ledger = Ledger(Path(folder) / "ledger.sqlite", plan.hash)
NestedSearch(plan, ledger, SerialExecutor(), Path(folder).parent / "cache").search()
"""
MOMENTS = [
    (12, "add_job", "after"),  # among the candidates of the first batch, which cannot be stopped
    (23, "add_job", "before"),  # a job of a later batch has just finished and is not written
    (31, "add_job", "after"),  # written, but what it decides has not been acted on
    (6, "add_batch", "after"),  # between the proposals of two studies
]


@pytest.mark.parametrize(("nth", "what", "when"), MOMENTS)
def test_a_race_that_was_killed_resumes_to_the_same_trials_and_jobs(
    nth: int,
    what: str,
    when: str,
    raced: SearchResult,
    toy_space: Path,
    raced_settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    folder = tmp_path / "killed"
    arguments = [conftest, toy_space, folder, json.dumps(raced_settings), nth, what, when]
    killed = subprocess.run([sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    before = trained(folder / "ledger.sqlite")
    table, jobs, needed = search(raced.plan, folder, SerialExecutor())
    pd.testing.assert_frame_equal(table, raced.tables.trials)
    assert jobs == needed
    assert before < jobs


def test_failures_are_recorded_even_if_every_worker_waits_for_them(raced: SearchResult, tmp_path: Path) -> None:
    """A candidate all of whose trainings crash is failed after its first fold, and its others are not tried."""
    settings = replace(raced.plan.settings, trials=4, batch=4)
    plan = replace(raced.plan, settings=settings)
    unlucky: list[str] = []

    class Crashing(SerialExecutor):
        def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
            while (block := feed()) is not None:
                for job in block.jobs:
                    if not unlucky:
                        unlucky.append(job.genotype.hash)
                    on_outcome(job, self.outcome(job, block.store))

        def outcome(self, job: Job, store: FeatureStore) -> Outcome:
            if job.genotype.hash == unlucky[0]:
                return Outcome(job.key, None, failure="crash: made up", attempts=job.attempt)
            return run_job(job, store)

    table, jobs, needed = search(plan, tmp_path / "run", Crashing())
    mine = table[table["genotype"] == unlucky[0]]
    assert set(mine["state"]) == {"failed"}
    assert set(mine["folds"]) == {1}
    assert jobs == needed
