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


class Countdown:
    """Says no so often, and then yes."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="session")
def countdown() -> type[Countdown]:
    """A user who stops a run when they have been asked so often."""
    return Countdown


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    return dict(SMALL)


@pytest.fixture(scope="session")
def finished(toy: Callable[..., Dataset], toy_space: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("finished") / "run"
    cache = tmp_path_factory.mktemp("finished-cache")
    return run_search(toy(), space=toy_space, out=folder, cache=cache, **SMALL)


RACED: dict[str, Any] = {**SMALL, "trials": 8, "racing": True, "seed": 5}
"""With this seed every study stops some candidates."""


@pytest.fixture(scope="session")
def raced_settings() -> dict[str, Any]:
    return dict(RACED)


@pytest.fixture(scope="session")
def many(toy: Callable[..., Dataset]) -> Dataset:
    """Thirty subjects in three groups, so that one fold is enough to stop a candidate."""
    return toy(subjects=30, clips=3)


@pytest.fixture(scope="session")
def raced(many: Dataset, toy_space: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A finished search whose candidates raced."""
    folder = tmp_path_factory.mktemp("raced") / "run"
    return run_search(many, space=toy_space, out=folder, cache=tmp_path_factory.mktemp("raced-cache"), **RACED)


HALVED: dict[str, Any] = {**SMALL, "trials": 8, "batch": 4, "halving": True}


@pytest.fixture(scope="session")
def halved_settings() -> dict[str, Any]:
    return dict(HALVED)


@pytest.fixture(scope="session")
def patient_space(toy_space: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small space with trainings that are long enough to be shortened."""
    path = tmp_path_factory.mktemp("patient") / "patient.yaml"
    path.write_text(toy_space.read_text().replace("epochs: {low: 1, high: 2}", "epochs: {low: 2, high: 6}"))
    return path


@pytest.fixture(scope="session")
def halved(toy: Callable[..., Dataset], patient_space: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A finished search whose batches had short trainings first."""
    folder = tmp_path_factory.mktemp("halved") / "run"
    cache = tmp_path_factory.mktemp("halved-cache")
    return run_search(toy(), space=patient_space, out=folder, cache=cache, **HALVED)


@pytest.fixture(scope="session")
def joined(toy: Callable[..., Dataset], toy_space: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A finished search whose folds trained together."""
    folder = tmp_path_factory.mktemp("joined") / "run"
    cache = tmp_path_factory.mktemp("joined-cache")
    return run_search(toy(), space=toy_space, out=folder, cache=cache, together=True, **SMALL)
