"""The shelf of maps: it stops when the user wants to, holds no more than it may, and hands out the same maps again."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.preparation import recipes_of
from mernas.evaluation.rows import number_rows
from mernas.search import features
from mernas.search.executor import Block, Feed, Interrupted, SerialExecutor
from mernas.search.features import FeatureShelf
from mernas.search.reporter import Silent
from mernas.search.run import SearchResult, run_search
from mernas.space.genotype import Genotype, parse_genotype

TEXT = """
streams: [{{input: {{optical_flow: {{estimator: given, size: {size}, centre: {centre}}}}}, backbone: [convolution]}}]
tasks: [emotion]
loss: cross_entropy
"""


def genotype_of(size: int = 14, centre: str = "median") -> Genotype:
    return parse_genotype(TEXT.format(size=size, centre=centre))


MANY = [genotype_of(size, centre) for size in (14, 28, 42, 48, 56) for centre in ("none", "median")]
"""Pipelines of as many recipes."""


@pytest.fixture
def data(toy: Callable[..., Dataset]) -> Dataset:
    return toy()


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Bytes of all maps that a shelf has made and that somebody still holds."""
    made: list[weakref.ref[NDArray[np.float32]]] = []
    prepare = features.prepare

    def watched(*given: Any) -> NDArray[np.float32]:
        maps = prepare(*given)
        made.append(weakref.ref(maps))
        return maps

    monkeypatch.setattr(features, "prepare", watched)
    return lambda: sum(maps.nbytes for one in made if (maps := one()) is not None)


def test_a_user_who_stops_the_preparation_is_heard_after_a_clip_and_resumes_where_it_stopped(
    data: Dataset, tmp_path: Path
) -> None:
    read: list[str] = []

    def watched(clip: Clip) -> Clip:
        def flow() -> Any:
            time.sleep(0.05)
            read.append(clip.key)
            return clip.given["flow"]()

        return replace(clip, given={**clip.given, "flow": flow})

    data = replace(data, clips=tuple(watched(clip) for clip in data.clips))
    book = number_rows(data, 0)
    with pytest.raises(Interrupted):
        FeatureShelf(data, book, tmp_path, Silent(), lambda: len(read) >= 5).store([genotype_of()])
    stopped = len(read)
    FeatureShelf(data, book, tmp_path, Silent()).store([genotype_of()])
    assert 5 <= stopped < len(data)
    assert len(read) < len(data) + stopped  # only what was under way may have to be done again


def test_maps_are_prepared_on_the_cores_that_this_process_may_use(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    asked: list[int] = []
    prepare = features.prepare

    def watched(*given: Any) -> Any:
        asked.append(given[3])
        return prepare(*given)

    monkeypatch.setattr(features, "prepare", watched)
    FeatureShelf(data, number_rows(data, 0), tmp_path, Silent()).store([genotype_of()])
    assert asked == [3]


def test_a_shelf_through_which_many_recipes_have_gone_holds_no_more_than_it_may(
    data: Dataset, tmp_path: Path, alive: Callable[[], int]
) -> None:
    largest = len(data) * 3 * 56**2 * 4
    shelf = FeatureShelf(data, number_rows(data, 0), tmp_path, Silent(), most=2 * largest)
    for genotype in MANY:
        shelf.store([genotype])
        assert 0 < alive() <= 2 * largest
    in_use = shelf.store(MANY)
    assert alive() == sum(maps.nbytes for maps in in_use.maps.values()) > 2 * largest
    del in_use
    assert alive() <= 2 * largest


def test_maps_that_were_let_go_come_back_the_same_and_are_not_computed_again(data: Dataset, tmp_path: Path) -> None:
    book = number_rows(data, 0)
    generous = FeatureShelf(data, book, tmp_path / "one", Silent()).store(MANY)
    mean = FeatureShelf(data, book, tmp_path / "other", Silent(), most=0)
    for genotype in MANY:
        mean.store([genotype])
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "other").rglob("*")}
    for genotype in (*reversed(MANY), *MANY):
        for recipe, maps in mean.store([genotype]).maps.items():
            assert maps.numpy().tobytes() == generous.maps[recipe].numpy().tobytes()
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "other").rglob("*")}


def test_maps_that_are_used_lately_are_not_read_again(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = FeatureShelf(data, number_rows(data, 0), tmp_path, Silent(), most=10**9)
    (first,) = shelf.store([genotype_of()]).maps.values()
    monkeypatch.setattr(features, "prepare", lambda *_: pytest.fail("read again"))
    (second,) = shelf.store([genotype_of()]).maps.values()
    assert second is first


def test_a_store_holds_the_maps_that_were_asked_for_and_no_others(data: Dataset, tmp_path: Path) -> None:
    shelf = FeatureShelf(data, number_rows(data, 0), tmp_path, Silent())
    shelf.store(MANY[:1])
    assert set(shelf.store(MANY[1:3]).maps) == {recipe.hash for recipe in recipes_of(MANY[1:3])}


def test_a_search_that_reads_its_maps_for_every_block_anew_gives_the_same_tables_and_lets_no_waiting_job_hold_any(
    finished: SearchResult,
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    tmp_path: Path,
    alive: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "MOST_HELD", 0)

    class Watching(SerialExecutor):
        def run(self, feed: Feed, on_outcome: Any, stopping: Any) -> None:
            def watched() -> Block | None:
                block = feed()
                if block is not None:
                    needed = recipes_of([job.genotype for job in block.jobs])
                    assert set(block.store.maps) == {recipe.hash for recipe in needed}
                    own = sum(maps.nbytes for maps in block.store.maps.values())
                    assert alive() <= own + before[-1]  # the executor has not let go of the block before yet
                    before.append(own)
                return block

            super().run(watched, on_outcome, stopping)

    before = [0]
    result = run_search(toy(), space=toy_space, out=tmp_path / "run", executor=Watching(), **small)
    for name in ("front.csv", "choices.csv", "predictions.csv", "trials.csv"):
        assert (result.folder / name).read_bytes() == (finished.folder / name).read_bytes()
