"""Pre-processing `frame_rate`: clips of different cameras at one frame rate (survey section 4.1.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import frames_of
from mernas.components.preprocessing.resampled_frames import between_neighbours, resampled
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAME_RATE, FRAMES

SLOWEST = 1.0
"""No camera that sees a micro-expression takes fewer frames per second."""


@register("preprocessing", "frame_rate", section="4.1.3", needs={FRAMES, FRAME_RATE}, maps={CLIP: CLIP})
@dataclass(frozen=True, kw_only=True)
class FrameRate:
    """Resamples the whole clip in seconds, linear between neighbours: a step of one frame then takes equally long.

    Datasets were filmed at 25 to 200 frames per second, some at several rates. The onset frame, where there is one,
    stays exactly what it was; apex and offset become the nearest frame, and never fall onto an onset before them. A
    higher rate adds no motion that the camera did not see; a lower one takes frames without averaging over time.

    Example:
        >>> greys = np.uint8([0, 10, 20, 30, 40])[:, None, None] * np.ones((1, 4, 4), np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=greys, fps=100.0, onset=1, apex=3)
        >>> slower = FrameRate(fps=50).apply(clip)
        >>> [int(frame[0, 0]) for frame in slower.frames], slower.onset, slower.apex, slower.fps
        ([10, 30], 0, 1, 50.0)
    """

    fps: int = integer(5, 1000, default=100, log=True, doc="frames per second afterwards")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip at this frame rate, with its landmarks and moments.

        Raises:
            DataError: If the clip has no frames, or its own frame rate is not known or below 1 per second.
        """
        frames = frames_of(clip)
        if clip.fps is None or not np.isfinite(clip.fps) or clip.fps <= 0:
            rule, found = "must say how many frames per second it has, to be resampled in seconds", f"{clip.fps}"
            remedy = "give the frame rate, or bring all clips to one number of frames by linear_interpolation or tim"
            raise DataError(Problem(clip.key, rule, found, remedy))
        if clip.fps < SLOWEST:  # of a rate that is a slip of the pen would come frames without number
            rule, found = (
                f"must have at least {SLOWEST:g} frame per second, to be resampled in seconds",
                f"{clip.fps:g}",
            )
            raise DataError(Problem(clip.key, rule, found, "correct its frame rate"))
        last = len(frames) - 1
        start = min(max(clip.onset or 0, 0), last)
        step = clip.fps / self.fps  # old frames for each new one
        before, after = (int(np.floor(span / step + 1e-6)) for span in (start, last - start))
        positions = np.clip(start + step * np.arange(-before, after + 1), 0, last)
        changed = resampled(clip, frames, between_neighbours(positions), positions)
        return replace(changed, fps=float(self.fps))  # exactly, also where a single frame is left
