"""Pre-processing `resize`: all frames to one size (survey section 4.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import resized
from mernas.components.preprocessing.mapped_frames import frames_of, mapped
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES


@register("preprocessing", "resize", section="4.1.1", needs={FRAMES}, maps={CLIP: CLIP})
@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resizes every frame to a square; the aspect ratio is not kept.

    A side that shrinks is averaged over areas, one that grows is interpolated linearly. Flow that is estimated later
    is in pixels of the new size.

    Example:
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=np.zeros((2, 60, 40, 3), np.uint8))
        >>> Resize(size=28).apply(clip).frames[1].shape
        (28, 28, 3)
    """

    size: int = integer(14, 512, default=128, log=True, doc="height and width of the frames, in pixels")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its frames resized and its landmarks scaled alike.

        Raises:
            DataError: If the clip has no frames.
        """
        height, width = np.shape(frames_of(clip)[0])[:2]
        scale = np.array([self.size / width, self.size / height])
        return mapped(clip, partial(_resized_frame, size=self.size), partial(_scaled, scale=scale))


def _resized_frame(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    planes = frame[np.newaxis] if frame.ndim == 2 else frame.transpose(2, 0, 1)
    changed = np.clip(np.rint(resized(planes.astype(np.float32), size)), 0, 255).astype(np.uint8)
    return changed[0] if frame.ndim == 2 else np.ascontiguousarray(changed.transpose(1, 2, 0))


def _scaled(points: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers are the middles of pixels: the corner of the frame, which stays, is at -0.5."""
    return (points + 0.5) * scale - 0.5
