"""Any pipeline as a scikit-learn classifier: one fit is one job of the engine, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data
from torch import Tensor

import mernas.components  # noqa: F401  # registers every component
from mernas.components.contracts import Classifier, Input, Predictor
from mernas.components.datasets.clip import Clip
from mernas.components.topologies.network import count_parameters
from mernas.evaluation.custody import TrainingView
from mernas.evaluation.fitting import assemble, numeric_state, predict
from mernas.evaluation.preparation import prepare, recipe_of
from mernas.space.errors import DataError, Problem, SpaceError, nearest, raise_all
from mernas.space.genotype import Genotype, from_plain, instantiate, parse_genotype
from mernas.space.presets import load_preset, preset_names
from mernas.space.registry import REGISTRY
from mernas.space.yaml_text import is_file, read_yaml

DEVICES = ("cpu", "cuda")
"""Where a classifier can be trained."""

MOST = 2**64 - 1
"""The largest seed that PyTorch takes."""

Maps = Sequence[Clip] | Sequence[NDArray[Any]] | ArrayLike
"""What a classifier can be fitted on: clips, maps of one stream or of each, or a table; see `MernasClassifier`."""


class MernasClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A pipeline as a classifier that scikit-learn's tools take: pipelines, cross-validation, grids.

    What it is fitted on, `X`, is one of

    - a sequence of n `Clip`s, which the pipeline's recipes prepare, in the cache like any other preparation;
    - maps as the pipeline's recipe prepares them, an array such as (n, C, H, W), if all its streams see the same ones;
    - a list of such arrays, one for each stream in the genotype's order;
    - for a classical pipeline also a table (n, F) of any F features, which takes the place of the flattened maps.

    A fit is the job that a search would run on the same rows in the same order with the same seed; the label of a row
    may be anything that scikit-learn takes for a class. Nothing is cross-validated inside: use scikit-learn's splitters
    by subject (`LeaveOneGroupOut`), and pool the predictions before taking a macro F1.

    Args:
        genotype: A `Genotype`; the name of a preset (`ststnet`) or of a classical classifier (`rbf_svm`); the YAML text
            of a genotype, or the path of a file that holds it. A classifier's name stands for flow and strain as
            baselines see them: given, or Farneback's where the clips have frames.
        seed: Of everything random in a fit; a whole number from 0 to 2**64 - 1.
        device: `cpu` or `cuda`, which needs a CUDA device and a CUDA build of PyTorch.
        cache: The folder of prepared maps of clips; by default that of mernas.

    Attributes:
        classes_: The classes, sorted, (K,).
        genotype_: The pipeline that was fitted.
        n_features_in_: F, after a fit on a table; tables with column names also give `feature_names_in_`.
        model_: The trained network, or the fitted predictor of a classical pipeline.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> X = generator.normal(size=(12, 4)) + np.repeat([[0.0], [3.0]], 6, axis=0)
        >>> y = ["calm"] * 6 + ["moved"] * 6
        >>> classifier = MernasClassifier("logistic_regression").fit(X, y)
        >>> classifier.predict(X[[0, 11]]).tolist(), classifier.predict_proba(X).shape
        (['calm', 'moved'], (12, 2))
    """

    def __init__(
        self,
        genotype: Genotype | str | Path = "ststnet",
        seed: int = 0,
        device: str = "cpu",
        cache: str | Path | None = None,
    ) -> None:
        self.genotype = genotype
        self.seed = seed
        self.device = device
        self.cache = cache

    def fit(self, X: Maps, y: ArrayLike) -> MernasClassifier:  # noqa: N803  # as scikit-learn calls it
        """Train on n rows.

        Args:
            X: Clips, maps or a table, see the class.
            y: Their classes (n,).

        Raises:
            SpaceError: If the genotype is none, or cannot be built for these classes; it is a `ValueError`.
            DataError: If maps do not have the shapes that the pipeline takes, a clip cannot be prepared, or the seed or
                the device is none that can be had; it is a `ValueError`.
            ValueError: If a value is not finite, or X and y do not match.
            NotFiniteError: If the training diverges.
        """
        if y is None:  # in scikit-learn's words, which its checks look for
            raise ValueError("MernasClassifier requires y to be passed, but the target y is None")
        raise_all(DataError, self._misset())
        genotype = _resolved(self.genotype, X)
        for stale in ("n_features_in_", "feature_names_in_"):  # of an earlier fit on a table
            self.__dict__.pop(stale, None)
        maps, table = self._maps(X, genotype, fitting=True)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(maps[0], labels)
        check_classification_targets(labels)
        encoder = LabelEncoder().fit(labels)
        numbers = np.asarray(encoder.transform(labels), dtype=np.int64)
        view = TrainingView(
            maps=[stream.to(self.device) for stream in maps],
            labels=torch.from_numpy(numbers).to(self.device),
            classes=len(encoder.classes_),
            channels=[component.channels for component in _inputs(genotype)],
        )
        self.model_ = self._trained(genotype, view)
        self.genotype_ = genotype
        self.classes_: NDArray[Any] = encoder.classes_
        self._fitted_on = (self.device, table)
        return self

    def predict_proba(self, X: Maps) -> NDArray[np.float64]:  # noqa: N803
        """Return scores (n, K) that sum to 1 in each row, columns as in `classes_`.

        Those of a network are softmax probabilities; those of a classical classifier are what it says of them.

        Raises:
            NotFittedError: If `fit` was not called.
            DataError: If maps do not have the shapes that the pipeline takes; it is a `ValueError`.
            ValueError: If a value is not finite, or a table has another number of columns than in `fit`.
        """
        check_is_fitted(self, "model_")
        maps, table = self._maps(X, self.genotype_, fitting=False)
        device, fitted_on_table = self._fitted_on
        if table != fitted_on_table:
            rule = f"must be {'a table (n, F)' if fitted_on_table else 'clips or maps'}, as in fit"
            raise DataError(Problem("X", rule, "a table" if table else "clips or maps"))
        maps = [stream.to(device) for stream in maps]
        with numeric_state(0, device):  # nothing is random any more; what is left are threads and rounding
            if self.genotype_.is_network:
                return predict(self.model_, maps)
            predictor: Predictor = self.model_
            return predictor.predict(maps)

    def predict(self, X: Maps) -> NDArray[Any]:  # noqa: N803
        """Return the class of the highest score of each row, (n,); of equal ones the first; errors as before."""
        scores = self.predict_proba(X)
        predicted: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return predicted

    def _misset(self) -> list[Problem | str]:
        """What is wrong with seed and device; as scikit-learn wants it, only a fit asks."""
        problems: list[Problem | str] = []
        if not isinstance(self.seed, (int, np.integer)) or not 0 <= self.seed <= MOST:
            rule, remedy = "must be a whole number, at least 0 and below 2**64", "use a number such as 0"
            problems.append(Problem("seed", rule, repr(self.seed), remedy))
        if not isinstance(self.device, str) or self.device not in DEVICES:
            problems.append(Problem("device", f"must be {' or '.join(DEVICES)}", repr(self.device), "use cpu"))
        elif self.device == "cuda" and not torch.cuda.is_available():
            rule, found = "needs a CUDA device and a CUDA build of PyTorch", f"torch {torch.__version__} without one"
            problems.append(Problem("device cuda", rule, found, "use cpu"))
        return problems

    def _trained(self, genotype: Genotype, view: TrainingView) -> Any:
        if genotype.is_network:
            count_parameters(genotype, view.classes)  # refuses what cannot be built before anything is trained
        with numeric_state(int(self.seed), self.device):
            if genotype.is_network:
                network, train = assemble(genotype, view, int(self.seed), self.device)
                train(None)
                return network
            leaf = genotype["classifier"]
            classifier: Classifier = instantiate(leaf)
            return classifier.fit(view.held_by(leaf), int(self.seed) % 2**32)  # as scikit-learn limits seeds

    def _maps(self, X: Any, genotype: Genotype, fitting: bool) -> tuple[list[Tensor], bool]:  # noqa: N803
        """The maps of every stream, and whether X was a table."""
        recipes = [recipe_of(stream) for stream in genotype.streams]
        if _holds(X, Clip):
            cache = None if self.cache is None else Path(self.cache)
            made = {recipe: torch.from_numpy(prepare(list(X), recipe, cache)) for recipe in dict.fromkeys(recipes)}
            return [made[recipe] for recipe in recipes], False
        ranks = {len(item.shape) + 1 for item in _inputs(genotype)}
        if isinstance(X, (list, tuple)) and _holds(X, np.ndarray) and X[0].ndim in ranks:
            return _checked_streams(X, genotype), False
        X = np.asarray(X) if isinstance(X, (list, tuple, Tensor)) else X  # noqa: N806
        if isinstance(X, np.ndarray) and X.ndim in ranks and (X.ndim > 2 or genotype.is_network):
            if len(set(recipes)) > 1:
                rule = "must be a list of one array for each stream, because the streams see different maps"
                titles = ", ".join(recipe.title for recipe in recipes)
                raise DataError(Problem("X", rule, "one array", f"streams: {titles}"))
            return _checked_streams([X] * len(recipes), genotype), False
        if genotype.is_network:
            shapes = " and ".join(f"(n, {', '.join(map(str, item.shape))})" for item in _inputs(genotype))
            rule = f"must be clips, or maps {shapes}, because the pipeline is a network"
            raise DataError(Problem("X", rule, f"shape {np.shape(X)}", "a table needs a classical pipeline"))
        values = validate_data(self, X, reset=fitting, dtype=np.float32, order="C", copy=True)
        # One stream of single pixels: for a classical classifier maps are vectors.
        return [torch.from_numpy(np.array(values)).reshape(*values.shape, 1, 1)], True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        leaf = None
        if isinstance(self.genotype, Genotype) and not self.genotype.is_network:
            leaf = self.genotype["classifier"].name
        elif isinstance(self.genotype, str) and self.genotype in REGISTRY.names("classifier"):
            leaf = self.genotype
        tags.input_tags.two_d_array = leaf is not None
        tags.classifier_tags.poor_score = leaf == "majority"
        return tags


