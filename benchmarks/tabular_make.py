"""A thousand genotypes, trained under one cheap fixed protocol: the table on which samplers are compared in seconds.

    python benchmarks/tabular_make.py flow-images=PATH/norm_u_v_os --workers 2 --out tabular.parquet

Three folds of subjects (stratified, seeded), the epochs of the space file, scores of the pooled predictions. What is
finished is kept in OUT with the suffix `.sqlite`: the same command goes on after an interruption or kill -9, and with a
larger `--genotypes` it adds to what there is. One seed gives one table, but for the seconds, on any number of workers.
At the end it fits the surrogates of benchmarks/samplers.py and prints how well they predict (tabular/surrogate.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabular.drawing import Drawn, draw
from tabular.measuring import Measure
from tabular.store import Store
from tabular.surrogate import MODELS, cross_validated
from tabular.table import BUILD_FAILURE, FOLDS, Result, failed, make_frame, write_table
from tabular.workers import Task, train_all

import mernas
from mernas.components.datasets.clip import Dataset
from mernas.evaluation.jobs import ENGINE_VERSION, Outcome, make_job, numeric_path
from mernas.evaluation.metrics import score, uf1
from mernas.evaluation.partition import make_partition
from mernas.evaluation.rows import number_rows
from mernas.search.features import FeatureShelf
from mernas.search.plan import plain_hash
from mernas.search.reporter import Silent
from mernas.space.errors import MernasError
from mernas.space.restriction import load_space
from mernas.space.tree import SearchSpace

SPACE = Path(__file__).with_name("tabular_space.yaml")
LIMIT = 50_000
JOB_TIME = 600.0
"""Seconds that one fold may take; far beyond what any network of the space needs."""
FEW = 100
"""With fewer genotypes nothing is said about surrogates."""


@dataclass(frozen=True)
class Protocol:
    """How every genotype is scored.

    Attributes:
        data: Clips and annotations.
        space: What is drawn from.
        seed: Of the draws, the folds and every training.
        limit: The largest parameter count.
    """

    data: Dataset
    space: SearchSpace
    seed: int
    limit: int

    def about(self) -> dict[str, Any]:
        """Return plain data that fix the results; they travel with the table."""
        return {
            "data": self.data.name,
            "content": self.data.fingerprint,
            "clips": len(self.data),
            "subjects": len(self.data.subjects),
            "classes": len(self.data.classes),
            "facts": sorted(self.data.provides),
            "space": plain_hash(self.space.describe()),
            "folds": FOLDS,
            "seed": self.seed,
            "max_parameters": self.limit,
            "mernas": mernas.__version__,
            "engine": ENGINE_VERSION,
            "numeric_path": numeric_path("cpu"),
        }


def make_table(
    protocol: Protocol, count: int, workers: int, store_path: Path, cache: Path | None = None, say: Any = print
) -> tuple[Any, float]:
    """Draw and train what is missing, and return the table with the seconds that this took.

    Args:
        protocol: How genotypes are scored.
        count: How many genotypes that build the table holds.
        workers: How many processes train.
        store_path: Where finished genotypes are kept.
        cache: The folder of prepared maps; None for the default.
        say: Told what goes on.

    Raises:
        ValueError: If the store belongs to another protocol.
    """
    data, seed = protocol.data, protocol.seed
    classes = len(data.classes)
    book = number_rows(data, seed)
    subjects, datasets = [clip.subject for clip in data], [clip.dataset for clip in data]
    keys = [clip.key for clip in data]
    groups = make_partition(keys, subjects, datasets, data.labels, data.classes, FOLDS, seed).groups
    # The labels are fixed too, but only this file knows their fingerprint: the table has nothing of them.
    store = Store(store_path, json.dumps({**protocol.about(), "labels": data.label_fingerprint}, sort_keys=True))
    clock = time.perf_counter()
    try:
        if store.builds() < count:
            say(f"Drawing {count} genotypes")
            store.add_genotypes(_first(protocol, count, classes))
        left = [one for one in store.pending() if one[0] <= store.last(count)]
        for number, _, parameters in left:
            if parameters is None:
                store.add_result(number, failed(BUILD_FAILURE))
        left = [one for one in left if one[2] is not None]
        if left:
            features = FeatureShelf(data, book, cache, Silent()).store([genotype for _, genotype, _ in left])
            clock, done = time.perf_counter(), 0
            say(f"Training {len(left)} genotypes on {workers} worker(s)")

            def tasks() -> Iterator[Task]:
                for number, genotype, _ in left:
                    jobs = [make_job(genotype, group, book, classes, seed, seconds=JOB_TIME)[1] for group in groups]
                    yield number, jobs

            def finished(number: int, outcomes: list[Outcome]) -> None:
                nonlocal done
                rows = [book.rows_of(group) for group in groups]
                store.add_result(number, scored([book.labels[some] for some in rows], outcomes, classes))
                done += 1
                if done % 10 == 0 or done == len(left):
                    each = (time.perf_counter() - clock) / done
                    say(f"{done} of {len(left)}: {each:.2f} s each, {each * (len(left) - done) / 60:.0f} min to go")

            train_all(tasks(), features, workers, finished)
        entries = [entry for entry in store.entries() if entry[0] <= store.last(count)]
    finally:
        store.close()
    return make_frame(protocol.space, entries, protocol.about()), time.perf_counter() - clock


def _first(protocol: Protocol, count: int, classes: int) -> list[Drawn]:
    """The first genotypes, so many that `count` of them build."""
    taken: list[Drawn] = []
    built = 0
    for one in draw(protocol.space, protocol.seed, protocol.limit, Measure(classes)):
        taken.append(one)
        built += one.parameters is not None
        if built == count:
            break
    return taken


def scored(labels: list[Any], outcomes: list[Outcome], classes: int) -> Result:
    """Return what the predictions of all folds are worth, pooled and fold by fold.

    Args:
        labels: Class numbers of the rows of every fold.
        outcomes: What came back for the folds, up to the first that failed.
        classes: How many classes there are.
    """
    seconds = tuple(outcome.seconds for outcome in outcomes)
    if outcomes[-1].probabilities is None:
        return failed(outcomes[-1].failure, seconds)
    predictions = [outcome.probabilities.argmax(axis=1) for outcome in outcomes if outcome.probabilities is not None]
    pooled = score(np.concatenate(labels), np.concatenate(predictions), classes)
    each = tuple(uf1(truth, said, classes) for truth, said in zip(labels, predictions, strict=True))
    return Result(pooled.uf1, pooled.uar, pooled.accuracy, each, seconds)


def main(arguments: list[str]) -> int:
    """Make the table and print what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as --data of mernas search, e.g. flow-images=PATH/norm_u_v_os")
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--genotypes", type=int, default=1000, help="how many that build")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max-params", type=int, default=LIMIT)
    parser.add_argument("--out", type=Path, default=Path("tabular.parquet"))
    parser.add_argument("--cache", type=Path, default=None, help="the folder of prepared maps")
    asked = parser.parse_args(arguments)
    try:
        data = mernas.load_data(asked.data)
        protocol = Protocol(data, load_space(asked.space, data.provides), asked.seed, asked.max_params)
        frame, seconds = make_table(
            protocol, asked.genotypes, asked.workers, asked.out.with_suffix(".sqlite"), asked.cache,
            lambda text: print(text, flush=True),
        )  # fmt: skip
    except MernasError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on.", file=sys.stderr)
        return 130
    write_table(asked.out, frame)
    trained = frame[frame["failure"] == ""]
    each = trained[[f"seconds_fold_{fold}" for fold in range(FOLDS)]].sum(axis=1)
    wrong = Counter(failure.partition(":")[0] for failure in frame["failure"] if failure)
    print(f"{asked.out}: {len(frame)} genotypes, {asked.out.stat().st_size / 1000:.0f} kB; this call {seconds:.0f} s")
    spread = f"mean {each.mean():.2f}, median {each.median():.2f}, largest {each.max():.2f}"
    print(f"processor seconds for {FOLDS} folds: {spread}")
    print(f"UF1: median {trained['uf1'].median():.3f}, largest {trained['uf1'].max():.3f}")
    print("failures: " + (", ".join(f"{times} {name}" for name, times in wrong.items()) or "none"))
    if len(trained) >= FEW:
        for model in MODELS:
            print(cross_validated(frame, protocol.space, model))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
