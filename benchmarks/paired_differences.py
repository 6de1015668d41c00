"""What is ahead of what in a finished run: UF1 of every row minus that of the nested RBF SVM, paired over subjects.

    python benchmarks/paired_differences.py RUN

Reads predictions.csv, baseline_predictions.csv and plan.yaml of a run directory; the resamples are those of the run.
With several repetitions of the outer test (`--seeds`) the figure of either side is its mean over them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mernas.evaluation.bootstrap import difference_interval, draw_resamples
from mernas.evaluation.metrics import MISSING, uf1
from mernas.space.yaml_text import read_yaml

REFERENCE = "rbf_svm"


def differences(run: Path) -> dict[str, tuple[float, float, float]]:
    """Return (difference, low, high) of every row of the front, the rules and the baselines, by its name."""
    plan = read_yaml(run / "plan.yaml")
    names = {name: number for number, name in enumerate(plan["data"]["classes"])}
    text = dict.fromkeys(("clip", "budget", "rule", "subject", "label", "prediction"), str)
    networks = pd.read_csv(run / "predictions.csv", dtype=text, keep_default_na=False)
    baselines = pd.read_csv(run / "baseline_predictions.csv", dtype=text, keep_default_na=False)
    rows = {f"rule {rule}": part for rule, part in networks[networks["rule"] != ""].groupby("rule")}
    rows |= {f"budget {budget}": part for budget, part in networks[networks["budget"] != ""].groupby("budget")}
    rows |= {str(name): part for name, part in baselines.groupby("baseline") if name != REFERENCE}
    reference = baselines[baselines["baseline"] == REFERENCE]
    clips = reference.drop_duplicates("clip").sort_values("clip")
    labels = clips["label"].map(names).to_numpy()
    subjects, datasets = list(clips["subject"]), list(clips["dataset"])
    drawn = draw_resamples(subjects, datasets, labels, len(names), plan["search"]["seed"])
    theirs = _repetitions(reference, names)
    result: dict[str, tuple[float, float, float]] = {}
    for name, part in rows.items():
        mine = _repetitions(part, names)
        figures = [mean(uf1(labels, one, len(names)) for one in side) for side in (mine, theirs)]
        low, high = difference_interval("uf1", labels, mine, theirs, subjects, drawn)
        result[name] = (figures[0] - figures[1], low, high)
    return result


def _repetitions(part: pd.DataFrame, names: dict[str, int]) -> NDArray[np.int64]:
    """Return the class numbers that one row predicts in every repetition (R, n), clips in the order of their keys."""
    table = part.pivot(index="seed", columns="clip", values="prediction").sort_index(axis=1)
    numbers = {**names, "": MISSING}
    return np.array([[numbers[name] for name in repetition] for repetition in table.to_numpy()])


def main(run: Path) -> None:
    """Print one line per row of the front, the rules and the baselines."""
    for name, (ahead, low, high) in differences(run).items():
        print(f"{name:>22} minus nested {REFERENCE}: {ahead:+.3f}, 95% interval {low:+.3f} to {high:+.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/paired_differences.py RUN")
    main(Path(sys.argv[1]))
