"""Data by what `--data` says: the name of a dataset, with the path where it lies, or the path of a manifest."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.recording import printable
from mernas.space.errors import DataError, MernasError, Problem, UnknownNameError
from mernas.space.registry import REGISTRY


def load_named(text: str, say: Callable[[str], None] = lambda note: None) -> Dataset:
    """Return one dataset; see `mernas.search.run.load_data`.

    Args:
        text: `NAME`, `NAME=PATH` or the path of a manifest.
        say: Told what the loader notes.

    Raises:
        UnknownNameError: If no dataset has that name; where it is a path, with how to write it.
        DataError: If the path is missing or superfluous, or the data are not what they should be.
    """
    name, path = named_data(text)
    _refuse_bare_path(name, text)
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


def load_all(texts: Sequence[str], say: Callable[[str], None] = lambda note: None) -> list[Dataset]:
    """Return several datasets.

    Args:
        texts: Each as `load_named` takes it.
        say: Told what the loaders note.

    Raises:
        MernasError: With the mistakes in all of them; of the kind that they are if that is one, else a DataError.

    Example:
        >>> load_all(["synthetc", "synthetic=here"])
        Traceback (most recent call last):
        mernas.space.errors.DataError: dataset "synthetc": is not known. Did you mean "synthetic"? Known: flow-images, \
manifest, synthetic.
        dataset synthetic: has no files, found here. Write synthetic.
    """
    loaded: list[Dataset] = []
    errors: list[MernasError] = []
    for text in texts:
        try:
            loaded.append(load_named(text, say))
        except MernasError as error:
            errors.append(error)
    if errors:
        kinds = {type(error) for error in errors}
        kind = kinds.pop() if len(kinds) == 1 else DataError
        raise kind([problem for error in errors for problem in error.problems])
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


def _refuse_bare_path(name: str, text: str) -> None:
    """Tell who gave a path alone how to write it; only that of a `.csv` file needs no name before it."""
    if name in REGISTRY.names("dataset") or not os.path.exists(text):  # Path.exists raises for some names
        return
    subject = f'data "{printable(text)}"'
    if os.path.isdir(text):
        remedy = f"write flow-images={printable(text)}, or name the CSV file that lists your clips"
        raise UnknownNameError(Problem(subject, "is a folder, and not the name of a dataset", "", remedy))
    rule = "is a file, and the name of a manifest must end in .csv"
    raise UnknownNameError(Problem(subject, rule, "", f"rename it, or write manifest={printable(text)}"))
