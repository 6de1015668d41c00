"""Whose a folder is: a run directory belongs to one plan, a folder of kept folds to one evaluation.

Both know their owner by a hash. Who comes with another one is told what differs, as far as the folder says it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from mernas.evaluation.bundle_files import MANIFEST
from mernas.evaluation.jobs import numeric_path
from mernas.search.plan import DEVICES, Plan
from mernas.search.reading_only import reading_only
from mernas.search.search_command import FLAGS, VALUED
from mernas.space.errors import PlanError, Problem
from mernas.space.yaml_text import read_yaml

MOST = 5
"""So many differences are told at most."""
DATA_WORDS = {
    "content": "clips of other content",
    "labels": "other labels",
    "units": "other action units",
    "source": "another source domain",
    "classes": "other classes",
    "facts": "clips that come with something else",
}
"""What may differ in data of one name, in the order in which it is told."""


def check_belongs(plan: Plan, folder: Path) -> None:
    """See that a plan can begin or go on in a folder; writes nothing.

    Args:
        plan: The plan.
        folder: The run directory, which need not exist.

    Raises:
        PlanError: If it belongs to another plan, with what differs, or to an evaluation that keeps its folds.
    """
    stated, ledger = folder / "plan.yaml", folder / "ledger.sqlite"
    if os.path.exists(stated):  # not of the path, which raises where a folder may not be entered
        other = read_yaml(stated)
        found = str(other.get("hash")) if isinstance(other, dict) else "no plan"
        if found != plan.hash and not untouched(ledger):
            raise PlanError(_other_plan(folder, other, plan, found))
    elif owner_of(ledger) not in (None, plan.hash):
        rule = "holds a ledger without plan.yaml: it keeps the folds of `mernas evaluate`, or is a run that has lost it"
        raise PlanError(Problem(f"run directory {folder}", rule, "", "choose another --out"))


def refuse_model(folder: Path, option: str) -> None:
    """See that a folder holds no exported model, of which a run would replace files.

    Args:
        folder: The folder that was named.
        option: The option that named it.

    Raises:
        PlanError: If it does.
    """
    if (folder / MANIFEST).is_file():
        raise PlanError(
            Problem(str(folder), "holds an exported model", MANIFEST, f"choose another folder with {option}")
        )


def untouched(ledger: Path) -> bool:
    """Return whether nothing was proposed or trained in a run: a plan that was refused as it began holds no folder."""
    return _read(ledger, "SELECT (SELECT count(*) FROM draws) + (SELECT count(*) FROM jobs)") == [(0,)]


def owner_of(ledger: Path) -> str | None:
    """Return the hash of what a ledger belongs to; None where there is none, or none that can be read."""
    rows = _read(ledger, "SELECT value FROM about WHERE name = 'plan'")
    return str(rows[0][0]) if rows else None


def check_kept(folder: Path, own: str, genotype: str, path: str) -> None:
    """See that a folder of kept folds is one's own.

    The ledger holds the pipeline and where its folds were trained; of the rest it knows only a hash.

    Args:
        folder: The folder, which need not exist.
        own: The hash of the evaluation.
        genotype: The hash of its pipeline.
        path: Its numeric path.

    Raises:
        PlanError: If it belongs to another evaluation, with what differs or may differ.
    """
    ledger = folder / "ledger.sqlite"
    if owner_of(ledger) in (None, own):
        return
    rule = "keeps the folds of another evaluation"
    remedy = "choose another folder with --keep, or repeat the command that made this one"
    pipelines = [row[0] for row in _read(ledger, "SELECT hash FROM genotypes")]
    paths = [row[0] for row in _read(ledger, "SELECT DISTINCT numeric_path FROM jobs")]
    differing = []
    if pipelines and genotype not in pipelines:
        differing.append(f"pipeline {pipelines[0]} instead of {genotype}")
    if paths and path not in paths:
        differing.append(f'trainings on "{paths[0]}" instead of "{path}" (--device, --together)')
    if not differing:
        rule += " of the same pipeline: other data or labels, another --seed or --protocol, or another engine"
    raise PlanError(Problem(f"folder {folder}", rule, "; ".join(differing), remedy))


def differences(there: Mapping[str, Any], plan: Plan) -> list[str]:
    """Return what differs between what a plan.yaml says and a plan, in the words of the options; most telling first.

    Args:
        there: The content of plan.yaml.
        plan: The plan.
    """
    mine = plan.description
    found = [*_data(_part(there, "data"), mine["data"])]
    other_data = bool(found)
    settings = list(_settings(_part(there, "search"), plan))
    found += settings
    if _part(there, "space") != mine["space"]:
        name = there.get("space_file")
        same = name == plan.space_name
        found.append(f"--space {name} of other content" if same else f"--space {name} instead of {plan.space_name}")
    groups, own_groups = there.get("partition"), mine["partition"]
    if isinstance(groups, list) and len(groups) != len(own_groups):
        found.append(f"--groups {len(groups)} instead of {len(own_groups)}")
    elif groups != own_groups and not other_data and not any(text.startswith("--seed ") for text in settings):
        found.append("other groups of subjects (--groups, --partition)")
    return found or [f"other {name}" for name, value in mine.items() if there.get(name) != value]


def _part(there: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a plan.yaml, which somebody may have edited."""
    part = there.get(name)
    return part if isinstance(part, dict) else {}


