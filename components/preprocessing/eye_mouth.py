"""Pre-processing `eye_mouth`: the strips of the eyes and of the mouth, nothing else (survey section 4.1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import Sampling, mapped, onset_points, places, samples
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, LANDMARKS, ONSET

EYES = (*range(17, 27), *range(36, 48))  # with the brows
MOUTH = tuple(range(48, 68))
BELOW = (*range(4, 13), *MOUTH)
"""Landmarks that go with the strip of the mouth: the mouth, and the jaw at and below its height."""


@register(
    "preprocessing",
    "eye_mouth",
    section="4.1.4",
    source="Liong et al., Hybrid facial regions extraction for micro-expression recognition system, JSPS 2018",
    needs={FRAMES, ONSET, LANDMARKS},
    maps={CLIP: CLIP},
)
@dataclass(frozen=True, kw_only=True)
class EyeMouth:
    """Cuts out the eyes with their brows, and the mouth, and puts the one strip above the other in a square.

    The strips are the boxes around the landmarks of the onset frame, the same for all frames of a clip, brought to one
    width and height each: eyes and brows fill the upper half, the mouth the lower one. Landmarks go with the strip
    that their part of the face belongs to (jaw and mouth below, the rest above); those that lie outside of it come to
    lie on its border. A face that is not upright should be registered before.

    Example:
        >>> points = np.zeros((68, 2), np.float32)
        >>> points[list(EYES)] = np.tile([[20, 30], [80, 50]], (11, 1))
        >>> points[list(MOUTH)] = np.tile([[30, 70], [70, 90]], (10, 1))
        >>> frames, landmarks = np.zeros((1, 100, 100), np.uint8), points[np.newaxis]
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, landmarks=landmarks)
        >>> strips = EyeMouth(margin=0.5, size=60).apply(clip)
        >>> strips.frames[0].shape, strips.landmarks[0][[17, 18, 48, 49]].tolist()
        ((60, 60), [[14.5, 7.0], [44.5, 22.0], [14.5, 37.0], [44.5, 52.0]])
    """

    margin: float = real(0.0, 1.0, default=0.15, doc="added on each side, relative to width and height of the box")
    size: int = integer(14, 512, default=112, log=True, doc="height and width of the frames, in pixels")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its frames cut and stacked, and its landmarks moved alike.

        Raises:
            DataError: If the clip has no frames, no landmarks in its onset frame, or a strip has no area.
        """
        points, half = onset_points(clip), self.size // 2
        strips = (
            _strip(points[list(EYES)], self.margin, (0, half), self.size),
            _strip(points[list(MOUTH)], self.margin, (half, self.size), self.size),
        )
        if min(float(strip.scale.min()) for strip in strips) <= 0:
            rule = "eyes and mouth must have a width and a height in the landmarks of its onset frame"
            raise DataError(Problem(clip.key, rule, "none", "find the landmarks anew, or leave the clip out"))
        times = samples(max(float(strip.scale.max()) for strip in strips))
        x, y = np.meshgrid(places(self.size, times), places(self.size, times))
        new = np.stack([x, y], axis=-1)
        seen = np.concatenate([strips[0].back(new[: half * times]), strips[1].back(new[half * times :])])
        sampling = Sampling(seen[..., 0].astype(np.float32), seen[..., 1].astype(np.float32), times)
        return mapped(clip, sampling, partial(_moved, strips=strips))


@dataclass(frozen=True, eq=False)
class _Strip:
    """A box of the old frame and where it lies in the new one.

    Attributes:
        corner: Top left of the box, in the old frame (2,).
        place: The corner of the top left pixel of the strip, in the new frame (2,).
        scale: Old pixels per new pixel (2,).
        last: The last pixel of the strip, in the new frame (2,).
    """

    corner: NDArray[np.float64]
    place: NDArray[np.float64]
    scale: NDArray[np.float64]
    last: NDArray[np.float64]

    def back(self, new: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.corner + (new - self.place) * self.scale

    def forth(self, old: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip((old - self.corner) / self.scale + self.place, self.place + 0.5, self.last)


def _strip(points: NDArray[np.float64], margin: float, rows: tuple[int, int], width: int) -> _Strip:
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    scale = (high - low) / (width, rows[1] - rows[0])
    return _Strip(low, np.array([0.0, rows[0]]) - 0.5, scale, np.array([width, rows[1]]) - 1.0)


def _moved(points: NDArray[np.float64], strips: tuple[_Strip, _Strip]) -> NDArray[np.float64]:
    moved = strips[0].forth(points)
    moved[list(BELOW)] = strips[1].forth(points[list(BELOW)])
    return moved
