"""Frames and landmarks that are changed one by one when they are asked for, and what several such steps share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Frames, Landmarks
from mernas.space.errors import DataError, Problem

MOST_SAMPLES = 8
"""A pixel is averaged over at most so many samples along each side, however much a frame shrinks."""


@dataclass(frozen=True, eq=False)
class MappedFrames:
    """Frames, each changed in the same way when it is asked for.

    Attributes:
        frames: As they were.
        change: From a frame (H, W) or (H, W, 3), uint8, to the changed frame; it leaves the given one as it is.

    Example:
        >>> dark = MappedFrames(np.full((2, 4, 4), 100, np.uint8), lambda frame: frame // 2)
        >>> len(dark), int(dark[1].max())
        (2, 50)
    """

    frames: Frames
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Return a changed frame, uint8."""
        return self.change(np.ascontiguousarray(self.frames[frame]))


@dataclass(frozen=True, eq=False)
class MappedLandmarks:
    """Landmarks, those of each frame changed in the same way when they are asked for.

    Attributes:
        landmarks: As they were.
        change: From the points (68, 2) of a frame to where they are afterwards.
    """

    landmarks: Landmarks
    change: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, frame: int, /) -> NDArray[np.float32]:
        """Return the points of a frame, (68, 2) float32."""
        return self.change(np.asarray(self.landmarks[frame], np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Sampling:
    """Takes a new frame from places of an old one, linearly between pixels; beyond its borders they repeat.

    Attributes:
        columns, rows: Places in the old frame, (times * H, times * W) float32; see `places`.
        times: Samples along each side of a new pixel, which is their mean: where a frame shrinks, nothing aliases.
    """

    columns: NDArray[np.float32]
    rows: NDArray[np.float32]
    times: int = 1

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the new frame, (H, W) or (H, W, 3) uint8."""
        seen = cv2.remap(frame, self.columns, self.rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if self.times > 1:
            height, width = (side // self.times for side in self.columns.shape)
            seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(seen, np.uint8)


def places(size: int, times: int) -> NDArray[np.float64]:
    """Return where the samples of `size` pixels lie, `times` in each, as coordinates of the pixels.

    Example:
        >>> places(2, 2)
        array([-0.25,  0.25,  0.75,  1.25])
    """
    return (np.arange(size * times) + 0.5) / times - 0.5


def samples(shrinkage: float) -> int:
    """Return how many samples a new pixel needs along each side if it covers `shrinkage` old ones.

    Example:
        >>> samples(0.4), samples(2.5)
        (1, 3)
    """
    return int(np.clip(np.ceil(shrinkage - 1e-9), 1, MOST_SAMPLES))


def mapped(
    clip: Clip,
    pixels: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    points: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> Clip:
    """Return a clip whose frames are changed one by one, and whose landmarks go with them.

    Args:
        clip: The clip, left as it is.
        pixels: Changes a frame.
        points: Changes the landmarks (68, 2) of a frame; None where every point stays where it is.

    Raises:
        DataError: If the clip has no frames.
    """
    changes: dict[str, Any] = {"frames": MappedFrames(frames_of(clip), pixels)}
    if clip.landmarks is not None and points is not None:
        changes["landmarks"] = MappedLandmarks(clip.landmarks, points)
    return replace(clip, **changes)


def frames_of(clip: Clip) -> Frames:
    """Return the frames of a clip.

    Raises:
        DataError: If it has none.
    """
    if clip.frames is None or not len(clip.frames):
        raise DataError(Problem(clip.key, "must have frames", "none", "leave the clip out"))
    return clip.frames


def onset_points(clip: Clip) -> NDArray[np.float64]:
    """Return the landmarks of the onset frame, (68, 2).

    Whatever is cut or straightened by landmarks is so by these, for all frames alike: landmarks that are found anew in
    every frame tremble, and a cut that follows them would put their trembling into the pictures as motion.

    Raises:
        DataError: If the clip has no landmarks there, or they are not 68 finite points.
    """
    remedy = "find the landmarks, or leave the clip out"
    if clip.landmarks is None or clip.onset is None or not 0 <= clip.onset < len(clip.landmarks):
        found = "no landmarks" if clip.landmarks is None else f"frame {clip.onset} of {len(clip.landmarks)}"
        raise DataError(Problem(clip.key, "must have the landmarks of its onset frame", found, remedy))
    points = np.asarray(clip.landmarks[clip.onset], np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        found = f"shape {points.shape}" if points.shape != (68, 2) else "some that are not finite"
        raise DataError(Problem(clip.key, "must have 68 finite landmarks in its onset frame", found, remedy))
    return points
