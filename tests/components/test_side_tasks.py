"""The side task of action units against a masked cross-entropy in NumPy."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mernas.components.contracts import TRAINING_ROWS
from mernas.components.topologies.action_units import ActionUnits
from mernas.space.errors import DataError
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import ACTION_UNITS

RANDOM = np.random.default_rng(0)
UNITS = (RANDOM.random((40, 5)) < [0.5, 0.1, 0.9, 0.0, 0.3]).astype(np.float32)  # the fourth is never shown
UNITS[RANDOM.random((40, 5)) < 0.3] = np.nan
UNITS[:, 4] = np.nan  # and the fifth never annotated
VECTORS = RANDOM.normal(size=(12, 7))
CHOSEN = RANDOM.integers(0, 40, size=12)


def rows(units: np.ndarray | None = UNITS) -> Any:
    return SimpleNamespace(units=None if units is None else torch.from_numpy(units))


@pytest.mark.parametrize("hidden", [0, 32])
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_loss_is_the_masked_cross_entropy_of_the_formula(weighting: str, hidden: int) -> None:
    module = ActionUnits(weight=0.3, weighting=weighting, hidden=hidden).build(rows(), 7).double()
    vectors = torch.from_numpy(VECTORS)
    logits = module.get_submodule("head")(vectors).detach().numpy()
    shown, not_shown = np.nansum(UNITS == 1, axis=0), np.nansum(UNITS == 0, axis=0)
    costs, weights = [], []
    for row, number in enumerate(CHOSEN):
        for unit in range(5):
            truth = UNITS[number, unit]
            if np.isnan(truth):
                continue
            p = 1 / (1 + np.exp(-logits[row, unit]))
            costs.append(-np.log(p) if truth == 1 else -np.log(1 - p))
            alike = shown[unit] if truth == 1 else not_shown[unit]
            weights.append(1.0 if weighting == "none" else (shown[unit] + not_shown[unit]) / (2 * alike))
    given = float(module(vectors, torch.from_numpy(CHOSEN)).detach())
    assert given == pytest.approx(0.3 * np.average(costs, weights=weights), rel=1e-6)


def test_batch_without_annotations_costs_nothing_and_moves_nothing() -> None:
    module = ActionUnits().build(rows(np.full((3, 4), np.nan, np.float32)), 7)
    loss = module(torch.randn(2, 7), torch.tensor([0, 2]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in module.parameters())


def test_what_is_not_annotated_pulls_at_no_logit() -> None:
    module = ActionUnits().build(rows(), 7)
    biases = module.get_parameter("head.bias")
    module(torch.from_numpy(VECTORS).float(), torch.from_numpy(CHOSEN)).backward()
    assert biases.grad is not None
    assert float(biases.grad[4]) == 0.0
    assert float(biases.grad[3]) > 0.0  # never shown: its score falls
    assert bool(biases.grad[:4].all())


def test_units_can_be_learnt_from_vectors_that_tell_them() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(200, 6)
    units = (vectors[:, :3] > 0).float()
    held = units.clone()
    held[torch.rand(200, 3) < 0.4] = torch.nan
    module = ActionUnits().build(SimpleNamespace(units=held), 6)  # type: ignore[arg-type]  # the part that it uses
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        module(vectors, torch.arange(200)).backward()
        optimiser.step()
    right = (module.get_submodule("head")(vectors) > 0).float() == units
    assert float(right.float().mean()) > 0.95


def test_data_without_action_units_are_refused_in_words() -> None:
    for empty in (None, np.zeros((5, 0), np.float32)):
        with pytest.raises(DataError, match="needs annotated action units"):
            ActionUnits().build(rows(empty), 7)


def test_side_task_is_declared_fitted_and_pickles() -> None:
    assert REGISTRY.get("side_task", "action_units").needs == {ACTION_UNITS}
    assert ActionUnits.fit_scope == TRAINING_ROWS
    module = ActionUnits(hidden=32).build(rows(), 7)
    vectors, numbers = torch.from_numpy(VECTORS).float(), torch.from_numpy(CHOSEN)
    assert torch.equal(pickle.loads(pickle.dumps(module))(vectors, numbers), module(vectors, numbers))
    sizes = [parameter.numel() for parameter in module.parameters()]
    assert sizes == [7 * 32, 32, 32 * 5, 5]  # the annotations are buffers
