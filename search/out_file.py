"""One file that a command writes where `--out` says: seen to before anything is trained.

It replaces nothing that the command reads, and no file that makes a run directory, a folder of kept folds or a model
what it is.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.recording import IMAGE_SUFFIXES, FolderFrames, VideoFrames, printable
from mernas.evaluation.bundle_files import ATTRIBUTES, CARD, ENVIRONMENT, MANIFEST, ONNX, PIPELINE, PROGRAM, WEIGHTS
from mernas.search.named_data import named_data
from mernas.space.errors import DataError, PlanError, Problem

REMEDY = "choose another file with --out"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room."""
ROOM = "free some disk space and repeat the command"
LEDGER = "ledger.sqlite"
KEPT_FILES = frozenset({LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", ".lock", "driver.txt"})
"""What a folder of kept folds holds; a run directory holds it too."""
RUN_FILES = KEPT_FILES | {
    "plan.yaml", "space.yaml", "environment.txt", "data.txt", "log.txt",
    "front.csv", "rules.csv", "choices.csv", "predictions.csv", "trials.csv", "baselines.csv",
    "baseline_predictions.csv", "scores.csv", "interim.csv",
    "report.html", "tables.md", "tables.tex", "audit.json", "calibration.csv", "front.png", "front.svg",
}  # fmt: skip
"""What a search and its report write into a run directory, beside the folder `CANDIDATES`."""
CANDIDATES = "candidates"
MODEL_FILES = frozenset({MANIFEST, ATTRIBUTES, CARD, ENVIRONMENT, ONNX, PIPELINE, PROGRAM, WEIGHTS})
"""What an exported model may hold."""


def check_out_file(
    out: Path | str, inputs: Iterable[Path | str] = (), keep: Path | None = None, allowed: Path | None = None
) -> Path:
    """See that a file can be written in a place, and that nothing is lost by it; writes nothing.

    Args:
        out: The place.
        inputs: Files and folders that the command reads; those that do not exist are no matter here.
        keep: A folder of kept folds, which need not exist yet.
        allowed: A file that may be replaced all the same.

    Returns:
        The path, with the home folder for `~`.

    Raises:
        PlanError: If it is a folder, an input or an image of an input, or a file of a run or of a model.
        DataError: If it cannot be written.

    Example:
        >>> check_out_file("model/bundle.json", inputs=["clips.csv"]).name  # there is no model
        'bundle.json'
        >>> check_out_file(".")
        Traceback (most recent call last):
        mernas.space.errors.PlanError: --out: must be a file, found the folder ".". Write NAME or FOLDER/NAME.
    """
    try:
        path = Path(out).expanduser()
        place = path.resolve()
        if path.is_dir():
            found = f'the folder "{printable(out)}"'
            raise PlanError(Problem("--out", "must be a file", found, "write NAME or FOLDER/NAME"))
        if allowed is None or place != allowed.resolve():
            refuse_inputs(path, inputs)
            _refuse_owned(path, keep)
        _try_to_write(place)
    except PlanError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a home that nobody has, a null byte
        raise unwritable(out, error, REMEDY) from None
    return path


def refuse_inputs(out: Path, inputs: Iterable[Path | str]) -> None:
    """See that a file is none of those that a command reads, nor an image in a folder that it reads.

    Args:
        out: The file that would be written.
        inputs: Files and folders.

    Raises:
        PlanError: If it is one, under whatever name.
    """
    if not out.exists():
        return
    place = out.resolve()
    is_image = out.suffix.lower() in IMAGE_SUFFIXES
    for given in inputs:
        try:
            path = Path(given).expanduser()
            same = os.path.samefile(path, out) or (is_image and path.is_dir() and path.resolve() in place.parents)
        except (OSError, RuntimeError, ValueError):  # who reads it tells what is wrong with it
            continue
        if same:
            rule = "must not replace what the command reads"
            raise PlanError(Problem(f"--out {printable(out)}", rule, printable(given), REMEDY))


def data_files(texts: Iterable[str]) -> list[str]:
    """Return the paths in what `--data` says.

    Example:
        >>> data_files(["synthetic", "clips.csv", "flow-images=norm_u_v_os"])
        ['clips.csv', 'norm_u_v_os']
    """
    return [path for text in texts if (path := named_data(text)[1]) is not None]


def recordings(data: Dataset) -> list[Path]:
    """Return the files of the recordings of a dataset, as far as they are files."""
    found: list[Path] = []
    for clip in data:
        if isinstance(clip.frames, VideoFrames):
            found.append(clip.frames.path)
        elif isinstance(clip.frames, FolderFrames):
            found.extend(clip.frames.files)
    return found


def unwritable(path: Path | str, error: Exception, remedy: str) -> DataError:
    """Return what is told of a file that cannot be written.

    Args:
        path: The file.
        error: What the system said.
        remedy: What to do about it.
    """
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(Problem(printable(path), "cannot be written", reason, remedy))


def _refuse_owned(path: Path, keep: Path | None) -> None:
    place = path.resolve()
    folder, name = place.parent, place.name.casefold()  # some file systems do not tell A from a
    owner = ""
    if name in RUN_FILES and (folder / "plan.yaml").exists():
        owner = "run directory"
    elif folder.name.casefold() == CANDIDATES and (folder.parent / "plan.yaml").exists():
        folder, owner = folder.parent, "run directory"
    elif name in KEPT_FILES and ((folder / LEDGER).exists() or (keep is not None and _same(folder, keep))):
        owner = "folder of kept folds"
    elif place.name.casefold() in {file.casefold() for file in MODEL_FILES} and (folder / MANIFEST).exists():
        owner = "model"
    if owner:
        rule = f"must not replace a file of a {owner}"
        raise PlanError(Problem(f"--out {printable(path)}", rule, printable(folder), REMEDY))


def _same(folder: Path, other: Path) -> bool:
    return folder == other.expanduser().resolve()


def _try_to_write(place: Path) -> None:
    """Make a file without a name in the folder, or in that in which it would be made."""
    above = next(folder for folder in place.parents if folder.exists())
    with tempfile.TemporaryFile(dir=above):
        pass
