"""Between the rows of the table: a fitted surrogate, how well it predicts, and noise that keeps it from being smooth.

The surrogate predicts the UF1 that a genotype would get under the table's protocol, pooled and of each fold. Its size
is counted, never predicted. A regression is smoother than what it was fitted to, and on a smooth landscape a sampler
that learns looks better than it is. So a genotype's answer is its prediction plus the residuals of one row of the
table, those of all four scores together: of the tenth of the rows whose predictions lie nearest, the one that a hash of
the landscape's seed and the genotype picks. Residuals are of rows that the surrogate did not see (cross-validation), so
they hold both what training twice would change and what the surrogate failed to learn, and the answers vary as much as
the table does. What it failed to learn is noise here and structure in truth, so samplers that learn are judged too low
rather than too high. One landscape gives one genotype one answer; another seed gives another landscape. A genotype of
the table is answered from the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.model_selection import KFold
from sklearn.multioutput import MultiOutputRegressor
from tabular.encoding import Encoder, Located
from tabular.table import BUILD_FAILURE, genotypes_of, targets_of

from mernas.space.tree import SearchSpace

PARTS = 5
NEIGHBOURS = 0.1
"""The share of the rows among which a residual is drawn."""


def _extra_trees() -> Any:
    return ExtraTreesRegressor(300, min_samples_leaf=2, max_features=0.5, random_state=0, n_jobs=1)


def _random_forest() -> Any:
    return RandomForestRegressor(300, min_samples_leaf=2, max_features=0.3, random_state=0, n_jobs=1)


def _gradient_boosting() -> Any:
    return MultiOutputRegressor(HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, random_state=0))


MODELS: dict[str, Callable[[], Any]] = {
    "extra_trees": _extra_trees,
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
}
DEFAULT_MODEL = "extra_trees"


@dataclass(frozen=True)
class Quality:
    """How well a surrogate predicts pooled UF1 on rows that it has not seen.

    Attributes:
        model: Its name.
        rows: How many rows.
        r2: Share of the variance that it explains.
        spearman: Rank correlation.
        mae: Mean absolute error.
    """

    model: str
    rows: int
    r2: float
    spearman: float
    mae: float

    def __str__(self) -> str:
        scores = f"R2 {self.r2:.3f}, Spearman {self.spearman:.3f}, mean absolute error {self.mae:.4f}"
        return f"surrogate {self.model}: {scores} ({PARTS}-fold cross-validation over {self.rows} genotypes)"


@dataclass(frozen=True)
class Answer:
    """What a landscape says of a genotype.

    Attributes:
        uf1: As a search would see it, in [0, 1].
        uf1_folds: The same of each fold by itself.
        expected: The UF1 without the noise; as seen where the table holds the genotype.
        failed: Whether the training would have failed.
    """

    uf1: float
    uf1_folds: tuple[float, ...]
    expected: float
    failed: bool


class Surrogate:
    """A regression of the scores on the answers, with its residuals.

    Args:
        rows: Answers and domains of the genotypes that were trained.
        parameters: Their parameter counts.
        targets: Pooled UF1 and UF1 of each fold (n, 1 + folds); NaN in all of a row where a genotype failed.
        hashes: Their hashes.
        model: Which of `MODELS`.
    """

    def __init__(
        self,
        rows: Sequence[Located],
        parameters: Sequence[int],
        targets: NDArray[np.float64],
        hashes: Sequence[str],
        model: str = DEFAULT_MODEL,
    ) -> None:
        self.model = model
        self._encoder = Encoder(rows)
        features = self._encoder.encode(rows, parameters)
        trained = np.asarray(np.isfinite(targets).all(axis=1), dtype=np.bool_)
        self.truth = targets[trained]
        self._table = {key: scores for key, scores, good in zip(hashes, targets, trained, strict=True) if good}
        self._lost = {key for key, good in zip(hashes, trained, strict=True) if not good}
        self._regression = MODELS[model]().fit(features[trained], self.truth)
        self.unseen = out_of_part(features[trained], self.truth, model)
        self._order = np.argsort(self.unseen[:, 0], kind="stable")
        self._failing: Any = None
        if not trained.all():
            forest = ExtraTreesClassifier(300, min_samples_leaf=2, random_state=0, n_jobs=1)
            self._failing = forest.fit(features, ~trained)

    @property
    def quality(self) -> Quality:
        """How well it predicts what it has not seen."""
        truth, predicted = self.truth[:, 0], self.unseen[:, 0]
        error = truth - predicted
        return Quality(
            self.model,
            len(truth),
            float(1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum()),
            float(spearmanr(truth, predicted).statistic),
            float(np.abs(error).mean()),
        )

    def predict(self, rows: Sequence[Located], parameters: Sequence[int]) -> NDArray[np.float64]:
        """Return pooled UF1 and that of each fold (n, 1 + folds), without noise."""
        return np.asarray(self._regression.predict(self._encoder.encode(rows, parameters)), dtype=np.float64)

    def answer(
        self, keys: Sequence[str], rows: Sequence[Located], parameters: Sequence[int], seed: int
    ) -> list[Answer]:
        """Return what the landscape of a seed says of some genotypes.

        Args:
            keys: Their hashes.
            rows: Their answers.
            parameters: Their parameter counts.
            seed: One seed, one landscape.
        """
        if not keys:
            return []
        predicted = self.predict(rows, parameters)
        risks = np.zeros(len(keys))
        if self._failing is not None:
            risks = self._failing.predict_proba(self._encoder.encode(rows, parameters))[:, 1]
        return [
            self._one(key, prediction, float(risk), seed)
            for key, prediction, risk in zip(keys, predicted, risks, strict=True)
        ]

    def _one(self, key: str, prediction: NDArray[np.float64], risk: float, seed: int) -> Answer:
        if key in self._table:
            scores = self._table[key]
            return Answer(float(scores[0]), tuple(map(float, scores[1:])), float(scores[0]), failed=False)
        first, second = _draws(seed, key)
        width = max(2, round(NEIGHBOURS * len(self._order)))
        sorted_predictions = self.unseen[self._order, 0]
        middle = int(np.searchsorted(sorted_predictions, prediction[0]))
        start = min(max(middle - width // 2, 0), max(len(self._order) - width, 0))
        near = self._order[start : start + width]
        row = int(near[int(first * len(near))])
        seen = np.clip(prediction + self.truth[row] - self.unseen[row], 0.0, 1.0)
        lost = key in self._lost or second < risk
        return Answer(float(seen[0]), tuple(map(float, seen[1:])), float(prediction[0]), lost)


def out_of_part(features: NDArray[np.float64], targets: NDArray[np.float64], model: str) -> NDArray[np.float64]:
    """Return for every row what a model predicts that was fitted without the fifth of the rows that it lies in."""
    predicted = np.empty_like(targets)
    for inside, outside in KFold(PARTS, shuffle=True, random_state=0).split(features):
        predicted[outside] = MODELS[model]().fit(features[inside], targets[inside]).predict(features[outside])
    return predicted


def fit_surrogate(frame: pd.DataFrame, space: SearchSpace, model: str = DEFAULT_MODEL) -> Surrogate:
    """Return the surrogate of a table; rows that do not build take no part, since that is known without training."""
    built = frame[frame["failure"] != BUILD_FAILURE]
    genotypes = genotypes_of(built, space)
    rows = [space.locate(genotype) for genotype in genotypes]
    hashes = [genotype.hash for genotype in genotypes]
    return Surrogate(rows, [int(count) for count in built["parameters"]], targets_of(built), hashes, model)


def cross_validated(frame: pd.DataFrame, space: SearchSpace, model: str) -> Quality:
    """Return how well a model predicts the rows of a table that it has not seen."""
    return fit_surrogate(frame, space, model).quality


def _draws(seed: int, key: str) -> tuple[float, float]:
    """Two numbers in [0, 1) that a genotype has in one landscape, whoever asks and when."""
    digest = hashlib.sha256(f"{seed} landscape {key}".encode()).digest()
    return int.from_bytes(digest[:7], "little") / 2**56, int.from_bytes(digest[8:15], "little") / 2**56
