"""Clips that are resampled in time: each new frame is a weighted sum of old ones, and so are its landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Frames, Landmarks
from mernas.components.preprocessing.mapped_frames import frames_of
from mernas.space.errors import DataError, Problem

Mixture = Mapping[int, float]
"""What a new frame is made of: weights, by numbers of old frames."""


@dataclass(frozen=True, eq=False)
class MixedFrames:
    """Frames that are weighted sums of others, rounded to whole grey levels and computed when asked for.

    Attributes:
        frames: The old frames.
        mixtures: One for each new frame.

    Example:
        >>> old = np.stack([np.full((4, 4), grey, np.uint8) for grey in (0, 100)])
        >>> int(MixedFrames(old, [{0: 1.0}, {0: 0.25, 1: 0.75}])[1].max())
        75
    """

    frames: Frames
    mixtures: Sequence[Mixture]

    def __len__(self) -> int:
        return len(self.mixtures)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Return a new frame, uint8.

        Raises:
            IndexError: If there is no such frame.
        """
        parts = _parts(self.mixtures, frame)
        total = sum(np.float32(weight) * np.asarray(self.frames[old], np.float32) for old, weight in parts)
        return np.clip(np.rint(total), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class MixedLandmarks:
    """Landmarks that are weighted sums of those of other frames.

    Attributes:
        landmarks: Those of the old frames.
        mixtures: One for each new frame.
    """

    landmarks: Landmarks
    mixtures: Sequence[Mixture]

    def __len__(self) -> int:
        return len(self.mixtures)

    def __getitem__(self, frame: int, /) -> NDArray[np.float32]:
        """Return the points of a new frame, (68, 2) float32.

        Raises:
            IndexError: If there is no such frame.
        """
        parts = _parts(self.mixtures, frame)
        total = sum(weight * np.asarray(self.landmarks[old], np.float64) for old, weight in parts)
        return np.asarray(total, np.float32)


@dataclass(frozen=True, eq=False)
class KeptFrames:
    """Frames that are decoded once: for mixtures of many frames, which would each decode all of them anew.

    Attributes:
        frames: The frames.
        kept: Those that were asked for, by number.
    """

    frames: Frames
    kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Return a frame, which nobody may change."""
        if frame not in self.kept:
            self.kept[frame] = self.frames[frame]
        return self.kept[frame]


def _parts(mixtures: Sequence[Mixture], frame: int) -> list[tuple[int, float]]:
    if not 0 <= frame < len(mixtures):
        raise IndexError(f"frame {frame}: a clip of {len(mixtures)} frames has frames 0 to {len(mixtures) - 1}")
    return [(old, weight) for old, weight in mixtures[frame].items() if weight]


def between_neighbours(positions: NDArray[np.float64]) -> list[Mixture]:
    """Return mixtures that are linear between neighbouring frames.

    Args:
        positions: Where the new frames lie among the old ones, in numbers of old frames; (T,).

    Example:
        >>> between_neighbours(np.array([2.0, 2.25]))
        [{2: 1.0}, {2: 0.75, 3: 0.25}]
    """
    mixtures: list[Mixture] = []
    for position in positions.tolist():
        # What is a whole number but for rounding is one; else the last frame would be mixed with one that is not there.
        whole = round(position) if abs(position - round(position)) < 1e-6 else int(np.floor(position))
        share = max(position - whole, 0.0) if abs(position - whole) >= 1e-6 else 0.0
        mixtures.append({whole: 1.0 - share, whole + 1: share} if share else {whole: 1.0})
    return mixtures


def resampled(clip: Clip, frames: Frames, mixtures: Sequence[Mixture], positions: NDArray[np.float64]) -> Clip:
    """Return a clip of new frames, with its landmarks, its moments and its frame rate changed alike.

    Onset, apex and offset become the new frame that is nearest in time. Where that would make an apex (or an offset)
    one with an onset that it comes after, it becomes the frame after the onset: nothing moves between equal frames.

    Args:
        clip: The clip, left as it is.
        frames: Its frames, or the same frames kept.
        mixtures: What each new frame is made of; T of them.
        positions: Where the new frames lie among the old ones, in numbers of old frames, evenly spaced; (T,).
    """
    step = float(positions[-1] - positions[0]) / max(len(positions) - 1, 1)

    def nearest(moment: int | None) -> int | None:
        if moment is None:
            return None
        number = int(np.abs(positions - moment).argmin())
        if clip.onset is not None and moment > clip.onset and number == int(np.abs(positions - clip.onset).argmin()):
            return min(number + 1, len(positions) - 1)
        return number

    return replace(
        clip,
        frames=MixedFrames(frames, mixtures),
        landmarks=None if clip.landmarks is None else MixedLandmarks(clip.landmarks, mixtures),
        fps=clip.fps / step if clip.fps is not None and step else clip.fps,
        onset=nearest(clip.onset),
        apex=nearest(clip.apex),
        offset=nearest(clip.offset),
    )


def onset_to_offset(clip: Clip) -> tuple[int, int]:
    """Return the numbers of the onset and the offset frame.

    Raises:
        DataError: If the clip lacks one of them, or the offset does not come after the onset.
    """
    count, onset, offset = len(frames_of(clip)), clip.onset, clip.offset
    if onset is None or offset is None or not 0 <= onset < offset < count:
        rule = "must have an onset and, after it, an offset among its frames"
        found = f"onset {onset} and offset {offset} of {count} frames"
        raise DataError(Problem(clip.key, rule, found, "leave the clip out or annotate it"))
    return onset, offset
