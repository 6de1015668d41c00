"""The plan of a run, made again from plan.yaml and, for who is in which clip with which label, the predictions."""

from __future__ import annotations

import csv
import io
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import mernas
from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.bootstrap import DEVIATION_RESAMPLES, RESAMPLES
from mernas.evaluation.jobs import TOGETHER
from mernas.evaluation.partition import Partition, partition_from_plain
from mernas.evaluation.picking import parse_rule
from mernas.evaluation.racing import racing_settings
from mernas.evaluation.rows import number_rows
from mernas.search.halving import halving_settings
from mernas.search.plan import PLAN_FORMAT, Plan, Settings, plain_hash
from mernas.search.verify_check import Check
from mernas.search.verify_ledger import ReadLedger
from mernas.space.errors import DataError, MernasError, PlanError, Problem, SpaceError
from mernas.space.tree import SearchSpace
from mernas.space.yaml_text import read_yaml

LABELLED = ("predictions.csv", "baseline_predictions.csv")
ClipRow = tuple[str, str, str, str]
"""Clip, subject, dataset and label."""


@dataclass(frozen=True)
class Stated:
    """What plan.yaml says.

    Attributes:
        hash: The hash that it states.
        space_name: How the user named the space.
        description: What is hashed.
    """

    hash: str
    space_name: str
    description: Mapping[str, Any]


def read_plan(folder: Path) -> Stated:
    """Read plan.yaml.

    Raises:
        PlanError: If the folder is no run directory, or the file does not hold what a plan holds.
    """
    path = folder / "plan.yaml"
    for wanted in (path, folder / "ledger.sqlite"):
        if not holds(wanted):
            remedy = "name the folder that a search wrote, the one that holds plan.yaml and ledger.sqlite"
            raise PlanError(Problem(str(folder), f"is no run directory: it has no {wanted.name}", "", remedy))
    try:
        data = read_yaml(path)
    except SpaceError as error:
        raise PlanError(error.problems) from None
    if isinstance(data, dict) and is_newer(data.get("format"), PLAN_FORMAT):
        rule = f"must be of a format that mernas {mernas.__version__} can read, up to {PLAN_FORMAT}"
        remedy = f"install mernas {data.get('mernas', '')} or newer".replace("  ", " ")
        raise PlanError(Problem(str(path), rule, f"format {data['format']}", remedy))
    shape = {"data": dict, "search": dict, "resamples": dict, "partition": list, "presets": dict, "baselines": dict}
    if not isinstance(data, dict) or not all(isinstance(data.get(name), kind) for name, kind in shape.items()):
        raise PlanError(Problem(str(path), f"must be a plan, with {', '.join(shape)}"))
    if not isinstance(data["data"].get("classes"), list):
        raise PlanError(Problem(str(path), "must list the classes"))
    description = {name: value for name, value in data.items() if name not in ("hash", "space_file")}
    return Stated(str(data.get("hash")), str(data.get("space_file")), description)


def _readable(description: Mapping[str, Any]) -> bool:
    number = description.get("format")
    return isinstance(number, int) and 1 <= number <= PLAN_FORMAT


def is_newer(stated: object, known: int) -> bool:
    """Return whether a file says that it is of a later format than is known here.

    Example:
        >>> is_newer(3, 2), is_newer("3", 2), is_newer(2, 2), is_newer(None, 2)
        (True, True, False, False)
    """
    return str(stated).isdecimal() and int(str(stated)) > known