def _resolved(genotype: Any, X: Any) -> Genotype:  # noqa: N803
    """The pipeline that a parameter names."""
    if isinstance(genotype, Genotype):
        return genotype
    classifiers = REGISTRY.names("classifier")
    if isinstance(genotype, str):
        if genotype in preset_names():
            return load_preset(genotype).genotype
        if genotype in classifiers:
            return _baseline(genotype, X)
        if ":" in genotype and not is_file(genotype):
            return parse_genotype(genotype)
    if isinstance(genotype, (str, Path)) and is_file(genotype):
        return from_plain(read_yaml(Path(genotype)), str(genotype))
    rule = "must be a genotype, its YAML text or file, or the name of a preset or a classifier"
    remedy = nearest(str(genotype), (*preset_names(), *classifiers))
    raise SpaceError(Problem("genotype", rule, repr(genotype), remedy))


def _baseline(name: str, X: Any) -> Genotype:  # noqa: N803
    """A classical classifier on flow and strain, as `mernas evaluate` takes it."""
    frames = _holds(X, Clip) and not all({"flow", "strain"} <= clip.given.keys() for clip in X)
    flow = {"estimator": "farneback" if frames else "given", "centre": "median" if name == "rbf_svm" else "none"}
    return from_plain({"streams": [{"input": {"optical_flow": flow}}], "classifier": {name: {}}}, name)


