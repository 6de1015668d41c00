"""Flow estimator `tvl1`: total variation and an L1 data term, the field's usual choice (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.grey_frames import frame_pair
from mernas.components.inputs.strain import optical_strain
from mernas.space.parameters import integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, FRAMES, ONSET, TRUE_FLOW


@register(
    "flow_estimator",
    "tvl1",
    source="Zach, Pock, Bischof, A duality based approach for realtime TV-L1 optical flow, DAGM 2007",
    needs={FRAMES, ONSET, APEX},
    provides={TRUE_FLOW},
    requires={"skimage": "mernas[tvl1]"},
)
@dataclass(frozen=True, kw_only=True)
class TotalVariation:
    """Flow whose total variation is small while the brightness is kept, from the onset frame to the apex frame.

    scikit-image looks for the flow w that makes `attachment * |apex(x + w) - onset(x)| + |grad w|`, summed over the
    frame, small: the apex frame is warped by the flow so far, coarse to fine, and after each warp the problem, made
    linear, is solved step by step. Brightness counts from 0 to 1, the scale that `attachment` belongs to. It takes
    some fifty to a hundred times as long as `dis`.

    Attributes:
        zero_is_known: Its zero means that nothing moved, so that u may be negated when a map is mirrored.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> still = np.zeros((2, 32, 32), np.uint8)
        >>> flow = TotalVariation().flow(Clip("a/b/c", "a", "a/b", "hash", frames=still, onset=0, apex=1))
        >>> flow.shape, float(abs(flow).max())
        ((2, 32, 32), 0.0)
    """

    zero_is_known: ClassVar[bool] = True

    attachment: float = real(1.0, 100.0, default=15.0, log=True, doc="weight of the brightness; less is smoother")
    warps: int = integer(1, 10, default=5, doc="how often the apex frame is warped, on each level of the pyramid")
    iterations: int = integer(5, 100, default=10, log=True, doc="steps after each warp")

    def flow(self, clip: Clip) -> NDArray[np.float32]:
        """Return (u, v) as (2, H, W): pixels of the clip's frames, to the right and downwards.

        Raises:
            DataError: If the clip lacks its onset or apex frame, or the two differ in size.
        """
        # Only who asks for this estimator needs scikit-image.
        from skimage.registration import optical_flow_tvl1

        solve: Any = optical_flow_tvl1
        # Floats are taken as they are, so they must lie in [0, 1] by themselves.
        onset, apex = (frame / np.float32(255) for frame in frame_pair(clip))
        rows_and_columns = solve(
            onset,
            apex,
            attachment=self.attachment,
            num_warp=self.warps,
            num_iter=self.iterations,
            dtype=np.float32,
        )
        return np.ascontiguousarray(rows_and_columns[::-1], dtype=np.float32)  # it gives (v, u)

    def strain(self, clip: Clip, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the optical strain (H, W), computed from the flow."""
        return optical_strain(flow)
