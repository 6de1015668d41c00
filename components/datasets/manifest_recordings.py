"""The recordings that a manifest names, opened once each, and its frame numbers as places in them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2

from mernas.components.datasets.manifest_findings import Findings, lines
from mernas.components.datasets.manifest_rows import MOMENTS, Entry
from mernas.components.datasets.recording import FolderFrames, VideoFrames, printable, read_recording
from mernas.space.errors import DataError, Problem

Moments = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class Opened:
    """A recording that was opened.

    Attributes:
        frames: Its frames, decoded when asked for.
        fps: What a video says of itself.
        notes: What was seen on the way.
    """

    frames: VideoFrames | FolderFrames
    fps: float | None
    notes: tuple[str, ...]


def open_recordings(entries: Sequence[Entry], folder: Path, findings: Findings) -> dict[str, Opened]:
    """Return every recording that can be opened, by the path that the rows give it; each is decoded once.

    Args:
        entries: The rows.
        folder: What their paths are relative to.
        findings: Where mistakes and notes go.
    """
    rows: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.path:
            rows[entry.path].append(entry)
    places = {name: folder / name for name in rows}
    # Videos one after the other: FFmpeg decodes each by threads of its own.
    found = {name: _open(place) for name, place in places.items() if not _is_folder(place)}
    folders = [name for name in places if name not in found]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found.update(zip(folders, pool.map(_open, [places[name] for name in folders]), strict=True))
    opened: dict[str, Opened] = {}
    for name, result in found.items():
        if isinstance(result, Opened):
            opened[name] = result
            findings.notes += [f"{lines([entry.line for entry in rows[name]])}, path: {note}" for note in result.notes]
            continue
        for entry in rows[name]:
            for problem in result:
                file_mistake(entry.line, "path", name, problem, findings)
    return opened


def file_mistake(line: int, column: str, name: str, problem: Problem, findings: Findings) -> None:
    """Add a mistake in a file that a row names.

    Args:
        line: The row's.
        column: Where it names the file.
        name: How it names it.
        problem: What is wrong with the file.
        findings: Where it goes.
    """
    remedy = problem.remedy
    if problem.rule == "does not exist":
        wrong = "\\" in name and os.sep == "/"
        remedy = 'write "/" between folders' if wrong else "paths are relative to the folder of the manifest"
    kind = re.sub(r"[0-9]+", "0", problem.rule)  # the same mistake in clips of different lengths
    findings.mistake(line, column, kind, problem.rule, problem.found, remedy, problem.subject)


def moments_of(entry: Entry, recording: Opened, findings: Findings) -> Moments:
    """Return onset, apex and offset of a row as places in its recording, from 0; None where it names no frame of it.

    Args:
        entry: The row.
        recording: Its recording.
        findings: Where mistakes go.
    """
    numbers = range(len(recording.frames))
    places = {number: number for number in numbers}
    if entry.by_name:
        named = _places_by_name(entry, recording, findings)
        if named is None:
            return None, None, None
        places = named
    moments = []
    for name, number in zip(MOMENTS, entry.moments, strict=True):
        if number is not None and number not in places:
            what = "the number of an image of the folder" if entry.by_name else "a frame of the clip"
            rule = f"must be {what}, {min(places)} to {max(places)}"
            remedy = "name an image that is there" if entry.by_name else _remedy(recording)
            findings.mistake(entry.line, name, "range", rule, str(number), remedy)
        moments.append(None if number is None else places.get(number))
    onset, apex, offset = moments
    return onset, apex, offset


def _remedy(recording: Opened) -> str:
    counted = "frames are counted from 0"
    by_name = "; if these are the numbers in the names of the files, write name in the column numbering"
    return counted + by_name if isinstance(recording.frames, FolderFrames) else counted


def _places_by_name(entry: Entry, recording: Opened, findings: Findings) -> dict[int, int] | None:
    """The place of every image of a folder by the last number in its name, or None and a mistake."""
    remedy = "rename the images, or write position in the column numbering and count frames from 0"

    def mistake(kind: str, rule: str, found: str) -> None:
        findings.mistake(entry.line, "numbering", kind, rule, found, remedy)

    if not isinstance(recording.frames, FolderFrames):
        mistake("video", "name is for folders of images", "a video")
        return None
    places: dict[int, int] = {}
    files = [printable(file.name) for file in recording.frames.files]
    for place, file in enumerate(recording.frames.files):
        digits = re.findall(r"[0-9]+", file.stem)
        if not digits:
            mistake("no number", "name needs a number in the name of every image", files[place])
            return None
        twin = places.setdefault(int(digits[-1]), place)
        if twin != place:
            found = f"{files[twin]} and {files[place]}"
            mistake("one number twice", "name needs another last number in the name of every image", found)
            return None
    if list(places) != sorted(places):
        mistake("order", "name needs images whose last numbers are in the order of their names", f"{files[0]}, …")
        return None
    return places


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except (OSError, ValueError):
        return False


def _open(place: Path) -> Opened | tuple[Problem, ...]:
    """An open recording, or why it cannot be opened."""
    try:
        clip, notes = read_recording(place, onset=0, apex=0)  # given, so that no note says they were assumed
    except DataError as error:
        return tuple(problem for problem in error.problems if isinstance(problem, Problem))
    except (OSError, cv2.error) as error:  # OpenCV throws at images that say they are enormous
        return (Problem(f'"{printable(place)}"', "cannot be decoded", str(error), "convert it again"),)
    assert isinstance(clip.frames, VideoFrames | FolderFrames)  # noqa: S101  # what read_recording makes
    return Opened(clip.frames, clip.fps, tuple(notes))
