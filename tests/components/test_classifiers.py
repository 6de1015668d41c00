"""Classical classifiers: against optimality conditions, on degenerate training rows, and on the public flow images."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import f1_score, recall_score
from threadpoolctl import threadpool_limits
from torch import Tensor

from mernas.components.classifiers.linear_svm import LinearSvm
from mernas.components.classifiers.logistic_regression import StandardisedLogisticRegression
from mernas.components.classifiers.majority import Majority
from mernas.components.classifiers.rbf_svm import RbfSvm
from mernas.components.contracts import TRAINING_ROWS, Classifier, NotFiniteError
from mernas.components.datasets.flow_images import FlowImages
from mernas.components.inputs.given_flow import GivenFlow
from mernas.components.inputs.optical_flow import OpticalFlow
from mernas.space.genotype import instantiate, parse_genotype
from mernas.space.registry import REGISTRY

RELEASE = Path(__file__).resolve().parents[3] / "shared" / "data" / "megc2019_flow" / "norm_u_v_os"


@dataclass(frozen=True)
class Rows:
    """Training rows of one job."""

    labels: Tensor
    arrays: tuple[Tensor, ...]
    classes: int = 3
    units: None = None
    source: None = None

    @property
    def streams(self) -> int:
        return len(self.arrays)

    def channels(self, stream: int) -> tuple[str, ...]:
        return tuple(f"channel {number}" for number in range(self.arrays[stream].shape[1]))

    def maps(self, stream: int) -> Tensor:
        return self.arrays[stream]

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        return [array[rows] for array in self.arrays]


def blobs(labels: Sequence[int], seed: int = 0, distance: float = 3.0, classes: int = 3) -> Rows:
    """Rows of two streams whose classes lie around different corners, of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor(labels)
    first = torch.randn(len(labels), 2, 3, 3, generator=generator)
    second = 100 * torch.randn(len(labels), 1, 2, 2, generator=generator)
    for row, label in enumerate(labels):
        first[row, label % 2, label // 2] += distance
        second[row, 0, label // 2, label % 2] += 100 * distance
    return Rows(targets, (first, second), classes)


LABELS = [0] * 30 + [1] * 12 + [2] * 8
ALL: tuple[Any, ...] = (Majority(), StandardisedLogisticRegression(), RbfSvm(), LinearSvm())
LEARNING: tuple[Any, ...] = (
    StandardisedLogisticRegression(),
    StandardisedLogisticRegression(C=100.0),
    RbfSvm(),
    LinearSvm(),
)


@pytest.mark.parametrize("classifier", ALL)
def test_scores_are_shares_of_one_for_every_class(classifier: Classifier) -> None:
    scores = classifier.fit(blobs(LABELS), seed=0).predict(blobs([0, 1, 2, 1], seed=1).arrays)
    assert scores.shape == (4, 3)
    assert scores.dtype == np.float64
    assert (scores >= 0).all()
    assert np.allclose(scores.sum(axis=1), 1)


@pytest.mark.parametrize("classifier", LEARNING)
def test_well_separated_classes_are_told_apart(classifier: Classifier) -> None:
    held_out = blobs([0, 1, 2] * 20, seed=2, distance=6)
    scores = classifier.fit(blobs(LABELS, distance=6), seed=0).predict(held_out.arrays)
    assert (scores.argmax(axis=1) == held_out.labels.numpy()).mean() > 0.95


@pytest.mark.parametrize("classifier", LEARNING)
def test_the_scale_of_the_values_does_not_matter(classifier: Classifier) -> None:
    rows, held_out = blobs(LABELS), blobs([0, 1, 2], seed=3)
    scaled = Rows(rows.labels, (1024 * rows.arrays[0] + 5, rows.arrays[1]))
    changed = [1024 * held_out.arrays[0] + 5, held_out.arrays[1]]
    expected = classifier.fit(rows, seed=0).predict(held_out.arrays)
    assert np.allclose(classifier.fit(scaled, seed=0).predict(changed), expected, atol=1e-3)


@pytest.mark.parametrize("stream", [0, 1])
@pytest.mark.parametrize("classifier", LEARNING)
def test_every_stream_is_looked_at(classifier: Classifier, stream: int) -> None:
    held_out = list(blobs([0, 1, 2], seed=3).arrays)
    predictor = classifier.fit(blobs(LABELS), seed=0)
    before = predictor.predict(held_out)
    held_out[stream] = held_out[stream].flip(0)
    assert not np.allclose(predictor.predict(held_out), before)


@pytest.mark.parametrize("classifier", ALL)
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_without_training_rows_scores_zero(classifier: Classifier, missing: int) -> None:
    labels = [label for label in LABELS if label != missing]
    present = sorted(set(labels))
    held_out = blobs(present * 10, seed=4, distance=6)
    scores = classifier.fit(blobs(labels, distance=6), seed=0).predict(held_out.arrays)
    assert not scores[:, missing].any()
    assert np.allclose(scores.sum(axis=1), 1)
    if not isinstance(classifier, Majority):
        assert (scores.argmax(axis=1) == held_out.labels.numpy()).mean() > 0.9


@pytest.mark.parametrize("classifier", ALL)
@pytest.mark.parametrize("only", [0, 1, 2])
def test_a_single_class_is_predicted_for_sure(classifier: Classifier, only: int) -> None:
    scores = classifier.fit(blobs([only] * 5), seed=0).predict(blobs([0, 1, 2], seed=5).arrays)
    assert np.array_equal(scores, np.eye(3)[[only] * 3])


@pytest.mark.parametrize("classifier", ALL)
def test_equal_rows_give_equal_bits_whatever_the_seed_and_the_global_state(classifier: Classifier) -> None:
    held_out = blobs([0, 1, 2] * 3, seed=6).arrays
    results = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        results.append(classifier.fit(blobs(LABELS), seed=seed).predict(held_out))
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("classifier", LEARNING)
def test_the_bits_do_not_depend_on_the_number_of_threads(classifier: Classifier) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = Rows(torch.arange(300) % 3, (torch.randn(300, 3, 20, 20, generator=generator),))
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(classifier.fit(rows, seed=0).predict(rows.arrays))
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("classifier", ALL)
def test_fitting_changes_no_map(classifier: Classifier) -> None:
    rows = blobs(LABELS)
    classifier.fit(rows, seed=0).predict(rows.arrays)
    assert all(torch.equal(array, fresh) for array, fresh in zip(rows.arrays, blobs(LABELS).arrays, strict=True))


@pytest.mark.parametrize("classifier", ALL)
def test_a_predictor_survives_pickling(classifier: Classifier) -> None:
    predictor = classifier.fit(blobs(LABELS), seed=0)
    held_out = blobs([0, 1, 2], seed=7).arrays
    assert np.array_equal(pickle.loads(pickle.dumps(predictor)).predict(held_out), predictor.predict(held_out))


@pytest.mark.parametrize("classifier", LEARNING)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused_by_name(classifier: Classifier, value: float) -> None:
    rows, broken = blobs(LABELS), blobs(LABELS)
    broken.arrays[1][3, 0, 0, 0] = value
    with pytest.raises(NotFiniteError, match="1 maps"):
        classifier.fit(broken, seed=0)
    with pytest.raises(NotFiniteError):
        classifier.fit(rows, seed=0).predict(broken.arrays)


def test_a_constant_value_does_no_harm() -> None:
    rows = blobs(LABELS)
    rows.arrays[0][:, 0, 0, 0] = 7.0
    for classifier in LEARNING:
        assert np.isfinite(classifier.fit(rows, seed=0).predict(rows.arrays)).all()


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([0, 1, 1, 2], [0.25, 0.5, 0.25]), ([2, 2, 1], [0, 1 / 3, 2 / 3]), ([2, 1, 2, 1, 0], [0.2, 0.4, 0.4])],
)
def test_majority_scores_with_the_class_frequencies(labels: list[int], scores: list[float]) -> None:
    predicted = Majority().fit(blobs(labels), seed=0).predict(blobs([0, 0], seed=1).arrays)
    assert np.allclose(predicted, [scores, scores])


