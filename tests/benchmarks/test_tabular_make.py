"""The table: drawn and trained once, whatever interrupts it and however many processes train."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tabular_make
from samplers import SPACE, TABLE
from tabular.drawing import BY_SIZE, OCTAVES, UNIFORM, draw, octave
from tabular.store import Store
from tabular.table import BUILD_FAILURE, Result, answers_of, failed, genotypes_of, read_table, write_table
from tabular.workers import train_all
from tabular_make import Protocol, make_table, scored

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.jobs import Outcome
from mernas.search.plan import plain_hash
from mernas.space.genotype import Genotype
from mernas.space.restriction import load_space
from mernas.space.tree import SearchSpace

LIMIT = 3000
COUNT = 12


def size_of(genotype: Genotype) -> int | None:
    """A made-up size, even over the octaves; some pipelines do not build, some are too large."""
    number = int(genotype.hash[:8], 16)
    return None if number % 7 == 0 else round(10 * 2 ** (number % 1000 / 1000 * 9))


# Which genotypes


def test_longer_tables_begin_with_shorter_ones_and_no_genotype_comes_twice(space: SearchSpace) -> None:
    once = [one.genotype.hash for one in islice(draw(space, 3, LIMIT, size_of), 60)]
    again = [one.genotype.hash for one in islice(draw(space, 3, LIMIT, size_of), 40)]
    assert once[:40] == again
    assert len(set(once)) == 60
    assert once != [one.genotype.hash for one in islice(draw(space, 4, LIMIT, size_of), 60)]


def test_half_of_the_table_is_even_over_octaves_of_size_and_none_is_above_the_limit(space: SearchSpace) -> None:
    drawn = list(islice(draw(space, 0, LIMIT, size_of), 200))
    built = [one for one in drawn if one.parameters is not None]
    assert all(one.parameters == size_of(one.genotype) for one in drawn)
    assert max(one.parameters or 0 for one in built) <= LIMIT
    halves = Counter(one.half for one in built)
    assert abs(halves[UNIFORM] - halves[BY_SIZE]) <= 1
    octaves = Counter(octave(one.parameters or 0, LIMIT) for one in built if one.half == BY_SIZE)
    assert set(octaves) == set(range(OCTAVES))
    assert max(octaves.values()) - min(octaves.values()) <= 1
    assert any(one.parameters is None for one in drawn)


# The store


@pytest.fixture
def protocol(toy: Callable[..., Dataset], toy_space: Path) -> Protocol:
    data = toy()
    return Protocol(data, load_space(toy_space, data.provides), seed=0, limit=LIMIT)


def without_seconds(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[name for name in frame.columns if not name.startswith("seconds")]]


@pytest.fixture(scope="module")
def undisturbed(toy: Callable[..., Dataset], toy_space: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    data = toy()
    folder = tmp_path_factory.mktemp("undisturbed")
    made = Protocol(data, load_space(toy_space, data.provides), seed=0, limit=LIMIT)
    return make_table(made, COUNT, 1, folder / "table.sqlite", folder, lambda text: None)[0]


def test_a_table_has_scores_for_whatever_builds(undisturbed: pd.DataFrame) -> None:
    built = undisturbed[undisturbed["failure"] != BUILD_FAILURE]
    assert len(built) == COUNT
    assert built["failure"].eq("").all()
    assert (
        built[["uf1", "uar", "accuracy", "uf1_fold_0", "uf1_fold_1", "uf1_fold_2"]]
        .apply(lambda c: c.between(0, 1))
        .all(axis=None)
    )
    assert built[["seconds_fold_0", "seconds_fold_1", "seconds_fold_2"]].gt(0).all(axis=None)


SCRIPT = """
import importlib.util, multiprocessing, os, signal, sys
from pathlib import Path
sys.path.insert(0, {benchmarks!r})

