"""The plan: everything that can change a result, fixed and hashed before anything is trained.

Where a run executes, with how many workers and into which folder is no part of it. The same command makes the same
plan, the plan's hash names the default run directory, and so the same command resumes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mernas
from mernas.components.datasets.clip import Dataset, content_hash
from mernas.evaluation.jobs import ENGINE_VERSION, numeric_path
from mernas.evaluation.partition import Partition
from mernas.evaluation.picking import Rule, default_budgets, format_size
from mernas.evaluation.racing import racing_settings
from mernas.evaluation.rows import RowBook, number_rows
from mernas.search.halving import halving_settings
from mernas.search.samplers import SAMPLERS, sampler_settings
from mernas.space.errors import PlanError, Problem, raise_all
from mernas.space.genotype import Genotype
from mernas.space.restriction import rules_of
from mernas.space.tree import SearchSpace
from mernas.space.yaml_text import dump_yaml

PLAN_FORMAT = 1
MOST_TRIALS = 100_000
MOST_SEEDS = 1_000
DEVICES = ("cpu", "cuda")
JOB_TIME = 3600.0
"""Seconds that one training may take, unless the user says otherwise."""
SPACE_FILE = "space.yaml"
"""Where a run directory holds what was searched, as a space file of its own."""
FINAL = "final"
"""The name of the study over all groups; the others are called by their group's number."""


@dataclass(frozen=True)
class Settings:
    """What a user asks of a search, with its defaults.

    Attributes:
        trials: Proposals per study, the same in all.
        batch: Proposals per study and round.
        budgets: Parameter budgets, ascending; None for the defaults below `max_parameters`.
        max_parameters: No candidate is larger.
        sampler: Who proposes.
        seed: The run's seed.
        seeds: How often every outer training is repeated, each time from another seed.
        device: `cpu` or `cuda`.
        asynchronous: Whether a study proposes as soon as it has room, at the price that one seed no longer gives one
            result.
        time: Seconds that the whole run may take, restarts included; None for no limit.
        job_time: Seconds that one training may take before it is a failure.
        racing: Whether a study stops candidates that are clearly worse after some of their folds.
        halving: Whether a study trains a batch for a ninth of its epochs first, and only its best third for all.
        together: Whether the folds of a candidate train as one, where its pipeline allows it.
    """

    trials: int = 64
    batch: int = 8
    budgets: tuple[int, ...] | None = None
    max_parameters: int = 1_000_000
    sampler: str = "tpe"
    seed: int = 0
    seeds: int = 1
    device: str = "cpu"
    asynchronous: bool = False
    time: float | None = None
    job_time: float = JOB_TIME
    racing: bool = False
    halving: bool = False
    together: bool = False

    def problems(self) -> list[Problem | str]:
        """Return everything that is wrong with these settings."""
        numbers = {"--trials": self.trials, "--batch": self.batch, "--seed": self.seed, "--seeds": self.seeds}
        problems: list[Problem | str] = [  # the command line has seen to it; in Python anything can be given
            Problem(name, "must be a whole number", repr(value))
            for name, value in numbers.items()
            if type(value) is not int
        ]
        if problems:
            return problems
        for name, value in (("--trials", self.trials), ("--batch", self.batch), ("--max-params", self.max_parameters)):
            if value < 1:
                problems.append(Problem(name, "must be at least 1", str(value)))
        for name, value in (("--trials", self.trials), ("--batch", self.batch)):
            if value > MOST_TRIALS:
                problems.append(Problem(name, f"must be at most {MOST_TRIALS:,}", f"{value:,}"))
        if not 1 <= self.seeds <= MOST_SEEDS:
            problems.append(Problem("--seeds", f"must lie between 1 and {MOST_SEEDS:,}", f"{self.seeds:,}"))
        if self.device not in DEVICES:
            problems.append(Problem("--device", f"must be {' or '.join(DEVICES)}", self.device))
        for name, limit in (("--time", self.time), ("--job-time", self.job_time)):
            if limit is not None and not 0 < limit < math.inf:
                problems.append(Problem(name, "must be above 0 s", f"{limit:g}"))
        if self.racing and self.asynchronous:
            # What the front was when a candidate was proposed would depend on which jobs had arrived by then.
            rule = "cannot be given with --asynchronous, whose proposals depend on which jobs have finished"
            problems.append(Problem("--race", rule, "both", "leave one of them out"))
        if self.halving and self.asynchronous:
            rule = "cannot be given with --asynchronous, where no batch is ever complete"
            problems.append(Problem("--halve", rule, "both", "leave one of them out"))
        if self.racing and self.together:
            rule = "cannot be given with --together, which trains the folds of a candidate at once"
            problems.append(Problem("--race", rule, "both", "leave one of them out"))
        if self.seed < 0:
            problems.append(Problem("--seed", "must not be negative", str(self.seed)))
        if self.sampler not in SAMPLERS:
            problems.append(Problem("--sampler", f"must be one of {', '.join(SAMPLERS)}", self.sampler))
        for budget in self.budgets or ():
            if not 0 < budget <= self.max_parameters:
                rule = f"must be above 0 and at most --max-params {format_size(self.max_parameters)}"
                remedy = "leave the budget out or raise --max-params"
                problems.append(Problem("--budgets", rule, format_size(budget), remedy))
        return problems


