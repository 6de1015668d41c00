"""The command that repeats a run's search with one more rule: a rule that was not planned has no estimate otherwise."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mernas.evaluation.picking import Rule, format_size
from mernas.search.duration import exact_duration
from mernas.search.finished import FinishedRun
from mernas.search.named_data import wants_a_path
from mernas.search.noted_data import noted_data
from mernas.search.plan import SPACE_FILE, Settings
from mernas.space.registry import REGISTRY

VALUED: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "budgets": ("--budgets", lambda sizes: ",".join(map(format_size, sizes))),
    "max_parameters": ("--max-params", format_size),
    "trials": ("--trials", str),
    "batch": ("--batch", str),
    "sampler": ("--sampler", str),
    "seed": ("--seed", str),
    "seeds": ("--seeds", str),
    "device": ("--device", str),
    "time": ("--time", exact_duration),
    "job_time": ("--job-time", exact_duration),
}
"""Settings that an option gives with a value: the option, and how it writes the value."""

FLAGS: Mapping[str, str] = {
    "asynchronous": "--asynchronous",
    "racing": "--race",
    "halving": "--halve",
    "together": "--together",
}
"""Settings that an option switches on."""


def options_of(settings: Settings) -> list[str]:
    """Return the options of `mernas search` that give exactly these settings.

    Example:
        >>> options_of(Settings(time=90.0, racing=True))[-5:]
        ['--time', '90s', '--job-time', '3600s', '--race']
    """
    words = []
    for name, (option, write) in VALUED.items():
        value = getattr(settings, name)
        if value is not None:
            words += [option, write(value)]
    return [*words, *(flag for name, flag in FLAGS.items() if getattr(settings, name))]


def command_with(run: FinishedRun, rule: Rule) -> str:
    """Return the command of the search of a run with one more rule.

    Args:
        run: The run.
        rule: The rule; one with a budget.

    Raises:
        DataError: If the run notes where its data lay, and that cannot be read.
    """
    planned = run.plan.settings
    budgets = tuple(sorted({*run.plan.budgets, *([rule.budget] if rule.budget is not None else [])}))
    ended = run.ledger.about.get("trials")
    settings = replace(
        planned,
        budgets=budgets,
        max_parameters=max(planned.max_parameters, *budgets),
        # How many proposals there is time for depends on the machine; those that there were make the same search.
        trials=int(ended) if ended else planned.trials,
        time=None,
    )
    space = run.folder / SPACE_FILE
    words = ["mernas", "search"]
    for text in noted_data(run.folder) or data_texts(run.plan.dataset.name):
        words += ["--data", text]
    # Runs of earlier versions hold no space file, and say only how theirs was called.
    words += ["--space", str(space) if space.is_file() else run.plan.space_name]
    words += ["--partition", str(run.folder / "plan.yaml"), *options_of(settings)]
    return shlex.join(words)


def data_texts(name: str) -> list[str]:
    """Return what `--data` takes for each part of a dataset's name; a name that no loader has is that of a manifest.

    Example:
        >>> data_texts("flow-images+synthetic+mine")
        ['flow-images=PATH', 'synthetic', 'PATH/mine.csv']
    """
    texts = []
    for part in name.split("+"):
        if part not in REGISTRY.names("dataset"):
            texts.append(f"PATH/{part}.csv")
        else:
            texts.append(f"{part}=PATH" if wants_a_path(REGISTRY.get("dataset", part).factory()) else part)
    return texts
