"""Pre-processing `linear_interpolation`: a fixed number of frames from onset to offset (survey section 4.1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import frames_of
from mernas.components.preprocessing.resampled_frames import between_neighbours, onset_to_offset, resampled
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, OFFSET, ONSET


@register("preprocessing", "linear_interpolation", section="4.1.3", needs={FRAMES, ONSET, OFFSET}, maps={CLIP: CLIP})
@dataclass(frozen=True, kw_only=True)
class LinearInterpolation:
    """Brings every clip to the same number of frames, evenly spaced from onset to offset, linear between neighbours.

    Short and long expressions then take the same number of frames, so that their speed is lost; `frame_rate` keeps it.

    Example:
        >>> greys = np.uint8([10, 40, 70])[:, None, None] * np.ones((1, 4, 4), np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=greys, onset=0, apex=1, offset=2)
        >>> longer = LinearInterpolation(frames=5).apply(clip)
        >>> [int(frame[0, 0]) for frame in longer.frames], longer.apex
        ([10, 25, 40, 55, 70], 2)
    """

    frames: int = integer(2, 256, default=16, log=True, doc="how many frames a clip has afterwards")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip from onset to offset in `frames` frames, with its landmarks, moments and rate.

        Raises:
            DataError: If the clip has no frames, or no offset after its onset.
        """
        onset, offset = onset_to_offset(clip)
        positions = np.linspace(onset, offset, self.frames)
        return resampled(clip, frames_of(clip), between_neighbours(positions), positions)
