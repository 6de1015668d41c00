"""Input `onset_apex_offset`: first, strongest and last frame of the expression (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import frame_number
from mernas.components.inputs.grey_frames import grey_maps
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, BRIGHTNESS, CLIP, FRAMES, IMAGE, MIRRORABLE, OFFSET, ONSET, PIXELS, TURNABLE


@register(
    "input",
    "onset_apex_offset",
    section="4.2.2",
    needs={FRAMES, ONSET, APEX, OFFSET},
    maps={CLIP: IMAGE},
)
@dataclass(frozen=True, kw_only=True)
class OnsetApexOffset:
    """The onset, apex and offset frame in grey as three channels, each in [0, 1].

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> frames = np.stack([np.full((40, 30), 51 * level, np.uint8) for level in range(6)])
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, apex=5, offset=1)
        >>> OnsetApexOffset().prepare(clip).mean(axis=(1, 2)).round(3).astype(str).tolist()
        ['0.0', '1.0', '0.2']
    """

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
        return ("gray onset", "gray apex", "gray offset")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (3, size, size) of every map."""
        return (3, self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide: mirrored, turned or brighter frames are frames, whatever the data have."""
        return {PIXELS, MIRRORABLE, TURNABLE, BRIGHTNESS}

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (3, size, size) in [0, 1].

        Raises:
            DataError: If the clip lacks one of the frames, or they differ in size.
        """
        numbers = [frame_number(clip, "onset"), frame_number(clip, "apex"), frame_number(clip, "offset")]
        return grey_maps(clip, numbers, self.size)