def test_majority_breaks_ties_by_the_smallest_number() -> None:
    predicted = Majority().fit(blobs([2, 1, 2, 1, 0]), seed=0).predict(blobs([0], seed=1).arrays)
    assert predicted.argmax(axis=1).tolist() == [1]


def standardised(rows: Rows) -> NDArray[np.float64]:
    values = np.concatenate([array.reshape(len(array), -1).numpy().astype(np.float64) for array in rows.arrays], axis=1)
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))


@pytest.mark.parametrize("strength", [0.001, 0.1])
def test_logistic_regression_minimises_the_balanced_penalised_cross_entropy(strength: float) -> None:
    rows = blobs(LABELS, distance=1)
    values, labels = torch.from_numpy(standardised(rows)), rows.labels
    weight = torch.zeros(values.shape[1], 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    balance = len(labels) / (3 * torch.bincount(labels).double())  # every class with the same total weight
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=2000, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        losses = torch.nn.functional.cross_entropy(values @ weight + bias, labels, reduction="none")
        total = (balance[labels] * losses).sum() * strength + 0.5 * (weight**2).sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return total

    optimiser.step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    expected = torch.softmax(values @ weight + bias, dim=1).detach().numpy()
    found = StandardisedLogisticRegression(C=strength).fit(rows, seed=0).predict(rows.arrays)
    assert np.abs(found - expected).max() < 2e-3


def test_a_machine_with_a_huge_cost_learns_what_no_line_can_separate() -> None:
    corners = torch.tensor([[0.0, 0], [1, 1], [0, 1], [1, 0]]).reshape(4, 1, 1, 2)
    rows = Rows(torch.tensor([0, 0, 2, 2]), (corners,))
    scores = RbfSvm(C=1000.0).fit(rows, seed=0).predict([corners])
    assert scores.argmax(axis=1).tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize("gamma", ["scale", 1e-4, 1e-3])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:42]])
