"""A whole search against what a user would write otherwise, for the same time on the same machine.

    python benchmarks/peer_search.py [--data flow-images=PATH] [--space FILE] [--minutes 10] [--seeds 3] [--plot FILE]

The peer is the obvious script: for every left-out group an Optuna study (TPE, two objectives) whose objective loops
over the inner folds and trains a plain PyTorch network on one thread. The script runs once for each core, each time
with a part of the studies, which take turns. Nothing is shared between them, no fold is shared, nothing is batched. The
other side is the search of mernas with a worker for each core. Both have the same space, limit, groups, inner folds,
features in memory and time; starting Ray counts, starting the scripts does not.

At the end each side's best candidate of every study is trained on everyone but the left-out group, by the same engine
with the same seed, and tested on that group. Printed are: candidates per study, inner hypervolume (of UF1 against the
logarithm of the parameters, as a share of the whole rectangle from 1 parameter to the limit; mean over the studies) at
the end, when mernas reached what the peer had at the end, and the nested UF1 of both sides. Goal: a third of the time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from tabular.hypervolume import hypervolume

from mernas.components.topologies.network import build_network, fit_normalisation
from mernas.components.training.objective import build_objective
from mernas.evaluation.custody import TrainingView
from mernas.evaluation.fitting import fit_and_predict, predict
from mernas.evaluation.jobs import Job, make_job
from mernas.evaluation.metrics import uf1
from mernas.evaluation.picking import Candidate, best
from mernas.evaluation.preparation import recipe_of
from mernas.search.executor import Interrupted, SerialExecutor
from mernas.search.ledger import ACCEPTED, Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import Plan
from mernas.search.run import load_data, plan_search
from mernas.search.workers import working
from mernas.space.errors import MernasError
from mernas.space.genotype import Genotype, instantiate


@dataclass(frozen=True)
class Found:
    """A candidate of a study, and when its last fold was done, in seconds from the start of its side."""

    seconds: float
    candidate: Candidate


@dataclass(frozen=True)
class Asked:
    """What is searched: data, space and limit, as the command line names them."""

    data: str
    space: str
    limit: str

    def plan(self, seed: int) -> Plan:
        """The plan of one seed."""
        return plan_search(load_data(self.data), self.space, max_params=self.limit, trials=10_000, seed=seed)


Side = dict[str, list[Found]]
"""What one side has found, by study."""


def share_of_plane(candidates: Sequence[Candidate], limit: int) -> float:
    """Return the share of the rectangle of UF1 and log parameters, up to the limit, that some candidates dominate."""
    points = [(one.uf1, math.log10(one.parameters)) for one in candidates if one.completed]
    return hypervolume(points, (0.0, math.log10(limit))) / math.log10(limit)


def over_time(side: Side, times: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Return the mean hypervolume over the studies at some times."""
    return np.array(
        [
            statistics.mean(
                share_of_plane([one.candidate for one in found if one.seconds <= moment], limit)
                for found in side.values()
            )
            for moment in times
        ]
    )


def searched(plan: Plan, seconds: float, workers: int) -> tuple[Side, dict[str, Genotype]]:
    """What the search of mernas finds in some time."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite", plan.hash)
        began, clock = time.time(), time.monotonic()
        with working("auto", workers, log=Path(folder) / "log.txt") as executor:
            search = NestedSearch(plan, ledger, executor, stopping=lambda: time.monotonic() - clock > seconds)
            with suppress(Interrupted):
                search.search()
        query = "SELECT key, started + seconds FROM jobs"
        ended = {key: moment - began for key, moment in ledger._read(query)}
        side: Side = {study: [] for study in studies(plan)}
        genotypes: dict[str, Genotype] = {}
        for study, found in side.items():
            for draw in ledger.draws(study):
                if draw.state != ACCEPTED or draw.genotype is None:
                    continue
                keys = [search.record.job_key(draw.genotype, out).hash for _, out in plan.inner_left_out(study)]
                if all(key in ended and ended[key] <= seconds for key in keys):
                    candidate = search.record.candidate(study, draw.genotype, draw.parameters or 0)
                    found.append(Found(max(ended[key] for key in keys), candidate))
                    genotypes[draw.genotype] = ledger.genotype(draw.genotype)
        ledger.close()
    return side, genotypes


def written_otherwise(asked: Asked, seed: int, seconds: float, workers: int) -> tuple[Side, dict[str, Genotype]]:
    """What the obvious script finds in some time, run once for each worker."""
    names = studies(asked.plan(seed))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_ready, range(workers)))
        parts = [pool.submit(_script, asked, seed, seconds, names[number::workers]) for number in range(workers)]
        found = [part.result() for part in parts]
    genotypes = {key: genotype for _, part in found for key, genotype in part.items()}
    side = {study: one for part, _ in found for study, one in part.items()}
    return {study: side[study] for study in names}, genotypes


def _ready(_: int) -> None:
    """Imports everything in a process of the pool, which is no part of the script's time."""
    torch.set_num_threads(1)
    time.sleep(1)  # so that every process gets one of these


