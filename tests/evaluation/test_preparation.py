"""The preparation cache: computed once per content and recipe, whole or not at all, the same maps in any order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.preparation import Recipe, default_cache, prepare, recipe_of
from mernas.space.errors import DataError
from mernas.space.genotype import parse_genotype

TEXT = """
streams: [{input: {optical_flow: {estimator: given, size: 14, centre: median}}, backbone: [residual]}]
tasks: [emotion]
loss: cross_entropy
"""


@pytest.fixture
def recipe() -> Recipe:
    return recipe_of(parse_genotype(TEXT).streams[0])


@dataclass
class Counter:
    calls: int = 0

    def __call__(self, done: int, total: int) -> None:
        self.calls += 1


def test_prepared_maps_are_what_the_input_gives_for_each_clip(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    clips = toy().clips
    maps = prepare(clips, recipe, tmp_path, workers=3)
    assert maps.shape == (36, 3, 14, 14)
    for row, clip in zip(maps, clips, strict=True):
        expected = np.concatenate([clip.given["flow"](), clip.given["strain"]()[None]])
        expected = expected - np.median(expected, axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_a_second_run_computes_nothing_and_order_does_not_matter(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    clips = toy().clips
    first, second = Counter(), Counter()
    maps = prepare(clips, recipe, tmp_path, progress=first)
    again = prepare(clips[::-1], recipe, tmp_path, progress=second)
    assert (first.calls, second.calls) == (36, 0)
    assert again[::-1].tobytes() == maps.tobytes()


def test_a_larger_collection_computes_only_what_is_new(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    clips = toy().clips
    prepare(clips[:30], recipe, tmp_path)
    counter = Counter()
    maps = prepare(clips, recipe, tmp_path, progress=counter)
    assert counter.calls == 6
    assert maps.tobytes() == prepare(clips, recipe, tmp_path / "elsewhere").tobytes()


def test_another_recipe_or_other_content_is_computed_anew(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    prepare(toy().clips, recipe, tmp_path)
    counter = Counter()
    other = recipe_of(parse_genotype(TEXT.replace("median", "none")).streams[0])
    assert other.hash != recipe.hash
    prepare(toy().clips, other, tmp_path, progress=counter)
    prepare(toy(seed=1).clips, recipe, tmp_path, progress=counter)
    assert counter.calls == 72


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "shape", "index", "number", "swapped"])
def test_damaged_maps_are_computed_again(
    damage: str, recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    clips = toy().clips
    before = prepare(clips, recipe, tmp_path)
    (maps,) = (tmp_path / recipe.hash).glob("*.npy")
    if damage == "cut":
        maps.write_bytes(maps.read_bytes()[:200])
    elif damage == "empty":
        maps.write_bytes(b"")
    elif damage == "gone":
        maps.unlink()
    elif damage == "shape":
        np.save(maps, np.zeros((36, 3, 7, 7), dtype=np.float32))
    else:
        index = maps.with_suffix(".json")
        swapped = json.dumps(json.loads(index.read_text())[::-1])
        index.write_text({"index": "[", "number": "5", "swapped": swapped}[damage])
    assert prepare(clips, recipe, tmp_path).tobytes() == before.tobytes()


def test_the_cache_holds_no_name_and_no_part_file(recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path) -> None:
    data = toy()
    prepare(data.clips, recipe, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".npy", ".json"}
    everything = b"".join(path.read_bytes() for path in files)
    assert not any(clip.key.encode() in everything or clip.subject.encode() in everything for clip in data)


def test_all_clips_that_cannot_be_prepared_are_told_at_once(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    def broken() -> np.ndarray:
        raise OSError("disk on fire")

    def endless() -> np.ndarray:
        return np.full((2, 14, 14), np.nan, dtype=np.float32)

    clips: list[Clip] = list(toy().clips)
    clips[3] = replace(clips[3], fingerprint="x", given={**clips[3].given, "flow": broken})
    clips[5] = replace(clips[5], fingerprint="y", given={**clips[5].given, "flow": endless})
    with pytest.raises(DataError) as error:
        prepare(clips, recipe, tmp_path)
    told = str(error.value)
    assert len(error.value.problems) == 2
    assert clips[3].key in told
    assert "disk on fire" in told
    assert clips[5].key in told


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MERNAS_CACHE", str(tmp_path))
    assert default_cache() == tmp_path / "prepared"


class Stop(Exception):
    """The user wants to stop."""


def counting(clips: Sequence[Clip], seconds: float) -> tuple[list[Clip], list[str]]:
    """The same clips, whose maps take so long to read, and the fingerprints of those that were read."""
    read: list[str] = []

    def slowly(clip: Clip) -> Clip:
        def flow() -> NDArray[np.float32]:
            time.sleep(seconds)
            read.append(clip.fingerprint)
            return clip.given["flow"]()

        return replace(clip, given={**clip.given, "flow": flow})

    return [slowly(clip) for clip in clips], read


def stop_at(number: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == number:
            raise Stop

    return progress


def test_stopping_at_the_first_clip_finishes_those_under_way_and_begins_no_other(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    clips, read = counting(toy().clips, 0.05)
    with pytest.raises(Stop):
        prepare(clips, recipe, tmp_path, workers=2, progress=stop_at(1))
    assert 1 <= len(read) <= 6  # 36 without the stop


def test_what_was_finished_before_a_stop_is_whole_in_the_cache_and_not_computed_again(
    recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    clips, read = counting(toy().clips, 0.0)
    with pytest.raises(Stop):
        prepare(clips, recipe, tmp_path, progress=stop_at(7))
    (index,) = (tmp_path / recipe.hash).glob("*.json")
    kept = json.loads(index.read_text())
    assert len(np.load(index.with_suffix(".npy"))) == len(kept) == 7
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npy", ".json"}

    read.clear()
    maps = prepare(clips, recipe, tmp_path)
    assert sorted(read) == sorted({clip.fingerprint for clip in clips} - set(kept))
    assert maps.tobytes() == prepare(clips, recipe, tmp_path / "elsewhere").tobytes()


def test_a_stop_on_a_disk_that_is_full_is_a_stop(recipe: Recipe, toy: Callable[..., Dataset], tmp_path: Path) -> None:
    full = tmp_path / "no folder"
    full.write_text("")
    with pytest.raises(Stop):
        prepare(toy().clips, recipe, full, progress=stop_at(7))
