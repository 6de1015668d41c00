"""The command group `mernas data`. What is heavy is imported by the command that needs it."""

# ruff: noqa: D301  # click takes the escape in a docstring as "keep these lines"

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mernas.search.messages import messages


@click.group(name="data")
def data_group() -> None:
    """Look at data before a search: what there is, what is missing, what is wrong.

    Your own clips are listed in a CSV file, which every --data takes; docs/manifest.md tells its columns.

    \b
    Examples:
      mernas data list
      mernas data synthesize --out clips --manifest --subjects 3 --clips 3 --seed 1
      mernas data check clips/manifest.csv --json
      mernas data forget --yes
    """


@data_group.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def data_list_command(as_json: bool) -> None:
    """List the datasets, what each needs, and how --data names it.

    \b
    Examples:
      mernas data list
    """
    with messages():
        from mernas.search.data_commands import list_datasets

        list_datasets(as_json)


@data_group.command(name="check")
@click.argument("data", metavar="NAME[=PATH]|FILE.csv…", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def data_check_command(data: tuple[str, ...], as_json: bool) -> None:
    """Load data and say what was found: clips, subjects, classes, lengths, sizes, what is missing.

    Every mistake in them is told at once, with exit code 2. Several make a composite.

    \b
    Examples:
      mernas data check synthetic
      mernas data check clips/manifest.csv --json
      mernas data check flow-images=PATH
    """
    with messages():
        from mernas.search.data_commands import check_data

        check_data(data, as_json)


@data_group.command(name="show")
@click.argument("data", metavar="NAME[=PATH]|FILE.csv")
@click.argument("clip", metavar="[CLIP]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def data_show_command(data: str, clip: str | None, as_json: bool) -> None:
    """Print the facts of a clip, or a line for each clip; as text, so that no face is shown.

    \b
    Examples:
      mernas data show clips/manifest.csv
      mernas data show clips/manifest.csv s01/c02
    """
    with messages():
        from mernas.search.data_commands import show_data

        show_data(data, clip, as_json)


@data_group.command(name="synthesize")
@click.option("--out", type=Path, required=True, metavar="DIR", help="A new or empty folder.")
@click.option("--manifest/--no-manifest", default=True, show_default=True, help="Write manifest.csv as well.")
@click.option("--subjects", type=int, default=18, show_default=True, metavar="N", help="How many people.")
@click.option("--clips", type=int, default=9, show_default=True, metavar="N", help="Clips of each.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Another seed makes other people.")
@click.option("--videos", is_flag=True, help="MP4 videos instead of folders of PNG images, which lose nothing.")
def data_synthesize_command(**options: Any) -> None:
    """Write made-up clips to disk, with a manifest that is a pattern for your own.

    \b
    Examples:
      mernas data synthesize --out clips --subjects 3 --clips 3 --seed 1
      mernas data synthesize --out videos --subjects 3 --clips 3 --videos
    """
    with messages():
        from mernas.search.data_commands import synthesize

        synthesize(**options)


@data_group.command(name="forget")
@click.option("--yes", is_flag=True, help="Do not ask.")
def data_forget_command(yes: bool) -> None:
    """Delete the cache of prepared maps, which searches make again as they need them.

    \b
    Examples:
      mernas data forget --yes
    """
    with messages():
        from mernas.search.data_commands import forget

        forget(yes)
