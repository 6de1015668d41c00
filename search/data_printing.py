"""What the commands of `mernas data` tell a person."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 132
"""Columns of a table that is not printed on a screen."""


def print_datasets(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the registered datasets."""
    table = Table(show_lines=False)
    for heading in ("--data", "needs", "what it is"):
        table.add_column(heading, no_wrap=heading == "--data")
    for entry in found:
        install = f" (pip install {' '.join(entry['install'])})" if entry["install"] else ""
        table.add_row(*map(Text, (entry["data"], entry["needs"] + install, entry["summary"])))
    _console().print(table)
    click.echo("Any path that ends in .csv is a manifest of your own clips; see docs/manifest.md.")


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print what was found in some data."""
    lines: list[tuple[str, str]] = [
        ("clips", f"{facts['clips']} of {facts['subjects']} subjects"),
        ("per subject", _spread(facts["clips_per_subject"])),
    ]
    if len(facts["datasets"]) > 1:
        lines.append(("datasets", ", ".join(f"{name}: {count}" for name, count in facts["datasets"].items())))
    for name, count in facts["classes"].items():
        lines.append((f"class {name}", f"{count['clips']} clips of {count['subjects']} subjects"))
    lines.append(("frames", "none" if facts["frames"] is None else _spread(facts["frames"])))
    if facts["frames_onset_to_offset"] is not None:
        lines.append(("onset to offset", _spread(facts["frames_onset_to_offset"])))
    lines += [
        ("height x width", _counted(facts["sizes"])),
        ("fps", _counted(facts["fps"])),
        ("annotations", ", ".join(facts["annotations"])),
        ("has", ", ".join(facts["has"])),
    ]
    clips = facts["clips"]
    lines += [("lacks", f"{name}, in {_of(count, clips)}") for name, count in facts["lacks"].items()]
    lines += [("note", note) for note in facts["notes"]]
    lines += [("warning", warning) for warning in facts["warnings"]]
    click.echo(facts["name"])
    _print_lines(lines)


def print_clips(found: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each clip."""
    table = Table()
    for heading in ("clip", "emotion", "frames", "height x width", "fps", "onset", "apex", "offset"):
        table.add_column(heading, justify="left" if heading in ("clip", "emotion") else "right")
    for clip in found:
        names = ("clip", "emotion", "frames", "size", "fps", "onset", "apex", "offset")
        table.add_row(*(Text(_value(clip[name])) for name in names))
    _console().print(table)


def print_clip(clip: Mapping[str, Any]) -> None:
    """Print the facts of one clip."""
    names = ("subject", "emotion", "frames", "size", "fps", "seconds", "onset", "apex", "offset")
    lines = [(name, _value(clip[name])) for name in names]
    lines.append(("landmarks", "of every frame" if clip["landmarks"] else "none"))
    if clip["maps"]:
        lines.append(("maps", ", ".join(clip["maps"])))
    lines += [(name, _value(text)) for name, text in clip["annotations"].items()]
    lines.append(("fingerprint", clip["fingerprint"]))
    click.echo(clip["clip"])
    _print_lines(lines)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _print_lines(lines: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"  {name:<{width}}  {text}")


def _spread(spread: Mapping[str, float]) -> str:
    least, middle, most = (f"{spread[name]:g}" for name in ("min", "median", "max"))
    return least if least == most else f"{least} to {most}, median {middle}"


def _counted(counts: Mapping[str, int]) -> str:
    """Values with how many clips have each, where there are several."""
    if len(counts) == 1:
        return next(iter(counts))
    listed = [f"{name} ({count} clips)" for name, count in list(counts.items())[:5]]
    more = f" and {len(counts) - 5} others" if len(counts) > 5 else ""
    return ", ".join(listed) + more


def _of(count: int, clips: int) -> str:
    return "every clip" if count == clips else f"{count} of {clips} clips"


def _value(value: Any) -> str:
    return "not stated" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)
