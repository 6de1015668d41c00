"""One conformance suite for all executors, and what only the parallel one can show. Ray is started once for all."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import run_job
from mernas.evaluation.folds_together import run_together
from mernas.evaluation.jobs import Job, Outcome, make_job
from mernas.evaluation.rows import number_rows
from mernas.search.dispatch import MOST_FAILURES, Dispatcher
from mernas.search.executor import Block, Executor, Interrupted, SerialExecutor, feed_of, in_blocks
from mernas.search.features import FeatureShelf
from mernas.search.ledger import Ledger
from mernas.search.nested import NestedSearch
from mernas.search.reporter import Silent
from mernas.search.results import trials_table
from mernas.search.run import SearchResult, run_search
from mernas.space.errors import RunError
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.registry import REGISTRY, Declaration

COMPONENTS = Path(__file__).with_name("worker_components")
MEMORY = 600_000_000
TEXT = """
streams: [{{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{{convolution: {{width: {width}}}}}]}}]
tasks: [emotion]
training: {{scratch: {{epochs: 1, batch: 16}}}}
loss: [{loss}]
"""


@pytest.fixture(scope="module")
def worker_components(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Declaration]]:
    """Let workers find the nasty losses; here they are known only to the tests that ask for them."""
    marker = tmp_path_factory.mktemp("marker") / "died"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(COMPONENTS), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("MERNAS_TEST_MARKER", str(marker))
        patch.syspath_prepend(str(COMPONENTS))
        nasty = importlib.import_module("nasty_losses")
        declarations = [REGISTRY.get("loss", name) for name in nasty.NAMES]
        for name in nasty.NAMES:
            REGISTRY.remove("loss", name)
        yield declarations
        del sys.modules["nasty_losses"]


@pytest.fixture
def nasty(worker_components: list[Declaration]) -> Iterator[None]:
    """The nasty losses are registered while a test runs that needs them: no other space may hold them."""
    for declaration in worker_components:
        REGISTRY.add(declaration)
    yield
    for declaration in worker_components:
        REGISTRY.remove("loss", declaration.name)


@pytest.fixture(scope="module")
def ray_here(worker_components: list[Declaration]) -> Iterator[None]:
    """Ray on two cores, started once for all tests of this module."""
    import ray

    import mernas.search.ray_executor  # noqa: F401  # sets Ray's environment before it starts

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024**2
    )
    yield
    ray.shutdown()


class RayExecutors:
    """Makes parallel executors, one at a time: two of them would wait for each other's cores."""

    def __init__(self) -> None:
        self._now: Executor | None = None
        self._changes: dict[str, Any] | None = None

    def shared(self, **changes: Any) -> Executor:
        """One executor for all tests that want it like this and leave it as it was, if they follow one another."""
        if self._now is None or self._changes != changes:
            self.fresh(**changes)
            self._changes = changes
        assert self._now is not None
        return self._now

    def fresh(self, **changes: Any) -> Executor:
        """An executor of the test's own; the one before is closed."""
        from mernas.search.ray_executor import RayExecutor

        self.close()
        self._now = RayExecutor(
            **{"workers": 2, "memory": MEMORY, "imports": ("nasty_losses",), "grace": 1.0} | changes
        )
        self._changes = None
        return self._now

    def close(self) -> None:
        if self._now is not None:
            self._now.close()
        self._now = None


@pytest.fixture(scope="module")
def ray_executors(ray_here: None) -> Iterator[RayExecutors]:
    executors = RayExecutors()
    yield executors
    executors.close()


@pytest.fixture
def shared(ray_executors: RayExecutors) -> Executor:
    return ray_executors.shared()


