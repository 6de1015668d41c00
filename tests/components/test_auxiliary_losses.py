"""Losses of embeddings against loops in NumPy that go through clips, pairs and triplets one by one."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mernas.components.contracts import TRAINING_ROWS
from mernas.components.losses.center import Center
from mernas.components.losses.contrastive import Contrastive
from mernas.components.losses.triplet import Triplet
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import BALANCED_BATCHES

RANDOM = np.random.default_rng(0)
VECTORS, TARGETS = RANDOM.normal(size=(14, 5)), np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 1])  # one clip of 3
ROWS: Any = SimpleNamespace(labels=torch.from_numpy(TARGETS), classes=4)


def value(component: Any, vectors: NDArray[np.float64] = VECTORS, targets: NDArray[np.int64] = TARGETS) -> float:
    module = component.build(ROWS, vectors.shape[1]).double()
    return float(module(torch.from_numpy(vectors), torch.from_numpy(targets)))


def scaled(vectors: NDArray[np.float64], length: str) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if length == "unit" else vectors


def distance(vectors: NDArray[np.float64], one: int, other: int) -> float:
    return float(np.sqrt(((vectors[one] - vectors[other]) ** 2).sum()))


@pytest.mark.parametrize("length", ["free", "unit"])
def test_center_loss_and_its_centres_are_those_of_the_paper_batch_after_batch(length: str) -> None:
    loss = Center(weight=0.3, rate=0.4, length=length).build(ROWS, 5).double()
    centres = np.zeros((4, 5))
    for _ in range(4):
        vectors, targets = RANDOM.normal(size=(9, 5)), RANDOM.integers(0, 3, size=9)  # class 3 never comes
        used = scaled(vectors, length)
        expected = np.mean([0.5 * ((x - centres[y]) ** 2).sum() for x, y in zip(used, targets, strict=True)])
        given = float(loss(torch.from_numpy(vectors), torch.from_numpy(targets)))
        assert given == pytest.approx(0.3 * expected, rel=1e-9)
        for label in range(4):
            members = used[targets == label]
            delta = (centres[label] - members).sum(axis=0) / (1 + len(members))
            centres[label] = centres[label] - 0.4 * delta
        np.testing.assert_allclose(loss.get_buffer("centres").numpy(), centres, atol=1e-12)
    assert not centres[3].any()


def test_centres_stand_still_outside_training_and_are_no_parameters() -> None:
    loss = Center().build(ROWS, 5).double()
    loss(torch.from_numpy(VECTORS), torch.from_numpy(TARGETS))
    before = loss.get_buffer("centres").clone()
    loss.eval()
    loss(torch.from_numpy(VECTORS), torch.from_numpy(TARGETS))
    assert torch.equal(loss.get_buffer("centres"), before)
    assert bool(before.any())
    assert list(loss.parameters()) == []


def test_slope_of_the_center_loss_is_the_distance_from_the_centre_before_its_move() -> None:
    loss = Center(weight=1.0).build(ROWS, 5).double()
    loss(torch.from_numpy(VECTORS), torch.from_numpy(TARGETS))
    centres = loss.get_buffer("centres").numpy().copy()
    vectors = torch.from_numpy(VECTORS).requires_grad_()
    loss(vectors, torch.from_numpy(TARGETS)).backward()
    assert vectors.grad is not None
    np.testing.assert_allclose(vectors.grad.numpy(), (VECTORS - centres[TARGETS]) / len(TARGETS), atol=1e-12)


@pytest.mark.parametrize("length", ["free", "unit"])
@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_contrastive_loss_is_the_mean_over_all_pairs(margin: float, length: str) -> None:
    vectors = scaled(VECTORS, length)
    costs = []
    for one, other in itertools.combinations(range(len(TARGETS)), 2):
        apart = distance(vectors, one, other)
        costs.append(apart**2 if TARGETS[one] == TARGETS[other] else max(0, margin - apart) ** 2)
    given = value(Contrastive(weight=0.7, margin=margin, length=length))
    assert given == pytest.approx(0.7 * np.mean(costs), rel=1e-9)


def triplet_costs(vectors: NDArray[np.float64], margin: float, mining: str) -> list[float]:
    """The costs of the triplets that the mining chooses, found by going through all."""
    clips = range(len(TARGETS))
    costs = []
    for clip in clips:
        positives = [distance(vectors, clip, i) for i in clips if i != clip and TARGETS[i] == TARGETS[clip]]
        negatives = [distance(vectors, clip, i) for i in clips if TARGETS[i] != TARGETS[clip]]
        if not positives or not negatives:
            continue
        if mining == "all":
            chosen = list(itertools.product(positives, negatives))
        elif mining == "hard":
            chosen = [(max(positives), min(negatives))]
        else:
            chosen = [(p, min([n for n in negatives if n > p], default=max(negatives))) for p in positives]
        costs += [max(0.0, positive - negative + margin) for positive, negative in chosen]
    return costs


@pytest.mark.parametrize("length", ["free", "unit"])
@pytest.mark.parametrize("margin", [0.1, 1.0])
@pytest.mark.parametrize("mining", ["all", "hard", "semi-hard"])
def test_triplet_loss_is_the_mean_over_the_mined_triplets(mining: str, margin: float, length: str) -> None:
    costs = triplet_costs(scaled(VECTORS, length), margin, mining)
    assert any(cost > 0 for cost in costs)
    given = value(Triplet(weight=0.7, margin=margin, mining=mining, length=length))
    assert given == pytest.approx(0.7 * np.mean(costs), rel=1e-9)


def test_semi_hard_mining_falls_back_to_the_farthest_negative() -> None:
    line = np.array([[0.0], [9.0], [4.0], [5.0]])  # the positive at 9 is farther than any negative
    # Clip 0: 9 - 5, clip 1: 9 - 5; clips 2 and 3 have each other at 1 and the nearest one beyond at 4.
    expected = np.mean([9 - 5 + 1, 9 - 5 + 1, 0, 0])
    loss = Triplet(weight=1.0, margin=1.0, mining="semi-hard", length="free")
    assert value(loss, line, np.array([0, 0, 1, 1])) == pytest.approx(expected)


@pytest.mark.parametrize("mining", ["all", "hard", "semi-hard"])
@pytest.mark.parametrize("targets", [[0, 0, 0, 0], [0, 1, 2, 3], [2]])
def test_triplet_loss_is_zero_with_a_zero_slope_where_there_is_no_triplet(targets: list[int], mining: str) -> None:
    vectors = torch.from_numpy(VECTORS[: len(targets)]).requires_grad_()
    loss = Triplet(mining=mining).build(ROWS, 5)(vectors, torch.tensor(targets))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert vectors.grad is not None
    assert not vectors.grad.any()


@pytest.mark.parametrize(
    "component",
    [Center(), Contrastive(), Contrastive(length="free"), *(Triplet(mining=m) for m in ("all", "hard", "semi-hard"))],
    ids=str,
)
def test_slopes_are_finite_for_equal_vectors_and_for_zero(component: Any) -> None:
    vectors = torch.zeros(6, 5)
    vectors[2:] = 1.0
    vectors.requires_grad_()
    loss = component.build(ROWS, 5)(vectors, torch.tensor([0, 1, 0, 0, 1, 1]))
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert vectors.grad is not None
    assert bool(torch.isfinite(vectors.grad).all())


@pytest.mark.parametrize("component", [Center(), Contrastive(), Triplet()], ids=str)
def test_descent_on_the_loss_gathers_classes(component: Any) -> None:
    vectors = torch.from_numpy(VECTORS).clone().requires_grad_()
    module = component.build(ROWS, 5).double()

    def spread() -> float:
        """Mean squared distance to the class mean, over that to the mean of all."""
        values = scaled(vectors.detach().numpy(), component.length)
        within = np.mean([((own - own.mean(axis=0)) ** 2).sum() for own in (values[y == TARGETS] for y in range(3))])
        return float(within / ((values - values.mean(axis=0)) ** 2).sum())

    before = spread()
    optimiser = torch.optim.SGD([vectors], lr=0.5 / component.weight)
    for _ in range(30):
        optimiser.zero_grad()
        module(vectors, torch.from_numpy(TARGETS)).backward()
        optimiser.step()
    assert spread() < 0.9 * before


def test_pairs_and_triplets_need_balanced_batches_and_centres_do_not() -> None:
    needs = {name: REGISTRY.get("auxiliary_loss", name).needs for name in ("center", "contrastive", "triplet")}
    assert needs == {"center": set(), "contrastive": {BALANCED_BATCHES}, "triplet": {BALANCED_BATCHES}}
    assert all(component.fit_scope == TRAINING_ROWS for component in (Center, Contrastive, Triplet))
