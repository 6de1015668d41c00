"""The classifier: scikit-learn's own checks where they apply, and a fit that is the engine's job to the bit."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from mernas.components.datasets.clip import Clip, Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.estimator import MernasClassifier
from mernas.evaluation.fitting import fit_and_predict
from mernas.evaluation.jobs import Job, make_job
from mernas.evaluation.preparation import prepare, recipes_of
from mernas.evaluation.rows import number_rows
from mernas.search.evaluate import find_pipeline
from mernas.space.errors import MernasError
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.presets import load_preset

ONE_STREAM = """
streams:
  - input: {optical_flow: {estimator: given, size: 14, centre: median}}
    backbone: [{convolution: {width: 4, dropout: 0.2}}]
tasks: [{emotion: {head: linear}}]
augmentation: [flip, shift]
training: {scratch: {epochs: 6, batch: 16, optimizer: {adamw: {lr: 0.02}}}}
loss: cross_entropy
"""
# The maps of this one are those that the clips ship, so that the tests need not prepare any.
PLAIN = ONE_STREAM.replace(", centre: median", "").replace("augmentation: [flip, shift]", "augmentation: [shift]")
# The second stream sees the strain alone.
TWO_STREAMS = """
streams:
  - input: {optical_flow: {estimator: given, size: 14, quantities: u+v+strain}}
    backbone: [{convolution: {width: 2}}]
  - input: {optical_flow: {estimator: given, size: 14, quantities: strain}}
    backbone: [{convolution: {width: 2}}]
tasks: [{emotion: {head: linear}}]
training: {scratch: {epochs: 4, optimizer: {adamw: {lr: 0.02}}}}
loss: cross_entropy
"""
CLASSICAL = "{streams: [{input: {optical_flow: {estimator: given, size: 14}}}], classifier: {rbf_svm: {C: 10.0}}}"

Maps = NDArray[np.float32]


@pytest.fixture(scope="module")
def data(toy: Callable[..., Dataset]) -> Dataset:
    return toy(signal=1.5)


@pytest.fixture(scope="module")
def maps(data: Dataset) -> Maps:
    """u, v and strain of the toy clips as they are, (36, 3, 14, 14)."""
    return np.stack([np.concatenate([clip.given["flow"](), clip.given["strain"]()[None]]) for clip in data])


@pytest.fixture(scope="module")
def labels(data: Dataset) -> NDArray[Any]:
    return data.annotations["emotion"].to_numpy()


@pytest.fixture(scope="module")
def network(maps: Maps, labels: NDArray[Any]) -> MernasClassifier:
    """Fitted, for tests that only ask it."""
    return MernasClassifier(ONE_STREAM).fit(maps, labels)


# scikit-learn's own checks, none of them expected to fail


@parametrize_with_checks([MernasClassifier("rbf_svm")])
def test_scikit_learn_finds_a_classifier(estimator: MernasClassifier, check: Callable[..., None]) -> None:
    check(estimator)


# What depends on which classifier it is; the rest is the same code for all.
BY_CLASSIFIER = {
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_decision_proba_consistency",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_readonly_memmap_input",
    "check_valid_tag_types",
}


def checks_of(name: str) -> list[Any]:
    """Those of scikit-learn's checks of a classifier."""
    pairs = estimator_checks_generator(MernasClassifier(name))
    found = [(estimator, check) for estimator, check in pairs if check.func.__name__ in BY_CLASSIFIER]
    assert {check.func.__name__ for _, check in found} == BY_CLASSIFIER
    return [pytest.param(*pair, id=f"{name}-{number}-{pair[1].func.__name__}") for number, pair in enumerate(found)]


@pytest.mark.parametrize(("estimator", "check"), [*checks_of("logistic_regression"), *checks_of("majority")])
def test_scikit_learn_finds_the_other_classifiers_too(estimator: MernasClassifier, check: Callable[..., None]) -> None:
    check(estimator)


# A fit is a job


