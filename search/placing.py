"""Placing: a model's folder is made beside its place and moved there whole, and replaces nothing but its like."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mernas.evaluation.bundle import MANIFEST, read_bundle
from mernas.space.errors import DataError, MernasError, Problem
from mernas.space.genotype import Genotype


def check_place(folder: Path, genotype: Genotype) -> None:
    """See that a model's folder can be made in a place, or replaced there without loss.

    Args:
        folder: The place. One that exists must be empty, or hold a model of the same pipeline, whose card nobody has
            edited, and nothing else.
        genotype: The pipeline of the new model.

    Raises:
        DataError: If it cannot.
    """
    subject = f"--out {folder}"
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise DataError(Problem(subject, "must be a folder", "a file", "choose another"))
    present = {path.name for path in folder.iterdir()}
    if not present:
        return
    rule = "must be empty, or hold a model of the same pipeline and nothing else"
    remedy = "choose another folder, or move this one away"
    if MANIFEST not in present:
        raise DataError(Problem(subject, rule, ", ".join(sorted(present)[:5]), remedy))
    bundle = read_bundle(folder)
    found = ", ".join(sorted(present - {MANIFEST, *bundle.files})[:5])
    if bundle.genotype != genotype:
        found = f"a model of pipeline {bundle.genotype.hash}"
    elif bundle.edited:
        found = f"a {bundle.edited[0]} that somebody has edited"
    if found:
        raise DataError(Problem(subject, rule, found, remedy))


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Make a temporary folder beside a place; it is gone in the end unless it was moved.

    Args:
        folder: The place; the folder above it is made if need be.

    Raises:
        DataError: If something in the body cannot be written.
    """
    staged: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        staged.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        yield staged
    except OSError as error:
        if isinstance(error, MernasError):
            raise
        remedy = "free some disk space or choose another folder"
        raise DataError(Problem(f"--out {folder}", "cannot be written", error.strerror or str(error), remedy)) from None
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)


def move_whole(staged: Path, folder: Path, genotype: Genotype) -> None:
    """Move a finished folder to its place; what it replaces is deleted once the new one is there.

    Args:
        staged: What `beside` made.
        folder: The place.
        genotype: The pipeline of the new model.

    Raises:
        DataError: If the place has been taken meanwhile.
        OSError: If it cannot be moved; what was there before is then there again.
    """
    check_place(folder, genotype)  # once more: training took its time
    if not folder.exists():
        staged.rename(folder)
        return
    old = staged.with_suffix(".old")
    folder.rename(old)
    try:
        staged.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)
