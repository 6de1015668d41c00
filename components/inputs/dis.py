"""Flow estimator `dis`: dense inverse search, the fastest of all (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.grey_frames import frame_pair
from mernas.components.inputs.strain import optical_strain
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, FRAMES, ONSET, TRUE_FLOW

LEAST = 12
"""OpenCV matches no frames whose longer side has fewer pixels."""


@register(
    "flow_estimator",
    "dis",
    source="Kroeger, Timofte, Dai, Van Gool, Fast optical flow using dense inverse search, ECCV 2016",
    needs={FRAMES, ONSET, APEX},
    provides={TRUE_FLOW},
)
@dataclass(frozen=True, kw_only=True)
class DenseInverseSearch:
    """Flow by dense inverse search, from the onset frame to the apex frame.

    Overlapping patches of the onset frame are matched in the apex frame by gradient descent, coarse to fine; their
    displacements are averaged where they overlap, and smoothed by a variational step. The presets are those of OpenCV:
    `medium` goes down to half the resolution with 25 descent steps, `fast` and `ultrafast` to a quarter with 16 and
    12 steps, and `ultrafast` leaves the variational step out. What is finer than that is interpolated.

    Attributes:
        zero_is_known: Its zero means that nothing moved, so that u may be negated when a map is mirrored.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> still = np.zeros((2, 32, 32), np.uint8)
        >>> flow = DenseInverseSearch().flow(Clip("a/b/c", "a", "a/b", "hash", frames=still, onset=0, apex=1))
        >>> flow.shape, float(abs(flow).max())
        ((2, 32, 32), 0.0)
    """

    zero_is_known: ClassVar[bool] = True

    preset: str = choice("ultrafast", "fast", "medium", default="medium", doc="OpenCV's trade of time for precision")

    def flow(self, clip: Clip) -> NDArray[np.float32]:
        """Return (u, v) as (2, H, W): pixels of the clip's frames, to the right and downwards.

        Raises:
            DataError: If the clip lacks its onset or apex frame, the two differ in size, or they are too small.
        """
        onset, apex = frame_pair(clip)
        if max(onset.shape) < LEAST:
            rule = f"frames must have at least {LEAST} pixels along a side"
            raise DataError(Problem(clip.key, rule, str(onset.shape), "use larger frames or another estimator"))
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        search: Any = cv2.DISOpticalFlow.create(presets[self.preset])  # one for each call: it holds buffers
        flow = search.calc(onset, apex, None)
        return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)

    def strain(self, clip: Clip, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the optical strain (H, W), computed from the flow."""
        return optical_strain(flow)