def holds(path: Path) -> bool:
    """Return whether a run directory holds a file.

    Args:
        path: The file.

    Raises:
        PlanError: If that cannot be told, e.g. because the directory may not be entered.

    Example:
        >>> holds(Path("no-such-folder/plan.yaml"))
        False
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of a name that no file can have
        return False
    except OSError as error:
        reason = error.strerror or str(error)
        raise PlanError(Problem(str(path.parent), "cannot be read", reason, "check permissions")) from None


def read_clips(folder: Path, stated: Stated) -> list[ClipRow]:
    """Return clip, subject, dataset and label of every clip, sorted by clip; nothing if no file tells.

    Every row of the front, rules and baselines lists all clips. Where the lists differ, one whose labels have the
    plan's fingerprint is believed, then the most frequent: comparing the files shows the others.
    """
    lists: Counter[tuple[ClipRow, ...]] = Counter()
    for name in LABELLED:
        blocks: dict[tuple[str | None, ...], list[ClipRow]] = {}
        for row in _table(folder / name):
            block = tuple(row.get(column) for column in ("budget", "rule", "baseline", "seed"))
            entry = tuple(row.get(column) or "" for column in ("clip", "subject", "dataset", "label"))
            blocks.setdefault(block, []).append(entry)  # type: ignore[arg-type]  # four columns make four entries
        lists.update(tuple(sorted(rows)) for rows in blocks.values())
    classes = tuple(stated.description["data"]["classes"])
    ranked = sorted(lists, key=lambda rows: (not _has_labels_of(rows, classes, stated), -lists[rows], rows))
    return list(ranked[0]) if ranked else []


def _table(path: Path) -> list[dict[str, str | None]]:
    try:
        text = path.read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(text)))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []  # the check of this file says what is wrong with it


def _has_labels_of(rows: tuple[ClipRow, ...], classes: tuple[str, ...], stated: Stated) -> bool:
    try:
        return _dataset(rows, classes, stated).label_fingerprint == str(stated.description["data"].get("labels"))
    except DataError:
        return False


def _dataset(rows: tuple[ClipRow, ...], classes: tuple[str, ...], stated: Stated) -> Dataset:
    data = stated.description["data"]
    emotions = pd.DataFrame({"emotion": [label for *_, label in rows]}, index=[clip for clip, *_ in rows])
    return Dataset(
        name=str(data.get("name")),
        clips=tuple(Clip(clip, dataset, subject, "") for clip, subject, dataset, _ in rows),
        annotations=emotions,
        classes=classes,
        provides=frozenset(data.get("facts") or ()),
        licence="",
    )


def rebuild_plan(stated: Stated, clips: list[ClipRow], ledger: ReadLedger, check: Check, groups: Check) -> Plan | None:
    """Make the plan again, checking it on the way.

    Args:
        stated: What plan.yaml says.
        clips: All clips with their labels; none if there are no results yet.
        ledger: The ledger.
        check: Is told what is wrong with the plan.
        groups: Is told what is wrong with the partition.

    Returns:
        The plan, or None if nothing can be made of it.
    """
    description = stated.description
    found = plain_hash(description)
    check.equal("plan.yaml, hash of its content", found, stated.hash)
    check.equal("ledger.sqlite, hash of its plan", ledger.about.get("plan"), stated.hash)
    check.expect(_readable(description), "plan.yaml, format", description.get("format"), f"1 to {PLAN_FORMAT}")
    wanted = {"intervals": RESAMPLES, "knee": DEVIATION_RESAMPLES}
    check.equal("plan.yaml, resamples", dict(description["resamples"]), wanted)
    try:
        return _rebuilt(stated, clips, ledger, check, groups)
    except (MernasError, LookupError, TypeError, ValueError, AttributeError) as error:
        check.fail("plan.yaml", f"{type(error).__name__}: {error}", "a plan that can be understood")
        return None


def _rebuilt(stated: Stated, clips: list[ClipRow], ledger: ReadLedger, check: Check, groups: Check) -> Plan:
    data, search = stated.description["data"], stated.description["search"]
    classes = tuple(data["classes"])
    dataset = _dataset(tuple(clips), classes, stated)
    settings = Settings(
        trials=search["trials"],
        batch=search["batch"],
        budgets=tuple(search["budgets"]),
        max_parameters=search["max_parameters"],
        sampler=search["sampler"]["name"],
        seed=search["seed"],
        seeds=search["repetitions"],
        device=search["numeric_path"].partition(",")[0],
        asynchronous=search["asynchronous"],
        time=search["time"],
        job_time=search["job_time"],
        together=search["numeric_path"].endswith(TOGETHER),
        halving="halving" in search,
        racing=bool(search.get("racing", False)),  # plans before racing do not always say
    )
    check.equal("plan.yaml, racing", search.get("racing", False), racing_settings() if settings.racing else False)
    check.equal("plan.yaml, halving", search.get("halving"), halving_settings() if settings.halving else None)
    for problem in settings.problems():
        check.fail("plan.yaml, search", str(problem), "settings that a search takes")
    if clips:
        check.equal("plan.yaml, labels (their fingerprint)", dataset.label_fingerprint, data["labels"])
        check.equal("plan.yaml, clips", len(dataset), data["clips"])
        check.equal("plan.yaml, subjects", len(dataset.subjects), data["subjects"])
    count = len(search["rules"]) - len(settings.budgets or ())
    rules = tuple(parse_rule(text) for text in search["rules"][:count])
    by_budget = [parse_rule(text).budget for text in search["rules"][count:]]
    check.equal("plan.yaml, rules of the budgets", by_budget, list(settings.budgets or ()))
    plan = Plan(
        dataset=dataset,
        book=number_rows(dataset, settings.seed),
        space=SearchSpace(dataset.provides),
        space_name=stated.space_name,
        partition=_partition(stated.description["partition"], dataset, groups),
        settings=settings,
        rules=rules,
        presets={},
        families={
            name: tuple(ledger.genotypes[key] for key in grid if key in ledger.genotypes)
            for name, grid in stated.description["baselines"].items()
        },
        description=stated.description,
    )
    check.equal("plan.yaml, numeric path", search["numeric_path"], plan.numeric_path)
    return plan


def _partition(plain: Any, dataset: Dataset, check: Check) -> Partition:
    """The groups; whether they are a partition of these subjects can only be said where the clips are known."""
    subjects = [clip.subject for clip in dataset]
    if subjects:
        try:
            check.checked += len(set(subjects))
            return partition_from_plain(plain, subjects, dataset.labels, dataset.classes, "plan.yaml, partition")
        except PlanError as error:
            for problem in error.problems:
                check.fail("plan.yaml, partition", str(problem), "every subject of the data in exactly one group")
    partition = Partition(tuple(tuple(sorted(group)) for group in plain))
    check.checked += len(partition.subjects)
    return partition
