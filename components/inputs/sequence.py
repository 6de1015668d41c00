"""Input `sequence`: the expression as a short video of a fixed number of frames (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.grey_frames import expression_span, grey_maps
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import BRIGHTNESS, CLIP, FRAMES, MIRRORABLE, OFFSET, ONSET, PIXELS, TURNABLE, VIDEO


@register(
    "input",
    "sequence",
    section="4.2.2",
    source="Reddy, Karri, Dubey, Mukherjee, Spontaneous facial micro-expression recognition using 3D spatiotemporal "
    "convolutional neural networks, IJCNN 2019",
    needs={FRAMES, ONSET, OFFSET},
    maps={CLIP: VIDEO},
)
@dataclass(frozen=True, kw_only=True)
class FrameSequence:
    """Grey frames equally spaced in time from onset to offset, both included, in [0, 1].

    A moment between two frames is interpolated linearly. Without the onset, the frames are differences in [-1, 1], of
    which the first is zero.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> frames = np.stack([np.full((40, 30), 51 * level, np.uint8) for level in range(6)])
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=1, offset=4)
        >>> video = FrameSequence(frames=4).prepare(clip)
        >>> video.shape, video.mean(axis=(0, 2, 3)).round(3).astype(str).tolist()
        ((1, 4, 28, 28), ['0.2', '0.4', '0.6', '0.8'])
    """

    frames: int = choice(4, 6, 8, 10, 12, 16, 18, 20, 32, 64, 96, default=8, doc="how many frames")
    minus: str = choice("nothing", "onset", default="nothing", doc="what is subtracted from every frame")
    size: int = choice(
        14,
        28,
        42,
        48,
        56,
        60,
        64,
        84,
        112,
        128,
        160,
        168,
        224,
        default=28,
        doc="height and width of a map, in pixels",
    )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return ("difference",) if self.minus == "onset" else ("gray",)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (1, frames, size, size) of every map."""
        return (1, self.frames, self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide: mirrored, turned or brighter frames are frames, whatever the data have."""
        return {PIXELS, MIRRORABLE, TURNABLE, BRIGHTNESS}

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (1, frames, size, size).

        Raises:
            DataError: If the clip lacks its onset or offset, ends before it begins, or its frames differ in size.
        """
        onset, offset = expression_span(clip)
        times = np.linspace(onset, offset, self.frames)
        before = np.floor(times).astype(int)
        after = np.minimum(before + 1, offset)
        numbers, places = np.unique([before, after], return_inverse=True)  # none is decoded twice
        maps = grey_maps(clip, numbers.tolist(), self.size)
        early, late = maps[places.reshape(2, -1)]
        share = (times - before).astype(np.float32)[:, np.newaxis, np.newaxis]
        video = (1 - share) * early + share * late
        if self.minus == "onset":
            video -= maps[0]  # the onset is the first frame of all
        return np.ascontiguousarray(video[np.newaxis], dtype=np.float32)