@pytest.mark.parametrize("text", [ONE_STREAM, TWO_STREAMS, CLASSICAL], ids=["one stream", "two streams", "classical"])
def test_a_fit_gives_the_probabilities_of_the_engines_job_to_the_bit(text: str, data: Dataset, tmp_path: Path) -> None:
    genotype = parse_genotype(text)
    job, store, clips = job_of(genotype, data, tmp_path)
    expected, _ = fit_and_predict(job, store)
    fitted = MernasClassifier(text, seed=job.seed, cache=tmp_path).fit(
        [clips[row] for row in job.train_rows], [data.classes[number] for number in job.train_labels]
    )
    torch.rand(3)  # what others draw does not matter
    found = fitted.predict_proba([clips[row] for row in job.predict_rows])
    assert fitted.classes_.tolist() == list(data.classes)
    assert found.tobytes() == expected.tobytes()
    assert fitted.genotype_ == genotype


def job_of(genotype: Genotype, data: Dataset, cache: Path) -> tuple[Job, FeatureStore, list[Clip]]:
    book = number_rows(data, seed=5)
    _, job = make_job(genotype, data.subjects[:2], book, len(data.classes), run_seed=5)
    clips = [data.clips[place] for place in book.clips]
    store = {recipe.hash: torch.from_numpy(prepare(clips, recipe, cache)) for recipe in recipes_of([genotype])}
    return job, FeatureStore(store), clips


def test_another_seed_gives_another_network_and_the_same_seed_the_same(maps: Maps, labels: NDArray[Any]) -> None:
    def found(seed: int) -> bytes:
        return bytes(MernasClassifier(ONE_STREAM, seed=seed).fit(maps, labels).predict_proba(maps).tobytes())

    assert found(0) == found(0) != found(1)


def test_a_fit_leaves_random_numbers_and_arguments_as_they_were(maps: Maps, labels: NDArray[Any]) -> None:
    before, state = maps.copy(), torch.get_rng_state()
    classifier = MernasClassifier(ONE_STREAM)
    parameters = classifier.get_params()
    classifier.fit(maps, labels).predict(maps)
    np.testing.assert_array_equal(maps, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert classifier.get_params() == parameters


# What X may be


def test_maps_and_the_clips_that_they_were_made_of_give_the_same(
    data: Dataset, maps: Maps, labels: NDArray[Any]
) -> None:
    plain = parse_genotype(TWO_STREAMS)
    # Streams are sorted in a genotype: which of the two comes first is asked, not assumed.
    order = [maps if len(stream["input"]["quantities"].split("+")) == 3 else maps[:, 2:] for stream in plain.streams]
    of_maps = MernasClassifier(plain).fit(order, labels)
    of_clips = MernasClassifier(plain).fit(data.clips, labels)
    np.testing.assert_array_equal(of_maps.predict_proba(order), of_clips.predict_proba(data.clips))
    as_objects = np.empty(len(data), dtype=object)
    as_objects[:] = data.clips
    np.testing.assert_array_equal(of_clips.predict_proba(as_objects), of_clips.predict_proba(list(data)))


def test_one_array_serves_all_streams_that_see_the_same(maps: Maps, labels: NDArray[Any]) -> None:
    preset = load_preset("ststnet").genotype.to_yaml().replace("epochs: 800", "epochs: 2")
    assert "epochs: 2" in preset
    large = np.kron(maps, np.ones((1, 1, 2, 2), np.float32))  # 28 pixels
    found = MernasClassifier(preset).fit(large, labels).predict_proba(large)
    same = MernasClassifier(preset).fit([large] * 3, labels).predict_proba([large] * 3)
    np.testing.assert_array_equal(found, same)
    assert found.shape == (36, 3)


def test_lists_of_single_maps_and_tensors_are_maps(maps: Maps, network: MernasClassifier) -> None:
    expected = network.predict_proba(maps)
    np.testing.assert_array_equal(network.predict_proba(list(maps)), expected)
    np.testing.assert_array_equal(network.predict_proba(torch.from_numpy(maps)), expected)
    np.testing.assert_array_equal(network.predict_proba(maps.astype(np.float64)), expected)


def test_a_table_takes_the_place_of_the_flattened_maps(maps: Maps, labels: NDArray[Any]) -> None:
    of_maps = MernasClassifier(CLASSICAL).fit(maps, labels)
    of_table = MernasClassifier(CLASSICAL).fit(maps.reshape(36, -1), labels)
    np.testing.assert_array_equal(of_table.predict_proba(maps.reshape(36, -1)), of_maps.predict_proba(maps))
    assert of_table.n_features_in_ == 588
    assert not hasattr(of_maps, "n_features_in_")
    assert not hasattr(of_table.fit(maps, labels), "n_features_in_")  # nor after another fit


def test_columns_of_a_table_keep_their_names(labels: NDArray[Any]) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(36, 2)), columns=["smile", "frown"])
    fitted = MernasClassifier("logistic_regression").fit(table, labels)
    assert fitted.feature_names_in_.tolist() == ["smile", "frown"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[["frown", "smile"]])


