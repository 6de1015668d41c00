"""Clips, annotations and datasets: what a loader gives. A clip has no label; labels are a separate table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mernas.components.datasets.action_units import unit_table
from mernas.space.errors import DataError, Problem
from mernas.space.taxonomy import ACTION_UNITS

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 25, 26)
"""The action units that a side task predicts: the twelve of the field's benchmarks, lips parted and jaw dropped."""

POOLED = "all"
"""What tables of scores call the clips of all datasets together; so no dataset may bear this name."""
NOT_POOLED = f'must not be "{POOLED}", which tables of scores say of all datasets together'

GivenMap = Callable[[], NDArray[np.float32]]


class Frames(Protocol):
    """The frames of a clip, decoded when asked for."""

    def __len__(self) -> int:
        """How many frames there are."""

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Return frame number `frame`, counted from 0: (H, W) grey or (H, W, 3) RGB."""


class Landmarks(Protocol):
    """The 68 landmarks of the frames of a clip in the order of iBUG 300-W, found or computed when asked for."""

    def __len__(self) -> int:
        """How many frames there are."""

    def __getitem__(self, frame: int, /) -> NDArray[np.float32]:
        """Return (68, 2): x to the right and y downwards, in pixels; the middle of the top left pixel is (0, 0)."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One micro-expression.

    Attributes:
        key: `dataset/subject/clip`, unique in a composite.
        dataset: Name of the dataset it comes from; not `POOLED`.
        subject: `dataset/subject`: the numbers of different datasets collide.
        fingerprint: Hash of the decoded content, not of file bytes or paths.
        frames: Its frames, or None if the release ships maps only.
        given: Maps that a release ships instead of frames: `flow` (2, H, W) and `strain` (H, W), read when called.
        fps: Frames per second.
        landmarks: The landmarks of its frames, or None if nobody found them.
        onset, apex, offset: Numbers into `frames`, counted from 0; None where the release does not say.
        recording: Hash of what was recorded, whatever moments are named in it; empty where the fingerprint is that.
    """

    key: str
    dataset: str
    subject: str
    fingerprint: str
    frames: Frames | None = None
    given: Mapping[str, GivenMap] = field(default_factory=dict)
    fps: float | None = None
    onset: int | None = None
    apex: int | None = None
    offset: int | None = None
    landmarks: Landmarks | None = None
    recording: str = ""

    @property
    def content(self) -> str:
        """What tells one recording from another; empty where nobody knows, as in a plan that is read again."""
        return self.recording or self.fingerprint


@dataclass(frozen=True, eq=False)
class Dataset:
    """Clips with their annotations, which only the driver of a run may hold.

    Attributes:
        name: What reports call it.
        clips: The clips, sorted by key.
        annotations: One row per clip, indexed by clip key, with the column `emotion` (a class name) and whatever
            else the release has.
        classes: The class names in the order of their numbers.
        provides: Capabilities (`mernas.space.taxonomy`) that every clip has.
        licence: One line: where the data come from and under which terms.
        source: Macro-expressions of other people to learn from first (survey 5.3), with the same classes; None where
            there are none. It is only trained on, never predicted.
    """

    name: str
    clips: tuple[Clip, ...]
    annotations: pd.DataFrame
    classes: tuple[str, ...]
    provides: frozenset[str]
    licence: str
    source: Dataset | None = None

    def __post_init__(self) -> None:
        keys = [clip.key for clip in self.clips]
        problems = []
        if keys != sorted(set(keys)):
            problems.append(Problem(self.name, "clip keys must be sorted and unique"))
        if list(self.annotations.index) != keys:
            problems.append(Problem(self.name, "annotations must have one row per clip, in the same order"))
        else:
            strange = sorted(set(self.annotations["emotion"]) - set(self.classes))
            if strange:
                rule = f"every emotion must be one of {', '.join(self.classes)}"
                problems.append(Problem(self.name, rule, ", ".join(map(str, strange))))
        problems += self._recording_problems()
        pooled = sum(clip.dataset == POOLED for clip in self.clips)
        if pooled:
            found, remedy = f"{POOLED} in {pooled} clips", "give the dataset another name"
            problems.append(Problem(f"{self.name}, dataset", NOT_POOLED, found, remedy))
        problems += self._source_problems()
        if problems:
            raise DataError(problems)

    def _source_problems(self) -> list[Problem]:
        if self.source is None:
            return []
        subject, problems = f"{self.name}, source", []
        if self.source.classes != self.classes:
            problems.append(Problem(subject, "must have the same classes", ", ".join(self.source.classes)))
        shared = sorted(set(self.source.subjects) & set(self.subjects))
        if shared:
            problems.append(Problem(subject, "must be of other people", ", ".join(shared[:5])))
        target = {clip.content: clip.key for clip in self.clips if clip.content}
        pairs = [f"{clip.key} and {target[clip.content]}" for clip in self.source if clip.content in target]
        if pairs and not shared:
            problems.append(Problem(subject, "must be of other recordings", _some(pairs), "leave them out there"))
        return problems

    def _recording_problems(self) -> list[Problem]:
        """One recording under two subjects would be trained on and tested."""
        first: dict[str, Clip] = {}
        pairs = []
        for clip in self.clips:
            other = first.setdefault(clip.content, clip)
            if clip.content and other.subject != clip.subject:
                pairs.append(f"{other.key} and {clip.key}")
        rule, remedy = "one recording must belong to one subject", "leave one of the two out, or name one person"
        return [Problem(self.name, rule, _some(pairs), remedy)] if pairs else []

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The distinct subjects, sorted."""
        return tuple(sorted({clip.subject for clip in self.clips}))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers (n,), in the order of the clips."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[name] for name in self.annotations["emotion"]], dtype=np.int64)

    @property
    def units(self) -> NDArray[np.float32] | None:
        """Action units (n, U) of `UNITS`, in the order of the clips; None unless the data have annotated them."""
        return unit_table(self.annotations, UNITS) if ACTION_UNITS in self.provides else None

    @property
    def fingerprint(self) -> str:
        """Hash of what the clips contain, without labels."""
        return content_hash([f"{clip.key} {clip.fingerprint}".encode() for clip in self.clips])

    @property
    def label_fingerprint(self) -> str:
        """Hash of which clip bears which label."""
        rows = zip(self.annotations.index, self.annotations["emotion"], strict=True)
        return content_hash([f"{key} {emotion}".encode() for key, emotion in rows])


def _some(names: Sequence[str], told: int = 3) -> str:
    more = f" and {len(names) - told} more" if len(names) > told else ""
    return ", ".join(names[:told]) + more


def content_hash(parts: Sequence[bytes]) -> str:
    """Return sixteen hexadecimal digits for a sequence of byte strings; where one ends matters.

    Example:
        >>> content_hash([b"ab", b"c"]) == content_hash([b"a", b"bc"])
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]