@dataclass(frozen=True, eq=False)
class Plan:
    """A search, fixed.

    Attributes:
        dataset: Clips and annotations.
        book: Row numbers.
        space: What is searched.
        space_name: How the user named it; for people, and not hashed.
        partition: The groups of subjects.
        settings: Trials, budgets and so on; its budgets are filled in.
        rules: The pick rules.
        presets: Presets that lie in the space, by name.
        families: The baselines' candidates by name.
        description: The plain data that are hashed and written to plan.yaml.
    """

    dataset: Dataset
    book: RowBook
    space: SearchSpace
    space_name: str
    partition: Partition
    settings: Settings
    rules: tuple[Rule, ...]
    presets: Mapping[str, Genotype]
    families: Mapping[str, tuple[Genotype, ...]]
    description: Mapping[str, Any]

    @property
    def budgets(self) -> tuple[int, ...]:
        """The parameter budgets, ascending."""
        return self.settings.budgets or ()

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over the description."""
        return plain_hash(self.description)

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the studies: one per group, then the final one."""
        return (*(str(number) for number in range(len(self.partition.groups))), FINAL)

    @property
    def numeric_path(self) -> str:
        """The numeric path of every job of this plan."""
        return numeric_path(self.settings.device, self.settings.together)

    @property
    def batches(self) -> tuple[int, ...]:
        """How many proposals per study each batch has; an asynchronous study has batches of one after the first."""
        if self.settings.asynchronous:
            first = min(self.settings.trials, self.settings.batch)
            return (first, *[1] * (self.settings.trials - first))
        whole, rest = divmod(self.settings.trials, self.settings.batch)
        return (*[self.settings.batch] * whole, *([rest] if rest else []))

    def batches_until(self, trials: int | None) -> tuple[int, ...]:
        """Return the batches of a run that ends at so many proposals per study; the last may be a smaller one.

        They are those of a plan of so many trials.

        Args:
            trials: Where it ends; None for all that are planned.
        """
        if trials is None:
            return self.batches
        settings = replace(self.settings, trials=min(trials, self.settings.trials))
        return replace(self, settings=settings).batches

    def inner_left_out(self, study: str) -> list[tuple[int, tuple[str, ...]]]:
        """Return (group k that is scored, subjects left out) for every inner job of a study.

        In study g those are the pairs {g, k}: the job trains without g and without k, and answers study k as well.
        In the final study they are the single groups.
        """
        groups = self.partition.groups
        if study == FINAL:
            return [(k, groups[k]) for k in range(len(groups))]
        sealed = int(study)
        pairs = [k for k in range(len(groups)) if k != sealed]
        return [(k, tuple(sorted((*groups[sealed], *groups[k])))) for k in pairs]

    def to_yaml(self) -> str:
        """Return the text of plan.yaml."""
        return dump_yaml({"hash": self.hash, "space_file": self.space_name, **self.description})

    def space_to_yaml(self) -> str:
        """Return the text of space.yaml, which leaves what this plan searches and needs no other file."""
        return f"# What this run searches; `mernas search --space` takes it.\n{dump_yaml(rules_of(self.space))}"


