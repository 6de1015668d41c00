"""Cross-entropy against scikit-learn's weights and a formula in NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from mernas.components.losses.cross_entropy import CrossEntropy


@dataclass
class Rows:
    """Training rows of which a loss sees the labels."""

    labels: Tensor
    classes: int
    streams: int = 0

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