def _inputs(genotype: Genotype) -> list[Input]:
    return [instantiate(stream["input"]) for stream in genotype.streams]


def _holds(X: Any, kind: type) -> bool:  # noqa: N803
    """Whether X is a sequence of things of some kind."""
    if not isinstance(X, (list, tuple)) and not (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1):
        return False
    return len(X) > 0 and all(isinstance(item, kind) for item in X)


def _checked_streams(arrays: Sequence[NDArray[Any]], genotype: Genotype) -> list[Tensor]:
    """Maps as tensors, copied, if they are finite and of the shapes that the streams take."""
    inputs = _inputs(genotype)
    if len(arrays) != len(inputs):
        rule = f"must hold one array for each of the {len(inputs)} streams"
        raise DataError(Problem("X", rule, str(len(arrays)), "name the maps of every stream, in order"))
    problems: list[Problem | str] = []
    for number, (array, component) in enumerate(zip(arrays, inputs, strict=True)):
        if array.shape[1:] != component.shape or len(array) != len(arrays[0]):
            rule = f"must be of shape (n, {', '.join(map(str, component.shape))}), with the same n in all"
            problems.append(Problem(f"X, maps of stream {number}", rule, str(array.shape)))
    if problems:
        raise DataError(problems)
    return [
        torch.from_numpy(np.array(check_array(array, dtype=np.float32, ensure_2d=False, allow_nd=True, order="C")))
        for array in arrays
    ]
