"""Racing and halving: the same nested search with and without, by what is trained, by the front, and by the estimate.

    python benchmarks/stopping.py
    python benchmarks/stopping.py --by halving --groups 9 --sampler random
    python benchmarks/stopping.py --by halving,both --data flow-images=PATH --space quick --trials 16

Both searches have the same plan but for what stops candidates, and so the same seeds: a job of both is trained once and
told to both. Printed for every number of groups: the inner jobs of each search, the seconds that they take, and the
ratios; the hypervolume of the final study's
front (inner UF1 against the logarithm of parameters, from UF1 0 and the parameter limit) and its ratio; the nested UF1
of every rule and budget with its interval, and whether that of the race lies within the interval of the other. With
`--inner` there is no outer test, which on larger data takes most of the time.

Beside the ratio of a race stands the least that it could have left: the first batch whole, since it has no front to be
compared with, and of every later proposal the folds before ten subjects and all classes are scored. With the sampler
`random` both searches propose the same, so the last lines also tell how many of the stopped candidates the whole search
has on the front of their study in the end, and how many jobs workers train in vain if several wait for one another: the
race run again on a virtual clock, on which every job takes as long as it did.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabular.hypervolume import hypervolume

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import Job, Outcome
from mernas.evaluation.picking import Candidate
from mernas.evaluation.racing import may_judge
from mernas.search.executor import Block, Feed
from mernas.search.halving import shortened
from mernas.search.ledger import Ledger
from mernas.search.nested import NestedSearch
from mernas.search.plan import FINAL, Plan, make_plan
from mernas.search.racing import STOPPED, front_of
from mernas.search.record import Record
from mernas.search.results import Tables, trials_table
from mernas.search.run import execute_plan, load_data, plan_search

TESTS = Path(__file__).resolve().parents[1] / "tests"
LIMIT = 20_000
WORKERS = (1, 2, 4, 8, 16, 32)


class Remembering:
    """Runs jobs as so many workers would, on a virtual clock, and trains each job only once in its life.

    Args:
        known: The outcomes of jobs that are trained, by key; added to.
        workers: How many jobs run at once.
    """

    def __init__(self, known: dict[str, Outcome], workers: int = 1) -> None:
        self.workers = workers
        self.clock = 0.0
        self._known = known

    def run(self, feed: Feed, on_outcome: Callable[[Job, Outcome], None], stopping: Callable[[], bool]) -> None:
        """Run until the feed has nothing more; a worker does the jobs of its block one after the other."""
        busy: list[tuple[float, int, int, Block]] = []  # when its job ends, a number to tell blocks apart, which job
        started = 0
        while True:
            while len(busy) < self.workers and (block := feed()) is not None:
                started += 1
                heapq.heappush(busy, (self.clock + self._outcome(block, 0).seconds, started, 0, block))
            if not busy:
                return
            self.clock, number, place, block = heapq.heappop(busy)
            if place + 1 < len(block.jobs):
                ends = self.clock + self._outcome(block, place + 1).seconds
                heapq.heappush(busy, (ends, number, place + 1, block))
            on_outcome(block.jobs[place], self._outcome(block, place))

    def close(self) -> None:
        """There is nothing to let go of."""

    def _outcome(self, block: Block, place: int) -> Outcome:
        job = block.jobs[place]
        if job.key not in self._known:
            self._known[job.key] = run_job(job, block.store)
        return self._known[job.key]


def made_up(folder: Path, subjects: int, clips: int, signal: float) -> tuple[Dataset, Path]:
    """The clips and the space that the tests use, with more subjects."""
    spec = importlib.util.spec_from_file_location("toy", TESTS / "conftest.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"there is no {TESTS / 'conftest.py'}")
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    space = folder / "toy.yaml"
    space.write_text(toy.TOY_SPACE)
    return toy.make_toy(subjects=subjects, clips=clips, signal=signal), space


def inner_jobs(plan: Plan, record: Record, finished: set[str]) -> set[str]:
    """The finished inner jobs of all proposals, and of their short trainings."""
    keys = {
        record.job_key(genotype, left_out).hash
        for study in plan.studies
        for draw in record.proposals(study)
        for genotype in (draw.genotype or "", shortened(record.ledger.genotype(draw.genotype or "")).hash)
        for _, left_out in plan.inner_left_out(study)
    }
    return keys & finished


def reached(candidates: Sequence[Candidate]) -> float:
    """The hypervolume of inner UF1 against log10 of the parameters that some candidates reach, within the limit."""
    points = [(one.uf1, math.log10(max(one.parameters, 1))) for one in candidates if one.completed]
    return hypervolume(points, (0.0, math.log10(LIMIT)))


def fewest_folds(plan: Plan, study: str) -> int:
    """After how many folds a candidate of a study can be stopped at the earliest; all of them if at none."""
    rows: list[int] = []
    left = plan.inner_left_out(study)
    for number, (scored, _) in enumerate(left, start=1):
        rows += plan.book.rows_of(plan.partition.groups[scored]).tolist()
        if may_judge(plan.book.labels[rows], [plan.book.subjects[row] for row in rows], len(plan.dataset.classes)):
            return number
    return len(left)


def least(plan: Plan, record: Record) -> int:
    """How many inner jobs the best possible race would train: the first batch, and the least of every other one."""
    first, later = set(), 0
    for study in plan.studies:
        fewest, left = fewest_folds(plan, study), plan.inner_left_out(study)
        for draw in record.proposals(study):
            if draw.batch == 0:
                first |= {record.job_key(draw.genotype or "", left_out).hash for _, left_out in left}
            else:
                later += fewest
    return len(first) + later


def searched(plan: Plan, folder: Path, known: dict[str, Outcome], inner: bool) -> tuple[Ledger, Record, Tables | None]:
    """Do a search; return its ledger, what its studies know, and its tables if it has an outer test."""
    place = folder / plan.hash
    tables = None
    if inner:
        place.mkdir(exist_ok=True)
    else:
        tables = execute_plan(plan, place, folder / "cache", Remembering(known)).tables
    ledger = Ledger(place / "ledger.sqlite", plan.hash)
    search = NestedSearch(plan, ledger, Remembering(known), folder / "cache")
    if inner:
        search.search()
    return ledger, search.record, tables


def compare(plan: Plan, folder: Path, known: dict[str, Outcome], inner: bool, by: str) -> bool:
    """Run both searches and print what stopping saved and cost; return whether the goal was reached."""
    race_plan = plan_of(plan, racing=by != "halving", halving=by != "racing")
    ledger, record, whole = searched(plan, folder, known, inner)
    race_ledger, race_record, raced = searched(race_plan, folder, known, inner)
    jobs = inner_jobs(plan, record, ledger.finished())
    fewer = inner_jobs(race_plan, race_record, race_ledger.finished())
    seconds, fewer_seconds = (sum(known[key].seconds for key in keys) for keys in (jobs, fewer))
    trials = trials_table(race_plan, race_record)
    stopped = trials[trials["state"] == STOPPED]
    accepted = int(trials["state"].isin(["completed", "failed", STOPPED]).sum())
    groups = len(plan.partition.groups)
    print(f"\n{by}, {groups} groups, sampler {plan.settings.sampler}, seed {plan.settings.seed}")
    print(f"inner jobs: {len(jobs):,} without, {len(fewer):,} with it; ratio {len(fewer) / len(jobs):.3f}")
    print(f"training: {seconds:.0f} s without, {fewer_seconds:.0f} s with it; ratio {fewer_seconds / seconds:.3f}")
    if by == "racing":
        bound = least(race_plan, race_record)
        print(f"            {bound:,} jobs at the very least; ratio {bound / len(jobs):.3f}")
    counts = ", ".join(f"{count} after {fold}" for fold, count in sorted(stopped["folds"].value_counts().items()))
    print(f"stopped: {len(stopped)} of {accepted} candidates; folds: {counts or 'none'}")
    area, race_area = reached(record.candidates(FINAL)), reached(race_record.candidates(FINAL))
    print(f"hypervolume of the final study's front: {area:.4f} and {race_area:.4f}; ratio {race_area / area:.4f}")
    kept = [reached(race_record.candidates(s)) / reached(record.candidates(s)) for s in plan.studies]
    print(f"            over all studies: mean ratio {sum(kept) / len(kept):.4f}, smallest {min(kept):.4f}")
    inside = whole is None or raced is None or nested_figures(whole, raced)
    if plan.settings.sampler == "random" and by == "racing":
        told_again(plan, race_plan, record, race_record, folder, known)
    ledger.close()
    race_ledger.close()
    return race_area >= 0.95 * area and fewer_seconds <= seconds / 3 and inside


def nested_figures(whole: Tables, raced: Tables) -> bool:
    """Print the nested figures of both, and return whether every one of the race lies in the interval of the other."""
    inside = []
    for name in ("rules", "front"):
        column = "rule" if name == "rules" else "budget"
        before, after = (
            {str(line[column]): line for line in getattr(tables, name).to_dict(orient="records")}
            for tables in (whole, raced)
        )
        for key in before.keys() & after.keys():
            one, other = before[key], after[key]
            within = one["ci_low"] <= other["nested_uf1"] <= one["ci_high"]
            inside.append(within)
            print(
                f"nested UF1 of {column} {key}: {one['nested_uf1']:.3f} ({one['ci_low']:.3f} to {one['ci_high']:.3f})"
                f" and {other['nested_uf1']:.3f} ({other['ci_low']:.3f} to {other['ci_high']:.3f})"
                f"{'' if within else ': outside the interval'}"
            )
    return all(inside)


def told_again(
    plan: Plan, race_plan: Plan, record: Record, race_record: Record, folder: Path, known: dict[str, Outcome]
) -> None:
    """Print which stopped candidates the whole search has on a front, and what several workers train in vain."""
    lost = known_to_both = 0
    for study in plan.studies:
        scored = {one.genotype for one in record.candidates(study)}
        front = {one.genotype for one in front_of(record.candidates(study))}
        stopped = {one.genotype for one in race_record.candidates(study) if one.stopped} & scored
        known_to_both += len(stopped)
        lost += len(stopped & front)
    print(f"of {known_to_both} stopped candidates the whole search has {lost} on the front of their study in the end")
    for workers in WORKERS:
        numbers = []
        for which, one in (("whole", plan), ("race", race_plan)):
            place = folder / f"{one.hash}-{which}-{workers}"
            place.mkdir()
            ledger = Ledger(place / "ledger.sqlite", one.hash)
            executor = Remembering(known, workers)
            NestedSearch(one, ledger, executor, folder / "cache").search()
            numbers.append((len(ledger.finished()), executor.clock))
            ledger.close()
        (_, seconds), (jobs, race_seconds) = numbers
        in_vain = jobs - len(inner_jobs(race_plan, race_record, race_record.ledger.finished()))
        spent = f"{race_seconds:.0f} s instead of {seconds:.0f} s"
        print(f"{workers:>2} workers: {jobs:,} jobs, {in_vain} of them in vain; {spent}")


def plan_of(plan: Plan, racing: bool, halving: bool) -> Plan:
    """The same plan with or without racing and halving."""
    settings = replace(plan.settings, racing=racing, halving=halving)
    parts = (plan.dataset, plan.space, plan.space_name, plan.partition)
    return make_plan(*parts, settings, plan.rules, plan.presets, plan.families)


def main() -> None:
    """Compare for every number of groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="as for mernas search; made-up clips if not given")
    parser.add_argument("--space", default="", help="as for mernas search; that of the tests for made-up clips")
    parser.add_argument("--by", default="racing,halving,both", help="what stops candidates")
    parser.add_argument("--groups", default="5,9")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", type=int, default=60, help="of the made-up clips, four of each")
    parser.add_argument("--signal", type=float, default=0.5, help="how far the made-up classes lie apart")
    parser.add_argument("--inner", action="store_true", help="no outer test, so no nested figures")
    asked = parser.parse_args()
    reached = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if asked.data:
            data, space = load_data(asked.data), asked.space or "quick"
        else:
            data, space = made_up(folder, asked.subjects, 4, asked.signal)
        for groups in asked.groups.split(","):
            settings: dict[str, Any] = {name: getattr(asked, name) for name in ("trials", "batch", "sampler", "seed")}
            plan = plan_search(data, space, int(groups), None, "500,2k,20k", LIMIT, **settings)
            known: dict[str, Outcome] = {}
            reached += [compare(plan, folder, known, asked.inner, by) for by in asked.by.split(",")]
    goal = "95% of the hypervolume with a third of the training, nested figures within their intervals"
    print(f"\ngoal ({goal}): {', '.join('reached' if one else 'missed' for one in reached)}")


if __name__ == "__main__":
    main()
