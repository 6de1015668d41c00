"""Placing: a model's folder is made where it can be moved to its place at once, and replaces nothing but its like."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mernas.evaluation.bundle import read_bundle
from mernas.evaluation.bundle_files import ATTRIBUTES, BYTES_ARE_BYTES, MANIFEST
from mernas.space.errors import DataError, MernasError, Problem
from mernas.space.genotype import Genotype

REMEDY = "choose another folder, or move this one away"


def place_of(out: Path | str) -> Path:
    """Return the absolute path of a place, without links and with the home folder for `~`.

    Raises:
        DataError: If there can be no such place.

    Example:
        >>> place_of("model") == Path.cwd() / "model"
        True
    """
    try:
        folder = Path(out).expanduser().resolve()
        str(folder).encode()  # the card names the folder
    except UnicodeEncodeError:
        shown = str(out).encode(errors="backslashreplace").decode()
        raise DataError(Problem(f"--out {shown}", "must have a name in UTF-8", "", "choose another folder")) from None
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a home that nobody has, a null byte
        raise DataError(Problem(f"--out {out}", "is no place", str(error), "choose another folder")) from None
    return folder


def check_place(folder: Path, genotype: Genotype, staged: Path | None = None) -> None:
    """See that a model's folder can be made in a place, or replaced there without loss.

    Args:
        folder: The place. One that exists must be empty, or hold a model of the same pipeline, whose card nobody has
            edited, and nothing else.
        genotype: The pipeline of the new model.
        staged: What `staging` made, which may lie in the place.

    Raises:
        DataError: If it cannot.
    """
    subject = f"--out {folder}"
    try:
        if not folder.exists() and not folder.is_symlink():
            return
        if not folder.is_dir():
            raise DataError(Problem(subject, "must be a folder", "a file", "choose another"))
        present = {path.name for path in folder.iterdir() if path != staged}
        attributes = folder / ATTRIBUTES
        ours = MANIFEST in present and attributes.is_file() and attributes.read_bytes() == BYTES_ARE_BYTES
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(subject, "cannot be looked into", reason, "choose another folder")) from None
    if not present:
        return
    rule = "must be empty, or hold a model of the same pipeline and nothing else"
    if MANIFEST not in present:
        raise DataError(Problem(subject, rule, ", ".join(sorted(present)[:5]), REMEDY))
    try:
        bundle = read_bundle(folder)
    except MernasError as error:
        rule = "holds a model that is damaged, or that this mernas cannot read"
        raise DataError(Problem(subject, rule, _faults(error, folder), REMEDY)) from None
    found = ", ".join(sorted(present - {MANIFEST, *bundle.files} - ({ATTRIBUTES} if ours else set()))[:5])
    if bundle.genotype != genotype:
        found = f"a model of pipeline {bundle.genotype.hash}"
    elif bundle.edited:
        found = f"a {bundle.edited[0]} that somebody has edited"
    if found:
        raise DataError(Problem(subject, rule, found, REMEDY))


def _faults(error: MernasError, folder: Path) -> str:
    """What is wrong with a model, without the remedies, which are for those who would open it."""
    said = [
        f"{problem.subject}: {problem.rule}" if isinstance(problem, Problem) else problem for problem in error.problems
    ]
    return "; ".join(text.removeprefix(f"model {folder}").lstrip(",: ") for text in said[:3])


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make a temporary folder from which a model can be moved to its place; it is gone in the end unless it was moved.

    It lies in the place if that exists, which may be a disk of its own or where the user happens to be, and else beside
    it.

    Args:
        folder: The place; the folders above it are made if need be, and are gone in the end if nothing came of it.

    Raises:
        DataError: If nothing can be written there.
    """
    above = folder if folder.is_dir() else folder.parent
    made: list[Path] = []
    staged: Path | None = None
    try:
        with writing(folder):
            made = [path for path in (above, *above.parents) if not path.exists()]
            above.mkdir(parents=True, exist_ok=True)
            staged = Path(tempfile.mkdtemp(dir=above, prefix=".mernas-", suffix=".part"))
            staged.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        yield staged
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # it holds the model, or something of somebody else
                path.rmdir()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what keeps a file from being written into one message.

    Args:
        folder: The place.

    Raises:
        DataError: If something in the body cannot be written.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, MernasError):
            raise
        remedy = "free some disk space or choose another folder"
        raise DataError(Problem(f"--out {folder}", "cannot be written", error.strerror or str(error), remedy)) from None


def move_whole(staged: Path, folder: Path, genotype: Genotype) -> None:
    """Move a finished folder to its place; what it replaces is deleted once the new one is there.

    A folder that exists stays and is filled, its manifest last: without that it is no model.

    Args:
        staged: What `staging` made.
        folder: The place.
        genotype: The pipeline of the new model.

    Raises:
        DataError: If the place has been taken meanwhile.
        OSError: If it cannot be moved; what was there before is then there again.
    """
    check_place(folder, genotype, staged)  # once more: training took its time
    if not folder.exists():
        staged.rename(folder)
        return
    new = sorted((path.name for path in staged.iterdir()), key=lambda name: (name == MANIFEST, name))
    old = sorted((path.name for path in folder.iterdir() if path != staged), key=lambda name: (name != MANIFEST, name))
    # Not in the staged folder, which is deleted whatever happens.
    kept = Path(tempfile.mkdtemp(dir=folder, prefix=".mernas-", suffix=".old"))
    moves = [(folder / name, kept / name) for name in old] + [(staged / name, folder / name) for name in new]
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException:  # an interruption too must leave what was there
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                target.rename(source)
        kept.rmdir()
        raise
    shutil.rmtree(kept, ignore_errors=True)
