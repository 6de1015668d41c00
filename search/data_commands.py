"""The commands of `mernas data`: what they do; `data_printing` says it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mernas.components.datasets.manifest_writing import write_clips
from mernas.components.datasets.synthetic import Synthetic
from mernas.evaluation.preparation import default_cache
from mernas.search.byte_sizes import size_text
from mernas.search.data_facts import clip_facts, clip_of, datasets, examine_data
from mernas.search.data_printing import print_clip, print_clips, print_datasets, print_facts
from mernas.search.run import load_data
from mernas.space.errors import DataError, Problem

MANIFEST = "manifest.csv"

RECIPE = re.compile(r"[0-9a-f]{16}")
"""What folders of the cache are called."""

PREPARED = re.compile(r"[0-9a-f]{16}\.(npy|json)|\.[0-9a-f]{16}\.(npy|json)\..*\.part")
"""What files in them are called, whole ones and those whose writing was cut short."""


def list_datasets(as_json: bool) -> None:
    """Print the registered datasets."""
    found = datasets()
    if as_json:
        click.echo(json.dumps({"datasets": found}))
    else:
        print_datasets(found)


def check_data(texts: Sequence[str], as_json: bool) -> None:
    """Load data and print what was found.

    Args:
        texts: As `load_data` takes them.
        as_json: Whether to print JSON.

    Raises:
        MernasError: With every mistake in the data.
    """
    facts = examine_data(texts)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        print_facts(facts)


def show_data(text: str, name: str | None, as_json: bool) -> None:
    """Print the facts of one clip, or a line for each.

    Args:
        text: As `load_data` takes it.
        name: The clip; None for all.
        as_json: Whether to print JSON.

    Raises:
        MernasError: If there are no such data or no such clip.
    """
    data = load_data(text)
    found = [clip_facts(data, clip) for clip in (data if name is None else [clip_of(data, name)])]
    if as_json:
        click.echo(json.dumps({"clips": found} if name is None else found[0]))
    elif name is None:
        print_clips(found)
    else:
        print_clip(found[0])


def synthesize(out: Path, manifest: bool, videos: bool, **options: Any) -> None:
    """Write clips of the synthetic dataset, and a manifest that lists them.

    Args:
        out: An empty or new folder.
        manifest: Whether to write the manifest.
        videos: Whether to write MP4 videos instead of folders of PNG images.
        options: Fields of the dataset: `subjects`, `clips`, `seed`.

    Raises:
        MernasError: If a number is out of range, or the folder cannot be written.
    """
    data = Synthetic(macro_subjects=0, **options).load()
    write_clips(data, out.expanduser(), MANIFEST if manifest else None, videos)
    what = "videos" if videos else "folders of PNG images"
    click.echo(f"{len(data)} clips of {len(data.subjects)} made-up people as {what} in {out}.")
    if manifest:
        place = out / MANIFEST
        click.echo(f"They are listed in {place}; try `mernas data check {place}`, and write your own like it.")


def forget(yes: bool) -> None:
    """Delete the prepared maps, after asking; whatever else lies in the cache's folder stays.

    Args:
        yes: Do not ask.

    Raises:
        DataError: If a file cannot be deleted.
    """
    folder = default_cache()
    files = prepared_files(folder)
    if not files:
        click.echo(f"Nothing to delete: no prepared maps in {folder}.")
        return
    size = size_text(sum(file.stat().st_size for file in files if file.exists()))
    plural = "s" if len(files) > 1 else ""
    click.echo(f"{size} of prepared maps in {len(files)} file{plural} in {folder}; searches make them again as needed.")
    if not yes:
        click.confirm("Delete them?", abort=True)
    try:
        for file in files:
            file.unlink(missing_ok=True)
        for recipe in sorted({file.parent for file in files}):
            if not any(recipe.iterdir()):
                recipe.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(f'"{folder}"', "cannot be deleted", reason, "check permissions")) from None
    click.echo(f"Deleted {size}.")


def prepared_files(folder: Path) -> list[Path]:
    """Return the files that the preparation made in its cache, and no other, without following links.

    Args:
        folder: The cache.

    Example:
        >>> prepared_files(Path("no-such-folder"))
        []
    """
    if not folder.is_dir():
        return []
    try:
        recipes = [child for child in folder.iterdir() if RECIPE.fullmatch(child.name) and not child.is_symlink()]
        return sorted(
            file
            for recipe in recipes
            if recipe.is_dir()
            for file in recipe.iterdir()
            if PREPARED.fullmatch(file.name) and not file.is_symlink()
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(f'"{folder}"', "cannot be listed", reason, "check permissions")) from None
