"""Pre-processing `register`: the eyes of every face at the same places (survey section 4.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import Sampling, mapped, onset_points, places, samples
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice, integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, LANDMARKS, ONSET

ANCHORS = (36, 39, 42, 45, 33)
"""The corners of the eyes from left to right, and the base of the nose: they hardly move when a face does."""

MODEL = np.array([[0.25, 0.35], [0.405, 0.35], [0.595, 0.35], [0.75, 0.35], [0.5, 0.58]])
"""Where the anchors go, relative to the side of the frame: brows and chin of most faces then lie inside."""


@register("preprocessing", "register", section="4.1.1", needs={FRAMES, ONSET, LANDMARKS}, maps={CLIP: CLIP})
@dataclass(frozen=True, kw_only=True)
class Register:
    """Turns, scales and moves the face so that the corners of its eyes come as near as can be to fixed places.

    The transform is found in the onset frame, by least squares, and is the same for all frames of the clip: one that
    is found anew in every frame puts the errors of the landmarks into the pictures as motion. `similarity` goes by the
    four corners of the eyes and keeps the proportions of the face; `affine` goes by these and the base of the nose,
    and gives every face the same width and height between them.

    Example:
        >>> points = np.zeros((68, 2), np.float32)
        >>> points[[36, 39, 42, 45]] = [[25, 40], [40, 40], [60, 40], [75, 40]]
        >>> frames, landmarks = np.zeros((1, 100, 100), np.uint8), points[np.newaxis]
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, landmarks=landmarks)
        >>> face = Register(size=50).apply(clip)
        >>> face.frames[0].shape, face.landmarks[0][[36, 45]].round().tolist()
        ((50, 50), [[12.0, 17.0], [37.0, 17.0]])
    """

    model: str = choice("similarity", "affine", default="similarity", doc="what the transform may do")
    size: int = integer(14, 512, default=128, log=True, doc="height and width of the frames, in pixels")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its frames and landmarks transformed.

        Raises:
            DataError: If the clip has no frames, no landmarks in its onset frame, or the anchors fall together.
        """
        points, targets = onset_points(clip)[list(ANCHORS)], MODEL * self.size - 0.5
        if self.model == "similarity":
            points, targets = points[:4], targets[:4]
        linear, shift = _fitted(points, targets, self.model)
        if not np.linalg.det(linear) > 0.1 * np.linalg.norm(linear) ** 2 / 2:  # mirrored, or flattened tenfold
            rule = "the corners of its eyes and its nose must form a face in the onset frame"
            raise DataError(Problem(clip.key, rule, "points in a line or mirrored", "find the landmarks anew"))
        back = np.linalg.inv(linear)
        times = samples(float(np.linalg.norm(back, 2)))
        x, y = np.meshgrid(places(self.size, times), places(self.size, times))
        seen = (np.stack([x, y], axis=-1) - shift) @ back.T
        sampling = Sampling(seen[..., 0].astype(np.float32), seen[..., 1].astype(np.float32), times)
        return mapped(clip, sampling, partial(_transformed, linear=linear, shift=shift))


def _fitted(
    points: NDArray[np.float64], targets: NDArray[np.float64], model: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix (2, 2) and the shift (2,) that bring the points nearest to the targets, by least squares."""
    centre, goal = points.mean(axis=0), targets.mean(axis=0)
    x, y = (points - centre).T
    if model == "affine":
        unknown = np.linalg.lstsq(np.stack([x, y], axis=1), targets - goal, rcond=None)[0].T
    else:  # u = a x - b y, v = b x + a y
        u, v = (targets - goal).T
        spread = max(float(np.sum(x * x + y * y)), np.finfo(np.float64).tiny)
        a, b = np.sum(x * u + y * v) / spread, np.sum(x * v - y * u) / spread
        unknown = np.array([[a, -b], [b, a]])
    return unknown, goal - unknown @ centre


def _transformed(
    points: NDArray[np.float64], linear: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float64]:
    return points @ linear.T + shift
