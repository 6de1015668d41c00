"""The nested estimate is honest: on random labels it is chance, while the best of N on the same folds is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.metrics import uar
from mernas.evaluation.partition import make_partition
from mernas.search.choosing import choose_baselines, outer_predictions
from mernas.search.executor import SerialExecutor
from mernas.search.ledger import Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import FINAL, Settings, make_plan
from mernas.space.genotype import from_plain
from mernas.space.restriction import load_space

DRAWS = 12


def candidates() -> tuple:
    """Twelve ways of using a cheap classifier."""
    grid = itertools.product((0.0001, 0.01, 1.0), ("u+v", "strain"), ("none", "median"))
    return tuple(
        from_plain(
            {
                "streams": [
                    {"input": {"optical_flow": {"estimator": "given", "size": 14, "quantities": q, "centre": centre}}}
                ],
                "classifier": {"logistic_regression": {"C": strength}},
            }
        )
        for strength, q, centre in grid
    )


def nested_and_best(data: Dataset, folder: Path, seed: int) -> tuple[float, float]:
    """Nested UAR of rule `best`, and the UAR of the candidate that is best on the folds it was chosen on."""
    keys, subjects = [clip.key for clip in data], [clip.subject for clip in data]
    groups = [clip.dataset for clip in data]
    partition = make_partition(keys, subjects, groups, data.labels, data.classes, 3, seed)
    space = load_space("full", data.provides)
    plan = make_plan(data, space, "full", partition, Settings(seed=seed), [], {}, {"cheap": candidates()})
    folder.mkdir()
    ledger = Ledger(folder / "ledger.sqlite", plan.hash)
    search = NestedSearch(plan, ledger, SerialExecutor(), cache=folder / "cache")
    search.execute("inner", search.baseline_tasks())
    (row,) = choose_baselines(plan, search.record)
    search.execute("outer", search.outer_tasks([row]))
    predictions, _, _ = outer_predictions(plan, search.record, row)
    pooled = search.record.pooled(FINAL, row.final.genotype)
    assert pooled is not None
    ledger.close()
    classes = len(data.classes)
    return uar(plan.book.labels, predictions, classes), uar(plan.book.labels[pooled.rows], pooled.predictions, classes)


def test_on_random_labels_nested_uar_is_chance_and_best_of_n_on_the_same_folds_is_above(
    toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    generator = np.random.default_rng(20)
    figures = []
    for draw in range(DRAWS):
        labels = generator.permutation(np.repeat([0, 1, 2], 18))
        data = toy(subjects=9, clips=6, signal=0.0, seed=100 + draw, labels=labels)
        figures.append(nested_and_best(data, tmp_path / str(draw), seed=draw))
    nested, best = np.array(figures).T
    error = np.std(nested, ddof=1) / np.sqrt(DRAWS)
    assert nested.mean() <= 1 / 3 + 2 * error
    assert best.mean() > 1 / 3 + 2 * np.std(best, ddof=1) / np.sqrt(DRAWS)
    print(f"nested {nested.mean():.3f} +- {error:.3f}, best of 12 on the same folds {best.mean():.3f}")
