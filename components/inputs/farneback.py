"""Flow estimator `farneback`: dense flow from local polynomials, fast and deterministic (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.grey_frames import frame_pair
from mernas.components.inputs.strain import optical_strain
from mernas.space.parameters import choice, integer
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, FRAMES, ONSET, TRUE_FLOW


@register(
    "flow_estimator",
    "farneback",
    source="Farneback, Two-frame motion estimation based on polynomial expansion, SCIA 2003",
    needs={FRAMES, ONSET, APEX},
    provides={TRUE_FLOW},
)
@dataclass(frozen=True, kw_only=True)
class Farneback:
    """Flow by polynomial expansion, from the onset frame to the apex frame.

    Each neighbourhood is fitted by a quadratic polynomial in both frames; the displacement that turns one into the
    other is averaged over a window and refined three times on each level of a pyramid: the full frames and `levels`
    halvings of them. Halvings below 32 pixels are left out, so that on small frames the larger values mean the same.

    Attributes:
        zero_is_known: Its zero means that nothing moved, so that u may be negated when a map is mirrored.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> still = np.zeros((2, 32, 32), np.uint8)
        >>> flow = Farneback().flow(Clip("a/b/c", "a", "a/b", "hash", frames=still, onset=0, apex=1))
        >>> flow.shape, float(abs(flow).max())
        ((2, 32, 32), 0.0)
    """

    zero_is_known: ClassVar[bool] = True

    window: int = choice(9, 15, 21, default=15, doc="side of the averaging window, in pixels")
    levels: int = integer(1, 4, default=3, doc="halvings of the frames, coarse to fine")

    def flow(self, clip: Clip) -> NDArray[np.float32]:
        """Return (u, v) as (2, H, W): pixels of the clip's frames, to the right and downwards.

        Raises:
            DataError: If the clip lacks its onset or apex frame, or the two differ in size.
        """
        onset, apex = frame_pair(clip)
        flow = cv2.calcOpticalFlowFarneback(
            onset,
            apex,
            np.zeros((*onset.shape, 2), np.float32),
            pyr_scale=0.5,
            levels=self.levels,
            winsize=self.window,
            iterations=3,
            poly_n=5,
            poly_sigma=1.1,  # the value that goes with neighbourhoods of 5 pixels
            flags=0,
        )
        return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)

    def strain(self, clip: Clip, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the optical strain (H, W), computed from the flow."""
        return optical_strain(flow)
