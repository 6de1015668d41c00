"""Classifier `linear_svm`: a support vector machine without a kernel (survey section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mernas.components.classifiers.majority import Majority
from mernas.components.classifiers.rbf_svm import VectorMachineScores
from mernas.components.classifiers.vectors import as_vectors
from mernas.components.contracts import TRAINING_ROWS, Predictor, TrainingRows
from mernas.components.one_thread import one_thread
from mernas.space.parameters import choice, real
from mernas.space.registry import register


@register("classifier", "linear_svm", source="Cortes, Vapnik, Support-vector networks, Machine Learning 20, 1995")
@dataclass(frozen=True, kw_only=True)
class LinearSvm:
    """Support vector machine without a kernel, every class with the same total weight.

    Classes are told apart in pairs, as by `rbf_svm`, and the scores are the softmax of the one-versus-rest decision
    values: no calibrated probabilities. Histograms (`lbp_top`, `bi_woof`) are often better left as they are, with a
    large cost: to standardise them gives a rare pattern as much weight as a common one.

    Attributes:
        fit_scope: The training rows of a job; mean and deviation of every value are taken from them as well.
        family: No grid of its own.
        baseline: False: a search does not go through it as one of its baselines; a space file may still offer it.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> maps = torch.tensor([-1.0, 1.0]).reshape(2, 1)
        >>> rows = SimpleNamespace(labels=torch.tensor([0, 2]), classes=3, streams=1, maps=lambda stream: maps)
        >>> LinearSvm().fit(rows, seed=0).predict([maps]).argmax(axis=1).tolist()
        [0, 2]
    """

    fit_scope: ClassVar[str] = TRAINING_ROWS
    family: ClassVar[dict[str, tuple[bool | int | float | str, ...]]] = {}
    baseline: ClassVar[bool] = False

    C: float = real(1e-5, 1e5, default=0.01, log=True, doc="cost of a training row on the wrong side")
    scale: str = choice("standard", "none", default="standard", doc="whether every value is standardised first")

    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        """Fit on the training rows; the problem is convex, so the seed is not used.

        Raises:
            NotFiniteError: If a map holds a value that is not a number.
        """
        from sklearn.pipeline import make_pipeline  # a second, which most workers can do without
        from sklearn.preprocessing import FunctionTransformer, StandardScaler
        from sklearn.svm import SVC

        vectors = as_vectors([rows.maps(stream) for stream in range(rows.streams)])
        labels = rows.labels.cpu().numpy()
        if len(np.unique(labels)) == 1:
            return Majority().fit(rows, seed)
        machine = SVC(C=self.C, kernel="linear", class_weight="balanced", break_ties=True)
        scaler = StandardScaler() if self.scale == "standard" else FunctionTransformer()
        with one_thread("blas"):
            return VectorMachineScores(make_pipeline(scaler, machine).fit(vectors, labels), rows.classes)
