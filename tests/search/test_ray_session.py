"""How Ray is started or joined: what it raises then becomes one message with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from mernas.search import ray_session  # isort: skip  # before Ray: it sets its environment
import ray

from mernas.space.errors import UnavailableError

SLOW = "The current node timed out during startup. The GCS may have become overloaded."


@pytest.mark.parametrize("raised", [Exception(f"first line\n{SLOW}\n"), RuntimeError(SLOW), ConnectionError(SLOW)])
def test_whatever_ray_raises_when_it_starts_is_one_message_that_says_what_to_do(
    raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**settings: Any) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UnavailableError) as told:
        ray_session.start_ray(2, "cpu", None)
    assert SLOW in str(told.value)
    assert "--executor serial" in str(told.value)
    assert "first line" not in str(told.value)


def test_a_cluster_that_cannot_be_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: Any) -> None:
        raise Exception(SLOW)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UnavailableError, match=r"--address auto.*ray start --head"):
        ray_session.start_ray(2, "cpu", "auto")
