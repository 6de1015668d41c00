"""Spaces narrowed by the rules of a space file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mernas.space.restriction import load_space
from mernas.space.tree import SearchSpace


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[frozenset[str], dict[str, Any]], SearchSpace]:
    """Narrows the full space for some data by rules, as a user does: through a file."""
    file = tmp_path_factory.mktemp("narrowed") / "space.yaml"

    def narrowed(facts: frozenset[str], rules: dict[str, Any]) -> SearchSpace:
        file.write_text(json.dumps({"extends": "full", **rules}), encoding="utf-8")
        return load_space(file, facts)

    return narrowed
