"""Three classical baselines on the public flow images under plain leave-one-subject-out, beside their known scores.

    python benchmarks/published_baselines.py PATH

PATH is the folder `norm_u_v_os` of the release. Every subject is left out once, the predictions of all subjects are
pooled, and UF1 (macro F1) and UAR (macro recall) are taken from the pool. The exit status is 1 if a score lies more
than 0.005 from the known one. It takes about half a minute on one core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score
from torch import Tensor

from mernas.components.classifiers.logistic_regression import StandardisedLogisticRegression
from mernas.components.classifiers.majority import Majority
from mernas.components.classifiers.rbf_svm import RbfSvm
from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.flow_images import FlowImages
from mernas.components.inputs.given_flow import GivenFlow
from mernas.components.inputs.optical_flow import OpticalFlow
from mernas.space.errors import MernasError

BASELINES = (
    ("majority", Majority(), "none", 0.241, 0.333),
    ("logistic regression, as released", StandardisedLogisticRegression(C=0.001), "none", 0.722, 0.747),
    ("RBF SVM, centred by the median", RbfSvm(C=1.0, gamma="scale"), "median", 0.7325, 0.7351),
)
TOLERANCE = 0.005


@dataclass(frozen=True)
class Rows:
    """The training rows of one fold, with a single stream of maps."""

    labels: Tensor
    array: Tensor
    classes: int
    streams: int = 1

    def channels(self, stream: int) -> tuple[str, ...]:
        """Return the channel names."""
        return ("u", "v", "strain")

    def maps(self, stream: int) -> Tensor:
        """Return all maps, (n, 3, 28, 28)."""
        return self.array

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        """Return some of the maps."""
        return [self.array[rows]]


def leave_one_subject_out(
    data: Dataset, classifier: Majority | StandardisedLogisticRegression | RbfSvm, centre: str
) -> NDArray[np.int64]:
    """Return the predicted class of every clip, by the model that never saw its subject."""
    flow = OpticalFlow(estimator=GivenFlow(), centre=centre)
    maps = torch.from_numpy(np.stack([flow.prepare(clip) for clip in data]))
    labels = torch.from_numpy(data.labels)
    subjects = np.array([clip.subject for clip in data])
    predicted = np.full(len(data), -1, dtype=np.int64)
    for subject in data.subjects:
        out = torch.from_numpy(subjects == subject)
        predictor = classifier.fit(Rows(labels[~out], maps[~out], len(data.classes)), seed=0)
        predicted[out.numpy()] = predictor.predict([maps[out]]).argmax(axis=1)
    return predicted


def main(path: Path) -> int:
    """Print one line per baseline and return the exit status."""
    data = FlowImages().load(path)
    names = np.arange(len(data.classes))
    status = 0
    print(f"{len(data)} clips of {len(data.subjects)} subjects")
    for title, classifier, centre, known_uf1, known_uar in BASELINES:
        start = time.perf_counter()
        predicted = leave_one_subject_out(data, classifier, centre)
        seconds = time.perf_counter() - start
        uf1 = float(f1_score(data.labels, predicted, labels=names, average="macro", zero_division=0))
        uar = float(recall_score(data.labels, predicted, labels=names, average="macro", zero_division=0))
        agrees = max(abs(uf1 - known_uf1), abs(uar - known_uar)) <= TOLERANCE
        status |= not agrees
        print(
            f"{title:34}  UF1 {uf1:.4f} (known {known_uf1:.4f})  UAR {uar:.4f} (known {known_uar:.4f})  "
            f"{'agrees' if agrees else 'DIFFERS'}  {seconds:.1f} s"
        )
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/published_baselines.py PATH")
    try:
        sys.exit(main(Path(sys.argv[1])))
    except MernasError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