def test_logistic_regression_is_that_of_scikit_learn(maps: Maps, labels: NDArray[Any]) -> None:
    table = maps.reshape(36, -1).astype(np.float64)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, class_weight="balanced", max_iter=20_000))
    expected = reference.fit(table, labels).predict_proba(table)
    found = MernasClassifier("logistic_regression").fit(table, labels).predict_proba(table)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rbf_svm", "logistic_regression", "majority"])
def test_the_name_of_a_classifier_stands_for_what_mernas_evaluate_takes(name: str, data: Dataset) -> None:
    shipped = MernasClassifier(name)
    with pytest.raises(ValueError, match=r"must be of shape \(n, 3, 28, 28\)"):
        shipped.fit(np.full((6, 3, 14, 14), 0, np.float32), list("aabbcc"))  # baselines see 28 pixels
    assert shipped.fit(data.clips, data.annotations["emotion"]).genotype_ == find_pipeline(name, data)
    faces = Synthetic(subjects=2, clips=3).load()
    assert MernasClassifier(name).fit(faces.clips, faces.labels).genotype_ == find_pipeline(name, faces)


# scikit-learn's tools on maps and clips


@pytest.mark.parametrize("text", [PLAIN, CLASSICAL], ids=["network", "classical"])
def test_leave_one_subject_out_by_scikit_learn_scores_every_subject(
    text: str, data: Dataset, maps: Maps, labels: NDArray[Any]
) -> None:
    clips = data.clips[:24]  # of four subjects
    maps, labels, subjects = maps[:24], labels[:24], [clip.subject for clip in clips]
    assert len(set(subjects)) == 4
    classifier = MernasClassifier(text, seed=3)
    scores = cross_val_score(classifier, maps, labels, groups=subjects, cv=LeaveOneGroupOut())
    pooled = cross_val_predict(classifier, list(clips), labels, groups=subjects, cv=LeaveOneGroupOut())
    by_hand = []
    for subject in sorted(set(subjects)):
        out = np.array([other == subject for other in subjects])
        fitted = MernasClassifier(text, seed=3).fit(maps[~out], labels[~out])
        by_hand.append(fitted.score(maps[out], labels[out]))
        np.testing.assert_array_equal(pooled[out], fitted.predict(maps[out]))
    np.testing.assert_array_equal(scores, by_hand)
    assert accuracy_score(labels, pooled) > 0.6  # three classes of equal size


def test_a_grid_may_hold_whole_pipelines(maps: Maps, labels: NDArray[Any]) -> None:
    pipelines = [parse_genotype(CLASSICAL), parse_genotype(CLASSICAL.replace("10.0", "0.01"))]
    grid = GridSearchCV(MernasClassifier(), {"genotype": pipelines}, cv=3).fit(maps, labels)
    assert grid.best_estimator_.genotype_ in pipelines
    steps = make_pipeline(FunctionTransformer(lambda values: values * 2.0), MernasClassifier(CLASSICAL))
    assert steps.fit(maps, labels).predict(maps).shape == (36,)