def _data(there: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    if there.get("name") != mine["name"]:
        yield f"data {there.get('name')} instead of {mine['name']}"
        return
    for key, words in DATA_WORDS.items():
        if there.get(key) != mine.get(key):
            yield f"data {mine['name']}: {words}"


def _settings(there: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """The options that gave other settings, in the order in which a command names them."""
    mine = plan.description["search"]
    names = {"seeds": "repetitions"}
    for setting, (option, write) in VALUED.items():
        if setting == "device":
            continue
        key = names.get(setting, setting)
        given, own = there.get(key), mine.get(key)
        if given == own:
            continue
        if key == "sampler" and isinstance(given, dict) and given.get("name") != own["name"]:
            yield f"{option} {given.get('name')} instead of {own['name']}"
        elif key == "sampler":
            yield f"{option} with other settings"
        else:
            yield _instead(option, _written(given, write), _written(own, write))
    for setting, option in FLAGS.items():
        given, own = there.get(setting, False), mine.get(setting, False)
        if setting != "together" and given != own:
            yield _flag(option, bool(given), bool(own))
    yield from _numeric(str(there.get("numeric_path")), plan)


def _numeric(given: str, plan: Plan) -> Iterator[str]:
    if given == plan.numeric_path:
        return
    paths = {numeric_path(device, together): (device, together) for device in DEVICES for together in (False, True)}
    if given not in paths:
        yield f'trainings on "{given}" instead of "{plan.numeric_path}"'
        return
    device, together = paths[given]
    if device != plan.settings.device:
        yield _instead("--device", device, plan.settings.device)
    if together != plan.settings.together:
        yield _flag("--together", together, plan.settings.together)


def _written(value: Any, write: Any) -> str:
    """A setting as its option takes it; empty where there is none."""
    if value is None:
        return ""
    try:
        return str(write(value))
    except (TypeError, ValueError, ArithmeticError):  # somebody has edited plan.yaml
        return str(value)


def _instead(option: str, given: str, own: str) -> str:
    there = f"{option} {given}" if given else f"no {option}"
    return f"{there} instead of {own or 'none'}"


def _flag(option: str, given: bool, own: bool) -> str:
    return f"{option} with other settings" if given and own else f"{option}" if given else f"no {option}"


def _other_plan(folder: Path, other: Any, plan: Plan, found: str) -> Problem:
    """Why a plan cannot go on in a directory; where another version began it, the same command would not help."""
    subject = f"run directory {folder}"
    begun = other if isinstance(other, dict) else {}
    version, engine = begun.get("mernas", "of unknown version"), begun.get("engine")
    here, mine = plan.description["mernas"], plan.description["engine"]
    remedy = f"go on with mernas {version}, or choose another --out; if it is finished, `mernas report` still reads it"
    if engine is not None and engine != mine:
        rule = f"was begun with engine {engine} of mernas {version}; equal trainings give other bits with engine {mine}"
        return Problem(subject, rule, f"mernas {here}", remedy)
    if begun and version != here:
        return Problem(subject, f"was begun with mernas {version}", f"mernas {here}", remedy)
    told = differences(begun, plan) if begun else []
    more = [f"{len(told) - MOST} more"] if len(told) > MOST else []
    remedy = "choose another --out, or repeat the command that made this run"
    return Problem(subject, "belongs to another plan", "; ".join([*told[:MOST], *more]) or found, remedy)


def _read(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    """What a ledger says; nothing where it does not exist or cannot be read, which who opens it will tell."""
    if not os.path.isfile(ledger):  # as above
        return []
    try:
        with closing(reading_only(ledger)) as database:
            return database.execute(query).fetchall()
    except sqlite3.Error:
        return []
