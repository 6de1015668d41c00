"""Input `lbp_top`: local binary patterns on three orthogonal planes (survey sections 4.2.3 and 5.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import resized
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice, integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, OFFSET, ONSET, VECTOR

_TIME, _ROW, _COLUMN = 0, 1, 2
_PLANES = ((_ROW, _COLUMN), (_TIME, _COLUMN), (_TIME, _ROW))  # XY, XT, YT: the vertical axis of a plane first


@register(
    "input",
    "lbp_top",
    section="5.2.2",
    source="Zhao, Pietikainen, Dynamic texture recognition using local binary patterns, TPAMI 29(6), 2007",
    needs={FRAMES, ONSET, OFFSET},
    maps={CLIP: VECTOR},
)
@dataclass(frozen=True, kw_only=True)
class LbpTop:
    """Histograms of local binary patterns in the planes XY, XT and YT of the grey frames from onset to offset.

    A pixel's pattern has a bit for each of its neighbours on an ellipse in the plane, counter-clockwise from the
    right: 1 where the grey value, interpolated between pixels, is not below that of the pixel. The pixels whose
    ellipses lie within the clip are cut into grid x grid blocks; each block gives one histogram per plane, which sums
    to 1. The vector runs through the blocks line by line, within a block through the planes, within a plane through
    the bins. With `uniform`, every pattern with at most two changes around the circle has its own bin, in the order of
    their numbers, and all others share the last.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> frames = np.random.default_rng(0).integers(0, 256, (10, 40, 40), np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, offset=9)
        >>> vector = LbpTop(size=28, grid=2).prepare(clip)
        >>> vector.shape, round(float(vector.sum()))
        ((708,), 12)
    """

    size: int = choice(28, 56, 84, 112, 128, default=112, doc="height and width of the frames, in pixels")
    neighbours: int = choice(4, 8, default=8, doc="bits of a pattern")
    radius: int = integer(1, 4, default=1, doc="distance of the neighbours along x and y, in pixels")
    frame_radius: int = integer(1, 4, default=2, doc="distance of the neighbours along time, in frames")
    uniform: bool = choice(True, False, default=True, doc="whether patterns with many changes share a bin")
    grid: int = choice(1, 2, 4, 5, 8, default=5, doc="blocks along each side")

    @property
    def channels(self) -> tuple[str, ...]:
        """A name for all values of the vector."""
        return ("lbp_top",)

    @property
    def shape(self) -> tuple[int]:
        """Shape (grid * grid * 3 * bins,) of every vector."""
        return (self.grid**2 * 3 * (int(self._bins.max()) + 1),)

    @property
    def _bins(self) -> NDArray[np.int64]:
        """The bin of every pattern, (2 ** neighbours,)."""
        patterns = np.arange(2**self.neighbours)
        if not self.uniform:
            return patterns
        turned = (patterns >> 1) | ((patterns & 1) << (self.neighbours - 1))
        few = np.array([int(changed).bit_count() <= 2 for changed in patterns ^ turned])
        return np.where(few, few.cumsum() - 1, few.sum())

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the vectors provide: nothing, for they have no height and width."""
        return set()

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the vector of a clip.

        Raises:
            DataError: If the clip lacks its frames from onset to offset, or these are too few for the frame radius.
        """
        volume = _grey_volume(clip, self.size)
        if len(volume) < 2 * self.frame_radius + 1:
            rule = f"a frame radius of {self.frame_radius} needs {2 * self.frame_radius + 1} frames, onset to offset"
            remedy = "interpolate the clip to more frames, or use a smaller frame_radius"
            raise DataError(Problem(clip.key, rule, str(len(volume)), remedy))
        count = int(self._bins.max()) + 1
        planes = [self._bins[codes] for codes in self._patterns(volume)]
        edges = np.arange(self.grid + 1) * planes[0].shape[1] // self.grid
        blocks = [slice(start, stop) for start, stop in pairwise(edges)]
        histograms = [
            np.bincount(plane[:, rows, columns].ravel(), minlength=count) / plane[:, rows, columns].size
            for rows in blocks
            for columns in blocks
            for plane in planes
        ]
        return np.concatenate(histograms).astype(np.float32)

    def _patterns(self, volume: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
        """Yield the patterns of all pixels with whole ellipses, in the planes XY, XT and YT."""
        radii = (self.frame_radius, self.radius, self.radius)
        inner = tuple(slice(radius, length - radius) for radius, length in zip(radii, volume.shape, strict=True))
        for vertical, horizontal in _PLANES:
            codes = np.zeros(volume[inner].shape, np.int64)
            for bit in range(self.neighbours):
                angle = 2 * np.pi * bit / self.neighbours
                offset = np.zeros(3)
                # Rounded, so that a neighbour on a pixel is that pixel and not a mixture of it with its neighbours.
                offset[vertical] = -round(radii[vertical] * float(np.sin(angle)), 5)
                offset[horizontal] = round(radii[horizontal] * float(np.cos(angle)), 5)
                # The tolerance makes what interpolation leaves of equal grey values equal again.
                codes |= (_shifted(volume, offset, radii) >= volume[inner] - 1e-6).astype(np.int64) << bit
            yield codes


def _shifted(volume: NDArray[np.float64], offset: NDArray[np.float64], radii: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the volume at `offset` from each of its inner pixels, interpolated linearly along each axis."""
    for axis, (radius, length) in enumerate(zip(radii, volume.shape, strict=True)):
        start = int(np.floor(offset[axis]))
        share = offset[axis] - start
        window = range(radius + start, length - radius + start)
        below = np.take(volume, window, axis)
        # Without a share the pixel above is not needed, and may lie outside.
        volume = below if share == 0 else (1 - share) * below + share * np.take(volume, [k + 1 for k in window], axis)
    return volume


def _grey_volume(clip: Clip, size: int) -> NDArray[np.float64]:
    """Return the frames from onset to offset in whole grey values, (T, size, size).

    Raises:
        DataError: If the clip has no such frames.
    """
    first, last = clip.onset, clip.offset
    if clip.frames is None or first is None or last is None or not 0 <= first <= last < len(clip.frames):
        found = "no frames" if clip.frames is None else f"{first} to {last} of {len(clip.frames)}"
        remedy = "leave the clip out or annotate it"
        raise DataError(Problem(clip.key, "must have its frames from onset to offset", found, remedy))
    volume = np.empty((last + 1 - first, size, size))
    for place in range(len(volume)):
        frame = np.ascontiguousarray(clip.frames[first + place])
        grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        volume[place] = np.rint(resized(np.asarray(grey, np.float32)[np.newaxis], size)[0])
    return volume