def main():
    spec = importlib.util.spec_from_file_location("toys", {conftest!r})
    toys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toys)
    from tabular_make import Protocol, Store, make_table
    from mernas.space.restriction import load_space
    data = toys.make_toy()
    protocol = Protocol(data, load_space({space!r}, data.provides), 0, {limit})
    kept, done = Store.add_result, []
    def keep(self, number, result):
        kept(self, number, result)
        done.append(number)
        if len(done) == {kill}:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    Store.add_result = keep
    make_table(protocol, {count}, {workers}, Path({store!r}), Path({cache!r}), lambda text: None)

if __name__ == "__main__":
    main()
"""


def test_a_table_that_is_killed_goes_on_and_trains_nothing_twice(
    protocol: Protocol, undisturbed: pd.DataFrame, toy_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, killed_after = tmp_path / "table.sqlite", 5
    script = tmp_path / "killed.py"
    root = Path(__file__).resolve().parents[1]
    filled = SCRIPT.format(
        benchmarks=str(root.parent / "benchmarks"), conftest=str(root / "conftest.py"), space=str(toy_space),
        limit=LIMIT, count=COUNT, workers=2, store=str(store), cache=str(tmp_path), kill=killed_after,
    )  # fmt: skip
    script.write_text(filled)
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    wait_for_the_end_of([int(pid) for pid in ended.stdout.split()])

    trained: list[int] = []
    kept = Store.add_result

    def counted(self: Store, number: int, result: Result) -> None:
        trained.append(number)
        kept(self, number, result)

    monkeypatch.setattr(Store, "add_result", counted)
    frame, _ = make_table(protocol, COUNT, 1, store, tmp_path, lambda text: None)
    assert len(trained) == len(frame) - killed_after
    # Two processes and a kill, or one process undisturbed: the same table.
    pd.testing.assert_frame_equal(without_seconds(frame), without_seconds(undisturbed))
    trained.clear()
    again, _ = make_table(protocol, COUNT, 1, store, tmp_path, lambda text: None)
    assert not trained
    pd.testing.assert_frame_equal(again, frame)


def wait_for_the_end_of(workers: list[int]) -> None:
    """Workers whose driver was killed must end by themselves."""
    assert workers
    end = time.monotonic() + 60
    while workers and time.monotonic() < end:
        time.sleep(0.1)
        workers = [pid for pid in workers if is_running(pid)]
    assert not workers


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_larger_table_adds_to_a_smaller_one(protocol: Protocol, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    store = tmp_path / "table.sqlite"
    small, _ = make_table(protocol, 4, 1, store, tmp_path, lambda text: None)
    large, _ = make_table(protocol, COUNT, 1, store, tmp_path, lambda text: None)
    pd.testing.assert_frame_equal(without_seconds(large), without_seconds(undisturbed))
    pd.testing.assert_frame_equal(large[list(small.columns)].head(len(small)), small)


def test_a_store_of_another_protocol_or_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.sqlite"
    first = Store(path, "one")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Store(path, "one")
    first.close()
    with pytest.raises(ValueError, match="another protocol"):
        Store(path, "another")
    Store(path, "one").close()


def test_a_result_is_never_replaced(space: SearchSpace, tmp_path: Path) -> None:
    store = Store(tmp_path / "table.sqlite", "one")
    store.add_genotypes(list(islice(draw(space, 0, LIMIT, size_of), 2)))
    store.add_result(0, failed("crash: one"))
    with pytest.raises(sqlite3.IntegrityError):
        store.add_result(0, failed("crash: two"))
    assert [number for number, _, _ in store.pending()] == [1]
    store.close()


# The file


def test_a_table_comes_back_from_its_file_as_it_was(known: pd.DataFrame, space: SearchSpace, tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", known)
    back = read_table(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(back, known)
    assert back.attrs == known.attrs
    # Rebuilt from the answers of the file alone, every genotype has the hash that it had when it was drawn.
    assert [genotype.hash for genotype in genotypes_of(back, space)] == known["genotype"].tolist()
    located = [{name: value for name, (value, _) in space.locate(one).items()} for one in genotypes_of(known, space)]
    assert answers_of(back) == located
    kinds = [{name: type(value) for name, value in row.items()} for row in answers_of(back)]
    assert kinds == [{name: type(value) for name, value in row.items()} for row in located]


def test_a_table_of_other_components_is_refused(known: pd.DataFrame, space: SearchSpace) -> None:
    changed = known.copy()
    changed.loc[3, "genotype"] = "0123456789abcdef"
    with pytest.raises(ValueError, match="1 of 201 genotypes are others today"):
        genotypes_of(changed, space)


def test_the_file_names_no_clip_and_no_subject(
    undisturbed: pd.DataFrame, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    write_table(tmp_path / "table.parquet", undisturbed)
    content = (tmp_path / "table.parquet").read_bytes()
    data = toy()
    assert not any(clip.key.encode() in content or clip.subject.encode() in content for clip in data)
    assert data.label_fingerprint.encode() not in content


# Training


def test_scores_are_those_of_the_pooled_predictions() -> None:
    truth = [np.array([0, 1, 2]), np.array([0, 0]), np.array([1, 2])]
    said = [np.array([0, 1, 2]), np.array([0, 1]), np.array([2, 2])]
    outcomes = [Outcome("key", np.eye(3)[some], seconds=1.0) for some in said]
    result = scored(list(truth), outcomes, 3)
    # By hand: class 0 has 2 hits, 1 miss, 0 false alarms; class 1 has 1, 1, 1; class 2 has 2, 0, 1.
    assert result.uf1 == pytest.approx((4 / 5 + 2 / 4 + 4 / 5) / 3)
    assert result.uar == pytest.approx((2 / 3 + 1 / 2 + 2 / 2) / 3)
    assert result.accuracy == pytest.approx(5 / 7)
    assert result.uf1_folds[0] == 1.0


def test_a_failed_fold_fails_the_genotype_and_is_named() -> None:
    outcomes = [Outcome("a", np.eye(3), seconds=1.0), Outcome("b", None, failure="not-finite: a loss", seconds=2.0)]
    result = scored([np.arange(3)] * 3, outcomes, 3)
    assert result.failure == "not-finite: a loss"
    assert np.isnan(result.uf1)
    assert result.seconds[:2] == (1.0, 2.0)
    assert np.isnan(result.seconds[2])


def test_a_process_that_dies_fails_its_genotype_and_no_other() -> None:
    broken: Any = SimpleNamespace(key="broken")  # whatever a job lacks ends the process that is given it
    found: dict[int, str] = {}

    def tasks() -> Iterator[Any]:
        yield 0, [broken]
        yield 1, [broken]
        yield 2, []

    def on_result(number: int, outcomes: list[Outcome]) -> None:
        found[number] = outcomes[0].failure if outcomes else "none"

    train_all(tasks(), FeatureStore({}), 2, on_result)
    assert found == {0: "crash: the process ended with 1", 1: "crash: the process ended with 1", 2: "none"}


def test_the_released_flow_images_give_scores(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.parquet"
    arguments = [f"flow-images={real_data}", "--genotypes", "1", "--workers", "1", "--out", str(out)]
    assert tabular_make.main([*arguments, "--cache", str(tmp_path)]) == 0
    frame = read_table(out)
    assert frame.attrs["clips"] == 442
    assert frame["uf1"].dropna().between(0, 1).all()


# The table of the released flow images that comes with the benchmarks


def test_the_table_that_ships_holds_a_thousand_pipelines_of_its_space_and_no_more() -> None:
    frame = read_table(TABLE)
    space = load_space(SPACE, frozenset(frame.attrs["facts"]))
    assert plain_hash(space.describe()) == frame.attrs["space"]
    assert (frame["failure"] == "").sum() >= 1000
    assert TABLE.stat().st_size < 500_000
    known = {"number", "half", "genotype", "parameters", "uf1", "uar", "accuracy", "failure"}
    others = [name for name in frame.columns if name not in known]
    assert all(name.startswith(("answer.", "uf1_fold_", "seconds_fold_")) for name in others)
    sample = frame[frame["failure"] == ""].iloc[::97]
    assert [one.hash for one in genotypes_of(sample, space)] == list(sample["genotype"])
