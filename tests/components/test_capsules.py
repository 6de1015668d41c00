"""Capsules against routing by loops in NumPy, published counts, and what their lengths must mean; cosines."""

import copy
import io
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mernas.components.topologies.capsule import Capsule
from mernas.components.topologies.cosine import Cosine
from mernas.components.topologies.primary_capsules import PrimaryCapsules, squash
from mernas.space.errors import SpaceError

VECTORS = torch.randn(5, 48, generator=torch.Generator().manual_seed(2))


def built(leaf: Any, *arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    made = leaf.build(*arguments)
    module: nn.Module = made[0] if isinstance(made, tuple) else made
    return module.eval()


def squashed(s: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(s)
    result: NDArray[np.float64] = length**2 / (1 + length**2) * s / length
    return result


def routed(u: NDArray[np.float64], weight: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
    """Class capsules (classes, 16) of one clip, after the published procedure, one capsule at a time."""
    capsules, classes = weight.shape[:2]
    b = np.zeros((capsules, classes))
    for _ in range(iterations):
        v = np.zeros((classes, 16))
        for j in range(classes):
            s = np.zeros(16)
            for i in range(capsules):
                s += np.exp(b[i, j]) / np.exp(b[i]).sum() * (weight[i, j] @ u[i])
            v[j] = squashed(s)
        for i in range(capsules):
            for j in range(classes):
                b[i, j] += (weight[i, j] @ u[i]) @ v[j]
    return v


@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
def test_sigmoid_of_a_logit_is_the_length_of_a_capsule_routed_by_loops(iterations: int) -> None:
    module = built(Capsule(iterations=iterations), 48, 3)
    weight = module.get_parameter("weight").detach().double().numpy()
    wanted = [
        [np.linalg.norm(v) for v in routed(clip.reshape(6, 8), weight, iterations)] for clip in VECTORS.double().numpy()
    ]
    np.testing.assert_allclose(torch.sigmoid(module(VECTORS)).detach().numpy(), np.array(wanted), atol=1e-5)


def test_each_round_of_routing_changes_the_scores() -> None:
    scores = [built(Capsule(iterations=iterations), 48, 3)(VECTORS) for iterations in (1, 2, 3, 4)]
    assert all(not torch.allclose(one, other) for one, other in pairwise(scores))


def test_routing_sends_capsules_to_the_class_on_which_they_agree() -> None:
    """Three capsules vote alike for class 0 and against each other for class 1."""
    lengths = {}
    for iterations in (1, 3):
        module = built(Capsule(iterations=iterations), 24, 2)
        with torch.no_grad():
            module.get_parameter("weight").zero_()
            module.get_parameter("weight")[:, 0, 0, 0] = 1.0
            module.get_parameter("weight")[:, 1, 0, 0] = torch.tensor([1.0, -1.0, 1.0])
        vectors = torch.zeros(1, 24)
        vectors[:, ::8] = 1.0
        lengths[iterations] = torch.sigmoid(module(vectors))[0].tolist()
    assert lengths[1] == pytest.approx([1.5**2 / (1 + 1.5**2), 0.5**2 / (1 + 0.5**2)], abs=1e-5)
    assert lengths[3][0] > lengths[1][0]


@given(st.integers(1, 40), st.integers(2, 7))
@settings(max_examples=25, deadline=None)
def test_class_capsules_have_a_matrix_for_every_pair(capsules: int, classes: int) -> None:
    with torch.device("meta"):
        module = Capsule().build(capsules * 8, classes)
    assert sum(value.numel() for value in module.parameters()) == capsules * classes * 8 * 16


def test_published_capsules_have_their_published_counts() -> None:
    """From maps of 256x20x20: 1152 capsules by a convolution of 5.31 million weights, then 0.44 million for routing."""
    with torch.device("meta"):
        readout, shape = PrimaryCapsules(types=32, kernel=9, stride=2).build((256, 20, 20))
        head = Capsule(iterations=3).build(shape[0], 3)
    assert shape == (1152 * 8,)
    assert sum(value.numel() for value in readout.parameters()) == 5_308_672
    assert sum(value.numel() for value in head.parameters()) == 442_368


def test_features_that_are_no_whole_capsules_are_refused() -> None:
    with pytest.raises(SpaceError, match="divisible by 8, found 12"):
        Capsule().build(12, 3)


def test_squash_is_the_published_formula_and_has_a_gradient_everywhere() -> None:
    vectors = torch.randn(10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    np.testing.assert_allclose(squash(vectors).numpy(), [squashed(vector) for vector in vectors.numpy()], atol=1e-9)
    zero = torch.zeros(8, requires_grad=True)
    squash(zero).sum().backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_primary_capsules_lie_one_after_the_other_type_by_type_and_row_by_row() -> None:
    maps = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    module = built(PrimaryCapsules(types=4, kernel=3, stride=2), (3, 7, 9))
    convolved = F.conv2d(maps, module.get_parameter("0.weight"), module.get_parameter("0.bias"), stride=2)
    channels = convolved.detach().double().numpy()
    wanted = np.concatenate(
        [
            squashed(channels[1, kind * 8 : kind * 8 + 8, row, column])
            for kind in range(4)
            for row in range(3)
            for column in range(4)
        ]
    )
    np.testing.assert_allclose(module(maps)[1].detach().numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(9, 9), (10, 15)])
def test_announced_shape_of_primary_capsules_is_the_real_one(kernel: int, stride: int, sides: tuple[int, int]) -> None:
    module, shape = PrimaryCapsules(types=2, kernel=kernel, stride=stride).build((3, *sides))
    assert module(torch.zeros(2, 3, *sides)).shape == (2, *shape)


def test_kernel_larger_than_the_map_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"kernel of 9 needs a map .* found 8x12"):
        PrimaryCapsules(kernel=9).build((3, 8, 12))


@pytest.mark.parametrize("capsules", [2, 30, 1152])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_lengths_begin_neither_at_0_nor_at_1(capsules: int, classes: int) -> None:
    """Whatever the number of capsules: with primary capsules of about a third of their greatest length."""
    vectors = squash(torch.randn(20, capsules, 8, generator=torch.Generator().manual_seed(5)) * 0.25).flatten(1)
    for iterations in (1, 3):
        lengths = torch.sigmoid(built(Capsule(iterations=iterations), capsules * 8, classes)(vectors))
        assert 0.05 < lengths.mean() < 0.9


def test_scores_of_silent_capsules_and_their_gradients_are_finite() -> None:
    module = built(Capsule(), 48, 3)
    vectors = torch.zeros(2, 48, requires_grad=True)
    logits = module(vectors)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert vectors.grad is not None
    assert logits.isfinite().all()
    assert vectors.grad.isfinite().all()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in module.parameters())


def test_capsules_learn_to_tell_two_classes_apart() -> None:
    torch.manual_seed(0)
    maps = torch.randn(64, 1, 6, 6) * 0.5
    labels = torch.arange(64) % 2
    maps[labels == 1, :, :3] += 1.0
    readout, shape = PrimaryCapsules(types=2, kernel=3, stride=2).build((1, 6, 6))
    network = nn.Sequential(readout, Capsule().build(shape[0], 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        lengths = torch.sigmoid(network(maps[:32]))
        truth = F.one_hot(labels[:32], 2)
        loss = truth * (0.9 - lengths).clamp(min=0) ** 2 + 0.5 * (1 - truth) * (lengths - 0.1).clamp(min=0) ** 2
        loss.sum(dim=1).mean().backward()
        optimizer.step()
    assert (network(maps[32:]).argmax(dim=1) == labels[32:]).float().mean() >= 0.9


def test_cosine_is_that_of_the_formula_and_does_not_see_the_length() -> None:
    module = built(Cosine(scale=8.0), 48, 3)
    weight, x = module.get_parameter("weight").detach().double().numpy(), VECTORS.double().numpy()
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(weight, axis=1)[None]
    np.testing.assert_allclose(module(VECTORS).detach().numpy(), 8 * (x @ weight.T) / lengths, atol=1e-5)
    torch.testing.assert_close(module(VECTORS), module(VECTORS * 7))
    assert sum(value.numel() for value in module.parameters()) == 48 * 3


@pytest.mark.parametrize("head", [Capsule(iterations=1), Capsule(iterations=3), Cosine()], ids=str)
def test_heads_treat_rows_alike_copy_and_export(head: Any) -> None:
    module = built(head, 48, 3)
    singles = torch.cat([module(VECTORS[row : row + 1]) for row in range(5)])
    torch.testing.assert_close(module(VECTORS), singles, atol=1e-5, rtol=1e-5)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(VECTORS), module(VECTORS))
    _agrees_when_exported(module, VECTORS)


def test_primary_capsules_export() -> None:
    module = built(PrimaryCapsules(types=3), (2, 9, 9))
    _agrees_when_exported(module, torch.randn(5, 2, 9, 9))


def _agrees_when_exported(module: nn.Module, rows: torch.Tensor) -> None:
    batch = torch.export.Dim("batch", min=1)
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (rows[:2],), dynamic_shapes=({0: batch},)), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for size in (1, 2, 5):
        torch.testing.assert_close(loaded(rows[:size]), module(rows[:size]), atol=1e-4, rtol=1e-4)