def _script(asked: Asked, seed: int, seconds: float, names: list[str]) -> tuple[Side, dict[str, Genotype]]:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = asked.plan(seed)
    search = aside(plan)
    limit = plan.settings.max_parameters
    side: Side = {study: [] for study in names}
    genotypes: dict[str, Genotype] = {}
    made = {
        study: optuna.create_study(
            directions=["maximize", "minimize"],
            sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=plan.settings.seed * 100 + number),
        )
        for number, study in enumerate(side)
    }
    clock = time.monotonic()
    while True:
        for study, optuna_study in made.items():
            genotype, trial = None, optuna_study.ask()
            try:
                genotype = plan.space.suggest(trial)
                parameters = search.measure(genotype)
                if parameters is None or parameters > limit:
                    raise optuna.TrialPruned
                score = loop_over_folds(plan, search, study, genotype)
            except (MernasError, optuna.TrialPruned, RuntimeError):
                optuna_study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            passed = time.monotonic() - clock
            if passed > seconds:
                return side, genotypes
            optuna_study.tell(trial, [score, math.log10(parameters)])
            side[study].append(Found(passed, Candidate(genotype.hash, parameters, score)))
            genotypes[genotype.hash] = genotype


def loop_over_folds(plan: Plan, search: NestedSearch, study: str, genotype: Genotype) -> float:
    """Inner UF1 as the obvious script computes it: fold after fold, a plain network each."""
    rows: list[NDArray[np.int64]] = []
    predicted: list[NDArray[np.int64]] = []
    for scored, left_out in plan.inner_left_out(study):
        _, job = search.task(genotype, left_out)
        inside = plan.book.rows_of(plan.partition.groups[scored])
        probabilities = plainly(replace(job, predict_rows=inside), search)
        rows.append(inside)
        predicted.append(probabilities.argmax(axis=1))
    return uf1(plan.book.labels[np.concatenate(rows)], np.concatenate(predicted), len(plan.dataset.classes))


def plainly(job: Job, search: NestedSearch) -> NDArray[np.float64]:
    """One training with torch's own layers and threads."""
    store = search.store([job.genotype])
    recipes = [recipe_of(stream).hash for stream in job.genotype.streams]
    channels = [instantiate(stream["input"]).channels for stream in job.genotype.streams]
    maps = [store.select(recipe, job.train_rows) for recipe in recipes]
    view = TrainingView(maps, torch.from_numpy(job.train_labels), job.classes, channels)
    torch.manual_seed(job.seed)
    network = build_network(job.genotype, job.classes)
    fit_normalisation(network, job.genotype, view)
    strategy = instantiate(job.genotype["training"])
    augmentation = [instantiate(leaf) for leaf in job.genotype["augmentation"]]
    generator = torch.Generator().manual_seed(job.seed)
    strategy.fit(network, view, lambda rows: build_objective(job.genotype, rows, network), augmentation, generator)
    held_out = [store.select(recipe, job.predict_rows) for recipe in recipes]
    return predict(network, held_out)


