"""Data by what `--data` says: the name of a dataset, with the path where it lies, or the path of a manifest."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Dataset
from mernas.space.errors import DataError, Problem
from mernas.space.registry import REGISTRY


def load_named(text: str, say: Callable[[str], None] = lambda note: None) -> Dataset:
    """Return one dataset; see `mernas.search.run.load_data`.

    Args:
        text: `NAME`, `NAME=PATH` or the path of a manifest.
        say: Told what the loader notes.

    Raises:
        UnknownNameError: If no dataset has that name.
        DataError: If the path is missing or superfluous, or the data are not what they should be.
    """
    name, path = named_data(text)
    declaration = REGISTRY.get("dataset", name)
    component: Any = declaration.factory()
    wants_path = wants_a_path(component)
    if wants_path and not path:
        raise DataError(Problem(f"dataset {name}", "needs to know where it lies", "", f"write {name}=PATH"))
    if path is not None and not wants_path:
        raise DataError(Problem(f"dataset {name}", "has no files", path, f"write {name}"))
    if not wants_path:
        loaded: Dataset = component.load()
        return loaded
    try:
        place = Path(str(path)).expanduser()
    except RuntimeError as error:  # ~somebody who is not known here
        raise DataError(Problem(f'"{path}"', "cannot be found", str(error), "write the whole path")) from None
    if hasattr(component, "read"):  # a loader that has notes
        loaded, notes = component.read(place)
        for note in notes:
            say(f"{loaded.name}, {note}")
    else:
        loaded = component.load(place)
    return loaded


def named_data(text: str) -> tuple[str, str | None]:
    """Return the name and the path, if any, of what `--data` says; a path that ends in `.csv` is that of a manifest.

    Example:
        >>> named_data("flow-images=norm_u_v_os"), named_data("clips.csv"), named_data("synthetic")
        (('flow-images', 'norm_u_v_os'), ('manifest', 'clips.csv'), ('synthetic', None))
    """
    name, given, path = text.partition("=")
    if text.lower().endswith(".csv") and not (given and name in REGISTRY.names("dataset")):
        return "manifest", text
    return name, path if given else None


def wants_a_path(component: Any) -> bool:
    """Return whether a dataset lies on disk, so that it must be told where."""
    return "path" in inspect.signature(component.load).parameters