@pytest.mark.parametrize("text", [ONE_STREAM, CLASSICAL], ids=["network", "classical"])
def test_copies_and_pickles_predict_the_same(text: str, maps: Maps, labels: NDArray[Any]) -> None:
    classifier = MernasClassifier(parse_genotype(text), seed=2)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    fitted = classifier.fit(maps, labels)
    assert not hasattr(clone(fitted), "classes_")
    sent = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(sent.predict_proba(maps), fitted.predict_proba(maps))
    np.testing.assert_array_equal(copy.fit(maps, labels).predict_proba(maps), fitted.predict_proba(maps))
    assert is_classifier(classifier)


def test_a_genotype_may_be_a_file(maps: Maps, labels: NDArray[Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ONE_STREAM)
    for name in (path, str(path)):
        assert MernasClassifier(name).fit(maps, labels).genotype_ == parse_genotype(ONE_STREAM)


@pytest.mark.parametrize("kind", [list, np.array])
@pytest.mark.parametrize("names", [[3, 1, 2], ["c", "a", "b"], [2.0, 1.0, 5.0]])
def test_labels_may_be_numbers_or_texts(names: list[Any], kind: Callable[..., Any], maps: Maps, data: Dataset) -> None:
    y = kind([names[number] for number in data.labels])
    fitted = MernasClassifier(CLASSICAL).fit(maps, y)
    assert fitted.classes_.tolist() == sorted(names)
    predicted = fitted.predict(maps)
    assert set(predicted.tolist()) <= set(names)
    assert fitted.score(maps, y) == np.mean(predicted == np.asarray(y))
    np.testing.assert_allclose(fitted.predict_proba(maps).sum(axis=1), 1)


# Mistakes: the kinds of errors that scikit-learn's users expect


def test_what_is_not_fitted_says_so(maps: Maps) -> None:
    for text in (ONE_STREAM, CLASSICAL):
        with pytest.raises(NotFittedError):
            MernasClassifier(text).predict(maps)
        with pytest.raises(NotFittedError):
            MernasClassifier(text).predict_proba(maps)


@pytest.mark.parametrize("text", [ONE_STREAM, CLASSICAL], ids=["network", "classical"])
def test_maps_that_are_not_finite_are_refused(text: str, maps: Maps, labels: NDArray[Any]) -> None:
    fitted = MernasClassifier(text).fit(maps, labels)
    for value in (np.nan, np.inf, 1e300):
        broken = maps.astype(np.float64)
        broken[7, 1, 3, 3] = value
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            MernasClassifier(text).fit(broken, labels)
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            fitted.predict(broken)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((36, 3, 28, 28), "maps of stream 0: must be of shape (n, 3, 14, 14)"),
        ((36, 2, 14, 14), "maps of stream 0: must be of shape (n, 3, 14, 14)"),
        ((36, 588), "because the pipeline is a network, found shape (36, 588)"),
        ((36, 3, 196), "because the pipeline is a network, found shape (36, 3, 196)"),
        ((36,), "because the pipeline is a network, found shape (36,)"),
        ((35, 3, 14, 14), "inconsistent numbers of samples"),
    ],
)
def test_wrong_shapes_are_refused(
    shape: tuple[int, ...], says: str, network: MernasClassifier, labels: NDArray[Any]
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is checked below
        MernasClassifier(ONE_STREAM).fit(np.zeros(shape, np.float32), labels)
    assert says in str(caught.value)
    if len(shape) != 4 or shape[1:] != (3, 14, 14):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is checked below
            network.predict(np.zeros(shape, np.float32))
        assert says in str(caught.value)


def test_streams_that_see_different_maps_need_one_array_each(maps: Maps, labels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="one array for each stream, because the streams see different maps"):
        MernasClassifier(TWO_STREAMS).fit(maps, labels)
    with pytest.raises(ValueError, match="one array for each of the 2 streams, found 3"):
        MernasClassifier(TWO_STREAMS).fit([maps] * 3, labels)
    with pytest.raises(ValueError, match="with the same n in all"):
        MernasClassifier(TWO_STREAMS).fit([maps, maps[:5, 2:]], labels)


def test_a_model_of_a_table_is_not_asked_about_maps(maps: Maps, labels: NDArray[Any]) -> None:
    fitted = MernasClassifier(CLASSICAL).fit(maps.reshape(36, -1), labels)
    with pytest.raises(ValueError, match="must be a table"):
        fitted.predict(maps)
    with pytest.raises(ValueError, match="must be clips or maps"):
        fitted.fit(maps, labels).predict(maps.reshape(36, -1))


@pytest.mark.parametrize(
    ("genotype", "says"),
    [
        ("ststnett", '"ststnet"'),
        ("no-such-file.yaml", "must be a genotype, its YAML text or file"),
        ("streams: [nonsense", "is not valid YAML"),
        (17, "must be a genotype"),
        (ONE_STREAM.replace("width: 4", "width: 0"), "width: must be a whole number in"),
    ],
)
def test_a_genotype_that_is_none_is_a_value_error_at_fit(
    genotype: Any, says: str, maps: Maps, labels: NDArray[Any]
) -> None:
    classifier = MernasClassifier(genotype)  # as scikit-learn wants it, nothing is said yet
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is checked below
        classifier.fit(maps, labels)
    assert isinstance(caught.value, MernasError)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", [PLAIN, CLASSICAL], ids=["network", "classical"])
@pytest.mark.parametrize("seed", [-1, "one", 1.5, None, 2**64, 2**70])
def test_a_seed_that_is_none_is_refused(seed: Any, text: str, maps: Maps, labels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"seed: must be a whole number, at least 0 and below 2\*\*64, found"):
        MernasClassifier(text, seed=seed).fit(maps, labels)


def test_the_largest_seed_is_one(maps: Maps, labels: NDArray[Any]) -> None:
    short = PLAIN.replace("epochs: 6", "epochs: 1")
    assert MernasClassifier(short, seed=2**64 - 1).fit(maps, labels).predict_proba(maps).shape == (36, 3)


@pytest.mark.parametrize("device", ["foo", "cuda:0", None, 0, torch.device("cpu")])
def test_a_device_that_is_none_is_refused_together_with_the_seed(device: Any, maps: Maps, labels: NDArray[Any]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is checked below
        MernasClassifier(PLAIN, device=device, seed=-1).fit(maps, labels)
    seed, said = str(caught.value).splitlines()
    assert seed.startswith("seed: ")
    assert said == f"device: must be cpu or cuda, found {device!r}. Use cpu."


def test_a_device_that_is_not_there_is_told_in_one_message(
    maps: Maps, labels: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device cuda: needs a CUDA device and a CUDA build of PyTorch, found torch"):
        MernasClassifier(PLAIN, device="cuda").fit(maps, labels)


def test_clips_that_cannot_be_prepared_are_named(data: Dataset) -> None:
    faces = Synthetic(subjects=1, clips=2).load()
    with pytest.raises(ValueError, match="synthetic/s01/c01: cannot be prepared by optical_flow"):
        MernasClassifier(ONE_STREAM).fit(faces.clips, [0, 1])


def test_the_estimator_imports_neither_ray_nor_optuna_nor_the_search() -> None:
    source = sys.modules[MernasClassifier.__module__]
    assert source.__name__ == "mernas.evaluation.estimator"
    text = Path(str(source.__file__)).read_text(encoding="utf-8")
    assert not [name for name in ("import ray", "import optuna", "mernas.search") if name in text]
