"""Dataset `manifest`: anyone's own clips, listed in a CSV file with one row per clip (docs/manifest.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mernas.components.datasets.action_units import COLUMN, unit_table
from mernas.components.datasets.clip import Clip, Dataset, content_hash
from mernas.components.datasets.manifest_findings import Findings, lines, shortened
from mernas.components.datasets.manifest_landmarks import read_landmarks
from mernas.components.datasets.manifest_recordings import Opened, file_mistake, moments_of, open_recordings
from mernas.components.datasets.manifest_rows import Entry, read_rows
from mernas.components.datasets.manifest_table import read_table
from mernas.components.datasets.recording import missing, printable
from mernas.space.errors import DataError, Problem, raise_all
from mernas.space.registry import register
from mernas.space.taxonomy import ACTION_UNITS, APEX, FRAME_RATE, FRAMES, LANDMARKS, OFFSET, ONSET


@register("dataset", "manifest", section="2", source="mernas")
@dataclass(frozen=True)
class Manifest:
    r"""Your own clips, listed in a CSV file: a video or a folder of frames per row, with subject and emotion.

    The columns `path`, `subject` and `emotion` are needed; `clip`, `dataset`, `onset`, `apex`, `offset`, `numbering`,
    `fps`, `action_units` and `landmarks` are known; all others are kept as annotations. docs/manifest.md tells what
    each holds. The dataset offers what every clip has, and nothing is made up where a row says nothing.

    Example:
        >>> import tempfile, cv2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for clip in ("a", "b"):
        ...         Path(folder, clip).mkdir()
        ...         for number in range(3):
        ...             _ = cv2.imwrite(f"{folder}/{clip}/{number}.png", np.full((8, 6), number, np.uint8))
        ...     rows = "path,subject,emotion,apex\na,01,positive,2\nb,01,negative,1\n"
        ...     _ = Path(folder, "clips.csv").write_text(rows)
        ...     data = Manifest().load(Path(folder, "clips.csv"))
        >>> data.clips[0].key, data.clips[0].apex, sorted(data.provides)
        ('clips/01/a', 2, ['apex', 'frames'])
    """

    def load(self, path: Path) -> Dataset:
        """Return the clips of a manifest; see `read`, which tells the notes as well.

        Args:
            path: The manifest.

        Raises:
            DataError: With every mistake of every row.
        """
        return self.read(path)[0]

    def read(self, path: Path) -> tuple[Dataset, list[str]]:
        """Return the clips of a manifest, and notes on what is missing or was assumed.

        Every recording is decoded once, for its fingerprint; its frames are decoded again when they are asked for.

        Args:
            path: The manifest: CSV in UTF-8, separated by commas, semicolons or tabs.

        Raises:
            DataError: With every mistake of every row: by line and column, what must hold, what was found, and what to
                do. Of many mistakes of one kind the first few are told, and how many more there are.
        """
        problem = missing(path)
        if problem is not None:
            raise DataError(problem)
        findings = Findings(shortened(printable(path.name)))
        if not path.stem.isprintable():
            findings.mistake(None, "", "name", "the name of the file must be printable", "", "rename it")
        table = read_table(_content(path), findings)
        entries = read_rows(table, path.stem, findings)
        opened = open_recordings(entries, path.parent, findings)
        clips = {
            entry.key: _clip(entry, opened[entry.path], path.parent, findings)
            for entry in entries
            if entry.path in opened
        }
        _check_recordings(entries, clips, findings)
        raise_all(DataError, findings.problems())
        return _dataset(path, {entry.key: entry for entry in entries}, clips, findings), findings.notes


def _content(path: Path) -> bytes:
    subject = f'"{printable(path)}"'
    if not path.is_file():
        found = "a folder" if path.is_dir() else "neither a file nor a folder"
        raise DataError(Problem(subject, "must be a CSV file", found, "give the file that lists the clips"))
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(subject, "cannot be read", reason, "check permissions")) from None


def _clip(entry: Entry, recording: Opened, folder: Path, findings: Findings) -> Clip:
    """A clip; what its row says wrongly is left out and goes into the findings."""
    onset, apex, offset = moments_of(entry, recording, findings)
    fps = entry.fps or recording.fps
    landmarks = _landmarks(entry, len(recording.frames), folder, findings)
    # All that a prepared map can depend on: the same frames with another apex give other maps.
    content = [*recording.frames.digests, f"{fps} {onset} {apex} {offset}".encode()]
    return Clip(
        key=entry.key,
        dataset=entry.dataset,
        subject=f"{entry.dataset}/{entry.subject}",
        fingerprint=content_hash(content if landmarks is None else [*content, landmarks.tobytes()]),
        frames=recording.frames,
        fps=fps,
        onset=onset,
        apex=apex,
        offset=offset,
        landmarks=landmarks,
        recording=content_hash(recording.frames.digests),
    )


def _check_recordings(entries: Sequence[Entry], clips: Mapping[str, Clip], findings: Findings) -> None:
    """What rows of the same frames contradict; what counts is what was recorded, not its file.

    One recording under two names would be trained on and tested, and a clip of two emotions cannot be learnt.
    """
    first: dict[str, Entry] = {}
    same: dict[str, Entry] = {}
    for entry in entries:
        if entry.key not in clips or not entry.subject or not entry.emotion or "/" in entry.dataset:  # told already
            continue
        clip = clips[entry.key]
        person = clips[first.setdefault(clip.recording, entry).key].subject
        twin = same.setdefault(clip.fingerprint, entry)
        if person != clip.subject:
            line = first[clip.recording].line
            rule = f"must be {shortened(person)} as in line {line}, whose frames are the same"
            remedy = "name one dataset and subject in both, or leave one of the two out"
            findings.mistake(entry.line, "subject", "recording", rule, clip.subject, remedy)
        elif twin.emotion.casefold() != entry.emotion.casefold():  # other letter cases are told elsewhere
            rule = f"must be {shortened(twin.emotion)} as in line {twin.line}, which is the same clip"
            findings.mistake(entry.line, "emotion", "twin", rule, entry.emotion, "leave one of the two out")
        elif twin is not entry:
            findings.notes.append(f"line {entry.line}: the clip of line {twin.line} once more, so it counts twice")


def _landmarks(entry: Entry, frames: int, folder: Path, findings: Findings) -> NDArray[np.float32] | None:
    if not entry.landmarks:
        return None
    try:
        return read_landmarks(folder / entry.landmarks, frames)
    except DataError as error:
        for problem in error.problems:
            if isinstance(problem, Problem):
                file_mistake(entry.line, "landmarks", entry.landmarks, problem, findings)
        return None


def _dataset(path: Path, entries: Mapping[str, Entry], clips: Mapping[str, Clip], findings: Findings) -> Dataset:
    """The clips, all of which are right, as a dataset."""
    ordered = [entries[key] for key in sorted(entries)]
    annotations = pd.DataFrame(
        [{"emotion": entry.emotion, "dataset": entry.dataset, **entry.kept} for entry in ordered],
        index=pd.Index([entry.key for entry in ordered], name="clip"),
    )
    found = [clips[entry.key] for entry in ordered]
    unrated = sorted(entry.line for entry, clip in zip(ordered, found, strict=True) if clip.fps is None)
    if unrated:
        where = f"not known in {len(unrated)} of {len(ordered)} rows ({lines(unrated)})"
        findings.notes.append(f"fps: {where}, so pipelines that need it are left out")
    return Dataset(
        name=path.stem,
        clips=tuple(found),
        annotations=annotations,
        classes=tuple(sorted({entry.emotion for entry in ordered})),
        provides=_provided(found) | _units_provided(ordered, annotations, findings),
        licence=f"as its owner says; listed in {printable(path.name)}",
    )


def _provided(clips: Sequence[Clip]) -> frozenset[str]:
    """What every clip has."""
    having = {
        FRAMES: [True for clip in clips],
        ONSET: [clip.onset is not None for clip in clips],
        APEX: [clip.apex is not None for clip in clips],
        OFFSET: [clip.offset is not None for clip in clips],
        FRAME_RATE: [clip.fps is not None for clip in clips],
        LANDMARKS: [clip.landmarks is not None for clip in clips],
    }
    return frozenset(capability for capability, have in having.items() if all(have))


def _units_provided(ordered: Sequence[Entry], annotations: pd.DataFrame, findings: Findings) -> frozenset[str]:
    """Action units, if every clip has some; a note where some have and others have not."""
    if COLUMN not in annotations.columns:
        return frozenset()
    unknown = np.isnan(unit_table(annotations, [1])[:, 0])
    gaps = sorted(entry.line for entry, gap in zip(ordered, unknown, strict=True) if gap)
    if not gaps:
        return frozenset({ACTION_UNITS})
    where = f"no number in {len(gaps)} of {len(ordered)} rows ({lines(gaps)})"
    findings.notes.append(f"{COLUMN}: {where}, so pipelines that need them of every clip are left out")
    return frozenset()
