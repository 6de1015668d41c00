"""Footprint: figures against arithmetic by hand, and memory against a trap that measuring has."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mernas.components.topologies.network import build_network
from mernas.evaluation import footprint
from mernas.evaluation.footprint import (
    count_flops,
    measure,
    memory_of_torch,
    peak_memory,
    predict_in_fresh_process,
    time_calls,
)
from mernas.evaluation.model import load_model
from mernas.space.errors import RunError
from mernas.space.presets import load_preset

GOLDEN = Path(__file__).resolve().parent / "golden_bundle_1"


def test_operations_of_ststnet_are_those_of_its_layers_by_hand() -> None:
    # Three streams of 3, 5 and 8 filters of 3x3 over 3 channels of 28x28 padded to 30x30; 5x5 cells of 16 to 3 classes.
    convolutions = sum(2 * (3 * 3 * 3) * width * 30 * 30 for width in (3, 5, 8))
    linear = 2 * (16 * 5 * 5) * 3
    network = build_network(load_preset("ststnet").genotype, 3).eval()
    assert count_flops(network, [(3, 28, 28)] * 3) == convolutions + linear


def test_latency_is_that_of_the_repetitions_after_the_warm_up() -> None:
    pauses = iter([0.2, 0.2, 0.01, 0.01, 0.01, 0.01, 0.05])
    found = time_calls(lambda: time.sleep(next(pauses)), repetitions=5, warm_up=2)
    assert next(pauses, None) is None
    assert 0.01 <= found.median < 0.05
    assert found.median < found.p95 < 0.2
    assert found.repetitions == 5


def test_latency_is_measured_on_one_thread() -> None:
    threads: list[int] = []
    time_calls(lambda: threads.append(torch.get_num_threads()), repetitions=2, warm_up=0)
    assert threads == [1, 1]


@pytest.mark.skipif(peak_memory() is None, reason="this system does not say how much memory a process takes")
def test_a_fresh_process_predicts_the_same_and_its_memory_is_not_that_of_its_parent() -> None:
    ballast = bytearray(700 << 20)  # a child whose figure were inherited would show this
    ballast[:: 1 << 12] = bytes(len(ballast[:: 1 << 12]))
    mine = peak_memory()
    assert mine is not None
    assert mine > 700 << 20
    model = load_model(GOLDEN)
    maps = [
        torch.randn((6, *component.shape), generator=torch.Generator().manual_seed(3))
        for component in model.bundle.inputs
    ]
    fresh = predict_in_fresh_process(GOLDEN, maps)
    assert np.abs(fresh.probabilities - model.probabilities_of(maps)).max() <= 1e-5
    alone = memory_of_torch()
    assert fresh.memory is not None
    assert alone is not None
    assert 50 << 20 < alone < fresh.memory < 700 << 20
    found = measure(model, fresh=fresh, repetitions=3)
    assert found.memory == fresh.memory
    assert found.whole is None
    assert found.files == {path: (GOLDEN / path).stat().st_size for path in found.files}
    assert found.parameters == sum(np.prod(parameter.shape) for parameter in model.network.parameters())


def test_a_fresh_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no model of mernas"):
        predict_in_fresh_process(tmp_path, [torch.zeros(1, 1, 2, 2)])


def test_a_fresh_process_imports_nothing_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "json", "mernas"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was executed')")
    monkeypatch.chdir(tmp_path)
    code = "import json, importlib.util as u; print(json.dumps([u.find_spec(n).origin for n in ('torch', 'mernas')]))"
    for origin in json.loads(footprint._run_python(code)):
        assert not Path(origin).is_relative_to(tmp_path)


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="sessions are a matter of POSIX")
def test_ctrl_c_in_the_users_terminal_does_not_reach_a_fresh_process() -> None:
    # A terminal signals the processes of its session that share the foreground group.
    session, group = json.loads(footprint._run_python("import os; print([os.getsid(0), os.getpgid(0)])"))
    assert session != os.getsid(0)
    assert group != os.getpgid(0)