def aside(plan: Plan) -> NestedSearch:
    """A search that is never run; it makes jobs, counts parameters and holds maps."""
    return NestedSearch(plan, Ledger(Path(tempfile.mkdtemp()) / "ledger.sqlite", plan.hash), SerialExecutor())


def studies(plan: Plan) -> list[str]:
    """The studies that leave a group out; the final one has nothing to be tested on."""
    return [study for study in plan.studies if study.isdigit()]


def tested(plan: Plan, tester: NestedSearch, side: Side, genotypes: dict[str, Genotype]) -> float:
    """Nested UF1 of the best candidate of every study, trained on all but the study's group and tested on that."""
    rows: list[NDArray[np.int64]] = []
    predicted: list[NDArray[np.int64]] = []
    for study, found in side.items():
        chosen = best([one.candidate for one in found])
        if chosen is None:
            return math.nan
        group = plan.partition.groups[int(study)]
        _, job = make_job(genotypes[chosen.genotype], group, plan.book, len(plan.dataset.classes), plan.settings.seed)
        probabilities, _ = fit_and_predict(job, tester.store([job.genotype]))
        rows.append(job.predict_rows)
        predicted.append(probabilities.argmax(axis=1))
    return uf1(plan.book.labels[np.concatenate(rows)], np.concatenate(predicted), len(plan.dataset.classes))


def main() -> int:
    """Print both sides for every seed; exit 1 if the goal is missed in the median."""
    parser = argparse.ArgumentParser(description="A whole search against an Optuna study with a loop over folds.")
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--space", default="standard")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-params", default="50k")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    asked, seconds = Asked(given.data, given.space, given.max_params), 60 * given.minutes
    times = np.linspace(0, seconds, 121)
    curves: dict[str, list[NDArray[np.float64]]] = {"mernas": [], "peer": []}
    shares = []
    for seed in range(given.seeds):
        plan = asked.plan(seed)
        limit, tester = plan.settings.max_parameters, aside(plan)
        ours, ours_genotypes = searched(plan, seconds, given.workers)
        theirs, their_genotypes = written_otherwise(asked, seed, seconds, given.workers)
        ours_curve, their_curve = over_time(ours, times, limit), over_time(theirs, times, limit)
        curves["mernas"].append(ours_curve)
        curves["peer"].append(their_curve)
        if not their_curve[-1]:
            counts = [sum(len(found) for found in side.values()) for side in (ours, theirs)]
            sys.exit(
                f"seed {seed}: nothing to compare, since the peer finished no candidate in {given.minutes:g} minutes "
                f"({counts[0]} and {counts[1]} in all studies together): more --minutes, or another --space"
            )
        reached = times[ours_curve >= their_curve[-1]]
        shares.append(float(reached[0]) / seconds if len(reached) else math.inf)
        numbers = [statistics.mean(len(found) for found in side.values()) for side in (ours, theirs)]
        nested = [tested(plan, tester, ours, ours_genotypes), tested(plan, tester, theirs, their_genotypes)]
        print(
            f"seed {seed}: candidates per study {numbers[0]:.1f} and {numbers[1]:.1f}; hypervolume "
            f"{ours_curve[-1]:.3f} and {their_curve[-1]:.3f}; the peer's final value after {shares[-1]:.2f} of its "
            f"time; nested UF1 {nested[0]:.3f} and {nested[1]:.3f} (mernas and peer)",
            flush=True,
        )
    median = statistics.median(shares)
    print(f"median share of the time: {median:.2f} (goal at most 0.33)")
    if given.plot:
        draw(times, curves, given.plot)
    return int(median > 1 / 3)


def draw(times: NDArray[np.float64], curves: dict[str, list[NDArray[np.float64]]], path: Path) -> None:
    """Write a picture of hypervolume over time, one line per seed and the mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for (name, lines), colour in zip(curves.items(), ("tab:blue", "tab:orange"), strict=True):
        for line in lines:
            axes.plot(times / 60, line, color=colour, alpha=0.3, linewidth=1)
        axes.plot(times / 60, np.mean(lines, axis=0), color=colour, label=name)
    axes.set_xlabel("minutes")
    axes.set_ylabel("inner hypervolume, mean over the studies")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
