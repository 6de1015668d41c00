"""Input `onset_apex`: the frame before anything moves and the strongest one, or what changed (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import frame_number
from mernas.components.inputs.grey_frames import grey_maps
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, BRIGHTNESS, CLIP, FRAMES, IMAGE, MIRRORABLE, ONSET, PIXELS, TURNABLE


@register(
    "input",
    "onset_apex",
    section="4.2.2",
    source="Li, Huang, Zhao, MMNet: Muscle motion-guided network for micro-expression recognition, IJCAI 2022",
    needs={FRAMES, ONSET, APEX},
    maps={CLIP: IMAGE},
)
@dataclass(frozen=True, kw_only=True)
class OnsetApex:
    """The onset and the apex frame in grey as two channels, each in [0, 1]; or apex minus onset, in [-1, 1].

    The difference shows no skin and no shape of a face but where brightness changed: motion, and drift of the light.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> frames = np.stack([np.zeros((40, 30), np.uint8), np.full((40, 30), 255, np.uint8)])
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=1, apex=0)
        >>> OnsetApex().prepare(clip).mean(axis=(1, 2)).tolist()
        [1.0, 0.0]
        >>> float(OnsetApex(shows="difference").prepare(clip).max())
        -1.0
    """

    shows: str = choice("frames", "difference", default="frames", doc="both frames, or apex minus onset")
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
        return ("difference",) if self.shows == "difference" else ("gray onset", "gray apex")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, size, size) of every map."""
        return (len(self.channels), self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide: mirrored, turned or brighter frames are frames, whatever the data have."""
        return {PIXELS, MIRRORABLE, TURNABLE, BRIGHTNESS}

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (C, size, size).

        Raises:
            DataError: If the clip lacks one of the frames, or they differ in size.
        """
        onset_and_apex = grey_maps(clip, [frame_number(clip, "onset"), frame_number(clip, "apex")], self.size)
        return onset_and_apex[1:] - onset_and_apex[:1] if self.shows == "difference" else onset_and_apex