def test_the_machine_decides_by_its_own_kernel_expansion(gamma: Any, labels: list[int]) -> None:
    rows = blobs(labels, distance=1)
    predictor = RbfSvm(C=10.0, gamma=gamma).fit(rows, seed=0)
    machine = predictor.pipeline[-1]  # type: ignore[attr-defined]  # of this predictor only
    values = standardised(rows)
    width = 1 / (values.shape[1] * values.var()) if gamma == "scale" else gamma
    distances = ((values[:, None] - values[None, machine.support_]) ** 2).sum(axis=2)
    kernel = np.exp(-width * distances)
    # One against one, from the dual coefficients; the sum of the winner's margins breaks a tie of votes.
    start = np.concatenate([[0], np.cumsum(machine.n_support_)])
    count = len(machine.classes_)
    votes, margins = np.zeros((len(values), count)), np.zeros((len(values), count))
    pair = 0
    for first in range(count):
        for second in range(first + 1, count):
            one, other = (slice(start[k], start[k + 1]) for k in (first, second))
            decision = kernel[:, one] @ machine.dual_coef_[second - 1, one]
            decision += kernel[:, other] @ machine.dual_coef_[first, other]
            decision += machine.intercept_[pair]
            decision = -decision if count == 2 else decision  # scikit-learn turns the sign of two classes
            votes[np.arange(len(values)), np.where(decision > 0, first, second)] += 1
            margins[:, first] += decision
            margins[:, second] -= decision
            pair += 1
    expected = (votes + margins / (3 * (np.abs(margins) + 1))).argmax(axis=1)
    assert np.array_equal(predictor.predict(rows.arrays).argmax(axis=1), machine.classes_[expected])


