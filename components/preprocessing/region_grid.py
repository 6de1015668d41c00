"""Pre-processing `region_grid`: the same part of every face in the same cell of a grid (survey section 4.1.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import Sampling, mapped, onset_points, places, samples
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, LANDMARKS, ONSET

ROWS = ("brows", "eyes", "base of the nose", "mouth", "chin")
"""What lies in the middle of the rows of cells, from top to bottom."""

COLUMNS = 4
"""Columns of cells: the right side of the face to the eye's outer corner, to the midline, and so on mirrored."""

MIDLINE = (27, 28, 29, 30, 33, 51, 57, 8)


@register("preprocessing", "region_grid", section="4.1.4", needs={FRAMES, ONSET, LANDMARKS}, maps={CLIP: CLIP})
@dataclass(frozen=True, kw_only=True)
class RegionGrid:
    """Stretches the parts of the face so that each fills the same cell of a grid of 5 rows and 4 columns in everybody.

    The face is turned upright by the outer corners of its eyes. Then its height is stretched piece by piece, linearly
    between the lines of brows, eyes, base of the nose, mouth and chin, which come to lie in the middle of a row each;
    and its width, linearly between the outer corners of the eyes and the midline, which come to lie on the borders
    between columns. Beyond the outermost lines the stretch goes on as inside. A place of a map is thus the same part
    of the face in everybody, and a readout that averages over a grid averages over parts of the face.

    The warp is found in the onset frame and is the same for all frames of a clip. It stretches flow with the pixels.

    Example:
        >>> points = np.float32([[50, 50]] * 68)
        >>> points[[36, 45]] = [[30, 40], [70, 40]]  # outer corners of the eyes
        >>> points[17:27, 1], points[36:48, 1], points[31:36, 1], points[48:, 1], points[8, 1] = 30, 40, 60, 70, 85
        >>> frames, landmarks = np.zeros((1, 100, 100), np.uint8), points[np.newaxis]
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, landmarks=landmarks)
        >>> face = RegionGrid(size=100).apply(clip)
        >>> face.frames[0].shape, face.landmarks[0][[36, 45, 8]].tolist()
        ((100, 100), [[24.5, 29.5], [74.5, 29.5], [49.5, 89.5]])
    """

    size: int = integer(20, 512, default=140, log=True, doc="height and width of the frames, in pixels")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its frames and landmarks warped.

        Raises:
            DataError: If the clip has no frames, no landmarks in its onset frame, or they are in another order than
                that of a face.
        """
        warp = _warp(onset_points(clip), self.size, clip.key)
        times = samples(max(float(np.max(np.diff(old) / np.diff(new))) for old, new in (warp.across, warp.down)))
        middles = places(self.size, times)
        right, under = np.meshgrid(_stretched(middles, *warp.across[::-1]), _stretched(middles, *warp.down[::-1]))
        seen = warp.origin + right[..., None] * warp.axes[0] + under[..., None] * warp.axes[1]
        sampling = Sampling(seen[..., 0].astype(np.float32), seen[..., 1].astype(np.float32), times)
        return mapped(clip, sampling, warp)


Knots = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class _Warp:
    """Brings points to the grid.

    Attributes:
        origin: Of the coordinates of the face, in the frame.
        axes: Their unit vectors, to the right and down the face.
        across, down: Where lines of the face are, along these axes, and where they come to lie in the new frame.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    across: Knots
    down: Knots

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        right, under = ((points - self.origin) @ self.axes.T).T
        return np.stack([_stretched(right, *self.across), _stretched(under, *self.down)], axis=-1)


def _warp(points: NDArray[np.float64], size: int, key: str) -> _Warp:
    origin, side = (points[36] + points[45]) / 2, points[45] - points[36]
    distance = float(np.hypot(*side))
    x, y = side / max(distance, np.finfo(np.float64).tiny)
    axes = np.array([[x, y], [-y, x]])
    right, under = ((points - origin) @ axes.T).T
    lines = [under[17:27], under[36:48], under[31:36], under[48:68], under[8:9]]
    down = np.array([line.mean() for line in lines])
    across = np.array([right[36], right[list(MIDLINE)].mean(), right[45]])
    if not (distance > 1 and np.diff(down).min() > 0.02 * distance and np.diff(across).min() > 0.02 * distance):
        rule = f"must show {', '.join(ROWS)} one below the other in the landmarks of its onset frame"
        raise DataError(Problem(key, rule, "another order", "find the landmarks anew, or leave the clip out"))
    middles = (np.arange(len(ROWS)) + 0.5) * size / len(ROWS) - 0.5
    borders = np.arange(1, COLUMNS) * size / COLUMNS - 0.5
    return _Warp(origin, axes, (across, borders), (down, middles))


def _stretched(values: NDArray[np.float64], old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """The piecewise linear map that brings `old` to `new`, both rising; the first and last piece go on for ever."""
    piece = np.clip(np.searchsorted(old, values) - 1, 0, len(old) - 2)
    slope = np.diff(new) / np.diff(old)
    return np.asarray(new[piece] + (values - old[piece]) * slope[piece])
