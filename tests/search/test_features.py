"""The shelf of maps: it stops when the user wants to, holds no more than it may, and hands out the same maps again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.rows import number_rows
from mernas.search import features
from mernas.search.executor import Interrupted
from mernas.search.features import FeatureShelf
from mernas.search.reporter import Silent
from mernas.space.genotype import Genotype, parse_genotype

TEXT = """
streams: [{{input: {{optical_flow: {{estimator: given, size: {size}}}}}, backbone: [convolution]}}]
tasks: [emotion]
loss: cross_entropy
"""


def genotype_of(size: int = 14) -> Genotype:
    return parse_genotype(TEXT.format(size=size))


def test_a_user_who_stops_the_preparation_is_heard_after_a_clip_and_resumes_where_it_stopped(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    data, read = toy(), []

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
    assert len(read) <= len(data) + features.cores()  # what was under way may be done again


def test_maps_are_prepared_on_the_cores_that_this_process_may_use(
    toy: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    asked: list[int] = []
    prepare = features.prepare

    def watched(*given: Any) -> Any:
        asked.append(given[3])
        return prepare(*given)

    monkeypatch.setattr(features, "prepare", watched)
    FeatureShelf(toy(), number_rows(toy(), 0), tmp_path, Silent()).store([genotype_of()])
    assert asked == [3]