@pytest.fixture(params=["serial", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """The executors of the conformance suite."""
    if request.param == "serial":
        return SerialExecutor(MEMORY)
    found: Executor = request.getfixturevalue("shared")
    return found


class Jobs:
    """Makes jobs on toy data."""

    def __init__(self, data: Dataset, cache: Path) -> None:
        self.data = data
        self.book = number_rows(data, 0)
        self._shelf = FeatureShelf(data, self.book, cache, Silent())

    def genotype(self, loss: str = "cross_entropy", width: int = 2) -> Genotype:
        return parse_genotype(TEXT.format(loss=loss, width=width))

    def make(self, loss: str = "cross_entropy", width: int = 2, count: int = 4, seconds: float = 60.0) -> list[Job]:
        genotype = self.genotype(loss, width)
        folds = [(subject,) for subject in self.data.subjects[:count]]
        return [make_job(genotype, fold, self.book, 3, 0, seconds=seconds)[1] for fold in folds]

    def store(self, jobs: list[Job]) -> FeatureStore:
        return self._shelf.store([job.genotype for job in jobs])

    def blocks(self, jobs: list[Job]) -> list[Block]:
        return [Block(block, self.store(jobs)) for block in in_blocks(jobs)]


@pytest.fixture(scope="module")
def jobs(toy: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(toy(), tmp_path_factory.mktemp("cache"))


def never() -> bool:
    return False


def collect(executor: Executor, blocks: list[Block]) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}

    def arrived(job: Job, outcome: Outcome) -> None:
        assert job.key == outcome.key
        assert job.key not in found
        found[job.key] = outcome

    executor.run(feed_of(blocks), arrived, never)
    return found


def test_every_job_comes_back_once_with_the_bits_of_a_job_run_alone(executor: Executor, jobs: Jobs) -> None:
    made = [*jobs.make(width=2), *jobs.make(width=3), *jobs.make(width=4, count=1)]
    found = collect(executor, jobs.blocks(made))
    assert set(found) == {job.key for job in made}
    for job in made:
        alone = run_job(job, jobs.store(made))
        assert alone.probabilities is not None
        assert found[job.key].probabilities is not None
        assert np.array_equal(alone.probabilities, found[job.key].probabilities)  # type: ignore[arg-type]  # not None
        assert np.array_equal(alone.epoch_predictions, found[job.key].epoch_predictions)  # type: ignore[arg-type]  # dito
        assert found[job.key].seconds > 0
        assert ":" in found[job.key].host


def test_a_block_that_trains_together_comes_back_with_the_bits_of_a_batch_of_its_own(
    executor: Executor, jobs: Jobs
) -> None:
    made, single = jobs.make(width=3), jobs.make(width=2, count=1)
    store = jobs.store([*made, *single])
    found = collect(executor, [Block(tuple(made), store, together=True), Block(tuple(single), store)])
    assert set(found) == {job.key for job in [*made, *single]}
    for job, alone in zip(made, run_together(made, store), strict=True):
        assert alone.failure == found[job.key].failure == ""
        assert np.array_equal(alone.probabilities, found[job.key].probabilities)  # type: ignore[arg-type]  # not None


def test_an_executor_runs_again_and_may_have_nothing_to_do(executor: Executor, jobs: Jobs) -> None:
    assert collect(executor, []) == {}
    assert len(collect(executor, jobs.blocks(jobs.make()))) == 4
    assert len(collect(executor, jobs.blocks(jobs.make(width=3)))) == 4


def test_feed_and_outcomes_belong_to_the_callers_thread_and_outcomes_may_make_the_feed_richer(
    executor: Executor, jobs: Jobs
) -> None:
    waiting = jobs.blocks(jobs.make(width=2))
    later = jobs.blocks(jobs.make(width=3))
    threads, seen = set(), []

    def feed() -> Block | None:
        threads.add(threading.current_thread())
        return waiting.pop() if waiting else None

    def arrived(job: Job, outcome: Outcome) -> None:
        threads.add(threading.current_thread())
        seen.append(job.key)
        if len(seen) == 4:
            waiting.extend(later)

    executor.run(feed, arrived, never)
    assert len(seen) == 8
    assert threads == {threading.current_thread()}


@pytest.mark.usefixtures("nasty")
@pytest.mark.parametrize(
    ("loss", "failure", "seconds"),
    [
        ("not_a_number", "not-finite", 60.0),
        ("crashes", "crash: KeyError: 'surprise'", 60.0),
        ("eats_memory", "out-of-memory: an allocation was refused", 60.0),
        ("never_ends", "time-out: took longer than 0.5 s", 0.5),
    ],
)
def test_what_goes_wrong_is_named_and_the_next_job_is_unharmed(
    loss: str, failure: str, seconds: float, executor: Executor, jobs: Jobs
) -> None:
    bad, good = jobs.make(loss, count=1, seconds=seconds), jobs.make(count=2)
    found = collect(executor, jobs.blocks([*bad, *good]))
    assert found[bad[0].key].failure.startswith(failure)
    assert found[bad[0].key].probabilities is None
    assert [found[job.key].failure for job in good] == ["", ""]
    assert [found[job.key].probabilities.tobytes() for job in good] == [  # type: ignore[union-attr]  # it did not fail
        run_job(job, jobs.store(good)).probabilities.tobytes()  # type: ignore[union-attr]  # dito
        for job in good
    ]


def dispatch(executor: Executor, jobs: Jobs, made: list[Job]) -> tuple[dict[str, Outcome], list[str]]:
    recorded: dict[str, Outcome] = {}
    said: list[str] = []
    dispatcher = Dispatcher(executor, lambda job, outcome: recorded.update({job.key: outcome}), said.append)
    dispatcher.add(made, jobs.store(made))
    dispatcher.run(never)
    return recorded, said


def test_an_executor_that_serves_two_runs_trains_each_on_its_own_maps(
    executor: Executor, jobs: Jobs, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    collect(executor, jobs.blocks(jobs.make()))
    other = Jobs(toy(seed=5), tmp_path)  # other clips under the same recipe
    made = other.make()
    found = collect(executor, other.blocks(made))
    for job in made:
        alone = run_job(job, other.store(made))
        assert np.array_equal(alone.probabilities, found[job.key].probabilities)  # type: ignore[arg-type]  # not None


@pytest.mark.usefixtures("nasty")
@pytest.mark.parametrize("count", [3, 20])
def test_a_whole_batch_of_crashes_stops_the_run_and_what_the_user_stops_records_none_of_it(
    count: int, jobs: Jobs, countdown: Callable[[int], Callable[[], bool]]
) -> None:
    made = [job for width in range(2, 2 + count) for job in jobs.make("crashes", width=width, count=1)]
    recorded: list[Outcome] = []
    dispatcher = Dispatcher(SerialExecutor(), lambda job, outcome: recorded.append(outcome), lambda text: None)
    dispatcher.add(made, jobs.store(made))
    with pytest.raises(RunError if count == 3 else Interrupted):
        dispatcher.run(countdown(12))
    assert recorded == []


@pytest.mark.usefixtures("nasty")
def test_a_crash_is_tried_again_once_and_the_second_attempt_is_recorded(executor: Executor, jobs: Jobs) -> None:
    bad, good = jobs.make("crashes", count=1), jobs.make(count=1)
    recorded, said = dispatch(executor, jobs, [*bad, *good])
    assert recorded[bad[0].key].attempts == 2
    assert recorded[good[0].key].attempts == 1
    assert [line.partition(" ")[2].partition(":")[0] for line in said] == ["is tried again", "failed"]


@pytest.mark.usefixtures("nasty")
def test_numbers_that_are_not_finite_and_time_outs_are_not_tried_again(executor: Executor, jobs: Jobs) -> None:
    made = [*jobs.make("not_a_number", count=1), *jobs.make("never_ends", count=1, seconds=0.5)]
    recorded, _ = dispatch(executor, jobs, made)
    assert {outcome.attempts for outcome in recorded.values()} == {1}
    assert {outcome.failure_name for outcome in recorded.values()} == {"not-finite", "time-out"}


@pytest.mark.usefixtures("nasty")
def test_a_run_in_which_pipeline_after_pipeline_crashes_stops_and_records_none_of_it(jobs: Jobs) -> None:
    made = [job for width in range(2, 4 + MOST_FAILURES) for job in jobs.make("crashes", width=width, count=1)]
    recorded: list[Outcome] = []
    dispatcher = Dispatcher(SerialExecutor(), lambda job, outcome: recorded.append(outcome), lambda text: None)
    dispatcher.add(made, jobs.store(made))
    with pytest.raises(RunError, match=f"{MOST_FAILURES} pipelines failed one after the other.*surprise"):
        dispatcher.run(never)
    assert recorded == []


@pytest.mark.usefixtures("nasty")
def test_crashes_with_a_success_among_them_are_recorded_and_stop_nothing(jobs: Jobs) -> None:
    bad = [job for width in range(2, 4 + MOST_FAILURES) for job in jobs.make("crashes", width=width, count=1)]
    made = [*bad[:4], *jobs.make(count=1), *bad[4:]]
    recorded, _ = dispatch(SerialExecutor(), jobs, made)
    assert len(recorded) == len(made)


@pytest.mark.usefixtures("nasty")
def test_a_worker_that_is_killed_in_mid_job_costs_that_job_an_attempt_and_nothing_else(
    shared: Executor, jobs: Jobs
) -> None:
    bad, good = jobs.make("dies_once", count=3), jobs.make(count=3)
    recorded, said = dispatch(shared, jobs, [*bad, *good])
    assert Path(os.environ["MERNAS_TEST_MARKER"]).exists()
    assert {outcome.failure for outcome in recorded.values()} == {""}
    assert sorted(outcome.attempts for outcome in recorded.values()) == [1, 1, 1, 1, 1, 2]
    assert len(said) == 1
    assert "crash: its worker was lost" in said[0]
    # The loss is cross-entropy when it does not kill, and the seed is that of the key: nothing else can have changed.
    again = {job.key: run_job(job, jobs.store(bad)).probabilities for job in bad}
    assert all(np.array_equal(recorded[key].probabilities, again[key]) for key in again)  # type: ignore[arg-type]  # not None


@pytest.mark.usefixtures("nasty")
def test_a_candidate_that_kills_its_worker_again_and_again_is_recorded_as_a_crash(shared: Executor, jobs: Jobs) -> None:
    bad, good = jobs.make("dies", count=1), jobs.make(count=2)
    recorded, _ = dispatch(shared, jobs, [*bad, *good])
    assert recorded[bad[0].key].failure == "crash: its worker was lost"
    assert recorded[bad[0].key].attempts == 2
    assert [recorded[job.key].failure for job in good] == ["", ""]


@pytest.mark.usefixtures("nasty")
def test_a_candidate_that_hears_no_alarm_is_ended_with_its_worker(shared: Executor, jobs: Jobs) -> None:
    bad, good = jobs.make("hangs", count=1, seconds=4.0), jobs.make(count=2)
    recorded, _ = dispatch(shared, jobs, [*bad, *good])
    assert recorded[bad[0].key].failure == "time-out: took longer than 4 s and heard no alarm"
    assert [recorded[job.key].failure for job in good] == ["", ""]


def test_workers_map_the_features_without_copying_and_cannot_write_to_them(ray_here: None) -> None:
    import ray

    from mernas.search.ray_worker import _mapped

    array = np.arange(3_000_000, dtype=np.float32).reshape(1000, 3, 1000, 1)
    reference = ray.put(array)
    first, second = _mapped([reference])[0], _mapped([reference])[0]
    assert first.data_ptr() == second.data_ptr()
    assert np.array_equal(first.numpy(), array)
    assert not ray.get(reference).flags.writeable


def test_a_finished_block_leaves_nothing_in_the_object_store_but_maps(shared: Any, jobs: Jobs) -> None:
    collect(shared, jobs.blocks(jobs.make()))
    assert shared._blocks == {}
    assert shared._contents == {}
    assert len(shared._maps) == 1


PIPELINE_OF_RECIPE = """
streams: [{{input: {{optical_flow: {{estimator: given, size: {}, centre: {}, quantities: {}}}}}}}]
classifier: {{majority: {{}}}}
"""


def jobs_of_many_recipes(jobs: Jobs) -> list[Job]:
    """Jobs that cost nothing, each of a recipe of its own, those with the largest maps first."""
    made = []
    for size in (112, 84, 64, 60, 56):
        for centre in ("none", "median"):
            for quantities in ("u+v+strain", "u+v", "strain"):
                genotype = parse_genotype(PIPELINE_OF_RECIPE.format(size, centre, quantities))
                made.append(make_job(genotype, jobs.data.subjects[:1], jobs.book, 3, 0, seconds=60.0)[1])
    return made


def test_the_object_store_lets_go_of_maps_that_no_block_under_way_needs(
    jobs: Jobs, ray_executors: RayExecutors
) -> None:
    import ray

    large, small = jobs_of_many_recipes(jobs)[:-6], jobs_of_many_recipes(jobs)[-6:]
    made, most = [*small, *large], 5_000_000
    before = ray.available_resources()["object_store_memory"]
    executor: Any = ray_executors.fresh(most=most)
    found: dict[str, Outcome] = {}
    blocks = (block for job in made for block in jobs.blocks([job]))
    every = sum(job_maps(jobs, job) for job in made)
    under_way = 5 * max(job_maps(jobs, job) for job in made)  # two for each worker, and the one that is handed out

    def arrived(job: Job, outcome: Outcome) -> None:
        found[job.key] = outcome
        assert executor._maps.size <= most + under_way

    executor.run(feed_of(blocks), arrived, never)
    for job in made:
        assert np.array_equal(found[job.key].probabilities, run_job(job, jobs.store([job])).probabilities)  # type: ignore[arg-type]  # not None
    # The last blocks' maps are in use to the end. Those of the blocks that workers were started with stay with them.
    bound = most + sum(job_maps(jobs, job) for job in (*small, *large[-6:]))
    used, until = every, time.monotonic() + 20
    while used > bound and time.monotonic() < until:  # Ray hears of it after a while
        time.sleep(0.2)
        used = before - ray.available_resources().get("object_store_memory", 0.0)
    assert used <= bound < every / 2


def job_maps(jobs: Jobs, job: Job) -> int:
    """The bytes of a job's maps."""
    return sum(maps.nbytes for maps in jobs.store([job]).maps.values())


def test_a_block_keeps_its_maps_when_the_driver_has_let_go_of_them(jobs: Jobs, ray_executors: RayExecutors) -> None:
    import ray

    executor: Any = ray_executors.fresh(most=0)
    first, *others = jobs_of_many_recipes(jobs)[-6:]
    (block,) = jobs.blocks([first])
    parcel = ray.put(executor._packed(block))
    for job in others:  # no block is under way, so that each takes the place of the one before
        executor._packed(jobs.blocks([job])[0])
    assert len(executor._maps) == 1
    (maps,) = jobs.store([first]).maps.values()
    (reference,) = ray.get(parcel).maps.values()
    assert np.array_equal(ray.get(reference, timeout=10), maps.numpy())


def test_a_worker_holds_no_maps_but_those_of_its_block(jobs: Jobs, ray_executors: RayExecutors) -> None:
    import ray

    from mernas.search.ray_worker import BlockTrainable, Parcel

    executor: Any = ray_executors.fresh(imports=())
    packed = [executor._packed(jobs.blocks([job])[0]) for job in jobs_of_many_recipes(jobs)[-3:]]
    threads = torch.get_num_threads()
    worker = BlockTrainable({"parcel": Parcel(ray.put(packed[0]))})
    for content in packed:
        worker.reset_config({"parcel": Parcel(ray.put(content))})
        assert set(worker._maps) == set(content.maps)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["serial", "ray"])
def test_stopping_finishes_the_jobs_under_way_and_hands_them_back(
    kind: str, jobs: Jobs, ray_executors: RayExecutors
) -> None:
    executor = SerialExecutor() if kind == "serial" else ray_executors.fresh()
    made = [job for width in range(2, 14) for job in jobs.make(width=width, count=6)]
    found: list[str] = []
    with pytest.raises(Interrupted):
        executor.run(
            feed_of(jobs.blocks(made)), lambda job, outcome: found.append(outcome.failure), lambda: len(found) >= 3
        )
    assert 3 <= len(found) < 20
    assert set(found) == {""}


@pytest.mark.parametrize("kind", ["serial", "ray"])
def test_what_a_caller_raises_passes_through(kind: str, jobs: Jobs, ray_executors: RayExecutors) -> None:
    executor = SerialExecutor() if kind == "serial" else ray_executors.fresh()

    def arrived(job: Job, outcome: Outcome) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        executor.run(feed_of(jobs.blocks(jobs.make())), arrived, never)


def tables(folder: Path) -> dict[str, bytes]:
    names = ("front.csv", "rules.csv", "choices.csv", "predictions.csv", "trials.csv", "baselines.csv", "scores.csv")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_tables_on_any_number_of_workers(
    workers: int,
    finished: SearchResult,
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path: Path,
    ray_executors: RayExecutors,
) -> None:
    executor = ray_executors.shared(workers=workers, memory=None)
    run_search(toy(), space=toy_space, out=tmp_path / "run", executor=executor, **small)
    assert tables(tmp_path / "run") == tables(finished.folder)


def test_a_race_on_two_workers_stops_the_same_candidates_at_the_same_folds(
    raced: SearchResult, tmp_path: Path, ray_executors: RayExecutors
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", raced.plan.hash)
    search = NestedSearch(raced.plan, ledger, ray_executors.shared(workers=2, memory=None), tmp_path / "cache")
    search.search()
    pd.testing.assert_frame_equal(trials_table(raced.plan, search.record), raced.tables.trials)
    assert (raced.tables.trials["state"] == "stopped").any()
    ledger.close()


def test_a_worker_that_cannot_import_what_it_should_is_one_clear_error(jobs: Jobs, ray_executors: RayExecutors) -> None:
    with pytest.raises(RunError, match="no_such_module"):
        collect(ray_executors.fresh(imports=("no_such_module",)), jobs.blocks(jobs.make()))


@pytest.mark.usefixtures("nasty")
def test_what_ray_tune_prints_does_not_reach_the_screen(
    jobs: Jobs, ray_executors: RayExecutors, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    executor = ray_executors.fresh(log=tmp_path / "log.txt")
    print("before")
    collect(executor, jobs.blocks(jobs.make("dies", count=1)))
    print("after")
    ray_executors.close()
    shown = capfd.readouterr()
    assert shown.out == "before\nafter\n"
    assert "Traceback" not in shown.err
    assert "ActorDiedError" in (tmp_path / "log.txt").read_text()


def test_attempts_are_part_of_the_job_that_travels(jobs: Jobs) -> None:
    (job,) = jobs.make(count=1)
    assert run_job(replace(job, attempt=2), jobs.store([job])).attempts == 2


@pytest.mark.usefixtures("nasty")
def test_sigterm_is_left_alone_by_a_job(jobs: Jobs) -> None:
    before = signal.getsignal(signal.SIGALRM)
    run_job(jobs.make("never_ends", count=1, seconds=0.2)[0], jobs.store(jobs.make()))
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
