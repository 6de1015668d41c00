"""Calibration: against scikit-learn's curve, plain loops, and data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from mernas.evaluation.calibration import (
    BINS,
    TEMPERATURES,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    temper,
    threshold,
)
from mernas.space.errors import DataError


def drawn(clips: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure (or not sure enough) by a known temperature, and labels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=2.0, size=(clips, 3))
    labels = np.array([generator.choice(3, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits * temperature, axis=1), labels


def test_reliability_equals_scikit_learns_curve_of_the_predicted_class() -> None:
    probabilities, labels = drawn(400, 2.0)
    told = reliability(probabilities, labels)
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=BINS, strategy="uniform")
    filled = [place for place, count in enumerate(told.counts) if count]
    assert [told.accuracy[place] for place in filled] == pytest.approx(accuracy)
    assert [told.confidence[place] for place in filled] == pytest.approx(confidence)
    assert sum(told.counts) == 400
    assert all(math.isnan(told.accuracy[place]) for place in range(BINS) if place not in filled)


def test_the_expected_calibration_error_is_the_sum_that_the_paper_writes() -> None:
    probabilities, labels = drawn(300, 3.0)
    expected = 0.0
    for low in np.arange(BINS) / BINS:
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if low < row.max() <= low + 1 / BINS
        ]
        if inside:
            gap = np.mean([one for one, _ in inside]) - np.mean([hit for _, hit in inside])
            expected += len(inside) / len(labels) * abs(gap)
    assert reliability(probabilities, labels).error == pytest.approx(expected)


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_probabilities_is_found_again(truth: float) -> None:
    probabilities, labels = drawn(20_000, truth)
    found = fit_temperature(probabilities, labels)
    assert found == pytest.approx(truth, rel=0.05)
    mended = temper(probabilities, found)
    assert reliability(mended, labels).error < 0.02
    assert (mended.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_no_temperature_of_a_fine_grid_is_better_than_the_one_that_was_fitted() -> None:
    probabilities, labels = drawn(60, 1.7, seed=5)
    least = min(log_loss(labels, temper(probabilities, t), labels=[0, 1, 2]) for t in np.geomspace(*TEMPERATURES, 2001))
    fitted = negative_log_likelihood(temper(probabilities, fit_temperature(probabilities, labels)), labels)
    assert fitted <= least + 1e-9


@pytest.mark.parametrize("margin", [20.0, 60.0, 100.0, 300.0])
def test_errors_that_were_certain_make_the_probabilities_milder_however_certain(margin: float) -> None:
    logits = np.tile([margin, 0.0, 0.0], (20, 1))
    labels = np.array([0] * 14 + [1] * 6)
    found = fit_temperature(softmax(logits, axis=1), labels)
    truth = margin / np.log(0.7 / 0.15)  # where the mean probability of the first class is its share
    assert found == pytest.approx(min(truth, TEMPERATURES[1]), rel=1e-4)


@given(arrays(float, (5, 4), elements=st.floats(-20, 20)), st.floats(0.1, 10))
def test_tempering_is_dividing_the_logits(logits: np.ndarray, temperature: float) -> None:
    probabilities = np.exp(log_softmax(logits, axis=1))
    assert temper(probabilities, temperature) == pytest.approx(softmax(logits / temperature, axis=1), abs=1e-12)


def test_a_certain_prediction_stays_certain_and_a_certain_error_costs_a_finite_loss() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert temper(certain, 3.0).tolist() == certain.tolist()
    assert math.isfinite(negative_log_likelihood(certain, np.array([1, 1])))
    assert fit_temperature(certain, np.array([0, 1])) >= TEMPERATURES[0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_threshold_answers_at_least_its_share_and_the_next_higher_confidence_does_not(
    values: list[float], coverage: float
) -> None:
    confidence = np.array(values)
    chosen = threshold(confidence, coverage)
    assert (confidence >= chosen).mean() >= coverage - 1e-9
    higher = confidence[confidence > chosen]
    assert not len(higher) or (confidence >= higher.min()).mean() < coverage


def test_what_is_no_distribution_is_refused_with_all_mistakes_at_once() -> None:
    with pytest.raises(DataError) as caught:
        reliability(np.array([[0.7, 0.7]]), np.array([2]))
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="must be above 0"):
        temper(np.array([[1.0]]), 0.0)
    with pytest.raises(DataError, match="coverage"):
        threshold(np.array([0.5]), 0.0)
