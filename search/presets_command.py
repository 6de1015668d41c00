"""`mernas presets`: the published methods that can be evaluated by name, with their figures and what data they need."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import mernas.components  # noqa: F401  # registers every component
from mernas.components.topologies.network import count_parameters
from mernas.search.data_needs import data_in_words, installs_of, needs_of_data
from mernas.space.presets import Preset, load_preset, preset_names
from mernas.space.yaml_text import dump_yaml, load_yaml

CLASSES = 3
"""Parameters are counted for as many classes, those of MEGC2019."""

WIDTH = 132
"""Columns of a table that is not printed on a screen."""


def show_presets(name: str | None, as_json: bool) -> None:
    """Print a table of all presets, or one preset as a file that `mernas evaluate` takes.

    Args:
        name: A preset; None for the table.
        as_json: Whether to print JSON instead.

    Raises:
        UnknownNameError: If there is no preset of that name.
    """
    if name is None:
        listed = [preset_facts(load_preset(known)) for known in preset_names()]
        if as_json:
            click.echo(json.dumps(listed))
        else:
            _print_table(listed)
        return
    preset = load_preset(name.lower())
    facts = preset_facts(preset)
    if as_json:
        click.echo(json.dumps({**facts, "genotype": load_yaml(preset.genotype.to_yaml())}))
    else:
        click.echo(_as_file(preset, facts), nl=False)


def preset_facts(preset: Preset) -> dict[str, Any]:
    """Return what is to be told of a preset, as plain data.

    Example:
        >>> facts = preset_facts(load_preset("ststnet"))
        >>> facts["parameters"], facts["published"]["parameters"], facts["data"]
        (1683, 1670, 'flow maps, or frames with onset and apex')
    """
    genotype = preset.genotype
    needs = needs_of_data(genotype)
    return {
        "name": preset.name,
        "title": preset.title,
        "year": preset.year,
        "label": preset.label,
        "source": preset.source,
        "notes": preset.notes,
        "hash": genotype.hash,
        "parameters": count_parameters(genotype, CLASSES) if genotype.is_network else None,
        "published": dict(preset.published),
        "needs": sorted(needs),
        "data": data_in_words(needs),
        "install": installs_of(genotype),
    }


def _print_table(listed: list[dict[str, Any]]) -> None:
    table = Table()
    for heading in ("name", "method", "year", "label"):
        table.add_column(heading, no_wrap=heading in ("name", "label"))
    for heading in ("parameters", "UF1", "UAR"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("chosen on test subjects", max_width=9)
    table.add_column("data", min_width=26)
    for facts in listed:
        published = facts["published"]
        cells = (
            facts["name"],
            facts["title"].partition(":")[0],
            str(facts["year"]),
            facts["label"],
            "" if facts["parameters"] is None else f"{facts['parameters']:,}",
            *(f"{published[key]:.4f}" if key in published else "" for key in ("uf1", "uar")),
            str(published["chosen_on_test_subjects"]),
            "; ".join([facts["data"], *facts["install"]]),
        )
        table.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    click.echo(
        f"Parameters are those of the preset with {CLASSES} classes. UF1 and UAR are the published ones on MEGC2019.\n"
        "Chosen on test subjects, they estimate nothing; where that is unknown, they may not either.\n"
        "`mernas presets NAME` shows one, with its source and what differs; `mernas evaluate NAME` evaluates it."
    )


def _as_file(preset: Preset, facts: Mapping[str, Any]) -> str:
    """A genotype file, whose comments say everything else."""
    size = "none, it is classical" if facts["parameters"] is None else f"{facts['parameters']:,} with {CLASSES} classes"
    said = [
        f"{preset.name}: {preset.label} of a published method, {preset.year}",
        preset.title,
        "",
        *dump_yaml({"source": preset.source}).splitlines(),
        "",
        *preset.notes.splitlines(),
        "",
        f"parameters: {size}",
        f"data: {'; '.join([facts['data'], *facts['install']])}",
        "",
        "published:",
        *(f"  {line}" for line in dump_yaml(dict(preset.published)).splitlines()),
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in said) + preset.genotype.to_yaml()
