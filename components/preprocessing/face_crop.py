"""Pre-processing `crop`: the face alone (survey section 4.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import mapped, onset_points
from mernas.space.parameters import choice, real
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, LANDMARKS, ONSET


@register("preprocessing", "crop", section="4.1.1", needs={FRAMES, ONSET, LANDMARKS}, maps={CLIP: CLIP})
@dataclass(frozen=True, kw_only=True)
class FaceCrop:
    """Cuts out the box around the landmarks of the onset frame, the same box from every frame.

    One box for the whole clip, in whole pixels: a box that followed the face would need interpolation and would put
    the errors of the landmarks into the pictures as motion. Where the box reaches beyond the frame, the border repeats.

    Example:
        >>> points = np.tile(np.float32([[10, 20], [30, 50]]), (34, 1))  # a box of 20 x 30 pixels
        >>> frames, landmarks = np.zeros((2, 80, 80), np.uint8), np.stack([points, points])
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, landmarks=landmarks)
        >>> face = FaceCrop(margin=0.1, square=False).apply(clip)
        >>> face.frames[0].shape, face.landmarks[0][0].tolist()
        ((37, 25), [2.0, 3.0])
    """

    margin: float = real(0.0, 1.0, default=0.15, doc="added on each side, relative to width and height of the box")
    square: bool = choice(True, False, default=True, doc="whether the shorter side is widened to the longer one")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its frames cut and its landmarks moved alike.

        Raises:
            DataError: If the clip has no frames, or no landmarks in its onset frame.
        """
        points = onset_points(clip)
        low, high = points.min(axis=0), points.max(axis=0)
        low, high = low - self.margin * (high - low), high + self.margin * (high - low)
        if self.square:
            widened = ((high - low).max() - (high - low)) / 2
            low, high = low - widened, high + widened
        corner = np.rint(low)
        sides = np.rint(high - low) + 1  # both ends are pixels of the box
        columns, rows = (np.arange(int(start), int(start + side)) for start, side in zip(corner, sides, strict=True))
        return mapped(clip, partial(_cut, rows=rows, columns=columns), partial(_moved, corner=corner))


def _cut(frame: NDArray[np.uint8], rows: NDArray[np.int_], columns: NDArray[np.int_]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)])


def _moved(points: NDArray[np.float64], corner: NDArray[np.float64]) -> NDArray[np.float64]:
    return points - corner
