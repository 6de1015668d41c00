"""What the tests of the benchmarks share: their folder on the path, and a small table with scores of a closed form."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.space.genotype import Genotype
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial
from mernas.space.tree import SearchSpace

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # a benchmark finds its parts because its own folder is on the path

LIMIT = 3000


@pytest.fixture(scope="session")
def space(toy: Callable[..., Dataset], toy_space: Path) -> SearchSpace:
    return load_space(toy_space, toy().provides)


def score_of(genotype: Genotype) -> float:
    """A made-up UF1: which input, how many streams and how fast one learns, and nothing else."""
    streams = genotype.streams
    best = max(0.3 if stream["input"].name == "apex_frame" else _flow(stream["input"]) for stream in streams)
    speed = math.log10(genotype["training"]["optimizer"]["lr"])
    return best + 0.1 * (len(streams) == 2) - 0.05 * abs(speed + 3)


def _flow(leaf: Any) -> float:
    return {"u+v": 0.5, "u+v+strain": 0.6, "strain": 0.4}[leaf["quantities"]]


@pytest.fixture(scope="session")
def closed_form() -> Callable[[Genotype], float]:
    return score_of


@pytest.fixture(scope="session")
def known(space: SearchSpace) -> pd.DataFrame:
    """Two hundred genotypes that build, with made-up scores and noise of 0.02, and one that does not build."""
    from tabular.measuring import Measure
    from tabular.table import BUILD_FAILURE, Result, failed, make_frame

    measure, generator = Measure(3), np.random.default_rng(0)
    entries: list[Any] = []
    for number in range(1000):
        genotype = space.suggest(RandomTrial(number))
        parameters = measure(genotype)
        if parameters is None or parameters > LIMIT:
            continue
        pooled, *folds = np.clip(score_of(genotype) + generator.normal(scale=0.02, size=4), 0, 1).tolist()
        result = Result(pooled, pooled, pooled, tuple(folds), (1.0, 1.0, 1.0))
        entries.append((len(entries), "uniform", genotype, parameters, result))
        if len(entries) == 200:
            break
    genotype = space.suggest(RandomTrial("does not build"))
    entries.append((200, "uniform", genotype, None, failed(BUILD_FAILURE)))
    about = {"facts": sorted(space.facts), "max_parameters": LIMIT, "classes": 3}
    return make_frame(space, entries, about)
