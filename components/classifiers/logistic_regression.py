"""Classifier `logistic_regression`: a linear baseline on flattened maps (survey section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mernas.components.classifiers.majority import Majority
from mernas.components.classifiers.vectors import as_vectors, over_all_classes
from mernas.components.contracts import TRAINING_ROWS, Predictor, TrainingRows
from mernas.components.one_thread import one_thread
from mernas.space.parameters import real
from mernas.space.registry import register


@dataclass(frozen=True, eq=False)
class LinearScores:
    """A fitted logistic regression.

    Attributes:
        pipeline: Standardisation and regression, fitted.
        classes: How many classes there are, whether or not all were seen.
    """

    pipeline: Any
    classes: int

    def predict(self, maps: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return probabilities (B, K) for maps (B, C, H, W) of each stream."""
        with one_thread("blas"):
            probabilities: NDArray[np.float64] = self.pipeline.predict_proba(as_vectors(maps))
        return over_all_classes(probabilities, self.pipeline.classes_, self.classes)


@register("classifier", "logistic_regression", source="Hastie, Tibshirani, Friedman, Elements of Statistical Learning")
@dataclass(frozen=True, kw_only=True)
class StandardisedLogisticRegression:
    """Multinomial logistic regression on standardised values, every class with the same total weight.

    Attributes:
        fit_scope: The training rows of a job; mean and deviation of every value are taken from them as well.
        family: The grid of a nested search.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> maps = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 2]), classes=3, streams=1, maps=lambda stream: maps)
        >>> StandardisedLogisticRegression().fit(rows, seed=0).predict([maps]).argmax(axis=1).tolist()
        [0, 2]
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS
    family: ClassVar[dict[str, tuple[bool | int | float | str, ...]]] = {"C": (0.001, 0.01, 0.1)}

    C: float = real(1e-5, 100, default=0.001, log=True, doc="inverse strength of the quadratic penalty")

    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        """Fit on the training rows; the problem is convex, so the seed is not used.

        Raises:
            NotFiniteError: If a map holds a value that is not a number.
        """
        from sklearn.linear_model import LogisticRegression  # a second, which most workers can do without
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        vectors = as_vectors([rows.maps(stream) for stream in range(rows.streams)])
        labels = rows.labels.cpu().numpy()
        if len(np.unique(labels)) == 1:
            return Majority().fit(rows, seed)
        regression = LogisticRegression(C=self.C, class_weight="balanced", max_iter=20_000)
        with one_thread("blas"):
            return LinearScores(make_pipeline(StandardScaler(), regression).fit(vectors, labels), rows.classes)
