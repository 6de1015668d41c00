"""Heads with hidden layers, and the one that weighs places by its own weights: against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mernas.components.topologies.class_activation import ClassActivation
from mernas.components.topologies.deep_mlp import DeepMLP
from mernas.components.topologies.mlp import MLP
from mernas.space.errors import SpaceError


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_loops(vectors: np.ndarray, weight: np.ndarray, bias: np.ndarray, grid: int) -> np.ndarray:
    """Logits with the attention of Xia et al. (TIP 2020) over a map: clip by clip, class by class, place by place."""
    channels = vectors.shape[1] // grid**2
    logits = []
    for clip in vectors.reshape(-1, channels, grid, grid):
        attention = np.zeros((grid, grid))
        for row in weight.reshape(-1, channels, grid, grid):
            activity = np.zeros((grid, grid))
            for y, x in np.ndindex(grid, grid):
                activity[y, x] = np.mean([row[f, y, x] * clip[f, y, x] for f in range(channels)])
            activity = activity - activity.min()
            attention += activity / activity.max() / len(weight)
        logits.append(weight @ (clip * attention).ravel() + bias)
    return np.array(logits)


@given(st.integers(2, 4), st.integers(1, 5), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_class_activation_is_that_of_the_formula(grid: int, channels: int, classes: int) -> None:
    torch.manual_seed(grid + 10 * channels + 100 * classes)
    head = ClassActivation(grid=grid).build(channels * grid**2, classes)
    vectors = torch.randn(3, channels * grid**2)
    weight, bias = (parameter.detach().double().numpy() for parameter in head.parameters())
    wanted = by_loops(vectors.double().numpy(), weight, bias, grid)
    np.testing.assert_allclose(head(vectors).detach().numpy(), wanted, atol=1e-4)


def test_class_activation_costs_no_more_than_a_linear_layer() -> None:
    assert count(ClassActivation(grid=7).build(64 * 49, 3)) == 64 * 49 * 3 + 3


def test_class_activation_of_a_map_that_is_nowhere_telling_is_linear_and_has_a_gradient() -> None:
    head = ClassActivation(grid=2).build(12, 3)
    with torch.no_grad():
        next(head.parameters()).fill_(0.5)
    vectors = torch.ones(2, 12, requires_grad=True)
    bias = head.get_parameter("linear.bias")
    torch.testing.assert_close(head(vectors), (bias + 12 * 0.5).expand(2, 3))
    head(vectors).sum().backward()
    assert vectors.grad is not None
    assert bool(torch.isfinite(vectors.grad).all())


def test_class_activation_refuses_features_that_are_no_map_of_its_grid() -> None:
    with pytest.raises(SpaceError, match="divisible by 25"):
        ClassActivation(grid=5).build(64, 3)


@pytest.mark.parametrize("layers", [2, 3])
def test_deep_mlp_computes_its_layers_one_after_the_other(layers: int) -> None:
    torch.manual_seed(0)
    head = DeepMLP(hidden=8, layers=layers, dropout=0.5).build(6, 3).eval()
    vectors = torch.randn(4, 6)
    values = [parameter.detach().double().numpy() for parameter in head.parameters()]
    pairs = list(zip(values[::2], values[1::2], strict=True))
    assert len(pairs) == layers + 1
    hidden = vectors.double().numpy()
    for weight, bias in pairs[:-1]:
        hidden = np.maximum(hidden @ weight.T + bias, 0)
    np.testing.assert_allclose(head(vectors).detach().numpy(), hidden @ pairs[-1][0].T + pairs[-1][1], atol=1e-5)


def test_deep_mlp_drops_hidden_units_of_every_layer() -> None:
    head = DeepMLP(hidden=4096, layers=2, dropout=0.5).build(2, 3)
    hidden = torch.ones(1, 2)
    for layer in head[:3]:
        hidden = layer(hidden)
    with torch.no_grad():
        whole = torch.relu(head[0](torch.ones(1, 2)))
    dropped = (hidden == 0) & (whole > 0)
    assert 0.45 < float(dropped.sum() / (whole > 0).sum()) < 0.55
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("head", [ClassActivation(grid=2), DeepMLP(hidden=8, dropout=0.3), MLP(hidden=8)])
def test_heads_treat_rows_alike_and_export_for_any_batch(head: ClassActivation | DeepMLP | MLP) -> None:
    torch.manual_seed(0)
    module = head.build(12, 3).eval()
    vectors = torch.randn(5, 12)
    whole = module(vectors)
    torch.testing.assert_close(torch.cat([module(row[None]) for row in vectors]), whole)
    program = torch.export.export(module, (vectors,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(program.module()(vectors[:2]), whole[:2])
