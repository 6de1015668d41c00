"""Classifier `rbf_svm`: a support vector machine on flattened maps, a strong baseline (survey section 6)."""

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
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@dataclass(frozen=True, eq=False)
class VectorMachineScores:
    """A fitted support vector machine.

    Attributes:
        pipeline: Standardisation and machine, fitted.
        classes: How many classes there are, whether or not all were seen.
    """

    pipeline: Any
    classes: int

    def predict(self, maps: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return scores (B, K) for maps (B, C, H, W) of each stream."""
        with one_thread("blas"):
            decisions = self.pipeline.decision_function(as_vectors(maps))
        if decisions.ndim == 1:  # two classes: the sign decides
            decisions = np.stack([-decisions, decisions], axis=1)
        scores = np.exp(decisions - decisions.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return over_all_classes(scores, self.pipeline.classes_, self.classes)


@register("classifier", "rbf_svm", source="Cortes, Vapnik, Support-vector networks, Machine Learning 20, 1995")
@dataclass(frozen=True, kw_only=True)
class RbfSvm:
    """Support vector machine with a Gaussian kernel on standardised values, every class with the same total weight.

    Its scores are the softmax of the one-versus-rest decision values: their order is that of the machine, with ties
    broken as it breaks them, but they are no calibrated probabilities.

    Attributes:
        fit_scope: The training rows of a job; mean and deviation of every value are taken from them as well.
        family: The grid of a nested search.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> maps = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 2]), classes=3, streams=1, maps=lambda stream: maps)
        >>> RbfSvm().fit(rows, seed=0).predict([maps]).argmax(axis=1).tolist()
        [0, 2]
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS
    family: ClassVar[dict[str, tuple[bool | int | float | str, ...]]] = {"C": (1.0, 10.0), "gamma": ("scale", 1e-4)}

    C: float = real(0.01, 1000, default=1.0, log=True, doc="cost of a training row on the wrong side")
    gamma: float | str = choice(
        "scale", 1e-4, 1e-3, default="scale", doc="inverse width of the kernel; scale is 1 / (values x variance)"
    )

    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        """Fit on the training rows; the problem is convex, so the seed is not used.

        Raises:
            NotFiniteError: If a map holds a value that is not a number.
        """
        from sklearn.pipeline import make_pipeline  # a second, which most workers can do without
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        vectors = as_vectors([rows.maps(stream) for stream in range(rows.streams)])
        labels = rows.labels.cpu().numpy()
        if len(np.unique(labels)) == 1:
            return Majority().fit(rows, seed)
        machine = SVC(C=self.C, kernel="rbf", gamma=self.gamma, class_weight="balanced", break_ties=True)
        with one_thread("blas"):
            return VectorMachineScores(make_pipeline(StandardScaler(), machine).fit(vectors, labels), rows.classes)
