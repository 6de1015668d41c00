"""One small finished search, shared by the tests that look at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.search.run import SearchResult, run_search

SMALL: dict[str, Any] = {"trials": 5, "batch": 3, "groups": 3, "budgets": "300,3k", "max_params": "3k", "seed": 3}
SMALL["workers"] = 1


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    return dict(SMALL)


@pytest.fixture(scope="session")
def finished(toy: Callable[..., Dataset], toy_space: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("finished") / "run"
    cache = tmp_path_factory.mktemp("finished-cache")
    return run_search(toy(), space=toy_space, out=folder, cache=cache, **SMALL)
