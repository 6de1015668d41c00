"""Losses of class scores against scikit-learn's weights and formulas in NumPy."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from mernas.components.contracts import TRAINING_ROWS
from mernas.components.losses.capsule_margin import CapsuleMargin
from mernas.components.losses.cross_entropy import CrossEntropy
from mernas.components.losses.focal import Focal
from mernas.components.losses.logit_adjusted import LogitAdjusted
from mernas.components.losses.margin_softmax import MarginSoftmax


@dataclass
class Rows:
    """Training rows of which a loss sees the labels."""

    labels: Tensor
    classes: int
    streams: int = 0
    units: Tensor | None = None
    source: Rows | None = None

    def channels(self, stream: int) -> tuple[str, ...]:
        raise AssertionError("a loss needs no maps")

    def maps(self, stream: int) -> Tensor:
        raise AssertionError("a loss needs no maps")

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        raise AssertionError("a loss needs no maps")


RANDOM = np.random.default_rng(0)
TRAINING = RANDOM.choice(3, size=90, p=[0.6, 0.3, 0.1])
LOGITS, TARGETS = RANDOM.normal(size=(20, 3)), RANDOM.integers(0, 3, size=20)


def by_formula(
    logits: NDArray[np.float64], targets: NDArray[np.int64], weights: NDArray[np.float64], smoothing: float
) -> float:
    """Weighted mean of -sum_c q_c w_c log p_c, divided by the sum of the weights of the true classes."""
    classes = logits.shape[1]
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    aims = (1 - smoothing) * np.eye(classes)[targets] + smoothing / classes
    return float(-(aims * weights * logs).sum() / weights[targets].sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_loss_is_that_of_the_formula(weighting: str, smoothing: float) -> None:
    loss = CrossEntropy(weighting=weighting, smoothing=smoothing).build(Rows(torch.from_numpy(TRAINING), 3))
    weights = np.ones(3)
    if weighting == "balanced":
        weights = compute_class_weight("balanced", classes=np.arange(3), y=TRAINING)
    given = loss(torch.from_numpy(LOGITS).float(), torch.from_numpy(TARGETS))
    assert given.item() == pytest.approx(by_formula(LOGITS, TARGETS, weights, smoothing), rel=1e-5)


def test_balanced_weights_are_n_over_c_n_c() -> None:
    loss = CrossEntropy().build(Rows(torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2]), 3))
    np.testing.assert_allclose(loss.get_buffer("weight").numpy(), [12 / (3 * 3), 12 / (3 * 2), 12 / (3 * 7)], rtol=1e-6)


def test_absent_class_weighs_nothing_and_the_loss_stays_finite() -> None:
    loss = CrossEntropy(smoothing=0.1).build(Rows(torch.tensor([0, 0, 0, 2]), 3))
    np.testing.assert_allclose(loss.get_buffer("weight").numpy(), [4 / (3 * 3), 0, 4 / (3 * 1)], rtol=1e-6)
    assert bool(torch.isfinite(loss(torch.randn(4, 3), torch.tensor([0, 0, 0, 2]))))


def test_uniform_scores_cost_the_logarithm_of_the_number_of_classes() -> None:
    loss = CrossEntropy().build(Rows(torch.from_numpy(TRAINING), 3))
    assert loss(torch.zeros(20, 3), torch.from_numpy(TARGETS)).item() == pytest.approx(np.log(3), rel=1e-6)


def test_weights_are_no_parameters() -> None:
    assert list(CrossEntropy().build(Rows(torch.from_numpy(TRAINING), 3)).parameters()) == []


ROWS = Rows(torch.from_numpy(TRAINING), 3)
OTHERS: list[Any] = [Focal(), MarginSoftmax(), CapsuleMargin(), LogitAdjusted()]


def value(component: Any, logits: NDArray[np.float64] = LOGITS, targets: NDArray[np.int64] = TARGETS) -> float:
    """What the loss of a component says, in double precision."""
    return float(component.build(ROWS).double()(torch.from_numpy(logits), torch.from_numpy(targets)))


def class_weights(weighting: str) -> NDArray[np.float64]:
    """Of each clip of the batch, by the class it has."""
    if weighting == "none":
        return np.ones(len(TARGETS))
    weights: NDArray[np.float64] = compute_class_weight("balanced", classes=np.arange(3), y=TRAINING)[TARGETS]
    return weights


def true_logs(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities of the true classes."""
    logs: NDArray[np.float64] = log_softmax(logits, axis=1)[np.arange(len(TARGETS)), TARGETS]
    return logs


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_focal_loss_is_that_of_the_formula(weighting: str, gamma: float) -> None:
    logs = true_logs(LOGITS)
    costs = -((1 - np.exp(logs)) ** gamma) * logs
    by_hand = np.average(costs, weights=class_weights(weighting))
    assert value(Focal(gamma=gamma, weighting=weighting)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_focal_loss_of_gamma_zero_is_cross_entropy(weighting: str) -> None:
    plain = torch.nn.functional.cross_entropy(torch.from_numpy(LOGITS), torch.from_numpy(TARGETS), reduction="none")
    by_hand = np.average(plain.numpy(), weights=class_weights(weighting))
    assert value(Focal(gamma=0.0, weighting=weighting)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_focal_loss_has_a_finite_slope_where_a_clip_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    loss = Focal(gamma=gamma).build(ROWS)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert float(logits.grad[1, 0]) < 0  # the clip that is wrong still pulls


@pytest.mark.parametrize(("scale", "margin"), [(8.0, 0.1), (30.0, 0.35), (64.0, 0.5)])
def test_margin_softmax_of_scaled_cosines_is_cosface(scale: float, margin: float) -> None:
    features, directions = RANDOM.normal(size=(20, 7)), RANDOM.normal(size=(3, 7))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = features @ directions.T
    costs = []
    for row, target in zip(cosines, TARGETS, strict=True):  # -log of e^(s (cos_y - m)) over that and the others
        true = np.exp(scale * (row[target] - margin))
        costs.append(-np.log(true / (true + np.exp(scale * np.delete(row, target)).sum())))
    loss = MarginSoftmax(margin=scale * margin, weighting="none")
    assert value(loss, scale * cosines) == pytest.approx(np.mean(costs), rel=1e-6)


def test_margin_softmax_weighs_classes_as_cross_entropy_does() -> None:
    moved = LOGITS - 1.5 * np.eye(3)[TARGETS]
    by_hand = np.average(-true_logs(moved), weights=class_weights("balanced"))
    assert value(MarginSoftmax(margin=1.5)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_capsule_margin_is_that_of_the_formula(weighting: str) -> None:
    costs = []
    for row, target in zip(expit(LOGITS), TARGETS, strict=True):
        cost = 0.0
        for label, length in enumerate(row):
            present = float(label == target)
            cost += present * max(0, 0.95 - length) ** 2 + 0.4 * (1 - present) * max(0, length - 0.05) ** 2
        costs.append(cost)
    by_hand = np.average(costs, weights=class_weights(weighting))
    loss = CapsuleMargin(upper=0.95, lower=0.05, absent=0.4, weighting=weighting)
    assert value(loss) == pytest.approx(by_hand, rel=1e-6)


def test_capsule_margin_is_zero_beyond_its_margins() -> None:
    lengths = np.where(np.eye(3)[TARGETS] == 1, 0.91, 0.09)
    logits = np.log(lengths / (1 - lengths))
    assert value(CapsuleMargin(upper=0.9, lower=0.1), logits) == 0.0
    assert value(CapsuleMargin(upper=0.92, lower=0.1), logits) > 0.0


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_that_of_the_formula(tau: float) -> None:
    shares = np.bincount(TRAINING, minlength=3) / len(TRAINING)
    by_hand = -true_logs(LOGITS + tau * np.log(shares)).mean()
    assert value(LogitAdjusted(tau=tau)) == pytest.approx(by_hand, rel=1e-5)


def test_logit_adjustment_of_nothing_learnt_costs_what_the_shares_cost() -> None:
    shares = np.bincount(TRAINING, minlength=3) / len(TRAINING)
    given = value(LogitAdjusted(), np.zeros((20, 3)))
    assert given == pytest.approx(-np.log(shares[TARGETS]).mean(), rel=1e-5)


def test_logit_adjustment_pushes_an_absent_class_down_and_stays_finite() -> None:
    loss = LogitAdjusted().build(Rows(torch.tensor([0, 0, 2, 2, 2]), 3))
    logits = torch.zeros(2, 3, requires_grad=True)
    given = loss(logits, torch.tensor([0, 2]))
    given.backward()
    assert bool(torch.isfinite(given))
    assert logits.grad is not None
    assert bool((logits.grad[:, 1] > 0).all())


@pytest.mark.parametrize("component", OTHERS, ids=lambda component: type(component).__name__)
def test_losses_keep_no_parameters_survive_pickling_and_fall_as_scores_improve(component: Any) -> None:
    assert component.fit_scope == TRAINING_ROWS
    loss = component.build(ROWS)
    assert list(loss.parameters()) == []
    again = pickle.loads(pickle.dumps(loss))
    logits, targets = torch.from_numpy(LOGITS).float(), torch.from_numpy(TARGETS)
    assert torch.equal(again(logits, targets), loss(logits, targets))
    logits.requires_grad_()
    before = loss(logits, targets)
    before.backward()
    assert logits.grad is not None
    assert bool(loss(logits - 0.1 * logits.grad, targets) < before)


@pytest.mark.parametrize("component", OTHERS[:3], ids=lambda component: type(component).__name__)
def test_losses_bear_a_class_without_training_rows(component: Any) -> None:
    loss = component.build(Rows(torch.tensor([0, 0, 0, 2]), 3))
    np.testing.assert_allclose(loss.get_buffer("weight").numpy(), [4 / (3 * 3), 0, 4 / (3 * 1)], rtol=1e-6)
    assert bool(torch.isfinite(loss(torch.randn(4, 3), torch.tensor([0, 0, 0, 2]))))