def learned_beside(dataset: Dataset) -> dict[str, str]:
    """Return what pipelines may learn from beside the labels: action units and the source domain."""
    beside: dict[str, str] = {}
    if dataset.units is not None:
        beside["units"] = content_hash([dataset.units.tobytes()])
    if dataset.source is not None:
        units = b"" if dataset.source.units is None else dataset.source.units.tobytes()
        content = [dataset.source.fingerprint, dataset.source.label_fingerprint]
        beside["source"] = content_hash([*(text.encode() for text in content), units])
    return beside


def plain_hash(data: Any) -> str:
    """Return sixteen hexadecimal digits over plain data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_plan(
    dataset: Dataset,
    space: SearchSpace,
    space_name: str,
    partition: Partition,
    settings: Settings,
    rules: Sequence[Rule],
    presets: Mapping[str, Genotype],
    families: Mapping[str, tuple[Genotype, ...]],
) -> Plan:
    """Return the plan of a search.

    Args:
        dataset: Clips and annotations.
        space: What is searched.
        space_name: How the user named it; `description` fixes what it means.
        partition: The groups of subjects.
        settings: Trials, budgets and so on.
        rules: Pick rules; `<=b` is added for every budget.
        presets: Presets that lie in the space.
        families: The baselines' candidates by name.

    Raises:
        PlanError: With every contradiction.
    """
    raise_all(PlanError, settings.problems())
    budgets = tuple(sorted(settings.budgets)) if settings.budgets else default_budgets(settings.max_parameters)
    settings = Settings(**{**vars(settings), "budgets": budgets})
    description = {
        "format": PLAN_FORMAT,
        "mernas": mernas.__version__,
        "engine": ENGINE_VERSION,
        "data": {
            "name": dataset.name,
            "content": dataset.fingerprint,
            "labels": dataset.label_fingerprint,
            "classes": list(dataset.classes),
            "clips": len(dataset),
            "subjects": len(dataset.subjects),
            "facts": sorted(dataset.provides),
            **learned_beside(dataset),
        },
        "search": {
            "trials": settings.trials,
            "batch": settings.batch,
            "budgets": list(budgets),
            "max_parameters": settings.max_parameters,
            "rules": [*(str(rule) for rule in rules), *(f"<={format_size(budget)}" for budget in budgets)],
            "sampler": sampler_settings(settings.sampler),
            "seed": settings.seed,
            "repetitions": settings.seeds,
            "racing": racing_settings() if settings.racing else False,
            # Plans without it are those of versions that did not know it.
            **({"halving": halving_settings()} if settings.halving else {}),
            "asynchronous": settings.asynchronous,
            "time": settings.time,
            "job_time": settings.job_time,
            "numeric_path": numeric_path(settings.device, settings.together),
        },
        "resamples": {"intervals": 2000, "knee": 1000},
        "partition": partition.to_plain(),
        "presets": {name: genotype.hash for name, genotype in sorted(presets.items())},
        "baselines": {name: [genotype.hash for genotype in grid] for name, grid in sorted(families.items())},
        "space": {
            "hash": plain_hash(space.describe()),
            "axes": space.describe()[1],
            # Plans without it are those of versions that did not know it, or of spaces that do not ask for it.
            **({"fitting": True} if space.fitting else {}),
        },
    }
    return Plan(
        dataset=dataset,
        book=number_rows(dataset, settings.seed),
        space=space,
        space_name=space_name,
        partition=partition,
        settings=settings,
        rules=tuple(rules),
        presets=dict(sorted(presets.items())),
        families=families,
        description=description,
    )
