"""What is ahead of what in a finished run: UF1 of every row minus that of the nested RBF SVM, paired over subjects.

    python benchmarks/paired_differences.py RUN

Reads predictions.csv, baseline_predictions.csv and plan.yaml of a run directory; the resamples are those of the run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mernas.evaluation.bootstrap import difference_interval, draw_resamples
from mernas.evaluation.metrics import uf1
from mernas.space.yaml_text import read_yaml

REFERENCE = "rbf_svm"


def main(run: Path) -> None:
    """Print one line per row of the front, the rules and the baselines."""
    plan = read_yaml(run / "plan.yaml")
    names = {name: number for number, name in enumerate(plan["data"]["classes"])}
    text = {"budget": str, "rule": str, "subject": str}
    networks = pd.read_csv(run / "predictions.csv", dtype=text, keep_default_na=False)
    baselines = pd.read_csv(run / "baseline_predictions.csv", dtype=text, keep_default_na=False)
    rows = {f"rule {rule}": part for rule, part in networks[networks["rule"] != ""].groupby("rule")}
    rows |= {f"budget {budget}": part for budget, part in networks[networks["budget"] != ""].groupby("budget")}
    rows |= {str(name): part for name, part in baselines.groupby("baseline") if name != REFERENCE}
    reference = baselines[baselines["baseline"] == REFERENCE]
    labels, theirs = (reference[column].map(names).to_numpy() for column in ("label", "prediction"))
    subjects, datasets = list(reference["subject"]), list(reference["dataset"])
    drawn = draw_resamples(subjects, datasets, labels, len(names), plan["search"]["seed"])
    for name, part in rows.items():
        mine = part["prediction"].map(names).fillna(-1).astype(int).to_numpy()
        low, high = difference_interval("uf1", labels, mine, theirs, subjects, drawn)
        ahead = uf1(labels, mine, len(names)) - uf1(labels, theirs, len(names))
        print(f"{name:>22} minus nested {REFERENCE}: {ahead:+.3f}, 95% interval {low:+.3f} to {high:+.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/paired_differences.py RUN")
    main(Path(sys.argv[1]))
