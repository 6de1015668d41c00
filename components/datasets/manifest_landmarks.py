"""The landmarks that a manifest names: a NumPy array, or a table as face trackers write it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.recording import missing, printable
from mernas.space.errors import DataError, Problem

POINTS = 68
COLUMNS = tuple(f"{axis}_{point}" for axis in "xy" for point in range(POINTS))
"""The columns of a table: x_0 to x_67 and y_0 to y_67, as OpenFace calls them."""

FORM = f"a NumPy array (frames, {POINTS}, 2) in .npy, or a CSV file with the columns x_0 … x_67, y_0 … y_67"


def read_landmarks(path: Path, frames: int) -> NDArray[np.float32]:
    """Return the landmarks of a clip, (T, 68, 2) float32, which cannot be written to.

    Args:
        path: A `.npy` file with an array (T, 68, 2), or a CSV file with one row per frame whose columns `x_0` … `x_67`
            and `y_0` … `y_67` hold the points and whose other columns are ignored. Points are in the order of iBUG
            300-W, x to the right and y downwards, in pixels.
        frames: How many frames the clip has.

    Raises:
        DataError: If there is no such file, it has another form or length, or not all numbers are finite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/clip.npy", np.full((7, 68, 2), 31.5))
        ...     read_landmarks(Path(folder, "clip.npy"), 7).shape
        (7, 68, 2)
    """
    subject = f'"{printable(path)}"'
    problem = missing(path)
    if problem is not None:
        raise DataError(problem)
    try:
        found = _from_array(path) if path.suffix.lower() == ".npy" else _from_table(path)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(Problem(subject, f"must be {FORM}", reason, "write it again")) from None
    if found.shape != (frames, POINTS, 2):
        rule, remedy = f"must hold {POINTS} points (x, y) for each of the {frames} frames", "write one row for each"
        raise DataError(Problem(subject, rule, f"the shape {found.shape}", remedy))
    if not np.isfinite(found).all():
        frame = int(np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))[0])
        remedy = "fill in frames in which no face was found, or leave the landmarks out"
        raise DataError(Problem(subject, "must hold finite numbers", f"others in frame {frame}", remedy))
    if np.abs(found).max() <= 1:
        rule, remedy = "must be in pixels", "multiply x by the width of the frames and y by their height"
        raise DataError(Problem(subject, rule, "no number above 1", remedy))
    found.flags.writeable = False
    return found


def _from_array(path: Path) -> NDArray[np.float32]:
    array = np.lib.format.open_memmap(path, mode="r")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"values of type {array.dtype}")
    return np.array(array, dtype=np.float32)


def _from_table(path: Path) -> NDArray[np.float32]:
    text = path.read_bytes().decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    absent = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if absent:
        raise ValueError(f"no column {absent[0]}")
    values = [[float(row[name] or "nan") for name in COLUMNS] for row in rows]
    points = np.array(values, dtype=np.float32).reshape(-1, 2, POINTS)
    return np.ascontiguousarray(points.transpose(0, 2, 1))
