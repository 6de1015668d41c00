"""Clips written to disk as frames or videos, with a manifest that lists them: the way back from a dataset to files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Dataset, Frames
from mernas.components.datasets.manifest_rows import MOMENTS
from mernas.components.datasets.manifest_table import KNOWN
from mernas.space.errors import DataError, Problem

CODEC = "mp4v"


def write_clips(data: Dataset, folder: Path, manifest: str | None = "manifest.csv", videos: bool = False) -> list[Path]:
    """Write every clip below a folder, and a manifest that `Manifest.load` takes.

    A clip becomes a folder of PNG images, which lose nothing, or an MP4 video, which does. It is called by its key, as
    are its landmarks, if it has any.

    Args:
        data: Clips with frames.
        folder: A folder that is empty or not there yet.
        manifest: The name of the manifest there, written last; None for none.
        videos: Whether to write videos.

    Returns:
        Where the clips are, in their order.

    Raises:
        DataError: If the folder is not empty or cannot be written, or a clip has no frames.

    Example:
        >>> import tempfile
        >>> from mernas.components.datasets.manifest import Manifest
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> data = Synthetic(subjects=1, clips=3, macro_subjects=0).load()
        >>> with tempfile.TemporaryDirectory() as place:
        ...     _ = write_clips(data, Path(place))
        ...     [clip.apex for clip in Manifest().load(Path(place, "manifest.csv"))] == [clip.apex for clip in data]
        True
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            remedy = "name another one, or empty it"
            raise DataError(Problem(f'"{folder}"', "must be a new or an empty folder", "", remedy))
        places = [_write_clip(clip, folder, videos) for clip in data]
        if manifest is not None:
            rows = [_row(data, clip, place.relative_to(folder)) for clip, place in zip(data, places, strict=True)]
            (folder / manifest).write_bytes(_text(rows))
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(f'"{folder}"', "cannot be written", reason, "choose another folder")) from None
    return places


def _write_clip(clip: Clip, folder: Path, videos: bool) -> Path:
    if clip.frames is None:
        raise DataError(Problem(clip.key, "has no frames that could be written", "", "choose a dataset with frames"))
    place = folder / clip.key
    place.parent.mkdir(parents=True, exist_ok=True)
    if videos:
        place = place.with_name(f"{place.name}.mp4")
        _write_video(clip.frames, clip.fps or 25.0, place)
    else:
        place.mkdir()
        for number in range(len(clip.frames)):
            _, content = cv2.imencode(".png", _blue_first(clip.frames[number]))
            (place / f"frame{number:04}.png").write_bytes(content.tobytes())
    if clip.landmarks is not None:
        points = [clip.landmarks[number] for number in range(len(clip.frames))]
        np.save(_landmarks_of(folder, clip), np.array(points, dtype=np.float32))
    return place


def _write_video(frames: Frames, fps: float, place: Path) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(place), cv2.VideoWriter.fourcc(*CODEC), fps, (width, height))
    try:
        if not writer.isOpened():
            raise DataError(Problem(f'"{place}"', "OpenCV cannot write this video", "", "write PNG images instead"))
        for number in range(len(frames)):
            frame = _blue_first(frames[number])
            writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame)
    finally:
        writer.release()


def _landmarks_of(folder: Path, clip: Clip) -> Path:
    place = folder / clip.key
    return place.with_name(f"{place.name}.npy")


def _blue_first(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as OpenCV takes it."""
    return np.ascontiguousarray(frame if frame.ndim == 2 else frame[:, :, ::-1])


def _row(data: Dataset, clip: Clip, place: Path) -> dict[str, str]:
    """The cells of a clip by column; a gap is empty."""
    dataset, subject, name = clip.key.split("/", 2)
    annotated = {str(column): value for column, value in data.annotations.loc[clip.key].items()}
    cells: dict[str, Any] = {"path": place.as_posix(), "subject": subject, "clip": name, **annotated}
    cells |= {"dataset": dataset, "fps": clip.fps, **{moment: getattr(clip, moment) for moment in MOMENTS}}
    if clip.landmarks is not None:
        cells["landmarks"] = _landmarks_of(Path(), clip).as_posix()
    return {column: "" if pd.isna(value) else str(value).removesuffix(".0") for column, value in cells.items()}


def _text(rows: list[dict[str, str]]) -> bytes:
    """The manifest: known columns first, in their order, of which those without any text are left out."""
    names = dict.fromkeys([*KNOWN, *(column for row in rows for column in row)])
    columns = [name for name in names if any(row.get(name) for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")