@pytest.mark.parametrize("scale", ["standard", "none"])
@pytest.mark.parametrize("cost", [0.1, 1.0])
def test_the_linear_machine_solves_the_balanced_soft_margin_problem(cost: float, scale: str) -> None:
    made = blobs([0] * 14 + [1] * 6, distance=1, classes=2)
    rows = Rows(made.labels, (made.arrays[0].flatten(1)[:, :5],), classes=2)  # vectors, as of hand-crafted features
    values = standardised(rows) if scale == "standard" else rows.arrays[0].numpy().astype(np.float64)
    count, length = values.shape
    sign = 2.0 * rows.labels.numpy() - 1
    price = cost * count / (2 * np.bincount(rows.labels.numpy())[rows.labels.numpy()])

    # The primal over (weights, bias, slacks): |w|² / 2 + price · slack, sign (values w + b) >= 1 - slack, slack >= 0.
    def objective(point: NDArray[np.float64]) -> float:
        return float(point[:length] @ point[:length] / 2 + price @ point[length + 1 :])

    margins = np.hstack([sign[:, None] * values, sign[:, None], np.eye(count)])
    solved = minimize(
        objective,
        np.concatenate([np.zeros(length + 1), np.ones(count)]),
        jac=lambda point: np.concatenate([point[:length], [0], price]),
        bounds=[(None, None)] * (length + 1) + [(0, None)] * count,
        constraints={"type": "ineq", "fun": lambda point: margins @ point - 1, "jac": lambda point: margins},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert solved.success
    scores = LinearSvm(C=cost, scale=scale).fit(rows, seed=0).predict(rows.arrays)
    decisions = np.log(scores[:, 1] / scores[:, 0]) / 2
    weights, bias = solved.x[:length], solved.x[length]
    assert np.abs(decisions - (values @ weights + bias)).max() < 5e-3


def test_the_linear_machine_cannot_separate_what_no_line_can() -> None:
    corners = torch.tensor([[0.0, 0], [1, 1], [0, 1], [1, 0]])
    rows = Rows(torch.tensor([0, 0, 2, 2]), (corners,))
    scores = LinearSvm(C=1000.0).fit(rows, seed=0).predict([corners])
    assert (scores.argmax(axis=1) == rows.labels.numpy()).sum() <= 3


def test_the_linear_machine_is_no_family_of_the_baselines() -> None:
    assert LinearSvm.baseline is False
    assert LinearSvm.family == {}


@pytest.mark.parametrize("classifier", ALL)
def test_a_classifier_is_fitted_on_training_rows_and_has_a_legal_family(classifier: Classifier) -> None:
    assert classifier.fit_scope == TRAINING_ROWS
    names = {
        Majority: "majority",
        StandardisedLogisticRegression: "logistic_regression",
        RbfSvm: "rbf_svm",
        LinearSvm: "linear_svm",
    }
    declaration = REGISTRY.get("classifier", names[type(classifier)])
    for name, values in classifier.family.items():
        assert all(value in declaration.parameters[name].domain for value in values)  # type: ignore[operator]  # no slot


def test_a_genotype_builds_the_classifier_that_it_names() -> None:
    text = "{streams: [{input: {optical_flow: {estimator: given}}}], classifier: {rbf_svm: {C: 10, gamma: 1e-4}}}"
    assert instantiate(parse_genotype(text)["classifier"]) == RbfSvm(C=10.0, gamma=1e-4)


@pytest.fixture(scope="module")
def leave_one_subject_out() -> Callable[[Classifier, str], tuple[float, float]]:
    if not RELEASE.is_dir():
        pytest.skip("the public flow images are not beside the project (shared/data/megc2019_flow)")
    data = FlowImages().load(RELEASE)
    labels, subjects = data.labels, np.array([clip.subject for clip in data])

    def scores(classifier: Classifier, centre: str) -> tuple[float, float]:
        flow = OpticalFlow(estimator=GivenFlow(), centre=centre)
        maps = torch.from_numpy(np.stack([flow.prepare(clip) for clip in data]))
        predicted = np.full(len(data), -1)
        for subject in data.subjects:
            out = subjects == subject
            rows = Rows(torch.from_numpy(labels[~out]), (maps[torch.from_numpy(~out)],))
            predicted[out] = classifier.fit(rows, seed=0).predict([maps[torch.from_numpy(out)]]).argmax(axis=1)
        return (
            f1_score(labels, predicted, labels=[0, 1, 2], average="macro"),
            recall_score(labels, predicted, labels=[0, 1, 2], average="macro"),
        )

    return scores


def test_majority_reaches_its_known_floor(leave_one_subject_out: Callable[..., tuple[float, float]]) -> None:
    assert leave_one_subject_out(Majority(), "none") == pytest.approx((0.241, 0.333), abs=0.001)


def test_the_machine_on_centred_maps_reaches_its_known_scores(
    leave_one_subject_out: Callable[..., tuple[float, float]],
) -> None:
    assert leave_one_subject_out(RbfSvm(), "median") == pytest.approx((0.7325, 0.7351), abs=0.005)


def test_one_thread_limits_what_was_loaded_after_it_was_first_asked_for() -> None:
    script = (
        "from threadpoolctl import threadpool_info, threadpool_limits\n"
        "from mernas.components.one_thread import one_thread\n"
        "threadpool_limits(2)\n"
        "with one_thread():\n"
        "    pass\n"
        "import numpy, sklearn.svm\n"
        "threadpool_limits(2)\n"
        "before = threadpool_info()\n"
        "with one_thread('blas'):\n"
        "    within = threadpool_info()\n"
        "print(*(sorted({one['num_threads'] for one in found if one['user_api'] == 'blas'})\n"
        "        for found in (before, within, threadpool_info())))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[2]", "[1]", "[2]"]
