"""Input `bi_woof`: bi-weighted oriented optical flow (survey sections 4.2.2 and 5.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.contracts import FlowEstimator
from mernas.components.datasets.clip import Clip
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice, integer, one
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, TRUE_FLOW, VECTOR


@register(
    "input",
    "bi_woof",
    section="5.2.2",
    source="Liong, See, Wong, Phan, Less is more: micro-expression recognition from video using apex frame, 2018",
    maps={CLIP: VECTOR},
)
@dataclass(frozen=True, kw_only=True)
class BiWoof:
    """Histograms of where the flow from onset to apex points to, in blocks, weighted by magnitude and by strain.

    The flow field is cut into grid x grid blocks. Every pixel of a block falls into one of `bins` equal sectors from
    -pi to pi by its orientation atan2(v, u), with its magnitude (`local`) or with 1; the sums are divided by the
    number of pixels of the block, and (`global`) multiplied by the mean strain of the block. `both` does both. The
    vector runs through the blocks line by line. A pixel that does not move has no orientation and counts nowhere.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> from mernas.components.inputs.farneback import Farneback
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=np.zeros((2, 64, 48), np.uint8), onset=0, apex=1)
        >>> woof = BiWoof(estimator=Farneback(), grid=5)
        >>> woof.prepare(clip).shape
        (200,)
    """

    estimator: FlowEstimator = one("flow_estimator", default="farneback", doc="where the flow comes from")
    weighting: str = choice(
        "both",
        "local",
        "global",
        default="both",
        doc="of pixels by magnitude (local), of blocks by strain (global)",
        # Orientation and magnitude mean nothing without a known zero; the estimator may be what gives it.
        needs={weighting: {TRUE_FLOW} for weighting in ("both", "local", "global")},
    )
    bins: int = integer(4, 16, default=8, doc="sectors of orientation")
    grid: int = integer(1, 12, default=8, doc="blocks along each side")
    centre: str = choice("none", "median", default="none", doc="what is subtracted from u and v, each by itself")

    @property
    def channels(self) -> tuple[str, ...]:
        """A name for all values of the vector."""
        return ("bi_woof",)

    @property
    def shape(self) -> tuple[int]:
        """Shape (grid * grid * bins,) of every vector."""
        return (self.grid**2 * self.bins,)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the vectors provide: nothing, for they have no height and width."""
        return set()

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the vector of a clip, never negative.

        Raises:
            DataError: If the clip lacks what the estimator needs, or its flow has fewer pixels than the grid blocks.
        """
        flow = self.estimator.flow(clip)
        strain = self.estimator.strain(clip, flow).astype(np.float64)
        height, width = strain.shape
        if min(height, width) < self.grid:
            rule = f"a grid of {self.grid} needs a flow of at least {self.grid}x{self.grid}"
            raise DataError(Problem(clip.key, rule, f"{height}x{width}", "use a smaller grid"))
        u, v = flow.astype(np.float64)
        if self.centre == "median":
            u, v = u - np.median(u), v - np.median(v)
        magnitude = np.hypot(u, v)
        sector = np.floor((np.arctan2(v, u) + np.pi) / (2 * np.pi) * self.bins).astype(np.int64) % self.bins
        row = np.searchsorted(np.arange(1, self.grid + 1) * height // self.grid, np.arange(height), side="right")
        column = np.searchsorted(np.arange(1, self.grid + 1) * width // self.grid, np.arange(width), side="right")
        block = row[:, np.newaxis] * self.grid + column
        blocks = self.grid**2
        pixels = np.bincount(block.ravel(), minlength=blocks)
        weights = (magnitude > 0).astype(np.float64) if self.weighting == "global" else magnitude
        places = (block * self.bins + sector).ravel()
        sums = np.bincount(places, weights.ravel(), blocks * self.bins).reshape(blocks, self.bins)
        histograms = sums / pixels[:, np.newaxis]
        if self.weighting != "local":
            histograms = histograms * (np.bincount(block.ravel(), strain.ravel(), blocks) / pixels)[:, np.newaxis]
        return histograms.ravel().astype(np.float32)
